//! What keeps a token alive: renewed at two thirds, taken anew when its file changes, told of when its end comes near (vault.md §3.5).

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use keyward_config::Stamp;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Token, Tokens, Verdict};
use crate::store::keeper::jitter;
use crate::store::vault::answer::{Answer, Failure};
use crate::store::vault::client::{Call, Retry, Space};
use crate::store::vault::errors::explain;
use crate::store::vault::login::Login;
use crate::store::{StoreError, StoreErrorKind};

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);
const A_DAY: Duration = Duration::from_secs(86_400);
/// How often a file is looked at in which a new token or a new wrapped secret id may come.
const LOOK: Duration = Duration::from_secs(1);
/// Which part of its life a token has left when it is told, in hundredths, that nothing replaces it.
const TOLD: [u32; 3] = [20, 10, 5];
/// A token with less than this, or than a tenth of its time, is replaced if it cannot be renewed.
const LAST_MOMENTS: Duration = Duration::from_secs(10);

/// What is known of a token once its renewal was asked for.
pub(super) enum Outlook {
    GoesOn,
    /// It goes on as long as leases live from it: another one has taken its place.
    Former,
    /// No renewal prolongs it as it should.
    Ends,
}

/// Wakes at two thirds of what the token has left, and when its file changes, until it is dead, nobody needs it, or it has no owner.
/// `file` is as it was before the token was got.
pub(super) async fn keep_alive(tokens: Weak<Tokens>, token: Arc<Token>, mut file: Option<Watched>) {
    let (mut failures, mut told, mut reminded) = (0_u32, 0, None);
    if let Some(tokens) = tokens.upgrade() {
        token.noted(remind(&tokens, &mut reminded).await);
    }
    loop {
        let left = token.left().filter(|left| !left.is_zero());
        // A dead one waits for its file: what comes there ends, too, if nobody takes it.
        let wait = left.map(|left| pause(left, failures));
        if wait.is_none() && file.is_none() {
            return;
        }
        let woke = wake(wait, file.as_mut(), || tokens.upgrade().is_none_or(|tokens| tokens.is_former(&token))).await;
        let Some(tokens) = tokens.upgrade() else { return };
        let former = tokens.is_former(&token);
        let result = match woke {
            Woke::Former => {
                file = None;
                continue;
            }
            Woke::Changed => tokens.replace(&token).await,
            Woke::Time if former && !(token.renewable && token.is_held()) => return,
            Woke::Time => tokens.prolong(&token).await,
        };
        match result {
            Ok(true) => {
                (failures, told) = (0, 0);
                token.noted(remind(&tokens, &mut reminded).await);
            }
            Ok(false) => return,
            Err(error) if former => {
                tracing::info!(store = tokens.client().name, %error, "a former token of the store could not be kept alive");
                failures = failures.saturating_add(1);
            }
            Err(error) => {
                let news = told_at(&token) > told || failures == 0 || woke == Woke::Changed;
                told = told_at(&token);
                tell(&tokens, &token, &error, news);
                failures = failures.saturating_add(1);
            }
        }
    }
}

impl Tokens {
    /// Asks for so much more time.
    pub(super) async fn renew(&self, token: &Token, wanted: Duration) -> Result<Outlook, StoreError> {
        if !token.renewable || token.capped.load(Ordering::Relaxed) {
            return Ok(Outlook::Ends);
        }
        let body = json!({ "increment": wanted.as_secs() });
        let path = "auth/token/renew-self";
        let call = Call { method: Method::POST, body: Some(&body), paced: true, space: Space::Login, ..Call::get("token_renew", path) };
        let client = self.client();
        let answer = match client.call(&call, Some(&token.text), Retry::Idempotent).await {
            Ok(answer) => answer,
            Err(failure) => return self.not_renewed(token, failure).await.map(|()| Outlook::Ends),
        };
        let granted = answer.body.get("auth").and_then(|auth| auth.get("lease_duration")).and_then(Value::as_u64);
        let granted = Duration::from_secs(granted.unwrap_or_default());
        token.end.send_replace(answer.asked.checked_add(granted));
        // Less than was asked: its last end is near, and no renewal moves it. A periodic one gets its period, whatever is asked; as much may
        // be what another one has left in its first second.
        let (second, capped) = (Duration::from_secs(1), is_capped(&answer));
        let goes_on = granted.saturating_add(second) >= wanted || (granted.abs_diff(token.increment) <= second && !capped);
        token.last_end.store(capped || !goes_on, Ordering::Relaxed);
        token.capped.store(capped, Ordering::Relaxed);
        if self.is_former(token) {
            return Ok(Outlook::Former);
        }
        client.observer.token_life(&client.name, token.left());
        Ok(if goes_on { Outlook::GoesOn } else { Outlook::Ends })
    }

    /// A renewal failed. `Ok`: a login is to replace the token now. A token that turns out to be dead ends what it issued at once.
    async fn not_renewed(&self, token: &Token, failure: Failure) -> Result<(), StoreError> {
        let error = match failure {
            Failure::Refused(refused) if refused.status == 400 => {
                token.last_end.store(true, Ordering::Relaxed);
                return Ok(());
            }
            Failure::Refused(refused) if refused.status == 403 => match self.judge(token, &refused).await {
                Ok(Verdict::Dead) => {
                    self.bury(token);
                    return Ok(());
                }
                Ok(Verdict::Alive) => {
                    token.last_end.store(true, Ordering::Relaxed);
                    return Ok(());
                }
                Err(error) => error,
            },
            failure => explain("renewing our token", failure),
        };
        // A server that cannot renew may still be able to log us in, and soon nothing else will help.
        let tenth = token.increment.checked_div(10).unwrap_or_default();
        if token.left().is_some_and(|left| left < LAST_MOMENTS.max(tenth)) { Ok(()) } else { Err(error) }
    }
}

/// The server says that the end which was asked for lies behind the last one (both servers: sdk/framework/lease.go; of a period, it says
/// the like in other words).
fn is_capped(answer: &Answer) -> bool {
    let warnings = answer.body.get("warnings").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    warnings.into_iter().any(|warning| warning.starts_with("TTL of ") && warning.contains("exceeded the effective max_ttl"))
}

/// Two thirds of what is left, less up to a tenth of that, so that those who began together do not stay together; after a failure sooner.
fn pause(left: Duration, failures: u32) -> Duration {
    let two_thirds = left.saturating_mul(2).checked_div(3).unwrap_or_default();
    let tenth = two_thirds.checked_div(10).unwrap_or_default();
    // Between a half of it and all of it: twice that less its length is between none and all.
    let some = jitter(tenth).saturating_mul(2).saturating_sub(tenth);
    let wait = match failures.checked_sub(1) {
        None => two_thirds.saturating_sub(some),
        Some(before) => jitter(FIRST_RETRY.saturating_mul(1_u32.checked_shl(before).unwrap_or(u32::MAX)).min(LAST_RETRY)).min(two_thirds),
    };
    wait.max(Duration::from_millis(500))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woke {
    Time,
    Changed,
    /// Another token has taken this one's place, and its file is that one's.
    Former,
}

/// Waits that long, or for ever; or until the file changes.
async fn wake(wait: Option<Duration>, file: Option<&mut Watched>, is_former: impl Fn() -> bool) -> Woke {
    let until = wait.and_then(|wait| Instant::now().checked_add(wait));
    let Some(file) = file else {
        tokio::time::sleep(wait.unwrap_or(Duration::MAX)).await;
        return Woke::Time;
    };
    loop {
        let left = until.map_or(LOOK, |until| until.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return Woke::Time;
        }
        tokio::time::sleep(left.min(LOOK)).await;
        if is_former() {
            return Woke::Former;
        }
        if file.changed().await {
            return Woke::Changed;
        }
    }
}

/// Files that somebody else replaces, each as it was last.
pub(super) struct Watched(Vec<(PathBuf, Option<Stamp>)>);

impl Watched {
    /// Those of this login, if it has any.
    pub(super) async fn of(login: &Login) -> Option<Self> {
        let mut watched = Self(login.watched().into_iter().map(|path| (path.to_path_buf(), None)).collect());
        if watched.0.is_empty() {
            return None;
        }
        watched.changed().await;
        Some(watched)
    }

    /// Whether one is another one now. That it is gone is no change: whoever writes it may remove it before.
    async fn changed(&mut self) -> bool {
        let paths: Vec<PathBuf> = self.0.iter().map(|(path, _)| path.clone()).collect();
        let look = move || paths.iter().map(|path| Stamp::of(path)).collect::<Vec<_>>();
        let stamps = tokio::task::spawn_blocking(look).await.unwrap_or_default();
        let mut changed = false;
        for ((_, known), now) in self.0.iter_mut().zip(stamps) {
            if now.is_some() && now != *known {
                (*known, changed) = (now, true);
            }
        }
        changed
    }
}

/// The first login, until there is a token. What the store refuses waits for its file: what comes there ends, if nobody takes it.
pub(super) async fn begin(tokens: Weak<Tokens>) {
    let mut wait = FIRST_RETRY;
    let mut file = None;
    while let Some(known) = tokens.upgrade().filter(|known| !known.stands_back()) {
        let way = known.way.load_full();
        // As it was before it is read.
        if file.is_none() {
            file = Watched::of(&way.login).await;
        }
        let Err(error) = known.get().await else { return };
        drop(known);
        if matches!(error.kind, StoreErrorKind::Unavailable | StoreErrorKind::Throttled) {
            drop(way);
            tokio::time::sleep(jitter(wait)).await;
            wait = wait.saturating_mul(2).min(LAST_RETRY);
            continue;
        }
        let Some(file) = file.as_mut() else { return };
        tracing::info!(store = way.client.name, %error, "the login to the store waits for another file");
        drop(way);
        let has_one = |tokens: Arc<Tokens>| tokens.current.load().is_some() || tokens.stands_back();
        if wake(None, Some(file), || tokens.upgrade().is_none_or(has_one)).await == Woke::Former {
            return;
        }
        wait = FIRST_RETRY;
    }
}

/// How many of the marks its life has passed.
fn told_at(token: &Token) -> usize {
    let Some(left) = token.left() else { return 0 };
    TOLD.iter().filter(|part| left.saturating_mul(100) < token.increment.saturating_mul(**part)).count()
}

/// What is about to end that the next login needs; in the log once a day.
async fn remind(tokens: &Tokens, reminded: &mut Option<Instant>) -> Option<String> {
    let way = tokens.way.load_full();
    let warning = way.login.warning().await?;
    if reminded.is_none_or(|at| at.elapsed() >= A_DAY) {
        *reminded = Some(Instant::now());
        tracing::warn!(store = way.client.name, warning, "the store's login");
    }
    Some(warning)
}

/// Warned about once at each mark, not at each try.
fn tell(tokens: &Tokens, token: &Token, error: &StoreError, news: bool) {
    let client = tokens.client();
    let (store, left) = (&client.name, token.left());
    if news {
        tracing::warn!(store, ?left, %error, "the store's token could not be kept alive");
    } else {
        tracing::debug!(store, ?left, %error, "the store's token could not be kept alive");
    }
    client.observer.token_life(store, left);
    if let Some(left) = left {
        token.noted(Some(format!("its token ends in {} s, and nothing replaces it so far: {}", left.as_secs(), error.detail)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewals_come_before_two_thirds_apart_from_each_other_and_sooner_after_a_failure() {
        let (hour, seconds) = (Duration::from_secs(3600), Duration::from_secs);
        let waits: Vec<Duration> = (0..50).map(|_| pause(hour, 0)).collect();
        assert!(waits.iter().all(|wait| (seconds(2160)..=seconds(2400)).contains(wait)), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait != waits[0]));
        for failures in 1..40 {
            let most = seconds(1 << (failures - 1).min(5)).min(LAST_RETRY);
            assert!((most / 2..=most).contains(&pause(hour, failures)), "{failures}");
            assert!(pause(seconds(3), failures) <= seconds(2), "never past the end");
        }
    }
}
