//! Keys and certificates of SSH, made by OpenSSH's own `ssh-keygen`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::canary::remember_key;
use super::process::{run, scratch};

/// A key pair in files, as `ssh -i` wants it.
pub struct SshKey {
    file: PathBuf,
    passphrase: String,
}

impl SshKey {
    /// An Ed25519 key without a passphrase.
    pub fn new() -> Self {
        Self::of(&["-t", "ed25519"], "")
    }

    /// Any other kind (`["-t", "rsa", "-b", "3072"]`), behind a passphrase if that is not empty.
    #[track_caller]
    pub fn of(kind: &[&str], passphrase: &str) -> Self {
        let file = scratch("key").join("key");
        keygen(&[&["-q", "-C", "of the tests", "-N", passphrase], kind, &["-f", utf8(&file)]].concat());
        Self { file, passphrase: passphrase.to_owned() }
    }

    /// The private key's file; beside it are `.pub` and, once signed, `-cert.pub`.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The private key as text, as a store holds it. From now on it must be seen nowhere.
    pub fn private(&self) -> String {
        let text = fs::read_to_string(&self.file).unwrap();
        remember_key(&text);
        text
    }

    /// `ssh-ed25519 AAAA…`, without a comment.
    pub fn public(&self) -> String {
        let line = fs::read_to_string(self.file.with_extension("pub")).unwrap();
        line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }

    pub fn passphrase(&self) -> &str {
        &self.passphrase
    }

    /// `SHA256:…`
    pub fn fingerprint(&self) -> String {
        let line = keygen(&["-l", "-f", utf8(&self.file.with_extension("pub"))]);
        line.split_whitespace().nth(1).unwrap().to_owned()
    }

    /// Has a user certificate made for this key, beside it, where `ssh -i` finds it: for these principals (`"alice,bob"`), with further
    /// options of `ssh-keygen` (`["-V", "-1d:-1h"]`). Returns its line.
    #[track_caller]
    pub fn certified_by(&self, authority: &Self, principals: &str, options: &[&str]) -> String {
        self.signed_by(authority, &[&["-n", principals], options].concat())
    }

    /// The same as a host's certificate for these names. Its file is `…-cert.pub`.
    #[track_caller]
    pub fn certified_as_host_by(&self, authority: &Self, names: &str, options: &[&str]) -> String {
        self.signed_by(authority, &[&["-h", "-n", names], options].concat())
    }

    /// The same without principals, and with whatever else the options say.
    #[track_caller]
    pub fn signed_by(&self, authority: &Self, options: &[&str]) -> String {
        let public = self.file.with_extension("pub");
        keygen(&[&["-q", "-s", utf8(&authority.file), "-I", "of the tests"], options, &[utf8(&public)]].concat());
        fs::read_to_string(self.certificate()).unwrap().trim_end().to_owned()
    }

    /// Where its certificate is, once it has one.
    pub fn certificate(&self) -> PathBuf {
        self.file.with_file_name("key-cert.pub")
    }
}

/// A key revocation list of these keys and certificates (files), in OpenSSH's own format.
#[track_caller]
pub fn revocation_list(revoked: &[&Path]) -> PathBuf {
    let list = scratch("krl").join("revoked");
    let files: Vec<&str> = revoked.iter().map(|file| utf8(file)).collect();
    keygen(&[&["-q", "-k", "-f", utf8(&list)], files.as_slice()].concat());
    list
}

#[track_caller]
fn keygen(arguments: &[&str]) -> String {
    let mut command = Command::new("ssh-keygen");
    command.args(arguments);
    run(command, "", Duration::from_secs(60)).ok().to_owned()
}

fn utf8(path: &Path) -> &str {
    path.to_str().unwrap()
}
