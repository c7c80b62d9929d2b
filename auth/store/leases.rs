//! Every lease of the process: asked for, kept alive, given back. Outlives a reload of the configuration.
//!
//! One task, the keeper, owns a lease from before it is asked for until the store has it back, so that no vanishing client can lose one
//! (vault.md §0.1): place reserved → `asked` in the journal → the store issues → `issued` on disk → handed to the session → renewed
//! (§14.5) → the session drops its [`Lease`] → `closing` → revoked, again and again until the lease would have ended by itself → `done`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::journal::{Asked, Event, Journal, Open, Recovered};
use super::keeper::{Keeper, Returned};
use super::named::Named;
use super::quota::{self, Quota};
use super::{Lease, Observer, StoreError, StoreErrorKind, Wanted};
use crate::Grant;

/// Leases that may live or wait to be given back at one time.
const PLACES: usize = 16_384;
/// Leases of a former process that are given back to a store at once, and how long after each other the rest: a store answers before its
/// database has dropped the account, so that nothing else would keep a restart from being a storm there (vault.md §14.6: 4 a second). Nobody
/// knows their passwords any more.
const AT_ONCE: u32 = 16;
const ONE_EACH: Duration = Duration::from_millis(250);
/// Seconds after which a lease that no store claims is over for sure: clocks differ, and stores take their time.
const ENDED_FOR: u64 = 600;

/// How many leases there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeaseStats {
    /// Held by sessions, or being asked for.
    pub live: usize,
    /// Given back by their session and not yet by the store.
    pub waiting: usize,
}

/// Every lease of the process.
pub(crate) struct Leases {
    pub(crate) journal: Journal,
    places: Arc<Semaphore>,
    quota: Quota,
    stats: watch::Sender<LeaseStats>,
    next: AtomicU64,
    /// What a former process left behind and no store has claimed yet.
    recovered: Mutex<Recovered>,
    runtime: Handle,
}

/// One lease in the count: live until it is `closing`, then waiting, then gone.
pub(crate) struct Counted {
    leases: Arc<Leases>,
    closing: bool,
    _places: Option<(OwnedSemaphorePermit, Option<quota::Place>)>,
}

impl Leases {
    /// Opens the journal in the state folder; `None` keeps it in memory, for a one-shot command. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// The journal cannot be read or written, or there is no runtime.
    pub(crate) fn open(state: Option<&Path>) -> Result<Arc<Self>, String> {
        let runtime = Handle::try_current().map_err(|error| error.to_string())?;
        let (journal, recovered) = match state {
            Some(state) => Journal::open(state)?,
            None => (Journal::in_memory(), BTreeMap::new()),
        };
        let next = recovered.keys().next_back().map_or(1, |last| last.saturating_add(1));
        Ok(Arc::new(Self {
            journal,
            places: Arc::new(Semaphore::new(PLACES)),
            quota: Quota::default(),
            stats: watch::Sender::new(LeaseStats::default()),
            next: AtomicU64::new(next),
            recovered: Mutex::new(recovered),
            runtime,
        }))
    }

    #[cfg(test)]
    pub(crate) fn with_journal(journal: Journal) -> Arc<Self> {
        let mut leases = Self::open(None).unwrap();
        Arc::get_mut(&mut leases).unwrap().journal = journal;
        leases
    }

    /// Asks a store for a leased credential. Dropping the future loses nothing: what is then issued is given back.
    pub(crate) async fn issue(self: &Arc<Self>, from: Named, grant: &Grant, wanted: &Wanted) -> Result<Lease, StoreError> {
        let backlog = |_| StoreError::new(StoreErrorKind::Backlog, "too many leases live or wait to be given back");
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(backlog)?;
        let own = self.quota.admit(grant).inspect_err(|_| from.observer.lease(&from.name, "over_quota"))?;
        let counted = Counted::new(self, Some((place, own)));
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (hand_over, lease) = oneshot::channel();
        let asked = Asked {
            store: from.name.clone(),
            at: from.store.identity().to_owned(),
            path: wanted.path.as_str().to_owned(),
            session: grant.session().to_string(),
        };
        let keeper = Keeper { leases: Arc::clone(self), from, number, asked };
        let (grant, wanted) = (grant.clone(), wanted.clone());
        self.runtime.spawn(async move { keeper.keep(grant, wanted, counted, hand_over).await });
        lease.await.map_err(|_| StoreError::new(StoreErrorKind::Unavailable, "the process is ending"))?
    }

    /// Stores were opened: what a former process left with them is given back now, even if its time should be over by our clock,
    /// which may be wrong. Where several entries of the file lead to the same server, the one of the same name may be the only one
    /// whose token may revoke it.
    pub(crate) fn adopt<'a>(self: &Arc<Self>, stores: impl Iterator<Item = &'a Named> + Clone) {
        let Ok(mut recovered) = self.recovered.lock() else { return };
        for by_name in [true, false] {
            for from in stores.clone() {
                let mine = |asked: &Asked| from.store.was(&asked.at) && (!by_name || asked.store == from.name);
                let mut turn = 0_u32;
                for (number, open) in recovered.extract_if(.., |_, open| mine(&open.asked)) {
                    turn = turn.saturating_add(1);
                    self.take_over(from, number, open, ONE_EACH.saturating_mul(turn.saturating_sub(AT_ONCE)));
                }
            }
        }
    }

    /// What is known of it is said at once; it is given back in its turn.
    fn take_over(self: &Arc<Self>, from: &Named, number: u64, open: Open, turn: Duration) {
        let counted = Counted::waiting(self);
        let keeper = Keeper { leases: Arc::clone(self), from: from.clone(), number, asked: open.asked };
        self.runtime.spawn(async move {
            let Some((lease, until)) = open.issued else {
                keeper.name_orphan("a former process ended while it was asked for").await;
                return drop(counted);
            };
            let left = Duration::from_secs(until.saturating_sub(unix_now()));
            let end = tokio::time::Instant::now().checked_add(left);
            tracing::info!(store = keeper.from.name, session = keeper.asked.session, "a lease of a former process is given back");
            tokio::time::sleep(turn).await;
            keeper.give_back(Returned { lease, end, counted }).await;
        });
    }

    /// Names what no store of the file claimed. A lease stays in the journal until its own end is past: its store may come back. What
    /// has no lease is named once.
    pub(crate) fn name_unclaimed(&self, observer: &Arc<dyn Observer>) {
        let Ok(mut recovered) = self.recovered.lock() else { return };
        recovered.retain(|number, Open { asked, issued }| match issued {
            Some((_, until)) if until.saturating_add(ENDED_FOR) < unix_now() => {
                let Asked { store, path, session, .. } = asked;
                tracing::info!(store, path, session, "a lease of a former process is over; its store is not in the file");
                self.journal.note(*number, Event::Expired);
                false
            }
            Some(_) => {
                let Asked { store, path, session, .. } = asked;
                tracing::warn!(
                    store,
                    path,
                    session,
                    "a lease of a former process belongs to a store that is not in the file; it is not given back"
                );
                true
            }
            None => {
                name_orphan(observer, asked, "a former process ended while it was asked for");
                self.journal.note(*number, Event::Failed);
                false
            }
        });
    }

    /// How many there are.
    pub(crate) fn stats(&self) -> LeaseStats {
        *self.stats.borrow()
    }

    /// Waits until the stores have every lease back, at most for `limit`. Says how many they have not.
    pub(crate) async fn drain(&self, limit: Duration) -> usize {
        let mut stats = self.stats.subscribe();
        let _ = tokio::time::timeout(limit, stats.wait_for(|stats| stats.live == 0 && stats.waiting == 0)).await;
        let left = self.stats();
        left.live.saturating_add(left.waiting)
    }

    pub(crate) async fn record(&self, number: u64, event: Event, durable: bool) -> Result<(), String> {
        self.journal.record(number, event, durable).await
    }
}

impl Counted {
    fn new(leases: &Arc<Leases>, places: Option<(OwnedSemaphorePermit, Option<quota::Place>)>) -> Self {
        leases.stats.send_modify(|stats| stats.live = stats.live.saturating_add(1));
        Self { leases: Arc::clone(leases), closing: false, _places: places }
    }

    /// One that is given back from the start.
    fn waiting(leases: &Arc<Leases>) -> Self {
        let mut counted = Self::new(leases, None);
        counted.closing();
        counted
    }

    /// The session has ended; the store has not got it back yet.
    pub(crate) fn closing(&mut self) {
        if !std::mem::replace(&mut self.closing, true) {
            self.leases.stats.send_modify(|stats| {
                stats.live = stats.live.saturating_sub(1);
                stats.waiting = stats.waiting.saturating_add(1);
            });
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let closing = self.closing;
        self.leases.stats.send_modify(|stats| {
            let count = if closing { &mut stats.waiting } else { &mut stats.live };
            *count = count.saturating_sub(1);
        });
    }
}

/// Nobody can give back a lease whose id nobody knows: say so once.
pub(crate) fn name_orphan(observer: &Arc<dyn Observer>, asked: &Asked, why: &str) {
    let Asked { store, path, session, .. } = asked;
    tracing::warn!(store, path, session, why, "a lease may be orphaned: an account may live until its own end");
    observer.lease(store, "possible_orphan");
}

/// Seconds since 1970, for the journal: a monotonic clock does not outlive the process.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
