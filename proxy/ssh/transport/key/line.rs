//! Keys as people write them: `ssh-ed25519 AAAA… alice@laptop`, with the two options before it that say how a security key must have
//! signed (sshd(8), "AUTHORIZED_KEYS FILE FORMAT").

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{BadKey, Demand, KeyType, PublicKey, SkPolicy};
use crate::wire::Reader;

/// Bytes of a line. The longest key takes 1,404 in base64; a certificate may name many principals.
const LINE_MAX: usize = 64 * 1024;

/// A line of a user's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizedKey {
    /// The key.
    pub key: PublicKey,
    /// What it must have seen of its owner, if it is a security key.
    pub policy: SkPolicy,
    /// What the user wrote behind it. Not escaped.
    pub comment: String,
}

impl AuthorizedKey {
    /// Reads `[options] type base64 [comment]`.
    ///
    /// # Errors
    /// What is wrong with it. An option that we do not know is an error: it may restrict what the key is for.
    pub fn parse(line: &str) -> Result<Self, BadKey> {
        let mut policy = SkPolicy::TOUCH;
        let mut line = line;
        let (options, rest) = word(line);
        let (kind, _) = word(rest);
        if KeyType::named(kind.as_bytes()).is_some() {
            for option in options.split(',') {
                match option.to_ascii_lowercase().as_str() {
                    "no-touch-required" => policy.touch = Demand::Waived,
                    "verify-required" => policy.verification = Demand::Required,
                    _ => return Err(BadKey::Option),
                }
            }
            line = rest;
        }
        let Line { blob, comment } = Line::parse(line)?;
        Ok(Self { key: PublicKey::parse(&blob)?, policy, comment: comment.to_owned() })
    }
}

impl PublicKey {
    /// Reads `type base64 [comment]`, as in a `.pub` file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_line(line: &str) -> Result<Self, BadKey> {
        Self::parse(&Line::parse(line)?.blob)
    }

    /// `type base64`: the pin of a host, the first two fields of a `.pub` file.
    #[must_use]
    pub fn to_line(&self) -> String {
        format!("{} {}", self.kind().name(), STANDARD.encode(self.blob()))
    }
}

/// Any key or certificate as it is written in a file: its blob, whose type is the one in front of it.
pub(crate) struct Line<'a> {
    pub(crate) blob: Vec<u8>,
    pub(crate) comment: &'a str,
}

impl<'a> Line<'a> {
    /// Reads `type base64 [comment]`.
    ///
    /// # Errors
    /// `BadKey::Line`.
    pub(crate) fn parse(line: &'a str) -> Result<Self, BadKey> {
        if line.len() > LINE_MAX {
            return Err(BadKey::Line);
        }
        let (kind, rest) = word(line);
        let (base64, comment) = word(rest);
        let blob = STANDARD.decode(base64).map_err(|_| BadKey::Line)?;
        match Reader::new(&blob).string() {
            Ok(inside) if inside == kind.as_bytes() => Ok(Self { blob, comment }),
            _ => Err(BadKey::Line),
        }
    }
}

/// The first word of a line, and what follows it.
pub(crate) fn word(line: &str) -> (&str, &str) {
    let line = line.trim();
    match line.split_once([' ', '\t']) {
        Some((first, rest)) => (first, rest.trim_start()),
        None => (line, ""),
    }
}
