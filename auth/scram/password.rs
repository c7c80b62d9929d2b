//! A password that we log in with, and the SCRAM keys that were made of it.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Keys;
use crate::Secret;

/// Salts whose keys are kept. A password is known to one server or cluster as a rule, which has one salt for it.
const MAX_SALTS: usize = 4;
/// More iterations are left to a thread that may be held up: these take two or three milliseconds.
const INLINE: u32 = 10_000;

/// A password, with the keys that were made of it for the salts of its servers, so that only the first login at a server pays for them. The
/// two are never apart: a hostile server may well name another one's salt, and must not be answered with the keys of another password. They
/// are wiped together.
pub(crate) struct Password {
    secret: Secret,
    /// The oldest first.
    made: Mutex<VecDeque<Made>>,
    derivations: AtomicU64,
}

struct Made {
    salt: Vec<u8>,
    iterations: NonZeroU32,
    keys: Arc<Keys>,
}

impl Password {
    pub(crate) const fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The keys for this salt and this many iterations.
    ///
    /// `None`: the process ends.
    pub(super) async fn keys(self: &Arc<Self>, salt: &[u8], iterations: NonZeroU32) -> Option<Arc<Keys>> {
        if let Some(keys) = held(&self.made(), salt, iterations) {
            return Some(keys);
        }
        if iterations.get() <= INLINE {
            return Some(self.derive(salt, iterations));
        }
        let (password, salt) = (Arc::clone(self), salt.to_vec());
        tokio::task::spawn_blocking(move || password.derive(&salt, iterations)).await.ok()
    }

    fn derive(&self, salt: &[u8], iterations: NonZeroU32) -> Arc<Keys> {
        self.derivations.fetch_add(1, Ordering::Relaxed);
        let keys = Arc::new(Keys::derive(&self.secret, salt, iterations));
        let mut made = self.made();
        // Another login may have been as quick.
        if let Some(keys) = held(&made, salt, iterations) {
            return keys;
        }
        if made.len() >= MAX_SALTS {
            made.pop_front();
        }
        made.push_back(Made { salt: salt.to_vec(), iterations, keys: Arc::clone(&keys) });
        keys
    }
}

impl Password {
    /// How often keys were derived.
    #[cfg(test)]
    pub(crate) fn derivations(&self) -> u64 {
        self.derivations.load(Ordering::Relaxed)
    }

    /// Its parts are whole after a panic too: each change is one step.
    fn made(&self) -> MutexGuard<'_, VecDeque<Made>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Secret> for Password {
    fn from(secret: Secret) -> Self {
        Self { secret, made: Mutex::default(), derivations: AtomicU64::default() }
    }
}

fn held(made: &VecDeque<Made>, salt: &[u8], iterations: NonZeroU32) -> Option<Arc<Keys>> {
    made.iter().find(|made| made.iterations == iterations && made.salt == salt).map(|made| Arc::clone(&made.keys))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn keys(password: &Arc<Password>, salt: &[u8], iterations: u32) -> Arc<Keys> {
        password.keys(salt, NonZeroU32::new(iterations).unwrap()).await.unwrap()
    }

    fn password(text: &str) -> Arc<Password> {
        Arc::new(Password::from(Secret::from(text.to_owned())))
    }

    #[tokio::test]
    async fn keys_are_derived_once_for_a_salt_and_a_number_of_iterations() {
        let pencil = password("pencil");
        let first = keys(&pencil, b"salt", 4096).await;
        for _ in 0..3 {
            assert!(Arc::ptr_eq(&first, &keys(&pencil, b"salt", 4096).await));
        }
        assert_eq!(pencil.derivations(), 1);
        for (salt, iterations) in [(&b"salt"[..], 4097), (b"sal", 4096), (b"salt2", INLINE + 1)] {
            for _ in 0..2 {
                assert_ne!(keys(&pencil, salt, iterations).await.client, first.client, "{iterations}");
            }
        }
        assert_eq!(pencil.derivations(), 4, "each once");
        assert_ne!(keys(&password("Pencil"), b"salt", 4096).await.client, first.client);
    }

    #[tokio::test]
    async fn a_fifth_salt_takes_the_place_of_the_oldest() {
        let pencil = password("pencil");
        for (salt, derivations) in [(1, 1), (2, 2), (3, 3), (4, 4), (1, 4), (5, 5), (2, 5), (3, 5), (4, 5), (5, 5), (1, 6), (2, 7), (5, 7)]
        {
            keys(&pencil, &[salt], 1).await;
            assert_eq!(pencil.derivations(), derivations, "{salt}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn logins_at_once_have_the_same_keys() {
        let pencil = password("pencil");
        let at_once =
            (0..8).map(|_| Arc::clone(&pencil)).map(|pencil| tokio::spawn(async move { keys(&pencil, b"salt", INLINE + 1).await }));
        let made = futures_util::future::join_all(at_once.collect::<Vec<_>>()).await;
        let last = keys(&pencil, b"salt", INLINE + 1).await;
        assert!(made.into_iter().all(|keys| Arc::ptr_eq(&keys.unwrap(), &last)));
        assert_eq!(pencil.made().len(), 1);
    }
}
