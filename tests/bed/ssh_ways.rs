//! The ways to the upstream, for OpenSSH and for whatever uses it: one `ssh_config` with a name for each.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::process::{Output, run};

/// A way to a session of `deploy`'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SshWay {
    /// Around Keyward.
    Direct,
    /// `ssh alice+web-1+deploy@keyward`
    Plus,
    /// `ssh -J alice@keyward deploy@web-1`
    Jump,
}

impl SshWay {
    /// Those that Keyward is in.
    pub const THROUGH: [Self; 2] = [Self::Plus, Self::Jump];

    /// What the destination is called in the `ssh_config`.
    pub fn host(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Plus => "plus",
            Self::Jump => "web-1",
        }
    }
}

/// OpenSSH's programs with the config of a scene. Nothing of the user's own config or agent counts.
pub struct SshTools {
    pub(super) folder: PathBuf,
    /// `ssh` itself.
    pub program: PathBuf,
}

/// Where the ways lead, as the `ssh_config` says it.
pub(super) struct Places<'a> {
    pub keyward: u16,
    pub direct: u16,
    /// The login of `deploy` on the server.
    pub login: &'a str,
    pub alice: &'a Path,
    pub around: &'a Path,
    pub options: &'a str,
}

impl SshTools {
    /// Writes `config` and `known_hosts` into the folder.
    pub(super) fn write(&self, places: &Places<'_>, known_hosts: &str) {
        let folder = self.folder.display();
        fs::write(self.folder.join("known_hosts"), known_hosts).unwrap();
        let mut text = format!("{}\n", places.options);
        let (keyward, program) =
            (format!("HostName 127.0.0.1\nPort {}\nIdentityFile {}", places.keyward, places.alice.display()), self.program.display());
        let (direct, login) =
            (format!("HostName 127.0.0.1\nPort {}\nIdentityFile {}", places.direct, places.around.display()), places.login);
        writeln!(
            text,
            "Host direct\n{direct}\nUser {login}\nHost plus\n{keyward}\nUser alice+web-1+deploy\nHost jump\n{keyward}\nUser alice"
        )
        .unwrap();
        // What `ProxyJump jump` stands for, spelt out since it would not take our other `ssh`.
        writeln!(text, "Host web-1 web-2\nUser deploy\nIdentityFile none\nProxyCommand {program} -F {folder}/config -W [%h]:%p jump")
            .unwrap();
        writeln!(
            text,
            "Host *\nIdentitiesOnly yes\nIdentityAgent none\nBatchMode yes\nStrictHostKeyChecking yes\nUserKnownHostsFile {folder}/known_hosts\n\
             GlobalKnownHostsFile /dev/null\nUpdateHostKeys no\nControlPath none\nLogLevel ERROR\nForwardX11Timeout 10m"
        )
        .unwrap();
        fs::write(self.config(), text).unwrap();
    }

    /// The file that `-F` names.
    pub fn config(&self) -> PathBuf {
        self.folder.join("config")
    }

    /// A folder for what a client writes.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `ssh` with this config; the caller adds options, the destination and the command.
    pub fn ssh(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("-F").arg(self.config());
        command
    }

    /// Runs a command there, with options of ssh: what it said and its exit code. Fails the test when it takes a minute.
    #[track_caller]
    pub fn run(&self, way: SshWay, options: &[&str], remote: &str) -> Output {
        let mut command = self.ssh();
        command.args(options).args([way.host(), remote]);
        run(command, "", Duration::from_secs(60))
    }

    /// Runs lines of bash: `$SSH` is ssh with this config (two words), `$CONFIG` the file, `$HOST` the destination's name; the current folder is new.
    pub fn script(&self, way: SshWay, script: &str, variables: &[(&str, &str)]) -> Command {
        let folder = super::process::scratch("client");
        let mut command = Command::new("bash");
        command.args(["-o", "pipefail", "-c", script]).current_dir(&folder);
        let program = self.program.display();
        command.env("SSH", format!("{program} -F {}", self.config().display())).env("CONFIG", self.config()).env("HOST", way.host());
        command.env("HOME", &folder).env("PROGRAM", &self.program).env_remove("SSH_AUTH_SOCK").env_remove("DISPLAY");
        command.envs(variables.iter().copied());
        command
    }
}
