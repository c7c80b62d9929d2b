//! Whoever comes to Keyward by `ssh` with the proofs that a test gives him, on the outer and on the inner link; nothing of a config counts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::canary::must_be_absent;
use super::process::{Output, run, scratch};
use super::ssh_agent::SecurityKey;
use super::ssh_scene::SshScene;
use super::ssh_ways::SshWay;

/// One login name with its proofs. `deploy` on `web-1` is where it goes.
#[derive(Clone)]
pub struct Caller {
    user: String,
    target: String,
    account: Option<String>,
    program: PathBuf,
    /// Options of the link on which the user proves himself.
    outer: Vec<String>,
    /// Those of the link inside a jump.
    inner: Vec<String>,
    port: u16,
    host_key: String,
    authority: String,
    folder: PathBuf,
    types: bool,
}

/// `ssh` says these of a server that refuses every proof, and no more.
pub const REFUSED: &str = "Permission denied (publickey,password,keyboard-interactive).";

impl Caller {
    /// Without any proof yet.
    pub fn new(scene: &SshScene<'_>, user: &str) -> Self {
        Self {
            user: user.to_owned(),
            target: "web-1".to_owned(),
            account: Some("deploy".to_owned()),
            program: PathBuf::from("ssh"),
            outer: Vec::new(),
            inner: Vec::new(),
            port: scene.port(),
            host_key: scene.host_key(),
            authority: scene.host_authority(),
            folder: scratch("caller"),
            types: false,
        }
    }

    /// Another `ssh`.
    #[must_use]
    pub fn program(mut self, program: &Path) -> Self {
        program.clone_into(&mut self.program);
        self
    }

    /// To another server, and as whom there; `None`: as nobody named.
    #[must_use]
    pub fn to(mut self, target: &str, account: Option<&str>) -> Self {
        (self.target, self.account) = (target.to_owned(), account.map(str::to_owned));
        self
    }

    /// Proves himself by the key in this file, and by its certificate if there is one beside it.
    #[must_use]
    pub fn key(self, file: &Path) -> Self {
        let file = file.display().to_string();
        self.with(&["-i", &file])
    }

    /// Proves himself by this security key.
    #[must_use]
    pub fn touches(self, key: &SecurityKey) -> Self {
        let options = agent(key);
        self.with(&options.each_ref().map(String::as_str))
    }

    /// The same on the inner link of a jump.
    #[must_use]
    pub fn touches_inside(self, key: &SecurityKey) -> Self {
        let options = agent(key);
        self.inside(&options.each_ref().map(String::as_str))
    }

    /// Types this wherever he is asked.
    #[must_use]
    pub fn types(mut self, password: &str) -> Self {
        let askpass = self.askpass();
        fs::write(self.folder.join("password"), format!("{password}\n")).unwrap();
        let folder = self.folder.display();
        let script = format!("#!/bin/sh\nprintf '%s\\n' \"$1\" >> {folder}/prompts\ncat {folder}/password\n");
        fs::write(&askpass, script).unwrap();
        fs::set_permissions(&askpass, fs::Permissions::from_mode(0o700)).unwrap();
        self.types = true;
        self
    }

    /// Options of the link on which he proves who he is. No word of them has a space.
    #[must_use]
    pub fn with(mut self, options: &[&str]) -> Self {
        self.outer.extend(options.iter().map(|&option| option.to_owned()));
        self
    }

    /// Options of the inner link of a jump.
    #[must_use]
    pub fn inside(mut self, options: &[&str]) -> Self {
        self.inner.extend(options.iter().map(|&option| option.to_owned()));
        self
    }

    /// An `SSH_ASKPASS` that nobody answers.
    pub fn never_types(&self) -> PathBuf {
        let script = self.folder.join("never");
        fs::write(&script, "#!/bin/sh\nexec sleep 60\n").unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
        script
    }

    /// What he was asked so far.
    pub fn prompts(&self) -> Vec<String> {
        fs::read_to_string(self.folder.join("prompts")).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// `ssh` to Keyward itself, naming no connection: the outer link of a jump.
    pub fn link(&self) -> Command {
        let mut command = self.bare();
        command.args(self.options(&self.outer)).args(["-p", &self.port.to_string(), "-l", &self.user, "127.0.0.1"]);
        command
    }

    /// `ssh` with all of it up to the destination; the caller adds the command.
    pub fn ssh(&self, way: SshWay) -> Command {
        let account = self.account.as_deref();
        let mut command = self.bare();
        match way {
            SshWay::Direct => panic!("a caller comes to Keyward"),
            SshWay::Plus => {
                let login =
                    account.map_or_else(|| format!("{}+{}", self.user, self.target), |it| format!("{}+{}+{it}", self.user, self.target));
                command.args(self.options(&self.outer)).args(["-p", &self.port.to_string(), "-l", &login, "127.0.0.1"]);
            }
            SshWay::Jump => {
                let outer = self.options(&self.outer).join(" ");
                let proxy =
                    format!("ProxyCommand={} {outer} -p {} -l {} -W [%h]:%p 127.0.0.1", self.program.display(), self.port, self.user);
                command.args(["-o", &proxy]).args(self.options(&self.inner));
                // What `ssh` says where nobody says anything.
                command.args(["-l", account.unwrap_or(&self.user), &self.target]);
            }
        }
        command
    }

    /// Runs a command there. What the client says must hold no secret.
    #[track_caller]
    pub fn run(&self, way: SshWay, remote: &str) -> Output {
        let mut command = self.ssh(way);
        command.arg(remote);
        let output = run(command, "", Duration::from_secs(60));
        must_be_absent("what ssh printed", &format!("{}{}", output.stdout, output.stderr));
        output
    }

    /// Fails unless he is let in.
    #[track_caller]
    pub fn is_in(&self, way: SshWay) {
        assert_eq!(self.run(way, "echo in").ok(), "in", "{way:?}");
    }

    /// What he is told, without the number of the session; fails if he is let in.
    #[track_caller]
    pub fn is_out(&self, way: SshWay) -> String {
        without_session(self.run(way, "echo in").refused())
    }

    fn bare(&self) -> Command {
        let authority = format!("@cert-authority {0},[{0}]:* {1}", self.target, self.authority);
        let known = format!("[127.0.0.1]:{} {}\n{authority}\n", self.port, self.host_key);
        fs::write(self.folder.join("known_hosts"), known).unwrap();
        let mut command = Command::new(&self.program);
        command.env_remove("SSH_AUTH_SOCK").env_remove("DISPLAY").env("SSH_ASKPASS", self.askpass()).env("SSH_ASKPASS_REQUIRE", "force");
        command
    }

    fn askpass(&self) -> PathBuf {
        self.folder.join("askpass")
    }

    fn options(&self, own: &[String]) -> Vec<String> {
        let known = format!("-oUserKnownHostsFile={}", self.folder.join("known_hosts").display());
        let mut options: Vec<String> = vec!["-F".to_owned(), "none".to_owned()];
        options.extend(own.iter().cloned());
        if !own.iter().any(|option| option == "-i") {
            options.push("-oIdentityFile=none".to_owned());
        }
        let usual =
            [&known, "-oGlobalKnownHostsFile=/dev/null", "-oStrictHostKeyChecking=yes", "-oIdentitiesOnly=yes", "-oIdentityAgent=none"];
        options.extend(usual.into_iter().map(str::to_owned));
        options.extend(["-oUpdateHostKeys=no", "-oLogLevel=ERROR", "-oNumberOfPasswordPrompts=1"].map(str::to_owned));
        options.push(format!("-oBatchMode={}", if self.types { "no" } else { "yes" }));
        options
    }
}

/// A text of Keyward's without what is different each time.
pub fn without_session(text: &str) -> String {
    let mut rest = text;
    let mut shown = String::new();
    while let Some((before, after)) = rest.split_once("(session ") {
        shown += before;
        shown += "(session)";
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    shown + rest
}

fn agent(key: &SecurityKey) -> [String; 3] {
    [format!("-oIdentityAgent={}", key.socket().display()), "-i".to_owned(), key.public_file().display().to_string()]
}
