//! The way to the server: one connection, verified like any upstream, kept and shared. What the driver itself holds of a login and of an answer
//! is not overwritten when it is freed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use keyward_config::{TlsMode, UpstreamAddress, UpstreamTls};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, NoTls, Row};
use tokio_rustls::TlsConnector;

use super::bounded::{Allowance, Bounded};
use super::errors::{explain, login_failed};
use crate::store::{Input, StoreError, StoreErrorKind, text};
use crate::tls::{SystemRoots, UpstreamVerification};

const PORT: u16 = 5432;
/// Until one address answers; until TLS is there and the login is done (vault.md §14.1).
const DIAL: Duration = Duration::from_secs(2);
const LOGIN: Duration = Duration::from_secs(5);
/// Until an answer is there. The server itself gives up after 2 s.
const ANSWER: Duration = Duration::from_secs(3);
/// Those who come right after a failed login share its failure: a server must not be stormed, nor lock us out.
const SHARE_FAILURE: Duration = Duration::from_secs(1);
/// What one answer may take: the longest value, twice, with what frames it. The same for a login.
const ONE_ANSWER: usize = 2 * text::MAX + 64 * 1024;
/// What the server is told of every connection: to give up in time, and that we change nothing.
const OPTIONS: &str = "-c statement_timeout=2000 -c default_transaction_read_only=on";
/// SSLRequest (PostgreSQL's manual, "Message Formats").
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// The server and our login there.
pub(super) struct Server {
    pub(super) address: UpstreamAddress,
    pub(super) database: String,
    pub(super) username: Input,
    pub(super) password: Option<Input>,
    pub(super) tls: Option<UpstreamTls>,
    verification: OnceLock<UpstreamVerification>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    session: Option<Arc<Session>>,
    failed: Option<(Instant, StoreError)>,
}

/// A connection that is logged in. Ends when it is dropped.
struct Session {
    client: Client,
    allowance: Allowance,
    /// It left a question without an answer.
    silent: AtomicBool,
}

/// Whether a connection was there before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Age {
    Kept,
    New,
}

/// The stream, as far as a login cares.
trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Transport for S {}

impl Server {
    /// # Errors
    /// What of its TLS cannot be used.
    pub(super) fn new(
        address: UpstreamAddress,
        database: String,
        (username, password): (Input, Option<Input>),
        tls: Option<UpstreamTls>,
    ) -> Result<Self, String> {
        let mode = tls.as_ref().map(|tls| tls.mode);
        if mode == Some(TlsMode::Require) && tls.as_ref().is_some_and(|tls| tls.pinned_key.is_none()) {
            return Err("tls: `require` verifies nothing; give `pinned_key` with it, or take verify-ca or verify-full".to_owned());
        }
        if matches!(address, UpstreamAddress::Unix(_)) && mode.is_some_and(|mode| mode != TlsMode::Disable) {
            return Err("tls: there is none on a unix socket".to_owned());
        }
        let server = Self { address, database, username, password, tls, verification: OnceLock::new(), kept: Mutex::default() };
        // What the file names is read now; the system's authorities only if they are needed.
        if server.tls.is_some() {
            server.verification()?;
        }
        Ok(server)
    }

    /// Asks, over the connection that is there or a new one. A kept one that turns out to be dead is replaced once: what we ask may be
    /// asked twice.
    ///
    /// # Errors
    /// Of the way, the login, or the question.
    pub(super) async fn ask(&self, what: &str, statement: &str, parameters: &[&str]) -> Result<Vec<Row>, StoreError> {
        let (session, age) = self.session().await?;
        match session.ask(what, statement, parameters).await {
            Err(_) if age == Age::Kept && session.is_over() => {}
            answer => return answer,
        }
        let (session, _) = self.session().await?;
        session.ask(what, statement, parameters).await
    }

    async fn session(&self) -> Result<(Arc<Session>, Age), StoreError> {
        // Held while it connects: those who come meanwhile want the same.
        let mut kept = self.kept.lock().await;
        if let Some(session) = kept.session.as_ref().filter(|session| !session.is_over()) {
            return Ok((Arc::clone(session), Age::Kept));
        }
        kept.session = None;
        if let Some((_, error)) = kept.failed.as_ref().filter(|(when, _)| when.elapsed() < SHARE_FAILURE) {
            return Err(error.clone());
        }
        match self.connect().await {
            Ok(session) => {
                let session = Arc::new(session);
                *kept = Kept { session: Some(Arc::clone(&session)), failed: None };
                Ok((session, Age::New))
            }
            Err(error) => {
                kept.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn connect(&self) -> Result<Session, StoreError> {
        let username = self.username.read().await?;
        let password = match &self.password {
            Some(password) => Some(password.read().await?),
            None => None,
        };
        let mut config = Config::new();
        config.user(username.as_str()).dbname(&self.database).application_name("keyward").options(OPTIONS);
        if let Some(password) = &password {
            config.password(password.as_str());
        }
        let allowance = Allowance::new(ONE_ANSWER);
        let logged_in = timeout(LOGIN, async {
            let stream = Bounded::new(self.transport().await?, allowance.clone());
            config.connect_raw(stream, NoTls).await.map_err(|error| login_failed(&error))
        });
        let (client, connection) = logged_in.await.map_err(|_| unavailable("no login in 5 s"))??;
        // It ends with the client, or when the server ends it.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Session { client, allowance, silent: AtomicBool::new(false) })
    }

    /// A stream to a server that may be given our password: verified, or on this machine.
    async fn transport(&self) -> Result<Box<dyn Transport>, StoreError> {
        let (host, port) = match &self.address {
            UpstreamAddress::Unix(path) => return Ok(Box::new(dial_socket(path).await?)),
            UpstreamAddress::Tcp { host, port } => (host, port.unwrap_or(PORT)),
        };
        let socket = dial(host, port).await?;
        let local = socket.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback());
        match (self.tls.as_ref().map(|tls| tls.mode), local) {
            (None | Some(TlsMode::Disable), true) => Ok(Box::new(socket)),
            (Some(TlsMode::Disable), false) => Err(unverified("tls: disable is for this machine only, and this server is another one")),
            (None | Some(TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull), _) => Ok(Box::new(self.secure(socket, host).await?)),
        }
    }

    async fn secure(&self, mut socket: TcpStream, host: &str) -> Result<tokio_rustls::client::TlsStream<TcpStream>, StoreError> {
        let broken = |error: std::io::Error| unavailable(&error.to_string());
        socket.write_all(&SSL_REQUEST).await.map_err(broken)?;
        // One byte and no more: what came after it unasked would be read as if it were protected.
        match socket.read_u8().await.map_err(broken)? {
            b'S' => {}
            b'N' => return Err(unverified("the server has no TLS")),
            _ => return Err(unavailable("the server refuses connections")),
        }
        let verification = self.verification().map_err(|text| unverified(&text))?;
        let name = verification.server_name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name).map_err(|_| unverified("no certificate can be for this name"))?;
        let connector = TlsConnector::from(Arc::clone(&verification.config));
        // A server that goes away in the middle has not shown who it is, nor that it is another one.
        let of_tls = |error: &std::io::Error| error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
        let failed = |error: std::io::Error| if of_tls(&error) { unverified(&error.to_string()) } else { broken(error) };
        connector.connect(name, socket).await.map_err(failed)
    }

    fn verification(&self) -> Result<&UpstreamVerification, String> {
        if let Some(ready) = self.verification.get() {
            return Ok(ready);
        }
        let made = UpstreamVerification::open(self.tls.as_ref(), &[], &SystemRoots::default())?;
        Ok(self.verification.get_or_init(|| made))
    }
}

impl Session {
    fn is_over(&self) -> bool {
        self.client.is_closed() || self.silent.load(Ordering::Relaxed)
    }

    async fn ask(&self, what: &str, statement: &str, parameters: &[&str]) -> Result<Vec<Row>, StoreError> {
        self.allowance.more(ONE_ANSWER);
        let parameters: Vec<(&(dyn ToSql + Sync), Type)> =
            parameters.iter().map(|parameter| (parameter as &(dyn ToSql + Sync), Type::TEXT)).collect();
        match timeout(ANSWER, self.client.query_typed(statement, &parameters)).await {
            Ok(answer) => answer.map_err(|error| explain(what, &error)),
            Err(_) => {
                self.silent.store(true, Ordering::Relaxed);
                Err(StoreError::new(StoreErrorKind::Unavailable, format!("{what}: no answer in 3 s")))
            }
        }
    }
}

async fn dial(host: &str, port: u16) -> Result<TcpStream, StoreError> {
    let addresses = tokio::net::lookup_host((host, port)).await.map_err(|error| unavailable(&error.to_string()))?;
    let mut last = "the name has no address".to_owned();
    for address in addresses {
        match dial_one(address).await {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(unavailable(&last))
}

async fn dial_one(address: SocketAddr) -> Result<TcpStream, String> {
    let socket = timeout(DIAL, TcpStream::connect(address)).await.map_err(|_| format!("{address}: no answer in 2 s"))?;
    let socket = socket.map_err(|error| format!("{address}: {error}"))?;
    socket.set_nodelay(true).map_err(|error| error.to_string())?;
    Ok(socket)
}

async fn dial_socket(path: &PathBuf) -> Result<UnixStream, StoreError> {
    let socket = timeout(DIAL, UnixStream::connect(path)).await.map_err(|_| unavailable("no answer in 2 s"))?;
    socket.map_err(|error| unavailable(&format!("{}: {error}", path.display())))
}

fn unavailable(why: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, format!("the table's server: {why}"))
}

/// Nobody who has not proven who he is gets our password.
fn unverified(why: &str) -> StoreError {
    StoreError::new(StoreErrorKind::LoginFailed, format!("the table's server is not verified: {why}"))
}
