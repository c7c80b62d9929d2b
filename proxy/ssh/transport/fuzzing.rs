//! Ways in for the fuzz targets: a transport at a peer that says what the fuzzer wants, before there are keys and behind a first exchange.
//!
//! The bytes are cut into packets, so that the fuzzer need not find out how to pad and to seal: a first byte for how the peer begins, then
//! pieces of a length of two bytes each.
//!
//! And what is read of a KEXINIT and of a certificate, for a second parser to be held against it.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::certificate::Certificate;
use crate::cipher::Cipher;
use crate::conn::{ClientConfig, Conn, Event, Role, ServerConfig};
use crate::error::{Choice, Fatal};
use crate::kex::Method;
use crate::negotiate::{self, Agreed, COOKIE, Kexinit, Offer, Side, Which};
use crate::random::Random;
use crate::sign::{Signer, generate_ed25519};

/// Not random, so that the same bytes lead to the same end.
struct Zeros;

impl Random for Zeros {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Fatal> {
        bytes.fill(0);
        Ok(())
    }
}

fn host_key() -> Option<Arc<dyn Signer>> {
    static KEY: OnceLock<Option<Arc<dyn Signer>>> = OnceLock::new();
    KEY.get_or_init(|| generate_ed25519().ok().map(|key| Arc::new(key) as Arc<dyn Signer>)).clone()
}

fn conn(side: Side, key: &Arc<dyn Signer>) -> Conn {
    let methods = vec![Method::Curve25519];
    let role = match side {
        Side::Server => Role::Server(Arc::new(ServerConfig { methods, ..ServerConfig::new(vec![Arc::clone(key)]) })),
        Side::Client => Role::Client(Arc::new(ClientConfig { methods, ..ClientConfig::new(vec!["ssh-ed25519"]) })),
    };
    Conn::new(role, Box::new(Zeros), Instant::now())
}

/// A transport on `side` hears these bytes from its peer.
pub fn against(side: Side, bytes: &[u8]) {
    let Some((how, rest)) = bytes.split_first() else { return };
    let Some(key) = host_key() else { return };
    let mut tested = conn(side, &key);
    let mut peer = conn(if side == Side::Server { Side::Client } else { Side::Server }, &key);
    match how % 5 {
        // Bytes as they are.
        0 => drop(hear(&mut tested, rest, &key)),
        // Packets in clear, at once or behind the peer's own KEXINIT.
        1 => {
            if hear(&mut tested, b"SSH-2.0-fuzz\r\n", &key).is_ok() {
                say(&mut tested, &mut peer.without_output(), rest, &key);
            }
        }
        2 => {
            let begin = peer.output().to_vec();
            if hear(&mut tested, &begin, &key).is_ok() {
                say(&mut tested, &mut peer.without_output(), rest, &key);
            }
        }
        // Sealed ones behind the first exchange, before a login and after it.
        how => {
            settle(&mut tested, &mut peer, &key);
            if how == 4 {
                tested.authenticated();
                peer.authenticated();
            }
            say(&mut tested, &mut peer, rest, &key);
        }
    }
    assert!(tested.backlog() < 1 << 20, "what one input can make us keep");
}

/// What a peer's first KEXINIT comes to.
#[derive(Debug)]
pub struct Heard {
    /// The peer knows strict key exchange.
    pub strict: bool,
    /// It is a client and understands EXT_INFO.
    pub takes_ext_info: bool,
    /// What both do from now on, or what they have not in common.
    pub agreed: Result<Agreed, Choice>,
    /// Our own.
    pub ours: Vec<u8>,
}

/// The same for one on `side` that offers this.
///
/// # Errors
/// It is none, or too long.
pub fn kexinit(
    side: Side,
    methods: Vec<Method>,
    host_keys: Vec<&'static str>,
    ciphers: Vec<Cipher>,
    payload: &[u8],
) -> Result<Heard, Fatal> {
    let offer = Offer { methods, host_keys, ciphers };
    let theirs = Kexinit::parse(payload)?;
    let agreed = match negotiate::agree(side, &offer, &theirs) {
        Ok(agreed) => Ok(agreed),
        Err(Fatal::NoCommon(lack)) => Err(lack.choice()),
        Err(fatal) => return Err(fatal),
    };
    let ours = offer.kexinit(side, Which::First, [0; COOKIE]);
    Ok(Heard { strict: theirs.is_strict(side.other()), takes_ext_info: theirs.takes_ext_info(), agreed, ours })
}

/// What its authority calls a certificate, byte for byte.
#[must_use]
pub fn key_id(certificate: &Certificate) -> &[u8] {
    certificate.raw_key_id()
}

/// Packets with these payloads.
fn say(tested: &mut Conn, peer: &mut Conn, mut rest: &[u8], key: &Arc<dyn Signer>) {
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (payload, after) = after.split_at(length);
        rest = after;
        if payload.is_empty() || peer.seal_anything(payload).is_err() {
            continue;
        }
        let packet = peer.output().to_vec();
        peer.wrote(packet.len());
        if hear(tested, &packet, key).is_err() {
            return;
        }
    }
}

fn settle(a: &mut Conn, b: &mut Conn, key: &Arc<dyn Signer>) {
    for _ in 0..8 {
        for _ in 0..2 {
            let bytes = a.output().to_vec();
            a.wrote(bytes.len());
            assert!(hear(b, &bytes, key).is_ok(), "two of our own understand each other");
            std::mem::swap(a, b);
        }
    }
}

/// Takes all that comes out; what does is what may.
fn hear(conn: &mut Conn, mut bytes: &[u8], key: &Arc<dyn Signer>) -> Result<(), Fatal> {
    loop {
        let taken = conn.receive(bytes);
        bytes = bytes.get(taken..).unwrap_or_default();
        let known = match conn.next()? {
            None if bytes.is_empty() => return Ok(()),
            None => false,
            Some(Event::HostKey { .. }) => true,
            Some(Event::Message(message)) => {
                assert!(matches!(message.first(), Some(5 | 6 | 50..=127)), "no message of the transport's gets out");
                false
            }
            Some(Event::Ready) => false,
            Some(Event::Disconnect { text, .. }) => {
                assert!(text.len() <= 200 && text.bytes().all(|byte| matches!(byte, b' '..=b'~')));
                return Err(Fatal::Ended);
            }
        };
        if known {
            conn.accept_host_key(key.public())?;
        }
    }
}
