//! A login that is one request: what proves us is its body.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::mount::Mount;
use super::{COUNTED, Granted, REFUSED, Rejected, fingerprint, granted};
use crate::store::credential::wipe;
use crate::store::vault::answer::{Answer, Failure, Refused};
use crate::store::vault::client::{Call, Client, Retry, Space};
use crate::store::vault::errors::explain;
use crate::store::{StoreError, StoreErrorKind};

/// The server gives up after 90 s (its `max_request_duration`). A login that we gave up before may have used the secret id up.
pub(super) const LOGIN: Duration = Duration::from_secs(95);

/// A login ready to be sent.
pub(in crate::store::vault) struct Post {
    path: String,
    /// For messages.
    mount: String,
    body: Value,
    /// Of what it proves with, as whom, and where.
    pub(super) fingerprint: [u8; 32],
    /// What a refusal with this status mostly means.
    hints: &'static [(u16, &'static str)],
    /// Whether wrong ones lock the role.
    locks: bool,
}

/// What is said of a proof that counts towards a lock: by AppRole, by userpass, by LDAP, and where a method has no words of its own. Whatever
/// else is answered with the same status is counted by no server: a directory that cannot be reached, an address that the role is not for
/// (both servers: builtin/credential/approle/path_login.go, userpass/path_login.go, ldap/backend.go, `ErrInvalidCredentials`).
const COUNTED_WORDS: [&str; 6] = [
    "invalid role or secret ID",
    "invalid secret id",
    "invalid username or password",
    "ldap operation failed: failed to bind",
    "ldap operation failed: failed to re-bind",
    "invalid credentials",
];

/// What the refusal of a proof that counts towards a lock says beside its reason.
const HELD_BACK: &str =
    "it is not sent again for an hour, unless it changes or Keyward is started anew: wrong ones lock the role, also for the right one";

impl Post {
    /// `rest` is the path below the mount; `proves` what is not to be sent again where it was refused there.
    pub(super) fn new(mount: &Mount, rest: &[&str], body: Value, proves: &[&[u8]], hints: &'static [(u16, &'static str)]) -> Self {
        let path = mount.path(rest.iter().copied());
        // The same at another place is another login: a reload may have mended the mount.
        let what: Vec<&[u8]> = std::iter::once(path.as_bytes()).chain(proves.iter().copied()).collect();
        Self { mount: mount.shown(), body, fingerprint: fingerprint(&what), hints, locks: false, path }
    }

    /// The same, where the store counts wrong ones and locks the role: that of AppRole, userpass and LDAP.
    pub(super) fn locking(mut self) -> Self {
        self.locks = true;
        self
    }

    /// Sends it. Never again once it may have run: it may use up what it proves with, and each makes a token.
    pub(super) async fn send(&self, client: &Client) -> Result<Answer, Failure> {
        let call = Call {
            method: Method::POST,
            body: Some(&self.body),
            limit: Some(LOGIN),
            // A standby that lags behind takes a secret id that was just made for a wrong one.
            fresh: true,
            space: Space::Login,
            ..Call::get("login", &self.path)
        };
        client.call(&call, None, Retry::Unsent).await
    }

    /// Sends it and reads the token.
    pub(super) async fn log_in(&self, client: &Client) -> Result<Granted, Rejected> {
        granted(&self.send(client).await.map_err(|failure| self.explain(failure))?)
    }

    /// `LoginFailed`, where the store said no.
    pub(super) fn explain(&self, failure: Failure) -> Rejected {
        let (status, counted) = match &failure {
            Failure::Refused(refused) if is_no(refused) => (refused.status, self.locks && is_counted(refused)),
            _ => return explain(&format!("login at {}", self.mount), failure).into(),
        };
        let error = explain(&format!("login at {}", self.mount), failure);
        let hint = if counted { Some(HELD_BACK) } else { self.hints.iter().find(|(of, _)| *of == status).map(|(_, hint)| *hint) };
        let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        let error = StoreError::new(StoreErrorKind::LoginFailed, format!("{}{hint}", error.detail));
        Rejected::new(error, if counted { COUNTED } else { REFUSED })
    }
}

/// Whether the store refused the login itself.
pub(super) fn is_no(refused: &Refused) -> bool {
    matches!(refused.status, 400 | 403 | 404)
}

/// Whether the store counts it towards a lock, which itself is a 403.
fn is_counted(refused: &Refused) -> bool {
    refused.status == 400 && COUNTED_WORDS.into_iter().any(|words| refused.says(words))
}

impl Drop for Post {
    fn drop(&mut self) {
        wipe(&mut self.body);
    }
}
