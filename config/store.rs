//! A store: a secret store that we can ask.

use crate::{Name, Node, Period, Settings, Spanned};

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
