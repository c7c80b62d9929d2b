//! Certificates of OpenSSH (PROTOCOL.certkeys), of users and of hosts: what one says, whether it counts, and how we make those of hosts.
//!
//! A certificate that was read proves nothing. `check_user` and `check_host` are the only ways to learn that it counts, and each of them
//! asks everything: role, authority, signature, revocation, time, principals, options (rule 22).

mod check;
mod mint;
mod options;
mod source;

use std::fmt;

use crate::key::algorithm::{Algorithm, Form};
use crate::key::{KeyType, Line, PublicKey, SkPolicy};
use crate::shown::Shown;
use crate::untrusted::Untrusted;
use crate::wire::{Malformed, Reader};

pub use check::{Granted, HostCheck, UserCheck};
pub use mint::{HostCertificate, mint_host};
pub use options::Permission;

use options::Options;

/// Bytes of the longest certificate: no more fits into a packet before login.
const CERTIFICATE_MAX: usize = 32 * 1024;
/// Principals of one certificate, as many as OpenSSH takes.
const PRINCIPALS_MAX: usize = 256;

/// Who a certificate is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// SSH_CERT_TYPE_USER.
    User,
    /// SSH_CERT_TYPE_HOST.
    Host,
}

/// A certificate, read and not yet believed.
#[derive(Clone)]
pub struct Certificate {
    key: PublicKey,
    serial: u64,
    role: Role,
    key_id: Vec<u8>,
    principals: Vec<Vec<u8>>,
    /// Seconds since 1970: from the first on, up to but not including the second.
    valid_after: u64,
    valid_before: u64,
    critical: Options,
    extensions: Options,
    authority: PublicKey,
    /// What the authority signed: all before the signature.
    signed: Vec<u8>,
    signature: Vec<u8>,
}

impl Certificate {
    /// Reads a certificate's blob.
    ///
    /// # Errors
    /// `Untrusted::CertificateMalformed`, or `Untrusted::Key`: of the key inside, or of the authority's, which must not be a certificate.
    pub fn parse(blob: &[u8]) -> Result<Self, Untrusted> {
        if blob.len() > CERTIFICATE_MAX {
            return Err(Untrusted::CertificateMalformed("it is too long"));
        }
        let mut reader = Reader::new(blob);
        let kind = KeyType::of_certificate(reader.string()?).ok_or(Untrusted::CertificateMalformed("its type is unknown"))?;
        reader.string()?; // the nonce
        let key = PublicKey::parse_fields(kind, &mut reader)?;
        let serial = reader.u64()?;
        let role = match reader.u32()? {
            1 => Role::User,
            2 => Role::Host,
            _ => return Err(Untrusted::CertificateMalformed("its role is neither user nor host")),
        };
        let key_id = reader.string()?.to_vec();
        let principals = read_principals(reader.string()?)?;
        let (valid_after, valid_before) = (reader.u64()?, reader.u64()?);
        let (critical, extensions) = (Options::parse(reader.string()?)?, Options::parse(reader.string()?)?);
        reader.string()?; // reserved
        let authority = PublicKey::parse(reader.string()?)?;
        let signed = blob.len().checked_sub(reader.rest().len()).and_then(|length| blob.get(..length)).unwrap_or_default().to_vec();
        let signature = reader.string()?.to_vec();
        reader.end()?;
        Ok(Self { key, serial, role, key_id, principals, valid_after, valid_before, critical, extensions, authority, signed, signature })
    }

    /// Reads a line of a `-cert.pub` file, which is also what Vault's SSH engine answers.
    ///
    /// # Errors
    /// As `parse`.
    pub fn parse_line(line: &str) -> Result<Self, Untrusted> {
        Self::parse(&Line::parse(line)?.blob)
    }

    /// The key that it is about.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The key that signed it, as it says itself: this is nobody yet.
    #[must_use]
    pub fn authority(&self) -> &PublicKey {
        &self.authority
    }

    /// Its number; 0 where the authority gives none.
    #[must_use]
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// What the authority calls it.
    #[must_use]
    pub fn key_id(&self) -> Shown {
        Shown::new(&self.key_id)
    }

    pub(crate) fn raw_key_id(&self) -> &[u8] {
        &self.key_id
    }

    /// Seconds since 1970 at which it ends; `u64::MAX`: never.
    #[must_use]
    pub fn valid_before(&self) -> u64 {
        self.valid_before
    }

    /// Did its authority sign it? Any algorithm that we take, as the signature itself says which (rule 22: never `ssh-rsa`).
    fn verify(&self) -> Result<(), Untrusted> {
        let algorithm = Reader::new(&self.signature).text().map_err(|_| Untrusted::SignatureMalformed)?;
        self.authority.verify(algorithm, &self.signed, &self.signature, SkPolicy::NOTHING)
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({:?} {:?}, serial {}, {:?} by {:?})", self.role, self.key_id(), self.serial, self.key, self.authority)
    }
}

fn read_principals(list: &[u8]) -> Result<Vec<Vec<u8>>, Untrusted> {
    let mut reader = Reader::new(list);
    let mut principals = Vec::new();
    while !reader.is_empty() {
        if principals.len() >= PRINCIPALS_MAX {
            return Err(Untrusted::CertificateMalformed("it names too many principals"));
        }
        principals.push(reader.string()?.to_vec());
    }
    Ok(principals)
}

impl From<Malformed> for Untrusted {
    fn from(malformed: Malformed) -> Self {
        Self::CertificateMalformed(malformed.0)
    }
}

/// What a peer presents as its key: the key, or a certificate of it, under the name of a public-key or host-key algorithm. The name and the
/// blob fit together, and `verify` takes no other algorithm (rules 9 and 19).
#[derive(Debug, Clone)]
pub struct Presented {
    algorithm: Algorithm,
    what: What,
}

/// One of the two.
#[derive(Debug, Clone)]
pub enum What {
    /// The key itself.
    Key(PublicKey),
    /// Its certificate.
    Certificate(Box<Certificate>),
}

impl Presented {
    /// Reads what is presented under this name.
    ///
    /// # Errors
    /// The name is none that we take, or is not one of such a key; what is wrong with the blob.
    pub fn parse(algorithm: &str, blob: &[u8]) -> Result<Self, Untrusted> {
        let (algorithm, form) = Algorithm::named(algorithm).ok_or_else(|| Untrusted::Algorithm(Shown::new(algorithm.as_bytes())))?;
        let what = match form {
            Form::Plain => What::Key(PublicKey::parse(blob)?),
            Form::Certificate => What::Certificate(Box::new(Certificate::parse(blob)?)),
        };
        let presented = Self { algorithm, what };
        if presented.key().kind() == algorithm.key { Ok(presented) } else { Err(Untrusted::AlgorithmOfAnotherKey) }
    }

    /// What it is.
    #[must_use]
    pub fn what(&self) -> &What {
        &self.what
    }

    /// The key whose owner it must be: the one inside the certificate.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        match &self.what {
            What::Key(key) => key,
            What::Certificate(certificate) => certificate.key(),
        }
    }

    /// Did its owner sign these bytes, by this algorithm? That the key may be trusted is another question.
    ///
    /// # Errors
    /// Why the signature does not count.
    pub fn verify(&self, message: &[u8], signature: &[u8], policy: SkPolicy) -> Result<(), Untrusted> {
        self.key().verify(self.algorithm.name, message, signature, policy)
    }
}

#[cfg(test)]
mod tests;
