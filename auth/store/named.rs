//! A store as the rest of this folder uses it: with its name in the file, the one who counts, and turns at it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Observer, Store, StoreError, StoreErrorKind};

/// Requests of sessions under way at one time, of each sort.
const TURNS: usize = 32;
/// Revocations under way at one time. What a former process left behind is paced besides (leases.rs): a store answers at once, and drops the
/// account in its own time.
const REVOKING: usize = 16;
/// How long a read waits for its turn. Whoever wants the secret has given up by then.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// An open store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) observer: Arc<dyn Observer>,
    turns: Arc<Turns>,
}

/// Whose turn it is. Fair, and each store's own, so that one that hangs takes nothing from the others; each sort's own, so that a database
/// that hangs behind the store takes nothing from plain reads, nor a crowd of logins from giving back.
struct Turns {
    reading: Semaphore,
    issuing: Semaphore,
    revoking: Semaphore,
}

impl Named {
    pub(crate) fn new(name: String, store: Arc<dyn Store>, observer: Arc<dyn Observer>) -> Self {
        let turns = Turns { reading: Semaphore::new(TURNS), issuing: Semaphore::new(TURNS), revoking: Semaphore::new(REVOKING) };
        Self { name, store, observer, turns: Arc::new(turns) }
    }

    /// A turn to read.
    ///
    /// # Errors
    /// `Unavailable`: none came for a minute.
    pub(crate) async fn turn_to_read(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        let turn = tokio::time::timeout(LONGEST_WAIT, self.turns.reading.acquire()).await;
        let late = || StoreError::new(StoreErrorKind::Unavailable, "too many requests to the store wait for an answer");
        turn.ok().and_then(Result::ok).ok_or_else(late)
    }

    /// A turn to ask for a lease. Waits as long as the caller does.
    pub(crate) async fn turn_to_issue(&self) -> Option<SemaphorePermit<'_>> {
        self.turns.issuing.acquire().await.ok()
    }

    /// A turn to give a lease back. Each holds it for one try.
    pub(crate) async fn turn_to_revoke(&self) -> Option<SemaphorePermit<'_>> {
        self.turns.revoking.acquire().await.ok()
    }
}
