//! What Vault's own clients, and programs like ours, take from the environment (vault.md §1, §15.7, §15.8; the manual of `vault`,
//! "Environment variables").
//!
//! Of two variables, BAO_… comes before VAULT_…, as OpenBao's client has it. VAULT_MAX_RETRIES is not taken: how often a call may be tried
//! follows from what it does (client.rs).

use std::collections::{BTreeMap, BTreeSet};

use keyward_config::{FromEnvironment, Given, Name, Node, Origin, Problems, Span, Store, Taken, Variables};

use super::declared;
use super::settings::Settings;

pub(super) const FROM_ENVIRONMENT: FromEnvironment = FromEnvironment { keys, stores: declared::stores, files: declared::files, check };

/// What Keep takes for the address where nothing says it.
const KEEPS_ADDRESS: &str = "http://localhost:8200";

/// The keys that an entry lacks and the environment has.
fn keys(entry: &Node, variables: Variables<'_>) -> Vec<Taken> {
    let lacks = |key: &str| entry.get(key).is_none();
    let mut taken = Vec::new();
    let address = Some(()).filter(|()| lacks("address")).and_then(|()| address(variables));
    // Whoever names the server says how it is verified: a variable for one server must not take the verification from another.
    let own_server = address.is_some();
    taken.extend(address);
    for (key, name) in [("namespace", "NAMESPACE"), ("tls_server_name", "TLS_SERVER_NAME"), ("timeout", "CLIENT_TIMEOUT")] {
        taken.extend(Some(key).filter(|key| lacks(key)).and_then(|key| text(key, &find(variables, name)?)));
    }
    if ["ca_cert", "ca_cert_base64", "ca_path"].into_iter().all(lacks) {
        taken.extend(authorities(variables));
    }
    if ["client_cert", "client_key"].into_iter().all(lacks) {
        for (key, name) in [("client_cert", "CLIENT_CERT"), ("client_key", "CLIENT_KEY")] {
            taken.extend(find(variables, name).and_then(|found| file(key, &found)));
        }
    }
    if lacks("insecure") {
        taken.extend(find(variables, "SKIP_VERIFY").into_iter().flat_map(|found| skip_verify(&found, own_server)));
    }
    if lacks("auth") {
        taken.extend(auth(variables));
    }
    taken
}

/// What a variable gives to log in with is for one server: of several stores that lack `auth`, none shows it to a server that the environment
/// does not name.
fn check(stores: &BTreeMap<Name, Store>, origins: &BTreeMap<Name, Origin>, problems: &mut Problems) {
    let takes = |store: &Store| {
        let origin = origins.get(&store.name.value).filter(|_| store.enabled)?;
        let (_, variable) = origin.keys.iter().find(|(key, _)| *key == "auth")?;
        let addresses = store.settings.downcast_ref::<Settings>()?.addresses().ok()?.to_vec();
        let named = origin.declared.is_some() || origin.keys.iter().any(|(key, _)| *key == "address");
        Some((store.name.clone(), variable.clone(), addresses, named))
    };
    let takers: Vec<_> = stores.values().filter_map(takes).collect();
    let servers: BTreeSet<_> = takers.iter().map(|(_, _, addresses, _)| addresses).collect();
    for (name, variable, _, _) in takers.iter().filter(|(_, _, _, named)| servers.len() > 1 && !named) {
        let message = format!("several stores lack `auth:`, and {variable} is for one server: say here how to log in to this one");
        problems.error(name.span, format!("stores.{}", name.value), message);
    }
}

/// A variable that is set, and its value.
pub(super) struct Found {
    pub(super) variable: String,
    pub(super) value: String,
}

/// The variable of this name, if it is set and not empty.
pub(super) fn set(variables: Variables<'_>, variable: &str) -> Option<Found> {
    let value = variables(variable)?;
    (!value.trim().is_empty()).then(|| Found { variable: variable.to_owned(), value })
}

fn find(variables: Variables<'_>, name: &str) -> Option<Found> {
    ["BAO_", "VAULT_"].into_iter().find_map(|prefix| set(variables, &format!("{prefix}{name}")))
}

impl Found {
    fn gives(&self, key: &'static str, given: Given) -> Taken {
        Taken { key, variable: self.variable.clone(), given }
    }
}

fn word(text: &str) -> Node {
    Node::of_text(text, Span::default())
}

fn text(key: &'static str, found: &Found) -> Option<Taken> {
    Some(found.gives(key, Given::Value(word(found.value.trim()))))
}

/// A path that starts where the process stands, not at the file.
fn file(key: &'static str, found: &Found) -> Option<Taken> {
    let path = std::path::absolute(&found.value).ok()?;
    let given = path.to_str().map_or_else(|| Given::Wrong("expected the path of a file".to_owned()), |path| Given::Value(word(path)));
    Some(found.gives(key, given))
}

fn address(variables: Variables<'_>) -> Option<Taken> {
    if let Some(found) = find(variables, "ADDR").or_else(|| set(variables, "HASHICORP_VAULT_ADDR")) {
        let good = reqwest::Url::parse(found.value.trim()).is_ok_and(|url| matches!(url.scheme(), "https" | "http") && url.has_host());
        let wrong = || Some(found.gives("address", Given::Wrong("expected an address such as https://vault.internal:8200".to_owned())));
        return if good { text("address", &found) } else { wrong() };
    }
    let of_keep = ["HASHICORP_VAULT_TOKEN", "HASHICORP_VAULT_USE_K8S"].into_iter().find_map(|name| set(variables, name))?;
    Some(of_keep.gives("address", Given::Value(word(KEEPS_ADDRESS))))
}

/// One of three, in the order of Vault's client: the text itself, a file, a folder.
fn authorities(variables: Variables<'_>) -> Option<Taken> {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    if let Some(found) = find(variables, "CACERT_BYTES") {
        let text = if found.value.contains("-----BEGIN") { STANDARD.encode(&found.value) } else { found.value.clone() };
        return Some(found.gives("ca_cert_base64", Given::Value(word(&text))));
    }
    find(variables, "CACERT")
        .and_then(|found| file("ca_cert", &found))
        .or_else(|| find(variables, "CAPATH").and_then(|found| file("ca_path", &found)))
}

fn skip_verify(found: &Found, own_server: bool) -> Vec<Taken> {
    let wrong = || found.gives("insecure", Given::Wrong("expected true or false".to_owned()));
    match (switch(&found.value), own_server) {
        (None, _) => vec![wrong()],
        (Some(false), _) => Vec::new(),
        (Some(true), true) => {
            let loud = "the server is not verified: whoever stands between it and us gets our token and every secret";
            let reason = format!("{} is set", found.variable);
            vec![found.gives("insecure", Given::Warning(loud.to_owned())), found.gives("insecure", Given::Value(word(&reason)))]
        }
        (Some(true), false) => {
            let message = "not taken: the address of this store is not from the environment, so that it says itself why it is not verified (`insecure`)";
            vec![found.gives("insecure", Given::Warning(message.to_owned()))]
        }
    }
}

/// A switch as these clients read it, and as people write it.
pub(super) fn switch(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "yes" | "on" => Some(true),
        "0" | "f" | "false" | "no" | "off" | "" => Some(false),
        _ => None,
    }
}

/// How to log in: by a token that is read from its variable when it is needed, or as Keep does.
fn auth(variables: Variables<'_>) -> Option<Taken> {
    let by_token = |found: &Found| {
        let token = Node::of_map([("env", word(&found.variable))], Span::default());
        found.gives("auth", Given::Value(Node::of_map([("method", word("token")), ("token", token)], Span::default())))
    };
    if let Some(found) = find(variables, "TOKEN") {
        return Some(by_token(&found));
    }
    let Some(found) = set(variables, "HASHICORP_VAULT_USE_K8S") else {
        return set(variables, "HASHICORP_VAULT_TOKEN").as_ref().map(by_token);
    };
    match (switch(&found.value), set(variables, "HASHICORP_VAULT_K8S_ROLE")) {
        (None, _) => Some(found.gives("auth", Given::Wrong("expected true or false".to_owned()))),
        (Some(false), _) => set(variables, "HASHICORP_VAULT_TOKEN").as_ref().map(by_token),
        (Some(true), None) => {
            Some(found.gives("auth", Given::Wrong("HASHICORP_VAULT_K8S_ROLE is missing: the role to log in as".to_owned())))
        }
        (Some(true), Some(role)) => {
            let keys = [("method", word("kubernetes")), ("role", word(role.value.trim()))];
            Some(found.gives("auth", Given::Value(Node::of_map(keys, Span::default()))))
        }
    }
}

#[cfg(test)]
pub(in crate::store::vault) mod tests;
