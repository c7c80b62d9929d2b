//! Which hosts a line of known_hosts is about: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT", and the patterns of ssh_config(5).

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Patterns in one line.
const PATTERNS_MAX: usize = 1024;
/// Bytes in one pattern; a host name has at most 253 (RFC 1035 §2.3.4), and `[`, `]:65535` may be around it.
const PATTERN_MAX: usize = 512;
/// What a hashed name begins with: the only kind of hash there is.
const HASHED: &str = "|1|";
/// Bytes of HMAC-SHA1, and of the salt before it.
const SHA1: usize = 20;

/// The first field of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hosts {
    /// `|1|salt|hash`: one name, hidden from whoever reads the file.
    Hashed { salt: [u8; SHA1], hash: [u8; SHA1] },
    /// Names and wildcards with commas between them.
    Patterns(Vec<Pattern>),
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    /// In lower case.
    text: Vec<u8>,
    sense: Sense,
}

/// What a match means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sense {
    Includes,
    /// `!`: the line is not about this host, whatever else matches.
    Excludes,
}

impl Hosts {
    /// Reads the field.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(field: &str) -> Result<Self, &'static str> {
        if field.starts_with('|') {
            return hashed(field).ok_or("a hashed name that is not |1|salt|hash");
        }
        let mut patterns = Vec::new();
        for text in field.split(',') {
            let (sense, text) = match text.strip_prefix('!') {
                Some(rest) => (Sense::Excludes, rest),
                None => (Sense::Includes, text),
            };
            if text.is_empty() || text.len() > PATTERN_MAX || patterns.len() >= PATTERNS_MAX {
                return Err("an empty name, one that is too long, or too many of them");
            }
            patterns.push(Pattern { text: text.to_ascii_lowercase().into_bytes(), sense });
        }
        Ok(Self::Patterns(patterns))
    }

    /// Is the line about this host? `name` is in lower case, and `[host]:port` for any port but 22.
    pub(super) fn is_about(&self, name: &str) -> bool {
        match self {
            Self::Hashed { salt, hash } => {
                let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
                hmac::verify(&key, name.as_bytes(), hash).is_ok()
            }
            Self::Patterns(patterns) => {
                let matching = |sense| patterns.iter().any(|pattern| pattern.sense == sense && matches(&pattern.text, name.as_bytes()));
                matching(Sense::Includes) && !matching(Sense::Excludes)
            }
        }
    }
}

fn hashed(field: &str) -> Option<Hosts> {
    let (salt, hash) = field.strip_prefix(HASHED)?.split_once('|')?;
    let decode = |text: &str| STANDARD.decode(text).ok()?.try_into().ok();
    Some(Hosts::Hashed { salt: decode(salt)?, hash: decode(hash)? })
}

/// Does the pattern match the whole of the text? `*` stands for any bytes, `?` for any one. Takes at most the product of the two lengths
/// in steps: the last `*` alone is tried again, since what an earlier one took can only be given back by a later one.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    let mut again: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern.split_first(), text.split_first()) {
            (Some((b'*', rest)), _) => {
                again = Some((rest, text));
                pattern = rest;
            }
            (Some((wanted, rest)), Some((byte, after))) if *wanted == b'?' || wanted == byte => {
                pattern = rest;
                text = after;
            }
            (None, None) => return true,
            _ => {
                let Some((from, Some((_, after)))) = again.map(|(from, taken)| (from, taken.split_first())) else { return false };
                again = Some((from, after));
                pattern = from;
                text = after;
            }
        }
    }
}

#[cfg(test)]
mod tests;
