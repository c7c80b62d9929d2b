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
