//! One call to the HTTP API, tried as often as that is safe, at whichever of the store's servers answers (vault.md §1, §11, §14.1, §14.2).
//!
//! client/exchange.rs sends one request and bounds it; client/route.rs knows the servers; client/retry.rs says which failures are tried
//! again, client/breaker.rs when a store counts as away; client/consistency.rs keeps reads from lagging behind what was written;
//! client/heard.rs says once what a server warns of.

mod breaker;
mod consistency;
mod exchange;
mod heard;
mod retry;
mod route;

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use rustls::client::ResolvesClientCert;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use self::breaker::{Breaker, Change};
use self::consistency::Seen;
use self::exchange::late;
use self::heard::Heard;
use self::retry::{Allowance, Next, Tries};
use self::route::Route;
use super::answer::{Answer, Failure};
use super::settings::Settings;
use crate::SessionId;
use crate::store::{Observer, StoreError, StoreErrorKind};

pub(super) use self::retry::Retry;

const FIRST_BYTE: Duration = Duration::from_secs(10);
/// All tries of one call together, unless a single one may take longer by the settings.
const BUDGET: Duration = Duration::from_secs(10);

/// The way to one store, in one namespace.
pub(super) struct Client {
    pub(super) name: String,
    pub(super) observer: Arc<dyn Observer>,
    route: Route,
    namespace: Option<HeaderValue>,
    login_namespace: Option<HeaderValue>,
    first_byte: Duration,
    seen: Seen,
    allowance: Allowance,
    breaker: Breaker,
    heard: Heard,
}

/// What is sent. The path is encoded already and begins after `/v1/`.
pub(super) struct Call<'a> {
    pub(super) operation: &'static str,
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) query: Option<(&'static str, String)>,
    pub(super) body: Option<&'a Value>,
    pub(super) session: Option<SessionId>,
    /// Not from a standby that lags behind.
    pub(super) fresh: bool,
    /// How long the answer may take to begin, of a call that the server hands on to somebody else, or that must not be cut off. `None`: the
    /// store's own time.
    pub(super) limit: Option<Duration>,
    /// Whoever sends it waits between tries by himself, and has no other way: it is sent also while the store counts as away.
    pub(super) paced: bool,
    pub(super) space: Space,
    /// The answer comes wrapped, for this time as the server reads it: what it hides can be had once.
    pub(super) wrap: Option<&'static str>,
}

/// Whose namespace a call is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    /// That of the secrets.
    Secrets,
    /// That of our login, to which our token belongs.
    Login,
}

impl<'a> Call<'a> {
    /// A plain read.
    pub(super) const fn get(operation: &'static str, path: &'a str) -> Self {
        Self {
            operation,
            method: Method::GET,
            path,
            query: None,
            body: None,
            session: None,
            fresh: false,
            limit: None,
            paced: false,
            space: Space::Secrets,
            wrap: None,
        }
    }
}

impl Client {
    /// # Errors
    /// What of the settings cannot be used, without a secret.
    pub(super) fn new(name: &str, settings: &Settings, observer: Arc<dyn Observer>) -> Result<Self, String> {
        let route = Route::new(settings)?;
        let namespace = |text: &str| Some(text).filter(|text| !text.is_empty()).map(HeaderValue::from_str).transpose();
        Ok(Self {
            name: name.to_owned(),
            observer,
            route,
            namespace: namespace(settings.namespace()).map_err(|_| "namespace: a text without control characters")?,
            login_namespace: namespace(settings.login_namespace()).map_err(|_| "auth.namespace: a text without control characters")?,
            first_byte: settings.timeout.map(keyward_config::Period::get).filter(|time| !time.is_zero()).unwrap_or(FIRST_BYTE),
            seen: Seen::default(),
            allowance: Allowance::new(Instant::now()),
            breaker: Breaker::default(),
            heard: Heard::default(),
        })
    }

    /// Where the store is, for telling it from others: its addresses, as the file has them.
    pub(super) fn origins(&self) -> impl Iterator<Item = &str> {
        self.route.origins()
    }

    /// Shows this certificate to the servers from now on.
    pub(super) fn show(&self, certificate: &Arc<dyn ResolvesClientCert>) {
        self.route.show(certificate);
    }

    /// Sends a call, and again as far as that is safe, within ten seconds. Only a call that has a limit of its own may take longer: cut
    /// off, it might have run.
    ///
    /// # Errors
    /// The last failure. `Store`: it was not sent, because the store counts as away.
    pub(super) async fn call(&self, call: &Call<'_>, token: Option<&HeaderValue>, retry: Retry) -> Result<Answer, Failure> {
        let (began, budget) = (Instant::now(), BUDGET.max(self.first_byte));
        if !call.paced {
            let away = |why: String| Failure::Store(StoreError::new(StoreErrorKind::Unavailable, why));
            self.breaker.admit(began).map_err(away)?;
        }
        self.allowance.earn();
        let (mut tries, mut moves) = (Tries::new(retry, budget), 1);
        loop {
            let (number, node) = self.route.current();
            let asked = Instant::now();
            let result = match call.limit {
                Some(_) => self.once(node, call, token, asked).await,
                None => timeout(budget.saturating_sub(began.elapsed()), self.once(node, call, token, asked))
                    .await
                    .unwrap_or_else(|_| Err(late())),
            };
            self.observer.store_call(&self.name, call.operation, outcome(&result), asked.elapsed());
            self.judge(&result, call);
            let failure = match result {
                Ok(answer) => {
                    self.tell_warnings(&answer, call.operation);
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            let mut next = Next::Same;
            if retry::leaves_the_node(&failure, call.limit.is_some()) {
                node.reconnect();
                if self.route.leave(number) && moves < self.route.len() {
                    moves = moves.saturating_add(1);
                    next = Next::Other;
                }
            }
            let Some(pause) = tries.after(&failure, began.elapsed(), next) else { return Err(failure) };
            if self.breaker.is_open() || !self.allowance.spend(Instant::now()) {
                return Err(failure);
            }
            sleep(pause).await;
        }
    }

    /// Draws from what came of a try what it means for those to come.
    fn judge(&self, result: &Result<Answer, Failure>, call: &Call<'_>) {
        if let Err(Failure::Refused(refused)) = result
            && refused.blames_a_header()
        {
            self.seen.forget(refused);
        }
        let store = &self.name;
        match self.breaker.note(breaker::sign(result, call), Instant::now()) {
            Some(Change::Opened) => {
                let why = result.as_ref().err().map(Failure::brief).unwrap_or_default();
                tracing::warn!(
                    store,
                    why,
                    "the store is away: until it is back, one call every few seconds is sent to it, and others fail at once"
                );
                self.observer.store_away(store, true);
            }
            Some(Change::Closed { away }) => {
                tracing::info!(store, seconds = away.as_secs(), "the store is back");
                self.observer.store_away(store, false);
            }
            None => {}
        }
    }
}

/// Whoever counts would hear nothing more of a store that is let go while it counts as away: a reload has put another one in its place.
impl Drop for Client {
    fn drop(&mut self) {
        if self.breaker.is_open() {
            self.observer.store_away(&self.name, false);
        }
    }
}

/// The segments of a path, each percent-encoded.
pub(super) fn encode<'a>(segments: impl IntoIterator<Item = &'a str>) -> String {
    let mut path = String::new();
    for segment in segments {
        if !path.is_empty() {
            path.push('/');
        }
        for byte in segment.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' | b':' | b'=' | b',' => {
                    path.push(char::from(byte))
                }
                _ => path.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    path
}

fn outcome(result: &Result<Answer, Failure>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(Failure::Unreached(_)) => "unreached",
        Err(Failure::Unanswered(_) | Failure::TooLong) => "unanswered",
        Err(Failure::Store(_)) => "not_sent",
        Err(Failure::Refused(refused)) => match StatusCode::from_u16(refused.status) {
            Ok(StatusCode::TEMPORARY_REDIRECT) => "unreached",
            Ok(StatusCode::FORBIDDEN) => "forbidden",
            Ok(StatusCode::NOT_FOUND) => "not_found",
            Ok(StatusCode::TOO_MANY_REQUESTS) => "throttled",
            Ok(status) if status.is_server_error() => "server_error",
            _ => "refused",
        },
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
pub(super) mod tests;
