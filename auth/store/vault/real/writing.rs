//! Operators who write: both versions of KV, versions and metadata, changes of the same moment, tokens that may not.

use super::*;
use crate::Secret;
use crate::operator::{Change, Destroy, Folder, History, MetadataChange, Others, SecretName, Secrets, Values};
use crate::store::StoreErrorKind;

/// An operator at the store of a file whose own login leads nowhere.
struct Operator {
    config: Arc<Config>,
    secrets: Secrets,
}

impl Operator {
    fn with(token: &str) -> Self {
        let (config, _) = Bed::config("auth: { method: token, token: nobodys-token }", &[]);
        let config = Arc::new(config);
        let secrets = Secrets::open(&config, "corp", Some(Secret::from(token.to_owned()))).unwrap_or_else(|error| panic!("{error}"));
        Self { config, secrets }
    }

    fn name(&self, name: &str) -> SecretName {
        SecretName::parse(&self.config, name).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    async fn put(&self, name: &str, others: Others, values: &[(&str, &str)]) -> Result<Option<u64>, StoreError> {
        self.secrets.put(&self.name(name), &change(others, values)).await.map(|written| written.version)
    }

    async fn value(&self, name: &str, key: &str) -> Result<String, StoreError> {
        let value = self.secrets.value(&self.name(name), key, None).await?;
        Ok(value.expose_str().unwrap().to_owned())
    }

    async fn keys(&self, name: &str) -> Result<Vec<String>, StoreError> {
        self.secrets.get(&self.name(name), None, Values::Hidden).await.map(|held| held.keys())
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        self.secrets.list(&Folder::parse(&self.config, folder).unwrap()).await
    }
}

fn change(others: Others, values: &[(&str, &str)]) -> Change {
    let mut change = Change::new(others);
    values.iter().for_each(|(key, value)| change.set(key, &Secret::from((*value).to_owned())).unwrap());
    change
}

/// A token that may do this and nothing else: `path "…" { … }`.
async fn token_of(policy: &str) -> String {
    let name = unique("operator");
    post(&format!("sys/policies/acl/{name}"), json!({ "policy": policy })).await;
    let made = post("auth/token/create", json!({ "policies": [name], "ttl": "1h" })).await;
    made["auth"]["client_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_is_written_is_read_and_other_keys_stay() {
    let operator = Operator::with(ROOT);
    for version in ["1", "2"] {
        let mount = kv(version, "team/mysql", json!({"username": "app", "port": 3306, "deep": {"a": "b"}})).await;
        let name = format!("corp:{mount}/team/mysql");
        let made = operator.put(&name, Others::Kept, &[("password", "first"), ("deep.a", "c")]).await.unwrap();
        assert_eq!(made, (version == "2").then_some(2));
        assert_eq!(operator.keys(&name).await.unwrap(), ["deep.a", "password", "port", "username"]);
        let hidden = operator.secrets.get(&operator.name(&name), None, Values::Hidden).await.unwrap();
        assert_eq!(hidden.json().expose_str(), Some("{\"deep\":{\"a\":null},\"password\":null,\"port\":null,\"username\":null}"));
        assert_eq!(operator.value(&name, "password").await.unwrap(), "first");
        assert_eq!(
            (operator.value(&name, "deep.a").await.unwrap().as_str(), operator.value(&name, "port").await.unwrap().as_str()),
            ("c", "3306")
        );
        operator.put(&name, Others::Dropped, &[("password", "second")]).await.unwrap();
        assert_eq!(operator.keys(&name).await.unwrap(), ["password"]);
        assert_eq!(operator.list(&format!("corp:{mount}")).await.unwrap(), ["team/"]);
        assert_eq!(operator.list(&format!("corp:{mount}/team/")).await.unwrap(), ["mysql"]);
        assert!(operator.list("corp:").await.unwrap().contains(&format!("{mount}/")));
        assert_eq!(operator.list(&format!("corp:{mount}/nobody")).await.unwrap_err().kind, StoreErrorKind::NotFound);
        // One that was not there.
        let fresh = format!("corp:{mount}/fresh");
        assert_eq!(operator.keys(&fresh).await.unwrap_err().kind, StoreErrorKind::NotFound);
        assert_eq!(operator.put(&fresh, Others::Kept, &[("password", "x")]).await.unwrap(), (version == "2").then_some(1));
    }
}

#[tokio::test]
async fn a_session_gets_what_an_operator_wrote() {
    let mount = kv("2", "other", json!({"x": "y"})).await;
    let operator = Operator::with(ROOT);
    operator.put(&format!("corp:{mount}/orders"), Others::Kept, &[("username", "app"), ("password", "new")]).await.unwrap();
    let bed = Bed::as_root(&[("orders", &format!("credential: {mount}/data/orders"))]);
    let credential = bed.credential("orders").await;
    assert_eq!((credential.username(), password(&credential)), ("app", "new"));
}

#[tokio::test]
async fn of_changes_of_the_same_moment_none_is_lost() {
    let mount = kv("2", "shared", json!({"username": "app"})).await;
    let writers = (0..5).map(|number| {
        let name = format!("corp:{mount}/shared");
        tokio::spawn(async move { Operator::with(ROOT).put(&name, Others::Kept, &[(&format!("key{number}"), "x")]).await })
    });
    let mut versions = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        versions.push(writer.await.unwrap().unwrap().unwrap());
    }
    versions.sort_unstable();
    assert_eq!(versions, [2, 3, 4, 5, 6]);
    let keys = Operator::with(ROOT).keys(&format!("corp:{mount}/shared")).await.unwrap();
    assert_eq!(keys, ["key0", "key1", "key2", "key3", "key4", "username"]);
}

#[tokio::test]
async fn a_mount_that_wants_to_hear_what_is_replaced_hears_it() {
    let mount = kv("2", "there", json!({"username": "app"})).await;
    post(&format!("{mount}/config"), json!({ "cas_required": true })).await;
    let operator = Operator::with(ROOT);
    for (name, before) in [("there", 1), ("fresh", 0)] {
        let name = format!("corp:{mount}/{name}");
        assert_eq!(operator.put(&name, Others::Dropped, &[("password", "x")]).await.unwrap(), Some(before + 1));
        assert_eq!(operator.put(&name, Others::Kept, &[("more", "x")]).await.unwrap(), Some(before + 2));
        assert_eq!(operator.keys(&name).await.unwrap(), ["more", "password"]);
    }
}

#[tokio::test]
async fn a_deleted_version_comes_back_and_a_destroyed_one_does_not() {
    let mount = kv("2", "app", json!({"password": "one"})).await;
    put(&mount, "2", "app", json!({"password": "two"})).await;
    let operator = Operator::with(ROOT);
    let (text, name) = (format!("corp:{mount}/app"), operator.name(&format!("corp:{mount}/app")));
    let secrets = &operator.secrets;
    assert_eq!(secrets.history(&name).await.unwrap(), History::Kept);

    secrets.delete(&name, &[]).await.unwrap();
    let deleted = operator.value(&text, "password").await.unwrap_err();
    assert!(deleted.kind == StoreErrorKind::NotFound && deleted.detail.contains("was deleted at"), "{deleted}");
    // What is written after a deletion begins anew, and counts on.
    assert_eq!(operator.put(&text, Others::Kept, &[("username", "app")]).await.unwrap(), Some(3));
    assert_eq!(operator.keys(&text).await.unwrap(), ["username"]);
    secrets.undelete(&name, &[2]).await.unwrap();
    let second = secrets.get(&name, Some(2), Values::Shown).await.unwrap();
    assert_eq!((second.keys(), second.version.as_ref().unwrap().number), (vec!["password".to_owned()], 2));

    secrets.destroy(&name, &Destroy::Versions(vec![1])).await.unwrap();
    let destroyed = secrets.get(&name, Some(1), Values::Hidden).await.err().unwrap();
    assert!(destroyed.detail.contains("destroyed"), "{destroyed}");
    assert!(secrets.undelete(&name, &[1]).await.unwrap_err().detail.contains("version 1 was destroyed"));
    assert!(secrets.delete(&name, &[7]).await.unwrap_err().detail.contains("no version 7"));
    let metadata = secrets.metadata(&name).await.unwrap();
    let states: Vec<_> = metadata.versions.iter().map(|version| (version.number, version.deleted.is_some(), version.destroyed)).collect();
    assert_eq!((metadata.current, states), (3, vec![(1, false, true), (2, false, false), (3, false, false)]));

    secrets.destroy(&name, &Destroy::All).await.unwrap();
    for error in
        [operator.keys(&text).await.unwrap_err(), secrets.metadata(&name).await.unwrap_err(), secrets.delete(&name, &[]).await.unwrap_err()]
    {
        assert_eq!(error.kind, StoreErrorKind::NotFound, "{error}");
    }
}

#[tokio::test]
async fn metadata_changes_where_it_is_said_to_and_nowhere_else() {
    let mount = kv("2", "app", json!({"password": "one"})).await;
    let operator = Operator::with(ROOT);
    let name = operator.name(&format!("corp:{mount}/app"));
    let note = |name: &str, text: &str| MetadataChange { notes: vec![(name.to_owned(), text.to_owned())], ..MetadataChange::default() };
    operator.secrets.set_metadata(&name, &MetadataChange { max_versions: Some(5), ..note("owner", "payments") }).await.unwrap();
    operator.secrets.set_metadata(&name, &note("since", "may")).await.unwrap();
    operator
        .secrets
        .set_metadata(&name, &MetadataChange { delete_version_after: Some("720h".to_owned()), ..note("owner", "") })
        .await
        .unwrap();
    let metadata = operator.secrets.metadata(&name).await.unwrap();
    assert_eq!((metadata.max_versions, metadata.delete_version_after.as_str()), (5, "720h0m0s"));
    assert_eq!(metadata.notes, [("since".to_owned(), "may".to_owned())]);
    let nobody = operator.name(&format!("corp:{mount}/nobody"));
    assert_eq!(operator.secrets.set_metadata(&nobody, &note("a", "b")).await.unwrap_err().kind, StoreErrorKind::NotFound);
}

#[tokio::test]
async fn version_1_has_no_versions_and_says_so() {
    let mount = kv("1", "app", json!({"password": "one"})).await;
    let operator = Operator::with(ROOT);
    let name = operator.name(&format!("corp:{mount}/app"));
    let secrets = &operator.secrets;
    assert_eq!(secrets.history(&name).await.unwrap(), History::None);
    for error in [
        secrets.delete(&name, &[1]).await.unwrap_err(),
        secrets.undelete(&name, &[1]).await.unwrap_err(),
        secrets.destroy(&name, &Destroy::Versions(vec![1])).await.unwrap_err(),
        secrets.metadata(&name).await.err().unwrap(),
        secrets.get(&name, Some(1), Values::Shown).await.err().unwrap(),
    ] {
        assert!(error.kind == StoreErrorKind::Malformed && error.detail.contains("keeps no versions"), "{error}");
    }
    secrets.delete(&name, &[]).await.unwrap();
    assert_eq!(operator.keys(&format!("corp:{mount}/app")).await.unwrap_err().kind, StoreErrorKind::NotFound);
}

#[tokio::test]
async fn a_token_does_what_its_policy_lets_it_and_the_answer_says_what_is_missing() {
    let mount = kv("2", "app", json!({"password": "one"})).await;
    let name = format!("corp:{mount}/app");
    let writer = Operator::with(&token_of(&format!("path \"{mount}/data/app\" {{ capabilities = [\"create\", \"update\"] }}")).await);
    let error = writer.put(&name, Others::Kept, &[("password", "two")]).await.unwrap_err();
    assert!(error.kind == StoreErrorKind::Denied && error.detail.contains("--replace"), "{error}");
    assert_eq!(writer.put(&name, Others::Dropped, &[("password", "two")]).await.unwrap(), Some(2));
    assert_eq!(writer.keys(&name).await.unwrap_err().kind, StoreErrorKind::Denied);

    let reader = Operator::with(&token_of(&format!("path \"{mount}/data/app\" {{ capabilities = [\"read\"] }}")).await);
    assert_eq!(reader.keys(&name).await.unwrap(), ["password"], "by the way that its policy knows");
    assert_eq!(reader.put(&name, Others::Kept, &[("password", "three")]).await.unwrap_err().kind, StoreErrorKind::Denied);
    assert_eq!(reader.secrets.delete(&reader.name(&name), &[]).await.unwrap_err().kind, StoreErrorKind::Denied);

    let namer = Operator::with(&token_of(&format!("path \"{mount}/subkeys/app\" {{ capabilities = [\"read\"] }}")).await);
    assert_eq!(namer.keys(&name).await.unwrap(), ["password"], "no value has left the store");
    assert_eq!(namer.value(&name, "password").await.unwrap_err().kind, StoreErrorKind::Denied);
    assert_eq!(reader.value(&name, "password").await.unwrap(), "two");
}

#[tokio::test]
async fn a_dead_token_is_told_from_one_that_may_not() {
    let mount = kv("2", "app", json!({"password": "one"})).await;
    let token = token_of("path \"nowhere/*\" { capabilities = [\"read\"] }").await;
    let name = format!("corp:{mount}/data/app");
    let operator = Operator::with(&token);
    assert_eq!(operator.keys(&name).await.unwrap_err().kind, StoreErrorKind::Denied);
    post("auth/token/revoke", json!({ "token": token })).await;
    for dead in [operator, Operator::with("s.never-was")] {
        let error = dead.put(&name, Others::Kept, &[("password", "canary")]).await.unwrap_err();
        assert!(error.kind == StoreErrorKind::LoginFailed && error.detail.contains("does not know this token"), "{error}");
        assert!(!error.detail.contains("canary") && !error.detail.contains("never-was"), "{error}");
    }
    let (config, _) = Bed::config("auth: { method: token, token: x }", &[]);
    for useless in ["", " \n", "two words", "line\nline"] {
        let refused = Secrets::open(
            &Arc::new(Bed::config("auth: { method: token, token: x }", &[]).0),
            "corp",
            Some(Secret::from(useless.to_owned())),
        );
        assert_eq!(refused.err().unwrap().kind, StoreErrorKind::LoginFailed, "{useless:?}");
    }
    assert!(Secrets::wants_token(&config, "nobody").unwrap_err().contains("there are: corp"));
}

#[tokio::test]
async fn what_is_no_kv_secret_is_not_written() {
    let mount = unique("ssh");
    post(&format!("sys/mounts/{mount}"), json!({ "type": "ssh" })).await;
    let operator = Operator::with(ROOT);
    let error = operator.put(&format!("corp:{mount}/config/ca"), Others::Kept, &[("private_key", "x")]).await.unwrap_err();
    assert!(error.kind == StoreErrorKind::Malformed && error.detail.contains("of type ssh"), "{error}");
    for (name, word) in [
        ("corp:sys/policies/acl/x", "own paths"),
        ("corp:db/creds/rw", "a role"),
        ("corp:kv/data/{{user.name}}/x", "each user"),
        ("other:kv/data/x", "no store"),
        ("corp:kv/data/../x", "segment"),
        ("corp:kv/data/a%2fb", "characters"),
    ] {
        let error = SecretName::parse(&operator.config, name).err().unwrap();
        assert!(error.contains(word), "{name}: {error}");
    }
    let gone = operator.put("corp:nowhere/data/x", Others::Kept, &[("a", "b")]).await.unwrap_err();
    assert_eq!(gone.kind, StoreErrorKind::NotFound, "{gone}");
}
