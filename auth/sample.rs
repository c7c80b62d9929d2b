//! A state of the file for this crate's tests, and an observer who does not look.

use std::path::Path;
use std::sync::Arc;

use keyward_config::{Assets, Config, Kinds, Problems, ProtocolSettings, Section, StoreSettings};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::Observer;
use crate::store::Outer;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct Settings {
    /// What `Connection::settings` is asked for.
    pub(crate) database: Option<String>,
    /// Of a listener.
    #[serde(rename = "trusted_user_ca_keys")]
    _trusted_user_ca_keys: Option<Vec<String>>,
}

/// The keys of a rule that are only SSH's.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct AccessSettings {
    /// What `Gate::rules` is asked for.
    #[serde(default)]
    pub(crate) channels: Vec<String>,
}

const ANY: Section = Section::of::<Settings>();
pub(crate) const PROTOCOLS: &[ProtocolSettings] = &[
    ProtocolSettings { name: "postgres", listener: ANY, connection: ANY, access: None, assets: Assets::Databases },
    ProtocolSettings {
        name: "ssh",
        listener: ANY,
        connection: ANY,
        access: Some(Section::of::<AccessSettings>()),
        assets: Assets::Servers,
    },
];

/// The sections of the file that a test is about, after those that every file needs.
pub(crate) fn config(sections: &str) -> (Config, Problems) {
    config_behind("protocol: postgres, address: \"127.0.0.1:5432\"", sections)
}

/// The same with this listener.
pub(crate) fn config_behind(listener: &str, sections: &str) -> (Config, Problems) {
    let text = format!("state: /nowhere\nlisteners: [{{ {listener} }}]\n{sections}");
    let stores: Vec<StoreSettings> = crate::KINDS.iter().map(|kind| kind.settings).collect();
    let loaded = keyward_config::parse(Path::new("keyward.yaml"), &text, &Kinds { protocols: PROTOCOLS, stores: &stores });
    assert!(!loaded.problems.has_errors(), "{}", loaded.problems);
    (loaded.config.expect("a config"), Problems::new(Path::new("keyward.yaml")))
}

/// An observer who does not look.
pub(crate) fn nobody() -> Arc<dyn Observer> {
    Arc::new(crate::Unobserved)
}

/// No other store that a store's own credentials could be in.
pub(crate) fn nowhere() -> Arc<dyn Outer> {
    Arc::new(crate::store::input::Nowhere)
}
