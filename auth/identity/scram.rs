//! The server half of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS: RFC 5802 and 7677, channel binding `tls-server-end-point` (RFC 5929), in the
//! reading of PostgreSQL (its manual, "SASL Authentication"): the user is the one of the startup message, the name inside is ignored.
//!
//! Sans-I/O: a protocol hands in the client's two messages and sends what it gets. An unknown user goes through the same exchange
//! with a salt and keys of his own that no password fits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::lockout::Attempt;
use super::users::Candidate;
use super::verifier::ScramVerifier;
use super::{AuthFailure, Identity, Proof, Source};
use crate::scram::{self, BOUND, PLAIN, PLUS, bytes32, decoded32, is_extension, is_nonce, mask};

/// One exchange with one client. Dropping it half way changes nothing.
pub struct ScramServer {
    candidate: Option<Candidate>,
    verifier: ScramVerifier,
    source: Source,
    attempt: Attempt,
    binding: Option<Vec<u8>>,
    computations: Arc<AtomicU64>,
    started: Option<Started>,
}

/// What the second message is checked against.
struct Started {
    proof: Proof,
    nonce: String,
    /// `c=` of the second message: the GS2 header of the first and, with -PLUS, the hash of our certificate.
    channel: String,
    client_first_bare: String,
    server_first: String,
}

impl ScramServer {
    pub(crate) fn new(
        (verifier, candidate): (ScramVerifier, Option<Candidate>),
        source: Source,
        attempt: Attempt,
        binding: Option<Vec<u8>>,
        computations: Arc<AtomicU64>,
    ) -> Self {
        Self { candidate, verifier, source, attempt, binding, computations, started: None }
    }

    /// What to offer, the best first: -PLUS if and only if there is a TLS channel to bind to.
    #[must_use]
    pub fn mechanisms(&self) -> Vec<&'static str> {
        if self.binding.is_some() { vec![PLUS, PLAIN] } else { vec![PLAIN] }
    }

    /// Takes the client-first-message (at most 1 KiB) of the mechanism that the client chose; gives the server-first-message.
    ///
    /// # Errors
    /// `Malformed`: a mechanism that was not offered, another grammar, a downgrade, an authorization identity, a mandatory
    /// extension. `Busy`: no random numbers.
    pub fn client_first(&mut self, mechanism: &str, message: &[u8]) -> Result<Vec<u8>, AuthFailure> {
        let nonce = scram::nonce().map_err(|_| AuthFailure::Busy)?;
        self.first(mechanism, message, &nonce)
    }

    /// Takes the client-final-message (at most 1 KiB); gives the identity and the server-final-message. Failure and success count
    /// for the lock-out.
    ///
    /// # Errors
    /// `NotAuthenticated`: a wrong proof, an unknown user, or a channel that is not ours (somebody sits in between). `Malformed`:
    /// another grammar, nonce or order. `Locked`: others of the same pair failed meanwhile.
    pub fn client_final(self, message: &[u8]) -> Result<(Identity, Vec<u8>), AuthFailure> {
        let started = self.started.as_ref().ok_or(AuthFailure::Malformed)?;
        let last = ClientFinal::parse(text(message)?).ok_or(AuthFailure::Malformed)?;
        if last.nonce != started.nonce {
            return Err(AuthFailure::Malformed);
        }
        if last.channel != started.channel {
            tracing::info!(source = %self.source, "SCRAM channel binding does not match: does something between the client and Keyward end TLS?");
            return Err(AuthFailure::NotAuthenticated);
        }
        self.attempt.check()?;
        let signed = format!("{},{},{}", started.client_first_bare, started.server_first, last.without_proof);
        let client_signature = self.sign(&self.verifier.stored_key, &signed);
        let server_signature = self.sign(&self.verifier.server_key, &signed);
        let mut client_key = Zeroizing::new(last.proof);
        mask(&mut client_key, client_signature);
        let stored_key = bytes32(digest::digest(&digest::SHA256, client_key.as_ref()).as_ref());
        let fits = bool::from(stored_key.ct_eq(&self.verifier.stored_key));
        match self.candidate {
            Some(candidate) if fits => {
                self.attempt.succeeded();
                let answer = format!("v={}", STANDARD.encode(server_signature));
                Ok((candidate.proven(started.proof, self.source), answer.into_bytes()))
            }
            _ => {
                self.attempt.failed();
                Err(AuthFailure::NotAuthenticated)
            }
        }
    }

    fn first(&mut self, mechanism: &str, message: &[u8], server_nonce: &str) -> Result<Vec<u8>, AuthFailure> {
        if self.started.is_some() {
            return Err(AuthFailure::Malformed);
        }
        let first = ClientFirst::parse(text(message)?).ok_or(AuthFailure::Malformed)?;
        let header = format!("{},,", first.flag);
        let (proof, channel) = match (mechanism, first.flag, &self.binding) {
            (PLUS, BOUND, Some(hash)) => (Proof::ScramSha256Plus, [header.as_bytes(), hash].concat()),
            (PLAIN, "n", _) => (Proof::ScramSha256, header.into_bytes()),
            // `y`: the client could bind and believes that we cannot. Where we offered it, somebody took it out of our offer.
            (PLAIN, "y", None) => (Proof::ScramSha256, header.into_bytes()),
            _ => return Err(AuthFailure::Malformed),
        };
        let nonce = format!("{}{server_nonce}", first.nonce);
        let server_first = format!("r={nonce},s={},i={}", STANDARD.encode(&self.verifier.salt), self.verifier.iterations);
        self.started = Some(Started {
            proof,
            nonce,
            channel: STANDARD.encode(channel),
            client_first_bare: first.bare.to_owned(),
            server_first: server_first.clone(),
        });
        Ok(server_first.into_bytes())
    }

    fn sign(&self, key: &[u8; 32], text: &str) -> [u8; 32] {
        self.computations.fetch_add(1, Ordering::Relaxed);
        scram::sign(key, text)
    }
}

/// `gs2-cbind-flag "," [authzid] "," "n=" saslname "," "r=" nonce *("," extension)`
struct ClientFirst<'a> {
    flag: &'a str,
    bare: &'a str,
    nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    /// `None`: another grammar, an authorization identity (we have no use for one), or a mandatory extension (`m=` instead of `n=`).
    fn parse(text: &'a str) -> Option<Self> {
        let (flag, rest) = text.split_once(',')?;
        let bare = rest.strip_prefix(',')?;
        let mut fields = bare.split(',');
        fields.next()?.strip_prefix("n=")?;
        let nonce = fields.next()?.strip_prefix("r=").filter(|nonce| is_nonce(nonce))?;
        fields.all(is_extension).then_some(Self { flag, bare, nonce })
    }
}

/// `"c=" base64 "," "r=" nonce *("," extension) "," "p=" base64`
struct ClientFinal<'a> {
    channel: &'a str,
    nonce: &'a str,
    without_proof: &'a str,
    proof: [u8; 32],
}

impl<'a> ClientFinal<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let mut fields = without_proof.split(',');
        let channel = fields.next()?.strip_prefix("c=")?;
        let nonce = fields.next()?.strip_prefix("r=")?;
        let proof = decoded32(proof)?;
        fields.all(is_extension).then_some(Self { channel, nonce, without_proof, proof })
    }
}

fn text(message: &[u8]) -> Result<&str, AuthFailure> {
    scram::text(message).ok_or(AuthFailure::Malformed)
}

#[cfg(test)]
mod tests;
