//! What went wrong with a store: a closed kind for deciding, a text for the operator's log. Never for the client.

use std::fmt;

/// A store did not give what was asked.
#[derive(Debug, Clone)]
pub struct StoreError {
    /// What to decide by.
    pub kind: StoreErrorKind,
    /// For the operator: what was asked and what the store said, with control characters escaped, at most 500 characters, no secret.
    pub detail: String,
    /// Whether the store may have done what it was asked although no clear answer came: an account may exist without a lease.
    pub(crate) ambiguous: bool,
}

/// The closed list of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// Not reached, sealed, overloaded, 5xx, too slow.
    Unavailable,
    /// It asked us to come back later (429).
    Throttled,
    /// The policy does not let us.
    Denied,
    /// Our own login to the store was refused.
    LoginFailed,
    /// No such secret, version, role or mount; or it was deleted.
    NotFound,
    /// There is a secret, but not with the key, the type or the form that was asked for.
    Malformed,
    /// The lease is unknown to the store or past its end.
    LeaseLost,
    /// Too many leases wait to be given back already.
    Backlog,
    /// This user has as many leases of this connection as he may.
    Quota,
    /// The store is switched off in the file (`enabled: false`), or is not this process's to ask.
    Disabled,
}

impl StoreErrorKind {
    /// A fixed word, for metric labels and audit records.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Throttled => "throttled",
            Self::Denied => "denied",
            Self::LoginFailed => "login_failed",
            Self::NotFound => "not_found",
            Self::Malformed => "malformed",
            Self::LeaseLost => "lease_lost",
            Self::Backlog => "backlog",
            Self::Quota => "quota",
            Self::Disabled => "disabled",
        }
    }
}

impl StoreError {
    pub(crate) fn new(kind: StoreErrorKind, detail: impl AsRef<str>) -> Self {
        let escaped = |c: char| if matches!(c, '\'' | '"') { c.to_string() } else { c.escape_debug().to_string() };
        let mut detail: String = detail.as_ref().chars().take(500).map(escaped).collect();
        detail.shrink_to_fit();
        Self { kind, detail, ambiguous: false }
    }

    /// The same, of a request that may have run.
    pub(crate) fn ambiguous(self) -> Self {
        Self { ambiguous: true, ..self }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.word(), self.detail)
    }
}

impl std::error::Error for StoreError {}
