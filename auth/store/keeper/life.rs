//! How long a lease lives, and the token that takes it with it: what is known of their ends.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::until;
use crate::store::lease::Standing;
use crate::store::{LeaseEnd, Observer, StoreError, StoreErrorKind};

/// A session is ended this long before its lease, or a tenth of the lease's time before it, whichever is shorter. A last renewal that gives
/// only what is left does not shorten it: the session needs as long to end as ever.
const MARGIN: Duration = Duration::from_secs(10);
/// Renewals that follow each other sooner are not worth it.
const SHORTEST_RENEWAL: Duration = Duration::from_secs(1);

/// How long a lease lives, by our clock: counted from the start of the request, so that we are never later than the store.
pub(super) struct Life {
    pub(super) granted: Duration,
    pub(super) end: Option<Instant>,
    /// It can be prolonged.
    pub(super) renewable: bool,
    /// What to ask for at a renewal.
    pub(super) wanted: Duration,
    /// A renewal was due and has failed.
    pub(super) failing: bool,
}

/// The end of the token that issued a lease, and takes the lease with it.
pub(super) struct TokenEnd {
    moves: watch::Receiver<Option<std::time::Instant>>,
    /// Nobody can move it any more: the store has another token by now.
    fixed: bool,
    /// The store stopped to know it before its time.
    dead: bool,
    /// The most that it had left.
    life: Duration,
    /// When the sessions have to hear of it. `None`: never.
    pub(super) told: Option<Instant>,
    /// When a renewal ought to have come.
    overdue_at: Option<Instant>,
    overdue: bool,
}

impl Life {
    /// How it stands, when its sessions have to hear of its end if nothing changes, and why then.
    pub(super) fn standing(&self, token: &TokenEnd, renew_at: Option<Instant>) -> (Standing, Option<Instant>, LeaseEnd) {
        let by_lease = self.told();
        let (told, reason) = match (by_lease, token.told) {
            (lease, Some(end)) if token.dead && lease.is_none_or(|lease| end < lease) => (Some(end), LeaseEnd::TokenDied),
            (lease, end) => (lease.into_iter().chain(end).min(), LeaseEnd::Expired),
        };
        let at_most = by_lease.filter(|_| renew_at.is_none());
        let in_sight = at_most.or(by_lease.filter(|_| self.failing)).into_iter().chain(token.in_sight()).min();
        (Standing::Alive { told, at_most, in_sight }, told, reason)
    }

    /// When its sessions have to hear of its end, as it is now.
    pub(super) fn told(&self) -> Option<Instant> {
        self.end.map(|end| before(end, self.granted.max(self.wanted)))
    }

    /// Two thirds of the time that it was given, if it can be renewed at all.
    pub(super) fn renew_at(&self) -> Option<Instant> {
        let end = self.end.filter(|_| self.renewable)?;
        let third = self.granted.checked_div(3).unwrap_or_default();
        let at = end.checked_sub(third)?;
        Some(at.max(Instant::now().checked_add(SHORTEST_RENEWAL)?))
    }
}

impl TokenEnd {
    /// When it was, if it is over.
    pub(super) fn has_come(&self) -> Option<Instant> {
        let end = (*self.moves.borrow()).map(Instant::from_std)?;
        Some(end).filter(|end| *end <= Instant::now())
    }

    pub(super) fn of(moves: watch::Receiver<Option<std::time::Instant>>) -> Self {
        let mut end = Self { moves, fixed: false, dead: false, life: Duration::ZERO, told: None, overdue_at: None, overdue: false };
        end.read();
        end
    }

    /// A little before the end, by the most that the token had left: a token of a few seconds is renewed every few seconds, and a last renewal
    /// does not shorten what a session needs to end. One that has come through three quarters of what is left as it was will not be renewed:
    /// that is due after two thirds.
    fn read(&mut self) {
        let now = Instant::now();
        let end = self.moves.borrow_and_update().map(Instant::from_std);
        let left = end.map(|end| end.saturating_duration_since(now)).unwrap_or_default();
        self.dead = end.is_some() && left.is_zero();
        self.life = self.life.max(left);
        self.told = end.map(|end| before(end, self.life));
        self.overdue_at = end.and_then(|end| end.checked_sub(left.checked_div(4).unwrap_or_default()));
        self.overdue = false;
    }

    /// When the sessions will have to hear of it, if that has to be reckoned with.
    pub(super) fn in_sight(&self) -> Option<Instant> {
        self.told.filter(|_| self.fixed || self.overdue)
    }

    /// It moved, or it is known not to move any more.
    pub(super) async fn changed(&mut self) {
        tokio::select! {
            moved = self.moves.changed(), if !self.fixed => match moved {
                Ok(()) => self.read(),
                Err(_) => self.fixed = true,
            },
            () = until(self.overdue_at), if !self.overdue => self.overdue = true,
            else => std::future::pending().await,
        }
    }
}

/// Refuses a session to which `what` leaves less than its connection's `min_session`, and counts that.
pub(in crate::store) fn too_short(observer: &dyn Observer, store: &str, what: &str, left: Duration, least: Duration) -> StoreError {
    observer.lease(store, "too_short");
    let (left, least) = (left.saturating_add(Duration::from_millis(500)).as_secs(), least.as_secs());
    let text = format!("lease too short: {what} leaves a session {left} s, and min_session is {least} s");
    StoreError::new(StoreErrorKind::Unavailable, text)
}

/// A little before an end that is, or was, `time` away: when the sessions have to hear of it.
pub(in crate::store) fn before(end: Instant, time: Duration) -> Instant {
    let margin = MARGIN.min(time.checked_div(10).unwrap_or_default());
    end.checked_sub(margin).unwrap_or(end)
}
