//! The calls to a store that is not asked over HTTP: each has an end, and is counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Observer, StoreError, StoreErrorKind};

/// How long one call may take. Vault's has as long (vault.md §14.1).
const LIMIT: Duration = Duration::from_secs(10);

/// Calls that may hold up a thread at one time, each of which may take as much memory as a passphrase is stretched by. A disk on a network
/// that hangs must not take all the threads of the process, which others need, too.
const TURNS: usize = 4;

/// Whose calls they are, and who counts them.
pub(crate) struct Calls {
    label: String,
    turns: Arc<Semaphore>,
    observer: Arc<dyn Observer>,
}

impl Calls {
    pub(crate) fn new(label: &str, observer: &Arc<dyn Observer>) -> Self {
        Self { label: label.to_owned(), turns: Arc::new(Semaphore::new(TURNS)), observer: Arc::clone(observer) }
    }

    /// Makes a call; `operation` is a fixed word.
    ///
    /// # Errors
    /// The call's. `Unavailable`: it did not end in 10 s.
    pub(crate) async fn make<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let begun = Instant::now();
        let late = |_| Err(StoreError::new(StoreErrorKind::Unavailable, "no answer in 10 s"));
        let result = tokio::time::timeout(LIMIT, call).await.unwrap_or_else(late);
        let outcome = result.as_ref().map_or_else(|error| error.kind.word(), |_| "ok");
        self.observer.store_call(&self.label, operation, outcome, begun.elapsed());
        result
    }

    /// A turn to hold up a thread: for it to keep until it is through, not for whoever waits for it, who may give up before.
    ///
    /// # Errors
    /// `Unavailable`: the store is closed.
    pub(crate) async fn turn(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        turn.map_err(|_| StoreError::new(StoreErrorKind::Unavailable, "closed"))
    }
}

/// Runs what blocks away from the runtime's threads: a disk may be on a network.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Result<T, StoreError> {
    let cut_off = |_| Err(StoreError::new(StoreErrorKind::Unavailable, "the read was cut off"));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(cut_off)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn threads_that_hang_are_few_although_nobody_waits_for_them_any_more() {
        let calls = Calls::new("files", &crate::sample::nobody());
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Arc::new(std::sync::Mutex::new(held));
        for _ in 0..TURNS {
            let (turn, held) = (calls.turn().await.unwrap(), Arc::clone(&held));
            let call = blocking(move || {
                let _turn = turn;
                let _ = held.lock().map(|held| held.recv());
                Ok(())
            });
            assert!(call.now_or_never().is_none(), "given up at once");
        }
        assert!(calls.turn().now_or_never().is_none(), "one more thread would hang");
        drop(release);
        for _ in 0..TURNS {
            drop(calls.turn().await.unwrap());
        }
    }
}
