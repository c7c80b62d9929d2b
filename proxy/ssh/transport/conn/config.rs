//! What a transport is told at its beginning.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::cipher::Cipher;
use crate::kex::Method;
use crate::key::SIGNATURE_ALGORITHMS;
use crate::negotiate::{Offer, Side};
use crate::sign::Signer;

/// The line by which we say who we are (RFC 4253 section 4.2). OpenSSH's two ends use `eow@openssh.com` only with a peer whose name begins like
/// theirs, and without it `ssh host yes | head -1` never ends; other clients keep forwarding of sockets from peers with another name. What we
/// relay is between them, so the name has to be one that lets them speak; 10.0 is one in whose name nobody knows a bug to work around.
pub const IDENT: &str = "SSH-2.0-OpenSSH_10.0 Keyward";

/// Which end we are.
#[derive(Clone, Debug)]
pub enum Role {
    /// A user's client connected to us.
    Server(Arc<ServerConfig>),
    /// We connected to an upstream.
    Client(Arc<ClientConfig>),
}

impl Role {
    pub(super) fn side(&self) -> Side {
        match self {
            Self::Server(_) => Side::Server,
            Self::Client(_) => Side::Client,
        }
    }

    pub(super) fn ident(&self) -> &str {
        match self {
            Self::Server(config) => &config.ident,
            Self::Client(config) => &config.ident,
        }
    }

    pub(super) fn limits(&self) -> Limits {
        match self {
            Self::Server(config) => config.limits,
            Self::Client(config) => config.limits,
        }
    }

    pub(super) fn offer(&self) -> Offer {
        match self {
            Self::Server(config) => Offer {
                methods: config.methods.clone(),
                host_keys: config.host_keys.iter().flat_map(|key| key.algorithms()).copied().collect(),
                ciphers: config.ciphers.clone(),
            },
            Self::Client(config) => {
                Offer { methods: config.methods.clone(), host_keys: config.host_key_algorithms.clone(), ciphers: config.ciphers.clone() }
            }
        }
    }
}

/// A server's side.
#[derive(Clone)]
pub struct ServerConfig {
    /// Our line, without its end.
    pub ident: String,
    /// Ways to exchange keys, best first.
    pub methods: Vec<Method>,
    /// Ciphers, best first.
    pub ciphers: Vec<Cipher>,
    /// Our host keys and certificates, best first.
    pub host_keys: Vec<Arc<dyn Signer>>,
    /// With which algorithms users may sign: what `server-sig-algs` says, and what the login must hold to (rule 19).
    pub signature_algorithms: Vec<&'static str>,
    /// Limits.
    pub limits: Limits,
}

impl ServerConfig {
    /// All that we can do, with these host keys.
    #[must_use]
    pub fn new(host_keys: Vec<Arc<dyn Signer>>) -> Self {
        Self {
            ident: IDENT.to_owned(),
            methods: Method::ALL.to_vec(),
            ciphers: Cipher::ALL.to_vec(),
            host_keys,
            signature_algorithms: SIGNATURE_ALGORITHMS.to_vec(),
            limits: Limits::default(),
        }
    }
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConfig").field("methods", &self.methods).field("ciphers", &self.ciphers).finish_non_exhaustive()
    }
}

/// A client's side.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Our line, without its end.
    pub ident: String,
    /// Ways to exchange keys, best first.
    pub methods: Vec<Method>,
    /// Ciphers, best first.
    pub ciphers: Vec<Cipher>,
    /// Host-key algorithms of the keys that are known of this server, best first: only these are offered, so that a server with several keys
    /// shows the one that is known.
    pub host_key_algorithms: Vec<&'static str>,
    /// Limits.
    pub limits: Limits,
}

impl ClientConfig {
    /// All that we can do, for a server that is known by keys of these algorithms.
    #[must_use]
    pub fn new(host_key_algorithms: Vec<&'static str>) -> Self {
        Self {
            ident: IDENT.to_owned(),
            methods: Method::ALL.to_vec(),
            ciphers: Cipher::ALL.to_vec(),
            host_key_algorithms,
            limits: Limits::default(),
        }
    }
}

/// How much and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in one direction after which we exchange keys again (RFC 4253 section 9: each gigabyte).
    pub rekey_bytes: u64,
    /// Packets in one direction after which we exchange keys again (RFC 4344 section 3.1: 2^31).
    pub rekey_packets: u64,
    /// Time after which we exchange keys again, if anything was sent (RFC 4253 section 9: each hour).
    pub rekey_after: Duration,
    /// How long the first key exchange may take, the identification included.
    pub first_exchange: Duration,
    /// How long any other may take. Generous: a client that is stopped for a while, or a laptop that sleeps, answers late.
    pub later_exchange: Duration,
    /// Whether a peer must know strict key exchange.
    pub strict: Demand,
}

/// Whether a peer that is not protected against prefix truncation (CVE-2023-48795) is talked to. Our ciphers include the one that is open to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// It is; what is in clear before the first keys is then watched as closely as can be (rule 6).
    Preferred,
    /// It is not.
    Required,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rekey_bytes: 1 << 30,
            rekey_packets: 1 << 31,
            rekey_after: Duration::from_secs(60 * 60),
            first_exchange: Duration::from_secs(30),
            later_exchange: Duration::from_secs(10 * 60),
            strict: Demand::Preferred,
        }
    }
}
