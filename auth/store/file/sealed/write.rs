//! How an operator writes the sealed file: one at a time, and whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, ready};
use rustix::fs::{FlockOperation, flock};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{Content, HEAD, MAX, SealedFile, absent, kind_of, malformed, read};
use crate::Secret;
use crate::operator::Change;
use crate::store::calls::blocking;
use crate::store::sealing::SealingKey;
use crate::store::writer::{Destroy, Held, History, Metadata, MetadataChange, Values, Wants, Writer, Writing, Written};
use crate::store::{Opening, SecretPath, StoreError, StoreErrorKind, wipe};

/// How a sealed file is written to.
pub(in crate::store::file) const WRITING: Writing = Writing { open, wants: Wants::Nothing };

/// How long somebody else may take to write it.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);

fn open(opening: &Opening<'_>, _: Option<&Secret>) -> Result<Box<dyn Writer>, StoreError> {
    SealedFile::of(opening).map(|file| Box::new(file) as Box<dyn Writer>).map_err(|what| StoreError::new(StoreErrorKind::Malformed, what))
}

impl SealedFile {
    /// Changes what is in it. Nobody else does at the same time.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Map<String, Value>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (path, key) = (Arc::clone(&self.path), self.key().await?);
        blocking(move || {
            // A link stays a link.
            let path = std::fs::canonicalize(&path).unwrap_or_else(|_| path.to_path_buf());
            let _lock = lock(&path)?;
            let mut content = read(&path, &key)?.unwrap_or_default();
            let done = change(&mut content.0)?;
            replace(&path, &content, &key)?;
            Ok(done)
        })
        .await
    }

    async fn remove(&self, path: &SecretPath) -> Result<(), StoreError> {
        let path = path.clone();
        let taken = self.change(move |all| all.remove(path.as_str()).ok_or_else(|| absent(&path)));
        taken.await.map(|mut former| wipe(&mut former))
    }
}

impl Writer for SealedFile {
    fn get<'a>(&'a self, path: &'a SecretPath, _: Option<u64>, values: Values) -> BoxFuture<'a, Result<Held, StoreError>> {
        Box::pin(async move {
            let mut content = self.content(()).await?;
            let fields = content.0.remove(path.as_str()).ok_or_else(|| absent(path))?;
            Ok(Held { fields, version: None }.with(values))
        })
    }

    fn put<'a>(&'a self, path: &'a SecretPath, change: &'a Change) -> BoxFuture<'a, Result<Written, StoreError>> {
        let (path, change) = (path.as_str().to_owned(), change.copy());
        Box::pin(self.change(move |all| {
            let secret = all.entry(path).or_insert(Value::Null);
            change.apply(secret)?;
            let keys = secret.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
            Ok(Written { version: None, keys })
        }))
    }

    fn list<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Vec<String>, StoreError>> {
        Box::pin(async move {
            let begin = if folder.is_empty() { String::new() } else { format!("{folder}/") };
            let content = self.content(()).await?;
            let inside = content.0.keys().filter_map(|path| path.strip_prefix(&begin));
            let mut names: Vec<String> = inside.map(|rest| rest.split_inclusive('/').next().unwrap_or_default().to_owned()).collect();
            names.sort_unstable();
            names.dedup();
            let nothing = || StoreError::new(StoreErrorKind::NotFound, format!("{folder}: there is nothing in it"));
            if names.is_empty() && !folder.is_empty() { Err(nothing()) } else { Ok(names) }
        })
    }

    fn history<'a>(&'a self, _: &'a SecretPath) -> BoxFuture<'a, Result<History, StoreError>> {
        Box::pin(ready(Ok(History::None)))
    }

    fn delete<'a>(&'a self, path: &'a SecretPath, versions: &'a [u64]) -> BoxFuture<'a, Result<(), StoreError>> {
        if versions.is_empty() { Box::pin(self.remove(path)) } else { no_versions(path) }
    }

    fn undelete<'a>(&'a self, path: &'a SecretPath, _: &'a [u64]) -> BoxFuture<'a, Result<(), StoreError>> {
        no_versions(path)
    }

    fn destroy<'a>(&'a self, path: &'a SecretPath, what: &'a Destroy) -> BoxFuture<'a, Result<(), StoreError>> {
        match what {
            Destroy::All => Box::pin(self.remove(path)),
            Destroy::Versions(_) => no_versions(path),
        }
    }

    fn metadata<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<Metadata, StoreError>> {
        no_versions(path)
    }

    fn set_metadata<'a>(&'a self, path: &'a SecretPath, _: &'a MetadataChange) -> BoxFuture<'a, Result<(), StoreError>> {
        no_versions(path)
    }
}

fn no_versions<'a, T: Send + 'a>(path: &SecretPath) -> BoxFuture<'a, Result<T, StoreError>> {
    Box::pin(ready(Err(malformed(path, "a sealed file keeps neither versions nor metadata"))))
}

/// Held while it is written. The folder is locked, since the file itself is another one afterwards.
fn lock(path: &Path) -> Result<File, StoreError> {
    let folder = folder_of(path);
    let failed = |error: String| StoreError::new(StoreErrorKind::Unavailable, format!("the folder {}: {error}", folder.display()));
    let lock = File::open(&folder).map_err(|error| failed(error.to_string()))?;
    let end = Instant::now().checked_add(PATIENCE);
    while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        if end.is_none_or(|end| Instant::now() >= end) {
            return Err(failed("somebody else is writing in it, for 10 s by now".to_owned()));
        }
        std::thread::sleep(LOOK);
    }
    Ok(lock)
}

fn folder_of(path: &Path) -> PathBuf {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Writes it anew beside the old one and puts it in its place: who reads it meanwhile has the one or the other.
fn replace(path: &Path, content: &Content, key: &SealingKey) -> Result<(), StoreError> {
    let failed = |what: String| StoreError::new(StoreErrorKind::Unavailable, format!("{}: {what}", path.display()));
    let plain = Zeroizing::new(serde_json::to_vec(&content.0).map_err(|_| failed("it cannot be written as JSON".to_owned()))?);
    // What could not be read again would take all the other secrets with it.
    let useless = |what: &str| StoreError::new(StoreErrorKind::Malformed, format!("{}: {what}; nothing was written", path.display()));
    Content::parse(&plain).ok_or_else(|| useless("the secret is nested too deeply to be read again"))?;
    let sealed = key.seal(HEAD, &plain).map_err(|error| StoreError::new(kind_of(error), format!("{}: {error}", path.display())))?;
    let text = format!("{HEAD}\n{sealed}\n");
    if u64::try_from(text.len()).is_ok_and(|length| length > MAX) {
        return Err(useless("a sealed file has at most 4 MiB"));
    }
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let written = write_as_before(path, &fresh, &text).and_then(|()| std::fs::rename(&fresh, path));
    if let Err(error) = written {
        let _ = std::fs::remove_file(&fresh);
        return Err(failed(error.to_string()));
    }
    // That it has this name survives a power cut, too.
    File::open(folder_of(path)).and_then(|folder| folder.sync_all()).map_err(|error| failed(error.to_string()))
}

/// A new file is its writer's alone. One that was there stays its owner's and its group's: Keyward may run as another user than the operator.
fn write_as_before(path: &Path, fresh: &Path, text: &str) -> std::io::Result<()> {
    // What a writer left that was killed.
    let _ = std::fs::remove_file(fresh);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(fresh)?;
    if let Ok(before) = std::fs::metadata(path) {
        let ours = file.metadata()?;
        if (before.uid(), before.gid()) != (ours.uid(), ours.gid()) {
            fchown(&file, Some(before.uid()), Some(before.gid()))?;
        }
        file.set_permissions(std::fs::Permissions::from_mode(before.mode() & 0o640 | 0o600))?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
