//! References: where a secret is, and which part of it is meant. How they are written, spelling.rs says.

use std::borrow::Cow;
use std::fmt;

use keyward_config::Name;
use serde_json::{Number, Value};

use super::{StoreError, StoreErrorKind};
use crate::Secret;

/// The key under which a store without mounts gives a value that is no object.
pub(crate) const SINGLE: &str = "value";
/// What stands for the name of the user who logs in.
pub(crate) const USER: &str = "{{user.name}}";
/// What a user's name must not be where it may come before the words that tell what a path means, or it would mean something else.
pub(crate) const WORDS: [&str; 7] = ["data", "metadata", "creds", "static-creds", "sign", "sys", "cubbyhole"];

/// Where a secret is, and which part of it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) store: Name,
    pub(crate) path: SecretPath,
    /// `None`: the whole secret.
    pub(crate) selector: Option<Selector>,
}

/// What a store is asked: a path whose segments are safe to send, and the version if one is pinned.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SecretPath {
    path: String,
    version: Option<u64>,
    form: Form,
}

/// What stands behind a path, as far as its text tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Form {
    /// A secret that is read: KV of either version.
    Kv,
    /// A role that makes an account for each request (`mount/creds/role`).
    Dynamic,
    /// A role whose one account has its password rotated (`mount/static-creds/role`).
    StaticRole,
    /// A role that signs a certificate for a key that we make for each session (`mount/sign/role`).
    Sign,
    /// The name of a secret in a store that has nothing else.
    Name,
}

/// A key, or keys separated by dots, inside a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selector(String);

impl SecretPath {
    /// The path as it was written: `prod_db/data/mysql`.
    pub(crate) fn as_str(&self) -> &str {
        &self.path
    }

    /// The pinned version.
    pub(crate) fn version(&self) -> Option<u64> {
        self.version
    }

    pub(crate) fn form(&self) -> Form {
        self.form
    }

    /// The segments. None is empty, `.` or `..`; none has a character that means something in a URL path or in a policy.
    pub(crate) fn segments(&self) -> impl Iterator<Item = &str> {
        self.path.split('/')
    }
}

impl fmt::Display for SecretPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        self.version.map_or(Ok(()), |version| write!(f, " (version {version})"))
    }
}

impl SecretPath {
    /// A path of a store with secrets engines, such as Vault.
    ///
    /// # Errors
    /// What must not be in one: it would be another path on the server, or a pattern in a policy (vault.md §1, §7.4.9).
    pub(crate) fn of_engine(path: &str, has_key: bool, version: Option<u64>) -> Result<Self, String> {
        check_segments(path)?;
        check_words(path)?;
        // With a key it is a secret of that name, whose `data/` was left out.
        if !has_key && path.split_once('/').is_some_and(|(_, rest)| rest == "sign") {
            return Err("there is no role's name: write `mount/sign/role`".to_owned());
        }
        if path.split('/').next().is_some_and(|mount| mount.contains(USER)) {
            return Err("the user's name cannot choose the mount: write `mount/data/{{user.name}}/path?key`".to_owned());
        }
        let form = form_of(path, has_key);
        if form != Form::Kv && version.is_some() {
            return Err("`&version=` is for KV secrets; a role has none".to_owned());
        }
        Ok(Self { path: path.to_owned(), version, form })
    }

    /// The name of a secret in a store that has nothing else.
    ///
    /// # Errors
    /// As for [`Self::of_engine`]; a version.
    pub(crate) fn of_name(name: &str, version: Option<u64>) -> Result<Self, String> {
        check_segments(name)?;
        if version.is_some() {
            return Err("`&version=` is for KV secrets; this kind of store keeps no versions".to_owned());
        }
        Ok(Self { path: name.to_owned(), version, form: Form::Name })
    }

    /// Whether it is another one for each user.
    pub(crate) fn is_per_user(&self) -> bool {
        self.path.contains(USER)
    }

    /// That of this user. A name has no character that means something in a path, and the form stays what the file says.
    pub(crate) fn for_user(&self, user: &Name) -> Cow<'_, Self> {
        if self.is_per_user() {
            Cow::Owned(Self { path: self.path.replace(USER, user.as_str()), ..self.clone() })
        } else {
            Cow::Borrowed(self)
        }
    }
}

impl Reference {
    /// Where one value is wanted: the one that a name stands for in a store without mounts.
    pub(crate) fn with_single_key(self) -> Self {
        match (&self.selector, self.path.form()) {
            (None, Form::Name) => Self { selector: Some(Selector::key(SINGLE)), ..self },
            _ => self,
        }
    }

    /// That of this user.
    pub(crate) fn for_user(&self, user: &Name) -> Self {
        Self { path: self.path.for_user(user).into_owned(), ..self.clone() }
    }

    /// As the audit record shows it: with the store where that is not the connection's own, and the key's name.
    pub(crate) fn shown(&self, own: Option<&Name>) -> String {
        let key = self.selector.as_ref().map(|key| format!("?{}", key.as_str())).unwrap_or_default();
        format!("{}{key}", shown(&self.store, &self.path, own))
    }
}

/// A path as the audit record shows it.
pub(crate) fn shown(store: &Name, path: &SecretPath, own: Option<&Name>) -> String {
    if own == Some(store) { path.as_str().to_owned() } else { format!("{store}:{}", path.as_str()) }
}

#[cfg(any(test, feature = "fuzzing"))]
impl std::str::FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        super::Scope::any().reference(text)
    }
}

impl Selector {
    /// The key as it was written: it goes into the audit record.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// A key as it is written.
    ///
    /// # Errors
    /// It has control characters, or an empty part.
    pub(crate) fn read(key: &str) -> Result<Self, String> {
        if key.chars().any(char::is_control) {
            return Err("a key has no control characters".to_owned());
        }
        if key.split('.').any(str::is_empty) {
            return Err("a key has no empty part between its dots".to_owned());
        }
        Ok(Self(key.to_owned()))
    }

    pub(crate) fn key(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// Takes the value out of a secret: at each level the key that is exactly the rest, else the part before the next dot.
    /// A string as it is, whole numbers and booleans as their JSON text. A string that is itself a JSON object may be entered.
    ///
    /// # Errors
    /// `Malformed` if there is no such key, no text behind it, or a number that [`is_exact`] is not. The message names keys, never a value.
    pub(crate) fn pick(&self, fields: &Value, path: &SecretPath) -> Result<Secret, StoreError> {
        let malformed = |what: &str| StoreError::new(StoreErrorKind::Malformed, format!("{path}: the key `{}` {what}", self.0));
        match find(fields, &self.0, DEPTH) {
            Found::Text(text) if text.is_empty() => Err(malformed("is empty")),
            Found::Text(text) => Ok(Secret::from(text)),
            Found::Inexact => Err(malformed("is a number that cannot be kept exactly: write it as a string")),
            Found::NotText(what) => Err(malformed(&format!("holds {what}, not a text"))),
            Found::Nothing => {
                let names = fields.as_object().map(|map| map.keys().take(20).map(String::as_str).collect::<Vec<_>>().join(", "));
                Err(malformed(&format!("is not there; there are: {}", names.unwrap_or_default())))
            }
        }
    }
}

const DEPTH: u32 = 16;

enum Found {
    Text(String),
    NotText(&'static str),
    Inexact,
    Nothing,
}

/// Whether a number is sure to be what was written. One with a fraction, an exponent or more digits than 64 bits hold is read as a float, which
/// is another text: `1.10`, `1e3`.
pub(crate) fn is_exact(number: &Number) -> bool {
    !number.is_f64()
}

fn find(value: &Value, rest: &str, depth: u32) -> Found {
    let Some(depth) = depth.checked_sub(1) else { return Found::Nothing };
    match value {
        Value::Object(map) => {
            if let Some(value) = map.get(rest) {
                return leaf(value);
            }
            // Keys may hold dots themselves: every way to split, the shortest first.
            for (at, _) in rest.match_indices('.') {
                let (Some(head), Some(tail)) = (rest.get(..at), rest.get(at.saturating_add(1)..)) else { continue };
                if let Some(inner) = map.get(head) {
                    match find(inner, tail, depth) {
                        Found::Nothing => {}
                        found => return found,
                    }
                }
            }
            Found::Nothing
        }
        Value::Array(items) => {
            let (head, tail) = rest.split_once('.').map_or((rest, None), |(head, tail)| (head, Some(tail)));
            match (head.parse::<usize>().ok().and_then(|index| items.get(index)), tail) {
                (Some(item), None) => leaf(item),
                (Some(item), Some(tail)) => find(item, tail, depth),
                (None, _) => Found::Nothing,
            }
        }
        Value::String(text) if text.trim_start().starts_with('{') => match serde_json::from_str::<Value>(text) {
            Ok(mut inner) => {
                let found = find(&inner, rest, depth);
                super::credential::wipe(&mut inner);
                found
            }
            Err(_) => Found::Nothing,
        },
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => Found::Nothing,
    }
}

fn leaf(value: &Value) -> Found {
    match value {
        Value::String(text) => Found::Text(text.clone()),
        Value::Number(number) if is_exact(number) => Found::Text(number.to_string()),
        Value::Number(_) => Found::Inexact,
        Value::Bool(flag) => Found::Text(flag.to_string()),
        Value::Null => Found::NotText("null"),
        Value::Array(_) => Found::NotText("a list"),
        Value::Object(_) => Found::NotText("an object"),
    }
}

fn check_segments(path: &str) -> Result<(), String> {
    if path.starts_with('/') || path.ends_with('/') {
        return Err("a reference neither begins nor ends its path with `/`: write `mount/data/path?key`".to_owned());
    }
    if path.split('/').any(|segment| matches!(segment, "" | "." | "..") || segment.trim() != segment) {
        return Err("a segment of the path is empty, `.`, `..` or has blanks around it: write `mount/data/path?key`".to_owned());
    }
    if path.contains(|c: char| c.is_control() || matches!(c, '\\' | '#' | '%' | '*' | '+' | '?' | '&')) {
        return Err("a path has no control characters and none of \\ # % * + ? &: write `mount/data/path?key`".to_owned());
    }
    let rest = path.replace(USER, "");
    if rest.contains("{{") || rest.contains("}}") {
        return Err("only {{user.name}} is known inside a path".to_owned());
    }
    Ok(())
}

/// A store's own paths, and words without what belongs to them.
fn check_words(path: &str) -> Result<(), String> {
    let of_mount = path.split('/').take_while(|segment| !matches!(*segment, "data" | "creds" | "static-creds"));
    for (index, segment) in of_mount.enumerate() {
        let system = segment.eq_ignore_ascii_case("sys") || segment.eq_ignore_ascii_case("cubbyhole");
        let first = index == 0 && (segment.eq_ignore_ascii_case("auth") || segment.eq_ignore_ascii_case("identity"));
        if system || first {
            return Err("the store's own paths (sys, auth, identity, cubbyhole) hold no credentials".to_owned());
        }
    }
    match path.split('/').nth(1) {
        Some("data") if path.split('/').count() < 3 => {
            Err("there is no secret's name after `data/`: write `mount/data/path?key`".to_owned())
        }
        Some("creds" | "static-creds") if path.split('/').count() < 3 => {
            Err("there is no role's name: write `mount/creds/role` or `mount/static-creds/role`".to_owned())
        }
        _ => Ok(()),
    }
}

fn form_of(path: &str, has_key: bool) -> Form {
    let segments: Vec<&str> = path.split('/').collect();
    let [mount @ .., word, _role] = segments.as_slice() else { return Form::Kv };
    match *word {
        // A KV version 2 secret may well be named `creds/x`: `mount/data/creds/x`.
        _ if mount.is_empty() || mount.iter().skip(1).any(|segment| *segment == "data") => Form::Kv,
        "creds" if !has_key => Form::Dynamic,
        "sign" if !has_key => Form::Sign,
        "static-creds" => Form::StaticRole,
        _ => Form::Kv,
    }
}

#[cfg(test)]
mod tests;
