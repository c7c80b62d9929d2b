//! References in fields that are not secret by their nature: an address, a database's name. They are lifted out of the entry before it is read
//! for the check, and their values are put back in when a session needs them.

use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::node::{Entry, Node, Scalar, Span, Value};
use crate::protected::is_reference;
use crate::{Connection, Kinds, Name, Problems, ProtocolSettings, Spanned, scope, suggest};

/// The longest value, in bytes: no address and no name is longer.
const MAX_VALUE: usize = 4096;
/// What stands in the place of a value that nobody has asked for yet: it can be a host, a database, a path.
const UNKNOWN: &str = "in.the.store.invalid";
/// The keys of a connection in which a plain string is a reference, and those by which it is known before any store is asked.
const OWN: [&str; 12] = [
    "accounts",
    "credential",
    "username",
    "password",
    "private_key",
    "passphrase",
    "account",
    "protocol",
    "store",
    "runner",
    "hosts",
    "lease",
];

/// A reference where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where in the entry: `tls.server_name`.
    pub path: String,
    /// The reference as it is written, not parsed.
    pub text: String,
    /// Its line.
    pub span: Span,
}

/// An entry of `connections` that has references in other fields than those of its credentials.
#[derive(Clone)]
pub struct Template {
    name: Spanned<Name>,
    row: ProtocolSettings,
    node: Node,
    path: String,
    folder: PathBuf,
    found: Vec<Found>,
}

impl Node {
    /// Every reference in it: `{ secret: … }`, and strings in the spellings of other products.
    #[must_use]
    pub fn references(&self) -> Vec<Found> {
        let mut found = Vec::new();
        self.clone().lift("", &mut |at| found.push(at.clone()), &[]);
        found
    }

    /// Takes the references out, except below these keys, and puts [`UNKNOWN`] in their places.
    fn lift(self, path: &str, out: &mut impl FnMut(&Found), except: &[&str]) -> Self {
        if let Some(text) = self.reference() {
            out(&Found { path: path.to_owned(), text: text.to_owned(), span: self.span });
            return self.replaced(UNKNOWN);
        }
        let span = self.span;
        let value = match self.value {
            Value::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|Entry { key, value }| {
                        let step = suggest::segment(&key);
                        let path = if path.is_empty() { step } else { format!("{path}.{step}") };
                        let value = if except.contains(&key.as_str()) { value } else { value.lift(&path, out, &[]) };
                        Entry { key, value }
                    })
                    .collect(),
            ),
            Value::Seq(items) => {
                let numbered = items.into_iter().enumerate();
                Value::Seq(numbered.map(|(index, item)| item.lift(&format!("{path}[{index}]"), out, &[])).collect())
            }
            scalar @ Value::Scalar(..) => scalar,
        };
        Self { value, span }
    }

    /// The same with these values in the places of its references, in their order.
    fn filled(self, values: &mut impl Iterator<Item = Zeroizing<String>>, except: &[&str]) -> Self {
        if self.reference().is_some() {
            return match values.next() {
                Some(value) => self.replaced(&value),
                None => self,
            };
        }
        let span = self.span;
        let value = match self.value {
            Value::Map(entries) => {
                let fill = |Entry { key, value }| {
                    let value = if except.contains(&key.as_str()) { value } else { Self::filled(value, values, &[]) };
                    Entry { key, value }
                };
                Value::Map(entries.into_iter().map(fill).collect())
            }
            Value::Seq(items) => Value::Seq(items.into_iter().map(|item| item.filled(values, &[])).collect()),
            scalar @ Value::Scalar(..) => scalar,
        };
        Self { value, span }
    }

    fn reference(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(_, text) if is_reference(text) => Some(text),
            Value::Map(entries) => match entries.as_slice() {
                [Entry { key, value: Self { value: Value::Scalar(_, text), .. } }] if key.value == "secret" => Some(text),
                _ => None,
            },
            Value::Scalar(..) | Value::Seq(_) => None,
        }
    }

    fn replaced(&self, text: &str) -> Self {
        Self { value: Value::Scalar(Scalar::Str, Zeroizing::new(text.to_owned())), span: self.span }
    }
}

impl Template {
    /// The entry as it can be read now, and what has to be filled in later; `None`: nothing.
    pub(crate) fn lift(name: &Spanned<Name>, row: ProtocolSettings, node: &Node, path: &str) -> (Node, Option<Self>) {
        let mut found = Vec::new();
        let lifted = node.clone().lift("", &mut |at| found.push(at.clone()), &OWN);
        if found.is_empty() {
            return (lifted, None);
        }
        let (name, node, path) = (name.clone(), node.clone(), path.to_owned());
        (lifted, Some(Self { name, row, node, path, folder: scope::folder(), found }))
    }

    /// The references, in the order in which [`Self::fill`] takes their values.
    #[must_use]
    pub fn found(&self) -> &[Found] {
        &self.found
    }

    /// The entry with these values.
    ///
    /// # Errors
    /// One of them cannot be used where it belongs: the text names the fields that were filled, and no value.
    pub fn fill(&self, values: Vec<Zeroizing<String>>) -> Result<Connection, String> {
        let plain = values.iter().all(|value| is_plain(value));
        let node = self.node.clone().filled(&mut values.into_iter(), &OWN);
        let kinds = Kinds { protocols: std::slice::from_ref(&self.row), stores: &[] };
        let mut problems = Problems::new(std::path::Path::new(""));
        let read = || Connection::read(self.name.clone(), &node, &self.path, &kinds, &mut problems);
        let (connection, _) = scope::within(&self.folder, read);
        connection.filter(|_| plain && !problems.has_errors()).ok_or_else(|| {
            let fields: Vec<&str> = self.found.iter().map(|found| found.path.as_str()).collect();
            format!("{}: what the store has for {} cannot be used there", self.path, fields.join(", "))
        })
    }
}

/// One line of text that means itself: it is sent on as a name, and what a store holds leads to no further secret.
fn is_plain(value: &str) -> bool {
    value.len() <= MAX_VALUE && !value.chars().any(char::is_control) && !is_reference(value)
}

#[cfg(test)]
mod tests;
