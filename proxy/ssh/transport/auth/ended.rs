//! What ends a login, and with it the connection.

use std::fmt;

use crate::error::{Fatal, reason};
use crate::wire::Malformed;

/// The connection must end. The texts hold nothing secret and nothing that the peer chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The peer broke the protocol or did too much, or something of ours failed.
    Broken(Fatal),
    /// A service that we do not have: neither `ssh-userauth`, nor `ssh-connection` after it.
    NoSuchService,
    /// The client has failed as often as it may.
    TooManyFailures,
}

impl Ended {
    pub(super) const fn protocol(what: &'static str) -> Self {
        Self::Broken(Fatal::Protocol(what))
    }

    pub(super) const fn too_much(what: &'static str) -> Self {
        Self::Broken(Fatal::TooMuch(what))
    }

    pub(super) const fn internal(what: &'static str) -> Self {
        Self::Broken(Fatal::Internal(what))
    }

    /// The reason code of SSH_MSG_DISCONNECT (RFC 4253 section 11.1).
    #[must_use]
    pub fn reason(&self) -> u32 {
        match self {
            // The exchange of keys is over: its code would mislead.
            Self::Broken(Fatal::Internal(_)) => reason::BY_APPLICATION,
            Self::Broken(fatal) => fatal.reason(),
            Self::NoSuchService => reason::SERVICE_NOT_AVAILABLE,
            Self::TooManyFailures => reason::NO_MORE_AUTH_METHODS_AVAILABLE,
        }
    }

    /// The text for the peer.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Broken(fatal) => fatal.text(),
            Self::NoSuchService => "no such service",
            Self::TooManyFailures => "too many authentication failures",
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(fatal) => fatal.fmt(f),
            Self::NoSuchService => f.write_str("the client asked for a service that does not exist"),
            Self::TooManyFailures => f.write_str("the client failed to authenticate too often"),
        }
    }
}

impl std::error::Error for Ended {}

impl From<Fatal> for Ended {
    fn from(fatal: Fatal) -> Self {
        Self::Broken(fatal)
    }
}

impl From<Malformed> for Ended {
    fn from(malformed: Malformed) -> Self {
        Self::Broken(malformed.into())
    }
}
