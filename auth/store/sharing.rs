//! Leases that sessions use together, one room per store: `lease: per_user | shared` of a connection.
//!
//! A session whose connection says so joins the lease of those who may share with it: the one that is being asked for, whose one request
//! they all wait for, or the one that lives, if it leaves the session `min_session`. Else it asks for a new one, which later sessions
//! join. Nobody owns a lease: who vanishes takes nothing from the others, and the last one that lets go gives it back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use keyward_config::{LeaseSharing, Name};
use tokio::sync::watch;
use tokio::time::Instant;

use super::keeper::until;
use super::lease::{Source, Standing};
use super::named::Named;
use super::{Credential, Lease, Leases, Provenance, SecretPath, StoreError, StoreErrorKind, Use, Wanted};
use crate::policy::Connection;
use crate::{Grant, Proof};

/// The leases of one store that may be joined. With it ends the joining.
#[derive(Default)]
pub(crate) struct Sharing(Mutex<BTreeMap<Circle, Entry>>);

/// A lease that sessions use together; with the last of them it is given back.
pub(crate) struct SharedLease {
    /// As its keeper handed it over, without the credential.
    own: Lease,
    /// For those who may join; gone when nobody may any more.
    credential: Mutex<Option<Arc<Credential>>>,
    /// Others than who asked for it have it, or had it.
    joined: AtomicBool,
}

/// Who shares with whom: the sessions of one account, of one user or of all of them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Circle {
    connection: Name,
    account: Name,
    user: Option<Name>,
    /// The role. Where each user has one of his own (`{{user.name}}`), nobody gets another one's.
    role: SecretPath,
}

/// The newest lease of a circle. Not held from here: it belongs to those who use it or wait for it.
struct Entry {
    /// What the file said when it was asked for.
    connection: Arc<Connection>,
    lease: Joinable,
}

enum Joinable {
    Asked(WeakShared<Answer>),
    Lives(Weak<SharedLease>),
}

/// One session's part in a lease.
type Share = (Arc<SharedLease>, Arc<Credential>);
type Answer = BoxFuture<'static, Result<Share, StoreError>>;

/// How a session comes to its share.
enum Way {
    /// It joins a lease that lives.
    Joins(Share),
    /// It waits for what another session asked for.
    Waits(Shared<Answer>),
    /// It asks itself.
    Asks(Shared<Answer>),
}

impl Sharing {
    /// A leased credential: one of the session's own, or one that it shares with others. Dropping the future loses nothing: what is then
    /// issued belongs to those who still wait for it, or is given back.
    pub(crate) async fn lease(
        self: &Arc<Self>,
        leases: &Arc<Leases>,
        from: &Named,
        grant: &Grant,
        wanted: &Wanted,
    ) -> Result<Lease, StoreError> {
        let Some(circle) = Circle::of(grant, &wanted.path) else { return leases.issue(from.clone(), grant, wanted).await };
        let ask = |circle| self.ask(circle, Arc::clone(leases), from.clone(), grant.clone(), wanted.clone());
        let (share, joined) = match self.way(circle, grant.connection(), ask) {
            Way::Joins(share) => (share, true),
            Way::Waits(answer) => (answer.await?, true),
            Way::Asks(answer) => (answer.await?, false),
        };
        let (shared, credential) = share;
        if joined {
            shared.joined.store(true, Ordering::Relaxed);
            from.observer.lease(&from.name, "joined");
        }
        let provenance = Provenance { joined, ..shared.own.provenance().clone() };
        let born = shared.own.born();
        Ok(Lease::new(credential, provenance, born, Source::Shared(shared)))
    }

    /// Nobody joins a lease any more whose connection is not `current`.
    pub(crate) fn close_all_but(&self, current: impl Fn(&Connection) -> bool) {
        self.entries().retain(|_, entry| {
            let stays = current(&entry.connection);
            if !stays {
                entry.close();
            }
            stays
        });
    }

    fn way(&self, circle: Circle, connection: &Arc<Connection>, ask: impl FnOnce(Circle) -> Shared<Answer>) -> Way {
        let mut entries = self.entries();
        let joinable = entries.get(&circle).filter(|entry| entry.connection.same_as(connection)).and_then(|entry| match &entry.lease {
            Joinable::Asked(answer) => answer.upgrade().map(Way::Waits),
            Joinable::Lives(shared) => shared.upgrade()?.join(connection.min_session()).map(Way::Joins),
        });
        if let Some(way) = joinable {
            return way;
        }
        let answer = ask(circle.clone());
        entries.retain(|_, entry| entry.is_used());
        if let Some(request) = answer.downgrade() {
            let entry = Entry { connection: Arc::clone(connection), lease: Joinable::Asked(request) };
            if let Some(former) = entries.insert(circle, entry) {
                former.close();
            }
        }
        Way::Asks(answer)
    }

    /// One request for all who wait for it. It goes on while one of them does.
    fn ask(self: &Arc<Self>, circle: Circle, leases: Arc<Leases>, from: Named, grant: Grant, wanted: Wanted) -> Shared<Answer> {
        let sharing = Arc::downgrade(self);
        let answer = async move {
            let mut own = leases.issue(from, &grant, &wanted).await?;
            if own.used() == Use::Login {
                return Err(opens_one_session(&wanted.path));
            }
            let none = || StoreError::new(StoreErrorKind::Malformed, format!("{}: a lease without a credential", wanted.path));
            let credential = own.credential().ok_or_else(none)?;
            own.forget_credential();
            let shared = Arc::new(SharedLease { own, credential: Mutex::new(None), joined: AtomicBool::new(false) });
            if let Some(sharing) = sharing.upgrade() {
                sharing.open(&circle, grant.connection(), &shared, &credential);
            }
            Ok((shared, credential))
        };
        answer.boxed().shared()
    }

    /// Lets others join a new lease, unless the file has changed meanwhile.
    fn open(&self, circle: &Circle, connection: &Arc<Connection>, shared: &Arc<SharedLease>, credential: &Arc<Credential>) {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(circle).filter(|entry| entry.connection.same_as(connection)) else { return };
        *shared.spare() = Some(Arc::clone(credential));
        let lease = Joinable::Lives(Arc::downgrade(shared));
        std::mem::replace(entry, Entry { connection: Arc::clone(connection), lease }).close();
        if let Some(standing) = shared.standing() {
            tokio::spawn(close_in_time(Arc::downgrade(shared), standing, connection.min_session()));
        }
    }

    /// Its parts are whole after a panic too: each change is one step.
    fn entries(&self) -> MutexGuard<'_, BTreeMap<Circle, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        self.entries().values().for_each(Entry::close);
    }
}

/// A one-time password cannot be shared.
pub(super) fn opens_one_session(path: &SecretPath) -> StoreError {
    let message = format!("{path}: a one-time password opens one session: leave `lease:` away, or write `lease: per_session`");
    StoreError::new(StoreErrorKind::Malformed, message)
}

impl Circle {
    /// `None`: this session shares with nobody. What the operator tries is to say how a new login goes.
    fn of(grant: &Grant, role: &SecretPath) -> Option<Self> {
        let user = match grant.connection().sharing() {
            _ if grant.proof() == Proof::Operator => return None,
            LeaseSharing::PerSession => return None,
            LeaseSharing::PerUser => Some(grant.user().clone()),
            LeaseSharing::Shared => None,
        };
        let (connection, account) = (grant.connection().name().clone(), grant.account().name().clone());
        Some(Self { connection, account, user, role: role.clone() })
    }
}

impl Entry {
    fn is_used(&self) -> bool {
        match &self.lease {
            Joinable::Asked(answer) => answer.upgrade().is_some(),
            Joinable::Lives(shared) => shared.strong_count() > 0,
        }
    }

    /// Nobody finds the lease here any more: it keeps no credential for those who would.
    fn close(&self) {
        if let Joinable::Lives(shared) = &self.lease
            && let Some(shared) = shared.upgrade()
        {
            shared.close();
        }
    }
}

impl SharedLease {
    /// Nobody joins it from now on. Those who have it keep it.
    pub(crate) fn close(&self) {
        self.spare().take();
    }

    /// Whether others than who asked for it have it, or had it.
    pub(crate) fn is_joined(&self) -> bool {
        self.joined.load(Ordering::Relaxed)
    }

    /// What its keeper says of it.
    pub(crate) fn standing(&self) -> Option<watch::Receiver<Standing>> {
        self.own.standing()
    }

    /// A share, if it leaves a session more than `least` before it has to end.
    fn join(self: Arc<Self>, least: Duration) -> Option<Share> {
        let lives = match *self.standing()?.borrow() {
            Standing::Alive { told, .. } => told.is_none_or(|told| told.saturating_duration_since(Instant::now()) > least),
            Standing::Ended(_) => false,
        };
        let credential = self.spare().clone().filter(|_| lives)?;
        Some((self, credential))
    }

    fn spare(&self) -> MutexGuard<'_, Option<Arc<Credential>>> {
        self.credential.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the credential from a lease that nobody may join any more: it ends, or no renewal can give it `least` again.
async fn close_in_time(shared: Weak<SharedLease>, mut standing: watch::Receiver<Standing>, least: Duration) {
    loop {
        let Standing::Alive { at_most, .. } = *standing.borrow_and_update() else { break };
        let last = at_most.map(|end| end.checked_sub(least).unwrap_or_else(Instant::now));
        tokio::select! {
            () = until(last) => break,
            // Its keeper has taken it back: nobody is left.
            changed = standing.changed() => if changed.is_err() { return },
        }
    }
    if let Some(shared) = shared.upgrade() {
        shared.close();
    }
}
