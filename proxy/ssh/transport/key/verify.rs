//! Does this signature count? (RFC 4253 §6.6, RFC 5656 §3.1.2, RFC 8332 §3, RFC 8709 §6, PROTOCOL.u2f; rules 4, 9, 19 and 21.)

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, EcdsaVerificationAlgorithm, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};

use super::algorithm::{Algorithm, Form};
use super::{Curve, Parts, PublicKey};
use crate::shown::Shown;
use crate::untrusted::Untrusted;
use crate::wire::{Put, Reader};

/// Bytes of an Ed25519 signature.
const ED25519_SIGNATURE: usize = 64;
/// The flags that a security key signs (PROTOCOL.u2f; WebAuthn §6.1): its user was there, and it knows that it was its owner.
const USER_PRESENT: u8 = 0x01;
const USER_VERIFIED: u8 = 0x04;

/// What a security key must have seen of its owner before it signed. Other keys have nothing to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SkPolicy {
    /// A touch.
    pub touch: Demand,
    /// A PIN or a fingerprint.
    pub verification: Demand,
}

/// Is it needed?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// A signature without it does not count.
    Required,
    /// It counts with it and without.
    Waived,
}

impl SkPolicy {
    /// A touch and no more: what sshd asks where nothing else is said.
    pub const TOUCH: Self = Self { touch: Demand::Required, verification: Demand::Waived };
    /// Nothing: for certificates, whose authority may be a security key that signs in a machine.
    pub(crate) const NOTHING: Self = Self { touch: Demand::Waived, verification: Demand::Waived };

    fn allows(self, flags: u8) -> Result<(), Untrusted> {
        if self.touch == Demand::Required && flags & USER_PRESENT == 0 {
            return Err(Untrusted::NoTouch);
        }
        if self.verification == Demand::Required && flags & USER_VERIFIED == 0 {
            return Err(Untrusted::NoVerification);
        }
        Ok(())
    }
}

impl PublicKey {
    /// Did this key sign `message`, by this algorithm? `signature` is the blob: the name of the algorithm, the signature, and for a security
    /// key its flags and counter. `algorithm` is the one agreed on (`signature_algorithm` of the request's or the key exchange's): the
    /// signature must say the same of itself and the key must be of its type.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn verify(&self, algorithm: &str, message: &[u8], signature: &[u8], policy: SkPolicy) -> Result<(), Untrusted> {
        let agreed = match Algorithm::named(algorithm) {
            Some((agreed, Form::Plain)) => agreed,
            Some((_, Form::Certificate)) => return Err(Untrusted::AlgorithmOfAnotherKey),
            None => return Err(Untrusted::Algorithm(Shown::new(algorithm.as_bytes()))),
        };
        if agreed.key != self.kind() {
            return Err(Untrusted::AlgorithmOfAnotherKey);
        }
        let mut reader = Reader::new(signature);
        if reader.string().map_err(|_| Untrusted::SignatureMalformed)? != agreed.name.as_bytes() {
            return Err(Untrusted::SignatureOfAnotherAlgorithm);
        }
        let bytes = reader.string().map_err(|_| Untrusted::SignatureMalformed)?;
        match &self.parts {
            Parts::Ed25519 { key } => {
                ended(&reader)?;
                ed25519(key, message, bytes)
            }
            Parts::Ecdsa { curve, point } => {
                ended(&reader)?;
                ecdsa(*curve, point, message, bytes)
            }
            Parts::Rsa { exponent, modulus } => {
                ended(&reader)?;
                rsa(agreed, exponent, modulus, message, bytes)
            }
            Parts::SkEd25519 { key, application } => ed25519(key, &seen(&mut reader, application, message, policy)?, bytes),
            Parts::SkEcdsa { point, application } => ecdsa(Curve::P256, point, &seen(&mut reader, application, message, policy)?, bytes),
        }
    }
}

/// Is it a point of the curve?
pub(super) fn is_on_curve(curve: Curve, point: &[u8]) -> bool {
    ParsedPublicKey::new(curve.verification(), point).is_ok()
}

impl Curve {
    fn verification(self) -> &'static EcdsaVerificationAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED,
            Self::P384 => &ECDSA_P384_SHA384_FIXED,
            Self::P521 => &ECDSA_P521_SHA512_FIXED,
        }
    }
}

/// What a security key signs instead of the message: hash of the application, flags, counter, hash of the message. The signature is checked
/// over them, so what the flags say is the key's word and not the client's.
fn seen(reader: &mut Reader<'_>, application: &[u8], message: &[u8], policy: SkPolicy) -> Result<Vec<u8>, Untrusted> {
    let flags = reader.u8().map_err(|_| Untrusted::SignatureMalformed)?;
    let counter = reader.u32().map_err(|_| Untrusted::SignatureMalformed)?;
    ended(reader)?;
    policy.allows(flags)?;
    let mut signed = digest(&SHA256, application).as_ref().to_vec();
    signed.put_u8(flags);
    signed.put_u32(counter);
    signed.extend_from_slice(digest(&SHA256, message).as_ref());
    Ok(signed)
}

fn ended(reader: &Reader<'_>) -> Result<(), Untrusted> {
    reader.end().map_err(|_| Untrusted::SignatureMalformed)
}

fn ed25519(key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), Untrusted> {
    if signature.len() != ED25519_SIGNATURE {
        return Err(Untrusted::SignatureMalformed);
    }
    UnparsedPublicKey::new(&ED25519, key).verify(message, signature).map_err(|_| Untrusted::SignatureWrong)
}

/// The signature is two numbers, r and s, of the length that they happen to have.
fn ecdsa(curve: Curve, point: &[u8], message: &[u8], signature: &[u8]) -> Result<(), Untrusted> {
    let mut reader = Reader::new(signature);
    let mut fixed = Vec::with_capacity(curve.width().saturating_mul(2));
    for _ in ["r", "s"] {
        let number = reader.mpint().map_err(|_| Untrusted::SignatureMalformed)?;
        fixed.extend(padded(number, curve.width()).ok_or(Untrusted::SignatureMalformed)?);
    }
    ended(&reader)?;
    UnparsedPublicKey::new(curve.verification(), point).verify(message, &fixed).map_err(|_| Untrusted::SignatureWrong)
}

/// A signature is as long as the modulus; like OpenSSH we take one whose leading zeros were left out (RFC 8332 §3 allows to).
fn rsa(algorithm: Algorithm, exponent: &[u8], modulus: &[u8], message: &[u8], signature: &[u8]) -> Result<(), Untrusted> {
    let parameters: &RsaParameters = match algorithm.name {
        "rsa-sha2-256" => &RSA_PKCS1_2048_8192_SHA256,
        "rsa-sha2-512" => &RSA_PKCS1_2048_8192_SHA512,
        _ => return Err(Untrusted::AlgorithmOfAnotherKey),
    };
    let full = padded(signature, modulus.len()).ok_or(Untrusted::SignatureMalformed)?;
    RsaPublicKeyComponents { n: modulus, e: exponent }.verify(parameters, message, &full).map_err(|_| Untrusted::SignatureWrong)
}

/// The number in exactly so many bytes. `None`: it needs more.
pub(crate) fn padded(number: &[u8], width: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; width.checked_sub(number.len())?];
    bytes.extend_from_slice(number);
    Some(bytes)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;
