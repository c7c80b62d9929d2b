//! The server: listeners, the budget of handshakes, a task for each link, the one place that logs how a link ended, and the drain.

mod listeners;

use std::any::Any;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use keyward_auth::tls::SystemRoots;
use keyward_auth::{Gate, Source};
use keyward_config::{Limits, Settings};
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::audit::{Audit, Denied};
use crate::budget::Handshakes;
use crate::error::{Party, SessionError, Stage};
use crate::link::{Claimed, Link};
use crate::metrics::Metrics;
use crate::protocol::{self, Served};
use crate::proxy_protocol;
use crate::refusal::{Reason, Refusal};
use crate::registry::Registry;
use crate::relay::Pool;
use crate::stream::Stream;
use crate::woken::Woken;

pub(crate) use listeners::Door;
pub use listeners::{Prepared, Server};

/// Sessions that were told to end have this long: to finish a message, to tell the client, and to stop what runs upstream.
const LAST_WORDS: Duration = Duration::from_secs(20);
/// A client has this long to close, once it was told why we do, and so much may be under way from it: twice the window that sshd gives. One
/// that goes on for longer is reset.
const PARTING: Duration = Duration::from_secs(2);
const UNHEARD: u64 = 4 * 1024 * 1024;
/// Leases that are to be given back have this long; the rest is left to the next start.
const GIVE_BACK: Duration = Duration::from_secs(10);

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
    /// What each protocol keeps, by its name.
    kept: HashMap<&'static str, Settings>,
    roots: ArcSwap<SystemRoots>,
    /// Set last: what is left of the links is dropped.
    cut: CancellationToken,
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
            kept: protocol::KINDS.iter().map(|kind| (kind.settings.name, (kind.keeps)())).collect(),
            roots: ArcSwap::default(),
            cut: CancellationToken::new(),
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

    /// What a protocol keeps for the whole process; `None` if `T` is not the type that its row makes.
    #[must_use]
    pub fn kept<T: Any>(&self, protocol: &str) -> Option<&T> {
        self.kept.get(protocol)?.downcast_ref()
    }

    /// Tells every protocol that the file was read, at the start or at a reload.
    pub fn opened(self: &Arc<Self>) {
        protocol::KINDS.iter().for_each(|kind| (kind.opened)(self));
    }

    /// The system's certificate authorities.
    #[must_use]
    pub fn roots(&self) -> Arc<SystemRoots> {
        self.roots.load_full()
    }

    /// The system's authorities are read anew when they are next needed.
    pub fn forget_roots(&self) {
        self.roots.store(Arc::default());
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
        if tokio::time::timeout(LAST_WORDS, self.links.wait()).await.is_err() {
            tracing::warn!(sessions = self.registry.count(), "drain: cutting what is left");
            self.cut.cancel();
            self.links.wait().await;
        }
        let waiting = self.gate.drain(GIVE_BACK).await;
        if waiting > 0 {
            tracing::warn!(leases = waiting, "drain: leases that could not be given back yet are left to the next start");
        }
        self.audit.finish().await;
    }
}

/// One link from its first byte to its last.
async fn link(proxy: Arc<Proxy>, listener: Arc<ArcSwap<Door>>, mut stream: Stream, peer: Option<SocketAddr>) {
    let door = listener.load_full();
    proxy.metrics.link(door.way.protocol);
    let Some(mut link) = enter(&proxy, &door, &mut stream, peer).await else { return };
    link.listener = Some(listener);
    attend(link, stream, door.kind.serve).await;
}

/// Serves a link that runs inside this one, such as a channel of SSH: on a task of its own, and for itself in every limit, log and record.
/// `false`: there is no place for it among the handshakes.
pub(crate) fn inside<S>(outer: &Link, stream: Stream, serve: S) -> bool
where
    S: for<'a> FnOnce(&'a mut Link, &'a mut Stream) -> BoxFuture<'a, Result<Served, SessionError>> + Send + 'static,
{
    let proxy = &outer.proxy;
    let limits = proxy.limits();
    proxy.metrics.link(outer.door.protocol);
    let address = outer.source.address().map(|_| outer.source.throttle_key());
    let Some(handshake) = proxy.handshakes.admit(address, &limits) else {
        turned_away(proxy, outer.door.protocol);
        return false;
    };
    // What a reload changed of the listener counts for those who begin now.
    let present = outer.listener.as_ref().map(|listener| Arc::clone(&listener.load().way));
    let door = present.filter(|way| way.protocol == outer.door.protocol).unwrap_or_else(|| Arc::clone(&outer.door));
    let mut link = Link::new(proxy, &door);
    link.handshake = Some(handshake);
    link.listener.clone_from(&outer.listener);
    (link.source, link.peer, link.local) = (outer.source, outer.peer.clone(), outer.local);
    drop(proxy.links.spawn(attend(link, stream, serve)));
    true
}

async fn attend<S>(mut link: Link, mut stream: Stream, serve: S)
where
    S: for<'a> FnOnce(&'a mut Link, &'a mut Stream) -> BoxFuture<'a, Result<Served, SessionError>>,
{
    let (proxy, protocol) = (Arc::clone(&link.proxy), link.door.protocol);
    let span = tracing::info_span!("link", protocol, id = %link.id, peer = link.peer);
    async {
        let served = AssertUnwindSafe(serve(&mut link, &mut stream)).catch_unwind();
        let cut = pin!(proxy.cut.cancelled());
        let served = tokio::select! {
            biased;
            served = served => served,
            // Dropped where it is: its guards close the record and give the lease back.
            () = Woken::new(cut) => return,
        };
        // Those of a login that succeeded were counted when it did.
        link.count_stages();
        match served {
            Ok(Ok(Served::Probe)) => proxy.metrics.probe(protocol),
            Ok(Ok(Served::Request)) => {}
            Ok(Ok(Served::Session(end))) => tracing::debug!(?end, "session ended"),
            Ok(Err(error)) if error.left => tracing::debug!(%error, "left"),
            Ok(Err(error)) => refused(&link, &link.claimed, &error),
            // The panic's own message is on standard error already; it holds no text from a peer.
            Err(_) => tracing::error!("a session panicked; only this link is lost"),
        }
        // What the client still says is read and thrown away until it closes too: a socket that is closed with bytes in it resets the
        // connection, and the client would lose what it has not read yet, which is why we close.
        let mut nobody = tokio::io::sink();
        let mut unheard = AsyncReadExt::take(&mut stream, UNHEARD);
        let unheard = tokio::io::copy(&mut unheard, &mut nobody);
        tokio::select! {
            _ = tokio::time::timeout(PARTING, unheard) => {}
            () = proxy.cut.cancelled() => {}
        }
    }
    .instrument(span)
    .await;
}

/// Takes a place among the handshakes, and learns who connects from the balancer in front, if there is one.
async fn enter(proxy: &Arc<Proxy>, door: &Door, stream: &mut Stream, peer: Option<SocketAddr>) -> Option<Link> {
    let limits = proxy.limits();
    let protocol = door.way.protocol;
    let turned_away = || turned_away(proxy, protocol);
    let socket_ip = peer.map(|peer| peer.ip().to_canonical());
    let behind_balancer = socket_ip.is_some_and(|ip| door.balancers.iter().any(|net| net.contains(&ip)));
    let mut link = Link::new(proxy, &door.way);
    let mut client = peer;
    if behind_balancer {
        // Until its header says who it is, the link counts in all, not per address.
        link.handshake = Some(proxy.handshakes.admit(None, &limits).or_else(|| {
            turned_away();
            None
        })?);
        let bounds = link.bounds();
        let header = async { proxy_protocol::read(stream).await.map_err(|error| SessionError::client_io(Stage::Open, &error)) };
        match bounds.run(header).await {
            Ok(said) => client = said.or(peer),
            Err(error) if error.left => {
                proxy.metrics.probe(protocol);
                return None;
            }
            Err(error) => {
                tracing::info!(peer = ?peer, %error, "no PROXY protocol header from a source that must send one");
                proxy.metrics.refusal(protocol, &error);
                return None;
            }
        }
        link.handshake = None;
    }
    let ip = client.map(|client| client.ip().to_canonical());
    let throttle = ip.map(|ip| Source::tcp(ip).throttle_key());
    link.handshake = Some(proxy.handshakes.admit(throttle, &limits).or_else(|| {
        turned_away();
        None
    })?);
    let local = |ip: Option<IpAddr>| ip.is_none_or(|ip| ip.is_loopback());
    link.local = local(ip) && local(socket_ip);
    link.source = ip.map_or_else(Source::local, Source::tcp);
    link.peer = client.map_or_else(|| "unix".to_owned(), |client| client.to_string());
    Some(link)
}

/// Counted only: anything more would cost us more than it costs whoever floods us.
fn turned_away(proxy: &Proxy, protocol: &'static str) {
    let error = SessionError::new(Refusal::Busy, Party::Client, Stage::Open, "no place among the handshakes");
    proxy.metrics.refusal(protocol, &error);
}

/// The one place that logs, counts and records why a login was refused: the first of a link, or one more in its session. What did not
/// come as far as a name is no login: scanners and broken probes are counted, and would only hide the others in the record. What clients do
/// wrong is logged as often as it is recorded: one of them can ask for more than a disk holds.
pub(crate) fn refused(link: &Link, claimed: &Claimed, error: &SessionError) {
    link.proxy.metrics.refusal(link.door.protocol, error);
    let by_drain = error.refusal == Refusal::ShuttingDown;
    if claimed.user.is_none() && (by_drain || error.party == Party::Client) {
        return tracing::debug!(%error, "refused");
    }
    let recorded = link.proxy.audit.denied(&Denied {
        session: link.id,
        protocol: link.door.protocol,
        peer: &link.peer,
        user: claimed.user.as_deref(),
        connection: claimed.connection.as_deref(),
        noted: &link.noted,
        error,
    });
    match error.party {
        Party::Client if recorded => tracing::info!(%error, "refused"),
        Party::Client => tracing::debug!(%error, "refused"),
        Party::Proxy if by_drain => tracing::info!(%error, "refused"),
        Party::Upstream | Party::Store => tracing::warn!(%error, "refused"),
        Party::Proxy => tracing::error!(%error, "refused"),
    }
}
