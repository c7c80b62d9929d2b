//! What is known of the servers' greetings: ours goes out before the user is known, and no server is dialled for a user who has proven
//! nothing. So the process asks each server once, in the background, and every login upstream tells it anew. Where a server is that only the
//! store knows, nobody asks before a session does: the first login tells.
//!
//! `mod.rs` calls [`refresh`] at the start and after each reload, [`Facts::learn`] at each login, and [`Facts::face`] for each client.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keyward_auth::Connection;
use keyward_auth::tls::SystemRoots;
use keyward_config::Name;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::capabilities::Capabilities;
use super::packet::{self, Packets};
use super::settings::ConnectionSettings;
use super::wire::{Greeting, Reply, reply};
use crate::error::{Party, SessionError, Stage, escaped};
use crate::refusal::Refusal;
use crate::upstream::{Endpoint, Preface};

/// To reach a server and to hear its greeting.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Servers that are asked at one time.
const PROBES: usize = 4;
/// Between two attempts; it doubles up to the second.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Bytes of a version text: MySQL's SERVER_VERSION_LENGTH is 60, and MariaDB adds the names of packages and log settings.
const VERSION_MAX: usize = 255;
/// utf8mb4_general_ci: the one collation of all of Unicode that MySQL and MariaDB give the same number.
const COMMON_CHARSET: u8 = 45;
/// SERVER_STATUS_AUTOCOMMIT.
const AUTOCOMMIT: u16 = 2;
/// MySQL's first release of the 8.0 line, and ours by its name. Clients choose by it what they ask a server before anything else:
/// Connector/J reads `@@query_cache_size` and `@@tx_isolation` of a server older than 8.0.3, which every later MySQL answers with an error
/// that ends the login; mysqldump uses `SHOW BINARY LOG STATUS` from 8.2 on. Between the two, all of MySQL 8 and 9 serve what is asked.
/// MariaDB is not among them (before 11.1 it has no `@@transaction_isolation`), so that a server that is not known yet is asked at once.
const UNKNOWN_VERSION: &[u8] = b"8.0.11-keyward";

/// What every server has that speaks to today's clients: MySQL and MariaDB since 5.5. A client does without the others, but no server
/// without one that we promised.
const COMMON: [Capabilities; 15] = [
    Capabilities::LONG_PASSWORD,
    Capabilities::FOUND_ROWS,
    Capabilities::LONG_FLAG,
    Capabilities::CONNECT_WITH_DB,
    Capabilities::ODBC,
    Capabilities::LOCAL_FILES,
    Capabilities::IGNORE_SPACE,
    Capabilities::PROTOCOL_41,
    Capabilities::INTERACTIVE,
    Capabilities::TRANSACTIONS,
    Capabilities::SECURE_CONNECTION,
    Capabilities::MULTI_STATEMENTS,
    Capabilities::MULTI_RESULTS,
    Capabilities::PS_MULTI_RESULTS,
    Capabilities::PLUGIN_AUTH,
];

/// What the servers are known to say. One per process; outlives reloads.
pub(crate) struct Facts {
    table: Mutex<Table>,
    probes: Semaphore,
}

#[derive(Default)]
struct Table {
    connections: HashMap<Name, Known>,
    servers: Vec<Server>,
    /// Of all of them, for a listener that leads to all of them.
    shared: Face,
    /// There are servers of both flavours among them.
    mixed: bool,
}

/// A connection of the file.
struct Known {
    /// Its place in `servers`.
    server: usize,
    local_infile: bool,
}

/// What several connections may lead to.
struct Server {
    /// One of them, as the file has it.
    of: Arc<Connection>,
    said: Option<Said>,
    /// Ends its probe.
    probe: CancellationToken,
}

/// What a server's greeting says, but for what is of one connection only.
#[derive(Clone, PartialEq, Eq)]
struct Said {
    version: Vec<u8>,
    charset: u8,
    status: u16,
    capabilities: Capabilities,
}

/// What we greet with: a server's own words, or what all servers behind a listener have in common.
#[derive(Clone)]
pub(super) struct Face {
    /// The version text.
    pub(super) version: Vec<u8>,
    /// The default collation's number.
    pub(super) charset: u8,
    /// The status flags.
    pub(super) status: u16,
    /// The servers', not yet our offer.
    pub(super) capabilities: Capabilities,
    /// Whether one of the connections allows `LOAD DATA LOCAL INFILE`.
    pub(super) local_infile: bool,
}

impl Default for Facts {
    fn default() -> Self {
        Self { table: Mutex::default(), probes: Semaphore::new(PROBES) }
    }
}

impl Default for Face {
    fn default() -> Self {
        Said::default().face(false)
    }
}

impl Facts {
    /// What a server said to a login over this connection.
    pub(super) fn learn(&self, connection: &Connection, greeting: &Greeting) {
        let said = Said::of(greeting);
        let mut table = self.lock();
        let Some(server) = table.server_mut(connection.name()) else { return };
        // A session may have begun before a reload that sent its connection's name elsewhere.
        if !server.is_of(connection) {
            return;
        }
        server.probe.cancel();
        if server.said.as_ref() != Some(&said) {
            server.said = Some(said);
            table.share();
        }
    }

    /// What to greet a client with, on a listener that leads to this connection, or to all of them.
    pub(super) fn face(&self, connection: Option<&Name>) -> Face {
        let table = self.lock();
        let Some(name) = connection else { return table.shared.clone() };
        let local_infile = table.connections.get(name).is_some_and(|known| known.local_infile);
        table.said(name).cloned().unwrap_or_default().face(local_infile)
    }

    fn is_known(&self, name: &Name) -> bool {
        self.lock().said(name).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes over the MySQL connections of the file, at the start and after each reload; what is known of servers that stay stays known. Each
/// server of which nothing is known but its place is asked in the background, until it is known or `stop` is set.
///
/// A server counts a client that leaves after the greeting as one that failed (`max_connect_errors`), until some login succeeds. So it is
/// asked until it answered once, not every so often. Inside a runtime.
pub(crate) fn refresh(
    facts: &Arc<Facts>,
    connections: &[Arc<Connection>],
    preface: Preface,
    roots: &Arc<SystemRoots>,
    stop: &CancellationToken,
) {
    let mut unknown = Vec::new();
    let mut table = facts.lock();
    let mut before = std::mem::take(&mut *table);
    for connection in connections {
        let place = table.servers.iter().position(|server| server.is_of(connection)).unwrap_or_else(|| {
            let old = before.servers.iter_mut().find(|server| server.is_of(connection));
            let said = old.and_then(|server| server.said.take());
            let probe = stop.child_token();
            if said.is_none() && connection.is_placed() {
                unknown.push((Arc::clone(connection), probe.clone()));
            }
            table.servers.push(Server { of: Arc::clone(connection), said, probe });
            table.servers.len().saturating_sub(1)
        });
        let local_infile = connection.settings::<ConnectionSettings>().is_some_and(|settings| settings.local_infile);
        table.connections.insert(connection.name().clone(), Known { server: place, local_infile });
    }
    table.share();
    drop(table);
    for server in before.servers {
        server.probe.cancel();
    }
    for (connection, stop) in unknown {
        let (facts, roots) = (Arc::clone(facts), Arc::clone(roots));
        tokio::spawn(async move {
            let probing = probe(&facts, &connection, preface, &roots);
            tokio::select! {
                () = stop.cancelled() => {}
                () = probing => {}
            }
        });
    }
}

/// Asks until the server has answered.
async fn probe(facts: &Facts, connection: &Connection, preface: Preface, roots: &Arc<SystemRoots>) {
    let mut pause = FIRST_PAUSE;
    while !facts.is_known(connection.name()) {
        let asked = {
            let Ok(_place) = facts.probes.acquire().await else { return };
            tokio::time::timeout(PROBE_TIMEOUT, ask(connection, preface, roots)).await
        };
        match asked.unwrap_or_else(|_| Err(unreachable("no greeting within 10 s"))) {
            Ok(greeting) => return facts.learn(connection, &greeting),
            Err(error) if pause == FIRST_PAUSE => {
                let connection = connection.name().as_str();
                tracing::info!(connection, %error, "clients are greeted with a version of ours until this server answers");
            }
            Err(error) => tracing::debug!(connection = connection.name().as_str(), %error, "no greeting yet"),
        }
        tokio::time::sleep(jittered(pause)).await;
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

/// Reads the greeting, says nothing, and leaves.
async fn ask(connection: &Connection, preface: Preface, roots: &Arc<SystemRoots>) -> Result<Greeting, SessionError> {
    let endpoint = Endpoint::prepare(connection, &preface, roots).map_err(unreachable)?;
    let mut server = endpoint.connect().await?;
    let read = Packets::default().read(server.preface(), packet::UPSTREAM_MAX).await;
    let payload = read.map_err(|error| unreachable(format!("greeting: {error}")))?;
    Greeting::parse(&payload).map_err(|malformed| match reply(&payload) {
        Ok(Reply::Error(error)) => unreachable(format!("{}: {}", error.code, escaped(&error.message))),
        _ => unreachable(format!("greeting: {}", malformed.0)),
    })
}

fn unreachable(text: impl Into<std::borrow::Cow<'static, str>>) -> SessionError {
    SessionError::new(Refusal::UpstreamUnreachable, Party::Upstream, Stage::Connect, text)
}

/// Three quarters to five quarters of it, so that the servers of a file are not asked in step.
fn jittered(pause: Duration) -> Duration {
    let mut random = [128];
    // Without entropy there is no jitter, which harms nobody.
    let _ = aws_lc_rs::rand::fill(&mut random);
    let [random] = random;
    pause.saturating_mul(384_u32.saturating_add(u32::from(random))).checked_div(512).unwrap_or(pause)
}

impl Table {
    fn said(&self, name: &Name) -> Option<&Said> {
        self.servers.get(self.connections.get(name)?.server)?.said.as_ref()
    }

    fn server_mut(&mut self, name: &Name) -> Option<&mut Server> {
        self.servers.get_mut(self.connections.get(name)?.server)
    }

    /// Computed when something changes, not for every client.
    fn share(&mut self) {
        let all = || self.servers.iter().filter_map(|server| server.said.as_ref());
        let mysql = |said: &Said| said.capabilities.has(Capabilities::LONG_PASSWORD);
        let mixed = all().any(mysql) && !all().all(mysql);
        if mixed && !self.mixed {
            tracing::info!(
                "there are MySQL and MariaDB servers: a listener that leads to all of them greets with what they have in common, which \
                 suits not every client; one with `connection:` greets with the truth"
            );
        }
        let said = Said::common(all());
        self.mixed = mixed;
        self.shared = said.unwrap_or_default().face(self.connections.values().any(|known| known.local_infile));
    }
}

impl Server {
    /// Connections that agree in address and TLS lead to one server, whatever they are called; those whose place is in a store, if the file
    /// says the same of them, whatever the store says today.
    fn is_of(&self, connection: &Connection) -> bool {
        let of = &self.of;
        if of.is_placed() { of.address() == connection.address() && of.tls() == connection.tls() } else { of.same_as(connection) }
    }
}

impl Default for Said {
    fn default() -> Self {
        let capabilities = COMMON.into_iter().fold(Capabilities::default(), Capabilities::or);
        Self { version: UNKNOWN_VERSION.to_vec(), charset: COMMON_CHARSET, status: AUTOCOMMIT, capabilities }
    }
}

impl Said {
    fn of(greeting: &Greeting) -> Self {
        let Greeting { version, charset, status, capabilities, .. } = greeting;
        // It comes in plain text, and goes on to clients that nobody knows yet.
        let fit = version.len() <= VERSION_MAX && version.iter().all(|byte| (b' '..=b'~').contains(byte));
        let version = if fit { version.clone() } else { UNKNOWN_VERSION.to_vec() };
        Self { version, charset: *charset, status: *status, capabilities: *capabilities }
    }

    /// What several servers have in common. The lowest version of them, text and all: a client must not use what one of them lacks.
    /// MariaDB before 11 says `5.5.5-10.11.6-MariaDB` and counts as the 5.5.5 that it says, as for every client that does not know it.
    /// Where both flavours are behind one listener no version is right for all: a client may then ask for what the newer ones took away.
    /// They want a listener each.
    fn common<'a>(all: impl Iterator<Item = &'a Self>) -> Option<Self> {
        all.cloned().reduce(|one, other| {
            let both = one.capabilities.and(other.capabilities);
            // Bit 0 means MySQL: MariaDB clears it and has flags of its own beyond the 32 bits. Those hold only if all are MariaDB.
            let mysql = one.capabilities.or(other.capabilities).has(Capabilities::LONG_PASSWORD);
            let capabilities = if mysql { Capabilities::from_halves(both.low(), 0).or(Capabilities::LONG_PASSWORD) } else { both };
            Self {
                charset: if one.charset == other.charset { one.charset } else { COMMON_CHARSET },
                status: if one.status == other.status { one.status } else { AUTOCOMMIT },
                capabilities,
                version: if release(&other.version) < release(&one.version) { other.version } else { one.version },
            }
        })
    }

    fn face(self, local_infile: bool) -> Face {
        let Self { version, charset, status, capabilities } = self;
        Face { version, charset, status, capabilities, local_infile }
    }
}

/// The three numbers that a version text begins with; what is missing counts as 0.
fn release(version: &[u8]) -> [u32; 3] {
    let mut numbers = version.split(|byte| !byte.is_ascii_digit()).map(|digits| {
        digits.iter().fold(0_u32, |number, digit| number.saturating_mul(10).saturating_add(u32::from(digit.saturating_sub(b'0'))))
    });
    std::array::from_fn(|_| numbers.next().unwrap_or(0))
}

#[cfg(test)]
#[path = "facts_tests.rs"]
mod tests;
