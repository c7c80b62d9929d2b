//! AWS IAM (vault.md §4.6): a signed `GetCallerIdentity`, which the store sends to STS to learn who we are. It shows who signed it and
//! opens nothing else; it is good for 15 minutes.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use keyward_config::SecretInput;
use reqwest::Url;
use serde_json::json;

use super::mount::Mount;
use super::post::Post;
use super::settings::AwsKeys;
use super::sigv4::{AccessKey, Request, authorization};
use crate::store::{Input, Outer, StoreError, StoreErrorKind};

const BODY: &str = "Action=GetCallerIdentity&Version=2011-06-15";
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
/// The region of the STS that is none's.
const GLOBAL: &str = "us-east-1";
const HINTS: &[(u16, &str)] = &[
    (400, "the role does not name this AWS identity; or the STS is not the one that the store asks; or our clock is wrong"),
    (403, "a wrong mount"),
];

/// The login by an AWS identity.
pub(in crate::store::vault) struct Aws {
    mount: Mount,
    role: Option<String>,
    region: String,
    endpoint: Url,
    server_id: Option<String>,
    id: Input,
    secret: Input,
    session_token: Option<Input>,
}

impl Aws {
    pub(super) fn new(keys: &AwsKeys, outer: &Arc<dyn Outer>) -> Result<Self, String> {
        Self::with(keys, outer, &|name| std::env::var(name).ok())
    }

    fn with(keys: &AwsKeys, outer: &Arc<dyn Outer>, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let given = |key, input: &Option<SecretInput>, name: &str| {
            Input::new(key, input.as_ref().unwrap_or(&SecretInput::Env(name.to_owned())), outer)
        };
        if keys.access_key_id.is_some() != keys.secret_access_key.is_some() {
            return Err("auth.access_key_id and auth.secret_access_key belong together".to_owned());
        }
        // The variable is of the variables' key, and of no other.
        let of_variables = keys.access_key_id.is_none() && variable("AWS_SESSION_TOKEN").is_some_and(|token| !token.trim().is_empty());
        let session = keys.session_token.is_some() || of_variables;
        let named = || variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
        let region = keys.region.clone().or_else(named).map(|region| region.trim().to_owned()).filter(|region| !region.is_empty());
        if let Some(region) = region.as_deref().filter(|region| !region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')) {
            return Err(format!("auth.region: {} is no region such as eu-west-1", region.escape_debug()));
        }
        let own = match &region {
            Some(region) => format!("https://sts.{region}.amazonaws.com/"),
            None => "https://sts.amazonaws.com/".to_owned(),
        };
        let endpoint = Url::parse(keys.sts_endpoint.as_deref().unwrap_or(&own)).ok().filter(|url| url.has_host() && url.path() == "/");
        let header = |text: &String| !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
        if keys.server_id.as_ref().is_some_and(|id| !header(id)) {
            return Err("auth.server_id: a text without blanks".to_owned());
        }
        Ok(Self {
            mount: Mount::read("auth.mount", keys.mount.as_deref(), "aws")?,
            role: keys.role.clone(),
            region: region.unwrap_or_else(|| GLOBAL.to_owned()),
            endpoint: endpoint.ok_or("auth.sts_endpoint: write it as `https://sts.example`")?,
            server_id: keys.server_id.clone(),
            id: given("auth.access_key_id", &keys.access_key_id, "AWS_ACCESS_KEY_ID"),
            secret: given("auth.secret_access_key", &keys.secret_access_key, "AWS_SECRET_ACCESS_KEY"),
            session_token: session.then(|| given("auth.session_token", &keys.session_token, "AWS_SESSION_TOKEN")),
        })
    }

    pub(super) async fn prepare(&self) -> Result<Post, StoreError> {
        let session_token = match &self.session_token {
            Some(input) => Some(input.read().await?),
            None => None,
        };
        let key = AccessKey { id: self.id.read().await?, secret: self.secret.read().await?, session_token };
        self.post(&key, Timestamp::now())
    }

    fn post(&self, key: &AccessKey, now: Timestamp) -> Result<Post, StoreError> {
        let unusable = || StoreError::new(StoreErrorKind::LoginFailed, "auth: the AWS key has characters that no header can have");
        if [Some(&key.id), key.session_token.as_ref()].into_iter().flatten().any(|text| !text.chars().all(|c| c.is_ascii_graphic())) {
            return Err(unusable());
        }
        let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let host = match (self.endpoint.host_str(), self.endpoint.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (host, _) => host.unwrap_or_default().to_owned(),
        };
        let mut headers = vec![("content-type", FORM), ("host", host.as_str()), ("x-amz-date", time.as_str())];
        headers.extend(key.session_token.as_ref().map(|token| ("x-amz-security-token", token.as_str())));
        headers.extend(self.server_id.as_deref().map(|id| ("x-vault-aws-iam-server-id", id)));
        let request = Request { time: &time, region: &self.region, service: "sts", headers: headers.clone(), body: BODY };
        let signed = authorization(&request, key);
        // The store makes the host's header itself, of the address of the STS that it knows.
        let mut sent: serde_json::Map<String, serde_json::Value> =
            headers.into_iter().filter(|(name, _)| *name != "host").map(|(name, value)| (canonical(name), json!([value]))).collect();
        sent.insert("Authorization".to_owned(), json!([signed]));
        sent.insert("Content-Length".to_owned(), json!([BODY.len().to_string()]));
        let mut sent = serde_json::Value::Object(sent);
        let mut body = json!({
            "iam_http_request_method": "POST",
            "iam_request_url": STANDARD.encode(self.endpoint.as_str()),
            "iam_request_body": STANDARD.encode(BODY),
            "iam_request_headers": STANDARD.encode(zeroize::Zeroizing::new(sent.to_string()).as_bytes()),
        });
        crate::store::credential::wipe(&mut sent);
        if let (Some(role), Some(map)) = (&self.role, body.as_object_mut()) {
            map.insert("role".to_owned(), role.as_str().into());
        }
        let token = key.session_token.as_ref().map(|token| token.as_bytes()).unwrap_or_default();
        let asked = [self.role.as_deref(), Some(self.region.as_str()), Some(self.endpoint.as_str()), self.server_id.as_deref()];
        let asked = asked.map(|text| text.unwrap_or_default().as_bytes());
        let proves = [[key.id.as_bytes(), key.secret.as_bytes(), token].as_slice(), asked.as_slice()].concat();
        Ok(Post::new(&self.mount, &["login"], body, &proves, HINTS))
    }
}

/// `x-amz-date` as `X-Amz-Date`, the form in which the store looks for its own.
fn canonical(name: &str) -> String {
    match name {
        "x-vault-aws-iam-server-id" => "X-Vault-AWS-IAM-Server-ID".to_owned(),
        _ => {
            let word = |word: &str| word.chars().enumerate().map(|(at, c)| if at == 0 { c.to_ascii_uppercase() } else { c }).collect();
            name.split('-').map(word).collect::<Vec<String>>().join("-")
        }
    }
}

#[cfg(test)]
mod tests;
