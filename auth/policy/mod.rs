//! May they: the registered connections, the rules over them, and the only place that makes a [`Grant`].
//!
//! `Gate` calls [`Policy`] with an identity and what was asked for on the wire, and again for every live grant after a reload. What no rule
//! allows is refused; unknown and forbidden are the same.

mod connection;
mod grant;
mod rules;
mod target;

pub use connection::{Account, Connection};
pub use grant::Grant;
pub(crate) use rules::Policy;

/// Why there is no grant. It says nothing of whether there is such a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// No such connection or account, not of this protocol, or no rule allows it.
    NotPermitted,
    /// The user named no account, may use several of them, and none is called `default`: these, sorted.
    Choose(Vec<String>),
}

/// A server and an account that a user may use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reachable {
    /// The connection's name.
    pub connection: String,
    /// Of a group: one of its lines, a host or a pattern of names. `None`: the connection is one server.
    pub host: Option<String>,
    /// The account's name on it.
    pub account: String,
}

impl Reachable {
    /// What a login names it by: the connection, or the host or pattern of a group.
    #[must_use]
    pub fn name(&self) -> &str {
        self.host.as_deref().unwrap_or(&self.connection)
    }
}

/// As a login names it: `orders`, or `web+deploy` for an account that is not the default.
impl std::fmt::Display for Reachable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())?;
        if self.account == Account::DEFAULT { Ok(()) } else { write!(f, "+{}", self.account) }
    }
}
