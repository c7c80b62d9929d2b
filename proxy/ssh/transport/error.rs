//! What ends a connection: one thing for the peer, the detail for the log.

use std::fmt;

/// The connection must end. The text says what was wrong, for the log; it holds nothing secret and nothing that the peer chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fatal {
    /// Something of our own failed: we fail closed.
    Internal(&'static str),
    /// The peer broke the protocol.
    Protocol(&'static str),
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internal(what) | Self::Protocol(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Fatal {}
