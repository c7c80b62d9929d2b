//! A client that asks for what OpenSSH's never would, with paramiko.

use std::process::Command;
use std::sync::Mutex;

use super::process::{SOON, installed};
use super::ssh_running::SshRunning;
use super::ssh_scene::SshScene;
use super::ssh_ways::SshWay;

/// One connection of `deploy`'s.
pub struct SshAsks {
    client: SshRunning,
    answers: Mutex<usize>,
}

impl SshAsks {
    /// As alice, without a jump.
    pub fn plus(scene: &SshScene<'_>) -> Self {
        let mut command = Command::new(installed("python").join("bin/python"));
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bed/ssh_asks.py")).envs(scene.place(SshWay::Plus));
        Self { client: SshRunning::start(&command), answers: Mutex::new(0) }
    }

    /// Asks: `open "KIND"` (a channel), `global "NAME"`, `request "NAME"` (of a session), `forward "ADDRESS"`, or `pipelined NAME NAME …`:
    /// requests of one session that do not wait for each other (`shell`, `exec`, `sftp`, `env:NAME`, or any other). The answer is `yes` or
    /// `no` for each, or `refused CODE`.
    #[track_caller]
    pub fn ask(&self, what: &str) -> String {
        let mut answers = self.answers.lock().unwrap();
        self.client.say(what);
        *answers += 1;
        let deadline = std::time::Instant::now() + SOON;
        loop {
            let said = self.client.printed();
            if said.matches('\n').count() >= *answers {
                return said.lines().nth(*answers - 1).unwrap().to_owned();
            }
            assert!(std::time::Instant::now() < deadline && !self.client.is_over(), "no answer to {what}: {:?}", self.client);
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
