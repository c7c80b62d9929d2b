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
use super::{Lease, Observer, SecretPath, Store, StoreError, StoreErrorKind};
use crate::Grant;

/// Leases that may live or wait to be given back at one time.
const PLACES: usize = 16_384;
/// Revocations under way at one time.
const REVOKING: usize = 4;
/// Leases of a former process given back per second, so that a restart is no storm.
const RECOVERY_PACE: Duration = Duration::from_millis(250);

/// Seconds after which an ended lease needs no revocation: clocks differ, and stores take their time.
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
    pub(crate) revoking: Semaphore,
    places: Arc<Semaphore>,
    stats: watch::Sender<LeaseStats>,
    next: AtomicU64,
    /// What a former process left behind and no store has claimed yet.
    recovered: Mutex<Recovered>,
    runtime: Handle,
}

/// A store with the name that it has in the file and the one who counts.
#[derive(Clone)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) observer: Arc<dyn Observer>,
}

/// One lease in the count: live until it is `closing`, then waiting, then gone.
pub(crate) struct Counted {
    leases: Arc<Leases>,
    closing: bool,
    _place: Option<OwnedSemaphorePermit>,
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
        let recovered = without_ended(recovered, &journal);
        let next = recovered.keys().next_back().map_or(1, |last| last.saturating_add(1));
        Ok(Arc::new(Self {
            journal,
            revoking: Semaphore::new(REVOKING),
            places: Arc::new(Semaphore::new(PLACES)),
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
    pub(crate) async fn issue(self: &Arc<Self>, from: Named, grant: &Grant, path: &SecretPath) -> Result<Lease, StoreError> {
        let backlog = |_| StoreError::new(StoreErrorKind::Backlog, "too many leases live or wait to be given back");
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(backlog)?;
        let counted = Counted::new(self, Some(place));
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (hand_over, lease) = oneshot::channel();
        let asked = Asked {
            store: from.name.clone(),
            at: from.store.identity().to_owned(),
            path: path.as_str().to_owned(),
            session: grant.session().to_string(),
        };
        let keeper = Keeper { leases: Arc::clone(self), from, number, asked };
        let (grant, path) = (grant.clone(), path.clone());
        self.runtime.spawn(async move { keeper.keep(grant, path, counted, hand_over).await });
        lease.await.map_err(|_| StoreError::new(StoreErrorKind::Unavailable, "the process is ending"))?
    }

    /// A store was opened: what a former process left with it is given back now.
    pub(crate) fn adopt(self: &Arc<Self>, from: &Named) {
        let mine: Vec<(u64, Open)> = {
            let Ok(mut recovered) = self.recovered.lock() else { return };
            recovered.extract_if(.., |_, open| open.asked.at == from.store.identity()).collect()
        };
        if mine.is_empty() {
            return;
        }
        let (leases, from) = (Arc::clone(self), from.clone());
        let counted: Vec<_> = mine.iter().map(|_| Counted::new(self, None)).collect();
        self.runtime.spawn(async move {
            for ((number, open), counted) in mine.into_iter().zip(counted) {
                let keeper = Keeper { leases: Arc::clone(&leases), from: from.clone(), number, asked: open.asked };
                match open.issued {
                    None => keeper.name_orphan("a former process ended while it was asked for").await,
                    Some((lease, until)) => {
                        let left = Duration::from_secs(until.saturating_sub(unix_now()));
                        let end = tokio::time::Instant::now().checked_add(left);
                        tracing::info!(store = from.name, session = keeper.asked.session, "a lease of a former process is given back");
                        let returned = Returned { lease, end, counted };
                        tokio::spawn(async move { keeper.give_back(returned).await });
                        tokio::time::sleep(RECOVERY_PACE).await;
                    }
                }
            }
        });
    }

    /// Names what no store of the file claimed. It stays in the journal until its own end is past.
    pub(crate) fn name_unclaimed(&self) {
        let Ok(recovered) = self.recovered.lock() else { return };
        for open in recovered.values() {
            let (store, path, session) = (&open.asked.store, &open.asked.path, &open.asked.session);
            tracing::warn!(
                store,
                path,
                session,
                "a lease of a former process belongs to a store that is not in the file; it is not given back"
            );
        }
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
    fn new(leases: &Arc<Leases>, place: Option<OwnedSemaphorePermit>) -> Self {
        leases.stats.send_modify(|stats| stats.live = stats.live.saturating_add(1));
        Self { leases: Arc::clone(leases), closing: false, _place: place }
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

/// Leaves out the leases that their stores have surely ended by themselves.
fn without_ended(mut recovered: Recovered, journal: &Journal) -> Recovered {
    let ended = |open: &mut Open| open.issued.as_ref().is_some_and(|(_, until)| until.saturating_add(ENDED_FOR) < unix_now());
    for (number, _) in recovered.extract_if(.., |_, open| ended(open)) {
        journal.note(number, Event::Expired);
    }
    recovered
}

/// Seconds since 1970, for the journal: a monotonic clock does not outlive the process.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
