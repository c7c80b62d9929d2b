//! Public keys: the blob that is sent and compared, and what it says (RFC 4253 §6.6, RFC 5656 §3.1, RFC 8709 §4, PROTOCOL.u2f).
//!
//! Two keys are the same if their blobs are: so a blob that is not written in the one canonical way is no key.

pub(crate) mod algorithm;
mod line;
mod verify;

use std::fmt;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::wire::{Put, Reader};

pub use crate::untrusted::Untrusted;
pub use algorithm::{KeyType, SIGNATURE_ALGORITHMS, signature_algorithm};
pub use line::AuthorizedKey;
pub(crate) use line::{Line, word};
pub use verify::{Demand, SkPolicy};

/// Bytes of the longest blob: an RSA key of 8192 bits has 1,053.
pub const BLOB_MAX: usize = 4096;
/// Bits of the shortest and of the longest RSA key (rule 4; aws-lc-rs verifies no longer ones).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Bytes of the longest exponent of an RSA key: greater ones only make a verification slow.
const EXPONENT_MAX: usize = 4;
/// Bytes of the name of the application in a key of a security key; `ssh:` where the user chose none.
const APPLICATION_MAX: usize = 256;
const ED25519: usize = 32;

/// A public key. Never a certificate.
#[derive(Clone)]
pub struct PublicKey {
    blob: Vec<u8>,
    parts: Parts,
}

/// What the blob says.
#[derive(Clone)]
enum Parts {
    Ed25519 { key: [u8; ED25519] },
    Ecdsa { curve: Curve, point: Vec<u8> },
    Rsa { exponent: Vec<u8>, modulus: Vec<u8> },
    SkEd25519 { key: [u8; ED25519], application: Vec<u8> },
    SkEcdsa { point: Vec<u8>, application: Vec<u8> },
}

/// A curve of RFC 5656 §10.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Curve {
    P256,
    P384,
    P521,
}

/// Why a blob or a line is no key that we take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadKey {
    /// It ends too early, goes on too long, or is not written in the one way that it should be.
    Malformed,
    /// A type of key that we do not know or do not take, such as `ssh-dss`.
    Type,
    /// A certificate where a key must be.
    Certificate,
    /// The curve named inside is not the one of the type.
    Curve,
    /// Not a point of the curve in its uncompressed form.
    Point,
    /// An RSA key of less than 2048 or more than 8192 bits.
    RsaSize,
    /// An RSA exponent that is even, 1, or longer than 32 bits.
    RsaExponent,
    /// The line is not `type base64 [comment]`, or the type is not the one inside.
    Line,
    /// An option before the key that we do not know; those are `no-touch-required` and `verify-required`.
    Option,
}

impl PublicKey {
    /// Reads a key blob.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(blob: &[u8]) -> Result<Self, BadKey> {
        if blob.len() > BLOB_MAX {
            return Err(BadKey::Malformed);
        }
        let mut reader = Reader::new(blob);
        let name = reader.string().map_err(|_| BadKey::Malformed)?;
        let Some(kind) = KeyType::named(name) else {
            return Err(if KeyType::of_certificate(name).is_some() { BadKey::Certificate } else { BadKey::Type });
        };
        let key = Self::parse_fields(kind, &mut reader)?;
        reader.end().map_err(|_| BadKey::Malformed)?;
        // A number with needless zeros before it: another blob of the same key.
        if key.blob != blob {
            return Err(BadKey::Malformed);
        }
        Ok(key)
    }

    /// Reads what follows the name of the type: in a blob, and in a certificate behind its nonce.
    pub(crate) fn parse_fields(kind: KeyType, reader: &mut Reader<'_>) -> Result<Self, BadKey> {
        let parts = Parts::read(kind, reader)?;
        Ok(Self { blob: parts.blob(), parts })
    }

    /// The key of a key pair of ours.
    pub(crate) fn of_ed25519(key: [u8; ED25519]) -> Self {
        let parts = Parts::Ed25519 { key };
        Self { blob: parts.blob(), parts }
    }

    /// The same, of an ECDSA key pair.
    ///
    /// # Errors
    /// `BadKey::Point`.
    pub(crate) fn of_ecdsa(curve: Curve, point: &[u8]) -> Result<Self, BadKey> {
        let parts = Parts::Ecdsa { curve, point: curve.point(point)? };
        Ok(Self { blob: parts.blob(), parts })
    }

    /// The same, of an RSA key pair: two numbers, most significant byte first.
    ///
    /// # Errors
    /// `BadKey::RsaSize`, `BadKey::RsaExponent`.
    pub(crate) fn of_rsa(exponent: &[u8], modulus: &[u8]) -> Result<Self, BadKey> {
        let parts = Parts::rsa(exponent, modulus)?;
        Ok(Self { blob: parts.blob(), parts })
    }

    /// Writes what follows the name of the type, as a certificate has it.
    pub(crate) fn put_fields(&self, blob: &mut Vec<u8>) {
        self.parts.write_fields(blob);
    }

    /// The blob, as it is sent and compared.
    #[must_use]
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// Its type.
    #[must_use]
    pub fn kind(&self) -> KeyType {
        self.parts.kind()
    }

    /// `SHA256:` and the hash of the blob, as `ssh-keygen -l` prints it. Fit for a log.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(self.sha256()))
    }

    /// SHA-256 over the blob.
    pub(crate) fn sha256(&self) -> digest::Digest {
        digest::digest(&digest::SHA256, &self.blob)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.blob == other.blob
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind().name(), self.fingerprint())
    }
}

impl Parts {
    fn read(kind: KeyType, reader: &mut Reader<'_>) -> Result<Self, BadKey> {
        match kind {
            KeyType::Ed25519 => Ok(Self::Ed25519 { key: ed25519(reader)? }),
            KeyType::EcdsaP256 => Self::ecdsa(Curve::P256, reader),
            KeyType::EcdsaP384 => Self::ecdsa(Curve::P384, reader),
            KeyType::EcdsaP521 => Self::ecdsa(Curve::P521, reader),
            KeyType::Rsa => {
                let exponent = reader.mpint().map_err(|_| BadKey::Malformed)?;
                Self::rsa(exponent, reader.mpint().map_err(|_| BadKey::Malformed)?)
            }
            KeyType::SkEd25519 => Ok(Self::SkEd25519 { key: ed25519(reader)?, application: application(reader)? }),
            KeyType::SkEcdsaP256 => Ok(Self::SkEcdsa { point: point(Curve::P256, reader)?, application: application(reader)? }),
        }
    }

    fn ecdsa(curve: Curve, reader: &mut Reader<'_>) -> Result<Self, BadKey> {
        Ok(Self::Ecdsa { curve, point: point(curve, reader)? })
    }

    fn rsa(exponent: &[u8], modulus: &[u8]) -> Result<Self, BadKey> {
        let leading = modulus.first().map_or(0, |byte| usize::try_from(byte.leading_zeros()).unwrap_or(0));
        let bits = modulus.len().saturating_mul(8).saturating_sub(leading);
        if leading == 8 || !RSA_BITS.contains(&bits) {
            return Err(BadKey::RsaSize);
        }
        let odd = exponent.last().is_some_and(|byte| byte & 1 == 1);
        if !odd || exponent == [1] || exponent.len() > EXPONENT_MAX {
            return Err(BadKey::RsaExponent);
        }
        Ok(Self::Rsa { exponent: exponent.to_vec(), modulus: modulus.to_vec() })
    }

    fn kind(&self) -> KeyType {
        match self {
            Self::Ed25519 { .. } => KeyType::Ed25519,
            Self::Ecdsa { curve, .. } => curve.kind(),
            Self::Rsa { .. } => KeyType::Rsa,
            Self::SkEd25519 { .. } => KeyType::SkEd25519,
            Self::SkEcdsa { .. } => KeyType::SkEcdsaP256,
        }
    }

    fn blob(&self) -> Vec<u8> {
        let mut blob = Vec::new();
        blob.put_string(self.kind().name());
        self.write_fields(&mut blob);
        blob
    }

    fn write_fields(&self, blob: &mut Vec<u8>) {
        match self {
            Self::Ed25519 { key } => blob.put_string(key),
            Self::Ecdsa { curve, point } => blob.put_string(curve.name()).put_string(point),
            Self::Rsa { exponent, modulus } => blob.put_mpint(exponent).put_mpint(modulus),
            Self::SkEd25519 { key, application } => blob.put_string(key).put_string(application),
            Self::SkEcdsa { point, application } => blob.put_string(Curve::P256.name()).put_string(point).put_string(application),
        };
    }
}

impl Curve {
    pub(crate) const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    /// Its identifier in a blob.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::P256 => "nistp256",
            Self::P384 => "nistp384",
            Self::P521 => "nistp521",
        }
    }

    /// Bytes of a coordinate and of a scalar.
    pub(crate) fn width(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    pub(crate) fn kind(self) -> KeyType {
        match self {
            Self::P256 => KeyType::EcdsaP256,
            Self::P384 => KeyType::EcdsaP384,
            Self::P521 => KeyType::EcdsaP521,
        }
    }

    /// A point in the uncompressed form (SEC 1 §2.3.3), which is the only one that is sent (RFC 5656 §3.1 allows others, nobody uses them).
    fn point(self, point: &[u8]) -> Result<Vec<u8>, BadKey> {
        let length = self.width().saturating_mul(2).saturating_add(1);
        if point.len() != length || point.first() != Some(&4) || !verify::is_on_curve(self, point) {
            return Err(BadKey::Point);
        }
        Ok(point.to_vec())
    }
}

fn ed25519(reader: &mut Reader<'_>) -> Result<[u8; ED25519], BadKey> {
    reader.string().ok().and_then(|key| key.try_into().ok()).ok_or(BadKey::Malformed)
}

fn point(curve: Curve, reader: &mut Reader<'_>) -> Result<Vec<u8>, BadKey> {
    if reader.string().map_err(|_| BadKey::Malformed)? != curve.name().as_bytes() {
        return Err(BadKey::Curve);
    }
    curve.point(reader.string().map_err(|_| BadKey::Malformed)?)
}

fn application(reader: &mut Reader<'_>) -> Result<Vec<u8>, BadKey> {
    let application = reader.string().map_err(|_| BadKey::Malformed)?;
    if application.len() > APPLICATION_MAX { Err(BadKey::Malformed) } else { Ok(application.to_vec()) }
}

impl fmt::Display for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the key is malformed",
            Self::Type => "the type of the key is unknown or not allowed",
            Self::Certificate => "a certificate where a key must be",
            Self::Curve => "the key is of another curve than its type says",
            Self::Point => "the key is not a point of its curve",
            Self::RsaSize => "an RSA key must have 2048 to 8192 bits",
            Self::RsaExponent => "the exponent of the RSA key is not acceptable",
            Self::Line => "expected `type base64 [comment]`",
            Self::Option => "expected no option but `no-touch-required` and `verify-required`",
        })
    }
}

impl std::error::Error for BadKey {}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;
