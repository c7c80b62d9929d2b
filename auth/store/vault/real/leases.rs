//! Dynamic and static roles of a real PostgreSQL behind the real store.

use super::access::{Role, accessors};
use super::*;
use crate::LeaseEnd;

/// A database mount with the dynamic role `r` and the static role `s`; its name.
pub(super) async fn database(default_ttl: u64, max_ttl: u64) -> String {
    let mount = unique("db");
    let static_user = mount.replace('-', "_");
    sql(&format!("create role {static_user} login password 'start'"));
    post(&format!("sys/mounts/{mount}"), json!({"type": "database"})).await;
    let url = format!("postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?sslmode=disable", postgres());
    let config = json!({"plugin_name": "postgresql-database-plugin", "allowed_roles": "*", "connection_url": url, "username": "postgres", "password": "any"});
    post(&format!("{mount}/config/pg"), config).await;
    let create = format!(
        "CREATE ROLE \"{{{{name}}}}\" LOGIN PASSWORD '{{{{password}}}}' VALID UNTIL '{{{{expiration}}}}'; COMMENT ON ROLE \"{{{{name}}}}\" IS '{mount}'"
    );
    let role = json!({"db_name": "pg", "creation_statements": create, "default_ttl": default_ttl, "max_ttl": max_ttl});
    post(&format!("{mount}/roles/r"), role).await;
    post(&format!("{mount}/static-roles/s"), json!({"db_name": "pg", "username": static_user, "rotation_period": 3600})).await;
    mount
}

/// How many accounts the store has made in this mount that are still there.
pub(super) fn accounts(mount: &str) -> String {
    sql(&format!("select count(*) from pg_roles r where shobj_description(r.oid, 'pg_authid') = '{mount}'"))
}

pub(super) async fn gone(mount: &str) {
    let mount = mount.to_owned();
    tokio::task::spawn_blocking(move || wait_until("the accounts' end", || accounts(&mount) == "0")).await.unwrap();
}

#[tokio::test]
async fn a_lease_opens_the_database_and_its_account_is_gone_afterwards() {
    let mount = database(3600, 7200).await;
    let bed = Bed::as_root(&[("db", &format!("credential: {mount}/creds/r"))]);
    let first = bed.lease("db").await.unwrap();
    let second = bed.lease("db").await.unwrap();
    let (one, two) = (first.credential().unwrap(), second.credential().unwrap());
    assert_ne!(one.username(), two.username(), "each session has its own");
    assert_eq!(try_sql(postgres(), one.username(), "select current_user").unwrap(), one.username());
    assert_eq!((bed.gate.lease_stats().live, accounts(&mount).as_str()), (2, "2"));
    assert_eq!(first.provenance().lease.as_ref().map(String::len), Some(16));
    let journal = std::fs::read_to_string(bed.state.path().join("leases.journal")).unwrap();
    assert!(journal.contains(&format!("{mount}/creds/r/")), "the leases are on disk while they live");
    assert!(!journal.contains(password(&one)) && !journal.contains(one.username()));
    drop((first, second));
    assert_eq!(bed.gate.drain(Duration::from_secs(20)).await, 0);
    gone(&mount).await;
}

#[tokio::test]
async fn no_account_is_left_by_clients_that_vanish_while_it_is_made() {
    let mount = database(3600, 7200).await;
    let bed = Bed::as_root(&[("db", &format!("credential: {mount}/creds/r"))]);
    bed.gate.store_status("corp").await.unwrap();
    for _ in 0..15 {
        let (gate, grant) = (Arc::clone(&bed.gate), bed.grant("db"));
        let client = tokio::spawn(async move { gate.lease(&grant).await.map(drop) });
        let asked = bed.gate.lease_stats();
        while bed.gate.lease_stats() == asked && !client.is_finished() {
            tokio::task::yield_now().await;
        }
        client.abort();
        let _ = client.await;
    }
    assert_eq!(bed.gate.drain(Duration::from_secs(30)).await, 0);
    // For whoever was gone before his turn, nothing was asked.
    let issued = bed.seen.count("issued");
    assert!(issued > 0 && issued == bed.seen.count("revoked"), "{:?}", bed.seen.0.borrow());
    gone(&mount).await;
}

#[tokio::test]
async fn what_a_process_left_behind_is_given_back_by_the_next_one() {
    let mount = database(3600, 7200).await;
    let keys = format!("credential: {mount}/creds/r");
    let first = Bed::as_root(&[("db", &keys)]);
    let state = Arc::clone(&first.state);
    let lease = first.lease("db").await.unwrap();
    // Killed: nothing is dropped, the journal is what it is.
    std::mem::forget(lease);
    assert_eq!(accounts(&mount), "1");
    let second = Bed::open_in(state, &format!("{{ method: token, token: {ROOT} }}"), &[("db", &keys)]);
    assert_eq!(second.gate.drain(Duration::from_secs(20)).await, 0);
    assert_eq!(second.seen.count("revoked"), 1);
    gone(&mount).await;
}

#[tokio::test]
async fn a_lease_is_renewed_up_to_its_last_end_and_told_before_it() {
    let mount = database(10, 20).await;
    let bed = Bed::as_root(&[("db", &format!("credential: {mount}/creds/r"))]);
    let lease = bed.lease("db").await.unwrap();
    let user = lease.credential().unwrap().username().to_owned();
    // Connected before: from when we are told to the account's end it is a second, in which psql need not have started.
    let place = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", postgres());
    let (watcher, connection) = tokio_postgres::connect(&place, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let ended = tokio::time::timeout(Duration::from_secs(30), lease.ended()).await.unwrap();
    let there = watcher.query("select 1 from pg_roles where rolname = $1", &[&user]).await.unwrap();
    assert_eq!(there.len(), 1, "the account is still there when we are told");
    assert_eq!(ended, LeaseEnd::Expired);
    assert!(bed.seen.count("renewed") >= 2);
}

#[tokio::test]
async fn a_lease_that_was_revoked_behind_our_back_ends_its_session() {
    let mount = database(9, 3600).await;
    let bed = Bed::as_root(&[("db", &format!("credential: {mount}/creds/r"))]);
    let lease = bed.lease("db").await.unwrap();
    admin(Method::PUT, &format!("sys/leases/revoke-prefix/{mount}"), json!({"sync": true})).await;
    let ended = tokio::time::timeout(Duration::from_secs(30), lease.ended()).await.unwrap();
    assert_eq!(ended, LeaseEnd::Lost);
}

#[tokio::test]
async fn a_static_role_gives_user_and_password_together_and_a_rotated_one_is_read_again() {
    let mount = database(60, 60).await;
    let bed = Bed::as_root(&[
        ("db", &format!("credential: {mount}/static-creds/s")),
        ("parts", &format!("username: '{mount}/static-creds/s?username', password: '{mount}/static-creds/s?password'")),
    ]);
    let first = bed.credential("db").await;
    assert_eq!(first.username(), mount.replace('-', "_"));
    assert_eq!(password(&first), password(&*bed.credential("parts").await));
    post(&format!("{mount}/rotate-role/s"), json!({})).await;
    let rejected = bed.lease("db").await.unwrap();
    let fresh = bed.gate.refetch(&bed.grant("db"), &rejected).await.unwrap().unwrap();
    assert_ne!(password(&first), password(&fresh.credential().unwrap()));
    assert!(!fresh.is_leased());
}

#[tokio::test]
async fn a_role_that_is_not_there_is_told_and_leaves_nothing_open() {
    let mount = database(60, 60).await;
    let bed = Bed::as_root(&[("db", &format!("credential: {mount}/creds/nobody"))]);
    assert_eq!(bed.error("db").await.kind, crate::StoreErrorKind::NotFound);
    assert_eq!(bed.gate.drain(Duration::from_secs(5)).await, 0);
    assert_eq!(bed.seen.count("possible_orphan"), 0);
}

#[tokio::test]
async fn a_role_that_its_database_does_not_allow_is_a_denial_and_leaves_nothing_open() {
    let mount = database(60, 60).await;
    post(&format!("{mount}/config/pg"), json!({"plugin_name": "postgresql-database-plugin", "allowed_roles": "s"})).await;
    let bed = Bed::as_root(&[("db", &format!("credential: {mount}/creds/r"))]);
    // More often than it takes for a store to count as away.
    for asked in 1..=6 {
        let error = bed.error("db").await;
        assert_eq!(error.kind, crate::StoreErrorKind::Denied, "{error}");
        assert!(error.detail.contains("is not an allowed role"), "{error}");
        assert_eq!(bed.seen.count("issue server_error"), asked, "asked once each time");
    }
    assert_eq!(bed.gate.drain(Duration::from_secs(5)).await, 0);
    assert_eq!((bed.seen.count("possible_orphan"), bed.seen.count("away")), (0, 0));
    assert_eq!(accounts(&mount), "0");
}

/// A token of an admin's making, with a policy that lets it have leases of this mount; its text.
async fn given_token(mount: &str, more: Value) -> String {
    let policy = unique("leases-only");
    post(&format!("sys/policies/acl/{policy}"), json!({"policy": format!("path \"{mount}/creds/*\" {{ capabilities = [\"read\"] }}")}))
        .await;
    let mut body = json!({"policies": [policy], "no_default_policy": true, "ttl": "200s"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    post("auth/token/create", body).await["auth"]["client_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn no_session_begins_on_a_lease_of_a_token_that_ends_before_it() {
    let mount = database(3600, 7200).await;
    let connections = [
        ("long", format!("credential: {mount}/creds/r, min_session: 300s")),
        ("short", format!("credential: {mount}/creds/r, min_session: 10s")),
    ];
    let connections = connections.each_ref().map(|(name, keys)| (*name, keys.as_str()));
    let token = given_token(&mount, json!({"renewable": false, "no_default_policy": false})).await;
    let bed = Bed::open(&format!("{{ method: token, token: {token} }}"), &connections);
    let error = bed.error("long").await;
    assert!(error.detail.contains("ends with our token, which leaves a session 1"), "{error}");
    assert_eq!((bed.seen.count("issue ok"), bed.seen.count("too_short")), (0, 1), "no account was made for it");
    assert!(bed.lease("short").await.is_ok());
    // Its policy lets it give nothing back.
    post("auth/token/revoke", json!({ "token": token })).await;
    gone(&mount).await;
}

#[tokio::test]
async fn where_the_policy_lets_nobody_give_back_no_try_asks_about_the_token() {
    let mount = database(3, 6).await;
    let token = given_token(&mount, json!({})).await;
    let bed = Bed::open(&format!("{{ method: token, token: {token} }}"), &[("db", &format!("credential: {mount}/creds/r"))]);
    let leases = [bed.lease("db").await.unwrap(), bed.lease("db").await.unwrap()];
    let lookups = |bed: &Bed| bed.seen.count("token_lookup ok") + bed.seen.count("token_lookup forbidden");
    let before = lookups(&bed);
    drop(leases);
    bed.seen.wait_for("revoke forbidden", 2).await;
    bed.seen.wait_for("revoke_failed", 2).await;
    assert_eq!(lookups(&bed), before);
    gone(&mount).await;
}

/// A login that may have leases of this mount and give them back, and whose tokens live for so many seconds, whatever renews them.
async fn short_tokens(mount: &str, seconds: u64) -> Role {
    let policy = unique("leases");
    let rules =
        format!("path \"{mount}/creds/*\" {{ capabilities = [\"read\"] }}\npath \"sys/leases/revoke\" {{ capabilities = [\"update\"] }}");
    post(&format!("sys/policies/acl/{policy}"), json!({ "policy": rules })).await;
    Role::with(json!({"token_policies": policy, "token_ttl": seconds, "token_max_ttl": seconds})).await
}

/// A token is another one's successor once the observer hears of it after its login.
async fn second_token(bed: &Bed) {
    let mut seen = bed.seen.0.subscribe();
    let there = seen.wait_for(|seen| {
        let logins = seen.iter().enumerate().filter(|(_, seen)| *seen == "login ok");
        logins.map(|(at, _)| at).nth(1).is_some_and(|at| seen[at..].iter().any(|seen| seen == "token_life"))
    });
    tokio::time::timeout(Duration::from_secs(60), there).await.expect("a second token").unwrap();
}

/// When a token ends, as the store says it.
async fn end_of(accessor: &Value) -> Instant {
    let token = post("auth/token/lookup-accessor", json!({ "accessor": accessor })).await;
    let end: jiff::Timestamp = token["data"]["expire_time"].as_str().unwrap().parse().unwrap();
    Instant::now() + Duration::try_from(end.duration_since(jiff::Timestamp::now())).unwrap()
}

#[tokio::test]
async fn a_lease_ends_with_the_token_that_issued_it_and_one_of_the_next_token_lives_on() {
    let mount = database(3600, 7200).await;
    let role = short_tokens(&mount, 15).await;
    let bed = Bed::open(&role.auth(&role.secret_id), &[("db", &format!("credential: {mount}/creds/r"))]);
    let place = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", postgres());
    let (watcher, connection) = tokio_postgres::connect(&place, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let watcher = &watcher;
    let is_there = async |user: &str| !watcher.query("select 1 from pg_roles where rolname = $1", &[&user]).await.unwrap().is_empty();
    let first = bed.lease("db").await.unwrap();
    let accessor = accessors(&format!("auth/{}/login", role.mount)).await.remove(0);
    second_token(&bed).await;
    let second = bed.lease("db").await.unwrap();
    let users = [&first, &second].map(|lease| lease.credential().unwrap().username().to_owned());

    let mut outlook = first.outlook();
    while outlook.end().is_none() {
        tokio::time::timeout(Duration::from_secs(60), outlook.changed()).await.expect("its end comes in sight before it comes");
    }
    let (told, end) = (outlook.end().unwrap().into_std(), end_of(&accessor).await);
    assert!(told + Duration::from_millis(200) <= end, "{:?} too late", told + Duration::from_millis(200) - end);
    let ended = tokio::time::timeout(Duration::from_secs(60), first.ended()).await.unwrap();
    assert_eq!(ended, LeaseEnd::Expired);
    assert!(is_there(&users[0]).await || Instant::now() >= end, "the account is still there when we are told");
    assert_eq!((bed.seen.count("token_renew ok"), bed.seen.count("token_renew server_error")), (1, 0), "its end was known by then");
    // Nobody has given it back: the store took it with its token.
    let soon = Instant::now() + Duration::from_secs(30);
    while is_there(&users[0]).await {
        assert!(Instant::now() < soon, "it outlives its token");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(is_there(&users[1]).await, "that of another token is none of its");
    drop((first, second));
    assert_eq!(bed.gate.drain(Duration::from_secs(60)).await, 0);
    assert_eq!((bed.seen.count("issued"), bed.seen.count("revoked"), bed.seen.count("lost")), (2, 2, 0));
    gone(&mount).await;
}
