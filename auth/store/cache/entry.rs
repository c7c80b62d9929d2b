//! One secret in the cache: until when it is good, until when it may stand in for its store, and when it is read again.

use std::sync::Weak;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::{Inner, Read};
use crate::SessionId;
use crate::store::keeper::jitter;
use crate::store::named::Named;
use crate::store::{Document, SecretPath};

/// A secret that was read.
pub(super) struct Entry {
    pub(super) read: Read,
    times: Times,
    /// Who used it last since it was read. Not who had it read.
    used: Option<SessionId>,
    /// It was asked for anew.
    refreshed: bool,
    attendant: AbortHandle,
}

/// The times of an entry, all counted from when its request began: what the store said may be that old.
#[derive(Clone, Copy)]
pub(super) struct Times {
    /// Who has used it by then has it read again.
    refresh: Instant,
    /// It is as good as the store until then.
    fresh: Instant,
    /// It is dropped then.
    ends: Instant,
}

impl Times {
    /// `None`: it has ended already. A secret that says itself when it ends (`not_after`) is of no use after that, also where the store cannot
    /// be asked: its version is deleted then, or its password another one. One that only says when it is to be read again (`fresh_until`) may
    /// stand in for its store after that as any other.
    pub(super) fn of(asked: Instant, ttl: Duration, max_stale: Duration, document: &Document) -> Option<Self> {
        let before = |end: Instant, last: Option<std::time::Instant>| last.map_or(end, |last| end.min(Instant::from_std(last)));
        let after = |start: Instant, time: Duration| start.checked_add(time).unwrap_or(start);
        let fresh = before(after(asked, ttl), document.fresh_until);
        let (fresh, ends) = (before(fresh, document.not_after), before(after(fresh, max_stale), document.not_after));
        let tenth = fresh.saturating_duration_since(asked).checked_div(10).unwrap_or_default();
        // Between 80 and 90 percent: what was read together is not read again together.
        let refresh = after(asked, tenth.saturating_mul(7).saturating_add(jitter(tenth.saturating_mul(2))));
        (ends > Instant::now()).then_some(Self { refresh, fresh, ends })
    }
}

impl Entry {
    pub(super) fn new(read: Read, times: Times, cache: Weak<Inner>, from: &Named, path: &SecretPath) -> Self {
        let attendant = tokio::spawn(attend(cache, from.clone(), path.clone(), read.serial, times)).abort_handle();
        Self { read, times, used: None, refreshed: false, attendant }
    }

    /// It is as good as the store.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        now < self.times.fresh
    }

    /// It may stand in for a store that cannot be asked.
    pub(super) fn is_of_use(&self, now: Instant) -> bool {
        now < self.times.ends
    }

    /// How long it is past its time.
    pub(super) fn past(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.times.fresh)
    }

    pub(super) const fn ends(&self) -> Instant {
        self.times.ends
    }

    /// Somebody uses it. `true`: it is to be read again now.
    pub(super) fn use_at(&mut self, now: Instant, session: SessionId) -> bool {
        self.used = Some(session);
        now >= self.times.refresh && self.refreshes().is_some()
    }

    /// For whom it is to be read again: once, and only if somebody used it.
    pub(super) fn refreshes(&mut self) -> Option<SessionId> {
        let session = self.used.filter(|_| !self.refreshed)?;
        self.refreshed = true;
        Some(session)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.attendant.abort();
    }
}

/// Has an entry read again in time, and drops it at its end.
async fn attend(cache: Weak<Inner>, from: Named, path: SecretPath, serial: u64, times: Times) {
    sleep_until(times.refresh).await;
    match cache.upgrade() {
        Some(cache) => cache.refresh(&from, &path, serial),
        None => return,
    }
    sleep_until(times.ends).await;
    if let Some(cache) = cache.upgrade() {
        cache.forget(&path, serial);
    }
}
