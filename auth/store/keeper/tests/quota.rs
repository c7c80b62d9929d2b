//! How many leases a user has of a connection.

use super::sharing::Crowd;
use super::*;

fn kind(answer: Result<Lease, StoreError>) -> Result<(), StoreErrorKind> {
    answer.map(drop).map_err(|error| error.kind)
}

#[tokio::test(start_paused = true)]
async fn a_user_has_so_many_leases_of_a_connection_and_others_have_theirs() {
    let crowd = Crowd::new(Fake::new(3600), "limits: { max_leases_per_user: 2 }");
    let (one, other) = (crowd.lease("alice").await.unwrap(), crowd.lease_of(crowd.grant("alice", "ro")).await.unwrap());
    let error = crowd.lease("alice").await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Quota);
    assert_eq!(error.detail, "alice has 2 leases of db that live or are not given back yet (limits.max_leases_per_user)");
    assert_eq!((crowd.asked(), crowd.bed.events().last()), (2, Some(&"over_quota")), "nobody was asked");
    crowd.lease("bob").await.unwrap();
    for grant in crowd.policy.operator_grants() {
        crowd.lease_of(grant.clone()).await.unwrap();
        crowd.lease_of(grant).await.unwrap();
    }
    drop((one, other));
    assert_eq!(crowd.bed.drained().await, 0);
    crowd.lease("alice").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_for_counts_and_what_the_store_has_not_taken_back() {
    let crowd = Crowd::new(Fake { hold: Some(Notify::new()), ..Fake::new(3600) }, "limits: { max_leases_per_user: 1 }");
    let first = tokio::spawn(crowd.lease("alice"));
    crowd.bed.store.called(1).await;
    assert_eq!(kind(crowd.lease("alice").await), Err(StoreErrorKind::Quota), "it is being made");
    *crowd.bed.store.revocations.lock().unwrap() = [Err(StoreErrorKind::Unavailable)].into();
    // Whoever asked has left: what is then made is given back, and not before does it count no more.
    first.abort();
    crowd.bed.store.hold.as_ref().unwrap().notify_one();
    crowd.bed.store.called(2).await;
    tokio::task::yield_now().await;
    assert_eq!(kind(crowd.lease("alice").await), Err(StoreErrorKind::Quota), "the store has not taken it back");
    assert_eq!(crowd.bed.drained().await, 0);
    crowd.bed.store.hold.as_ref().unwrap().notify_one();
    assert_eq!(kind(crowd.lease("alice").await), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_or_never_asked_for_counts_no_more() {
    let crowd = Crowd::new(Fake::new(3600), "limits: { max_leases_per_user: 1 }");
    for _ in 0..3 {
        *crowd.bed.store.failure.lock().unwrap() = Some(StoreError::new(StoreErrorKind::Denied, "no"));
        assert_eq!(kind(crowd.lease("alice").await), Err(StoreErrorKind::Denied));
    }
    assert_eq!(kind(crowd.lease("alice").await), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_sessions_share_counts_once_and_for_who_asked_for_it() {
    let crowd = Crowd::new(Fake::new(3600), "lease: shared, limits: { max_leases_per_user: 1 }");
    let shared = [crowd.lease("alice").await, crowd.lease("alice").await, crowd.lease("bob").await].map(Result::unwrap);
    assert_eq!(crowd.asked(), 1);
    // Another account has another lease: alice has one already, bob has none.
    assert_eq!(kind(crowd.lease_of(crowd.grant("alice", "ro")).await), Err(StoreErrorKind::Quota));
    assert_eq!(kind(crowd.lease_of(crowd.grant("bob", "ro")).await), Ok(()));
    drop(shared);
}

#[tokio::test(start_paused = true)]
async fn twenty_is_the_limit_where_the_file_says_nothing_and_zero_is_none() {
    for (keys, most) in [("tls: verify-full", Some(20)), ("limits: { max_leases_per_user: 0 }", None)] {
        let crowd = Crowd::new(Fake::new(3600), keys);
        let mut held = Vec::new();
        for number in 0..30 {
            let lease = crowd.lease("alice").await;
            assert_eq!(lease.is_ok(), most.is_none_or(|most| number < most), "{number} where {keys}");
            held.push(lease);
        }
    }
}
