//! The server's RSA key, by which caching_sha2_password and sha256_password hide a password where there is no TLS.

use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

use crate::mysql::wire::SCRAMBLE;

/// A key of 8192 bits has about 1500 bytes of PEM.
const PEM_MAX: usize = 4096;

/// Whether it is a key that a password can be hidden by: PEM (`PUBLIC KEY`), RSA, 2048 to 8192 bits.
///
/// # Errors
/// A text for the operator.
pub(in crate::mysql) fn check(pem: &[u8]) -> Result<(), &'static str> {
    read(pem).map(drop)
}

/// The password and its NUL, mixed with the scramble and encrypted (OAEP with SHA-1 and MGF1-SHA-1).
///
/// # Errors
/// The key is none, or too small for the password. A text for the operator.
pub(super) fn hide(pem: &[u8], password: &[u8], scramble: &[u8; SCRAMBLE]) -> Result<Vec<u8>, &'static str> {
    let key = read(pem)?;
    let mut mixed = Zeroizing::new(Vec::with_capacity(password.len().saturating_add(1)));
    mixed.extend(password.iter().chain([&0]).zip(scramble.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    let mut hidden = vec![0; key.ciphertext_size()];
    let length = key.encrypt(&OAEP_SHA1_MGF1SHA1, &mixed, &mut hidden, None).map(|hidden| hidden.len());
    hidden.truncate(length.map_err(|_| "the password is longer than the server's RSA key can hide")?);
    Ok(hidden)
}

fn read(pem: &[u8]) -> Result<OaepPublicEncryptingKey, &'static str> {
    const NONE: &str = "not an RSA key of 2048 to 8192 bits in PEM (`BEGIN PUBLIC KEY`)";
    let pem = pem.get(..pem.len().min(PEM_MAX)).unwrap_or_default();
    let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| NONE)?;
    let key = PublicEncryptingKey::from_der(&der).map_err(|_| NONE)?;
    if !(2048..=8192).contains(&key.key_size_bits()) {
        return Err(NONE);
    }
    OaepPublicEncryptingKey::new(key).map_err(|_| NONE)
}
