//! Key exchanges: from two halves to a shared secret, and from that to the keys of both directions (RFC 4253 sections 7.2 and 8). Rules 7, 8
//! and 10.
//!
//! | method | client sends | server sends | secret is hashed as |
//! |---|---|---|---|
//! | `mlkem768x25519-sha256` (draft-ietf-sshm-mlkem-hybrid-kex) | encapsulation key, X25519: 1184 + 32 | ciphertext, X25519: 1088 + 32 | `string` |
//! | `curve25519-sha256` (RFC 8731), its older name at libssh.org | X25519: 32 | 32 | `mpint` |
//! | `ecdh-sha2-nistp256`, `-nistp384` (RFC 5656) | a point, not compressed: 65, 97 | the same | `mpint` |

use aws_lc_rs::agreement::{self, ECDH_P256, ECDH_P384, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::digest::{self, SHA256, SHA384};
use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_768};
use zeroize::Zeroizing;

use crate::cipher::{Cipher, Keys};
use crate::error::Fatal;
use crate::negotiate::Side;
use crate::wire::Put;

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;

/// Bytes of an X25519 public value.
const X25519_PUBLIC: usize = 32;
/// Bytes of an ML-KEM-768 encapsulation key and of what is encapsulated with it (FIPS 203 section 8).
const ENCAPSULATION_KEY: usize = 1184;
const CIPHERTEXT: usize = 1088;
/// What a point begins with that is not compressed (SEC 1 section 2.3.3).
const UNCOMPRESSED: u8 = 4;

const FAILED: Fatal = Fatal::Internal("a key exchange failed");
const MALFORMED: Fatal = Fatal::Protocol("a public value of a key exchange is malformed");

/// A way to exchange keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// ML-KEM-768 and X25519 together: safe as long as one of the two is.
    MlKem768X25519,
    /// X25519.
    Curve25519,
    /// X25519 by the name that it had before it had an RFC.
    Curve25519Libssh,
    /// ECDH on P-256.
    EcdhNistp256,
    /// ECDH on P-384.
    EcdhNistp384,
}

impl Method {
    /// All of them, the best first.
    pub const ALL: [Self; 5] = [Self::MlKem768X25519, Self::Curve25519, Self::Curve25519Libssh, Self::EcdhNistp256, Self::EcdhNistp384];

    /// Its name in a KEXINIT.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MlKem768X25519 => "mlkem768x25519-sha256",
            Self::Curve25519 => "curve25519-sha256",
            Self::Curve25519Libssh => "curve25519-sha256@libssh.org",
            Self::EcdhNistp256 => "ecdh-sha2-nistp256",
            Self::EcdhNistp384 => "ecdh-sha2-nistp384",
        }
    }

    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::MlKem768X25519 | Self::Curve25519 | Self::Curve25519Libssh | Self::EcdhNistp256 => &SHA256,
            Self::EcdhNistp384 => &SHA384,
        }
    }

    fn curve(self) -> &'static agreement::Algorithm {
        match self {
            Self::MlKem768X25519 | Self::Curve25519 | Self::Curve25519Libssh => &X25519,
            Self::EcdhNistp256 => &ECDH_P256,
            Self::EcdhNistp384 => &ECDH_P384,
        }
    }

    /// Whether these bytes are a public value of the curve in the one form that is allowed. That a point is on the curve is checked where it is
    /// used.
    fn fits(self, public: &[u8]) -> bool {
        match self {
            Self::MlKem768X25519 | Self::Curve25519 | Self::Curve25519Libssh => public.len() == X25519_PUBLIC,
            Self::EcdhNistp256 => public.len() == 65 && public.first() == Some(&UNCOMPRESSED),
            Self::EcdhNistp384 => public.len() == 97 && public.first() == Some(&UNCOMPRESSED),
        }
    }
}

/// A private value that is used once: fresh for each exchange, gone with it.
struct Ephemeral {
    method: Method,
    private: PrivateKey,
}

impl Ephemeral {
    fn generate(method: Method) -> Result<Self, Fatal> {
        Ok(Self { method, private: PrivateKey::generate(method.curve()).map_err(|_| FAILED)? })
    }

    fn public(&self) -> Result<Vec<u8>, Fatal> {
        Ok(self.private.compute_public_key().map_err(|_| FAILED)?.as_ref().to_vec())
    }

    /// What only we and the owner of the peer's public value know. A result of nothing but zeros is an error (RFC 8731 section 3).
    fn agree(self, peer: &[u8]) -> Result<Zeroizing<Vec<u8>>, Fatal> {
        if !self.method.fits(peer) {
            return Err(MALFORMED);
        }
        let peer = UnparsedPublicKey::new(self.method.curve(), peer);
        let raw = agreement::agree(&self.private, peer, MALFORMED, |raw| Ok(Zeroizing::new(raw.to_vec())))?;
        // aws-lc-rs refuses it as well; this is what keeps us from finding out that it once did not.
        if raw.iter().all(|byte| *byte == 0) { Err(MALFORMED) } else { Ok(raw) }
    }
}

/// A client between the two halves.
pub(crate) struct ClientHalf {
    curve: Ephemeral,
    lattice: Option<DecapsulationKey>,
    public: Vec<u8>,
}

impl ClientHalf {
    /// Begins an exchange.
    ///
    /// # Errors
    /// The primitives failed.
    pub(crate) fn begin(method: Method) -> Result<Self, Fatal> {
        let curve = Ephemeral::generate(method)?;
        if method != Method::MlKem768X25519 {
            return Ok(Self { public: curve.public()?, curve, lattice: None });
        }
        let lattice = DecapsulationKey::generate(&ML_KEM_768).map_err(|_| FAILED)?;
        let mut public = lattice.encapsulation_key().and_then(|key| Ok(key.key_bytes()?.as_ref().to_vec())).map_err(|_| FAILED)?;
        public.put_bytes(&curve.public()?);
        Ok(Self { curve, lattice: Some(lattice), public })
    }

    /// What the server is sent.
    pub(crate) fn public(&self) -> &[u8] {
        &self.public
    }

    /// With the server's half, the secret.
    ///
    /// # Errors
    /// The server's half is none.
    pub(crate) fn finish(self, reply: &[u8]) -> Result<SharedSecret, Fatal> {
        let Some(lattice) = self.lattice else { return Ok(SharedSecret::number(self.curve.method, &self.curve.agree(reply)?)) };
        let (ciphertext, public) =
            reply.split_at_checked(CIPHERTEXT).filter(|(_, public)| public.len() == X25519_PUBLIC).ok_or(MALFORMED)?;
        let first = lattice.decapsulate(Ciphertext::from(ciphertext)).map_err(|_| MALFORMED)?;
        Ok(SharedSecret::hybrid(first.as_ref(), &self.curve.agree(public)?))
    }
}

/// A server's half for a client's, and the secret.
///
/// # Errors
/// The client's half is none.
pub(crate) fn answer(method: Method, init: &[u8]) -> Result<(Vec<u8>, SharedSecret), Fatal> {
    let curve = Ephemeral::generate(method)?;
    let public = curve.public()?;
    if method != Method::MlKem768X25519 {
        return Ok((public, SharedSecret::number(method, &curve.agree(init)?)));
    }
    let (key, peer) = init.split_at_checked(ENCAPSULATION_KEY).filter(|(_, peer)| peer.len() == X25519_PUBLIC).ok_or(MALFORMED)?;
    let key = EncapsulationKey::new(&ML_KEM_768, key).map_err(|_| MALFORMED)?;
    let (ciphertext, first) = key.encapsulate().map_err(|_| MALFORMED)?;
    let secret = SharedSecret::hybrid(first.as_ref(), &curve.agree(peer)?);
    Ok(([ciphertext.as_ref(), &public].concat(), secret))
}

/// What both sides know and nobody else: `K`, as it goes into hashes.
pub(crate) struct SharedSecret {
    digest: &'static digest::Algorithm,
    encoded: Zeroizing<Vec<u8>>,
}

impl SharedSecret {
    /// Longer than any encoded secret, so that no copy is left behind by a buffer that grew.
    const ROOM: usize = 64;

    /// RFC 8731 section 3.1, RFC 5656 section 4: the bytes of the secret are a number, the first the highest.
    fn number(method: Method, raw: &[u8]) -> Self {
        let mut encoded = Zeroizing::new(Vec::with_capacity(Self::ROOM));
        encoded.put_mpint(raw);
        Self { digest: method.digest(), encoded }
    }

    /// draft-ietf-sshm-mlkem-hybrid-kex section 2.4: the hash of both secrets, and a string instead of a number.
    fn hybrid(lattice: &[u8], curve: &[u8]) -> Self {
        let mut hash = digest::Context::new(&SHA256);
        hash.update(lattice);
        hash.update(curve);
        let mut encoded = Zeroizing::new(Vec::with_capacity(Self::ROOM));
        encoded.put_string(hash.finish());
        Self { digest: &SHA256, encoded }
    }
}

/// What was said in an exchange: all of it is signed by the server (RFC 4253 section 8).
pub(crate) struct Transcript<'a> {
    /// The client's line without its end, and the server's.
    pub idents: [&'a [u8]; 2],
    /// The client's KEXINIT, and the server's, their numbers included.
    pub kexinits: [&'a [u8]; 2],
    /// The host key, or its certificate.
    pub host_key: &'a [u8],
    /// The client's half, and the server's.
    pub halves: [&'a [u8]; 2],
}

impl Transcript<'_> {
    /// `H`: the hash of all that and of the secret.
    pub(crate) fn hash(&self, secret: &SharedSecret) -> Vec<u8> {
        let [client, server] = self.idents;
        let [client_init, server_init] = self.kexinits;
        let [client_half, server_half] = self.halves;
        let mut hash = digest::Context::new(secret.digest);
        for part in [client, server, client_init, server_init, self.host_key, client_half, server_half] {
            hash.update(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            hash.update(part);
        }
        hash.update(&secret.encoded);
        hash.finish().as_ref().to_vec()
    }
}

/// The keys for what `from` sends (RFC 4253 section 7.2). `session` is the hash of the connection's first exchange.
pub(crate) fn derive(secret: &SharedSecret, hash: &[u8], session: &[u8], from: Side, cipher: Cipher) -> Keys {
    let (iv, key) = match from {
        Side::Client => (b'A', b'C'),
        Side::Server => (b'B', b'D'),
    };
    let (iv_length, key_length) = cipher.lengths();
    Keys { cipher, iv: stretch(secret, hash, session, iv, iv_length), key: stretch(secret, hash, session, key, key_length) }
}

fn stretch(secret: &SharedSecret, hash: &[u8], session: &[u8], letter: u8, length: usize) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.saturating_add(digest::MAX_OUTPUT_LEN)));
    while bytes.len() < length {
        let mut next = digest::Context::new(secret.digest);
        next.update(&secret.encoded);
        next.update(hash);
        if bytes.is_empty() {
            next.update(&[letter]);
            next.update(session);
        } else {
            next.update(&bytes);
        }
        bytes.put_bytes(next.finish().as_ref());
    }
    bytes.truncate(length);
    bytes
}
