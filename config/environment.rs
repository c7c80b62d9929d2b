//! What the environment of the process adds to the stores of the file: keys that an entry lacks, and whole entries. Which variables there
//! are is the business of each kind ([`StoreSettings::from_environment`](crate::StoreSettings)). What the file says wins.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::entry::Entry as Whole;
use crate::json::Json;
use crate::node::{self, Entry, Scalar, Value};
use crate::{Kinds, Name, Node, Problems, Span, Spanned, Store, read, scope};

/// Asks for a variable of the environment.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What a kind of store takes from the environment.
#[derive(Clone, Copy)]
pub struct FromEnvironment {
    /// Keys that an entry lacks.
    pub keys: fn(&Node, Variables<'_>) -> Vec<Taken>,
    /// Whole entries, beside a file whose stores have these names.
    pub stores: fn(Variables<'_>, &[&str], &mut Problems) -> Vec<Declared>,
    /// The files that those entries are in.
    pub files: fn(Variables<'_>) -> Vec<PathBuf>,
    /// What must not be so of all stores together, as they are in the end, of whatever kind.
    pub check: fn(&BTreeMap<Name, Store>, &BTreeMap<Name, Origin>, &mut Problems),
}

/// What a variable says of a key that an entry lacks.
pub struct Taken {
    /// The key.
    pub key: &'static str,
    /// The variable.
    pub variable: String,
    /// What it says.
    pub given: Given,
}

/// What a variable says.
pub enum Given {
    /// The value.
    Value(Node),
    /// Nothing that can be used: what was expected, without the value.
    Wrong(String),
    /// What someone should look at.
    Warning(String),
}

/// A store that the environment declares.
pub struct Declared {
    /// What connections call it.
    pub name: Spanned<String>,
    /// Its entry, in the keys of the file, less `type`.
    pub node: Node,
    /// What the places in it are places of: the name of a variable, or a file that one names.
    pub source: PathBuf,
    /// The variable.
    pub variable: &'static str,
    /// Why it cannot be asked, where nothing is wrong with the entry: it is switched off then.
    pub unusable: Option<String>,
}

/// What the environment says of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The variable that declares it. `None`: the file does.
    pub declared: Option<&'static str>,
    /// Its keys that are from the environment, each with its variable.
    pub keys: Vec<(&'static str, String)>,
}

impl Node {
    /// A text that stands there; `Span::default()` is no place.
    #[must_use]
    pub fn of_text(text: &str, span: Span) -> Self {
        Self { value: Value::Scalar(Scalar::Str, Zeroizing::new(text.to_owned())), span }
    }

    /// A mapping. Of a key that is given twice, the first counts.
    #[must_use]
    pub fn of_map(entries: impl IntoIterator<Item = (&'static str, Self)>, span: Span) -> Self {
        let mut node = Self { value: Value::Map(Vec::new()), span };
        entries.into_iter().for_each(|(key, value)| node.complete(key, value));
        node
    }

    /// The items of a JSON array, with their places. `None`: it is none; a problem says why, and holds nothing of it but keys.
    #[must_use]
    pub fn of_json_array(text: &str, problems: &mut Problems) -> Option<Vec<Self>> {
        if let Err(error) = serde_json::from_str::<Json>(text) {
            let whole = error.to_string();
            let why = whole.split(" at line ").next().unwrap_or_default();
            problems.error(Span { line: error.line(), column: error.column() }, "", format!("this is no JSON: {why}"));
            return None;
        }
        // Every JSON text is YAML, but for tabs between its words: those inside of its strings are escaped.
        let root = node::build(&Zeroizing::new(text.replace('\t', " ")), problems)?;
        match root.value {
            Value::Seq(mut items) => {
                // Programs that write JSON have null for what there is not.
                for item in &mut items {
                    if let Value::Map(entries) = &mut item.value {
                        entries.retain(|entry| !entry.value.is_null());
                    }
                }
                Some(items)
            }
            _ => {
                problems.error(root.span, "", format!("expected a list, found {}", root.found()));
                None
            }
        }
    }

    /// Reads a type from it; `path` is what problems call it.
    #[must_use]
    pub fn read<T: DeserializeOwned>(&self, path: &str, problems: &mut Problems) -> Option<T> {
        let mut whole = Whole::new(self, path);
        let value = whole.part(problems);
        let known = problems.len();
        (whole.finish(problems) && problems.len() == known).then_some(value).flatten()
    }

    /// Adds a key to a mapping that lacks it.
    fn complete(&mut self, key: &str, value: Self) {
        let span = value.span;
        if let Value::Map(entries) = &mut self.value
            && !entries.iter().any(|entry| entry.key.value == key)
        {
            entries.push(Entry { key: Spanned::new(key.to_owned(), span), value });
        }
    }
}

/// The environment of this process. What is no UTF-8 is so no more, rather than not there.
pub(crate) fn of_process(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Reads the entry of a store, with the keys that it lacks and the environment has.
pub(crate) fn store(
    name: Spanned<Name>,
    node: &Node,
    path: &str,
    kinds: &Kinds<'_>,
    variables: Variables<'_>,
    problems: &mut Problems,
) -> Option<(Store, Origin)> {
    let word = node.get("type").and_then(|word| read::read::<String>(word).value.ok());
    let row = kinds.stores.iter().find(|row| word.as_deref() == Some(row.name));
    let taken = row.and_then(|row| row.from_environment).map(|from| (from.keys)(node, variables));
    let (mut whole, mut origin) = (node.clone(), Origin::default());
    for Taken { key, variable, given } in taken.into_iter().flatten() {
        let at = format!("{path}.{key}");
        match given {
            Given::Value(value) => {
                whole.complete(key, value);
                problems.is_from(at, PathBuf::from(&variable));
                origin.keys.push((key, variable));
            }
            Given::Wrong(message) => {
                problems.is_from(at.clone(), PathBuf::from(variable));
                problems.error(None, at, message);
            }
            Given::Warning(message) => problems.elsewhere(Path::new(&variable), |problems| problems.warning(None, at, message)),
        }
    }
    Some((Store::read(name, &whole, path, kinds, problems)?, origin))
}

/// The files beside it that declare stores.
pub(crate) fn files(kinds: &Kinds<'_>, variables: Variables<'_>) -> Vec<PathBuf> {
    kinds.stores.iter().filter_map(|row| row.from_environment).flat_map(|from| (from.files)(variables)).collect()
}

/// The stores that were read from the file, and beside them those that the environment declares.
pub(crate) fn with_declared(
    root: &Node,
    of_file: BTreeMap<Name, (Store, Origin)>,
    kinds: &Kinds<'_>,
    variables: Variables<'_>,
    problems: &mut Problems,
) -> (BTreeMap<Name, Store>, BTreeMap<Name, Origin>) {
    let names: Vec<&str> = root.get("stores").map(Node::entries).unwrap_or_default().iter().map(|entry| entry.key.as_str()).collect();
    let (mut stores, mut origins) = (BTreeMap::new(), BTreeMap::new());
    for (name, (store, origin)) in of_file {
        if origin != Origin::default() {
            origins.insert(name.clone(), origin);
        }
        stores.insert(name, store);
    }
    // Relative paths start where the process stands: there is no file that they could start from.
    let folder = std::env::current_dir().unwrap_or_default();
    for row in kinds.stores {
        let declared = row.from_environment.map(|from| (from.stores)(variables, &names, problems));
        for mut declared in declared.into_iter().flatten() {
            declared.node.complete("type", Node::of_text(row.name, Span::default()));
            let Some(name) = free_name(&declared, &names, &origins, problems) else { continue };
            let path = format!("stores.{name}");
            problems.is_from(path.clone(), declared.source.clone());
            let named = Spanned::new(name.clone(), Span::default());
            let (read, _) = scope::within(&folder, || store(named, &declared.node, &path, kinds, variables, problems));
            let (read, origin) = read.unzip();
            let Declared { variable, unusable, .. } = declared;
            if let Some(mut read) = read {
                read.enabled &= unusable.is_none();
                read.unusable = unusable;
                stores.insert(name.clone(), read);
            }
            origins.insert(name, Origin { declared: Some(variable), ..origin.unwrap_or_default() });
        }
    }
    for from in kinds.stores.iter().filter_map(|row| row.from_environment) {
        (from.check)(&stores, &origins, problems);
    }
    (stores, origins)
}

/// The name of a declared store. `None`: it has none of its own; a problem says so.
fn free_name(declared: &Declared, of_file: &[&str], origins: &BTreeMap<Name, Origin>, problems: &mut Problems) -> Option<Name> {
    let (text, span) = (&declared.name.value, declared.name.span);
    let at = format!("stores.{text}");
    problems.elsewhere(&declared.source, |problems| match text.parse::<Name>() {
        // It may be anything that somebody wrote there.
        Err(form) => {
            problems.error(span, "stores", format!("expected {form}"));
            None
        }
        Ok(name) if of_file.contains(&name.as_str()) => {
            problems.warning(span, at, "not taken: the file has a store of this name, and wins");
            None
        }
        Ok(name) if origins.contains_key(&name) => {
            problems.error(span, at, "another entry has this name already");
            None
        }
        Ok(name) => Some(name),
    })
}
