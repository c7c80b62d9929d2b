//! A mapping of which one key says what the others are: `auth: { method: approle, role_id: … }`.
//!
//! serde's own way, the internally tagged enum, buffers the mapping first: places are lost, unknown keys have none, and a text that looks
//! like a number is one by then (`007` is `7`). A type that is read by [`by_key`] keeps all three where the file is ours to read; from
//! anything else it is read in serde's way.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Deserializer, Error, SeqAccess, Visitor};

use crate::read::BY_KEY;

/// An enum of which each variant holds the keys of one word.
pub trait ByKey: Sized {
    /// The key that says which, behind `$keyward::ByKey.`.
    const NAME: &'static str;
    /// Every word.
    const WORDS: &'static [&'static str];

    /// Reads the keys of a word. `None`: there is no such word.
    ///
    /// # Errors
    /// What [`Keys::read`] says.
    fn of<'de, A: SeqAccess<'de>>(word: &str, keys: Keys<A>) -> Option<Result<Self, A::Error>>;

    /// Reads all of it in serde's way.
    ///
    /// # Errors
    /// The deserializer's.
    fn buffered<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

/// The keys beside the one that says what they are.
pub struct Keys<A>(A);

impl<'de, A: SeqAccess<'de>> Keys<A> {
    /// Reads them as a struct.
    ///
    /// # Errors
    /// The deserializer's.
    pub fn read<T: DeserializeOwned>(mut self) -> Result<T, A::Error> {
        self.0.next_element()?.ok_or_else(|| A::Error::custom("a mapping without its keys"))
    }
}

/// Reads such an enum.
///
/// # Errors
/// The key is missing, its word is unknown, or the keys of that word are wrong.
pub fn by_key<'de, T: ByKey, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_newtype_struct(T::NAME, Parts(PhantomData))
}

struct Parts<T>(PhantomData<T>);

impl<'de, T: ByKey> Visitor<'de> for Parts<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a mapping with the key {}", T::NAME.trim_start_matches(BY_KEY))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        T::buffered(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<T, A::Error> {
        let word: Option<String> = parts.next_element()?;
        let word = word.ok_or_else(|| A::Error::custom("a mapping without its word"))?;
        T::of(&word, Keys(parts)).unwrap_or_else(|| Err(A::Error::unknown_variant(&word, T::WORDS)))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::{Problems, node, read};

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(tag = "method", rename_all = "lowercase", remote = "Self")]
    enum Auth {
        Pin(Pin),
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Pin {
        pin: String,
    }

    impl ByKey for Auth {
        const NAME: &'static str = "$keyward::ByKey.method";
        const WORDS: &'static [&'static str] = &["pin"];

        fn of<'de, A: SeqAccess<'de>>(word: &str, keys: Keys<A>) -> Option<Result<Self, A::Error>> {
            (word == "pin").then(|| keys.read().map(Self::Pin))
        }

        fn buffered<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Self::deserialize(deserializer)
        }
    }

    impl<'de> Deserialize<'de> for Auth {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            by_key(deserializer)
        }
    }

    /// What is read, or the problem with its place; and the keys that nobody knows, with theirs.
    fn of_text(text: &str) -> (Result<Auth, String>, Vec<String>) {
        let node = node::build(text, &mut Problems::new(std::path::Path::new("x"))).unwrap();
        let reading = read::read::<Auth>(&node);
        let place = |failure: crate::failure::Failure| {
            let (span, path) = failure.place.unwrap();
            format!("{}:{}: {path}: {}", span.line, span.column, failure.message)
        };
        let unknown = reading.unknown.iter().map(|unknown| format!("{}:{} {}", unknown.span.line, unknown.span.column, unknown.key));
        (reading.value.map_err(place), unknown.collect())
    }

    #[test]
    fn what_looks_like_a_number_stays_the_text_that_was_written() {
        for pin in ["007", "1e5", "0x10", "true", "~x"] {
            let read = of_text(&format!("{{ pin: {pin}, method: pin }}"));
            assert_eq!(read, (Ok(Auth::Pin(Pin { pin: pin.to_owned() })), Vec::new()));
        }
        // Not from the file: then it is as serde has it.
        let json = serde_json::json!({"method": "pin", "pin": "007"});
        assert_eq!(serde_json::from_value::<Auth>(json).unwrap(), Auth::Pin(Pin { pin: "007".to_owned() }));
    }

    #[test]
    fn every_problem_has_its_place() {
        let known = |text| of_text(text).0.unwrap_err();
        assert_eq!(known("\nmethod: pin\npin: [1]\n"), "3:6: pin: expected a string, found a list");
        assert_eq!(known("method: s3cret\npin: 1\n"), "1:1: : expected one of pin");
        assert_eq!(known("pin: 1\n"), "1:1: : the key \"method\" is missing");
        assert_eq!(known("method: pin\n"), "1:1: : the key \"pin\" is missing");
        assert_eq!(known("[pin]"), "1:1: : expected a mapping, found a list");
        assert_eq!(of_text("method: pin\npin: 1\n  \npan: 2\n").1, ["4:1 pan"]);
    }
}
