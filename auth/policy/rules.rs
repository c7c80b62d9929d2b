//! The rules: who may use which connection as which account. Asked at login, and again for live grants after a reload.

use std::collections::BTreeMap;
use std::sync::Arc;

use keyward_config::{Access, Config, Name, Node, Pattern, Problems, Settings};

use super::target::Target;
use super::{Account, Connection, Denied, Reachable};
use crate::identity::{Identity, Proof};
use crate::store::WORDS;
use crate::{Grant, SessionId};

/// Connections, groups and rules of one state of the file. A reload makes another one.
pub(crate) struct Policy {
    connections: BTreeMap<Name, Arc<Connection>>,
    groups: BTreeMap<Name, Vec<Name>>,
    rules: Vec<Rule>,
}

struct Rule {
    allow: Vec<Name>,
    connections: Vec<Pattern>,
    accounts: Option<Vec<Pattern>>,
    /// What a protocol reads from it, by the protocol's name.
    settings: BTreeMap<&'static str, Settings>,
    node: Node,
}

impl Policy {
    /// Reads connections, groups and rules; what does not make sense in an account goes to `problems`.
    pub(crate) fn read(config: &Config, problems: &mut Problems) -> Self {
        let connections: BTreeMap<Name, Arc<Connection>> = config
            .connections
            .iter()
            .map(|(name, entry)| (name.clone(), Arc::new(Connection::read(entry, &config.stores, problems))))
            .collect();
        check_user_names(config, &connections, problems);
        let groups = config.users.iter().map(|(name, user)| (name.clone(), user.groups.clone())).collect();
        Self { connections, groups, rules: config.access.iter().map(Rule::read).collect() }
    }

    /// Grants or denies. `protocol` is that of the listener: a connection of another one does not exist there. `account` as
    /// typed; `None` is `default` if allowed, else the only one that is allowed.
    pub(crate) fn authorise(
        &self,
        identity: &Identity,
        protocol: &str,
        connection: &str,
        account: Option<&str>,
        session: SessionId,
    ) -> Result<Grant, Denied> {
        let target = Target::named(&self.connections, protocol, connection).ok_or(Denied::NotPermitted)?;
        let allowed: Vec<_> = self.allowed(identity.user(), &target.connection).collect();
        let chosen = match account {
            Some(account) => allowed.into_iter().find(|candidate| candidate.name().as_str() == account).ok_or(Denied::NotPermitted)?,
            None => choose(&allowed)?,
        };
        let chosen = Arc::clone(chosen);
        Ok(Grant::new(session, identity, target, chosen))
    }

    /// What a jump to this host and port means, among what this user may reach as any account: a server's name, with the protocol's port or
    /// its own, whatever the case of its letters, or its address. Returns the name to authorise by.
    pub(crate) fn target(&self, identity: &Identity, protocol: &str, host: &str, port: u16, default_port: u16) -> Option<String> {
        let named = Target::named(&self.connections, protocol, host);
        let spoken = || self.connections.values().filter(|connection| connection.protocol() == protocol);
        // Clients that know host names only send them in lower case.
        let alike = spoken().filter(|connection| connection.name().as_str().eq_ignore_ascii_case(host)).filter_map(Target::of);
        let by_name = named.into_iter().chain(alike).filter(|target| target.takes_port(port, default_port));
        let by_address = spoken().filter_map(Target::of).filter(|target| target.is_at(host, port, default_port));
        let reached = |target: &Target| self.allowed(identity.user(), &target.connection).next().is_some();
        // A host in other letters may have the name of another connection.
        let leads_back = |target: &Target| {
            Target::named(&self.connections, protocol, target.name())
                .is_some_and(|found| Arc::ptr_eq(&found.connection, &target.connection))
        };
        by_name.chain(by_address).find(|target| reached(target) && leads_back(target)).map(|target| target.name().to_owned())
    }

    /// What this user may reach by this protocol, sorted.
    pub(crate) fn reachable(&self, user: &Name, protocol: &str) -> Vec<Reachable> {
        let mut all = Vec::new();
        for connection in self.connections.values().filter(|connection| connection.protocol() == protocol) {
            let hosts = connection.hosts().iter().map(|host| Some(host.as_str().to_owned()));
            let servers: Vec<_> = connection.address().map(|_| None).into_iter().chain(hosts).collect();
            for account in self.allowed(user, connection) {
                let (connection, account) = (connection.name().to_string(), account.name().to_string());
                let one =
                    |host: &Option<String>| Reachable { connection: connection.clone(), host: host.clone(), account: account.clone() };
                all.extend(servers.iter().map(one));
            }
        }
        all.sort();
        all
    }

    /// Whether the same (user, connection, account) would be granted now.
    pub(crate) fn still_allows(&self, grant: &Grant) -> bool {
        let before = grant.connection();
        let name = grant.host().unwrap_or_else(|| before.name().as_str());
        let Some(Target { connection, host, .. }) = Target::named(&self.connections, before.protocol(), name) else { return false };
        // A host may belong to another connection by now, which has other credentials.
        connection.name() == before.name()
            && host.as_deref() == grant.host()
            && connection.accounts().contains_key(grant.account().name())
            && (grant.proof() == Proof::Operator || self.permitting(grant.user(), &connection, grant.account()).next().is_some())
    }

    /// What its protocol reads from each rule that allows, now, what the grant is for. None for the operator, whom no rule concerns.
    pub(crate) fn rules(&self, grant: &Grant) -> Vec<Settings> {
        if grant.proof() == Proof::Operator || !self.still_allows(grant) {
            return Vec::new();
        }
        let rules = self.permitting(grant.user(), grant.connection(), grant.account());
        rules.filter_map(|rule| rule.settings.get(grant.connection().protocol()).map(Arc::clone)).collect()
    }

    /// A grant for every account of every connection, and of a group for every host that is written out: what `keyward check` tries.
    pub(crate) fn operator_grants(&self) -> Vec<Grant> {
        let Some(operator) = Identity::operator() else { return Vec::new() };
        let grants = |connection: &Arc<Connection>| {
            let grant = |target: Target, account| Grant::new(SessionId::random(), &operator, target, Arc::clone(account));
            let of = |target: Target| connection.accounts().values().map(move |account| grant(target.clone(), account));
            Target::all(connection).into_iter().flat_map(of).collect::<Vec<_>>()
        };
        self.connections.values().flat_map(grants).collect()
    }

    pub(crate) const fn connections(&self) -> &BTreeMap<Name, Arc<Connection>> {
        &self.connections
    }

    /// Whether both states of the file have the same rules.
    pub(crate) fn same_rules(&self, other: &Self) -> bool {
        self.rules.iter().map(|rule| &rule.node).eq(other.rules.iter().map(|rule| &rule.node))
    }

    /// The accounts of a connection that this user may use, sorted.
    fn allowed<'a>(&'a self, user: &'a Name, connection: &'a Connection) -> impl Iterator<Item = &'a Arc<Account>> + 'a {
        connection.accounts().values().filter(move |account| self.permitting(user, connection, account).next().is_some())
    }

    /// The rules by which this user may use this connection as this account.
    fn permitting<'a>(&'a self, user: &'a Name, connection: &'a Connection, account: &'a Account) -> impl Iterator<Item = &'a Rule> + 'a {
        // A user whom the file no longer has may nothing, even where a rule still names him.
        let groups = self.groups.get(user);
        let permits = move |rule: &&Rule| groups.is_some_and(|groups| rule.permits(user, groups, connection, account));
        self.rules.iter().filter(permits)
    }
}

impl Rule {
    fn read(entry: &Access) -> Self {
        let patterns = |list: &Vec<keyward_config::Spanned<Pattern>>| list.iter().map(|pattern| pattern.value.clone()).collect();
        Self {
            allow: entry.allow.iter().map(|name| name.value.clone()).collect(),
            connections: patterns(&entry.connections),
            accounts: entry.accounts.as_ref().map(patterns),
            settings: entry.settings.clone(),
            node: entry.node.clone(),
        }
    }

    fn permits(&self, user: &Name, groups: &[Name], connection: &Connection, account: &Account) -> bool {
        let any = |patterns: &[Pattern], name: &Name| patterns.iter().any(|pattern| pattern.matches(name.as_str()));
        self.allow.iter().any(|name| name == user || groups.contains(name))
            && any(&self.connections, connection.name())
            && self.accounts.as_ref().is_none_or(|accounts| any(accounts, account.name()))
    }
}

/// A user's name in a path must not become a word that tells what the path means.
fn check_user_names(config: &Config, connections: &BTreeMap<Name, Arc<Connection>>, problems: &mut Problems) {
    let per_user = connections.values().any(|connection| connection.accounts().values().any(|account| account.is_per_user()));
    let words = |name: &&Name| WORDS.iter().any(|word| word.eq_ignore_ascii_case(name.as_str()));
    for (name, user) in config.users.iter().filter(|(name, _)| per_user && words(name)) {
        let message = "a user of this name cannot be had beside paths with {{user.name}}, in which the word means something else";
        problems.error(user.span, format!("users.{name}"), message);
    }
}

fn choose<'a>(allowed: &[&'a Arc<Account>]) -> Result<&'a Arc<Account>, Denied> {
    match allowed {
        [] => Err(Denied::NotPermitted),
        [only] => Ok(only),
        several => several
            .iter()
            .find(|account| account.name().as_str() == Account::DEFAULT)
            .copied()
            .ok_or_else(|| Denied::Choose(several.iter().map(|account| account.name().to_string()).collect())),
    }
}

#[cfg(test)]
mod tests;
