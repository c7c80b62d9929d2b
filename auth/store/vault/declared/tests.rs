use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use keyward_config::{Config, SecretInput};
use proptest::prelude::*;
use serde_json::Value;

use super::super::environment::tests::{all, open, read, settings};

const NO_STORES: &str = "{}";

/// The list in the variable itself.
fn list(stores: &str, json: &str) -> (Config, String) {
    let (config, problems) = read(stores, &[("HASHICORP_VAULT_CONFIG", json)]);
    (config, all(&problems))
}

fn names(config: &Config) -> Vec<&str> {
    config.stores.keys().map(|name| name.as_str()).collect()
}

#[test]
fn each_entry_is_a_store_by_its_name_or_by_its_place() {
    let json = r#"[{"address":"https://v1:8200","token":"hvs.1"},
        {"address":"https://v2:8200","token":"hvs.2","namespace":"admin","name":"second"},
        {"address":"https://v3:8200","token":"hvs.3","ca_cert_base64":"QQ==","skip_verify":"false"}]"#;
    let (config, said) = list(NO_STORES, json);
    assert_eq!((names(&config), said.as_str()), (vec!["second", "vault", "vault-3"], ""));
    assert_eq!(settings(&config, "vault").addresses().unwrap(), ["https://v1:8200"]);
    assert_eq!(settings(&config, "second").namespace(), "admin");
    assert_eq!(settings(&config, "vault-3").ca_cert_base64.as_deref(), Some("QQ=="));
    assert!(config.origins.values().all(|origin| origin.declared == Some("HASHICORP_VAULT_CONFIG")));
    assert_eq!(open(&config, "vault"), Ok(()));
}

#[test]
fn the_published_sample_is_told_where_its_trailing_comma_is_and_not_what_it_holds() {
    let json = "[\n  {\"address\": \"https://v\", \"token\": \"canary\"},\n]";
    let (config, said) = list(NO_STORES, json);
    assert!(names(&config).is_empty());
    assert_eq!(said, "HASHICORP_VAULT_CONFIG:3:1: this is no JSON: trailing comma\n");
    let (_, said) = list(NO_STORES, r#"[{"address":"https://v","token":"canary",}]"#);
    assert!(said.contains("HASHICORP_VAULT_CONFIG:1:42: this is no JSON: trailing comma") && !said.contains("canary"), "{said}");
    for json in ["canary", "[\"canary", "{\"token\":\"canary\"}", "7", "null", "[canary]", "[\"canary\"]", "[[\"canary\"]]"] {
        let (config, said) = list(NO_STORES, json);
        assert!(names(&config).is_empty() && said.starts_with("HASHICORP_VAULT_CONFIG:1:") && !said.contains("canary"), "{json}: {said}");
    }
}

#[test]
fn a_list_may_be_indented_by_tabs_and_hold_escapes() {
    let (config, said) = list(NO_STORES, "[\n\t{\n\t\t\"address\":\t\"https:\\/\\/v\",\n\t\t\"token\": \"s.\\u0061\\tb\"\n\t}\n]\n");
    assert_eq!((names(&config), said.as_str()), (vec!["vault"], ""));
    assert_eq!(settings(&config, "vault").addresses().unwrap(), ["https://v"]);
    assert_eq!(names(&list(NO_STORES, "[]").0), Vec::<&str>::new());
}

#[test]
fn skip_verify_is_a_text_or_a_switch_and_is_loud() {
    for (written, insecure) in [("\"true\"", true), ("true", true), ("\"True\"", true), ("\"false\"", false), ("false", false)] {
        let (config, said) = list(NO_STORES, &format!(r#"[{{"address":"https://v","token":"t","skip_verify":{written}}}]"#));
        assert_eq!(settings(&config, "vault").insecure.is_some(), insecure, "{written}");
        assert_eq!(said.contains("warning: [0].skip_verify: the server is not verified"), insecure, "{said}");
    }
    let (config, said) = list(NO_STORES, r#"[{"address":"https://v","token":"t","skip_verify":"maybe"}]"#);
    assert!(names(&config).is_empty() && said.contains("expected true or false"), "{said}");
}

#[test]
fn stores_of_other_companies_are_switched_off_and_say_so_and_the_others_live() {
    let json = r#"[{"address":"https://v1","token":"t"},
        {"from_secret_store":"AWS","region":"eu-west-1","secret_id":"vault/prod"},
        {"from_secret_store":"gcp","project":"p","secret_id":"s"},
        {"from_secret_store":"Azure","vault_url":"https://kv.vault.azure.net","name":"n"},
        {"from_secret_store":"KUBERNETES","namespace":"ns","name":"n"}]"#;
    let (config, said) = list(NO_STORES, json);
    assert_eq!((names(&config), said.as_str()), (vec!["vault", "vault-2", "vault-3", "vault-4", "vault-5"], ""));
    let off: Vec<_> = config.stores.values().map(|store| store.off()).collect();
    assert_eq!(off[0], None);
    let why = |n: usize, what: &str| off[n].as_ref().is_some_and(|off| off.contains(what) && off.contains("cannot ask"));
    assert!(why(1, "AWS Secrets Manager") && why(2, "GCP") && why(3, "Azure Key Vault") && why(4, "Kubernetes Secret"), "{off:?}");
    assert!(config.stores.values().skip(1).all(|store| !store.enabled));
}

#[test]
fn the_swapped_keys_of_the_samples_are_understood() {
    let json = r#"[{"from_secret_store":"AZURE","AZURE_KEY_VAULT_URL":"vault_url","name":"n"},
        {"from_secret_store":"KUBERNETES","NAMESPACE":"namespace","name":"n"}]"#;
    let (config, said) = list(NO_STORES, json);
    assert_eq!((names(&config), said.as_str()), (vec!["vault", "vault-2"], ""));
}

#[test]
fn a_connection_that_needs_such_a_store_is_told_why_it_cannot() {
    let (config, mut problems) = {
        let text = "state: /x\nconnections: { db: { protocol: postgres, address: pg, store: vault, credential: m/creds/r } }";
        let rows: Vec<_> = crate::KINDS.iter().map(|kind| kind.settings).collect();
        let protocols = crate::sample::PROTOCOLS;
        let value = |name: &str| {
            (name == "HASHICORP_VAULT_CONFIG").then(|| r#"[{"from_secret_store":"AWS","region":"r","secret_id":"s"}]"#.to_owned())
        };
        let kinds = keyward_config::Kinds { protocols, stores: &rows };
        let loaded = keyward_config::parse_in(Path::new("keyward.yaml"), text, &kinds, &value);
        (loaded.config.unwrap(), loaded.problems)
    };
    crate::Gate::check(&config, &mut problems);
    let said = problems.to_string();
    assert!(said.contains("the store vault cannot be asked: its entry is in AWS Secrets Manager"), "{said}");
}

#[test]
fn an_unknown_secret_store_is_told_the_known_ones() {
    let (config, said) = list("{ files: { type: vault } }", r#"[{"from_secret_store":"canary","path":"x"},{"address":"https://v"}]"#);
    assert!(!config.stores.contains_key("vault") && config.stores.contains_key("vault-2"));
    assert!(said.contains("[0].from_secret_store: expected one of AWS, GCP, AZURE, KUBERNETES, files, vault, vault-2"), "{said}");
    assert!(!said.contains("canary"), "{said}");
}

#[test]
fn a_token_may_be_in_a_store_of_the_file() {
    let files = "{ files: { type: vault, address: 'https://f', auth: { method: token, token: t } } }";
    let (config, said) = list(files, r#"[{"address":"https://v","from_secret_store":"files","path":"kv/data/vault?token"}]"#);
    assert_eq!(said, "");
    let references = config.stores["vault"].node.references();
    assert_eq!(references.iter().map(|found| found.text.as_str()).collect::<Vec<_>>(), ["files:kv/data/vault?token"]);
    let (_, said) = list(files, r#"[{"address":"https://v","from_secret_store":"files"}]"#);
    assert!(said.contains("the key \"path\" is missing"), "{said}");
    let (_, said) = list(files, r#"[{"address":"https://v","from_secret_store":"files","path":"x?y","token":"canary"}]"#);
    assert!(said.contains("[0].token: the token is here, or where") && !said.contains("canary"), "{said}");
}

#[test]
fn a_store_of_the_file_wins_over_an_entry_of_its_name() {
    let file = "{ corp: { type: vault, address: 'https://file', auth: { method: token, token: t } } }";
    let (config, said) = list(file, r#"[{"name":"corp","address":"https://env","token":"t"}]"#);
    assert_eq!(settings(&config, "corp").addresses().unwrap(), ["https://file"]);
    assert_eq!(said, "HASHICORP_VAULT_CONFIG:1:10: warning: stores.corp: not taken: the file has a store of this name, and wins\n");
    let (_, said) = list(NO_STORES, r#"[{"name":"a","address":"https://1"},{"name":"a","address":"https://2"}]"#);
    assert!(said.contains("stores.a: another entry has this name already"), "{said}");
    let (config, said) = list(NO_STORES, r#"[{"name":"no name","address":"https://1"}]"#);
    assert!(names(&config).is_empty() && said.contains("HASHICORP_VAULT_CONFIG:1:10: stores: expected"), "{said}");
}

#[test]
fn what_is_wrong_with_an_entry_is_said_with_its_place_in_the_list() {
    let (config, said) = list(NO_STORES, "[\n {\"adress\":\"https://v\"},\n {\"address\":\"https://v\", \"token\": {}}\n]");
    assert!(names(&config).is_empty(), "{said}");
    assert!(said.contains("HASHICORP_VAULT_CONFIG:2:3: [0]: unknown key \"adress\"; did you mean \"address\"?"), "{said}");
    assert!(said.contains("HASHICORP_VAULT_CONFIG:3:35: [1].token: expected a string, found a mapping"), "{said}");
}

#[test]
fn an_entry_takes_what_it_lacks_from_the_variables_of_vaults_client() {
    let variables = [("HASHICORP_VAULT_CONFIG", r#"[{"address":"https://v"}]"#), ("VAULT_TOKEN", "t"), ("VAULT_NAMESPACE", "admin")];
    let (config, problems) = read(NO_STORES, &variables);
    assert!(problems.is_empty(), "{}", all(&problems));
    assert_eq!(settings(&config, "vault").namespace(), "admin");
    assert_eq!(open(&config, "vault"), Ok(()));
}

#[test]
fn the_list_may_be_in_a_file_and_not_in_both_places() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vaults.json");
    std::fs::write(&path, r#"[{"address":"https://v","token":"canary"}]"#).unwrap();
    let shown = path.to_str().unwrap();
    let from_file = |further: &[(&str, &str)]| {
        let variables: Vec<_> = further.iter().copied().chain([("HASHICORP_VAULT_CONFIG_FILE_PATH", shown)]).collect();
        let (config, problems) = read(NO_STORES, &variables);
        (config, all(&problems))
    };
    let mode = |mode: u32| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o600);
    let (config, said) = from_file(&[]);
    assert_eq!((names(&config), said.as_str()), (vec!["vault"], ""));
    assert_eq!(config.origins["vault"].declared, Some("HASHICORP_VAULT_CONFIG_FILE_PATH"));
    mode(0o644);
    assert!(from_file(&[]).1.contains("vaults.json: warning: others may read this file"), "{}", from_file(&[]).1);
    let (config, said) = from_file(&[("HASHICORP_VAULT_CONFIG", "[]")]);
    assert!(names(&config).is_empty() && said.contains("are both set"), "{said}");
    std::fs::write(&path, "[\n}").unwrap();
    assert!(from_file(&[]).1.contains("vaults.json:2:1: this is no JSON"), "{}", from_file(&[]).1);
    std::fs::remove_file(&path).unwrap();
    assert!(from_file(&[]).1.starts_with("HASHICORP_VAULT_CONFIG_FILE_PATH: "), "{}", from_file(&[]).1);
}

#[test]
fn the_token_of_an_entry_is_the_text_that_stands_there() {
    // One that looks like a reference of another product is still a token.
    let (config, _) = list(NO_STORES, r#"[{"address":"https://v","token":"{{secrets.a.b}}"}]"#);
    let token = config.stores["vault"].node.get("auth").and_then(|auth| auth.get("token")).cloned().unwrap();
    let token: SecretInput = token.read("token", &mut keyward_config::Problems::new(Path::new("x"))).unwrap();
    assert!(matches!(token, SecretInput::Literal(text) if text.expose() == "{{secrets.a.b}}"));
}

/// A list whose texts all hold the word, with keys that mean something and others.
fn lists() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        Just("address"),
        Just("token"),
        Just("name"),
        Just("from_secret_store"),
        Just("path"),
        Just("skip_verify"),
        Just("NAMESPACE"),
        Just("ca_cert_base64"),
        Just("other"),
    ];
    let text = prop_oneof![Just("https://canary:8200"), Just("canary"), Just("canary\u{1b}[31m"), Just("AWS"), Just("vault"), Just("true")];
    let value = prop_oneof![
        text.prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(Value::Null),
        Just(serde_json::json!(["canary"])),
        Just(serde_json::json!({ "key": "canary" })),
    ];
    let entry = prop::collection::btree_map(key, value, 0..5);
    prop::collection::vec(entry, 0..5).prop_map(|entries| serde_json::json!(entries))
}

#[test]
fn a_token_that_stands_where_its_key_should_is_not_shown() {
    for key in ["hvs.CAESIcanary", "40481de9-canary-cf4d", "canary canary", "s.canary"] {
        let (_, said) = list(NO_STORES, &format!(r#"[{{"address":"https://v","{key}":"token"}}]"#));
        assert!(said.contains("[0]: unknown key; expected one of") && !said.contains("canary"), "{said}");
    }
    let (_, said) = list(NO_STORES, r#"[{"from_secret_store":"x","name":"n\u001b[31m"}]"#);
    assert!(said.contains("expected one of AWS") && !said.contains('\u{1b}'), "{said}");
    let (_, said) = list(NO_STORES, r#"[{"from_secret_store":"https://canary","name":"https://canary"}]"#);
    assert!(said.contains("expected one of AWS") && !said.contains("canary"), "{said}");
}

proptest! {
    #[test]
    fn whatever_a_list_holds_nothing_of_it_but_its_names_is_shown(list in lists(), cut in 0..200_usize) {
        let text = list.to_string();
        let cut = text.char_indices().map(|(at, _)| at).nth(cut).unwrap_or(text.len());
        for json in [text.as_str(), &text[..cut]] {
            let (_, said) = self::list(NO_STORES, json);
            // A name is shown: what connections call a store is no secret.
            let shown = said.replace("stores.canary", "").replace("is in the store canary", "");
            let of_stores: String = shown.lines().filter(|line| !line.contains("(the last ones are stores)")).collect();
            prop_assert!(!of_stores.contains("canary"), "{json}: {said}");
            prop_assert!(!said.chars().any(|c| c.is_control() && c != '\n'), "{said:?}");
        }
    }
}
