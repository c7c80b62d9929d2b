//! Private keys as files: OpenSSH's own format (PROTOCOL.key), with and without a passphrase, and what `openssl` writes without one
//! (PKCS#8, RFC 5958; PKCS#1, RFC 8017 A.1.2; SEC 1, RFC 5915).
//!
//! The reader is our own because ssh-key 0.6 refuses each ECDSA key whose secret number happens to be shorter than its curve, which is
//! every fourth one of nistp521. The derivation of the key and the ciphers of the file are still ssh-key's.

use std::fmt;

use aws_lc_rs::rsa;
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, RsaPublicKeyComponents};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ssh_key::{Cipher, Kdf};
use zeroize::Zeroizing;

use super::crt::reduced;
use super::{Ecdsa, Ed25519, Rsa, SEED, Signer};
use crate::key::{BadKey, Curve, KeyType, PublicKey};
use crate::wire::{Malformed, Put, Reader};

/// Bytes of a file.
const FILE_MAX: usize = 64 * 1024;
/// Rounds of bcrypt that a file may ask of us: about a hundredth of a second each. `ssh-keygen` asks for 16 or 24, careful people for 100.
const ROUNDS_MAX: u32 = 256;
/// Bytes of bcrypt's salt; `ssh-keygen` writes 16.
const SALT_MAX: usize = 64;
/// Bytes of each secret number of an RSA key of 8192 bits.
const RSA_MAX: usize = 1024;
/// Bytes of the tag behind a file that is sealed by GCM or Poly1305.
const TAG: usize = 16;
/// What the format begins with.
const MAGIC: &[u8] = b"openssh-key-v1\0";
const OPENSSH: &str = "OPENSSH PRIVATE KEY";
/// Characters in a line of OpenSSH's files, and of the comment of a file that we write.
const LINE: usize = 70;
const COMMENT_MAX: usize = 128;
/// What a private part without a cipher is padded to.
const BLOCK: usize = 8;
/// Bytes of padding: less than a block of any cipher, and some writers pad by a whole one.
const PADDING_MAX: usize = 16;

/// Why a file is no key that we can use. Says nothing of what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadFile {
    /// Not a private key in PEM; of what follows, nothing was looked at.
    NotAPrivateKey,
    /// A key of PuTTY's.
    Putty,
    /// It has a passphrase, and none was given.
    PassphraseNeeded,
    /// The passphrase is wrong.
    WrongPassphrase,
    /// It is encrypted in another way than OpenSSH's.
    OtherEncryption,
    /// Reading it would take too long: its passphrase is hashed more than 256 times.
    TooManyRounds,
    /// It ends too early, goes on too long, or its parts do not fit together.
    Malformed,
    /// The secret is inside a security key.
    SecurityKey,
    /// Its public half is none that we take.
    Key(BadKey),
}

/// Reads a private key. Line ends of Windows, indented lines and a missing last line end are forgiven: keys come out of secret stores into
/// which people pasted them. The passphrase of a key that has none is not looked at; one that is needed takes up to seconds to hash, so this is
/// not for a thread on which others wait.
///
/// # Errors
/// Why it cannot be used.
pub fn read_private_key(pem: &[u8], passphrase: Option<&[u8]>) -> Result<Box<dyn Signer>, BadFile> {
    let (label, contents) = unwrap_pem(pem)?;
    match label {
        OPENSSH => read_openssh(&contents, passphrase),
        "RSA PRIVATE KEY" => Ok(Box::new(Rsa::new(rsa::KeyPair::from_der(&contents).map_err(|_| BadFile::Malformed)?)?)),
        "EC PRIVATE KEY" => read_sec1(&contents),
        "PRIVATE KEY" => read_pkcs8(&contents),
        "ENCRYPTED PRIVATE KEY" => Err(BadFile::OtherEncryption),
        "DSA PRIVATE KEY" => Err(BadFile::Key(BadKey::Type)),
        _ => Err(BadFile::NotAPrivateKey),
    }
}

/// The label and the contents of the first PEM block (RFC 7468).
fn unwrap_pem(pem: &[u8]) -> Result<(&str, Zeroizing<Vec<u8>>), BadFile> {
    let text = str::from_utf8(pem).map_err(|_| BadFile::NotAPrivateKey)?;
    if text.len() > FILE_MAX {
        return Err(BadFile::NotAPrivateKey);
    }
    if text.trim_start().starts_with("PuTTY-User-Key-File-") {
        return Err(BadFile::Putty);
    }
    let (_, after) = text.split_once("-----BEGIN ").ok_or(BadFile::NotAPrivateKey)?;
    let (label, after) = after.split_once("-----").ok_or(BadFile::NotAPrivateKey)?;
    let (body, after) = after.split_once("-----END ").ok_or(BadFile::NotAPrivateKey)?;
    if !after.strip_prefix(label).is_some_and(|rest| rest.starts_with("-----")) {
        return Err(BadFile::NotAPrivateKey);
    }
    if body.contains("ENCRYPTED") {
        // The headers of RFC 1421: a key derived by MD5.
        return Err(BadFile::OtherEncryption);
    }
    let mut encoded = Zeroizing::new(Vec::with_capacity(body.len()));
    encoded.extend(body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    let mut contents = Zeroizing::new(vec![0; body.len()]);
    let length = STANDARD.decode_slice(encoded.as_slice(), &mut contents).map_err(|_| BadFile::NotAPrivateKey)?;
    contents.truncate(length);
    Ok((label, contents))
}

fn read_pkcs8(der: &[u8]) -> Result<Box<dyn Signer>, BadFile> {
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
        return Ok(Box::new(Ed25519::new(pair)?));
    }
    if let Ok(pair) = rsa::KeyPair::from_pkcs8(der) {
        return Ok(Box::new(Rsa::new(pair)?));
    }
    read_sec1(der)
}

fn read_sec1(der: &[u8]) -> Result<Box<dyn Signer>, BadFile> {
    for curve in Curve::ALL {
        if let Ok(pair) = EcdsaKeyPair::from_private_key_der(curve.signing(), der) {
            return Ok(Box::new(Ecdsa::new(curve, pair)?));
        }
    }
    Err(BadFile::Malformed)
}

fn read_openssh(contents: &[u8], passphrase: Option<&[u8]>) -> Result<Box<dyn Signer>, BadFile> {
    let mut reader = Reader::new(contents.strip_prefix(MAGIC).ok_or(BadFile::Malformed)?);
    let cipher = reader.text()?;
    let derivation = reader.text()?;
    let options = reader.string()?;
    if reader.u32()? != 1 {
        return Err(BadFile::Malformed);
    }
    let public = reader.string()?;
    let sealed = reader.string()?;
    let mut private = Zeroizing::new(sealed.to_vec());
    let mismatch = if cipher == "none" && derivation == "none" {
        reader.end()?;
        BadFile::Malformed
    } else {
        let passphrase = passphrase.ok_or(BadFile::PassphraseNeeded)?;
        decrypt(cipher, &derivation_of(derivation, options)?, reader, passphrase, &mut private)?;
        BadFile::WrongPassphrase
    };
    let mut inside = Reader::new(&private);
    if inside.u32()? != inside.u32()? {
        return Err(mismatch);
    }
    let signer = read_pair(&mut inside)?;
    inside.string()?; // the comment
    // The length first: the numbers of the padding end at 255.
    let fits = inside.rest().len() <= PADDING_MAX && inside.rest().iter().zip(1_u8..).all(|(byte, wanted)| *byte == wanted);
    if !fits || signer.public().blob() != public {
        return Err(BadFile::Malformed);
    }
    Ok(signer)
}

fn derivation_of(name: &str, options: &[u8]) -> Result<Kdf, BadFile> {
    if name != "bcrypt" {
        return Err(BadFile::OtherEncryption);
    }
    let mut reader = Reader::new(options);
    let (salt, rounds) = (reader.string()?, reader.u32()?);
    reader.end()?;
    if salt.is_empty() || salt.len() > SALT_MAX || rounds == 0 {
        return Err(BadFile::Malformed);
    }
    if rounds > ROUNDS_MAX {
        return Err(BadFile::TooManyRounds);
    }
    Ok(Kdf::Bcrypt { salt: salt.to_vec(), rounds })
}

/// Opens the private part in place. `after` is what follows it in the file: the tag, if the cipher has one.
fn decrypt(cipher: &str, kdf: &Kdf, mut after: Reader<'_>, passphrase: &[u8], private: &mut [u8]) -> Result<(), BadFile> {
    let cipher = Cipher::new(cipher).map_err(|_| BadFile::OtherEncryption)?;
    let tag = if cipher.has_tag() { Some(after.array::<TAG>()?) } else { None };
    after.end()?;
    if private.is_empty() || !private.len().is_multiple_of(cipher.block_size()) {
        return Err(BadFile::Malformed);
    }
    if passphrase.is_empty() {
        return Err(BadFile::WrongPassphrase);
    }
    let (key, iv) = kdf.derive_key_and_iv(cipher, passphrase).map_err(|_| BadFile::OtherEncryption)?;
    cipher.decrypt(&key, &iv, private, tag).map_err(|_| BadFile::WrongPassphrase)
}

fn read_pair(reader: &mut Reader<'_>) -> Result<Box<dyn Signer>, BadFile> {
    let kind = KeyType::named(reader.string()?).ok_or(BadFile::Key(BadKey::Type))?;
    match kind {
        KeyType::Ed25519 => {
            let public = reader.string()?;
            let (seed, again) = reader.string()?.split_at_checked(SEED).ok_or(BadFile::Malformed)?;
            if again != public {
                return Err(BadFile::Malformed);
            }
            let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public).map_err(|_| BadFile::Malformed)?;
            Ok(Box::new(Ed25519::new(pair)?))
        }
        KeyType::EcdsaP256 => read_ecdsa(Curve::P256, reader),
        KeyType::EcdsaP384 => read_ecdsa(Curve::P384, reader),
        KeyType::EcdsaP521 => read_ecdsa(Curve::P521, reader),
        KeyType::Rsa => read_rsa(reader),
        KeyType::SkEd25519 | KeyType::SkEcdsaP256 => Err(BadFile::SecurityKey),
    }
}

fn read_ecdsa(curve: Curve, reader: &mut Reader<'_>) -> Result<Box<dyn Signer>, BadFile> {
    if reader.text()? != curve.name() {
        return Err(BadFile::Key(BadKey::Curve));
    }
    let point = reader.string()?;
    let secret = reader.mpint()?;
    let missing = curve.width().checked_sub(secret.len()).ok_or(BadFile::Malformed)?;
    let mut scalar = Zeroizing::new(Vec::with_capacity(curve.width()));
    scalar.resize(missing, 0);
    scalar.extend_from_slice(secret);
    let pair = EcdsaKeyPair::from_private_key_and_public_key(curve.signing(), &scalar, point).map_err(|_| BadFile::Malformed)?;
    Ok(Box::new(Ecdsa::new(curve, pair)?))
}

fn read_rsa(reader: &mut Reader<'_>) -> Result<Box<dyn Signer>, BadFile> {
    let (n, e) = (reader.mpint()?, reader.mpint()?);
    PublicKey::of_rsa(e, n)?;
    let (d, inverse, p, q) = (reader.mpint()?, reader.mpint()?, reader.mpint()?, reader.mpint()?);
    if [d, inverse, p, q].iter().any(|number| number.len() > RSA_MAX) {
        return Err(BadFile::Malformed);
    }
    let components = rsa::KeyPairComponents {
        public_key: RsaPublicKeyComponents { n, e },
        d,
        p,
        q,
        dP: &*reduced(d, p),
        dQ: &*reduced(d, q),
        qInv: inverse,
    };
    Ok(Box::new(Rsa::new(rsa::KeyPair::from_components(&components).map_err(|_| BadFile::Malformed)?)?))
}

/// Writes a file without a passphrase: who may read it is the business of the folder that it lies in.
pub(super) fn write_ed25519(seed: &[u8; SEED], public: &PublicKey, comment: &str) -> Zeroizing<String> {
    let comment: String = comment.chars().filter(|c| !c.is_control()).take(COMMENT_MAX).collect();
    let key = public.blob().get(public.blob().len().saturating_sub(SEED)..).unwrap_or_default();
    // No reallocation leaves a copy behind.
    let mut private = Zeroizing::new(Vec::with_capacity(2 * FILE_PART));
    // The two equal numbers say whether a passphrase was right. There is none.
    private.put_u32(0).put_u32(0).put_string(KeyType::Ed25519.name()).put_string(key);
    private.put_u32(64).put_bytes(seed).put_bytes(key).put_string(&comment);
    let missing = private.len().next_multiple_of(BLOCK).saturating_sub(private.len());
    private.extend((1_u8..).take(missing));
    let mut contents = Zeroizing::new(Vec::with_capacity(3 * FILE_PART));
    contents.put_bytes(MAGIC).put_string("none").put_string("none").put_string("").put_u32(1);
    contents.put_string(public.blob()).put_string(private.as_slice());
    let mut encoded = Zeroizing::new(String::with_capacity(6 * FILE_PART));
    STANDARD.encode_string(contents.as_slice(), &mut encoded);
    let mut text = Zeroizing::new(String::with_capacity(8 * FILE_PART));
    text.push_str("-----BEGIN OPENSSH PRIVATE KEY-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(LINE).unwrap_or((rest, ""));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END OPENSSH PRIVATE KEY-----\n");
    text
}

/// More than the longest private part of a file that we write: its comment has at most 512 bytes.
const FILE_PART: usize = 1024;

impl From<Malformed> for BadFile {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<BadKey> for BadFile {
    fn from(bad: BadKey) -> Self {
        Self::Key(bad)
    }
}

impl fmt::Display for BadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAPrivateKey => "expected a private key in PEM, as ssh-keygen writes it",
            Self::Putty => "a key of PuTTY's; `puttygen KEY -O private-openssh-new` converts it",
            Self::PassphraseNeeded => "the private key has a passphrase, and none is given",
            Self::WrongPassphrase => "the passphrase of the private key is wrong",
            Self::OtherEncryption => "the private key is encrypted in an old way; `ssh-keygen -p -f KEY` converts it",
            Self::TooManyRounds => "the passphrase of the private key is hashed more than 256 times",
            Self::Malformed => "the private key is damaged",
            Self::SecurityKey => "the private key is inside a security key",
            Self::Key(bad) => return bad.fmt(f),
        })
    }
}

impl std::error::Error for BadFile {}

#[cfg(test)]
mod tests;
