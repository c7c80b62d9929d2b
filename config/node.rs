//! The YAML file as a tree that knows its lines. Called by `load.rs`; read into types by `read.rs`.
//!
//! YAML 1.2.2 with the scalars of its core schema (§10.3), less what a configuration has no need of: anchors, aliases, merge keys and
//! tags are problems, and so is a second document. The text of every scalar is kept, so that a string may be written without quotes.

use std::collections::HashSet;

use saphyr_parser::{Event, Parser, ScalarStyle};
use zeroize::Zeroizing;

use crate::{Problems, Spanned, suggest};

/// The deepest nesting of lists and mappings; the deepest that any section needs is below ten.
const MAX_DEPTH: usize = 32;

/// A place in the file. Both count from 1; line 0 is no place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Span {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// A piece of the file. Equality ignores places and the order of keys, so that it tells whether a reload changed an entry.
/// It may hold secrets: no `Debug`, and its texts are zeroised when dropped.
#[derive(Clone)]
pub struct Node {
    pub(crate) value: Value,
    pub(crate) span: Span,
}

/// What a node is.
#[derive(Clone)]
pub(crate) enum Value {
    /// A scalar and its text as written, without quotes.
    Scalar(Scalar, Zeroizing<String>),
    Seq(Vec<Node>),
    /// Without duplicates.
    Map(Vec<Entry>),
}

/// What a scalar means by itself.
#[derive(Clone, Copy)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str,
}

/// One key of a mapping.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) key: Spanned<String>,
    pub(crate) value: Node,
}

impl Node {
    /// An empty mapping that stands nowhere.
    #[must_use]
    pub fn empty() -> Self {
        Self { value: Value::Map(Vec::new()), span: Span::default() }
    }

    /// Where it begins.
    #[must_use]
    pub fn span(&self) -> Span {
        self.span
    }

    /// The value of this key, where this is a mapping that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|entry| entry.key.value == key).map(|entry| &entry.value)
    }

    /// Where this key is written, where this is a mapping that has it; else where the node begins.
    #[must_use]
    pub fn span_of(&self, key: &str) -> Span {
        self.entries().iter().find(|entry| entry.key.value == key).map_or(self.span, |entry| entry.key.span)
    }

    /// The keys of a mapping; of anything else, none.
    pub(crate) fn entries(&self) -> &[Entry] {
        if let Value::Map(entries) = &self.value { entries } else { &[] }
    }

    /// The items of a list; of anything else, none.
    pub(crate) fn items(&self) -> &[Self] {
        if let Value::Seq(items) = &self.value { items } else { &[] }
    }

    /// Whether it is written without a value.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self.value, Value::Scalar(Scalar::Null, _))
    }

    /// What kind of thing this is, in the words of an error.
    pub(crate) fn found(&self) -> &'static str {
        match &self.value {
            Value::Scalar(Scalar::Null, _) => "nothing",
            Value::Scalar(Scalar::Bool(_), _) => "true or false",
            Value::Scalar(Scalar::Int(_), _) => "a whole number",
            Value::Scalar(Scalar::Float(_), _) => "a number",
            Value::Scalar(Scalar::Str, _) => "a string",
            Value::Seq(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Value::Scalar(a, text), Value::Scalar(b, other)) => std::mem::discriminant(a) == std::mem::discriminant(b) && text == other,
            (Value::Seq(a), Value::Seq(b)) => a == b,
            (Value::Map(a), Value::Map(b)) => {
                a.len() == b.len() && a.iter().all(|entry| other.get(&entry.key.value).is_some_and(|value| *value == entry.value))
            }
            _ => false,
        }
    }
}

/// Builds the tree of one document. `None`: it is no YAML, or empty; a problem says which. What was left out of a tree is a problem too.
pub(crate) fn build(text: &str, problems: &mut Problems) -> Option<Node> {
    let mut builder = Builder { frames: Vec::new(), root: None, problems };
    let mut parser = Parser::new_from_str(text);
    let mut documents = 0_usize;
    while let Some(event) = parser.next_event() {
        let (event, place) = match event {
            Ok((event, place)) => (event, at(place.start)),
            Err(error) => {
                builder.problem(at(*error.marker()), format!("this is no YAML: {}", error.info().escape_debug()));
                return None;
            }
        };
        match event {
            Event::DocumentStart(_) if documents > 0 => {
                builder.problem(place, "a second document begins here; the file has exactly one".into());
                return None;
            }
            Event::DocumentStart(_) => documents = documents.saturating_add(1),
            event => builder.event(event, place)?,
        }
    }
    let root = builder.root.take();
    if root.is_none() {
        builder.problem(Span { line: 1, column: 1 }, "the file is empty".into());
    }
    root
}

fn at(marker: saphyr_parser::Marker) -> Span {
    Span { line: marker.line(), column: marker.col().saturating_add(1) }
}

/// The nodes that are still open, outermost first.
struct Builder<'a> {
    frames: Vec<Frame>,
    root: Option<Node>,
    problems: &'a mut Problems,
}

enum Frame {
    Seq { span: Span, items: Vec<Node> },
    Map { span: Span, entries: Vec<Entry>, seen: HashSet<String>, key: Key },
}

/// What a mapping waits for.
enum Key {
    Wanted,
    /// The value of this key.
    Given(Spanned<String>),
    /// The value of a key that is a problem; it is dropped.
    Refused,
}

impl Builder<'_> {
    /// `None`: too deep to go on.
    fn event(&mut self, event: Event<'_>, span: Span) -> Option<()> {
        match event {
            Event::Alias(_) => {
                self.problem(span, "an alias (*name): write the value out".into());
                self.node(Node { value: Value::Scalar(Scalar::Null, Zeroizing::default()), span });
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.properties(anchor, tag.is_some(), span);
                self.scalar(text.into_owned(), style, span);
            }
            Event::SequenceStart(anchor, tag) => {
                self.properties(anchor, tag.is_some(), span);
                self.open(Frame::Seq { span, items: Vec::new() }, span)?;
            }
            Event::MappingStart(anchor, tag) => {
                self.properties(anchor, tag.is_some(), span);
                self.open(Frame::Map { span, entries: Vec::new(), seen: HashSet::new(), key: Key::Wanted }, span)?;
            }
            Event::SequenceEnd | Event::MappingEnd => match self.frames.pop() {
                Some(Frame::Seq { span, items }) => self.node(Node { value: Value::Seq(items), span }),
                Some(Frame::Map { span, entries, .. }) => self.node(Node { value: Value::Map(entries), span }),
                None => {}
            },
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {}
        }
        Some(())
    }

    fn properties(&mut self, anchor: usize, tagged: bool, span: Span) {
        if anchor != 0 {
            self.problem(span, "an anchor (&name): there are no aliases here, so that what is written is what counts".into());
        }
        if tagged {
            self.problem(span, "a tag (!name): tags mean nothing here".into());
        }
    }

    fn open(&mut self, frame: Frame, span: Span) -> Option<()> {
        if self.frames.len() >= MAX_DEPTH {
            self.problem(span, format!("nested deeper than {MAX_DEPTH} levels"));
            return None;
        }
        self.frames.push(frame);
        Some(())
    }

    fn scalar(&mut self, text: String, style: ScalarStyle, span: Span) {
        let text = Zeroizing::new(text);
        let Some(Frame::Map { seen, key: key @ Key::Wanted, .. }) = self.frames.last_mut() else {
            let meaning = if style == ScalarStyle::Plain { meaning(&text) } else { Scalar::Str };
            return self.node(Node { value: Value::Scalar(meaning, text), span });
        };
        if text.as_str() == "<<" && style == ScalarStyle::Plain {
            *key = Key::Refused;
            self.problem(span, "a merge key (<<): write the keys out".into());
        } else if !seen.insert(String::clone(&text)) {
            *key = Key::Refused;
            let shown = suggest::quoted(&text);
            self.problem(span, format!("the key {shown} is here twice"));
        } else {
            *key = Key::Given(Spanned::new(String::clone(&text), span));
        }
    }

    /// A node is whole: it goes where it belongs.
    fn node(&mut self, node: Node) {
        match self.frames.last_mut() {
            None => self.root = Some(node),
            Some(Frame::Seq { items, .. }) => items.push(node),
            Some(Frame::Map { entries, key, .. }) => match std::mem::replace(key, Key::Wanted) {
                Key::Given(key) => entries.push(Entry { key, value: node }),
                Key::Refused => {}
                Key::Wanted => {
                    *key = Key::Refused;
                    self.problem(node.span, "a list or a mapping as a key: a key is a word".into());
                }
            },
        }
    }

    fn problem(&mut self, span: Span, message: String) {
        let mut path = String::new();
        for frame in &self.frames {
            match frame {
                Frame::Seq { items, .. } => path.push_str(&format!("[{}]", items.len())),
                Frame::Map { key: Key::Given(key), .. } => {
                    path.push_str(if path.is_empty() { "" } else { "." });
                    path.push_str(&suggest::segment(key));
                }
                Frame::Map { .. } => {}
            }
        }
        self.problems.error(span, path, message);
    }
}

/// The core schema's meaning of a plain scalar. A number with a leading zero stays a string: it is more often a name than a number.
fn meaning(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "true" | "True" | "TRUE" => return Scalar::Bool(true),
        "false" | "False" | "FALSE" => return Scalar::Bool(false),
        _ => {}
    }
    let digits = text.trim_start_matches(['+', '-']);
    if text.len() > digits.len().saturating_add(1)
        || (digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()))
    {
        return Scalar::Str;
    }
    let whole = match (text.get(..2), text.get(2..)) {
        (Some("0x"), Some(hex)) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => i64::from_str_radix(hex, 16).ok(),
        (Some("0o"), Some(octal)) if octal.bytes().all(|b| b.is_ascii_digit()) => i64::from_str_radix(octal, 8).ok(),
        _ => text.parse().ok(),
    };
    if let Some(number) = whole {
        return Scalar::Int(number);
    }
    let float = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'))
        && digits.contains(['.', 'e', 'E'])
        && digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    match text.parse() {
        Ok(number) if float => Scalar::Float(number),
        _ => Scalar::Str,
    }
}
