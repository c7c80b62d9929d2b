//! References: what users write in `username:`, `password:`, `credential:` … and what a store is asked.
//!
//! ```text
//! prod_db/data/mysql?username            KV, one key           prod_db/data/mysql?db.primary.user   a nested one
//! prod_db/data/mysql?username&version=3  a pinned version      prod_db/data/mysql                   the whole secret
//! prod_db/creds/mysql_role               a dynamic role        prod_db/static-creds/reporting       a static one
//! kv1/app/mysql?username                 KV version 1
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
        "static-creds" => Form::StaticRole,
        _ => Form::Kv,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn parse(text: &str) -> Reference {
        text.parse().unwrap_or_else(|message| panic!("{text}: {message}"))
    }

    #[test]
    fn every_documented_form_parses() {
        let kv = parse(" prod_db/data/mysql?username ");
        assert_eq!(
            (kv.path.as_str(), kv.path.form(), kv.selector.as_ref().map(Selector::as_str)),
            ("prod_db/data/mysql", Form::Kv, Some("username"))
        );
        let pinned = parse("prod_db/data/team/mysql?a.b.c&version=3");
        assert_eq!((pinned.path.version(), pinned.selector.as_ref().map(Selector::as_str)), (Some(3), Some("a.b.c")));
        assert_eq!(parse("prod_db/data/mysql?&version=2").selector, None);
        assert_eq!(parse("prod_db/creds/role").path.form(), Form::Dynamic);
        assert_eq!(parse("team/db/creds/role").path.form(), Form::Dynamic);
        assert_eq!(parse("prod_db/static-creds/role").path.form(), Form::StaticRole);
        assert_eq!(parse("prod_db/data/creds/app?password").path.form(), Form::Kv);
        assert_eq!(parse("kv1/creds/app?password").path.form(), Form::Kv);
        assert_eq!(parse("kv1/app?password").path.form(), Form::Kv);
        assert_eq!(parse("prod_db/data/auth/service?key").path.form(), Form::Kv);
    }

    #[test]
    fn a_text_that_is_none_is_refused_and_never_repeated() {
        let canary = "hunter2-canary";
        for text in [
            canary.to_owned(),
            format!("{canary}/"),
            format!("/{canary}/x"),
            format!("a//{canary}"),
            format!("a/../{canary}"),
            format!("a/./{canary}?k"),
            format!("a/%2f{canary}"),
            format!("a/{canary}*"),
            format!("a/{canary}+x"),
            format!("a/{canary}#x"),
            format!("a\\{canary}/x"),
            format!("a/{canary}\n/x"),
            format!("a/b?{canary}?x"),
            format!("a/{canary}?"),
            format!("a/{canary}?k&version=x"),
            format!("a/{canary}?k&version=0"),
            format!("a/{canary}?k&z=1"),
            format!("a/{canary}?k..z"),
            format!("sys/{canary}"),
            format!("SYS/{canary}"),
            format!("team/sys/{canary}"),
            format!("auth/{canary}?x"),
            format!("identity/{canary}"),
            format!("cubbyhole/{canary}"),
            format!("{{{{secrets.{canary}.a"),
            format!("vault.secret({canary}:a.b"),
            format!("corp:{canary}/data/x?y"),
            "x/data".to_owned(),
            "x/creds".to_owned(),
            "x/creds/role?&version=2".to_owned(),
            String::new(),
            format!("a/{}", "x".repeat(2000)),
        ] {
            let message = text.parse::<Reference>().expect_err(&text);
            assert!(!message.contains(canary), "{message}");
            assert!(message.len() > 20, "{message}");
        }
        // `a/b?c?d` splits at the last `?`, and a `?` in the path is refused.
        assert!("a/b?c?d".parse::<Reference>().is_err());
    }

    #[test]
    fn a_selector_prefers_the_exact_key_then_goes_deeper() {
        let fields = json!({"a.b": "exact", "a": {"b": "deep", "c": {"d.e": 7}}, "list": ["x", {"k": true}], "null": null, "text": "{\"in\":\"side\"}"});
        let path = parse("m/data/p").path;
        let pick = |key: &str| Selector::key(key).pick(&fields, &path).map(|secret| String::from_utf8_lossy(secret.expose()).into_owned());
        assert_eq!(pick("a.b").unwrap(), "exact");
        assert_eq!(pick("a.c.d.e").unwrap(), "7");
        assert_eq!(pick("list.0").unwrap(), "x");
        assert_eq!(pick("list.1.k").unwrap(), "true");
        assert_eq!(pick("text.in").unwrap(), "side");
        for (key, says) in
            [("null", "null"), ("a", "object"), ("list", "list"), ("nothing", "not there"), ("list.9", "not there"), ("a.b.c", "not there")]
        {
            let error = pick(key).unwrap_err();
            assert_eq!(error.kind, StoreErrorKind::Malformed);
            assert!(error.detail.contains(says) && !error.detail.contains("exact"), "{error}");
        }
        assert!(Selector::key("k").pick(&json!({"k": ""}), &path).is_err());
    }

    proptest! {
        #[test]
        fn nothing_makes_the_parser_panic(text in "\\PC{0,60}") {
            let _ = text.parse::<Reference>();
        }

        #[test]
        fn what_parses_is_safe_to_send(text in "[a-z./?&=*%#+\\\\ \u{1}-]{0,24}") {
            if let Ok(reference) = text.parse::<Reference>() {
                let path = reference.path.as_str();
                let unsafe_to_send = path.contains(['\\', '#', '%', '*', '+', '?', '&', '\u{1}']);
                prop_assert!(!unsafe_to_send);
                prop_assert!(reference.path.segments().count() >= 2);
                prop_assert!(reference.path.segments().all(|s| !matches!(s, "" | "." | "..")));
            }
        }
    }
}
