//! A server that asks for what nobody invited it to, with paramiko: channels of all kinds, and global requests.

use std::fs;
use std::process::{Command, Stdio};

use super::process::{Server, eventually, installed, scratch};
use super::ssh_keys::SshKey;

/// It lets in whoever has a key. Any command prints what came of its questions, a line each.
pub struct SshWilful {
    port: u16,
    host_key: SshKey,
    key: SshKey,
    _server: Server,
}

impl SshWilful {
    pub fn start() -> Self {
        let (file, host_key) = (scratch("wilful").join("port"), SshKey::new());
        let mut command = Command::new(installed("python").join("bin/python"));
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bed/ssh_wilful.py")).arg(host_key.file()).arg(&file);
        let log = fs::File::create(file.with_file_name("log")).unwrap();
        let server = Server::start(&command, "KILL", &[], [Stdio::null(), Stdio::null(), log.into()]);
        let port = eventually("the server listens", || fs::read_to_string(&file).ok()?.trim().parse().ok());
        Self { port, host_key, key: SshKey::new(), _server: server }
    }

    /// The line of the file by which it is a connection.
    pub fn connection(&self, name: &str) -> String {
        format!(
            "  {name}: {{ protocol: ssh, address: \"127.0.0.1:{}\", host_keys: [\"{}\"], \
             accounts: {{ only: {{ username: {{ literal: who }}, private_key: {{ file: {} }} }} }} }}\n",
            self.port,
            self.host_key.public(),
            self.key.file().display()
        )
    }
}
