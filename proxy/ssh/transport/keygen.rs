//! For tests: keys, certificates and signatures that OpenSSH's own `ssh-keygen` makes and judges.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use crate::key::PublicKey;
use crate::wire::{Put, Reader};

/// Every type of key that can be made without a device: what is asked of `ssh-keygen`, and what it is called.
pub(crate) const TYPES: [(&[&str], &str); 6] = [
    (&["-t", "ed25519"], "ssh-ed25519"),
    (&["-t", "ecdsa", "-b", "256"], "ecdsa-sha2-nistp256"),
    (&["-t", "ecdsa", "-b", "384"], "ecdsa-sha2-nistp384"),
    (&["-t", "ecdsa", "-b", "521"], "ecdsa-sha2-nistp521"),
    (&["-t", "rsa", "-b", "2048"], "ssh-rsa"),
    (&["-t", "rsa", "-b", "3072"], "ssh-rsa"),
];

/// A folder in which `ssh-keygen` works.
pub(crate) struct Keygen {
    folder: TempDir,
}

impl Keygen {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Writes a file that only we may read, as `ssh-keygen` demands of private keys.
    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.path(name), contents).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// What it prints, if it succeeds.
    pub(crate) fn ask(&self, arguments: &[&str], stdin: &[u8]) -> Result<String, String> {
        let mut child = Command::new("ssh-keygen")
            .args(arguments)
            .current_dir(self.folder.path())
            .env("TZ", "UTC")
            .env_remove("SSH_AUTH_SOCK")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ssh-keygen, of Debian's package openssh-client");
        child.stdin.take().unwrap().write_all(stdin).unwrap();
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        self.ask(arguments, b"").unwrap_or_else(|error| panic!("ssh-keygen {arguments:?}: {error}"))
    }

    /// Makes a key pair in the files `name` and `name.pub`.
    pub(crate) fn key(&self, name: &str, kind: &[&str]) -> PublicKey {
        self.run(&[&["-q", "-N", "", "-C", "a comment", "-f", name], kind].concat());
        PublicKey::parse_line(&self.read(&format!("{name}.pub"))).unwrap()
    }

    /// Signs the public key of `name` with the private key of `authority`; the blob of the certificate.
    pub(crate) fn certificate(&self, authority: &str, name: &str, options: &[&str]) -> Vec<u8> {
        let public = format!("{name}.pub");
        self.run(&[&["-q", "-s", authority, "-I", "a name"], options, &[&public]].concat());
        blob(&self.read(&format!("{name}-cert.pub")))
    }

    /// What `ssh-keygen -Y sign` makes of the message: the bytes that it signed, and the signature's blob (PROTOCOL.sshsig).
    pub(crate) fn signature(&self, name: &str, hash: &str, message: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let armored = self.ask(&["-Y", "sign", "-q", "-n", "test", "-O", &format!("hashalg={hash}"), "-f", name], message).unwrap();
        let body: String = armored.lines().filter(|line| !line.starts_with("-----")).collect();
        let bytes = STANDARD.decode(body).unwrap();
        let mut reader = Reader::new(bytes.strip_prefix(b"SSHSIG").unwrap());
        assert_eq!(reader.u32().unwrap(), 1);
        reader.string().unwrap(); // the public key
        assert_eq!(reader.text().unwrap(), "test");
        reader.string().unwrap(); // reserved
        let signed = sshsig(reader.text().unwrap(), message);
        (signed, reader.string().unwrap().to_vec())
    }

    /// Does `ssh-keygen` take this blob for a signature of the key over `sshsig("sha512", message)`?
    pub(crate) fn accepts(&self, key: &PublicKey, signature: &[u8], message: &[u8]) -> Result<String, String> {
        let mut bytes = b"SSHSIG".to_vec();
        bytes.put_u32(1).put_string(key.blob()).put_string("test").put_string("").put_string("sha512").put_string(signature);
        let armored = format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", STANDARD.encode(bytes));
        self.write("signature", armored);
        self.ask(&["-Y", "check-novalidate", "-n", "test", "-s", "signature"], message)
    }
}

/// The bytes that `ssh-keygen -Y sign` signs for a message (PROTOCOL.sshsig).
pub(crate) fn sshsig(hash: &str, message: &[u8]) -> Vec<u8> {
    let algorithm = if hash == "sha256" { &aws_lc_rs::digest::SHA256 } else { &aws_lc_rs::digest::SHA512 };
    let mut signed = b"SSHSIG".to_vec();
    signed.put_string("test").put_string("").put_string(hash).put_string(aws_lc_rs::digest::digest(algorithm, message));
    signed
}

/// The blob of a line `type base64 [comment]`.
pub(crate) fn blob(line: &str) -> Vec<u8> {
    STANDARD.decode(line.split_whitespace().nth(1).unwrap()).unwrap()
}

/// A line of a file for this blob.
pub(crate) fn line(kind: &str, blob: &[u8]) -> String {
    format!("{kind} {}\n", STANDARD.encode(blob))
}
