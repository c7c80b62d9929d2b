//! The inner face of an error: whose fault, at which stage, and what really happened. For the log, never for the client.

use std::borrow::Cow;
use std::fmt;

use keyward_auth::AuthFailure;

use crate::refusal::Refusal;

/// Why a link or a session did not go on.
#[derive(Debug)]
pub struct SessionError {
    /// What the client may be told.
    pub refusal: Refusal,
    /// Whose fault it is: decides the log level and the metric label.
    pub party: Party,
    /// How far it had come.
    pub stage: Stage,
    /// What happened, for the operator. Text from peers is escaped and bounded.
    pub source: Cow<'static, str>,
    /// Names that an authenticated user may be told, where he has to choose one.
    pub choices: Vec<String>,
    /// The client left by itself before anything was decided (psql does, to ask for the password): nobody to tell, nothing to record.
    pub left: bool,
}

/// Whose fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// The client's.
    Client,
    /// The upstream's.
    Upstream,
    /// The store's.
    Store,
    /// Our own.
    Proxy,
}

/// How far a session had come, and what a time was spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// From the accepted socket to the client's startup message, TLS included.
    Open,
    /// The user's proof.
    Login,
    /// The rules.
    Authorise,
    /// The store.
    Lease,
    /// TCP, preface and TLS to the upstream.
    Connect,
    /// The login upstream.
    Inject,
    /// The audit record.
    Audit,
}

impl SessionError {
    /// An error with a text for the operator.
    pub fn new(refusal: Refusal, party: Party, stage: Stage, source: impl Into<Cow<'static, str>>) -> Self {
        Self { refusal, party, stage, source: source.into(), choices: Vec::new(), left: false }
    }

    /// The client broke the protocol.
    pub fn malformed(stage: Stage, source: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Refusal::Malformed, Party::Client, stage, source)
    }

    /// The client's transport failed or ended, or what came on it is no message (`InvalidData`).
    pub fn client_io(stage: Stage, error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::InvalidData {
            return Self::malformed(stage, error.to_string());
        }
        let left = matches!(
            error.kind(),
            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe
        );
        Self { left, ..Self::new(Refusal::Malformed, Party::Client, stage, format!("client: {error}")) }
    }

    /// The system has no random numbers.
    #[must_use]
    pub fn no_random(stage: Stage) -> Self {
        Self::new(Refusal::Internal, Party::Proxy, stage, "no random numbers")
    }

    /// Names that the user may be told.
    #[must_use]
    pub fn with_choices(mut self, choices: Vec<String>) -> Self {
        self.choices = choices;
        self
    }
}

impl From<AuthFailure> for SessionError {
    fn from(failure: AuthFailure) -> Self {
        let (refusal, text) = match failure {
            AuthFailure::NotAuthenticated => (Refusal::NotAuthenticated, "the proof does not hold"),
            AuthFailure::Malformed => (Refusal::Malformed, "no SCRAM exchange that we speak"),
            AuthFailure::Locked => (Refusal::Locked, "too many failures of this user from this address"),
            AuthFailure::Busy => (Refusal::Busy, "too many passwords wait to be checked"),
        };
        Self::new(refusal, Party::Client, Stage::Login, text)
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} ({}): {}", self.refusal.word(), self.stage.word(), self.party.word(), self.source)
    }
}

impl std::error::Error for SessionError {}

impl Party {
    /// A fixed word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Store => "store",
            Self::Proxy => "proxy",
        }
    }
}

impl Stage {
    /// All of them, in the order of a session.
    pub const ALL: [Self; 7] = [Self::Open, Self::Login, Self::Authorise, Self::Lease, Self::Connect, Self::Inject, Self::Audit];

    /// A fixed word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Login => "login",
            Self::Authorise => "authorise",
            Self::Lease => "lease",
            Self::Connect => "connect",
            Self::Inject => "inject",
            Self::Audit => "audit",
        }
    }
}

/// Text from a peer, fit for a log line: control characters escaped, at most 200 characters.
#[must_use]
pub fn escaped(bytes: &[u8]) -> String {
    const MAX: usize = 200;
    let text = String::from_utf8_lossy(bytes.get(..bytes.len().min(4 * MAX)).unwrap_or_default());
    text.chars().take(MAX).flat_map(char::escape_debug).collect()
}
