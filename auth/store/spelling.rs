//! How users write a reference, in the spellings that they know (vault.md §7.4), and which stores those may name.
//!
//! ```text
//! prod_db/data/mysql?username              the connection's own store
//! corp:prod_db/data/mysql?username         the store `corp`                   env:ORDERS_PASSWORD   of a store that has no mounts
//! vault.secret(corp:mysql.username)        below the `mount` of `corp`        vault.secret(corp:mysql#a.b)   a key with dots
//! {{secrets.corp.username}}                a key of the secret that is the `path` of `corp`
//! users/data/{{user.name}}/db?password     another secret for each user
//! ```
//!
//! A text that does not parse is an error that never repeats the text: it may be a password that was typed in the wrong field.

use std::cell::Cell;
use std::collections::BTreeMap;

use keyward_config::{Name, Problems, Span, Spanned, Store};

use super::Kind;
use super::reference::{Reference, SecretPath, Selector};

/// The longest reference, in bytes.
const MAX: usize = 1024;
const FORM: &str = "write a reference such as `mount/data/path?key`, or say what it is: { literal: … }, { file: … }, { env: … }";
const OWN: &str = "write it as `{{secrets.store.key}}`, or `store:mount/data/path?key`";
const BELOW: &str = "write it as `vault.secret(store:path.key)`, or `store:mount/data/path?key`";

/// The stores that a reference may name, at one place of the file.
pub(crate) struct Scope<'a> {
    stores: Option<&'a BTreeMap<Name, Store>>,
    /// The one that is meant where a reference names none.
    default: Option<&'a Spanned<Name>>,
    /// The entry, for the problem that it needs a store: told once, not at each of its references.
    entry: (&'a str, Span),
    told: Cell<bool>,
}

/// A reference as it is written.
struct Written<'a> {
    store: Option<&'a str>,
    place: Place<'a>,
    key: Option<&'a str>,
    version: Option<u64>,
}

enum Place<'a> {
    /// As the store is asked for it.
    Path(&'a str),
    /// Below the store's `mount`.
    Below(&'a str),
    /// In the secret that is the store's `path`; the name of the store and the key, which both may have dots.
    Own(&'a str),
}

/// What a store makes of a path.
struct Rules<'a> {
    /// It has mounts, and roles beside secrets.
    roles: bool,
    mount: Option<&'a str>,
    path: Option<&'a str>,
}

/// Why a text leads nowhere.
enum Wrong {
    /// The text, or what it names.
    Text(String),
    /// The entry has no store, or one that is switched off.
    Entry(String),
}

impl From<String> for Wrong {
    fn from(message: String) -> Self {
        Self::Text(message)
    }
}

impl From<&str> for Wrong {
    fn from(message: &str) -> Self {
        Self::Text(message.to_owned())
    }
}

impl<'a> Scope<'a> {
    /// That of an entry: the stores of the file, and the one that is meant where a reference names none. `at` is the entry's path in the
    /// file, and `place` its line.
    pub(crate) fn new(stores: &'a BTreeMap<Name, Store>, default: Option<&'a Spanned<Name>>, at: &'a str, place: Span) -> Self {
        Self { stores: Some(stores), default, entry: (at, place), told: Cell::new(false) }
    }

    /// No file at hand: every name is a store's, and one that is called `store` is meant where there is none.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) const fn any() -> Self {
        Self { stores: None, default: None, entry: ("", Span { line: 0, column: 0 }), told: Cell::new(false) }
    }

    /// Reads a reference. `None`: it is none, and a problem says why.
    pub(crate) fn read(&self, text: &str, span: Span, at: &str, problems: &mut Problems) -> Option<Reference> {
        match self.parse(text) {
            Ok(reference) => return Some(reference),
            Err(Wrong::Text(message)) => problems.error(span, at, message),
            Err(Wrong::Entry(message)) if !self.told.replace(true) => {
                let (entry, place) = self.entry;
                problems.error(self.default.map_or(place, |name| name.span), format!("{entry}.store"), message);
            }
            Err(Wrong::Entry(_)) => {}
        }
        None
    }

    /// The same without a file's problems.
    ///
    /// # Errors
    /// Why it is none, without the text.
    pub(crate) fn reference(&self, text: &str) -> Result<Reference, String> {
        self.parse(text).map_err(|(Wrong::Text(message) | Wrong::Entry(message))| message)
    }

    fn parse(&self, text: &str) -> Result<Reference, Wrong> {
        let written = Written::read(text.trim())?;
        if let Place::Own(rest) = written.place {
            let (store, key) = self.own(rest)?;
            let rules = self.rules(&store)?;
            let path = rules.path.ok_or_else(|| format!("the store {store} has no `path:`, which this spelling needs; {OWN}"))?;
            return whole(store, path, Some(key), None, &rules);
        }
        let store = match written.store {
            Some(name) => {
                name.parse::<Name>().map_err(|_| "what stands before the `:` is no store's name: write `store:mount/data/path?key`")?
            }
            // Whatever the store is: what cannot be a reference may be a password, and is told first.
            None => match written.place {
                Place::Path(path) if !path.contains('/') && self.default.is_none() => return Err(no_reference().into()),
                Place::Path(_) | Place::Below(_) | Place::Own(_) => self.default()?,
            },
        };
        let rules = self.rules(&store)?;
        match written.place {
            Place::Below(path) => {
                let mount = rules.mount.unwrap_or_default().trim_matches('/');
                let below = format!("{mount}/{path}");
                whole(store, if mount.is_empty() { path } else { &below }, written.key, None, &rules)
            }
            Place::Path(path) | Place::Own(path) => {
                if rules.roles && !path.contains('/') {
                    return Err(no_reference().into());
                }
                if !rules.roles && written.store.is_none() && !path.contains('/') {
                    return Err("one word alone may be a literal password or name: write `store:name`, or { literal: … }".into());
                }
                whole(store, path, written.key, written.version, &rules)
            }
        }
    }

    fn default(&self) -> Result<Name, Wrong> {
        match (self.stores, self.default) {
            (_, Some(name)) => Ok(name.value.clone()),
            (None, None) => "store".parse::<Name>().map_err(Wrong::from),
            (Some(_), None) => Err(Wrong::Entry("its references need a store: say which one with `store:`".to_owned())),
        }
    }

    fn rules(&self, name: &Name) -> Result<Rules<'a>, Wrong> {
        let any = Rules { roles: true, mount: None, path: None };
        let Some(stores) = self.stores else { return Ok(any) };
        let is_default = self.default.is_some_and(|default| default.value == *name);
        match stores.get(name) {
            Some(store) => {
                if let Some(why) = store.off() {
                    return Err(if is_default { Wrong::Entry(why) } else { why.into() });
                }
                let text = |text: &'a Option<Spanned<String>>| text.as_ref().map(|text| text.value.trim());
                let roles = Kind::of(store).is_none_or(|kind| kind.roles);
                Ok(Rules { roles, mount: text(&store.mount), path: text(&store.path) })
            }
            // That the entry's own store is not there, the file's own check says.
            None if is_default => Ok(any),
            None => Err("there is no store of the name that stands before the `:`; the path's first segment has no `:` either".into()),
        }
    }

    /// The store whose name this begins with, and the key behind it. Both may have dots: the longest name counts.
    fn own<'t>(&self, rest: &'t str) -> Result<(Name, &'t str), Wrong> {
        let dots = rest.char_indices().filter(|(_, c)| *c == '.').map(|(at, _)| at);
        let known = |name: &Name| self.stores.is_none_or(|stores| stores.contains_key(name));
        let mut split = dots.filter_map(|at| Some((rest.get(..at)?.parse::<Name>().ok()?, rest.get(at.saturating_add(1)..)?)));
        let found = split.rfind(|(name, _)| known(name));
        found.ok_or_else(|| format!("there is no store of this name, or no key behind it; {OWN}").into())
    }
}

impl<'a> Written<'a> {
    fn read(text: &'a str) -> Result<Self, String> {
        if text.is_empty() {
            return Err(format!("a reference is empty: {FORM}"));
        }
        if text.len() > MAX {
            return Err(format!("a reference has at most {MAX} bytes: {FORM}"));
        }
        if text.starts_with("{{") {
            return Self::own(text);
        }
        if text.starts_with("vault.secret") {
            return Self::below(text);
        }
        let (path, query) = text.rsplit_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
        let (key, version) = query.map_or(Ok((None, None)), query_of)?;
        let (first, rest) = path.split_once('/').map_or((path, None), |(first, rest)| (first, Some(rest)));
        let (store, path) = match first.split_once(':') {
            Some((store, head)) => {
                let begin = store.len().saturating_add(1);
                let path = if head.is_empty() && rest.is_some() { None } else { path.get(begin..) };
                (Some(store), path.filter(|path| !path.is_empty()).ok_or("there is no path after the store's name")?)
            }
            None => (None, path),
        };
        Ok(Self { store, place: Place::Path(path), key, version })
    }

    /// `{{secrets.store.a.b}}`
    fn own(text: &'a str) -> Result<Self, String> {
        let inner = text.strip_prefix("{{").and_then(|text| text.strip_suffix("}}"));
        let inner = inner.ok_or_else(|| format!("this is not closed; {OWN}"))?.trim();
        let rest = inner.strip_prefix("secrets.").filter(|rest| !rest.contains(['{', '}']));
        let rest = rest.ok_or_else(|| format!("only `secrets` is known between these braces; {OWN}"))?;
        Ok(Self { store: None, place: Place::Own(rest), key: None, version: None })
    }

    /// `vault.secret(store:path.key)`, `vault.secret(store:path#a.b)`, `vault.secret(store:path."a.b")`
    fn below(text: &'a str) -> Result<Self, String> {
        let inner = text.strip_prefix("vault.secret").map(str::trim_start).and_then(|text| text.strip_prefix('(')?.strip_suffix(')'));
        let inner = inner.ok_or_else(|| format!("this is not closed; {BELOW}"))?.trim();
        let (store, rest) = inner.split_once(':').ok_or_else(|| format!("it names no store; {BELOW}"))?;
        let rest = rest.trim();
        let quoted = rest.strip_suffix('"').and_then(|rest| rest.split_once(".\""));
        let split = quoted.or_else(|| rest.split_once('#')).or_else(|| rest.rsplit_once('.'));
        let (path, key) =
            split.filter(|(path, key)| !path.is_empty() && !key.is_empty()).ok_or_else(|| format!("it names no key; {BELOW}"))?;
        Ok(Self { store: Some(store.trim()), place: Place::Below(path.trim_matches('/')), key: Some(key), version: None })
    }
}

fn no_reference() -> String {
    format!("this is not a reference (is it a literal password or name?): {FORM}")
}

fn whole(store: Name, path: &str, key: Option<&str>, version: Option<u64>, rules: &Rules<'_>) -> Result<Reference, Wrong> {
    let selector = key.map(Selector::read).transpose()?;
    let path = if rules.roles { SecretPath::of_engine(path, selector.is_some(), version)? } else { SecretPath::of_name(path, version)? };
    Ok(Reference { store, path, selector })
}

/// `key`, `key&version=3`, `&version=3`. The key is taken as it stands: blanks may belong to it.
fn query_of(query: &str) -> Result<(Option<&str>, Option<u64>), String> {
    let (key, version) = match query.rsplit_once("&version=") {
        Some((key, version)) => {
            let number = version.parse::<u64>().ok().filter(|number| *number > 0);
            (key, Some(number.ok_or("`&version=` takes a number from 1 on: `mount/data/path?key&version=3`")?))
        }
        None => (query, None),
    };
    match (key.is_empty(), version) {
        (true, None) => {
            Err("there is no key after `?`: write `mount/data/path?key`, or leave the `?` away for the whole secret".to_owned())
        }
        (true, Some(_)) => Ok((None, version)),
        (false, _) if key.contains('&') => Err("after `?` come one key and, if wanted, `&version=3`".to_owned()),
        (false, _) => Ok((Some(key), version)),
    }
}

#[cfg(test)]
mod tests;
