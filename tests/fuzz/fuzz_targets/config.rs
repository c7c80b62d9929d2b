//! A whole configuration file, from its bytes to everything that can be said of it without a network.
#![no_main]

use std::path::Path;

use keyward_config::{Kinds, Problems};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (protocols, stores) = keyward::reload::rows();
    let loaded = keyward_config::parse(Path::new("/fuzz/keyward.yaml"), text, &Kinds { protocols: &protocols, stores: &stores });
    assert!(loaded.config.is_some() || loaded.problems.has_errors(), "a file that gives nothing says why");
    let shown = loaded.problems.to_string();
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "problems are shown on a terminal: {shown:?}");
    if let Some(config) = &loaded.config {
        let mut problems = Problems::new(Path::new("/fuzz/keyward.yaml"));
        keyward_auth::Gate::check(config, &mut problems);
    }
});
