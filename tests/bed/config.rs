//! The YAML of a test's Keyward.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::bao::{AppRole, Bao};
use super::process::run;

/// The name of the unix socket that [`Config::mysql`] listens on, in the folder `GIVEN`.
pub const MYSQL_SOCKET: &str = "mysql.sock";

/// A config under construction: one PostgreSQL listener and the HTTP listener, both on free ports of 127.0.0.1, a JSON log, and
/// what the test adds. Bodies are YAML flow mappings without their braces.
#[derive(Clone)]
pub struct Config {
    listeners: Vec<String>,
    stores: String,
    connections: String,
    users: String,
    access: String,
    log: String,
    rest: String,
    files: Vec<(String, String)>,
}

impl Config {
    pub fn new() -> Self {
        let listeners = vec!["protocol: postgres, address: \"127.0.0.1:0\"".to_owned()];
        let empty = String::new;
        let (stores, connections, users, access) = (empty(), empty(), empty(), empty());
        Self { listeners, stores, connections, users, access, log: empty(), rest: empty(), files: Vec::new() }
    }

    /// The same with two MySQL listeners instead: a free port of 127.0.0.1, and a unix socket.
    pub fn mysql() -> Self {
        let config = Self::new().only_listener("protocol: mysql, address: \"127.0.0.1:0\"");
        config.listener(&format!("protocol: mysql, address: GIVEN/{MYSQL_SOCKET}"))
    }

    /// A store that logs in by AppRole; its secret id lies in a file.
    #[must_use]
    pub fn store(self, name: &str, bao: &Bao, approle: &AppRole) -> Self {
        self.store_with(name, bao, approle, "")
    }

    /// The same with further keys (`cache_ttl: 1s`).
    #[must_use]
    pub fn store_with(mut self, name: &str, bao: &Bao, approle: &AppRole, keys: &str) -> Self {
        let (address, role_id) = (bao.address(), &approle.role_id);
        let file = format!("{name}.secret_id");
        self.stores += &format!(
            "  {name}: {{ type: vault, address: \"{address}\", \
             auth: {{ method: approle, role_id: {role_id}, secret_id: {{ file: GIVEN/{file} }} }}, {keys} }}\n"
        );
        self.files.push((file, approle.secret_id.clone()));
        self
    }

    /// A connection; `body` has the rest of its keys.
    #[must_use]
    pub fn connection(mut self, name: &str, body: &str) -> Self {
        self.connections += &format!("  {name}: {{ protocol: postgres, {body} }}\n");
        self
    }

    /// The same to MySQL or MariaDB.
    #[must_use]
    pub fn mysql_connection(mut self, name: &str, body: &str) -> Self {
        self.connections += &format!("  {name}: {{ protocol: mysql, {body} }}\n");
        self
    }

    /// A user with the SCRAM verifier of this password.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.users += &format!("  {name}: {{ password: \"{}\" }}\n", verifier(password, &[]));
        self
    }

    /// The same in these groups (`ops, payments`).
    #[must_use]
    pub fn member(mut self, name: &str, password: &str, groups: &str) -> Self {
        self.users += &format!("  {name}: {{ password: \"{}\", groups: [{groups}] }}\n", verifier(password, &[]));
        self
    }

    /// A user with the argon2id verifier of this password.
    #[must_use]
    pub fn user_with_argon2(mut self, name: &str, password: &str) -> Self {
        self.users += &format!("  {name}: {{ password: \"{}\" }}\n", verifier(password, &["--argon2"]));
        self
    }

    /// One access rule: this user or group, these connections (`orders*`).
    #[must_use]
    pub fn allow(mut self, who: &str, connections: &str) -> Self {
        self.access += &format!("  - {{ allow: [{who}], connections: [\"{connections}\"] }}\n");
        self
    }

    /// Another listener beside the first.
    #[must_use]
    pub fn listener(mut self, body: &str) -> Self {
        self.listeners.push(body.to_owned());
        self
    }

    /// The first listener's keys instead of the default ones.
    #[must_use]
    pub fn only_listener(mut self, body: &str) -> Self {
        self.listeners = vec![body.to_owned()];
        self
    }

    /// Any top-level entry (`limits: { … }`).
    #[must_use]
    pub fn line(mut self, line: &str) -> Self {
        self.rest += line;
        self.rest.push('\n');
        self
    }

    /// Further keys of the log (`level: debug`).
    #[must_use]
    pub fn log(mut self, keys: &str) -> Self {
        keys.clone_into(&mut self.log);
        self
    }

    /// Files beside the config, by name, with their content. The text `GIVEN` in the config stands for their folder.
    pub fn files(&self) -> &[(String, String)] {
        &self.files
    }

    /// The whole file.
    pub fn text(&self, state: &Path, given: &Path) -> String {
        let listeners: String = self.listeners.iter().map(|body| format!("  - {{ {body} }}\n")).collect();
        let log = format!("log: {{ format: json, {} }}", self.log);
        let mut text = format!("state: {}\n{log}\nhttp: {{ address: \"127.0.0.1:0\" }}\n", state.display());
        let sections = [("listeners", &listeners), ("stores", &self.stores), ("connections", &self.connections)];
        for (name, body) in sections.into_iter().chain([("users", &self.users), ("access", &self.access)]) {
            if !body.is_empty() {
                text += &format!("{name}:\n{body}");
            }
        }
        text += &self.rest;
        text.replace("GIVEN", &given.display().to_string())
    }
}

/// What `keyward user hash` makes of a password.
pub fn verifier(password: &str, options: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    command.args(["user", "hash"]).args(options);
    run(command, &format!("{password}\n"), Duration::from_secs(30)).ok().to_owned()
}
