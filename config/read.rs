//! Any serde type from a node: a `Deserializer` that knows where it is.
//!
//! An error carries the place at which it arose and never the value. Keys that a struct does not know are left out and collected with
//! their places, because one mapping is read several times: for the generic keys and for those of its kind (`entry.rs`).

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{
    self, Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::node::{Entry, Node, Scalar, Span, Value};
use crate::{Settings, suggest};

/// What came of reading a node.
pub(crate) struct Reading<T> {
    pub(crate) value: Result<T, Failure>,
    pub(crate) unknown: Vec<Unknown>,
}

/// A key that the type does not know.
pub(crate) struct Unknown {
    /// The mapping that holds it, below the node that was read; empty for that node itself.
    pub(crate) path: String,
    pub(crate) key: String,
    pub(crate) span: Span,
    /// The keys that its struct knows.
    pub(crate) known: &'static [&'static str],
}

/// Reads a type from a node.
pub(crate) fn read<T: DeserializeOwned>(node: &Node) -> Reading<T> {
    let unknown = RefCell::default();
    let value = T::deserialize(Reader { node, path: &Path::Root, unknown: &unknown });
    Reading { value: value.map_err(|failure| failure.at(node.span, &Path::Root)), unknown: unknown.into_inner() }
}

/// Reads the settings type of a kind.
pub(crate) fn read_settings<T: DeserializeOwned + Send + Sync + 'static>(node: &Node) -> Reading<Settings> {
    let Reading { value, unknown } = read::<T>(node);
    Reading { value: value.map(|settings| Arc::new(settings) as Settings), unknown }
}

/// A value and where it stands. Behind a tagged enum, which serde buffers, the place is lost: line 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it begins.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// A value that stands there.
    pub const fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

impl<T> std::ops::Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Asks for line, column and value, in this order.
const SPANNED: &str = "$keyward::Spanned";
/// Asks for any scalar as text, as it is written.
const TEXT: &str = "$keyward::TextOr";
/// Asks for the text of the key that stands behind the dot, and then for the mapping without it.
pub(crate) const BY_KEY: &str = "$keyward::ByKey.";

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Spanned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Parts<T> {
            type Value = Spanned<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
                Ok(Spanned { value: T::deserialize(deserializer)?, span: Span::default() })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
                let missing = || A::Error::custom("a value without its place");
                let line = parts.next_element()?.ok_or_else(missing)?;
                let column = parts.next_element()?.ok_or_else(missing)?;
                Ok(Spanned { value: parts.next_element()?.ok_or_else(missing)?, span: Span { line, column } })
            }
        }
        deserializer.deserialize_newtype_struct(SPANNED, Parts(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A plain string, or a mapping that is read as `M`.
pub(crate) enum TextOr<M> {
    Text(Zeroizing<String>),
    Map(M),
}

impl<'de, M: Deserialize<'de>> Deserialize<'de> for TextOr<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<M>(PhantomData<M>);
        impl<'de, M: Deserialize<'de>> Visitor<'de> for Either<M> {
            type Value = TextOr<M>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a mapping")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
                deserializer.deserialize_any(self)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                self.visit_string(text.to_owned())
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Self::Value, E> {
                Ok(TextOr::Text(Zeroizing::new(text)))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                self.visit_string(number.to_string())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                M::deserialize(MapAccessDeserializer::new(map)).map(TextOr::Map)
            }
        }
        deserializer.deserialize_newtype_struct(TEXT, Either(PhantomData))
    }
}

/// The keys that lead to a node, innermost first.
pub(crate) enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(Path::Root, key) => f.write_str(&suggest::segment(key)),
            Self::Key(parent, key) => write!(f, "{parent}.{}", suggest::segment(key)),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

#[derive(Clone, Copy)]
struct Reader<'de, 'p> {
    node: &'de Node,
    path: &'p Path<'p>,
    unknown: &'p RefCell<Vec<Unknown>>,
}

impl<'de, 'p> Reader<'de, 'p> {
    fn wrong<T>(self, expected: &dyn de::Expected) -> Result<T, Failure> {
        Err(Failure::expected(expected, self.node.found()))
    }

    fn items(self, items: &'de [Node]) -> Items<'de, 'p> {
        Items { reader: self, items: items.iter().enumerate() }
    }

    /// With `known`, the keys that are not among them are collected and left out.
    fn keys(self, entries: &'de [Entry], known: Option<&'static [&'static str]>) -> Keys<'de, 'p> {
        if let Some(known) = known {
            let unknown = entries.iter().filter(|entry| !known.contains(&entry.key.as_str()));
            let record = |entry: &Entry| Unknown { path: self.path.to_string(), key: entry.key.value.clone(), span: entry.key.span, known };
            self.unknown.borrow_mut().extend(unknown.map(record));
        }
        Keys { reader: self, entries: entries.iter(), known, value: None }
    }
}

impl<'de> Deserializer<'de> for Reader<'de, '_> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.node.value {
            Value::Scalar(Scalar::Null, _) => visitor.visit_unit(),
            Value::Scalar(Scalar::Bool(value), _) => visitor.visit_bool(*value),
            Value::Scalar(Scalar::Int(value), _) => visitor.visit_i64(*value),
            Value::Scalar(Scalar::Float(value), _) => visitor.visit_f64(*value),
            Value::Scalar(Scalar::Str, text) => visitor.visit_str(text),
            Value::Seq(items) => visitor.visit_seq(self.items(items)),
            Value::Map(entries) => visitor.visit_map(self.keys(entries, None)),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.node.value {
            Value::Scalar(Scalar::Null, _) | Value::Seq(_) | Value::Map(_) => self.wrong(&visitor),
            Value::Scalar(_, text) => visitor.visit_str(text),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        // Most keys that may be left out narrow something down: one whose value somebody forgot would allow everything.
        if self.node.is_null() { Err(Failure::custom("has no value; leave the key out")) } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Failure> {
        match name {
            SPANNED => visitor.visit_seq(Placed { reader: self, part: 0 }),
            TEXT if matches!(self.node.value, Value::Map(_)) => self.deserialize_any(visitor),
            TEXT => self.deserialize_str(visitor),
            _ => match (name.strip_prefix(BY_KEY), &self.node.value) {
                (None, _) => visitor.visit_newtype_struct(self),
                (Some(key), Value::Map(entries)) => visitor.visit_seq(ByKey { reader: self, key, entries, part: 0 }),
                (Some(_), _) => self.wrong(&"a mapping"),
            },
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(self, _: &'static str, known: &'static [&'static str], visitor: V) -> Result<V::Value, Failure> {
        match &self.node.value {
            Value::Map(entries) => visitor.visit_map(self.keys(entries, Some(known))),
            _ => self.wrong(&"a mapping"),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(self, _: &'static str, words: &'static [&'static str], visitor: V) -> Result<V::Value, Failure> {
        match &self.node.value {
            Value::Scalar(Scalar::Null, _) | Value::Seq(_) => Err(Failure::one_of(words)),
            Value::Scalar(_, text) => visitor.visit_enum(StrDeserializer::new(text)),
            Value::Map(entries) => visitor.visit_enum(MapAccessDeserializer::new(self.keys(entries, None))),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple tuple_struct map identifier
    }
}

/// A value after its place.
struct Placed<'de, 'p> {
    reader: Reader<'de, 'p>,
    part: u8,
}

impl<'de> SeqAccess<'de> for Placed<'de, '_> {
    type Error = Failure;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Failure> {
        self.part = self.part.saturating_add(1);
        let Span { line, column } = self.reader.node.span;
        match self.part {
            1 => seed.deserialize(line.into_deserializer()).map(Some),
            2 => seed.deserialize(column.into_deserializer()).map(Some),
            3 => seed.deserialize(self.reader).map(Some),
            _ => Ok(None),
        }
    }
}

/// A mapping after the value of the key that says what it is.
struct ByKey<'de, 'p> {
    reader: Reader<'de, 'p>,
    key: &'static str,
    entries: &'de [Entry],
    part: u8,
}

impl<'de> SeqAccess<'de> for ByKey<'de, '_> {
    type Error = Failure;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Failure> {
        self.part = self.part.saturating_add(1);
        let Reader { node, path, unknown } = self.reader;
        if self.part == 1 {
            let entry = self.entries.iter().find(|entry| entry.key.as_str() == self.key);
            let entry = entry.ok_or_else(|| Failure::missing_field(self.key).at(node.span, path))?;
            let path = Path::Key(path, &entry.key);
            let word = seed.deserialize(Reader { node: &entry.value, path: &path, unknown });
            return word.map(Some).map_err(|failure| failure.at(entry.value.span, &path));
        }
        // The type that it chose does not know the key that chose it.
        let found = RefCell::default();
        let value = seed.deserialize(Reader { node, path, unknown: &found })?;
        let here = path.to_string();
        unknown.borrow_mut().extend(found.into_inner().into_iter().filter(|unknown| unknown.key != self.key || unknown.path != here));
        Ok(Some(value))
    }
}

struct Items<'de, 'p> {
    reader: Reader<'de, 'p>,
    items: std::iter::Enumerate<std::slice::Iter<'de, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'de, '_> {
    type Error = Failure;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Failure> {
        let Some((index, node)) = self.items.next() else { return Ok(None) };
        let path = Path::Index(self.reader.path, index);
        seed.deserialize(Reader { node, path: &path, unknown: self.reader.unknown })
            .map(Some)
            .map_err(|failure| failure.at(node.span, &path))
    }
}

struct Keys<'de, 'p> {
    reader: Reader<'de, 'p>,
    entries: std::slice::Iter<'de, Entry>,
    known: Option<&'static [&'static str]>,
    value: Option<&'de Entry>,
}

impl<'de> MapAccess<'de> for Keys<'de, '_> {
    type Error = Failure;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Failure> {
        let known = self.known;
        self.value = self.entries.find(|entry| known.is_none_or(|known| known.contains(&entry.key.as_str())));
        let Some(entry) = self.value else { return Ok(None) };
        let key: StrDeserializer<'_, Failure> = StrDeserializer::new(&entry.key);
        seed.deserialize(key).map(Some).map_err(|failure| failure.at(entry.key.span, self.reader.path))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Failure> {
        let entry = self.value.take().ok_or_else(|| Failure::custom("a value without a key"))?;
        let path = Path::Key(self.reader.path, &entry.key);
        let reader = Reader { node: &entry.value, path: &path, unknown: self.reader.unknown };
        seed.deserialize(reader).map_err(|failure| failure.at(entry.value.span, &path))
    }
}
