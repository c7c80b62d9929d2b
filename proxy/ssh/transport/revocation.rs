//! What does not count any more, whoever signed it (RevokedKeys of sshd_config(5); rule 22): lists as text, and the binary ones of
//! `ssh-keygen -k` (PROTOCOL.krl).
//!
//! A text has a line for each thing: a public key as in a `.pub` file, or what `ssh-keygen -k` reads: `serial: 7`, `serial: 7-9`,
//! `id: name`, `key: ssh-ed25519 AAAA…`, `hash: SHA256:…`. Serials and ids in a text are those of every authority. A key that is revoked takes
//! with it every certificate of it and every certificate that it signed; a certificate stands for its key.

mod krl;

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::certificate::Certificate;
use crate::key::{KeyType, Line, PublicKey};
use crate::untrusted::Untrusted;
use crate::wire::Reader;

/// Bytes of a list.
const LIST_MAX: usize = 16 * 1024 * 1024;

/// The list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocations {
    keys: BTreeSet<Vec<u8>>,
    sha256: BTreeSet<Vec<u8>>,
    sha1: BTreeSet<Vec<u8>>,
    certificates: Vec<Certificates>,
}

/// The certificates of one authority that are revoked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Certificates {
    /// `None`: of every authority.
    authority: Option<Vec<u8>>,
    serials: Vec<Serials>,
    ids: BTreeSet<Vec<u8>>,
}

/// Numbers of certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Serials {
    Range(RangeInclusive<u64>),
    /// Bit n says that the number n after the first one is revoked; most significant byte first.
    Bitmap {
        first: u64,
        bits: Vec<u8>,
    },
}

/// Why a list cannot be used. A list with an error is no list: it must not be taken for an empty one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadList {
    /// The line, from 1; 0 in a binary list.
    pub line: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

impl Revocations {
    /// Reads a list, text or binary.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(list: &[u8]) -> Result<Self, BadList> {
        if list.len() > LIST_MAX {
            return Err(BadList { line: 0, what: "the list is longer than 16 MiB" });
        }
        if list.starts_with(krl::MAGIC) {
            return krl::parse(list).map_err(|malformed| BadList { line: 0, what: malformed.0 });
        }
        let text = str::from_utf8(list).map_err(|_| BadList { line: 0, what: "the list is not a text" })?;
        let mut revocations = Self { certificates: vec![Certificates::default()], ..Self::default() };
        for (line, number) in text.lines().zip(1..) {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                revocations.read_line(line).map_err(|what| BadList { line: number, what })?;
            }
        }
        Ok(revocations)
    }

    fn read_line(&mut self, line: &str) -> Result<(), &'static str> {
        // A blank before the colon: it is in the comment behind a key, as in that of every card of GnuPG's (`cardno:…`).
        let Some((directive, rest)) = line.split_once(':').filter(|(directive, _)| !directive.contains([' ', '\t'])) else {
            self.keys.insert(blob(line)?);
            return Ok(());
        };
        let (of_all, rest) = (self.certificates.first_mut().ok_or("no place for it")?, rest.trim());
        match directive.to_ascii_lowercase().as_str() {
            "serial" => of_all.serials.push(serials(rest).ok_or("expected `serial: 7` or `serial: 7-9`, none of them 0")?),
            "id" if !rest.is_empty() => {
                of_all.ids.insert(rest.as_bytes().to_vec());
            }
            "hash" => {
                self.sha256.insert(fingerprint(rest).ok_or("expected `hash: SHA256:…` as `ssh-keygen -l` prints it")?);
            }
            "key" | "sha256" | "sha1" => {
                self.keys.insert(blob(rest)?);
            }
            _ => return Err(EXPECTED),
        }
        Ok(())
    }

    /// Does this key still count?
    ///
    /// # Errors
    /// `Untrusted::Revoked`: this key is on the list.
    pub fn check_key(&self, key: &PublicKey) -> Result<(), Untrusted> {
        let sha1 = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, key.blob());
        let listed = self.keys.contains(key.blob()) || self.sha256.contains(key.sha256().as_ref()) || self.sha1.contains(sha1.as_ref());
        if listed { Err(Untrusted::Revoked) } else { Ok(()) }
    }

    /// Does this certificate still count?
    ///
    /// # Errors
    /// `Untrusted::Revoked`: the certificate, its key or its authority is on the list.
    pub fn check_certificate(&self, certificate: &Certificate) -> Result<(), Untrusted> {
        self.check_key(certificate.key())?;
        self.check_key(certificate.authority())?;
        let listed = self.certificates.iter().any(|certificates| {
            let authority = certificates.authority.as_deref();
            authority.is_none_or(|authority| authority == certificate.authority().blob())
                && (certificates.ids.contains(certificate.raw_key_id())
                    || certificates.serials.iter().any(|serials| serials.contains(certificate.serial())))
        });
        if listed { Err(Untrusted::Revoked) } else { Ok(()) }
    }
}

impl Serials {
    fn contains(&self, serial: u64) -> bool {
        match self {
            Self::Range(range) => range.contains(&serial),
            Self::Bitmap { first, bits } => {
                let Some(place) = serial.checked_sub(*first) else { return false };
                let byte = usize::try_from(place / 8).ok().and_then(|byte| bits.iter().rev().nth(byte));
                byte.is_some_and(|byte| byte >> (place % 8) & 1 == 1)
            }
        }
    }
}

/// `7`, `0x7` or `7-9`. 0 is the number of all certificates that were given none (ssh-keygen(1), "KEY REVOCATION LISTS"). A number that begins
/// with 0 would be octal to ssh-keygen and decimal to most readers: it is refused.
fn serials(text: &str) -> Option<Serials> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => u64::from_str_radix(digits, 16).ok(),
        None if !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    };
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (number(from.trim())?, number(to.trim())?);
    (from > 0 && from <= to).then_some(Serials::Range(from..=to))
}

fn fingerprint(text: &str) -> Option<Vec<u8>> {
    STANDARD_NO_PAD.decode(text.strip_prefix("SHA256:")?.trim_end_matches('=')).ok().filter(|hash| hash.len() == digest::SHA256_OUTPUT_LEN)
}

const EXPECTED: &str = "expected a public key, or one of `serial:`, `id:`, `key:` and `hash: SHA256:…`";

/// The blob of the key: of any type, so that keys can be listed that we would not take anyway.
fn blob(line: &str) -> Result<Vec<u8>, &'static str> {
    let blob = Line::parse(line).map_err(|_| EXPECTED)?.blob;
    let kind = Reader::new(&blob).string().map_err(|_| EXPECTED)?;
    if KeyType::of_certificate(kind).is_none() {
        return Ok(blob);
    }
    let certificate = Certificate::parse(&blob).map_err(|_| "the certificate is malformed")?;
    Ok(certificate.key().blob().to_vec())
}

impl fmt::Display for BadList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 { f.write_str(self.what) } else { write!(f, "line {}: {}", self.line, self.what) }
    }
}

impl std::error::Error for BadList {}

#[cfg(test)]
mod tests;
