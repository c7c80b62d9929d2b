//! The ways to prove to a store who we are: a file per auth method.
//!
//! token.rs (of the folder above) calls this: [`Login::prepare`] reads what there is to prove with, which rotates; [`Login::perform`]
//! sends it. What was refused is not sent again for a while, which needs the two apart.

mod approle;
mod aws;
mod cert;
mod held_back;
mod jwt;
mod mount;
mod near_end;
mod password;
mod post;
mod roles;
pub(in crate::store::vault) mod settings;
mod sigv4;
mod token;
mod worker;
mod wrapping;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::HeaderValue;
use serde_json::Value;
use tokio::time::Instant;
use zeroize::Zeroizing;

pub(super) use self::held_back::HeldBack;
use self::post::Post;
use self::settings::Auth;
use super::answer::Answer;
use super::client::Client;
use super::settings::Settings;
use crate::store::{Outer, Stay, StoreError, StoreErrorKind};

/// A proof that the store counted as wrong is not sent again for this long. By default the fifth one locks the role for 15 minutes, for the
/// right one and for others who log in as it, too; and the count begins anew only when 15 minutes have passed since the last wrong one (OpenBao,
/// vault/request_handling.go; `user_lockout_config` of the mount). Longer by enough that not even four processes that share a wrong proof lock it.
const COUNTED: Duration = Duration::from_secs(3600);
/// And for this long what it refused without counting: for what is no lock's matter, and while a lock lasts, which no further try prolongs.
const REFUSED: Duration = Duration::from_secs(30);
/// And for this long what it gave a token for that is of no use: each try makes another one.
const USELESS: Duration = Duration::from_secs(300);

/// A way to prove who we are, ready to be used again and again.
pub(super) enum Login {
    Token(token::StaticToken),
    AppRole(approle::AppRole),
    Worker(Box<worker::Worker>),
    Jwt(jwt::Jwt),
    Cert(cert::Cert),
    Password(password::Password),
    Aws(Box<aws::Aws>),
}

/// A proof ready to be sent: what the file, the environment or the configuration holds now.
pub(super) enum Ready {
    Token(Zeroizing<String>),
    Post(Post),
    Worker(worker::Proof),
}

/// A login that gave no token.
#[derive(Clone, Debug)]
pub(super) struct Rejected {
    /// `LoginFailed`: the store refused it. Anything else: it could not be asked.
    pub(super) error: StoreError,
    /// When the same proof may be sent again, where it was refused.
    pub(super) until: Instant,
}

/// A token that the store accepted.
pub(super) struct Granted {
    pub(super) text: HeaderValue,
    /// Names the token without being it; empty where the store does not say.
    pub(super) accessor: String,
    pub(super) policies: Vec<String>,
    /// When it dies; `None`: never.
    pub(super) end: Option<std::time::Instant>,
    pub(super) renewable: bool,
    /// What to ask for at a renewal.
    pub(super) increment: Duration,
    pub(super) warnings: Vec<String>,
}

/// Why this text is no wrapping token.
#[cfg(feature = "fuzzing")]
pub(super) fn wrapped(text: &str) -> Option<&'static str> {
    wrapping::Wrapping::read(text).err()
}

impl Login {
    /// The login of a store, or of one of its runners.
    ///
    /// # Errors
    /// A key that the method needs is missing, or two contradict each other.
    pub(super) fn from_settings(settings: &Settings, runner: Option<&str>, stay: Stay, outer: &Arc<dyn Outer>) -> Result<Self, String> {
        let auth = settings.auth()?;
        if let Some(runner) = runner.filter(|runner| !auth.runners().contains(runner)) {
            return Err(format!("auth.runners: there is none named {runner}"));
        }
        Ok(match auth {
            Auth::Token(keys) => Self::Token(token::StaticToken::new(keys, outer)),
            Auth::Approle(keys) if keys.worker.is_some() || !keys.runners.is_empty() => {
                Self::Worker(Box::new(worker::Worker::new(keys, runner, outer)?))
            }
            Auth::Approle(keys) => Self::AppRole(approle::AppRole::new(keys, stay, outer)?),
            Auth::Kubernetes(keys) => Self::Jwt(jwt::Jwt::of_kubernetes(keys, outer)?),
            Auth::Jwt(keys) => Self::Jwt(jwt::Jwt::new(keys, outer)?),
            Auth::Cert(keys) => Self::Cert(cert::Cert::new(keys, settings)?),
            Auth::Userpass(keys) => Self::Password(password::Password::new(keys, "userpass", outer)?),
            Auth::Ldap(keys) => Self::Password(password::Password::new(keys, "ldap", outer)?),
            Auth::Aws(keys) => Self::Aws(Box::new(aws::Aws::new(keys, outer)?)),
        })
    }

    /// Reads what is to be proven with. Files are read again each time: they rotate.
    pub(super) async fn prepare(&self, client: &Client) -> Result<Ready, StoreError> {
        match self {
            Self::Token(login) => login.prepare().await.map(Ready::Token),
            Self::AppRole(login) => login.prepare(client).await.map(Ready::Post),
            Self::Worker(login) => login.prepare().await.map(Ready::Worker),
            Self::Jwt(login) => login.prepare().await.map(Ready::Post),
            Self::Cert(login) => login.prepare(client).await.map(Ready::Post),
            Self::Password(login) => login.prepare().await.map(Ready::Post),
            Self::Aws(login) => login.prepare().await.map(Ready::Post),
        }
    }

    /// Proves it.
    ///
    /// # Errors
    /// Why not, and for how long it would be no use to prove it again.
    pub(super) async fn perform(&self, client: &Client, ready: &Ready) -> Result<Granted, Rejected> {
        match (self, ready) {
            (Self::Token(_), Ready::Token(text)) => Ok(token::look_up(client, text).await?),
            (Self::AppRole(login), Ready::Post(post)) => login.perform(client, post).await,
            (Self::Worker(login), Ready::Worker(proof)) => login.perform(client, proof).await,
            (Self::Cert(login), Ready::Post(post)) => login.perform(client, post).await,
            (_, Ready::Post(post)) => post.log_in(client).await,
            _ => Err(StoreError::new(StoreErrorKind::LoginFailed, "the proof is of another method").into()),
        }
    }

    /// What is about to end that it proves with.
    pub(super) async fn warning(&self) -> Option<String> {
        match self {
            Self::Cert(login) => login.warning().await,
            Self::AppRole(login) => login.warning().await,
            // What a worker has made is good for the login that it is made for.
            Self::Token(_) | Self::Worker(_) | Self::Jwt(_) | Self::Password(_) | Self::Aws(_) => None,
        }
    }

    /// Whether what it proves with ends by itself while nobody uses it: a wrapping token, which would then look as if somebody else had opened
    /// it, and a token that nobody renews.
    pub(super) fn ends_unused(&self) -> bool {
        match self {
            Self::Token(_) => true,
            Self::AppRole(login) => login.is_wrapped(),
            Self::Worker(_) | Self::Jwt(_) | Self::Cert(_) | Self::Password(_) | Self::Aws(_) => false,
        }
    }

    /// Goes on with what the login of the same store knew that was open before it: what was in a wrapping token can be had once, a refusal of
    /// one is one of the other, and so is a certificate.
    pub(super) fn go_on_from(&mut self, former: &Self) {
        match (self, former) {
            (Self::AppRole(login), Self::AppRole(former)) => login.go_on_from(former),
            (Self::Worker(login), Self::Worker(former)) => login.go_on_from(former),
            (Self::Cert(login), Self::Cert(former)) => login.go_on_from(former),
            _ => {}
        }
    }

    /// From now on, what the connection itself proves is proven on this client's, too.
    pub(super) fn show_on(&self, client: &Arc<Client>) {
        if let Self::Cert(login) = self {
            login.show_on(client);
        }
    }

    /// The files that somebody else replaces when the login is to be another one: what is in them is taken at once, since a wrapped secret
    /// id that nobody opens ends, and a token that nobody uses, and a former certificate, too.
    pub(super) fn watched(&self) -> Vec<&Path> {
        match self {
            Self::Token(login) => login.file().into_iter().collect(),
            Self::AppRole(login) => login.wrapped_file().into_iter().collect(),
            Self::Cert(login) => login.files(),
            Self::Worker(_) | Self::Jwt(_) | Self::Password(_) | Self::Aws(_) => Vec::new(),
        }
    }
}

impl Rejected {
    fn new(error: StoreError, held_back: Duration) -> Self {
        let now = Instant::now();
        Self { error, until: now.checked_add(held_back).unwrap_or(now) }
    }
}

impl From<StoreError> for Rejected {
    fn from(error: StoreError) -> Self {
        Self::new(error, REFUSED)
    }
}

impl Ready {
    /// Tells whether a login is the one that was refused before, without keeping what it proves with.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        match self {
            Self::Token(text) => fingerprint(&[text.as_bytes()]),
            Self::Post(post) => post.fingerprint,
            Self::Worker(proof) => proof.fingerprint(),
        }
    }
}

fn fingerprint(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        context.update(&part.len().to_le_bytes());
        context.update(part);
    }
    context.finish().as_ref().try_into().unwrap_or_default()
}

/// The token as a header that is never shown.
fn header(text: &str) -> Result<HeaderValue, StoreError> {
    let unprintable = || StoreError::new(StoreErrorKind::LoginFailed, "the token is not a printable text");
    if text.is_empty() || !text.chars().all(|c| c.is_ascii_graphic()) {
        return Err(unprintable());
    }
    let mut value = HeaderValue::from_str(text).map_err(|_| unprintable())?;
    value.set_sensitive(true);
    Ok(value)
}

/// Reads the `auth` of a login's answer.
fn granted(answer: &Answer) -> Result<Granted, Rejected> {
    token_of(answer).map_err(|error| Rejected::new(error, USELESS))
}

/// The token in a login's answer.
pub(super) fn token_of(answer: &Answer) -> Result<Granted, StoreError> {
    let refuse = |why: &str| StoreError::new(StoreErrorKind::LoginFailed, why);
    let auth = answer.body.get("auth").filter(|auth| auth.is_object()).ok_or_else(|| refuse("the answer to the login has no token"))?;
    let number = |key: &str| auth.get(key).and_then(Value::as_i64).unwrap_or_default();
    let text = |key: &str| auth.get(key).and_then(Value::as_str).unwrap_or_default();
    if text("client_token").is_empty() || auth.get("mfa_requirement").is_some_and(|requirement| !requirement.is_null()) {
        return Err(refuse("the store asks for a second factor; exempt this role from it"));
    }
    if number("num_uses") > 0 {
        return Err(refuse("the role's tokens have limited uses (token_num_uses); set it to 0"));
    }
    let life = Duration::from_secs(u64::try_from(number("lease_duration")).unwrap_or_default());
    Ok(Granted {
        text: header(text("client_token"))?,
        accessor: shown(text("accessor")),
        policies: words(auth.get("policies")),
        end: if life.is_zero() { None } else { answer.asked.checked_add(life) },
        renewable: auth.get("renewable").and_then(Value::as_bool).unwrap_or_default(),
        increment: life,
        warnings: Vec::new(),
    })
}

/// A server's words for the log: few, and escaped.
fn words(list: Option<&Value>) -> Vec<String> {
    let words = list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    words.take(20).map(shown).collect()
}

fn shown(text: &str) -> String {
    text.chars().take(100).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests;
