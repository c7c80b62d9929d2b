//! Which failures are tried again, when, and how many at most (vault.md §14.2).

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::super::answer::{Failure, Refused};
use super::super::errors::{database_is_down, is_upgrading, without_a_leader};

/// Sent so often at most, not counting those that the next address of the store answers at once.
const TRIES: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LAST_WAIT: Duration = Duration::from_secs(5);
/// A standby has what it lacks within milliseconds, or it lags far behind.
const FIRST_CATCHING_UP: Duration = Duration::from_millis(200);
const LAST_CATCHING_UP: Duration = Duration::from_secs(1);
/// A quota that does not say when it is over is mostly one of so many calls a second.
const FIRST_BUSY: Duration = Duration::from_millis(500);
/// Until another leader is there: some seconds.
const FIRST_ELECTION: Duration = Duration::from_secs(1);
/// A mount that is being upgraded is asked again this often, until the call's time is over.
const UPGRADE: Duration = Duration::from_millis(500);
/// A server that wants us to wait longer is taken to mean this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// How often a call may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store::vault) enum Retry {
    /// Doing it twice does no harm.
    Idempotent,
    /// Doing it twice costs something that can be spared: once more where it may have run.
    OnceMore,
    /// It makes an account: only while it certainly did not run, and once where the server says that it did not reach the database.
    Issue,
    /// Only while it certainly did not run.
    Unsent,
}

/// What a failure leaves to do.
#[derive(Debug, PartialEq, Eq)]
enum Cure {
    None,
    /// It did not run. The server may say when to come again.
    Wait(Option<Duration>),
    /// It did not run: a quota is exceeded, and it is not said for how long.
    Busy,
    /// It did not run, and the node that we asked has no leader.
    Election,
    /// The node that we asked serves nobody, and will not soon; another one may.
    OtherNode,
    /// It ran on a standby that does not know yet what we know.
    CatchUp,
    /// A header of ours is the reason: at once without it.
    Header,
    /// The mount is being upgraded.
    Upgrade,
    /// The server did not reach the database.
    Database,
    /// It may have run.
    Unclear,
}

/// Where the next try goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// To the same node.
    Same,
    /// To one that was not asked yet.
    Other,
}

/// The tries of one call.
pub(super) struct Tries {
    retry: Retry,
    /// All of them together.
    budget: Duration,
    made: u32,
    /// Those after which it may have run.
    unclear: u32,
    /// Those that a header of ours spoilt.
    headers: u32,
}

impl Tries {
    pub(super) fn new(retry: Retry, budget: Duration) -> Self {
        Self { retry, budget, made: 0, unclear: 0, headers: 0 }
    }

    /// After which pause to try once more, this long after the first try began. `None`: not at all.
    pub(super) fn after(&mut self, failure: &Failure, elapsed: Duration, next: Next) -> Option<Duration> {
        let pause = match cure(failure) {
            Cure::None => None,
            Cure::Wait(_) | Cure::OtherNode | Cure::Election if next == Next::Other => return Some(Duration::ZERO),
            Cure::OtherNode => None,
            Cure::Wait(Some(after)) => {
                // Rounded down, it may say none at all for the last second.
                let after = after.min(LONGEST_RETRY_AFTER).max(half_at_least(self.doubled(FIRST_BUSY, LAST_WAIT)));
                Some(after.saturating_add(random_up_to(after.checked_div(5).unwrap_or_default())))
            }
            Cure::Wait(None) => Some(random_up_to(self.doubled(FIRST_WAIT, LAST_WAIT))),
            Cure::Busy => Some(half_at_least(self.doubled(FIRST_BUSY, LAST_WAIT))),
            Cure::Election => Some(half_at_least(self.doubled(FIRST_ELECTION, LAST_WAIT))),
            Cure::CatchUp => Some(half_at_least(self.doubled(FIRST_CATCHING_UP, LAST_CATCHING_UP))),
            Cure::Header => {
                self.headers = self.headers.saturating_add(1);
                // Each of the two headers once.
                return (self.headers <= 2).then_some(Duration::ZERO);
            }
            Cure::Upgrade => return Some(UPGRADE).filter(|pause| elapsed.saturating_add(*pause) < self.budget),
            Cure::Database if self.retry == Retry::Issue => self.once_more(FIRST_WAIT),
            Cure::Database | Cure::Unclear => match self.retry {
                Retry::Idempotent => Some(random_up_to(self.doubled(FIRST_WAIT, LAST_WAIT))),
                Retry::OnceMore => self.once_more(FIRST_WAIT),
                Retry::Issue | Retry::Unsent => None,
            },
        };
        self.made = self.made.saturating_add(1);
        pause.filter(|pause| self.made < TRIES && elapsed.saturating_add(*pause) < self.budget)
    }

    fn doubled(&self, first: Duration, last: Duration) -> Duration {
        first.saturating_mul(2_u32.saturating_pow(self.made)).min(last)
    }

    fn once_more(&mut self, wait: Duration) -> Option<Duration> {
        self.unclear = self.unclear.saturating_add(1);
        (self.unclear == 1).then(|| half_at_least(wait))
    }
}

fn cure(failure: &Failure) -> Cure {
    match failure {
        Failure::Unreached(_) => Cure::Wait(None),
        Failure::Unanswered(_) => Cure::Unclear,
        Failure::Store(_) | Failure::TooLong => Cure::None,
        Failure::Refused(refused) => match refused.status {
            307 => Cure::Election,
            400 if refused.blames_a_header() => Cure::Header,
            400 if is_upgrading(refused) => Cure::Upgrade,
            412 => Cure::CatchUp,
            429 if refused.is_behind() => Cure::CatchUp,
            429 => refused.retry_after.map_or(Cure::Busy, |after| Cure::Wait(Some(after))),
            472 | 501 => Cure::OtherNode,
            500 if without_a_leader(refused) => Cure::Election,
            500 if database_is_down(refused) => Cure::Database,
            // Sealed, overloaded, or without a leader: the server says so itself. A gateway in between does not know whether it ran.
            503 if without_a_leader(refused) => Cure::Election,
            503 if refused.is_explained() => Cure::Wait(refused.retry_after),
            500 | 502 | 503 | 504 => Cure::Unclear,
            _ => Cure::None,
        },
    }
}

/// Whether another node of the store would do better.
pub(super) fn leaves_the_node(failure: &Failure, handed_on: bool) -> bool {
    match failure {
        Failure::Unreached(_) => true,
        // A database that hangs behind the store hangs behind its other nodes, too.
        Failure::Unanswered(_) => !handed_on,
        Failure::Store(_) | Failure::TooLong => false,
        // A standby sent us to where we do not go: another one may lead, also one to which the same name leads.
        Failure::Refused(refused) if refused.status == 307 => refused.location.is_some(),
        Failure::Refused(refused) => matches!(refused.status, 472 | 501 | 503) && !without_a_leader(refused),
    }
}

/// How many tries a store's calls may make beyond their first: a tenth of the calls, so that a store in trouble is not asked four times as
/// often as one that is well. Some are there from the start, and one comes back every second, for a store that is asked rarely.
pub(super) struct Allowance(Mutex<(u32, Instant)>);

const TENTHS: u32 = 10;
const MOST_TENTHS: u32 = 100;
const TENTHS_PER_SECOND: u32 = 10;

impl Allowance {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new((MOST_TENTHS, now)))
    }

    /// A call begins.
    pub(super) fn earn(&self) {
        if let Ok(mut state) = self.0.lock() {
            state.0 = state.0.saturating_add(1).min(MOST_TENTHS);
        }
    }

    /// Takes one further try out of it. `false`: none is left.
    pub(super) fn spend(&self, now: Instant) -> bool {
        let Ok(mut state) = self.0.lock() else { return true };
        let (tenths, since) = &mut *state;
        let seconds = now.saturating_duration_since(*since).as_secs();
        if seconds > 0 {
            let back = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(TENTHS_PER_SECOND);
            *tenths = tenths.saturating_add(back).min(MOST_TENTHS);
            *since = now;
        }
        let left = tenths.checked_sub(TENTHS);
        *tenths = left.unwrap_or(*tenths);
        left.is_some()
    }
}

/// A random time between none and this.
pub(super) fn random_up_to(time: Duration) -> Duration {
    let mut bytes = [0_u8; 2];
    // Without entropy everybody waits half of the time.
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        bytes = [0x80, 0];
    }
    time.saturating_mul(u32::from(u16::from_be_bytes(bytes))).checked_div(u32::from(u16::MAX)).unwrap_or(time)
}

fn half_at_least(time: Duration) -> Duration {
    let half = time.checked_div(2).unwrap_or_default();
    half.saturating_add(random_up_to(half))
}

impl Refused {
    /// A header of ours is what the server does not want: an index of another cluster's past, or one of Vault where the file of the server
    /// does not have `allow_forwarding_via_header`.
    pub(super) fn blames_a_header(&self) -> bool {
        self.status == 400 && (self.says("X-Vault-Index") || self.says("forwarding via header"))
    }

    /// OpenBao's way to say that a standby has not reached the index that we sent. A quota that is exceeded has words.
    pub(in crate::store::vault) fn is_behind(&self) -> bool {
        let none = |errors: &serde_json::Value| errors.as_array().is_some_and(Vec::is_empty);
        self.status == 429 && self.body.get("errors").is_some_and(none)
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;
