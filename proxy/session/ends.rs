//! When a live session ends by itself, and what its client is told before.

use std::time::Duration;

use futures_util::stream::{self, Stream};
use keyward_auth::LeaseEnd;

use super::{Live, Session};
use crate::refusal::Reason;
use crate::warning::{Warning, Warnings};

impl Session<Live> {
    /// What its client is to be told before an end that is known, made into words, each when it is time for it; by then it is on record.
    pub fn warnings<'a, T: 'a>(&'a self, words: impl Fn(&Warning) -> T + 'a) -> impl Stream<Item = T> {
        let own = self.grant.connection().limits();
        let times = own.end_warnings.as_ref().unwrap_or(&self.stage.limits.end_warnings).iter().map(|time| time.get());
        let too_old = self.lifetime().and_then(|lifetime| self.stage.opened.checked_add(lifetime)).map(tokio::time::Instant::from_std);
        let warnings = Warnings::new(times, too_old, self.stage.lease.outlook());
        stream::unfold((warnings, words), async |(mut warnings, words)| {
            let warning = warnings.next().await;
            let protocol = self.grant.connection().protocol();
            self.proxy.metrics.warned(protocol, warning.cause.word());
            self.proxy.audit.warned(self.grant.session(), &warning);
            Some((words(&warning), (warnings, words)))
        })
    }

    /// How old it may become. `None`: as old as it likes.
    fn lifetime(&self) -> Option<Duration> {
        let lifetime = self.grant.connection().limits().max_lifetime.unwrap_or(self.stage.limits.max_lifetime);
        Some(lifetime.get()).filter(|lifetime| !lifetime.is_zero())
    }

    /// Resolves when the session has to end: somebody ends it, nothing moved for too long, it is too old, or its lease ends.
    pub async fn ends(&self) -> Reason {
        let own = self.grant.connection().limits();
        let limits = &self.stage.limits;
        let idle = own.idle_timeout.unwrap_or(limits.idle_timeout).get();
        let too_old = async {
            match self.lifetime() {
                Some(lifetime) => tokio::time::sleep(lifetime.saturating_sub(self.stage.opened.elapsed())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            reason = self.stage.registered.ended() => reason,
            () = self.stage.traffic.idled(idle) => Reason::Idle,
            () = too_old => Reason::Lifetime,
            end = self.stage.lease.ended() => match end {
                LeaseEnd::Expired => Reason::LeaseEnd,
                LeaseEnd::Lost | LeaseEnd::TokenDied => Reason::LeaseLost,
            },
        }
    }
}
