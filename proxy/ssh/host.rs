//! Who we are to ssh: one host key for Keyward itself, and an authority whose certificates make us, for a jump, the server that was asked for.
//! Both live in the state folder, apart from each other: a client that trusts the one need not trust the other.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keyward_ssh_transport::certificate::{HostCertificate, mint_host};
use keyward_ssh_transport::key::PublicKey;
use keyward_ssh_transport::sign::{Certified, Signer, generate_ed25519, read_private_key};
use keyward_ssh_transport::{Limits, ServerConfig, SystemRandom};
use zeroize::Zeroizing;

use crate::state::write_private;

const HOST_KEY: &str = "ssh_host_ed25519_key";
const HOST_CA: &str = "ssh_host_ca";
/// How long a certificate counts. It is asked about when the link of a jump begins; later key exchanges show the same one again, which ssh does
/// not look at any more.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// Of those, how long before now it began: clients' clocks differ.
const BACKDATED: Duration = Duration::from_secs(60 * 60);

/// Our keys.
pub(crate) struct Host {
    key: Arc<dyn Signer>,
    ca: Arc<dyn Signer>,
}

/// What an inner link is served with.
pub(super) struct ActingAs {
    /// With the certificate; and, for clients that know of no certificates, with our own key behind it, which they pin under each name.
    pub(super) config: Arc<ServerConfig>,
    /// The certificate's number, for the record.
    pub(super) serial: u64,
}

impl Host {
    /// Reads both keys from the state folder, or makes them there: Ed25519. Their public halves stand beside them, in `.pub` files.
    ///
    /// # Errors
    /// A text for the operator.
    pub(crate) fn open(state: &Path) -> Result<Self, String> {
        let key = read_or_make(state, HOST_KEY, "keyward")?;
        let ca = read_or_make(state, HOST_CA, "keyward host CA")?;
        Ok(Self { key, ca })
    }

    /// With these keys.
    #[cfg(test)]
    pub(super) fn of(key: Arc<dyn Signer>, ca: Arc<dyn Signer>) -> Self {
        Self { key, ca }
    }

    /// Whether the state folder has them.
    pub(crate) fn is_there(state: &Path) -> bool {
        state.join(HOST_KEY).exists() && state.join(HOST_CA).exists()
    }

    /// As ourselves.
    pub(super) fn config(&self, limits: Limits) -> Arc<ServerConfig> {
        Arc::new(ServerConfig { limits, ..ServerConfig::new(vec![Arc::clone(&self.key)]) })
    }

    /// The key by which clients know us.
    pub(crate) fn key(&self) -> &PublicKey {
        self.key.public()
    }

    /// The authority of the certificates for jumps.
    pub(crate) fn ca(&self) -> &PublicKey {
        self.ca.public()
    }

    /// As the server of this name: a certificate with exactly this principal, for a user who may reach it.
    ///
    /// # Errors
    /// A text for the operator: no random numbers, or no clock.
    pub(super) fn acting_as(&self, name: &str, limits: Limits) -> Result<ActingAs, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| "the clock stands before 1970")?;
        let from = now.saturating_sub(BACKDATED);
        let mut serial = [0; 8];
        aws_lc_rs::rand::fill(&mut serial).map_err(|_| "no random numbers")?;
        let serial = u64::from_be_bytes(serial);
        let wanted = HostCertificate {
            key: self.key(),
            principals: &[name],
            key_id: &format!("keyward {name}"),
            serial,
            valid_after: from.as_secs(),
            valid_before: from.saturating_add(LIFETIME).as_secs(),
        };
        let blob = mint_host(&*self.ca, &wanted, &mut SystemRandom).map_err(|error| error.to_string())?;
        let certified = Certified::new(Arc::clone(&self.key), &blob).map_err(|error| error.to_string())?;
        let config = ServerConfig { limits, ..ServerConfig::new(vec![Arc::new(certified), Arc::clone(&self.key)]) };
        Ok(ActingAs { config: Arc::new(config), serial })
    }
}

fn read_or_make(state: &Path, name: &str, comment: &str) -> Result<Arc<dyn Signer>, String> {
    let at = state.join(name);
    let shown = |error: std::io::Error| format!("{}: {error}", at.display());
    if !at.exists() {
        let made = generate_ed25519().map_err(|error| format!("{}: {error}", at.display()))?;
        write_private(&at, made.to_openssh(comment).as_bytes())?;
    }
    let text = Zeroizing::new(std::fs::read(&at).map_err(shown)?);
    let key = read_private_key(&text, None).map_err(|error| format!("{}: {error}", at.display()))?;
    // Again at each start: the public half is what people copy, and must never be that of another key.
    let public = state.join(format!("{name}.pub"));
    let line = format!("{} {comment}\n", key.public().to_line());
    if std::fs::read_to_string(&public).ok().as_ref() != Some(&line) {
        write_private(&public, line.as_bytes())?;
    }
    Ok(key.into())
}

#[cfg(test)]
mod tests {
    use keyward_ssh_transport::certificate::{HostCheck, Presented, What};
    use keyward_ssh_transport::known_hosts::Trusted;
    use keyward_ssh_transport::revocation::Revocations;

    use super::*;

    #[test]
    fn both_keys_are_made_once_and_only_their_public_halves_may_be_shown() {
        let state = tempfile::tempdir().unwrap();
        assert!(!Host::is_there(state.path()));
        let first = Host::open(state.path()).unwrap();
        assert!(Host::is_there(state.path()));
        let second = Host::open(state.path()).unwrap();
        assert_eq!((first.key(), first.ca()), (second.key(), second.ca()));
        assert_ne!(first.key(), first.ca());
        for name in [HOST_KEY, HOST_CA] {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(state.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let line = std::fs::read_to_string(state.path().join("ssh_host_ed25519_key.pub")).unwrap();
        assert_eq!(PublicKey::parse_line(&line).unwrap(), *first.key());
    }

    #[test]
    fn a_certificate_counts_for_the_one_name_for_a_day_at_the_most() {
        let state = tempfile::tempdir().unwrap();
        let host = Host::open(state.path()).unwrap();
        let acting = host.acting_as("web-1", Limits::default()).unwrap();
        let blob = acting.config.host_keys[0].blob();
        let presented = Presented::parse("ssh-ed25519-cert-v01@openssh.com", blob).unwrap();
        let What::Certificate(certificate) = presented.what() else { panic!("no certificate") };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let authorities = [host.ca().clone()];
        let check = |host: &str, now| {
            certificate.check_host(&HostCheck { authorities: &authorities, revocations: &Revocations::default(), host, now })
        };
        check("web-1", now).unwrap();
        check("web-1", now - 3000).unwrap();
        for (name, at) in [("web-2", now), ("keyward", now), ("web-1", now + 24 * 3600), ("web-1", now - 2 * 3600)] {
            assert!(check(name, at).is_err(), "{name} {at}");
        }
        assert_eq!(certificate.serial(), acting.serial);
        let stranger = Trusted { authorities: vec![host.key().clone()], ..Trusted::default() };
        assert!(stranger.check(&presented, "web-1", now, &Revocations::default()).is_err(), "our own key is no authority");
    }
}
