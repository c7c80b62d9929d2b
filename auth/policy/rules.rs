//! The rules: who may use which connection as which account. Asked at login, and again for live grants after a reload.

use std::collections::BTreeMap;
use std::sync::Arc;

use keyward_config::{Access, Config, Name, Pattern, Problems};

use super::{Account, Connection, Denied, Reachable};
use crate::identity::{Identity, Proof};
use crate::{Grant, SessionId};

/// Connections, groups and rules of one state of the file. A reload makes another one.
pub(crate) struct Policy {
    connections: BTreeMap<Name, Arc<Connection>>,
    groups: BTreeMap<Name, Vec<Name>>,
    rules: Vec<Rule>,
}

#[derive(PartialEq, Eq)]
struct Rule {
    allow: Vec<Name>,
    connections: Vec<Pattern>,
    accounts: Option<Vec<Pattern>>,
}

impl Policy {
    /// Reads connections, groups and rules; what does not make sense in an account goes to `problems`.
    pub(crate) fn read(config: &Config, problems: &mut Problems) -> Self {
        let connections =
            config.connections.iter().map(|(name, entry)| (name.clone(), Arc::new(Connection::read(entry, problems)))).collect();
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
        let known = self.connections.get(connection).filter(|connection| connection.protocol() == protocol);
        let connection = known.ok_or(Denied::NotPermitted)?;
        let mut allowed = self.allowed(identity.user(), connection);
        let chosen = match account {
            Some(account) => allowed.find(|candidate| candidate.name().as_str() == account).ok_or(Denied::NotPermitted)?,
            None => choose(&allowed.collect::<Vec<_>>())?,
        };
        Ok(Grant::new(session, identity, Arc::clone(connection), Arc::clone(chosen)))
    }

    /// What this user may reach by this protocol, sorted.
    pub(crate) fn reachable(&self, identity: &Identity, protocol: &str) -> Vec<Reachable> {
        let names = |connection: &Arc<Connection>, account: &Arc<Account>| Reachable {
            connection: connection.name().to_string(),
            account: account.name().to_string(),
        };
        self.connections
            .values()
            .filter(|connection| connection.protocol() == protocol)
            .flat_map(|connection| self.allowed(identity.user(), connection).map(move |account| names(connection, account)))
            .collect()
    }

    /// Whether the same (user, connection, account) would be granted now.
    pub(crate) fn still_allows(&self, grant: &Grant) -> bool {
        let Some(connection) = self.connections.get(grant.connection().name()) else { return false };
        connection.protocol() == grant.connection().protocol()
            && connection.accounts().contains_key(grant.account().name())
            && (grant.proof() == Proof::Operator || self.permits(grant.user(), connection, grant.account()))
    }

    /// A grant for every account of every connection: what `keyward check` tries.
    pub(crate) fn operator_grants(&self) -> Vec<Grant> {
        let Some(operator) = Identity::operator() else { return Vec::new() };
        let grants = |connection: &Arc<Connection>| {
            let grant = |account| Grant::new(SessionId::random(), &operator, Arc::clone(connection), Arc::clone(account));
            connection.accounts().values().map(grant).collect::<Vec<_>>()
        };
        self.connections.values().flat_map(grants).collect()
    }

    pub(crate) const fn connections(&self) -> &BTreeMap<Name, Arc<Connection>> {
        &self.connections
    }

    /// Whether both states of the file have the same rules.
    pub(crate) fn same_rules(&self, other: &Self) -> bool {
        self.rules == other.rules
    }

    /// The accounts of a connection that this user may use, sorted.
    fn allowed<'a>(&'a self, user: &'a Name, connection: &'a Connection) -> impl Iterator<Item = &'a Arc<Account>> + 'a {
        connection.accounts().values().filter(move |account| self.permits(user, connection, account))
    }

    fn permits(&self, user: &Name, connection: &Connection, account: &Account) -> bool {
        // A user whom the file no longer has may nothing, even where a rule still names him.
        let Some(groups) = self.groups.get(user) else { return false };
        self.rules.iter().any(|rule| rule.permits(user, groups, connection, account))
    }
}

impl Rule {
    fn read(entry: &Access) -> Self {
        let patterns = |list: &Vec<keyward_config::Spanned<Pattern>>| list.iter().map(|pattern| pattern.value.clone()).collect();
        Self {
            allow: entry.allow.iter().map(|name| name.value.clone()).collect(),
            connections: patterns(&entry.connections),
            accounts: entry.accounts.as_ref().map(patterns),
        }
    }

    fn permits(&self, user: &Name, groups: &[Name], connection: &Connection, account: &Account) -> bool {
        let any = |patterns: &[Pattern], name: &Name| patterns.iter().any(|pattern| pattern.matches(name.as_str()));
        self.allow.iter().any(|name| name == user || groups.contains(name))
            && any(&self.connections, connection.name())
            && self.accounts.as_ref().is_none_or(|accounts| any(accounts, account.name()))
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
