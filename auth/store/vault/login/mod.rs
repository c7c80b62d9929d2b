//! The ways to prove to a store who we are: a file per auth method.

mod approle;
mod token;

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::HeaderValue;
use zeroize::Zeroizing;

use super::answer::Answer;
use super::client::Client;
use super::settings::{Auth, Method};
use crate::store::{Outer, StoreError, StoreErrorKind};

/// A way to prove who we are, ready to be used again and again.
pub(super) enum Login {
    Token(token::StaticToken),
    AppRole(approle::AppRole),
}

/// A proof ready to be sent: what the file, the environment or the configuration holds now.
pub(super) enum Ready {
    Token(Zeroizing<String>),
    AppRole(approle::Proof),
}

/// A token that the store accepted.
pub(super) struct Granted {
    pub(super) text: HeaderValue,
    /// When it dies; `None`: never.
    pub(super) end: Option<Instant>,
    pub(super) renewable: bool,
    /// What to ask for at a renewal.
    pub(super) increment: Duration,
    pub(super) warnings: Vec<String>,
}

impl Login {
    /// # Errors
    /// A key that the method needs is missing, or one is there that it does not know.
    pub(super) fn from_settings(auth: &Auth, outer: &Arc<dyn Outer>) -> Result<Self, String> {
        match auth.method {
            Method::Token => token::StaticToken::from_settings(auth, outer).map(Self::Token),
            Method::Approle => approle::AppRole::from_settings(auth, outer).map(Self::AppRole),
        }
    }

    /// Reads what is to be proven with. Files are read again each time: they rotate.
    pub(super) async fn prepare(&self) -> Result<Ready, StoreError> {
        match self {
            Self::Token(login) => login.prepare().await.map(Ready::Token),
            Self::AppRole(login) => login.prepare().await.map(Ready::AppRole),
        }
    }

    /// Proves it.
    ///
    /// # Errors
    /// `LoginFailed`: the store refused it. Anything else: it could not be asked.
    pub(super) async fn perform(&self, client: &Client, ready: &Ready) -> Result<Granted, StoreError> {
        match (self, ready) {
            (Self::Token(_), Ready::Token(text)) => token::look_up(client, text).await,
            (Self::AppRole(login), Ready::AppRole(proof)) => login.perform(client, proof).await,
            _ => Err(StoreError::new(StoreErrorKind::LoginFailed, "the proof is of another method")),
        }
    }
}

impl Ready {
    /// Tells whether a proof is the one that was refused before, without keeping it.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        let parts: Vec<&[u8]> = match self {
            Self::Token(text) => vec![text.as_bytes()],
            Self::AppRole(proof) => proof.parts(),
        };
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        for part in parts {
            context.update(&part.len().to_le_bytes());
            context.update(part);
        }
        context.finish().as_ref().try_into().unwrap_or_default()
    }
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
pub(super) fn granted(answer: &Answer) -> Result<Granted, StoreError> {
    let refuse = |why: &str| StoreError::new(StoreErrorKind::LoginFailed, why);
    let auth = answer.body.get("auth").filter(|auth| auth.is_object()).ok_or_else(|| refuse("the answer to the login has no token"))?;
    let number = |key: &str| auth.get(key).and_then(serde_json::Value::as_i64).unwrap_or_default();
    let text = auth.get("client_token").and_then(serde_json::Value::as_str).unwrap_or_default();
    if text.is_empty() || auth.get("mfa_requirement").is_some_and(|requirement| !requirement.is_null()) {
        return Err(refuse("the store asks for a second factor; exempt this role from it"));
    }
    if number("num_uses") > 0 {
        return Err(refuse("the role's tokens have limited uses (token_num_uses); set it to 0"));
    }
    let life = Duration::from_secs(u64::try_from(number("lease_duration")).unwrap_or_default());
    let end = if life.is_zero() { None } else { answer.asked.checked_add(life) };
    let renewable = auth.get("renewable").and_then(serde_json::Value::as_bool).unwrap_or_default();
    Ok(Granted { text: header(text)?, end, renewable, increment: life, warnings: Vec::new() })
}

/// A mount as users write it: `approle`, `/approle/`, `auth/approle`.
fn mount(text: &str) -> Result<String, String> {
    let text = text.trim().trim_matches('/');
    let text = text.strip_prefix("auth/").unwrap_or(text);
    let clean = |segment: &str| !matches!(segment, "" | "." | "..") && segment.chars().all(|c| !c.is_control() && !"\\?#%*+".contains(c));
    if text.split('/').all(clean) {
        Ok(super::client::encode(text.split('/')))
    } else {
        Err("auth.mount: write it as `approle`".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_understood_in_every_spelling() {
        for text in ["approle", "/approle/", "auth/approle", " auth/approle/ "] {
            assert_eq!(mount(text).unwrap(), "approle");
        }
        assert_eq!(mount("team/nested/ar").unwrap(), "team/nested/ar");
        assert_eq!(mount("auth/auth/x").unwrap(), "auth/x");
        for text in ["", "a//b", "../x", "a/../b", "a?b", "a%2fb"] {
            assert!(mount(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_token_that_cannot_be_a_header_is_refused_without_being_shown() {
        for text in ["", "a b", "a\nb", "é"] {
            assert!(!header(text).unwrap_err().detail.contains(text) || text.is_empty());
        }
        assert_eq!(format!("{:?}", header("s.canary").unwrap()), "Sensitive");
    }
}
