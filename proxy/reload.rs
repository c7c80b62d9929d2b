//! Reading the file, whole and checked, at the start and again while sessions live: all of it is taken over, or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use keyward_auth::tls::SystemRoots;
use keyward_auth::{Gate, Observer};
use keyward_config::{Config, Connection, Kinds, Loaded, Node, Problems, ProtocolSettings, Stamp, StoreSettings, TlsMode, UpstreamAddress};

use crate::ca::LocalCa;
use crate::logging;
use crate::metrics::Metrics;
use crate::protocol::{self, KINDS};
use crate::refusal::Reason;
use crate::server::{Proxy, Server};
use crate::tls::ServerIdentity;
use crate::upstream::Endpoint;

/// With `reload: on_change`, the file is looked at this often, and taken once it has been still for twice as long. Looking works where
/// notifications do not: network file systems, and the folders that Kubernetes swaps as a whole.
const LOOK: Duration = Duration::from_secs(1);

/// A file that was refused is tried again after so long, as it is: what it names may have come since, such as a certificate's file.
const AGAIN: Duration = Duration::from_secs(10);

/// The rows of both lists, as the file's reader wants them.
#[must_use]
pub fn rows() -> (Vec<ProtocolSettings>, Vec<StoreSettings>) {
    (KINDS.iter().map(|kind| kind.settings).collect(), keyward_auth::KINDS.iter().map(|kind| kind.settings).collect())
}

/// Reads the file, without asking anybody what it names.
#[must_use]
pub fn read(path: &Path) -> Loaded {
    let (protocols, stores) = rows();
    keyward_config::load(path, &Kinds { protocols: &protocols, stores: &stores })
}

/// Reads the file and checks everything that can be checked without a network. Inside a runtime.
#[must_use]
pub fn load(path: &Path) -> (Loaded, Option<Arc<Gate>>) {
    let mut loaded = read(path);
    let Some(config) = &loaded.config else { return (loaded, None) };
    if let Err(text) = logging::filter(&config.log) {
        loaded.problems.error(config.log.level.as_ref().map(|level| level.span), "log.level", format!("expected {text}"));
    }
    for listener in &config.listeners {
        if let Some(tls) = &listener.tls
            && let Err(text) = ServerIdentity::check(tls)
        {
            // Not by its number: one that could not be read is left out of these.
            loaded.problems.error(tls.span, format!("listener {}.tls", listener.address.value), text);
        }
        if let Some(kind) = protocol::kind(listener.protocol) {
            (kind.check_listener)(listener, config, &mut loaded.problems);
        }
    }
    for connection in config.connections.values() {
        if let Some(kind) = protocol::kind(connection.protocol) {
            (kind.check)(connection, &mut loaded.problems);
        }
        check_verification(connection, &mut loaded.problems);
    }
    let gate = Gate::for_operator(config, Arc::new(Metrics::default()) as Arc<dyn Observer>, &mut loaded.problems);
    let mut seen = BTreeSet::new();
    let roots = Arc::new(SystemRoots::default());
    for grant in gate.iter().flat_map(|gate| gate.operator_grants()) {
        let connection = grant.connection();
        let Some(kind) = protocol::kind(connection.protocol()).filter(|_| seen.insert(connection.name().clone())) else { continue };
        if let Err(error) = Endpoint::of(&grant, &kind.preface, &roots) {
            let place = config.connections.get(connection.name()).and_then(|entry| entry.tls.as_ref()).map(|tls| tls.span);
            loaded.problems.error(place, format!("connections.{}.tls", connection.name()), error.source);
        }
    }
    (loaded, gate)
}

/// A file's name, the same from wherever it is named.
#[must_use]
pub fn shown(path: &Path) -> String {
    let whole = path.canonicalize().or_else(|_| std::path::absolute(path));
    whole.as_deref().unwrap_or(path).display().to_string()
}

/// What the file says of each listener, by its address.
fn listeners(config: &Config) -> BTreeMap<String, Node> {
    config.listeners.iter().map(|listener| (listener.address.value.to_string(), listener.node.clone())).collect()
}

/// Says where a server is not verified: a secret goes there only if the connection says `insecure`, or never.
fn check_verification(connection: &Connection, problems: &mut Problems) {
    let at = format!("connections.{}", connection.name.value);
    if let Some(reason) = &connection.insecure {
        problems.warning(reason.span, format!("{at}.insecure"), "the server behind it is given secrets without being verified");
        return;
    }
    let (Some(tls), Some(UpstreamAddress::Tcp { host, .. })) = (&connection.tls, connection.place.address()) else { return };
    let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
    if tls.pinned_key.is_some() && tls.ca.is_some() {
        problems.warning(tls.span, format!("{at}.tls.ca"), "not read where `pinned_key` verifies the server");
    }
    if matches!(tls.mode, TlsMode::Disable | TlsMode::Require) && tls.pinned_key.is_none() && !local {
        let text = "nothing verifies this server; it is sent no secret unless it is on this machine or the connection says `insecure`";
        problems.warning(tls.span, format!("{at}.tls"), text);
    }
}

/// Takes over a changed file.
pub struct Reloader {
    path: PathBuf,
    proxy: Arc<Proxy>,
    server: Arc<Server>,
    ca: LocalCa,
    current: Mutex<Current>,
    /// Of the file when the process read it.
    stamp: Option<Stamp>,
}

/// What is in force.
struct Current {
    config: Config,
    /// The last reload was refused: when, and why.
    refused: Option<(Instant, String)>,
}

/// Who reloads.
#[derive(PartialEq, Eq)]
enum Caller {
    /// Who hears what came of it.
    Somebody,
    /// The watcher, which tells of a refusal once.
    Watch,
}

impl Reloader {
    /// For the process that runs with this configuration.
    #[must_use]
    pub fn new(proxy: Arc<Proxy>, server: Arc<Server>, ca: LocalCa, current: Config, stamp: Option<Stamp>) -> Self {
        let path = current.file.clone();
        Self { path, proxy, server, ca, current: Mutex::new(Current { config: current, refused: None }), stamp }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the file as it is now, and opens the audit record anew. Live sessions keep the connection of their grant, and end only if they
    /// are no longer allowed. The log says what came of both.
    ///
    /// # Errors
    /// The problems of the file, one a line, or why a listener cannot be opened: everything stays as it was. Or why the record could not be
    /// opened anew, and what came of the file.
    pub async fn reload(self: Arc<Self>) -> Result<String, String> {
        // The record first, but the file does not wait for its disk.
        match tokio::join!(self.proxy.audit.reopen(), Arc::clone(&self).reload_beside(Caller::Somebody)) {
            (Ok(()), reloaded) => reloaded,
            (Err(record), Ok(changes)) => Err(format!("{record}\nthe configuration was reloaded: {changes}")),
            (Err(record), Err(problems)) => Err(format!("{record}\n{problems}")),
        }
    }

    /// Beside what serves: reading files and certificates blocks.
    async fn reload_beside(self: Arc<Self>, caller: Caller) -> Result<String, String> {
        let reloaded = tokio::task::spawn_blocking(move || self.reload_for(caller)).await;
        reloaded.unwrap_or_else(|_| Err("the reload broke off".to_owned()))
    }

    fn reload_for(&self, caller: Caller) -> Result<String, String> {
        let mut current = self.current();
        let outcome = self.take(&mut current.config);
        self.proxy.metrics.reloaded(outcome.is_ok());
        let before = current.refused.take();
        match &outcome {
            Ok(text) => tracing::info!(changes = text, "reloaded"),
            Err(text) => {
                let is_known = before.is_some_and(|(_, known)| known == *text);
                if caller == Caller::Somebody || !is_known {
                    tracing::error!(problems = text, "reload refused; the old configuration stays in force");
                } else {
                    tracing::debug!("tried again: the reload is still refused");
                }
                current.refused = Some((Instant::now(), text.clone()));
            }
        }
        outcome
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, current: &mut Config) -> Result<String, String> {
        let (loaded, _) = load(&self.path);
        let mut problems = loaded.problems;
        let Some(config) = loaded.config.filter(|_| !problems.has_errors()) else { return Err(problems.to_string()) };
        if config.state != current.state
            || config.audit != current.audit
            || config.log != current.log
            || config.http != current.http
            || config.reload != current.reload
        {
            return Err("state, audit, log, http and reload are read at the start only: restart for them".to_owned());
        }
        let prepared = self.server.prepare(&config, &self.ca)?;
        self.proxy.forget_roots();
        let Some(mut replaced) = self.proxy.gate.replace(&config, &mut problems) else { return Err(problems.to_string()) };
        let renewed = self.server.commit(prepared);
        self.proxy.set_limits(config.limits.clone());
        self.proxy.opened();
        let gate = &self.proxy.gate;
        let ended = self.proxy.registry.end_where(Reason::Withdrawn, |live| !gate.still_allowed(&live.grant));
        let list = |names: &[String]| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        for problem in problems.iter() {
            tracing::info!(%problem, "configuration");
        }
        let (before, after) = (listeners(current), listeners(&config));
        replaced.compare("listener", before.keys(), after.keys(), |address| before.get(address) == after.get(address));
        if config.limits != current.limits {
            replaced.changed.push("limits".to_owned());
        }
        replaced.changed.extend(renewed.iter().map(|address| format!("certificate of listener {address}")));
        *current = config;
        Ok(format!(
            "added {}; changed {}; removed {}; ended {ended} sessions",
            list(&replaced.added),
            list(&replaced.changed),
            list(&replaced.removed)
        ))
    }

    /// Watches the file, and those that the environment names beside it, for `reload: on_change`. Runs until dropped.
    pub async fn watch(self: Arc<Self>) {
        let named = self.current().config.named_files.clone();
        let mut taken: Vec<_> = std::iter::once(self.stamp).chain(named.iter().map(|(stamp, _)| *stamp)).collect();
        let paths: Arc<[PathBuf]> = std::iter::once(self.path.clone()).chain(named.into_iter().map(|(_, path)| path)).collect();
        let mut last = taken.clone();
        loop {
            tokio::time::sleep(LOOK).await;
            let now = stamps(&paths).await;
            let still = now == last;
            last.clone_from(&now);
            // Not waited for: who reloads holds it, and this is one of the threads that serve.
            let again = || {
                let refused = |current: MutexGuard<'_, Current>| current.refused.as_ref().is_some_and(|(at, _)| at.elapsed() >= AGAIN);
                self.current.try_lock().is_ok_and(refused)
            };
            if !still || now == taken && !again() {
                continue;
            }
            tokio::time::sleep(LOOK).await;
            if stamps(&paths).await == now {
                taken = now;
                let _ = Arc::clone(&self).reload_beside(Caller::Watch).await;
            }
        }
    }
}

/// Of these files as they are now. Beside what serves: a file system whose server is gone keeps whoever asks.
async fn stamps(paths: &Arc<[PathBuf]>) -> Vec<Option<Stamp>> {
    let paths = Arc::clone(paths);
    tokio::task::spawn_blocking(move || paths.iter().map(|path| Stamp::of(path)).collect()).await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_is_named_by_its_address_whatever_stands_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keyward.yaml");
        let broken = "  - { protocol: mysql, adress: '127.0.0.1:3' }\n";
        let other = "  - { protocol: mysql, address: '127.0.0.1:4', tls: { certificate: nowhere.pem, private_key: nowhere.key } }\n";
        std::fs::write(&file, format!("state: state\nlisteners:\n{broken}{other}")).unwrap();
        let problems = load(&file).0.problems.to_string();
        assert!(problems.contains("yaml:4:53: listener 127.0.0.1:4.tls: "), "{problems}");
    }

    #[tokio::test]
    async fn a_level_of_the_log_that_the_start_would_not_take_is_a_problem_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let (file, state) = (folder.path().join("keyward.yaml"), folder.path().join("state"));
        for (level, fine) in [("warn,keyward=debug", true), ("info,[link]=debug", false)] {
            std::fs::write(&file, format!("state: {}\nlog: {{ level: \"{level}\" }}\n", state.display())).unwrap();
            let problems = load(&file).0.problems.to_string();
            assert_eq!(!problems.contains("keyward.yaml:2:15: log.level: expected levels"), fine, "{problems}");
        }
    }
}
