//! Which server a name means: a connection that is one, or a host of a group.

use std::collections::BTreeMap;
use std::sync::Arc;

use keyward_config::{Name, UpstreamAddress};

use super::Connection;

/// A server: where a connection is, or one of the hosts of a group.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) connection: Arc<Connection>,
    /// In lower case; `None`: the connection is one server.
    pub(super) host: Option<Arc<str>>,
    pub(super) address: Arc<UpstreamAddress>,
}

impl Target {
    /// The one server of a connection; `None` of a group.
    pub(super) fn of(connection: &Arc<Connection>) -> Option<Self> {
        Some(Self { connection: Arc::clone(connection), host: None, address: Arc::clone(connection.shared_address()?) })
    }

    /// The servers of a connection that the file writes out.
    pub(super) fn all(connection: &Arc<Connection>) -> Vec<Self> {
        let written = connection.hosts().iter().filter(|host| !host.is_pattern());
        let hosts = written.filter_map(|host| Self::host_of(connection, host, host.as_str()));
        Self::of(connection).into_iter().chain(hosts).collect()
    }

    /// The server of this name among the connections of a protocol. A connection comes before a host, a host that is written out before a
    /// pattern, and of two patterns the one that has more written out, whoever asks: a server belongs to one connection.
    pub(super) fn named(connections: &BTreeMap<Name, Arc<Connection>>, protocol: &str, name: &str) -> Option<Self> {
        let own = connections.get(name).filter(|connection| connection.protocol() == protocol);
        if let Some(target) = own.and_then(Self::of) {
            return Some(target);
        }
        let spoken = || connections.values().filter(|connection| connection.protocol() == protocol);
        // In other letters it is still that connection's name, and no host that a pattern makes of it.
        if spoken().any(|connection| connection.address().is_some() && connection.name().as_str().eq_ignore_ascii_case(name)) {
            return None;
        }
        let lines = spoken().flat_map(|connection| connection.hosts().iter().map(move |host| (connection, host)));
        let fitting = lines.filter(|(_, host)| host.matches(name));
        // The first of several that say as much: their order is that of the names.
        let (connection, host) = fitting.min_by_key(|(_, host)| host.rank())?;
        Self::host_of(connection, host, name)
    }

    fn host_of(connection: &Arc<Connection>, host: &keyward_config::Host, name: &str) -> Option<Self> {
        let address = Arc::new(host.address_of(name)?);
        Some(Self { connection: Arc::clone(connection), host: Some(name.to_ascii_lowercase().into()), address })
    }

    /// What a login names it by.
    pub(super) fn name(&self) -> &str {
        self.host.as_deref().unwrap_or_else(|| self.connection.name().as_str())
    }

    /// Whether it may be meant by this port: by the protocol's own, since a name leads to a server wherever it listens, or by its own.
    pub(super) fn takes_port(&self, port: u16, default_port: u16) -> bool {
        matches!(*self.address, UpstreamAddress::Tcp { port: own, .. } if port == default_port || own == Some(port))
    }

    /// Whether it is at exactly this address.
    pub(super) fn is_at(&self, host: &str, port: u16, default_port: u16) -> bool {
        let UpstreamAddress::Tcp { host: own, port: at } = &*self.address else { return false };
        own.eq_ignore_ascii_case(host) && at.unwrap_or(default_port) == port
    }
}

#[cfg(test)]
mod tests;
