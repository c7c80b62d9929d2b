//! When a store counts as away (vault.md §14.2): then calls to it fail at once, so that a cache may serve, and one now and then finds
//! out whether it is back.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use reqwest::Method;

use super::super::answer::{Answer, Failure};
use super::Call;
use super::retry::random_up_to;

/// Failures in a row.
const FAILURES: u32 = 5;
/// Until one call is let through to see whether the store is back, at first and at most; each plus up to as much again, at most.
const FIRST_PROBE: Duration = Duration::from_secs(1);
const LAST_PROBE: Duration = Duration::from_secs(5);

/// The breaker of one store.
pub(super) struct Breaker(Mutex<State>);

enum State {
    Closed { failures: u32 },
    Open(Away),
}

struct Away {
    since: Instant,
    probe_at: Instant,
    wait: Duration,
    why: String,
}

/// What a try says of the store.
pub(super) enum Sign {
    /// It answers, be it with a refusal.
    Well,
    /// It cannot be reached, or says itself that it serves nobody.
    Ill(String),
    /// Nothing: the trouble may be that of whoever stands behind it, such as a database.
    Unclear,
}

/// What became of the breaker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The store counts as away from now on.
    Opened,
    /// It answers again, after this long.
    Closed { away: Duration },
}

impl Default for Breaker {
    fn default() -> Self {
        Self(Mutex::new(State::Closed { failures: 0 }))
    }
}

impl Breaker {
    /// Whether a call may be sent. Whoever is let through while the store counts as away is a probe, and nobody else is for a while.
    ///
    /// # Errors
    /// It may not; why, for the operator.
    pub(super) fn admit(&self, now: Instant) -> Result<(), String> {
        let Ok(mut state) = self.0.lock() else { return Ok(()) };
        let State::Open(away) = &mut *state else { return Ok(()) };
        if now < away.probe_at {
            let time = now.saturating_duration_since(away.since).as_secs();
            return Err(format!("the store has been away for {time} s and is not asked at every call; {}", away.why));
        }
        away.postpone(now);
        Ok(())
    }

    /// What came of a call. A change is told to the one who brought it about, and to nobody else.
    pub(super) fn note(&self, sign: Sign, now: Instant) -> Option<Change> {
        let mut state = self.0.lock().ok()?;
        match (&mut *state, sign) {
            (_, Sign::Unclear) => None,
            (State::Closed { failures }, Sign::Well) => {
                *failures = 0;
                None
            }
            (State::Open(away), Sign::Well) => {
                let away = now.saturating_duration_since(away.since);
                *state = State::Closed { failures: 0 };
                Some(Change::Closed { away })
            }
            (State::Open(away), Sign::Ill(why)) => {
                away.why = why;
                None
            }
            (State::Closed { failures }, Sign::Ill(why)) => {
                *failures = failures.saturating_add(1);
                if *failures < FAILURES {
                    return None;
                }
                let mut away = Away { since: now, probe_at: now, wait: FIRST_PROBE, why };
                away.postpone(now);
                *state = State::Open(away);
                Some(Change::Opened)
            }
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.0.lock().is_ok_and(|state| matches!(*state, State::Open(_)))
    }
}

impl Away {
    fn postpone(&mut self, now: Instant) {
        let wait = self.wait.saturating_add(random_up_to(self.wait)).min(LAST_PROBE);
        self.probe_at = now.checked_add(wait).unwrap_or(now);
        self.wait = self.wait.saturating_mul(2).min(LAST_PROBE);
    }
}

/// What came of this call says of the store. Behind a call with a limit of its own stands somebody else, who may be the one in trouble; and
/// without a leader the standbys of OpenBao still answer reads.
pub(super) fn sign(result: &Result<Answer, Failure>, call: &Call<'_>) -> Sign {
    let handed_on = call.limit.is_some();
    let for_any_node = !handed_on && !call.fresh && call.method == Method::GET;
    match result {
        Ok(_) => Sign::Well,
        // One secret that somebody let grow is no reason to ask for no other.
        Err(Failure::TooLong) => Sign::Well,
        Err(Failure::Store(_)) => Sign::Unclear,
        Err(Failure::Unanswered(_)) if handed_on => Sign::Unclear,
        Err(Failure::Refused(refused)) => match refused.status {
            500 | 502 | 504 if handed_on => Sign::Unclear,
            307 if !for_any_node => Sign::Unclear,
            307 | 472 | 500.. => Sign::Ill(refused.brief()),
            _ => Sign::Well,
        },
        Err(failure) => Sign::Ill(failure.brief()),
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use serde_json::Value;

    use super::super::super::answer::Refused;
    use super::*;

    fn ill() -> Sign {
        Sign::Ill("connection refused".to_owned())
    }

    fn after(start: Instant, milliseconds: u64) -> Instant {
        start.checked_add(Duration::from_millis(milliseconds)).unwrap()
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_one_answer_closes_it() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        for sign in [ill(), ill(), ill(), ill(), Sign::Well, ill(), ill(), ill(), ill(), Sign::Unclear] {
            assert_eq!(breaker.note(sign, start), None);
        }
        assert!(breaker.admit(start).is_ok());
        assert_eq!(breaker.note(ill(), start), Some(Change::Opened));
        assert!(breaker.is_open());
        assert_eq!(breaker.note(ill(), start), None, "told once");
        assert!(breaker.admit(after(start, 900)).unwrap_err().contains("connection refused"));
        assert_eq!(breaker.note(Sign::Unclear, start), None);
        assert_eq!(breaker.note(Sign::Well, after(start, 3000)), Some(Change::Closed { away: Duration::from_secs(3) }));
        assert!(breaker.admit(after(start, 3000)).is_ok());
        assert_eq!(breaker.note(ill(), start), None, "it begins to count anew");
    }

    #[test]
    fn while_it_is_open_one_call_every_one_to_five_seconds_is_let_through() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        for _ in 0..5 {
            breaker.note(ill(), start);
        }
        let admitted: Vec<u64> = (0..60_000).step_by(10).filter(|at| breaker.admit(after(start, *at)).is_ok()).collect();
        assert!((12..=16).contains(&admitted.len()), "{admitted:?}");
        let gaps: Vec<u64> = std::iter::once(0).chain(admitted.iter().copied()).zip(&admitted).map(|(from, to)| to - from).collect();
        assert!(gaps.iter().all(|gap| (1000..=5010).contains(gap)), "{gaps:?}");
    }

    #[test]
    fn a_refusal_is_a_sign_of_life_and_a_database_in_trouble_is_not_the_store() {
        let handed_on = Call { limit: Some(Duration::from_secs(95)), ..Call::get("issue", "db/creds/r") };
        let (plain, fresh) = (Call::get("kv_read", "kv/data/x"), Call { fresh: true, ..Call::get("kv_read", "kv/data/x") });
        let word = |failure: Failure, call: &Call<'_>| match sign(&Err(failure), call) {
            Sign::Well => "well",
            Sign::Ill(_) => "ill",
            Sign::Unclear => "unclear",
        };
        let of = |status: u16, call: &Call<'_>| word(Failure::Refused(Refused::of(status, vec!["words".to_owned()], Value::Null)), call);
        for status in [400, 403, 404, 412, 429] {
            assert_eq!((of(status, &plain), of(status, &handed_on)), ("well", "well"), "{status}");
        }
        for status in [472, 501, 503] {
            assert_eq!((of(status, &plain), of(status, &handed_on)), ("ill", "ill"), "{status}");
        }
        for status in [500, 502, 504] {
            assert_eq!((of(status, &plain), of(status, &handed_on)), ("ill", "unclear"), "{status}");
        }
        assert_eq!(word(Failure::Unreached("refused".into()), &handed_on), "ill");
        assert_eq!(word(Failure::Unanswered("late".into()), &handed_on), "unclear");
        assert_eq!(word(Failure::Unanswered("late".into()), &plain), "ill");
        assert_eq!((word(Failure::TooLong, &plain), word(Failure::TooLong, &handed_on)), ("well", "well"));
        assert_eq!(word(Failure::without_leader("gone".into()), &plain), "ill");
        assert_eq!(word(Failure::without_leader("gone".into()), &fresh), "unclear");
    }
}
