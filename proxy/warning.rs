//! What the client of a live session is told before its end, where that is known beforehand: from the session's longest lifetime, or from the
//! last end of its lease. When, the file says (`limits.end_warnings`).

use std::time::Duration;

use keyward_auth::Outlook;
use tokio::time::{Instant, sleep_until};

use crate::refusal::Reason;

/// Whoever is told a moment late is told the time that the file names.
const MOMENT: Duration = Duration::from_secs(1);
/// Two ends that are no further apart are one: a renewal counts whole seconds.
const SAME: Duration = Duration::from_secs(5);

/// A session is going to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warning {
    /// By what.
    pub cause: Cause,
    due: Due,
}

/// What will end a session at a time that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It reaches the lifetime limit.
    Lifetime,
    /// Its lease comes to its end, or the token that the store gave it by.
    Lease,
}

impl Cause {
    /// The fixed word of what ends it then, for metric labels and audit records.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Lifetime => Reason::Lifetime.word(),
            Self::Lease => Reason::LeaseEnd.word(),
        }
    }
}

impl Warning {
    /// In how long, from now.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.due.left(Instant::now())
    }

    /// What its client is told now, without the session's id.
    #[must_use]
    pub fn text(&self) -> String {
        let left = spoken(self.left());
        match self.cause {
            Cause::Lifetime => format!("the session ends in {left}, when it reaches its longest lifetime"),
            Cause::Lease => format!("the session ends in {left}, when its credential comes to its end"),
        }
    }
}

/// Every warning of one session.
pub struct Warnings {
    schedule: Schedule,
    /// When it is too old.
    lifetime: Option<Instant>,
    lease: Outlook,
}

impl Warnings {
    /// Of a session that is ended at `lifetime`, or with its lease, and whose client is told at these times before.
    #[must_use]
    pub fn new(times: impl Iterator<Item = Duration>, lifetime: Option<Instant>, lease: Outlook) -> Self {
        let mut warnings = Self { schedule: Schedule::new(times), lifetime, lease };
        if let Some((end, _)) = warnings.end() {
            warnings.schedule.begin(end, Instant::now());
        }
        warnings
    }

    /// The next one, when it is time for it. Dropping the future loses none.
    pub async fn next(&mut self) -> Warning {
        if self.schedule.times.is_empty() {
            std::future::pending::<()>().await;
        }
        loop {
            let end = self.end();
            let Some((due, cause)) = end.and_then(|(end, cause)| Some((self.schedule.due(end, Instant::now())?, cause))) else {
                self.lease.changed().await;
                continue;
            };
            tokio::select! {
                () = sleep_until(due.at) => {
                    self.schedule.told = Some(due);
                    return Warning { cause, due };
                }
                () = self.lease.changed() => {}
            }
        }
    }

    fn end(&mut self) -> Option<(Instant, Cause)> {
        let lease = self.lease.end().map(|end| (end, Cause::Lease));
        let lifetime = self.lifetime.map(|end| (end, Cause::Lifetime));
        lease.into_iter().chain(lifetime).min_by_key(|(end, _)| *end)
    }
}

/// When to tell of an end that may yet move.
struct Schedule {
    /// How long before it, the longest first.
    times: Vec<Duration>,
    /// What was told last.
    told: Option<Due>,
}

/// To be told at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Due {
    at: Instant,
    end: Instant,
    /// Which of the times this is; zero, if it comes later than all of them.
    time: Duration,
}

impl Due {
    /// How long it is until the end.
    fn left(&self, now: Instant) -> Duration {
        let left = self.end.saturating_duration_since(now);
        if self.time.saturating_sub(left) <= MOMENT { left.max(self.time) } else { left }
    }
}

impl Schedule {
    fn new(times: impl Iterator<Item = Duration>) -> Self {
        let mut times: Vec<Duration> = times.filter(|time| !time.is_zero()).collect();
        times.sort_unstable_by(|one, other| other.cmp(one));
        times.dedup();
        Self { times, told: None }
    }

    /// A session begins whose end is known. It does not begin with a warning, however near that is: it would be one of every session of its
    /// connection.
    fn begin(&mut self, end: Instant, now: Instant) {
        self.told = self.due(end, now).filter(|due| due.time.is_zero());
    }

    /// What is to be told next of this end. Times that are past when it becomes known are left out; if none is left it is told at once.
    fn due(&self, end: Instant, now: Instant) -> Option<Due> {
        let told = self.told.filter(|told| told.end.max(end).duration_since(told.end.min(end)) <= SAME);
        let left = end.saturating_duration_since(now);
        let mut open = self.times.iter().filter(|time| told.is_none_or(|told| **time < told.time));
        match open.find(|time| **time < left) {
            Some(time) => Some(Due { at: end.checked_sub(*time)?, end, time: *time }),
            None if told.is_none() => Some(Due { at: now, end, time: Duration::ZERO }),
            None => None,
        }
    }
}

/// A time as people say it.
fn spoken(time: Duration) -> String {
    let seconds = time.as_millis().saturating_add(500).checked_div(1000).unwrap_or_default();
    let in_units = |unit: u128| seconds.saturating_add(unit.checked_div(2).unwrap_or_default()).checked_div(unit).unwrap_or_default();
    let (count, unit) = match seconds {
        7200.. => (in_units(3600), "hour"),
        60 | 90.. => (in_units(60), "minute"),
        _ => (seconds, "second"),
    };
    if count == 1 { format!("1 {unit}") } else { format!("{count} {unit}s") }
}

#[cfg(test)]
impl Warning {
    /// Of a session that ends so much later than now.
    pub(crate) fn ahead(cause: Cause, left: Duration) -> Self {
        let at = Instant::now();
        Self { cause, due: Due { at, end: at.checked_add(left).unwrap_or(at), time: left } }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;
