//! Our token: got when first needed, replaced when it is dead or near an end that no renewal moves (vault.md §2.3, §3, §9). What keeps it
//! alive meanwhile is in token/renewal.rs; how a reload goes on with it, in token/access.rs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::future::BoxFuture;
use reqwest::header::HeaderValue;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use self::access::Way;
use self::renewal::{Outlook, Watched, keep_alive};
use super::answer::{Failure, Refused};
use super::client::{Call, Client, Retry, Space};
use super::errors::{TokenHint, explain, token_hint};
use super::login::{Granted, Rejected};
use crate::store::{StoreError, StoreErrorKind};

pub(super) use self::access::Access;

/// A token that is told dead is replaced at most once in this time, or a mistake in a policy becomes a storm of logins.
const REPLACE_PAUSE: Duration = Duration::from_secs(30);

/// A token that the store accepted. Leases hold on to its end.
pub(super) struct Token {
    pub(super) text: HeaderValue,
    pub(super) renewable: bool,
    warnings: Vec<String>,
    /// What is about to end: itself, where nothing replaces it, or what the next login needs.
    note: Mutex<Option<String>>,
    generation: u64,
    increment: Duration,
    issued: tokio::time::Instant,
    /// The store stopped to know it before its end.
    found_dead: AtomicBool,
    /// The last renewal gave less than was asked, or was refused: no other one moves its end.
    last_end: AtomicBool,
    /// The store said at a renewal that its end is the last one. It is not renewed again: that would only look as if it had been given less and
    /// less time, and is answered with a 500 in its last second.
    capped: AtomicBool,
    end: watch::Sender<Option<Instant>>,
}

/// The token of one store. A reload may lead to it by another way.
pub(super) struct Tokens {
    way: ArcSwap<Way>,
    current: ArcSwapOption<Token>,
    /// One login at a time.
    history: tokio::sync::Mutex<History>,
    /// When one that lasts longer was last asked for, and how long it was to last.
    lasting: tokio::sync::Mutex<Option<(Instant, Duration)>>,
    renewers: Mutex<Renewers>,
    /// A reload has opened another store in the place of this one, which lives on for the leases that live from its tokens: what is left of a
    /// login is not its to take.
    successor: OnceLock<Successor>,
}

/// What sees to it that there is a token.
#[derive(Default)]
struct Renewers {
    all: JoinSet<()>,
    /// The one that sees to the first.
    first: Option<AbortHandle>,
}

#[derive(Default)]
struct History {
    generation: u64,
    /// The last login, if it failed: all who began to wait before share it, instead of one after the other trying again.
    failed: Option<(Instant, StoreError)>,
    /// When a token that was told dead was last replaced.
    replaced: Option<Instant>,
}

/// What a 403 meant.
enum Verdict {
    Dead,
    Alive,
}

impl Token {
    /// When it dies; changes when it is renewed or found dead.
    pub(super) fn end(&self) -> watch::Receiver<Option<Instant>> {
        self.end.subscribe()
    }

    /// What is left of it. `None`: it lives for ever.
    pub(super) fn left(&self) -> Option<Duration> {
        self.end.borrow().map(|end| end.saturating_duration_since(Instant::now()))
    }

    /// From its login to its end as it is now: once that is its last one, another token of the same login lives as long. `None`: for ever.
    fn whole(&self) -> Option<Duration> {
        self.left().map(|left| left.saturating_add(self.issued.elapsed()))
    }

    /// What an admin ought to know of it.
    pub(super) fn warnings(&self) -> Vec<String> {
        let note = self.note.lock().ok().and_then(|note| note.clone());
        self.warnings.iter().cloned().chain(note).collect()
    }

    fn noted(&self, what: Option<String>) {
        if let Ok(mut note) = self.note.lock() {
            *note = what;
        }
    }

    /// The store says when it ends. In whole seconds: about the same end is no other one, of which the leases would have to hear.
    fn looked_up(&self, end: Option<Instant>) {
        let apart = |known: Instant, end: Instant| known.max(end).saturating_duration_since(known.min(end));
        self.end.send_if_modified(|known| {
            let same = known.zip(end).is_some_and(|(known, end)| apart(known, end) <= Duration::from_secs(1));
            if !same {
                *known = end;
            }
            !same
        });
    }

    /// The store stopped to know it.
    fn bury(&self) {
        self.found_dead.store(true, Ordering::Relaxed);
        self.end.send_replace(Some(Instant::now()));
    }

    /// Leases live from it: while they do, it is renewed as far as it goes, and never revoked (vault.md §9).
    fn is_held(&self) -> bool {
        self.end.receiver_count() > 0 && self.is_alive() && !self.capped.load(Ordering::Relaxed)
    }

    fn is_alive(&self) -> bool {
        self.left().is_none_or(|left| !left.is_zero())
    }
}

/// Who has taken the place of a store.
enum Successor {
    /// Where the same server answers: its tokens give our leases back as well as ours did.
    Here(Weak<Tokens>),
    /// Elsewhere. What a login would read was read for that one: it would be shown to a server that it is not for.
    Elsewhere,
}

/// The token of who has taken our place.
fn instead(successor: &Successor) -> BoxFuture<'static, Result<Arc<Token>, StoreError>> {
    let there = match successor {
        Successor::Here(tokens) => tokens.upgrade(),
        Successor::Elsewhere => None,
    };
    Box::pin(async move {
        let gone = || StoreError::new(StoreErrorKind::Unavailable, "another store has taken its place, and it has no token any more");
        there.ok_or_else(gone)?.get().await
    })
}

impl Tokens {
    fn new(way: Arc<Way>) -> Arc<Self> {
        let (way, current) = (ArcSwap::new(way), ArcSwapOption::empty());
        let (history, lasting, renewers) = Default::default();
        Arc::new(Self { way, current, history, lasting, renewers, successor: OnceLock::new() })
    }

    /// The token; logs in if there is none.
    pub(super) async fn get(self: &Arc<Self>) -> Result<Arc<Token>, StoreError> {
        match self.current.load_full().filter(|token| token.is_alive()) {
            Some(token) => Ok(token),
            None => self.log_in().await,
        }
    }

    /// From now on this is the way; by it a first token is got at once, where what proves us would end meanwhile.
    fn go_by(self: &Arc<Self>, way: &Arc<Way>) {
        self.way.store(Arc::clone(way));
        let Ok(mut renewers) = self.renewers.lock() else { return };
        if way.login.ends_unused() && renewers.first.as_ref().is_none_or(AbortHandle::is_finished) {
            renewers.first = Some(renewers.all.spawn(renewal::begin(Arc::downgrade(self))));
        }
    }

    fn stand_back(&self, successor: Successor) {
        let _ = self.successor.set(successor);
    }

    fn stands_back(&self) -> bool {
        self.successor.get().is_some()
    }

    fn client(&self) -> Arc<Client> {
        Arc::clone(&self.way.load().client)
    }

    /// A call with this token was answered 403. A living token: `None`. A dead one: its successor.
    pub(super) async fn rejected(self: &Arc<Self>, token: &Arc<Token>, refused: &Refused) -> Result<Option<Arc<Token>>, StoreError> {
        if let Some(newer) = self.newer_than(token) {
            return Ok(Some(newer));
        }
        match self.judge(token, refused).await? {
            Verdict::Alive => Ok(None),
            Verdict::Dead => {
                self.bury(token);
                self.log_in().await.map(Some)
            }
        }
    }

    /// A new token, from one login that all who wait for it share, and that a vanishing client does not cut off.
    async fn log_in(self: &Arc<Self>) -> Result<Arc<Token>, StoreError> {
        let tokens = Arc::clone(self);
        let since = Instant::now();
        let task = tokio::spawn(async move {
            let mut history = tokens.history.lock().await;
            let replaces = match tokens.current.load_full() {
                Some(current) if current.is_alive() => return Ok(current),
                current => current.is_some_and(|dead| dead.found_dead.load(Ordering::Relaxed)),
            };
            if let Some(successor) = tokens.successor.get() {
                drop(history);
                return instead(successor).await;
            }
            if let Some((_, error)) = history.failed.as_ref().filter(|(at, _)| *at >= since) {
                return Err(error.clone());
            }
            if replaces && history.replaced.is_some_and(|at| at.elapsed() < REPLACE_PAUSE) {
                let hint = "right after its login; check the role's token_bound_cidrs, token_num_uses and policies";
                return Err(StoreError::new(StoreErrorKind::LoginFailed, format!("the store rejects our token {hint}")));
            }
            let token = tokens.log_in_now(&mut history).await?;
            if replaces {
                history.replaced = Some(Instant::now());
            }
            Ok(token)
        });
        task.await.unwrap_or_else(|_| Err(StoreError::new(StoreErrorKind::Unavailable, "the login was cut off")))
    }

    async fn log_in_now(self: &Arc<Self>, history: &mut History) -> Result<Arc<Token>, StoreError> {
        let result = self.try_log_in(history).await;
        history.failed = result.as_ref().err().map(|error| (Instant::now(), error.clone()));
        result
    }

    async fn try_log_in(self: &Arc<Self>, history: &mut History) -> Result<Arc<Token>, StoreError> {
        let way = self.way.load_full();
        let Way { client, login, .. } = &*way;
        // Looked at before it is read: what comes in between is seen later.
        let file = Watched::of(login).await;
        let ready = login.prepare(client).await?;
        let fingerprint = ready.fingerprint();
        if let Some(rejected) = way.held_back().of(&fingerprint) {
            return Err(rejected.error.clone());
        }
        let result = login.perform(client, &ready).await;
        way.held_back().learn(fingerprint, &result);
        let granted = result.map_err(|Rejected { error, .. }| {
            if error.kind == StoreErrorKind::LoginFailed {
                tracing::error!(store = client.name, %error, "the store refused our login");
            }
            error
        })?;
        if let Some(current) = self.current.load_full().filter(|current| current.is_alive() && current.text == granted.text) {
            current.looked_up(granted.end);
            client.observer.token_life(&client.name, current.left());
            return Ok(current);
        }
        history.generation = history.generation.saturating_add(1);
        Ok(self.install(client, granted, history.generation, file))
    }

    fn install(self: &Arc<Self>, client: &Client, granted: Granted, generation: u64, file: Option<Watched>) -> Arc<Token> {
        let Granted { text, accessor, policies, end, renewable, increment, warnings } = granted;
        for warning in &warnings {
            tracing::warn!(store = client.name, warning, "the store's token");
        }
        let (found_dead, last_end, capped, note) = Default::default();
        let (issued, end) = (tokio::time::Instant::now(), watch::Sender::new(end));
        let token = Arc::new(Token { text, renewable, warnings, note, generation, increment, issued, found_dead, last_end, capped, end });
        tracing::info!(
            store = client.name,
            accessor,
            ?policies,
            seconds = token.left().map(|left| left.as_secs()),
            renewable,
            "logged in to the store"
        );
        self.current.store(Some(Arc::clone(&token)));
        client.observer.token_life(&client.name, token.left());
        if let Ok(Renewers { all, .. }) = self.renewers.lock().as_deref_mut() {
            while all.try_join_next().is_some() {}
            all.spawn(keep_alive(Arc::downgrade(self), Arc::clone(&token), file));
        }
        token
    }

    fn newer_than(&self, token: &Token) -> Option<Arc<Token>> {
        self.current.load_full().filter(|current| current.generation > token.generation && current.is_alive())
    }

    fn bury(&self, token: &Token) {
        token.bury();
        if !self.is_former(token) {
            let client = self.client();
            client.observer.token_life(&client.name, token.left());
        }
    }

    /// Whether another one has taken its place, or will.
    fn is_former(&self, token: &Token) -> bool {
        self.stands_back() || self.current.load().as_ref().is_some_and(|current| current.generation > token.generation)
    }

    async fn judge(&self, token: &Token, refused: &Refused) -> Result<Verdict, StoreError> {
        if token_hint(&refused.errors) == TokenHint::Dead {
            return Ok(Verdict::Dead);
        }
        // A standby that lags behind may not know a token that lives.
        let call = Call { fresh: true, space: Space::Login, ..Call::get("token_lookup", "auth/token/lookup-self") };
        match self.client().call(&call, Some(&token.text), Retry::Idempotent).await {
            Ok(_) => Ok(Verdict::Alive),
            Err(Failure::Refused(refused)) if refused.status == 403 => {
                Ok(if token_hint(&refused.errors) == TokenHint::Policy { Verdict::Alive } else { Verdict::Dead })
            }
            // Not known: the token is kept, and the store counts as away.
            Err(failure) => Err(explain("looking up our token", failure)),
        }
    }

    /// Renews, or logs in anew where that is no longer worth it. `true`: this token goes on.
    async fn prolong(self: &Arc<Self>, token: &Arc<Token>) -> Result<bool, StoreError> {
        match self.renew(token, token.increment).await? {
            Outlook::GoesOn => Ok(true),
            Outlook::Former => Ok(token.is_held()),
            Outlook::Ends => self.replace(token).await,
        }
    }

    /// Logs in anew. `true`: the same token goes on, since somebody else made it and it gives itself again, or since leases live from it.
    async fn replace(self: &Arc<Self>, token: &Arc<Token>) -> Result<bool, StoreError> {
        let mut history = self.history.lock().await;
        let goes_on = || token.renewable && token.is_held();
        if self.newer_than(token).is_some() || self.stands_back() {
            return Ok(goes_on());
        }
        Ok(self.log_in_now(&mut history).await?.generation == token.generation || goes_on())
    }
}

mod access;
mod lasting;
mod renewal;
#[cfg(test)]
mod tests;
