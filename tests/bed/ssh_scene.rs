//! The scene of the tests with SSH: alice may reach `web-1` as `deploy` (by password) and as `ops` (by key), whose secrets are in a KV secret,
//! and knows of `payroll`, which she may not reach.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use super::bao::{Kv, bao};
use super::canary::canary;
use super::config::{Config, verifier};
use super::keyward::Keyward;
use super::process::scratch;
use super::ssh_keys::SshKey;
use super::ssh_ways::{Places, SshTools, SshWay};
use super::sshd::Sshd;

/// Every channel that a rule can allow.
pub const ALL_CHANNELS: &str = "channels: [shell, exec, sftp, local-forward, remote-forward, agent, x11]";

/// What is to be in the config; every part is the inside of a YAML flow mapping, or empty.
#[derive(Clone)]
pub struct SshPlan {
    /// Further keys of the listener.
    pub listener: String,
    /// Further keys of `web-1`; its `host_keys` if they are another server's.
    pub connection: String,
    /// Further accounts of `web-1`, each `, name: { … }`.
    pub accounts: String,
    /// Further keys of `payroll`; its `address` if it is another server's.
    pub payroll: String,
    /// Whole further connections, a line each: `  web-2: { … }`.
    pub connections: String,
    /// Further keys of alice.
    pub alice: String,
    /// Further keys of her rule.
    pub rule: String,
    /// Further rules, a line each: `  - { … }`.
    pub rules: String,
    /// Further users, a line each.
    pub users: String,
    /// Any top-level entry.
    pub rest: String,
    /// Paths in the store that Keyward may read beside those of the accounts.
    pub paths: Vec<String>,
    /// Lines of the client's `ssh_config`, which count before ours.
    pub client: String,
    /// The client's `ssh`.
    pub program: PathBuf,
}

/// One Keyward before one sshd.
pub struct SshScene<'a> {
    pub keyward: Keyward,
    pub sshd: &'a Sshd,
    /// Where its logins are: `deploy` (username, password), `ops` (username, key, passphrase).
    pub kv: Kv<'static>,
    /// alice's key.
    pub alice: SshKey,
    /// alice's password.
    pub password: String,
    /// A key with which sshd lets `deploy` in around Keyward.
    pub around: SshKey,
    /// OpenSSH with a config that knows all ways.
    pub tools: SshTools,
    plan: SshPlan,
}

impl Default for SshPlan {
    /// Alice's rule allows every channel.
    fn default() -> Self {
        let empty = String::new;
        Self {
            listener: empty(),
            connection: empty(),
            accounts: empty(),
            payroll: empty(),
            connections: empty(),
            alice: empty(),
            rule: ALL_CHANNELS.to_owned(),
            rules: empty(),
            users: empty(),
            rest: empty(),
            paths: Vec::new(),
            client: empty(),
            program: PathBuf::from("ssh"),
        }
    }
}

impl<'a> SshScene<'a> {
    /// All channels are allowed.
    pub fn new(sshd: &'a Sshd) -> Self {
        Self::with(sshd, SshPlan::default())
    }

    pub fn with(sshd: &'a Sshd, plan: SshPlan) -> Self {
        let (kv, alice, around, password) = (bao().mount_kv2(), SshKey::new(), SshKey::new(), canary());
        let key = SshKey::of(&["-t", "ed25519"], &canary());
        sshd.authorize("deploy", &around.public());
        sshd.authorize("ops", &key.public());
        let deploy = sshd.login("deploy");
        kv.put("deploy", &[("username", &deploy.name), ("password", &deploy.password), ("key", &around.private())]);
        kv.put("ops", &[("username", &sshd.login("ops").name), ("key", &key.private()), ("passphrase", key.passphrase())]);
        let config = config(sshd, &kv, &alice, &password, &plan);
        let keyward = Keyward::start(&config);
        let tools = SshTools { folder: scratch("ssh"), program: plan.program.clone() };
        let scene = Self { keyward, sshd, kv, alice, password, around, tools, plan };
        scene.write_tools();
        scene
    }

    /// Keyward's host key as `known_hosts` has it, `ssh-ed25519 AAAA…`.
    pub fn host_key(&self) -> String {
        self.line_in_state("ssh_host_ed25519_key.pub")
    }

    /// The authority of the certificates by which inner links show that they are `web-1`.
    pub fn host_authority(&self) -> String {
        self.line_in_state("ssh_host_ca.pub")
    }

    pub fn port(&self) -> u16 {
        self.keyward.port("ssh")
    }

    /// The whole YAML anew from a changed plan, for a reload.
    pub fn rewrite(&self, change: impl FnOnce(&mut SshPlan)) {
        let mut plan = self.plan.clone();
        change(&mut plan);
        self.keyward.rewrite(&config(self.sshd, &self.kv, &self.alice, &self.password, &plan));
    }

    /// Fails unless every session that was opened has been closed, after a while.
    #[track_caller]
    pub fn nothing_is_left(&self) {
        super::process::eventually("no session is left", || {
            self.keyward.cli(&["sessions"]).ok().lines().all(|line| !line.contains("alice")).then_some(())
        });
        let count = |event: &str| self.keyward.audit().iter().filter(|record| record["event"] == event).count();
        super::process::eventually("every session is closed", || (count("opened") == count("closed")).then_some(()));
    }

    /// The variables by which the other clients find their way: `tests/ssh_clients.rs` says which.
    pub fn place(&self, way: SshWay) -> Vec<(&'static str, String)> {
        let (user, port, key) = match way {
            SshWay::Direct => (self.sshd.login("deploy").name.clone(), self.sshd.port(), &self.around),
            SshWay::Plus => ("alice+web-1+deploy".to_owned(), self.port(), &self.alice),
            SshWay::Jump => ("alice".to_owned(), self.port(), &self.alice),
        };
        let password = if way == SshWay::Direct { self.sshd.login("deploy").password.clone() } else { self.password.clone() };
        let mut place = vec![
            ("SSH_HOST", "127.0.0.1".to_owned()),
            ("SSH_PORT", port.to_string()),
            ("SSH_USER", user),
            ("SSH_KEY", key.file().display().to_string()),
            ("SSH_PASSWORD", password),
            ("SSH_KNOWN_HOSTS", self.tools.folder.join("known_hosts").display().to_string()),
            ("SSH_HOST_KEY", if way == SshWay::Direct { self.sshd.host_key() } else { self.host_key() }),
        ];
        if way == SshWay::Jump {
            place.extend([
                ("SSH_TARGET", "web-1".to_owned()),
                ("SSH_TARGET_USER", "deploy".to_owned()),
                ("SSH_TARGET_CA", self.host_authority()),
            ]);
        }
        place
    }

    fn write_tools(&self) {
        let places = Places {
            keyward: self.port(),
            direct: self.sshd.port(),
            login: &self.sshd.login("deploy").name,
            alice: self.alice.file(),
            around: self.around.file(),
            options: &self.plan.client,
        };
        let mut known = format!("[127.0.0.1]:{} {}\n", self.port(), self.host_key());
        writeln!(known, "[127.0.0.1]:{} {}", self.sshd.port(), self.sshd.host_key()).unwrap();
        writeln!(known, "@cert-authority web-1,web-2 {}", self.host_authority()).unwrap();
        self.tools.write(&places, &known);
    }

    fn line_in_state(&self, name: &str) -> String {
        let text = fs::read_to_string(self.keyward.state().join(name)).unwrap();
        text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }
}

fn config(sshd: &Sshd, kv: &Kv<'_>, alice: &SshKey, password: &str, plan: &SshPlan) -> Config {
    let (deploy, ops) = (kv.path("deploy"), kv.path("ops"));
    let paths: Vec<&str> = [deploy.as_str(), &ops].into_iter().chain(plan.paths.iter().map(String::as_str)).collect();
    // Where the accounts have no passwords, all of them come in by key.
    let secret = if sshd.has_passwords() { "password: \"DEPLOY?password\"" } else { "private_key: \"DEPLOY?key\"" };
    let accounts = format!(
        "accounts: {{ deploy: {{ username: \"DEPLOY?username\", {secret} }}, \
         ops: {{ username: \"OPS?username\", private_key: \"OPS?key\", passphrase: \"OPS?passphrase\" }}{} }}",
        plan.accounts
    );
    let inside = |text: &str| if text.is_empty() { String::new() } else { format!(", {text}") };
    let body = |more: &str| {
        let mut body = format!("protocol: ssh, store: corp, {accounts}");
        if !more.contains("address:") && !more.contains("hosts: ") {
            write!(body, ", address: \"{}\"", sshd.address()).unwrap();
        }
        if !["host_keys:", "known_hosts:", "host_ca:"].iter().any(|key| more.contains(key)) {
            write!(body, ", host_keys: [\"{}\"]", sshd.host_key()).unwrap();
        }
        // With the mark behind them: a key in base64 may have these letters, and never that.
        (body + &inside(more)).replace("DEPLOY?", &format!("{deploy}?")).replace("OPS?", &format!("{ops}?"))
    };
    let connections =
        format!("connections:\n  web-1: {{ {} }}\n  payroll: {{ {} }}\n{}", body(&plan.connection), body(&plan.payroll), plan.connections);
    let users = format!(
        "users:\n  alice: {{ password: \"{}\", public_keys: [\"{} alice@laptop\"]{} }}\n  bob: {{ password: \"{}\" }}\n{}",
        verifier(password, &[]),
        alice.public(),
        inside(&plan.alice),
        verifier(&canary(), &[]),
        plan.users
    );
    let rule = inside(&plan.rule);
    let access = format!(
        "access:\n  - {{ allow: [alice], connections: [web-1], accounts: [deploy, ops]{rule} }}\n  - {{ allow: [bob], connections: [\"*\"] }}\n{}",
        plan.rules
    );
    Config::new()
        .only_listener(&format!("protocol: ssh, address: \"127.0.0.1:0\"{}", inside(&plan.listener)))
        .store("corp", bao(), &bao().approle(&paths))
        .line(&(connections + &users + &access + &plan.rest))
}
