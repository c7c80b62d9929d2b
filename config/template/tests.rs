use crate::load_tests::read;
use crate::{Config, UpstreamAddress};

use super::*;

fn loaded(keys: &str) -> Config {
    let text = format!(
        "state: /s\nlisteners: [{{ protocol: postgres, address: \"127.0.0.1:1\" }}]\n\
         stores: {{ corp: {{ type: vault, address: x, auth: {{ method: token, token: t }} }} }}\n\
         connections:\n  db: {{ protocol: postgres, store: corp, username: 'm/data/p?u', {keys} }}\n"
    );
    let loaded = read(&text);
    assert!(!loaded.problems.has_errors(), "{}", loaded.problems);
    loaded.config.unwrap()
}

fn fill(template: &Template, values: &[&str]) -> Result<Connection, String> {
    template.fill(values.iter().map(|value| Zeroizing::new((*value).to_owned())).collect())
}

#[test]
fn a_field_in_a_store_is_filled_in_later() {
    let config = loaded("address: { secret: 'm/data/p?host' }, tls: { server_name: \"{{secrets.corp.name}}\" }");
    let connection = config.connections.values().next().unwrap();
    let template = connection.template.as_ref().unwrap();
    let found: Vec<_> = template.found().iter().map(|found| (found.path.as_str(), found.text.as_str(), found.span.line)).collect();
    assert_eq!(found, [("address", "m/data/p?host", 5), ("tls.server_name", "{{secrets.corp.name}}", 5)]);
    let filled = fill(template, &["pg-7.internal:6432", "seven"]).unwrap();
    let expected = UpstreamAddress::Tcp { host: "pg-7.internal".into(), port: Some(6432) };
    assert!(filled.place.address() == Some(&expected) && filled.template.is_none());
    assert_eq!(filled.tls.as_ref().unwrap().server_name.as_deref(), Some("seven"));
    assert!(filled.node != connection.node, "the entry is another one, with other values");
}

#[test]
fn what_cannot_be_used_is_an_error_without_the_value() {
    let config = loaded("address: { secret: 'm/data/p?host' }");
    let template = config.connections.values().next().unwrap().template.clone().unwrap();
    for value in ["", "canary host", "canary:99999", "/canary\0"] {
        let error = fill(&template, &[value]).err().unwrap_or_else(|| panic!("{value}"));
        assert!(error.contains("connections.db") && error.contains("address") && !error.contains("canary"), "{error}");
    }
}

#[test]
fn a_value_is_one_line_and_leads_to_no_further_secret() {
    let config = loaded("address: 'pg:1', tls: { server_name: { secret: 'm/data/p?name' } }");
    let template = config.connections.values().next().unwrap().template.clone().unwrap();
    assert!(fill(&template, &["seven"]).is_ok());
    let long = "canary".repeat(1000);
    for value in ["canary\nuser", "canary\0user\0root", "{{secrets.corp.canary}}", "vault.secret(corp:canary.x)", "{{user.name}}", &long] {
        let error = fill(&template, &[value]).err().unwrap_or_else(|| panic!("{value}"));
        assert!(error.contains("tls.server_name") && error.contains("cannot be used there") && !error.contains("canary"), "{error}");
    }
}

#[test]
fn a_connection_without_references_elsewhere_has_nothing_to_fill() {
    let config = loaded("address: 'pg:5432', password: { secret: 'm/data/p?p' }");
    assert!(config.connections.values().next().unwrap().template.is_none());
}
