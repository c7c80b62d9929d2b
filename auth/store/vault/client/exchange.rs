//! One request and its answer, every part of it bounded (vault.md §1, §14.1).

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Response, Url};
use serde_json::Value;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::super::answer::{Answer, Failure, Refused, decode};
use super::route::Node;
use super::{Call, Client, Space};

/// From the first byte of an answer to its last.
const BODY: Duration = Duration::from_secs(10);
/// The longest answer that is read, in bytes.
pub(super) const MAX_BODY: usize = 1024 * 1024;
const REDIRECTS: u32 = 2;

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
const WRAP: HeaderName = HeaderName::from_static("x-vault-wrap-ttl");
const CORRELATION: HeaderName = HeaderName::from_static("x-correlation-id");

impl Client {
    /// Sends a call to a node, and to where it sends us. Nothing is remembered of a leader: the next call asks the node again.
    pub(super) async fn once(&self, node: &Node, call: &Call<'_>, token: Option<&HeaderValue>, asked: Instant) -> Result<Answer, Failure> {
        let (mut node, mut url) = (node, node.url(call.path, call.query.as_ref())?);
        for hop in 0..=REDIRECTS {
            let answer = match self.send(node, call, token, url.clone(), asked).await {
                Err(Failure::Refused(refused)) if refused.status == 307 => refused,
                Err(Failure::Unreached(why)) if hop > 0 => {
                    return Err(Failure::without_leader(format!("a standby sent us to its leader, which is not there: {why}")));
                }
                result => return result,
            };
            (node, url) = self.route.redirect(node, answer.location.as_deref().unwrap_or_default())?;
        }
        Err(Failure::without_leader("the standbys send us in circles".to_owned()))
    }

    async fn send(&self, node: &Node, call: &Call<'_>, token: Option<&HeaderValue>, url: Url, asked: Instant) -> Result<Answer, Failure> {
        let mut request = node.connections().request(call.method.clone(), url).headers(self.headers(call, token));
        if let Some(body) = call.body {
            request = request.header(CONTENT_TYPE, "application/json").body(bytes_of(body)?);
        }
        let left = call.limit.unwrap_or(self.first_byte).saturating_sub(asked.elapsed());
        let answer = timeout(left, request.send()).await.map_err(|_| late())?.map_err(transport)?;
        let status = answer.status();
        let retry_after = header(&answer, "retry-after").and_then(|text| text.parse().ok()).map(Duration::from_secs);
        let location = header(&answer, "location").map(str::to_owned);
        let headers = answer.headers().clone();
        let bytes = match timeout(BODY, read_body(answer)).await.map_err(|_| late())? {
            // The store's own refusals are short.
            Err(failure @ Failure::TooLong) if !status.is_success() => return Err(Failure::Unanswered(failure.brief())),
            bytes => bytes?,
        };
        let decoded = decode(status, &bytes, asked);
        self.seen.learn(&headers, decoded.as_ref().ok());
        match decoded {
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
        self.seen.mark(&mut headers, call.fresh, token);
        headers
    }
}

/// A body that is wiped when it is sent: it may hold the id of a lease or of a secret.
fn bytes_of(body: &Value) -> Result<Bytes, Failure> {
    let mut text = Zeroizing::new(Vec::with_capacity(1024));
    serde_json::to_writer(&mut *text, body).map_err(|error| Failure::Unreached(error.to_string()))?;
    Ok(Bytes::from_owner(text))
}

pub(super) fn late() -> Failure {
    Failure::Unanswered("no answer in time".to_owned())
}

async fn read_body(mut answer: Response) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // Room for all of it from the start, where its length is known: growing would leave copies behind.
    let expected = answer.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(16 * 1024);
    let mut bytes = Zeroizing::new(Vec::with_capacity(expected.min(MAX_BODY)));
    while let Some(chunk) = answer.chunk().await.map_err(transport_after_sending)? {
        if bytes.len().saturating_add(chunk.len()) > MAX_BODY {
            return Err(Failure::TooLong);
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
    text.push_str(advice(&text));
    text
}

/// What an operator may do about a server that could not be verified.
fn advice(text: &str) -> &'static str {
    if text.contains("UnknownIssuer") {
        " (`ca_cert` names the authority that signed the server's certificate, if it is not one of the system's)"
    } else if text.contains("NotValidForName") || text.contains("not valid for name") {
        " (`tls_server_name` names whom the certificate is for, if that is not the host in `address`)"
    } else if text.contains("certificate expired") || text.contains("Expired") {
        " (renew the server's certificate; or is our clock wrong?)"
    } else if text.contains("not valid yet") || text.contains("NotValidYet") {
        " (is our clock wrong?)"
    } else if text.contains("InvalidContentType") || text.contains("received corrupt message") {
        " (does the server speak plain http there?)"
    } else {
        ""
    }
}
