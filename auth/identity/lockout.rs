//! What failed logins cost: the pair of user and address is locked, the address is slowed. Nothing is ever counted for a user
//! alone, so that a stranger cannot lock anybody out of an address that he does not share. Names that do not exist are counted like
//! those that do.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::capped::Capped;
use super::{AuthFailure, Source, ThrottleKey};

/// Pairs and addresses that are remembered, each.
const CAPACITY: usize = 100_000;
/// Failures older than this no longer slow their address.
const SLOW_WINDOW: Duration = Duration::from_secs(60);
/// Failures within the window that cost nothing: a mistyped password.
const FREE_FAILURES: usize = 3;
const FIRST_DELAY: Duration = Duration::from_millis(500);
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// Characters of a name that are shown in the log.
const SHOWN: usize = 64;
/// Failures remembered per address; more would not make the delay any longer.
const REMEMBERED: usize = 8;

/// The limits of the file that are applied here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LockoutLimits {
    /// Failures of one pair before it is locked. 0 here or below: never.
    pub(crate) failed_logins: u32,
    pub(crate) lock_time: Duration,
}

/// The failures that this process remembers. Outlives reloads.
pub(crate) struct Lockout {
    /// Names are kept as keyed hashes: of constant size, and none of them to be read in a core file.
    hasher: RandomState,
    table: Mutex<Table>,
}

struct Table {
    limits: LockoutLimits,
    pairs: Capped<Pair, Failures>,
    addresses: Capped<ThrottleKey, VecDeque<Instant>>,
}

type Pair = (u64, ThrottleKey);

#[derive(Default)]
struct Failures {
    count: u32,
    last: Option<Instant>,
    locked_until: Option<Instant>,
}

impl Lockout {
    pub(crate) fn new(limits: LockoutLimits) -> Self {
        Self {
            hasher: RandomState::new(),
            table: Mutex::new(Table { limits, pairs: Capped::new(CAPACITY), addresses: Capped::new(CAPACITY) }),
        }
    }

    pub(crate) fn set_limits(&self, limits: LockoutLimits) {
        self.table().limits = limits;
    }

    /// Something else was guessed wrong from this address: waits as long as a login from there would, and counts for the address alone.
    pub(crate) async fn missed(&self, source: Source) {
        let address = source.throttle_key();
        self.wait(address).await;
        self.table().missed(address, Instant::now());
    }

    /// Waits as long as this address has to, at most 5 s.
    async fn wait(&self, address: ThrottleKey) {
        let delay = self.table().delay(address, Instant::now());
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One login of one user name from one address. Whoever makes it reports how it ended; one that is abandoned changes nothing.
pub(crate) struct Attempt {
    lockout: Arc<Lockout>,
    pair: Pair,
    source: Source,
    /// The name for the log: as typed, escaped and bounded.
    shown: Box<str>,
}

impl Attempt {
    /// Waits as long as the address has to (at most 5 s), then says whether the pair may try. `user` as typed.
    pub(crate) async fn begin(lockout: &Arc<Lockout>, user: &str, source: Source) -> Result<Self, AuthFailure> {
        lockout.wait(source.throttle_key()).await;
        Self::at_once(lockout, user, source)
    }

    /// The same without the wait, for what nobody can guess.
    pub(crate) fn at_once(lockout: &Arc<Lockout>, user: &str, source: Source) -> Result<Self, AuthFailure> {
        let shown = user.chars().take(SHOWN).flat_map(char::escape_debug).collect();
        let pair = (lockout.hasher.hash_one(user), source.throttle_key());
        let attempt = Self { lockout: Arc::clone(lockout), pair, source, shown };
        attempt.check()?;
        Ok(attempt)
    }

    /// The user as typed, escaped and bounded.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// Asked again right before a proof is checked: others of the same pair may have failed meanwhile, or a crowd that began
    /// together would have as many guesses as it has members.
    pub(crate) fn check(&self) -> Result<(), AuthFailure> {
        if self.lockout.table().locked(self.pair, Instant::now()) { Err(AuthFailure::Locked) } else { Ok(()) }
    }

    pub(crate) fn failed(&self) {
        let locked = self.lockout.table().failed(self.pair, Instant::now());
        if let Some(lock_time) = locked {
            let (source, user) = (self.source, &self.shown);
            tracing::info!(%source, user, ?lock_time, "locked after too many failed logins from this address");
        }
    }

    pub(crate) fn succeeded(&self) {
        self.lockout.table().pairs.remove(&self.pair);
    }
}

impl Table {
    fn delay(&self, address: ThrottleKey, now: Instant) -> Duration {
        let recent = |failure: &&Instant| now.saturating_duration_since(**failure) < SLOW_WINDOW;
        let failures = self.addresses.get(&address).map_or(0, |failures| failures.iter().filter(recent).count());
        match failures.checked_sub(FREE_FAILURES.saturating_add(1)).map(u32::try_from) {
            None => Duration::ZERO,
            Some(doublings) => FIRST_DELAY.saturating_mul(2_u32.saturating_pow(doublings.unwrap_or(u32::MAX))).min(LONGEST_DELAY),
        }
    }

    fn locked(&self, pair: Pair, now: Instant) -> bool {
        self.pairs.get(&pair).and_then(|failures| failures.locked_until).is_some_and(|until| now < until)
    }

    fn missed(&mut self, address: ThrottleKey, now: Instant) {
        let failures = self.addresses.write(address);
        if failures.len() >= REMEMBERED {
            failures.pop_front();
        }
        failures.push_back(now);
    }

    /// For how long the pair is locked from now on, if this failure locked it.
    fn failed(&mut self, pair: Pair, now: Instant) -> Option<Duration> {
        self.missed(pair.1, now);
        let LockoutLimits { failed_logins, lock_time } = self.limits;
        let failures = self.pairs.write(pair);
        let stale = failures.last.is_some_and(|last| now.saturating_duration_since(last) > lock_time);
        let served = failures.locked_until.is_some_and(|until| now >= until);
        if stale || served {
            *failures = Failures::default();
        }
        failures.count = failures.count.saturating_add(1);
        failures.last = Some(now);
        // Failures while it is locked do not lock it for longer, or a program with an old password would never come back.
        let locks = failed_logins > 0 && !lock_time.is_zero() && failures.count >= failed_logins && failures.locked_until.is_none();
        if locks {
            failures.locked_until = now.checked_add(lock_time);
        }
        locks.then_some(lock_time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: Duration = Duration::from_secs(300);

    fn lockout(failed_logins: u32) -> Lockout {
        Lockout::new(LockoutLimits { failed_logins, lock_time: LOCK })
    }

    fn address(text: &str) -> ThrottleKey {
        Source::tcp(text.parse().unwrap()).throttle_key()
    }

    #[test]
    fn a_pair_is_locked_after_its_failures_and_free_again_after_its_time() {
        let lockout = lockout(3);
        let (mut table, now) = (lockout.table(), Instant::now());
        let pair = (1, address("192.0.2.1"));
        for second in 0..3 {
            assert!(!table.locked(pair, now + Duration::from_secs(second)));
            table.failed(pair, now + Duration::from_secs(second));
        }
        let locked_at = now + Duration::from_secs(2);
        assert!(table.locked(pair, locked_at));
        table.failed(pair, locked_at + LOCK / 2);
        assert!(table.locked(pair, locked_at + LOCK - Duration::from_nanos(1)), "it is locked for the whole time");
        assert!(!table.locked(pair, locked_at + LOCK), "a failure while it was locked did not lock it for longer");
        table.failed(pair, locked_at + LOCK);
        assert!(!table.locked(pair, locked_at + LOCK), "counting starts anew");
    }

    #[test]
    fn a_stranger_locks_nobody_at_another_address_and_no_other_user_at_his_own() {
        let lockout = lockout(1);
        let (mut table, now) = (lockout.table(), Instant::now());
        for _ in 0..50 {
            table.failed((1, address("203.0.113.9")), now);
        }
        assert!(table.locked((1, address("203.0.113.9")), now));
        assert!(!table.locked((1, address("192.0.2.1")), now));
        assert!(!table.locked((2, address("203.0.113.9")), now));
        assert_eq!(table.delay(address("192.0.2.1"), now), Duration::ZERO);
    }

    #[test]
    fn an_address_is_slowed_from_its_fourth_failure_in_a_minute_whoever_it_tries() {
        let lockout = lockout(0);
        let (mut table, now) = (lockout.table(), Instant::now());
        let from = address("2001:db8::1");
        let mut delays = Vec::new();
        for user in 0..10 {
            table.failed((user, from), now);
            delays.push(table.delay(from, now).as_millis());
        }
        assert_eq!(delays, [0, 0, 0, 500, 1000, 2000, 4000, 5000, 5000, 5000]);
        assert_eq!(table.delay(address("2001:db8::ffff"), now), LONGEST_DELAY, "the same /64");
        assert_eq!(table.delay(from, now + SLOW_WINDOW), Duration::ZERO);
        assert!(!table.locked((0, from), now), "0 failed logins: never locked");
    }

    #[test]
    fn old_failures_and_successes_are_forgotten_and_limits_follow_a_reload() {
        let lockout = Arc::new(lockout(2));
        let pair = (1, address("192.0.2.1"));
        let now = Instant::now();
        lockout.table().failed(pair, now);
        lockout.table().failed(pair, now + LOCK + Duration::from_secs(1));
        assert!(!lockout.table().locked(pair, now + LOCK + Duration::from_secs(1)), "the first one was too long ago");

        Attempt { lockout: Arc::clone(&lockout), pair, source: Source::local(), shown: "".into() }.succeeded();
        lockout.table().failed(pair, now + LOCK + Duration::from_secs(2));
        assert!(!lockout.table().locked(pair, now + LOCK + Duration::from_secs(2)), "the success cleared it");

        lockout.set_limits(LockoutLimits { failed_logins: 1, lock_time: LOCK });
        lockout.table().failed(pair, now + LOCK + Duration::from_secs(3));
        assert!(lockout.table().locked(pair, now + LOCK + Duration::from_secs(3)));
    }
}
