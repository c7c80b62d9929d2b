//! What a reload leaves of a login that could be had once.

use super::*;

impl Scene {
    /// Whether the file is taken over with these keys of the store.
    fn reload(&self, bed: &Bed, keys: &str) -> bool {
        let (config, mut problems) = Bed::config(keys, &self.connections().each_ref().map(|(name, keys)| (*name, keys.as_str())));
        bed.gate.replace(&config, &mut problems).is_some()
    }
}

#[tokio::test]
async fn a_store_whose_login_stays_the_same_keeps_its_token_whatever_else_of_it_changes() {
    let scene = Scene::with(json!({"secret_id_num_uses": 1, "token_period": 60})).await;
    scene.write(scene.wrap("60s").await);
    let bed = scene.bed();
    bed.credential("db").await;
    for keys in ["cache_ttl: 30s", "cache_ttl: 30s, timeout: 7s", "namespace: ''", "insecure: 'a test'"] {
        assert!(scene.reload(&bed, &format!("auth: {}, {keys}", scene.auth())), "{keys}");
        assert_eq!(bed.error("forbidden").await.kind, StoreErrorKind::Denied, "{keys}: by a token that lives");
    }
    assert_eq!((bed.seen.count("login ok"), bed.seen.count("unwrap ok"), bed.seen.count("wrapping_lookup ok")), (1, 1, 1));
    let second = scene.wrap("60s").await;
    scene.write(&second);
    bed.seen.wait_for("login ok", 2).await;
    assert_eq!(bed.error("forbidden").await.kind, StoreErrorKind::Denied);
    assert_eq!((bed.seen.count("unwrap ok"), bed.seen.count("wrapped_secret_id_consumed")), (2, 0));
}

#[tokio::test]
async fn a_login_that_changes_knows_what_was_in_the_wrapping_token_and_cries_no_theft() {
    let scene = Scene::with(json!({"secret_id_num_uses": 2})).await;
    scene.write(scene.wrap("60s").await);
    let bed = scene.bed();
    bed.credential("db").await;
    // The same login in other words.
    let auth = scene.auth().replace("mount: ", "mount: /auth/");
    assert!(scene.reload(&bed, &format!("auth: {auth}")));
    assert_eq!(bed.error("forbidden").await.kind, StoreErrorKind::Denied);
    assert!(scene.reload(&bed, &format!("auth: {}", scene.auth())));
    let error = bed.error("forbidden").await;
    assert!(error.kind == StoreErrorKind::LoginFailed && error.detail.contains("used up; a new one is needed"), "{error}");
    assert_eq!((bed.seen.count("login ok"), bed.seen.count("unwrap ok"), bed.seen.count("wrapped_secret_id_consumed")), (2, 1, 0));
}

#[tokio::test]
async fn a_reload_that_is_refused_opens_no_wrapping_token() {
    let scene = Scene::with(json!({"secret_id_num_uses": 1})).await;
    let wrapped = scene.wrap("60s").await;
    scene.write(&wrapped);
    let bed = Bed::open(&scene.role.auth(&scene.role.secret_id), &[("db", &scene.role.keys("p"))]);
    bed.credential("db").await;
    let (config, mut problems) = Bed::config(&format!("auth: {}", scene.auth()), &[("db", &scene.role.keys("p"))]);
    problems.error(None, "users", "another entry of the file is wrong");
    assert!(bed.gate.replace(&config, &mut problems).is_none());
    assert!(scene.reload(&bed, &format!("auth: {}", scene.auth())));
    bed.seen.wait_for("login ok", 1).await;
    assert_eq!(bed.error("forbidden").await.kind, StoreErrorKind::Denied);
    assert_eq!((bed.seen.count("unwrap ok"), bed.seen.count("wrapped_secret_id_consumed")), (1, 0));
}

#[tokio::test]
async fn whoever_starts_keyward_before_there_is_a_good_wrapping_token_need_not_wait_for_a_session() {
    let scene = Scene::with(json!({"secret_id_num_uses": 1})).await;
    let (stale, none) = (scene.wrap("60s").await, Scene::with(json!({})).await);
    assert!(unwrap(token_of(&stale)).await);
    scene.write(&stale);
    let (bed, bare) = (scene.bed(), none.bed());
    bed.seen.wait_for("wrapped_secret_id_consumed", 1).await;
    scene.write(scene.wrap("60s").await);
    none.write(none.wrap("60s").await);
    bed.seen.wait_for("login ok", 1).await;
    bare.seen.wait_for("login ok", 1).await;
    assert_eq!((bed.seen.count("wrapped_secret_id_consumed"), bare.seen.count("wrapped_secret_id_consumed")), (1, 0));
}
