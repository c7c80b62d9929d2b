//! What every kind of store does alike: one list of behaviours, held against each row of `KINDS` and each way to set one up (beds.rs).

pub(super) mod beds;

use serde_json::{Value, json};

use self::beds::{Bed, beds};
use super::{Document, KINDS, SecretPath, Selector, Store, StoreError, StoreErrorKind};
use crate::{Gate, Grant, SessionId, sample};

/// Stands in every value and every secret of a store's own; in nothing that is shown.
const CANARY: &str = "canary-7d1f";

/// Every bed of every kind.
async fn all() -> Vec<Bed> {
    let mut all = Vec::new();
    for kind in KINDS {
        let name = kind.settings.name;
        let found = beds(name).await;
        assert!(!found.is_empty(), "the kind {name} has no bed in the contract tests");
        all.extend(found);
    }
    all
}

async fn read(store: &dyn Store, path: &SecretPath, fresh: bool) -> Result<Document, StoreError> {
    store.read(SessionId::random(), path, fresh).await
}

/// The kind of an error that says which secret it is about, and shows none.
async fn refused(bed: &Bed, store: &dyn Store, path: &SecretPath) -> StoreErrorKind {
    let Err(error) = read(store, path, true).await else { panic!("{}: {path} was read", bed.name) };
    for shown in [error.to_string(), format!("{error:?}"), store.identity().to_owned()] {
        assert!(!shown.contains(CANARY), "{}: {shown}", bed.name);
    }
    error.kind
}

fn pick(bed: &Bed, document: &Document, key: &str) -> String {
    let value = Selector::key(key).pick(&document.fields, &bed.path("a")).unwrap();
    value.expose_str().unwrap_or_else(|| panic!("{}: {key}", bed.name)).to_owned()
}

#[tokio::test]
async fn every_store_gives_values_and_keys_inside_of_others() {
    for bed in all().await {
        let secret = json!({"username": "app", "password": CANARY, "deep": {"a": {"b": "below"}}, "list": ["x", "y"], "port": 5432});
        bed.put("object", &secret).await;
        let document = read(&*bed.store, &bed.path("object"), false).await.unwrap_or_else(|error| panic!("{}: {error}", bed.name));
        for (key, value) in [("username", "app"), ("password", CANARY), ("deep.a.b", "below"), ("list.1", "y"), ("port", "5432")] {
            assert_eq!(pick(&bed, &document, key), value, "{}: {key}", bed.name);
        }
        assert!(Selector::key("passwort").pick(&document.fields, &bed.path("object")).is_err(), "{}", bed.name);
    }
}

#[tokio::test]
async fn a_store_without_mounts_gives_a_text_as_the_one_value_of_a_secret() {
    for bed in all().await.into_iter().filter(Bed::has_texts) {
        bed.put("text", &Value::from(CANARY)).await;
        let document = read(&*bed.store, &bed.path("text"), false).await.unwrap();
        assert_eq!(document.fields, json!({ super::SINGLE: CANARY }), "{}", bed.name);
        assert_eq!((document.version, document.not_after), (None, None), "{}", bed.name);
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    for bed in all().await {
        bed.put("there", &json!({"k": CANARY})).await;
        assert_eq!(refused(&bed, &*bed.store, &bed.path("nothing")).await, StoreErrorKind::NotFound, "{}", bed.name);
    }
}

#[tokio::test]
async fn what_we_may_not_read_is_denied() {
    for kind in KINDS {
        let mut held = 0;
        for bed in beds(kind.settings.name).await {
            let Some((store, path)) = &bed.forbidden else { continue };
            assert_eq!(refused(&bed, &**store, path).await, StoreErrorKind::Denied, "{}", bed.name);
            held += 1;
        }
        assert!(held > 0, "no bed of {} has what may not be read", kind.settings.name);
    }
}

#[tokio::test]
async fn a_store_that_is_away_is_unavailable() {
    for bed in all().await {
        let Some(away) = &bed.away else { continue };
        assert_eq!(refused(&bed, &**away, &bed.path("a")).await, StoreErrorKind::Unavailable, "{}", bed.name);
        let status = away.status().await.err().map(|error| error.kind);
        assert_eq!(status, Some(StoreErrorKind::Unavailable), "{}", bed.name);
    }
}

#[tokio::test]
async fn a_secret_that_is_too_long_is_not_read() {
    for bed in all().await {
        bed.put("long", &json!({"k": CANARY.repeat(bed.too_long / CANARY.len() + 1)})).await;
        let kind = refused(&bed, &*bed.store, &bed.path("long")).await;
        // Of an answer of Vault's nobody can say whether the secret is what is long in it.
        assert!(matches!(kind, StoreErrorKind::Malformed | StoreErrorKind::Unavailable), "{}: {kind:?}", bed.name);
    }
}

#[tokio::test]
async fn a_rotated_secret_is_seen_by_the_next_one_who_asks_past_the_cache() {
    for bed in all().await {
        for round in 1..=3 {
            bed.put("rotated", &json!({"username": format!("app{round}"), "password": format!("{CANARY}{round}")})).await;
            let document = read(&*bed.store, &bed.path("rotated"), true).await.unwrap();
            assert_eq!(pick(&bed, &document, "username"), format!("app{round}"), "{}", bed.name);
            assert_eq!(pick(&bed, &document, "password"), format!("{CANARY}{round}"), "{}", bed.name);
        }
    }
}

#[tokio::test]
async fn twenty_who_read_at_one_time_are_all_served() {
    for bed in all().await {
        bed.put("crowd", &json!({"k": CANARY})).await;
        let path = bed.path("crowd");
        for document in futures_util::future::join_all((0..20).map(|_| read(&*bed.store, &path, false))).await {
            assert_eq!(document.unwrap().fields, json!({"k": CANARY}), "{}", bed.name);
        }
    }
}

#[tokio::test]
async fn a_kind_without_roles_says_that_it_has_none() {
    let grant = grant();
    for kind in KINDS.iter().filter(|kind| !kind.roles) {
        for bed in beds(kind.settings.name).await {
            let wanted = super::Wanted { path: bed.path("role"), username: None, shown: Vec::new() };
            let issued = bed.store.issue(&grant, &wanted).await.err().unwrap();
            assert!(issued.kind == StoreErrorKind::Malformed && issued.detail.contains("no roles"), "{}: {issued}", bed.name);
            let certified = bed.store.certify(&grant, &wanted.path, "ssh-ed25519 AAAA", "app").await.err().unwrap();
            assert_eq!(certified.kind, StoreErrorKind::Malformed, "{}", bed.name);
            let renewed = bed.store.renew("lease", std::time::Duration::from_secs(1)).await.err().unwrap();
            assert_eq!(renewed.kind, StoreErrorKind::LeaseLost, "{}", bed.name);
            assert!(bed.store.revoke("lease").await.is_err(), "{}", bed.name);
        }
    }
}

#[tokio::test]
async fn a_store_says_how_it_is_and_what_it_is() {
    for bed in all().await {
        bed.put("a", &json!({"k": CANARY})).await;
        let status = bed.store.status().await.unwrap_or_else(|error| panic!("{}: {error}", bed.name));
        assert_eq!(status.has_token, bed.kind().roles, "{}: {status:?}", bed.name);
        assert!(!status.version.is_empty() && !format!("{status:?}").contains(CANARY), "{}: {status:?}", bed.name);
        let identity = bed.store.identity();
        assert!(identity.len() > 3 && !identity.contains(CANARY), "{}: {identity}", bed.name);
        // A journal entry finds its store again by it: another process that read the same file says the same.
        assert_eq!(identity, bed.open_again().identity(), "{}", bed.name);
    }
}

#[tokio::test]
async fn settings_that_lack_what_the_kind_needs_are_an_error_with_a_line() {
    for kind in KINDS {
        let name = kind.settings.name;
        let wrong = format!("stores: {{ s: {{ type: {name}, no_such_key: {CANARY} }} }}\n");
        let stores: Vec<_> = KINDS.iter().map(|kind| kind.settings).collect();
        let text = format!("state: /nowhere\nlisteners: [{{ protocol: postgres, address: '127.0.0.1:1' }}]\n{wrong}");
        let kinds = keyward_config::Kinds { protocols: sample::PROTOCOLS, stores: &stores };
        let problems = keyward_config::parse(std::path::Path::new("k.yaml"), &text, &kinds).problems.to_string();
        assert!(problems.contains("k.yaml:3:") && problems.contains("no_such_key") && !problems.contains(CANARY), "{name}: {problems}");
    }
}

/// Of somebody for something: no store without roles looks at it.
fn grant() -> Grant {
    let keys = "username: { literal: u }, password: { literal: p }";
    let text = format!("connections: {{ db: {{ protocol: postgres, address: 'pg:5432', {keys} }} }}\n");
    let (config, mut problems) = sample::config(&text);
    Gate::for_operator(&config, sample::nobody(), &mut problems).unwrap().operator_grants().remove(0)
}
