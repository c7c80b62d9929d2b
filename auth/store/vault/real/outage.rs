//! A store that is sealed, frozen, busy, or whose database hangs.

use super::leases::{database, gone};
use super::own::{Own, secret};
use super::*;
use crate::store::StoreErrorKind;

#[tokio::test]
async fn a_sealed_store_is_not_asked_at_every_call_and_is_used_again_once_it_is_open() {
    let (store, keys) = Own::alone(&binary(), "").await;
    let bed = store.bed(&keys, "", &[("db", &secret(&store.kv(&keys).await))]);
    assert_eq!(password(&*bed.credential("db").await), "x");
    store.ask(Method::PUT, "sys/seal", Some(&keys), json!({})).await;
    let error = bed.error("db").await;
    assert_eq!(error.kind, StoreErrorKind::Unavailable);
    assert!(error.detail.contains("sealed"), "{error}");
    // Four tries; the fifth is enough.
    assert_eq!(bed.seen.count("kv_read server_error"), 4);
    let error = bed.error("db").await;
    assert!(error.detail.contains("sealed") && bed.seen.count("away") == 1, "{error}");
    assert_eq!(bed.seen.count("kv_read server_error"), 5, "no further try once it counts as away");
    let error = bed.error("db").await;
    assert!(error.detail.contains("is not asked at every call") && error.detail.contains("sealed"), "{error}");
    assert_eq!(bed.seen.count("kv_read server_error"), 5, "not sent");
    store.unseal(&keys).await;
    store.eventually("to be used again", async || bed.lease("db").await.is_ok()).await;
    assert_eq!((bed.seen.count("away"), bed.seen.count("back")), (1, 1));
}

#[tokio::test]
async fn a_revocation_is_sent_while_the_store_counts_as_away() {
    let (store, keys) = Own::alone(&binary(), "").await;
    let (mount, kv) = (store.database(&keys, postgres(), "", 3600).await, store.kv(&keys).await);
    let bed = store.bed(&keys, "", &[("db", &secret(&kv)), ("role", &format!("credential: {mount}/creds/r"))]);
    let lease = bed.lease("role").await.unwrap();
    store.ask(Method::PUT, "sys/seal", Some(&keys), json!({})).await;
    for _ in 0..2 {
        assert_eq!(bed.error("db").await.kind, StoreErrorKind::Unavailable);
    }
    assert_eq!(bed.seen.count("away"), 1);
    drop(lease);
    bed.seen.wait_for("revoke server_error", 1).await;
    store.unseal(&keys).await;
    assert_eq!(bed.gate.drain(Duration::from_secs(60)).await, 0);
    gone(&mount).await;
}

#[tokio::test]
async fn a_frozen_store_is_waited_for_no_longer_than_a_call_may_take() {
    let (store, keys) = Own::alone(&binary(), "").await;
    let bed = store.bed(&keys, ", timeout: 3s", &[("db", &secret(&store.kv(&keys).await))]);
    bed.credential("db").await;
    store.freeze();
    let error = tokio::time::timeout(Duration::from_secs(30), bed.error("db")).await.expect("an end");
    assert_eq!(error.kind, StoreErrorKind::Unavailable);
    assert!(error.detail.contains("no answer in time"), "{error}");
    store.thaw();
    store.eventually("to be used again", async || bed.lease("db").await.is_ok()).await;
}

#[tokio::test]
async fn a_lease_that_a_frozen_store_gives_late_to_a_client_that_is_gone_is_given_back() {
    let (store, keys) = Own::alone(&binary(), "").await;
    let mount = store.database(&keys, postgres(), "", 3600).await;
    let bed = store.bed(&keys, ", timeout: 3s", &[("role", &format!("credential: {mount}/creds/r"))]);
    drop(bed.lease("role").await.unwrap());
    assert_eq!(bed.gate.drain(Duration::from_secs(30)).await, 0);
    store.freeze();
    let grant = bed.grant("role");
    let waited = tokio::time::timeout(Duration::from_secs(8), bed.gate.lease(&grant)).await;
    assert!(waited.is_err(), "longer than the store's own time: cut off, the request might have made an account");
    store.thaw();
    bed.seen.wait_for("revoked", 2).await;
    assert_eq!((bed.seen.count("issue ok"), bed.seen.count("possible_orphan")), (2, 0));
    gone(&mount).await;
}

/// Somebody who holds the lock without which the role of this number makes no account. Lets go when dropped.
struct Holder {
    number: usize,
    psql: std::process::Child,
}

impl Holder {
    async fn of(number: usize) -> Self {
        let mut psql = Command::new(pg_program("psql"));
        psql.args(["-h", "127.0.0.1", "-p", &postgres().to_string(), "-U", "postgres", "-d", "postgres", "-At", "-c"]);
        psql.arg(format!("select pg_advisory_lock({number}), pg_sleep(600)")).stdin(Stdio::null()).stdout(Stdio::null());
        let holder = Self { number, psql: psql.stderr(Stdio::null()).spawn().unwrap() };
        let held = format!("select count(*) from pg_locks where locktype = 'advisory' and objid = {number} and granted");
        tokio::task::spawn_blocking(move || wait_until("the lock", || sql(&held) == "1")).await.unwrap();
        holder
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // A backend that sleeps does not notice that its client is gone.
        sql(&format!("select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and objid = {} and granted", self.number));
        let _ = self.psql.wait();
    }
}

#[tokio::test]
async fn a_database_that_hangs_is_asked_for_one_account_and_that_one_is_given_back_if_nobody_waits_any_more() {
    const NUMBER: usize = 41_001;
    let (store, keys) = Own::alone(&binary(), "").await;
    let mount = store.database(&keys, postgres(), &format!("SELECT pg_advisory_xact_lock({NUMBER});"), 3600).await;
    let kv = store.kv(&keys).await;
    let bed = store.bed(&keys, ", timeout: 3s", &[("role", &format!("credential: {mount}/creds/r")), ("db", &secret(&kv))]);
    let holder = Holder::of(NUMBER).await;
    let grant = bed.grant("role");
    assert!(tokio::time::timeout(Duration::from_secs(8), bed.gate.lease(&grant)).await.is_err());
    assert_eq!(password(&*bed.credential("db").await), "x", "nobody else waits for it");
    drop(holder);
    bed.seen.wait_for("revoked", 1).await;
    assert_eq!((bed.seen.count("issue ok"), bed.seen.count("issued"), bed.seen.count("possible_orphan")), (1, 1, 0));
    gone(&mount).await;
}

#[tokio::test]
async fn a_database_that_hangs_under_many_logins_keeps_nobody_from_another_one() {
    const NUMBER: usize = 41_003;
    let (store, keys) = Own::alone(&binary(), "").await;
    let hung = store.database(&keys, postgres(), &format!("SELECT pg_advisory_xact_lock({NUMBER});"), 3600).await;
    let well = store.database(&keys, postgres(), "", 3600).await;
    let on = |server: &str, mount: &str| format!("protocol: postgres, address: '{server}:5432', credential: {mount}/creds/r");
    let bed = store.bed(&keys, "", &[("hung", &on("pg-1", &hung)), ("well", &on("pg-2", &well))]);
    let holder = Holder::of(NUMBER).await;
    let waiting: Vec<_> = (0..40)
        .map(|_| {
            let (gate, grant) = (Arc::clone(&bed.gate), bed.grant("hung"));
            tokio::spawn(async move { gate.lease(&grant).await.map(drop) })
        })
        .collect();
    while bed.gate.lease_stats().live < 40 {
        tokio::task::yield_now().await;
    }
    for _ in 0..3 {
        drop(bed.lease("well").await.unwrap());
    }
    for client in waiting.iter().filter(|client| !client.is_finished()) {
        client.abort();
    }
    drop(holder);
    assert_eq!(bed.gate.drain(Duration::from_secs(60)).await, 0);
    assert!(bed.seen.count("issue ok") <= 3 + 8, "{}", bed.seen.count("issue ok"));
    gone(&hung).await;
    gone(&well).await;
}

#[tokio::test]
async fn a_token_that_somebody_revoked_is_no_readiness() {
    let mount = kv("2", "p", json!({"username": "app", "password": "x"})).await;
    let made = post("auth/token/create", json!({"policies": ["default"], "ttl": "1h"})).await;
    let token = made["auth"]["client_token"].as_str().unwrap();
    let bed = Bed::open(&format!("{{ method: token, token: {token} }}"), &[("db", &secret(&mount))]);
    assert!(bed.gate.store_status("corp").await.unwrap().has_token);
    post("auth/token/revoke", json!({ "token": token })).await;
    assert_eq!(bed.gate.store_status("corp").await.err().map(|error| error.kind), Some(StoreErrorKind::LoginFailed));
}

#[tokio::test]
async fn a_database_that_hangs_until_the_store_gives_up_is_not_asked_again() {
    const NUMBER: usize = 41_002;
    let (store, keys) = Own::alone(&binary(), "default_max_request_duration = \"3s\"").await;
    let mount = store.database(&keys, postgres(), &format!("SELECT pg_advisory_xact_lock({NUMBER});"), 3600).await;
    let bed = store.bed(&keys, "", &[("role", &format!("credential: {mount}/creds/r"))]);
    let holder = Holder::of(NUMBER).await;
    let error = tokio::time::timeout(Duration::from_secs(60), bed.error("role")).await.expect("the store's own end");
    assert_eq!(error.kind, StoreErrorKind::Unavailable, "{error}");
    assert_eq!((bed.seen.count("issue server_error"), bed.seen.count("possible_orphan"), bed.seen.count("away")), (1, 1, 0));
    drop(holder);
    gone(&mount).await;
}

#[tokio::test]
async fn a_database_that_is_down_is_asked_once_more_and_leaves_no_account_and_no_store_away() {
    let (store, keys) = Own::alone(&binary(), "").await;
    let (mount, kv) = (store.database(&keys, 1, "", 3600).await, store.kv(&keys).await);
    let bed = store.bed(&keys, "", &[("role", &format!("credential: {mount}/creds/r")), ("db", &secret(&kv))]);
    for _ in 0..3 {
        assert_eq!(bed.error("role").await.kind, StoreErrorKind::Unavailable);
    }
    assert_eq!(bed.seen.count("issue server_error"), 6);
    assert_eq!((bed.seen.count("possible_orphan"), bed.seen.count("away")), (0, 0));
    assert_eq!(password(&*bed.credential("db").await), "x");
}

#[tokio::test]
async fn a_quota_is_waited_out_where_that_is_short_and_told_where_it_is_not() {
    let mount = kv("2", "p", json!({"username": "app", "password": "x"})).await;
    let keys = secret(&mount);
    let store = format!("address: '{}', auth: {{ method: token, token: {ROOT} }}, cache_ttl: 0s", bao());
    let bed = Bed::of(&store, &[("db", &keys)]);
    bed.credential("db").await;
    // Without it the server does not say when to come again.
    post("sys/quotas/config", json!({"enable_rate_limit_response_headers": true})).await;
    let quota = unique("quota");
    post(&format!("sys/quotas/rate-limit/{quota}"), json!({"path": format!("{mount}/"), "rate": 1, "interval": "2s"})).await;
    for _ in 0..3 {
        assert_eq!(password(&*bed.credential("db").await), "x");
    }
    assert!(bed.seen.count("kv_read throttled") >= 1, "{:?}", bed.seen.0.borrow());
    let blocking = json!({"path": format!("{mount}/"), "rate": 1, "interval": "1s", "block_interval": "60s"});
    post(&format!("sys/quotas/rate-limit/{quota}"), blocking).await;
    let mut refused = None;
    for _ in 0..10 {
        refused = bed.lease("db").await.err();
        if refused.is_some() {
            break;
        }
    }
    let refused = refused.expect("the quota is exceeded");
    assert_eq!(refused.kind, StoreErrorKind::Throttled, "{refused}");
    let before = bed.seen.count("kv_read throttled");
    assert_eq!(bed.error("db").await.kind, StoreErrorKind::Throttled);
    assert_eq!(bed.seen.count("kv_read throttled"), before + 1, "a minute is longer than anybody waits: one try");
    assert_eq!(bed.seen.count("away"), 0);
    admin(Method::DELETE, &format!("sys/quotas/rate-limit/{quota}"), json!({})).await;
}

#[tokio::test]
async fn what_one_address_cannot_do_the_next_one_does() {
    let mount = database(3600, 7200).await;
    let keys = format!("credential: {mount}/creds/r");
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let store = format!("address: ['{nobody}', '{}'], auth: {{ method: token, token: {ROOT} }}", bao());
    let bed = Bed::of(&store, &[("db", &keys)]);
    for _ in 0..3 {
        drop(bed.lease("db").await.unwrap());
    }
    assert_eq!(bed.gate.drain(Duration::from_secs(30)).await, 0);
    let unreached = bed.seen.0.borrow().iter().filter(|seen| seen.ends_with("unreached")).count();
    assert_eq!(unreached, 1, "the address that answers is kept");
    gone(&mount).await;
}
