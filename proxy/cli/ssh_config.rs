//! `keyward ssh-config`: what a user adds to his own files, so that `ssh web-1` goes through Keyward and nobody has to confirm a host key.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::Args;
use keyward_auth::{Account, Gate};
use keyward_config::{Name, UpstreamAddress};
use keyward_ssh_transport::known_hosts;

use super::{DONE, WRONG, failed, runtime};
use crate::reload;
use crate::ssh::{self, host::Host};
use crate::state::StateFolder;

/// For whom, and for which of his files.
#[derive(Args)]
pub(super) struct Wanted {
    /// The user, as the file names him.
    user: Name,
    /// Where users reach Keyward's SSH listener: HOST or HOST:PORT.
    #[arg(long, value_name = "HOST[:PORT]")]
    address: UpstreamAddress,
    /// What ssh calls Keyward itself; no connection and no host of a group may have this name.
    #[arg(long, default_value = "keyward")]
    name: Name,
    /// Print the lines for `~/.ssh/known_hosts` instead of those for `~/.ssh/config`.
    #[arg(long)]
    known_hosts: bool,
}

/// A name that `ssh` can be given, and the accounts behind it.
type Names = BTreeMap<String, Vec<String>>;

/// What the texts are made of.
struct Way<'a> {
    user: &'a Name,
    /// What ssh calls Keyward.
    name: &'a str,
    host: &'a str,
    port: u16,
    names: &'a Names,
}

pub(super) fn print(path: &Path, wanted: &Wanted) -> u8 {
    let UpstreamAddress::Tcp { host, port } = &wanted.address else {
        return wrong("--address: expected HOST or HOST:PORT");
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(text) => return failed(&text),
    };
    // Opening the gate wants a runtime, though it asks nobody.
    let (loaded, gate) = runtime.block_on(async { reload::load(path) });
    let (Some(config), Some(gate)) = (loaded.config.filter(|_| !loaded.problems.has_errors()), gate) else {
        eprint!("{}", loaded.problems);
        return WRONG;
    };
    if !config.users.contains_key(&wanted.user) {
        return wrong(&format!("{}: no user is called {}", path.display(), wanted.user));
    }
    let names = reachable(&gate, &wanted.user);
    let name = wanted.name.as_str();
    if names.contains_key(name) {
        return wrong(&format!("a server is called {name} too: give Keyward another name with --name"));
    }
    let port = port.unwrap_or(ssh::PREFACE.default_port);
    let way = Way { user: &wanted.user, name, host, port, names: &names };
    if !wanted.known_hosts {
        print!("{}", way.config());
        return DONE;
    }
    let state = &config.state;
    // Made under the lock: a process that starts meanwhile must not make other ones.
    let keys =
        if Host::is_there(state) { Host::open(state) } else { StateFolder::open(state).and_then(|locked| Host::open(locked.path())) };
    match keys {
        Ok(keys) => {
            print!("{}", way.known_hosts(&keys));
            DONE
        }
        Err(text) => failed(&text),
    }
}

fn wrong(text: &str) -> u8 {
    eprintln!("keyward: {text}");
    WRONG
}

fn reachable(gate: &Gate, user: &Name) -> Names {
    let mut names = Names::new();
    for reachable in gate.reachable_by(user, ssh::NAME) {
        names.entry(reachable.name().to_owned()).or_default().push(reachable.account);
    }
    names
}

impl Way<'_> {
    /// Lines for `~/.ssh/config`.
    fn config(&self) -> String {
        let Self { user, name, host, port, names } = self;
        let mut text = format!(
            "# For {user}: add this to ~/.ssh/config, and to ~/.ssh/known_hosts what `keyward ssh-config --known-hosts` prints.\n\
             # ssh takes the first value that it finds: put it before any `Host *`.\n\
             Host {name}\n    HostName {host}\n    Port {port}\n    User {user}\n"
        );
        if names.is_empty() {
            text += &format!("# {user} may reach nothing by ssh.\n");
        }
        let (apart, plain): (Vec<_>, Vec<_>) = names.keys().partition(|server| server.contains('*'));
        let hosts: Vec<String> = plain.iter().filter(|server| can_be_jumped_to(server)).flat_map(|server| spellings(server)).collect();
        text.extend(plain.iter().map(|server| self.accounts(server)));
        if !hosts.is_empty() {
            text += &self.jump(&hosts.join(" "));
        }
        for pattern in apart {
            text += &self.accounts(pattern);
            // A pattern must lead neither to Keyward through itself, nor to whom nobody declared.
            let except = [name, host].into_iter().map(|own| format!("!{own}"));
            let words: Vec<String> = [pattern.clone()].into_iter().chain(except).chain(too_far(pattern)).collect();
            text += &self.jump(&words.join(" "));
        }
        text
    }

    /// Without an account the login is the user's own name, which is no account: then Keyward takes the only one, or `default`.
    fn jump(&self, hosts: &str) -> String {
        format!("Host {hosts}\n    ProxyJump {}\n    User {}\n", self.name, self.user)
    }

    fn accounts(&self, server: &str) -> String {
        let accounts = self.names.get(server).map(Vec::as_slice).unwrap_or_default();
        let plain = accounts.iter().any(|account| account == Account::DEFAULT) || accounts.len() == 1;
        let example = accounts.iter().find(|account| *account != Account::DEFAULT);
        let named = if server.contains('*') { "NAME" } else { server };
        let by = |login: &str| match can_be_jumped_to(server) {
            true if login.is_empty() => format!("ssh {named}"),
            true => format!("ssh {login}@{named}"),
            false if login.is_empty() => format!("ssh {}+{server}@{}", self.user, self.name),
            false => format!("ssh {}+{server}+{login}@{}", self.user, self.name),
        };
        let ways: Vec<String> = plain.then(|| by("")).into_iter().chain(example.map(|account| by(account))).collect();
        format!("# {server}: as {} ({})\n", accounts.join(", "), ways.join(", "))
    }

    /// Lines for `~/.ssh/known_hosts`.
    fn known_hosts(&self, keys: &Host) -> String {
        let mut text = known_hosts::line(self.host, self.port, keys.key());
        text.push('\n');
        let (apart, plain): (Vec<_>, Vec<_>) =
            self.names.keys().filter(|server| can_be_jumped_to(server)).partition(|server| server.contains('*'));
        let plain: Vec<String> = plain.iter().map(|server| server.to_ascii_lowercase()).collect();
        let patterns = apart.iter().map(|pattern| [(*pattern).clone()].into_iter().chain(too_far(pattern)).collect::<Vec<_>>().join(","));
        for hosts in Some(plain.join(",")).filter(|hosts| !hosts.is_empty()).into_iter().chain(patterns) {
            text += &format!("@cert-authority {hosts} {} keyward host CA\n", keys.ca().to_line());
        }
        text
    }
}

/// What is before an `@` is the login, for ssh.
fn can_be_jumped_to(server: &str) -> bool {
    !server.contains('@')
}

/// ssh compares the name as it is typed with its config, and asks for it in lower case.
fn spellings(server: &str) -> Vec<String> {
    let lower = server.to_ascii_lowercase();
    if lower == server { vec![lower] } else { vec![server.to_owned(), lower] }
}

/// The names that a pattern of ssh has and a pattern of the file has not: there `*` goes beyond a dot.
fn too_far(pattern: &str) -> BTreeSet<String> {
    let stars = pattern.match_indices('*').map(|(at, _)| pattern.split_at(at));
    stars.map(|(before, after)| format!("!{before}*.{after}")).collect()
}
