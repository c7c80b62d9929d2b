//! How many leases one user has of one connection: a program that opens session after session, as the pool of a graphical client does, must
//! not make accounts until the store or its database can make none for anybody.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keyward_config::Name;

use super::{StoreError, StoreErrorKind};
use crate::{Grant, Proof};

/// The leases of every user and connection: those that are asked for, those that are in use, and those that the store has not back yet.
#[derive(Clone, Default)]
pub(crate) struct Quota(Arc<Mutex<HashMap<Key, u32>>>);

/// The user and the connection.
type Key = (Name, Name);

/// A lease in the count, while this is held.
pub(crate) struct Place {
    quota: Quota,
    key: Key,
}

impl Quota {
    /// A place for one more lease of this user and connection; none is needed where the file sets no limit, nor for what the operator tries.
    /// A connection whose limit was lowered meanwhile counts by that of the grant.
    ///
    /// # Errors
    /// `Quota`: he has as many as he may.
    pub(crate) fn admit(&self, grant: &Grant) -> Result<Option<Place>, StoreError> {
        let Some(most) = grant.connection().limits().leases_per_user().filter(|_| grant.proof() != Proof::Operator) else {
            return Ok(None);
        };
        let key = (grant.user().clone(), grant.connection().name().clone());
        let mut counts = self.counts();
        let count = counts.get(&key).copied().unwrap_or(0);
        if count >= most {
            let (user, connection) = &key;
            let text =
                format!("{user} has {count} leases of {connection} that live or are not given back yet (limits.max_leases_per_user)");
            return Err(StoreError::new(StoreErrorKind::Quota, text));
        }
        counts.insert(key.clone(), count.saturating_add(1));
        drop(counts);
        Ok(Some(Place { quota: self.clone(), key }))
    }

    /// Its counts are whole after a panic too: each change is one step.
    fn counts(&self) -> MutexGuard<'_, HashMap<Key, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.quota.counts();
        if let Some(count) = counts.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}
