use std::path::Path;
use std::process::Command;

use keyward_ssh_transport::key::PublicKey;

use super::*;

/// Certificates of one key as `ssh-keygen` makes them.
struct Authority(tempfile::TempDir);

impl Authority {
    fn new() -> Self {
        let authority = Self(tempfile::tempdir().unwrap());
        for (name, kind) in [("ca", "ed25519"), ("rsa", "rsa"), ("key", "ed25519"), ("other", "ed25519")] {
            authority.keygen(&["-q", "-t", kind, "-N", "", "-f", name]);
        }
        authority
    }

    fn keygen(&self, arguments: &[&str]) {
        let ran = Command::new("ssh-keygen").args(arguments).current_dir(self.0.path()).output().expect("apt-get install openssh-client");
        assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
    }

    fn text(&self, file: &str) -> String {
        std::fs::read_to_string(self.0.path().join(Path::new(file))).unwrap()
    }

    /// What comes of a certificate that was signed with these options.
    fn check(&self, options: &[&str], key: &str) -> Result<u64, String> {
        self.keygen(&[&["-q", "-I", "id", "-z", "7"], options, &[&format!("{key}.pub")]].concat());
        check(&self.text(&format!("{key}-cert.pub")), &PublicKey::parse_line(&self.text("key.pub")).unwrap(), "app")
    }
}

#[test]
fn a_certificate_counts_if_it_is_for_our_key_and_our_user_whatever_restricts_it() {
    let authority = Authority::new();
    for options in [
        ["-s", "ca", "-n", "app"].as_slice(),
        &["-s", "ca", "-n", "web,app"],
        &["-s", "rsa", "-n", "app"],
        // Clocks differ, and only the upstream's counts.
        &["-s", "ca", "-n", "app", "-V", "-2h:-1h"],
        &["-s", "ca", "-n", "app", "-V", "+1h:+2h"],
        &["-s", "ca", "-n", "app", "-O", "force-command=/bin/true"],
        &["-s", "ca", "-n", "app", "-O", "source-address=192.0.2.0/24"],
    ] {
        assert_eq!(authority.check(options, "key"), Ok(7), "{options:?}");
    }
}

#[test]
fn a_certificate_that_is_of_no_use_says_why() {
    let authority = Authority::new();
    for (options, key, says) in [
        (["-s", "ca", "-n", "app"].as_slice(), "other", "of another key"),
        (&["-s", "ca", "-n", "web"], "key", "not for the account's user name"),
        (&["-s", "ca"], "key", "not for the account's user name"),
        (&["-s", "ca", "-n", "web", "-O", "force-command=/bin/true"], "key", "not for the account's user name"),
        (&["-s", "ca", "-h", "-n", "app"], "key", "for the other role"),
        (&["-s", "rsa", "-t", "ssh-rsa", "-n", "app"], "key", "algorithm_signer"),
    ] {
        let why = authority.check(options, key).unwrap_err();
        assert!(why.contains(says), "{options:?}: {why}");
    }
    let key = PublicKey::parse_line(&authority.text("key.pub")).unwrap();
    for line in ["", "ssh-ed25519-cert-v01@openssh.com", "canary", &authority.text("key.pub")] {
        let why = check(line, &key, "app").unwrap_err();
        assert!(why.contains("of no use") && !why.contains("canary"), "{why}");
    }
}
