//! Keys and certificates for the logins.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use keyward_ssh_transport::key::PublicKey;
use keyward_ssh_transport::sign::{Signer, read_private_key};
use tempfile::TempDir;

/// Every type: a name for it, and what `ssh-keygen` calls it.
pub(crate) const KEYS: [(&str, &str, &str); 5] =
    [("ed25519", "ed25519", "256"), ("p256", "ecdsa", "256"), ("p384", "ecdsa", "384"), ("p521", "ecdsa", "521"), ("rsa", "rsa", "2048")];

/// A folder with keys of every type, certificates of them for everybody who is asked about, and who signed these.
pub(crate) struct Keys(TempDir);

impl Keys {
    pub(crate) fn new() -> Self {
        let keys = Self(tempfile::tempdir().unwrap());
        std::fs::set_permissions(keys.0.path(), Permissions::from_mode(0o755)).unwrap();
        keys.keygen(&["-t", "ed25519", "-f", "authority"]);
        for (name, kind, bits) in KEYS {
            keys.keygen(&["-t", kind, "-b", bits, "-f", name]);
        }
        keys
    }

    pub(crate) fn keygen(&self, arguments: &[&str]) {
        let done = Command::new("ssh-keygen").args(["-q", "-N", "", "-C", ""]).args(arguments).current_dir(self.0.path()).status().unwrap();
        assert!(done.success(), "{arguments:?}");
    }

    pub(crate) fn certify(&self, name: &str, principal: &str) -> Vec<u8> {
        self.keygen(&["-s", "authority", "-I", "test", "-n", principal, &format!("{name}.pub")]);
        self.blob(&format!("{name}-cert.pub"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn blob(&self, name: &str) -> Vec<u8> {
        let line = self.read(name);
        base64::Engine::decode(&base64::engine::general_purpose::STANDARD, line.split(' ').nth(1).unwrap()).unwrap()
    }

    pub(crate) fn public(&self, name: &str) -> PublicKey {
        PublicKey::parse(&self.blob(&format!("{name}.pub"))).unwrap()
    }

    pub(crate) fn signer(&self, name: &str) -> Arc<dyn Signer> {
        Arc::from(read_private_key(self.read(name).as_bytes(), None).unwrap())
    }

    pub(crate) fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        std::fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
        self.path(name)
    }
}
