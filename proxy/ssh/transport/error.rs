//! What ends a connection: a short text for the peer, the detail for the log.

use std::fmt;

use crate::shown::Shown;
use crate::wire::Malformed;

/// Reasons of SSH_MSG_DISCONNECT that we give (RFC 4253 section 11.1).
pub mod reason {
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: u32 = 2;
    /// Nothing in common, or the exchange failed.
    pub const KEY_EXCHANGE_FAILED: u32 = 3;
    /// The service that was asked for is not to be had.
    pub const SERVICE_NOT_AVAILABLE: u32 = 7;
    /// The server is not who it should be.
    pub const HOST_KEY_NOT_VERIFIABLE: u32 = 9;
    /// The connection beyond us was lost.
    pub const CONNECTION_LOST: u32 = 10;
    /// Somebody decided it.
    pub const BY_APPLICATION: u32 = 11;
    /// Nobody here has time.
    pub const TOO_MANY_CONNECTIONS: u32 = 12;
    /// No way left to prove who it is.
    pub const NO_MORE_AUTH_METHODS_AVAILABLE: u32 = 14;
}

/// What two sides have to agree on (RFC 4253 section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// How keys are exchanged.
    KeyExchange,
    /// How the server proves itself.
    HostKey,
    /// How packets are protected, in either direction.
    Cipher,
    /// Whether packets are compressed; we never do.
    Compression,
}

impl Choice {
    fn name(self) -> &'static str {
        match self {
            Self::KeyExchange => "key exchange method",
            Self::HostKey => "host key algorithm",
            Self::Cipher => "cipher",
            Self::Compression => "compression",
        }
    }
}

/// What two sides could not agree on, and what each of them has: without it nobody knows which of them to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoCommon {
    choice: Choice,
    ours: String,
    /// Escaped.
    theirs: String,
    for_peer: String,
}

/// Names of the peer's that are shown.
const NAMES_SHOWN: usize = 24;

impl NoCommon {
    pub(crate) fn new(choice: Choice, ours: &[&'static str], theirs: &[&str]) -> Self {
        let ours = ours.join(", ");
        let mut shown: Vec<String> = theirs.iter().take(NAMES_SHOWN).map(|name| Shown::new(name.as_bytes()).to_string()).collect();
        if let Some(more) = theirs.len().checked_sub(NAMES_SHOWN).filter(|more| *more > 0) {
            shown.push(format!("and {more} more"));
        }
        let for_peer = match choice {
            Choice::Compression => "compression is not supported".to_owned(),
            _ => format!("no common {}; we have {ours}", choice.name()),
        };
        Self { choice, ours, theirs: shown.join(", "), for_peer }
    }

    /// What it was about.
    #[must_use]
    pub fn choice(&self) -> Choice {
        self.choice
    }
}

impl fmt::Display for NoCommon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let theirs = if self.theirs.is_empty() { "none" } else { &self.theirs };
        write!(f, "the peer has no {} in common with us: it has {theirs}; we have {}", self.choice.name(), self.ours)
    }
}

/// The connection must end. The texts say what was wrong, for the log; they hold nothing secret, and of what the peer chose nothing but the
/// names of [`NoCommon`], escaped and bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fatal {
    /// The peer broke the protocol.
    Protocol(&'static str),
    /// A packet was not what the peer sealed, or somebody changed it on its way.
    Integrity,
    /// Nothing in common.
    NoCommon(Box<NoCommon>),
    /// The peer does not know strict key exchange, and we talk to no such.
    NotStrict,
    /// The server did not prove itself.
    HostKey(&'static str),
    /// The peer made us keep or do more than we will.
    TooMuch(&'static str),
    /// A key exchange took too long.
    TimedOut,
    /// The connection has already ended.
    Ended,
    /// Something of our own failed: we fail closed.
    Internal(&'static str),
}

impl Fatal {
    /// The reason code for the peer.
    #[must_use]
    pub fn reason(&self) -> u32 {
        match self {
            Self::Protocol(_) | Self::Integrity | Self::TooMuch(_) => reason::PROTOCOL_ERROR,
            Self::NoCommon(_) | Self::NotStrict | Self::TimedOut | Self::Internal(_) => reason::KEY_EXCHANGE_FAILED,
            Self::HostKey(_) => reason::HOST_KEY_NOT_VERIFIABLE,
            Self::Ended => reason::BY_APPLICATION,
        }
    }

    /// The text for the peer: the same for whatever it may have done wrong, since it knows that; what it needs to change where it can.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Protocol(_) | Self::Integrity | Self::TooMuch(_) => "protocol error",
            Self::NoCommon(lack) => &lack.for_peer,
            Self::NotStrict => "strict key exchange is needed here",
            Self::HostKey(_) => "the host key could not be verified",
            Self::TimedOut => "the key exchange took too long",
            Self::Ended => "the connection has ended",
            Self::Internal(_) => "internal error",
        }
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(what) | Self::TooMuch(what) | Self::HostKey(what) | Self::Internal(what) => f.write_str(what),
            Self::NoCommon(lack) => lack.fmt(f),
            Self::NotStrict => f.write_str("the peer does not know strict key exchange, which `strict_kex` requires"),
            Self::Integrity => f.write_str("a packet was changed on its way or sealed with another key"),
            Self::TimedOut => f.write_str("a key exchange took too long"),
            Self::Ended => f.write_str("the connection has already ended"),
        }
    }
}

impl std::error::Error for Fatal {}

impl From<Malformed> for Fatal {
    fn from(malformed: Malformed) -> Self {
        Self::Protocol(malformed.0)
    }
}
