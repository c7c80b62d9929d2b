//! What an operator names: a secret of a store, or a folder of them.

use std::fmt;

use keyward_config::{Config, Name, Span, Spanned};

use crate::store::{Form, Reference, Scope};

/// A secret, as references name it: `corp:prod_db/data/mysql?password&version=3`.
pub struct SecretName(pub(super) Reference);

/// A folder of secrets: `corp:prod_db/data/team`, or `corp:` for all that there is.
pub struct Folder {
    store: Name,
    pub(super) path: String,
}

impl SecretName {
    /// Reads the name of a secret, in any spelling that the file takes. The store may be left out where the file has only one.
    ///
    /// # Errors
    /// Why it names none.
    pub fn parse(config: &Config, text: &str) -> Result<Self, String> {
        let reference = scope(config).reference(text)?;
        let path = &reference.path;
        if path.is_per_user() {
            return Err(format!("{path} is another secret for each user: write the user's name in it"));
        }
        match path.form() {
            Form::Kv | Form::Name => Ok(Self(reference)),
            Form::Dynamic | Form::StaticRole | Form::Sign => {
                let what = "is a role, which has no secret of its own; a KV secret of that name is written `mount/data/path`";
                Err(format!("{path} {what}"))
            }
        }
    }

    /// The store that it is in.
    #[must_use]
    pub fn store(&self) -> &str {
        self.0.store.as_str()
    }

    /// Its path there.
    #[must_use]
    pub fn path(&self) -> &str {
        self.0.path.as_str()
    }

    /// The key that is meant, if it is one.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.0.selector.as_ref().map(|key| key.as_str())
    }

    /// The version that is meant, if it is one.
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        self.0.path.version()
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.store(), self.path())
    }
}

impl Folder {
    /// Reads the name of a folder.
    ///
    /// # Errors
    /// Why it names none.
    pub fn parse(config: &Config, text: &str) -> Result<Self, String> {
        let text = text.trim();
        let whole = text.strip_suffix(':').unwrap_or(text);
        if let Some((store, _)) = config.stores.get_key_value(whole) {
            return Ok(Self { store: store.clone(), path: String::new() });
        }
        // A folder is what a secret can be in.
        let inside = scope(config).reference(&format!("{}/x", text.trim_end_matches('/')))?;
        let path = inside.path.as_str();
        Ok(Self { path: path.strip_suffix("/x").unwrap_or(path).to_owned(), store: inside.store })
    }

    /// The store that it is in.
    #[must_use]
    pub fn store(&self) -> &str {
        self.store.as_str()
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.store, self.path)
    }
}

/// All stores of the file. A single one need not be named.
fn scope(config: &Config) -> Scope<'_> {
    let mut stores = config.stores.values();
    let only: Option<&Spanned<Name>> = stores.next().filter(|_| stores.next().is_none()).map(|store| &store.name);
    Scope::new(&config.stores, only, "", Span::default())
}
