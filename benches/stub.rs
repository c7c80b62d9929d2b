//! A server that speaks as much PostgreSQL as a session needs, inside this process: it lets everybody in and answers every query with one
//! row. Ten thousand sessions of a real one would need more memory than the machine has, and would be most of what is measured.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::bed::{Config, Keyward, bao, canary};
use crate::lean::Lean;

/// What may wait to be accepted: a herd of clients comes within a millisecond.
const BACKLOG: u32 = 4096;

/// More than any startup message or query here.
const MOST: usize = 16 * 1024;

/// Requests that stand in the place of a protocol version (PostgreSQL manual, "Message Formats").
const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

/// A running stub. It stops to accept when it is dropped.
pub struct Stub {
    pub port: u16,
    live: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Stub {
    pub fn start(runtime: &Runtime) -> Self {
        let _inside = runtime.enter();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let listener = socket.listen(BACKLOG).unwrap();
        let (port, live) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&live);
        let accepting = runtime.spawn(async move {
            loop {
                let (client, _) = listener.accept().await.expect("the stub accepts");
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    // However a peer goes away, all that matters is that it has.
                    drop(serve(client, &count).await);
                });
            }
        });
        Self { port, live, accepting }
    }

    /// How many are logged in.
    pub fn sessions(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// A Keyward before it with a cached KV credential and limits that leave room for a herd, and a client that may use it. `keys` are
    /// further ones of the store (`cache_ttl: 1s`).
    pub fn keyward(&self, keys: &str) -> (Keyward, Lean) {
        let (kv, alice) = (bao().mount_kv2(), canary());
        kv.put("orders", &[("username", "app"), ("password", &canary())]);
        let path = kv.path("orders");
        let credential = format!("username: \"{path}?username\", password: \"{path}?password\"");
        let config = Config::new()
            .store_with("corp", bao(), &bao().approle(&[&path]), keys)
            .connection("orders", &format!("address: \"127.0.0.1:{}\", database: postgres, store: corp, {credential}", self.port))
            .user("alice", &alice)
            .allow("alice", "orders")
            .line(ROOM);
        let keyward = Keyward::start(&config);
        let lean = Lean::new(keyward.port("postgres"), "alice", &alice, "orders");
        (keyward, lean)
    }
}

/// Limits that are not what is measured. The clients of a bench have all the same address.
pub const ROOM: &str =
    "limits: { handshakes: 16000, handshakes_per_address: 16000, sessions: 16000, sessions_per_user: 16000, drain_timeout: 200ms }";

impl Drop for Stub {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(client: TcpStream, count: &Arc<AtomicUsize>) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut client = BufReader::with_capacity(512, client);
    loop {
        let length = client.read_u32().await?;
        let body = rest(&mut client, length).await?;
        match body.first_chunk().map(|code| u32::from_be_bytes(*code)) {
            Some(SSL | GSS) => client.write_all(b"N").await?,
            // A query of ours is over before anybody could cancel it.
            Some(CANCEL) | None => return Ok(()),
            Some(_) => break,
        }
    }
    client.write_all(&welcome()).await?;
    let _live = Live::new(count);
    let answer = answer();
    loop {
        let (kind, length) = (client.read_u8().await?, client.read_u32().await?);
        rest(&mut client, length).await?;
        match kind {
            b'Q' => client.write_all(&answer).await?,
            b'X' => return Ok(()),
            other => return Err(io::Error::other(format!("the stub knows no message {:?}", char::from(other)))),
        }
    }
}

/// One who is logged in, for as long as it lives.
struct Live(Arc<AtomicUsize>);

impl Live {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a message has behind its length, which counts itself.
async fn rest(client: &mut BufReader<TcpStream>, length: u32) -> io::Result<Vec<u8>> {
    let length = usize::try_from(length).ok().and_then(|length| length.checked_sub(4)).filter(|length| *length <= MOST);
    let mut body = vec![0; length.ok_or_else(|| io::Error::other("a length that no message here has"))?];
    client.read_exact(&mut body).await?;
    Ok(body)
}

/// From AuthenticationOk to the first ReadyForQuery.
fn welcome() -> Vec<u8> {
    let mut said = message(b'R', &[0; 4]);
    let parameters = [
        ("server_version", "15.0"),
        ("server_encoding", "UTF8"),
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO, MDY"),
        ("TimeZone", "UTC"),
        ("integer_datetimes", "on"),
        ("standard_conforming_strings", "on"),
    ];
    for (name, value) in parameters {
        said.extend(message(b'S', format!("{name}\0{value}\0").as_bytes()));
    }
    said.extend(message(b'K', &[0, 0, 0, 1, 0, 0, 0, 2]));
    said.extend(message(b'Z', b"I"));
    said
}

/// One row with one column of type int4, which is 1.
fn answer() -> Vec<u8> {
    let column = [&[0, 1][..], b"?column?\0", &[0; 6], &23_u32.to_be_bytes(), &[0, 4, 0xff, 0xff, 0xff, 0xff, 0, 0]].concat();
    let row = [&[0, 1][..], &1_u32.to_be_bytes(), b"1"].concat();
    [message(b'T', &column), message(b'D', &row), message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind][..], &length.to_be_bytes(), body].concat()
}
