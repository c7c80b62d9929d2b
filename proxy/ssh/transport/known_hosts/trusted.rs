//! What is known of one host, and whether what it presents is that.

use crate::certificate::{HostCheck, Presented, What};
use crate::key::PublicKey;
use crate::revocation::Revocations;
use crate::untrusted::Untrusted;

/// Keys, authorities and revocations of one host. An empty one trusts nobody.
#[derive(Debug, Clone, Default)]
pub struct Trusted {
    /// The host's own keys.
    pub keys: Vec<PublicKey>,
    /// The authorities whose certificates of this host count.
    pub authorities: Vec<PublicKey>,
    /// Blobs of keys that never count, as the host's or as an authority's.
    pub revoked: Vec<Vec<u8>>,
}

impl Trusted {
    /// Those pinned in the configuration.
    #[must_use]
    pub fn pinned(keys: Vec<PublicKey>) -> Self {
        Self { keys, ..Self::default() }
    }

    /// May it prove itself with anything at all?
    #[must_use]
    pub fn knows_any(&self) -> bool {
        !(self.keys.is_empty() && self.authorities.is_empty())
    }

    /// The host-key algorithms to ask for, so that a host with several keys shows one that is known: those of certificates if there is an
    /// authority, then those of the known keys. Empty: nothing is known.
    #[must_use]
    pub fn algorithms(&self) -> Vec<&'static str> {
        let of_certificates = if self.authorities.is_empty() { [].as_slice() } else { &CERTIFICATE_ALGORITHMS };
        let of_keys = self.keys.iter().flat_map(|key| key.kind().algorithms());
        let mut algorithms = Vec::new();
        for algorithm in of_certificates.iter().chain(of_keys) {
            if !algorithms.contains(algorithm) {
                algorithms.push(*algorithm);
            }
        }
        algorithms
    }

    /// May the host be believed if it signs with this key? A certificate counts for the name `host`, without its port; like ssh we take one of
    /// whatever authority for a key that is known by itself.
    ///
    /// # Errors
    /// Why not. That it signed is asked elsewhere.
    pub fn check(&self, presented: &Presented, host: &str, now: u64, revocations: &Revocations) -> Result<(), Untrusted> {
        let key = presented.key();
        self.check_revoked(key)?;
        revocations.check_key(key)?;
        match presented.what() {
            What::Key(_) | What::Certificate(_) if self.keys.contains(key) => Ok(()),
            What::Key(_) if self.knows_any() => Err(Untrusted::AnotherHostKey),
            What::Key(_) => Err(Untrusted::UnknownHost),
            What::Certificate(certificate) => {
                self.check_revoked(certificate.authority())?;
                certificate.check_host(&HostCheck { authorities: &self.authorities, revocations, host, now })
            }
        }
    }

    fn check_revoked(&self, key: &PublicKey) -> Result<(), Untrusted> {
        if self.revoked.iter().any(|blob| blob == key.blob()) { Err(Untrusted::Revoked) } else { Ok(()) }
    }
}

/// What hosts have certificates of: security keys are people's.
const CERTIFICATE_ALGORITHMS: [&str; 6] = [
    "ssh-ed25519-cert-v01@openssh.com",
    "ecdsa-sha2-nistp256-cert-v01@openssh.com",
    "ecdsa-sha2-nistp384-cert-v01@openssh.com",
    "ecdsa-sha2-nistp521-cert-v01@openssh.com",
    "rsa-sha2-512-cert-v01@openssh.com",
    "rsa-sha2-256-cert-v01@openssh.com",
];
