//! The state folder: mode 0700, one process at a time. It holds the lease journal, the fake-salt key, the local CA and the admin socket.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::process::geteuid;

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
            // What it leads to is emptied below.
            .custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0))
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

/// Creates the folder with mode 0700, or refuses one of another user, who decides what is in it and could not read what we make there, and
/// one that others may enter: it holds keys.
pub fn create(path: &Path) -> Result<(), String> {
    if !path.exists() {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let meta = std::fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    if !meta.is_dir() {
        return Err(format!("{}: not a folder", path.display()));
    }
    let (owner, own) = (meta.uid(), geteuid().as_raw());
    if owner != own {
        return Err(format!("{}: belongs to user {owner}, and this is user {own}: run it as that one", path.display()));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_another_user_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        // Who is not root has root's, which others may enter, too: whose it is comes first.
        let path = if geteuid().is_root() { folder.path().join("state") } else { "/".into() };
        if geteuid().is_root() {
            create(&path).unwrap();
            std::os::unix::fs::chown(&path, Some(12345), Some(12345)).unwrap();
        }
        let said = create(&path).unwrap_err();
        assert!(said.contains("belongs to user "), "{said}");
        assert!(StateFolder::open(&path).is_err() && !path.join("lock").exists());
    }

    #[test]
    fn what_a_link_in_the_place_of_the_lock_leads_to_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (state, target) = (folder.path().join("state"), folder.path().join("target"));
        create(&state).unwrap();
        std::fs::write(&target, "kept").unwrap();
        std::os::unix::fs::symlink(&target, state.join("lock")).unwrap();
        assert!(StateFolder::open(&state).is_err_and(|said| said.contains("lock")));
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "kept");
        std::fs::remove_file(state.join("lock")).unwrap();
        assert!(StateFolder::open(&state).is_ok());
    }
}
