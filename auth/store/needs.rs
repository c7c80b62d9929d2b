//! What the file wants of its stores: every path, in which way, and for whom. `keyward policy` writes a policy from it, and `keyward check`
//! holds it against what a store lets us do.

use std::collections::{BTreeMap, BTreeSet};

use keyward_config::{Assets, Config, Name, Store as Entry};

use super::reference::Form;
use super::{Reference, Scope, SecretPath};
use crate::policy::{Account, Connection, Policy};

/// Of how many users it is asked whether each may have his own secret.
const USERS: usize = 100;

/// A store, and which of its runners; `None`: no connection names one.
pub(crate) type Login = (Name, Option<Name>);

/// Everything that the file wants of one login.
#[derive(Default)]
pub(crate) struct Needs(BTreeMap<(String, Asks), Want>);

/// One path, and what is asked of it.
#[derive(Clone)]
pub(crate) struct Want {
    pub(crate) path: SecretPath,
    pub(crate) asks: Asks,
    /// Who wants it, for people: connections with their accounts, and stores whose own credentials are there.
    pub(crate) by: BTreeSet<String>,
    /// The users whose names stand in it, where it is another one for each.
    pub(crate) users: BTreeSet<Name>,
}

/// What is asked of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asks {
    /// What is there: a secret, or the password of a static role.
    Secret,
    /// An account in a database.
    Account,
    /// A password for a server.
    Password,
    /// A certificate for a server.
    Certificate,
}

impl Needs {
    /// What the file wants, by the login that is to have it.
    pub(crate) fn all(config: &Config, policy: &Policy) -> BTreeMap<Login, Self> {
        let mut all = BTreeMap::new();
        for connection in policy.connections().values() {
            let assets = config.connections.get(connection.name()).map_or(Assets::Databases, |entry| entry.assets);
            of_connection(connection, assets, config, policy, &mut all);
        }
        for store in config.stores.values().filter(|store| store.enabled) {
            of_store(store, config, &mut all);
        }
        all
    }

    /// Both.
    pub(crate) fn join(&mut self, other: &Self) {
        for want in other.wants() {
            self.add(want.clone());
        }
    }

    /// Sorted by path.
    pub(crate) fn wants(&self) -> impl Iterator<Item = &Want> {
        self.0.values()
    }

    fn add(&mut self, want: Want) {
        let known = self.0.entry((want.path.as_str().to_owned(), want.asks)).or_insert_with(|| Want {
            by: BTreeSet::new(),
            users: BTreeSet::new(),
            ..want.clone()
        });
        known.by.extend(want.by);
        known.users.extend(want.users);
    }
}

/// What its accounts, and its fields that are in a store, need.
fn of_connection(connection: &Connection, assets: Assets, config: &Config, policy: &Policy, all: &mut BTreeMap<Login, Needs>) {
    let mut add = |store: &Name, path: &SecretPath, asks: Asks, by: String, users: BTreeSet<Name>| {
        let runner = connection.runner().filter(|_| connection.store() == Some(store)).cloned();
        let users = if path.is_per_user() { users } else { BTreeSet::new() };
        let want = Want { path: path.clone(), asks, by: BTreeSet::from([by]), users };
        all.entry((store.clone(), runner)).or_default().add(want);
    };
    for account in connection.accounts().values() {
        let by = || match account.name().as_str() {
            Account::DEFAULT => connection.name().to_string(),
            other => format!("{}+{other}", connection.name()),
        };
        let users = || if account.is_per_user() { users(connection, account, config, policy) } else { BTreeSet::new() };
        if let Some((store, path)) = account.plan.role_or_secret() {
            add(store, path, asks(path.form(), assets), by(), users());
        }
        for Reference { store, path, .. } in account.plan.references() {
            add(store, path, Asks::Secret, by(), users());
        }
    }
    for Reference { store, path, .. } in connection.references() {
        add(store, path, Asks::Secret, connection.name().to_string(), BTreeSet::new());
    }
}

/// What its own credentials need, of other stores.
fn of_store(store: &Entry, config: &Config, all: &mut BTreeMap<Login, Needs>) {
    let scope = Scope::new(&config.stores, None, "", store.name.span);
    // Texts that are none are problems of the file, which opening the stores has told.
    for reference in store.node.references().iter().filter_map(|found| scope.reference(&found.text).ok()) {
        let by = BTreeSet::from([format!("the login to the store {}", store.name.value)]);
        let want = Want { path: reference.path, asks: Asks::Secret, by, users: BTreeSet::new() };
        all.entry((reference.store, None)).or_default().add(want);
    }
}

fn asks(form: Form, assets: Assets) -> Asks {
    match (form, assets) {
        (Form::Kv | Form::StaticRole | Form::Name, _) => Asks::Secret,
        (Form::Dynamic, Assets::Databases) => Asks::Account,
        (Form::Dynamic, Assets::Servers) => Asks::Password,
        (Form::Sign, _) => Asks::Certificate,
    }
}

/// Who may use the account.
fn users(connection: &Connection, account: &Account, config: &Config, policy: &Policy) -> BTreeSet<Name> {
    let may = |user: &Name| {
        let reachable = policy.reachable(user, connection.protocol());
        reachable.iter().any(|one| one.connection == connection.name().as_str() && one.account == account.name().as_str())
    };
    config.users.keys().filter(|user| may(user)).take(USERS).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn what_is_wanted_is_told_by_login_with_everybody_who_wants_it() {
        let store = |keys: &str| format!("{{ type: vault, address: 'https://v', auth: {keys} }}");
        let runner = "{ role_id: { literal: r } }";
        let pull = format!(
            "{{ method: approle, worker: {{ role_id: {{ literal: w }}, secret_id: {{ literal: s }} }}, \
             runners: {{ dba: {runner}, web: {runner} }}, runner: web }}"
        );
        let text = format!(
            "stores:\n  corp: {}\n  inner: {}\n",
            store(&pull),
            store("{ method: token, token: { secret: 'corp:boot/data/inner?token' } }"),
        ) + "connections:\n  db: { protocol: postgres, address: { secret: 'm/data/db?host' }, store: corp, runner: dba, credential: m/creds/r }\n  \
             same: { protocol: postgres, address: 'pg:1', store: corp, runner: dba, accounts: { ro: { credential: m/creds/r }, rw: { username: 'm/data/db?u', password: 'inner:m/data/u/{{user.name}}?p' } } }\n  \
             web: { protocol: ssh, address: web, store: corp, accounts: { otp: { credential: s/creds/r }, key: { username: { literal: app }, credential: s/sign/r } } }\n\
             users: { alice: {}, bob: {} }\naccess: [{ allow: [alice], connections: [same] }]\n";
        let (config, mut problems) = sample::config(&text);
        let policy = Policy::read(&config, &mut problems);
        assert!(!problems.has_errors(), "{problems}");
        let mut told = Vec::new();
        for ((store, runner), needs) in Needs::all(&config, &policy) {
            let login = runner.map_or_else(|| store.to_string(), |runner| format!("{store}/{runner}"));
            for Want { path, asks, by, users } in needs.wants() {
                told.push(format!("{login} {path} {asks:?} by {by:?} for {users:?}"));
            }
        }
        let expected = [
            "corp boot/data/inner Secret by {\"the login to the store inner\"} for {}",
            "corp s/creds/r Password by {\"web+otp\"} for {}",
            "corp s/sign/r Certificate by {\"web+key\"} for {}",
            "corp/dba m/creds/r Account by {\"db\", \"same+ro\"} for {}",
            "corp/dba m/data/db Secret by {\"db\", \"same+rw\"} for {}",
        ];
        assert_eq!(told[..5], expected, "{told:#?}");
        assert!(told[5].starts_with("inner m/data/u/{{user.name}} Secret by {\"same+rw\"}"), "{told:#?}");
        assert!(told[5].contains("alice") && !told[5].contains("bob") && told.len() == 6, "{told:#?}");
    }
}
