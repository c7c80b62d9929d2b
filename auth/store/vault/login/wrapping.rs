//! A wrapping token, and what is told of it before it is opened (vault.md §5.1, §5.2).
//!
//! A secret id that comes wrapped can be had once: whoever opens it leaves a trace, since then nobody else can. Therefore the token is
//! looked up first, without opening it; it must come from where our role's secret ids are made, which a token that somebody put in its
//! place does not; and it is sent nowhere but to `sys/wrapping`, since any other use burns it.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::post::LOGIN;
use super::{header, shown};
use crate::store::credential::wipe;
use crate::store::vault::answer::{Answer, Failure};
use crate::store::vault::client::{Call, Client, Retry, Space};
use crate::store::vault::errors::explain;
use crate::store::{StoreError, StoreErrorKind};

/// A wrapping token, as it came to us.
pub(super) struct Wrapping {
    token: Zeroizing<String>,
    /// When it was made, where it came with that.
    created: Option<Timestamp>,
}

/// A secret id.
pub(super) struct SecretId {
    pub(super) text: Zeroizing<String>,
    /// How many logins it is good for. `None`: any number.
    pub(super) uses: Option<u64>,
    /// For how long it is good, and until when. `None`: for ever.
    pub(super) end: Option<(Duration, Instant)>,
}

/// Why a wrapping token gave no secret id.
pub(super) enum Trouble {
    /// Somebody else was there before us, or it is not what it should be: a security event.
    Intercepted { event: &'static str, why: String },
    /// It may have been opened, and we did not get what was in it.
    Lost(StoreError),
    /// It was not opened: it may be tried again.
    Failed(StoreError),
}

impl Wrapping {
    /// Reads a token alone, `{"token": …}`, or all that the CLI prints, after blank lines and lines that begin with `#`.
    ///
    /// # Errors
    /// It is none of these. The text is not in the message.
    pub(super) fn read(text: &str) -> Result<Self, &'static str> {
        let mut rest = text.trim_start_matches('\u{feff}').trim();
        while rest.starts_with('#') {
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest).trim_start();
        }
        if !rest.starts_with('{') {
            let token = rest.trim();
            let fits = !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic());
            return if fits {
                Ok(Self { token: Zeroizing::new(token.to_owned()), created: None })
            } else {
                Err("there is no wrapping token")
            };
        }
        let mut json: Value = serde_json::from_str(rest).map_err(|_| "it begins like JSON and is none")?;
        let found = Self::of(json.get("wrap_info").filter(|info| info.is_object()).unwrap_or(&json));
        wipe(&mut json);
        found.ok_or("there is neither `wrap_info.token` nor `token` in it")
    }

    /// The token of an answer that was asked for wrapped.
    pub(super) fn of_answer(answer: &Answer) -> Option<Self> {
        Self::of(answer.body.get("wrap_info")?)
    }

    fn of(info: &Value) -> Option<Self> {
        let token = info.get("token").and_then(Value::as_str).filter(|token| !token.is_empty())?;
        let created = info.get("creation_time").and_then(Value::as_str).and_then(|text| text.parse().ok());
        Some(Self { token: Zeroizing::new(token.to_owned()), created })
    }

    pub(super) fn fingerprint(&self) -> [u8; 32] {
        super::fingerprint(&[self.token.as_bytes()])
    }

    /// Opens it, once, if it comes from `origin`.
    pub(super) async fn open(&self, client: &Client, origin: &str) -> Result<SecretId, Trouble> {
        self.look_up(client, origin).await?;
        let token = header(&self.token).map_err(Trouble::Failed)?;
        let call = Call {
            method: Method::POST,
            limit: Some(LOGIN),
            fresh: true,
            space: Space::Login,
            ..Call::get("unwrap", "sys/wrapping/unwrap")
        };
        let answer = match client.call(&call, Some(&token), Retry::Unsent).await {
            Ok(answer) => answer,
            Err(Failure::Refused(refused)) if matches!(refused.status, 400 | 403) => {
                return Err(consumed("it was opened by somebody else while we looked at it"));
            }
            Err(failure) if is_clear(&failure) => return Err(Trouble::Failed(explain("opening the wrapped secret id", failure))),
            Err(failure) => {
                let error = explain("opening the wrapped secret id", failure);
                let text = format!("{}: what was in it is lost, a new one is needed", error.detail);
                return Err(Trouble::Lost(StoreError::new(StoreErrorKind::LoginFailed, text)));
            }
        };
        SecretId::of(&answer, client).ok_or_else(|| intercepted("wrapped_secret_id_forged", "there is no secret id in it".to_owned()))
    }

    async fn look_up(&self, client: &Client, origin: &str) -> Result<(), Trouble> {
        let mut body = json!({ "token": self.token.as_str() });
        let call = Call {
            method: Method::POST,
            body: Some(&body),
            fresh: true,
            space: Space::Login,
            ..Call::get("wrapping_lookup", "sys/wrapping/lookup")
        };
        let answer = client.call(&call, None, Retry::Idempotent).await;
        wipe(&mut body);
        let answer = match answer {
            Ok(answer) => answer,
            Err(Failure::Refused(refused)) if refused.status == 400 => {
                return Err(consumed("it was opened already, or it has ended, or the store never made it"));
            }
            Err(failure) => return Err(Trouble::Failed(explain("looking up the wrapped secret id", failure))),
        };
        let data = answer.body.get("data");
        let text = |key: &str| data.and_then(|data| data.get(key)).and_then(Value::as_str).unwrap_or_default();
        if text("creation_path") != origin {
            let why = format!("it comes from {} and not from {origin}", shown(text("creation_path")));
            return Err(intercepted("wrapped_secret_id_forged", why));
        }
        let made = text("creation_time").parse::<Timestamp>().ok();
        match (self.created, made) {
            (Some(said), Some(made)) if said != made => {
                let why = format!("it was made at {made}, and what it came with says {said}: somebody wrapped it anew");
                Err(intercepted("wrapped_secret_id_rewrapped", why))
            }
            _ => Ok(()),
        }
    }
}

impl SecretId {
    fn of(answer: &Answer, client: &Client) -> Option<Self> {
        let data = answer.body.get("data")?;
        let number = |key: &str| data.get(key).and_then(Value::as_u64).filter(|number| *number > 0);
        let text = data.get("secret_id").and_then(Value::as_str).filter(|text| !text.is_empty())?;
        let accessor = data.get("secret_id_accessor").and_then(Value::as_str).map(shown).unwrap_or_default();
        let (uses, seconds) = (number("secret_id_num_uses"), number("secret_id_ttl"));
        tracing::info!(store = client.name, accessor, uses, seconds, "opened a wrapped secret id");
        let whole = seconds.map(Duration::from_secs);
        let end = whole.and_then(|whole| Some((whole, Instant::from_std(answer.asked).checked_add(whole)?)));
        Some(Self { text: Zeroizing::new(text.to_owned()), uses, end })
    }
}

impl Trouble {
    /// Tells those who must know, and gives the error; `what` says in front which step it was.
    pub(super) fn report(self, client: &Client, what: &str) -> StoreError {
        match self {
            Self::Intercepted { event, why } => {
                tracing::error!(store = client.name, event, why, "a wrapped secret id is not ours alone: treat it as stolen");
                client.observer.security(&client.name, event);
                StoreError::new(StoreErrorKind::LoginFailed, format!("{what}: {why}"))
            }
            Self::Lost(error) | Self::Failed(error) => StoreError::new(error.kind, format!("{what}: {}", error.detail)),
        }
    }
}

fn consumed(why: &str) -> Trouble {
    intercepted("wrapped_secret_id_consumed", why.to_owned())
}

fn intercepted(event: &'static str, why: String) -> Trouble {
    Trouble::Intercepted { event, why }
}

/// Whether it certainly did not run.
fn is_clear(failure: &Failure) -> bool {
    match failure {
        Failure::Unreached(_) | Failure::Store(_) => true,
        Failure::Unanswered(_) | Failure::TooLong => false,
        Failure::Refused(refused) => refused.status < 500 || (refused.status == 503 && refused.is_explained()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapping_token_is_read_in_every_form_in_which_it_is_handed_over() {
        let cli = r#"{"request_id":"","lease_id":"","lease_duration":0,"renewable":false,"data":null,"warnings":null,
            "wrap_info":{"token":"s.w","accessor":"a","ttl":21600,"creation_time":"2026-11-21T22:32:02.59Z",
            "creation_path":"auth/products/role/developer/secret-id","wrapped_accessor":"x"}}"#;
        let commented = format!("\n# wrapped for keyward\n\n  # by ops\n{cli}\n");
        for text in ["s.w", " s.w \n", "#\n\ns.w", r#"{"token":"s.w"}"#, cli, &commented, "\u{feff}s.w"] {
            let read = Wrapping::read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(read.token.as_str(), "s.w", "{text}");
        }
        assert_eq!(Wrapping::read(cli).unwrap().created, "2026-11-21T23:32:02.59+01:00".parse().ok());
        for text in ["", "#", "# s.w", "s.w s.x", "s.ü", "{", "{}", r#"{"token":7}"#, r#"{"wrap_info":{"token":""}}"#, "[\"s.canary\"]x y"]
        {
            let error = Wrapping::read(text).err().unwrap_or_else(|| panic!("{text}"));
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
