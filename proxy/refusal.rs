//! The closed list of reasons that a client may be told. No text here: each protocol's `refuse.rs` has its own fixed words.

/// Why a client is turned away, or its session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Unknown user, wrong password, wrong proof: the same.
    NotAuthenticated,
    /// Unknown connection or forbidden connection: the same.
    NotPermitted,
    /// The listener takes this login inside TLS only.
    TlsRequired,
    /// The client broke the protocol.
    Malformed,
    /// A protocol version or feature that is not served.
    Unsupported,
    /// The handshake took too long.
    TooSlow,
    /// A limit on handshakes or sessions is reached.
    Busy,
    /// Too many failed logins of this user from this address.
    Locked,
    /// The audit record cannot be written.
    AuditUnavailable,
    /// The store did not give the credential.
    CredentialsUnavailable,
    /// The upstream was not reached.
    UpstreamUnreachable,
    /// The upstream did not prove who it is.
    UpstreamUnverified,
    /// The upstream was reached and said no.
    UpstreamRefused(UpstreamRefusal),
    /// The session was ended by Keyward.
    SessionEnded(Reason),
    /// Keyward is shutting down.
    ShuttingDown,
    /// A fault of Keyward's own.
    Internal,
}

/// What an upstream said no to, as far as a client may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamRefusal {
    /// It does not accept the credential, or offers no login that we accept.
    LoginRejected,
    /// It has no such database.
    NoSuchDatabase,
    /// It has no place left.
    TooManyConnections,
    /// It is starting up or shutting down.
    StartingUp,
}

/// Why a live session was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No byte moved for the idle limit.
    Idle,
    /// It reached the lifetime limit.
    Lifetime,
    /// Its lease is about to end.
    LeaseEnd,
    /// The store lost its lease, or the token that issued it died.
    LeaseLost,
    /// A reload took the permission away.
    Withdrawn,
    /// An operator ended it.
    Killed,
    /// Its own user ended it from another link (MySQL's KILL).
    KilledByUser,
    /// What it is used for cannot be recorded.
    AuditUnavailable,
    /// Keyward is shutting down.
    Drain,
}

impl Refusal {
    /// A fixed word, for metric labels, the log and audit records.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NotAuthenticated => "not_authenticated",
            Self::NotPermitted => "not_permitted",
            Self::TlsRequired => "tls_required",
            Self::Malformed => "malformed",
            Self::Unsupported => "unsupported",
            Self::TooSlow => "too_slow",
            Self::Busy => "busy",
            Self::Locked => "locked",
            Self::AuditUnavailable => "audit_unavailable",
            Self::CredentialsUnavailable => "credentials_unavailable",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamUnverified => "upstream_unverified",
            Self::UpstreamRefused(UpstreamRefusal::LoginRejected) => "upstream_login_rejected",
            Self::UpstreamRefused(UpstreamRefusal::NoSuchDatabase) => "upstream_no_such_database",
            Self::UpstreamRefused(UpstreamRefusal::TooManyConnections) => "upstream_too_many_connections",
            Self::UpstreamRefused(UpstreamRefusal::StartingUp) => "upstream_starting_up",
            Self::SessionEnded(reason) => reason.word(),
            Self::ShuttingDown => "shutting_down",
            Self::Internal => "internal",
        }
    }
}

impl Reason {
    /// A fixed word, for metric labels, the log and audit records.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Lifetime => "lifetime",
            Self::LeaseEnd => "lease_end",
            Self::LeaseLost => "lease_lost",
            Self::Withdrawn => "withdrawn",
            Self::Killed => "killed",
            Self::KilledByUser => "killed_by_user",
            Self::AuditUnavailable => "audit_unavailable",
            Self::Drain => "drain",
        }
    }
}
