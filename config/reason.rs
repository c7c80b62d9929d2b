//! Why something is not verified, in the words of whoever decided it.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A reason in words, the value of `insecure`. Being there switches verification off, so that nothing that means "no" may pass for one:
/// neither a boolean or a number, nor an empty text, nor `no`, `off` and their like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(String);

impl Reason {
    const FORM: &str = "the reason in words; leave the key out to have the server verified";
    /// What other readers of YAML take for a boolean or for nothing.
    const NO_REASONS: [&str; 11] = ["true", "false", "yes", "no", "on", "off", "y", "n", "none", "null", "~"];

    /// The words.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl Visitor<'_> for Words {
            type Value = Reason;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(Reason::FORM)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Reason, E> {
                let text = text.trim();
                let none = |word: &str| word.eq_ignore_ascii_case(text);
                let words = !Reason::NO_REASONS.into_iter().any(none) && text.chars().any(char::is_alphabetic);
                if words { Ok(Reason(text.to_owned())) } else { Err(E::custom(format_args!("expected {}", Reason::FORM))) }
            }
        }
        // Not `deserialize_str`: that takes every scalar as the text that it is written with.
        deserializer.deserialize_any(Words)
    }
}

impl JsonSchema for Reason {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Reason".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}
