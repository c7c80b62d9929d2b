//! Which keys a host may prove itself with: files in the format of ssh (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"), and the one decision about
//! what a host presents (rule 9).

mod pattern;
mod trusted;

use std::fmt;

use crate::certificate::Certificate;
use crate::key::{BadKey, Line, PublicKey, word};
use pattern::Hosts;

pub use trusted::Trusted;

/// Bytes of a file.
const FILE_MAX: usize = 16 * 1024 * 1024;
/// The port that is not written.
const SSH_PORT: u16 = 22;

/// A file.
#[derive(Debug, Clone, Default)]
pub struct KnownHosts {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    marker: Marker,
    hosts: Hosts,
    /// Of any type: a line of a key that we do not take is left out of what is trusted, and stays in what is revoked.
    blob: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker {
    /// None: the host's own key.
    Key,
    /// `@cert-authority`.
    Authority,
    /// `@revoked`.
    Revoked,
}

/// A line that cannot be read. It may be the one that revokes a key, so the whole file is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadLine {
    /// From 1; 0 for the file as a whole.
    pub line: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

impl KnownHosts {
    /// Reads a file. Empty lines and comments are passed over, and so are keys of types that we do not take.
    ///
    /// # Errors
    /// Every line that cannot be read.
    pub fn parse(text: &str) -> Result<Self, Vec<BadLine>> {
        if text.len() > FILE_MAX {
            return Err(vec![BadLine { line: 0, what: "the file is longer than 16 MiB" }]);
        }
        let (mut entries, mut bad) = (Vec::new(), Vec::new());
        for (line, number) in text.lines().zip(1..) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match Entry::parse(line) {
                Ok(entry) => entries.push(entry),
                Err(what) => bad.push(BadLine { line: number, what }),
            }
        }
        if bad.is_empty() { Ok(Self { entries }) } else { Err(bad) }
    }

    /// What is known of this host: by `host`, or by `[host]:port` for another port than 22. Like ssh, where no line but one that revokes is
    /// about that, by the host's name alone. Revocations count by either name.
    #[must_use]
    pub fn lookup(&self, host: &str, port: u16) -> Trusted {
        let host = host.to_ascii_lowercase();
        let name = spelled(&host, port);
        let mut trusted = self.named(&name);
        if port != SSH_PORT {
            let alone = self.named(&host);
            if !self.entries.iter().any(|entry| entry.marker != Marker::Revoked && entry.hosts.is_about(&name)) {
                trusted.keys = alone.keys;
                trusted.authorities = alone.authorities;
            }
            trusted.revoked.extend(alone.revoked);
        }
        trusted
    }

    fn named(&self, name: &str) -> Trusted {
        let mut trusted = Trusted::default();
        for entry in self.entries.iter().filter(|entry| entry.hosts.is_about(name)) {
            match (entry.marker, PublicKey::parse(&entry.blob)) {
                (Marker::Key, Ok(key)) => trusted.keys.push(key),
                (Marker::Authority, Ok(key)) => trusted.authorities.push(key),
                (Marker::Revoked, _) => trusted.revoked.push(entry.blob.clone()),
                (_, Err(_)) => {}
            }
        }
        trusted
    }
}

impl Entry {
    fn parse(line: &str) -> Result<Self, &'static str> {
        let (first, after) = word(line);
        let (marker, line) = match first {
            "@cert-authority" => (Marker::Authority, after),
            "@revoked" => (Marker::Revoked, after),
            _ if first.starts_with('@') => return Err("a marker other than @cert-authority and @revoked"),
            _ => (Marker::Key, line),
        };
        let (hosts, key) = word(line);
        let hosts = Hosts::parse(hosts)?;
        let blob = Line::parse(key).map_err(|_| "expected `[marker] hosts type base64 [comment]`")?.blob;
        match PublicKey::parse(&blob) {
            // As in other lists of what is revoked, a certificate stands for its key.
            Err(BadKey::Certificate) if marker == Marker::Revoked => {
                let certificate = Certificate::parse(&blob).map_err(|_| "the certificate is malformed")?;
                Ok(Self { marker, hosts, blob: certificate.key().blob().to_vec() })
            }
            Ok(_) | Err(BadKey::Type | BadKey::RsaSize | BadKey::RsaExponent | BadKey::Certificate) => Ok(Self { marker, hosts, blob }),
            Err(_) => Err("the key is malformed"),
        }
    }
}

/// How a host is written in the file.
fn spelled(host: &str, port: u16) -> String {
    if port == SSH_PORT { host.to_owned() } else { format!("[{host}]:{port}") }
}

/// The line for a host's key: what `keyward trust` prints, and what ssh would write.
#[must_use]
pub fn line(host: &str, port: u16, key: &PublicKey) -> String {
    format!("{} {}", spelled(&host.to_ascii_lowercase(), port), key.to_line())
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 { f.write_str(self.what) } else { write!(f, "line {}: {}", self.line, self.what) }
    }
}

impl std::error::Error for BadLine {}

#[cfg(test)]
mod tests;
