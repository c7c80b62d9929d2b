//! The matrix of vault.md §14.2: every kind of call against every kind of failure.

use serde_json::json;

use super::*;

const BUDGET: Duration = Duration::from_secs(10);
const NONE: Duration = Duration::ZERO;

fn refused(status: u16, text: &str) -> Failure {
    Failure::Refused(Refused::of(status, vec![text.to_owned()], json!({ "errors": [text] })))
}

fn without_words(status: u16) -> Failure {
    Failure::Refused(Refused::of(status, Vec::new(), serde_json::Value::Null))
}

fn busy(seconds: u64) -> Failure {
    let refused = Refused::of(429, vec!["rate limit quota exceeded".to_owned()], serde_json::Value::Null);
    Failure::Refused(Refused { retry_after: Some(Duration::from_secs(seconds)), ..refused })
}

fn behind() -> Failure {
    let refused = Refused::of(429, Vec::new(), json!({ "errors": [] }));
    Failure::Refused(Refused { retry_after: Some(Duration::from_secs(1)), ..refused })
}

/// How often a call that fails like this every time is sent, on a store of one address.
fn sent(failure: &Failure, retry: Retry) -> u32 {
    let mut tries = Tries::new(retry, BUDGET);
    let mut sent = 1;
    while sent < 100 && tries.after(failure, NONE, Next::Same).is_some() {
        sent += 1;
    }
    sent
}

#[test]
fn every_call_is_sent_as_often_as_its_failure_allows() {
    const EACH: [Retry; 4] = [Retry::Idempotent, Retry::OnceMore, Retry::Issue, Retry::Unsent];
    for (what, failure, expected) in [
        // It certainly did not run: the connection was refused, the certificate was wrong.
        ("refused", Failure::Unreached("connection refused".into()), [4, 4, 4, 4]),
        ("307 to a dead leader", Failure::without_leader("connection refused".into()), [4, 4, 4, 4]),
        ("429", busy(1), [4, 4, 4, 4]),
        ("412, recorded of Vault Enterprise", refused(412, "required index state not present"), [4, 4, 4, 4]),
        ("429 of a standby that lags", behind(), [4, 4, 4, 4]),
        ("503 sealed", refused(503, "Vault is sealed"), [4, 4, 4, 4]),
        ("503 without a leader", refused(503, "no active Vault instance found"), [4, 4, 4, 4]),
        ("500 without a leader", refused(500, "local node not active but active cluster node not found"), [4, 4, 4, 4]),
        // It may have run.
        ("reset", Failure::Unanswered("reset".into()), [4, 2, 1, 1]),
        ("500", refused(500, "1 error occurred:\n\t* leadership lost while committing log\n\n"), [4, 2, 1, 1]),
        ("500 of another", without_words(500), [4, 2, 1, 1]),
        ("502", without_words(502), [4, 2, 1, 1]),
        ("503 of a load balancer", without_words(503), [4, 2, 1, 1]),
        ("504", without_words(504), [4, 2, 1, 1]),
        ("500 naming the database", refused(500, "dial tcp 127.0.0.1:5432: connect: connection refused"), [4, 2, 2, 1]),
        // No repetition helps.
        ("400", refused(400, "invalid role or secret ID"), [1, 1, 1, 1]),
        ("403", refused(403, "permission denied"), [1, 1, 1, 1]),
        ("404", refused(404, "no handler for route"), [1, 1, 1, 1]),
        ("405", refused(405, "unsupported operation"), [1, 1, 1, 1]),
        ("472, recorded of Vault Enterprise", without_words(472), [1, 1, 1, 1]),
        ("501", without_words(501), [1, 1, 1, 1]),
        ("no token", Failure::Store(crate::store::StoreError::new(crate::store::StoreErrorKind::LoginFailed, "no")), [1, 1, 1, 1]),
    ] {
        assert_eq!(EACH.map(|retry| sent(&failure, retry)), expected, "{what}");
    }
}

#[test]
fn pauses_grow_stay_in_the_budget_and_are_as_long_as_the_server_wants() {
    let pause = |failure: &Failure, made: u32, elapsed: u64| {
        Tries { made, ..Tries::new(Retry::Idempotent, BUDGET) }.after(failure, Duration::from_secs(elapsed), Next::Same)
    };
    let between = |failure: &Failure, made: u32, least: u64, most: u64| {
        for _ in 0..200 {
            let pause = pause(failure, made, 0).unwrap().as_millis();
            assert!((u128::from(least)..=u128::from(most)).contains(&pause), "{pause} ms, {least} to {most}");
        }
    };
    let gone = Failure::Unreached("refused".into());
    for (made, most) in [(0, 100), (1, 200), (2, 400)] {
        between(&gone, made, 0, most);
    }
    between(&busy(3), 0, 3000, 3600);
    between(&busy(0), 0, 250, 600);
    between(&behind(), 0, 100, 200);
    between(&behind(), 2, 400, 800);
    between(&refused(429, "rate limit quota exceeded"), 1, 500, 1000);
    between(&Failure::without_leader("gone".into()), 1, 1000, 2000);
    assert_eq!(pause(&busy(11), 0, 0), None, "longer than the caller waits");
    assert_eq!(pause(&busy(u64::MAX), 0, 0), None);
    assert_eq!(pause(&busy(1), 0, 9), None, "too late");
}

#[test]
fn another_address_is_asked_at_once_and_a_header_is_left_away_at_once() {
    let mut tries = Tries::new(Retry::Unsent, BUDGET);
    for _ in 0..9 {
        assert_eq!(tries.after(&refused(503, "Vault is sealed"), NONE, Next::Other), Some(NONE));
        assert_eq!(tries.after(&without_words(472), NONE, Next::Other), Some(NONE));
    }
    assert_eq!(tries.made, 0);
    let spoilt = refused(400, "failed to decode \"X-Vault-Index\"");
    assert_eq!(sent(&spoilt, Retry::Unsent), 3, "once for each of the two headers");
}

#[test]
fn a_mount_that_is_being_upgraded_is_asked_until_the_time_is_over() {
    let mut tries = Tries::new(Retry::Idempotent, BUDGET);
    let upgrading = refused(400, "Upgrading from non-versioned to versioned data. This backend will be unavailable for a brief period");
    for half_seconds in 0..19 {
        assert!(tries.after(&upgrading, Duration::from_millis(500 * half_seconds), Next::Same).is_some());
    }
    assert_eq!(tries.after(&upgrading, Duration::from_millis(9500), Next::Same), None);
}

#[test]
fn further_tries_are_a_tenth_of_the_calls_once_the_first_ones_are_spent() {
    let start = Instant::now();
    let allowance = Allowance::new(start);
    let spend = |at: Instant, calls: u32| {
        (0..calls)
            .filter(|_| {
                allowance.earn();
                allowance.spend(at)
            })
            .count()
    };
    let first = spend(start, 100);
    assert!((10..=21).contains(&first), "{first}");
    assert_eq!(spend(start, 100), 10);
    assert!(!allowance.spend(start), "none is left");
    let later = start + Duration::from_secs(3);
    assert_eq!((0..10).filter(|_| allowance.spend(later)).count(), 3, "one comes back every second");
}
