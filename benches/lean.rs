//! A client that costs little, so that thousands of logins do not measure the client: it derives its SCRAM keys once for each salt, and
//! holds nothing but its socket.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::{Arc, Mutex};

use aws_lc_rs::{digest, hmac, pbkdf2, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Who logs in where.
pub struct Lean {
    address: SocketAddr,
    user: String,
    password: String,
    database: String,
    tls: Option<TlsConnector>,
    keys: Mutex<HashMap<(Vec<u8>, u32), Keys>>,
}

/// What a password comes to with one salt (RFC 5802, section 3).
#[derive(Clone, Copy)]
struct Keys {
    client: [u8; 32],
    server: [u8; 32],
}

/// One who is logged in.
pub struct LeanSession(BufReader<Box<dyn Transport>>);

trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}

/// Why there is no session, or no answer.
#[derive(Debug)]
pub enum Failure {
    /// The server said so: its SQLSTATE and its words.
    Refused {
        code: String,
        text: String,
    },
    Broken(io::Error),
}

impl Lean {
    /// On 127.0.0.1, without TLS.
    pub fn new(port: u16, user: &str, password: &str, database: &str) -> Self {
        let [user, password, database] = [user, password, database].map(str::to_owned);
        Self { address: SocketAddr::from(([127, 0, 0, 1], port)), user, password, database, tls: None, keys: Mutex::default() }
    }

    /// With TLS, to a server called `localhost` that this CA vouches for. Every login is a full handshake, as it is for a new `psql`.
    #[must_use]
    pub fn with_tls(mut self, ca: &Path) -> Self {
        let mut roots = RootCertStore::empty();
        CertificateDer::pem_file_iter(ca).unwrap().for_each(|certificate| roots.add(certificate.unwrap()).unwrap());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        self.tls = Some(TlsConnector::from(Arc::new(config)));
        self
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Connects and logs in.
    pub async fn connect(&self) -> Result<LeanSession, Failure> {
        let mut socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let transport: Box<dyn Transport> = if let Some(tls) = &self.tls {
            let mut request = BytesMut::new();
            frontend::ssl_request(&mut request);
            socket.write_all(&request).await?;
            if socket.read_u8().await? != b'S' {
                return Err(io::Error::other("the server has no TLS").into());
            }
            Box::new(tls.connect(ServerName::try_from("localhost").unwrap(), socket).await?)
        } else {
            Box::new(socket)
        };
        let mut session = LeanSession(BufReader::with_capacity(1024, transport));
        self.log_in(&mut session).await?;
        Ok(session)
    }

    async fn log_in(&self, session: &mut LeanSession) -> Result<(), Failure> {
        let mut startup = BytesMut::new();
        frontend::startup_message([("user", self.user.as_str()), ("database", &self.database)], &mut startup)?;
        session.0.write_all(&startup).await?;
        let mut scram = None;
        loop {
            let (kind, body) = session.next().await?;
            let code = body.first_chunk().map(|code| u32::from_be_bytes(*code));
            match (kind, code) {
                (b'R', Some(0)) => {}
                (b'R', Some(10)) => scram = Some(Exchange::begin(session).await?),
                (b'R', Some(11)) => scram.as_mut().ok_or_else(|| unknown(kind))?.prove(self, session, &body[4..]).await?,
                (b'R', Some(12)) => scram.as_ref().ok_or_else(|| unknown(kind))?.verify(&body[4..])?,
                (b'S' | b'K' | b'N', _) => {}
                (b'Z', _) => return Ok(()),
                _ => return Err(unknown(kind)),
            }
        }
    }

    fn keys(&self, salt: &[u8], iterations: u32) -> Keys {
        let at = (salt.to_vec(), iterations);
        *self.keys.lock().unwrap().entry(at).or_insert_with(|| {
            let (rounds, mut salted) = (NonZeroU32::new(iterations).expect("rounds"), [0; 32]);
            pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, self.password.as_bytes(), &mut salted);
            Keys { client: mac(&salted, b"Client Key"), server: mac(&salted, b"Server Key") }
        })
    }
}

impl LeanSession {
    /// Runs `SELECT 1` and waits until the server is ready again.
    pub async fn select(&mut self) -> Result<(), Failure> {
        let (mut query, mut rows) = (BytesMut::new(), 0);
        frontend::query("SELECT 1", &mut query)?;
        self.0.write_all(&query).await?;
        loop {
            match self.next().await?.0 {
                b'D' => rows += 1,
                b'Z' if rows == 1 => return Ok(()),
                b'T' | b'C' | b'S' | b'N' => {}
                other => return Err(unknown(other)),
            }
        }
    }

    /// Says good-bye.
    pub async fn end(mut self) -> Result<(), Failure> {
        let mut goodbye = BytesMut::new();
        frontend::terminate(&mut goodbye);
        self.0.write_all(&goodbye).await?;
        self.0.shutdown().await.or_else(|error| if error.kind() == io::ErrorKind::NotConnected { Ok(()) } else { Err(error.into()) })
    }

    async fn next(&mut self) -> Result<(u8, Vec<u8>), Failure> {
        let (kind, length) = (self.0.read_u8().await?, self.0.read_u32().await?);
        let mut body = vec![0; (length as usize).checked_sub(4).ok_or_else(|| unknown(kind))?];
        self.0.read_exact(&mut body).await?;
        if kind == b'E' {
            let field = |name: u8| {
                let field = body.split(|byte| *byte == 0).find(|field| field.first() == Some(&name));
                field.map_or_else(String::new, |field| String::from_utf8_lossy(&field[1..]).into_owned())
            };
            return Err(Failure::Refused { code: field(b'C'), text: field(b'M') });
        }
        Ok((kind, body))
    }
}

/// One run of SCRAM-SHA-256 without channel binding (RFC 5802, RFC 7677).
struct Exchange {
    first: String,
    server_signature: Option<[u8; 32]>,
}

impl Exchange {
    async fn begin(session: &mut LeanSession) -> Result<Self, Failure> {
        let mut nonce = [0; 18];
        rand::fill(&mut nonce).unwrap();
        let (first, mut said) = (format!("n=,r={}", STANDARD.encode(nonce)), BytesMut::new());
        frontend::sasl_initial_response("SCRAM-SHA-256", format!("n,,{first}").as_bytes(), &mut said)?;
        session.0.write_all(&said).await?;
        Ok(Self { first, server_signature: None })
    }

    async fn prove(&mut self, lean: &Lean, session: &mut LeanSession, challenge: &[u8]) -> Result<(), Failure> {
        let wrong = || Failure::from(io::Error::other("not a SCRAM challenge"));
        let challenge = std::str::from_utf8(challenge).map_err(|_| wrong())?;
        let part = |name: &str| challenge.split(',').find_map(|part| part.strip_prefix(name)).ok_or_else(wrong);
        let salt = STANDARD.decode(part("s=")?).map_err(|_| wrong())?;
        let keys = lean.keys(&salt, part("i=")?.parse().map_err(|_| wrong())?);
        let last = format!("c=biws,r={}", part("r=")?);
        let all = format!("{},{challenge},{last}", self.first);
        let stored = digest::digest(&digest::SHA256, &keys.client);
        let mut proof = mac(stored.as_ref(), all.as_bytes());
        proof.iter_mut().zip(keys.client).for_each(|(byte, key)| *byte ^= key);
        self.server_signature = Some(mac(&keys.server, all.as_bytes()));
        let mut said = BytesMut::new();
        frontend::sasl_response(format!("{last},p={}", STANDARD.encode(proof)).as_bytes(), &mut said)?;
        Ok(session.0.write_all(&said).await?)
    }

    fn verify(&self, last: &[u8]) -> Result<(), Failure> {
        let expected = self.server_signature.map(|signature| format!("v={}", STANDARD.encode(signature)));
        if expected.is_some_and(|expected| expected.as_bytes() == last) {
            return Ok(());
        }
        Err(io::Error::other("the server does not know the password").into())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { code, text } => write!(f, "{code} {text}"),
            Self::Broken(error) => write!(f, "{error}"),
        }
    }
}

fn unknown(kind: u8) -> Failure {
    Failure::Broken(io::Error::other(format!("a message {:?} at this point", char::from(kind))))
}

fn mac(key: &[u8], data: &[u8]) -> [u8; 32] {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data).as_ref().try_into().expect("of SHA-256")
}
