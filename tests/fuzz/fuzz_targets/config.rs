//! A whole configuration file, from its bytes to everything that can be said of it without a network. What stands behind a NUL is a list of
//! Vaults in the environment (HASHICORP_VAULT_CONFIG).
#![no_main]

use std::path::Path;

use keyward_config::{Kinds, Problems};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (protocols, stores) = keyward::reload::rows();
    let (text, list) = text.split_once('\0').map_or((text, None), |(text, list)| (text, Some(list)));
    let variables = |name: &str| list.filter(|_| name == "HASHICORP_VAULT_CONFIG").map(str::to_owned);
    let kinds = Kinds { protocols: &protocols, stores: &stores };
    let loaded = keyward_config::parse_in(Path::new("/fuzz/keyward.yaml"), text, &kinds, &variables);
    assert!(loaded.config.is_some() || loaded.problems.has_errors(), "a file that gives nothing says why");
    let shown = loaded.problems.to_string();
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "problems are shown on a terminal: {shown:?}");
    if let Some(config) = &loaded.config {
        let mut problems = Problems::new(Path::new("/fuzz/keyward.yaml"));
        keyward_auth::Gate::check(config, &mut problems);
    }
});
