//! The live sessions: how many there are, who they are, and the one way to end one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use keyward_auth::{Grant, SessionId};
use keyward_config::{Limits, Name};
use prometheus_client::metrics::counter::Counter;
use subtle::ConstantTimeEq;
use tokio::sync::{Notify, watch};

use crate::refusal::Reason;

/// Who wakes so much too late stood still with the whole process.
const LATE: Duration = Duration::from_secs(1);

/// All sessions of the process.
#[derive(Default)]
pub struct Registry {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    total: u32,
    per_user: HashMap<Name, u32>,
    per_connection: HashMap<Name, u32>,
    /// Links that lead to no connection themselves, by user.
    jumps: HashMap<Name, u32>,
    live: HashMap<SessionId, Arc<Live>>,
    /// Numbers of the wire that are taken; by links that log in as yet, too.
    by_number: HashMap<u32, Option<SessionId>>,
}

/// Which numbers of the wire a protocol gives to its sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Numbers {
    /// Positive as an `i32`, as PostgreSQL's process ids are.
    Positive,
    /// With the top bit set: a MySQL server counts from 1, and never comes as far.
    High,
}

/// A number that no other link and no other live session has, while it is held.
pub struct Number {
    registry: Arc<Registry>,
    number: u32,
}

/// A place in the counts, held from the grant to the end of the session.
pub struct Place {
    registry: Arc<Registry>,
    user: Name,
    connection: Name,
}

/// A place among the links that lead to no connection themselves.
pub struct JumpPlace {
    registry: Arc<Registry>,
    user: Name,
}

/// A live session as others see it.
pub struct Live {
    /// What it is allowed by.
    pub grant: Grant,
    /// When it opened.
    pub opened: Instant,
    /// What moved.
    pub traffic: Arc<Traffic>,
    /// By what its client may name it on another link (a cancel), where its protocol has such links.
    pub(crate) handle: Option<Handle>,
    end: watch::Sender<Option<Reason>>,
}

/// By what a client may name its session on another link, and what happens then.
pub struct Handle {
    /// PostgreSQL's process id, MySQL's connection id. Unique among live sessions.
    pub number: Number,
    /// Unguessable; compared in constant time. Empty where the protocol has none.
    pub key: Vec<u8>,
    /// Stops its running query.
    pub interrupt: Box<dyn Interrupt>,
}

/// How the running query of a session is stopped upstream.
pub trait Interrupt: Send + Sync {
    /// Asks the upstream to stop the query; returns once the upstream has dealt with it, or after a bound of its own. Whether it has.
    fn interrupt(&self) -> BoxFuture<'_, bool>;

    /// The session is over, and its upstream is at work all the same: asks for an end, where the protocol has a stronger word for that than
    /// for the end of a query.
    fn end(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let _ = self.interrupt().await;
        })
    }
}

/// Keeps a session in the registry while it lives.
pub struct Registered {
    live: Arc<Live>,
    registry: Arc<Registry>,
    ends: watch::Receiver<Option<Reason>>,
}

/// Bytes of one session, and when the last one moved.
pub struct Traffic {
    start: Instant,
    up: AtomicU64,
    down: AtomicU64,
    last: AtomicU64,
    /// Those of all sessions, so that a long one is seen while it lives.
    all: (Counter, Counter),
}

impl Registry {
    /// Takes a place for a session, if the limits leave one.
    #[must_use]
    pub fn admit(self: &Arc<Self>, grant: &Grant, limits: &Limits) -> Option<Place> {
        let connection = grant.connection();
        let mut inner = self.lock();
        let user = inner.per_user.get(grant.user()).copied().unwrap_or(0);
        let on_connection = inner.per_connection.get(connection.name()).copied().unwrap_or(0);
        let full = inner.total >= limits.sessions
            || user >= limits.sessions_per_user
            || connection.limits().max_sessions.is_some_and(|most| on_connection >= most);
        if full {
            return None;
        }
        inner.total = inner.total.saturating_add(1);
        inner.per_user.insert(grant.user().clone(), user.saturating_add(1));
        inner.per_connection.insert(connection.name().clone(), on_connection.saturating_add(1));
        drop(inner);
        Some(Place { registry: Arc::clone(self), user: grant.user().clone(), connection: connection.name().clone() })
    }

    /// Takes a place for a link that has a user and no session of its own: as many as a user, and all of them, may have sessions.
    #[must_use]
    pub fn admit_jump(self: &Arc<Self>, user: &Name, limits: &Limits) -> Option<JumpPlace> {
        let mut inner = self.lock();
        let own = inner.jumps.get(user).copied().unwrap_or(0);
        let all = inner.jumps.values().fold(0, |all: u32, of_user| all.saturating_add(*of_user));
        if own >= limits.sessions_per_user || all >= limits.sessions {
            return None;
        }
        inner.jumps.insert(user.clone(), own.saturating_add(1));
        drop(inner);
        Some(JumpPlace { registry: Arc::clone(self), user: user.clone() })
    }

    /// Whether this session is live.
    #[must_use]
    pub fn is_live(&self, session: SessionId) -> bool {
        self.lock().live.contains_key(&session)
    }

    /// Takes a random number. `None`: there are no random numbers.
    #[must_use]
    pub fn number(self: &Arc<Self>, numbers: Numbers) -> Option<Number> {
        let mut inner = self.lock();
        let number = inner.free_number(numbers)?;
        inner.by_number.insert(number, None);
        drop(inner);
        Some(Number { registry: Arc::clone(self), number })
    }

    /// Enters a session that is about to be announced to its client, with the handle that it will know.
    #[must_use]
    pub fn enter(self: &Arc<Self>, grant: Grant, traffic: Arc<Traffic>, handle: Option<Handle>) -> Registered {
        let (end, ends) = watch::channel(None);
        let id = grant.session();
        let live = Arc::new(Live { grant, opened: Instant::now(), traffic, handle, end });
        let mut inner = self.lock();
        if let Some(handle) = &live.handle {
            inner.by_number.insert(handle.number.get(), Some(id));
        }
        inner.live.insert(id, Arc::clone(&live));
        drop(inner);
        Registered { live, registry: Arc::clone(self), ends }
    }

    /// The one way to end a session: it stops at the next message boundary, tells its client why and closes. `false`: there is none.
    pub fn end(&self, id: SessionId, reason: Reason) -> bool {
        let live = self.lock().live.get(&id).cloned();
        live.is_some_and(|live| live.end(reason))
    }

    /// Ends all sessions for which `wanted` says so; how many.
    pub fn end_where(&self, reason: Reason, wanted: impl Fn(&Live) -> bool) -> usize {
        self.list().iter().filter(|live| wanted(live) && live.end(reason)).count()
    }

    /// The live sessions.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Live>> {
        self.lock().live.values().cloned().collect()
    }

    /// Sessions admitted, live or about to be.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.lock().total
    }

    /// The live session with this handle. The key is compared in constant time.
    #[must_use]
    pub fn by_handle(&self, number: u32, key: &[u8]) -> Option<Arc<Live>> {
        let inner = self.lock();
        let live = inner.by_number.get(&number).copied().flatten().and_then(|id| inner.live.get(&id))?;
        bool::from(live.handle.as_ref()?.key.ct_eq(key)).then(|| Arc::clone(live))
    }

    /// Waits until no session is left, at most for `limit`; whether none is.
    pub async fn drained(&self, limit: Duration) -> bool {
        let empty = async {
            loop {
                let changed = self.changed.notified();
                if self.count() == 0 {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(limit, empty).await.is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it holds the lock; should it ever, the counts are still whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn free_number(&self, numbers: Numbers) -> Option<u32> {
        // Of two thousand million numbers a few thousand are taken: a second draw is rare, a hundredth never.
        for _ in 0..100 {
            let mut bytes = [0_u8; 4];
            aws_lc_rs::rand::fill(&mut bytes).ok()?;
            let number = match numbers {
                Numbers::Positive => (u32::from_be_bytes(bytes) & 0x7fff_ffff).max(1),
                Numbers::High => u32::from_be_bytes(bytes) | 0x8000_0000,
            };
            if !self.by_number.contains_key(&number) {
                return Some(number);
            }
        }
        None
    }
}

impl Live {
    /// Asks the upstream to stop the running query; see [`Interrupt::interrupt`]. `false` also where there is nothing to ask.
    pub async fn interrupt(&self) -> bool {
        match &self.handle {
            Some(handle) => handle.interrupt.interrupt().await,
            None => false,
        }
    }

    /// See [`Interrupt::end`].
    pub(crate) async fn stop_upstream(&self) {
        if let Some(handle) = &self.handle {
            handle.interrupt.end().await;
        }
    }

    fn end(&self, reason: Reason) -> bool {
        self.end.send_if_modified(|now| now.is_none() && now.replace(reason).is_none())
    }
}

impl Registered {
    /// What others see of the session.
    #[must_use]
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Resolves when somebody ends the session.
    pub async fn ended(&self) -> Reason {
        let mut ends = self.ends.clone();
        loop {
            if let Some(reason) = *ends.borrow_and_update() {
                return reason;
            }
            if ends.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.lock().live.remove(&self.live.grant.session());
    }
}

impl Number {
    /// The number itself.
    #[must_use]
    pub const fn get(&self) -> u32 {
        self.number
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        self.registry.lock().by_number.remove(&self.number);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.registry.lock();
        inner.total = inner.total.saturating_sub(1);
        release(&mut inner.per_user, &self.user);
        release(&mut inner.per_connection, &self.connection);
        drop(inner);
        self.registry.changed.notify_waiters();
    }
}

impl Drop for JumpPlace {
    fn drop(&mut self) {
        release(&mut self.registry.lock().jumps, &self.user);
    }
}

fn release(counts: &mut HashMap<Name, u32>, name: &Name) {
    if let Some(count) = counts.get_mut(name) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(name);
        }
    }
}

impl Traffic {
    /// Nothing moved yet. What moves counts in these two as well: up, and down.
    #[must_use]
    pub fn new(all: (Counter, Counter)) -> Self {
        Self { start: Instant::now(), up: AtomicU64::new(0), down: AtomicU64::new(0), last: AtomicU64::new(0), all }
    }

    /// Counts bytes from the client to the upstream.
    pub fn add_up(&self, bytes: usize) {
        self.all.0.inc_by(bytes as u64);
        self.add(&self.up, bytes);
    }

    /// Counts bytes from the upstream to the client.
    pub fn add_down(&self, bytes: usize) {
        self.all.1.inc_by(bytes as u64);
        self.add(&self.down, bytes);
    }

    /// Bytes from the client to the upstream, and back.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (self.up.load(Ordering::Relaxed), self.down.load(Ordering::Relaxed))
    }

    /// How long nothing has moved.
    #[must_use]
    pub fn idle(&self) -> Duration {
        self.start.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }

    /// Resolves once nothing has moved for `limit`. Zero: never.
    pub async fn idled(&self, limit: Duration) {
        if limit.is_zero() {
            std::future::pending::<()>().await;
        }
        let mut had_a_look = false;
        loop {
            let idle = self.idle();
            let left = limit.saturating_sub(idle);
            if !left.is_zero() {
                had_a_look = false;
                tokio::time::sleep(left).await;
                continue;
            }
            if had_a_look || idle.saturating_sub(limit) < LATE {
                return;
            }
            // The process stood still meanwhile, and what came is not counted yet.
            had_a_look = true;
            tokio::time::sleep(LATE).await;
        }
    }

    fn add(&self, counter: &AtomicU64, bytes: usize) {
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::metrics::Metrics;

    /// Nothing has moved for so long; all waits are over at once.
    fn quiet_for(time: Duration) -> Traffic {
        let traffic = Traffic::new(Metrics::default().bytes("postgres"));
        Traffic { start: Instant::now().checked_sub(time).unwrap(), ..traffic }
    }

    #[tokio::test(start_paused = true)]
    async fn who_stood_still_with_the_process_is_not_idle_before_what_came_meanwhile_was_counted() {
        let limit = Duration::from_secs(60);
        assert!(quiet_for(limit).idled(limit).now_or_never().is_some(), "in time");
        let traffic = quiet_for(limit + LATE * 4);
        let mut idled = Box::pin(traffic.idled(limit));
        assert!(idled.as_mut().now_or_never().is_none(), "too late by seconds");
        traffic.add_up(1);
        assert!(tokio::time::timeout(LATE * 2, &mut idled).await.is_err());
        let silent = quiet_for(limit + LATE * 4);
        assert!(tokio::time::timeout(LATE * 2, silent.idled(limit)).await.is_ok(), "nothing came");
    }
}
