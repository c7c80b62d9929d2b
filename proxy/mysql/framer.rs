//! Commands and answers of an established session.

use super::capabilities::Capabilities;
use crate::relay::{Framer, Passed};

/// What is held back besides what always is.
#[derive(Debug, Clone, Default)]
pub struct Hold {
    /// The name by which users know the connection: a client that chooses it as its database means the connection's own.
    pub own_name: Option<Vec<u8>>,
    /// Whether the client may dump the binary log.
    pub replication: bool,
}

/// From the client to the upstream.
pub struct Commands {
    _client: Capabilities,
    _hold: Hold,
}

impl Commands {
    /// After a login that ended with these capabilities on both sides.
    #[must_use]
    pub fn new(client: Capabilities, hold: Hold) -> Self {
        Self { _client: client, _hold: hold }
    }
}

impl Framer for Commands {
    fn pass(&mut self, bytes: &[u8]) -> Passed {
        Passed::all(bytes)
    }

    fn to_boundary(&self) -> usize {
        0
    }
}

/// From the upstream to the client.
#[derive(Debug, Default)]
pub struct Answers {}

impl Answers {
    /// The sequence number of the last packet, and the first byte of its body.
    #[must_use]
    pub fn last(&self) -> Option<(u8, Option<u8>)> {
        None
    }
}

impl Framer for Answers {
    fn pass(&mut self, bytes: &[u8]) -> Passed {
        Passed::all(bytes)
    }

    fn to_boundary(&self) -> usize {
        0
    }
}
