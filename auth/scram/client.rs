//! The client half of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS in the reading of PostgreSQL (its manual, "SASL Authentication"): the user is the
//! one of the startup message, and the name inside is empty.
//!
//! Sans-I/O: a protocol sends what it gets, and hands in the server's two messages. The server must show that it knows the password too.

use std::num::NonZeroU32;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{BOUND, PLAIN, PLUS, Password, decoded32, is_extension, is_nonce, mask, nonce, sign, text};

/// They cost us, before we know whether the server is who it says. PostgreSQL's own are 4096; an admin may set fewer (`scram_iterations`).
const MAX_ITERATIONS: u32 = 100_000;

/// Why an exchange has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScramFailure {
    /// The account has no password.
    NoPassword,
    /// The server offers no mechanism that can be had here.
    NoMechanism,
    /// No random numbers, or the process ends.
    Unavailable,
    /// A server-first-message outside the grammar, of another exchange, with a mandatory extension, or with more than 100 000 iterations.
    Malformed,
    /// The server says that it does not let us in (`e=`).
    Refused,
    /// The server does not show that it knows the password.
    Unproven,
}

/// One exchange with one server, before its first message.
pub struct ScramClient {
    password: Arc<Password>,
    mechanism: &'static str,
    /// The GS2 header.
    header: String,
    /// `c=` of the second message: the header and, with -PLUS, the hash of the server's certificate.
    channel: String,
    nonce: String,
    first_bare: String,
}

/// What the server must answer: that it knows the password.
#[must_use]
pub struct ServerSignature([u8; 32]);

impl ScramClient {
    pub(crate) fn new(password: Arc<Password>, offered: &[&str], binding: Option<&[u8]>) -> Result<Self, ScramFailure> {
        let (mechanism, flag, hash) = match binding {
            Some(hash) if offered.contains(&PLUS) => (PLUS, BOUND, hash),
            // Where somebody took -PLUS out of the offer, the server sees it by this flag.
            Some(_) if offered.contains(&PLAIN) => (PLAIN, "y", [].as_slice()),
            None if offered.contains(&PLAIN) => (PLAIN, "n", [].as_slice()),
            _ => return Err(ScramFailure::NoMechanism),
        };
        let header = format!("{flag},,");
        let channel = STANDARD.encode([header.as_bytes(), hash].concat());
        let nonce = nonce().map_err(|_| ScramFailure::Unavailable)?;
        let first_bare = format!("n=,r={nonce}");
        Ok(Self { password, mechanism, header, channel, nonce, first_bare })
    }

    /// The mechanism that was chosen.
    #[must_use]
    pub const fn mechanism(&self) -> &'static str {
        self.mechanism
    }

    /// The client-first-message.
    #[must_use]
    pub fn client_first(&self) -> Vec<u8> {
        [self.header.as_bytes(), self.first_bare.as_bytes()].concat()
    }

    /// Takes the server-first-message (at most 1 KiB); gives the client-final-message and what the server must answer to it. Derives keys where
    /// the password has none for this salt yet: about a quarter of a microsecond of a core for each iteration.
    ///
    /// # Errors
    /// `Malformed`, `Unavailable`.
    pub async fn server_first(self, message: &[u8]) -> Result<(Vec<u8>, ServerSignature), ScramFailure> {
        let message = text(message).ok_or(ScramFailure::Malformed)?;
        let first = ServerFirst::parse(message, &self.nonce).ok_or(ScramFailure::Malformed)?;
        let keys = self.password.keys(&first.salt, first.iterations).await.ok_or(ScramFailure::Unavailable)?;
        let without_proof = format!("c={},r={}", self.channel, first.nonce);
        let signed = format!("{},{message},{without_proof}", self.first_bare);
        let mut proof = Zeroizing::new(*keys.client);
        mask(&mut proof, sign(&keys.stored(), &signed));
        let last = format!("{without_proof},p={}", STANDARD.encode(proof.as_ref()));
        Ok((last.into_bytes(), ServerSignature(sign(&keys.server, &signed))))
    }
}

impl ServerSignature {
    /// Takes the server-final-message (at most 1 KiB).
    ///
    /// # Errors
    /// `Refused`. `Unproven`: another signature, or none.
    pub fn server_final(self, message: &[u8]) -> Result<(), ScramFailure> {
        let mut fields = text(message).ok_or(ScramFailure::Unproven)?.split(',');
        let said = fields.next().filter(|_| fields.all(is_extension)).ok_or(ScramFailure::Unproven)?;
        if said.starts_with("e=") {
            return Err(ScramFailure::Refused);
        }
        let signature = said.strip_prefix("v=").and_then(decoded32).ok_or(ScramFailure::Unproven)?;
        if bool::from(signature.ct_eq(&self.0)) { Ok(()) } else { Err(ScramFailure::Unproven) }
    }
}

/// `"r=" nonce "," "s=" base64 "," "i=" number *("," extension)`
struct ServerFirst<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: NonZeroU32,
}

impl<'a> ServerFirst<'a> {
    /// `None`: another grammar, a mandatory extension (`m=` instead of `r=`), a nonce to which the server has added nothing or that is not
    /// ours, no salt, or too many iterations.
    fn parse(text: &'a str, ours: &str) -> Option<Self> {
        let mut fields = text.split(',');
        let nonce = fields.next()?.strip_prefix("r=")?;
        nonce.strip_prefix(ours).filter(|added| is_nonce(added))?;
        let salt = STANDARD.decode(fields.next()?.strip_prefix("s=")?).ok().filter(|salt| !salt.is_empty())?;
        let count = fields.next()?.strip_prefix("i=")?;
        let is_number = count.bytes().all(|byte| byte.is_ascii_digit()) && !count.starts_with('0');
        let count = count.parse().ok().filter(|count| is_number && *count <= MAX_ITERATIONS)?;
        fields.all(is_extension).then_some(Self { nonce, salt, iterations: NonZeroU32::new(count)? })
    }
}

#[cfg(test)]
mod tests;
