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
    /// How long a secret without a lease is kept in memory. 0: not at all. Default 60 s.
    pub cache_ttl: Period,
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
}

fn enabled() -> bool {
    true
}

fn cache_ttl() -> Period {
    Period::from_secs(60)
}

impl Store {
    pub(crate) fn read(name: Spanned<Name>, node: &Node, path: &str, kinds: &Kinds<'_>, problems: &mut Problems) -> Option<Self> {
        let mut entry = Entry::new(node, path);
        let keys: Option<StoreKeys> = entry.part(problems);
        let row = row(node, path, "type", kinds.stores, |row| row.name, problems)?;
        let settings = entry.settings(row.settings, problems);
        if !entry.finish(problems) {
            return None;
        }
        let StoreKeys { enabled, cache_ttl, .. } = keys?;
        Some(Self { name, kind: row.name, enabled, cache_ttl, settings: settings?, node: node.clone() })
    }
}
