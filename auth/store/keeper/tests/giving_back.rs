//! Giving leases back to a store that does not take them, or may not.

use super::*;

#[tokio::test(start_paused = true)]
async fn giving_back_is_tried_until_it_succeeds() {
    let bed = Bed::in_memory(Fake::new(3600));
    *bed.store.revocations.lock().unwrap() = [Err(StoreErrorKind::Unavailable), Err(StoreErrorKind::Denied), Ok(())].into();
    drop(bed.issue().await.unwrap());
    assert_eq!(bed.drained().await, 0);
    assert_eq!(bed.events(), ["issued", "revoke_failed", "revoke_failed", "revoked"]);
}

#[tokio::test(start_paused = true)]
async fn giving_back_is_given_up_a_while_after_the_end_of_the_lease() {
    let bed = Bed::in_memory(Fake::new(600));
    *bed.store.revocations.lock().unwrap() = std::iter::repeat_with(|| Err(StoreErrorKind::Unavailable)).take(1000).collect();
    let began = Instant::now();
    drop(bed.issue().await.unwrap());
    assert_eq!(bed.leases.drain(Duration::from_secs(60)).await, 1, "a drain does not wait for ever");
    assert_eq!(bed.drained().await, 0);
    let passed = began.elapsed().as_secs();
    assert!((660..=690).contains(&passed), "{passed}");
    assert!(!bed.events().contains(&"revoked"));
    assert_eq!(bed.events().last(), Some(&"expired"), "it is counted");
}

/// How often it was tried in that time after a session's end.
async fn tried(answer: StoreErrorKind, seconds: u64) -> (usize, Bed) {
    let bed = Bed::in_memory(Fake::new(36_000));
    *bed.store.revocations.lock().unwrap() = std::iter::repeat_with(|| Err(answer)).take(1000).collect();
    drop(bed.issue().await.unwrap());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    (bed.events().iter().filter(|event| **event == "revoke_failed").count(), bed)
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_away_is_asked_ever_more_rarely_down_to_every_half_minute() {
    let (at_first, _) = tried(StoreErrorKind::Unavailable, 60).await;
    assert!((6..=8).contains(&at_first), "{at_first}");
    let (hour, _) = tried(StoreErrorKind::Unavailable, 3600).await;
    assert!((110..=260).contains(&hour), "{hour}");
}

#[tokio::test(start_paused = true)]
async fn what_the_policy_denies_is_tried_every_few_minutes_from_the_first_and_told_once_for_all_leases() {
    let (tries, _) = tried(StoreErrorKind::Denied, 149).await;
    assert_eq!(tries, 1, "no storm of what nobody grants");
    let (tries, bed) = tried(StoreErrorKind::Denied, 3600).await;
    assert!((12..=25).contains(&tries), "{tries}");
    // Somebody has changed the policy.
    bed.store.revocations.lock().unwrap().clear();
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!((bed.events().last(), bed.leases.stats().waiting), (Some(&"revoked"), 0));

    let named = bed.named();
    let news = |named: &Named| named.clone().may_not_revoke();
    assert_eq!([news(&named), news(&named), news(&named)], [true, false, false]);
    named.may_revoke();
    assert!(news(&named), "it was allowed meanwhile");
}
