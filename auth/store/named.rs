//! A store as the rest of this folder uses it: with its name in the file, the one who counts, and turns at it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use keyward_config::UpstreamAddress;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Observer, Store, StoreError, StoreErrorKind};

/// Reads of sessions under way at one time.
const READING: usize = 32;
/// Requests for leases under way at one time.
const ISSUING: usize = 64;
/// How many of them may be for accounts of one server, by its address in the file. A request is never called off, and one whose database hangs
/// keeps its turn until the store gives it up: it must not keep those of other databases waiting. The store itself opens no more than four
/// connections to a database, if its admin has not said otherwise.
const ISSUING_FOR_ONE: usize = 8;
/// Revocations under way at one time. What a former process left behind is paced besides (leases.rs): a store answers at once, and drops the
/// account in its own time.
const REVOKING: usize = 16;
/// How long a read waits for its turn. Whoever wants the secret has given up by then.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long a request for a lease waits for its turn: its client is to hear why before its own time is over.
const LONGEST_QUEUE: Duration = Duration::from_secs(20);

/// An open store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) observer: Arc<dyn Observer>,
    turns: Arc<Turns>,
    may_not_revoke: Arc<AtomicBool>,
}

/// Whose turn it is. Fair, and each store's own, so that one that hangs takes nothing from the others; each sort's own, so that a database
/// that hangs behind the store takes nothing from plain reads, nor a crowd of logins from giving back.
struct Turns {
    reading: Semaphore,
    issuing: Semaphore,
    issuing_for: Mutex<BTreeMap<String, Weak<Semaphore>>>,
    revoking: Semaphore,
}

/// A turn to ask for a lease: one of the store's, and one of the server's.
pub(crate) struct TurnToIssue<'a> {
    _of_the_store: SemaphorePermit<'a>,
    _of_the_server: OwnedSemaphorePermit,
}

impl Named {
    pub(crate) fn new(name: String, store: Arc<dyn Store>, observer: Arc<dyn Observer>) -> Self {
        let turns = Turns {
            reading: Semaphore::new(READING),
            issuing: Semaphore::new(ISSUING),
            issuing_for: Mutex::default(),
            revoking: Semaphore::new(REVOKING),
        };
        Self { name, store, observer, turns: Arc::new(turns), may_not_revoke: Arc::default() }
    }

    /// A turn to read.
    ///
    /// # Errors
    /// `Unavailable`: none came for a minute.
    pub(crate) async fn turn_to_read(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        let turn = timeout(LONGEST_WAIT, self.turns.reading.acquire()).await;
        let late = || StoreError::new(StoreErrorKind::Unavailable, "too many requests to the store wait for an answer");
        turn.ok().and_then(Result::ok).ok_or_else(late)
    }

    /// A turn to ask for a lease for a session on this server.
    ///
    /// # Errors
    /// `Unavailable`: none came for twenty seconds.
    pub(crate) async fn turn_to_issue(&self, server: &UpstreamAddress) -> Result<TurnToIssue<'_>, StoreError> {
        let late = |what: String| StoreError::new(StoreErrorKind::Unavailable, what);
        let end = Instant::now().checked_add(LONGEST_QUEUE).unwrap_or_else(Instant::now);
        let of_the_server = timeout_at(end, self.turns.issuing_for(server).acquire_owned()).await.ok().and_then(Result::ok);
        let _of_the_server = of_the_server.ok_or_else(|| {
            let what = "requests for accounts of this server wait for an answer already; does its database hang?";
            late(format!("{server}: {ISSUING_FOR_ONE} {what}"))
        })?;
        let of_the_store = timeout_at(end, self.turns.issuing.acquire()).await.ok().and_then(Result::ok);
        let _of_the_store =
            of_the_store.ok_or_else(|| late(format!("{ISSUING} requests for leases wait for an answer of the store already")))?;
        Ok(TurnToIssue { _of_the_store, _of_the_server })
    }

    /// A turn to give a lease back. Each holds it for one try.
    pub(crate) async fn turn_to_revoke(&self) -> Option<SemaphorePermit<'_>> {
        self.turns.revoking.acquire().await.ok()
    }

    /// Whether it is news that the store does not let us give leases back: the first time, and again once it did.
    pub(crate) fn may_not_revoke(&self) -> bool {
        !self.may_not_revoke.swap(true, Ordering::Relaxed)
    }

    /// The store lets us give leases back.
    pub(crate) fn may_revoke(&self) {
        self.may_not_revoke.store(false, Ordering::Relaxed);
    }
}

impl Turns {
    /// The turns of one server; they are there as long as somebody has one or waits for one.
    fn issuing_for(&self, server: &UpstreamAddress) -> Arc<Semaphore> {
        // Whole after a panic too: each change is one step.
        let mut all = self.issuing_for.lock().unwrap_or_else(PoisonError::into_inner);
        let server = server.to_string();
        if let Some(turns) = all.get(&server).and_then(Weak::upgrade) {
            return turns;
        }
        let turns = Arc::new(Semaphore::new(ISSUING_FOR_ONE));
        all.retain(|_, turns| turns.strong_count() > 0);
        all.insert(server, Arc::downgrade(&turns));
        turns
    }
}
