//! Values that somebody else writes where a store reads them: sealed first, so that he sees nothing of them.

use std::sync::Arc;

use keyward_config::Config;
use serde_json::Value;
use zeroize::Zeroizing;

use super::outer::OfOperator;
use super::{Change, SecretName, of_name};
use crate::Secret;
use crate::store::sealing::SealingKey;
use crate::store::{Input, Opening, StoreError, StoreErrorKind, Unobserved, Wants, blocking, wipe};

/// What a store opens its values by, in an operator's hand.
pub struct Seal(Input);

impl Seal {
    /// What an operator has to show to have the key of this store.
    ///
    /// # Errors
    /// There is no such store, it is switched off, or it reads nothing that others have sealed.
    pub fn wants(config: &Config, store: &str) -> Result<Wants, String> {
        let (entry, kind) = of_name(config, store)?;
        let sealing = kind.seal.as_ref();
        sealing
            .map(|sealing| (sealing.wants)(entry))
            .ok_or_else(|| format!("the store {store} is of type {}: it reads nothing that is sealed by itself", entry.kind))
    }

    /// Finds the key. Reads it when it is needed.
    ///
    /// # Errors
    /// As [`Self::wants`]; the store has no key.
    pub fn open(config: &Arc<Config>, store: &str, token: Option<Secret>) -> Result<Self, StoreError> {
        let wrong = |message: String| StoreError::new(StoreErrorKind::Disabled, message);
        Self::wants(config, store).map_err(wrong)?;
        let (entry, kind) = of_name(config, store).map_err(wrong)?;
        let outer = Arc::new(OfOperator { config: Arc::clone(config), token: token.map(Arc::new) });
        let (observer, stay) = (Arc::new(Unobserved), crate::store::Stay::Looks);
        let opening = Opening { store: entry, label: store, runner: None, stay, observer, outer, former: None };
        let key = kind.seal.as_ref().map(|sealing| (sealing.key)(&opening)).transpose().map_err(wrong)?;
        key.map(Self).ok_or_else(|| wrong("it reads nothing that is sealed by itself".to_owned()))
    }

    /// Seals one value.
    ///
    /// # Errors
    /// Those of reading the key. `Malformed`: the key is a passphrase that is too short.
    pub async fn value(&self, name: &SecretName, value: Secret) -> Result<String, StoreError> {
        let key = self.0.read().await?;
        let path = name.path().to_owned();
        blocking(move || {
            // Exposed: to be sealed.
            let sealed = SealingKey::new(&key).seal(&path, value.expose());
            sealed.map_err(|error| StoreError::new(StoreErrorKind::Malformed, format!("key: {error}")))
        })
        .await
    }

    /// Seals keys and values as one secret.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub async fn keys(&self, name: &SecretName, keys: &Change) -> Result<String, StoreError> {
        let mut secret = Value::Null;
        let text = keys.apply(&mut secret).map(|()| Zeroizing::new(secret.to_string()));
        wipe(&mut secret);
        self.value(name, Secret::from(text?.as_bytes().to_vec())).await
    }
}
