//! Opening the stores of the file: each store, and each of its runners that a connection names, with its cache; those whose own
//! credentials are in other stores after these.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use keyward_config::{Config, Name, Node, Problems, Stamp, Store as Entry};
use zeroize::Zeroizing;

use super::cache::{Cache, From, Read};
use super::named::Named;
use super::sharing::Sharing;
use super::{Former, Kind, Observer, Opening, Outer, Reference, Scope, SecretPath, Stay, StoreError, StoreErrorKind};
use crate::SessionId;
use crate::policy::Connection;

/// An open store, or a runner of one, with what is kept of it.
pub(crate) struct Opened {
    pub(crate) named: Named,
    pub(crate) cache: Cache,
    pub(crate) sharing: Arc<Sharing>,
    /// What the file said: an equal store lives on through a reload.
    made_of: MadeOf,
}

/// What an open store was made of.
struct MadeOf {
    kind: &'static str,
    node: Node,
    /// The files that it names, as they were when it was opened.
    files: Vec<Option<Stamp>>,
    /// The stores that its own credentials are in.
    outer: Vec<Arc<Opened>>,
}

/// What is to be opened.
pub(crate) struct Opens<'a> {
    pub(crate) config: &'a Config,
    pub(crate) connections: &'a BTreeMap<Name, Arc<Connection>>,
    pub(crate) observer: &'a Arc<dyn Observer>,
    pub(crate) stay: Stay,
    /// The open stores of the state before.
    pub(crate) carried: Option<&'a BTreeMap<String, Arc<Opened>>>,
}

/// How far the opening has come.
struct Run<'a> {
    /// Which stores are asked, and by which runner of theirs.
    used: BTreeSet<(Name, Option<Name>)>,
    /// The stores that wait for the one that is opened now, since their credentials are in it.
    way: Vec<&'a Name>,
    done: BTreeSet<&'a Name>,
    open: BTreeMap<String, Arc<Opened>>,
}

/// The stores that the credentials of one are in, and what its references mean, by their text.
struct Chain {
    references: BTreeMap<String, Reference>,
    open: BTreeMap<Name, Arc<Opened>>,
}

/// The name by which a store, or a runner of it, goes here, in the journal and in metrics.
pub(crate) fn label<'a>(store: &'a Name, runner: Option<&Name>) -> Cow<'a, str> {
    runner.map_or(Cow::Borrowed(store.as_str()), |runner| Cow::Owned(format!("{store}/{runner}")))
}

impl Opened {
    /// Reads a secret, and says where it came from.
    pub(crate) async fn read(&self, session: SessionId, path: &SecretPath) -> Result<(Read, From), StoreError> {
        let (read, came) = self.cache.read(&self.named, session, path).await?;
        self.named.observer.cache(&self.named.name, came.word());
        Ok((read, came))
    }

    #[cfg(test)]
    pub(crate) fn of(named: Named, cache: Cache) -> Self {
        let node = Node::empty();
        let made_of = MadeOf { kind: "vault", node, files: Vec::new(), outer: Vec::new() };
        Self { named, cache, sharing: Arc::default(), made_of }
    }
}

impl MadeOf {
    fn same_as(&self, other: &Self) -> bool {
        self.kind == other.kind && self.node == other.node && self.files == other.files && self.same_outer(other)
    }

    fn same_outer(&self, other: &Self) -> bool {
        self.outer.len() == other.outer.len() && self.outer.iter().zip(&other.outer).all(|(a, b)| Arc::ptr_eq(a, b))
    }
}

impl Opens<'_> {
    /// Every store that is switched on. Those that could not be opened, or may not, are problems.
    pub(crate) fn all(&self, problems: &mut Problems) -> BTreeMap<String, Arc<Opened>> {
        let mut run = Run { used: self.used(), way: Vec::new(), done: BTreeSet::new(), open: BTreeMap::new() };
        for store in self.config.stores.values().filter(|store| store.enabled) {
            self.one(store, &mut run, problems);
        }
        self.check_runners(problems);
        run.open
    }

    fn used(&self) -> BTreeSet<(Name, Option<Name>)> {
        let by_connections = self.connections.values().flat_map(|connection| {
            let runner = |store: &Name| connection.runner().filter(|_| connection.store() == Some(store)).cloned();
            connection.stores().into_iter().map(move |store| (store.clone(), runner(store)))
        });
        let by_stores = self.config.stores.values().filter(|store| store.enabled).flat_map(|store| {
            let scope = Scope::new(&self.config.stores, None, "", store.name.span);
            let found = store.node.references().into_iter();
            found.filter_map(move |found| scope.reference(&found.text).ok()).map(|reference| (reference.store, None))
        });
        by_connections.chain(by_stores).collect()
    }

    /// Opens a store after those that its own credentials are in.
    fn one<'s>(&'s self, store: &'s Entry, run: &mut Run<'s>, problems: &mut Problems) {
        let name = &store.name.value;
        if !run.done.insert(name) {
            return;
        }
        run.way.push(name);
        let chain = self.chain(store, run, problems);
        run.way.pop();
        let (Some(chain), Some(kind)) = (chain, Kind::of(store)) else { return };
        let chain = Arc::new(chain);
        let runners = (kind.runners)(store);
        let asked = |runner: Option<&str>| run.used.iter().any(|(used, by)| used == name && by.as_ref().map(Name::as_str) == runner);
        let named = runners.iter().filter(|runner| asked(Some(runner))).filter_map(|runner| runner.parse::<Name>().ok());
        let mut logins: Vec<Option<Name>> = named.map(Some).collect();
        // Nobody may want a login of a store that has runners, beside theirs.
        if logins.is_empty() || asked(None) {
            logins.push(None);
        }
        for runner in logins {
            let label = label(name, runner.as_ref());
            let made_of = MadeOf { kind: kind.settings.name, node: store.node.clone(), files: stamps(kind, store), outer: chain.all() };
            let former = self.carried.and_then(|carried| carried.get(label.as_ref()));
            let opened = match former.filter(|old| old.made_of.same_as(&made_of)) {
                Some(old) => Ok(Arc::clone(old)),
                None => self.open((kind, store), (label.as_ref(), runner.as_ref()), &chain, made_of, former),
            };
            match opened {
                Ok(opened) => drop(run.open.insert(label.into_owned(), opened)),
                Err(message) => problems.error(Some(store.name.span), format!("stores.{name}"), message),
            }
        }
    }

    fn open(
        &self,
        (kind, store): (&Kind, &Entry),
        (label, runner): (&str, Option<&Name>),
        chain: &Arc<Chain>,
        made_of: MadeOf,
        former: Option<&Arc<Opened>>,
    ) -> Result<Arc<Opened>, String> {
        let outer = Arc::clone(chain) as Arc<dyn Outer>;
        let former = former.and_then(|old| {
            let login = old.named.store.login()?;
            Some(Former { node: &old.made_of.node, same_outer: old.made_of.same_outer(&made_of), login })
        });
        let (observer, runner) = (Arc::clone(self.observer), runner.map(Name::as_str));
        let opening = Opening { store, label, runner, stay: self.stay, observer, outer, former };
        let named = Named::new(label.to_owned(), (kind.open)(&opening)?, Arc::clone(self.observer));
        let cache = Cache::new(store.cache_ttl.get(), store.max_stale.get());
        Ok(Arc::new(Opened { named, cache, sharing: Arc::default(), made_of }))
    }

    /// What the references among the keys of a store mean; their stores are opened first. `None`: a problem says why not.
    fn chain<'s>(&'s self, store: &'s Entry, run: &mut Run<'s>, problems: &mut Problems) -> Option<Chain> {
        let at = format!("stores.{}", store.name.value);
        let scope = Scope::new(&self.config.stores, None, &at, store.name.span);
        let mut chain = Chain { references: BTreeMap::new(), open: BTreeMap::new() };
        let mut whole = true;
        for found in store.node.references() {
            let at = format!("{at}.{}", found.path);
            let mut refuse = |message: &str| {
                whole = false;
                problems.error(found.span, &at, message);
            };
            let reference = match scope.reference(&found.text) {
                Ok(reference) => reference.with_single_key(),
                Err(message) => {
                    refuse(&message);
                    continue;
                }
            };
            let Some(outer) = self.config.stores.get(&reference.store).filter(|_| reference.selector.is_some()) else {
                refuse("one value is needed here: `store:mount/data/path?key`");
                continue;
            };
            if reference.path.is_per_user() {
                refuse("a store logs in for all users: {{user.name}} means nothing here");
                continue;
            }
            if run.way.contains(&&outer.name.value) {
                let names: Vec<&str> = run.way.iter().map(|name| name.as_str()).chain([outer.name.value.as_str()]).collect();
                refuse(&format!("the credentials of these stores are in each other: {}", names.join(" → ")));
                continue;
            }
            self.one(outer, run, problems);
            // Where it could not be opened, its own problem says why.
            if let Some(opened) = run.open.get(outer.name.value.as_str()) {
                chain.open.insert(outer.name.value.clone(), Arc::clone(opened));
            }
            chain.references.insert(found.text, reference);
        }
        whole.then_some(chain)
    }

    fn check_runners(&self, problems: &mut Problems) {
        for (name, connection) in &self.config.connections {
            let Some((runner, store)) = connection.runner.as_ref().zip(connection.store.as_ref()) else {
                if let Some(runner) = &connection.runner {
                    problems.error(
                        runner.span,
                        format!("connections.{name}.runner"),
                        "a runner is one of a store: write `store:` beside it",
                    );
                }
                continue;
            };
            let Some(entry) = self.config.stores.get(&store.value) else { continue };
            let runners = Kind::of(entry).map(|kind| (kind.runners)(entry)).unwrap_or_default();
            if !runners.iter().any(|known| known == runner.as_str()) {
                let known = if runners.is_empty() { "it has none".to_owned() } else { format!("it has: {}", runners.join(", ")) };
                let message = format!("the store {} has no runner of this name; {known}", store.value);
                problems.error(runner.span, format!("connections.{name}.runner"), message);
            }
        }
    }
}

impl Chain {
    fn all(&self) -> Vec<Arc<Opened>> {
        self.open.values().map(Arc::clone).collect()
    }
}

impl Outer for Chain {
    fn read<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<Zeroizing<String>, StoreError>> {
        Box::pin(async move {
            let nowhere = || StoreError::new(StoreErrorKind::Disabled, "the store that it is in is not open");
            let reference = self.references.get(text).ok_or_else(nowhere)?;
            let opened = self.open.get(&reference.store).ok_or_else(nowhere)?;
            let selector = reference.selector.as_ref().ok_or_else(nowhere)?;
            let _turn = opened.named.turn_to_read().await?;
            let document = opened.named.store.read(SessionId::random(), &reference.path, true).await?;
            let value = selector.pick(&document.fields, &reference.path)?;
            let malformed = || StoreError::new(StoreErrorKind::Malformed, format!("{}: it is no text", reference.path));
            // Exposed: to the store that logs in with it.
            value.expose_str().map(|text| Zeroizing::new(text.to_owned())).ok_or_else(malformed)
        })
    }
}

fn stamps(kind: &Kind, store: &Entry) -> Vec<Option<Stamp>> {
    (kind.files)(store).iter().map(|path| Stamp::of(path)).collect()
}
