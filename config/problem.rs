//! Everything that is wrong with a file, in one run, each with its place.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::Span;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used; someone should look.
    Warning,
}

/// One thing that is wrong. Its text never holds a value of the file, only names and keys.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The file.
    #[serde(serialize_with = "shown")]
    pub file: PathBuf,
    /// Where in the file; `None` for what has no place in it.
    pub span: Option<Span>,
    /// The keys that lead there, such as `connections.orders.tls`; empty for the file itself.
    pub path: String,
    /// What was expected.
    pub message: String,
    /// How bad it is.
    pub severity: Severity,
}

/// A name that is no UTF-8 has a problem, too.
fn shown<S: serde::Serializer>(file: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&file.display())
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(span) = self.span {
            write!(f, "{}:{}:", span.line, span.column)?;
        }
        if self.severity == Severity::Warning {
            f.write_str(" warning:")?;
        }
        if !self.path.is_empty() {
            write!(f, " {}:", self.path)?;
        }
        write!(f, " {}", self.message)
    }
}

/// A growing list of problems of one file; the first thousand are kept. `config` begins it; `auth` and the proxy add what only they can know.
#[derive(Clone, Debug)]
pub struct Problems {
    file: PathBuf,
    list: Vec<Problem>,
    errors: usize,
    /// Paths of which, and below which, another source says what there is.
    elsewhere: Vec<(String, PathBuf)>,
}

/// More than anyone reads; a file of nothing but duplicates holds a million.
const MAX: usize = 1000;

impl Problems {
    /// An empty list about this file.
    #[must_use]
    pub fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), list: Vec::new(), errors: 0, elsewhere: Vec::new() }
    }

    /// Adds what makes the file unusable. `path` is the keys that lead there; `message` says what was expected and must not hold
    /// a value of the file.
    pub fn error(&mut self, span: impl Into<Option<Span>>, path: impl Into<String>, message: impl Into<String>) {
        self.add(span.into(), path.into(), message.into(), Severity::Error);
    }

    /// Adds what someone should look at. Arguments as for [`Self::error`].
    pub fn warning(&mut self, span: impl Into<Option<Span>>, path: impl Into<String>, message: impl Into<String>) {
        self.add(span.into(), path.into(), message.into(), Severity::Warning);
    }

    /// Says something of another source than the file: its name is the one of the place.
    pub fn elsewhere<T>(&mut self, source: &Path, say: impl FnOnce(&mut Self) -> T) -> T {
        let file = std::mem::replace(&mut self.file, source.to_owned());
        let said = say(self);
        self.file = file;
        said
    }

    /// From now on, what is said of this path, or of one below it, is said of this source.
    pub(crate) fn is_from(&mut self, path: String, source: PathBuf) {
        self.elsewhere.push((path, source));
    }

    /// Whether anything makes the file unusable.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many there are, of both severities.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The problems in the order of the file; those without a place come first, those of other sources last.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        let mut sorted: Vec<&Problem> = self.list.iter().collect();
        sorted.sort_by_key(|problem| ((problem.file != self.file).then_some(&problem.file), problem.span));
        sorted.into_iter()
    }

    /// Whether further problems would not be kept, so that nobody need look for them.
    pub(crate) fn is_full(&self) -> bool {
        self.list.len() >= MAX && self.has_errors()
    }

    fn add(&mut self, span: Option<Span>, path: String, message: String, severity: Severity) {
        // What was read out of a tagged enum has lost its place; line 0 says so.
        let span = span.filter(|span| span.line > 0);
        let error = severity == Severity::Error;
        let below = |from: &String| path.strip_prefix(from.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        let file = self.elsewhere.iter().rev().find(|(from, _)| below(from)).map_or(&self.file, |(_, source)| source).clone();
        let said =
            |said: &Problem| (&said.file, said.span, &said.path, &said.message, said.severity) == (&file, span, &path, &message, severity);
        // A file that is read for several uses is told of once.
        if self.list.iter().any(said) {
            return;
        }
        if self.list.len() < MAX || (error && self.errors == 0) {
            self.list.push(Problem { file, span, path, message, severity });
        }
        self.errors = self.errors.saturating_add(usize::from(error));
    }
}

/// One problem a line, in the order of the file.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|problem| writeln!(f, "{problem}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_shown_in_the_order_of_the_file() {
        let mut problems = Problems::new(Path::new("keyward.yaml"));
        assert!(problems.is_empty() && !problems.has_errors());
        problems.warning(Span { line: 12, column: 5 }, "connections.orders", "second");
        assert!(!problems.has_errors());
        problems.error(Span { line: 2, column: 1 }, "state", "first");
        problems.error(None, "", "no place");
        assert!(problems.has_errors());
        let shown = "keyward.yaml: no place\nkeyward.yaml:2:1: state: first\nkeyward.yaml:12:5: warning: connections.orders: second\n";
        assert_eq!(problems.to_string(), shown);
    }

    #[test]
    fn what_was_said_is_not_said_again() {
        let mut problems = Problems::new(Path::new("keyward.yaml"));
        let span = Span { line: 2, column: 1 };
        (0..2).for_each(|_| problems.error(span, "state", "first"));
        problems.error(Span { line: 3, column: 1 }, "state", "first");
        problems.error(span, "state", "second");
        assert_eq!(problems.len(), 3);
    }

    #[test]
    fn what_is_said_of_another_source_names_it_and_comes_last() {
        let mut problems = Problems::new(Path::new("keyward.yaml"));
        problems.elsewhere(Path::new("LIST"), |problems| problems.error(Span { line: 1, column: 9 }, "[0]", "of the list"));
        problems.is_from("stores.corp".to_owned(), "LIST".into());
        problems.is_from("stores.corp.timeout".to_owned(), "VARIABLE".into());
        problems.error(None, "stores.corp.timeout", "of the variable");
        problems.error(Span { line: 2, column: 1 }, "stores.corp[0]", "below");
        problems.error(Span { line: 3, column: 1 }, "stores.corporation", "of the file");
        let shown = "keyward.yaml:3:1: stores.corporation: of the file\nLIST:1:9: [0]: of the list\nLIST:2:1: stores.corp[0]: below\n\
                     VARIABLE: stores.corp.timeout: of the variable\n";
        assert_eq!(problems.to_string(), shown);
    }

    #[test]
    fn a_flood_of_problems_is_bounded_and_hides_no_error() {
        let mut problems = Problems::new(Path::new("keyward.yaml"));
        (0..5000).for_each(|n| problems.warning(None, "", format!("warning {n}")));
        assert_eq!((problems.len(), problems.has_errors()), (1000, false));
        problems.error(None, "", "the one that counts");
        assert!(problems.has_errors() && problems.to_string().contains("the one that counts"));
        (0..5000).for_each(|n| problems.error(None, "", format!("error {n}")));
        assert_eq!(problems.len(), 1001);
    }
}
