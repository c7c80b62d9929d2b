//! A clear-text password against either stored form, where a listener asks for one inside TLS.
//!
//! Hashing is slow on purpose, so it has a queue of its own: half of the cores, 64 logins waiting, and once half of those places are taken,
//! no more than 8 from one address; the next one is told that we are busy. Strangers cannot take all cores from sessions, nor one of them the
//! whole queue from the others. A password that was found right a short while ago (proven.rs) waits in no queue.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::lockout::Attempt;
use super::proven::Proven;
use super::users::Candidate;
use super::{AuthFailure, Identity, Proof, Source, ThrottleKey, Verifier};
use crate::Secret;

/// Logins that may wait for a core.
const WAITING: usize = 64;
/// Logins from one address that may wait or be hashed, once the queue is crowded.
const PER_ADDRESS: usize = 8;

/// The queue. One per process; outlives reloads.
pub(crate) struct Hashing {
    /// Those that wait or hash.
    places: Arc<Semaphore>,
    /// Those that hash.
    cores: Arc<Semaphore>,
    addresses: Arc<Mutex<HashMap<ThrottleKey, usize>>>,
    computations: Arc<AtomicU64>,
    proven: Arc<Proven>,
}

impl Hashing {
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1));
        Self {
            places: Arc::new(Semaphore::new(cores.saturating_add(WAITING))),
            cores: Arc::new(Semaphore::new(cores)),
            addresses: Arc::default(),
            computations: Arc::default(),
            proven: Arc::new(Proven::new()),
        }
    }

    /// How many keyed or slow hashes logins have cost. Known and unknown users must cost the same: tests compare it.
    pub(crate) const fn computations(&self) -> &Arc<AtomicU64> {
        &self.computations
    }

    /// Checks the password, which came in by `proof`; failure and success count for the lock-out.
    pub(crate) async fn verify(
        &self,
        (verifier, candidate): (Verifier, Option<Candidate>),
        password: Secret,
        (proof, source): (Proof, Source),
        attempt: Attempt,
    ) -> Result<Identity, AuthFailure> {
        let mark = self.proven.mark(&verifier, &password);
        // Asked for whoever it is, known or not.
        let held = self.proven.holds(mark);
        let candidate = match candidate {
            Some(candidate) if held => {
                attempt.check()?;
                attempt.succeeded();
                return Ok(candidate.proven(proof, source));
            }
            candidate => candidate,
        };
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| AuthFailure::Busy)?;
        let crowded = self.places.available_permits() < WAITING / 2;
        let of_address = Place::take(&self.addresses, source.throttle_key(), crowded).ok_or(AuthFailure::Busy)?;
        let core = Arc::clone(&self.cores).acquire_owned().await.map_err(|_| AuthFailure::Busy)?;
        let (computations, proven) = (Arc::clone(&self.computations), Arc::clone(&self.proven));
        // The permits go with the hash, which runs to its end, and reports its outcome, even if the client vanishes meanwhile.
        let hashed = tokio::task::spawn_blocking(move || {
            let (_place, _of_address, _core) = (place, of_address, core);
            attempt.check()?;
            computations.fetch_add(1, Ordering::Relaxed);
            let fits = verifier.accepts(&password);
            match candidate {
                Some(candidate) if fits => {
                    proven.remember(mark);
                    attempt.succeeded();
                    Ok(candidate.proven(proof, source))
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

/// One of the places of an address.
struct Place {
    addresses: Arc<Mutex<HashMap<ThrottleKey, usize>>>,
    address: ThrottleKey,
}

impl Place {
    fn take(addresses: &Arc<Mutex<HashMap<ThrottleKey, usize>>>, address: ThrottleKey, crowded: bool) -> Option<Self> {
        let mut taken = addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(address).or_default();
        if crowded && *count >= PER_ADDRESS {
            return None;
        }
        *count = count.saturating_add(1);
        Some(Self { addresses: Arc::clone(addresses), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = taken.entry(self.address) {
            *entry.get_mut() = entry.get().saturating_sub(1);
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::join_all;

    use super::super::{Lockout, LockoutLimits};
    use super::*;

    #[tokio::test]
    async fn more_logins_than_the_queue_holds_are_told_that_we_are_busy() {
        let limits = LockoutLimits { failed_logins: 0, lock_time: std::time::Duration::ZERO };
        let lockout = Arc::new(Lockout::new(limits));
        let verifier = Verifier::parse(&Verifier::make_scram(&Secret::from(vec![b'x'])).unwrap()).unwrap();
        let hashing = Hashing::new();
        let from = |n: usize| Source::tcp(std::net::Ipv4Addr::from_bits(u32::try_from(n).unwrap()).into());
        let log_in = async |source: Source| {
            let attempt = Attempt::begin(&lockout, "nobody", source).await?;
            hashing.verify((verifier.clone(), None), Secret::from(vec![b'x']), (Proof::Cleartext, source), attempt).await
        };

        let cores = hashing.cores.available_permits();
        let occupied = Arc::clone(&hashing.cores).acquire_many_owned(u32::try_from(cores).unwrap()).await.unwrap();
        // One address may fill a half; from then on it is eight for each, and others still get in.
        let half = cores + WAITING / 2;
        let mut waiting: Vec<_> = (0..half).map(|_| Box::pin(log_in(from(0)))).collect();
        assert!(waiting.iter_mut().all(|login| login.now_or_never().is_none()), "they wait for a core");
        assert_eq!(log_in(from(0)).now_or_never().unwrap().unwrap_err(), AuthFailure::Busy);
        waiting.extend((0..WAITING / 2).map(|n| Box::pin(log_in(from(1 + n / PER_ADDRESS)))));
        assert!(waiting.iter_mut().all(|login| login.now_or_never().is_none()), "they wait for a core");
        assert_eq!(log_in(from(1000)).now_or_never().unwrap().unwrap_err(), AuthFailure::Busy);

        // A client that vanishes while it waits leaves its place to the next one.
        drop(waiting.pop());
        waiting.push(Box::pin(log_in(from(1000))));
        assert!(waiting.last_mut().unwrap().now_or_never().is_none());

        drop(occupied);
        let outcomes = join_all(waiting).await;
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(AuthFailure::NotAuthenticated))));
        assert_eq!(hashing.computations().load(Ordering::Relaxed), u64::try_from(outcomes.len()).unwrap());
        assert_eq!(hashing.places.available_permits(), cores + WAITING, "the queue is empty again");
        assert!(hashing.addresses.lock().unwrap().is_empty());
    }
}
