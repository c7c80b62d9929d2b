use std::sync::Mutex;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};

use super::super::cache::Cache;
use super::super::named::Named;
use super::super::{Document, Selector, Store, text};
use super::*;
use crate::{Gate, sample};

const STORE: &str = "stores: { corp: { type: vault, address: 'https://v', auth: { method: token, token: t }";

fn open(text: &str, previous: Option<&Stores>) -> (Stores, Problems) {
    let (config, mut problems) = sample::config(text);
    let leases = Leases::open(None).unwrap();
    let policy = crate::policy::Policy::read(&config, &mut problems);
    let stores = Stores::open(&config, policy.connections(), &leases, &sample::nobody(), previous, &mut problems);
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
    assert!(!problems.has_errors(), "{problems}");
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
async fn a_store_whose_certificate_was_renewed_is_opened_anew() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let made = || rcgen::generate_simple_self_signed(vec!["v".to_owned()]).unwrap().cert.pem();
    std::fs::write(&ca, made()).unwrap();
    let text = format!("{STORE}, ca_cert: '{}' }} }}\n", ca.display());
    let (first, problems) = open(&text, None);
    assert!(!problems.has_errors(), "{problems}");
    let (same, _) = open(&text, Some(&first));
    let next = folder.path().join("next.pem");
    std::fs::write(&next, made()).unwrap();
    std::fs::rename(&next, &ca).unwrap();
    let (renewed, _) = open(&text, Some(&same));
    let of = |stores: &Stores| Arc::clone(&stores.open["corp"]);
    assert!(Arc::ptr_eq(&of(&first), &of(&same)));
    assert!(!Arc::ptr_eq(&of(&same), &of(&renewed)));
}

#[tokio::test]
async fn a_cluster_is_the_same_one_in_whatever_order_its_nodes_stand() {
    let at = |keys: &str| {
        let (stores, problems) =
            open(&format!("stores: {{ corp: {{ type: vault, {keys}, auth: {{ method: token, token: t }} }} }}\n"), None);
        assert!(!problems.has_errors(), "{problems}");
        Arc::clone(&stores.open["corp"].named.store)
    };
    let before = at("address: ['https://a:8200', 'https://b:8200']");
    for keys in ["address: ['https://c:8200', 'https://b:8200', 'https://a:8200']", "address: 'https://a:8200'"] {
        assert!(at(keys).was(before.identity()), "{keys}");
    }
    for keys in ["address: ['https://c:8200', 'https://b:8200']", "address: 'https://a:8200', namespace: team"] {
        assert!(!at(keys).was(before.identity()), "{keys}");
    }
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

/// A store with one password, which takes a moment to read it.
struct Rotating {
    password: Mutex<&'static str>,
    reads: Mutex<Vec<bool>>,
}

impl Store for Rotating {
    fn read<'a>(&'a self, _: crate::SessionId, _: &'a SecretPath, fresh: bool) -> BoxFuture<'a, Result<Document, StoreError>> {
        Box::pin(async move {
            self.reads.lock().unwrap().push(fresh);
            let fields = serde_json::json!({"username": "app", "password": *self.password.lock().unwrap()});
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(Document::of(fields, "r"))
        })
    }

    fn status(&self) -> BoxFuture<'_, Result<StoreStatus, StoreError>> {
        unreachable!("nobody asks")
    }

    fn identity(&self) -> &str {
        "rotating"
    }
}

impl Rotating {
    fn open() -> (Arc<Self>, Stores, Grant) {
        Self::open_at("m/data/db")
    }

    fn open_at(path: &str) -> (Arc<Self>, Stores, Grant) {
        let keys = format!("store: corp, credential: {path}");
        let text = format!("{STORE} }} }}\nconnections: {{ db: {{ protocol: postgres, address: 'pg:5432', {keys} }} }}\n");
        let (config, mut problems) = sample::config(&text);
        let grant = Gate::for_operator(&config, sample::nobody(), &mut problems).unwrap().operator_grants().remove(0);
        let store = Arc::new(Self { password: Mutex::new("old"), reads: Mutex::default() });
        let named = Named::new("corp".into(), Arc::clone(&store) as Arc<dyn Store>, sample::nobody());
        let opened = Opened::of(named, Cache::new(Duration::from_secs(60), Duration::ZERO));
        let open = BTreeMap::from([("corp".to_owned(), Arc::new(opened))]);
        (store, Stores { open, connections: BTreeMap::new(), leases: Leases::open(None).unwrap() }, grant)
    }

    fn reads(&self) -> Vec<bool> {
        self.reads.lock().unwrap().clone()
    }
}

fn password(lease: &Lease) -> String {
    lease.credential().unwrap().password().unwrap().expose_str().unwrap().to_owned()
}

#[tokio::test]
async fn all_who_hold_a_rotated_password_get_the_new_one_from_one_read() {
    let (store, stores, grant) = Rotating::open();
    stores.lease(&grant).await.unwrap();
    let held: Vec<Lease> = join_all((0..20).map(|_| stores.lease(&grant))).await.into_iter().map(Result::unwrap).collect();
    assert!(held.iter().all(|lease| lease.provenance().cached && password(lease) == "old"));
    *store.password.lock().unwrap() = "new";
    let again = join_all(held.iter().map(|lease| stores.refetch(&grant, lease))).await;
    for lease in again {
        assert_eq!(password(&lease.unwrap().expect("a newer one")), "new");
    }
    // One who comes late, and one who comes new.
    assert_eq!(password(&stores.refetch(&grant, &held[0]).await.unwrap().unwrap()), "new");
    let next = stores.lease(&grant).await.unwrap();
    assert_eq!((password(&next), next.provenance().cached), ("new".to_owned(), true));
    assert_eq!(store.reads(), [false, true]);
}

#[tokio::test]
async fn a_static_role_that_is_rotated_between_read_and_login_is_read_again() {
    for (path, again) in [("m/static-creds/db", Some("new")), ("m/data/db", None)] {
        let (store, stores, grant) = Rotating::open_at(path);
        let held = stores.lease(&grant).await.unwrap();
        assert!(!held.provenance().cached);
        *store.password.lock().unwrap() = "new";
        let next = stores.refetch(&grant, &held).await.unwrap();
        assert_eq!(next.as_ref().map(password).as_deref(), again, "{path}");
    }
}

#[tokio::test]
async fn a_live_session_gets_what_came_in_the_place_of_its_password() {
    let (store, stores, grant) = Rotating::open();
    let held = stores.lease(&grant).await.unwrap().credential().unwrap();
    *store.password.lock().unwrap() = "new";
    let replaced = join_all((0..20).map(|_| stores.replacement(&grant, &held))).await;
    let replaced: Vec<_> = replaced.into_iter().map(|credential| credential.unwrap().expect("a newer one")).collect();
    assert!(replaced.iter().all(|credential| credential.password().unwrap().expose() == b"new"));
    assert!(stores.replacement(&grant, &replaced[0]).await.unwrap().is_none());
    assert_eq!(store.reads(), [false, true]);
}

#[tokio::test]
async fn a_password_that_did_not_change_is_read_once_however_often_it_is_rejected() {
    let (store, stores, grant) = Rotating::open();
    stores.lease(&grant).await.unwrap();
    let held = stores.lease(&grant).await.unwrap();
    let rejected = join_all((0..20).map(|_| stores.refetch(&grant, &held))).await;
    assert!(rejected.into_iter().all(|lease| lease.unwrap().is_none()));
    // What that read gave is in the cache now, and as old as what is rejected next.
    let held = stores.lease(&grant).await.unwrap();
    assert!(held.provenance().cached);
    assert!(stores.refetch(&grant, &held).await.unwrap().is_none());
    assert_eq!(store.reads(), [false, true]);
}

/// How often keys were derived from the password of this lease, after a SCRAM login with this salt.
async fn derivations(lease: &Lease, salt: &str) -> u64 {
    let credential = lease.credential().unwrap();
    let client = credential.scram(&["SCRAM-SHA-256"], None).unwrap_or_else(|failure| panic!("{failure:?}"));
    let first = String::from_utf8(client.client_first()).unwrap();
    let nonce = first.strip_prefix("n,,n=,").unwrap();
    let _ = client.server_first(format!("{nonce}x,s={salt},i=4096").as_bytes()).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    credential.password.as_ref().unwrap().derivations()
}

#[tokio::test]
async fn logins_with_a_cached_password_derive_its_scram_keys_once_and_anew_when_it_has_changed() {
    let (store, stores, grant) = Rotating::open();
    for _ in 0..5 {
        let lease = stores.lease(&grant).await.unwrap();
        assert_eq!(derivations(&lease, "c2FsdA==").await, 1);
    }
    let held = stores.lease(&grant).await.unwrap();
    assert_eq!(derivations(&held, "c2FsdDI=").await, 2, "another server has another salt");
    *store.password.lock().unwrap() = "new";
    let new = stores.refetch(&grant, &held).await.unwrap().expect("a newer one");
    let next = stores.lease(&grant).await.unwrap();
    assert_eq!((derivations(&new, "c2FsdA==").await, derivations(&next, "c2FsdA==").await), (1, 1), "of the new password");
    // Who holds the old one still has its own.
    assert_eq!(derivations(&held, "c2FsdA==").await, 2);
    let of = |lease: &Lease| Arc::downgrade(lease.credential().unwrap().password.as_ref().unwrap());
    let (old, current) = (of(&held), of(&next));
    drop((held, new, next));
    assert!(old.upgrade().is_none(), "the cache holds it no more");
    assert!(current.upgrade().is_some());
    drop(stores);
    assert!(current.upgrade().is_none(), "and ends with it");
}

#[test]
fn each_key_of_a_secret_is_a_password_of_its_own() {
    let fields = serde_json::json!({"username": "app", "password": "a", "other": "b", "nested": {"password": "a"}});
    let document = text::of_fields(fields);
    let path = SecretPath::of_name("p", None).unwrap();
    let take = |key: &str| document.password(&Selector::key(key), &path).ok().unwrap();
    let whole = Credential::whole(&document, &path).ok().unwrap().password.unwrap();
    assert!(Arc::ptr_eq(&whole, &take("password")) && Arc::ptr_eq(&take("other"), &take("other")));
    for key in ["other", "nested.password"] {
        assert!(!Arc::ptr_eq(&whole, &take(key)), "{key}");
    }
    assert_eq!((take("other").secret().expose(), take("nested.password").secret().expose()), (&b"b"[..], &b"a"[..]));
    assert!(document.password(&Selector::key("none"), &path).is_err());
}

#[tokio::test]
async fn a_client_that_vanishes_takes_the_read_from_nobody() {
    let (store, stores, grant) = Rotating::open();
    let mut first = Box::pin(stores.lease(&grant));
    assert!(first.as_mut().now_or_never().is_none());
    let second = stores.lease(&grant);
    tokio::pin!(second);
    while store.reads().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(second.as_mut().now_or_never().is_none());
    drop(first);
    assert_eq!(password(&second.await.unwrap()), "old");
    assert_eq!(store.reads(), [false], "the request that was under way went on");
}

#[tokio::test]
async fn a_store_is_opened_for_each_runner_that_is_named_and_for_whoever_names_none() {
    let runners = "worker: { role_id: w, secret_id: s }, runners: { orders: { role_id: a }, payroll: { role_id: b } }, runner: orders";
    let corp = format!("corp: {{ type: vault, address: 'https://v', auth: {{ method: approle, {runners} }} }}");
    let db = |keys: &str| {
        format!("connections: {{ db: {{ protocol: postgres, address: 'pg:5432', store: corp, credential: m/creds/r{keys} }} }}\n")
    };
    let named = |text: String| {
        let (stores, problems) = open(&text, None);
        assert!(!problems.has_errors(), "{problems}");
        stores.names()
    };
    assert_eq!(named(format!("stores: {{ {corp} }}\n{}", db(""))), ["corp"]);
    assert_eq!(named(format!("stores: {{ {corp} }}\n{}", db(", runner: payroll"))), ["corp/payroll"]);
    // Another store's own credential is read by the store's own runner.
    let inner = "inner: { type: vault, address: 'https://w', auth: { method: token, token: { secret: 'corp:m/data/inner?token' } } }";
    assert_eq!(named(format!("stores: {{ {corp}, {inner} }}\n{}", db(", runner: payroll"))), ["corp", "corp/payroll", "inner"]);
    // One that is switched off logs in nowhere: it needs no runner.
    let (no_own, off) = (corp.replace(", runner: orders", ""), inner.replace("type: vault", "type: vault, enabled: false"));
    assert_eq!(named(format!("stores: {{ {no_own}, {off} }}\n{}", db(", runner: payroll"))), ["corp/payroll"]);
    let (_, problems) = open(&format!("stores: {{ {corp} }}\n{}", db(", runner: nobody")), None);
    let said = problems.to_string();
    assert!(said.contains("connections.db.runner") && said.contains("it has: orders, payroll"), "{said}");
}
