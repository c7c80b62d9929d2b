//! Every way to log in, each as the server answers it: vault.md §3.2, §4.1, §4.5, §6.

mod certificate;
mod given;
mod jwt;
mod runners;
mod wrapped;

use super::access::Role;
use super::own::{Own, secret};
use super::*;
use crate::store::StoreErrorKind;

/// A policy that lets its owner read the secret `p` of a KV mount.
async fn policy(secrets: &str) -> String {
    let policy = unique("policy");
    let rules = format!("path \"{secrets}/data/p\" {{ capabilities = [\"read\"] }}");
    post(&format!("sys/policies/acl/{policy}"), json!({ "policy": rules })).await;
    policy
}

/// A KV mount with the secret `p`, and a policy that lets it be read.
async fn secrets() -> (String, String) {
    let secrets = kv("2", "p", json!({"username": "app", "password": "x"})).await;
    let policy = policy(&secrets).await;
    (secrets, policy)
}

fn credential(secrets: &str) -> String {
    format!("credential: {secrets}/data/p")
}

/// What the login was refused with; all further tries say the same without asking again.
async fn refused(bed: &Bed) -> String {
    let error = bed.error("db").await;
    assert_eq!(error.kind, StoreErrorKind::LoginFailed, "{error}");
    let asked = bed.seen.count("login refused") + bed.seen.count("login forbidden");
    for _ in 0..5 {
        assert_eq!(bed.error("db").await.kind, StoreErrorKind::LoginFailed);
    }
    assert_eq!(bed.seen.count("login refused") + bed.seen.count("login forbidden"), asked, "five would lock it");
    error.detail
}

#[tokio::test]
async fn a_role_without_secret_ids_needs_none_and_one_that_has_them_says_so() {
    let free = Role::with(json!({"secret_id_bound_cidrs": ["127.0.0.0/8"]})).await;
    post(&format!("auth/{}/role/keyward", free.mount), json!({"bind_secret_id": false})).await;
    let auth = format!("{{ method: approle, mount: {}, role_id: {} }}", free.mount, free.role_id);
    let bed = Bed::open(&auth, &[("db", &credential(&free.secrets))]);
    assert_eq!(password(&*bed.credential("db").await), "x");
    let bound = Role::with(json!({})).await;
    let auth = format!("{{ method: approle, mount: {}, role_id: {} }}", bound.mount, bound.role_id);
    let said = refused(&Bed::open(&auth, &[("db", &credential(&bound.secrets))])).await;
    assert!(said.contains("missing secret_id"), "{said}");
}

#[tokio::test]
async fn the_ids_of_another_role_another_mount_and_another_address_are_refused_with_the_reason() {
    let role = Role::with(json!({})).await;
    let connections = credential(&role.secrets);
    let open = |mount: &str, role_id: &str| {
        let secret_id = &role.secret_id;
        let auth = format!("{{ method: approle, mount: '{mount}', role_id: '{role_id}', secret_id: '{secret_id}' }}");
        Bed::open(&auth, &[("db", &connections)])
    };
    let said = refused(&open(&role.mount, "nobody")).await;
    assert!(said.contains("invalid role or secret ID"), "{said}");
    let said = refused(&open("nowhere", &role.role_id)).await;
    assert!(said.contains("auth/nowhere") && said.contains("wrong mount"), "{said}");
    let other = Role::with(json!({})).await;
    let said = refused(&open(&other.mount, &role.role_id)).await;
    assert!(said.contains(&format!("auth/{}: status 400: invalid role or secret ID (it is not sent again", other.mount)), "{said}");
    let far = Role::with(json!({"secret_id_bound_cidrs": ["192.0.2.0/24"]})).await;
    let said = refused(&far.bed()).await;
    assert!(said.contains("unauthorized by CIDR restrictions"), "{said}");
}

#[tokio::test]
async fn a_role_that_somebody_else_has_locked_is_told_as_such() {
    let role = Role::with(json!({})).await;
    for _ in 0..5 {
        let body = json!({"role_id": role.role_id, "secret_id": "wrong"});
        let url = format!("{}/v1/auth/{}/login", bao(), role.mount);
        reqwest::Client::new().post(url).json(&body).send().await.unwrap();
    }
    let said = refused(&role.bed()).await;
    assert!(said.contains("locked for 15 minutes"), "{said}");
}

#[tokio::test]
async fn a_secret_id_for_one_login_is_no_use_for_a_second() {
    let role = Role::with(json!({"secret_id_num_uses": 1})).await;
    let bed = role.bed();
    bed.credential("db").await;
    role.kill_tokens().await;
    let error = bed.error("forbidden").await;
    assert_eq!(error.kind, StoreErrorKind::LoginFailed);
    assert!(error.detail.contains("invalid role or secret ID"), "{error}");
}

#[tokio::test]
async fn a_secret_id_whose_time_is_over_is_refused_as_a_wrong_one() {
    let role = Role::with(json!({})).await;
    let path = format!("auth/{}/role/keyward/secret-id", role.mount);
    let made = post(&path, json!({"ttl": "1s"})).await;
    let secret_id = made["data"]["secret_id"].as_str().unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    while !post(&format!("{path}/lookup"), json!({ "secret_id": secret_id })).await.is_null() {
        assert!(Instant::now() < end, "it does not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let said = refused(&Bed::open(&role.auth(secret_id), &[("db", &role.keys("p"))])).await;
    assert!(said.contains("invalid role or secret ID") && said.contains("not sent again for an hour"), "{said}");
}

#[tokio::test]
async fn a_login_at_a_server_that_is_sealed_is_no_refusal_and_gets_in_once_it_is_open() {
    let (store, keys) = Own::alone(&binary(), "").await;
    let mount = store.kv(&keys).await;
    let auth = store.approle(&keys, &format!("path \"{mount}/data/p\" {{ capabilities = [\"read\"] }}")).await;
    store.ask(Method::PUT, "sys/seal", Some(&keys), json!({})).await;
    let bed = Bed::of(&format!("address: '{}', auth: {auth}", store.address()), &[("db", &secret(&mount))]);
    let error = bed.error("db").await;
    assert!(error.kind == StoreErrorKind::Unavailable && error.detail.contains("sealed"), "{error}");
    assert!(bed.seen.count("login server_error") > 0, "{:?}", bed.seen.0.borrow());
    store.unseal(&keys).await;
    store.eventually("to let us in", async || bed.lease("db").await.is_ok()).await;
    assert_eq!(bed.seen.count("login ok"), 1);
}

#[tokio::test]
async fn a_user_logs_in_with_his_password_and_a_wrong_one_does_not_lock_him() {
    let (secrets, policy) = secrets().await;
    let mount = unique("userpass");
    post(&format!("sys/auth/{mount}"), json!({"type": "userpass"})).await;
    post(&format!("auth/{mount}/users/keyward"), json!({"password": "right-canary", "token_policies": policy})).await;
    let open = |user: &str, password: &str| {
        let auth = format!("{{ method: userpass, mount: {mount}, username: {user}, password: {password} }}");
        Bed::open(&auth, &[("db", &credential(&secrets))])
    };
    assert_eq!(password(&*open("Keyward", "right-canary").credential("db").await), "x", "the server does not care for case");
    for (user, word) in [("keyward", "wrong-canary"), ("nobody", "right-canary")] {
        let said = refused(&open(user, word)).await;
        assert!(said.contains("invalid username or password") && !said.contains("canary"), "{said}");
    }
    assert_eq!(password(&*open("keyward", "right-canary").credential("db").await), "x");
}

#[tokio::test]
async fn a_batch_token_is_replaced_before_its_end() {
    let bed = Role::with(json!({"token_type": "batch", "token_ttl": 9})).await.bed();
    bed.credential("db").await;
    bed.seen.wait_for("login ok", 3).await;
    assert_eq!(bed.credential("again").await.username(), "app");
    assert_eq!(bed.seen.count("token_renew refused"), 0);
}

#[tokio::test]
async fn a_token_is_renewed_although_the_secret_id_that_got_it_is_gone() {
    let role = Role::with(json!({"token_period": 9})).await;
    let bed = role.bed();
    bed.credential("db").await;
    post(&format!("auth/{}/role/keyward/secret-id/destroy", role.mount), json!({"secret_id": role.secret_id})).await;
    bed.seen.wait_for("token_renew ok", 2).await;
    assert_eq!(bed.credential("again").await.username(), "app");
    assert_eq!(bed.seen.count("login ok"), 1);
}

#[tokio::test]
async fn a_token_whose_role_is_gone_is_used_to_its_end_and_its_end_is_told() {
    let role = Role::with(json!({"token_ttl": 24})).await;
    let bed = role.bed();
    bed.credential("db").await;
    admin(Method::DELETE, &format!("auth/{}/role/keyward", role.mount), json!({})).await;
    let warned = |status: crate::StoreStatus| status.warnings.iter().any(|warning| warning.contains("nothing replaces it"));
    let end = Instant::now() + Duration::from_secs(60);
    while !warned(bed.gate.store_status("corp").await.unwrap()) {
        assert!(Instant::now() < end, "nobody was told");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(bed.credential("again").await.username(), "app", "it works until then");
    while bed.gate.store_status("corp").await.is_ok() {
        assert!(Instant::now() < end, "it lives for ever");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(bed.error("forbidden").await.kind, StoreErrorKind::LoginFailed);
}

/// A token with these settings that may read `policy`'s secret.
async fn token(policy: &str, settings: Value) -> String {
    let mut body = json!({ "policies": [policy] });
    body.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    post("auth/token/create", body).await["auth"]["client_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_token_that_another_one_replaces_in_its_file_is_taken_at_once() {
    let ((first, may_first), (second, may_second)) = (secrets().await, secrets().await);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, token(&may_first, json!({"ttl": "1h"})).await + "\n").unwrap();
    let auth = format!("{{ method: token, token: {{ file: '{}' }} }}", file.display());
    let bed = Bed::open(&auth, &[("first", &credential(&first)), ("second", &credential(&second))]);
    assert_eq!(password(&*bed.credential("first").await), "x");
    assert_eq!(bed.error("second").await.kind, StoreErrorKind::Denied);
    // One that is no good changes nothing, and nor does that the file is away.
    std::fs::write(&file, "s.nobody-knows-it\n").unwrap();
    bed.seen.wait_for("token_lookup forbidden", 1).await;
    assert_eq!(bed.error("second").await.kind, StoreErrorKind::Denied);
    std::fs::remove_file(&file).unwrap();
    let lookups = bed.seen.count("token_lookup ok");
    std::fs::write(&file, token(&may_second, json!({"ttl": "1h"})).await + "\n").unwrap();
    bed.seen.wait_for("token_lookup ok", lookups + 1).await;
    wait_for_credential(&bed, "second").await;
}

/// The new token is known a moment after the store has looked at it.
async fn wait_for_credential(bed: &Bed, connection: &str) {
    let end = Instant::now() + Duration::from_secs(30);
    while let Err(error) = bed.lease(connection).await {
        assert!(Instant::now() < end, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_token_that_somebody_made_is_renewed_as_far_as_it_goes_and_said_to_be_dead_then() {
    let (secrets, policy) = secrets().await;
    let connections = [("db", credential(&secrets))];
    let open =
        |token: &str| Bed::open(&format!("{{ method: token, token: {token} }}"), &connections.each_ref().map(|(n, c)| (*n, c.as_str())));
    let periodic = open(&token(&policy, json!({"period": "9s"})).await);
    periodic.credential("db").await;
    periodic.seen.wait_for("token_renew ok", 2).await;
    let fixed = open(&token(&policy, json!({"ttl": "12s", "renewable": false})).await);
    fixed.credential("db").await;
    let status = fixed.gate.store_status("corp").await.unwrap();
    assert!(!status.renewable && status.token_left.is_some(), "{status:?}");
    let end = Instant::now() + Duration::from_secs(30);
    while fixed.gate.store_status("corp").await.is_ok() {
        assert!(Instant::now() < end, "it lives for ever");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(fixed.seen.count("token_renew refused"), 0);
    let limited = open(&token(&policy, json!({"num_uses": 9})).await);
    let error = limited.error("db").await;
    assert!(error.kind == StoreErrorKind::LoginFailed && error.detail.contains("num_uses"), "{error}");
}

#[tokio::test]
async fn a_login_may_be_in_another_namespace_than_the_secrets() {
    let (namespace, policy) = (unique("team"), unique("policy"));
    post(&format!("sys/namespaces/{namespace}"), json!({})).await;
    post(&format!("{namespace}/sys/mounts/kv"), json!({"type": "kv", "options": {"version": "2"}})).await;
    post(&format!("{namespace}/kv/data/p"), json!({"data": {"username": "app", "password": "of-the-team"}})).await;
    let rules = format!("path \"{namespace}/kv/data/p\" {{ capabilities = [\"read\"] }}");
    post(&format!("sys/policies/acl/{policy}"), json!({ "policy": rules })).await;
    let role = Role::with(json!({ "token_policies": policy, "token_period": 9 })).await;
    let ids = format!("role_id: {}, secret_id: {}", role.role_id, role.secret_id);
    let auth = |own: &str| format!("{{ method: approle, mount: {}, {ids}{own} }}, namespace: {namespace}", role.mount);
    let bed = Bed::open(&auth(", namespace: ''"), &[("db", &credential("kv"))]);
    assert_eq!(password(&*bed.credential("db").await), "of-the-team");
    bed.seen.wait_for("token_renew ok", 2).await;
    let said = refused(&Bed::open(&auth(""), &[("db", &credential("kv"))])).await;
    assert!(said.contains("wrong mount"), "without it, the login is where the secrets are: {said}");
}
