//! The cache of secrets without a lease, one per store (vault.md §14.3, §14.4).
//!
//! Entries end at the configured time or when the secret itself says so, whichever is first. Readers of the same secret share one
//! request, also its failure; a failure is not kept. A shared request runs in a task of its own, so that a client that vanishes takes
//! nothing from those who wait with him.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache as Entries;

use super::named::Named;
use super::{Document, SecretPath, StoreError, StoreErrorKind};
use crate::SessionId;

/// Entries per store.
const MAX_ENTRIES: u64 = 10_000;
/// A secret is read again for rejected logins at most once in this time, whoever they are (vault.md §14.4).
const REREAD_PACE: Duration = Duration::from_secs(5);

pub(crate) struct Cache {
    entries: Option<Entries<SecretPath, Read>>,
    /// What was read past the cache lately. All whose login was rejected share it.
    reread: Entries<SecretPath, Read>,
    reads: Arc<AtomicU64>,
}

/// One read of a secret.
#[derive(Clone)]
pub(crate) struct Read {
    pub(crate) document: Arc<Document>,
    /// Which read of this store it was, in the order in which they began: the higher one is the newer one.
    pub(crate) serial: u64,
}

/// Where a read came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// The store, just now.
    Store,
    /// The cache, within its time.
    Cache,
    /// The cache, after its time: the store cannot be asked.
    Stale,
}

impl From {
    /// A fixed word, for metric labels.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Store => "miss",
            Self::Cache => "hit",
            Self::Stale => "stale",
        }
    }
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
        let build = |ttl| Entries::builder().max_capacity(MAX_ENTRIES).expire_after(Lifetime(ttl)).build();
        Self { entries: (!ttl.is_zero()).then(|| build(ttl)), reread: build(REREAD_PACE), reads: Arc::default() }
    }

    /// The secret, and where it came from.
    pub(crate) async fn read(&self, from: &Named, session: SessionId, path: &SecretPath) -> Result<(Read, From), StoreError> {
        match &self.entries {
            Some(entries) => self.shared(entries, from, session, path, false).await,
            None => Ok((ask(from, session, path, false, &self.reads).await?, From::Store)),
        }
    }

    /// The secret after an upstream rejected what the read number `rejected` gave: past the cache and past every replica's delay, unless
    /// a newer one is known. What comes of it is in the cache then. It is newer if its number is.
    pub(crate) async fn reread(&self, from: &Named, session: SessionId, path: &SecretPath, rejected: u64) -> Result<Read, StoreError> {
        let Some(entries) = &self.entries else { return Ok(self.shared(&self.reread, from, session, path, true).await?.0) };
        if let Some(held) = entries.get(path).await.filter(|held| held.serial > rejected) {
            return Ok(held);
        }
        let (read, _) = self.shared(&self.reread, from, session, path, true).await?;
        if entries.get(path).await.is_none_or(|held| held.serial < read.serial) {
            entries.insert(path.clone(), read.clone()).await;
        }
        Ok(read)
    }

    /// The entry, or what one request for all who want it gives.
    async fn shared(
        &self,
        entries: &Entries<SecretPath, Read>,
        from: &Named,
        session: SessionId,
        path: &SecretPath,
        fresh: bool,
    ) -> Result<(Read, From), StoreError> {
        if let Some(held) = entries.get(path).await {
            return Ok((held, From::Cache));
        }
        let (entries, from, path, reads) = (entries.clone(), from.clone(), path.clone(), Arc::clone(&self.reads));
        // All of it: a request that ended with the client who began it would leave the others without one.
        let task = tokio::spawn(async move {
            let entry = entries.entry_by_ref(&path).or_try_insert_with(ask(&from, session, &path, fresh, &reads)).await;
            let entry = entry.map_err(|error: Arc<StoreError>| (*error).clone())?;
            let came = if entry.is_fresh() { From::Store } else { From::Cache };
            Ok((entry.into_value(), came))
        });
        task.await.unwrap_or_else(|_| Err(StoreError::new(StoreErrorKind::Unavailable, "the read of the secret was cut off")))
    }
}

async fn ask(from: &Named, session: SessionId, path: &SecretPath, fresh: bool, reads: &AtomicU64) -> Result<Read, StoreError> {
    let _turn = from.turn_to_read().await?;
    let serial = reads.fetch_add(1, Ordering::Relaxed);
    let document = from.store.read(session, path, fresh).await?;
    Ok(Read { document: Arc::new(document), serial })
}
