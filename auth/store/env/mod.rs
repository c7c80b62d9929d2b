//! Environment variables of Keyward's own process, as a store: `env:ORDERS_PASSWORD`.
//!
//! A process keeps its environment as it was at the start: what changes here is seen at the next one. Everybody who may look into
//! `/proc/PID/environ` sees it, which is why files are better.

mod settings;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use keyward_config::{Section, StoreSettings};
use zeroize::Zeroizing;

use self::settings::Settings;
use super::calls::Calls;
use super::text::{self, Shape};
use super::{Document, Kind, Opening, SecretPath, Store, StoreError, StoreErrorKind, StoreStatus};
use crate::SessionId;

/// The row of this kind.
pub(super) const KIND: Kind = Kind {
    settings: StoreSettings { name: "env", settings: Section::of::<Settings>(), from_environment: None },
    roles: false,
    open,
    runners: |_| Vec::new(),
    files: |_| Vec::new(),
    write: None,
    seal: None,
};

/// Looks a variable up.
pub(super) type Lookup = Arc<dyn Fn(&str) -> Option<OsString> + Send + Sync>;

pub(super) struct Env {
    calls: Calls,
    prefix: String,
    lookup: Lookup,
    identity: String,
}

fn open(opening: &Opening<'_>) -> Result<Arc<dyn Store>, String> {
    Ok(Arc::new(Env::open(opening, Arc::new(|name: &str| std::env::var_os(name)))?))
}

impl Env {
    pub(super) fn open(opening: &Opening<'_>, lookup: Lookup) -> Result<Self, String> {
        let settings = opening.store.settings.downcast_ref::<Settings>().ok_or("its settings are of another kind")?;
        let prefix = settings.prefix.clone().unwrap_or_default();
        if !prefix.is_empty() && !is_name(&prefix) {
            return Err("`prefix` is what names of variables begin with: letters, digits and _".to_owned());
        }
        let identity = format!("env {prefix}");
        Ok(Self { calls: Calls::new(opening.label, &opening.observer), prefix, lookup, identity })
    }

    fn get(&self, path: &SecretPath) -> Result<Document, StoreError> {
        let fail = |kind, what: &str| Err(StoreError::new(kind, format!("{path}: {what}")));
        if !is_name(path.as_str()) {
            return fail(StoreErrorKind::Malformed, "the name of a variable has letters, digits and _, and no digit first");
        }
        if !path.as_str().starts_with(&self.prefix) {
            return fail(StoreErrorKind::Denied, &format!("this store has only variables that begin with {}", self.prefix));
        }
        let Some(value) = (self.lookup)(path.as_str()) else {
            return fail(StoreErrorKind::NotFound, "there is no such variable");
        };
        let bytes = Zeroizing::new(value.into_vec());
        if bytes.len() > text::MAX {
            return fail(StoreErrorKind::Malformed, "it is longer than 1 MiB");
        }
        text::document(path, text::utf8(path, bytes)?, Shape::Any)
    }
}

impl Store for Env {
    fn read<'a>(&'a self, _: SessionId, path: &'a SecretPath, _fresh: bool) -> BoxFuture<'a, Result<Document, StoreError>> {
        Box::pin(self.calls.make("read", async { self.get(path) }))
    }

    fn status(&self) -> BoxFuture<'_, Result<StoreStatus, StoreError>> {
        Box::pin(async { Ok(StoreStatus::tokenless("environment")) })
    }

    fn identity(&self) -> &str {
        &self.identity
    }
}

/// A name that shells can set, too.
fn is_name(name: &str) -> bool {
    let inner = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    inner && name.len() <= 255 && name.starts_with(|first: char| !first.is_ascii_digit())
}
