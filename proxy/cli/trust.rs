//! `keyward trust`: what to pin of a server's host keys, as lines for the file.

use std::net::Ipv6Addr;
use std::path::Path;

use keyward_config::{Config, Template, UpstreamAddress};
use keyward_ssh_transport::key::PublicKey;

use super::{DONE, WRONG, failed, runtime};
use crate::reload;
use crate::ssh::{self, trust};

/// A way to compare a fingerprint that whoever sits between us and the server cannot touch.
const COMPARE: &str = "\
# Compare the fingerprints over another way before you paste this: whoever is between here and the server could show keys of his own.
# On the server itself:  for key in /etc/ssh/*.pub; do ssh-keygen -lf \"$key\"; done";

pub(super) fn trust(path: &Path, asked: &str) -> u8 {
    // The operator who pins a key is writing the file: it need not be there yet, or be right.
    let config = if path.exists() { reload::read(path).config } else { None };
    let (host, port) = match place(config.as_ref(), asked) {
        Ok(place) => place,
        Err(text) => {
            eprintln!("keyward: {text}");
            return WRONG;
        }
    };
    let shown = UpstreamAddress::Tcp { host: host.clone(), port: Some(port) };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(text) => return failed(&text),
    };
    match runtime.block_on(trust::ask(&host, port)) {
        Ok(shows) => {
            print!("{}", lines(&shown.to_string(), &shows));
            DONE
        }
        Err(text) => failed(&format!("{shown}: {text}")),
    }
}

/// Where that is: a connection of the file, a host of a group, or what was typed.
fn place(config: Option<&Config>, asked: &str) -> Result<(String, u16), String> {
    let find = |name: &str| config.map(|config| known(config, name)).transpose().map(Option::flatten);
    let written = find(asked)?;
    // As people type it for ssh; a connection may have an @ in its name, too.
    let asked = asked.rsplit_once('@').map_or(asked, |(_, host)| host);
    let address = match written.map_or_else(|| find(asked), |address| Ok(Some(address)))? {
        Some(address) => address,
        None if asked.parse::<Ipv6Addr>().is_ok() => UpstreamAddress::Tcp { host: asked.to_owned(), port: None },
        None => asked.parse().map_err(|_| format!("{asked:?}: expected HOST, HOST:PORT or [IPv6]:PORT"))?,
    };
    match address {
        UpstreamAddress::Tcp { host, port } => Ok((host, port.unwrap_or(ssh::PREFACE.default_port))),
        UpstreamAddress::Unix(path) => Err(format!("{}: expected a host; host keys are shown over TCP", path.display())),
    }
}

fn known(config: &Config, asked: &str) -> Result<Option<UpstreamAddress>, String> {
    if let Some(connection) = config.connections.get(asked) {
        if connection.protocol != ssh::NAME {
            return Err(format!("the connection {asked} speaks {}; only SSH servers have host keys", connection.protocol));
        }
        if connection.template.iter().flat_map(Template::found).any(|found| found.path == "address") {
            return Err(format!("the address of the connection {asked} is in a store; name the server itself"));
        }
        let group = || {
            let hosts: Vec<&str> = connection.place.hosts().iter().map(|host| host.value.as_str()).collect();
            format!("the connection {asked} is a group of servers; name one of them: {}", hosts.join(", "))
        };
        return connection.place.address().cloned().map(Some).ok_or_else(group);
    }
    let groups = config.connections.values().filter(|connection| connection.protocol == ssh::NAME);
    let hosts = groups.flat_map(|connection| connection.place.hosts()).map(|host| &host.value);
    // As a login finds it.
    let best = hosts.filter(|host| host.matches(asked)).min_by_key(|host| host.rank());
    Ok(best.and_then(|host| host.address_of(asked)))
}

/// Comments and keys, as they can stand anywhere in the entry of a connection.
fn lines(shown: &str, shows: &trust::Shows) -> String {
    let fingerprint = |key: &PublicKey| format!("#   {}  {}\n", key.fingerprint(), key.kind().name());
    let mut text = format!("# The host keys of {shown}, as {} shows them now:\n", shows.at.ip());
    text.extend(shows.keys.iter().map(fingerprint));
    if let Some(authority) = &shows.authority {
        text += "# The authority of its host certificate:\n";
        text += &fingerprint(&authority.key);
    }
    text.extend(shows.unknown.iter().map(|(algorithms, why)| format!("# Not shown: {algorithms} ({why})\n")));
    text += COMPARE;
    text.push('\n');
    if !shows.keys.is_empty() {
        let keys: Vec<String> = shows.keys.iter().map(|key| format!("\"{}\"", key.to_line())).collect();
        text += &format!("host_keys: [{}]\n", keys.join(", "));
    }
    if let Some(authority) = &shows.authority {
        let line = format!("host_ca: [\"{}\"]", authority.key.to_line());
        text += &match &authority.useless {
            None if shows.keys.is_empty() => format!("{line}\n"),
            None => format!("# Or, for every key that this authority certifies for this host:\n{line}\n"),
            Some(why) => format!("# Not `host_ca`, since the certificate does not count for this name: {why}\n"),
        };
    }
    text
}
