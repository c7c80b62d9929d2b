//! The gate: all that the proxy may ask of this crate.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use keyward_config::{Config, Limits, Name, Problems};

use crate::identity::{Attempt, Hashing, Lockout, LockoutLimits, SaltKey, Users};
use crate::policy::Policy;
use crate::store::{Leases, Stores};
use crate::{
    AuthFailure, Denied, Grant, Identity, Lease, LeaseStats, Observer, Reachable, ScramServer, Secret, SessionId, Source, StoreError,
    StoreStatus,
};

/// Who is it, may they, with which credential. One per process; shared by every link.
pub struct Gate {
    /// What a reload replaces, as a whole or not at all.
    current: ArcSwap<State>,
    salts: SaltKey,
    hashing: Hashing,
    lockout: Arc<Lockout>,
    leases: Arc<Leases>,
    observer: Arc<dyn Observer>,
}

/// One state of the file.
struct State {
    users: Users,
    policy: Policy,
    stores: Stores,
}

/// What a reload did: `connection orders`, `store corp`, `user alice`, each list sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replaced {
    /// New in the file.
    pub added: Vec<String>,
    /// Different from before.
    pub changed: Vec<String>,
    /// No longer in the file.
    pub removed: Vec<String>,
}

impl Gate {
    /// Opens it for `keyward run`: the lease journal and the fake-salt key are in the folder `state`, whose lock the caller
    /// holds. Must be called inside a tokio runtime. Asks no store: the first request logs in.
    ///
    /// `None` if there is an error among `problems`, which has then been added to.
    pub fn open(config: &Config, state: &Path, observer: Arc<dyn Observer>, problems: &mut Problems) -> Option<Arc<Self>> {
        let salts = or_problem(SaltKey::open(state), "the fake-salt key in the state folder", problems)?;
        let leases = or_problem(Leases::open(Some(state), Arc::clone(&observer)), "the lease journal in the state folder", problems)?;
        Self::build(config, salts, leases, observer, problems)
    }

    /// Opens it for `keyward check`: no listener, nothing on disk, and grants for the operator. Must be called inside a tokio runtime.
    ///
    /// `None` if there is an error among `problems`, which has then been added to.
    pub fn for_operator(config: &Config, observer: Arc<dyn Observer>, problems: &mut Problems) -> Option<Arc<Self>> {
        let salts = or_problem(SaltKey::random(), "random numbers", problems)?;
        let leases = or_problem(Leases::open(None, Arc::clone(&observer)), "the lease journal", problems)?;
        Self::build(config, salts, leases, observer, problems)
    }

    /// Checks what only this crate understands: verifiers and references parse, stores can be opened, users can prove something.
    /// Asks nobody and writes nothing.
    pub fn check(config: &Config, problems: &mut Problems) {
        if let Some(salts) = or_problem(SaltKey::random(), "random numbers", problems) {
            Users::read(config, &salts, problems);
            Policy::read(config, problems);
            Stores::check(config, problems);
        }
    }
}
