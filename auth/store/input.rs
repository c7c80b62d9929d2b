//! What a store needs for itself: its token, the password of its role. In the file, in a file or a variable that it names, or in another
//! store (`{ secret: store:path?key }`).

use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use keyward_config::{Protected, SecretInput};
use zeroize::Zeroizing;

use super::{StoreError, StoreErrorKind, plan};

/// The stores that another one's own credentials may be in.
pub(crate) trait Outer: Send + Sync {
    /// Reads one value past the cache: it is asked for at a login, which is rare and may follow a refusal of the former one. What opens sealed
    /// values is asked for at each read of one: those are what the cache of their own store spares, and a key that was withdrawn opens nothing
    /// more.
    ///
    /// # Errors
    /// The store's. `Malformed`: the text is no reference, or its store may not be asked by this one.
    fn read<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Zeroizing<String>, StoreError>>;
}

/// No other store at all.
#[cfg(test)]
pub(crate) struct Nowhere;

#[cfg(test)]
impl Outer for Nowhere {
    fn read<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Zeroizing<String>, StoreError>> {
        Box::pin(std::future::ready(Err(StoreError::new(StoreErrorKind::Disabled, "there is no other store"))))
    }
}

/// A secret of a store's own. Read anew each time: what is behind it rotates.
#[derive(Clone)]
pub(crate) struct Input {
    /// The key in the file, for messages: `auth.secret_id`.
    key: &'static str,
    input: Arc<SecretInput>,
    outer: Arc<dyn Outer>,
}

impl Input {
    pub(crate) fn new(key: &'static str, input: &SecretInput, outer: &Arc<dyn Outer>) -> Self {
        Self { key, input: Arc::new(plan::copy(input)), outer: Arc::clone(outer) }
    }

    /// The file that it is in, if it is in one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match &*self.input {
            SecretInput::File(path) => Some(path),
            SecretInput::Literal(_) | SecretInput::Env(_) | SecretInput::Reference(_) => None,
        }
    }

    /// The value as it is now, without blanks around it: never empty.
    ///
    /// # Errors
    /// `LoginFailed`: there is none here. Another store's own errors, where it is there. Never with a value in it.
    pub(crate) async fn read(&self) -> Result<Zeroizing<String>, StoreError> {
        let failed = |message: String| StoreError::new(StoreErrorKind::LoginFailed, format!("{}: {message}", self.key));
        let text = match &*self.input {
            SecretInput::Reference(reference) => {
                let text = self.outer.read(reference).await;
                text.map_err(|error| StoreError::new(error.kind, format!("{}: {}", self.key, error.detail)))?
            }
            SecretInput::Literal(_) | SecretInput::File(_) | SecretInput::Env(_) => {
                let text = read(&self.input).await.map_err(failed)?;
                // Exposed: to the store that it is for.
                Zeroizing::new(text.expose().to_owned())
            }
        };
        let text = Zeroizing::new(text.trim().to_owned());
        if text.is_empty() { Err(failed("it is empty".to_owned())) } else { Ok(text) }
    }
}

/// What the file has, or names, as it is now. Away from the runtime's threads: a file may be on a network.
///
/// # Errors
/// What is wrong with it, without the value.
pub(super) async fn read(input: &Arc<SecretInput>) -> Result<Protected, String> {
    let input = Arc::clone(input);
    tokio::task::spawn_blocking(move || input.read()).await.unwrap_or_else(|_| Err("the read was cut off".to_owned()))
}
