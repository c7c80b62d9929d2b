//! The life of one lease, in one task.

mod life;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use super::journal::{Asked, Event};
use super::lease::{Source, Standing};
use super::leases::{self, Counted, Leases, unix_now};
use super::named::Named;
use super::{Credential, Issued, Lease, LeaseEnd, LeaseId, Provenance, StoreError, StoreErrorKind, Use, Wanted};
use crate::Grant;
use life::{Life, TokenEnd};
pub(super) use life::{before, too_short};

/// Never reached: each call has limits of its own, and a request that we gave up might still make an account. Longer than a login, the
/// request (95 s each), and both once more with a new token.
const ISSUE_LIMIT: Duration = Duration::from_secs(600);
const REVOKE_LIMIT: Duration = Duration::from_secs(30);
const RENEW_LIMIT: Duration = Duration::from_secs(15);
/// After the lease's end the store gets this long to have ended it by itself.
const SLACK: Duration = Duration::from_secs(60);
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Between two renewals that fail, or two tries to give a lease back: it counts among its user's until then, and he may be waiting for a place.
const LAST_RETRY: Duration = Duration::from_secs(30);
/// Between two tries to give a lease back that the policy denies (vault.md §14.6).
const DENIED_RETRY: Duration = Duration::from_secs(300);

/// The owner of one lease.
pub(crate) struct Keeper {
    pub(crate) leases: Arc<Leases>,
    pub(crate) from: Named,
    /// Its number in the journal.
    pub(crate) number: u64,
    pub(crate) asked: Asked,
}

/// A lease whose session is over.
pub(crate) struct Returned {
    pub(crate) lease: LeaseId,
    /// When the store ends it by itself. `None`: beyond what the clock can say.
    pub(crate) end: Option<Instant>,
    pub(crate) counted: Counted,
}

impl Keeper {
    pub(crate) async fn keep(
        self,
        grant: Grant,
        wanted: Wanted,
        counted: Counted,
        mut hand_over: oneshot::Sender<Result<Lease, StoreError>>,
    ) {
        let from = self.from.clone();
        let turn = tokio::select! {
            turn = from.turn_to_issue(grant.address()) => turn,
            // Nobody waits for it any more, and nothing was asked yet.
            () = hand_over.closed() => return,
        };
        let issued = match turn {
            Ok(_turn) => self.ask(&grant, &wanted).await,
            Err(error) => Err(error),
        };
        let issued = match issued {
            Ok(issued) => issued,
            Err(error) => {
                let _ = hand_over.send(Err(error));
                return;
            }
        };
        let least = grant.connection().least_session();
        drop(grant);
        let born = Instant::now();
        let end = Instant::from_std(issued.asked).checked_add(issued.duration);
        let until = unix_now().saturating_add(issued.duration.as_secs());
        let written = self.leases.record(self.number, Event::Issued { lease: issued.lease_id.clone(), until }, true).await;
        let Issued { document, lease_id, duration, renewable, used, token_end, .. } = issued;
        let returned = Returned { lease: lease_id, end, counted };
        self.from.observer.lease(&self.from.name, "issued");
        let credential = Credential::whole(&document, &wanted.path).and_then(|credential| match written {
            Ok(()) => Ok(credential),
            Err(error) => Err(StoreError::new(StoreErrorKind::Unavailable, format!("the lease journal cannot be written: {error}"))),
        });
        let provenance = self.provenance(wanted.shown, &document.request_id, &returned.lease);
        drop(document);
        let least = least.filter(|_| used == Use::Session);
        let mut life = Life { granted: duration, end, renewable, wanted: least.unwrap_or_default().max(duration), failing: false };
        let mut token_end = TokenEnd::of(token_end);
        let credential = match credential {
            Ok(credential) => self.long_enough(&returned.lease, &mut life, least).await.map(|()| credential),
            error => error,
        };
        let (held, mut gone) = oneshot::channel();
        let (standing, seen) = watch::channel(life.standing(&token_end, life.renew_at()).0);
        let source = Source::Leased { held: Some(held), standing: seen, used };
        let lease = credential.map(|credential| Lease::new(Arc::new(credential), provenance, born.into_std(), source));
        // A receiver that is gone drops the lease that it was sent, and `gone` resolves: the same way out as for a session's end.
        let _ = hand_over.send(lease);
        let over = tokio::select! {
            _ = &mut gone => true,
            () = self.prolong(&returned.lease, &mut life, &mut token_end, &standing) => false,
        };
        if !over {
            let _ = gone.await;
        }
        drop(standing);
        // What a token took with it is not to be waited for.
        let end = life.end.into_iter().chain(token_end.has_come()).min();
        self.give_back(Returned { end, ..returned }).await;
    }

    fn provenance(&self, paths: Vec<String>, request_id: &str, lease: &LeaseId) -> Provenance {
        Provenance {
            store: self.from.name.clone(),
            paths,
            version: None,
            request_id: request_id.to_owned(),
            lease: Some(lease.hash()),
            certificate: None,
            cached: false,
            stale: false,
            joined: false,
        }
    }

    /// Journal, then the store.
    async fn ask(&self, grant: &Grant, wanted: &Wanted) -> Result<Issued, StoreError> {
        let written = self.leases.record(self.number, Event::Asked(self.asked.clone()), false).await;
        written.map_err(|error| StoreError::new(StoreErrorKind::Unavailable, format!("the lease journal cannot be written: {error}")))?;
        let answer = timeout(ISSUE_LIMIT, self.from.store.issue(grant, wanted)).await;
        let late = |_| StoreError::new(StoreErrorKind::Unavailable, "the store did not answer in time").ambiguous();
        let error = match answer.map_err(late).and_then(|answer| answer) {
            Ok(issued) => return Ok(issued),
            Err(error) => error,
        };
        if error.ambiguous {
            self.name_orphan("the store gave no clear answer").await;
        } else {
            let _ = self.leases.record(self.number, Event::Failed, false).await;
        }
        Err(error)
    }

    /// Nobody can give back a lease whose id nobody knows: say so once, and let it go.
    pub(crate) async fn name_orphan(&self, why: &str) {
        leases::name_orphan(&self.from.observer, &self.asked, why);
        let _ = self.leases.record(self.number, Event::Failed, false).await;
    }

    /// Whether a session may begin on the lease: the connection says how much it has to leave one. Where the store gave less than that, it is
    /// asked for more at once, since only its answer tells where the last end is.
    async fn long_enough(&self, lease: &LeaseId, life: &mut Life, least: Option<Duration>) -> Result<(), StoreError> {
        let Some(least) = least else { return Ok(()) };
        if life.granted < least && life.renewable {
            match self.renew(lease, life, None).await {
                Err(StoreErrorKind::Unavailable | StoreErrorKind::Throttled | StoreErrorKind::LoginFailed) | Ok(()) => {}
                Err(_) => life.renewable = false,
            }
        }
        let Some(left) = life.told().filter(|_| !life.renewable).map(|told| told.saturating_duration_since(Instant::now())) else {
            return Ok(());
        };
        if left >= least {
            return Ok(());
        }
        Err(too_short(&*self.from.observer, &self.from.name, &self.asked.path, left, least))
    }

    /// Renews the lease as long as it can be, and returns once its end has been told, a little before it comes.
    async fn prolong(&self, lease: &LeaseId, life: &mut Life, token_end: &mut TokenEnd, standing: &watch::Sender<Standing>) {
        let mut renew_at = life.renew_at();
        let mut retry = FIRST_RETRY;
        loop {
            let (alive, warn_at, reason) = life.standing(token_end, renew_at);
            standing.send_if_modified(|now| std::mem::replace(now, alive) != alive);
            tokio::select! {
                () = until(warn_at) => {
                    standing.send_replace(Standing::Ended(reason));
                    return;
                }
                () = token_end.changed() => {}
                () = until(renew_at) => match self.renew(lease, life, warn_at).await {
                    Ok(()) => { renew_at = life.renew_at(); retry = FIRST_RETRY; }
                    Err(StoreErrorKind::LeaseLost) => {
                        standing.send_replace(Standing::Ended(LeaseEnd::Lost));
                        self.from.observer.lease(&self.from.name, "lost");
                        return;
                    }
                    Err(StoreErrorKind::Unavailable | StoreErrorKind::Throttled | StoreErrorKind::LoginFailed) => {
                        life.failing = true;
                        renew_at = Instant::now().checked_add(jitter(retry));
                        retry = retry.saturating_mul(2).min(LAST_RETRY);
                    }
                    Err(_) => renew_at = None,
                }
            }
        }
    }

    async fn renew(&self, lease: &LeaseId, life: &mut Life, warn_at: Option<Instant>) -> Result<(), StoreErrorKind> {
        let asked_at = Instant::now();
        // Nobody looks at the end while the store is asked.
        let limit = warn_at.map_or(RENEW_LIMIT, |at| at.saturating_duration_since(asked_at).min(RENEW_LIMIT));
        let answer = timeout(limit, self.from.store.renew(lease.expose(), life.wanted)).await;
        let late = |_| StoreError::new(StoreErrorKind::Unavailable, "the renewal was not answered in time");
        let granted = answer.map_err(late).and_then(|answer| answer).map_err(|error| {
            let (store, session) = (&self.from.name, &self.asked.session);
            tracing::warn!(store, session, %error, "a lease could not be renewed");
            error.kind
        })?;
        self.from.observer.lease(&self.from.name, "renewed");
        (life.granted, life.failing) = (granted, false);
        life.end = asked_at.checked_add(granted);
        // Less than was asked: the role's end is near and no renewal moves it. A second is lost to rounding.
        life.renewable = granted.saturating_add(Duration::from_secs(1)) >= life.wanted;
        let until = unix_now().saturating_add(granted.as_secs());
        let _ = self.leases.record(self.number, Event::Issued { lease: lease.clone(), until }, false).await;
        Ok(())
    }

    /// Gives the lease back, however often that must be tried, until a while after its end. Whether the store has ended it by then is not
    /// known: it may try in vain as we did (MySQL drops no account that is the definer of something).
    pub(crate) async fn give_back(self, mut returned: Returned) {
        returned.counted.closing();
        let _ = self.leases.record(self.number, Event::Closing, false).await;
        let (store, path, session) = (&self.from.name, &self.asked.path, &self.asked.session);
        let given_up = returned.end.and_then(|end| end.checked_add(SLACK));
        let mut wait = FIRST_RETRY;
        let mut said = false;
        let denied = loop {
            let Err(error) = self.revoke_once(&returned.lease).await else { break None };
            self.from.observer.lease(store, "revoke_failed");
            let denied = error.kind == StoreErrorKind::Denied;
            if denied {
                // No try helps before somebody has changed the policy, and it is one for all leases.
                wait = DENIED_RETRY;
                if self.from.may_not_revoke() {
                    let hint = "does the policy allow update on sys/leases/revoke?";
                    tracing::warn!(store, path, session, %error, hint, "the store denies to take leases back; they end at their own time");
                }
            } else if !said {
                tracing::warn!(store, path, session, %error, "a lease could not be given back; it is tried until its end");
                said = true;
            }
            let left = given_up.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break Some(denied);
            }
            sleep(jitter(wait).min(left.unwrap_or(wait))).await;
            wait = wait.saturating_mul(2).min(LAST_RETRY);
        };
        let event = match denied {
            None => Event::Done,
            Some(_) => Event::Expired,
        };
        let over = "a lease was not given back; its time is over, and it is not known whether the store has ended it";
        match denied {
            None => self.from.may_revoke(),
            Some(true) => tracing::info!(store, path, session, "{over}"),
            Some(false) => tracing::warn!(store, path, session, "{over}"),
        }
        self.from.observer.lease(store, if denied.is_none() { "revoked" } else { "expired" });
        let _ = self.leases.record(self.number, event, false).await;
    }

    async fn revoke_once(&self, lease: &LeaseId) -> Result<(), StoreError> {
        let _turn = self.from.turn_to_revoke().await;
        let answer = timeout(REVOKE_LIMIT, self.from.store.revoke(lease.expose())).await;
        let late = |_| StoreError::new(StoreErrorKind::Unavailable, "the revocation was not answered in time");
        match answer.map_err(late).and_then(|answer| answer) {
            Err(error) if error.kind == StoreErrorKind::LeaseLost => Ok(()),
            answer => answer,
        }
    }
}

/// Waits until then; for ever if there is no then.
pub(super) async fn until(then: Option<Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}

/// Between half of the time and all of it, so that what failed together is not tried again together.
pub(crate) fn jitter(time: Duration) -> Duration {
    let mut byte = [0_u8; 1];
    // Without entropy there is no jitter, which harms nobody.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    let [byte] = byte;
    time.saturating_mul(u32::from(byte).saturating_add(256)).checked_div(512).unwrap_or(time)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;
