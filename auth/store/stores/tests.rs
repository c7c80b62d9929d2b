use super::*;
use crate::{Gate, sample};

const STORE: &str = "stores: { corp: { type: vault, address: 'https://v', auth: { method: token, token: t }";

fn open(text: &str, previous: Option<&Stores>) -> (Stores, Problems) {
    let (config, mut problems) = sample::config(text);
    let leases = Leases::open(None).unwrap();
    let stores = Stores::open(&config, &leases, &sample::nobody(), previous, &mut problems);
    (stores, problems)
}

#[tokio::test]
async fn a_connection_that_needs_a_store_must_have_one_that_is_switched_on() {
    let db = |keys: &str| format!("connections: {{ db: {{ protocol: postgres, address: 'pg:5432', {keys} }} }}\n");
    let (_, problems) = open(&db("credential: m/creds/r"), None);
    assert!(problems.to_string().contains("connections.db.store: its references need a store"), "{problems}");
    let (stores, problems) = open(&format!("{STORE}, enabled: false }} }}\n{}", db("store: corp, credential: m/creds/r")), None);
    assert!(problems.to_string().contains("the store corp is switched off"), "{problems}");
    assert!(stores.names().is_empty());
    assert_eq!(stores.status("corp").await.err().map(|error| error.kind), Some(StoreErrorKind::Disabled));
    let (_, problems) = open(&db("username: { literal: u }, password: { literal: p }"), None);
    assert!(problems.is_empty(), "{problems}");
}

#[tokio::test]
async fn an_equal_store_lives_on_through_a_reload_and_a_changed_one_does_not() {
    let (first, _) = open(&format!("{STORE}, cache_ttl: 5m }} }}\n"), None);
    let (same, problems) = open(&format!("# moved\n{STORE}, cache_ttl: 5m }} }}\n"), Some(&first));
    assert!(problems.is_empty(), "{problems}");
    let (changed, _) = open(&format!("{STORE}, cache_ttl: 6m }} }}\n"), Some(&same));
    let of = |stores: &Stores| Arc::clone(&stores.open["corp"]);
    assert!(Arc::ptr_eq(&of(&first), &of(&same)));
    assert!(!Arc::ptr_eq(&of(&same), &of(&changed)));
}

#[tokio::test]
async fn what_the_file_gives_needs_no_store_and_is_read_when_it_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    let keys = format!("username: {{ literal: deploy }}, private_key: {{ file: '{}' }}", file.display());
    let (config, mut problems) = sample::config(&format!("connections: {{ web: {{ protocol: ssh, address: 'web:22', {keys} }} }}\n"));
    let gate = Gate::for_operator(&config, sample::nobody(), &mut problems).unwrap();
    let grant = gate.operator_grants().remove(0);
    let error = gate.lease(&grant).await.err().unwrap();
    assert_eq!(error.kind, StoreErrorKind::Unavailable);
    std::fs::write(&file, "-----BEGIN X-----\r\nabc\r\n-----END X-----").unwrap();
    let lease = gate.lease(&grant).await.unwrap();
    let credential = lease.credential().unwrap();
    assert_eq!((credential.username(), credential.password().is_none()), ("deploy", true));
    assert_eq!(credential.private_key().unwrap().expose(), b"-----BEGIN X-----\nabc\n-----END X-----\n");
    assert_eq!(lease.provenance().store, "");
    assert!(gate.refetch(&grant, &lease).await.unwrap().is_none());
}
