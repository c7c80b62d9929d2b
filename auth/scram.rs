//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802 and 7677), with the channel binding `tls-server-end-point` (RFC 5929): what both halves
//! have in common. The server half, by which users prove themselves to us, is identity/scram.rs; the client half, by which we log in
//! upstream, is client.rs, and what it keeps of a password is in password.rs.

mod client;
mod password;

use std::num::NonZeroU32;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::{digest, hmac, pbkdf2, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::Secret;

pub use client::{ScramClient, ScramFailure, ServerSignature};
pub(crate) use password::Password;

pub(crate) const PLAIN: &str = "SCRAM-SHA-256";
pub(crate) const PLUS: &str = "SCRAM-SHA-256-PLUS";
/// What the client's first message begins with where it binds to the channel.
pub(crate) const BOUND: &str = "p=tls-server-end-point";
/// In bytes. No honest message comes near it.
pub(crate) const MAX_MESSAGE: usize = 1024;
/// Of random bytes; its base64 has no padding.
const NONCE_LENGTH: usize = 18;

/// What both sides make of a password, for one salt and one number of iterations (RFC 5802 §3). The client key lets its holder in wherever the
/// password was stored with that salt, and the server key makes a client believe that its holder is the server: together they are as good as
/// the password itself there, and are kept like it.
pub(crate) struct Keys {
    pub(crate) client: Zeroizing<[u8; 32]>,
    pub(crate) server: Zeroizing<[u8; 32]>,
}

impl Keys {
    /// One PBKDF2 and two HMACs. With 4096 iterations it takes a millisecond of a core.
    pub(crate) fn derive(password: &Secret, salt: &[u8], iterations: NonZeroU32) -> Self {
        let mut salted = Zeroizing::new([0_u8; 32]);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, &prepared(password), salted.as_mut());
        let key = |name: &str| Zeroizing::new(sign(&salted, name));
        Self { client: key("Client Key"), server: key("Server Key") }
    }

    /// What a server holds of the client key. With an exchange that somebody overheard it gives that key away.
    pub(crate) fn stored(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(bytes32(digest::digest(&digest::SHA256, self.client.as_ref()).as_ref()))
    }
}

/// The password as SCRAM hashes it: SASLprep where it applies; the bytes as they are where it is no UTF-8 or holds what SASLprep
/// forbids, as PostgreSQL and libpq do (pg_saslprep).
fn prepared(password: &Secret) -> Zeroizing<Vec<u8>> {
    // Copied for hashing only; both copies are wiped.
    let prepared = password.expose_str().and_then(|text| stringprep::saslprep(text).ok());
    Zeroizing::new(prepared.map_or_else(|| password.expose().to_vec(), |text| text.into_owned().into_bytes()))
}

/// One side's part of the nonce.
pub(crate) fn nonce() -> Result<String, Unspecified> {
    let mut nonce = [0_u8; NONCE_LENGTH];
    rand::fill(&mut nonce)?;
    Ok(STANDARD.encode(nonce))
}

/// HMAC-SHA-256.
pub(crate) fn sign(key: &[u8; 32], text: &str) -> [u8; 32] {
    bytes32(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref())
}

/// `a` becomes `a ^ b`: a proof is the client key under its signature.
pub(crate) fn mask(a: &mut [u8; 32], b: [u8; 32]) {
    a.iter_mut().zip(b).for_each(|(byte, mask)| *byte ^= mask);
}

/// HMAC-SHA-256 and SHA-256 always give 32 bytes.
pub(crate) fn bytes32(bytes: &[u8]) -> [u8; 32] {
    bytes.try_into().unwrap_or_default()
}

/// A message as text. `None`: it is none, or too long.
pub(crate) fn text(message: &[u8]) -> Option<&str> {
    std::str::from_utf8(message).ok().filter(|text| text.len() <= MAX_MESSAGE && !text.contains('\0'))
}

/// Printable ASCII; a comma cannot occur here.
pub(crate) fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// An attribute that may be ignored. `m` is the one that must not be.
pub(crate) fn is_extension(text: &str) -> bool {
    matches!(text.as_bytes(), [name, b'=', ..] if name.is_ascii_alphabetic() && *name != b'm')
}

/// The 32 bytes of a proof, a signature or a key in base64.
pub(crate) fn decoded32(text: &str) -> Option<[u8; 32]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}
