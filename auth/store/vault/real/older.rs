//! What we rely on is not new: the same against OpenBao 2.6. `KEYWARD_TEST_BAO_OLD` names its `bao` binary.

use std::io::Write;

use super::cluster::kill_the_leader;
use super::leases::{accounts, gone};
use super::own::{Own, secret};
use super::*;
use crate::store::StoreErrorKind;

/// The older binary, if there is one.
fn older() -> Option<PathBuf> {
    let binary = std::env::var_os("KEYWARD_TEST_BAO_OLD").map(PathBuf::from).filter(|binary| binary.exists());
    if binary.is_none() {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("a test");
        let _ = writeln!(std::io::stderr(), "NOTICE: {name} is SKIPPED for want of an older OpenBao: KEYWARD_TEST_BAO_OLD names none");
    }
    binary
}

#[tokio::test]
async fn an_older_openbao_is_read_logged_in_to_and_told_from_one_that_is_sealed() {
    let Some(program) = older() else { return };
    let (store, keys) = Own::alone(&program, "").await;
    let mount = store.kv(&keys).await;
    store.post(&keys, &format!("{mount}/data/other"), json!({"data": {"username": "app", "password": "y"}})).await;
    let auth = store.approle(&keys, &format!("path \"{mount}/data/p\" {{ capabilities = [\"read\"] }}")).await;
    let forbidden = secret(&mount).replace("/p?", "/other?");
    let bed =
        Bed::of(&format!("address: '{}', auth: {auth}, cache_ttl: 0s", store.address()), &[("db", &secret(&mount)), ("other", &forbidden)]);
    assert_eq!(password(&*bed.credential("db").await), "x");
    assert!(bed.gate.store_status("corp").await.unwrap().version.starts_with("2.6"));
    assert_eq!(bed.error("other").await.kind, StoreErrorKind::Denied);
    assert_eq!(bed.seen.count("login ok"), 1, "a denial is no reason to log in again");
    // Every token but root's.
    store.post(&keys, "sys/leases/revoke-prefix/auth", json!({"sync": true})).await;
    assert_eq!(password(&*bed.credential("db").await), "x");
    assert_eq!(bed.seen.count("login ok"), 2, "a dead token is");
    store.ask(Method::PUT, "sys/seal", Some(&keys), json!({})).await;
    let error = bed.error("db").await;
    assert!(error.kind == StoreErrorKind::Unavailable && error.detail.contains("sealed"), "{error}");
    store.unseal(&keys).await;
    store.eventually("to be used again", async || bed.lease("db").await.is_ok()).await;
}

#[tokio::test]
async fn leases_of_an_older_openbao_are_renewed_and_given_back() {
    let Some(program) = older() else { return };
    let (store, keys) = Own::alone(&program, "").await;
    let mount = store.database(&keys, postgres(), "", 3600).await;
    // More than the role gives at first: it is renewed at once, and long after this test ends by itself.
    let bed = store.bed(&keys, "", &[("role", &format!("credential: {mount}/creds/r, min_session: 5400s"))]);
    let lease = bed.lease("role").await.unwrap();
    let user = lease.credential().unwrap().username().to_owned();
    assert_eq!(try_sql(postgres(), &user, "select current_user").unwrap(), user);
    assert_eq!((bed.seen.count("renewed"), accounts(&mount).as_str()), (1, "1"));
    drop(lease);
    assert_eq!(bed.gate.drain(Duration::from_secs(30)).await, 0);
    assert_eq!((bed.seen.count("issued"), bed.seen.count("revoked")), (1, 1));
    gone(&mount).await;
    store.eventually("to have ended the lease", async || store.leases(&keys, &mount).await == Some(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_leader_of_an_older_cluster_is_killed_reads_go_on_and_no_lease_is_lost() {
    let Some(program) = older() else { return };
    kill_the_leader(&program).await;
}
