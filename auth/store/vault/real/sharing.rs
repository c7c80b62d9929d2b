//! Leases that sessions use together: real accounts in a real PostgreSQL.

use futures_util::future::join_all;

use super::leases::{accounts, database, gone};
use super::*;

fn user(lease: &Lease) -> String {
    lease.credential().unwrap().username().to_owned()
}

fn joined(lease: &Lease) -> bool {
    lease.provenance().joined
}

impl Bed {
    /// The gate with one connection `db` to a dynamic role.
    fn sharing(mount: &str, lease: &str) -> Self {
        Self::as_root(&[("db", &format!("credential: {mount}/creds/r, lease: {lease}"))])
    }

    async fn lease_for(&self, user: &str) -> Lease {
        self.gate.lease(&self.grant_of(user, "db")).await.unwrap()
    }
}

#[tokio::test]
async fn one_account_serves_all_who_may_share_it_until_the_last_has_left() {
    let mount = database(3600, 7200).await;
    let bed = Bed::sharing(&mount, "shared");
    let (first, second) = (bed.lease_for("alice").await, bed.lease_for("bob").await);
    assert_eq!((user(&first), first.provenance().lease.clone()), (user(&second), second.provenance().lease.clone()));
    assert_eq!((accounts(&mount).as_str(), bed.gate.lease_stats().live), ("1", 1));
    let journal = std::fs::read_to_string(bed.state.path().join("leases.journal")).unwrap();
    assert_eq!(journal.matches("\"asked\"").count(), 1);
    let account = user(&second);
    drop(first);
    let third = bed.lease_for("alice").await;
    assert_eq!(user(&third), account);
    assert!(try_sql(postgres(), &account, "select 1").is_some());
    drop((second, third));
    assert_eq!(bed.gate.drain(Duration::from_secs(20)).await, 0);
    gone(&mount).await;
    assert_eq!((bed.seen.count("issued"), bed.seen.count("joined"), bed.seen.count("revoked")), (1, 2, 1));
}

#[tokio::test]
async fn twenty_at_once_of_whom_half_vanish_make_one_account_per_user_and_leave_none() {
    let mount = database(3600, 7200).await;
    let bed = Bed::sharing(&mount, "per_user");
    bed.gate.store_status("corp").await.unwrap();
    let client = |n: usize| {
        let (gate, grant) = (Arc::clone(&bed.gate), bed.grant_of(if n.is_multiple_of(4) { "alice" } else { "bob" }, "db"));
        tokio::spawn(async move { gate.lease(&grant).await.unwrap() })
    };
    let clients: Vec<_> = (0..20).map(client).collect();
    let (gone_early, stay): (Vec<_>, Vec<_>) = clients.into_iter().enumerate().partition(|(n, _)| n.is_multiple_of(2));
    while bed.gate.lease_stats().live < 2 {
        tokio::task::yield_now().await;
    }
    // What one of them was just handed goes with it.
    gone_early.into_iter().for_each(|(_, client)| client.abort());
    let bobs = join_all(stay.into_iter().map(|(_, client)| client)).await;
    let bobs: Vec<Lease> = bobs.into_iter().map(Result::unwrap).collect();
    assert!(bobs.iter().all(|lease| user(lease) == user(&bobs[0])));
    let alices = bed.lease_for("alice").await;
    assert_ne!(user(&alices), user(&bobs[0]));
    drop((alices, bobs));
    assert_eq!(bed.gate.drain(Duration::from_secs(30)).await, 0);
    assert_eq!(bed.seen.count("issued"), bed.seen.count("revoked"));
    gone(&mount).await;
}

#[tokio::test]
async fn a_shared_lease_that_an_upstream_rejects_is_given_to_nobody_any_more() {
    let mount = database(3600, 7200).await;
    let bed = Bed::sharing(&mount, "shared");
    let first = bed.lease_for("alice").await;
    let second = bed.lease_for("bob").await;
    // Somebody dropped the account behind the store's back.
    sql(&format!("drop role \"{}\"", user(&first)));
    assert!(try_sql(postgres(), &user(&second), "select 1").is_none());
    let (one, other) = (bed.grant_of("bob", "db"), bed.grant_of("alice", "db"));
    let third = bed.lease_for("alice").await;
    let (again, also) = tokio::join!(bed.gate.refetch(&one, &second), bed.gate.refetch(&other, &third));
    let (again, also) = (again.unwrap().unwrap(), also.unwrap().unwrap());
    assert!(try_sql(postgres(), &user(&again), "select 1").is_some());
    assert_eq!(user(&again), user(&also), "those who were rejected share the next one");
    let asker = bed.gate.refetch(&other, &first).await.unwrap().unwrap();
    assert_eq!(user(&asker), user(&again), "who asked for it himself too");
    assert_eq!(user(&bed.lease_for("bob").await), user(&again));
    assert_eq!(bed.seen.count("issued"), 2);
    drop((first, second, third, again, also, asker));
    assert_eq!(bed.gate.drain(Duration::from_secs(30)).await, 0);
}

#[tokio::test]
async fn who_alone_has_had_what_he_asked_for_has_the_upstreams_answer_and_leaves_it_to_nobody() {
    let mount = database(3600, 7200).await;
    let bed = Bed::sharing(&mount, "shared");
    let first = bed.lease_for("alice").await;
    assert!(first.is_own());
    assert!(bed.gate.refetch(&bed.grant_of("alice", "db"), &first).await.unwrap().is_none());
    let third = bed.lease_for("bob").await;
    assert!(!joined(&third) && third.is_own());
    let fourth = bed.lease_for("alice").await;
    assert!(joined(&fourth) && !third.is_own() && !fourth.is_own());
    drop(fourth);
    assert!(!third.is_own(), "who had it may have changed its account");
    third.close();
    assert!(!joined(&bed.lease_for("bob").await));
    drop((first, third));
    assert_eq!(bed.gate.drain(Duration::from_secs(30)).await, 0);
    gone(&mount).await;
}

#[tokio::test]
async fn a_reload_that_changes_connection_or_store_ends_the_joining_and_no_lease() {
    let mount = database(3600, 7200).await;
    let bed = Bed::sharing(&mount, "shared");
    let reload = |store: &str, keys: &str| {
        let store = format!("auth: {{ method: token, token: {ROOT} }}, {store}");
        let (config, mut problems) = Bed::config(&store, &[("db", &format!("credential: {mount}/creds/r, lease: shared{keys}"))]);
        bed.gate.replace(&config, &mut problems).unwrap_or_else(|| panic!("{problems}"));
    };
    let first = bed.lease_for("alice").await;
    reload("cache_ttl: 60s", "");
    assert_eq!(user(&bed.lease_for("bob").await), user(&first), "the file says the same");
    let late = bed.grant_of("bob", "db");
    reload("cache_ttl: 60s", ", min_session: 1s");
    let second = bed.lease_for("bob").await;
    assert!(!joined(&second) && user(&second) != user(&first));
    let lates = bed.gate.lease(&late).await.unwrap();
    assert!(!joined(&lates) && user(&lates) != user(&second));
    assert_eq!(user(&bed.lease_for("alice").await), user(&second), "who comes late takes the place of nobody's");
    let latest = bed.gate.lease(&late).await.unwrap();
    assert_ne!(user(&latest), user(&lates), "and shares with nobody");
    drop((lates, latest));
    bed.seen.wait_for("revoked", 2).await;
    reload("cache_ttl: 61s", ", min_session: 1s");
    let third = bed.lease_for("bob").await;
    assert!(!joined(&third) && user(&third) != user(&second));
    assert_eq!(bed.seen.count("revoked"), 2);
    for account in [user(&first), user(&second), user(&third)] {
        assert!(try_sql(postgres(), &account, "select 1").is_some());
    }
    drop((first, second, third));
    assert_eq!(bed.gate.drain(Duration::from_secs(30)).await, 0);
    gone(&mount).await;
}
