//! KV of both versions: every form of reference, every way for a secret not to be there, the cache.

use super::own::Own;
use super::*;
use crate::store::StoreErrorKind;

#[tokio::test]
async fn every_form_of_reference_gives_its_value() {
    let secret =
        json!({"username": "app", "password": "first", "port": 3306, "deep": {"a": {"b": "below"}}, "dot.ted": "flat", "list": ["x", "y"]});
    let two = kv("2", "team/mysql", secret.clone()).await;
    put(&two, "2", "team/mysql", json!({"username": "app2", "password": "second"})).await;
    put(&two, "2", "odd name@x", secret.clone()).await;
    let one = kv("1", "app/mysql", secret.clone()).await;
    let parts = |path: &str, user: &str, pass: &str| format!("username: '{path}?{user}', password: '{path}?{pass}'");
    let bed = Bed::as_root(&[
        ("newest", &parts(&format!("{two}/data/team/mysql"), "username", "password")),
        ("pinned", &parts(&format!("{two}/data/team/mysql"), "username&version=1", "password&version=1")),
        ("without_data", &parts(&format!("{two}/team/mysql"), "username", "password")),
        ("nested", &parts(&format!("{two}/data/odd name@x"), "deep.a.b", "dot.ted")),
        ("list", &parts(&format!("{two}/data/odd name@x"), "list.1", "port")),
        ("version_1", &parts(&format!("{one}/app/mysql"), "username", "password")),
        ("whole", &format!("credential: {two}/data/team/mysql")),
        ("whole_pinned", &format!("credential: '{two}/data/team/mysql?&version=1'")),
        ("mixed", &format!("username: {{ literal: me }}, password: '{two}/data/team/mysql?password'")),
    ]);
    for (connection, user, pass) in [
        ("newest", "app2", "second"),
        ("pinned", "app", "first"),
        ("without_data", "app2", "second"),
        ("nested", "below", "flat"),
        ("list", "y", "3306"),
        ("version_1", "app", "first"),
        ("whole", "app2", "second"),
        ("whole_pinned", "app", "first"),
        ("mixed", "me", "second"),
    ] {
        let credential = bed.credential(connection).await;
        assert_eq!((credential.username(), password(&credential)), (user, pass), "{connection}");
    }
    let lease = bed.lease("newest").await.unwrap();
    let provenance = lease.provenance();
    assert_eq!((provenance.store.as_str(), provenance.version, provenance.cached), ("corp", Some(2), true));
    assert_eq!(provenance.paths, [format!("{two}/data/team/mysql?username"), format!("{two}/data/team/mysql?password")]);
    assert_eq!(provenance.request_id.len(), 36);
    assert!(!lease.is_leased());
    assert!(!format!("{lease:?}").contains("second"));
}

#[tokio::test]
async fn user_and_password_come_from_one_read_that_all_who_wait_share() {
    let mount = kv("2", "p", json!({"username": "app", "password": "x"})).await;
    let keys = format!("username: '{mount}/data/p?username', password: '{mount}/data/p?password'");
    let bed = Bed::as_root(&[("db", &keys)]);
    let grant = bed.grant("db");
    let asked = (0..20).map(|_| bed.gate.lease(&grant));
    for lease in futures_util::future::join_all(asked).await {
        assert_eq!(password(&lease.unwrap().credential().unwrap()), "x");
    }
    assert_eq!(bed.seen.count("kv_read ok"), 1);
    assert_eq!(bed.seen.count("token_lookup ok"), 1, "one login for all");
}

#[tokio::test]
async fn a_secret_that_is_not_there_says_why_and_is_not_remembered() {
    let mount = kv("2", "deleted", json!({"username": "u"})).await;
    put(&mount, "2", "destroyed", json!({"username": "u"})).await;
    put(&mount, "2", "there", json!({"username": "u", "null": null, "empty": ""})).await;
    admin(Method::DELETE, &format!("{mount}/data/deleted"), json!({})).await;
    post(&format!("{mount}/destroy/destroyed"), json!({"versions": [1]})).await;
    let one = kv("1", "x", json!({"username": "u"})).await;
    let user = |reference: &str| format!("username: '{reference}', password: {{ literal: p }}");
    let bed = Bed::as_root(&[
        ("absent", &user(&format!("{mount}/data/nothing?username"))),
        ("deleted", &user(&format!("{mount}/data/deleted?username"))),
        ("destroyed", &user(&format!("{mount}/data/destroyed?username"))),
        ("no_version", &user(&format!("{mount}/data/there?username&version=99"))),
        ("no_key", &user(&format!("{mount}/data/there?usernam"))),
        ("null", &user(&format!("{mount}/data/there?null"))),
        ("empty", &user(&format!("{mount}/data/there?empty"))),
        ("no_mount", &user("nowhere-at-all/data/x?username")),
        ("no_mount_1", &user("nowhere-at-all/x?username")),
        ("no_versions", &user(&format!("{one}/x?username&version=1"))),
        ("data_on_1", &user(&format!("{one}/data/x?username"))),
        ("role_on_kv", &format!("credential: {mount}/creds/role")),
    ]);
    for (connection, kind, says) in [
        ("absent", StoreErrorKind::NotFound, "no such secret"),
        ("deleted", StoreErrorKind::NotFound, "was deleted at 20"),
        ("destroyed", StoreErrorKind::NotFound, "destroyed"),
        ("no_version", StoreErrorKind::NotFound, "version 99"),
        ("no_key", StoreErrorKind::Malformed, "there are: "),
        ("null", StoreErrorKind::Malformed, "null"),
        ("empty", StoreErrorKind::Malformed, "is empty"),
        ("no_mount", StoreErrorKind::NotFound, "nowhere-at-all/data/x"),
        ("no_mount_1", StoreErrorKind::Denied, "no such mount"),
        ("no_versions", StoreErrorKind::Malformed, "keeps no versions"),
        ("data_on_1", StoreErrorKind::NotFound, "version 1, whose paths have no data/"),
        ("role_on_kv", StoreErrorKind::Malformed, "has no roles"),
    ] {
        let error = bed.error(connection).await;
        assert_eq!(error.kind, kind, "{connection}: {error}");
        assert!(error.detail.contains(says), "{connection}: {error}");
    }
    // It is asked for anew the next time.
    put(&mount, "2", "nothing", json!({"username": "now"})).await;
    assert_eq!(bed.credential("absent").await.username(), "now");
}

#[tokio::test]
async fn a_version_that_is_to_be_deleted_is_good_until_then_and_not_a_moment_longer() {
    let mount = kv("2", "other", json!({"username": "u"})).await;
    post(&format!("{mount}/metadata/brief"), json!({"delete_version_after": "8s"})).await;
    put(&mount, "2", "brief", json!({"username": "app"})).await;
    let bed = Bed::as_root(&[("brief", &format!("username: '{mount}/data/brief?username', password: {{ literal: p }}"))]);
    assert_eq!(bed.credential("brief").await.username(), "app", "an end that is to come is no deletion");
    let end = Instant::now() + Duration::from_secs(30);
    let error = loop {
        match bed.lease("brief").await {
            Ok(lease) => assert!(lease.credential().is_some() && Instant::now() < end, "the cache holds it past its end"),
            Err(error) => break error,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(error.kind == StoreErrorKind::NotFound && error.detail.contains("was deleted at 20"), "{error}");
}

#[tokio::test]
async fn the_ttl_of_a_secret_of_version_1_has_it_read_again_and_is_no_end_while_the_store_is_away() {
    let (store, keys) = Own::alone(&binary(), "").await;
    let mount = unique("kv");
    store.post(&keys, &format!("sys/mounts/{mount}"), json!({"type": "kv", "options": {"version": "1"}})).await;
    store.post(&keys, &format!("{mount}/p"), json!({"username": "app", "password": "x", "ttl": "3s"})).await;
    let at = format!("address: '{}', auth: {{ method: token, token: {} }}, cache_ttl: 10m", store.address(), keys.root);
    let bed = Bed::of(&at, &[("db", &format!("username: '{mount}/p?username', password: '{mount}/p?password'"))]);
    let used = async || bed.lease("db").await.unwrap_or_else(|error| panic!("{error}"));
    store.eventually("to be asked again", async || used().await.provenance().cached && bed.seen.count("kv_read ok") > 1).await;
    store.kill();
    store.eventually("to be stood in for", async || used().await.provenance().stale).await;
    assert_eq!(password(&*bed.credential("db").await), "x");
}

#[tokio::test]
async fn a_rejected_credential_is_read_again_once_and_only_a_changed_one_is_tried() {
    let mount = kv("2", "p", json!({"username": "app", "password": "old"})).await;
    let keys = |name: &str| format!("username: '{mount}/data/{name}?username', password: '{mount}/data/{name}?password'");
    put(&mount, "2", "same", json!({"username": "app", "password": "same"})).await;
    let bed = Bed::as_root(&[("db", &keys("p")), ("same", &keys("same"))]);
    let first = bed.lease("db").await.unwrap();
    assert!(!first.provenance().cached);
    put(&mount, "2", "p", json!({"username": "app", "password": "new"})).await;
    // What was just read is not read again: the upstream's answer stands.
    assert!(bed.gate.refetch(&bed.grant("db"), &first).await.unwrap().is_none());
    let cached = bed.lease("db").await.unwrap();
    assert!(cached.provenance().cached);
    assert_eq!(password(&cached.credential().unwrap()), "old");
    let fresh = bed.gate.refetch(&bed.grant("db"), &cached).await.unwrap().unwrap();
    assert_eq!(password(&fresh.credential().unwrap()), "new");
    assert_eq!(password(&*bed.credential("db").await), "new", "the cache has it too");
    // Again so soon: no.
    let reads = bed.seen.count("kv_read ok");
    put(&mount, "2", "p", json!({"username": "app", "password": "newer"})).await;
    let cached = bed.lease("db").await.unwrap();
    assert!(bed.gate.refetch(&bed.grant("db"), &cached).await.unwrap().is_none());
    assert_eq!(bed.seen.count("kv_read ok"), reads);
    // Unchanged: no.
    bed.credential("same").await;
    let cached = bed.lease("same").await.unwrap();
    assert!(bed.gate.refetch(&bed.grant("same"), &cached).await.unwrap().is_none());
}
