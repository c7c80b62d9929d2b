//! Making a host's certificate (PROTOCOL.certkeys): `ssh -J` reaches a server through us, and we prove ourselves as that server with a
//! certificate of our own authority.

use super::PRINCIPALS_MAX;
use crate::key::PublicKey;
use crate::random::Random;
use crate::sign::{CannotSign, Signer};
use crate::wire::Put;

/// Bytes of the nonce, which makes what the authority signs unpredictable.
const NONCE: usize = 32;
/// SSH_CERT_TYPE_HOST.
const HOST: u32 = 2;
/// Bytes of a name or of the key id.
const TEXT_MAX: usize = 512;

/// What it shall say.
#[derive(Debug, Clone, Copy)]
pub struct HostCertificate<'a> {
    /// The host's key.
    pub key: &'a PublicKey,
    /// The names of the host, at least one, each without a port: what is in `check_host` and what ssh compares, in lower case.
    pub principals: &'a [&'a str],
    /// What the logs of others will call it.
    pub key_id: &'a str,
    /// Its number.
    pub serial: u64,
    /// Seconds since 1970 from which on it counts.
    pub valid_after: u64,
    /// Seconds since 1970 at which it ends.
    pub valid_before: u64,
}

/// Makes it: the certificate's blob.
///
/// # Errors
/// It would count for every host or for none, it has no time, the authority is itself a certificate or cannot sign, or there is no
/// randomness.
pub fn mint_host(authority: &dyn Signer, wanted: &HostCertificate<'_>, random: &mut dyn Random) -> Result<Vec<u8>, CannotSign> {
    // Present clients of OpenSSH (10.6 does, 9.2 does not) take the principals of a host's certificate for patterns.
    let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '*' | '?' | '!' | ',');
    let unfit = |text: &str| text.is_empty() || text.len() > TEXT_MAX || text.chars().any(odd);
    if wanted.principals.is_empty() || wanted.principals.len() > PRINCIPALS_MAX || wanted.principals.iter().any(|name| unfit(name)) {
        return Err(CannotSign("a certificate needs the names of its host"));
    }
    if wanted.valid_before <= wanted.valid_after {
        return Err(CannotSign("a certificate needs a time in which it counts"));
    }
    if wanted.key_id.len() > TEXT_MAX || authority.blob() != authority.public().blob() {
        return Err(CannotSign("the name of the certificate is too long, or its authority is a certificate"));
    }
    let algorithm = authority.algorithms().first().ok_or(CannotSign("the authority signs by no algorithm"))?;
    let mut nonce = [0; NONCE];
    random.fill(&mut nonce).map_err(|_| CannotSign("no random bytes"))?;
    let mut names = Vec::new();
    for name in wanted.principals {
        names.put_string(name.to_ascii_lowercase());
    }
    let mut blob = Vec::new();
    blob.put_string(wanted.key.kind().certificate_name()).put_string(nonce);
    wanted.key.put_fields(&mut blob);
    blob.put_u64(wanted.serial).put_u32(HOST).put_string(wanted.key_id).put_string(&names);
    blob.put_u64(wanted.valid_after).put_u64(wanted.valid_before);
    // No critical options, no extensions: there is none for hosts. Nothing is reserved.
    blob.put_string("").put_string("").put_string("").put_string(authority.public().blob());
    let signature = authority.sign(algorithm, &blob)?;
    blob.put_string(signature);
    Ok(blob)
}

#[cfg(test)]
mod tests;
