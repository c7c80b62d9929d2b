//! Roles of the SSH engine: those that sign a key's certificate, and those that issue one-time passwords (vault.md §10).
//!
//! What a policy has to allow for `credential: ssh/sign/app` and for `credential: ssh/creds/otp`, `keyward policy` prints (policy.rs).
//! The first role is one of `key_type=ca` with `allow_user_certificates=true`, the login names in `allowed_users`, what a session may do in
//! `default_extensions` (without `permit-pty` there is no terminal), and a `max_ttl` of two minutes or more; the servers trust the mount's
//! authority (`TrustedUserCAKeys`). The second is one of `key_type=otp` with the servers in `cidr_list`; they ask `ssh/verify`.

use std::net::IpAddr;
use std::time::Duration;

use keyward_config::UpstreamAddress;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::answer::Failure;
use super::client::{Call, Retry, encode};
use super::database::{ISSUE, issued};
use super::errors::may_have_issued;
use super::{Vault, failed};
use crate::Grant;
use crate::store::{Document, Issued, SecretPath, Signed, StoreError, StoreErrorKind, Use, Wanted};

/// How the server calls the engine.
pub(super) const ENGINE: &str = "ssh";
/// How long a certificate is asked to be good for. It counts only while the upstream lets us in: as long as that may take (sshd's
/// LoginGraceTime is 120 s), with something left for clocks that differ, and no longer, since whoever got hold of it could use it too.
const TTL: &str = "120s";
/// How long the name of a server may take to be resolved.
const RESOLVE: Duration = Duration::from_secs(5);

/// What the server says of a role that does not fit (all with status 400), what it is, and what the operator has to change. Our words stand
/// instead of the server's, which repeat the login name.
const REFUSALS: &[(&str, StoreErrorKind, &str)] = &[
    (
        "is not a valid value for valid_principals",
        StoreErrorKind::Denied,
        "the role does not sign for the account's user name: add it to the role's allowed_users",
    ),
    (
        "not configured to allow any principals",
        StoreErrorKind::Denied,
        "the role signs for no user name: name those of the accounts in the role's allowed_users",
    ),
    (
        "ttl is larger than maximum allowed",
        StoreErrorKind::Denied,
        "the role's max_ttl, or that of its mount, is below the 120 s that a login may take: raise it to 2m",
    ),
    (
        "is not allowed by role",
        StoreErrorKind::Denied,
        "the role signs no certificates of users: it needs key_type=ca and allow_user_certificates=true",
    ),
    (
        "failed to meet the key requirements",
        StoreErrorKind::Denied,
        "the role does not sign Ed25519 keys: add them to its allowed_user_key_lengths ({\"ed25519\": 0}), or leave that setting away",
    ),
    (
        "no default issuer",
        StoreErrorKind::NotFound,
        "the mount has no authority to sign with: make one at its config/ca, and let the servers trust it",
    ),
    ("Unknown role", StoreErrorKind::NotFound, "there is no such role"),
    ("not found", StoreErrorKind::NotFound, "there is no such role"),
    (
        "IP does not belong to role",
        StoreErrorKind::Denied,
        "the role has no one-time passwords for the server's address: add it to the role's cidr_list (it needs key_type=otp)",
    ),
    (
        "allowed users list",
        StoreErrorKind::Denied,
        "the role has no one-time passwords for the account's user name: add it to the role's allowed_users",
    ),
    (
        "No default username",
        StoreErrorKind::Malformed,
        "the role knows no user name: write `username:` beside it, or set the role's default_user (it needs key_type=otp)",
    ),
];

impl Vault {
    /// Signs once more as often as that is needed: a certificate too many does no harm.
    pub(super) async fn sign_key(&self, grant: &Grant, role: &SecretPath, key: &str, principal: &str) -> Result<Signed, StoreError> {
        if let Some(engine) = self.engine_of_role(grant.session(), role).await?.filter(|engine| engine != ENGINE) {
            let what = format!("the mount is of type {engine}; certificates for servers are signed by one of type ssh");
            return Err(StoreError::new(StoreErrorKind::Malformed, format!("{role}: {what}")));
        }
        let api = encode(role.segments());
        let body = json!({ "public_key": key, "valid_principals": principal, "ttl": TTL, "cert_type": "user" });
        let call = Call { method: Method::POST, body: Some(&body), session: Some(grant.session()), ..Call::get("sign", &api) };
        let answer = self.request(&call, Retry::Idempotent).await;
        let (mut answer, _) = answer.map_err(|failure| refused(&format!("asking {role} for a certificate"), failure))?;
        let request_id = answer.text("request_id").to_owned();
        match answer.take_data().get_mut("signed_key").map(Value::take) {
            Some(Value::String(certificate)) => Ok(Signed { certificate, request_id }),
            _ => Err(StoreError::new(StoreErrorKind::Malformed, format!("{role}: there is no certificate in the answer"))),
        }
    }

    /// A password that the server of the grant takes once. It is bound to an address of that server, and never asked for twice.
    pub(super) async fn issue_otp(&self, grant: &Grant, wanted: &Wanted) -> Result<Issued, StoreError> {
        let path = &wanted.path;
        let ip = resolve(grant.address(), path).await?;
        let mut body = json!({ "ip": ip.to_canonical().to_string() });
        if let (Some(username), Some(fields)) = (&wanted.username, body.as_object_mut()) {
            fields.insert("username".to_owned(), Value::from(username.as_str()));
        }
        let api = encode(path.segments());
        let call = Call {
            method: Method::POST,
            body: Some(&body),
            session: Some(grant.session()),
            limit: Some(ISSUE),
            ..Call::get("issue", &api)
        };
        let (mut answer, token) = self.request(&call, Retry::Unsent).await.map_err(|failure| {
            let ambiguous = may_have_issued(&failure);
            let error = refused(&format!("asking {path} for a one-time password"), failure);
            if ambiguous { error.ambiguous() } else { error }
        })?;
        let fields = login(answer.take_data(), wanted.username.as_deref());
        let document = Document::of(fields, answer.text("request_id"));
        issued(document, &answer, &token, path, Use::Login)
    }
}

/// The password and its user by the names that every credential has.
fn login(mut data: Value, username: Option<&str>) -> Value {
    let mut fields = Map::new();
    let of_answer = data.get_mut("username").map(Value::take).filter(Value::is_string);
    fields.insert("username".to_owned(), of_answer.or_else(|| username.map(Value::from)).unwrap_or_default());
    fields.insert("password".to_owned(), data.get_mut("key").map(Value::take).unwrap_or_default());
    crate::store::credential::wipe(&mut data);
    Value::Object(fields)
}

/// The address that a one-time password is bound to: the engine takes no names. The first, where there are several; the server asks only
/// whether it is one of its own.
async fn resolve(address: &UpstreamAddress, path: &SecretPath) -> Result<IpAddr, StoreError> {
    let UpstreamAddress::Tcp { host, .. } = address else {
        let what = "a one-time password is for an address on the network, and the connection leads to a unix socket";
        return Err(StoreError::new(StoreErrorKind::Malformed, format!("{path}: {what}")));
    };
    let unavailable = |what: &str| StoreError::new(StoreErrorKind::Unavailable, format!("{path}: the server's name {what}"));
    let found = tokio::time::timeout(RESOLVE, tokio::net::lookup_host((host.as_str(), 0))).await;
    let found = found.map_err(|_| unavailable("was not resolved in 5 s"))?.map_err(|error| unavailable(&format!("is unknown: {error}")))?;
    found.map(|address| address.ip()).next().ok_or_else(|| unavailable("has no address"))
}

fn refused(what: &str, failure: Failure) -> StoreError {
    if let Failure::Refused(refused) = &failure
        && refused.status == 400
        && let Some((_, kind, advice)) = REFUSALS.iter().find(|(says, _, _)| refused.says(says))
    {
        return StoreError::new(*kind, format!("{what}: {advice}"));
    }
    failed(what)(failure)
}
