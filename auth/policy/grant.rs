//! The proof that a user may use a connection as an account, now.

use std::sync::Arc;

use keyward_config::Name;

use super::{Account, Connection};
use crate::SessionId;
use crate::identity::{Identity, Proof, Source};

/// This user may use this connection as this account, now. Only `auth::policy` makes one; it carries what it resolved, so that
/// nothing later looks a name up again.
#[derive(Clone)]
pub struct Grant {
    session: SessionId,
    user: Name,
    proof: Proof,
    source: Source,
    connection: Arc<Connection>,
    account: Arc<Account>,
}

impl Grant {
    pub(super) fn new(session: SessionId, identity: &Identity, connection: Arc<Connection>, account: Arc<Account>) -> Self {
        Self { session, user: identity.user().clone(), proof: identity.proof(), source: identity.source(), connection, account }
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

    /// Which asset.
    #[must_use]
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// As which of its accounts.
    #[must_use]
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }
}
