//! Secret text that the file holds, or names.

use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error};
use zeroize::Zeroizing;

use crate::read::TextOr;
use crate::{scope, text_file};

/// Text from the file that may be secret: never shown, zeroised when dropped.
pub struct Protected(Zeroizing<String>);

impl Protected {
    /// Takes over the text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. Every call is a place to justify.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Protected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[protected]")
    }
}

/// A secret that Keyward itself needs: a plain string is the value; or `{ literal: … }`, `{ file: … }`, `{ env: … }`, `{ secret: … }`.
#[derive(Debug)]
pub enum SecretInput {
    /// The value itself.
    Literal(Protected),
    /// The file that holds it, read when needed; one trailing newline is not part of it.
    File(PathBuf),
    /// The environment variable that holds it.
    Env(String),
    /// A reference into a store, not yet parsed: its grammar is the stores'.
    Reference(String),
}

/// Whether a plain text is one of the spellings of other products for a reference, closed or not: it is never a value.
pub(crate) fn is_reference(text: &str) -> bool {
    let text = text.trim_start();
    text.starts_with("{{") || text.starts_with("vault.secret")
}

impl SecretInput {
    /// The largest file, in bytes.
    pub const MAX_FILE: u64 = 64 * 1024;

    /// The value as it is now: a file or a variable is read again. Blocks as long as a read of a regular file does.
    ///
    /// # Errors
    /// What is wrong with the file or the variable, which the text names; never what it holds.
    pub fn read(&self) -> Result<Protected, String> {
        let (text, source) = match self {
            Self::Literal(Protected(text)) => (text.clone(), "the literal".to_owned()),
            Self::File(path) => {
                let mut text = text_file::read(path, Self::MAX_FILE)?;
                let kept = text.strip_suffix('\n').map_or(text.len(), |rest| rest.strip_suffix('\r').unwrap_or(rest).len());
                text.truncate(kept);
                (text, format!("the file {}", path.display()))
            }
            Self::Env(name) => {
                let source = format!("the environment variable {}", crate::suggest::quoted(name));
                let text = std::env::var(name).map_err(|error| match error {
                    std::env::VarError::NotPresent => format!("{source} is not set"),
                    std::env::VarError::NotUnicode(_) => format!("{source} is not UTF-8"),
                })?;
                (Zeroizing::new(text), source)
            }
            Self::Reference(_) => return Err("a reference is read by its store".to_owned()),
        };
        if text.is_empty() { Err(format!("{source} is empty")) } else { Ok(Protected(text)) }
    }
}

/// The spellings of a value that says where it is.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) struct GivenKeys {
    /// The value itself, for throw-away use.
    literal: Option<Protected>,
    /// The file that holds it; one trailing newline is not part of it. At most 64 KiB.
    file: Option<scope::FilePath>,
    /// The environment variable that holds it.
    env: Option<String>,
    /// A reference into a store that is not the one that needs it: `store:mount/data/path?key`.
    secret: Option<String>,
}

impl TryFrom<GivenKeys> for SecretInput {
    type Error = &'static str;

    fn try_from(keys: GivenKeys) -> Result<Self, Self::Error> {
        match keys {
            GivenKeys { literal: Some(value), file: None, env: None, secret: None } => Ok(Self::Literal(value)),
            GivenKeys { literal: None, file: Some(path), env: None, secret: None } => Ok(Self::File(path.into_path())),
            GivenKeys { literal: None, file: None, env: None, secret: Some(text) } => Ok(Self::Reference(text)),
            GivenKeys { literal: None, file: None, env: Some(name), secret: None } if is_variable(&name) => Ok(Self::Env(name)),
            GivenKeys { literal: None, file: None, env: Some(_), secret: None } => {
                Err("expected the name of an environment variable (letters, digits and _)")
            }
            _ => Err("expected exactly one of literal, file, env, secret"),
        }
    }
}

/// A value in place of the name stays out of every message.
fn is_variable(name: &str) -> bool {
    let inner = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    inner && name.len() <= 128 && name.starts_with(|c: char| !c.is_ascii_digit())
}

impl<'de> Deserialize<'de> for Protected {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scope::saw_secret();
        String::deserialize(deserializer).map(Self::new)
    }
}

impl<'de> Deserialize<'de> for SecretInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match TextOr::<GivenKeys>::deserialize(deserializer)? {
            TextOr::Map(keys) => keys.try_into().map_err(D::Error::custom),
            TextOr::Text(text) if is_reference(&text) => Ok(Self::Reference(text.as_str().to_owned())),
            TextOr::Text(text) => {
                scope::saw_secret();
                Ok(Self::Literal(Protected(text)))
            }
        }
    }
}

impl JsonSchema for Protected {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Protected".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// The schema of a mapping with exactly one of the keys.
pub(crate) fn given_schema(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = GivenKeys::json_schema(generator);
    schema.insert("minProperties".into(), 1.into());
    schema.insert("maxProperties".into(), 1.into());
    schema
}

impl JsonSchema for SecretInput {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SecretInput".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A secret that Keyward itself needs: a plain string is the value; else where it is.",
            "anyOf": [{ "type": "string" }, given_schema(generator)],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(json: &str) -> Result<SecretInput, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_loses_one_newline_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for (content, value) in
            [("s3cret", "s3cret"), ("s3cret\n", "s3cret"), ("s3cret\r\n", "s3cret"), ("s3cret\n\n", "s3cret\n"), (" s ", " s ")]
        {
            std::fs::write(&path, content).unwrap();
            assert_eq!(SecretInput::File(path.clone()).read().unwrap().expose(), value);
        }
        for content in [vec![], b"\n".to_vec(), vec![b'x'; 64 * 1024 + 1], vec![0xff, 0xfe]] {
            std::fs::write(&path, content).unwrap();
            let error = SecretInput::File(path.clone()).read().unwrap_err();
            assert!(error.contains("secret") && !error.contains("xxx"), "{error}");
        }
        let error = SecretInput::File(folder.path().to_owned()).read().unwrap_err();
        assert!(error.contains("no regular file"), "{error}");
        assert!(SecretInput::File(folder.path().join("none")).read().is_err());
    }

    #[test]
    fn a_variable_is_read_by_name() {
        let set = std::env::var("PATH").unwrap();
        assert_eq!(SecretInput::Env("PATH".into()).read().unwrap().expose(), set);
        let error = SecretInput::Env("KEYWARD_TEST_NOT_SET".into()).read().unwrap_err();
        assert_eq!(error, "the environment variable \"KEYWARD_TEST_NOT_SET\" is not set");
    }

    #[test]
    fn exactly_one_source_is_given() {
        assert!(matches!(input("\"plain\""), Ok(SecretInput::Literal(text)) if text.expose() == "plain"));
        assert!(matches!(input(r#"{"literal":"x"}"#), Ok(SecretInput::Literal(_))));
        assert!(matches!(input(r#"{"env":"TOKEN"}"#), Ok(SecretInput::Env(_))));
        for bad in [r#"{}"#, r#"{"file":"a","env":"B"}"#, r#"{"env":"canary$1"}"#, r#"{"files":"a"}"#, "[]"] {
            let error = input(bad).unwrap_err();
            assert!(!error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn protected_text_is_not_shown() {
        assert_eq!(format!("{:?}", SecretInput::Literal(Protected::new("canary".into()))), "Literal([protected])");
    }
}
