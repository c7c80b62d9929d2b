//! The gate: all that the proxy may ask of this crate.

mod policies;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use keyward_config::{Config, Limits, Name, Node, Problems, Settings};
use keyward_ssh_transport::auth::question::{By, Proven};
use keyward_ssh_transport::certificate::Presented;
use keyward_ssh_transport::key::SkPolicy;

use crate::identity::{Accepted, Attempt, Hashing, Lockout, LockoutLimits, SaltKey, Users};
use crate::policy::Policy;
use crate::store::{Leases, Stores};
use crate::{
    AuthFailure, Connection, Credential, Denied, Grant, Identity, KeyTrust, Lease, LeaseStats, Observer, Proof, Reachable, ScramServer,
    Secret, SessionId, Source, StoreError, StoreStatus,
};

/// Who is it, may they, with which credential. One per process; shared by every link.
pub struct Gate {
    /// What a reload replaces, as a whole or not at all.
    current: ArcSwap<State>,
    salts: SaltKey,
    hashing: Hashing,
    lockout: Arc<Lockout>,
    leases: Arc<Leases>,
    observer: Arc<dyn Observer>,
}

/// One state of the file.
struct State {
    users: Users,
    policy: Policy,
    stores: Stores,
    /// What it says of each store, to tell what a reload changed.
    entries: BTreeMap<Name, Node>,
}

/// What a reload did: `connection orders`, `store corp`, `user alice`, each kind sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replaced {
    /// New in the file.
    pub added: Vec<String>,
    /// Different from before.
    pub changed: Vec<String>,
    /// No longer in the file.
    pub removed: Vec<String>,
}

impl Gate {
    /// Opens it for `keyward run`: the lease journal and the fake-salt key are in the folder `state`, whose lock the caller
    /// holds. Must be called inside a tokio runtime. Asks no store: the first request logs in.
    ///
    /// `None` if there is an error among `problems`, which has then been added to.
    pub fn open(config: &Config, state: &Path, observer: Arc<dyn Observer>, problems: &mut Problems) -> Option<Arc<Self>> {
        let salts = or_problem(SaltKey::open(state), "the fake-salt key in the state folder", problems)?;
        let leases = or_problem(Leases::open(Some(state)), "the lease journal in the state folder", problems)?;
        Self::build(config, salts, leases, observer, problems)
    }

    /// Opens it for `keyward check`: no listener, nothing on disk, and grants for the operator. Must be called inside a tokio runtime.
    ///
    /// `None` if there is an error among `problems`, which has then been added to.
    pub fn for_operator(config: &Config, observer: Arc<dyn Observer>, problems: &mut Problems) -> Option<Arc<Self>> {
        let salts = or_problem(SaltKey::random(), "random numbers", problems)?;
        let leases = or_problem(Leases::open(None), "the lease journal", problems)?;
        Self::build(config, salts, leases, observer, problems)
    }

    /// Checks what only this crate understands: verifiers and references parse, users can prove something. Asks nobody, writes nothing
    /// and needs no runtime; where there is one, [`Self::for_operator`] says the same and more.
    pub fn check(config: &Config, problems: &mut Problems) {
        if let Some(salts) = or_problem(SaltKey::random(), "random numbers", problems) {
            Users::read(config, &salts, problems);
            Policy::read(config, problems);
        }
    }

    /// Begins a SCRAM exchange for the user of the startup message. `binding` is the `tls-server-end-point` hash of the certificate
    /// that we showed; `None` without TLS. Waits up to 5 s if this address has failed often in the last minute.
    ///
    /// # Errors
    /// `Locked`: this user name has failed too often from this address.
    pub async fn scram(&self, user: &str, source: Source, binding: Option<Vec<u8>>) -> Result<ScramServer, AuthFailure> {
        let attempt = Attempt::begin(&self.lockout, user, source).await?;
        let verifier = self.current.load().users.scram(user, &self.salts);
        Ok(ScramServer::new(verifier, source, attempt, binding, Arc::clone(self.hashing.computations())))
    }

    /// Checks a clear-text password against the user's stored form. Waits like [`Self::scram`], then for a free core.
    ///
    /// # Errors
    /// `NotAuthenticated`: unknown user or wrong password. `Locked`: as there. `Busy`: the queue for hashing is full.
    pub async fn password(&self, user: &str, password: Secret, source: Source) -> Result<Identity, AuthFailure> {
        let attempt = Attempt::begin(&self.lockout, user, source).await?;
        let verifier = self.current.load().users.verifier(user, &self.salts);
        self.hashing.verify(verifier, password, (Proof::Cleartext, source), attempt).await
    }

    /// The same, where the password was typed at a prompt of ours (RFC 4256).
    ///
    /// # Errors
    /// As for [`Self::password`].
    pub async fn keyboard_interactive(&self, user: &str, answer: Secret, source: Source) -> Result<Identity, AuthFailure> {
        let attempt = Attempt::begin(&self.lockout, user, source).await?;
        let verifier = self.current.load().users.verifier(user, &self.salts);
        self.hashing.verify(verifier, answer, (Proof::KeyboardInteractive, source), attempt).await
    }

    /// Would this key or certificate let the user in, if its owner signed? The question before a signature: it counts nothing and waits for
    /// nothing. What a security key must have seen; `None` if it would not, whatever the reason.
    #[must_use]
    pub fn would_accept(&self, user: &str, key: &Presented, source: Source, trust: &KeyTrust) -> Option<SkPolicy> {
        // A locked pair hears here what it would hear after the signature.
        let attempt = Attempt::at_once(&self.lockout, user, source).ok()?;
        match self.current.load().users.key(user, key, source, trust) {
            Ok(accepted) => Some(accepted.policy),
            Err(why) => {
                tracing::debug!(%source, user = attempt.shown(), key = key.key().fingerprint(), %why, "a key is not taken");
                None
            }
        }
    }

    /// Whoever holds this key has signed for this user: does it count? Waits like [`Self::scram`]. If not, it is a failed proof and counts like
    /// a wrong password; if so, nothing is counted before [`Self::public_key`]. Returns what a security key must have seen.
    ///
    /// # Errors
    /// `NotAuthenticated`: no such user, none of his keys, revoked, or a certificate that does not count. `Locked`: as there.
    pub async fn signed(&self, user: &str, key: &Presented, source: Source, trust: &KeyTrust) -> Result<SkPolicy, AuthFailure> {
        let attempt = Attempt::begin(&self.lockout, user, source).await?;
        self.key(&attempt, user, key, source, trust).map(|accepted| accepted.policy)
    }

    /// A signature was wrong, or its security key had not seen enough: a failed proof, which counts like a wrong password. Waits like it.
    pub async fn missigned(&self, user: &str, source: Source) {
        // A locked pair stays locked as long as it was, whatever it sends.
        if let Ok(attempt) = Attempt::begin(&self.lockout, user, source).await {
            attempt.failed();
        }
    }

    /// The proof itself, which `keyward_ssh_transport::auth::server` has verified: asks once more whose key it is, and whether it counts.
    /// Waits like [`Self::scram`], counts like [`Self::signed`]. `user` is who the login means, which may be a part of the name in the proof.
    ///
    /// # Errors
    /// As for [`Self::signed`]; `NotAuthenticated` also if it was proven by something else.
    pub async fn public_key(&self, user: &str, proven: &Proven, source: Source, trust: &KeyTrust) -> Result<Identity, AuthFailure> {
        let attempt = Attempt::begin(&self.lockout, user, source).await?;
        let By::Key(key, _) = proven.by() else { return Err(AuthFailure::NotAuthenticated) };
        let accepted = self.key(&attempt, user, key, source, trust)?;
        attempt.succeeded();
        Ok(accepted.identity(source))
    }

    /// A failure is counted and logged; that of a key that was only shown is neither.
    fn key(&self, attempt: &Attempt, user: &str, key: &Presented, source: Source, trust: &KeyTrust) -> Result<Accepted, AuthFailure> {
        self.current.load().users.key(user, key, source, trust).map_err(|why| {
            attempt.failed();
            tracing::info!(%source, user = attempt.shown(), key = key.key().fingerprint(), %why, "a signature does not count");
            AuthFailure::NotAuthenticated
        })
    }

    /// Somebody named a session that is not there, with a key that he had to guess: costs his address what a wrong password does, and
    /// waits as long.
    pub async fn missed(&self, source: Source) {
        self.lockout.missed(source).await;
    }

    /// Grants or denies what was asked for, by the names as they came: a connection, or a host of a group. `protocol` is the listener's: a
    /// connection of another protocol does not exist there. Without an account: `default` if that is allowed, else the only one that is.
    ///
    /// # Errors
    /// `NotPermitted`, the same for unknown and forbidden; `Choose` with the accounts that this user may name.
    pub fn authorise(
        &self,
        identity: &Identity,
        protocol: &str,
        connection: &str,
        account: Option<&str>,
        session: SessionId,
    ) -> Result<Grant, Denied> {
        let current = self.current.load();
        // A link may open sessions for long, and its key may have been taken from the user since, or his password changed.
        if !current.users.still_has_proof_of(identity) {
            return Err(Denied::NotPermitted);
        }
        current.policy.authorise(identity, protocol, connection, account, session)
    }

    /// What this user may reach by this protocol, sorted.
    #[must_use]
    pub fn reachable(&self, identity: &Identity, protocol: &str) -> Vec<Reachable> {
        self.reachable_by(identity.user(), protocol)
    }

    /// What a user of this name may reach by this protocol, sorted; nothing if there is none. For the operator: nobody has proven anything.
    #[must_use]
    pub fn reachable_by(&self, user: &Name, protocol: &str) -> Vec<Reachable> {
        self.current.load().policy.reachable(user, protocol)
    }

    /// The server that a jump to this host and port means, among those that the user may reach as any account: by its name (a connection, or
    /// a host of a group) with `default_port` or its own port, or by the address of a connection. Returns the name to authorise by; none to whoever
    /// was proven by what the user no longer has.
    #[must_use]
    pub fn target(&self, identity: &Identity, protocol: &str, host: &str, port: u16, default_port: u16) -> Option<String> {
        let current = self.current.load();
        // A certificate is signed for what this finds, long before a session is asked for.
        let proven = current.users.still_has_proof_of(identity);
        proven.then(|| current.policy.target(identity, protocol, host, port, default_port)).flatten()
    }

    /// What its protocol reads from each rule that now allows what the grant is for: the type of the `access` section of its row, one for each
    /// rule. None if nothing allows it any more, if the protocol has no such section, and for the operator, whom no rule concerns.
    #[must_use]
    pub fn rules(&self, grant: &Grant) -> Vec<Settings> {
        self.current.load().policy.rules(grant)
    }

    /// The connections of a protocol, sorted by name. They show where servers are, and carry no credential.
    #[must_use]
    pub fn connections(&self, protocol: &str) -> Vec<Arc<Connection>> {
        let current = self.current.load();
        current.policy.connections().values().filter(|connection| connection.protocol() == protocol).map(Arc::clone).collect()
    }

    /// Whether the same (user, connection, host of a group, account) would be granted now. Asked for every live session after a reload.
    #[must_use]
    pub fn still_allowed(&self, grant: &Grant) -> bool {
        self.current.load().policy.still_allows(grant)
    }

    /// A grant for every account of every connection, of a group for each host that is written out, as the user `operator`: what `keyward check` tries.
    #[must_use]
    pub fn operator_grants(&self) -> Vec<Grant> {
        self.current.load().policy.operator_grants()
    }

    /// The grant with what its connection has in a store instead of the file, such as its address. Of most connections: the grant as it is, and
    /// nobody is asked.
    ///
    /// # Errors
    /// What the store did not give, or gave in a form that is of no use.
    pub async fn fill(&self, grant: Grant) -> Result<Grant, StoreError> {
        if grant.connection().is_whole() {
            return Ok(grant);
        }
        let values = self.current.load_full().stores.fields(&grant).await?;
        let connection = grant.connection().filled(&values)?;
        Ok(grant.with(connection))
    }

    /// Gets the credential of a grant: from the cache, from its store, or, where the connection lets sessions share a lease, together with
    /// those who have it. Dropping the future loses nothing and takes nothing from others.
    ///
    /// # Errors
    /// What the store, or the way to it, did not give.
    pub async fn lease(&self, grant: &Grant) -> Result<Lease, StoreError> {
        self.current.load_full().stores.lease(grant).await
    }

    /// The upstream rejected this credential: asks the store once more if it came from the cache, or for another lease if it was that of
    /// other sessions. A shared lease that was rejected is given to nobody any more. `None`: nothing else to try.
    ///
    /// # Errors
    /// As for [`Self::lease`].
    pub async fn refetch(&self, grant: &Grant, rejected: &Lease) -> Result<Option<Lease>, StoreError> {
        self.current.load_full().stores.refetch(grant, rejected).await
    }

    /// The upstream rejects the credential that a live session has: what has come in its place in the store. `None`: nothing, or it is a
    /// lease, whose credential stays what it is.
    ///
    /// # Errors
    /// As for [`Self::lease`].
    pub async fn replacement(&self, grant: &Grant, rejected: &Credential) -> Result<Option<Arc<Credential>>, StoreError> {
        self.current.load_full().stores.replacement(grant, rejected).await
    }

    /// Asks a store how it is. Logs in to it if need be.
    ///
    /// # Errors
    /// As for [`Self::lease`]; `Disabled` if no store of this name is open.
    pub async fn store_status(&self, name: &str) -> Result<StoreStatus, StoreError> {
        self.current.load_full().stores.status(name).await
    }

    /// Whether anything that was read of a store may still be used while it cannot be asked.
    #[must_use]
    pub fn store_stands_in(&self, name: &str) -> bool {
        self.current.load().stores.stands_in(name)
    }

    /// The names of the stores that are switched on, sorted.
    #[must_use]
    pub fn store_names(&self) -> Vec<String> {
        self.current.load().stores.names()
    }

    /// How many leases live, and how many wait to be given back.
    #[must_use]
    pub fn lease_stats(&self) -> LeaseStats {
        self.leases.stats()
    }

    /// Waits until every lease is given back, but no longer than `limit`. Returns how many are left; the journal has them for the
    /// next start.
    pub async fn drain(&self, limit: Duration) -> usize {
        self.leases.drain(limit).await
    }

    /// Takes over another state of the file, all of it or, if there is an error among `problems`, nothing. Stores that are the
    /// same live on with their login and their cache; failures, leases and grants outlive it in any case.
    pub fn replace(&self, config: &Config, problems: &mut Problems) -> Option<Replaced> {
        let before = self.current.load_full();
        let after = State::read(config, &self.salts, &self.leases, &self.observer, Some(&before.stores), problems)?;
        let replaced = Replaced::between(&before, &after);
        self.lockout.set_limits(lockout_limits(&config.limits));
        let after = Arc::new(after);
        self.current.store(Arc::clone(&after));
        let connections = after.policy.connections();
        after.stores.close_all_but(|old| connections.get(old.name()).is_some_and(|new| new.same_as(old)));
        Some(replaced)
    }

    fn build(
        config: &Config,
        salts: SaltKey,
        leases: Arc<Leases>,
        observer: Arc<dyn Observer>,
        problems: &mut Problems,
    ) -> Option<Arc<Self>> {
        let state = State::read(config, &salts, &leases, &observer, None, problems)?;
        let lockout = Arc::new(Lockout::new(lockout_limits(&config.limits)));
        Some(Arc::new(Self { current: ArcSwap::from_pointee(state), salts, hashing: Hashing::new(), lockout, leases, observer }))
    }
}

impl State {
    fn read(
        config: &Config,
        salts: &SaltKey,
        leases: &Arc<Leases>,
        observer: &Arc<dyn Observer>,
        previous: Option<&Stores>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let policy = Policy::read(config, problems);
        let state = Self {
            users: Users::read(config, salts, problems),
            stores: Stores::open(config, policy.connections(), leases, observer, previous, problems),
            policy,
            entries: config.stores.iter().map(|(name, store)| (name.clone(), store.node.clone())).collect(),
        };
        (!problems.has_errors()).then_some(state)
    }
}

impl Replaced {
    fn between(before: &State, after: &State) -> Self {
        let mut replaced = Self::default();
        let (old, new) = (before.policy.connections(), after.policy.connections());
        replaced.compare("connection", old.keys(), new.keys(), |name| {
            old.get(name).zip(new.get(name)).is_some_and(|(old, new)| old.same_as(new))
        });
        let (old, new) = (&before.entries, &after.entries);
        replaced.compare("store", old.keys(), new.keys(), |name| old.get(name) == new.get(name));
        let (old, new) = (&before.users, &after.users);
        replaced.compare("user", old.names(), new.names(), |name| old.same(new, name));
        if !before.policy.same_rules(&after.policy) {
            replaced.changed.push("access".to_owned());
        }
        replaced
    }

    /// Sorts the names of one kind of entry into the lists, behind those of other kinds.
    pub fn compare<'a, N: std::fmt::Display + Ord + 'a>(
        &mut self,
        kind: &str,
        old: impl Iterator<Item = &'a N>,
        new: impl Iterator<Item = &'a N>,
        same: impl Fn(&N) -> bool,
    ) {
        let (old, new): (BTreeSet<_>, BTreeSet<_>) = (old.collect(), new.collect());
        let list = |names: Vec<&N>| names.into_iter().map(|name| format!("{kind} {name}")).collect::<Vec<_>>();
        self.added.extend(list(new.difference(&old).copied().collect()));
        self.removed.extend(list(old.difference(&new).copied().collect()));
        self.changed.extend(list(old.intersection(&new).copied().filter(|name| !same(name)).collect()));
    }
}

const fn lockout_limits(limits: &Limits) -> LockoutLimits {
    LockoutLimits { failed_logins: limits.failed_logins, lock_time: limits.lock_time.get() }
}

fn or_problem<T, E: std::fmt::Display>(result: Result<T, E>, what: &str, problems: &mut Problems) -> Option<T> {
    result.map_err(|error| problems.error(None, "state", format!("{what}: {error}"))).ok()
}

#[cfg(test)]
mod tests;
