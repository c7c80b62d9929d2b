//! HASHICORP_VAULT_CONFIG, a list of Vaults in one variable, and HASHICORP_VAULT_CONFIG_FILE_PATH, the same in a file: the form of Apono's
//! connector, with the traps of its published samples (vault.md §15.7).
//!
//! An entry is a store of the file, named by its `name`; one without is `vault`, at the second place `vault-2`, and so on. Beyond the
//! samples, `from_secret_store` may name a store, whose `path` then has the token.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use keyward_config::{Declared, Name, Node, Problems, Protected, Span, Spanned, Variables, read_file};
use serde::Deserialize;
use serde::de::IgnoredAny;
use zeroize::Zeroizing;

use super::environment::{Found, set, switch};

const INLINE: &str = "HASHICORP_VAULT_CONFIG";
const FILE: &str = "HASHICORP_VAULT_CONFIG_FILE_PATH";

/// The longest file, in bytes.
const MAX: u64 = 1024 * 1024;

/// An entry as people write it.
#[derive(Deserialize)]
struct Entry {
    /// Ours: what connections call the store. Of a secret in Azure or in Kubernetes its name.
    name: Option<Spanned<String>>,
    #[serde(rename = "address")]
    _address: Option<String>,
    token: Option<Protected>,
    #[serde(rename = "ca_cert_base64")]
    _ca_cert_base64: Option<String>,
    skip_verify: Option<Spanned<String>>,
    from_secret_store: Option<Spanned<String>>,
    /// Ours: where the token is in the store that `from_secret_store` names.
    path: Option<Spanned<String>>,
    /// Of a Vault its own, of a secret in Kubernetes that one's. The samples have it as a key where they mean the value.
    #[serde(rename = "namespace", alias = "NAMESPACE")]
    _namespace: Option<String>,
    #[serde(rename = "region")]
    _region: Option<IgnoredAny>,
    #[serde(rename = "secret_id")]
    _secret_id: Option<IgnoredAny>,
    #[serde(rename = "project")]
    _project: Option<IgnoredAny>,
    #[serde(rename = "vault_url", alias = "AZURE_KEY_VAULT_URL")]
    _vault_url: Option<IgnoredAny>,
}

/// Where the entry of a Vault, or its token, is.
enum Outer {
    /// In a store of the file, or of the list.
    Store(String),
    /// In one of another company's, which cannot be asked yet: what it is.
    Foreign(&'static str),
}

/// The words of the samples.
const FOREIGN: [(&str, &str); 4] =
    [("AWS", "AWS Secrets Manager"), ("GCP", "GCP Secret Manager"), ("AZURE", "Azure Key Vault"), ("KUBERNETES", "a Kubernetes Secret")];

/// The entries of the list, less those that have problems.
pub(super) fn stores(variables: Variables<'_>, of_file: &[&str], problems: &mut Problems) -> Vec<Declared> {
    let (variable, source, text) = match (set(variables, INLINE), set(variables, FILE)) {
        (None, None) => return Vec::new(),
        (Some(_), Some(_)) => {
            let message = format!("{INLINE} and {FILE} are both set: which one counts? Unset one of them");
            problems.elsewhere(Path::new(INLINE), |problems| problems.error(None, "", message));
            return Vec::new();
        }
        (Some(Found { value, .. }), None) => (INLINE, PathBuf::from(INLINE), Zeroizing::new(value)),
        (None, Some(Found { value, .. })) => match text_of(Path::new(value.trim())) {
            Ok(text) => (FILE, PathBuf::from(value.trim()), text),
            Err(message) => {
                problems.elsewhere(Path::new(FILE), |problems| problems.error(None, "", message));
                return Vec::new();
            }
        },
    };
    problems.elsewhere(&source, |problems| {
        let Some(items) = Node::of_json_array(&text, problems) else { return Vec::new() };
        let names: Vec<String> = items.iter().enumerate().map(|(number, item)| name_at(number, item)).collect();
        let known: Vec<&str> = of_file.iter().copied().chain(names.iter().map(String::as_str)).collect();
        let entries = items.iter().zip(&names).enumerate();
        let declared: Vec<_> =
            entries.filter_map(|(number, (item, name))| entry(item, &format!("[{number}]"), name, &known, problems)).collect();
        if variable == FILE && declared.iter().any(|(_, token)| *token == TokenIs::Here) && mode(&source) & 0o044 != 0 {
            problems.warning(None, "", "others may read this file (chmod go-r), and it holds a token");
        }
        let whole =
            |entry: Translated| Declared { name: entry.name, node: entry.node, source: source.clone(), variable, unusable: entry.unusable };
        declared.into_iter().map(|(entry, _)| whole(entry)).collect()
    })
}

/// The file that holds the list, if one does.
pub(super) fn files(variables: Variables<'_>) -> Vec<PathBuf> {
    set(variables, FILE).map(|Found { value, .. }| PathBuf::from(value.trim())).into_iter().collect()
}

/// Where the token of an entry is.
#[derive(PartialEq, Eq)]
enum TokenIs {
    Here,
    Elsewhere,
}

/// An entry in the keys of our file.
struct Translated {
    name: Spanned<String>,
    node: Node,
    unusable: Option<String>,
}

fn text_of(path: &Path) -> Result<Zeroizing<String>, String> {
    let bytes = read_file(path, MAX)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| format!("the file {} is not UTF-8 text", path.display()))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).map_or(0, |data| data.permissions().mode())
}

/// What the entry at this place of the list is called. Its own problems are told when it is read.
fn name_at(number: usize, item: &Node) -> String {
    let entry: Option<Entry> = item.read("", &mut Problems::new(Path::new("")));
    let own = entry.filter(|entry| !names_a_secret(entry)).and_then(|entry| entry.name);
    match (own, number.saturating_add(1)) {
        (Some(name), _) => name.value,
        (None, 1) => "vault".to_owned(),
        (None, number) => format!("vault-{number}"),
    }
}

/// Whether its `name` is that of a secret in a store of another company's.
fn names_a_secret(entry: &Entry) -> bool {
    let word = entry.from_secret_store.as_ref().map_or("", |word| word.value.as_str());
    ["AZURE", "KUBERNETES"].iter().any(|known| known.eq_ignore_ascii_case(word))
}

fn entry(item: &Node, at: &str, name: &str, stores: &[&str], problems: &mut Problems) -> Option<(Translated, TokenIs)> {
    let entry: Entry = item.read(at, problems)?;
    let span = entry.name.as_ref().filter(|_| !names_a_secret(&entry)).map_or(item.span(), |name| name.span);
    let outer = match &entry.from_secret_store {
        Some(word) => Some(outer(word, at, stores, problems)?),
        None => None,
    };
    let (mut keys, mut unusable, mut token) = (Vec::new(), None, TokenIs::Elsewhere);
    keys.extend(item.get("address").cloned().map(|address| ("address", address)));
    keys.extend(item.get("ca_cert_base64").cloned().map(|text| ("ca_cert_base64", text)));
    if !matches!(outer, Some(Outer::Foreign(_))) {
        keys.extend(item.get("namespace").cloned().map(|namespace| ("namespace", namespace)));
    }
    if let Some(reason) = not_verified(&entry, at, problems)? {
        keys.push(("insecure", reason));
    }
    match (outer, &entry.token) {
        (None, None) => {}
        (Some(_), Some(_)) => {
            problems.error(item.span_of("token"), format!("{at}.token"), "the token is here, or where `from_secret_store` says: take one");
            return None;
        }
        (None, Some(_)) => {
            token = TokenIs::Here;
            keys.extend(item.get("token").cloned().map(|text| ("auth", by_token("literal", text))));
        }
        (Some(Outer::Foreign(what)), None) => {
            unusable = Some(format!("its entry is in {what}, which this version of Keyward cannot ask"));
        }
        (Some(Outer::Store(store)), None) => {
            let Some(path) = &entry.path else {
                let message = format!("the key \"path\" is missing: where the token is in the store {}", store.escape_debug());
                problems.error(item.span(), at, message);
                return None;
            };
            keys.push(("auth", by_token("secret", Node::of_text(&format!("{store}:{}", path.value), path.span))));
        }
    }
    let name = Spanned::new(name.to_owned(), span);
    Some((Translated { name, node: Node::of_map(keys, item.span()), unusable }, token))
}

fn by_token(given: &'static str, value: Node) -> Node {
    let span = value.span();
    Node::of_map([("method", Node::of_text("token", span)), ("token", Node::of_map([(given, value)], span))], span)
}

/// The samples write the switch as a text.
fn not_verified(entry: &Entry, at: &str, problems: &mut Problems) -> Option<Option<Node>> {
    let Some(written) = &entry.skip_verify else { return Some(None) };
    let at = format!("{at}.skip_verify");
    match switch(&written.value) {
        None => {
            problems.error(written.span, at, "expected true or false");
            None
        }
        Some(false) => Some(None),
        Some(true) => {
            let loud = "the server is not verified: whoever stands between it and us gets our token and every secret";
            problems.warning(written.span, at, loud);
            Some(Some(Node::of_text("its entry says skip_verify", Span::default())))
        }
    }
}

fn outer(word: &Spanned<String>, at: &str, stores: &[&str], problems: &mut Problems) -> Option<Outer> {
    // What is no name is no store, and may be anything that somebody wrote there.
    if stores.contains(&word.value.as_str()) && word.value.parse::<Name>().is_ok() {
        return Some(Outer::Store(word.value.clone()));
    }
    let foreign = FOREIGN.iter().find(|(known, _)| known.eq_ignore_ascii_case(word.value.trim()));
    if foreign.is_none() {
        let mut known: Vec<&str> = FOREIGN.iter().map(|(known, _)| *known).collect();
        // What is no name is no store, and a problem of its own entry.
        known.extend(stores.iter().filter(|name| name.parse::<Name>().is_ok()));
        let message = format!("expected one of {} (the last ones are stores)", known.join(", "));
        problems.error(word.span, format!("{at}.from_secret_store"), message);
    }
    foreign.map(|(_, what)| Outer::Foreign(what))
}

#[cfg(test)]
mod tests;
