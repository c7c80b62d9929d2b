//! How an account proves to a server that it knows its password: every plugin that we speak, as a machine of its own that reads no socket.
//!
//! What must not happen: a password in clear text, or hidden by a key of unknown origin, for a server that is verified by nothing but our
//! word. A greeting comes in plain text, whatever follows: by its word alone we give no more than a hash that is bound to a scramble.

use mysql_common::auth::plugins::caching_sha2_password::scramble_sha256;
use mysql_common::auth::plugins::client_ed25519::ClientEd25519;
use mysql_common::auth::plugins::mysql_native_password::scramble_native;
use mysql_common::auth::plugins::parsec::Parsec;
use mysql_common::auth::plugins::{ChallengeResponsePlugin, Context, Response};
use zeroize::Zeroizing;

use super::{Failure, Rules, protocol, server_key, unacceptable, unverified};
use crate::error::escaped;
use crate::mysql::settings::Method;
use crate::mysql::wire::{Reply, SCRAMBLE};
use crate::upstream::VerifiedBy;

/// MariaDB asks by one plugin after the other where an account has several.
const SWITCHES_MAX: u32 = 8;
/// What the plugins of caching_sha2_password and sha256_password say, one byte each.
const FAST_ENOUGH: u8 = 3;
const PROVE_FULLY: u8 = 4;
const CACHING_KEY_PLEASE: u8 = 2;
const SHA256_KEY_PLEASE: u8 = 1;

/// By which way the proof goes.
#[derive(Clone, Copy)]
pub(super) struct Way {
    pub(super) by: VerifiedBy,
    pub(super) tls: bool,
    pub(super) unix: bool,
}

/// A proof under way.
pub(super) struct Proof<'a> {
    password: &'a [u8],
    way: Way,
    rules: &'a Rules<'a>,
    state: State,
    switches: std::ops::Range<u32>,
}

enum State {
    /// Nothing: the server has to name its plugin.
    Unsaid,
    /// caching_sha2_password, by a hash. The server may want more.
    Hashed([u8; SCRAMBLE]),
    /// Asked for the server's RSA key.
    AskedForKey([u8; SCRAMBLE]),
    /// parsec, up to its salt.
    Salting(Parsec),
    /// All of it.
    Said,
}

/// What comes next.
pub(super) enum Step<'a> {
    /// This packet.
    Say(Zeroizing<Vec<u8>>),
    /// The server's next packet.
    Wait,
    /// The session: the server's OK.
    In(&'a [u8]),
}

impl<'a> Proof<'a> {
    pub(super) fn new(password: &'a [u8], way: Way, rules: &'a Rules<'a>) -> Self {
        Self { password, way, rules, state: State::Unsaid, switches: 0..SWITCHES_MAX }
    }

    /// The plugin and the proof of our first packet. Where the greeting's plugin is none that we answer by its word alone, an empty proof
    /// by another one, so that the server says what it wants. It cannot be taken for an empty password: the plugins that are named here
    /// send their scramble before they read.
    pub(super) fn first(&mut self, plugin: &[u8], scramble: &[u8]) -> (&'static [u8], Zeroizing<Vec<u8>>) {
        let hash = match method(plugin).filter(|method| self.rules.methods.allow(*method)) {
            Some(Method::MysqlNativePassword) => self.native(scramble),
            Some(Method::CachingSha2Password) => self.caching(scramble),
            _ => None,
        };
        let plugin = match method(plugin) {
            Some(Method::MysqlNativePassword) if hash.is_some() => NATIVE,
            Some(Method::CachingSha2Password) if hash.is_none() => NATIVE,
            _ => CACHING,
        };
        (plugin, hash.unwrap_or_default())
    }

    /// What to do about a server's packet.
    pub(super) fn next<'b>(&mut self, reply: Reply<'b>) -> Result<Step<'b>, Failure> {
        match (reply, &mut self.state) {
            (Reply::Error(error), _) => Err(error.into()),
            (Reply::Ok(ok), State::Said | State::Hashed(_)) => Ok(Step::In(ok)),
            (Reply::Ok(_), _) => Err(unacceptable("it asks for no proof")),
            (Reply::Switch { plugin, data }, _) => {
                self.switches.next().ok_or_else(|| protocol("it asks by one plugin after the other"))?;
                self.switch(plugin, data).map(Step::Say)
            }
            (Reply::More([FAST_ENOUGH]), State::Hashed(_)) => {
                self.state = State::Said;
                Ok(Step::Wait)
            }
            (Reply::More([PROVE_FULLY]), State::Hashed(scramble)) => {
                let scramble = *scramble;
                self.whole(scramble, self.way.tls || self.way.unix, CACHING_KEY_PLEASE).map(Step::Say)
            }
            (Reply::More(key), State::AskedForKey(scramble)) => {
                let hidden = server_key::hide(key, self.password, scramble).map_err(unacceptable)?;
                self.state = State::Said;
                Ok(Step::Say(hidden.into()))
            }
            (Reply::More(salt), State::Salting(parsec)) => {
                // The library takes no more than 8192 iterations.
                let said = run(parsec, self.password, salt)?;
                self.state = State::Said;
                Ok(Step::Say(said))
            }
            (Reply::More(_), State::Unsaid | State::Said | State::Hashed(_)) => Err(protocol("it says more than its plugin does")),
        }
    }

    /// The server wants another plugin than the one that we answered by.
    fn switch(&mut self, plugin: &[u8], data: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
        const SCRAMBLED: &str = "a scramble of another length than its plugin's";
        let method =
            method(plugin).ok_or_else(|| unacceptable(format!("it asks for a login by `{}`, which we do not speak", escaped(plugin))))?;
        if !self.rules.methods.allow(method) {
            return Err(unacceptable(format!("it asks for a login by `{}`, which require_auth does not allow", escaped(plugin))));
        }
        // Of 20 bytes and a NUL. The plugins of 32 bytes have no NUL, and may end with one.
        let data = match data {
            [scramble @ .., 0] if data.len() == SCRAMBLE.saturating_add(1) => scramble,
            data => data,
        };
        let scrambled = || protocol(SCRAMBLED);
        match method {
            Method::MysqlNativePassword => self.native(data).ok_or_else(scrambled),
            Method::CachingSha2Password => self.caching(data).ok_or_else(scrambled),
            Method::Sha256Password => {
                let scramble = data.try_into().map_err(|_| scrambled())?;
                // A server takes the password in clear text inside TLS alone, not on a unix socket.
                self.whole(scramble, self.way.tls, SHA256_KEY_PLEASE)
            }
            Method::ClientEd25519 => {
                let said = run(&mut ClientEd25519::default(), self.password, data)?;
                self.state = State::Said;
                Ok(said)
            }
            Method::Parsec => {
                let mut parsec = Parsec::default();
                let said = run(&mut parsec, self.password, data)?;
                self.state = State::Salting(parsec);
                Ok(said)
            }
            Method::MysqlClearPassword => self.clear(),
        }
    }

    fn native(&mut self, scramble: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let scramble: [u8; SCRAMBLE] = scramble.try_into().ok()?;
        self.state = State::Said;
        Some(owned(scramble_native(&scramble, self.password)))
    }

    fn caching(&mut self, scramble: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let scramble: [u8; SCRAMBLE] = scramble.try_into().ok()?;
        self.state = State::Hashed(scramble);
        Some(owned(scramble_sha256(&scramble, self.password)))
    }

    /// The password itself, where the transport keeps it secret from others, or hidden by the server's RSA key.
    fn whole(&mut self, scramble: [u8; SCRAMBLE], secret: bool, key_please: u8) -> Result<Zeroizing<Vec<u8>>, Failure> {
        if secret {
            return self.clear();
        }
        if let Some(pinned) = self.rules.server_public_key {
            self.state = State::Said;
            return server_key::hide(pinned, self.password, &scramble).map(Zeroizing::new).map_err(unacceptable);
        }
        // A key that the server itself gives may be that of somebody in between.
        if self.way.by != VerifiedBy::Local {
            return Err(unverified("it wants the password hidden by its RSA key: name that as `server_public_key`, or use TLS"));
        }
        self.state = State::AskedForKey(scramble);
        Ok(vec![key_please].into())
    }

    /// The password and its NUL.
    fn clear(&mut self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        match self.way.by {
            VerifiedBy::Local => {}
            VerifiedBy::Certificate | VerifiedBy::Chain | VerifiedBy::PinnedKey if self.way.tls => {}
            _ => return Err(unverified("it asks for the password itself, and is not verified: use TLS that verifies it")),
        }
        self.state = State::Said;
        let mut said = Zeroizing::new(Vec::with_capacity(self.password.len().saturating_add(1)));
        said.extend_from_slice(self.password);
        said.push(0);
        Ok(said)
    }
}

const NATIVE: &[u8] = b"mysql_native_password";
const CACHING: &[u8] = b"caching_sha2_password";

fn method(plugin: &[u8]) -> Option<Method> {
    match plugin {
        NATIVE => Some(Method::MysqlNativePassword),
        CACHING => Some(Method::CachingSha2Password),
        b"sha256_password" => Some(Method::Sha256Password),
        b"client_ed25519" => Some(Method::ClientEd25519),
        b"parsec" => Some(Method::Parsec),
        b"mysql_clear_password" => Some(Method::MysqlClearPassword),
        _ => None,
    }
}

/// A hash; nothing for an empty password.
fn owned<const N: usize>(hash: Option<[u8; N]>) -> Zeroizing<Vec<u8>> {
    hash.map(Zeroizing::new).map(|hash| hash.to_vec()).unwrap_or_default().into()
}

/// One step of a plugin that needs nothing but the password.
fn run(plugin: &mut impl ChallengeResponsePlugin, password: &[u8], challenge: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
    struct Password<'a>(&'a [u8]);
    impl Context for Password<'_> {
        fn pass(&self) -> &[u8] {
            self.0
        }
        fn is_ipc_transport(&self) -> bool {
            false
        }
        fn is_tls_transport(&self) -> bool {
            false
        }
        fn scramble(&self) -> &[u8] {
            &[]
        }
        fn server_key_pem(&self) -> Option<&[u8]> {
            None
        }
    }
    match plugin.run(Password(password), challenge) {
        Ok(Response::Next { packet } | Response::Last { packet }) => Ok(packet.unwrap_or_default().into()),
        Err(_) => Err(protocol("a challenge that is none of its plugin's")),
    }
}

#[cfg(test)]
#[path = "proof_tests.rs"]
mod tests;
