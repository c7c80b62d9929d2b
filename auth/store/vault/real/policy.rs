//! Printed policies: enough for every form, and nothing in them is too much.

use std::collections::BTreeSet;

use super::*;
use crate::store::StoreErrorKind;
use crate::store::policies::{AskStore, PolicyOf, Rights};

/// One connection for each form of reference, and what they are in the server.
struct Forms {
    connections: Vec<(&'static str, String)>,
    database: String,
    ssh: String,
}

impl Forms {
    async fn new() -> Self {
        let secret = || json!({"username": "app", "password": "x", "token": "t"});
        let (two, one) = (kv("2", "a/mysql", secret()).await, kv("1", "app/mysql", secret()).await);
        put(&two, "2", "b", secret()).await;
        for user in ["alice", "bob"] {
            put(&two, "2", &format!("of/{user}/db"), secret()).await;
        }
        let database = super::leases::database(60, 60).await;
        let ssh = unique("ssh");
        post(&format!("sys/mounts/{ssh}"), json!({"type": "ssh"})).await;
        post(&format!("{ssh}/config/ca"), json!({"generate_signing_key": true, "key_type": "ed25519"})).await;
        let signing = json!({"key_type": "ca", "allow_user_certificates": true, "allowed_users": "app", "max_ttl": "30m"});
        post(&format!("{ssh}/roles/ops"), signing).await;
        post(&format!("{ssh}/roles/otp"), json!({"key_type": "otp", "default_user": "ubuntu", "cidr_list": "127.0.0.0/8"})).await;
        let server = |keys: &str| format!("protocol: ssh, address: 127.0.0.1, {keys}");
        let connections = vec![
            ("version_2", format!("username: '{two}/data/a/mysql?username', password: '{two}/data/a/mysql?password'")),
            ("without_data", format!("credential: {two}/b")),
            ("version_1", format!("credential: {one}/app/mysql")),
            ("dynamic", format!("credential: {database}/creds/r")),
            ("static", format!("credential: {database}/static-creds/s")),
            ("per_user", format!("credential: '{two}/data/of/{{{{user.name}}}}/db'")),
            ("signed", server(&format!("username: {{ literal: app }}, credential: {ssh}/sign/ops"))),
            ("one_time", server(&format!("credential: {ssh}/creds/otp"))),
        ];
        Self { connections, database, ssh }
    }

    fn connections(&self) -> Vec<(&str, &str)> {
        self.connections.iter().map(|(name, keys)| (*name, keys.as_str())).collect()
    }

    /// The policy that this login is told.
    async fn policy(&self, auth: &str) -> String {
        let mut policies = policies(auth, &self.connections()).await;
        assert_eq!((policies.len(), &policies[0].0), (1, &PolicyOf::Store));
        policies.remove(0).1
    }

    /// A session of each form with this policy: those that had to do without their credential, and the bed, whose leases live.
    async fn sessions(&self, policy: &str) -> (BTreeSet<String>, Vec<Lease>, Bed) {
        let bed = Bed::open(&with_policy(policy).await, &self.connections());
        let (mut failed, mut leases) = (BTreeSet::new(), Vec::new());
        for (name, _) in &self.connections {
            let grant = if *name == "per_user" { bed.grant_of("alice", name) } else { bed.grant(name) };
            match bed.gate.lease(&grant).await {
                Ok(lease) => leases.push(lease),
                Err(error) => {
                    assert_eq!(error.kind, StoreErrorKind::Denied, "{name}: {error}");
                    failed.insert((*name).to_owned());
                }
            }
        }
        (failed, leases, bed)
    }

    async fn rights(&self, auth: &str) -> Result<Rights, StoreError> {
        rights(auth, &self.connections()).await
    }

    /// Takes back what a token could not.
    async fn clear_up(&self) {
        for role in [format!("{}/creds", self.database), format!("{}/creds", self.ssh)] {
            post(&format!("sys/leases/revoke-prefix/{role}"), json!({"sync": true})).await;
        }
        super::leases::gone(&self.database).await;
    }
}

async fn policies(auth: &str, connections: &[(&str, &str)]) -> Vec<(PolicyOf, String)> {
    let (config, _) = Bed::config(&format!("auth: {auth}"), connections);
    let gate = Bed::open(auth, connections).gate;
    let policies = gate.store_policies(&config, "corp", AskStore::IfNeeded).await.unwrap();
    policies.into_iter().map(|policy| (policy.of, policy.text)).collect()
}

async fn rights(auth: &str, connections: &[(&str, &str)]) -> Result<Rights, StoreError> {
    let (config, _) = Bed::config(&format!("auth: {auth}"), connections);
    let rights = Bed::open(auth, connections).gate.store_rights(&config, "corp").await;
    rights.map(|rights| rights.expect("this kind has policies"))
}

fn as_root() -> String {
    format!("{{ method: token, token: {ROOT} }}")
}

async fn token(policies: &[&str], further: Value) -> String {
    let mut wanted = json!({"policies": policies, "no_parent": true, "ttl": "1h"});
    wanted.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
    post("auth/token/create", wanted).await["auth"]["client_token"].as_str().unwrap().to_owned()
}

async fn written(policy: &str) -> String {
    let name = unique("policy");
    post(&format!("sys/policies/acl/{name}"), json!({ "policy": policy })).await;
    name
}

/// `auth:` of a token that may do this, beside what the policy `default` allows.
async fn with_policy(policy: &str) -> String {
    let token = token(&[&written(policy).await], json!({})).await;
    format!("{{ method: token, token: {token} }}")
}

/// What the store answers to whoever has only this policy.
async fn status(policy: &str, method: Method, path: &str, body: Value) -> u16 {
    let token = token(&[&written(policy).await], json!({})).await;
    let request = reqwest::Client::new().request(method, format!("{}/v1/{path}", bao())).header("x-vault-token", token);
    request.json(&body).send().await.unwrap().status().as_u16()
}

/// Where the rules of a policy are in its text, each with the comment above it.
fn rules(policy: &str) -> Vec<&str> {
    policy.split("\n\n").filter(|paragraph| paragraph.contains("\npath ")).collect()
}

#[tokio::test]
async fn every_form_works_with_the_printed_policy_and_none_without_its_own_rule() {
    let forms = Forms::new().await;
    let policy = forms.policy(&as_root()).await;
    let (failed, leases, bed) = forms.sessions(&policy).await;
    assert!(failed.is_empty(), "{failed:?} with {policy}");
    drop(leases);
    assert_eq!(bed.gate.drain(Duration::from_secs(20)).await, 0, "{policy}");
    let all = rules(&policy);
    assert_eq!(all.len(), 9, "{policy}");
    for rule in all {
        let without = policy.replace(rule, "");
        let (failed, leases, bed) = forms.sessions(&without).await;
        if rule.contains("sys/leases/revoke") {
            assert!(failed.is_empty(), "{failed:?} without {rule}");
            drop(leases);
            bed.seen.wait_for("revoke_failed", 2).await;
            forms.clear_up().await;
        } else {
            let by = rule.lines().next().unwrap().trim_start_matches("# ");
            assert_eq!(failed, BTreeSet::from([by.to_owned()]), "without {rule}");
            drop(leases);
            assert_eq!(bed.gate.drain(Duration::from_secs(20)).await, 0);
        }
        let lacks = forms.rights(&with_policy(&without).await).await.unwrap().lacks;
        let path = rule.split('"').nth(1).unwrap();
        let named = |lack: &String| lack.contains(path.split('+').next().unwrap());
        assert!(!lacks.is_empty() && lacks.iter().all(named), "{lacks:?} without {rule}");
    }
}

#[tokio::test]
async fn leases_are_given_back_by_the_roles_of_the_file_and_no_foreign_ones() {
    let forms = Forms::new().await;
    let policy = forms.policy(&as_root()).await;
    let foreign = super::leases::database(60, 60).await;
    let lease = |mount: &str| format!("{mount}/creds/r");
    let id = |body: Value| body["lease_id"].as_str().unwrap().to_owned();
    let own = id(admin(Method::GET, &lease(&forms.database), json!({})).await);
    let other = id(admin(Method::GET, &lease(&foreign), json!({})).await);
    let revoke = |body: Value| status(&policy, Method::POST, "sys/leases/revoke", body);
    assert_eq!(revoke(json!({"lease_id": other, "sync": false})).await, 403);
    let around = format!("{}/creds/r/../../../{other}", forms.database);
    assert_eq!(revoke(json!({"lease_id": around, "sync": false})).await, 400, "the server takes no such id");
    assert_eq!(super::leases::accounts(&foreign), "1");
    assert!(matches!(revoke(json!({"lease_id": own, "sync": false})).await, 202 | 204));
    super::leases::gone(&forms.database).await;
    post(&format!("sys/leases/revoke-prefix/{foreign}"), json!({"sync": true})).await;
    // One role less in it, and its leases stay.
    let without = policy.replace(&format!("      \"{}/creds/r/*\",\n", forms.database), "");
    assert_ne!(policy, without);
    let rights = forms.rights(&with_policy(&without).await).await.unwrap();
    assert_eq!(
        rights.lacks,
        [format!("update is denied: sys/leases/revoke with the lease ids of {}/creds/r (for dynamic)", forms.database)]
    );
}

#[tokio::test]
async fn what_a_token_could_do_beyond_the_file_is_told() {
    let forms = Forms::new().await;
    let policy = forms.policy(&as_root()).await;
    let exact = forms.rights(&with_policy(&policy).await).await.unwrap();
    assert_eq!(exact, Rights::default(), "with {policy}");
    let root = forms.rights(&as_root()).await.unwrap();
    assert_eq!((root.lacks.len(), root.beyond.as_slice()), (0, ["it is a root token: it may do everything".to_owned()].as_slice()));

    let two = forms.connections[1].1.trim_start_matches("credential: ").trim_end_matches("/b").to_owned();
    let (database, ssh) = (&forms.database, &forms.ssh);
    for (more, expected) in [
        (format!("path \"{two}/*\" {{ capabilities = [\"read\"] }}"), format!("may read all of {two}/")),
        (format!("path \"{two}/data/a/*\" {{ capabilities = [\"read\", \"delete\"] }}"), format!("may delete, read all of {two}/data/a/")),
        (format!("path \"{two}/data/b\" {{ capabilities = [\"create\", \"update\"] }}"), format!("may also create, update {two}/data/b")),
        (format!("path \"{database}/creds/*\" {{ capabilities = [\"read\"] }}"), format!("may read all of {database}/creds/")),
        (format!("path \"{ssh}/sign/+\" {{ capabilities = [\"update\"] }}"), format!("may update all of {ssh}/sign/")),
        (format!("path \"{ssh}/sign/ops\" {{ capabilities = [\"sudo\"] }}"), format!("may also sudo {ssh}/sign/ops")),
        ("path \"sys/policies/acl/*\" { capabilities = [\"update\"] }".to_owned(), "may change policies (sys/policies/acl/)".to_owned()),
        ("path \"auth/token/create\" { capabilities = [\"update\"] }".to_owned(), "may make tokens (auth/token/create)".to_owned()),
        ("path \"sys/auth/*\" { capabilities = [\"create\"] }".to_owned(), "may change auth methods (sys/auth/)".to_owned()),
        ("path \"sys/mounts/*\" { capabilities = [\"create\"] }".to_owned(), "may change secrets engines (sys/mounts/)".to_owned()),
        (
            "path \"sys/leases/revoke-prefix/*\" { capabilities = [\"update\", \"sudo\"] }".to_owned(),
            "may give back the leases of all others (sys/leases/revoke-prefix/)".to_owned(),
        ),
        (
            "path \"sys/leases/revoke\" { capabilities = [\"update\"] }".to_owned(),
            "may give back any lease whose id it knows (sys/leases/revoke without allowed_parameters)".to_owned(),
        ),
    ] {
        // What is allowed without parameters counts only where the same path is not limited elsewhere.
        let rest =
            if more.contains("leases/revoke\"") { policy.replace(rule_of(&policy, "sys/leases/revoke"), "") } else { policy.clone() };
        let rights = forms.rights(&with_policy(&format!("{rest}\n{more}\n")).await).await.unwrap();
        assert_eq!((rights.lacks.len(), rights.beyond), (0, vec![expected]), "with {more}");
    }
}

fn rule_of<'a>(policy: &'a str, path: &str) -> &'a str {
    rules(policy).into_iter().find(|rule| rule.contains(&format!("path \"{path}\""))).unwrap()
}

#[tokio::test]
async fn a_role_without_the_default_policy_works_with_what_stands_in_reserve() {
    let forms = Forms::new().await;
    let policy = forms.policy(&as_root()).await;
    let bare = |policy: String| async move {
        let token = token(&[&written(&policy).await], json!({"no_default_policy": true})).await;
        format!("{{ method: token, token: {token} }}")
    };
    let unknown = forms.rights(&bare(policy.clone()).await).await;
    assert_eq!(unknown.err().map(|error| error.kind), Some(StoreErrorKind::Denied), "it may not even ask");
    let whole = policy.replace("# path ", "path ");
    assert_eq!(rules(&whole).len(), 10, "{whole}");
    let auth = bare(whole).await;
    assert_eq!(forms.rights(&auth).await.unwrap(), Rights::default());
    let bed = Bed::open(&auth, &forms.connections());
    let lease = bed.lease("dynamic").await.unwrap();
    bed.credential("version_2").await;
    drop(lease);
    assert_eq!(bed.gate.drain(Duration::from_secs(20)).await, 0);
}

#[tokio::test]
async fn what_is_mounted_is_asked_and_a_token_that_may_not_know_gets_both_forms() {
    let two = kv("2", "app/db", json!({"username": "app", "password": "x"})).await;
    let keys = format!("credential: {two}/app/db");
    let connections = [("db", keys.as_str())];
    let text = |auth: String| async move { policies(&auth, &connections).await.remove(0).1 };
    let known = text(as_root()).await;
    assert!(known.contains(&format!("\n# db\npath \"{two}/data/app/db\" {{")) && rules(&known).len() == 1, "{known}");
    let both = text(with_policy("# nothing").await).await;
    assert!(both.contains("the store tells only those who may use something there") && rules(&both).len() == 2, "{both}");
    assert_eq!(text(with_policy(&both).await).await, known, "with both in force it can be asked");
    // A store that cannot be asked is no reason to say nothing.
    let (config, _) = Bed::config(&format!("auth: {}", as_root()), &connections);
    let away = sample::config(&format!(
        "stores: {{ corp: {{ type: vault, address: 'http://127.0.0.1:{}', auth: {} }} }}\nconnections: {{ db: {{ protocol: postgres, address: pg, store: corp, {keys} }} }}\n",
        free_port(),
        as_root()
    ));
    drop(config);
    let (config, mut problems) = away;
    let gate = Gate::for_operator(&config, sample::nobody(), &mut problems).unwrap();
    let text = gate.store_policies(&config, "corp", AskStore::IfNeeded).await.unwrap().remove(0).text;
    assert!(text.contains("the store could not be asked: ") && rules(&text).len() == 2, "{text}");
}

#[tokio::test]
async fn odd_letters_in_a_path_stay_letters() {
    let name = "a \"b\" ${c} d@x";
    let mount = unique("kv");
    post(&format!("sys/mounts/{mount}"), json!({"type": "kv", "options": {"version": "2"}})).await;
    put(&mount, "2", &super::super::client::encode([name]), json!({"username": "app", "password": "x"})).await;
    let keys = format!("credential: '{mount}/data/{name}'");
    let connections = [("db", keys.as_str())];
    let policy = policies(&as_root(), &connections).await.remove(0).1;
    let auth = with_policy(&policy).await;
    assert_eq!(Bed::open(&auth, &connections).credential("db").await.username(), "app");
    assert_eq!(rights(&auth, &connections).await.unwrap(), Rights::default());
}

/// A database mount in a namespace with the role `r`, whose leases are renewed at once; its name there.
async fn database_in(namespace: &str) -> String {
    let mount = unique("db");
    let url = format!("postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?sslmode=disable", postgres());
    let config = json!({"plugin_name": "postgresql-database-plugin", "allowed_roles": "*", "connection_url": url, "username": "postgres", "password": "any"});
    let create = "CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'";
    post(&format!("{namespace}/sys/mounts/{mount}"), json!({"type": "database"})).await;
    post(&format!("{namespace}/{mount}/config/pg"), config).await;
    let role = json!({"db_name": "pg", "creation_statements": create, "default_ttl": 9, "max_ttl": 60});
    post(&format!("{namespace}/{mount}/roles/r"), role).await;
    mount
}

#[tokio::test]
async fn a_login_above_the_namespace_of_the_secrets_works_with_its_policy() {
    let namespace = unique("team");
    post(&format!("sys/namespaces/{namespace}"), json!({})).await;
    let (secrets, ssh) = (unique("kv"), unique("ssh"));
    post(&format!("{namespace}/sys/mounts/{secrets}"), json!({"type": "kv", "options": {"version": "2"}})).await;
    post(&format!("{namespace}/{secrets}/data/db"), json!({"data": {"username": "app", "password": "x"}})).await;
    post(&format!("{namespace}/sys/mounts/{ssh}"), json!({"type": "ssh"})).await;
    let role = json!({"key_type": "otp", "default_user": "ubuntu", "cidr_list": "127.0.0.0/8"});
    post(&format!("{namespace}/{ssh}/roles/otp"), role).await;
    let database = database_in(&namespace).await;
    let keys = [
        format!("credential: {secrets}/db"),
        format!("protocol: ssh, address: 127.0.0.1, credential: {ssh}/creds/otp"),
        format!("credential: {database}/creds/r"),
    ];
    let connections = [("db", keys[0].as_str()), ("web", keys[1].as_str()), ("rw", keys[2].as_str())];
    let of = |token: &str| format!("{{ method: token, token: {token}, namespace: '' }}, namespace: {namespace}");
    let policy = policies(&of(ROOT), &connections).await.remove(0).1;
    assert!(policy.contains(&format!("path \"{namespace}/{secrets}/data/db\"")), "{policy}");
    let auth = of(&token(&[&written(&policy).await], json!({})).await);
    let bed = Bed::open(&auth, &connections);
    assert_eq!(bed.credential("db").await.username(), "app");
    drop(bed.lease("web").await.unwrap());
    let lease = bed.lease("rw").await.unwrap();
    bed.seen.wait_for("renewed", 1).await;
    drop(lease);
    assert_eq!(bed.gate.drain(Duration::from_secs(20)).await, 0);
    assert_eq!(rights(&auth, &connections).await.unwrap(), Rights::default(), "with {policy}");
    let wide =
        of(&token(&[&written(&format!("{policy}\npath \"{namespace}/{secrets}/*\" {{ capabilities = [\"read\"] }}")).await], json!({}))
            .await);
    assert_eq!(rights(&wide, &connections).await.unwrap().beyond, [format!("may read all of {secrets}/")]);
    assert_eq!(rights(&of(&token(&["default"], json!({})).await), &connections).await.unwrap().lacks.len(), 6);
}

#[tokio::test]
async fn a_worker_gets_its_runner_in_with_the_printed_policies_and_reads_nothing() {
    let secrets = kv("2", "p", json!({"username": "app", "password": "x"})).await;
    let mount = unique("approle");
    post(&format!("sys/auth/{mount}"), json!({"type": "approle"})).await;
    let id = |body: Value, key: &str| body["data"][key].as_str().unwrap().to_owned();
    let role = |name: &'static str, policy: String| {
        let mount = mount.clone();
        async move {
            let policies = written(&policy).await;
            post(&format!("auth/{mount}/role/{name}"), json!({ "token_policies": policies })).await;
            let role_id = admin(Method::GET, &format!("auth/{mount}/role/{name}/role-id"), json!({})).await;
            id(role_id, "role_id")
        }
    };
    let keys = format!("credential: {secrets}/p");
    let connections = [("db", keys.as_str())];
    let auth = |worker: &str, secret: &str, runner: &str| {
        let worker = format!("{{ role_id: {{ literal: '{worker}' }}, secret_id: {{ literal: '{secret}' }} }}");
        format!("{{ method: approle, mount: {mount}, worker: {worker}, runners: {{ r: {{ role_id: {{ literal: '{runner}' }} }} }} }}")
    };
    // Before there is any role: both forms, since nobody gets in.
    let printed = policies(&auth("w", "s", "r"), &connections).await;
    let of: Vec<&PolicyOf> = printed.iter().map(|(of, _)| of).collect();
    assert_eq!(of, [&PolicyOf::Runner("r".to_owned()), &PolicyOf::Worker]);
    assert!(printed[0].1.contains("could not be asked: worker_login_failed"), "{}", printed[0].1);
    let (runner, worker) = (role("r", printed[0].1.clone()).await, role("w", printed[1].1.clone()).await);
    let secret = id(post(&format!("auth/{mount}/role/w/secret-id"), json!({})).await, "secret_id");
    let bed = Bed::open(&auth(&worker, &secret, &runner), &connections);
    assert_eq!(bed.credential("db").await.username(), "app");
    assert_eq!(status(&printed[1].1, Method::GET, &format!("{secrets}/data/p"), json!({})).await, 403);
    assert_eq!(status(&printed[1].1, Method::POST, &format!("auth/{mount}/role/r/secret-id"), json!({})).await, 403, "not wrapped");
    assert_eq!(status(&printed[1].1, Method::GET, &format!("auth/{mount}/role/r/role-id"), json!({})).await, 403);
    let rights = rights(&auth(&worker, &secret, &runner), &connections).await.unwrap();
    assert_eq!(rights, Rights::default(), "the form that does not fit names nothing that there is");
}
