//! One call to the HTTP API: its headers, its limits, its envelope, and how often it may be tried (vault.md §1, §11, §14.1, §14.2).

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};
use serde_json::Value;
use zeroize::Zeroizing;

use super::answer::{Answer, Failure, Refused, decode};
use super::settings::Settings;
use super::tls;
use crate::SessionId;
use crate::store::Observer;
use crate::store::keeper::jitter;

const CONNECT: Duration = Duration::from_secs(2);
const FIRST_BYTE: Duration = Duration::from_secs(10);
/// From the first byte of an answer to its last.
const BODY: Duration = Duration::from_secs(10);
/// All tries of one call together.
const BUDGET: Duration = Duration::from_secs(10);
const TRIES: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest answer that is read, in bytes.
const MAX_BODY: usize = 1024 * 1024;
const REDIRECTS: u32 = 2;

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
const WRAP: HeaderName = HeaderName::from_static("x-vault-wrap-ttl");
const INDEX: HeaderName = HeaderName::from_static("x-vault-index");
const INCONSISTENT: HeaderName = HeaderName::from_static("x-vault-inconsistent");
const CORRELATION: HeaderName = HeaderName::from_static("x-correlation-id");

/// The way to one server, in one namespace.
pub(super) struct Client {
    pub(super) name: String,
    pub(super) observer: Arc<dyn Observer>,
    http: reqwest::Client,
    base: Url,
    /// The address as the file says it, whatever name is asked for there.
    origin: String,
    namespace: Option<HeaderValue>,
    login_namespace: Option<HeaderValue>,
    first_byte: Duration,
    /// The newest state of the server that we saw. A read that must not be stale asks for at least that.
    index: Mutex<Option<HeaderValue>>,
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
    /// How long the answer may take to begin. `None`: the store's own time.
    pub(super) limit: Option<Duration>,
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

/// How often a call may be tried.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// Doing it twice does no harm.
    Idempotent,
    /// Only while it certainly did not run.
    Unsent,
}

impl<'a> Call<'a> {
    /// A plain read.
    pub(super) const fn get(operation: &'static str, path: &'a str) -> Self {
        Self { operation, method: Method::GET, path, query: None, body: None, session: None, fresh: false, limit: None, space: Space::Secrets, wrap: None }
    }
}

impl Client {
    /// # Errors
    /// What of the settings cannot be used, without a secret.
    pub(super) fn new(name: &str, settings: &Settings, observer: Arc<dyn Observer>) -> Result<Self, String> {
        let mut base = Url::parse(settings.addresses()?.first().map_or("", String::as_str)).map_err(|error| format!("address: {error}; write https://host:8200"))?;
        let host = base.host_str().ok_or("address: there is no host in it; write https://host:8200")?.to_owned();
        match base.scheme() {
            "https" => {}
            "http" if is_loopback(&host) || settings.insecure.is_some() => {}
            "http" => return Err("address: plain http would show every secret; write https://, or say why not in `insecure`".to_owned()),
            _ => return Err("address: write https://host:8200".to_owned()),
        }
        if !base.username().is_empty() || base.password().is_some() || base.query().is_some() || base.fragment().is_some() {
            return Err("address: only a scheme, a host, a port and a path".to_owned());
        }
        let origin = base.as_str().trim_end_matches('/').to_owned();
        let mut http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::config(settings)?)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT)
            .pool_idle_timeout(Duration::from_secs(60))
            .user_agent(concat!("keyward/", env!("CARGO_PKG_VERSION")));
        if let Some(server_name) = &settings.tls_server_name {
            // The name in the URL is the one asked for and verified; the resolver leads it to the real host.
            let port = base.port_or_known_default();
            base.set_host(Some(server_name)).map_err(|error| format!("tls_server_name: {error}"))?;
            base.set_port(port).map_err(|()| "address: no port can be set")?;
            http = http.dns_resolver(Arc::new(LeadsTo(host)));
        }
        let namespace = |text: &str| Some(text).filter(|text| !text.is_empty()).map(HeaderValue::from_str).transpose();
        Ok(Self {
            name: name.to_owned(),
            observer,
            http: http.build().map_err(|error| error.to_string())?,
            base,
            origin,
            namespace: namespace(settings.namespace()).map_err(|_| "namespace: a text without control characters")?,
            login_namespace: namespace(settings.login_namespace()).map_err(|_| "auth.namespace: a text without control characters")?,
            first_byte: settings.timeout.map(keyward_config::Period::get).filter(|time| !time.is_zero()).unwrap_or(FIRST_BYTE),
            index: Mutex::new(None),
        })
    }

    /// Where the server is, for telling it from others.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// Sends a call, and again as far as that is safe, within ten seconds. Only a call that has a limit of its own may take longer: cut
    /// off, it might have run.
    pub(super) async fn call(&self, call: &Call<'_>, token: Option<&HeaderValue>, retry: Retry) -> Result<Answer, Failure> {
        let began = Instant::now();
        let mut wait = FIRST_WAIT;
        let mut tries = 1_u32;
        loop {
            let asked = Instant::now();
            let left = BUDGET.saturating_sub(began.elapsed());
            let result = if tries == 1 || call.limit.is_some() {
                self.once(call, token, asked).await
            } else {
                tokio::time::timeout(left, self.once(call, token, asked)).await.unwrap_or_else(|_| Err(late()))
            };
            self.observer.store_call(&self.name, call.operation, outcome(&result), asked.elapsed());
            let failure = match result {
                Err(failure) if tries < TRIES && may_retry(&failure, retry) => failure,
                result => return result,
            };
            let pause = match &failure {
                Failure::Refused(Refused { retry_after: Some(after), .. }) => after.saturating_add(jitter(FIRST_WAIT)),
                _ => jitter(wait),
            };
            if began.elapsed().saturating_add(pause) >= BUDGET {
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
            wait = wait.saturating_mul(2);
            tries = tries.saturating_add(1);
        }
    }

    async fn once(&self, call: &Call<'_>, token: Option<&HeaderValue>, asked: Instant) -> Result<Answer, Failure> {
        let mut url = format!("{}/v1/{}", self.base.as_str().trim_end_matches('/'), call.path);
        if let Some((key, value)) = &call.query {
            url.push_str(&format!("?{key}={value}"));
        }
        let mut url = Url::parse(&url).map_err(|error| Failure::Unreached(error.to_string()))?;
        for _ in 0..=REDIRECTS {
            match self.send(call, token, url.clone(), asked).await {
                Err(Failure::Refused(refused)) if refused.status == 307 => {
                    let target = refused.location.as_deref().and_then(|location| self.redirect(location));
                    // A standby forwards by itself or names its leader; anywhere else no token is sent.
                    url = target.ok_or_else(|| Failure::Unreached("a standby sent us to an address that is not the store's".to_owned()))?;
                }
                result => return result,
            }
        }
        Err(Failure::Unreached("the standbys send us in circles".to_owned()))
    }

    async fn send(&self, call: &Call<'_>, token: Option<&HeaderValue>, url: Url, asked: Instant) -> Result<Answer, Failure> {
        let mut request = self.http.request(call.method.clone(), url).headers(self.headers(call, token));
        if let Some(body) = call.body {
            request = request.header(CONTENT_TYPE, "application/json").body(bytes_of(body)?);
        }
        let answer = tokio::time::timeout(call.limit.unwrap_or(self.first_byte), request.send()).await.map_err(|_| late())?;
        let answer = answer.map_err(transport)?;
        if let (Some(index), Ok(mut newest)) = (answer.headers().get(INDEX), self.index.lock()) {
            *newest = Some(index.clone());
        }
        let status = answer.status();
        let retry_after = header(&answer, "retry-after").and_then(|text| text.parse().ok()).map(Duration::from_secs);
        let location = header(&answer, "location").map(str::to_owned);
        let bytes = tokio::time::timeout(BODY, read_body(answer)).await.map_err(|_| late())??;
        match decode(status, &bytes, asked) {
            Err(Failure::Refused(refused)) => Err(Failure::Refused(Refused { retry_after, location, ..refused })),
            decoded => decoded,
        }
    }

    fn headers(&self, call: &Call<'_>, token: Option<&HeaderValue>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("x-vault-request"), HeaderValue::from_static("true"));
        if let Some(token) = token {
            headers.insert(TOKEN, token.clone());
        }
        // The server's own endpoints are not in a namespace.
        let namespace = match call.space {
            Space::Secrets => &self.namespace,
            Space::Login => &self.login_namespace,
        };
        if let Some(namespace) = namespace.as_ref().filter(|_| call.path != "sys/health") {
            headers.insert(NAMESPACE, namespace.clone());
        }
        if let Some(time) = call.wrap {
            headers.insert(WRAP, HeaderValue::from_static(time));
        }
        if let Some(session) = call.session.and_then(|session| HeaderValue::from_str(session.as_str()).ok()) {
            headers.insert(CORRELATION, session);
        }
        if call.fresh {
            headers.insert(INCONSISTENT, HeaderValue::from_static("forward-active-node"));
            if let Some(index) = self.index.lock().ok().and_then(|newest| newest.clone()) {
                headers.insert(INDEX, index);
            }
        }
        headers
    }

    /// Where a standby may send us with our token: the same host by the same scheme, or from loopback to loopback.
    fn redirect(&self, location: &str) -> Option<Url> {
        let target = Url::parse(location).ok()?;
        let (here, there) = (self.base.host_str()?, target.host_str()?);
        let known = here.eq_ignore_ascii_case(there) || (is_loopback(here) && is_loopback(there));
        (known && target.scheme() == self.base.scheme()).then_some(target)
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

/// A body that is wiped when it is sent: it may hold the id of a lease or of a secret.
fn bytes_of(body: &Value) -> Result<Bytes, Failure> {
    let mut text = Zeroizing::new(Vec::with_capacity(1024));
    serde_json::to_writer(&mut *text, body).map_err(|error| Failure::Unreached(error.to_string()))?;
    Ok(Bytes::from_owner(text))
}

fn late() -> Failure {
    Failure::Unanswered("no answer in time".to_owned())
}

async fn read_body(mut answer: Response) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // Room for all of it from the start, where its length is known: growing would leave copies behind.
    let expected = answer.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(16 * 1024);
    let mut bytes = Zeroizing::new(Vec::with_capacity(expected.min(MAX_BODY)));
    while let Some(chunk) = answer.chunk().await.map_err(transport_after_sending)? {
        if bytes.len().saturating_add(chunk.len()) > MAX_BODY {
            return Err(Failure::Unanswered("the answer is longer than 1 MiB".to_owned()));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn header<'a>(answer: &'a Response, name: &str) -> Option<&'a str> {
    answer.headers().get(name).and_then(|value| value.to_str().ok())
}

fn transport(error: reqwest::Error) -> Failure {
    if error.is_connect() || error.is_builder() { Failure::Unreached(causes(error)) } else { Failure::Unanswered(causes(error)) }
}

fn transport_after_sending(error: reqwest::Error) -> Failure {
    Failure::Unanswered(causes(error))
}

fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

fn may_retry(failure: &Failure, retry: Retry) -> bool {
    match failure {
        Failure::Unreached(_) => true,
        Failure::Unanswered(_) => retry == Retry::Idempotent,
        Failure::Refused(refused) => match refused.status {
            412 | 429 => true,
            // Sealed, or without a leader: the server says so itself. A gateway in between does not know whether it ran.
            503 => retry == Retry::Idempotent || refused.is_explained(),
            500 | 502 | 504 => retry == Retry::Idempotent,
            _ => false,
        },
        Failure::Store(_) => false,
    }
}

fn outcome(result: &Result<Answer, Failure>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(Failure::Unreached(_)) => "unreached",
        Err(Failure::Unanswered(_)) => "unanswered",
        Err(Failure::Store(_)) => "no_token",
        Err(Failure::Refused(refused)) => match StatusCode::from_u16(refused.status) {
            Ok(StatusCode::FORBIDDEN) => "forbidden",
            Ok(StatusCode::NOT_FOUND) => "not_found",
            Ok(StatusCode::TOO_MANY_REQUESTS) => "throttled",
            Ok(status) if status.is_server_error() => "server_error",
            _ => "refused",
        },
    }
}

fn is_loopback(host: &str) -> bool {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    literal.eq_ignore_ascii_case("localhost") || literal.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Resolves every name to the addresses of one host.
struct LeadsTo(String);

impl reqwest::dns::Resolve for LeadsTo {
    fn resolve(&self, _name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let host = self.0.trim_start_matches('[').trim_end_matches(']').to_owned();
        let found: BoxFuture<'static, _> = Box::pin(async move {
            let addresses: Vec<_> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            Ok(Box::new(addresses.into_iter()) as reqwest::dns::Addrs)
        });
        found
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
pub(super) mod tests;
