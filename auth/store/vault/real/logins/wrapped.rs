//! Secret ids that come wrapped: vault.md §5.2, §16.3.

mod reload;

use super::*;

struct Scene {
    role: Role,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn with(settings: Value) -> Self {
        Self { role: Role::with(settings).await, folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("wrapped.json")
    }

    /// What the CLI prints of a secret id that is wrapped for this long.
    async fn wrap(&self, ttl: &str) -> Value {
        wrap(&format!("auth/{}/role/keyward/secret-id", self.role.mount), json!({}), ttl).await
    }

    fn write(&self, text: impl ToString) {
        let new = self.folder.path().join("new");
        std::fs::write(&new, text.to_string()).unwrap();
        std::fs::rename(new, self.file()).unwrap();
    }

    fn auth(&self) -> String {
        let (mount, role_id, file) = (&self.role.mount, &self.role.role_id, self.file());
        let wrapped = format!("wrapped_secret_id: {{ file: '{}' }}, role_name: keyward", file.display());
        format!("{{ method: approle, mount: {mount}, role_id: {role_id}, {wrapped} }}")
    }

    fn connections(&self) -> [(&'static str, String); 3] {
        [("db", self.role.keys("p")), ("again", credential(&self.role.secrets)), ("forbidden", self.role.keys("q"))]
    }

    fn bed(&self) -> Bed {
        Bed::open(&self.auth(), &self.connections().each_ref().map(|(name, keys)| (*name, keys.as_str())))
    }

    /// That this is refused, with this event, however often it is tried; and what was said.
    async fn refused(&self, event: &str) -> String {
        let bed = self.bed();
        for _ in 0..3 {
            assert_eq!(bed.error("db").await.kind, StoreErrorKind::LoginFailed);
        }
        assert_eq!((bed.seen.count(event), bed.seen.count("login ok")), (1, 0), "{:?}", bed.seen.0.borrow());
        assert_eq!(bed.seen.count("unwrap ok"), 0);
        let error = bed.error("db").await;
        assert!(error.detail.contains("auth.wrapped_secret_id"), "{error}");
        error.detail
    }
}

/// A login with a secret id of few seconds, and when it has ended at the latest. They run from when it is made: where a machine that stood
/// still was too slow, it is tried with more of them.
async fn short_lived() -> (Scene, Bed, Instant) {
    for seconds in [3, 12, 48] {
        let scene = Scene::with(json!({ "secret_id_ttl": seconds })).await;
        scene.write(scene.wrap("60s").await);
        let bed = scene.bed();
        if bed.lease("db").await.is_ok() {
            return (scene, bed, Instant::now() + Duration::from_secs(seconds));
        }
    }
    panic!("no secret id gets us in");
}

/// Has the answer of a request wrapped.
async fn wrap(path: &str, body: Value, ttl: &str) -> Value {
    let url = format!("{}/v1/{path}", bao());
    let request = reqwest::Client::new().post(url).header("x-vault-token", ROOT).header("x-vault-wrap-ttl", ttl).json(&body);
    request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
}

fn token_of(wrapped: &Value) -> &str {
    wrapped["wrap_info"]["token"].as_str().unwrap()
}

/// Opens a wrapping token; whether it was still to be opened.
async fn unwrap(token: &str) -> bool {
    let url = format!("{}/v1/sys/wrapping/unwrap", bao());
    reqwest::Client::new().post(url).header("x-vault-token", token).send().await.unwrap().status().is_success()
}

#[tokio::test]
async fn a_wrapped_secret_id_is_opened_once_and_kept_for_as_many_logins_as_it_is_good_for() {
    let scene = Scene::with(json!({"secret_id_num_uses": 2})).await;
    let wrapped = scene.wrap("60s").await;
    scene.write(format!("\n# as ops wrote it\n{wrapped:#}\n"));
    let bed = scene.bed();
    assert_eq!(password(&*bed.credential("db").await), "x");
    assert!(!unwrap(token_of(&wrapped)).await, "we have opened it");
    scene.role.kill_tokens().await;
    // Whoever wrote it removes it.
    std::fs::remove_file(scene.file()).unwrap();
    assert_eq!(bed.error("forbidden").await.kind, StoreErrorKind::Denied);
    assert_eq!((bed.seen.count("login ok"), bed.seen.count("unwrap ok")), (2, 1));
    assert_eq!(bed.seen.0.borrow()[..3], ["wrapping_lookup ok", "unwrap ok", "login ok"], "it was sent nowhere else");
}

#[tokio::test]
async fn a_secret_id_that_is_used_up_is_waited_for_and_a_new_one_in_the_file_is_taken_up() {
    let scene = Scene::with(json!({"secret_id_num_uses": 1, "token_ttl": 12, "token_max_ttl": 18})).await;
    scene.write(token_of(&scene.wrap("60s").await));
    let bed = scene.bed();
    bed.credential("db").await;
    let end = Instant::now() + Duration::from_secs(30);
    let waits = |warning: &String| warning.contains("nothing replaces it") && warning.contains("used up; a new one is needed");
    while !bed.gate.store_status("corp").await.is_ok_and(|status| status.warnings.iter().any(waits)) {
        assert!(Instant::now() < end, "{:?}", bed.gate.store_status("corp").await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    scene.write(json!({ "token": token_of(&scene.wrap("60s").await) }));
    bed.seen.wait_for("login ok", 2).await;
    assert_eq!(bed.credential("again").await.username(), "app");
    assert_eq!((bed.seen.count("unwrap ok"), bed.seen.count("wrapped_secret_id_consumed")), (2, 0));
}

#[tokio::test]
async fn a_secret_id_whose_time_was_over_before_the_next_login_is_not_sent_and_a_new_one_is_taken_up() {
    let (scene, bed, end) = short_lived().await;
    scene.role.kill_tokens().await;
    tokio::time::sleep_until(end.into()).await;
    let error = bed.error("forbidden").await;
    assert!(error.kind == StoreErrorKind::LoginFailed && error.detail.contains("has ended; a new one is needed"), "{error}");
    assert_eq!((bed.seen.count("login ok"), bed.seen.count("login refused")), (1, 0), "it would count towards a lock");
    post(&format!("auth/{}/role/keyward", scene.role.mount), json!({"secret_id_ttl": 600})).await;
    scene.write(scene.wrap("60s").await);
    bed.seen.wait_for("login ok", 2).await;
    assert_eq!(bed.error("forbidden").await.kind, StoreErrorKind::Denied);
}

#[tokio::test]
async fn whoever_writes_a_new_wrapping_token_need_not_wait_for_a_session() {
    let scene = Scene::with(json!({"secret_id_num_uses": 1})).await;
    scene.write(scene.wrap("60s").await);
    let bed = scene.bed();
    bed.credential("db").await;
    scene.role.kill_tokens().await;
    let error = bed.error("forbidden").await;
    assert!(error.kind == StoreErrorKind::LoginFailed && error.detail.contains("used up"), "{error}");
    scene.write(scene.wrap("60s").await);
    bed.seen.wait_for("login ok", 2).await;
    assert_eq!(bed.error("forbidden").await.kind, StoreErrorKind::Denied);
}

#[tokio::test]
async fn a_new_wrapping_token_is_opened_when_it_comes_and_not_when_it_has_ended() {
    let scene = Scene::with(json!({"token_period": 60})).await;
    scene.write(scene.wrap("60s").await);
    let bed = scene.bed();
    bed.credential("db").await;
    let second = scene.wrap("60s").await;
    scene.write(&second);
    bed.seen.wait_for("unwrap ok", 2).await;
    bed.seen.wait_for("login ok", 2).await;
    assert!(!unwrap(token_of(&second)).await);
}

#[tokio::test]
async fn a_wrapping_token_that_somebody_has_opened_before_us_is_a_security_event() {
    let scene = Scene::with(json!({})).await;
    let wrapped = scene.wrap("60s").await;
    assert!(unwrap(token_of(&wrapped)).await);
    scene.write(&wrapped);
    let said = scene.refused("wrapped_secret_id_consumed").await;
    assert!(said.contains("opened already") && !said.contains(token_of(&wrapped)), "{said}");
}

#[tokio::test]
async fn a_wrapping_token_that_has_ended_or_never_was_is_a_security_event() {
    let scene = Scene::with(json!({})).await;
    let wrapped = scene.wrap("1s").await;
    let end = Instant::now() + Duration::from_secs(30);
    let lookup = || async {
        let url = format!("{}/v1/sys/wrapping/lookup", bao());
        reqwest::Client::new().post(url).json(&json!({ "token": token_of(&wrapped) })).send().await.unwrap().status().is_success()
    };
    while lookup().await {
        assert!(Instant::now() < end, "it does not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    scene.write(&wrapped);
    scene.refused("wrapped_secret_id_consumed").await;
    scene.write("s.thisNeverWas");
    scene.refused("wrapped_secret_id_consumed").await;
}

#[tokio::test]
async fn a_forged_wrapping_token_is_not_even_opened() {
    let scene = Scene::with(json!({})).await;
    let forged = wrap("sys/wrapping/wrap", json!({"secret_id": "of-the-attacker"}), "60s").await;
    scene.write(&forged);
    let said = scene.refused("wrapped_secret_id_forged").await;
    assert!(said.contains("it comes from sys/wrapping/wrap and not from auth/"), "{said}");
    assert!(unwrap(token_of(&forged)).await, "nobody has opened it");
}

#[tokio::test]
async fn the_wrapped_secret_id_of_another_role_is_not_ours() {
    let scene = Scene::with(json!({})).await;
    post(&format!("auth/{}/role/other", scene.role.mount), json!({})).await;
    let wrapped = wrap(&format!("auth/{}/role/other/secret-id", scene.role.mount), json!({}), "60s").await;
    scene.write(&wrapped);
    scene.refused("wrapped_secret_id_forged").await;
    assert!(unwrap(token_of(&wrapped)).await);
}

#[tokio::test]
async fn a_secret_id_that_was_wrapped_anew_shows_by_its_time() {
    let scene = Scene::with(json!({})).await;
    let mut wrapped = scene.wrap("60s").await;
    let again = post("sys/wrapping/rewrap", json!({ "token": token_of(&wrapped) })).await;
    assert_eq!(again["wrap_info"]["creation_path"], wrapped["wrap_info"]["creation_path"], "only the time tells");
    wrapped["wrap_info"]["token"] = again["wrap_info"]["token"].clone();
    scene.write(&wrapped);
    let said = scene.refused("wrapped_secret_id_rewrapped").await;
    assert!(said.contains("wrapped it anew"), "{said}");
}
