//! Keys that live as long as a login: made here for one session, and certified by a role of the store (vault.md §10.1).
//!
//! The private half never leaves the memory, and the certificate is good for two minutes: there is nothing to keep, to give back or to
//! share. What the store answers is checked before an upstream sees it, so that a role that signs something else than it was asked for shows
//! as an error of the store, and not as a login that failed.

use std::slice;
use std::sync::Arc;
use std::time::Instant;

use keyward_ssh_transport::certificate::{Certificate, UserCheck};
use keyward_ssh_transport::key::{PublicKey, SkPolicy, Untrusted};
use keyward_ssh_transport::revocation::Revocations;
use keyward_ssh_transport::sign::{Signer, generate_ed25519};

use super::lease::Source;
use super::named::Named;
use super::{Credential, Lease, Provenance, SecretPath, StoreError, StoreErrorKind};
use crate::{Grant, Secret};

/// A new key, and the certificate that lets its owner in as `username`. Asked for anew by each session.
pub(crate) async fn lease(from: &Named, grant: &Grant, role: &SecretPath, username: &str) -> Result<Lease, StoreError> {
    let malformed = |what: &str| StoreError::new(StoreErrorKind::Malformed, format!("{role}: {what}"));
    // The store would read it as a list of names, and certify the key for each.
    if username.contains(',') {
        return Err(malformed("the user name has a comma in it, which separates principals"));
    }
    let born = Instant::now();
    let unavailable = |error| StoreError::new(StoreErrorKind::Unavailable, format!("{role}: no key could be made: {error}"));
    let key = generate_ed25519().map_err(unavailable)?;
    let turn = from.turn_to_read().await?;
    let signed = from.store.certify(grant, role, &key.public().to_line(), username).await?;
    drop(turn);
    let line = signed.certificate.trim();
    let serial = check(line, key.public(), username).map_err(|what| malformed(&what))?;
    let mut credential = Credential::named(&Secret::from(username.to_owned()))?;
    credential.private_key = Some(Secret::from(std::mem::take(&mut *key.to_openssh(""))));
    credential.certificate = Some(line.to_owned());
    let provenance = Provenance {
        store: from.name.clone(),
        paths: grant.account().plan.shown(grant.connection().store()),
        request_id: signed.request_id,
        certificate: Some(serial),
        ..Provenance::default()
    };
    Ok(Lease::new(Arc::new(credential), provenance, born, Source::Secrets { reads: Vec::new(), cached: false }))
}

/// Its serial number, if it says what was asked for. Its time is not held against our clock, and what restricts it is not ours to judge:
/// both are the upstream's, who may know better.
fn check(line: &str, key: &PublicKey, principal: &str) -> Result<u64, String> {
    let useless = |why: Untrusted| match why {
        Untrusted::Algorithm(name) => format!(
            "the authority signed by \"{name}\", which servers do not take any more: set the role's algorithm_signer to rsa-sha2-256"
        ),
        Untrusted::NoPrincipals | Untrusted::AnotherPrincipal => {
            "the certificate is not for the account's user name; does the role change it (allowed_users_template, default_user)?".to_owned()
        }
        why => format!("the role gave a certificate that is of no use: {why}"),
    };
    let certificate = Certificate::parse_line(line).map_err(useless)?;
    if certificate.key() != key {
        return Err("the role gave a certificate of another key than the one that was sent".to_owned());
    }
    let wanted = UserCheck {
        authorities: slice::from_ref(certificate.authority()),
        revocations: &Revocations::default(),
        principal,
        source: None,
        now: certificate.valid_before().saturating_sub(1),
        policy: SkPolicy::TOUCH,
    };
    match certificate.check_user(&wanted) {
        // Asked last, when all else was right.
        Ok(_) | Err(Untrusted::CriticalOption(_) | Untrusted::SourceAddress) => Ok(certificate.serial()),
        Err(why) => Err(useless(why)),
    }
}

#[cfg(test)]
mod tests;
