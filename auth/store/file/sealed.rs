//! One encrypted file of secrets: a JSON object of paths, each an object of keys, sealed as `store::sealing` does.
//!
//! ```text
//! keyward-sealed-file 1
//! v1:…                      sealed under the first line as its name: no value of another place can stand here
//! ```
//!
//! `keyward secret` writes it (write.rs) and a store of `type: file` reads it.

mod write;

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use rustix::fs::OFlags;
use serde_json::{Map, Value};

use super::settings::Settings;
use crate::SessionId;
use crate::store::calls::{Calls, blocking};
use crate::store::sealing::{SealError, SealingKey};
use crate::store::text;
use crate::store::{Document, Input, Opening, SecretPath, Store, StoreError, StoreErrorKind, StoreStatus, wipe};

pub(super) use self::write::WRITING;

/// The first line, and the name under which the rest is sealed.
const HEAD: &str = "keyward-sealed-file 1";
/// The longest file, in bytes.
const MAX: u64 = 4 * 1024 * 1024;

/// A store that is one sealed file.
struct SealedStore {
    calls: Calls,
    file: SealedFile,
    identity: String,
}

/// The file, and where its key is.
#[derive(Clone)]
struct SealedFile {
    path: Arc<Path>,
    key: Input,
}

/// What is in it; zeroised when dropped.
#[derive(Default)]
struct Content(Map<String, Value>);

/// Opens it for sessions. Does no I/O.
///
/// # Errors
/// The settings are not those of a sealed file.
pub(super) fn open(opening: &Opening<'_>) -> Result<Arc<dyn Store>, String> {
    let file = SealedFile::of(opening)?;
    let identity = format!("sealed file {}", file.path.display());
    Ok(Arc::new(SealedStore { calls: Calls::new(opening.label, &opening.observer), file, identity }))
}

impl Store for SealedStore {
    fn read<'a>(&'a self, _: SessionId, path: &'a SecretPath, _fresh: bool) -> BoxFuture<'a, Result<Document, StoreError>> {
        Box::pin(self.calls.make("read", async move {
            let mut content = self.file.content(self.calls.turn().await?).await?;
            let fields = content.0.remove(path.as_str()).ok_or_else(|| absent(path))?;
            let document = text::of_fields(fields);
            if document.fields.is_object() { Ok(document) } else { Err(malformed(path, "is no set of keys")) }
        }))
    }

    fn status(&self) -> BoxFuture<'_, Result<StoreStatus, StoreError>> {
        Box::pin(self.calls.make("status", async move {
            self.file.content(self.calls.turn().await?).await?;
            Ok(StoreStatus::tokenless("sealed file"))
        }))
    }

    fn identity(&self) -> &str {
        &self.identity
    }
}

impl SealedFile {
    fn of(opening: &Opening<'_>) -> Result<Self, String> {
        let settings = opening.store.settings.downcast_ref::<Settings>().ok_or("its settings are of another kind")?;
        let path = settings.sealed.as_ref().ok_or("it is a folder: other programs write its files")?;
        let missing = "`sealed` needs a `key`: { file: … } (`keyward secret key` makes one), { env: … } or { secret: … }";
        let key = settings.key.as_ref().ok_or(missing)?;
        Ok(Self { path: Arc::from(&**path), key: Input::new("key", key, &opening.outer) })
    }

    /// All of it, as it is now. `turn` is given back once the thread is through that reads it.
    ///
    /// # Errors
    /// `Unavailable`: there is no such file, or the disk fails. `Denied`: we may not read it. `LoginFailed`: the key is another one, or not
    /// there. `Malformed`: it is no sealed file.
    async fn content<T: Send + 'static>(&self, turn: T) -> Result<Content, StoreError> {
        let (path, key) = (Arc::clone(&self.path), self.key().await?);
        blocking(move || {
            let _turn = turn;
            let missing = || StoreError::new(StoreErrorKind::Unavailable, format!("{}: there is no such file", path.display()));
            read(&path, &key)?.ok_or_else(missing)
        })
        .await
    }

    async fn key(&self) -> Result<SealingKey, StoreError> {
        self.key.read().await.map(|text| SealingKey::new(&text))
    }
}

/// `None`: there is no such file. Blocks.
fn read(path: &Path, key: &SealingKey) -> Result<Option<Content>, StoreError> {
    let failed = |kind: StoreErrorKind, what: &str| StoreError::new(kind, format!("{}: {what}", path.display()));
    let io = |error: std::io::Error| match error.kind() {
        ErrorKind::PermissionDenied => failed(StoreErrorKind::Denied, "we may not read it"),
        _ => failed(StoreErrorKind::Unavailable, &error.to_string()),
    };
    // A pipe in its place must keep nobody waiting.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let mut file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.map_err(io)?,
    };
    if !file.metadata().map_err(io)?.is_file() {
        return Err(failed(StoreErrorKind::Malformed, "not a regular file"));
    }
    let bytes = read_bounded(&mut file).map_err(io)?.ok_or_else(|| failed(StoreErrorKind::Malformed, "longer than 4 MiB"))?;
    let text = std::str::from_utf8(&bytes).ok();
    let sealed = text.and_then(|text| text.strip_prefix(HEAD)).and_then(|rest| rest.strip_prefix('\n'));
    let sealed = sealed.ok_or_else(|| failed(StoreErrorKind::Malformed, "this is no sealed file, or one of a later version"))?;
    let plain = key.open(HEAD, sealed).map_err(|error| failed(kind_of(error), &error.to_string()))?;
    Content::parse(&plain).map(Some).ok_or_else(|| failed(StoreErrorKind::Malformed, "it holds no secrets"))
}

impl Content {
    /// `None`: it is not what we write.
    fn parse(plain: &[u8]) -> Option<Self> {
        match serde_json::from_slice(plain) {
            Ok(Value::Object(map)) => Some(Self(map)),
            Ok(mut other) => {
                wipe(&mut other);
                None
            }
            Err(_) => None,
        }
    }
}

/// `None`: it is too long.
fn read_bounded(file: &mut File) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    file.take(MAX.saturating_add(1)).read_to_end(&mut bytes)?;
    let fits = u64::try_from(bytes.len()).is_ok_and(|length| length <= MAX);
    Ok(Some(bytes).filter(|_| fits))
}

fn kind_of(error: SealError) -> StoreErrorKind {
    match error {
        SealError::WrongKey | SealError::OtherSort | SealError::ShortPassphrase => StoreErrorKind::LoginFailed,
        SealError::NotSealed => StoreErrorKind::Malformed,
        SealError::Machine => StoreErrorKind::Unavailable,
    }
}

fn absent(path: &SecretPath) -> StoreError {
    StoreError::new(StoreErrorKind::NotFound, format!("{path}: there is no such secret"))
}

fn malformed(path: &SecretPath, what: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Malformed, format!("{path}: {what}"))
}

impl Drop for Content {
    fn drop(&mut self) {
        self.0.values_mut().for_each(wipe);
    }
}

#[cfg(test)]
mod tests;
