//! Why a node could not be read: what was expected and what kind of thing was found, never the value.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use crate::node::Span;
use crate::read::Path;
use crate::suggest;

/// An error of reading. It gets its place from the innermost node that it passes.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) place: Option<(Span, String)>,
}

impl Failure {
    /// Says where, unless it is known already.
    pub(crate) fn at(mut self, span: Span, path: &Path<'_>) -> Self {
        self.place.get_or_insert_with(|| (span, path.to_string()));
        self
    }

    /// Something else was expected.
    pub(crate) fn expected(expected: &dyn Expected, found: &str) -> Self {
        de::Error::custom(format_args!("expected {}, found {found}", plain(&expected.to_string())))
    }

    /// One of these words was expected.
    pub(crate) fn one_of(words: &[&str]) -> Self {
        de::Error::custom(format_args!("expected one of {}", words.join(", ")))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// serde's own texts hold the value; these do not.
impl de::Error for Failure {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), place: None }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::expected(expected, kind(&found))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::expected(expected, &format!("{} that does not fit", kind(&found)))
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::expected(expected, &format!("{length} of them"))
    }

    fn unknown_variant(_: &str, words: &'static [&'static str]) -> Self {
        Self::one_of(words)
    }

    /// Only strict mappings come here, `{ literal: … }` before all: `password: { s3cret }` has its secret where the key stands. Near a known word it is a slip.
    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        if suggest::did_you_mean(key, known.iter().copied()).is_empty() {
            return Self::custom(format_args!("unknown key; expected one of {}", known.join(", ")));
        }
        Self::custom(unknown_key(key, known.iter().copied()))
    }

    fn missing_field(key: &'static str) -> Self {
        Self::custom(format_args!("the key {} is missing", suggest::quoted(key)))
    }
}

/// What is said of a key that nobody knows. One that is no word may be a value that stands in the place of its key, as in samples that have
/// the two swapped: it is not shown.
pub(crate) fn unknown_key<'a>(key: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    let suggestion = suggest::did_you_mean(key, known.clone());
    if !suggestion.is_empty() {
        return format!("unknown key {}{suggestion}", suggest::quoted(key));
    }
    let mut known: Vec<&str> = known.into_iter().collect();
    known.sort_unstable();
    known.dedup();
    let shown = if is_word(key) { format!(" {}", suggest::quoted(key)) } else { String::new() };
    format!("unknown key{shown}; expected one of {}", known.join(", "))
}

/// What people call a key.
fn is_word(key: &str) -> bool {
    key.len() <= 40 && key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn kind(found: &Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "true or false",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a whole number",
        Unexpected::Float(_) => "a number",
        Unexpected::Char(_) | Unexpected::Str(_) | Unexpected::Bytes(_) => "a string",
        Unexpected::Unit | Unexpected::Option => "nothing",
        Unexpected::Seq => "a list",
        Unexpected::Map => "a mapping",
        _ => "something else",
    }
}

/// serde's names of types, in the words of this file.
fn plain(expected: &str) -> String {
    match expected {
        "a map" => "a mapping".into(),
        "a sequence" => "a list".into(),
        "a boolean" => "true or false".into(),
        "u8" => "a whole number from 0 to 255".into(),
        "u16" => "a whole number from 0 to 65535".into(),
        "u32" => "a whole number from 0 to 4294967295".into(),
        "u64" | "usize" => "a whole number, 0 or more".into(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".into(),
        "f32" | "f64" => "a number".into(),
        expected if expected.starts_with("struct ") => "a mapping".into(),
        expected => expected.into(),
    }
}
