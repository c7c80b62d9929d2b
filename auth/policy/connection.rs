//! A connection and its accounts as sessions use them: what the file said, checked, and shared by the grants that carry it.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use keyward_config::{ConnectionLimits, Host, LeaseSharing, Name, Node, Problems, Reason, Settings, UpstreamAddress, UpstreamTls};

use crate::store::CredentialPlan;

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
    sharing: LeaseSharing,
    min_session: Duration,
    limits: ConnectionLimits,
    settings: Settings,
    accounts: BTreeMap<Name, Arc<Account>>,
    node: Node,
    prepared: OnceLock<Settings>,
}

impl Connection {
    /// Reads the accounts of an entry. Every account that says nothing usable is a problem; the connection is then without it.
    pub(crate) fn read(entry: &keyward_config::Connection, problems: &mut Problems) -> Self {
        let name = entry.name.value.clone();
        let mut accounts = BTreeMap::new();
        for (account, fields) in &entry.accounts {
            // Without `accounts` the fields of the one account stand at the connection itself.
            let at = match entry.node.get("accounts") {
                Some(_) => format!("connections.{name}.accounts.{account}"),
                None => format!("connections.{name}"),
            };
            let place = entry.node.get("accounts").map_or(entry.name.span, |accounts| accounts.span_of(account.as_str()));
            if let Some(plan) = CredentialPlan::read(fields, &at, place, entry.assets, problems) {
                accounts.insert(account.clone(), Arc::new(Account { name: account.clone(), plan }));
            }
        }
        check_sharing(entry, &accounts, problems);
        Self {
            name,
            protocol: entry.protocol,
            address: entry.place.address().map(|address| Arc::new(address.clone())),
            hosts: entry.place.hosts().iter().map(|host| host.value.clone()).collect(),
            tls: entry.tls.as_ref().map(|tls| tls.value.clone()),
            insecure: entry.insecure.as_ref().map(|reason| reason.value.clone()),
            store: entry.store.as_ref().map(|store| store.value.clone()),
            sharing: entry.lease.as_ref().map(|lease| lease.value).unwrap_or_default(),
            min_session: entry.min_session.as_ref().map_or(keyward_config::Connection::MIN_SESSION, |period| period.value).get(),
            limits: entry.limits.clone(),
            settings: Arc::clone(&entry.settings),
            accounts,
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

    /// How its server is verified. `None`: `verify-full`, and `disable` on loopback and unix sockets.
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

    /// Who uses a dynamic account of it together.
    pub(crate) const fn sharing(&self) -> LeaseSharing {
        self.sharing
    }

    /// How much of its lease a session that joins it has at least.
    pub(crate) const fn min_session(&self) -> Duration {
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

    /// Whether the file says the same of both.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.node == other.node
    }
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
    if let (Some(period), None) = (&entry.min_session, lease) {
        let message = "it does nothing here: leases are shared only with `lease: per_user` or `lease: shared`";
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
}

#[cfg(test)]
mod tests {
    use keyward_config::Problems;

    use crate::policy::Policy;
    use crate::sample;

    const STORE: &str = "stores: { corp: { type: vault, address: 'https://v', auth: { method: token, token: t } } }\n";

    fn warnings(keys: &str) -> Problems {
        let text = format!("{STORE}connections:\n  db: {{ protocol: postgres, address: 'pg:5432', store: corp, {keys} }}\n");
        let (config, mut problems) = sample::config(&text);
        Policy::read(&config, &mut problems);
        assert!(!problems.has_errors(), "{problems}");
        problems
    }

    #[test]
    fn who_shares_what_is_no_lease_is_told_that_it_does_nothing() {
        let dynamic = "credential: m/creds/r";
        for keys in ["", "lease: per_session", "lease: per_user", "lease: shared, min_session: 5m"] {
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
        let warned = warnings(&format!("{dynamic}, min_session: 5m")).to_string();
        assert!(warned.contains("connections.db.min_session: it does nothing here"), "{warned}");
    }
}
