//! The key of a sealed file may be in another store: it is read there with the operator's token, too.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use keyward_config::Config;
use zeroize::Zeroizing;

use super::{SecretName, open_writer};
use crate::Secret;
use crate::store::{Nowhere, Outer, SINGLE, Selector, StoreError, StoreErrorKind, Values};

/// The other stores of a file, as an operator reaches them.
pub(super) struct OfOperator {
    pub(super) config: Arc<Config>,
    pub(super) token: Option<Arc<Secret>>,
}

impl Outer for OfOperator {
    fn read<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Zeroizing<String>, StoreError>> {
        Box::pin(async move {
            let malformed = |message: &str| StoreError::new(StoreErrorKind::Malformed, message);
            let name = SecretName::parse(&self.config, reference).map_err(|message| malformed(&message))?;
            let key = name.key().unwrap_or(SINGLE);
            let writer = open_writer(&self.config, name.store(), self.token.as_deref(), Arc::new(Nowhere))?;
            let held = writer.get(&name.0.path, None, Values::Shown).await?;
            let value = Selector::key(key).pick(&held.fields, &name.0.path)?;
            // Exposed: to the store whose key it is.
            let text = value.expose_str().ok_or_else(|| malformed("the value is not text"))?;
            Ok(Zeroizing::new(text.to_owned()))
        })
    }
}
