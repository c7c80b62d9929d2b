//! What a store must do so that an operator can write to it (`keyward secret`). Sessions never come here: while it serves, Keyward only reads.

use futures_util::future::BoxFuture;
use keyward_config::SecretInput;
use serde_json::Value;

use super::credential::wipe;
use super::{Opening, SecretPath, StoreError, is_exact};
use crate::Secret;
use crate::operator::Change;

/// How a kind of store is written to.
pub(crate) struct Writing {
    /// Opens one for an operator, with the token that he showed. The login of the file is never used.
    pub(crate) open: OpenWriter,
    /// What he has to show to the store itself, beside what its key asks for.
    pub(crate) wants: Wants,
}

type OpenWriter = fn(&Opening<'_>, Option<&Secret>) -> Result<Box<dyn Writer>, StoreError>;

/// How values are sealed that others put where a kind of store reads them.
pub(crate) struct Sealing {
    /// What a store opens them by. `None`: its values are not sealed.
    pub(crate) key: fn(&keyward_config::Store) -> Option<&SecretInput>,
}

/// What an operator has to show to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wants {
    /// A token of his own.
    Token,
    /// Nothing: who may write its file and read its key may write its secrets.
    Nothing,
}

/// A store as an operator writes to it.
pub(crate) trait Writer: Send + Sync {
    /// Reads a secret. No version: the newest.
    fn get<'a>(&'a self, path: &'a SecretPath, version: Option<u64>, values: Values) -> BoxFuture<'a, Result<Held, StoreError>>;

    /// Changes a secret, or makes it. Where the store can help it, nobody's change of the same moment is lost.
    fn put<'a>(&'a self, path: &'a SecretPath, change: &'a Change) -> BoxFuture<'a, Result<Written, StoreError>>;

    /// What is in a folder, sorted; sub-folders end with `/`. `""` is the root.
    fn list<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Vec<String>, StoreError>>;

    /// Whether the secret at this path has versions. One that has none is gone when it is deleted.
    fn history<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<History, StoreError>>;

    /// Deletes versions; none named: the newest.
    fn delete<'a>(&'a self, path: &'a SecretPath, versions: &'a [u64]) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Takes the deletion of versions back.
    fn undelete<'a>(&'a self, path: &'a SecretPath, versions: &'a [u64]) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Destroys for good.
    fn destroy<'a>(&'a self, path: &'a SecretPath, what: &'a Destroy) -> BoxFuture<'a, Result<(), StoreError>>;

    /// What the store says of a secret beside its values.
    fn metadata<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<Metadata, StoreError>>;

    /// Changes what the store says of a secret.
    fn set_metadata<'a>(&'a self, path: &'a SecretPath, change: &'a MetadataChange) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// Which part of a secret is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// The names of its keys. Where the store and the token allow it, no value leaves the store.
    Hidden,
    /// Its values, too.
    Shown,
}

/// What a store keeps of a secret when it is changed or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// Its former versions.
    Kept,
    /// Nothing.
    None,
}

/// What is destroyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destroy {
    /// These versions.
    Versions(Vec<u64>),
    /// The secret with all that the store knows of it.
    All,
}

/// A secret as an operator reads it; zeroised when dropped.
pub struct Held {
    /// Without its values where they are hidden: each `null`.
    pub(crate) fields: Value,
    /// Which version it is. `None`: the store has none.
    pub version: Option<Version>,
}

impl Held {
    /// The same with as much of it as is wanted.
    pub(crate) fn with(mut self, values: Values) -> Self {
        if values == Values::Hidden {
            hide(&mut self.fields);
        }
        self
    }

    /// The names of its keys, sorted; those inside of others behind a dot: `db.password`.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        leaves(&self.fields, "", &mut |name, _| keys.push(name.to_owned()));
        keys
    }

    /// Each key with its value as text. A number that [`is_exact`] is not is said to be about that.
    #[must_use]
    pub fn values(&self) -> Vec<(String, Secret)> {
        let mut values = Vec::new();
        leaves(&self.fields, "", &mut |name, value| {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) if !is_exact(number) => format!("about {number}: it cannot be kept exactly"),
                other => other.to_string(),
            };
            values.push((name.to_owned(), Secret::from(text)));
        });
        values
    }

    /// All of it as JSON.
    #[must_use]
    pub fn json(&self) -> Secret {
        Secret::from(self.fields.to_string())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        wipe(&mut self.fields);
    }
}

fn hide(value: &mut Value) {
    match value {
        Value::Object(map) => map.values_mut().for_each(hide),
        other => {
            wipe(other);
            *other = Value::Null;
        }
    }
}

fn leaves(value: &Value, name: &str, each: &mut dyn FnMut(&str, &Value)) {
    match value {
        Value::Object(map) if name.is_empty() || !map.is_empty() => {
            for (key, value) in map {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                leaves(value, &name, each);
            }
        }
        _ => each(name, value),
    }
}

/// A version of a secret. Times are the store's own texts, with control characters escaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// From 1 on.
    pub number: u64,
    /// When it was written.
    pub created: String,
    /// When it was deleted, or will be.
    pub deleted: Option<String>,
    /// Its values are gone for good.
    pub destroyed: bool,
}

/// What a write did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The version that it made, where the store has versions.
    pub version: Option<u64>,
    /// The names of all keys that the secret has now.
    pub keys: Vec<String>,
}

/// What a store says of a secret beside its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The oldest first.
    pub versions: Vec<Version>,
    /// The one that is read where none is named.
    pub current: u64,
    /// How many versions are kept. 0: as many as the mount says.
    pub max_versions: u64,
    /// How long after its writing a version is deleted, as the store writes it. `0s`: never.
    pub delete_version_after: String,
    /// Whether who writes must say which version he changes.
    pub cas_required: bool,
    /// What operators noted on it. No secrets: whoever may list may read them.
    pub notes: Vec<(String, String)>,
}

/// What of a secret's metadata changes. `None`, or not named: stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataChange {
    /// See [`Metadata::max_versions`].
    pub max_versions: Option<u64>,
    /// See [`Metadata::delete_version_after`]: `720h`.
    pub delete_version_after: Option<String>,
    /// Of [`Metadata::notes`], these. An empty text takes a note away.
    pub notes: Vec<(String, String)>,
}

impl MetadataChange {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
