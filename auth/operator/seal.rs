//! Values that somebody else writes where a store reads them: sealed first, so that he sees nothing of them.

use std::sync::Arc;

use keyward_config::{Config, SecretInput};
use serde_json::Value;
use zeroize::Zeroizing;

use super::outer::{self, OfOperator, Token};
use super::{Change, SecretName, of_name};
use crate::Secret;
use crate::store::sealing::SealingKey;
use crate::store::{Input, Outer, StoreError, StoreErrorKind, blocking, wipe};

/// What a store opens its values by, in an operator's hand.
pub struct Seal(Input);

impl Seal {
    /// The store to which an operator has to show a token of his own to have the key of this one.
    ///
    /// # Errors
    /// There is no such store, it is switched off, or it reads nothing that others have sealed. Or two of them would want a token.
    pub fn wants_token(config: &Config, store: &str) -> Result<Option<String>, String> {
        let key = key(config, store)?;
        let reference = if let Some(SecretInput::Reference(text)) = key { Some(text.clone()) } else { None };
        outer::wants_token(config, reference)
    }

    /// Finds the key. Reads it when it is needed.
    ///
    /// # Errors
    /// As [`Self::wants_token`]; the store has no key.
    pub fn open(config: &Arc<Config>, store: &str, token: Option<Secret>) -> Result<Self, StoreError> {
        let wrong = |message: &str| StoreError::new(StoreErrorKind::Disabled, message);
        let key = key(config, store).map_err(|message| wrong(&message))?;
        let key = key.ok_or_else(|| wrong("the store has no `key`: its values are not sealed"))?;
        let token = Token::of(Self::wants_token(config, store).map_err(|message| wrong(&message))?, token);
        let outer: Arc<dyn Outer> = Arc::new(OfOperator::of(config, token.as_ref(), store));
        Ok(Self(Input::new("key", key, &outer)))
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

/// What the store opens its values by.
fn key<'a>(config: &'a Config, store: &str) -> Result<Option<&'a SecretInput>, String> {
    let (entry, kind) = of_name(config, store)?;
    let sealing = kind.seal.as_ref();
    sealing
        .map(|sealing| (sealing.key)(entry))
        .ok_or_else(|| format!("the store {store} is of type {}: it reads nothing that is sealed by itself", entry.kind))
}
