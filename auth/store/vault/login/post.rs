//! A login that is one request: what proves us is its body.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::mount::Mount;
use super::{Granted, fingerprint, granted};
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
    /// Of what it proves with.
    pub(super) fingerprint: [u8; 32],
    /// What a refusal with this status mostly means.
    hints: &'static [(u16, &'static str)],
}

impl Post {
    /// `rest` is the path below the mount; `proves` what is not to be sent again where it was refused.
    pub(super) fn new(mount: &Mount, rest: &[&str], body: Value, proves: &[&[u8]], hints: &'static [(u16, &'static str)]) -> Self {
        let path = mount.path(rest.iter().copied());
        Self { path, mount: mount.shown(), body, fingerprint: fingerprint(proves), hints }
    }

    /// Sends it. Never again once it may have run: it may use up what it proves with, and each makes a token.
    pub(super) async fn send(&self, client: &Client) -> Result<Answer, Failure> {
        let call = Call {
            method: Method::POST,
            body: Some(&self.body),
            limit: Some(LOGIN),
            space: Space::Login,
            ..Call::get("login", &self.path)
        };
        client.call(&call, None, Retry::Unsent).await
    }

    /// Sends it and reads the token.
    pub(super) async fn log_in(&self, client: &Client) -> Result<Granted, StoreError> {
        granted(&self.send(client).await.map_err(|failure| self.explain(failure))?)
    }

    /// `LoginFailed`, where the store said no.
    pub(super) fn explain(&self, failure: Failure) -> StoreError {
        let status = match &failure {
            Failure::Refused(refused) if is_no(refused) => refused.status,
            _ => return explain(&format!("login at {}", self.mount), failure),
        };
        let error = explain(&format!("login at {}", self.mount), failure);
        let hint = self.hints.iter().find(|(of, _)| *of == status).map(|(_, hint)| format!(" ({hint})"));
        StoreError::new(StoreErrorKind::LoginFailed, format!("{}{}", error.detail, hint.unwrap_or_default()))
    }
}

/// Whether the store refused the login itself.
pub(super) fn is_no(refused: &Refused) -> bool {
    matches!(refused.status, 400 | 403 | 404)
}

impl Drop for Post {
    fn drop(&mut self) {
        wipe(&mut self.body);
    }
}
