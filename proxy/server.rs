//! The server: listeners, the budget of handshakes, a task for each link, the one place that logs how a link ended, and the drain.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use ipnet::IpNet;
use keyward_auth::{Gate, SessionId, Source, ThrottleKey};
use keyward_config::{Config, Limits, ListenAddress, Listener};
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::audit::{Audit, Denied};
use crate::budget::Handshakes;
use crate::ca::LocalCa;
use crate::error::{Party, SessionError, Stage};
use crate::link::{Claimed, Doorway, Link, Stages};
use crate::metrics::Metrics;
use crate::protocol::{self, Kind, Served};
use crate::proxy_protocol;
use crate::refusal::{Reason, Refusal};
use crate::registry::Registry;
use crate::relay::Pool;
use crate::stream::{self, Stream};
use crate::tls::ServerIdentity;

/// Half-open and not yet accepted connections that the kernel keeps for a listener.
const BACKLOG: u32 = 1024;
/// After an accept error (no file descriptors left, say) the listener rests.
const REST: Duration = Duration::from_millis(100);

/// Sessions that were told to end, and leases that are to be given back, have this long.
const CUT: Duration = Duration::from_secs(5);

/// What every link needs. Handles are passed in; there is no global.
pub struct Proxy {
    /// Who may what, and with which credential.
    pub gate: Arc<Gate>,
    /// The live sessions.
    pub registry: Arc<Registry>,
    /// The audit record.
    pub audit: Audit,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Buffers of the relay.
    pub pool: Pool,
    /// Set once: no new links, and handshakes end.
    pub draining: CancellationToken,
    limits: ArcSwap<Limits>,
    handshakes: Arc<Handshakes>,
    links: TaskTracker,
}

impl Proxy {
    /// Puts the handles together.
    #[must_use]
    pub fn new(gate: Arc<Gate>, audit: Audit, metrics: Arc<Metrics>, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            gate,
            audit,
            metrics,
            registry: Arc::default(),
            pool: Pool::default(),
            draining: CancellationToken::new(),
            limits: ArcSwap::from_pointee(limits),
            handshakes: Arc::default(),
            links: TaskTracker::new(),
        })
    }

    /// The limits now in force.
    #[must_use]
    pub fn limits(&self) -> Arc<Limits> {
        self.limits.load_full()
    }

    /// New limits, for what begins from now on.
    pub fn set_limits(&self, limits: Limits) {
        self.limits.store(Arc::new(limits));
    }

    /// Ends everything in order: handshakes, sessions (left alone for `drain_timeout`, then told why), leases, the record.
    pub async fn drain(&self) {
        let limit = self.limits().drain_timeout.get();
        self.draining.cancel();
        self.links.close();
        if !self.registry.drained(limit).await {
            let ended = self.registry.end_where(Reason::Drain, |_| true);
            tracing::info!(sessions = ended, "drain: the time is over, ending the sessions that are left");
        }
        if tokio::time::timeout(CUT, self.links.wait()).await.is_err() {
            tracing::warn!(sessions = self.registry.count(), "drain: cutting what is left");
        }
        let waiting = self.gate.drain(CUT).await;
        if waiting > 0 {
            tracing::warn!(leases = waiting, "drain: leases that could not be given back yet are left to the next start");
        }
        self.audit.finish().await;
    }
}

/// The listeners of the process.
pub struct Server {
    proxy: Arc<Proxy>,
    open: Mutex<HashMap<ListenAddress, Open>>,
}

struct Open {
    door: Arc<ArcSwap<Door>>,
    stop: CancellationToken,
}

/// What may change of a listener while its socket stays.
struct Door {
    kind: &'static Kind,
    way: Arc<Doorway>,
    proxies: Vec<IpNet>,
}

/// Listeners that are ready to be served: their address, what they lead to, and the socket of a new one.
pub struct Prepared(Vec<(ListenAddress, Door, Option<Socket>)>);

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Server {
    /// A server without listeners.
    #[must_use]
    pub fn new(proxy: Arc<Proxy>) -> Self {
        Self { proxy, open: Mutex::default() }
    }

    /// Makes the listeners of the file ready: new ones are bound, nothing is closed yet. Dropping the result leaves all as it is.
    ///
    /// # Errors
    /// A text for the operator.
    pub fn prepare(&self, config: &Config, ca: &LocalCa) -> Result<Prepared, String> {
        let open = self.lock();
        let mut prepared = Prepared(Vec::new());
        for listener in &config.listeners {
            let address = &listener.address.value;
            let failed = |text: String| format!("listener {}: {text}", shown(address));
            let door = Door::open(listener, ca).map_err(failed)?;
            // The socket of an address that stays is kept, with what waits in it.
            let socket = if open.contains_key(address) { None } else { Some(bind(address).map_err(|error| failed(error.to_string()))?) };
            prepared.0.push((address.clone(), door, socket));
        }
        Ok(prepared)
    }

    /// Serves what was made ready, and closes what is no longer there. Does not fail.
    pub fn commit(&self, prepared: Prepared) {
        let mut open = self.lock();
        open.retain(|address, listener| {
            let stays = prepared.0.iter().any(|(kept, _, _)| kept == address);
            if !stays {
                listener.stop.cancel();
            }
            stays
        });
        for (address, door, socket) in prepared.0 {
            let Some(socket) = socket else {
                if let Some(listener) = open.get(&address) {
                    listener.door.store(Arc::new(door));
                }
                continue;
            };
            tracing::info!(protocol = door.way.protocol, address = socket.shown(), "listening");
            let door = Arc::new(ArcSwap::from_pointee(door));
            let stop = self.proxy.draining.child_token();
            tokio::spawn(accept(Arc::clone(&self.proxy), socket, Arc::clone(&door), stop.clone()));
            open.insert(address, Open { door, stop });
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ListenAddress, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Door {
    fn open(listener: &Listener, ca: &LocalCa) -> Result<Self, String> {
        let kind = protocol::kind(listener.protocol).ok_or("no such protocol")?;
        let identity = match &listener.address.value {
            ListenAddress::Unix(_) => None,
            address => Some(ServerIdentity::open(listener.tls.as_ref().map(|tls| &tls.value), address, ca, kind.alpn)?),
        };
        let way = Arc::new(Doorway {
            protocol: kind.settings.name,
            connection: listener.connection.as_ref().map(|name| name.value.clone()),
            identity,
            settings: Arc::clone(&listener.settings),
        });
        Ok(Self { kind, way, proxies: listener.proxy_protocol.clone() })
    }
}

fn shown(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Tcp(address) => address.to_string(),
        ListenAddress::Unix(path) => path.display().to_string(),
    }
}

fn bind(address: &ListenAddress) -> io::Result<Socket> {
    match address {
        ListenAddress::Tcp(address) => {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.set_reuseaddr(true)?;
            socket.bind(*address)?;
            socket.listen(BACKLOG).map(Socket::Tcp)
        }
        ListenAddress::Unix(path) => bind_unix(path).map(Socket::Unix),
    }
}

/// A socket file that nobody answers on was left by a killed process.
pub(crate) fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if path.exists() && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

impl Socket {
    async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, peer) = listener.accept().await?;
                stream::tune(&socket)?;
                Ok((Stream::Tcp(socket), Some(peer)))
            }
            Self::Unix(listener) => Ok((Stream::Unix(listener.accept().await?.0), None)),
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(|address| address.to_string()).unwrap_or_default(),
            Self::Unix(listener) => {
                let address = listener.local_addr().ok();
                address.and_then(|address| address.as_pathname().map(|path| path.display().to_string())).unwrap_or_default()
            }
        }
    }
}

async fn accept(proxy: Arc<Proxy>, socket: Socket, door: Arc<ArcSwap<Door>>, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => drop(proxy.links.spawn(link(Arc::clone(&proxy), door.load_full(), stream, peer))),
            Err(error) => {
                tracing::warn!(%error, "accept");
                tokio::time::sleep(REST).await;
            }
        }
    }
    if let Socket::Unix(listener) = &socket
        && let Ok(address) = listener.local_addr()
        && let Some(path) = address.as_pathname()
    {
        let _ = std::fs::remove_file(path);
    }
}

/// One link from its first byte to its last.
async fn link(proxy: Arc<Proxy>, door: Arc<Door>, mut stream: Stream, peer: Option<SocketAddr>) {
    let limits = proxy.limits();
    let deadline = Instant::now().checked_add(limits.handshake_timeout.get()).unwrap_or_else(Instant::now);
    let protocol = door.way.protocol;
    proxy.metrics.link(protocol);
    let socket_ip = peer.map(|peer| peer.ip().to_canonical());
    let behind_proxy = socket_ip.is_some_and(|ip| door.proxies.iter().any(|net| net.contains(&ip)));
    // Behind a balancer the address is known only after its header: until then the link counts in all, not per address.
    let Some(mut handshake) = proxy.handshakes.admit(throttle(socket_ip).filter(|_| !behind_proxy), &limits) else {
        return turned_away(&proxy, protocol);
    };
    let mut client = peer;
    if behind_proxy {
        let header = tokio::time::timeout_at(deadline.into(), proxy_protocol::read(&mut stream)).await;
        match header {
            Ok(Ok(said)) => client = said.or(peer),
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return proxy.metrics.probe(protocol),
            Ok(Err(error)) => return tracing::warn!(peer = ?peer, %error, "no PROXY protocol header from a source that must send one"),
            Err(_) => return,
        }
        let ip = client.map(|client| client.ip().to_canonical());
        let Some(own) = proxy.handshakes.admit(throttle(ip), &limits) else { return turned_away(&proxy, protocol) };
        handshake = own;
    }
    let ip = client.map(|client| client.ip().to_canonical());
    let local = |ip: Option<IpAddr>| ip.is_none_or(|ip| ip.is_loopback());
    let mut link = Link {
        id: SessionId::random(),
        source: ip.map_or_else(Source::local, Source::tcp),
        peer: client.map_or_else(|| "unix".to_owned(), |client| client.to_string()),
        local: local(ip) && local(socket_ip),
        door: Arc::clone(&door.way),
        proxy,
        stages: Stages::default(),
        claimed: Claimed::default(),
        deadline,
        handshake: Some(handshake),
    };
    let span = tracing::info_span!("link", protocol, id = %link.id, peer = link.peer);
    async {
        let served = AssertUnwindSafe((door.kind.serve)(&mut link, &mut stream)).catch_unwind().await;
        match served {
            Ok(Ok(Served::Probe)) => link.proxy.metrics.probe(protocol),
            Ok(Ok(Served::Request | Served::Session(_))) => {}
            Ok(Err(error)) if error.left => tracing::debug!(%error, "left"),
            Ok(Err(error)) => refused(&link, &error),
            // The panic's own message is on standard error already; it holds no text from a peer.
            Err(_) => tracing::error!("a session panicked; only this link is lost"),
        }
    }
    .instrument(span)
    .await;
}

fn throttle(ip: Option<IpAddr>) -> Option<ThrottleKey> {
    ip.map(|ip| Source::tcp(ip).throttle_key())
}

/// No place among the handshakes: the socket is closed without a word, and counted only. Anything more would cost us more than it costs
/// whoever floods us.
fn turned_away(proxy: &Proxy, protocol: &'static str) {
    proxy.metrics.refusal(protocol, &SessionError::new(Refusal::Busy, Party::Client, Stage::Open, "no place among the handshakes"));
}

/// The one place that logs, counts and records why a login was refused.
fn refused(link: &Link, error: &SessionError) {
    match error.party {
        Party::Client => tracing::info!(%error, "refused"),
        Party::Upstream | Party::Store => tracing::warn!(%error, "refused"),
        Party::Proxy => tracing::error!(%error, "refused"),
    }
    link.proxy.metrics.refusal(link.door.protocol, error);
    link.proxy.audit.denied(&Denied {
        session: link.id,
        protocol: link.door.protocol,
        peer: &link.peer,
        user: link.claimed.user.as_deref(),
        connection: link.claimed.connection.as_deref(),
        error,
    });
}
