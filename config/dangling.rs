//! Names that lead nowhere. What an entry names counts as declared even where its own entry has problems.

use std::collections::{BTreeMap, HashSet};

use crate::{Config, ListenAddress, Name, Node, Pattern, Problems, Span, suggest};

/// Every name that one entry uses of another, and every listener address, which only one may have.
pub(crate) fn check(config: &Config, root: &Node, problems: &mut Problems) {
    let declared = |section: &str| {
        root.get(section).map(Node::entries).unwrap_or_default().iter().map(|entry| entry.key.as_str()).collect::<HashSet<_>>()
    };
    let (connections, mut stores) = (declared("connections"), declared("stores"));
    stores.extend(config.origins.keys().map(Name::as_str));
    for listener in &config.listeners {
        if let Some(name) = listener.connection.as_ref().filter(|name| !connections.contains(name.as_str())) {
            let path = path(root, "listeners", name.span, "connection");
            dangling(name.span, "connection", name.as_str(), &path, &connections, problems);
        }
        if let Some(name) = listener.connection.as_ref().filter(|name| is_group(config, name.as_str())) {
            let message = "this connection is a group of hosts, and a listener leads to one server";
            problems.error(name.span, path(root, "listeners", name.span, "connection"), message);
        }
    }
    for (name, connection) in &config.connections {
        if let Some(store) = connection.store.as_ref().filter(|store| !stores.contains(store.as_str())) {
            dangling(store.span, "store", store.as_str(), &format!("connections.{name}.store"), &stores, problems);
        }
    }
    hosts(config, &connections, problems);
    addresses(config, root, problems);
    rules(config, root, &connections, &declared("users"), problems);
}

fn is_group(config: &Config, name: &str) -> bool {
    config.connections.get(name).is_some_and(|connection| connection.place.address().is_none())
}

/// A host is named as a connection is, so that each name is there once.
fn hosts(config: &Config, connections: &HashSet<&str>, problems: &mut Problems) {
    let mut taken: BTreeMap<&str, Span> = BTreeMap::new();
    for (name, connection) in &config.connections {
        for (number, host) in connection.place.hosts().iter().enumerate() {
            let at = format!("connections.{name}.hosts[{number}]");
            if let Some(first) = taken.insert(host.as_str(), host.span) {
                problems.error(host.span, &at, format!("this host is at line {} already: a server belongs to one connection", first.line));
            }
            let another = |other: &&&str| other.eq_ignore_ascii_case(host.as_str()) && **other != name.as_str();
            if let Some(other) = connections.iter().find(another) {
                let message =
                    format!("a connection is named {} already; its users would not know which one they get", suggest::quoted(other));
                problems.error(host.span, at, message);
            }
        }
    }
}

fn addresses(config: &Config, root: &Node, problems: &mut Problems) {
    let mut taken: BTreeMap<&ListenAddress, Span> = BTreeMap::new();
    for listener in &config.listeners {
        // Port 0 takes a free port every time.
        if matches!(&listener.address.value, ListenAddress::Tcp(address) if address.port() == 0) {
            continue;
        }
        if let Some(first) = taken.insert(&listener.address.value, listener.address.span) {
            let message = format!("a listener of this address is declared at line {} already", first.line);
            problems.error(listener.address.span, path(root, "listeners", listener.address.span, "address"), message);
        }
    }
}

fn rules(config: &Config, root: &Node, connections: &HashSet<&str>, users: &HashSet<&str>, problems: &mut Problems) {
    let groups = config.users.values().flat_map(|user| &user.groups).map(Name::as_str);
    groups_without_rule(config, root, problems);
    let allowed: HashSet<&str> = users.iter().copied().chain(groups).collect();
    for rule in &config.access {
        if problems.is_full() {
            return;
        }
        let path = |span: Span, key: &str| path(root, "access", span, key);
        let known = |pattern: &Pattern| match pattern.exact() {
            Some(name) => connections.contains(name),
            None => connections.iter().any(|name| pattern.matches(name)),
        };
        // It allows nothing to anybody. As an error it would keep the right of a group's last member, since the reload that takes him out
        // would be refused.
        for name in rule.allow.iter().filter(|name| !allowed.contains(name.as_str())) {
            let message = unknown("user or group", name.as_str(), &allowed);
            problems.warning(name.span, path(name.span, "allow"), message);
        }
        for pattern in rule.connections.iter().filter(|pattern| !known(pattern)) {
            let group = config.connections.iter().find(|(_, connection)| {
                connection.place.hosts().iter().any(|host| host.matches(pattern.as_str()) || host.as_str() == pattern.as_str())
            });
            let instead = match group {
                Some((group, _)) => {
                    format!("; it is a host of the connection {}, which is what a rule names", suggest::quoted(group.as_str()))
                }
                None => suggest::did_you_mean(pattern.as_str(), connections.iter().copied()),
            };
            let message = format!("no connection is named {}{instead}", suggest::quoted(pattern.as_str()));
            problems.warning(pattern.span, path(pattern.span, "connections"), message);
        }
        let reached =
            || config.connections.iter().filter(|(name, _)| rule.connections.iter().any(|pattern| pattern.matches(name.as_str())));
        for (protocol, key) in &rule.own {
            if reached().next().is_some() && !reached().any(|(_, connection)| connection.protocol == *protocol) {
                let message = format!("it does nothing here: none of these connections speaks {protocol}");
                problems.warning(key.span, path(key.span, key.as_str()), message);
            }
        }
        for pattern in rule.accounts.iter().flatten() {
            let used = reached().any(|(_, connection)| connection.accounts.keys().any(|account| pattern.matches(account.as_str())));
            if !used {
                problems.warning(
                    pattern.span,
                    path(pattern.span, "accounts"),
                    format!("none of these connections has an account {}", suggest::quoted(pattern.as_str())),
                );
            }
        }
    }
}

/// A group that no rule names, at the first user who is in it: its members have nothing from it.
fn groups_without_rule(config: &Config, root: &Node, problems: &mut Problems) {
    // One that could not be read may name any of them, and a file without rules is not finished.
    if config.access.is_empty() || config.access.len() < root.get("access").map_or(0, |access| access.items().len()) {
        return;
    }
    let mut said: HashSet<&str> = config.access.iter().flat_map(|rule| &rule.allow).map(|name| name.as_str()).collect();
    let named: Vec<&str> = said.iter().copied().collect();
    for (user, entry) in &config.users {
        let written = root.get("users").and_then(|users| users.get(user.as_str())?.get("groups"));
        for (number, group) in entry.groups.iter().enumerate().filter(|(_, group)| said.insert(group.as_str())) {
            let place = written.and_then(|groups| groups.items().get(number)).map(Node::span);
            let suggestion = suggest::did_you_mean(group.as_str(), named.iter().copied());
            let message = format!("no rule allows {} anything{suggestion}", suggest::quoted(group.as_str()));
            problems.warning(place, format!("users.{user}.groups"), message);
        }
    }
}

/// The path of what stands there in a list. Its number in the configuration is another one where an earlier entry could not be read.
fn path(root: &Node, section: &str, span: Span, key: &str) -> String {
    let items = root.get(section).map(Node::items).unwrap_or_default();
    let index = items.partition_point(|item| item.span() <= span).saturating_sub(1);
    format!("{section}[{index}].{key}")
}

fn dangling(span: Span, what: &str, name: &str, path: &str, known: &HashSet<&str>, problems: &mut Problems) {
    problems.error(span, path, unknown(what, name, known));
}

fn unknown(what: &str, name: &str, known: &HashSet<&str>) -> String {
    let suggestion = suggest::did_you_mean(name, known.iter().copied());
    format!("no {what} is named {}{suggestion}", suggest::quoted(name))
}
