//! What a protocol or a store brings to the file: its name and its settings types.

use std::any::Any;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;

use crate::read::{self, Reading};
use crate::{FromEnvironment, Node};

/// A settings type of some kind, as the entry carries it. Whoever owns the type downcasts it.
pub type Settings = Arc<dyn Any + Send + Sync>;

/// The rows that the file may name.
#[derive(Clone, Copy)]
pub struct Kinds<'a> {
    /// `protocol:` of a listener or a connection.
    pub protocols: &'a [ProtocolSettings],
    /// `type:` of a store.
    pub stores: &'a [StoreSettings],
}

/// What a protocol's row brings to the file.
#[derive(Clone, Copy)]
pub struct ProtocolSettings {
    /// The word in the file.
    pub name: &'static str,
    /// Its keys in a listener.
    pub listener: Section,
    /// Its keys in a connection.
    pub connection: Section,
    /// Its keys in a rule, beside `allow`, `connections` and `accounts`. `None`: it has none.
    pub access: Option<Section>,
    /// What its connections lead to.
    pub assets: Assets,
}

/// What the connections of a protocol lead to: which of the generic keys they have follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assets {
    /// Databases, each at its `address`.
    Databases,
    /// Machines: a connection may name `hosts` instead of one `address`, and its accounts may have private keys, or a `username` for which
    /// a role signs.
    Servers,
}

/// What a store's row brings to the file.
#[derive(Clone, Copy)]
pub struct StoreSettings {
    /// The word in the file.
    pub name: &'static str,
    /// Its keys in a store.
    pub settings: Section,
    /// What it takes from the environment of the process. `None`: nothing.
    pub from_environment: Option<FromEnvironment>,
}

/// A settings type: how to read it from a node, and its JSON Schema.
///
/// The type is a struct without `flatten`: its fields are the keys that are known. An internally tagged enum inside it
/// (`#[serde(tag = "method")]`) wants `deny_unknown_fields`, else its unknown keys pass unseen. Paths are [`crate::FilePath`].
#[derive(Clone, Copy)]
pub struct Section {
    pub(crate) read: fn(&Node) -> Reading<Settings>,
    pub(crate) schema: fn(&mut SchemaGenerator) -> Schema,
}

impl Section {
    /// The section of the type `T`. Its doc comments become the schema's descriptions.
    #[must_use]
    pub const fn of<T: DeserializeOwned + JsonSchema + Send + Sync + 'static>() -> Self {
        Self { read: read::read_settings::<T>, schema: T::json_schema }
    }
}
