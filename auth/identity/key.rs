//! A key as the proof: one of the user's own, or one that an authority of the listener's certifies for him.
//!
//! Who holds the key is what `keyward_ssh_transport::auth::server` finds out: only it makes a `Proven`. Here is decided whose key it is, and
//! whether it counts still. Why it does not, the log is told; the client hears the same of an unknown user, an unknown key and a revoked one,
//! and it costs the same: a certificate is verified whether there is such a user or not.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use keyward_config::{Name, Problems, Span, Spanned};
use keyward_ssh_transport::certificate::{Certificate, Permission, Presented, UserCheck, What};
use keyward_ssh_transport::key::{AuthorizedKey, Demand, PublicKey, SkPolicy, Untrusted};
use keyward_ssh_transport::revocation::Revocations;
use keyward_ssh_transport::shown::Shown;

use super::users::{Candidate, Users};
use super::{Identity, Proof, Source};

/// What a listener takes for a proof beside the keys of the file.
#[derive(Clone, Debug, Default)]
pub struct KeyTrust {
    /// The authorities whose certificates make somebody the user whom they name. He must be in the file as well.
    pub authorities: Vec<PublicKey>,
    /// What does not count any more.
    pub revocations: Revocations,
}

/// The key that a user proved himself by.
#[derive(Clone, Debug)]
pub struct UserKey {
    key: PublicKey,
    fingerprint: String,
    certificate: Option<UserCertificate>,
}

/// What his certificate said, where it was one.
#[derive(Clone, Debug)]
pub struct UserCertificate {
    key_id: Shown,
    serial: u64,
    authority: String,
    valid_before: u64,
    permissions: Vec<Permission>,
}

impl UserKey {
    /// `SHA256:…`, of the key itself, also where a certificate was shown.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The certificate, where one was shown.
    #[must_use]
    pub const fn certificate(&self) -> Option<&UserCertificate> {
        self.certificate.as_ref()
    }

    pub(super) const fn key(&self) -> &PublicKey {
        &self.key
    }
}

impl UserCertificate {
    /// What the authority calls it. Escaped.
    #[must_use]
    pub const fn key_id(&self) -> &Shown {
        &self.key_id
    }

    /// Its number; 0 where the authority gives none.
    #[must_use]
    pub const fn serial(&self) -> u64 {
        self.serial
    }

    /// `SHA256:…` of the authority that signed it.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Seconds since 1970 at which it ends; `u64::MAX`: never.
    #[must_use]
    pub const fn valid_before(&self) -> u64 {
        self.valid_before
    }

    /// What he may do; what is not here, this certificate denies him, whatever the rules say.
    #[must_use]
    pub fn permissions(&self) -> &[Permission] {
        &self.permissions
    }
}

/// A key that counts, once its owner has signed.
pub(crate) struct Accepted {
    candidate: Candidate,
    key: UserKey,
    /// What a security key must have seen.
    pub(crate) policy: SkPolicy,
}

impl Accepted {
    /// Its owner has signed.
    pub(crate) fn identity(self, source: Source) -> Identity {
        let proof = if self.key.certificate.is_some() { Proof::Certificate } else { Proof::PublicKey };
        self.candidate.proven(proof, source).by_key(self.key)
    }
}

/// Why a key does not count. For the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum KeyRefused {
    /// There is no such user.
    UnknownUser,
    /// It is none of his.
    UnknownKey,
    /// What is wrong with the key or the certificate itself.
    Untrusted(Untrusted),
}

impl fmt::Display for KeyRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownUser => f.write_str("no such user"),
            Self::UnknownKey => f.write_str("none of this user's keys"),
            Self::Untrusted(untrusted) => untrusted.fmt(f),
        }
    }
}

impl From<Untrusted> for KeyRefused {
    fn from(untrusted: Untrusted) -> Self {
        Self::Untrusted(untrusted)
    }
}

impl Users {
    /// Whether this key or certificate is one of this user's.
    pub(crate) fn key(&self, user: &str, presented: &Presented, source: Source, trust: &KeyTrust) -> Result<Accepted, KeyRefused> {
        let known = self.with_keys(user);
        let (key, policy) = match presented.what() {
            What::Key(key) => {
                trust.revocations.check_key(key)?;
                let keys = known.as_ref().map(|(_, keys)| *keys).unwrap_or_default();
                let line = keys.iter().find(|line| line.key == *key).ok_or(KeyRefused::UnknownKey)?;
                (UserKey { fingerprint: key.fingerprint(), key: key.clone(), certificate: None }, line.policy)
            }
            What::Certificate(certificate) => certified(certificate, user, source, trust)?,
        };
        let (candidate, _) = known.ok_or(KeyRefused::UnknownUser)?;
        Ok(Accepted { candidate, key, policy })
    }
}

/// What sshd asks where the authority is one of `TrustedUserCAKeys`: a touch, if the certificate does not waive it, and no more than it wants.
const OF_CERTIFICATE: SkPolicy = SkPolicy { touch: Demand::Waived, verification: Demand::Waived };

fn certified(certificate: &Certificate, user: &str, source: Source, trust: &KeyTrust) -> Result<(UserKey, SkPolicy), Untrusted> {
    // A clock before 1970 is broken: then nothing is valid any more.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(u64::MAX, |since| since.as_secs());
    let granted = certificate.check_user(&UserCheck {
        authorities: &trust.authorities,
        revocations: &trust.revocations,
        principal: user,
        source: source.address(),
        now,
        policy: OF_CERTIFICATE,
    })?;
    let certificate = UserCertificate {
        key_id: granted.key_id,
        serial: granted.serial,
        authority: granted.authority.fingerprint(),
        valid_before: granted.valid_before,
        permissions: granted.permissions,
    };
    let key = UserKey { fingerprint: granted.key.fingerprint(), key: granted.key, certificate: Some(certificate) };
    Ok((key, granted.policy))
}

/// Whose each key of the file is.
#[derive(Default)]
pub(super) struct Owners(BTreeMap<Vec<u8>, (Name, Span)>);

impl Owners {
    /// Reads the keys of a user. A line that is no key is a problem, and so is a key that is there already: it says who comes, and what its
    /// options say would be ambiguous.
    pub(super) fn read(&mut self, user: &Name, lines: &[Spanned<String>], problems: &mut Problems) -> Vec<AuthorizedKey> {
        let mut keys = Vec::new();
        for (number, line) in lines.iter().enumerate() {
            let at = format!("users.{user}.public_keys[{number}]");
            match AuthorizedKey::parse(&line.value) {
                Err(bad) => problems.error(line.span, at, format!("{bad}; {FORM}")),
                Ok(key) => match self.0.entry(key.key.blob().to_vec()) {
                    Entry::Vacant(entry) => {
                        entry.insert((user.clone(), line.span));
                        keys.push(key);
                    }
                    Entry::Occupied(entry) => {
                        let (owner, Span { line: first, .. }) = entry.get();
                        problems.error(line.span, at, format!("this key is that of the user {owner} already, at line {first}"));
                    }
                },
            }
        }
        keys
    }
}

const FORM: &str = "write a line of a .pub file, such as `ssh-ed25519 AAAA… alice@laptop`";

/// Whether a user has this key.
pub(super) fn is_one_of(keys: &[AuthorizedKey], key: &PublicKey) -> bool {
    keys.iter().any(|line| line.key == *key)
}
