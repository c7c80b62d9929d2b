//! The RSA key by which a client without TLS, on this machine, hides its password from whoever listens on the loopback
//! (caching_sha2_password and sha256_password: OAEP with SHA-1 and MGF1-SHA-1 over the password mixed with the scramble).
//!
//! It is made by the process at its first use and never stored: no client is meant to know it from before.

use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeySize, OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

/// Characters in a line of PEM (RFC 7468 §2).
const PEM_LINE: usize = 64;

/// The process's key, once somebody needs it.
#[derive(Default)]
pub(crate) struct KeyPair(OnceCell<Arc<Key>>);

/// A key that is there.
pub(super) struct Key {
    private: OaepPrivateDecryptingKey,
    public: String,
}

impl KeyPair {
    /// The key. Its first user waits for it to be made: some tenths of a second, not on the runtime's own threads. `None`: it cannot be
    /// made on this machine.
    pub(super) async fn get(&self) -> Option<Arc<Key>> {
        let making = || async { tokio::task::spawn_blocking(Key::make).await.ok().flatten().map(Arc::new).ok_or(()) };
        self.0.get_or_try_init(making).await.ok().cloned()
    }
}

impl Key {
    fn make() -> Option<Self> {
        let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).ok()?;
        let spki: PublicKeyX509Der<'_> = private.public_key().as_der().ok()?;
        Some(Self { public: pem(spki.as_ref()), private: OaepPrivateDecryptingKey::new(private).ok()? })
    }

    /// The public half, as SubjectPublicKeyInfo in PEM: what a client asks a server for.
    pub(super) fn public(&self) -> &str {
        &self.public
    }

    /// How long a sealed password is, in bytes.
    pub(super) fn sealed_len(&self) -> usize {
        self.private.key_size_bytes()
    }

    /// The password (at most 213 bytes) that a client sealed for us, mixed with the scramble that it had of us. `None`: whatever is wrong
    /// with it; which of the checks failed must not be told to anybody.
    pub(super) fn open(&self, sealed: &[u8], scramble: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut buffer = Zeroizing::new(vec![0; self.private.min_output_size()]);
        let mixed = self.private.decrypt(&OAEP_SHA1_MGF1SHA1, sealed, &mut buffer, None).ok()?;
        for (byte, mask) in mixed.iter_mut().zip(scramble.iter().cycle()) {
            *byte ^= mask;
        }
        let (last, password) = mixed.split_last()?;
        (*last == 0).then(|| Zeroizing::new(password.to_vec()))
    }
}

fn pem(der: &[u8]) -> String {
    let mut text = String::from("-----BEGIN PUBLIC KEY-----\n");
    let encoded = STANDARD.encode(der);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(PEM_LINE).unwrap_or((rest, ""));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END PUBLIC KEY-----\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRAMBLE: &[u8; 20] = b"abcdefghijklmnopqrst";

    /// As a client does it, with another implementation than ours.
    fn seal(key: &Key, password: &[u8], scramble: &[u8]) -> Vec<u8> {
        let mixed: Vec<u8> = password.iter().zip(scramble.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        mysql_common::crypto::encrypt(&mixed, key.public().as_bytes()).unwrap()
    }

    #[tokio::test]
    async fn a_client_seals_its_password_for_the_one_key_of_the_process() {
        let keys = KeyPair::default();
        let key = keys.get().await.unwrap();
        assert!(Arc::ptr_eq(&key, &keys.get().await.unwrap()), "made once");
        assert!(key.public().lines().all(|line| line.len() <= PEM_LINE));
        for password in ["p", "a password", "p\u{e4}ss", &"x".repeat(213)] {
            let sealed = seal(&key, &[password.as_bytes(), &[0]].concat(), SCRAMBLE);
            assert_eq!(sealed.len(), key.sealed_len());
            assert_eq!(key.open(&sealed, SCRAMBLE).unwrap().as_slice(), password.as_bytes());
        }
    }

    #[tokio::test]
    async fn what_was_not_sealed_for_us_just_now_does_not_open() {
        let key = KeyPair::default().get().await.unwrap();
        let other = KeyPair::default().get().await.unwrap();
        let sealed = seal(&key, b"a password\0", SCRAMBLE);
        assert!(other.open(&sealed, SCRAMBLE).is_none(), "sealed for another key");
        assert_ne!(key.open(&sealed, b"tsrqponmlkjihgfedcba").as_deref().map(Vec::as_slice), Some(b"a password".as_slice()), "replayed");
        assert!(key.open(&seal(&key, b"a password", SCRAMBLE), SCRAMBLE).is_none(), "without its NUL");
        let mut broken = sealed.clone();
        broken[128] ^= 1;
        assert!(key.open(&broken, SCRAMBLE).is_none());
        for length in [0, 1, 255, 257, 4096] {
            assert!(key.open(&vec![7; length], SCRAMBLE).is_none(), "{length} bytes");
        }
        assert!(key.open(&[0xff; 256], SCRAMBLE).is_none(), "greater than the modulus");
    }
}
