//! A client of PostgreSQL's protocol that does what a test says, right or wrong, and checks that what it hears is whole messages.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use socket2::{Domain, Socket, Type};

use super::canary::must_be_absent;
use super::process::{SOON, uninterrupted};

/// An SSLRequest.
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
/// A GSSENCRequest.
pub const GSS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];
const CANCEL: u32 = 80_877_102;

/// One transport to a server, plain or inside TLS. Nothing on it waits longer than `SOON`.
pub struct Raw(Transport);

enum Transport {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// A message of the server.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    pub tag: u8,
    pub body: Vec<u8>,
}

/// What an ErrorResponse says: each field's letter with its text, in their order, the session's id masked as `ID`.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Told(pub Vec<(char, String)>);

/// What a client knows of its session.
#[derive(Debug)]
pub struct Backend {
    pub number: u32,
    pub key: Vec<u8>,
    pub parameters: Vec<(String, String)>,
    /// The body of a NegotiateProtocolVersion, if one came.
    pub negotiated: Option<Vec<u8>>,
}

impl Raw {
    pub fn to(port: u16) -> Self {
        Self::from("127.0.0.1", port).expect("the listener accepts")
    }

    /// From this address of ours.
    pub fn from(source: &str, port: u16) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let address = |ip: &str, port: u16| SocketAddr::new(ip.parse().unwrap(), port).into();
        socket.bind(&address(source, 0))?;
        socket.connect_timeout(&address("127.0.0.1", port), SOON)?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(SOON))?;
        stream.set_write_timeout(Some(SOON))?;
        stream.set_nodelay(true)?;
        Ok(Self(Transport::Plain(stream)))
    }

    /// Asks for TLS as libpq does, and takes it. The server must be `localhost` by this CA.
    #[track_caller]
    pub fn ask_tls(mut self, ca: &Path) -> Self {
        self.send(&SSL_REQUEST);
        assert_eq!(self.byte(), Some(b'S'));
        self.tls(ca, Some("postgresql")).expect("TLS")
    }

    /// A TLS handshake at once, with this ALPN name.
    pub fn tls(self, ca: &Path, alpn: Option<&str>) -> io::Result<Self> {
        let Transport::Plain(mut stream) = self.0 else { panic!("TLS inside TLS") };
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.into_iter().map(|name| name.as_bytes().to_vec()).collect();
        let mut tls = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)?;
        }
        Ok(Self(Transport::Tls(Box::new(StreamOwned::new(tls, stream)))))
    }

    /// Writes these bytes. The other side may have closed: what it said is read next.
    pub fn send(&mut self, bytes: &[u8]) -> &mut Self {
        let _ = match &mut self.0 {
            Transport::Plain(stream) => stream.write_all(bytes),
            Transport::Tls(tls) => tls.write_all(bytes).and_then(|()| uninterrupted(|| tls.flush())),
        };
        self
    }

    /// A message with a tag.
    pub fn say(&mut self, tag: u8, body: &[u8]) -> &mut Self {
        self.send(&[&[tag], length(body).as_slice(), body].concat())
    }

    /// A startup packet of this minor version of protocol 3.
    pub fn startup(&mut self, minor: u32, parameters: &[(&str, &str)]) -> &mut Self {
        self.send(&startup(minor, parameters))
    }

    /// One byte; `None` at the end.
    #[track_caller]
    pub fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        self.fill(&mut byte).then_some(byte[0])
    }

    /// The next message; `None` at the end, which must be between two messages.
    #[track_caller]
    pub fn message(&mut self) -> Option<Message> {
        let tag = self.byte()?;
        assert!(tag.is_ascii_alphanumeric(), "not the tag of a message: {tag}");
        let mut length = [0; 4];
        assert!(self.fill(&mut length), "an end in the middle of a message");
        let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap() - 4];
        assert!(body.is_empty() || self.fill(&mut body), "an end in the middle of a message");
        Some(Message { tag, body })
    }

    /// Everything until the end.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        std::iter::from_fn(|| self.byte()).collect()
    }

    /// The refusal that comes next, which must be the last that is said.
    #[track_caller]
    pub fn refusal(&mut self) -> Told {
        loop {
            let message = self.message().expect("a refusal before the end");
            if message.tag == b'E' {
                assert_eq!(self.message(), None, "something behind the refusal");
                return Told::of(&message.body);
            }
            assert!(b"Rv".contains(&message.tag), "good news before the refusal: {message:?}");
        }
    }

    /// Logs in with SCRAM or the clear text, as the server asks, after the startup packet. A close without a word is an error
    /// without a field.
    #[track_caller]
    pub fn log_in(&mut self, password: &str) -> Result<Backend, Told> {
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        let mut backend = Backend { number: 0, key: Vec::new(), parameters: Vec::new(), negotiated: None };
        loop {
            let Some(Message { tag, body }) = self.message() else { return Err(Told(Vec::new())) };
            match (tag, body.get(3).copied().unwrap_or_default()) {
                (b'v', _) => backend.negotiated = Some(body),
                (b'R', 3) => drop(self.say(b'p', format!("{password}\0").as_bytes())),
                (b'R', 10) => {
                    let size = u32::try_from(scram.message().len()).unwrap().to_be_bytes();
                    self.say(b'p', &[b"SCRAM-SHA-256\0", size.as_slice(), scram.message()].concat());
                }
                (b'R', 11) => {
                    scram.update(&body[4..]).unwrap();
                    self.say(b'p', scram.message());
                }
                (b'R', 12) => scram.finish(&body[4..]).expect("the server knows the password too"),
                (b'R', 0) => {}
                (b'S', _) => {
                    let text = String::from_utf8(body).unwrap();
                    let mut parts = text.split('\0').map(str::to_owned);
                    backend.parameters.push((parts.next().unwrap(), parts.next().unwrap()));
                }
                (b'K', _) => (backend.number, backend.key) = (u32::from_be_bytes(body[..4].try_into().unwrap()), body[4..].to_vec()),
                (b'Z', _) => return Ok(backend),
                (b'E', _) => {
                    assert_eq!(self.message(), None, "something behind the refusal");
                    return Err(Told::of(&body));
                }
                (b'N', _) => {}
                _ => panic!("an unexpected message {:?} during the login", char::from(tag)),
            }
        }
    }

    /// Sends a query without waiting for its answer.
    pub fn ask(&mut self, sql: &str) -> &mut Self {
        self.say(b'Q', format!("{sql}\0").as_bytes())
    }

    /// What the server says until it is ready again: its errors.
    #[track_caller]
    pub fn until_ready(&mut self) -> Vec<Told> {
        let mut errors = Vec::new();
        loop {
            let Message { tag, body } = self.message().expect("an answer");
            match tag {
                b'E' => errors.push(Told::of(&body)),
                b'Z' => return errors,
                _ => {}
            }
        }
    }

    /// Whether the server has closed, or said something, so far. Does not wait.
    pub fn heard(&mut self) -> bool {
        let socket = match &self.0 {
            Transport::Plain(stream) => stream,
            Transport::Tls(tls) => &tls.sock,
        };
        socket.set_nonblocking(true).unwrap();
        let seen = socket.peek(&mut [0]);
        socket.set_nonblocking(false).unwrap();
        !seen.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The same plain socket, for a test that writes while it reads.
    #[track_caller]
    pub fn writer(&self) -> TcpStream {
        let Transport::Plain(stream) = &self.0 else { panic!("inside TLS") };
        stream.try_clone().unwrap()
    }

    /// `false`: the end came before the first byte. A close without the formalities (RST, no close_notify) is an end too.
    #[track_caller]
    fn fill(&mut self, buffer: &mut [u8]) -> bool {
        let mut filled = 0;
        while filled < buffer.len() {
            let read = uninterrupted(|| match &mut self.0 {
                Transport::Plain(stream) => stream.read(&mut buffer[filled..]),
                Transport::Tls(tls) => tls.read(&mut buffer[filled..]),
            });
            match read {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof) => break,
                Err(error) => panic!("the server neither answers nor closes: {error}"),
            }
        }
        assert!(filled == 0 || filled == buffer.len(), "an end in the middle of a message");
        filled > 0
    }
}

impl Told {
    /// Takes an ErrorResponse apart.
    #[track_caller]
    pub fn of(body: &[u8]) -> Self {
        let text = std::str::from_utf8(body).expect("a refusal is UTF-8");
        must_be_absent("a refusal", text);
        let fields = text.strip_suffix("\0\0").expect("an ErrorResponse ends with two zero bytes").split('\0');
        Self(fields.map(|field| (field.chars().next().expect("a field has a letter"), masked(&field[1..]))).collect())
    }

    /// The text of one field.
    pub fn field(&self, letter: char) -> &str {
        self.0.iter().find(|(field, _)| *field == letter).map_or("", |(_, text)| text)
    }
}

/// A startup packet of this minor version of protocol 3.
pub fn startup(minor: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = ((3 << 16) | minor).to_be_bytes().to_vec();
    parameters.iter().for_each(|(name, value)| body.extend_from_slice(format!("{name}\0{value}\0").as_bytes()));
    packet(&[&body, b"\0".as_slice()].concat())
}

/// A packet without a tag.
pub fn packet(body: &[u8]) -> Vec<u8> {
    [&length(body), body].concat()
}

/// A CancelRequest.
pub fn cancel_request(number: u32, key: &[u8]) -> Vec<u8> {
    packet(&[&CANCEL.to_be_bytes(), &number.to_be_bytes(), key].concat())
}

/// The id that a refusal carries for the operator differs by design.
pub fn masked(text: &str) -> String {
    match text.split_once("(session ").and_then(|(before, after)| after.split_once(')').map(|(id, after)| (before, id, after))) {
        Some((before, id, after)) if id.len() == 16 => format!("{before}(session ID){after}"),
        _ => text.to_owned(),
    }
}

fn length(body: &[u8]) -> [u8; 4] {
    u32::try_from(body.len() + 4).unwrap().to_be_bytes()
}
