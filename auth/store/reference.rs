//! References: what users write in `username:`, `password:`, `credential:` … and what a store is asked.
//!
//! ```text
//! prod_db/data/mysql?username            KV, one key           prod_db/data/mysql?db.primary.user   a nested one
//! prod_db/data/mysql?username&version=3  a pinned version      prod_db/data/mysql                   the whole secret
//! prod_db/creds/mysql_role               a dynamic role        prod_db/static-creds/reporting       a static one
//! ssh/sign/app                           a role that signs     kv1/app/mysql?username               KV version 1
//! ```
//!
//! A text that does not parse is an error that never repeats the text: it may be a password that was typed in the wrong field.

use std::fmt;

use keyward_config::Problems;
use serde_json::Value;

use super::{StoreError, StoreErrorKind};
use crate::Secret;

/// The longest reference, in bytes.
const MAX: usize = 1024;
const FORM: &str = "write a reference such as `mount/data/path?key`, or say what it is: { literal: … }, { file: … }, { env: … }";

/// Where a secret is, and which part of it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
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

impl std::str::FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        refuse_other_spellings(text)?;
        let (path, query) = text.rsplit_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
        let (key, version) = query.map_or(Ok((None, None)), read_query)?;
        if !path.contains('/') {
            return Err(format!("this is not a reference (is it a literal password or name?): {FORM}"));
        }
        check_path(path)?;
        // With a key it is a secret of that name, whose `data/` was left out.
        if key.is_none() && path.split_once('/').is_some_and(|(_, rest)| rest == "sign") {
            return Err("there is no role's name: write `mount/sign/role`".to_owned());
        }
        let form = form_of(path, key.is_some());
        if form != Form::Kv && version.is_some() {
            return Err("`&version=` is for KV secrets; a role has none".to_owned());
        }
        Ok(Self { path: SecretPath { path: path.to_owned(), version, form }, selector: key.map(|key| Selector(key.to_owned())) })
    }
}

impl Reference {
    /// Reads a reference at a place of the file; a text that is none becomes a problem.
    pub(crate) fn read(text: &str, span: keyward_config::Span, at: &str, problems: &mut Problems) -> Option<Self> {
        text.parse().map_err(|message: String| problems.error(span, at, message)).ok()
    }
}

impl Selector {
    /// The key as it was written: it goes into the audit record.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn key(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// Takes the value out of a secret: at each level the key that is exactly the rest, else the part before the next dot.
    /// A string as it is, numbers and booleans as their JSON text. A string that is itself a JSON object may be entered.
    ///
    /// # Errors
    /// `Malformed` if there is no such key, or no text behind it. The message names keys, never a value.
    pub(crate) fn pick(&self, fields: &Value, path: &SecretPath) -> Result<Secret, StoreError> {
        let malformed = |what: &str| StoreError::new(StoreErrorKind::Malformed, format!("{path}: the key `{}` {what}", self.0));
        match find(fields, &self.0, DEPTH) {
            Found::Text(text) if text.is_empty() => Err(malformed("is empty")),
            Found::Text(text) => Ok(Secret::from(text)),
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
    Nothing,
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
        Value::Number(number) => Found::Text(number.to_string()),
        Value::Bool(flag) => Found::Text(flag.to_string()),
        Value::Null => Found::NotText("null"),
        Value::Array(_) => Found::NotText("a list"),
        Value::Object(_) => Found::NotText("an object"),
    }
}

/// Spellings of other products. They get a message of their own, since "no slash" would not help who typed them.
fn refuse_other_spellings(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err(format!("a reference is empty: {FORM}"));
    }
    if text.len() > MAX {
        return Err(format!("a reference has at most {MAX} bytes: {FORM}"));
    }
    if text.starts_with("{{") || text.starts_with("vault.secret") {
        let closed = if text.starts_with("{{") { text.ends_with("}}") } else { text.ends_with(')') };
        let what =
            if closed { "this spelling is not understood here" } else { "this spelling is not understood here, and it is not closed" };
        return Err(format!("{what}: {FORM}"));
    }
    if text.split('/').next().is_some_and(|first| first.contains(':')) {
        return Err("a reference does not name its store: write `store:` beside it, and `mount/data/path?key` here".to_owned());
    }
    Ok(())
}

/// `key`, `key&version=3`, `&version=3`. The key is taken as it stands: blanks may belong to it.
fn read_query(query: &str) -> Result<(Option<&str>, Option<u64>), String> {
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
        (false, _) if key.chars().any(char::is_control) => Err("a key has no control characters".to_owned()),
        (false, _) if key.split('.').any(str::is_empty) => Err("a key has no empty part between its dots".to_owned()),
        (false, _) => Ok((Some(key), version)),
    }
}

/// What a path must not have: it would be another path on the server, or a pattern in a policy (vault.md §1, §7.4.9).
fn check_path(path: &str) -> Result<(), String> {
    if path.starts_with('/') || path.ends_with('/') {
        return Err("a reference neither begins nor ends its path with `/`: write `mount/data/path?key`".to_owned());
    }
    if path.split('/').any(|segment| matches!(segment, "" | "." | "..") || segment.trim() != segment) {
        return Err("a segment of the path is empty, `.`, `..` or has blanks around it: write `mount/data/path?key`".to_owned());
    }
    if path.contains(|c: char| c.is_control() || matches!(c, '\\' | '#' | '%' | '*' | '+' | '?' | '&')) {
        return Err("a path has no control characters and none of \\ # % * + ? &: write `mount/data/path?key`".to_owned());
    }
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
