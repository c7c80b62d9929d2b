//! The way to an upstream: `Endpoint` → `Unverified` → `Verified`. Whatever writes a credential takes a `Verified`, so that no secret
//! reaches a server that did not prove who it is.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use keyward_auth::tls::SystemRoots;
use keyward_auth::{Connection, Grant};
use keyward_config::{TlsMode, UpstreamAddress, UpstreamTls};
use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::error::{Party, SessionError, Stage};
use crate::read_ahead::ReadAhead;
use crate::refusal::Refusal;
use crate::stream::{self, Stream};
use crate::tls::{self, UpstreamVerification};

/// One address is tried for this long before the next.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(5);
const TLS_TIMEOUT: Duration = Duration::from_secs(10);

/// What a protocol knows of the way to its servers.
#[derive(Clone, Copy)]
pub struct Preface {
    /// Where the address names no port.
    pub default_port: u16,
    /// ALPN names, to offer upstream and to accept from clients.
    pub alpn: &'static [&'static [u8]],
    /// What protects it.
    pub security: Security,
}

/// What protects the transports of a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// TLS, or nothing.
    Tls,
    /// The protocol itself: its servers are known by host keys.
    HostKeys,
}

/// Where an upstream is and how it is verified. Comes from a grant or from a live session; carries no secret.
#[derive(Clone)]
pub struct Endpoint {
    inner: Arc<Inner>,
    /// The one address of a session that is already there, of those that the name may have.
    at: Option<SocketAddr>,
}

struct Inner {
    place: Place,
    tls: Option<UpstreamTls>,
    alpn: &'static [&'static [u8]],
    roots: Arc<SystemRoots>,
    /// Made at the first TLS; a connection on this machine never needs it.
    verification: OnceLock<UpstreamVerification>,
    insecure: bool,
}

enum Place {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// A transport to a server that has proven nothing yet.
pub struct Unverified {
    endpoint: Endpoint,
    stream: Stream,
    local: bool,
}

/// A transport to a server that may be given a secret.
pub struct Verified {
    endpoint: Endpoint,
    stream: Stream,
    by: VerifiedBy,
    binding: Option<Vec<u8>>,
}

/// By what a server is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifiedBy {
    /// Its certificate: chain and name.
    Certificate,
    /// Its certificate's chain, not its name.
    Chain,
    /// Its pinned public key.
    PinnedKey,
    /// Its host key, which is pinned or in a file of known hosts.
    HostKey,
    /// Its host certificate, by an authority that is trusted for it.
    HostCertificate,
    /// It is on this machine: loopback by resolved address, or a unix socket.
    Local,
    /// By nothing: the connection says `insecure`.
    Insecure,
}

impl VerifiedBy {
    /// A fixed word, for the audit record and `check`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Chain => "chain",
            Self::PinnedKey => "pinned_key",
            Self::HostKey => "host_key",
            Self::HostCertificate => "host_certificate",
            Self::Local => "local",
            Self::Insecure => "insecure",
        }
    }
}

impl Endpoint {
    /// The endpoint of a grant's connection.
    ///
    /// # Errors
    /// `UpstreamUnverified` if the files that the connection names cannot be read any more.
    pub fn of(grant: &Grant, preface: &Preface, roots: &Arc<SystemRoots>) -> Result<Self, SessionError> {
        let made = match grant.host() {
            None => Self::prepare(grant.connection(), preface, roots),
            Some(_) => Self::make(grant.address(), grant.connection(), preface, roots),
        };
        made.map_err(|text| SessionError::new(Refusal::UpstreamUnverified, Party::Proxy, Stage::Connect, text))
    }

    /// The same, once per connection: what the file says of its TLS is read at the first use and at every reload.
    pub(crate) fn prepare(connection: &Connection, preface: &Preface, roots: &Arc<SystemRoots>) -> Result<Self, String> {
        let slot = connection.prepared();
        if let Some(ready) = slot.get().and_then(|slot| slot.downcast_ref::<Self>()) {
            return Ok(ready.clone());
        }
        let address = connection.address().ok_or("a group of servers has no address of its own")?;
        let made = Self::make(address, connection, preface, roots)?;
        // Of two first users one makes it; the other takes what is there.
        let _ = slot.set(Arc::new(made.clone()));
        Ok(slot.get().and_then(|slot| slot.downcast_ref::<Self>()).cloned().unwrap_or(made))
    }

    /// Reads what the file says of the connection's TLS.
    fn make(address: &UpstreamAddress, connection: &Connection, preface: &Preface, roots: &Arc<SystemRoots>) -> Result<Self, String> {
        let place = match address {
            UpstreamAddress::Tcp { host, port } => Place::Tcp { host: host.clone(), port: port.unwrap_or(preface.default_port) },
            UpstreamAddress::Unix(path) => Place::Unix(path.clone()),
        };
        let inner = Inner {
            place,
            tls: connection.tls().cloned(),
            alpn: preface.alpn,
            roots: Arc::clone(roots),
            verification: OnceLock::new(),
            insecure: connection.insecure().is_some(),
        };
        if inner.tls.is_some() {
            inner.verification()?;
        }
        Ok(Self { inner: Arc::new(inner), at: None })
    }

    /// TCP or the unix socket only. Every resolved address is tried, 5 s each; the caller's deadline bounds them all.
    ///
    /// # Errors
    /// `UpstreamUnreachable`.
    pub async fn connect(&self) -> Result<Unverified, SessionError> {
        let unreachable = |error: io::Error| {
            SessionError::new(Refusal::UpstreamUnreachable, Party::Upstream, Stage::Connect, format!("connect: {error}"))
        };
        let stream = match (&self.inner.place, self.at) {
            (Place::Unix(path), _) => Stream::Unix(UnixStream::connect(path).await.map_err(unreachable)?),
            (Place::Tcp { .. }, Some(at)) => Stream::Tcp(connect_any(&[at]).await.map_err(unreachable)?),
            (Place::Tcp { host, port }, None) => {
                let addresses: Vec<_> = tokio::net::lookup_host((host.as_str(), *port)).await.map_err(unreachable)?.collect();
                Stream::Tcp(connect_any(&addresses).await.map_err(unreachable)?)
            }
        };
        let local = match &stream {
            Stream::Unix(_) => true,
            other => other.peer().is_some_and(|peer| peer.ip().to_canonical().is_loopback()),
        };
        Ok(Unverified { endpoint: self.clone(), stream, local })
    }

    /// Whether the other is the same endpoint.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Inner {
    fn verification(&self) -> Result<&UpstreamVerification, String> {
        if let Some(ready) = self.verification.get() {
            return Ok(ready);
        }
        let made = UpstreamVerification::open(self.tls.as_ref(), self.alpn, &self.roots)?;
        Ok(self.verification.get_or_init(|| made))
    }
}

async fn connect_any(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match tokio::time::timeout(ADDRESS_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => {
                stream::tune(&socket)?;
                return Ok(socket);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

impl Unverified {
    /// Whether TLS is to be asked for.
    #[must_use]
    pub fn wants_tls(&self) -> bool {
        match self.endpoint.inner.tls.as_ref().map(|tls| tls.mode) {
            Some(TlsMode::Disable) => false,
            Some(_) => !matches!(self.stream, Stream::Unix(_)),
            None => !self.local,
        }
    }

    /// The name and the port by which the server was asked for; `None` of a unix socket.
    #[must_use]
    pub fn host(&self) -> Option<(&str, u16)> {
        match &self.endpoint.inner.place {
            Place::Tcp { host, port } => Some((host, *port)),
            Place::Unix(_) => None,
        }
    }

    /// Whether it may be given a secret even if nobody knows who it is.
    #[must_use]
    pub(crate) fn is_insecure(&self) -> bool {
        self.endpoint.inner.insecure
    }

    /// The bare stream, for the protocol's preface.
    pub fn preface(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// TLS, after the protocol's preface asked for it.
    ///
    /// # Errors
    /// `UpstreamUnverified`: the certificate is not what the connection asks for.
    pub async fn secure(self) -> Result<Verified, SessionError> {
        let refused = |text: String| SessionError::new(Refusal::UpstreamUnverified, Party::Upstream, Stage::Connect, text);
        let inner = &self.endpoint.inner;
        let verification = inner.verification().map_err(refused)?;
        let (Place::Tcp { host, .. }, Stream::Tcp(socket)) = (&inner.place, self.stream) else {
            return Err(refused("TLS on something that is not TCP".to_owned()));
        };
        let name = verification.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned()).map_err(|_| refused("the server's name fits no certificate".to_owned()))?;
        let connector = TlsConnector::from(Arc::clone(&verification.config));
        let secured = tokio::time::timeout(TLS_TIMEOUT, connector.connect(name, ReadAhead::new(socket))).await;
        let tls = secured.map_err(|_| refused("TLS: too slow".to_owned()))?.map_err(|error| refused(format!("TLS: {error}")))?;
        let binding = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first()).and_then(tls::end_point);
        let by = match verification.mode {
            _ if verification.pinned => VerifiedBy::PinnedKey,
            Some(TlsMode::VerifyFull) | None => VerifiedBy::Certificate,
            Some(TlsMode::VerifyCa) => VerifiedBy::Chain,
            Some(TlsMode::Require | TlsMode::Disable) => exemption(self.local, inner.insecure)?,
        };
        Ok(Verified { endpoint: self.endpoint, stream: Stream::TlsClient(Box::new(tls)), by, binding })
    }

    /// The server has just proven, on this very stream, that it has the host key that it is known by. Whoever calls this has checked both.
    #[must_use]
    pub(crate) fn known_by(self, known: HostKnown) -> Verified {
        let by = match known {
            HostKnown::Key => VerifiedBy::HostKey,
            HostKnown::Certificate => VerifiedBy::HostCertificate,
        };
        Verified { endpoint: self.endpoint, stream: self.stream, by, binding: None }
    }

    /// Nobody knows the server's host key: only where the connection says `insecure`. That it is on this machine does not count: a host key
    /// tells servers on one address apart.
    ///
    /// # Errors
    /// `UpstreamUnverified`.
    pub(crate) fn unknown(self) -> Result<Verified, SessionError> {
        let by = exemption(false, self.endpoint.inner.insecure)?;
        Ok(Verified { endpoint: self.endpoint, stream: self.stream, by, binding: None })
    }

    /// No TLS: only on this machine, or where the connection says `insecure`.
    ///
    /// # Errors
    /// `UpstreamUnverified`.
    pub fn exempt(self) -> Result<Verified, SessionError> {
        let by = exemption(self.local, self.endpoint.inner.insecure)?;
        Ok(Verified { endpoint: self.endpoint, stream: self.stream, by, binding: None })
    }
}

/// How a server's host key is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostKnown {
    /// By itself.
    Key,
    /// By a certificate of an authority.
    Certificate,
}

fn exemption(local: bool, insecure: bool) -> Result<VerifiedBy, SessionError> {
    match (local, insecure) {
        (true, _) => Ok(VerifiedBy::Local),
        (false, true) => Ok(VerifiedBy::Insecure),
        (false, false) => Err(SessionError::new(
            Refusal::UpstreamUnverified,
            Party::Upstream,
            Stage::Connect,
            "the server cannot be verified and the connection does not say `insecure`",
        )),
    }
}

impl Verified {
    /// Where it leads.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The same server again: the address that this transport has, not another one of its name.
    #[must_use]
    pub fn same_server(&self) -> Endpoint {
        Endpoint { at: self.stream.peer(), ..self.endpoint.clone() }
    }

    /// By what the server is verified.
    #[must_use]
    pub fn by(&self) -> VerifiedBy {
        self.by
    }

    /// `tls-server-end-point` of the server's certificate, inside TLS and where it has one.
    #[must_use]
    pub fn binding(&self) -> Option<&[u8]> {
        self.binding.as_deref()
    }

    /// The transport, for the login.
    pub fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// The transport, once the login is done.
    #[must_use]
    pub fn into_stream(self) -> Stream {
        self.stream
    }
}
