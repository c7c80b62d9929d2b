//! Two transports at each other, and one at what no transport would send.

mod bounds;
mod exchanges;
mod hostile;
mod mutated;
mod packets;
mod trust;

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::exchange::Exchange;
use super::*;
use crate::cipher::Cipher;
use crate::kex::Method;
use crate::negotiate::{COOKIE, Which};
use crate::sign::{Signer, generate_ed25519};

/// Random numbers that come again with the same seed (xorshift64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % end
    }
}

impl Random for Dice {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Fatal> {
        bytes.iter_mut().for_each(|byte| *byte = u8::try_from(self.below(256)).unwrap());
        Ok(())
    }
}

/// The host key of all servers here.
pub(crate) fn host_key() -> Arc<dyn Signer> {
    static KEY: OnceLock<Arc<dyn Signer>> = OnceLock::new();
    Arc::clone(KEY.get_or_init(|| Arc::new(generate_ed25519().unwrap())))
}

pub(crate) fn server_config() -> ServerConfig {
    ServerConfig { methods: vec![Method::Curve25519], ..ServerConfig::new(vec![host_key()]) }
}

pub(crate) fn client_config() -> ClientConfig {
    ClientConfig { methods: vec![Method::Curve25519], ..ClientConfig::new(vec!["ssh-ed25519"]) }
}

pub(crate) fn server(config: ServerConfig) -> Conn {
    Conn::new(Role::Server(Arc::new(config)), Box::new(Dice::new(1)), Instant::now())
}

pub(crate) fn client(config: ClientConfig) -> Conn {
    Conn::new(Role::Client(Arc::new(config)), Box::new(Dice::new(2)), Instant::now())
}

/// Takes all output.
pub(crate) fn drain(conn: &mut Conn) -> Vec<u8> {
    let output = conn.output().to_vec();
    conn.wrote(output.len());
    output
}

/// What came out of a transport, owned.
#[derive(Debug, PartialEq)]
pub(crate) enum Seen {
    HostKey,
    Ready,
    Message(Vec<u8>),
    Disconnect(u32, String),
}

/// All events that there are; host keys are left to the caller.
pub(crate) fn events(conn: &mut Conn) -> Result<Vec<Seen>, Fatal> {
    let mut seen = Vec::new();
    while let Some(event) = conn.next()? {
        seen.push(match event {
            Event::HostKey { .. } => Seen::HostKey,
            Event::Ready => Seen::Ready,
            Event::Message(message) => Seen::Message(message.to_vec()),
            Event::Disconnect { reason, text } => {
                seen.push(Seen::Disconnect(reason, text));
                break;
            }
        });
    }
    Ok(seen)
}

/// Gives bytes to a transport and takes all that comes out; a host key is known.
pub(crate) fn feed(conn: &mut Conn, mut bytes: &[u8]) -> Result<Vec<Seen>, Fatal> {
    let mut seen = Vec::new();
    loop {
        let taken = conn.receive(bytes);
        bytes = &bytes[taken..];
        let next = events(conn)?;
        let known = next.contains(&Seen::HostKey);
        let over = next.iter().any(|event| matches!(event, Seen::Disconnect(..)));
        seen.extend(next);
        if known {
            conn.accept_host_key(host_key().public())?;
        } else if over || bytes.is_empty() && taken == 0 {
            return Ok(seen);
        }
    }
}

/// Carries everything to and fro until nothing is left; what both heard.
pub(crate) fn settle(a: &mut Conn, b: &mut Conn) -> Result<[Vec<Seen>; 2], Fatal> {
    let (mut of_a, mut of_b) = (feed(a, &[])?, feed(b, &[])?);
    while !a.output().is_empty() || !b.output().is_empty() {
        of_b.extend(feed(b, &drain(a))?);
        of_a.extend(feed(a, &drain(b))?);
    }
    Ok([of_a, of_b])
}

/// A client and a server behind their first key exchange.
pub(crate) fn connected(client_config: ClientConfig, server_config: ServerConfig) -> (Conn, Conn) {
    let (mut client, mut server) = (client(client_config), server(server_config));
    let [of_client, of_server] = settle(&mut client, &mut server).unwrap();
    assert_eq!((of_client, of_server), (vec![Seen::HostKey, Seen::Ready], vec![Seen::Ready]));
    (client, server)
}

/// The same behind a login.
pub(crate) fn logged_in() -> (Conn, Conn) {
    logged_in_with(client_config(), server_config())
}

pub(crate) fn logged_in_with(client_config: ClientConfig, server_config: ServerConfig) -> (Conn, Conn) {
    let (mut client, mut server) = connected(client_config, server_config);
    client.authenticated();
    server.authenticated();
    (client, server)
}

/// Makes of a transport that has sent nothing yet one that does not know strict key exchange, nor EXT_INFO.
pub(crate) fn lenient(mut conn: Conn) -> Conn {
    drain(&mut conn);
    let kexinit = conn.offer.kexinit(conn.side, Which::Later, [7; COOKIE]);
    conn.outbound = Outbound::new(Box::new(Dice::new(3)));
    conn.outbound.buffer.push(conn.role.ident().as_bytes());
    conn.outbound.buffer.push(b"\r\n");
    conn.outbound.seal(&kexinit).unwrap();
    conn.exchange = Exchange::Offered(kexinit);
    conn
}

/// A packet as it is before the first keys.
pub(crate) fn clear(payload: &[u8]) -> Vec<u8> {
    let mut outbound = Outbound::new(Box::new(Dice::new(4)));
    outbound.seal(payload).unwrap();
    outbound.buffer.data().to_vec()
}

/// The identification line that a transport's output begins with, and what is behind it.
pub(crate) fn split_ident(output: &[u8]) -> (&[u8], &[u8]) {
    output.split_at(output.iter().position(|byte| *byte == b'\n').unwrap() + 1)
}

/// Channel data that says which it is.
pub(crate) fn data(number: u32, length: usize) -> Vec<u8> {
    let mut message = vec![94];
    message.put_u32(0).put_string([&number.to_be_bytes()[..], &vec![7; length]].concat());
    message
}

#[test]
fn two_transports_meet_with_every_method_and_every_cipher() {
    for method in Method::ALL {
        for cipher in Cipher::ALL {
            let client_config = ClientConfig { methods: vec![method], ciphers: vec![cipher], ..client_config() };
            let server_config = ServerConfig { methods: Method::ALL.to_vec(), ..server_config() };
            let (mut client, mut server) = logged_in_with(client_config, server_config);
            assert_eq!(client.agreed().map(|agreed| (agreed.method, agreed.ciphers.to_client)), Some((method, cipher)));
            assert_eq!(client.agreed().unwrap().ciphers, server.agreed().unwrap().ciphers);
            assert_eq!(client.session_id(), server.session_id());
            for number in 0..20 {
                client.send(&data(number, 1000 * number as usize)).unwrap();
                server.send(&data(number + 100, 333)).unwrap();
                if number % 7 == 3 {
                    client.rekey();
                }
            }
            let [of_client, of_server] = settle(&mut client, &mut server).unwrap();
            assert_eq!(of_server, (0..20).map(|number| Seen::Message(data(number, 1000 * number as usize))).collect::<Vec<_>>());
            assert_eq!(of_client, (0..20).map(|number| Seen::Message(data(number + 100, 333))).collect::<Vec<_>>());
            assert!(client.exchanges() > 1);
        }
    }
}

#[test]
fn what_a_peer_says_at_its_end_is_told_in_printable_letters_and_is_the_last() {
    let (mut client, mut server) = connected(client_config(), server_config());
    client.disconnect(11, "\x1b[2Jbye\n é");
    client.disconnect(2, "again");
    let output = drain(&mut client);
    assert_eq!(feed(&mut server, &output), Ok(vec![Seen::Disconnect(11, "?[2Jbye? ??".to_owned())]));
    assert!(matches!(server.next(), Err(Fatal::Ended)));
    assert_eq!(server.send(&[5]), Err(Fatal::Ended));
    assert_eq!(client.send(&[5]), Err(Fatal::Ended));
}

#[test]
fn a_peer_that_broke_the_rules_is_told_so_once_and_nothing_else() {
    let (mut client, mut server) = connected(client_config(), server_config());
    client.outbound.seal(&[0]).unwrap();
    let output = drain(&mut client);
    let fatal = Fatal::Protocol("a message has no number");
    assert_eq!(feed(&mut server, &output), Err(fatal.clone()));
    assert_eq!(feed(&mut server, &output), Err(fatal.clone()));
    assert_eq!(server.send(&[50]), Err(fatal));
    server.disconnect(11, "more");
    let output = drain(&mut server);
    assert_eq!(feed(&mut client, &output), Ok(vec![Seen::Disconnect(2, "protocol error".to_owned())]));
}
