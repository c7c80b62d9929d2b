//! Limits: what one client, one user or all of them together may take.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{Node, Period, Problems};

/// Limits of the whole process. Each has a safe default.
#[derive(Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(default)]
pub struct Limits {
    /// Links that have not logged in yet, in all.
    pub handshakes: u32,
    /// Links that have not logged in yet, per source address (IPv6: per /64).
    pub handshakes_per_address: u32,
    /// From the accepted socket to the client's good news, or the link is closed. What the user takes to type is part of it.
    pub handshake_timeout: Period,
    /// Sessions in all.
    pub sessions: u32,
    /// Sessions per user.
    pub sessions_per_user: u32,
    /// A session in which no byte moved for this long is ended. 0: never.
    pub idle_timeout: Period,
    /// A session is ended when it is this old. 0: never.
    pub max_lifetime: Period,
    /// How long before the moment at which a session will be ended, by its lifetime or by its credential's last end, its client is told so
    /// (PostgreSQL and SSH; of MySQL only the record). What is longer than a session's whole life is left out. An empty list: never.
    pub end_warnings: Vec<Period>,
    /// How long a shutdown waits for sessions before it cuts them.
    pub drain_timeout: Period,
    /// Failed logins of one user from one address before that pair is locked. 0: it never is. The address is slowed all the same: after its
    /// fourth failure within a minute, whoever the users, each proof from there waits between half a second and 5 s.
    pub failed_logins: u32,
    /// How long that pair stays locked. 0: it never is.
    pub lock_time: Period,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshakes: 1024,
            handshakes_per_address: 64,
            handshake_timeout: Period::from_secs(30),
            sessions: 10_000,
            sessions_per_user: 200,
            idle_timeout: Period::from_secs(0),
            max_lifetime: Period::from_secs(0),
            end_warnings: vec![Period::from_secs(300), Period::from_secs(60)],
            drain_timeout: Period::from_secs(30),
            failed_logins: 10,
            lock_time: Period::from_secs(300),
        }
    }
}

impl Limits {
    /// What is said of a limit of zero.
    pub(crate) const NOBODY: &str = "expected more than 0: nobody could log in";

    /// A limit of zero that would let nobody in is a slip.
    pub(crate) fn check(&self, node: Option<&Node>, problems: &mut Problems) {
        let Some(node) = node else { return };
        let counts = [
            ("handshakes", self.handshakes),
            ("handshakes_per_address", self.handshakes_per_address),
            ("sessions", self.sessions),
            ("sessions_per_user", self.sessions_per_user),
        ];
        let zero = counts.into_iter().filter(|(_, count)| *count == 0).map(|(key, _)| key);
        let at_once = self.handshake_timeout.is_zero().then_some("handshake_timeout");
        for key in zero.chain(at_once) {
            problems.error(node.span_of(key), format!("limits.{key}"), Self::NOBODY);
        }
    }
}
