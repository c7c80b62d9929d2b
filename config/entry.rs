//! One entry of the file, read in parts: the generic keys, and beside them in the same mapping those of its kind.

use std::collections::HashSet;

use serde::de::DeserializeOwned;

use crate::failure::{Failure, unknown_key};
use crate::node::Value;
use crate::read::{self, Reading, Unknown};
use crate::{Node, Problems, Section, Settings, Spanned, suggest};

/// An entry and what no part of it has known so far.
pub(crate) struct Entry<'a> {
    pub(crate) node: &'a Node,
    pub(crate) path: &'a str,
    unknown: Option<Vec<Unknown>>,
    known: Vec<&'static str>,
    /// One error an entry: the second part often fails over the same thing.
    failed: bool,
}

impl<'a> Entry<'a> {
    pub(crate) fn new(node: &'a Node, path: &'a str) -> Self {
        Self { node, path, unknown: None, known: Vec::new(), failed: false }
    }

    /// Reads the keys of `T`. `None`: a problem says why, or said so of an earlier part.
    pub(crate) fn part<T: DeserializeOwned>(&mut self, problems: &mut Problems) -> Option<T> {
        self.take(read::read(self.node), problems)
    }

    /// Reads the keys of a kind.
    pub(crate) fn settings(&mut self, section: Section, problems: &mut Problems) -> Option<Settings> {
        self.take((section.read)(self.node), problems)
    }

    /// The keys that no part has known so far.
    pub(crate) fn unknown(&self) -> Vec<Spanned<String>> {
        self.unknown.iter().flatten().map(|unknown| Spanned::new(unknown.key.clone(), unknown.span)).collect()
    }

    /// After the last part: a key is unknown if no part knew it. `false`: a part could not be read.
    pub(crate) fn finish(self, problems: &mut Problems) -> bool {
        for unknown in self.unknown.unwrap_or_default() {
            if problems.is_full() {
                break;
            }
            problems.error(unknown.span, self.path, unknown_key(&unknown.key, self.known.iter().copied()));
        }
        !self.failed
    }

    fn take<T>(&mut self, reading: Reading<T>, problems: &mut Problems) -> Option<T> {
        let (own, nested): (Vec<_>, Vec<_>) = reading.unknown.into_iter().partition(|unknown| unknown.path.is_empty());
        for unknown in nested {
            let message = unknown_key(&unknown.key, unknown.known.iter().copied());
            problems.error(unknown.span, joined(self.path, &unknown.path), message);
        }
        self.known.extend(own.first().map_or(&[][..], |unknown| unknown.known));
        self.unknown = Some(match self.unknown.take() {
            None => own,
            Some(before) => {
                let own: HashSet<&str> = own.iter().map(|unknown| unknown.key.as_str()).collect();
                before.into_iter().filter(|unknown| own.contains(unknown.key.as_str())).collect()
            }
        });
        match reading.value {
            Ok(value) => Some(value),
            Err(Failure { message, place }) => {
                let (span, below) = place.unwrap_or_else(|| (self.node.span(), String::new()));
                if !self.failed {
                    problems.error(span, joined(self.path, &below), message);
                }
                self.failed = true;
                None
            }
        }
    }
}

/// A path below another one.
pub(crate) fn joined(path: &str, below: &str) -> String {
    match (path, below) {
        ("", path) | (path, "") => path.to_owned(),
        (path, below) if below.starts_with('[') => format!("{path}{below}"),
        (path, below) => format!("{path}.{below}"),
    }
}

/// The row that an entry's `protocol` or `type` names. `None`: a problem lists the words.
pub(crate) fn row<'k, R>(
    node: &Node,
    path: &str,
    key: &str,
    rows: &'k [R],
    name: fn(&R) -> &'static str,
    problems: &mut Problems,
) -> Option<&'k R> {
    let words = || rows.iter().map(name);
    let expected = || words().collect::<Vec<_>>().join(", ");
    let Some(written) = node.get(key) else {
        // Of what is no mapping, the parts have said so.
        if matches!(node.value, Value::Map(_)) {
            problems.error(node.span(), path, format!("the key {} is missing: one of {}", suggest::quoted(key), expected()));
        }
        return None;
    };
    // What is no word at all is a problem of the part that has the key.
    let word = read::read::<String>(written).value.ok()?;
    let row = rows.iter().find(|row| name(row) == word);
    if row.is_none() {
        let suggestion = suggest::did_you_mean(&word, words());
        problems.error(written.span(), joined(path, key), format!("expected one of {}{suggestion}", expected()));
    }
    row
}
