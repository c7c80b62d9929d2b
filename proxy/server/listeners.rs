//! The listeners: what each leads to, which of them a reload opens and closes, and the links that come in.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use keyward_config::{Config, ListenAddress, Listener};
use tokio_util::sync::CancellationToken;

use super::{Proxy, link};
use crate::ca::LocalCa;
use crate::link::Doorway;
use crate::listen::Socket;
use crate::protocol::{self, Kind};
use crate::tls::ServerIdentity;
use crate::upstream::Security;

/// After an accept error (no file descriptors left, say) the listener rests.
const REST: Duration = Duration::from_millis(100);

/// A new socket is opened before an old one is closed: whatever goes wrong, users find one.
const OWN_PORT: &str = "a listener of the present file has this port: restart to change its address";

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
pub(crate) struct Door {
    pub(super) kind: &'static Kind,
    pub(super) way: Arc<Doorway>,
    /// Sources that must send a PROXY protocol header, and the only ones that may.
    pub(super) balancers: Vec<IpNet>,
}

/// Listeners that are ready to be served: their address, what they lead to, and the socket of a new one.
pub struct Prepared(Vec<(ListenAddress, Door, Option<Socket>)>);

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
            let failed = |text: String| format!("listener {address}: {text}");
            let door = Door::open(&self.proxy, listener, ca).map_err(failed)?;
            // The socket of an address that stays is kept, with what waits in it.
            let socket = if open.contains_key(address) {
                None
            } else {
                let own = || address.port().is_some() && open.keys().any(|old| old.port() == address.port());
                let bound = Socket::bind(address);
                Some(bound.map_err(|error| match error.kind() {
                    io::ErrorKind::AddrInUse if own() => failed(format!("{error}; {OWN_PORT}")),
                    _ => failed(error.to_string()),
                })?)
            };
            prepared.0.push((address.clone(), door, socket));
        }
        Ok(prepared)
    }

    /// Serves what was made ready, and closes what is no longer there. Does not fail. The addresses whose certificate the admin has replaced.
    pub fn commit(&self, prepared: Prepared) -> Vec<ListenAddress> {
        let mut open = self.lock();
        let mut renewed = Vec::new();
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
                    if door.has_another_certificate_than(&listener.door.load()) {
                        renewed.push(address);
                    }
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
        renewed
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ListenAddress, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Door {
    fn open(proxy: &Proxy, listener: &Listener, ca: &LocalCa) -> Result<Self, String> {
        let kind = protocol::kind(listener.protocol).ok_or("no such protocol")?;
        (kind.ready)(proxy, ca.state())?;
        let identity = match &listener.address.value {
            ListenAddress::Unix(_) => None,
            _ if kind.preface.security == Security::HostKeys => None,
            address => Some(ServerIdentity::open(listener.tls.as_ref().map(|tls| &tls.value), address, ca, kind.preface.alpn)?),
        };
        let way = Arc::new(Doorway {
            protocol: kind.settings.name,
            connection: listener.connection.as_ref().map(|name| name.value.clone()),
            identity,
            settings: Arc::clone(&listener.settings),
        });
        Ok(Self { kind, way, balancers: listener.proxy_protocol.clone() })
    }

    fn has_another_certificate_than(&self, former: &Self) -> bool {
        let [now, then] = [self, former].map(|door| door.way.identity.as_ref().and_then(|identity| identity.given.as_ref()));
        now.zip(then).is_some_and(|(now, then)| now != then)
    }
}

async fn accept(proxy: Arc<Proxy>, socket: Socket, door: Arc<ArcSwap<Door>>, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => drop(proxy.links.spawn(link(Arc::clone(&proxy), Arc::clone(&door), stream, peer))),
            // The connection itself failed: the next one may be fine.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {}
            Err(error) => {
                tracing::warn!(%error, "accept");
                tokio::time::sleep(REST).await;
            }
        }
    }
    socket.remove();
}
