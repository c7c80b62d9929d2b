//! What is known of the end of a lease before it comes, and what a session is spared that would meet it too soon.

use super::*;
use crate::store::Outlook;

fn sight(outlook: &mut Outlook) -> Option<u64> {
    outlook.end().map(|end| end.saturating_duration_since(Instant::now()).as_secs())
}

/// The seconds that are left once an end comes in sight, and when it does.
async fn in_sight(outlook: &mut Outlook, began: Instant) -> (u64, u64) {
    loop {
        if let Some(left) = sight(outlook) {
            return (began.elapsed().as_secs(), left);
        }
        outlook.changed().await;
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn from_now(seconds: u64) -> Option<std::time::Instant> {
    Some((Instant::now() + Duration::from_secs(seconds)).into_std())
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_renewed_has_no_end_in_sight_until_a_renewal_gives_less_than_was_asked() {
    let bed = Bed::in_memory(Fake::new(600));
    *bed.store.renewals.lock().unwrap() = [Ok(600), Ok(600), Ok(500)].into();
    let began = Instant::now();
    let lease = bed.issue().await.unwrap();
    // The third renewal is at 1200 s; told 10 s before those 500 s are over.
    assert_eq!(in_sight(&mut lease.outlook(), began).await, (1200, 490));
    assert_eq!(lease.ended().await, LeaseEnd::Expired);
    assert_eq!(began.elapsed().as_secs(), 1690);
    assert_eq!(sight(&mut lease.outlook()), None, "what has ended is not ahead");
}

#[tokio::test(start_paused = true)]
async fn a_last_renewal_that_gives_little_leaves_a_session_as_long_to_end_as_its_lease_did() {
    let bed = Bed::in_memory(Fake::new(30));
    *bed.store.renewals.lock().unwrap() = [Ok(30), Ok(6)].into();
    let began = Instant::now();
    let lease = bed.issue().await.unwrap();
    // The second renewal is at 40 s; told a tenth of 30 s before those 6 s are over.
    assert_eq!(in_sight(&mut lease.outlook(), began).await, (40, 3));
    assert_eq!(lease.ended().await, LeaseEnd::Expired);
    assert_eq!(began.elapsed().as_secs(), 43);
}

#[tokio::test(start_paused = true)]
async fn an_end_is_in_sight_from_the_first_if_nothing_can_be_renewed() {
    let bed = Bed::in_memory(Fake { renewable: false, ..Fake::new(600) });
    let lease = bed.issue().await.unwrap();
    assert_eq!(sight(&mut lease.outlook()), Some(590));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_brings_the_end_in_sight_and_one_that_succeeds_after_all_takes_it_away() {
    let bed = Bed::in_memory(Fake::new(600));
    *bed.store.renewals.lock().unwrap() = [Err(StoreErrorKind::Unavailable), Err(StoreErrorKind::Throttled), Ok(600)].into();
    let began = Instant::now();
    let lease = bed.issue().await.unwrap();
    let mut outlook = lease.outlook();
    assert_eq!(in_sight(&mut outlook, began).await, (400, 190));
    while sight(&mut outlook).is_some() {
        outlook.changed().await;
    }
    assert!((401..410).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_renewed_in_time_brings_no_end_in_sight_and_one_that_is_not_does() {
    let bed = Bed::in_memory(Fake::new(36_000));
    bed.store.token.send_replace(from_now(3600));
    let began = Instant::now();
    let lease = bed.issue().await.unwrap();
    let mut outlook = lease.outlook();
    for _ in 0..5 {
        pass(2400).await;
        assert_eq!(sight(&mut outlook), None);
        bed.store.token.send_replace(from_now(3600));
    }
    // The last renewal was at 12 000 s: three quarters later it is overdue.
    assert_eq!(in_sight(&mut outlook, began).await, (14_700, 890));
    bed.store.token.send_replace(from_now(3600));
    pass(1).await;
    assert_eq!(sight(&mut outlook), None, "it was renewed after all");
    assert_eq!(lease.ended().await, LeaseEnd::Expired);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_token_that_nobody_can_renew_any_more_is_in_sight_at_once() {
    let (store, moves) = watch::channel(from_now(3600));
    let mut end = TokenEnd::of(moves);
    assert_eq!(end.in_sight(), None);
    drop(store);
    end.changed().await;
    assert_eq!(end.in_sight().map(|end| end.duration_since(Instant::now()).as_secs()), Some(3590));
}

#[tokio::test(start_paused = true)]
async fn a_last_renewal_of_a_token_leaves_a_session_as_long_to_end_as_ever() {
    let (store, moves) = watch::channel(from_now(60));
    let mut end = TokenEnd::of(moves);
    pass(40).await;
    store.send_replace(from_now(20));
    end.changed().await;
    drop(store);
    end.changed().await;
    assert_eq!(end.in_sight().map(|end| end.duration_since(Instant::now()).as_secs()), Some(14));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_one_time_password_is_nobodys() {
    let bed = Bed::in_memory(Fake { used: Use::Login, renewable: false, ..Fake::new(60) });
    let mut lease = bed.issue().await.unwrap();
    lease.forget_credential();
    assert_eq!(sight(&mut lease.outlook()), None);
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_whatever_length_a_store_may_say_is_kept_and_given_back() {
    for seconds in [0, 1, u64::MAX] {
        let bed = Bed::in_memory(Fake::new(seconds));
        *bed.store.renewals.lock().unwrap() = [Ok(u64::MAX), Ok(0)].into();
        let lease = bed.issue().await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(lease);
        assert_eq!(bed.drained().await, 0, "{seconds}");
        assert_eq!(bed.store.log().last().map(String::as_str), Some("revoke db/creds/role/1"), "{seconds}");
    }
}

/// A connection of which the file says `min_session: 60s`, before this store.
fn least(store: Fake) -> Bed {
    Bed::with_keys(store, Leases::open(None).unwrap(), "min_session: 60s")
}

#[tokio::test(start_paused = true)]
async fn a_new_lease_that_leaves_a_session_too_little_is_given_back() {
    let bed = least(Fake { renewable: false, ..Fake::new(60) });
    let error = bed.issue().await.unwrap_err();
    assert_eq!(error.detail, "lease too short: db/creds/role leaves a session 54 s, and min_session is 60 s");
    assert_eq!(bed.drained().await, 0);
    assert_eq!(bed.store.log(), ["issue db/creds/role", "revoke db/creds/role/1"]);
    assert_eq!(bed.events(), ["issued", "too_short", "revoked"]);
    least(Fake { renewable: false, ..Fake::new(67) }).issue().await.unwrap();
    Bed::in_memory(Fake { renewable: false, ..Fake::new(1) }).issue().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_store_is_asked_at_once_for_as_much_as_a_session_needs() {
    // It gives it: a short life that can be prolonged is none that ends.
    let bed = least(Fake::new(20));
    let lease = bed.issue().await.unwrap();
    assert_eq!(
        (bed.store.log(), sight(&mut lease.outlook())),
        (vec!["issue db/creds/role".into(), "renew db/creds/role/1 60".into()], None)
    );
    drop(lease);
    assert_eq!(bed.drained().await, 0);
    // It gives less, or no more at all.
    for answer in [Ok(40), Err(StoreErrorKind::Denied), Err(StoreErrorKind::LeaseLost)] {
        let bed = least(Fake::new(20));
        *bed.store.renewals.lock().unwrap() = [answer].into();
        assert!(bed.issue().await.unwrap_err().detail.starts_with("lease too short"), "{answer:?}");
        assert_eq!(bed.drained().await, 0);
    }
    // It does not say: nothing is known of its end.
    let bed = least(Fake::new(20));
    *bed.store.renewals.lock().unwrap() = [Err(StoreErrorKind::Unavailable)].into();
    bed.issue().await.unwrap();
    // A one-time password is of use until the login, however long it lives.
    least(Fake { used: Use::Login, renewable: false, ..Fake::new(20) }).issue().await.unwrap();
    // Nothing to ask about.
    let bed = least(Fake::new(3600));
    bed.issue().await.unwrap();
    assert_eq!(bed.store.log().iter().filter(|call| call.starts_with("renew")).count(), 0);
}
