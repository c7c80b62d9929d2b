//! What the repository says of the program is so: the schema, the example, the README.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use keyward::error::{SessionError, Stage};
use keyward::metrics::Metrics;
use keyward_auth::{Gate, LeaseStats, Observer};
use keyward_config::{Kinds, Problems};
use serde_json::Value;

use crate::bed::{certificate, run, scratch};

const README: &str = include_str!("../README.md");
const SCHEMA: &str = include_str!("../config/keyward.schema.json");
const EXAMPLE: &str = include_str!("../config/example.yaml");

#[test]
fn the_schema_in_the_repository_is_the_one_that_the_binary_prints() {
    let mut command = keyward();
    command.arg("schema");
    let printed = run(command, "", Duration::from_secs(30));
    assert!(printed.ok() == SCHEMA.trim_end(), "it is stale: keyward schema > config/keyward.schema.json");
}

#[test]
fn every_key_of_the_schema_is_in_the_example() {
    let keys = keys(&serde_json::from_str(SCHEMA).unwrap());
    assert!(keys.len() > 60, "{keys:?}");
    let written: BTreeSet<&str> = EXAMPLE.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).collect();
    let missing: Vec<_> = keys.iter().filter(|key| !written.contains(format!("{key}:").as_str())).collect();
    assert!(missing.is_empty(), "not in the example: {missing:?}");
}

#[test]
fn the_example_is_good_where_its_files_are_there_and_says_which_one_is_not() {
    let folder = scratch("example");
    fs::create_dir(folder.join("tls")).unwrap();
    certificate(&folder);
    for (name, from) in [("keyward", "server"), ("vault-client", "server"), ("pg-client", "server")] {
        fs::copy(folder.join(format!("{from}.pem")), folder.join(format!("tls/{name}.pem"))).unwrap();
        fs::copy(folder.join(format!("{from}.key")), folder.join(format!("tls/{name}.key"))).unwrap();
    }
    for name in ["vault-ca", "pg-ca", "mysql-ca"] {
        fs::copy(folder.join("ca.pem"), folder.join(format!("tls/{name}.pem"))).unwrap();
    }
    fs::create_dir(folder.join("ssh")).unwrap();
    for name in ["known_hosts", "revoked"] {
        fs::write(folder.join("ssh").join(name), "").unwrap();
    }
    let file = folder.join("keyward.yaml");
    fs::write(&file, EXAMPLE).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let check = || {
        let mut command = keyward();
        command.args(["check", "--offline", "--config"]).arg(&file);
        run(command, "", Duration::from_secs(30))
    };
    let good = check();
    let warned: Vec<&str> = good.ok().lines().filter(|line| line.contains("warning")).collect();
    assert!(matches!(warned[..], [one] if one.contains("connections.reports.insecure: the server")), "{good:?}");
    let of_tls =
        ["tls/keyward.pem", "tls/keyward.key", "tls/vault-ca.pem", "tls/vault-client.key", "tls/pg-client.pem", "tls/mysql-ca.pem"];
    for name in of_tls.into_iter().chain(["ssh/known_hosts", "ssh/revoked"]) {
        fs::rename(folder.join(name), folder.join("away")).unwrap();
        let said = check();
        assert!(said.code == Some(2) && said.stdout.contains(name), "without {name}: {said:?}");
        fs::rename(folder.join("away"), folder.join(name)).unwrap();
    }
}

/// Commands of code blocks and of `code`, each with every option that it is shown with.
#[test]
fn every_command_in_the_readme_exists() {
    let lines = fenced().into_iter().flat_map(|(_, text)| text.lines()).map(str::trim);
    let commands: BTreeSet<&str> = lines.chain(spans()).filter_map(|line| line.strip_prefix("keyward ")).collect();
    assert!(commands.len() >= 8, "{commands:?}");
    for line in commands {
        let words = || line.split_whitespace();
        let mut command = keyward();
        command
            .arg("help")
            .args(words().take_while(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-')).take(subcommands(line)));
        if line.starts_with("--") {
            continue;
        }
        let help = run(command, "", Duration::from_secs(30)).ok().to_owned();
        for option in words().filter(|word| word.starts_with("--")) {
            assert!(help.contains(option), "keyward {line}: {help}");
        }
    }
}

#[test]
fn every_configuration_in_the_readme_is_good() {
    let files: Vec<&str> = fenced().into_iter().filter(|(language, _)| *language == "yaml").map(|(_, text)| text).collect();
    assert!(!files.is_empty());
    let (protocols, stores) = keyward::reload::rows();
    for text in files {
        let path = Path::new("README.md");
        let mut loaded = keyward_config::parse(path, text, &Kinds { protocols: &protocols, stores: &stores });
        if let Some(config) = &loaded.config {
            Gate::check(config, &mut loaded.problems);
        }
        let problems: &Problems = &loaded.problems;
        assert!(loaded.config.is_some() && problems.is_empty(), "{problems}\n{text}");
    }
}

#[test]
fn every_key_in_the_readme_exists() {
    let known = keys(&serde_json::from_str(SCHEMA).unwrap());
    let named: BTreeSet<&str> = spans().filter_map(|span| span.strip_suffix(':')).collect();
    assert!(named.len() >= 20, "{named:?}");
    for name in named {
        assert!(name.split('.').all(|part| known.contains(part)), "`{name}:` is no key of the file");
    }
}

#[test]
fn every_metric_in_the_readme_exists_and_none_is_left_out() {
    // A metric without a sample is not shown.
    let counted = Metrics::default();
    counted.link("p");
    counted.probe("p");
    counted.session_opened("p", "c", "ca");
    counted.session_closed("p", "c", "client");
    let _ = counted.bytes("p");
    counted.refusal("p", &SessionError::malformed(Stage::Open, "x"));
    counted.stages("p", vec![(Stage::Open, Duration::ZERO)]);
    counted.cancel("p", true);
    counted.used("p", "exec", "allowed");
    counted.store_call("s", "kv_read", "ok", Duration::ZERO);
    counted.token_life("s", Some(Duration::ZERO));
    counted.cache("s", "hit");
    counted.lease("s", "issued");
    counted.warned("p", "lease_end");
    counted.store_away("s", true);
    counted.store_opened("s", true);
    counted.security("s", "wrapped_secret_id_consumed");
    let metrics = counted.render(LeaseStats::default());
    let exist: BTreeSet<&str> = metrics.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()).collect();
    let named: BTreeSet<&str> = spans().filter(|span| span.starts_with("keyward_")).collect();
    assert_eq!(named, exist);
}

fn keyward() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    command.env_remove("KEYWARD_CONFIG");
    command
}

/// Some commands have two words.
fn subcommands(line: &str) -> usize {
    if line.starts_with("user ") || line.starts_with("secret ") { 2 } else { 1 }
}

/// The code blocks of the README with their language.
fn fenced() -> Vec<(&'static str, &'static str)> {
    README.split("\n```").skip(1).step_by(2).filter_map(|block| block.split_once('\n')).collect()
}

/// What stands between backticks outside of code blocks.
fn spans() -> impl Iterator<Item = &'static str> {
    README.split("\n```").step_by(2).flat_map(|text| text.split('`').skip(1).step_by(2))
}

/// Every key that a mapping of the file may have.
fn keys(schema: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    match schema {
        Value::Object(map) => {
            if let Some(Value::Object(properties)) = map.get("properties") {
                found.extend(properties.keys().cloned());
            }
            map.values().for_each(|value| found.extend(keys(value)));
        }
        Value::Array(items) => items.iter().for_each(|item| found.extend(keys(item))),
        _ => {}
    }
    found
}
