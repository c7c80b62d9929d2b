//! What an operator does with the secrets of a store (`keyward secret`): writes them, looks at them, takes them back.
//!
//! He shows a token of his own. The file's login is never used: Keyward's own policy lets it read what its connections name, and no more.
//! What a kind of store has to do for it is `store::writer`; vault/write.rs and file/sealed.rs do it.

mod change;
mod name;
mod outer;
mod seal;

use std::sync::Arc;

use keyward_config::Config;

pub use self::change::{Change, Others};
pub use self::name::{Folder, SecretName};
use self::outer::{OfOperator, Token};
pub use self::seal::Seal;
use crate::Secret;
use crate::store::sealing::SealingKey;
pub use crate::store::{Destroy, Held, History, Metadata, MetadataChange, Values, Version, Written};
use crate::store::{Kind, Opening, Outer, Selector, StoreError, StoreErrorKind, Unobserved, Wants, Writer, Writing};

/// The secrets of one store, open for one operator.
pub struct Secrets(Box<dyn Writer>);

impl Secrets {
    /// The store to which an operator has to show a token of his own to reach the one of this name: that one, or the one that has its key.
    ///
    /// # Errors
    /// There is none, it is switched off, or secrets of its kind are not written by Keyward. Or two of them would want a token.
    pub fn wants_token(config: &Config, store: &str) -> Result<Option<String>, String> {
        let (found, writing) = find(config, store)?;
        let key = || outer::wants_token(config, found.node.references().into_iter().map(|found| found.text));
        if writing.wants == Wants::Token { Ok(Some(store.to_owned())) } else { key() }
    }

    /// Opens the store of this name. Asks nobody yet.
    ///
    /// # Errors
    /// As [`Self::wants_token`]; the token is none; the store's settings cannot be used.
    pub fn open(config: &Arc<Config>, store: &str, token: Option<Secret>) -> Result<Self, StoreError> {
        let wants = Self::wants_token(config, store).map_err(|message| StoreError::new(StoreErrorKind::Disabled, message))?;
        let token = Token::of(wants, token);
        let outer = Arc::new(OfOperator::of(config, token.as_ref(), store));
        open_writer(config, store, Token::for_store(token.as_ref(), store), outer).map(Self)
    }

    /// Reads a secret. `version` before the name's own; neither: the newest.
    ///
    /// # Errors
    /// The store's: `NotFound` says whether it never was, was deleted, or was destroyed.
    pub async fn get(&self, name: &SecretName, version: Option<u64>, values: Values) -> Result<Held, StoreError> {
        self.0.get(&name.0.path, version, values).await
    }

    /// The one value that a connection would get by this key.
    ///
    /// # Errors
    /// As [`Self::get`]. `Malformed`: there is no such key, or no text behind it.
    pub async fn value(&self, name: &SecretName, key: &str, version: Option<u64>) -> Result<Secret, StoreError> {
        let held = self.get(name, version, Values::Shown).await?;
        Selector::key(key).pick(&held.fields, &name.0.path)
    }

    /// Changes a secret, or makes it. Where the store has versions, nobody's change of the same moment is lost.
    ///
    /// # Errors
    /// The store's.
    pub async fn put(&self, name: &SecretName, change: &Change) -> Result<Written, StoreError> {
        self.0.put(&name.0.path, change).await
    }

    /// What is in a folder, sorted; sub-folders end with `/`.
    ///
    /// # Errors
    /// The store's. `NotFound`: there is nothing in it.
    pub async fn list(&self, folder: &Folder) -> Result<Vec<String>, StoreError> {
        self.0.list(&folder.path).await
    }

    /// Whether a secret can be had back that was deleted.
    ///
    /// # Errors
    /// The store's.
    pub async fn history(&self, name: &SecretName) -> Result<History, StoreError> {
        self.0.history(&name.0.path).await
    }

    /// Deletes versions; none named: the newest. Without a history, the secret.
    ///
    /// # Errors
    /// The store's.
    pub async fn delete(&self, name: &SecretName, versions: &[u64]) -> Result<(), StoreError> {
        self.0.delete(&name.0.path, versions).await
    }

    /// Takes the deletion of versions back.
    ///
    /// # Errors
    /// The store's. `Malformed`: it keeps no versions.
    pub async fn undelete(&self, name: &SecretName, versions: &[u64]) -> Result<(), StoreError> {
        self.0.undelete(&name.0.path, versions).await
    }

    /// Destroys for good.
    ///
    /// # Errors
    /// The store's. `Malformed`: it keeps no versions, and one was named.
    pub async fn destroy(&self, name: &SecretName, what: &Destroy) -> Result<(), StoreError> {
        self.0.destroy(&name.0.path, what).await
    }

    /// What the store says of a secret beside its values.
    ///
    /// # Errors
    /// The store's. `Malformed`: it keeps no versions.
    pub async fn metadata(&self, name: &SecretName) -> Result<Metadata, StoreError> {
        self.0.metadata(&name.0.path).await
    }

    /// Changes what the store says of a secret.
    ///
    /// # Errors
    /// The store's. `NotFound`: there is no such secret.
    pub async fn set_metadata(&self, name: &SecretName, change: &MetadataChange) -> Result<(), StoreError> {
        self.0.set_metadata(&name.0.path, change).await
    }
}

/// A new key for a sealed file: 32 random bytes in base64.
///
/// # Errors
/// The machine has no random numbers.
pub fn make_key() -> Result<Secret, String> {
    // Exposed: into another `Secret`.
    SealingKey::make().map(|text| Secret::from(text.as_bytes().to_vec())).map_err(|error| error.to_string())
}

fn open_writer(config: &Config, store: &str, token: Option<&Secret>, outer: Arc<dyn Outer>) -> Result<Box<dyn Writer>, StoreError> {
    let (store, writing) = find(config, store).map_err(|message| StoreError::new(StoreErrorKind::Disabled, message))?;
    let label = store.name.value.as_str();
    let (observer, stay) = (Arc::new(Unobserved), crate::store::Stay::Looks);
    (writing.open)(&Opening { store, label, runner: None, stay, observer, outer, former: None }, token)
}

fn find<'a>(config: &'a Config, name: &str) -> Result<(&'a keyward_config::Store, &'static Writing), String> {
    let (store, kind) = of_name(config, name)?;
    let writing = kind.write.as_ref();
    writing
        .map(|writing| (store, writing))
        .ok_or_else(|| format!("the store {name} is of type {}: its secrets are written elsewhere", store.kind))
}

fn of_name<'a>(config: &'a Config, name: &str) -> Result<(&'a keyward_config::Store, &'static Kind), String> {
    let store = config.stores.get(name).ok_or_else(|| {
        let names: Vec<&str> = config.stores.keys().map(|name| name.as_str()).collect();
        format!("there is no store {}; there are: {}", name.escape_debug(), names.join(", "))
    })?;
    if let Some(why) = store.off() {
        return Err(why);
    }
    let kind = Kind::of(store).ok_or("there is no such kind of store")?;
    Ok((store, kind))
}
