//! Servers that OpenSSH cannot be here: asyncssh, which lets in as the test says and writes down what it was shown.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::canary::remember;
use super::process::{Server, eventually, installed, scratch};
use super::ssh_keys::SshKey;

/// A server in Python. Each session says `in as USER` and ends, unless the kind says otherwise.
pub struct Asyncssh {
    port: u16,
    folder: PathBuf,
    host_key: SshKey,
    _server: Server,
}

impl Asyncssh {
    /// `kind` is how it lets in: `prompts` (keyboard-interactive only; the password in `secret`), `asks_twice` (the same, with another question
    /// behind it), `password` (only that, and the password in `secret`), `once` (a password, which the URL in `secret` is asked about), `lasts`
    /// (any password; a session ends with its standard input), `not_strict` (a password, without strict key exchange and with ChaCha20 only; a
    /// session says 4 MiB more).
    pub fn start(kind: &str, secret: &str) -> Self {
        let (folder, host_key) = (scratch("asyncssh"), SshKey::new());
        fs::write(folder.join("secret"), secret).unwrap();
        let mut command = Command::new(installed("python").join("bin/python"));
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bed/ssh_logins_server.py")).arg(kind).arg(&folder).arg(host_key.file());
        let log = || Stdio::from(fs::File::options().append(true).create(true).open(folder.join("log")).unwrap());
        let server = Server::start(&command, "KILL", &[], [Stdio::null(), log(), log()]);
        let port = eventually("asyncssh listens", || fs::read_to_string(folder.join("port")).ok()?.trim().parse().ok());
        Self { port, folder, host_key, _server: server }
    }

    /// The address and the host key, as keys of a connection.
    pub fn place(&self) -> String {
        format!("address: \"127.0.0.1:{}\", host_keys: [\"{}\"]", self.port, self.host_key.public())
    }

    /// The variables by which a client finds it around Keyward: `tests/ssh_clients.rs` says which.
    pub fn directly(&self, user: &str, password: &str) -> Vec<(&'static str, String)> {
        let known_hosts = self.folder.join("known_hosts");
        fs::write(&known_hosts, format!("[127.0.0.1]:{} {}\n", self.port, self.host_key.public())).unwrap();
        vec![
            ("SSH_HOST", "127.0.0.1".to_owned()),
            ("SSH_PORT", self.port.to_string()),
            ("SSH_USER", user.to_owned()),
            ("SSH_PASSWORD", password.to_owned()),
            ("SSH_KNOWN_HOSTS", known_hosts.display().to_string()),
            ("SSH_HOST_KEY", self.host_key.public()),
        ]
    }

    /// Another password counts from now on.
    pub fn change(&self, secret: &str) {
        fs::write(self.folder.join("next"), secret).unwrap();
        fs::rename(self.folder.join("next"), self.folder.join("secret")).unwrap();
    }

    /// The one-time passwords that it was shown are secrets from now on: they must not turn up anywhere. How many there were.
    pub fn remember_passwords(&self) -> usize {
        let seen = fs::read_to_string(self.folder.join("seen")).unwrap_or_default();
        seen.lines().map(remember).count()
    }

    /// What was tried, a line each: the method and whether it counted; never the password.
    pub fn tried(&self) -> Vec<String> {
        let log = fs::read_to_string(self.folder.join("log")).unwrap();
        log.lines().filter_map(|line| line.strip_prefix("tried ")).map(str::to_owned).collect()
    }
}
