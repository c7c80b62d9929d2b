//! A store that cannot be asked: who logs in with a secret that was read before goes on, for as long as the file says. And a store that says no, to
//! which nobody goes on.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::bed::{AppRole, Bao, Config, Dsn, Keyward, Kv, Login, Method, bao, canary, eventually, postgres15, psql};

/// alice may reach `orders`, whose login is a KV secret in a store of the test's own.
struct Scene<'a> {
    bao: &'a Bao,
    kv: Kv<'a>,
    role: AppRole,
    app: Login,
    keyward: Keyward,
    alice: Dsn,
}

impl<'a> Scene<'a> {
    /// `keys` are further keys of the store.
    fn new(bao: &'a Bao, keys: &str) -> Self {
        let (kv, app, alice) = (bao.mount_kv2(), postgres15().login(Method::Scram), canary());
        kv.put("orders", &[("username", &app.name), ("password", &app.password)]);
        let path = kv.path("orders");
        let role = bao.approle(&[&path]);
        let body = format!("address: \"{}\", database: postgres, store: corp, credential: {path}", postgres15().address());
        let config = Config::new().store_with("corp", bao, &role, keys).connection("orders", &body);
        let keyward = Keyward::start(&config.user("alice", &alice).allow("alice", "orders"));
        keyward.expect_log("a secret is used past its time").expect_log("credentials_unavailable").expect_log("the store is away");
        // Less than a store may take for one call.
        let alice = keyward.dsn("alice", &alice, "orders").with("connect_timeout", "8");
        Self { bao, kv, role, app, keyward, alice }
    }

    /// alice logs in: what the record says of it.
    #[track_caller]
    fn opened(&self) -> Value {
        let before = self.keyward.audit().iter().filter(|record| record["event"] == "opened").count();
        assert_eq!(psql(&self.alice, "SELECT current_user").ok(), self.app.name);
        self.keyward.until_audit("opened", before + 1).pop().unwrap()
    }

    #[track_caller]
    fn is_refused(&self) {
        let output = psql(&self.alice, "SELECT 1");
        assert!(output.refused().contains("the credential for this connection is not available"), "{output:?}");
    }

    /// Logs in again and again until a login is refused.
    #[track_caller]
    fn until_refused(&self) {
        eventually("a login is refused", || (psql(&self.alice, "SELECT 1").code != Some(0)).then_some(()));
        self.is_refused();
    }

    /// Nobody notices that the store cannot be asked, but who reads the record, the log or the metrics.
    #[track_caller]
    fn goes_on(&self) {
        let stale = eventually("a login uses a secret past its time", || Some(self.opened()).filter(|opened| opened["stale"] == true));
        assert_eq!((&stale["cached"], &stale["version"]), (&Value::Bool(true), &json!(1)), "{stale}");
        assert_eq!(self.opened()["stale"], true);
        let told = |line: &Value| line["level"] == "WARN" && line.to_string().contains("a secret is used past its time");
        self.keyward.until_logged("it is past its time", told);
        let metrics = self.keyward.http("/metrics").body;
        assert!(metrics.contains("keyward_store_cache_total{store=\"corp\",event=\"stale\"} "), "{metrics}");
    }

    /// The store is there again.
    #[track_caller]
    fn is_well_again(&self) {
        eventually("a login has a secret of today", || Some(self.opened()).filter(|opened| opened["stale"] == false));
    }
}

#[test]
fn logins_go_on_while_the_store_is_gone() {
    let bao = Bao::own();
    let scene = Scene::new(&bao, "cache_ttl: 1s");
    assert_eq!(scene.opened()["stale"], false);
    bao.kill9();
    scene.goes_on();
    bao.start_again();
    scene.is_well_again();
}

#[test]
fn who_lets_users_in_from_the_cache_is_ready_and_who_cannot_is_not() {
    for (keys, status) in [("cache_ttl: 1s", 200), ("cache_ttl: 0", 503)] {
        let bao = Bao::own();
        let scene = Scene::new(&bao, keys);
        scene.opened();
        bao.kill9();
        let answer = scene.keyward.http("/readyz");
        assert_eq!(answer.status, status, "{keys}: {answer:?}");
    }
}

#[test]
fn a_store_that_a_reload_replaces_is_away_no_more() {
    let gone = Bao::own();
    let scene = Scene::new(&gone, "cache_ttl: 0");
    scene.opened();
    gone.kill9();
    let away = |shown: u8| {
        let line = format!("keyward_store_away{{store=\"corp\"}} {shown}\n");
        eventually(&line, || scene.keyward.http("/metrics").body.contains(&line).then_some(()));
    };
    scene.until_refused();
    scene.until_refused();
    away(1);
    // The same secret in another store, whose address an admin puts into the file.
    let kv = bao().mount_kv2();
    kv.put("orders", &[("username", &scene.app.name), ("password", &scene.app.password)]);
    let path = kv.path("orders");
    let body = format!("address: \"{}\", database: postgres, store: corp, credential: {path}", postgres15().address());
    let alice = canary();
    let config = Config::new().store("corp", bao(), &bao().approle(&[&path])).connection("orders", &body);
    scene.keyward.rewrite(&config.user("alice", &alice).allow("alice", "orders"));
    scene.keyward.cli(&["reload"]).ok();
    assert_eq!(psql(&scene.keyward.dsn("alice", &alice, "orders"), "SELECT current_user").ok(), scene.app.name);
    away(0);
}

#[test]
fn logins_go_on_while_the_store_hangs_and_do_not_wait_for_it() {
    let bao = Bao::own();
    let scene = Scene::new(&bao, "cache_ttl: 1s");
    scene.opened();
    bao.signal(Signal::STOP);
    scene.goes_on();
    bao.signal(Signal::CONT);
    scene.is_well_again();
}

#[test]
fn logins_go_on_while_the_store_is_sealed() {
    let bao = Bao::own();
    let scene = Scene::new(&bao, "cache_ttl: 1s");
    scene.opened();
    bao.call("PUT", "sys/seal", Value::Null);
    scene.goes_on();
}

#[test]
fn logins_go_on_while_the_store_asks_us_to_come_back_later() {
    let bao = Bao::own();
    let scene = Scene::new(&bao, "cache_ttl: 1s");
    let quota = json!({ "path": format!("{}/", scene.kv.mount), "rate": 1, "interval": "1h" });
    bao.call("POST", "sys/quotas/rate-limit/one", quota);
    scene.opened();
    scene.goes_on();
    bao.call("DELETE", "sys/quotas/rate-limit/one", Value::Null);
    scene.is_well_again();
}

#[test]
fn a_secret_is_used_past_its_time_no_longer_than_the_file_says() {
    let bao = Bao::own();
    let scene = Scene::new(&bao, "cache_ttl: 1s, max_stale: 15s");
    scene.opened();
    bao.kill9();
    scene.goes_on();
    scene.until_refused();
    scene.is_refused();
    bao.start_again();
    eventually("logins are possible again", || (psql(&scene.alice, "SELECT 1").code == Some(0)).then_some(()));
    scene.is_well_again();
}

#[test]
fn nothing_is_used_past_its_time_where_the_file_does_not_want_it() {
    for keys in ["cache_ttl: 1s, max_stale: 0", "cache_ttl: 0"] {
        let bao = Bao::own();
        let scene = Scene::new(&bao, keys);
        scene.opened();
        bao.kill9();
        scene.until_refused();
        let metrics = scene.keyward.http("/metrics").body;
        assert!(!metrics.contains("event=\"stale\""), "{metrics}");
    }
}

/// The store says no. It goes on to mean no when it cannot be asked any more.
#[track_caller]
fn a_withdrawal_holds(withdraw: impl FnOnce(&Scene<'_>)) {
    let bao = Bao::own();
    let scene = Scene::new(&bao, "cache_ttl: 1s");
    scene.keyward.expect_log("the store refused our login").expect_log("could not be kept alive");
    scene.opened();
    withdraw(&scene);
    scene.until_refused();
    bao.kill9();
    scene.is_refused();
    scene.is_refused();
    let metrics = scene.keyward.http("/metrics").body;
    assert!(!metrics.contains("event=\"stale\""), "{metrics}");
}

#[test]
fn a_secret_that_was_deleted_is_refused_also_when_the_store_goes_down_after_that() {
    a_withdrawal_holds(|scene| scene.kv.delete("orders"));
}

#[test]
fn a_secret_that_the_policy_withholds_is_refused_also_when_the_store_goes_down_after_that() {
    a_withdrawal_holds(|scene| {
        let nothing = json!({ "policy": "path \"nothing\" { capabilities = [\"read\"] }" });
        scene.bao.call("PUT", &format!("sys/policies/acl/{}", scene.role.name), nothing);
    });
}

#[test]
fn a_store_that_takes_our_login_away_takes_its_secrets_with_it() {
    a_withdrawal_holds(|scene| {
        scene.bao.call("DELETE", &format!("auth/approle/role/{}", scene.role.name), Value::Null);
        scene.bao.call("PUT", "sys/leases/revoke-prefix/auth/approle/login", Value::Null);
    });
}
