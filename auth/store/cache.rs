//! The cache of secrets without a lease, one per store (vault.md §14.3, §14.4).
//!
//! Entries end at the configured time or when the secret itself says so, whichever is first. Readers of the same secret share one
//! request, also its failure; a failure is not kept. The request runs in a task of its own, so that a client that vanishes takes
//! nothing from those who wait with him.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;

use super::{Document, SecretPath, Store, StoreError, StoreErrorKind};
use crate::Grant;

/// Entries per store.
const MAX_ENTRIES: u64 = 10_000;

pub(crate) struct Cache {
    entries: Option<moka::future::Cache<SecretPath, Read>>,
    reads: AtomicU64,
}

/// One read of a secret.
#[derive(Clone)]
pub(crate) struct Read {
    pub(crate) document: Arc<Document>,
    /// Which read of this process it was: tells whether the cache still holds the one that an upstream rejected.
    pub(crate) serial: u64,
}

struct Lifetime(Duration);

impl Expiry<SecretPath, Read> for Lifetime {
    fn expire_after_create(&self, _path: &SecretPath, read: &Read, now: Instant) -> Option<Duration> {
        Some(read.document.not_after.map_or(self.0, |end| end.saturating_duration_since(now).min(self.0)))
    }

    fn expire_after_update(&self, path: &SecretPath, read: &Read, now: Instant, _left: Option<Duration>) -> Option<Duration> {
        self.expire_after_create(path, read, now)
    }
}

impl Cache {
    /// `ttl` zero: nothing is kept.
    pub(crate) fn new(ttl: Duration) -> Self {
        let build = || moka::future::Cache::builder().max_capacity(MAX_ENTRIES).expire_after(Lifetime(ttl)).build();
        Self { entries: (!ttl.is_zero()).then(build), reads: AtomicU64::new(0) }
    }

    /// The secret, and whether it came from the cache.
    pub(crate) async fn read(&self, store: &Arc<dyn Store>, grant: &Grant, path: &SecretPath) -> Result<(Read, bool), StoreError> {
        let Some(entries) = &self.entries else { return Ok((self.ask(store, grant, path, false).await?, false)) };
        let entry = entries.entry_by_ref(path).or_try_insert_with(self.ask(store, grant, path, false)).await;
        let entry = entry.map_err(|error: Arc<StoreError>| (*error).clone())?;
        let cached = !entry.is_fresh();
        Ok((entry.into_value(), cached))
    }

    /// Reads past the cache and past every replica's delay. What was rejected is evicted if the cache still holds that very read.
    pub(crate) async fn reread(&self, store: &Arc<dyn Store>, grant: &Grant, path: &SecretPath, rejected: u64) -> Result<Read, StoreError> {
        if let Some(entries) = &self.entries
            && let Some(held) = entries.get(path).await
        {
            if held.serial != rejected {
                return Ok(held);
            }
            entries.invalidate(path).await;
        }
        let read = self.ask(store, grant, path, true).await?;
        if let Some(entries) = &self.entries {
            entries.insert(path.clone(), read.clone()).await;
        }
        Ok(read)
    }

    async fn ask(&self, store: &Arc<dyn Store>, grant: &Grant, path: &SecretPath, fresh: bool) -> Result<Read, StoreError> {
        let (store, grant, path) = (Arc::clone(store), grant.clone(), path.clone());
        let read = tokio::spawn(async move { store.read(&grant, &path, fresh).await });
        let document = read.await.map_err(|_| StoreError::new(StoreErrorKind::Unavailable, "the read of the secret was cut off"))??;
        Ok(Read { document: Arc::new(document), serial: self.reads.fetch_add(1, Ordering::Relaxed) })
    }
}
