//! `keyward run`: from the file to the last given-back lease.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keyward_auth::{Gate, Observer};
use keyward_config::{Config, Problems, Reload, Stamp};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

use super::{DONE, FAILED, WRONG, failed, runtime};
use crate::admin::{http, socket};
use crate::audit::{self, Audit};
use crate::ca::LocalCa;
use crate::metrics::Metrics;
use crate::reload::{self, Reloader};
use crate::server::{Proxy, Server};
use crate::state::{StateFolder, admin_socket};
use crate::{logging, protocol};

pub(super) fn run(path: &Path) -> u8 {
    raise_open_files();
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(text) => return failed(&text),
    };
    let code = runtime.block_on(async {
        // Before it is read: what changes from here on is a change.
        let stamp = Stamp::of(path);
        let loaded = reload::load(path).0;
        let Some(config) = loaded.config.filter(|_| !loaded.problems.has_errors()) else {
            eprint!("{}", loaded.problems);
            return WRONG;
        };
        if let Err(text) = logging::start(&config.log) {
            return failed(&text);
        }
        for problem in loaded.problems.iter() {
            tracing::info!(%problem, "configuration");
        }
        match serve(config, stamp).await {
            Ok(()) => DONE,
            Err(text) => {
                tracing::error!(error = text, "keyward cannot start");
                FAILED
            }
        }
    });
    // A name that does not resolve must not keep a process that was told to end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

/// As many files as we may have: a session takes two, and the usual soft limit of 1024 would be used up by handshakes alone.
fn raise_open_files() {
    let files = getrlimit(Resource::Nofile);
    // What cannot be raised is told by `warn_of_few_files`.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum });
}

/// Secrets live in this process: no core dump, no debugger of the same user, no /proc/PID/mem.
pub(super) fn keep_to_ourselves() -> Result<(), String> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).map_err(|error| format!("RLIMIT_CORE: {error}"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| format!("not dumpable: {error}"))
}

async fn serve(config: Config, stamp: Option<Stamp>) -> Result<(), String> {
    let signals = Signals::listen()?;
    let state = StateFolder::open(&config.state)?;
    let ca = LocalCa::open(state.path())?;
    let metrics = Arc::new(Metrics::default());
    let mut problems = Problems::new(&config.file);
    let observer = Arc::clone(&metrics) as Arc<dyn Observer>;
    let gate = Gate::open(&config, state.path(), observer, &mut problems).ok_or_else(|| problems.to_string())?;
    let record = config.audit.file.clone().unwrap_or_else(|| audit::default_file(state.path()));
    let audit = Audit::open(&record, config.audit.on_failure, Arc::clone(&metrics))?;
    let proxy = Proxy::new(gate, audit, metrics, config.limits.clone());

    let http = match config.http.map(|http| http.address) {
        Some(address) => Some(TcpListener::bind(address).await.map_err(|error| format!("http {address}: {error}"))?),
        None => None,
    };
    let operators = admin_socket(state.path());
    let listener = socket::open(&operators).map_err(|error| format!("{}: {error}", operators.display()))?;
    let server = Arc::new(Server::new(Arc::clone(&proxy)));
    server.commit(server.prepare(&config, &ca)?);
    proxy.opened();
    warn_of_few_files(&config);
    let on_change = config.reload == Reload::OnChange;
    let reloader = Arc::new(Reloader::new(Arc::clone(&proxy), server, ca, config, stamp));

    tokio::spawn(socket::serve(listener, Arc::clone(&proxy), Arc::clone(&reloader)));
    if let Some(http) = http {
        tracing::info!(protocol = "http", address = http.local_addr().map(|address| address.to_string()).unwrap_or_default(), "listening");
        tokio::spawn(http::serve(http, Arc::clone(&proxy)));
    }
    if on_change {
        let reloader = Arc::clone(&reloader);
        tokio::spawn(reloader.watch());
    }
    let protocols: Vec<&str> = protocol::KINDS.iter().map(|kind| kind.settings.name).collect();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), protocols = protocols.join(","), "ready");
    notify_service_manager("READY=1");
    until_told_to_end(signals, &proxy, &reloader).await;
    let _ = std::fs::remove_file(&operators);
    tracing::info!("ended");
    Ok(())
}

/// What a service manager or an operator sends.
struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    /// From here on they wait for us. Before that, SIGTERM and SIGHUP end the process at once.
    fn listen() -> Result<Self, String> {
        let listen = |kind| signal(kind).map_err(|error| format!("signals: {error}"));
        Ok(Self { term: listen(SignalKind::terminate())?, int: listen(SignalKind::interrupt())?, hup: listen(SignalKind::hangup())? })
    }
}

/// The limits of the file must fit into the limit on open files, or accepting fails before they are reached.
fn warn_of_few_files(config: &Config) {
    let limits = &config.limits;
    let wanted = u64::from(limits.sessions).saturating_mul(2).saturating_add(u64::from(limits.handshakes)).saturating_add(100);
    if let Some(most) = getrlimit(Resource::Nofile).current.filter(|most| *most < wanted) {
        tracing::info!(
            open_files = most,
            wanted,
            "the limit on open files (RLIMIT_NOFILE) is below what limits.sessions and limits.handshakes may need"
        );
    }
}

/// Serves signals until a drain is over, or a second signal cuts it short.
async fn until_told_to_end(mut signals: Signals, proxy: &Arc<Proxy>, reloader: &Arc<Reloader>) {
    let Signals { term, int, hup } = &mut signals;
    // At most one, and beside the others: a reload waits for disks, and whoever ends the process does not. It may go on while it drains.
    let mut reloads = JoinSet::new();
    loop {
        tokio::select! {
            _ = term.recv() => break,
            _ = int.recv() => break,
            _ = hup.recv(), if reloads.is_empty() => drop(reloads.spawn(Arc::clone(reloader).reload())),
            // Its outcome is in the log.
            Some(_) = reloads.join_next() => {}
        }
    }
    notify_service_manager("STOPPING=1");
    tracing::info!(sessions = proxy.registry.count(), "draining");
    tokio::select! {
        () = proxy.drain() => {}
        _ = term.recv() => tracing::info!("a second signal: ending at once"),
        _ = int.recv() => tracing::info!("a second signal: ending at once"),
    }
}

/// sd_notify(3), for `Type=notify`. Nobody listening is no fault.
fn notify_service_manager(state: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&name),
    };
    if let (Ok(address), Ok(socket)) = (address, UnixDatagram::unbound()) {
        let _ = socket.send_to_addr(state.as_bytes(), &address);
    }
}
