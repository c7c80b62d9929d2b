//! A folder of secrets, as Docker and Kubernetes mount them (vault.md §15.5).
//!
//! Nothing outside of it is ever opened, wherever links lead (openat2(2), `RESOLVE_BENEATH`). Kubernetes changes all files of a volume at one
//! moment, by turning the link `..data` to another folder: whoever reads several reads them behind one state of that link.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2};
use rustix::io::Errno;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::store::text::{self, Shape};
use crate::store::{Document, SecretPath, StoreError, StoreErrorKind};

/// The link that Kubernetes turns.
const CURRENT: &str = "..data";
/// Files of one folder that are read as one secret.
const MAX_FILES: usize = 256;
/// How often a read begins again because the folder was turned, or a link was, while it went on.
const TRIES: usize = 8;
/// How many files are remembered as warned of.
const MAX_WARNED: usize = 1000;
/// A pipe must keep nobody waiting, and no terminal become ours.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
/// Whose files we may know by name need not let us list them.
const ROOT: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Permission of others to read a file, and to go through a folder.
const OTHERS_READ: u32 = 0o004;
const OTHERS_PASS: u32 = 0o001;

pub(super) struct Folder {
    path: PathBuf,
    /// The store's name in the log.
    label: String,
    /// The files of which the log has said that others can read them.
    warned: Mutex<BTreeSet<String>>,
}

/// Why there is no secret, or not yet.
enum Stopped {
    Failed(StoreError),
    /// What was read is of two states of the folder.
    Turned,
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

impl Folder {
    pub(super) fn new(path: &Path, label: &str) -> Self {
        Self { path: path.to_owned(), label: label.to_owned(), warned: Mutex::default() }
    }

    /// Reads the secret at this path. Blocks.
    ///
    /// # Errors
    /// `Unavailable`: the folder itself is not there or the disk fails. `Denied`: a link leads out, or we may not read it. `NotFound`.
    /// `Malformed`: no file and no folder, not text, too long, no JSON where the name says so.
    pub(super) fn read(&self, path: &SecretPath) -> Result<Document, StoreError> {
        check_names(path)?;
        for _ in 0..TRIES {
            match self.try_read(path) {
                Ok(document) => return Ok(document),
                Err(Stopped::Failed(error)) => return Err(error),
                Err(Stopped::Turned) => {}
            }
        }
        Err(StoreError::new(StoreErrorKind::Unavailable, format!("{path}: it changes all the time")))
    }

    /// Whether the folder is there and we may go into it. Blocks.
    ///
    /// # Errors
    /// `Unavailable`, `Denied`.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        openat(self.open()?, ".", ROOT, Mode::empty()).map(drop).map_err(|error| self.gone(error))
    }

    fn open(&self) -> Result<OwnedFd, StoreError> {
        openat(CWD, &self.path, ROOT, Mode::empty()).map_err(|error| self.gone(error))
    }

    fn gone(&self, error: Errno) -> StoreError {
        let kind = if matches!(error, Errno::ACCESS | Errno::PERM) { StoreErrorKind::Denied } else { StoreErrorKind::Unavailable };
        StoreError::new(kind, format!("the folder {}: {error}", self.path.display()))
    }

    fn try_read(&self, path: &SecretPath) -> Result<Document, Stopped> {
        let root = self.open()?;
        let file = beneath(root.as_fd(), path.as_str(), READ, path)?;
        let stat = stat(&file, path)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                self.warn_of_others(&root, path.as_str(), &stat);
                let mut text = text::utf8(path, read_bounded(file, path, text::MAX)?)?;
                text::without_newline(&mut text);
                let shape = if path.as_str().ends_with(".json") { Shape::Object } else { Shape::Any };
                Ok(text::document(path, text, shape)?)
            }
            FileType::Directory => self.read_folder(&root, &file, path),
            _ => Err(malformed(path, "neither a regular file nor a folder").into()),
        }
    }

    /// A folder is a secret whose keys are its files, all behind one state of its volume.
    fn read_folder(&self, root: &OwnedFd, folder: &OwnedFd, path: &SecretPath) -> Result<Document, Stopped> {
        let Some(state) = current(folder, path)? else { return self.read_files(root, folder, &format!("{path}/"), path) };
        let secret = self.read_files(&state, &state, "", path);
        // The files of a former state are removed once the link is turned: what was read after that may lack some.
        let now = current(folder, path)?.ok_or(Stopped::Turned)?;
        let (then, now) = (stat(&state, path)?, stat(&now, path)?);
        if (then.st_dev, then.st_ino) == (now.st_dev, now.st_ino) { secret } else { Err(Stopped::Turned) }
    }

    /// Reads the files that `folder` lists; each is opened beneath `from`, with `prefix` before its name.
    fn read_files(&self, from: &OwnedFd, folder: &OwnedFd, prefix: &str, path: &SecretPath) -> Result<Document, Stopped> {
        // Wiped with it if a later file cannot be read.
        let mut secret = text::of_fields(Value::Object(Map::new()));
        let mut room = text::MAX;
        for name in names(folder, path)? {
            let file = beneath(from.as_fd(), &format!("{prefix}{name}"), READ, path)?;
            let stat = stat(&file, path)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => {}
                // A secret of its own, by its own path.
                FileType::Directory => continue,
                _ => return Err(malformed(path, &format!("{name} is no regular file")).into()),
            }
            self.warn_of_others(from, &format!("{path}/{name}"), &stat);
            let bytes = read_bounded(file, path, room)?;
            room = room.saturating_sub(bytes.len());
            if let Value::Object(fields) = &mut secret.fields {
                fields.insert(name, value(path, bytes));
            }
        }
        Ok(secret)
    }

    /// Tells the admin once of each file.
    fn warn_of_others(&self, root: &OwnedFd, name: &str, stat: &Stat) {
        let passes = fstat(root).is_ok_and(|root| root.st_mode & OTHERS_PASS != 0);
        if !passes || stat.st_mode & OTHERS_READ == 0 {
            return;
        }
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.len() < MAX_WARNED && warned.insert(name.to_owned()) {
            tracing::warn!(store = self.label, file = name, "everybody on this machine can read this secret");
        }
    }
}

/// A file that is no text is a value that no reference can pick: it lies there for others.
fn value(path: &SecretPath, bytes: Zeroizing<Vec<u8>>) -> Value {
    let Ok(mut text) = text::utf8(path, bytes) else { return Value::Null };
    text::without_newline(&mut text);
    Value::String(std::mem::take(&mut *text))
}

/// Names as Docker and Kubernetes allow them. What begins with a dot is theirs, or hidden.
fn check_names(path: &SecretPath) -> Result<(), StoreError> {
    if path.segments().all(is_name) {
        return Ok(());
    }
    Err(malformed(path, "the name of a file has letters, digits and . _ - and does not begin with a dot"))
}

fn is_name(name: &str) -> bool {
    let inner = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    inner && !name.is_empty() && !name.starts_with('.')
}

/// The state of a volume as it is now. `None`: it is no volume of Kubernetes.
fn current(folder: &OwnedFd, path: &SecretPath) -> Result<Option<OwnedFd>, Stopped> {
    match beneath(folder.as_fd(), CURRENT, FOLDER, path) {
        Ok(current) => Ok(Some(current)),
        Err(Stopped::Failed(error)) if error.kind == StoreErrorKind::NotFound => Ok(None),
        Err(stopped) => Err(stopped),
    }
}

/// The names of the secrets in a folder.
fn names(folder: &OwnedFd, path: &SecretPath) -> Result<Vec<String>, StoreError> {
    let failed = |error: Errno| StoreError::new(StoreErrorKind::Unavailable, format!("{path}: {error}"));
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Some(name) = entry.file_name().to_str().ok().filter(|name| is_name(name)) else { continue };
        if names.len() >= MAX_FILES {
            return Err(malformed(path, &format!("more than {MAX_FILES} files in one folder")));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

fn beneath(folder: BorrowedFd<'_>, name: &str, flags: OFlags, path: &SecretPath) -> Result<OwnedFd, Stopped> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    loop {
        let (kind, why) = match openat2(folder, name, flags, Mode::empty(), how) {
            Ok(file) => return Ok(file),
            Err(Errno::INTR) => continue,
            // Somebody renamed a folder on the way.
            Err(Errno::AGAIN) => return Err(Stopped::Turned),
            Err(Errno::NOENT | Errno::NOTDIR) => (StoreErrorKind::NotFound, "there is no such file".to_owned()),
            Err(Errno::XDEV) => (StoreErrorKind::Denied, "a link leads out of the store's folder".to_owned()),
            Err(error @ (Errno::ACCESS | Errno::PERM)) => (StoreErrorKind::Denied, error.to_string()),
            Err(error @ (Errno::LOOP | Errno::NXIO | Errno::NAMETOOLONG)) => (StoreErrorKind::Malformed, error.to_string()),
            Err(error) => (StoreErrorKind::Unavailable, error.to_string()),
        };
        return Err(StoreError::new(kind, format!("{path}: {why}")).into());
    }
}

fn stat(file: &OwnedFd, path: &SecretPath) -> Result<Stat, StoreError> {
    fstat(file).map_err(|error| StoreError::new(StoreErrorKind::Unavailable, format!("{path}: {error}")))
}

fn read_bounded(file: OwnedFd, path: &SecretPath, limit: usize) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let failed = |error: std::io::Error| StoreError::new(StoreErrorKind::Unavailable, format!("{path}: {error}"));
    let file = File::from(file);
    let length = file.metadata().map_err(failed)?.len();
    // Room for all of it from the start: growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or(limit).min(limit).saturating_add(1)));
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(bound).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > limit {
        return Err(malformed(path, "it is longer than 1 MiB"));
    }
    Ok(bytes)
}

fn malformed(path: &SecretPath, what: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Malformed, format!("{path}: {what}"))
}

#[cfg(test)]
mod tests;
