//! Secret stores: what one must do, what is issued, and the list of kinds.
//!
//! `Gate` calls [`Stores`] (stores.rs), which turns a grant into a [`Lease`] by the account's plan (plan.rs, reference.rs). Secrets
//! without a lease are read through the cache (cache.rs). Leased ones are asked for, renewed and given back by a task of their own
//! (leases.rs, keeper.rs) that no vanishing client can cancel, and are on disk before anybody uses them (journal.rs). Where the connection
//! says so, sessions that overlap use one together (sharing.rs). Keys that live as long as a login are made here and signed by the store
//! (signing.rs).
//!
//! Adding a store: a folder here, a `mod` line, a row in [`KINDS`], a bed in contract/beds.rs. Where its secrets are plain texts, text.rs says
//! what they mean; calls.rs counts its calls and ends them in time; sealing.rs is for values that lie with others.

mod cache;
mod calls;
#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod contract;
mod credential;
mod env;
mod error;
mod file;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub(crate) mod input;
mod journal;
mod keeper;
mod lease;
mod leases;
mod named;
pub(crate) mod needs;
mod opened;
mod plan;
pub(crate) mod policies;
mod quota;
mod reference;
pub(crate) mod sealing;
mod sharing;
mod signing;
mod spelling;
mod stores;
mod table;
mod text;
mod vault;
mod writer;

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, ready};
use keyward_config::{Node, StoreSettings};
use tokio::sync::watch;

use crate::{Grant, SessionId};

pub(crate) use calls::blocking;
pub use credential::{Credential, Provenance};
pub(crate) use credential::{Document, wipe};
pub use error::{StoreError, StoreErrorKind};
pub(crate) use input::{Input, Outer};
pub(crate) use lease::LeaseId;
pub use lease::{Lease, LeaseEnd, Outlook};
pub use leases::LeaseStats;
pub(crate) use leases::Leases;
pub(crate) use plan::CredentialPlan;
pub(crate) use policies::Policies;
pub use policies::{AskStore, PolicyOf, Rights, StorePolicy};
pub(crate) use reference::{Form, Reference, SINGLE, SecretPath, Selector, WORDS, is_exact};
pub(crate) use spelling::Scope;
pub(crate) use stores::Stores;
pub use writer::{Destroy, Held, History, Metadata, MetadataChange, Values, Version, Written};
pub(crate) use writer::{Sealing, Wants, Writer, Writing};

/// Every kind of store. Checks, schema, documentation, metric labels and the contract tests iterate it.
pub const KINDS: &[Kind] = &[vault::KIND, file::KIND, env::KIND, table::KIND];

/// A kind of store.
pub struct Kind {
    /// Its word and its keys in the file.
    pub settings: StoreSettings,
    /// Whether it has mounts, and roles that make credentials, beside secrets; else its paths are names of secrets and nothing more.
    pub(crate) roles: bool,
    /// Opens a store of this kind. Does no I/O, and takes nothing away from the one that was open before: [`Store::begin`] says whether the
    /// file is taken over. The first request logs in.
    pub(crate) open: Open,
    /// The logins that it has beside its own, each with rights of its own: connections name them as their `runner`.
    pub(crate) runners: fn(&keyward_config::Store) -> Vec<String>,
    /// The files that `open` reads: a reload opens the store anew where one of them has changed.
    pub(crate) files: fn(&keyward_config::Store) -> Vec<PathBuf>,
    /// How operators write to it. `None`: its secrets come to it by other ways.
    pub(crate) write: Option<Writing>,
    /// How operators seal what it reads. `None`: it reads nothing sealed, or they write it sealed.
    pub(crate) seal: Option<Sealing>,
}

impl Kind {
    /// The row of a store of the file.
    pub(crate) fn of(store: &keyward_config::Store) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.settings.name == store.kind)
    }
}

type Open = fn(&Opening<'_>) -> Result<Arc<dyn Store>, String>;

/// What a store is opened with.
pub(crate) struct Opening<'a> {
    /// The entry of the file.
    pub(crate) store: &'a keyward_config::Store,
    /// Its name in logs and metrics: that of the entry, with the runner's.
    pub(crate) label: &'a str,
    /// Which of its logins. `None`: its own.
    pub(crate) runner: Option<&'a str>,
    pub(crate) stay: Stay,
    pub(crate) observer: Arc<dyn Observer>,
    /// The stores that its own credentials may be in.
    pub(crate) outer: Arc<dyn Outer>,
    /// The store that a reload found open under the same name.
    pub(crate) former: Option<Former<'a>>,
}

/// What the store had that a reload opens anew.
pub(crate) struct Former<'a> {
    /// What the file said of it.
    pub(crate) node: &'a Node,
    /// Whether the stores that its own credentials are in are the same.
    pub(crate) same_outer: bool,
    /// See [`Store::login`].
    pub(crate) login: Arc<dyn Any + Send + Sync>,
}

/// Whether the process that opens a store stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stay {
    /// It serves sessions: what can be had once is its to take.
    Serves,
    /// It looks, and ends: what can be had once is left to the one that serves.
    Looks,
}

/// What the stores tell those who count. No value, no token, no path ever goes here: labels are the store's name and fixed words.
pub trait Observer: Send + Sync {
    /// One request to a store ended.
    fn store_call(&self, store: &str, operation: &'static str, outcome: &'static str, took: Duration);
    /// The token of a store changed or was renewed; it lives this much longer. `None`: for ever.
    fn token_life(&self, store: &str, left: Option<Duration>);
    /// A secret came from the cache (`hit`), from the store (`miss`) or was older than its time (`stale`).
    fn cache(&self, store: &str, outcome: &'static str);
    /// Something happened to a lease: `issued`, `joined` (a further session uses it), `renewed`, `revoked`, `revoke_failed`, `lost`,
    /// `expired` (never given back), `possible_orphan`; `over_quota` (its user has as many as he may) and `too_short` (it leaves a session less
    /// than `min_session`).
    fn lease(&self, store: &str, event: &'static str);
    /// Somebody else seems to have had what only we should have: `wrapped_secret_id_consumed`, `wrapped_secret_id_forged`,
    /// `wrapped_secret_id_rewrapped`.
    fn security(&self, store: &str, event: &'static str);
    /// A store was opened; whether nothing verifies its server.
    fn store_opened(&self, _store: &str, _unverified: bool) {}
    /// A store counts as away (`true`): it did not answer several times in a row; or it is back, or was let go while it was away. After a
    /// reload two of one name may be there for a while, and each says it of itself.
    fn store_away(&self, _store: &str, _away: bool) {}
}

/// Nobody counts: for commands that end with what they do.
pub struct Unobserved;

impl Observer for Unobserved {
    fn store_call(&self, _: &str, _: &'static str, _: &'static str, _: Duration) {}
    fn token_life(&self, _: &str, _: Option<Duration>) {}
    fn cache(&self, _: &str, _: &'static str) {}
    fn lease(&self, _: &str, _: &'static str) {}
    fn security(&self, _: &str, _: &'static str) {}
}

/// A secret store. Object safe: connections name it in the file.
pub(crate) trait Store: Send + Sync {
    /// Reads a secret that has no lease (a KV version, a static role's password) for this session. `fresh` goes past every replica's delay.
    fn read<'a>(&'a self, session: SessionId, path: &'a SecretPath, fresh: bool) -> BoxFuture<'a, Result<Document, StoreError>>;

    /// Issues a leased credential. Not idempotent: each call makes an account. The caller runs it where nobody cancels it.
    fn issue<'a>(&'a self, _grant: &'a Grant, wanted: &'a Wanted) -> BoxFuture<'a, Result<Issued, StoreError>> {
        Box::pin(ready(Err(no_roles(&wanted.path))))
    }

    /// Has a role sign a certificate that lets the owner of this key in as `principal`, for as long as a login takes. `key` is
    /// `type base64`. Nobody has checked what comes back.
    fn certify<'a>(
        &'a self,
        _grant: &'a Grant,
        role: &'a SecretPath,
        _key: &'a str,
        _principal: &'a str,
    ) -> BoxFuture<'a, Result<Signed, StoreError>> {
        Box::pin(ready(Err(no_roles(role))))
    }

    /// Asks that the lease live for `increment` from now. The answer says how long it does.
    fn renew<'a>(&'a self, _lease_id: &'a str, _increment: Duration) -> BoxFuture<'a, Result<Duration, StoreError>> {
        Box::pin(ready(Err(no_leases())))
    }

    /// Gives a lease back. Idempotent: an unknown lease is a success.
    fn revoke<'a>(&'a self, _lease_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(ready(Err(no_leases())))
    }

    /// Reachable, logged in, how long the token lives. Logs in if need be. For `check` and readiness.
    fn status(&self) -> BoxFuture<'_, Result<StoreStatus, StoreError>>;

    /// Itself, where what it lets a login do is told by policies.
    fn policies(&self) -> Option<&dyn Policies> {
        None
    }

    /// The file that names it is in force from now on, or still is; called where it serves sessions. What may not wait for the first request
    /// begins now, in tasks of its own.
    fn begin(&self) {}

    /// Its login, with which another one of its kind may go on that a reload opens under its name. `None`: that one logs in anew.
    fn login(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }

    /// What the file said of where it is, without a secret, so that a journal entry finds its store again after a restart.
    fn identity(&self) -> &str;

    /// Whether a journal entry of this identity is one of its own.
    fn was(&self, identity: &str) -> bool {
        identity == self.identity()
    }
}

fn no_roles(path: &SecretPath) -> StoreError {
    StoreError::new(StoreErrorKind::Malformed, format!("{path}: a store of this kind has secrets, and no roles that make credentials"))
}

fn no_leases() -> StoreError {
    StoreError::new(StoreErrorKind::LeaseLost, "a store of this kind issues no leases")
}

/// What [`Store::issue`] is asked for.
#[derive(Clone)]
pub(crate) struct Wanted {
    /// The role.
    pub(crate) path: SecretPath,
    /// Whom it is for, where a role serves several. Goes into no log.
    pub(crate) username: Option<String>,
    /// What the audit record says of it.
    pub(crate) shown: Vec<String>,
}

/// How long a credential is of use to the session that got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// As long as the session: with its lease ends what the upstream lets the session do.
    Session,
    /// Until it is logged in: it opens one login, and the session does not end with it.
    Login,
}

/// What [`Store::certify`] gives.
pub(crate) struct Signed {
    /// The certificate as a line.
    pub(crate) certificate: String,
    pub(crate) request_id: String,
}

/// What [`Store::issue`] gives.
pub(crate) struct Issued {
    pub(crate) document: Document,
    pub(crate) lease_id: LeaseId,
    /// When the request for it began: its time is counted from here, so that we are never later than the store.
    pub(crate) asked: Instant,
    pub(crate) duration: Duration,
    pub(crate) renewable: bool,
    pub(crate) used: Use,
    /// When the token that issued it dies, and the lease with it. `None`: it does not. It moves when the token is renewed, and
    /// becomes now when the store stops to know the token.
    pub(crate) token_end: watch::Receiver<Option<Instant>>,
}

/// What a store says of itself.
#[derive(Debug, Clone)]
pub struct StoreStatus {
    /// The server's own version text, escaped for showing.
    pub version: String,
    /// Whether we are known to it by a token; else the next two say nothing.
    pub has_token: bool,
    /// How long our token lives. `None`: for ever.
    pub token_left: Option<Duration>,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// What an admin ought to know: a root token, a token with limited uses, a clock that differs.
    pub warnings: Vec<String>,
}

impl StoreStatus {
    /// One without a token; `version` says what it is.
    pub(crate) fn tokenless(version: &str) -> Self {
        Self { version: version.to_owned(), has_token: false, token_left: None, renewable: false, warnings: Vec::new() }
    }
}
