//! Does a certificate count (rule 22)? As sshd and ssh ask, and in two things more strictly: one without principals counts for nobody, and
//! options that are not in order make it malformed.

use std::net::IpAddr;

use super::options::{Critical, Permission};
use super::{Certificate, Role, source};
use crate::key::{Demand, PublicKey, SkPolicy};
use crate::revocation::Revocations;
use crate::shown::Shown;
use crate::untrusted::Untrusted;

/// What a user's certificate is held against.
#[derive(Debug, Clone, Copy)]
pub struct UserCheck<'a> {
    /// The authorities for users.
    pub authorities: &'a [PublicKey],
    /// What is revoked.
    pub revocations: &'a Revocations,
    /// Who the user says to be: one of the certificate's principals, byte for byte.
    pub principal: &'a str,
    /// Where the client comes from. `None`, as on a unix socket: a certificate that is bound to addresses does not count.
    pub source: Option<IpAddr>,
    /// Seconds since 1970.
    pub now: u64,
    /// What a security key must have seen, if the certificate does not ask for more or, where this waives it, for less.
    pub policy: SkPolicy,
}

/// What a host's certificate is held against.
#[derive(Debug, Clone, Copy)]
pub struct HostCheck<'a> {
    /// The authorities for this host.
    pub authorities: &'a [PublicKey],
    /// What is revoked.
    pub revocations: &'a Revocations,
    /// The name by which the host was asked for, without its port.
    pub host: &'a str,
    /// Seconds since 1970.
    pub now: u64,
}

/// What a user's certificate gives. It says nothing of who is at the other end: its key must still sign.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Granted {
    /// The key that must sign.
    pub key: PublicKey,
    /// What it must have seen, if it is a security key.
    pub policy: SkPolicy,
    /// What the authority calls the certificate.
    pub key_id: Shown,
    /// Its number.
    pub serial: u64,
    /// Seconds since 1970 at which it ends; `u64::MAX`: never.
    pub valid_before: u64,
    /// The authority that signed it.
    pub authority: PublicKey,
    /// What the user may do; what is not here is denied.
    pub permissions: Vec<Permission>,
}

impl Certificate {
    /// Does it make its owner this user?
    ///
    /// # Errors
    /// Why not. From `NotYetValid` on, what the error is about was signed by an authority that we trust.
    pub fn check_user(&self, check: &UserCheck<'_>) -> Result<Granted, Untrusted> {
        self.check(Role::User, check.authorities, check.revocations, check.now)?;
        self.check_principal(check.principal.as_bytes())?;
        let mut policy = check.policy;
        for option in self.critical.critical()? {
            match option {
                Critical::SourceAddress(list) if check.source.is_some_and(|address| source::contains(list, address)) => {}
                Critical::SourceAddress(_) => return Err(Untrusted::SourceAddress),
                Critical::VerifyRequired => policy.verification = Demand::Required,
            }
        }
        let given = self.extensions.given()?;
        // A touch is waived only if both say so, as with sshd.
        if !given.waives_touch {
            policy.touch = Demand::Required;
        }
        Ok(Granted {
            key: self.key.clone(),
            policy,
            key_id: self.key_id(),
            serial: self.serial,
            valid_before: self.valid_before,
            authority: self.authority.clone(),
            permissions: given.permissions,
        })
    }

    /// Does it make its owner this host? Names are compared in lower case, and wildcards among the principals match nothing but themselves.
    ///
    /// # Errors
    /// As `check_user`.
    pub fn check_host(&self, check: &HostCheck<'_>) -> Result<(), Untrusted> {
        self.check(Role::Host, check.authorities, check.revocations, check.now)?;
        self.check_principal(check.host.to_ascii_lowercase().as_bytes())?;
        // There is none for hosts.
        if self.critical.is_empty() { Ok(()) } else { Err(Untrusted::CriticalOption(self.critical.first())) }
    }

    /// What is asked of both. The signature comes before anything that only counts if it is right.
    fn check(&self, role: Role, authorities: &[PublicKey], revocations: &Revocations, now: u64) -> Result<(), Untrusted> {
        if self.role != role {
            return Err(Untrusted::CertificateForAnotherRole);
        }
        if !authorities.contains(&self.authority) {
            return Err(Untrusted::UnknownAuthority);
        }
        self.verify()?;
        revocations.check_certificate(self)?;
        if now < self.valid_after {
            return Err(Untrusted::NotYetValid);
        }
        if now >= self.valid_before {
            return Err(Untrusted::Expired);
        }
        Ok(())
    }

    fn check_principal(&self, wanted: &[u8]) -> Result<(), Untrusted> {
        if self.principals.is_empty() {
            return Err(Untrusted::NoPrincipals);
        }
        if wanted.is_empty() || !self.principals.iter().any(|principal| principal == wanted) {
            return Err(Untrusted::AnotherPrincipal);
        }
        Ok(())
    }
}
