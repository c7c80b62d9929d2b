//! A process, a door and a client of our own, for this folder's tests.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keyward_auth::{Connection, Gate, Observer, Secret, SessionId, Source, Verifier};
use keyward_config::{Assets, Config, Kinds, ListenAddress, OnFailure, Problems, ProtocolSettings, Section, StoreSettings};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::NAME;
use super::capabilities::Capabilities;
use super::packet::{LOGIN_MAX, Packets};
use super::settings::{ConnectionSettings, ListenerSettings, LoginMethod};
use super::wire::{Answer, Attributes};
use crate::audit::Audit;
use crate::ca::LocalCa;
use crate::link::{Claimed, Doorway, Link, Stages};
use crate::metrics::Metrics;
use crate::read_ahead::ReadAhead;
use crate::server::Proxy;
use crate::stream::Stream;
use crate::tls::ServerIdentity;

pub(super) const PASSWORD: &str = "correct horse";
const PROTOCOLS: &[ProtocolSettings] = &[ProtocolSettings {
    name: NAME,
    listener: Section::of::<ListenerSettings>(),
    connection: Section::of::<ConnectionSettings>(),
    access: None,
    assets: Assets::Databases,
}];

/// A gate of `alice`, whose password is [`PASSWORD`], of `empty`, whose password is empty, and of these connections.
pub(super) fn gate(connections: &str) -> Arc<Gate> {
    let (config, mut problems) = config(connections);
    let gate = Gate::for_operator(&config, Arc::new(Metrics::default()) as Arc<dyn Observer>, &mut problems);
    gate.unwrap_or_else(|| panic!("{problems}"))
}

/// The connections of a file, such as `orders: { address: "db:3306" }`.
pub(super) fn connections(entries: &[&str]) -> Vec<Arc<Connection>> {
    let entry = |entry: &&str| {
        entry.replacen("{ ", &format!("{{ protocol: {NAME}, username: {{ literal: app }}, password: {{ literal: hidden }}, "), 1)
    };
    let entries: Vec<String> = entries.iter().map(entry).collect();
    gate(&format!("connections:\n  {}\n", entries.join("\n  "))).connections(NAME)
}

fn config(connections: &str) -> (Config, Problems) {
    let [alice, empty] = [PASSWORD, ""].map(|password| Verifier::make_scram(&Secret::from(password.to_owned())).expect("random numbers"));
    let text = format!(
        "state: /nowhere\nlimits: {{ failed_logins: 3, lock_time: 5m }}\nlisteners: [{{ protocol: {NAME}, address: \"127.0.0.1:3306\" }}]\n\
         users:\n  alice: {{ password: \"{alice}\" }}\n  empty: {{ password: \"{empty}\" }}\n{connections}"
    );
    let stores: Vec<StoreSettings> = keyward_auth::KINDS.iter().map(|kind| kind.settings).collect();
    let loaded = keyward_config::parse(Path::new("keyward.yaml"), &text, &Kinds { protocols: PROTOCOLS, stores: &stores });
    assert!(!loaded.problems.has_errors(), "{}", loaded.problems);
    (loaded.config.expect("a config"), Problems::new(Path::new("keyward.yaml")))
}

/// A link of a client on this machine, as `server.rs` would hand it in, and what that client trusts.
pub(super) struct Bench {
    pub(super) link: Link,
    roots: RootCertStore,
    _state: tempfile::TempDir,
}

impl Bench {
    pub(super) fn new(login: LoginMethod) -> Self {
        let state = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::default());
        let audit = Audit::open(&state.path().join("audit"), OnFailure::Refuse, Arc::clone(&metrics)).unwrap();
        let ca = LocalCa::open(state.path()).unwrap();
        let address = ListenAddress::Tcp((Ipv4Addr::LOCALHOST, 3306).into());
        let identity = ServerIdentity::open(None, &address, &ca, &[]).unwrap();
        let settings = Arc::new(ListenerSettings { login });
        let door = Doorway { protocol: NAME, connection: None, identity: Some(identity), settings };
        let link = Link {
            id: SessionId::random(),
            source: Source::tcp(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            peer: "127.0.0.1:1".to_owned(),
            local: true,
            door: Arc::new(door),
            proxy: Proxy::new(gate(""), audit, metrics, config("").0.limits),
            stages: Stages::default(),
            claimed: Claimed::default(),
            deadline: Instant::now().checked_add(Duration::from_secs(30)).unwrap(),
            handshake: None,
            listener: None,
            noted: Vec::new(),
        };
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
        Self { link, roots, _state: state }
    }

    /// As if the client came from another machine.
    pub(super) fn remote(mut self) -> Self {
        self.link.local = false;
        self
    }

    /// As on a unix socket: there is no TLS.
    pub(super) fn without_tls(mut self) -> Self {
        let ListenerSettings { login } = self.link.door.settings.downcast_ref().unwrap();
        let settings = Arc::new(ListenerSettings { login: *login });
        self.link.door = Arc::new(Doorway { protocol: NAME, connection: None, identity: None, settings });
        self
    }

    /// The client's half of a TLS handshake, which trusts our certificate and nothing else.
    pub(super) async fn secure(&self, client: &mut Stream) -> std::io::Result<()> {
        let config = ClientConfig::builder().with_root_certificates(self.roots.clone()).with_no_client_auth();
        let Stream::Tcp(socket) = client.take() else { panic!("TLS on something that is not TCP") };
        let name = ServerName::try_from("localhost").unwrap();
        *client = Stream::TlsClient(Box::new(TlsConnector::from(Arc::new(config)).connect(name, ReadAhead::new(socket)).await?));
        Ok(())
    }

    /// Both ends of a TCP connection inside TLS: the client's and ours.
    pub(super) async fn tls(&self) -> (Stream, Stream) {
        let (mut theirs, ours) = tcp().await;
        let Stream::Tcp(ours) = ours else { panic!() };
        let accepting = self.link.door.identity.as_ref().unwrap().accept(ours);
        let (connected, accepted) = tokio::join!(self.secure(&mut theirs), accepting);
        connected.unwrap();
        (theirs, Stream::TlsServer(Box::new(accepted.unwrap())))
    }
}

/// Both ends of a TCP connection: the client's and ours.
pub(super) async fn tcp() -> (Stream, Stream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (theirs, ours) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (Stream::Tcp(theirs.unwrap()), Stream::Tcp(ours.unwrap().0))
}

/// Both ends of a unix socket: the client's and ours.
pub(super) fn unix() -> (Stream, Stream) {
    let (theirs, ours) = UnixStream::pair().unwrap();
    (Stream::Unix(theirs), Stream::Unix(ours))
}

/// What a client of today answers.
pub(super) fn answer(user: &str, plugin: &[u8], auth: &[u8]) -> Answer {
    let flags = [
        Capabilities::LONG_PASSWORD,
        Capabilities::PROTOCOL_41,
        Capabilities::SECURE_CONNECTION,
        Capabilities::PLUGIN_AUTH,
        Capabilities::PLUGIN_AUTH_LENENC,
    ];
    Answer {
        capabilities: flags.into_iter().fold(Capabilities::NONE, Capabilities::or),
        max_packet: 1 << 24,
        charset: 45,
        user: user.as_bytes().to_vec(),
        auth: auth.to_vec().into(),
        database: None,
        plugin: plugin.to_vec(),
        attributes: Attributes::new(),
    }
}

/// A client in the middle of its login.
pub(super) struct Client {
    pub(super) stream: Stream,
    pub(super) packets: Packets,
}

impl Client {
    pub(super) fn at(stream: Stream, next: u8) -> Self {
        Self { stream, packets: Packets::at(next) }
    }

    pub(super) async fn say(&mut self, payload: &[u8]) {
        self.packets.write(&mut self.stream, payload).await.unwrap();
    }

    /// The next packet, or nothing if the other side has closed.
    pub(super) async fn hear(&mut self) -> Vec<u8> {
        self.packets.read_or_end(&mut self.stream, LOGIN_MAX).await.unwrap().map(|payload| payload.to_vec()).unwrap_or_default()
    }
}
