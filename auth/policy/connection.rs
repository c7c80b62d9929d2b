//! A connection and its accounts as sessions use them: what the file said, checked, and shared by the grants that carry it.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use keyward_config::{
    Assets, ConnectionLimits, Host, LeaseSharing, Name, Node, Problems, Reason, Settings, Spanned, Store, Template, TlsMode,
    UpstreamAddress, UpstreamTls,
};
use zeroize::Zeroizing;

use crate::Secret;
use crate::store::{CredentialPlan, Reference, Scope, StoreError, StoreErrorKind};

/// A registered asset. A live session keeps the one that its grant carries, also when a reload changed the file.
pub struct Connection {
    name: Name,
    protocol: &'static str,
    /// `None`: it is a group.
    address: Option<Arc<UpstreamAddress>>,
    hosts: Vec<Host>,
    tls: Option<UpstreamTls>,
    insecure: Option<Reason>,
    store: Option<Name>,
    runner: Option<Name>,
    sharing: LeaseSharing,
    min_session: Option<Duration>,
    limits: ConnectionLimits,
    settings: Settings,
    accounts: BTreeMap<Name, Arc<Account>>,
    /// What stands in a store instead of the file, in fields other than those of a credential.
    filling: Option<Filling>,
    node: Node,
    prepared: OnceLock<Settings>,
}

impl Connection {
    /// Reads the accounts of an entry. Every account that says nothing usable is a problem; the connection is then without it.
    pub(crate) fn read(entry: &keyward_config::Connection, stores: &BTreeMap<Name, Store>, problems: &mut Problems) -> Self {
        let name = entry.name.value.clone();
        let own = format!("connections.{name}");
        let scope = Scope::new(stores, entry.store.as_ref(), &own, entry.name.span);
        let mut accounts = BTreeMap::new();
        for (account, fields) in &entry.accounts {
            // Without `accounts` the fields of the one account stand at the connection itself.
            let at = match entry.node.get("accounts") {
                Some(_) => format!("connections.{name}.accounts.{account}"),
                None => format!("connections.{name}"),
            };
            let place = entry.node.get("accounts").map_or(entry.name.span, |accounts| accounts.span_of(account.as_str()));
            if let Some(plan) = CredentialPlan::read(fields, (&at, place), entry.assets, &scope, problems) {
                accounts.insert(account.clone(), Arc::new(Account { name: account.clone(), plan }));
            }
        }
        check_sharing(entry, &accounts, problems);
        let filling = entry.template.as_ref().and_then(|template| Filling::read(template, &own, &scope, problems));
        Self::with(entry, accounts, filling)
    }

    /// An entry with accounts that were read before.
    fn with(entry: &keyward_config::Connection, accounts: BTreeMap<Name, Arc<Account>>, filling: Option<Filling>) -> Self {
        Self {
            name: entry.name.value.clone(),
            protocol: entry.protocol,
            address: entry.place.address().map(|address| Arc::new(address.clone())),
            hosts: entry.place.hosts().iter().map(|host| host.value.clone()).collect(),
            tls: entry.tls.as_ref().map(|tls| tls.value.clone()),
            insecure: entry.insecure.as_ref().map(|reason| reason.value.clone()),
            store: entry.store.as_ref().map(|store| store.value.clone()),
            runner: entry.runner.as_ref().map(|runner| runner.value.clone()),
            sharing: entry.lease.as_ref().map(|lease| lease.value).unwrap_or_default(),
            min_session: entry.min_session.as_ref().map(|period| period.value.get()),
            limits: entry.limits.clone(),
            settings: Arc::clone(&entry.settings),
            accounts,
            filling,
            node: entry.node.clone(),
            prepared: OnceLock::new(),
        }
    }

    /// What users call it.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// The name of its protocol's row.
    #[must_use]
    pub const fn protocol(&self) -> &'static str {
        self.protocol
    }

    /// Where it is. `None`: it is a group of hosts; where one of them is, its grant says.
    #[must_use]
    pub fn address(&self) -> Option<&UpstreamAddress> {
        self.address.as_deref()
    }

    /// The lines of a group, hosts and patterns; none of a connection that has an address.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    pub(super) const fn shared_address(&self) -> Option<&Arc<UpstreamAddress>> {
        self.address.as_ref()
    }

    /// How its server is verified. `None`: `verify-full`, and `disable` on loopback and unix sockets. Where its address is in a store, the
    /// file has to say so itself.
    #[must_use]
    pub const fn tls(&self) -> Option<&UpstreamTls> {
        self.tls.as_ref()
    }

    /// Why an upstream that cannot be verified may still be given a secret.
    #[must_use]
    pub fn insecure(&self) -> Option<&str> {
        self.insecure.as_ref().map(Reason::as_str)
    }

    /// The store of its references, where they name none.
    #[must_use]
    pub const fn store(&self) -> Option<&Name> {
        self.store.as_ref()
    }

    /// Which of the logins of its store fetches its secrets. `None`: the store's own.
    pub(crate) const fn runner(&self) -> Option<&Name> {
        self.runner.as_ref()
    }

    /// Every store that it asks for something.
    pub(crate) fn stores(&self) -> BTreeSet<&Name> {
        let of_accounts = self.accounts.values().flat_map(|account| account.plan.paths().map(|(store, _)| store));
        of_accounts.chain(self.references().iter().map(|reference| &reference.store)).collect()
    }

    /// The references in its other fields, which have to be filled in before it can be used.
    pub(crate) fn references(&self) -> &[Reference] {
        self.filling.as_ref().map_or(&[], |filling| &filling.references)
    }

    /// Whether there is nothing to fill in, or it has been.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.references().is_empty()
    }

    /// Whether the file itself says where it is and how its server is verified, or that has been filled in.
    #[must_use]
    pub fn is_placed(&self) -> bool {
        let place = |path: &str| path == "address" || path == "tls" || path.starts_with("tls.");
        self.filling.as_ref().is_none_or(|filling| !filling.template.found().iter().any(|found| place(&found.path)))
    }

    /// It with these values in the places of [`Self::references`]. Equal values give the same one again, with what was prepared for it.
    pub(crate) fn filled(&self, values: &[Secret]) -> Result<Arc<Self>, StoreError> {
        let malformed = |message: String| StoreError::new(StoreErrorKind::Malformed, message);
        let Some(filling) = &self.filling else { return Err(malformed(format!("{}: there is nothing to fill in", self.name))) };
        let text = |value: &Secret| value.expose_str().map(|text| Zeroizing::new(text.trim().to_owned()));
        let texts: Option<Vec<_>> = values.iter().map(text).collect();
        let texts = texts.ok_or_else(|| malformed(format!("{}: what the store has is no text", self.name)))?;
        let mut last = filling.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, connection)) = last.as_ref().filter(|(of, _)| *of == texts) {
            return Ok(Arc::clone(connection));
        }
        let mut entry = filling.template.fill(texts.clone()).map_err(malformed)?;
        keep_verified(&mut entry, &filling.template).map_err(malformed)?;
        let connection = Arc::new(Self::with(&entry, self.accounts.clone(), None).of(&self.node));
        *last = Some((texts, Arc::clone(&connection)));
        Ok(connection)
    }

    /// As the file says it, for telling whether a reload changed it.
    fn of(self, node: &Node) -> Self {
        Self { node: node.clone(), ..self }
    }

    /// Who uses a dynamic account of it together.
    #[must_use]
    pub const fn sharing(&self) -> LeaseSharing {
        self.sharing
    }

    /// How much of its lease a session that joins it has at least.
    pub(crate) fn min_session(&self) -> Duration {
        self.min_session.unwrap_or(keyward_config::Connection::MIN_SESSION.get())
    }

    /// How much of a lease of its own a session has at least, where the file says so.
    pub(crate) const fn least_session(&self) -> Option<Duration> {
        self.min_session
    }

    /// Limits of its own.
    #[must_use]
    pub const fn limits(&self) -> &ConnectionLimits {
        &self.limits
    }

    /// The settings of its protocol; `None` if `T` is not the type that the protocol's row registered.
    #[must_use]
    pub fn settings<T: Any>(&self) -> Option<&T> {
        self.settings.downcast_ref()
    }

    /// What the proxy made ready for it at its first use, such as certificates read from files. Ends with the connection.
    #[must_use]
    pub const fn prepared(&self) -> &OnceLock<Settings> {
        &self.prepared
    }

    /// Its accounts by name. Not public: what a user may know of them, `reachable` says.
    pub(crate) const fn accounts(&self) -> &BTreeMap<Name, Arc<Account>> {
        &self.accounts
    }

    /// Whether the file says the same of both, whatever was filled in.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.node == other.node
    }
}

/// Values, and the connection that has them.
type Filled = (Vec<Zeroizing<String>>, Arc<Connection>);

/// What stands in a store instead of the file.
struct Filling {
    template: Template,
    references: Vec<Reference>,
    /// What was filled in last.
    last: Mutex<Option<Filled>>,
}

impl Filling {
    fn read(template: &Template, at: &str, scope: &Scope<'_>, problems: &mut Problems) -> Option<Self> {
        let mut references = Vec::new();
        for found in template.found() {
            let at = format!("{at}.{}", found.path);
            let Some(reference) = scope.read(&found.text, found.span, &at, problems).map(Reference::with_single_key) else { continue };
            if reference.selector.is_none() {
                problems.error(found.span, at, "one value is needed here: `mount/data/path?key`");
            } else if reference.path.is_per_user() {
                problems.error(found.span, at, "where an asset is does not hang on who asks: {{user.name}} is for credentials");
            } else {
                references.push(reference);
            }
        }
        let whole = references.len() == template.found().len();
        whole.then(|| Self { template: template.clone(), references, last: Mutex::new(None) })
    }
}

/// An address on this machine needs no verification, if the file says it. One that a store says does: whoever may write it there could have
/// the password sent to a program of his own here, in clear text. Servers are known by their host keys wherever they are.
fn keep_verified(entry: &mut keyward_config::Connection, template: &Template) -> Result<(), String> {
    let of_store = template.found().iter().any(|found| found.path == "address");
    let mode = entry.tls.as_ref().map(|tls| tls.value.mode);
    if !of_store || entry.assets != Assets::Databases || entry.insecure.is_some() || mode == Some(TlsMode::Disable) {
        return Ok(());
    }
    if matches!(entry.place.address(), Some(UpstreamAddress::Unix(_))) {
        let text = "the store has the path of a unix socket for its address, and nothing says whose that is; \
                    if it is to be one, write `tls: disable`";
        return Err(format!("connections.{}: {text}", entry.name.value));
    }
    entry.tls.get_or_insert_with(|| Spanned::new(UpstreamTls::default(), entry.name.span));
    Ok(())
}

/// Only a lease can be shared: on another connection these keys do nothing, and whoever wrote them thinks that they do.
fn check_sharing(entry: &keyward_config::Connection, accounts: &BTreeMap<Name, Arc<Account>>, problems: &mut Problems) {
    let name = &entry.name.value;
    let lease = entry.lease.as_ref().filter(|lease| lease.value != LeaseSharing::PerSession);
    let dynamic = accounts.values().any(|account| matches!(account.plan, CredentialPlan::Leased(_)));
    if let Some(lease) = lease.filter(|_| !dynamic && !accounts.is_empty()) {
        let message = "it does nothing here: no account is dynamic (`credential: mount/creds/role`), so there is no lease to share";
        problems.warning(lease.span, format!("connections.{name}.lease"), message);
    }
    if let Some(period) = entry.min_session.as_ref().filter(|_| !dynamic && !accounts.is_empty()) {
        let message = "it does nothing here: no account is dynamic (`credential: mount/creds/role`), so there is no lease that could end";
        problems.warning(period.span, format!("connections.{name}.min_session"), message);
    }
}

/// A named login on a connection, as users see it. The real login stays in the store.
pub struct Account {
    name: Name,
    pub(crate) plan: CredentialPlan,
}

impl Account {
    /// The account of a connection that names none, and the one that is meant where a user names none.
    pub const DEFAULT: &str = "default";

    /// What users call it.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// Whether each user has a credential of his own there (`{{user.name}}` in a path).
    #[must_use]
    pub fn is_per_user(&self) -> bool {
        self.plan.is_per_user()
    }

    /// That of this user.
    pub(super) fn for_user(self: &Arc<Self>, user: &Name) -> Arc<Self> {
        if self.is_per_user() { Arc::new(Self { name: self.name.clone(), plan: self.plan.for_user(user) }) } else { Arc::clone(self) }
    }
}

#[cfg(test)]
mod tests {
    use keyward_config::{Problems, TlsMode};

    use crate::policy::Policy;
    use crate::{Secret, sample};

    const STORE: &str = "stores: { corp: { type: vault, address: 'https://v', auth: { method: token, token: t } } }\n";

    fn warnings(keys: &str) -> Problems {
        let text = format!("{STORE}connections:\n  db: {{ protocol: postgres, address: 'pg:5432', store: corp, {keys} }}\n");
        let (config, mut problems) = sample::config(&text);
        Policy::read(&config, &mut problems);
        assert!(!problems.has_errors(), "{problems}");
        problems
    }

    /// How the connection is verified whose keys these are, once its address is filled in.
    fn filled(keys: &str, address: &str) -> Result<Option<TlsMode>, String> {
        let text = format!("{STORE}connections:\n  db: {{ store: corp, username: {{ literal: u }}, password: 'm/data/db?p', {keys} }}\n");
        let (config, mut problems) = sample::config(&text);
        let policy = Policy::read(&config, &mut problems);
        assert!(!problems.has_errors(), "{problems}");
        let connection = policy.connections().values().next().unwrap();
        let values: Vec<_> = connection.references().iter().map(|_| Secret::from(address.to_owned())).collect();
        connection.filled(&values).map(|filled| filled.tls().map(|tls| tls.mode)).map_err(|error| error.detail)
    }

    #[test]
    fn an_address_that_a_store_says_takes_no_verification_away() {
        const POSTGRES: &str = "protocol: postgres, address: { secret: 'm/data/db?host' }";
        let full = Some(TlsMode::VerifyFull);
        for address in ["127.0.0.1:5432", "localhost", "[::1]:5432", "pg.internal"] {
            assert_eq!(filled(POSTGRES, address), Ok(full), "{address}");
            assert_eq!(filled(&format!("{POSTGRES}, tls: verify-ca"), address), Ok(Some(TlsMode::VerifyCa)));
            assert_eq!(filled(&format!("{POSTGRES}, tls: disable"), address), Ok(Some(TlsMode::Disable)), "the file says so");
            assert_eq!(filled(&format!("{POSTGRES}, insecure: a test"), address), Ok(None));
        }
        for keys in ["", ", tls: verify-full"] {
            let error = filled(&format!("{POSTGRES}{keys}"), "/tmp/canary.sock").unwrap_err();
            assert!(error.contains("`tls: disable`") && !error.contains("canary"), "{error}");
        }
        assert_eq!(filled(&format!("{POSTGRES}, tls: disable"), "/run/pg.sock"), Ok(Some(TlsMode::Disable)));
        assert_eq!(filled("protocol: ssh, address: { secret: 'm/data/db?host' }", "127.0.0.1"), Ok(None), "it has host keys");
        assert_eq!(filled("protocol: postgres, address: '127.0.0.1', database: { secret: 'm/data/db?name' }", "shop"), Ok(None));
    }

    #[test]
    fn who_shares_what_is_no_lease_is_told_that_it_does_nothing() {
        let dynamic = "credential: m/creds/r";
        for keys in ["", "lease: per_session", "lease: per_user", "lease: shared, min_session: 5m", "min_session: 5m"] {
            let warned = warnings(&format!("{dynamic}, {keys}"));
            assert!(warned.is_empty(), "{keys}: {warned}");
        }
        let mixed = "accounts: { rw: { credential: m/creds/r }, ro: { credential: m/data/ro } }, lease: shared";
        assert!(warnings(mixed).is_empty(), "one of its accounts is dynamic");
        for fixed in ["credential: m/static-creds/r", "credential: m/data/db", "username: 'm/data/db?u', password: 'm/data/db?p'"] {
            let warned = warnings(&format!("{fixed}, lease: shared")).to_string();
            assert!(warned.contains(":5:") && warned.contains("connections.db.lease: it does nothing here"), "{fixed}: {warned}");
            assert!(warnings(&format!("{fixed}, lease: per_session")).is_empty());
        }
        let warned = warnings("credential: m/data/db, min_session: 5m").to_string();
        assert!(warned.contains("connections.db.min_session: it does nothing here"), "{warned}");
    }
}
