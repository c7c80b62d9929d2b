//! The way to a token; and how a store that a reload opens anew goes on with the token that it had.
//!
//! What an admin changes of a store is mostly not its login. A token that is dropped for that may be one that nothing replaces: what its
//! login needed could be had once.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use keyward_config::Node;

use super::{Successor, Tokens};
use crate::store::Former;
use crate::store::vault::client::Client;
use crate::store::vault::login::{HeldBack, Login};
use crate::store::vault::settings::Settings;

/// How a store is reached and logged in to, as one state of the file says.
pub(super) struct Way {
    pub(super) client: Arc<Client>,
    pub(super) login: Login,
    /// That of the login, as it is sent.
    namespace: String,
    /// What was refused there, also to the stores of before a reload.
    held_back: Arc<Mutex<HeldBack>>,
}

impl Way {
    fn new(client: Arc<Client>, login: Login, namespace: String) -> Self {
        login.show_on(&client);
        Self { client, login, namespace, held_back: Arc::default() }
    }

    pub(super) fn held_back(&self) -> MutexGuard<'_, HeldBack> {
        self.held_back.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tokens of an open store, and the way to them.
pub(in crate::store::vault) struct Access {
    way: Arc<Way>,
    tokens: Arc<Tokens>,
    /// Those of the store that was open before, where they are others, and whether the same server knows them.
    instead_of: Option<(Weak<Tokens>, Place)>,
}

/// Where a store is that was open before.
#[derive(Clone, Copy)]
enum Place {
    Same,
    Other,
}

impl Access {
    #[cfg(test)]
    pub(in crate::store::vault) fn new(client: Arc<Client>, login: Login) -> Arc<Self> {
        Self::of(Way::new(client, login, String::new()), None)
    }

    fn of(way: Way, former: Option<(&Self, Place)>) -> Arc<Self> {
        let (way, instead_of) = (Arc::new(way), former.map(|(former, place)| (Arc::downgrade(&former.tokens), place)));
        Arc::new(Self { tokens: Tokens::new(Arc::clone(&way)), way, instead_of })
    }

    /// That of a store which the file describes by `node`, with these settings. Where it is the one that was open before, it goes on with what
    /// that one's login knew; where its login is the same, too, with its token.
    pub(in crate::store::vault) fn open(
        client: Arc<Client>,
        mut login: Login,
        (node, settings): (&Node, &Settings),
        former: Option<&Former<'_>>,
    ) -> Arc<Self> {
        let namespace = settings.login_namespace().to_owned();
        let Some((former, access)) = former.and_then(|former| Some((former, former.login.downcast_ref::<Self>()?))) else {
            return Self::of(Way::new(client, login, namespace), None);
        };
        let there: Vec<&str> = access.way.client.origins().collect();
        // The nodes of one cluster know the same tokens.
        if !client.origins().any(|origin| there.contains(&origin)) || access.way.namespace != namespace {
            return Self::of(Way::new(client, login, namespace), Some((access, Place::Other)));
        }
        login.go_on_from(&access.way.login);
        let shown: &[&str] = if matches!(login, Login::Cert(_)) { &["client_cert", "client_key"] } else { &[] };
        let mut keys = ["auth"].iter().chain(shown);
        let is_another = !former.same_outer || keys.any(|key| former.node.get(key) != node.get(key));
        let way = Way { held_back: Arc::clone(&access.way.held_back), ..Way::new(client, login, namespace) };
        if is_another {
            return Self::of(way, Some((access, Place::Same)));
        }
        Arc::new(Self { way: Arc::new(way), tokens: Arc::clone(&access.tokens), instead_of: None })
    }

    /// From now on this is the way. Logs in before anybody asks, where what proves us would end meanwhile.
    pub(in crate::store::vault) fn begin(&self) {
        if let Some((former, place)) = self.instead_of.as_ref().and_then(|(former, place)| Some((former.upgrade()?, *place))) {
            former.stand_back(match place {
                Place::Same => Successor::Here(Arc::downgrade(&self.tokens)),
                Place::Other => Successor::Elsewhere,
            });
        }
        self.tokens.go_by(&self.way);
    }
}

impl Deref for Access {
    type Target = Arc<Tokens>;

    fn deref(&self) -> &Arc<Tokens> {
        &self.tokens
    }
}

#[cfg(test)]
mod tests;
