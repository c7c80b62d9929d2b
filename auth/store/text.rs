//! Secrets that are one text: a file, a variable, a cell of a table (vault.md §15). A JSON object is a secret with keys; any other text is the
//! one value of a secret that has no other.

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::credential::wipe;
use super::reference::SINGLE;
use super::{Document, SecretPath, StoreError, StoreErrorKind};

/// The longest text of a secret, in bytes.
pub(crate) const MAX: usize = 1024 * 1024;

/// What must be in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Anything.
    Any,
    /// A JSON object: its name says so.
    Object,
}

/// The secret that a text is.
///
/// # Errors
/// `Malformed`, in words that hold nothing of it.
pub(crate) fn document(path: &SecretPath, mut text: Zeroizing<String>, shape: Shape) -> Result<Document, StoreError> {
    let malformed = |what: &str| StoreError::new(StoreErrorKind::Malformed, format!("{path}: {what}"));
    let parsed = match shape {
        Shape::Any if !text.trim_start().starts_with('{') => None,
        Shape::Any => serde_json::from_str(&text).ok(),
        Shape::Object => match serde_json::from_str(&text) {
            Ok(value) => Some(value),
            Err(error) => return Err(malformed(&format!("no JSON: line {}, column {}", error.line(), error.column()))),
        },
    };
    match parsed {
        Some(fields @ Value::Object(_)) => Ok(of_fields(fields)),
        Some(mut other) => {
            wipe(&mut other);
            Err(malformed("a JSON value, but no object with keys"))
        }
        None => Ok(of_fields(Value::Object(Map::from_iter([(SINGLE.to_owned(), Value::String(std::mem::take(&mut *text)))])))),
    }
}

/// A secret that has neither versions nor an end.
pub(crate) fn of_fields(fields: Value) -> Document {
    Document::of(fields, "")
}

/// Bytes as text.
///
/// # Errors
/// `Malformed`: they are not UTF-8.
pub(crate) fn utf8(path: &SecretPath, mut bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<String>, StoreError> {
    String::from_utf8(std::mem::take(&mut bytes)).map(Zeroizing::new).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        StoreError::new(StoreErrorKind::Malformed, format!("{path}: it is not UTF-8 text"))
    })
}

/// One newline at the end is the editor's, not the secret's.
pub(crate) fn without_newline(text: &mut String) {
    let kept = text.strip_suffix('\n').map_or(text.len(), |rest| rest.strip_suffix('\r').unwrap_or(rest).len());
    text.truncate(kept);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(text: &str, shape: Shape) -> Result<Value, String> {
        let path = SecretPath::of_name("p", None).unwrap();
        document(&path, Zeroizing::new(text.to_owned()), shape).map(|mut document| document.fields.take()).map_err(|error| error.detail)
    }

    #[test]
    fn an_object_is_a_secret_with_keys_and_any_other_text_is_a_value() {
        for shape in [Shape::Any, Shape::Object] {
            assert_eq!(fields(" {\"a\": {\"b\": 1}}\n", shape).unwrap(), json!({"a": {"b": 1}}));
        }
        for text in ["plain", "", "{not json", "[1]", "7", "\"text\""] {
            assert_eq!(fields(text, Shape::Any).unwrap(), json!({ SINGLE: text }), "{text:?}");
            let error = fields(text, Shape::Object).unwrap_err();
            assert!(error.starts_with("p: ") && !error.contains("plain") && !error.contains("text\""), "{error}");
        }
    }

    #[test]
    fn one_newline_at_the_end_is_not_part_of_it() {
        for (text, kept) in [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a"), ("\n", ""), ("a\r", "a\r")] {
            let mut text = text.to_owned();
            without_newline(&mut text);
            assert_eq!(text, kept);
        }
    }
}
