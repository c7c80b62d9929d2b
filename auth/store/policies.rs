//! What a store has to allow a login of ours, and what it does allow: for `keyward policy` and `keyward check`.

use futures_util::future::BoxFuture;
use keyward_config::{Name, Store as Entry};

use super::StoreError;
use super::needs::Needs;

/// A policy for one of the logins to a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorePolicy {
    /// Whose it is.
    pub of: PolicyOf,
    /// It in the store's own language, with comments.
    pub text: String,
}

/// Whose a policy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyOf {
    /// The store's one login.
    Store,
    /// A runner of this name.
    Runner(String),
    /// The worker, which gets the runners their secret ids.
    Worker,
}

/// Whether a store may be asked for what the file leaves open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskStore {
    /// Where the file leaves something open. That it cannot be asked is no error.
    IfNeeded,
    /// The file alone.
    Never,
}

/// What a login may do, held against what the file needs. Sentences for people; paths are in them, and no secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// What the file needs and the store denies.
    pub lacks: Vec<String>,
    /// What the login could do and the file does not need.
    pub beyond: Vec<String>,
}

/// A kind of store that has policies.
pub(crate) trait Policies: Send + Sync {
    /// As which of its runners the store logs in for a connection that names this one, or none.
    fn role(&self, entry: &Entry, runner: Option<&Name>) -> Option<Name>;

    /// The policy of the store's worker, if it has one.
    fn worker(&self, entry: &Entry) -> Option<String>;

    /// The smallest policy that works for this role.
    fn policy<'a>(&'a self, entry: &'a Entry, role: Option<&'a Name>, needs: &'a Needs, ask: AskStore) -> BoxFuture<'a, String>;

    /// What our token may do.
    ///
    /// # Errors
    /// The store's. `Denied`: a token may not even ask.
    fn rights<'a>(&'a self, entry: &'a Entry, needs: &'a Needs) -> BoxFuture<'a, Result<Rights, StoreError>>;
}
