//! A clear-text password against either stored form, where a listener asks for one inside TLS.
//!
//! Hashing is slow on purpose, so it has a queue of its own: one hash per core at a time, 64 logins waiting, the next one is told
//! that we are busy. Strangers can fill that queue; they cannot take the cores from sessions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;

use super::lockout::Attempt;
use super::users::Candidate;
use super::{AuthFailure, Identity, Proof, Source, Verifier};
use crate::Secret;

/// Logins that may wait for a core.
const WAITING: usize = 64;

/// The queue. One per process; outlives reloads.
pub(crate) struct Hashing {
    /// Those that wait or hash.
    places: Arc<Semaphore>,
    /// Those that hash.
    cores: Arc<Semaphore>,
    computations: Arc<AtomicU64>,
}

impl Hashing {
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            places: Arc::new(Semaphore::new(cores.saturating_add(WAITING))),
            cores: Arc::new(Semaphore::new(cores)),
            computations: Arc::default(),
        }
    }

    /// How many keyed or slow hashes logins have cost. Known and unknown users must cost the same: tests compare it.
    pub(crate) const fn computations(&self) -> &Arc<AtomicU64> {
        &self.computations
    }

    /// Checks the password; failure and success count for the lock-out.
    pub(crate) async fn verify(
        &self,
        (verifier, candidate): (Verifier, Option<Candidate>),
        password: Secret,
        source: Source,
        attempt: Attempt,
    ) -> Result<Identity, AuthFailure> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| AuthFailure::Busy)?;
        let core = Arc::clone(&self.cores).acquire_owned().await.map_err(|_| AuthFailure::Busy)?;
        let computations = Arc::clone(&self.computations);
        // The permits go with the hash, which runs to its end, and reports its outcome, even if the client vanishes meanwhile.
        let hashed = tokio::task::spawn_blocking(move || {
            let (_place, _core) = (place, core);
            attempt.check()?;
            computations.fetch_add(1, Ordering::Relaxed);
            let fits = verifier.accepts(&password);
            match candidate {
                Some(candidate) if fits => {
                    attempt.succeeded();
                    Ok(candidate.proven(Proof::Cleartext, source))
                }
                _ => {
                    attempt.failed();
                    Err(AuthFailure::NotAuthenticated)
                }
            }
        });
        hashed.await.unwrap_or(Err(AuthFailure::Busy))
    }
}
