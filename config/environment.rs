//! What the environment of the process adds to the stores of the file: keys that an entry lacks, and whole entries. Which variables there
//! are is the business of each kind ([`StoreSettings::from_environment`](crate::StoreSettings)). What the file says wins.

use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::node::{Entry, Scalar, Value};
use crate::{Node, Problems, Span, Spanned};

/// Asks for a variable of the environment.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What a kind of store takes from the environment.
#[derive(Clone, Copy)]
pub struct FromEnvironment {
    /// Keys that an entry lacks.
    pub keys: fn(&Node, Variables<'_>) -> Vec<Taken>,
    /// Whole entries, for the file whose stores have these names.
    pub stores: fn(Variables<'_>, &[&str], &mut Problems) -> Vec<Declared>,
}

/// One key that an entry of the file lacks, or a word about it.
pub struct Taken {
    /// The key.
    pub key: &'static str,
    /// The variable that has it.
    pub variable: String,
    /// What it says.
    pub given: Given,
}

/// What a variable says of a key.
pub enum Given {
    /// Its value.
    Value(Node),
    /// Nothing that can be used: what was expected, without the value.
    Wrong(String),
    /// Something that someone should look at.
    Warning(String),
}

/// A whole store that the environment declares.
pub struct Declared {
    /// What connections call it.
    pub name: Spanned<String>,
    /// Its entry, in the words of the file, less `type`.
    pub node: Node,
    /// What declares it, and what its places are places of: the name of a variable, or a file that one names.
    pub source: PathBuf,
    /// The variable.
    pub variable: &'static str,
    /// Why it cannot be asked, though nothing is wrong with its entry: it is switched off then.
    pub unusable: Option<String>,
}

/// Where a store of a configuration is from, beside its entry in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The variable that declares it. `None`: the file does.
    pub declared: Option<&'static str>,
    /// Its keys that the environment gave, each with its variable.
    pub keys: Vec<(&'static str, String)>,
    /// Why it cannot be asked.
    pub unusable: Option<String>,
}

impl Node {
    /// A text that stands there; `Span::default()` is no place.
    #[must_use]
    pub fn of_text(text: &str, span: Span) -> Self {
        Self { value: Value::Scalar(Scalar::Str, Zeroizing::new(text.to_owned())), span }
    }

    /// `true` or `false`.
    #[must_use]
    pub fn of_bool(value: bool, span: Span) -> Self {
        Self { value: Value::Scalar(Scalar::Bool(value), Zeroizing::new(value.to_string())), span }
    }

    /// A mapping. Of a key that is given twice, the first counts.
    #[must_use]
    pub fn of_map(entries: impl IntoIterator<Item = (&'static str, Self)>, span: Span) -> Self {
        let mut node = Self { value: Value::Map(Vec::new()), span };
        entries.into_iter().for_each(|(key, value)| node.complete(key, value));
        node
    }

    /// Adds a key to a mapping that lacks it.
    pub(crate) fn complete(&mut self, key: &str, value: Self) {
        let span = value.span;
        if let Value::Map(entries) = &mut self.value
            && !entries.iter().any(|entry| entry.key.value == key)
        {
            entries.push(Entry { key: Spanned::new(key.to_owned(), span), value });
        }
    }
}
