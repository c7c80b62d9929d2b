//! The file as a whole: its sections, read one by one, so that one run reports all of their problems.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::entry::Entry;
use crate::failure::unknown_key;
use crate::node::{self, Value};
use crate::stamp::Stamp;
use crate::{
    Access, Audit, Connection, FilePath, Kinds, Limits, Listener, Log, Name, Node, Origin, Problems, Span, Spanned, Store, User, Variables,
};
use crate::{dangling, environment, scope, suggest, text_file};

/// The largest file, in bytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// What the file declares.
pub struct Config {
    /// The file itself.
    pub file: PathBuf,
    /// The files beside it that the environment names, and that declare stores; each as it was before it was read.
    pub named_files: Vec<(Option<Stamp>, PathBuf)>,
    /// The one folder for what must outlive the process: the lease journal, keys, the local CA. Mode 0700.
    pub state: PathBuf,
    /// Where clients come in.
    pub listeners: Vec<Listener>,
    /// The secret stores: of the file, and those that the environment declares.
    pub stores: BTreeMap<Name, Store>,
    /// What the environment says of them, where it says anything.
    pub origins: BTreeMap<Name, Origin>,
    /// The registered assets.
    pub connections: BTreeMap<Name, Connection>,
    /// Who may log in.
    pub users: BTreeMap<Name, User>,
    /// Which users reach which connections. What no rule allows is refused.
    pub access: Vec<Access>,
    /// Limits of the whole process.
    pub limits: Limits,
    /// The audit record.
    pub audit: Audit,
    /// The log.
    pub log: Log,
    /// The HTTP listener for probes and metrics; `None`: there is none.
    pub http: Option<Http>,
    /// When the file is read again.
    pub reload: Reload,
}

/// The HTTP listener: `/livez`, `/readyz`, `/metrics`.
#[derive(serde::Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http {
    /// An IP address and a port. It asks for no login: keep it on loopback or behind a firewall.
    #[schemars(with = "String")]
    pub address: SocketAddr,
}

/// When the file is read again. A reload that would change `state`, `audit`, `log`, `http` or `reload` is refused as a whole: they want a
/// restart.
#[derive(serde::Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reload {
    /// On SIGHUP and `keyward reload`.
    #[default]
    #[serde(rename = "on_signal")]
    Signal,
    /// Also when it has changed and been still for 2 s: it, or the file that HASHICORP_VAULT_CONFIG_FILE_PATH names. Files that it
    /// names are not watched.
    #[serde(rename = "on_change")]
    OnChange,
}

/// What came of a file.
pub struct Loaded {
    /// What it declares, without the entries that could not be read. `None`: it is no YAML mapping at all. To be used only where
    /// `problems` has no errors; with errors, to look for more of them.
    pub config: Option<Config>,
    /// Everything that is wrong with it.
    pub problems: Problems,
}

/// Reads a file, in the environment of this process. A missing one is an error, never defaults. Blocks.
#[must_use]
pub fn load(path: &Path, kinds: &Kinds<'_>) -> Loaded {
    load_in(path, kinds, &environment::of_process)
}

/// The same in this environment.
#[must_use]
pub fn load_in(path: &Path, kinds: &Kinds<'_>, variables: Variables<'_>) -> Loaded {
    let text = match text_file::read(path, MAX_FILE) {
        Ok(text) => text,
        Err(error) => {
            let mut problems = Problems::new(path);
            problems.error(None, "", error);
            return Loaded { config: None, problems };
        }
    };
    let (mut loaded, secret) = read(path, &text, kinds, variables);
    // Unreadable a moment after it was read: then nobody else reads it either.
    let mode = fs::metadata(path).map_or(0, |data| data.permissions().mode());
    if mode & 0o022 != 0 {
        loaded.problems.warning(None, "", "others may write to this file (chmod go-w): they decide who reaches what");
    } else if secret && mode & 0o044 != 0 {
        loaded.problems.warning(None, "", "others may read this file (chmod go-r), and it holds secrets or password verifiers");
    }
    loaded
}

/// Reads a text as if it were the content of `file`, in an environment without variables.
#[must_use]
pub fn parse(file: &Path, text: &str, kinds: &Kinds<'_>) -> Loaded {
    parse_in(file, text, kinds, &|_| None)
}

/// The same in this environment.
#[must_use]
pub fn parse_in(file: &Path, text: &str, kinds: &Kinds<'_>, variables: Variables<'_>) -> Loaded {
    read(file, text, kinds, variables).0
}

fn read(file: &Path, text: &str, kinds: &Kinds<'_>, variables: Variables<'_>) -> (Loaded, bool) {
    let mut problems = Problems::new(file);
    if u64::try_from(text.len()).is_ok_and(|length| length > MAX_FILE) {
        problems.error(None, "", format!("larger than {MAX_FILE} bytes"));
        return (Loaded { config: None, problems }, false);
    }
    let Some(root) = node::build(text, &mut problems) else { return (Loaded { config: None, problems }, false) };
    if !matches!(root.value, Value::Map(_)) {
        problems.error(root.span(), "", format!("expected a mapping, found {}", root.found()));
        return (Loaded { config: None, problems }, false);
    }
    // An absolute folder, so that what a path means does not hang on where the process stands.
    let folder = file.parent().map(|folder| std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())).unwrap_or_default();
    let (config, secret) = scope::within(&folder, || sections(file, &root, kinds, variables, &mut problems));
    dangling::check(&config, &root, &mut problems);
    (Loaded { config: Some(config), problems }, secret)
}

/// The keys of the file, each with its description for the schema.
pub(crate) const SECTIONS: [(&str, &str); 11] = [
    ("state", "The one folder for what must outlive the process: the lease journal, keys, the local CA. Mode 0700. Required."),
    ("listeners", "Where clients come in; at least one."),
    ("stores", "The secret stores, by name."),
    ("connections", "The registered assets, by name."),
    ("users", "Who may log in, by name."),
    ("access", "Rules: which users reach which connections, as which accounts. What no rule allows is refused."),
    ("limits", "Limits of the whole process."),
    ("audit", "The audit record."),
    ("log", "The log, on standard error."),
    ("http", "The HTTP listener for /livez, /readyz and /metrics. Default: none."),
    ("reload", "When the file is read again. Default: on_signal."),
];

fn sections(file: &Path, root: &Node, kinds: &Kinds<'_>, variables: Variables<'_>, problems: &mut Problems) -> Config {
    let known = SECTIONS.map(|(key, _)| key);
    for entry in root.entries().iter().filter(|entry| !known.contains(&entry.key.as_str())) {
        if problems.is_full() {
            break;
        }
        problems.error(entry.key.span, "", unknown_key(&entry.key, known));
    }
    let state: Option<FilePath> = section(root, "state", problems);
    if root.get("state").is_none_or(Node::is_null) {
        let top = Span { line: 1, column: 1 };
        problems.error(
            root.get("state").map_or(top, Node::span),
            "state",
            "the key \"state\" is missing: the folder for the lease journal, keys and the local CA",
        );
    }
    let listeners = list(root, "listeners", problems, |node, path, problems| Listener::read(node, path, kinds, problems));
    if root.get("listeners").is_none_or(|node| node.is_null() || matches!(&node.value, Value::Seq(items) if items.is_empty())) {
        problems.error(root.span_of("listeners"), "listeners", "expected at least one listener");
    }
    let limits: Limits = section(root, "limits", problems).unwrap_or_default();
    limits.check(root.get("limits"), problems);
    let http: Option<Http> = section(root, "http", problems);
    if http.is_some_and(|http| !http.address.ip().is_loopback()) {
        problems.warning(root.span_of("http"), "http.address", "reachable from outside this host, and it asks for no login");
    }
    // Before they are read: what changes meanwhile is seen later.
    let named_files = environment::files(kinds, variables).into_iter().map(|path| (Stamp::of(&path), path)).collect();
    let stores =
        map(root, "stores", problems, |name, node, path, problems| environment::store(name, node, path, kinds, variables, problems));
    let (stores, origins) = environment::with_declared(root, stores, kinds, variables, problems);
    Config {
        file: file.to_owned(),
        named_files,
        state: state.map(FilePath::into_path).unwrap_or_default(),
        listeners,
        stores,
        origins,
        connections: map(root, "connections", problems, |name, node, path, problems| Connection::read(name, node, path, kinds, problems)),
        users: map(root, "users", problems, |name, node, path, problems| {
            whole(node, path, problems).map(|user: User| User { span: name.span, ..user })
        }),
        access: list(root, "access", problems, |node, path, problems| Access::read(node, path, kinds, problems)),
        limits,
        audit: section(root, "audit", problems).unwrap_or_default(),
        log: section(root, "log", problems).unwrap_or_default(),
        http,
        reload: section(root, "reload", problems).unwrap_or_default(),
    }
}

/// A section that is one value. `None`: it is absent or empty, or a problem says what is wrong with it.
fn section<T: DeserializeOwned>(root: &Node, key: &str, problems: &mut Problems) -> Option<T> {
    root.get(key).filter(|node| !node.is_null()).and_then(|node| whole(node, key, problems))
}

/// A value of which no other part reads.
fn whole<T: DeserializeOwned>(node: &Node, path: &str, problems: &mut Problems) -> Option<T> {
    let mut entry = Entry::new(node, path);
    let value = entry.part(problems);
    entry.finish(problems).then_some(value).flatten()
}

fn list<T>(root: &Node, key: &str, problems: &mut Problems, read: impl Fn(&Node, &str, &mut Problems) -> Option<T>) -> Vec<T> {
    match root.get(key).map(|node| (&node.value, node)) {
        Some((Value::Seq(items), _)) => {
            let numbered = items.iter().enumerate();
            numbered.filter_map(|(index, node)| read(node, &format!("{key}[{index}]"), problems)).collect()
        }
        Some((_, node)) if !node.is_null() => {
            problems.error(node.span(), key, format!("expected a list, found {}", node.found()));
            Vec::new()
        }
        _ => Vec::new(),
    }
}

fn map<T>(
    root: &Node,
    key: &str,
    problems: &mut Problems,
    read: impl Fn(Spanned<Name>, &Node, &str, &mut Problems) -> Option<T>,
) -> BTreeMap<Name, T> {
    let mut found = BTreeMap::new();
    let Some(node) = root.get(key).filter(|node| !node.is_null()) else { return found };
    if !matches!(node.value, Value::Map(_)) {
        problems.error(node.span(), key, format!("expected a mapping, found {}", node.found()));
    }
    for entry in node.entries() {
        let path = format!("{key}.{}", suggest::segment(&entry.key));
        match entry.key.parse::<Name>() {
            Err(form) => problems.error(entry.key.span, path, format!("expected {form}")),
            Ok(name) => {
                if let Some(value) = read(Spanned::new(name.clone(), entry.key.span), &entry.value, &path, problems) {
                    found.insert(name, value);
                }
            }
        }
    }
    found
}
