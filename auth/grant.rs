//! The proof that a user may use a connection as an account, now.

use std::fmt;
use std::sync::Arc;

use keyward_config::Name;

use crate::identity::{Identity, Proof, Source};
use crate::policy::{Account, Connection};

/// The id of a link and of its session: 80 random bits as 16 letters and digits. Shown to users, so that an operator can find the
/// log lines and the audit record of what they saw.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// A new one, from the CSPRNG.
    #[must_use]
    pub fn random() -> Self {
        const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        let mut bytes = [0_u8; 16];
        // aws-lc's generator fails only where the kernel has no entropy source at all; the id is no secret, so zeros are safe.
        let _ = aws_lc_rs::rand::fill(&mut bytes);
        Self(bytes.map(|byte| ALPHABET.get(usize::from(byte & 31)).copied().unwrap_or(b'0')))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("")
    }
}

impl std::str::FromStr for SessionId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes: [u8; 16] = text.as_bytes().try_into().map_err(|_| "a session id has 16 characters")?;
        if bytes.iter().all(u8::is_ascii_alphanumeric) { Ok(Self(bytes)) } else { Err("a session id has letters and digits only") }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// This user may use this connection as this account, now. Only `auth::policy` makes one; it carries what it resolved, so that
/// nothing later looks a name up again.
#[derive(Clone)]
pub struct Grant {
    pub(crate) session: SessionId,
    pub(crate) user: Name,
    pub(crate) proof: Proof,
    pub(crate) source: Source,
    pub(crate) connection: Arc<Connection>,
    pub(crate) account: Arc<Account>,
}

impl Grant {
    pub(crate) fn new(session: SessionId, identity: &Identity, connection: Arc<Connection>, account: Arc<Account>) -> Self {
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
