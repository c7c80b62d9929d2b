//! A client of MySQL's protocol that does what a test says, right or wrong, and checks that what it hears is whole packets in order.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use socket2::{Domain, Socket, Type};

use super::mysql_wire::{CACHING_SHA2, FLAGS, Greeting, Hello, MysqlTold, columns_of, mysql_packet, seal, ssl_request};
use super::process::{SOON, uninterrupted};

/// One transport to a server, plain or inside TLS. Nothing on it waits longer than `SOON`.
pub struct MysqlRaw {
    transport: Transport,
    /// The number of the packet that is said or heard next.
    pub next: u8,
    scramble: Vec<u8>,
}

enum Transport {
    Plain(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl MysqlRaw {
    /// A transport; nothing is read yet.
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
        Ok(Self::over(Transport::Plain(stream)))
    }

    /// By a unix socket.
    pub fn unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("the listener accepts");
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        Self::over(Transport::Unix(stream))
    }

    fn over(transport: Transport) -> Self {
        Self { transport, next: 0, scramble: Vec::new() }
    }

    /// Reads the greeting, asks for TLS and takes it. The server must be `localhost` by this CA.
    #[track_caller]
    pub fn ask_tls(mut self, ca: &Path) -> Self {
        self.greeting();
        self.say(&ssl_request(FLAGS));
        self.tls(ca).expect("TLS")
    }

    /// A TLS handshake at once.
    pub fn tls(self, ca: &Path) -> io::Result<Self> {
        let Transport::Plain(mut stream) = self.transport else { panic!("TLS inside TLS, or on a unix socket") };
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        let mut tls = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)?;
        }
        Ok(Self { transport: Transport::Tls(Box::new(StreamOwned::new(tls, stream))), ..self })
    }

    /// Writes these bytes. The other side may have closed: what it said is read next.
    pub fn send(&mut self, bytes: &[u8]) -> &mut Self {
        let _ = match &mut self.transport {
            Transport::Plain(stream) => stream.write_all(bytes),
            Transport::Unix(stream) => stream.write_all(bytes),
            Transport::Tls(tls) => tls.write_all(bytes).and_then(|()| uninterrupted(|| tls.flush())),
        };
        self
    }

    /// A packet with the number that is next.
    pub fn say(&mut self, payload: &[u8]) -> &mut Self {
        let packet = mysql_packet(self.next, payload);
        self.next = self.next.wrapping_add(1);
        self.send(&packet)
    }

    /// A command.
    pub fn command(&mut self, first: u8, argument: &[u8]) -> &mut Self {
        self.next = 0;
        self.say(&[&[first], argument].concat())
    }

    /// Sends a query without waiting for its answer.
    pub fn ask(&mut self, sql: &str) -> &mut Self {
        self.command(3, sql.as_bytes())
    }

    /// The next packet, with its number; `None` at the end, which must be between two packets. A payload of 16 MiB goes on in the next one.
    #[track_caller]
    pub fn packet(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut header = [0; 4];
        if !self.fill(&mut header) {
            return None;
        }
        let [a, b, c, sequence] = header;
        let mut payload = vec![0; usize::try_from(u32::from_le_bytes([a, b, c, 0])).unwrap()];
        assert!(payload.is_empty() || self.fill(&mut payload), "an end in the middle of a packet");
        Some((sequence, payload))
    }

    /// The next packet's payload; its number must be the next.
    #[track_caller]
    pub fn ordered(&mut self) -> Option<Vec<u8>> {
        let (sequence, payload) = self.packet()?;
        assert_eq!(sequence, self.next, "out of order: {:?}", String::from_utf8_lossy(&payload));
        self.next = self.next.wrapping_add(1);
        Some(payload)
    }

    /// The greeting, or what is said instead of it.
    #[track_caller]
    pub fn try_greeting(&mut self) -> Result<Greeting, MysqlTold> {
        let payload = self.ordered().expect("a greeting");
        if payload[0] == 0xff {
            assert_eq!(self.packet(), None, "something behind the refusal");
            return Err(MysqlTold::of(0, &payload));
        }
        let greeting = Greeting::of(&payload);
        self.scramble.clone_from(&greeting.scramble);
        Ok(greeting)
    }

    #[track_caller]
    pub fn greeting(&mut self) -> Greeting {
        self.try_greeting().expect("a greeting")
    }

    /// Answers the greeting, which is read first where that was not done yet.
    #[track_caller]
    pub fn answer(&mut self, hello: &Hello) -> &mut Self {
        if self.next == 0 {
            self.greeting();
        }
        self.say(&hello.encode())
    }

    /// Logs in as `user`, with this database or with none, as the server asks. Gives the id of the session.
    #[track_caller]
    pub fn log_in(&mut self, user: &str, database: Option<&str>, password: &str) -> Result<(), MysqlTold> {
        if self.next == 0 {
            self.try_greeting()?;
        }
        self.answer(&Hello::new(user, database)).prove(password)
    }

    /// Goes on after the answer to the greeting, up to the OK or to an error, which is the end.
    #[track_caller]
    pub fn prove(&mut self, password: &str) -> Result<(), MysqlTold> {
        let proven = self.proven(password);
        if proven.is_err() {
            assert_eq!(self.packet(), None, "something behind the refusal");
        }
        proven
    }

    /// COM_CHANGE_USER, and the login that comes of it. An error is no end.
    #[track_caller]
    pub fn change_user(&mut self, user: &str, database: &str, charset: u16, password: &str) -> Result<(), MysqlTold> {
        let names = [user.as_bytes(), &[0, 32], &[7; 32], database.as_bytes(), &[0]].concat();
        self.command(0x11, &[&names, charset.to_le_bytes().as_slice(), CACHING_SHA2.as_bytes(), &[0]].concat());
        self.proven(password)
    }

    #[track_caller]
    fn proven(&mut self, password: &str) -> Result<(), MysqlTold> {
        loop {
            let Some(payload) = self.ordered() else { panic!("an end without a word") };
            match (payload[0], payload.get(1)) {
                (0, _) => return Ok(()),
                (0xff, _) => return Err(MysqlTold::of(self.next.wrapping_sub(1), &payload)),
                (0xfe, _) => {
                    let end = payload.iter().position(|byte| *byte == 0).unwrap();
                    let data = payload[end + 1..].strip_suffix(&[0]).unwrap_or(&payload[end + 1..]);
                    match &payload[1..end] {
                        b"caching_sha2_password" => {
                            self.scramble = data.to_vec();
                            self.say(&[7; 32]);
                        }
                        b"mysql_clear_password" => drop(self.say(&[password.as_bytes(), &[0]].concat())),
                        other => panic!("another plugin: {:?}", String::from_utf8_lossy(other)),
                    }
                }
                (1, Some(4)) if matches!(self.transport, Transport::Plain(_)) => drop(self.say(&[2])),
                (1, Some(4)) => drop(self.say(&[password.as_bytes(), &[0]].concat())),
                (1, _) => {
                    let sealed = seal(&payload[1..], &self.scramble, password);
                    self.say(&sealed);
                }
                _ => panic!("an unexpected packet during the login: {payload:?}"),
            }
        }
    }

    /// The refusal that comes next, which must be the last that is said; what the login asks for before is passed over.
    #[track_caller]
    pub fn refusal(&mut self) -> MysqlTold {
        loop {
            let (sequence, payload) = self.packet().expect("a refusal before the end");
            if payload[0] == 0xff {
                assert_eq!(self.packet(), None, "something behind the refusal");
                return MysqlTold::of(sequence, &payload);
            }
            assert!([1, 10, 0xfe].contains(&payload[0]), "good news before the refusal: {payload:?}");
        }
    }

    /// Everything until the end.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        let mut byte = [0];
        std::iter::from_fn(|| self.fill(&mut byte).then_some(byte[0])).collect()
    }

    /// Runs SQL that gives no more than one result, and gives its rows: the columns as text, joined by tabs.
    #[track_caller]
    pub fn query(&mut self, sql: &str) -> Result<Vec<String>, MysqlTold> {
        self.ask(sql);
        self.result()
    }

    /// One result.
    #[track_caller]
    pub fn result(&mut self) -> Result<Vec<String>, MysqlTold> {
        let first = self.ordered().expect("an answer");
        match first[0] {
            0 => return Ok(Vec::new()),
            0xff => return Err(MysqlTold::of(self.next.wrapping_sub(1), &first)),
            columns => (0..=columns).for_each(|_| drop(self.ordered().expect("columns"))),
        }
        let mut rows = Vec::new();
        loop {
            let row = self.ordered().expect("a row");
            match row[0] {
                0xff => return Err(MysqlTold::of(self.next.wrapping_sub(1), &row)),
                0xfe if row.len() < 9 => return Ok(rows),
                _ => rows.push(columns_of(&row)),
            }
        }
    }

    /// Whether the server has closed, or said something, so far. Does not wait.
    pub fn heard(&mut self) -> bool {
        let socket = match &self.transport {
            Transport::Plain(stream) => stream,
            Transport::Tls(tls) => &tls.sock,
            Transport::Unix(_) => panic!("not by a unix socket"),
        };
        socket.set_nonblocking(true).unwrap();
        let seen = socket.peek(&mut [0]);
        socket.set_nonblocking(false).unwrap();
        !seen.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The same plain socket, for a test that writes while it reads.
    #[track_caller]
    pub fn writer(&self) -> TcpStream {
        let Transport::Plain(stream) = &self.transport else { panic!("not a plain socket") };
        stream.try_clone().unwrap()
    }

    /// `false`: the end came before the first byte. A close without the formalities (RST, no close_notify, also when something is written
    /// before the next read) is an end too.
    #[track_caller]
    fn fill(&mut self, buffer: &mut [u8]) -> bool {
        const ENDS: [io::ErrorKind; 3] = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe, io::ErrorKind::UnexpectedEof];
        let mut filled = 0;
        while filled < buffer.len() {
            let read = uninterrupted(|| match &mut self.transport {
                Transport::Plain(stream) => stream.read(&mut buffer[filled..]),
                Transport::Unix(stream) => stream.read(&mut buffer[filled..]),
                Transport::Tls(tls) => tls.read(&mut buffer[filled..]),
            });
            match read {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if ENDS.contains(&error.kind()) => break,
                Err(error) => panic!("the server neither answers nor closes: {error}"),
            }
        }
        assert!(filled == 0 || filled == buffer.len(), "an end in the middle of a packet");
        filled > 0
    }
}
