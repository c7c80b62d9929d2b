//! The state folder: mode 0700, one process at a time. It holds the lease journal, the fake-salt key, the local CA and the admin socket.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// The state folder, locked while this lives.
pub struct StateFolder {
    path: PathBuf,
    _lock: File,
}

impl StateFolder {
    /// Creates the folder if need be and locks it.
    ///
    /// # Errors
    /// A text for the operator: not ours, readable by others, or in use; the last says by which process.
    pub fn open(path: &Path) -> Result<Self, String> {
        create(path)?;
        let at = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&at)
            .map_err(|error| format!("{}: {error}", at.display()))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            let _ = Read::take(&mut lock, 20).read_to_string(&mut pid);
            let pid = if pid.trim().chars().all(|c| c.is_ascii_digit()) { pid.trim() } else { "?" };
            return Err(format!("the state folder {} is in use by process {pid}", path.display()));
        }
        let pid = format!("{}\n", std::process::id());
        lock.set_len(0).and_then(|()| lock.write_all(pid.as_bytes())).map_err(|error| format!("{}: {error}", at.display()))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The admin socket of the process that uses this folder.
#[must_use]
pub fn admin_socket(state: &Path) -> PathBuf {
    state.join("admin.sock")
}

/// Creates the folder with mode 0700, or refuses one that others may enter: it holds keys.
pub fn create(path: &Path) -> Result<(), String> {
    if !path.exists() {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let meta = std::fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    if !meta.is_dir() {
        return Err(format!("{}: not a folder", path.display()));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(format!("{}: others may enter it (mode {:o}); it holds keys: chmod 700", path.display(), meta.mode() & 0o777));
    }
    Ok(())
}

/// Writes a file that only we may read, whole or not at all.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let shown = |error: std::io::Error| format!("{}: {error}", path.display());
    let _ = std::fs::remove_file(&fresh);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh).map_err(shown)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(shown)?;
    std::fs::rename(&fresh, path).map_err(shown)
}
