//! KEXINIT: what each side can do, and what follows from it (RFC 4253 section 7.1). Rules 2 to 5.
//!
//! For each kind of algorithm the first of the *client's* names that the server has too. What we have are values of our own types, so that a
//! name which stands for something else (`ext-info-c`, `kex-strict-s-v00@openssh.com`) can never be chosen, nor a cipher that does not
//! authenticate, nor anything with SHA-1.

use crate::cipher::Cipher;
use crate::error::{Choice, Fatal, NoCommon};
use crate::kex::Method;
use crate::message;
use crate::wire::{Put, Reader};

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;

/// Bytes of the random cookie.
pub(crate) const COOKIE: usize = 16;
/// Bytes of the longest KEXINIT that is looked at, before and after a login alike; OpenSSH's have about 1,500.
const KEXINIT_MAX: usize = 35_000;

/// Strict key exchange (OpenSSH PROTOCOL section 1.10), as a client and as a server says it.
const STRICT_CLIENT: &str = "kex-strict-c-v00@openssh.com";
const STRICT_SERVER: &str = "kex-strict-s-v00@openssh.com";
/// A client that understands EXT_INFO (RFC 8308 section 2.1).
const EXT_INFO_CLIENT: &str = "ext-info-c";
/// Nobody ever uses these, since our ciphers authenticate by themselves; there are clients that want to agree on one nevertheless.
const MACS: [&str; 4] = ["hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512"];
const NO_COMPRESSION: &str = "none";

/// Which end of the transport somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It connected.
    Client,
    /// It listened.
    Server,
}

impl Side {
    /// The end that this one talks to.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// Whether a key exchange is the first of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// The first: what is agreed on for good is said here.
    First,
    /// Any other.
    Later,
}

/// What we can do, best first.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    /// Ways to exchange keys.
    pub methods: Vec<Method>,
    /// A server: how it can prove itself. A client: what it can verify.
    pub host_keys: Vec<&'static str>,
    /// Ciphers, for either direction.
    pub ciphers: Vec<Cipher>,
}

impl Offer {
    /// Our KEXINIT.
    pub(crate) fn kexinit(&self, side: Side, which: Which, cookie: [u8; COOKIE]) -> Vec<u8> {
        let mut methods: Vec<&str> = self.methods.iter().map(|method| method.name()).collect();
        match (side, which) {
            (Side::Client, Which::First) => methods.extend([EXT_INFO_CLIENT, STRICT_CLIENT]),
            (Side::Server, Which::First) => methods.push(STRICT_SERVER),
            (_, Which::Later) => {}
        }
        let ciphers: Vec<&str> = self.ciphers.iter().map(|cipher| cipher.name()).collect();
        let mut kexinit = vec![message::KEXINIT];
        kexinit.put_bytes(&cookie).put_names(&methods).put_names(&self.host_keys);
        for names in [&ciphers[..], &ciphers, &MACS, &MACS, &[NO_COMPRESSION], &[NO_COMPRESSION], &[], &[]] {
            kexinit.put_names(names);
        }
        // We never guess, and the last number is for later versions of the protocol.
        kexinit.put_bool(false).put_u32(0);
        kexinit
    }
}

/// What the peer can do, best first, as its KEXINIT says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kexinit<'a> {
    methods: Vec<&'a str>,
    host_keys: Vec<&'a str>,
    ciphers: PerDirection<Vec<&'a str>>,
    compression: PerDirection<Vec<&'a str>>,
    guesses: bool,
}

/// One of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerDirection<T> {
    /// From the client to the server.
    pub to_server: T,
    /// From the server to the client.
    pub to_client: T,
}

impl<'a> Kexinit<'a> {
    /// Reads a KEXINIT, its number included.
    ///
    /// # Errors
    /// It is none, or longer than any.
    pub(crate) fn parse(payload: &'a [u8]) -> Result<Self, Fatal> {
        if payload.len() > KEXINIT_MAX {
            return Err(Fatal::TooMuch("a KEXINIT is too long"));
        }
        let mut reader = Reader::new(payload);
        let _number_and_cookie = reader.array::<{ 1 + COOKIE }>()?;
        let methods = reader.name_list()?;
        let host_keys = reader.name_list()?;
        let ciphers = PerDirection { to_server: reader.name_list()?, to_client: reader.name_list()? };
        let _macs = (reader.name_list()?, reader.name_list()?);
        let compression = PerDirection { to_server: reader.name_list()?, to_client: reader.name_list()? };
        let _languages = (reader.string()?, reader.string()?);
        let guesses = reader.boolean()?;
        let _reserved = reader.u32()?;
        reader.end()?;
        Ok(Self { methods, host_keys, ciphers, compression, guesses })
    }

    /// Whether the peer, which is on `side`, knows strict key exchange. It counts in the first KEXINIT only.
    pub(crate) fn is_strict(&self, side: Side) -> bool {
        self.methods.contains(&match side {
            Side::Client => STRICT_CLIENT,
            Side::Server => STRICT_SERVER,
        })
    }

    /// Whether a client understands EXT_INFO. It counts in the first KEXINIT only.
    pub(crate) fn takes_ext_info(&self) -> bool {
        self.methods.contains(&EXT_INFO_CLIENT)
    }
}

/// What both sides do from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// How keys are exchanged.
    pub method: Method,
    /// How the server proves itself.
    pub host_key: &'static str,
    /// How packets are protected.
    pub ciphers: PerDirection<Cipher>,
    /// What becomes of the peer's next packet.
    pub guess: Guess,
}

/// A peer may send its half of the exchange before it knows what will be agreed on (RFC 4253 section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guess {
    /// It did not, or guessed right.
    None,
    /// It guessed wrong: its next packet has to be thrown away.
    Wrong,
}

/// What follows from the two offers; `ours` is that of `side`.
///
/// # Errors
/// There is nothing in common: in what, and what there is.
pub(crate) fn agree(side: Side, ours: &Offer, theirs: &Kexinit<'_>) -> Result<Agreed, Fatal> {
    let method = first(Choice::KeyExchange, side, &ours.methods, Method::name, &theirs.methods)?;
    let host_key = first(Choice::HostKey, side, &ours.host_keys, |name| name, &theirs.host_keys)?;
    let cipher = |names: &[&str]| first(Choice::Cipher, side, &ours.ciphers, Cipher::name, names);
    let ciphers = PerDirection { to_server: cipher(&theirs.ciphers.to_server)?, to_client: cipher(&theirs.ciphers.to_client)? };
    for compression in [&theirs.compression.to_server, &theirs.compression.to_client] {
        first(Choice::Compression, side, &[NO_COMPRESSION], |name| name, compression)?;
    }
    // A guess is right if the first names of both sides are the same (section 7.1), not if what was agreed on is the peer's first.
    let right = theirs.methods.first().copied() == ours.methods.first().map(|method| method.name())
        && theirs.host_keys.first() == ours.host_keys.first();
    let guess = if theirs.guesses && !right { Guess::Wrong } else { Guess::None };
    Ok(Agreed { method, host_key, ciphers, guess })
}

/// The first of the client's that the server has too.
fn first<T: Copy>(choice: Choice, side: Side, ours: &[T], name: fn(T) -> &'static str, theirs: &[&str]) -> Result<T, Fatal> {
    let first = match side {
        Side::Client => ours.iter().find(|value| theirs.contains(&name(**value))),
        Side::Server => theirs.iter().find_map(|theirs| ours.iter().find(|value| name(**value) == *theirs)),
    };
    first.copied().ok_or_else(|| {
        let ours: Vec<&str> = ours.iter().map(|value| name(*value)).collect();
        Fatal::NoCommon(Box::new(NoCommon::new(choice, &ours, theirs)))
    })
}
