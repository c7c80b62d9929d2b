use std::path::Path;

use keyward_config::{Config, Kinds, Problem};

use super::super::settings::Settings;

/// What becomes of a file's stores in this environment, and what is said of them.
pub(in crate::store::vault) fn read(stores: &str, variables: &[(&str, &str)]) -> (Config, Vec<Problem>) {
    let rows: Vec<_> = crate::KINDS.iter().map(|kind| kind.settings).collect();
    let text = format!("state: /nowhere\nstores: {stores}\n");
    let value = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let loaded = keyward_config::parse_in(Path::new("keyward.yaml"), &text, &Kinds { protocols: &[], stores: &rows }, &value);
    let said = loaded.problems.iter().filter(|problem| problem.path != "listeners").cloned().collect();
    (loaded.config.expect("a config"), said)
}

/// The stores of a file about which nothing is to be said.
fn good(stores: &str, variables: &[(&str, &str)]) -> Config {
    let (config, problems) = read(stores, variables);
    assert!(problems.is_empty(), "{}", all(&problems));
    config
}

pub(in crate::store::vault) fn all(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

pub(in crate::store::vault) fn settings<'a>(config: &'a Config, store: &str) -> &'a Settings {
    config.stores.get(store).unwrap_or_else(|| panic!("no {store}")).settings.downcast_ref().expect("Vault's")
}

/// Opens the store, as `run` and `check` do, and says what keeps it from that.
pub(in crate::store::vault) fn open(config: &Config, store: &str) -> Result<(), String> {
    let opening = crate::store::Opening {
        store: &config.stores[store],
        label: store,
        runner: None,
        stay: crate::store::Stay::Serves,
        observer: crate::sample::nobody(),
        outer: crate::sample::nowhere(),
        former: None,
    };
    (super::super::KIND.open)(&opening).map(drop)
}

fn keys(config: &Config, store: &str) -> Vec<(&'static str, String)> {
    config.origins.get(store).map(|origin| origin.keys.clone()).unwrap_or_default()
}

fn took(config: &Config, store: &str, key: &str) -> Option<String> {
    keys(config, store).into_iter().find(|(taken, _)| *taken == key).map(|(_, variable)| variable)
}

#[test]
fn what_an_entry_lacks_is_taken_from_the_variables_of_vaults_client() {
    let variables = [
        ("VAULT_ADDR", "https://v:8200"),
        ("VAULT_TOKEN", "s.canary"),
        ("VAULT_NAMESPACE", "admin"),
        ("VAULT_CACERT", "/etc/ca.pem"),
        ("VAULT_CLIENT_CERT", "/etc/client.pem"),
        ("VAULT_CLIENT_KEY", "/etc/client.key"),
        ("VAULT_TLS_SERVER_NAME", "vault.internal"),
        ("VAULT_CLIENT_TIMEOUT", "30s"),
        ("VAULT_SKIP_VERIFY", "false"),
        ("VAULT_MAX_RETRIES", "5"),
    ];
    let config = good("{ corp: { type: vault } }", &variables);
    let settings = settings(&config, "corp");
    assert_eq!(settings.addresses().unwrap(), ["https://v:8200"]);
    assert_eq!((settings.namespace(), settings.tls_server_name.as_deref()), ("admin", Some("vault.internal")));
    assert_eq!(settings.ca_cert.as_deref(), Some(Path::new("/etc/ca.pem")));
    assert_eq!(settings.client_key.as_deref(), Some(Path::new("/etc/client.key")));
    assert_eq!(settings.timeout.map(keyward_config::Period::get), Some(std::time::Duration::from_secs(30)));
    assert!(settings.insecure.is_none() && settings.auth().is_ok());
    let taken: Vec<_> = keys(&config, "corp").into_iter().map(|(key, variable)| format!("{key} {variable}")).collect();
    assert_eq!(taken.len(), 8, "{taken:?}");
    assert!(!taken.concat().contains("canary"));
}

#[test]
fn of_two_variables_openbaos_counts_and_an_empty_one_is_not_set() {
    let both = [("VAULT_ADDR", "https://vault:8200"), ("BAO_ADDR", "https://bao:8200"), ("VAULT_TOKEN", "t"), ("BAO_TOKEN", "")];
    let config = good("{ corp: { type: vault } }", &both);
    assert_eq!(settings(&config, "corp").addresses().unwrap(), ["https://bao:8200"]);
    assert_eq!(took(&config, "corp", "auth").as_deref(), Some("VAULT_TOKEN"));
}

#[test]
fn what_the_file_says_wins() {
    let entry = "address: [https://a:8200, https://b:8200], namespace: '', ca_cert_base64: QQ==, timeout: 1s, \
                 auth: { method: token, token: t }";
    let variables = [
        ("VAULT_ADDR", "https://v:8200"),
        ("VAULT_NAMESPACE", "admin"),
        ("VAULT_CACERT", "/ca.pem"),
        ("VAULT_CLIENT_TIMEOUT", "30"),
        ("VAULT_TOKEN", "t"),
    ];
    let config = good(&format!("{{ corp: {{ type: vault, {entry} }} }}"), &variables);
    let settings = settings(&config, "corp");
    assert_eq!(settings.addresses().unwrap(), ["https://a:8200", "https://b:8200"]);
    assert_eq!((settings.namespace(), settings.ca_cert.is_none()), ("", true));
    assert!(config.origins.is_empty(), "{:?}", config.origins);
}

#[test]
fn of_three_ways_to_name_authorities_one_is_taken() {
    let of = |variables: &[(&str, &str)]| {
        let variables: Vec<_> = variables.iter().copied().chain([("VAULT_ADDR", "https://v"), ("VAULT_TOKEN", "t")]).collect();
        let config = good("{ corp: { type: vault } }", &variables);
        keys(&config, "corp").into_iter().find(|(key, _)| key.starts_with("ca_")).map(|(key, _)| key)
    };
    let (file, folder, bytes) =
        (("VAULT_CACERT", "/ca.pem"), ("VAULT_CAPATH", "/ca"), ("VAULT_CACERT_BYTES", "-----BEGIN CERTIFICATE-----"));
    assert_eq!(of(&[folder]), Some("ca_path"));
    assert_eq!(of(&[folder, file]), Some("ca_cert"));
    assert_eq!(of(&[folder, file, bytes]), Some("ca_cert_base64"));
    assert_eq!(of(&[]), None);
}

#[test]
fn authorities_in_a_variable_are_those_of_the_store() {
    let pem = rcgen::generate_simple_self_signed(vec!["v".to_owned()]).unwrap().cert.pem();
    let variables = [("VAULT_ADDR", "https://v"), ("VAULT_TOKEN", "t"), ("BAO_CACERT_BYTES", pem.as_str())];
    assert_eq!(open(&good("{ corp: { type: vault } }", &variables), "corp"), Ok(()));
    let broken = [("VAULT_ADDR", "https://v"), ("VAULT_TOKEN", "t"), ("BAO_CACERT_BYTES", "not base64!")];
    let said = open(&good("{ corp: { type: vault } }", &broken), "corp").unwrap_err();
    assert!(said.contains("ca_cert_base64 is not base64"), "{said}");
}

#[test]
fn a_folder_of_authorities_is_read_whole_and_other_files_in_it_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let entry =
        format!("{{ corp: {{ type: vault, address: 'https://v', ca_path: '{}', auth: {{ method: token, token: t }} }} }}", path.display());
    let opened = || open(&good(&entry, &[]), "corp");
    assert!(opened().unwrap_err().contains("no PEM certificate"));
    let pem = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap().cert.pem();
    std::fs::write(path.join("a.pem"), pem("a")).unwrap();
    std::fs::write(path.join("b.0"), pem("b")).unwrap();
    std::fs::write(path.join("README"), "what this is").unwrap();
    std::fs::create_dir(path.join("..data")).unwrap();
    assert_eq!(opened(), Ok(()));
    std::fs::write(path.join("c.pem"), "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").unwrap();
    let said = opened().unwrap_err();
    assert!(said.contains("ca_path") && said.contains("c.pem"), "{said}");
}

#[test]
fn a_variable_that_cannot_be_used_is_named_and_its_value_is_not() {
    let cases = [
        ("VAULT_ADDR", "canary:8200", "expected an address"),
        ("BAO_ADDR", "canary", "expected an address"),
        ("BAO_CLIENT_TIMEOUT", "1m30s canary", "expected a time"),
        ("VAULT_SKIP_VERIFY", "canary", "expected true or false"),
        ("HASHICORP_VAULT_USE_K8S", "canary", "expected true or false"),
        ("HASHICORP_VAULT_USE_K8S", "true", "HASHICORP_VAULT_K8S_ROLE is missing"),
    ];
    for (variable, value, expected) in cases {
        let (_, problems) = read("{ corp: { type: vault } }", &[(variable, value)]);
        let said = all(&problems);
        let named = problems.iter().any(|problem| problem.file == Path::new(variable) && problem.message.contains(expected));
        assert!(named && !said.contains("canary"), "{variable}: {said}");
    }
}

#[test]
fn verification_is_switched_off_by_a_variable_only_where_that_names_the_server_too() {
    let skip = ("BAO_SKIP_VERIFY", "1");
    let (config, problems) = read("{ corp: { type: vault } }", &[("VAULT_ADDR", "https://v"), ("VAULT_TOKEN", "t"), skip]);
    assert_eq!(settings(&config, "corp").insecure.as_ref().map(ToString::to_string).as_deref(), Some("BAO_SKIP_VERIFY is set"));
    assert!(all(&problems).starts_with("BAO_SKIP_VERIFY: warning: stores.corp.insecure: the server is not verified"), "{}", all(&problems));
    let (config, problems) = read("{ corp: { type: vault, address: 'https://v' } }", &[("VAULT_TOKEN", "t"), skip]);
    assert!(settings(&config, "corp").insecure.is_none());
    assert!(all(&problems).contains("BAO_SKIP_VERIFY: warning: stores.corp.insecure: not taken"), "{}", all(&problems));
}

#[test]
fn a_token_from_the_environment_is_shown_to_one_server() {
    let token = ("VAULT_TOKEN", "canary");
    let of = |stores: &str, variables: &[(&str, &str)]| all(&read(stores, variables).1);
    let two = "{ a: { type: vault, address: 'https://a' }, b: { type: vault, address: 'https://b' } }";
    let said = of(two, &[token]);
    for store in ["stores.a: ", "stores.b: "] {
        let told = said.lines().any(|line| line.contains(store) && line.contains("VAULT_TOKEN is for one server"));
        assert!(told && !said.contains("canary"), "{said}");
    }
    let named = "{ a: { type: vault }, b: { type: vault, address: 'https://b' } }";
    let said = of(named, &[token, ("VAULT_ADDR", "https://a")]);
    assert!(said.contains("stores.b: ") && !said.contains("stores.a"), "{said}");
    for (stores, variables) in [
        ("{ a: { type: vault, address: 'https://a' } }", &[token][..]),
        (two, &[]),
        ("{ a: { type: vault, address: 'https://a' }, b: { type: vault, address: 'https://b', enabled: false } }", &[token]),
        ("{ a: { type: vault, address: 'https://a' }, b: { type: vault, address: 'https://a', namespace: x } }", &[token]),
        (
            "{ a: { type: vault, address: 'https://a' }, b: { type: vault, address: 'https://b', auth: { method: token, token: t } } }",
            &[token],
        ),
        ("{ a: { type: vault }, b: { type: vault, namespace: x } }", &[token, ("VAULT_ADDR", "https://a")]),
    ] {
        assert_eq!(of(stores, variables), "", "{stores}");
    }
}

#[test]
fn where_nothing_says_where_or_who_both_ways_to_say_it_are_named() {
    let token = "auth: { method: token, token: t }";
    let said = open(&good(&format!("{{ corp: {{ type: vault, {token} }} }}"), &[]), "corp").unwrap_err();
    assert!(said.contains("`address:") && said.contains("VAULT_ADDR") && said.contains("BAO_ADDR"), "{said}");
    assert!(!said.contains("`auth:"), "{said}");
    let said = open(&good("{ corp: { type: vault } }", &[]), "corp").unwrap_err();
    assert!(said.contains("VAULT_ADDR") && said.contains("VAULT_TOKEN"), "both at once: {said}");
    let said = open(&good("{ corp: { type: vault, address: 'https://v' } }", &[]), "corp").unwrap_err();
    assert!(said.contains("`auth:") && said.contains("VAULT_TOKEN") && said.contains("BAO_TOKEN"), "{said}");
}

#[test]
fn keeps_variables_are_understood() {
    let config = good("{ corp: { type: vault } }", &[("HASHICORP_VAULT_TOKEN", "t")]);
    assert_eq!(settings(&config, "corp").addresses().unwrap(), ["http://localhost:8200"]);
    assert_eq!(took(&config, "corp", "auth").as_deref(), Some("HASHICORP_VAULT_TOKEN"));
    assert_eq!(open(&config, "corp"), Ok(()));
    let in_cluster = [
        ("HASHICORP_VAULT_ADDR", "https://v"),
        ("HASHICORP_VAULT_USE_K8S", "True"),
        ("HASHICORP_VAULT_K8S_ROLE", "keep"),
        ("HASHICORP_VAULT_TOKEN", "t"),
    ];
    let config = good("{ corp: { type: vault } }", &in_cluster);
    assert_eq!(settings(&config, "corp").addresses().unwrap(), ["https://v"]);
    assert_eq!(took(&config, "corp", "auth").as_deref(), Some("HASHICORP_VAULT_USE_K8S"));
    // Vault's own come first.
    let config = good("{ corp: { type: vault } }", &[("HASHICORP_VAULT_TOKEN", "t"), ("VAULT_TOKEN", "t"), ("VAULT_ADDR", "https://own")]);
    assert_eq!(settings(&config, "corp").addresses().unwrap(), ["https://own"]);
    assert_eq!(took(&config, "corp", "auth").as_deref(), Some("VAULT_TOKEN"));
}

#[test]
fn an_address_is_one_or_a_list_that_is_not_empty() {
    let said = |address: &str| all(&read(&format!("{{ corp: {{ type: vault, address: {address} }} }}"), &[]).1);
    for address in ["[]", "{}", "7", "[[]]"] {
        assert!(said(address).contains("stores.corp.address"), "{address}: {}", said(address));
    }
    assert_eq!(said("[' https://a:8200 ']"), "");
}

#[test]
fn a_store_of_another_kind_and_a_broken_entry_take_nothing() {
    let (config, problems) = read("{ corp: 7, other: { type: vault, addres: x } }", &[("VAULT_ADDR", "https://v")]);
    assert!(!config.stores.contains_key("corp"));
    assert!(all(&problems).contains("did you mean \"address\"?"), "{}", all(&problems));
}
