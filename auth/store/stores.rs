//! The stores of one state of the file, and the way from a grant to a lease.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::try_join_all;
use keyward_config::{Config, LeaseSharing, Name, Problems, Store as Entry};

use super::cache::{From, Read};
use super::lease::{Source, WasRead};
use super::needs::{Login, Needs};
use super::opened::{self, Opened, Opens};
use super::plan::{Part, Parts};
use super::policies::{AskStore, Policies, PolicyOf, Rights, StorePolicy};
use super::reference::Form;
use super::sharing::opens_one_session;
use super::{
    Credential, CredentialPlan, Lease, Leases, Observer, Provenance, Reference, SecretPath, Stay, StoreError, StoreErrorKind, StoreStatus,
    Use, Wanted, input, signing,
};
use crate::policy::Connection;
use crate::scram::Password;
use crate::{Grant, Secret};

/// The stores of one configuration.
pub(crate) struct Stores {
    /// By name; a runner of a store is one of its own, `store/runner`.
    open: BTreeMap<String, Arc<Opened>>,
    /// The connections of the file.
    connections: BTreeMap<Name, Arc<Connection>>,
    leases: Arc<Leases>,
}

impl Stores {
    /// Opens every store of the file that is switched on; no I/O to them. Equal stores of `previous` are carried over with their token and
    /// cache, and others go on with its login, where that is the same. Leases of a former process are given back. Where there is a problem,
    /// `previous` has lost nothing.
    pub(crate) fn open(
        config: &Config,
        connections: &BTreeMap<Name, Arc<Connection>>,
        leases: &Arc<Leases>,
        observer: &Arc<dyn Observer>,
        previous: Option<&Self>,
        problems: &mut Problems,
    ) -> Self {
        let carried = previous.map(|previous| &previous.open);
        let stay = if leases.journal.remembers() { Stay::Serves } else { Stay::Looks };
        let open = Opens { config, connections, observer, stay, carried }.all(problems);
        if !problems.has_errors() {
            leases.adopt(open.values().map(|opened: &Arc<Opened>| &opened.named));
            if previous.is_none() {
                leases.name_unclaimed(observer);
            }
            if stay == Stay::Serves {
                open.values().for_each(|opened| opened.named.store.begin());
            }
        }
        Self { open, connections: connections.clone(), leases: Arc::clone(leases) }
    }

    /// The credential of a grant.
    pub(crate) async fn lease(&self, grant: &Grant) -> Result<Lease, StoreError> {
        match &grant.account().plan {
            CredentialPlan::Leased(role) => {
                let (opened, connection) = (self.of(grant, &role.store)?, grant.connection());
                let username = match &role.username {
                    Some(username) => Some(login_name(&self.part(grant, username).await?)?),
                    None => None,
                };
                let wanted = Wanted { path: role.path.clone(), username, shown: grant.account().plan.shown(connection.store()) };
                // A grant of an older file that comes late would take the place of the lease that the sessions of this file share.
                if !self.connections.get(connection.name()).is_some_and(|current| current.same_as(connection)) {
                    return self.leases.issue(opened.named.clone(), grant, &wanted).await;
                }
                let lease = opened.sharing.lease(&self.leases, &opened.named, grant, &wanted).await?;
                // Of the operator, who shares nothing: `check` says what users would hear.
                if lease.used() == Use::Login && connection.sharing() != LeaseSharing::PerSession {
                    return Err(opens_one_session(&role.path));
                }
                Ok(lease)
            }
            CredentialPlan::Signed(role) => {
                let opened = self.of(grant, &role.store)?;
                let username = self.part(grant, &role.username).await?;
                signing::lease(&opened.named, grant, &role.path, &login_name(&username)?).await
            }
            CredentialPlan::Whole(_) | CredentialPlan::Parts(_) => self.read(grant).await,
        }
    }

    /// The upstream rejected a credential: once more past the cache, if the rejected one came from it or is that of a static role, and another
    /// lease if others have it too, or had it. Neither for a one-time password nor for a certificate that was made for this login: another one
    /// would be refused as well, by a server whose clock differs, who does not trust the authority, or that has no such account. A shared lease
    /// that was rejected is joined by nobody from now on: who can change the password of the account must not keep the others out. `None`: it
    /// has not changed, or the lease is this session's own; the upstream's answer stands.
    pub(crate) async fn refetch(&self, grant: &Grant, rejected: &Lease) -> Result<Option<Lease>, StoreError> {
        if let Source::Shared(_) = rejected.source() {
            rejected.close();
            return if rejected.is_own() { Ok(None) } else { self.lease(grant).await.map(Some) };
        }
        let Source::Secrets { reads, cached } = rejected.source() else { return Ok(None) };
        // The store may change a static role's password between the read and the login.
        if !cached && !reads.iter().any(|read| read.path.form() == Form::StaticRole) {
            return Ok(None);
        }
        let born = Instant::now();
        let again = reads.iter().map(|WasRead { store, path, serial }| async move {
            let opened = self.of(grant, store)?;
            let read = opened.cache.reread(&opened.named, grant.session(), path, *serial).await?;
            Ok::<_, StoreError>(ReadOf { store, opened, path, read, came: From::Store })
        });
        let again = try_join_all(again).await?;
        let lease = put_together(grant, &again, born).await?;
        let unchanged = match (lease.credential(), rejected.credential()) {
            (Some(new), Some(old)) => new.same_as(&old),
            _ => true,
        };
        Ok((!unchanged).then_some(lease))
    }

    /// What has come in the place of a credential that a live session has; past the cache. `None`: nothing, or it is a lease.
    pub(crate) async fn replacement(&self, grant: &Grant, rejected: &Credential) -> Result<Option<Arc<Credential>>, StoreError> {
        if matches!(grant.account().plan, CredentialPlan::Leased(_) | CredentialPlan::Signed(_)) {
            return Ok(None);
        }
        let other = |lease: &Lease| lease.credential().filter(|credential| !credential.same_as(rejected));
        let known = self.read(grant).await?;
        // Another login may have found it out already.
        if let Some(newer) = other(&known) {
            return Ok(Some(newer));
        }
        Ok(self.refetch(grant, &known).await?.as_ref().and_then(other))
    }

    /// A reload has changed the file: nobody joins a lease whose connection is not `current` any more.
    pub(crate) fn close_all_but(&self, current: impl Fn(&Connection) -> bool) {
        self.open.values().for_each(|opened| opened.sharing.close_all_but(&current));
    }

    /// Asks a store how it is.
    pub(crate) async fn status(&self, name: &str) -> Result<StoreStatus, StoreError> {
        match self.open.get(name) {
            Some(opened) => opened.named.store.status().await,
            None => Err(StoreError::new(StoreErrorKind::Disabled, format!("the store {name} is not open"))),
        }
    }

    /// Whether anything that was read of a store may still be used while it cannot be asked.
    pub(crate) fn stands_in(&self, name: &str) -> bool {
        self.open.get(name).is_some_and(|opened| opened.cache.stands_in())
    }

    /// The names of the open stores.
    pub(crate) fn names(&self) -> Vec<String> {
        self.open.keys().cloned().collect()
    }

    /// The policies that a store needs: one for each role that it logs in as, and that of its worker.
    ///
    /// # Errors
    /// `Disabled`: it is not open. `Malformed`: it is of a kind that has none.
    pub(crate) async fn policies(
        &self,
        entry: &Entry,
        all: &BTreeMap<Login, Needs>,
        ask: AskStore,
    ) -> Result<Vec<StorePolicy>, StoreError> {
        let name = &entry.name.value;
        let opened = self.open.iter().find(|(label, _)| label.split('/').next() == Some(name.as_str())).map(|(_, opened)| opened);
        let missing = || StoreError::new(StoreErrorKind::Disabled, format!("the store {name} is not open"));
        let kind =
            || StoreError::new(StoreErrorKind::Malformed, format!("the store {name} is of type {}, which has no policies", entry.kind));
        let store = opened.ok_or_else(missing)?.named.store.policies().ok_or_else(kind)?;
        let mut policies = Vec::new();
        for (role, (runner, needs)) in by_role(store, entry, all) {
            // Of its own login each knows what is mounted.
            let own = self.open.get(opened::label(name, runner.as_ref()).as_ref()).and_then(|opened| opened.named.store.policies());
            let text = own.unwrap_or(store).policy(entry, role.as_ref(), &needs, ask).await;
            policies.push(StorePolicy { of: role.map_or(PolicyOf::Store, |role| PolicyOf::Runner(role.to_string())), text });
        }
        policies.extend(store.worker(entry).map(|text| StorePolicy { of: PolicyOf::Worker, text }));
        Ok(policies)
    }

    /// What our token may do in this open store. `None`: its kind has no policies.
    pub(crate) async fn rights(&self, config: &Config, all: &BTreeMap<Login, Needs>, label: &str) -> Result<Option<Rights>, StoreError> {
        let missing = || StoreError::new(StoreErrorKind::Disabled, format!("the store {label} is not open"));
        let (store, runner) = label.split_once('/').map_or((label, None), |(store, runner)| (store, runner.parse::<Name>().ok()));
        let (opened, entry) = self.open.get(label).zip(config.stores.get(store)).ok_or_else(missing)?;
        let Some(store) = opened.named.store.policies() else { return Ok(None) };
        let role = store.role(entry, runner.as_ref());
        let needs = by_role(store, entry, all).remove(&role).map(|(_, needs)| needs).unwrap_or_default();
        store.rights(entry, &needs).await.map(Some)
    }

    /// What the references in the other fields of its connection stand for, in their order.
    pub(crate) async fn fields(&self, grant: &Grant) -> Result<Vec<Secret>, StoreError> {
        let references = grant.connection().references();
        let reads = self.read_all(grant, references.iter().map(|reference| (&reference.store, &reference.path))).await?;
        references.iter().map(|reference| pick(reference, &reads)).collect()
    }

    /// The store, as this grant may ask it.
    fn of(&self, grant: &Grant, store: &Name) -> Result<&Opened, StoreError> {
        let connection = grant.connection();
        let runner = connection.runner().filter(|_| connection.store() == Some(store));
        let label = opened::label(store, runner);
        let missing = || StoreError::new(StoreErrorKind::Disabled, format!("connection {}: its store is not open", connection.name()));
        self.open.get(label.as_ref()).map(AsRef::as_ref).ok_or_else(missing)
    }

    /// Reads every secret that the plan names, each once, and puts the parts together.
    async fn read(&self, grant: &Grant) -> Result<Lease, StoreError> {
        let born = Instant::now();
        let reads = self.read_all(grant, grant.account().plan.paths()).await?;
        put_together(grant, &reads, born).await
    }

    /// One part for itself: the user name of a role.
    async fn part(&self, grant: &Grant, part: &Part) -> Result<Secret, StoreError> {
        let path = match part {
            Part::Reference(reference) => Some((&reference.store, &reference.path)),
            Part::Given(_) => None,
        };
        let reads = self.read_all(grant, path.into_iter()).await?;
        take(part, &reads).await
    }

    async fn read_all<'a>(
        &'a self,
        grant: &Grant,
        paths: impl Iterator<Item = (&'a Name, &'a SecretPath)>,
    ) -> Result<Vec<ReadOf<'a>>, StoreError> {
        let mut paths: Vec<_> = paths.collect();
        paths.sort_unstable();
        paths.dedup();
        let reads = paths.into_iter().map(|(store, path)| async move {
            let opened = self.of(grant, store)?;
            let (read, came) = opened.read(grant.session(), path).await?;
            Ok::<_, StoreError>(ReadOf { store, opened, path, read, came })
        });
        try_join_all(reads).await
    }
}

/// What is needed of each role that the store logs in as, and a runner that is this role. A store of which nothing is wanted has one, too.
fn by_role(store: &dyn Policies, entry: &Entry, all: &BTreeMap<Login, Needs>) -> BTreeMap<Option<Name>, (Option<Name>, Needs)> {
    let mut roles = BTreeMap::new();
    for ((_, runner), needs) in all.iter().filter(|((of, _), _)| *of == entry.name.value) {
        let role = store.role(entry, runner.as_ref());
        let (_, known) = roles.entry(role).or_insert_with(|| (runner.clone(), Needs::default()));
        known.join(needs);
    }
    if roles.is_empty() {
        roles.insert(store.role(entry, None), (None, Needs::default()));
    }
    roles
}

/// A user name as a store is asked for it.
fn login_name(name: &Secret) -> Result<String, StoreError> {
    Credential::named(name).map(|credential| credential.username)
}

/// The credential that the plan makes of these reads.
async fn put_together(grant: &Grant, reads: &[ReadOf<'_>], born: Instant) -> Result<Lease, StoreError> {
    let plan = &grant.account().plan;
    let credential = match plan {
        CredentialPlan::Parts(parts) => assemble(parts, reads).await?,
        CredentialPlan::Whole(whole) => Credential::whole(&find(reads, whole)?.document, &whole.path)?,
        CredentialPlan::Leased(_) | CredentialPlan::Signed(_) => {
            return Err(StoreError::new(StoreErrorKind::Malformed, "a role's credential is issued, not read"));
        }
    };
    let cached = reads.iter().any(|read| read.came != From::Store);
    let mut stores: Vec<&str> = reads.iter().map(|read| read.opened.named.name.as_str()).collect();
    stores.dedup();
    let first = reads.first().map(|read| &read.read.document);
    let provenance = Provenance {
        store: stores.join(", "),
        paths: plan.shown(grant.connection().store()),
        version: first.and_then(|document| document.version),
        request_id: first.map(|document| document.request_id.clone()).unwrap_or_default(),
        lease: None,
        certificate: None,
        cached,
        stale: reads.iter().any(|read| read.came == From::Stale),
        joined: false,
    };
    let was_read = |read: &ReadOf<'_>| WasRead { store: read.store.clone(), path: read.path.clone(), serial: read.read.serial };
    let reads = reads.iter().map(was_read).collect();
    Ok(Lease::new(Arc::new(credential), provenance, born, Source::Secrets { reads, cached }))
}

/// A secret, what came of reading it, and where that came from.
struct ReadOf<'a> {
    store: &'a Name,
    opened: &'a Opened,
    path: &'a SecretPath,
    read: Read,
    came: From,
}

fn find<'a>(reads: &'a [ReadOf<'_>], of: &Reference) -> Result<&'a Read, StoreError> {
    let read = reads.iter().find(|read| *read.store == of.store && *read.path == of.path).map(|read| &read.read);
    read.ok_or_else(|| StoreError::new(StoreErrorKind::Malformed, format!("{}: was not read", of.path)))
}

fn pick(reference: &Reference, reads: &[ReadOf<'_>]) -> Result<Secret, StoreError> {
    match &reference.selector {
        Some(selector) => selector.pick(&find(reads, reference)?.document.fields, &reference.path),
        None => Err(StoreError::new(StoreErrorKind::Malformed, format!("{}: no key", reference.path))),
    }
}

async fn assemble(parts: &Parts, reads: &[ReadOf<'_>]) -> Result<Credential, StoreError> {
    let mut credential = Credential::named(&take(&parts.username, reads).await?)?;
    if let Some(part) = &parts.password {
        credential.password = Some(take_password(part, reads).await?);
    }
    if let Some(part) = &parts.private_key {
        credential.set_private_key(&take(part, reads).await?);
    }
    if let Some(part) = &parts.passphrase {
        credential.passphrase = Some(take(part, reads).await?);
    }
    Ok(credential)
}

async fn take_password(part: &Part, reads: &[ReadOf<'_>]) -> Result<Arc<Password>, StoreError> {
    match part {
        Part::Reference(reference @ Reference { selector: Some(selector), .. }) => {
            find(reads, reference)?.document.password(selector, &reference.path)
        }
        Part::Reference(_) | Part::Given(_) => take(part, reads).await.map(|secret| Arc::new(Password::from(secret))),
    }
}

async fn take(part: &Part, reads: &[ReadOf<'_>]) -> Result<Secret, StoreError> {
    match part {
        Part::Reference(reference) => pick(reference, reads),
        Part::Given(input) => {
            let text = input::read(input).await.map_err(|message| StoreError::new(StoreErrorKind::Unavailable, message))?;
            // Exposed: into the credential, which is secret itself.
            Ok(Secret::from(text.expose().to_owned()))
        }
    }
}

#[cfg(test)]
mod tests;
