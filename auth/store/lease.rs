//! What a session holds: its credential, where it came from, and the promise to give it back.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use keyward_config::Name;
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};

use super::sharing::SharedLease;
use super::{Credential, Provenance, SecretPath, Use};

/// A credential on loan. Dropping it gives it back, the last of those who share it: close the upstream before.
pub struct Lease {
    credential: Option<Arc<Credential>>,
    provenance: Provenance,
    born: Instant,
    source: Source,
}

/// A lease's name at its store. Whoever has a token can renew and revoke by it: no `Debug` text, and records get its hash.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct LeaseId(String);

impl LeaseId {
    /// The id itself, for the store.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// What records call it.
    pub(crate) fn hash(&self) -> String {
        let digest = digest::digest(&digest::SHA256, self.0.as_bytes());
        digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl From<&str> for LeaseId {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[lease]")
    }
}

/// Why a lease ends before its session does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseEnd {
    /// Its time, or that of the token that issued it, is nearly over and cannot be prolonged.
    Expired,
    /// The store does not know it any more.
    Lost,
    /// The store stopped to know the token that issued it, and takes the lease with it.
    TokenDied,
}

impl LeaseEnd {
    /// A fixed word, for metric labels and audit records.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Expired => "lease_expired",
            Self::Lost => "lease_lost",
            Self::TokenDied => "token_died",
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("provenance", &self.provenance).field("leased", &self.is_leased()).finish_non_exhaustive()
    }
}

/// Where the credential came from, for giving it back or reading it again.
pub(crate) enum Source {
    /// Secrets without a lease: what was read, by number of the read; whether any of it came from the cache.
    Secrets { reads: Vec<WasRead>, cached: bool },
    /// A lease: its keeper learns from the sender's end that the session, or what the lease is of use for, is over.
    Leased { held: Option<oneshot::Sender<std::convert::Infallible>>, standing: watch::Receiver<Standing>, used: Use },
    /// A lease that sessions use together; the last one that lets go of it ends it.
    Shared(Arc<SharedLease>),
}

/// One read of a secret: of which store, and its number among the reads of that one.
pub(crate) struct WasRead {
    pub(crate) store: Name,
    pub(crate) path: SecretPath,
    pub(crate) serial: u64,
}

/// How a lease stands, as its keeper says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It lives.
    Alive {
        /// When its sessions have to hear of its end, as things are now. `None`: beyond what the clock can say.
        told: Option<tokio::time::Instant>,
        /// What no renewal moves that beyond. `None`: it can still be renewed.
        at_most: Option<tokio::time::Instant>,
        /// When its sessions have to hear of its end, if that has to be reckoned with: no renewal moves it, or those that were due have
        /// failed so far. `None`: it will be renewed before.
        in_sight: Option<tokio::time::Instant>,
    },
    /// Its sessions have to end.
    Ended(LeaseEnd),
}

/// Looks ahead to the end of a lease. It does not keep the lease alive.
pub struct Outlook(Option<watch::Receiver<Standing>>);

impl Outlook {
    /// When the session will have to end with its lease. `None`: no end is in sight, since there is no lease or it will be renewed before.
    /// A lease that could not be renewed yet may live on after all: then its end is out of sight again.
    pub fn end(&mut self) -> Option<tokio::time::Instant> {
        match *self.0.as_mut()?.borrow_and_update() {
            Standing::Alive { in_sight, .. } => in_sight,
            Standing::Ended(_) => None,
        }
    }

    /// Resolves when [`Self::end`] may say something else than it did.
    pub async fn changed(&mut self) {
        let changed = match &mut self.0 {
            Some(standing) => standing.changed().await.is_ok(),
            None => false,
        };
        if !changed {
            self.0 = None;
            std::future::pending::<()>().await;
        }
    }
}

impl Lease {
    pub(crate) fn new(credential: Arc<Credential>, provenance: Provenance, born: Instant, source: Source) -> Self {
        Self { credential: Some(credential), provenance, born, source }
    }

    /// The credential, until it is forgotten.
    #[must_use]
    pub fn credential(&self) -> Option<Arc<Credential>> {
        self.credential.clone()
    }

    /// The session is logged in and needs it no more. The lease itself lives on, except for a one-time password: it is given back now,
    /// and its end is not the session's.
    pub fn forget_credential(&mut self) {
        self.credential = None;
        if let Source::Leased { held, used: Use::Login, .. } = &mut self.source {
            held.take();
        }
    }

    /// Where the credential came from, for the audit record.
    #[must_use]
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// How long ago the store gave it, or was asked for a secret that has no lease. A database may need a moment until it knows a new account.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.born.elapsed()
    }

    /// Whether the store ends it: then `ended` may resolve, and dropping the lease revokes it, unless other sessions use it too.
    #[must_use]
    pub fn is_leased(&self) -> bool {
        matches!(self.source, Source::Leased { .. } | Source::Shared(_))
    }

    /// Whether the account is this session's own, and no other has had it yet: nobody else can have changed it. Not with a one-time
    /// password: the account was there before, and a second try with it opens nothing.
    #[must_use]
    pub fn is_own(&self) -> bool {
        match &self.source {
            Source::Secrets { .. } => false,
            Source::Leased { used, .. } => *used == Use::Session,
            Source::Shared(shared) => !self.provenance.joined && !shared.is_joined(),
        }
    }

    /// An upstream rejected its credential for good: nobody joins it from now on. Those who have it keep it.
    pub fn close(&self) {
        if let Source::Shared(shared) = &self.source {
            shared.close();
        }
    }

    /// Resolves a little before the lease ends without having been given back: the smaller of 10 s and a tenth of its time, and at
    /// once when it was lost. Never for a secret without a lease. The future does not keep the lease alive.
    pub fn ended(&self) -> impl Future<Output = LeaseEnd> + Send + 'static + use<> {
        let standing = self.standing();
        async move {
            if let Some(mut standing) = standing
                && let Ok(now) = standing.wait_for(|now| matches!(now, Standing::Ended(_))).await
                && let Standing::Ended(reason) = *now
            {
                return reason;
            }
            std::future::pending().await
        }
    }

    /// When `ended` will resolve, as far as that is known. The future end of a one-time password is nobody's.
    #[must_use]
    pub fn outlook(&self) -> Outlook {
        Outlook(self.standing().filter(|_| self.used() == Use::Session))
    }

    /// What its keeper says of it. `None`: there is no lease.
    pub(crate) fn standing(&self) -> Option<watch::Receiver<Standing>> {
        match &self.source {
            Source::Secrets { .. } => None,
            Source::Leased { standing, .. } => Some(standing.clone()),
            Source::Shared(shared) => shared.standing(),
        }
    }

    /// From when its age counts.
    pub(crate) const fn born(&self) -> Instant {
        self.born
    }

    /// How long it is of use.
    pub(crate) fn used(&self) -> Use {
        match &self.source {
            Source::Leased { used, .. } => *used,
            Source::Secrets { .. } | Source::Shared(_) => Use::Session,
        }
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }
}
