//! What the reading of a file knows beside its text: the folder that relative paths start from, and whether a secret was met.
//!
//! A thread-local for the length of one read, not an argument: serde hands none through, least of all through a tagged enum
//! (`auth: { method: … }`), whose fields it buffers first. Reading is synchronous and the scope ends with it.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

#[derive(Default)]
struct State {
    folder: PathBuf,
    secret: bool,
}

thread_local! {
    static SCOPE: RefCell<State> = RefCell::default();
}

/// Reads with relative paths starting at `folder`. The second value tells whether the file holds secrets or password verifiers.
pub(crate) fn within<T>(folder: &Path, read: impl FnOnce() -> T) -> (T, bool) {
    let outer = SCOPE.replace(State { folder: folder.to_owned(), secret: false });
    let result = read();
    (result, SCOPE.replace(outer).secret)
}

/// The folder that relative paths start from.
pub(crate) fn folder() -> PathBuf {
    SCOPE.with_borrow(|state| state.folder.clone())
}

/// A secret stands in the file itself.
pub(crate) fn saw_secret() {
    SCOPE.with_borrow_mut(|state| state.secret = true);
}

/// A path in the file. Relative ones start at the file's own folder.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FilePath(PathBuf);

impl FilePath {
    /// The path itself.
    #[must_use]
    pub fn into_path(self) -> PathBuf {
        self.0
    }
}

impl AsRef<Path> for FilePath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl std::ops::Deref for FilePath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl<'de> Deserialize<'de> for FilePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() || text.contains('\0') {
            return Err(serde::de::Error::custom("expected the path of a file"));
        }
        Ok(Self(SCOPE.with_borrow(|state| state.folder.join(text))))
    }
}

impl JsonSchema for FilePath {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "FilePath".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "A path; a relative one starts at the folder of this file.", "type": "string", "minLength": 1 })
    }
}

/// For a field that holds the path as such: `#[serde(deserialize_with = "…")]`.
pub(crate) fn optional_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    Ok(Option::<FilePath>::deserialize(deserializer)?.map(FilePath::into_path))
}
