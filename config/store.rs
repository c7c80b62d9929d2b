//! A store: a secret store that we can ask.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::entry::{Entry, row};
use crate::{Kinds, Name, Node, Period, Problems, Settings, Spanned};

/// A secret store as the file declares it. The generic keys; those of its type are in `settings`.
pub struct Store {
    /// What connections call it.
    pub name: Spanned<Name>,
    /// The name of its kind's row (`type:` in the file).
    pub kind: &'static str,
    /// `false`: declared, never asked; connections that need it are a problem that `check` names.
    pub enabled: bool,
    /// Why it is switched off, where that is not the wish of whoever declared it.
    pub unusable: Option<String>,
    /// How long a secret without a lease is kept in memory. 0: not at all. Default 60 s.
    pub cache_ttl: Period,
    /// For how long after that it may still be used while the store cannot be asked. 0: not at all. Default 10 min.
    pub max_stale: Period,
    /// Put before the paths of `vault.secret(store:path.key)`.
    pub mount: Option<Spanned<String>>,
    /// The secret that `{{secrets.store.key}}` means.
    pub path: Option<Spanned<String>>,
    /// The settings type of its kind.
    pub settings: Settings,
    /// The entry itself: equal stores live on through a reload.
    pub node: Node,
}

/// The generic keys of a store.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct StoreKeys {
    /// What kind of store it is.
    #[serde(rename = "type", default)]
    _type: String,
    /// `false`: declared, never asked; connections that need it are a problem. Default: `true`.
    #[serde(default = "enabled")]
    enabled: bool,
    /// How long a secret without a lease is kept in memory. 0: not at all. Default: 60s.
    #[serde(default = "cache_ttl")]
    cache_ttl: Period,
    /// For how long after `cache_ttl` a secret may still be used while the store cannot be asked: not reached, sealed, overloaded. Never after
    /// the store has said that there is no such secret, or that we may not have it. 0: not at all. Default: 10m.
    #[serde(default = "max_stale")]
    max_stale: Period,
    /// Where the secrets engine is mounted that the spelling `vault.secret(store:path.key)` means: put before its path. Default: the path says it.
    mount: Option<Spanned<String>>,
    /// The one secret whose keys the spelling `{{secrets.store.key}}` means, such as `secret/data/example`. Default: none.
    path: Option<Spanned<String>>,
}

fn enabled() -> bool {
    true
}

fn max_stale() -> Period {
    Period::from_secs(600)
}

fn cache_ttl() -> Period {
    Period::from_secs(60)
}

impl Store {
    /// Why it is never asked, in the words of a problem. `None`: it is.
    #[must_use]
    pub fn off(&self) -> Option<String> {
        let name = &self.name.value;
        match &self.unusable {
            Some(why) => Some(format!("the store {name} cannot be asked: {why}")),
            None => (!self.enabled).then(|| format!("the store {name} is switched off (`enabled: false`)")),
        }
    }

    pub(crate) fn read(name: Spanned<Name>, node: &Node, path: &str, kinds: &Kinds<'_>, problems: &mut Problems) -> Option<Self> {
        let mut entry = Entry::new(node, path);
        let keys: Option<StoreKeys> = entry.part(problems);
        let row = row(node, path, "type", kinds.stores, |row| row.name, problems)?;
        let settings = entry.settings(row.settings, problems);
        if !entry.finish(problems) {
            return None;
        }
        let StoreKeys { enabled, cache_ttl, max_stale, mount, path, .. } = keys?;
        let (kind, node) = (row.name, node.clone());
        Some(Self { name, kind, enabled, unusable: None, cache_ttl, max_stale, mount, path, settings: settings?, node })
    }
}
