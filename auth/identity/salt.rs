//! Salts for users who do not exist: of the same user name always the same, as a real one would be, and of no use to tell which are
//! real. The key that makes them is the installation's own and lives in the state folder.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aws_lc_rs::{hmac, rand};
use zeroize::Zeroizing;

const FILE: &str = "fake-salt.key";
const LENGTH: usize = 32;

/// The key of this installation.
pub(crate) struct SaltKey(hmac::Key);

impl SaltKey {
    /// Reads the key from the state folder; makes it if there is none. The caller holds the folder's lock.
    pub(crate) fn open(state: &Path) -> io::Result<Self> {
        let path = state.join(FILE);
        let mut bytes = Zeroizing::new(Vec::with_capacity(LENGTH));
        match File::open(&path) {
            Ok(file) => file.take(1024).read_to_end(&mut bytes).map(drop)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                bytes.extend_from_slice(random()?.as_ref());
                write(state, &bytes)?;
            }
            Err(error) => return Err(error),
        }
        if bytes.len() == LENGTH { Ok(Self::from_bytes(&bytes)) } else { Err(io::Error::other("not a key of 32 bytes; remove it")) }
    }

    /// A key that ends with the process, where no stranger logs in.
    pub(crate) fn random() -> io::Result<Self> {
        random().map(|bytes| Self::from_bytes(bytes.as_ref()))
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// Bytes that only this key and this user name give. `purpose` keeps salts apart from keys.
    pub(super) fn bytes(&self, purpose: &[u8], user: &str) -> [u8; LENGTH] {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(purpose);
        context.update(&[0]);
        context.update(user.as_bytes());
        crate::scram::bytes32(context.sign().as_ref())
    }

    /// One of several things that real users have, for a name that is none's: of the same name always the same, whatever the others are
    /// as long as it is still there, and each about equally often. Otherwise the one thing that fakes have would tell them.
    pub(super) fn choose<'a, T>(&self, user: &str, from: &'a [T], name: impl Fn(&T) -> String) -> Option<&'a T> {
        from.iter().max_by_key(|thing| self.bytes(format!("shape {}", name(thing)).as_bytes(), user))
    }

    /// A salt of this many bytes, at most 64.
    pub(super) fn salt(&self, user: &str, length: usize) -> Vec<u8> {
        let (first, second) = (self.bytes(b"salt", user), self.bytes(b"long salt", user));
        first.into_iter().chain(second).take(length).collect()
    }
}

fn random() -> io::Result<Zeroizing<[u8; LENGTH]>> {
    let mut bytes = Zeroizing::new([0_u8; LENGTH]);
    rand::fill(bytes.as_mut()).map_err(|_| io::Error::other("no random numbers"))?;
    Ok(bytes)
}

/// Under another name first, so that a crash leaves the whole key or none.
fn write(state: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = state.join("fake-salt.key.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, state.join(FILE))?;
    File::open(state)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_user_has_the_same_salt_after_a_restart_and_another_one_in_another_installation() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let salt = SaltKey::open(here.path()).unwrap().salt("nobody", 16);
        assert_eq!(salt.len(), 16);
        assert_eq!(SaltKey::open(here.path()).unwrap().salt("nobody", 16), salt);
        assert_ne!(SaltKey::open(here.path()).unwrap().salt("nobody2", 16), salt);
        assert_ne!(SaltKey::open(there.path()).unwrap().salt("nobody", 16), salt);
        assert_eq!(SaltKey::random().unwrap().salt("nobody", 64).len(), 64);
    }

    #[test]
    fn the_key_file_is_private_and_a_cut_one_is_refused() {
        let state = tempfile::tempdir().unwrap();
        SaltKey::open(state.path()).unwrap();
        let path = state.path().join(FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, b"short").unwrap();
        assert!(SaltKey::open(state.path()).is_err());
    }
}
