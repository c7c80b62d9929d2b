//! Logins, and what happens to our token while we use it.

use super::*;
use crate::store::StoreErrorKind;

pub(super) struct Role {
    pub(super) mount: String,
    pub(super) role_id: String,
    pub(super) secret_id: String,
    /// A KV mount that the role may read.
    pub(super) secrets: String,
}

impl Role {
    /// A role whose tokens have these settings.
    pub(super) async fn with(settings: Value) -> Self {
        let secrets = kv("2", "p", json!({"username": "app", "password": "x"})).await;
        let (mount, policy) = (unique("team/approle"), unique("policy"));
        let rules = format!("path \"{secrets}/data/p\" {{ capabilities = [\"read\"] }}");
        post(&format!("sys/policies/acl/{policy}"), json!({ "policy": rules })).await;
        post(&format!("sys/auth/{mount}"), json!({"type": "approle"})).await;
        let mut role = json!({ "token_policies": policy });
        role.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        post(&format!("auth/{mount}/role/keyward"), role).await;
        let id = |body: Value, key: &str| body["data"][key].as_str().unwrap().to_owned();
        let role_id = id(admin(Method::GET, &format!("auth/{mount}/role/keyward/role-id"), json!({})).await, "role_id");
        let secret_id = id(post(&format!("auth/{mount}/role/keyward/secret-id"), json!({})).await, "secret_id");
        Self { mount, role_id, secret_id, secrets }
    }

    pub(super) fn auth(&self, secret_id: &str) -> String {
        format!("{{ method: approle, mount: '/auth/{}/', role_id: {}, secret_id: {secret_id} }}", self.mount, self.role_id)
    }

    pub(super) fn keys(&self, name: &str) -> String {
        format!("username: '{0}/data/{name}?username', password: '{0}/data/{name}?password'", self.secrets)
    }

    pub(super) fn bed(&self) -> Bed {
        let (p, other) = (self.keys("p"), self.keys("other"));
        Bed::open(
            &self.auth(&self.secret_id),
            &[("db", &p), ("forbidden", &other), ("again", &format!("credential: {}/data/p", self.secrets))],
        )
    }

    pub(super) async fn kill_tokens(&self) {
        kill_tokens(&format!("auth/{}/login", self.mount)).await;
    }
}

/// The accessors of the tokens that this path gave.
pub(super) async fn accessors(path: &str) -> Vec<Value> {
    let accessors = admin(Method::from_bytes(b"LIST").unwrap(), "auth/token/accessors", json!({})).await;
    // Each client reads the authorities of the system anew.
    let (client, url) = (reqwest::Client::new(), format!("{}/v1/auth/token/lookup-accessor", bao()));
    let mut found = Vec::new();
    for accessor in accessors["data"]["keys"].as_array().unwrap() {
        let body = json!({ "accessor": accessor });
        // Tokens of other tests come and go.
        let token = client.post(&url).header("x-vault-token", ROOT).json(&body).send().await.unwrap();
        let token: Value = token.json().await.unwrap();
        if token["data"]["path"] == path {
            found.push(accessor.clone());
        }
    }
    found
}

/// Revokes the tokens that this path gave; how many.
pub(super) async fn kill_tokens(path: &str) -> usize {
    let found = accessors(path).await;
    for accessor in &found {
        post("auth/token/revoke-accessor", json!({ "accessor": accessor })).await;
    }
    found.len()
}

#[tokio::test]
async fn a_role_reads_what_its_policy_allows_and_a_denial_is_no_reason_to_log_in_again() {
    let bed = Role::with(json!({})).await.bed();
    assert_eq!(password(&*bed.credential("db").await), "x");
    for _ in 0..3 {
        assert_eq!(bed.error("forbidden").await.kind, StoreErrorKind::Denied);
    }
    assert_eq!(bed.seen.count("login ok"), 1);
    let status = bed.gate.store_status("corp").await.unwrap();
    assert!(status.version.starts_with('2'), "{status:?}");
    assert!(status.renewable && status.token_left.is_some() && status.warnings.is_empty(), "{status:?}");
}

#[tokio::test]
async fn a_token_that_was_revoked_is_replaced_once() {
    let role = Role::with(json!({})).await;
    let bed = role.bed();
    bed.credential("db").await;
    role.kill_tokens().await;
    let (grant_a, grant_b) = (bed.grant("again"), bed.grant("forbidden"));
    let (again, forbidden) = tokio::join!(bed.gate.lease(&grant_a), bed.gate.lease(&grant_b));
    assert_eq!(again.unwrap().credential().unwrap().username(), "app");
    assert_eq!(forbidden.unwrap_err().kind, StoreErrorKind::Denied);
    assert_eq!(bed.seen.count("login ok"), 2);
    // Once more within 30 s: that is no accident, and no storm of logins.
    role.kill_tokens().await;
    for _ in 0..3 {
        assert_eq!(bed.error("forbidden").await.kind, StoreErrorKind::LoginFailed);
    }
    assert_eq!(bed.seen.count("login ok"), 2);
}

#[tokio::test]
async fn a_wrong_secret_id_is_sent_once_and_a_right_one_in_the_file_is_taken_up() {
    let role = Role::with(json!({})).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret_id");
    std::fs::write(&file, "wrong-canary\n").unwrap();
    let bed = Bed::open(&role.auth(&format!("{{ file: '{}' }}", file.display())), &[("db", &role.keys("p"))]);
    for _ in 0..7 {
        let error = bed.error("db").await;
        assert_eq!(error.kind, StoreErrorKind::LoginFailed);
        assert!(!error.detail.contains("canary") && error.detail.contains("invalid"), "{error}");
    }
    assert_eq!(bed.seen.count("login refused"), 1, "five would lock the role");
    std::fs::write(&file, format!("{}\n", role.secret_id)).unwrap();
    assert_eq!(password(&*bed.credential("db").await), "x");
}

#[tokio::test]
async fn a_periodic_token_is_renewed_and_never_replaced() {
    let bed = Role::with(json!({"token_period": 9})).await.bed();
    bed.credential("db").await;
    bed.seen.wait_for("token_renew ok", 2).await;
    // More than its nine seconds have passed by now.
    assert_eq!(bed.credential("again").await.username(), "app");
    assert_eq!(bed.seen.count("login ok"), 1);
}

#[tokio::test]
async fn a_token_that_cannot_be_renewed_further_is_replaced_before_it_dies() {
    let bed = Role::with(json!({"token_ttl": 12, "token_max_ttl": 18})).await.bed();
    bed.credential("db").await;
    bed.seen.wait_for("login ok", 2).await;
    assert_eq!(bed.credential("again").await.username(), "app");
    assert_eq!(bed.seen.count("login refused"), 0);
}

#[tokio::test]
async fn tokens_with_limited_uses_and_root_tokens_are_told() {
    let limited = Role::with(json!({"token_num_uses": 5})).await.bed();
    let error = limited.error("db").await;
    assert_eq!(error.kind, StoreErrorKind::LoginFailed);
    assert!(error.detail.contains("token_num_uses"), "{error}");
    let status = Bed::as_root(&[]).gate.store_status("corp").await.unwrap();
    assert!(status.warnings.iter().any(|warning| warning.contains("root")), "{status:?}");
    assert_eq!(status.token_left, None);
    let unknown = Bed::open("{ method: token, token: s.canary }", &[]);
    let error = unknown.gate.store_status("corp").await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::LoginFailed);
    assert!(!error.detail.contains("canary"), "{error}");
}

#[tokio::test]
async fn a_token_bound_to_another_address_is_explained_and_ends_in_no_storm() {
    let bed = Role::with(json!({"token_bound_cidrs": ["192.0.2.0/24"]})).await.bed();
    for _ in 0..3 {
        let error = bed.error("db").await;
        assert!(matches!(error.kind, StoreErrorKind::LoginFailed | StoreErrorKind::Denied), "{error}");
    }
    let error = bed.error("db").await;
    assert_eq!(bed.seen.count("login ok"), 2, "{:?}", bed.seen.0.borrow());
    assert!(error.detail.contains("token_bound_cidrs"), "{error}");
}
