//! A worker and its runners: vault.md §5.3.

use super::*;
use crate::store::vault::real::access::kill_tokens;

struct Scene {
    mount: String,
    worker: (String, String),
    /// Each runner's name, role id, and the secrets that it may read.
    runners: Vec<(&'static str, String, String)>,
}

impl Scene {
    /// A worker whose policy has these rules for its runners' secret ids, and two runners.
    async fn with(rules: &str) -> Self {
        let mount = unique("runners");
        post(&format!("sys/auth/{mount}"), json!({"type": "approle"})).await;
        let worker_policy = unique("policy");
        let path = |runner: &str| format!("path \"auth/{mount}/role/{runner}/secret-id\" {{ {rules} }}\n");
        post(&format!("sys/policies/acl/{worker_policy}"), json!({ "policy": path("reader") + &path("writer") })).await;
        post(&format!("auth/{mount}/role/worker"), json!({ "token_policies": worker_policy, "token_ttl": 600 })).await;
        let mut runners = Vec::new();
        for name in ["reader", "writer"] {
            let (secrets, policy) = secrets().await;
            let role = json!({ "token_policies": policy, "secret_id_num_uses": 1, "secret_id_ttl": 60, "token_period": 60 });
            post(&format!("auth/{mount}/role/{name}"), role).await;
            runners.push((name, role_id(&mount, name).await, secrets));
        }
        let secret_id = post(&format!("auth/{mount}/role/worker/secret-id"), json!({})).await;
        let worker = (role_id(&mount, "worker").await, secret_id["data"]["secret_id"].as_str().unwrap().to_owned());
        Self { mount, worker, runners }
    }

    fn bed(&self, worker_secret: &str, reader_id: &str) -> Bed {
        let [(_, _, of_reader), (_, writer_id, of_writer)] = self.runners.as_slice() else { panic!() };
        let worker = format!("worker: {{ role_id: {}, secret_id: {worker_secret} }}", self.worker.0);
        let runners = format!("runners: {{ reading: {{ role_id: {reader_id}, role_name: reader }}, writer: {{ role_id: {writer_id} }} }}");
        let auth = format!("{{ method: approle, mount: {}, {worker}, {runners}, runner: reading }}", self.mount);
        let writes = format!("runner: writer, {}", credential(of_writer));
        Bed::open(&auth, &[("db", &credential(of_reader)), ("writes", &writes), ("forbidden", &credential(of_writer))])
    }

    fn good(&self) -> Bed {
        self.bed(&self.worker.1, &self.runners[0].1)
    }
}

async fn role_id(mount: &str, role: &str) -> String {
    let answer = admin(Method::GET, &format!("auth/{mount}/role/{role}/role-id"), json!({})).await;
    answer["data"]["role_id"].as_str().unwrap().to_owned()
}

const AS_IT_SHOULD_BE: &str = "capabilities = [\"update\"]\n min_wrapping_ttl = \"10s\"\n max_wrapping_ttl = \"5m\"";

#[tokio::test]
async fn connections_read_with_the_rights_of_their_runner_and_the_worker_has_none() {
    let scene = Scene::with(AS_IT_SHOULD_BE).await;
    let bed = scene.good();
    assert_eq!(password(&*bed.credential("db").await), "x");
    assert_eq!(password(&*bed.credential("writes").await), "x");
    assert_eq!(bed.error("forbidden").await.kind, StoreErrorKind::Denied);
    // Two logins for each runner; the worker's token was given back, so that only the runners' are left.
    assert_eq!((bed.seen.count("login ok"), bed.seen.count("wrap ok"), bed.seen.count("unwrap ok")), (4, 2, 2));
    assert_eq!(bed.seen.count("token_revoke ok"), 2);
    assert_eq!(kill_tokens(&format!("auth/{}/login", scene.mount)).await, 2);
    // Each login takes a secret id of its own: the worker gets another one.
    assert_eq!(bed.error("forbidden").await.kind, StoreErrorKind::Denied);
    assert_eq!((bed.seen.count("login ok"), bed.seen.count("wrap ok"), bed.seen.count("unwrap ok")), (6, 3, 3));
}

#[tokio::test]
async fn each_step_that_fails_says_which_one_it_was() {
    let scene = Scene::with(AS_IT_SHOULD_BE).await;
    let wrong = scene.bed("wrong-canary", &scene.runners[0].1);
    let said = refused(&wrong).await;
    assert!(said.starts_with("worker_login_failed: ") && !said.contains("canary"), "{said}");
    assert!(wrong.error("writes").await.detail.starts_with("worker_login_failed: "));
    assert_eq!(wrong.seen.count("login refused"), 1, "one for all runners: each for itself, they would lock the worker");
    let said = refused(&scene.bed(&scene.worker.1, "nobody")).await;
    assert!(said.starts_with("runner_login_failed: "), "{said}");
    for rules in [
        "capabilities = [\"read\"]",
        "capabilities = [\"update\"]\n max_wrapping_ttl = \"30s\"",
        "capabilities = [\"update\"]\n min_wrapping_ttl = \"5m\"",
    ] {
        let said = refused(&Scene::with(rules).await.good()).await;
        assert!(said.starts_with("wrap_denied: ") && said.contains("max_wrapping_ttl"), "{rules}: {said}");
    }
}
