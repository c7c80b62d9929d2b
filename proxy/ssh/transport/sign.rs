//! Private keys: what signs for us, as a host, as a certificate authority, and as a user of an upstream.

mod crt;
mod file;
mod pkcs1;

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaEncoding,
};
use zeroize::Zeroizing;

use crate::certificate::Certificate;
use crate::key::{BadKey, Curve, PublicKey};
use crate::wire::Put;

pub use file::{BadFile, read_private_key};

/// Bytes of the secret half of an Ed25519 key (RFC 8032 §5.1.5).
const SEED: usize = 32;

/// A private key could not sign; the text is for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CannotSign(pub &'static str);

impl fmt::Display for CannotSign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for CannotSign {}

/// A private key that signs. It never shows itself.
pub trait Signer: Send + Sync {
    /// The names under which it is presented and signs, the best first: public-key algorithms (RFC 4252 §7), host-key algorithms (RFC 4253
    /// §7.1). Those of certificates if it has one.
    fn algorithms(&self) -> &'static [&'static str] {
        self.public().kind().algorithms()
    }

    /// Its public half.
    fn public(&self) -> &PublicKey;

    /// What is presented: the blob of the public key, or the certificate.
    fn blob(&self) -> &[u8] {
        self.public().blob()
    }

    /// A signature blob (`string` name, `string` signature) over `data`, under one of `algorithms`.
    ///
    /// # Errors
    /// It does not sign by this algorithm, or cannot.
    fn sign(&self, algorithm: &str, data: &[u8]) -> Result<Vec<u8>, CannotSign>;
}

impl fmt::Debug for dyn Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({:?})", self.public())
    }
}

/// RFC 8709.
struct Ed25519 {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

/// RFC 5656.
struct Ecdsa {
    pair: EcdsaKeyPair,
    public: PublicKey,
}

/// RFC 8332. Signs by `rsa-sha2-512` and `rsa-sha2-256` only.
struct Rsa {
    pair: rsa::KeyPair,
    public: PublicKey,
}

/// An Ed25519 key that was just made: it signs, and it can be written to a file.
pub struct NewKey {
    seed: Zeroizing<[u8; SEED]>,
    signer: Ed25519,
}

/// A key together with its certificate, which is presented instead of the key.
#[derive(Debug, Clone)]
pub struct Certified {
    signer: Arc<dyn Signer>,
    certificate: Vec<u8>,
}

/// Makes an Ed25519 key.
///
/// # Errors
/// No random bytes could be had.
pub fn generate_ed25519() -> Result<NewKey, CannotSign> {
    let mut seed = Zeroizing::new([0; SEED]);
    aws_lc_rs::rand::fill(seed.as_mut_slice()).map_err(|_| CannotSign("no random bytes"))?;
    let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).map_err(|_| CannotSign("no key from a seed"))?;
    let signer = Ed25519::new(pair).map_err(|_| CannotSign("no public key from a seed"))?;
    Ok(NewKey { seed, signer })
}

impl NewKey {
    /// The file as `ssh-keygen` would write it, without a passphrase. The comment is bounded and on one line.
    #[must_use]
    pub fn to_openssh(&self, comment: &str) -> Zeroizing<String> {
        file::write_ed25519(&self.seed, self.signer.public(), comment)
    }
}

impl Signer for NewKey {
    fn public(&self) -> &PublicKey {
        self.signer.public()
    }

    fn sign(&self, algorithm: &str, data: &[u8]) -> Result<Vec<u8>, CannotSign> {
        self.signer.sign(algorithm, data)
    }
}

impl Certified {
    /// Puts a certificate on a key.
    ///
    /// # Errors
    /// The certificate is none, or is of another key.
    pub fn new(signer: Arc<dyn Signer>, certificate: &[u8]) -> Result<Self, CannotSign> {
        let parsed = Certificate::parse(certificate).map_err(|_| CannotSign("the certificate is malformed"))?;
        if parsed.key() != signer.public() {
            return Err(CannotSign("the certificate is of another key"));
        }
        Ok(Self { signer, certificate: certificate.to_vec() })
    }
}

impl Certified {
    /// The same, of the line of a `-cert.pub` file, which is also what Vault's SSH engine answers.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn from_line(signer: Arc<dyn Signer>, line: &str) -> Result<Self, CannotSign> {
        let line = crate::key::Line::parse(line).map_err(|_| CannotSign("the certificate is not a line of a type and base64"))?;
        Self::new(signer, &line.blob)
    }
}

impl Signer for Certified {
    fn algorithms(&self) -> &'static [&'static str] {
        self.public().kind().certificate_algorithms()
    }

    fn public(&self) -> &PublicKey {
        self.signer.public()
    }

    fn blob(&self) -> &[u8] {
        &self.certificate
    }

    fn sign(&self, algorithm: &str, data: &[u8]) -> Result<Vec<u8>, CannotSign> {
        if !self.algorithms().contains(&algorithm) {
            return Err(NOT_OURS);
        }
        self.signer.sign(crate::key::signature_algorithm(algorithm).ok_or(NOT_OURS)?, data)
    }
}

const NOT_OURS: CannotSign = CannotSign("the key does not sign by this algorithm");
const FAILED: CannotSign = CannotSign("the signature could not be made");

impl Ed25519 {
    fn new(pair: Ed25519KeyPair) -> Result<Self, BadKey> {
        let public = PublicKey::of_ed25519(pair.public_key().as_ref().try_into().map_err(|_| BadKey::Malformed)?);
        Ok(Self { pair, public })
    }
}

impl Signer for Ed25519 {
    fn public(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, algorithm: &str, data: &[u8]) -> Result<Vec<u8>, CannotSign> {
        if !self.algorithms().contains(&algorithm) {
            return Err(NOT_OURS);
        }
        let signature = self.pair.try_sign(data).map_err(|_| FAILED)?;
        Ok(signature_blob(algorithm, signature.as_ref()))
    }
}

impl Ecdsa {
    fn new(curve: Curve, pair: EcdsaKeyPair) -> Result<Self, BadKey> {
        let public = PublicKey::of_ecdsa(curve, pair.public_key().as_ref())?;
        Ok(Self { pair, public })
    }
}

impl Signer for Ecdsa {
    fn public(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, algorithm: &str, data: &[u8]) -> Result<Vec<u8>, CannotSign> {
        if !self.algorithms().contains(&algorithm) {
            return Err(NOT_OURS);
        }
        let signature = self.pair.sign(&SystemRandom::new(), data).map_err(|_| FAILED)?;
        let fixed = signature.as_ref();
        let (r, s) = fixed.split_at_checked(fixed.len() / 2).ok_or(FAILED)?;
        let mut numbers = Vec::new();
        numbers.put_mpint(r).put_mpint(s);
        Ok(signature_blob(algorithm, &numbers))
    }
}

impl Rsa {
    fn new(pair: rsa::KeyPair) -> Result<Self, BadKey> {
        let (modulus, exponent) = pkcs1::numbers(pair.public_key().as_ref()).ok_or(BadKey::Malformed)?;
        let public = PublicKey::of_rsa(exponent, modulus)?;
        Ok(Self { pair, public })
    }
}

impl Signer for Rsa {
    fn public(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, algorithm: &str, data: &[u8]) -> Result<Vec<u8>, CannotSign> {
        let encoding: &'static dyn RsaEncoding = match algorithm {
            "rsa-sha2-512" => &RSA_PKCS1_SHA512,
            "rsa-sha2-256" => &RSA_PKCS1_SHA256,
            _ => return Err(NOT_OURS),
        };
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(encoding, &SystemRandom::new(), data, &mut signature).map_err(|_| FAILED)?;
        Ok(signature_blob(algorithm, &signature))
    }
}

impl Curve {
    fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            Self::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
            Self::P521 => &ECDSA_P521_SHA512_FIXED_SIGNING,
        }
    }
}

fn signature_blob(algorithm: &str, signature: &[u8]) -> Vec<u8> {
    let mut blob = Vec::new();
    blob.put_string(algorithm).put_string(signature);
    blob
}

#[cfg(test)]
mod tests;
