//! The user's side of the login: whom he says he is, what he asks for, and the proof.

use keyward_auth::{Identity, Secret};

use super::messages;
use super::settings::{ListenerSettings, LoginMethod};
use super::wire::{self, Messages};
use crate::error::{Party, SessionError, Stage};
use crate::link::Link;
use crate::refusal::Refusal;
use crate::stream::Stream;

const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
pub(super) const SASL_FINAL: u32 = 12;
const CLEARTEXT: u32 = 3;
const PASSWORD_MESSAGE: u8 = b'p';

/// A proof that held, and what the client must hear of it once it is in.
pub(super) struct Proven {
    pub(super) identity: Identity,
    /// The server's last SCRAM message: good news, so that it is held back until the session is real.
    pub(super) last_word: Option<Vec<u8>>,
}

/// Asks for the proof, as the listener says.
pub(super) async fn prove(link: &Link, client: &mut Stream, user: &str) -> Result<Proven, SessionError> {
    if !client.is_tls() && !link.local {
        let text = "a password login without TLS from another machine";
        return Err(SessionError::new(Refusal::TlsRequired, Party::Client, Stage::Login, text));
    }
    let method = link.door.settings.downcast_ref::<ListenerSettings>().map_or(LoginMethod::Scram, |settings| settings.login);
    match method {
        LoginMethod::Scram => scram(link, client, user).await,
        LoginMethod::Cleartext => cleartext(link, client, user).await,
    }
}

async fn scram(link: &Link, client: &mut Stream, user: &str) -> Result<Proven, SessionError> {
    let binding =
        link.door.identity.as_ref().filter(|_| client.is_tls()).and_then(|identity| identity.binding.as_deref()).map(<[u8]>::to_vec);
    let mut server = link.proxy.gate.scram(user, link.source, binding).await?;
    let mut mechanisms = Vec::new();
    for mechanism in server.mechanisms() {
        mechanisms.extend_from_slice(mechanism.as_bytes());
        mechanisms.push(0);
    }
    mechanisms.push(0);
    messages::write(client, Messages::default().authentication(SASL, &mechanisms))
        .await
        .map_err(|error| SessionError::client_io(Stage::Login, &error))?;
    let first = answer(client).await?;
    let (mechanism, message) = wire::sasl_initial(&first).map_err(|error| SessionError::malformed(Stage::Login, error.0))?;
    let challenge = server.client_first(mechanism, message)?;
    messages::write(client, Messages::default().authentication(SASL_CONTINUE, &challenge))
        .await
        .map_err(|error| SessionError::client_io(Stage::Login, &error))?;
    let last = answer(client).await?;
    let (identity, last_word) = server.client_final(&last)?;
    Ok(Proven { identity, last_word: Some(last_word) })
}

async fn cleartext(link: &Link, client: &mut Stream, user: &str) -> Result<Proven, SessionError> {
    messages::write(client, Messages::default().authentication(CLEARTEXT, &[]))
        .await
        .map_err(|error| SessionError::client_io(Stage::Login, &error))?;
    let body = answer(client).await?;
    let password = wire::password(&body).map_err(|error| SessionError::malformed(Stage::Login, error.0))?;
    let identity = link.proxy.gate.password(user, Secret::from(password.to_vec()), link.source).await?;
    Ok(Proven { identity, last_word: None })
}

async fn answer(client: &mut Stream) -> Result<zeroize::Zeroizing<Vec<u8>>, SessionError> {
    match messages::read(client, wire::LOGIN_MAX).await {
        Ok((PASSWORD_MESSAGE, body)) => Ok(body),
        Ok(_) => Err(SessionError::malformed(Stage::Login, "another message than the answer to the login")),
        Err(error) => Err(SessionError::client_io(Stage::Login, &error)),
    }
}
