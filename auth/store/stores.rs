//! Every store of the file, and the way from a grant to a lease.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::try_join_all;
use keyward_config::{Config, LeaseSharing, Name, Node, Problems, Spanned, Stamp};

use super::cache::{Cache, From, Read};
use super::lease::Source;
use super::named::Named;
use super::plan::{Part, Parts};
use super::sharing::{Sharing, opens_one_session};
use super::{
    Credential, CredentialPlan, KINDS, Lease, Leases, Observer, Opening, Provenance, Reference, SecretPath, StoreError, StoreErrorKind, StoreStatus,
    Use, Wanted, signing,
};
use crate::policy::Connection;
use crate::{Grant, Secret};

/// The stores of one configuration.
pub(crate) struct Stores {
    open: BTreeMap<String, Arc<Opened>>,
    /// The connections of the file whose sessions share leases.
    shared: BTreeMap<Name, Connection>,
    leases: Arc<Leases>,
}

struct Opened {
    named: Named,
    cache: Cache,
    sharing: Arc<Sharing>,
    /// What the file said: an equal store lives on through a reload.
    kind: &'static str,
    node: Node,
    /// The files that it names, as they were when it was opened.
    files: Vec<Option<Stamp>>,
}

impl Stores {
    /// Opens every store of the file that is switched on; no I/O to them. Equal stores of `previous` are carried over with their
    /// token and cache. Leases of a former process are given back.
    pub(crate) fn open(
        config: &Config,
        leases: &Arc<Leases>,
        observer: &Arc<dyn Observer>,
        previous: Option<&Self>,
        problems: &mut Problems,
    ) -> Self {
        Self::check(config, problems);
        let mut open = BTreeMap::new();
        for store in config.stores.values().filter(|store| store.enabled) {
            let name = store.name.value.as_str();
            let files = stamps(store);
            let equal = previous
                .and_then(|previous| previous.open.get(name))
                .filter(|old| old.kind == store.kind && old.node == store.node && old.files == files);
            let opened = match equal {
                Some(old) => Arc::clone(old),
                None => match open_one(store, files, observer) {
                    Ok(opened) => Arc::new(opened),
                    Err(message) => {
                        problems.error(Some(store.name.span), format!("stores.{name}"), message);
                        continue;
                    }
                },
            };
            open.insert(name.to_owned(), opened);
        }
        if !problems.has_errors() {
            leases.adopt(open.values().map(|opened: &Arc<Opened>| &opened.named));
            if previous.is_none() {
                leases.name_unclaimed(observer);
            }
        }
        Self { open, shared: shared(config), leases: Arc::clone(leases) }
    }

    /// What the semantics of the file want of stores: a connection that needs one names one, and it is switched on.
    pub(crate) fn check(config: &Config, problems: &mut Problems) {
        for (name, connection) in &config.connections {
            // Their own problems are told by whoever reads them for use.
            let mut unheard = Problems::new(&config.file);
            let plans = connection
                .accounts
                .values()
                .filter_map(|account| CredentialPlan::read(account, "", connection.name.span, connection.assets, &mut unheard));
            if !plans.into_iter().any(|plan| plan.needs_store()) {
                continue;
            }
            let at = format!("connections.{name}.store");
            match &connection.store {
                None => problems.error(Some(connection.name.span), at, "its references need a store: say which one with `store:`"),
                Some(store) if config.stores.get(&store.value).is_some_and(|store| !store.enabled) => {
                    problems.error(Some(store.span), at, format!("the store {} is switched off (`enabled: false`)", store.value));
                }
                Some(_) => {}
            }
        }
    }

    /// The credential of a grant.
    pub(crate) async fn lease(&self, grant: &Grant) -> Result<Lease, StoreError> {
        match &grant.account().plan {
            CredentialPlan::Leased(role) => {
                let (opened, connection) = (self.of(grant)?, grant.connection());
                let username = match &role.username {
                    Some(username) => Some(login_name(&self.part(grant, username).await?)?),
                    None => None,
                };
                let wanted = Wanted { path: role.path.clone(), username, shown: grant.account().plan.shown() };
                // A grant of an older file that comes late would take the place of the lease that the sessions of this file share.
                if !self.shared.get(connection.name()).is_some_and(|current| current.same_as(connection)) {
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
                let opened = self.of(grant)?;
                let username = self.part(grant, &role.username).await?;
                signing::lease(&opened.named, grant, &role.path, &login_name(&username)?).await
            }
            CredentialPlan::Whole(_) | CredentialPlan::Parts(_) => self.read(grant).await,
        }
    }

    /// The upstream rejected a credential: once more past the cache, if the rejected one came from it, and another lease if others
    /// have it too, or had it. Neither for a one-time password nor for a certificate that was made for this login: another one would be
    /// refused as well, by a server whose clock differs, who does not trust the authority, or that has no such account. A shared lease that was
    /// rejected is joined by nobody from now on: who can change the password of the account must not keep the others out. `None`: it has not
    /// changed, or the lease is this session's own; the upstream's answer stands.
    pub(crate) async fn refetch(&self, grant: &Grant, rejected: &Lease) -> Result<Option<Lease>, StoreError> {
        if let Source::Shared(_) = rejected.source() {
            rejected.close();
            return if rejected.is_own() { Ok(None) } else { self.lease(grant).await.map(Some) };
        }
        let Source::Secrets { reads, cached: true } = rejected.source() else { return Ok(None) };
        let opened = self.of(grant)?;
        let born = Instant::now();
        let again = reads.iter().map(|(path, serial)| async move {
            let read = opened.cache.reread(&opened.named, grant.session(), path, *serial).await?;
            Ok::<_, StoreError>((path, read, From::Store))
        });
        let again = try_join_all(again).await?;
        let lease = put_together(grant, Some(opened), &again, born).await?;
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

    /// The names of the open stores.
    pub(crate) fn names(&self) -> Vec<String> {
        self.open.keys().cloned().collect()
    }

    fn of(&self, grant: &Grant) -> Result<&Opened, StoreError> {
        let missing =
            || StoreError::new(StoreErrorKind::Disabled, format!("connection {}: its store is not open", grant.connection().name()));
        let name = grant.connection().store().ok_or_else(missing)?;
        self.open.get(name.as_str()).map(AsRef::as_ref).ok_or_else(missing)
    }

    /// Reads every secret that the plan names, each once, and puts the parts together.
    async fn read(&self, grant: &Grant) -> Result<Lease, StoreError> {
        let born = Instant::now();
        let plan = &grant.account().plan;
        let (opened, reads) =
            self.read_all(grant, plan.role_or_secret().into_iter().chain(plan.references().map(|part| &part.path))).await?;
        put_together(grant, opened, &reads, born).await
    }

    /// One part for itself: the user name of a role.
    async fn part(&self, grant: &Grant, part: &Part) -> Result<Secret, StoreError> {
        let path = match part {
            Part::Reference(reference) => Some(&reference.path),
            Part::Given(_) => None,
        };
        let (_, reads) = self.read_all(grant, path.into_iter()).await?;
        take(part, &reads).await
    }

    async fn read_all<'a>(
        &self,
        grant: &Grant,
        paths: impl Iterator<Item = &'a SecretPath>,
    ) -> Result<(Option<&Opened>, Vec<ReadOf<'a>>), StoreError> {
        let mut paths: Vec<&SecretPath> = paths.collect();
        paths.sort_unstable();
        paths.dedup();
        let opened = if paths.is_empty() { None } else { Some(self.of(grant)?) };
        let reads = paths.into_iter().filter_map(|path| Some((opened?, path))).map(|(opened, path)| async move {
            let (read, came) = opened.cache.read(&opened.named, grant.session(), path).await?;
            opened.named.observer.cache(&opened.named.name, came.word());
            Ok::<_, StoreError>((path, read, came))
        });
        Ok((opened, try_join_all(reads).await?))
    }
}

fn shared(config: &Config) -> BTreeMap<Name, Connection> {
    // Their problems are told by the policy.
    let mut unheard = Problems::new(&config.file);
    let shares = |lease: &Spanned<LeaseSharing>| lease.value != LeaseSharing::PerSession;
    let sharing = config.connections.iter().filter(|(_, connection)| connection.lease.as_ref().is_some_and(shares));
    sharing.map(|(name, connection)| (name.clone(), Connection::read(connection, &mut unheard))).collect()
}

fn stamps(store: &keyward_config::Store) -> Vec<Option<Stamp>> {
    let files = KINDS.iter().find(|kind| kind.settings.name == store.kind).map(|kind| (kind.files)(store));
    files.iter().flatten().map(|path| Stamp::of(path)).collect()
}

fn open_one(store: &keyward_config::Store, files: Vec<Option<Stamp>>, observer: &Arc<dyn Observer>) -> Result<Opened, String> {
    let kind = KINDS.iter().find(|kind| kind.settings.name == store.kind).ok_or("there is no such kind of store")?;
    let named = Named::new(store.name.value.to_string(), (kind.open)(&Opening { store, runner: None, observer: Arc::clone(observer), outer: Arc::new(super::input::Nowhere) })?, Arc::clone(observer));
    let (cache, sharing) = (Cache::new(store.cache_ttl.get()), Arc::default());
    Ok(Opened { named, cache, sharing, kind: kind.settings.name, node: store.node.clone(), files })
}

/// A user name as a store is asked for it.
fn login_name(name: &Secret) -> Result<String, StoreError> {
    Credential::named(name).map(|credential| credential.username)
}

/// The credential that the plan makes of these reads.
async fn put_together(grant: &Grant, opened: Option<&Opened>, reads: &[ReadOf<'_>], born: Instant) -> Result<Lease, StoreError> {
    let plan = &grant.account().plan;
    let credential = match plan {
        CredentialPlan::Parts(parts) => assemble(parts, reads).await?,
        CredentialPlan::Whole(path) => Credential::whole(&find(reads, path)?.document, path)?,
        CredentialPlan::Leased(_) | CredentialPlan::Signed(_) => {
            return Err(StoreError::new(StoreErrorKind::Malformed, "a role's credential is issued, not read"));
        }
    };
    let cached = reads.iter().any(|(_, _, came)| *came != From::Store);
    let provenance = Provenance {
        store: opened.map(|opened| opened.named.name.clone()).unwrap_or_default(),
        paths: plan.shown(),
        version: reads.first().and_then(|(_, read, _)| read.document.version),
        request_id: reads.first().map(|(_, read, _)| read.document.request_id.clone()).unwrap_or_default(),
        lease: None,
        certificate: None,
        cached,
        stale: reads.iter().any(|(_, _, came)| *came == From::Stale),
        joined: false,
    };
    let reads = reads.iter().map(|(path, read, _)| ((*path).clone(), read.serial)).collect();
    Ok(Lease::new(Arc::new(credential), provenance, born, Source::Secrets { reads, cached }))
}

/// A secret, what came of reading it, and where that came from.
type ReadOf<'a> = (&'a SecretPath, Read, From);

fn find<'a>(reads: &'a [ReadOf<'_>], path: &SecretPath) -> Result<&'a Read, StoreError> {
    let read = reads.iter().find(|(read, _, _)| *read == path).map(|(_, read, _)| read);
    read.ok_or_else(|| StoreError::new(StoreErrorKind::Malformed, format!("{path}: was not read")))
}

async fn assemble(parts: &Parts, reads: &[ReadOf<'_>]) -> Result<Credential, StoreError> {
    let mut credential = Credential::named(&take(&parts.username, reads).await?)?;
    if let Some(part) = &parts.password {
        credential.password = Some(take(part, reads).await?);
    }
    if let Some(part) = &parts.private_key {
        credential.set_private_key(&take(part, reads).await?);
    }
    if let Some(part) = &parts.passphrase {
        credential.passphrase = Some(take(part, reads).await?);
    }
    Ok(credential)
}

async fn take(part: &Part, reads: &[ReadOf<'_>]) -> Result<Secret, StoreError> {
    match part {
        Part::Reference(Reference { path, selector: Some(selector) }) => selector.pick(&find(reads, path)?.document.fields, path),
        Part::Reference(Reference { path, selector: None }) => Err(StoreError::new(StoreErrorKind::Malformed, format!("{path}: no key"))),
        Part::Given(input) => {
            let input = Arc::clone(input);
            let read = tokio::task::spawn_blocking(move || input.read()).await;
            let cut = |_| Err("the read was cut off".to_owned());
            let text = read.unwrap_or_else(cut).map_err(|message| StoreError::new(StoreErrorKind::Unavailable, message))?;
            // Exposed: into the credential, which is secret itself.
            Ok(Secret::from(text.expose().to_owned()))
        }
    }
}

#[cfg(test)]
mod tests;
