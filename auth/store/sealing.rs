//! Secrets at rest: values in a table and the sealed file are AES-256-GCM (NIST SP 800-38D) under one key of 32 bytes.
//!
//! ```text
//! v1:<base64 of nonce, ciphertext, tag>                                         the key itself is known
//! v1:argon2id,m=65536,t=3,p=1,<salt in base64>:<base64 of the same>             the key comes of a passphrase (RFC 9106)
//! ```
//!
//! What stands before the last colon and the name of the secret are associated data: nobody can put the value of one secret in the place of
//! another, nor weaken what a passphrase is stretched by. Nonces are random: one key is good for 2³² values.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// What every sealed text begins with.
const VERSION: &str = "v1";
const KEY_LEN: usize = 32;
const SALT_LEN: usize = 16;
/// The shortest passphrase that we seal by.
const MIN_PASSPHRASE: usize = 12;
/// What a new passphrase is stretched by: RFC 9106 §4, the second recommended option, on one lane.
const STRETCH: Stretch = Stretch { memory: 64 * 1024, passes: 3, lanes: 1, salt: [0; SALT_LEN] };
/// What we let a sealed text ask of us: memory in KiB, passes, lanes.
const MOST: (u32, u32, u32) = (256 * 1024, 16, 16);

/// By what secrets are sealed: 32 bytes in base64, or a passphrase. Zeroised when dropped.
pub(crate) struct SealingKey(Form);

enum Form {
    Key(Zeroizing<[u8; KEY_LEN]>),
    Passphrase(Zeroizing<String>),
}

/// Why a sealed text stays closed. Without any part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SealError {
    /// It does not have the form of a sealed text.
    NotSealed,
    /// It was sealed by a passphrase, and we have a key; or the other way round.
    OtherSort,
    /// Another key, another name, or somebody changed it: these cannot be told apart.
    WrongKey,
    /// The passphrase is too short to seal by.
    ShortPassphrase,
    /// The machine has no random numbers, or not enough memory to stretch a passphrase.
    Machine,
}

/// How a passphrase becomes a key: argon2id's memory in KiB, passes, lanes, and the salt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stretch {
    memory: u32,
    passes: u32,
    lanes: u32,
    salt: [u8; SALT_LEN],
}

impl SealingKey {
    /// Takes 32 bytes in base64 as the key itself, and any other text as a passphrase. Blanks around it are not part of it.
    pub(crate) fn new(text: &str) -> Self {
        let text = text.trim();
        let mut key = Zeroizing::new([0; KEY_LEN]);
        let mut bytes = Zeroizing::new(STANDARD.decode(text).unwrap_or_default());
        if bytes.len() == KEY_LEN {
            key.copy_from_slice(&bytes);
            bytes.clear();
            return Self(Form::Key(key));
        }
        Self(Form::Passphrase(Zeroizing::new(text.to_owned())))
    }

    /// A new random key as a text for [`SealingKey::new`].
    ///
    /// # Errors
    /// `Machine`.
    pub(crate) fn make() -> Result<Zeroizing<String>, SealError> {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        rand::fill(key.as_mut()).map_err(|_| SealError::Machine)?;
        Ok(Zeroizing::new(STANDARD.encode(*key)))
    }

    /// Seals the value of the secret of this name. Takes tenths of a second of a core with a passphrase: never on the runtime's own threads.
    ///
    /// # Errors
    /// `ShortPassphrase`, `Machine`.
    pub(crate) fn seal(&self, name: &str, plain: &[u8]) -> Result<String, SealError> {
        let mut stretch = STRETCH;
        rand::fill(&mut stretch.salt).map_err(|_| SealError::Machine)?;
        let (head, key) = match &self.0 {
            Form::Key(key) => (VERSION.to_owned(), key.clone()),
            Form::Passphrase(text) if text.chars().count() < MIN_PASSPHRASE => return Err(SealError::ShortPassphrase),
            Form::Passphrase(text) => (format!("{VERSION}:{stretch}"), stretch.key(text)?),
        };
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| SealError::Machine)?;
        let mut sealed = Zeroizing::new(plain.to_vec());
        let tag = cipher(&key)?.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), associated(&head, name), &mut sealed);
        let tag = tag.map_err(|_| SealError::Machine)?;
        let body = [&nonce, sealed.as_slice(), tag.as_ref()].concat();
        Ok(format!("{head}:{}", STANDARD.encode(body)))
    }

    /// Opens what was sealed under this name. Takes as long as [`SealingKey::seal`].
    ///
    /// # Errors
    /// `NotSealed`, `OtherSort`, `WrongKey`, `Machine`.
    pub(crate) fn open(&self, name: &str, sealed: &str) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (head, body) = sealed.trim().rsplit_once(':').ok_or(SealError::NotSealed)?;
        let stretch = match head.strip_prefix(VERSION).ok_or(SealError::NotSealed)? {
            "" => None,
            stretch => Some(Stretch::parse(stretch.strip_prefix(':').ok_or(SealError::NotSealed)?).ok_or(SealError::NotSealed)?),
        };
        let mut body = Zeroizing::new(STANDARD.decode(body).map_err(|_| SealError::NotSealed)?);
        let (nonce, sealed) = body.split_first_chunk_mut::<NONCE_LEN>().ok_or(SealError::NotSealed)?;
        let key = match (&self.0, stretch) {
            (Form::Key(key), None) => key.clone(),
            (Form::Passphrase(text), Some(stretch)) => stretch.key(text)?,
            (Form::Key(_), Some(_)) | (Form::Passphrase(_), None) => return Err(SealError::OtherSort),
        };
        let plain = cipher(&key)?.open_in_place(Nonce::assume_unique_for_key(*nonce), associated(head, name), sealed);
        plain.map(|plain| Zeroizing::new(plain.to_vec())).map_err(|_| SealError::WrongKey)
    }
}

/// Whether a text has the form of one that was sealed, and not of a plain value.
pub(crate) fn is_sealed(text: &str) -> bool {
    text.trim_start().strip_prefix(VERSION).is_some_and(|rest| rest.starts_with(':'))
}

fn cipher(key: &[u8; KEY_LEN]) -> Result<LessSafeKey, SealError> {
    UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new).map_err(|_| SealError::Machine)
}

/// The head has no NUL in it, so that no two pairs of head and name are the same bytes.
fn associated(head: &str, name: &str) -> Aad<Vec<u8>> {
    Aad::from([head.as_bytes(), b"\0", name.as_bytes()].concat())
}

impl Stretch {
    fn key(&self, passphrase: &str) -> Result<Zeroizing<[u8; KEY_LEN]>, SealError> {
        let params = Params::new(self.memory, self.passes, self.lanes, Some(KEY_LEN)).map_err(|_| SealError::NotSealed)?;
        let mut key = Zeroizing::new([0; KEY_LEN]);
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon2.hash_password_into(passphrase.as_bytes(), &self.salt, key.as_mut()).map_err(|_| SealError::Machine)?;
        Ok(key)
    }

    /// Reads `argon2id,m=…,t=…,p=…,<salt>` within bounds: whoever can write the text must not make us allocate what he likes.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("argon2id,")?.split(',');
        let mut number = |name: &str, most: u32| {
            let digits = parts.next()?.strip_prefix(name)?;
            digits.parse::<u32>().ok().filter(|number| *number >= 1 && *number <= most && digits.bytes().all(|b| b.is_ascii_digit()))
        };
        let (memory, passes, lanes) = (number("m=", MOST.0)?, number("t=", MOST.1)?, number("p=", MOST.2)?);
        let salt = STANDARD.decode(parts.next()?).ok()?.try_into().ok()?;
        parts.next().is_none().then_some(Self { memory, passes, lanes, salt })
    }
}

impl fmt::Display for Stretch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "argon2id,m={},t={},p={},{}", self.memory, self.passes, self.lanes, STANDARD.encode(self.salt))
    }
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSealed => "this is not a sealed text (v1:…)",
            Self::OtherSort => "it is sealed by a passphrase and this is a key (32 bytes in base64), or the other way round",
            Self::WrongKey => "it was sealed by another key or for another name, or it was changed since",
            Self::ShortPassphrase => "a passphrase has at least 12 characters; a key is 32 bytes in base64",
            Self::Machine => "this machine has no random numbers, or too little memory",
        })
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[sealing key]")
    }
}

#[cfg(test)]
mod tests;
