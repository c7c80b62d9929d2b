//! The cache of secrets without a lease, one per store (vault.md §14.3, §14.4).
//!
//! An entry has two ends. Until the first, `cache_ttl` after its request began or sooner if the secret itself says so, it is as good as the
//! store. Until the second, `max_stale` later, it may stand in for a store that cannot be asked, and only for such a one: a store that
//! says no, or does not accept us, takes the entry away at once. Readers of the same secret share one request, also its failure; a failure
//! is not kept. Requests run in tasks of their own, so that a client that vanishes takes nothing from those who wait with him. An entry
//! that somebody used is read again before its time, so that nobody waits for the store who logs in often. What has ended is dropped, and
//! overwritten with it, by the entry's own task, also where nobody asks any more.

mod entry;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::time::{Instant, timeout_at};

use self::entry::Entry;
use super::named::Named;
use super::{Document, SecretPath, StoreError, StoreErrorKind};
use crate::SessionId;

/// Entries per store.
const MAX_ENTRIES: usize = 10_000;
/// A secret is read again for rejected logins at most once in this time, whoever they are (vault.md §14.4).
const REREAD_PACE: Duration = Duration::from_secs(5);
/// How long a store may let those wait who could go on without it. Clients give up after ten seconds, many sooner.
const PATIENCE: Duration = Duration::from_secs(3);
/// Of the uses of secrets past their time, the log has one in this time; the audit record has each.
const TELL_PACE: Duration = Duration::from_secs(10);

pub(crate) struct Cache(Arc<Inner>);

struct Inner {
    ttl: Duration,
    max_stale: Duration,
    state: Mutex<State>,
    reads: AtomicU64,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<SecretPath, Entry>,
    requests: BTreeMap<(SecretPath, Wish), Request>,
    /// The last read to which the store said no, while another one of the same secret is under way that began before it.
    refused: BTreeMap<SecretPath, u64>,
    /// When a secret was last read past the cache. No more than those of the last five seconds.
    rereads: BTreeMap<SecretPath, Instant>,
    /// When the log last had a use of a secret past its time, and how many there were since.
    told: Option<Instant>,
    untold: u64,
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

/// What a request is to bring.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    /// What any server of the store has.
    Any,
    /// Past every replica's delay.
    Newest,
}

/// A request that is under way. All who want the same wait for it.
#[derive(Clone)]
struct Request {
    answer: Shared<BoxFuture<'static, Result<Read, StoreError>>>,
    since: Instant,
}

/// How a reader comes to a secret.
enum Way {
    /// It is there, within its time.
    Held(Read),
    /// He waits for what another one asked for.
    Waits(Request),
    /// He asks himself.
    Asks(Request),
}

impl Cache {
    /// `ttl` zero: nothing is kept, and nothing shared: whoever wants that wants what the store says at his own login. `max_stale` is
    /// counted from the end of `ttl`, or from that of the secret's own time where it says so; zero: what is past its time is of no use.
    pub(crate) fn new(ttl: Duration, max_stale: Duration) -> Self {
        let max_stale = if ttl.is_zero() { Duration::ZERO } else { max_stale };
        Self(Arc::new(Inner { ttl, max_stale, state: Mutex::default(), reads: AtomicU64::new(0) }))
    }

    /// The secret, and where it came from.
    ///
    /// # Errors
    /// The store's, where nothing may stand in for its answer.
    pub(crate) async fn read(&self, from: &Named, session: SessionId, path: &SecretPath) -> Result<(Read, From), StoreError> {
        if self.0.ttl.is_zero() {
            let (_, _, read) = self.0.ask(from, session, path, Wish::Any).await;
            return Ok((read?, From::Store));
        }
        let (request, came) = match self.0.way(from, session, path) {
            Way::Held(read) => return Ok((read, From::Cache)),
            Way::Waits(request) => (request, From::Cache),
            Way::Asks(request) => (request, From::Store),
        };
        let error = match self.0.patiently(path, request).await {
            Ok(read) => return Ok((read, came)),
            Err(error) => error,
        };
        let past = if is_outage(error.kind) { self.0.past(path, &error, from) } else { None };
        past.map(|read| (read, From::Stale)).ok_or(error)
    }

    /// The secret after an upstream rejected what the read number `rejected` gave: past the cache and past every replica's delay, unless
    /// a newer one is known, or the last such read was a moment ago. What comes of it is in the cache then. It is newer if its number is.
    ///
    /// # Errors
    /// The store's: nothing stands in for it here, since what the cache has was rejected.
    pub(crate) async fn reread(&self, from: &Named, session: SessionId, path: &SecretPath, rejected: u64) -> Result<Read, StoreError> {
        let request = {
            let mut state = self.0.state();
            let now = Instant::now();
            let lately = state.rereads.get(path).is_some_and(|at| now.saturating_duration_since(*at) < REREAD_PACE);
            let held = state.entries.get(path).filter(|held| lately || (held.read.serial > rejected && held.is_fresh(now)));
            if let Some(held) = held {
                return Ok(held.read.clone());
            }
            self.0.request(&mut state, from, session, path, Wish::Newest).0
        };
        request.answer.await
    }
}

impl Cache {
    /// Whether anything in it is of use without the store.
    pub(crate) fn stands_in(&self) -> bool {
        let now = Instant::now();
        self.0.state().entries.values().any(|entry| entry.is_of_use(now))
    }
}

impl Inner {
    fn way(self: &Arc<Self>, from: &Named, session: SessionId, path: &SecretPath) -> Way {
        let mut state = self.state();
        let now = Instant::now();
        if let Some(held) = state.entries.get_mut(path).filter(|held| held.is_fresh(now)) {
            let (read, due) = (held.read.clone(), held.use_at(now, session));
            if due {
                // For those who come later: this one has what he wants.
                let _ = self.request(&mut state, from, session, path, Wish::Any);
            }
            return Way::Held(read);
        }
        match self.request(&mut state, from, session, path, Wish::Any) {
            (request, true) => Way::Asks(request),
            (request, false) => Way::Waits(request),
        }
    }

    /// What the request brings; an outage where it brings nothing in time to somebody who could go on without it.
    async fn patiently(&self, path: &SecretPath, request: Request) -> Result<Read, StoreError> {
        let may_go_on = || self.state().entries.contains_key(path);
        if may_go_on() {
            let last = request.since.checked_add(PATIENCE).unwrap_or(request.since);
            match timeout_at(last, request.answer.clone()).await {
                Ok(answer) => return answer,
                Err(_) if may_go_on() => return Err(StoreError::new(StoreErrorKind::Unavailable, format!("{path}: no answer yet"))),
                Err(_) => {}
            }
        }
        request.answer.await
    }

    /// What stands in for a store that cannot be asked.
    fn past(&self, path: &SecretPath, error: &StoreError, from: &Named) -> Option<Read> {
        let mut state = self.state();
        let now = Instant::now();
        let held = state.entries.get(path).filter(|held| held.is_of_use(now))?;
        let (read, seconds) = (held.read.clone(), held.past(now).as_secs());
        if state.told.is_some_and(|at| now.saturating_duration_since(at) < TELL_PACE) {
            state.untold = state.untold.saturating_add(1);
        } else {
            state.told = Some(now);
            let others = std::mem::take(&mut state.untold);
            drop(state);
            tracing::warn!(store = from.name, path = %path, seconds, others, %error, "a secret is used past its time");
        }
        Some(read)
    }

    /// The request that is under way, or a new one. `true`: it is new.
    fn request(self: &Arc<Self>, state: &mut State, from: &Named, session: SessionId, path: &SecretPath, wish: Wish) -> (Request, bool) {
        let key = (path.clone(), wish);
        if let Some(request) = state.requests.get(&key) {
            return (request.clone(), false);
        }
        let (under_way, from) = (UnderWay { inner: Arc::clone(self), key: key.clone() }, from.clone());
        let task = tokio::spawn(async move {
            let UnderWay { inner, key: (path, wish) } = &under_way;
            let (serial, asked, read) = inner.ask(&from, session, path, *wish).await;
            inner.take_note(&from, path, (serial, asked), &read);
            read
        });
        let cut_off = |_| Err(StoreError::new(StoreErrorKind::Unavailable, "the read of the secret was cut off"));
        let answer = async move { task.await.unwrap_or_else(cut_off) }.boxed().shared();
        let request = Request { answer, since: Instant::now() };
        state.requests.insert(key, request.clone());
        (request, true)
    }

    /// Asks the store: the number of the read, when it began, and what came of it.
    async fn ask(&self, from: &Named, session: SessionId, path: &SecretPath, wish: Wish) -> (u64, Instant, Result<Read, StoreError>) {
        let turn = from.turn_to_read().await;
        let (serial, asked) = (self.reads.fetch_add(1, Ordering::Relaxed), Instant::now());
        let document = match turn {
            Ok(_turn) => from.store.read(session, path, wish == Wish::Newest).await,
            Err(error) => Err(error),
        };
        (serial, asked, document.map(|document| Read { document: Arc::new(document), serial }))
    }

    /// The store's answer: kept, or what it takes away, unless a newer read is known.
    fn take_note(self: &Arc<Self>, from: &Named, path: &SecretPath, (serial, asked): (u64, Instant), answer: &Result<Read, StoreError>) {
        let mut state = self.state();
        let newest = state.entries.get(path).map(|held| held.read.serial).max(state.refused.get(path).copied());
        if newest > Some(serial) {
            return;
        }
        match answer {
            Ok(read) => self.keep(&mut state, from, path, asked, read),
            Err(error) if !is_outage(error.kind) => {
                state.entries.remove(path);
                state.refused.insert(path.clone(), serial);
            }
            Err(_) => {}
        }
    }

    fn keep(self: &Arc<Self>, state: &mut State, from: &Named, path: &SecretPath, asked: Instant, read: &Read) {
        let Some(times) = entry::Times::of(asked, self.ttl, self.max_stale, &read.document) else {
            // What it says of itself is that it is over: so is what was held before.
            state.entries.remove(path);
            return;
        };
        if state.entries.len() >= MAX_ENTRIES && !state.entries.contains_key(path) {
            let first = state.entries.iter().min_by_key(|(_, entry)| entry.ends()).map(|(path, _)| path.clone());
            first.and_then(|path| state.entries.remove(&path));
        }
        let entry = Entry::new(read.clone(), times, Arc::downgrade(self), from, path);
        state.entries.insert(path.clone(), entry);
    }

    /// An entry is about to end: it is read again if somebody used it. A failure is not told: until the end it is as good as it was.
    fn refresh(self: &Arc<Self>, from: &Named, path: &SecretPath, serial: u64) {
        let mut state = self.state();
        let held = state.entries.get_mut(path).filter(|held| held.read.serial == serial);
        if let Some(session) = held.and_then(Entry::refreshes) {
            let _ = self.request(&mut state, from, session, path, Wish::Any);
        }
    }

    /// An entry has ended.
    fn forget(&self, path: &SecretPath, serial: u64) {
        let mut state = self.state();
        if state.entries.get(path).is_some_and(|held| held.read.serial == serial) {
            state.entries.remove(path);
        }
    }

    /// Its parts are whole after a panic too: each change is one step.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request in its task. When that ends, however it does, nobody waits for it any more.
struct UnderWay {
    inner: Arc<Inner>,
    key: (SecretPath, Wish),
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.inner.state();
        state.requests.remove(&self.key);
        let (path, _) = &self.key;
        if ![Wish::Any, Wish::Newest].into_iter().any(|wish| state.requests.contains_key(&(path.clone(), wish))) {
            state.refused.remove(path);
        }
        if self.key.1 == Wish::Newest {
            let now = Instant::now();
            state.rereads.retain(|_, at| now.saturating_duration_since(*at) < REREAD_PACE);
            state.rereads.insert(self.key.0.clone(), now);
        }
    }
}

/// Whether the store could not be asked, so that its last answer may stand. A store that refuses our own login was asked: whoever takes a
/// proxy's login away wants its secrets back with it.
const fn is_outage(kind: StoreErrorKind) -> bool {
    match kind {
        StoreErrorKind::Unavailable | StoreErrorKind::Throttled => true,
        StoreErrorKind::Denied
        | StoreErrorKind::LoginFailed
        | StoreErrorKind::NotFound
        | StoreErrorKind::Malformed
        | StoreErrorKind::LeaseLost
        | StoreErrorKind::Backlog
        | StoreErrorKind::Disabled
        | StoreErrorKind::Quota => false,
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;
