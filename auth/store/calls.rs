//! The calls to a store that is not asked over HTTP: each has an end, and is counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Observer, StoreError, StoreErrorKind};

/// How long one call may take. Vault's has as long (vault.md §14.1).
const LIMIT: Duration = Duration::from_secs(10);

/// Whose calls they are, and who counts them.
pub(crate) struct Calls {
    label: String,
    observer: Arc<dyn Observer>,
}

impl Calls {
    pub(crate) fn new(label: &str, observer: &Arc<dyn Observer>) -> Self {
        Self { label: label.to_owned(), observer: Arc::clone(observer) }
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
}

/// Runs what blocks away from the runtime's threads: a disk may be on a network.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Result<T, StoreError> {
    let cut_off = |_| Err(StoreError::new(StoreErrorKind::Unavailable, "the read was cut off"));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(cut_off)
}
