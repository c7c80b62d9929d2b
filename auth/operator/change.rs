//! What an operator changes of a secret, and how it is merged into what is there.

use serde_json::{Map, Value};

use crate::Secret;
use crate::store::{StoreError, StoreErrorKind, is_exact, wipe};

/// How deep a key with dots is followed, as a reference's is.
const DEPTH: u32 = 16;

/// What becomes of the keys that a change does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// They stay.
    Kept,
    /// They go.
    Dropped,
}

/// New values for keys of a secret; zeroised when dropped.
pub struct Change {
    others: Others,
    /// Named as references name them.
    named: Vec<(String, Value)>,
    /// Named as they stand in the secret.
    literal: Map<String, Value>,
}

impl Change {
    /// One that changes nothing yet.
    #[must_use]
    pub fn new(others: Others) -> Self {
        Self { others, named: Vec::new(), literal: Map::new() }
    }

    /// Gives a key a value. A key is found as references find it: `db.password` is the key of that name, or `password` inside `db` where that
    /// is there.
    ///
    /// # Errors
    /// It is no text, or empty: no connection could use it. Without the value.
    pub fn set(&mut self, key: &str, value: &Secret) -> Result<(), String> {
        // Exposed: into the body that the store is sent.
        let text = value.expose_str().ok_or_else(|| format!("{key}: the value is not text (UTF-8)"))?;
        if text.is_empty() {
            return Err(format!("{key}: the value is empty"));
        }
        if self.named.iter().any(|(named, _)| named == key) {
            return Err(format!("{key}: named twice"));
        }
        self.named.push((key.to_owned(), Value::String(text.to_owned())));
        Ok(())
    }

    /// Gives each key of a JSON object its value.
    ///
    /// # Errors
    /// It is no JSON object, or an empty one. Says where, never what.
    pub fn set_json(&mut self, text: &Secret) -> Result<(), String> {
        // Exposed: to be parsed into the body that the store is sent.
        match serde_json::from_slice(text.expose()) {
            Ok(Value::Object(map)) if !map.is_empty() => {
                self.literal.extend(map);
                Ok(())
            }
            Ok(mut other) => {
                wipe(&mut other);
                Err("expected a JSON object with a key or more: {\"username\": …, \"password\": …}".to_owned())
            }
            Err(error) => Err(format!("this is not JSON: line {}, column {}", error.line(), error.column())),
        }
    }

    /// Another one of the same, for the thread that writes it.
    pub(crate) fn copy(&self) -> Self {
        Self { others: self.others, named: self.named.clone(), literal: self.literal.clone() }
    }

    /// What becomes of the keys that are not named.
    pub(crate) fn others(&self) -> Others {
        self.others
    }

    /// The secret as it is afterwards.
    ///
    /// # Errors
    /// `Malformed`: what is there has no keys; a number would be written as another text than it was ([`is_exact`]).
    pub(crate) fn apply(&self, secret: &mut Value) -> Result<(), StoreError> {
        if self.others == Others::Dropped || secret.is_null() {
            wipe(secret);
            *secret = Value::Object(Map::new());
        }
        let Value::Object(map) = secret else {
            return Err(StoreError::new(StoreErrorKind::Malformed, "what is there is no set of keys; `--replace` takes its place"));
        };
        for (key, value) in &self.literal {
            let former = map.insert(key.clone(), value.clone());
            former.into_iter().for_each(|mut former| wipe(&mut former));
        }
        for (key, value) in &self.named {
            if !replace(secret, key, value, DEPTH)
                && let Value::Object(map) = secret
            {
                map.insert(key.clone(), value.clone());
            }
        }
        let Some(key) = inexact(secret) else { return Ok(()) };
        wipe(secret);
        let what = format!("the key `{key}` is a number that cannot be kept exactly: write it as a string, too; nothing was written");
        Err(StoreError::new(StoreErrorKind::Malformed, what))
    }
}

/// The first key with a number that would be written as another text than it was.
fn inexact(value: &Value) -> Option<String> {
    let below =
        |name: String, inner: &Value| inexact(inner).map(|rest| if rest.is_empty() { name.clone() } else { format!("{name}.{rest}") });
    match value {
        Value::Number(number) => Some(String::new()).filter(|_| !is_exact(number)),
        Value::Object(map) => map.iter().find_map(|(key, inner)| below(key.clone(), inner)),
        Value::Array(items) => items.iter().enumerate().find_map(|(index, inner)| below(index.to_string(), inner)),
        Value::Null | Value::Bool(_) | Value::String(_) => None,
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        self.literal.values_mut().for_each(wipe);
        self.named.iter_mut().for_each(|(_, value)| wipe(value));
    }
}

/// Puts a value where a reference would find that key. `false`: nowhere.
fn replace(inside: &mut Value, rest: &str, new: &Value, depth: u32) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return false };
    let put = |old: &mut Value| {
        wipe(old);
        *old = new.clone();
        true
    };
    match inside {
        Value::Object(map) => {
            if let Some(old) = map.get_mut(rest) {
                return put(old);
            }
            rest.match_indices('.').any(|(at, _)| {
                let (Some(head), Some(tail)) = (rest.get(..at), rest.get(at.saturating_add(1)..)) else { return false };
                map.get_mut(head).is_some_and(|inner| replace(inner, tail, new, depth))
            })
        }
        Value::Array(items) => {
            let (head, tail) = rest.split_once('.').map_or((rest, None), |(head, tail)| (head, Some(tail)));
            match (head.parse::<usize>().ok().and_then(|index| items.get_mut(index)), tail) {
                (Some(item), None) => put(item),
                (Some(item), Some(tail)) => replace(item, tail, new, depth),
                (None, _) => false,
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn change(others: Others, values: &[(&str, &str)]) -> Change {
        let mut change = Change::new(others);
        values.iter().for_each(|(key, value)| change.set(key, &Secret::from((*value).to_owned())).unwrap());
        change
    }

    fn applied(change: &Change, mut secret: Value) -> Value {
        change.apply(&mut secret).unwrap();
        secret
    }

    #[test]
    fn keys_that_are_not_named_stay_or_go_as_was_said() {
        let secret = json!({"username": "app", "password": "old"});
        let values = [("password", "new"), ("port", "5432")];
        let kept = applied(&change(Others::Kept, &values), secret.clone());
        assert_eq!(kept, json!({"username": "app", "password": "new", "port": "5432"}));
        assert_eq!(applied(&change(Others::Dropped, &values), secret), json!({"password": "new", "port": "5432"}));
        assert_eq!(applied(&change(Others::Kept, &values), Value::Null), json!({"password": "new", "port": "5432"}));
    }

    #[test]
    fn a_key_with_dots_is_written_where_a_reference_would_read_it() {
        let secret = json!({"db": {"password": "old", "list": ["a", "b"]}, "flat.key": "old"});
        let kept = applied(&change(Others::Kept, &[("db.password", "1"), ("db.list.1", "2"), ("flat.key", "3"), ("db.new", "4")]), secret);
        assert_eq!(kept, json!({"db": {"password": "1", "list": ["a", "2"]}, "flat.key": "3", "db.new": "4"}));
    }

    #[test]
    fn json_is_taken_literally_and_its_errors_show_nothing_of_it() {
        let mut json = Change::new(Others::Kept);
        json.set_json(&Secret::from("{\"a.b\": 1, \"c\": {\"d\": true}}".to_owned())).unwrap();
        assert_eq!(applied(&json, json!({"a": {"b": 2}})), json!({"a": {"b": 2}, "a.b": 1, "c": {"d": true}}));
        for text in ["{\"password\": canary}", "\"canary\"", "[\"canary\"]", "{}", "", "canary"] {
            let error = Change::new(Others::Kept).set_json(&Secret::from(text.to_owned())).unwrap_err();
            assert!(!error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn a_number_that_would_be_written_as_another_text_is_not_written_at_all() {
        for number in ["12345678901234567890123", "1.10", "1e3", "-0"] {
            let there: Value = serde_json::from_str(&format!("{{\"a\": {{\"list\": [1, {number}]}}, \"password\": \"old\"}}")).unwrap();
            let error = change(Others::Kept, &[("password", "new")]).apply(&mut there.clone()).unwrap_err();
            assert!(error.detail.contains("the key `a.list.1` is a number that cannot be kept exactly"), "{error}");
            let named = applied(&change(Others::Kept, &[("password", "new"), ("a.list.1", number)]), there.clone());
            assert_eq!(named, json!({"a": {"list": [1, number]}, "password": "new"}));
            assert_eq!(applied(&change(Others::Dropped, &[("password", "new")]), there), json!({"password": "new"}));
            let given = Secret::from(format!("{{\"pin\": {number}}}"));
            let mut json = Change::new(Others::Kept);
            json.set_json(&given).unwrap();
            let error = json.apply(&mut Value::Null).unwrap_err();
            assert!(error.detail.contains("the key `pin` is a number") && !error.detail.contains(number), "{error}");
        }
        let whole = json!({"a": u64::MAX, "b": i64::MIN});
        assert_eq!(applied(&change(Others::Kept, &[("c", "d")]), whole), json!({"a": u64::MAX, "b": i64::MIN, "c": "d"}));
    }

    #[test]
    fn what_no_connection_could_use_is_refused() {
        let mut change = Change::new(Others::Kept);
        assert!(change.set("password", &Secret::from(String::new())).unwrap_err().contains("empty"));
        assert!(change.set("password", &Secret::from(vec![0xff, 0xfe])).unwrap_err().contains("UTF-8"));
        change.set("password", &Secret::from("x".to_owned())).unwrap();
        assert!(change.set("password", &Secret::from("y".to_owned())).unwrap_err().contains("twice"));
        assert_eq!(change.apply(&mut json!("text")).unwrap_err().kind, StoreErrorKind::Malformed);
    }
}
