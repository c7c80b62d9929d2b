//! The proof that a user may use a connection as an account, now.

use std::sync::Arc;

use keyward_config::{Name, UpstreamAddress};

use super::target::Target;
use super::{Account, Connection};
use crate::SessionId;
use crate::identity::{Identity, Proof, Source, UserKey};

/// This user may use this connection as this account, now. Only `auth::policy` makes one; it carries what it resolved, so that
/// nothing later looks a name up again.
#[derive(Clone)]
pub struct Grant {
    session: SessionId,
    user: Name,
    proof: Proof,
    source: Source,
    key: Option<Arc<UserKey>>,
    target: Target,
    account: Arc<Account>,
}

impl Grant {
    pub(super) fn new(session: SessionId, identity: &Identity, target: Target, account: Arc<Account>) -> Self {
        let (user, key) = (identity.user().clone(), identity.shared_key().cloned());
        // What the operator tries is what the file says: he has no secret of his own.
        let account = if identity.proof() == Proof::Operator { account } else { account.for_user(&user) };
        Self { session, user, proof: identity.proof(), source: identity.source(), key, target, account }
    }

    /// The same with the address and the other fields of its connection as a store has them.
    pub(crate) fn with(mut self, connection: Arc<Connection>) -> Self {
        if let Some(address) = connection.shared_address() {
            self.target.address = Arc::clone(address);
        }
        self.target.connection = connection;
        self
    }

    /// The session that this grant is for.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Who.
    #[must_use]
    pub fn user(&self) -> &Name {
        &self.user
    }

    /// How he proved it.
    #[must_use]
    pub fn proof(&self) -> Proof {
        self.proof
    }

    /// From where.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }

    /// The key or certificate that proved it, where one did.
    #[must_use]
    pub fn key(&self) -> Option<&UserKey> {
        self.key.as_deref()
    }

    /// Which asset.
    #[must_use]
    pub fn connection(&self) -> &Arc<Connection> {
        &self.target.connection
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &UpstreamAddress {
        &self.target.address
    }

    /// Which server of a group, in lower case. `None`: the connection is one server.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.target.host.as_deref()
    }

    /// As which of its accounts.
    #[must_use]
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }
}
