//! Who is it: a file per way to prove it, and what a proof gives.
//!
//! `Gate` calls these with its current users; a protocol hands in what came from the wire and gets an [`Identity`] or an
//! [`AuthFailure`]. Two rules hold for every file here. Unknown user and wrong password are the same: same bytes, same number of
//! hash computations. And failures count for the pair of user and address (lockout.rs), so that nobody locks a stranger out.
//!
//! scram.rs: the server half of crate::scram, as PostgreSQL's "SASL Authentication" has it; password.rs: a clear-text password against either
//! stored form, and proven.rs what it remembers of them; verifier.rs: the stored forms; key.rs: a public key of his, or a certificate of one
//! (RFC 4252, PROTOCOL.certkeys).

mod capped;
mod key;
mod lockout;
mod password;
mod proven;
mod salt;
mod scram;
mod users;
mod verifier;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use keyward_config::Name;

pub(crate) use key::Accepted;
pub use key::{KeyTrust, UserCertificate, UserKey};
pub(crate) use lockout::{Attempt, Lockout, LockoutLimits};
pub(crate) use password::Hashing;
pub(crate) use salt::SaltKey;
pub use scram::ScramServer;
pub(crate) use users::Users;
pub use verifier::Verifier;

/// Where a link comes from: an address, or a socket of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source(Option<IpAddr>);

impl Source {
    /// From this address. An IPv4 address in IPv6 form counts as the IPv4 address that it is.
    #[must_use]
    pub const fn tcp(address: IpAddr) -> Self {
        Self(Some(address.to_canonical()))
    }

    /// From a unix socket, or from the operator's own terminal.
    #[must_use]
    pub const fn local() -> Self {
        Self(None)
    }

    /// The address, if there is one.
    #[must_use]
    pub const fn address(self) -> Option<IpAddr> {
        self.0
    }

    /// What limits per address count by: IPv6 by /64, since one host has that many addresses of its own.
    #[must_use]
    pub fn throttle_key(self) -> ThrottleKey {
        ThrottleKey(self.0.map(|address| match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        }))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => write!(f, "{address}"),
            None => f.write_str("local"),
        }
    }
}

/// A source as limits see it: an IPv4 address, an IPv6 /64, or this machine. Made by [`Source::throttle_key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThrottleKey(Option<IpAddr>);

/// How a user proved who he is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Proof {
    /// SCRAM-SHA-256 without channel binding.
    ScramSha256,
    /// SCRAM-SHA-256-PLUS: bound to the TLS channel, so that nobody sits in between.
    ScramSha256Plus,
    /// A clear-text password, checked against the stored form.
    Cleartext,
    /// The same, typed at a prompt of ours (RFC 4256).
    KeyboardInteractive,
    /// A signature by one of his keys.
    PublicKey,
    /// A signature by a key that an authority certified for him.
    Certificate,
    /// Not a user at all: the operator who runs `keyward check` on this machine.
    Operator,
}

impl Proof {
    /// A fixed word, for metric labels and audit records.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::ScramSha256 => "scram-sha-256",
            Self::ScramSha256Plus => "scram-sha-256-plus",
            Self::Cleartext => "cleartext",
            Self::KeyboardInteractive => "keyboard_interactive",
            Self::PublicKey => "public_key",
            Self::Certificate => "certificate",
            Self::Operator => "operator",
        }
    }
}

/// A user who has proven who he is. Only the verifiers in this folder make one.
#[derive(Clone, Debug)]
pub struct Identity {
    user: Name,
    groups: Arc<[Name]>,
    proof: Proof,
    source: Source,
    key: Option<Arc<UserKey>>,
    verifier: Option<Arc<Verifier>>,
}

impl Identity {
    const fn new(user: Name, groups: Arc<[Name]>, proof: Proof, source: Source) -> Self {
        Self { user, groups, proof, source, key: None, verifier: None }
    }

    fn by_key(self, key: UserKey) -> Self {
        Self { key: Some(Arc::new(key)), ..self }
    }

    fn by_password(self, verifier: Arc<Verifier>) -> Self {
        Self { verifier: Some(verifier), ..self }
    }

    /// The stored form of the password that proved it, where one did.
    fn verifier(&self) -> Option<&Verifier> {
        self.verifier.as_deref()
    }

    /// The operator of this machine, who needs no proof: he can read the file and the store's login.
    pub(crate) fn operator() -> Option<Self> {
        Some(Self::new("operator".parse().ok()?, Arc::from([]), Proof::Operator, Source::local()))
    }

    /// Somebody, for the tests of other folders.
    #[cfg(test)]
    pub(crate) fn of(user: &str, proof: Proof, source: Source) -> Self {
        Self::new(user.parse().expect("a name"), Arc::from([]), proof, source)
    }

    /// Who, as the file names him.
    #[must_use]
    pub const fn user(&self) -> &Name {
        &self.user
    }

    /// The groups that he had when he proved it. Rules are asked with those that he has now.
    #[must_use]
    pub fn groups(&self) -> &[Name] {
        &self.groups
    }

    /// How he proved it.
    #[must_use]
    pub const fn proof(&self) -> Proof {
        self.proof
    }

    /// From where.
    #[must_use]
    pub const fn source(&self) -> Source {
        self.source
    }

    /// The key or certificate that proved it, where one did.
    #[must_use]
    pub fn key(&self) -> Option<&UserKey> {
        self.key.as_deref()
    }

    pub(crate) const fn shared_key(&self) -> Option<&Arc<UserKey>> {
        self.key.as_ref()
    }
}

/// Why a login failed. What a client may be told; it says nothing of whether there is such a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthFailure {
    /// No such user, or the proof is wrong.
    NotAuthenticated,
    /// The message breaks the protocol: too long, not in its grammar, or a downgrade.
    Malformed,
    /// Too many failures of this user name from this address.
    Locked,
    /// More logins wait for a hash than we queue.
    Busy,
}

impl fmt::Display for AuthFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAuthenticated => "not authenticated",
            Self::Malformed => "malformed login message",
            Self::Locked => "locked after too many failures from this address",
            Self::Busy => "too many logins at once",
        })
    }
}

impl std::error::Error for AuthFailure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_count_an_ipv6_host_by_its_network_and_an_ipv4_host_by_itself() {
        let key = |text: &str| Source::tcp(text.parse().unwrap()).throttle_key();
        assert_eq!(key("2001:db8:1:2:3:4:5:6"), key("2001:db8:1:2:ffff::1"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("127.0.0.1"), Source::local().throttle_key());
    }

    #[test]
    fn a_source_shows_its_address() {
        assert_eq!(Source::tcp("::1".parse().unwrap()).to_string(), "::1");
        assert_eq!(Source::tcp("::ffff:10.0.0.1".parse().unwrap()).to_string(), "10.0.0.1");
        assert_eq!(Source::local().to_string(), "local");
    }
}
