//! The user's side of the login: the proof.
//!
//! caching_sha2_password, always with what its manual calls full authentication: we see the password for a moment, and can check it against
//! any stored form. Inside TLS and on a unix socket it comes as it is, on the loopback sealed with an RSA key of ours.

use keyward_auth::{Identity, Secret};
use zeroize::Zeroizing;

use super::opening::Opened;
use super::packet::{self, Packets};
use super::public_key::KeyPair;
use super::settings::{ListenerSettings, LoginMethod};
use super::wire;
use crate::error::{Party, SessionError, Stage};
use crate::link::Link;
use crate::refusal::Refusal;
use crate::stream::Stream;

/// The plugin that our greeting names.
pub(super) const CACHING_SHA2: &[u8] = b"caching_sha2_password";
const CLEARTEXT: &[u8] = b"mysql_clear_password";

/// "perform full authentication": no hash of the password that we may have kept would do.
const FULL_AUTHENTICATION: u8 = 4;
/// A client asks for the key.
const REQUEST_KEY: &[u8] = &[2];

/// What protects a password on its way to us.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Channel {
    /// TLS.
    Tls,
    /// A unix socket. Some clients take it for safe, others seal what they send.
    Socket,
    /// Nothing but that it stays on this machine. A client that sends its password unsealed is none that we want to get used to it.
    Loopback,
}

/// Asks for the proof, as the listener says.
pub(super) async fn prove(
    link: &Link,
    client: &mut Stream,
    packets: &mut Packets,
    keys: &KeyPair,
    user: &str,
    opened: &Opened,
) -> Result<Identity, SessionError> {
    let channel = Channel::of(link, client)?;
    let method = link.door.settings.downcast_ref::<ListenerSettings>().map_or(LoginMethod::CachingSha2, |settings| settings.login);
    let mut asking = Asking { client, packets };
    let password = match method {
        LoginMethod::CachingSha2 => asking.caching_sha2(channel, keys, opened).await?,
        LoginMethod::Cleartext => asking.cleartext(opened).await?,
    };
    // What is empty or did not open costs what a wrong password costs, and is one.
    let password = match password.filter(|password| !password.is_empty()) {
        Some(password) => password,
        None => nobodys_password()?,
    };
    link.proxy.gate.password(user, password, link.source).await.map_err(SessionError::from)
}

impl Channel {
    fn of(link: &Link, client: &Stream) -> Result<Self, SessionError> {
        match client {
            client if client.is_tls() => Ok(Self::Tls),
            // A balancer on this machine may speak for a client on another one.
            _ if !link.local => Err(tls_required("a password login without TLS from another machine")),
            Stream::Unix(_) => Ok(Self::Socket),
            _ => Ok(Self::Loopback),
        }
    }
}

/// A login under way.
struct Asking<'a> {
    client: &'a mut Stream,
    packets: &'a mut Packets,
}

impl Asking<'_> {
    /// `None`: an empty password, or one that does not open.
    async fn caching_sha2(&mut self, channel: Channel, keys: &KeyPair, opened: &Opened) -> Result<Option<Secret>, SessionError> {
        let (token, scramble) = if opened.answer.plugin == CACHING_SHA2 {
            (opened.answer.auth.clone(), opened.scramble)
        } else {
            let scramble = wire::scramble().ok_or_else(|| SessionError::no_random(Stage::Login))?;
            self.say(&wire::auth_switch(CACHING_SHA2, &scramble)).await?;
            (self.hear().await?, scramble)
        };
        // A client with an empty password has said all that it has to say, and expects the outcome.
        if matches!(token.as_slice(), [] | [0]) {
            return Ok(None);
        }
        self.say(&wire::auth_more(&[FULL_AUTHENTICATION])).await?;
        let mut sent = self.hear().await?;
        let asked = sent.as_slice() == REQUEST_KEY;
        let sealed = asked
            || match channel {
                Channel::Tls => false,
                Channel::Socket => sent.last() != Some(&0),
                Channel::Loopback => true,
            };
        if !sealed {
            return terminated(&sent).map(Some);
        }
        let none = || SessionError::new(Refusal::Internal, Party::Proxy, Stage::Login, "no RSA key can be made");
        let key = keys.get().await.ok_or_else(none)?;
        if !asked && sent.len() != key.sealed_len() {
            return Err(match channel {
                // Connector/Python sends it as it is, wherever it goes. MySQL calls that a wrong password; this says what helps.
                Channel::Loopback => tls_required("a client that does not seal its password"),
                Channel::Tls | Channel::Socket => unterminated(),
            });
        }
        if asked {
            self.say(&wire::auth_more(key.public().as_bytes())).await?;
            sent = self.hear().await?;
        }
        Ok(key.open(&sent, &scramble).map(|mut password| Secret::from(std::mem::take(&mut *password))))
    }

    async fn cleartext(&mut self, opened: &Opened) -> Result<Option<Secret>, SessionError> {
        let answer = &opened.answer;
        if answer.plugin == CLEARTEXT && !answer.auth.is_empty() {
            return terminated(&answer.auth).map(Some);
        }
        self.say(&wire::auth_switch(CLEARTEXT, &[])).await?;
        let sent = self.hear().await?;
        terminated(&sent).map(Some)
    }

    async fn say(&mut self, payload: &[u8]) -> Result<(), SessionError> {
        self.packets.write(self.client, payload).await.map_err(|error| SessionError::client_io(Stage::Login, &error))
    }

    async fn hear(&mut self) -> Result<Zeroizing<Vec<u8>>, SessionError> {
        self.packets.read(self.client, packet::LOGIN_MAX).await.map_err(|error| SessionError::client_io(Stage::Login, &error))
    }
}

/// A password as it is, and the NUL behind it.
fn terminated(sent: &[u8]) -> Result<Secret, SessionError> {
    sent.strip_suffix(&[0]).map(|password| Secret::from(password.to_vec())).ok_or_else(unterminated)
}

fn unterminated() -> SessionError {
    SessionError::malformed(Stage::Login, "a password without the NUL behind it")
}

/// One that nobody has.
fn nobodys_password() -> Result<Secret, SessionError> {
    let mut random = vec![0; 32];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| SessionError::no_random(Stage::Login))?;
    Ok(Secret::from(random))
}

fn tls_required(text: &'static str) -> SessionError {
    SessionError::new(Refusal::TlsRequired, Party::Client, Stage::Login, text)
}

#[cfg(test)]
#[path = "login_tests.rs"]
mod tests;
