//! What an operator does with a running Keyward: look at it, reload it, end a session, drain it.

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::bed::{
    Config, Dsn, Keyward, Method, Psql, SOON, bao, canary, certificate, eventually, free_port, postgres15, psql, run, scratch, within,
};

struct Scene {
    keyward: Keyward,
    config: Config,
    alice: String,
}

/// With the connection `orders`, and what another one to the same server would say.
fn orders() -> (Config, String) {
    let (kv, app) = (bao().mount_kv2(), postgres15().login(Method::Scram));
    kv.put("orders", &[("username", &app.name), ("password", &app.password)]);
    let path = kv.path("orders");
    let body = format!(
        "address: \"{}\", database: postgres, store: corp, username: \"{path}?username\", password: \"{path}?password\"",
        postgres15().address()
    );
    (Config::new().store("corp", bao(), &bao().approle(&[&path])).connection("orders", &body), body)
}

impl Scene {
    /// alice may reach `orders` and `orders_old`; `change` adds what the test is about.
    fn new(change: impl FnOnce(Config) -> Config) -> Self {
        let ((config, body), alice) = (orders(), canary());
        let config = change(config.connection("orders_old", &body).user("alice", &alice));
        Self { keyward: Keyward::start(&config), config, alice }
    }

    fn dsn(&self, connection: &str) -> Dsn {
        self.keyward.dsn("alice", &self.alice, connection)
    }

    fn sessions(&self) -> Vec<Value> {
        serde_json::from_str(self.keyward.cli(&["sessions", "--format", "json"]).ok()).unwrap()
    }
}

#[test]
fn a_reload_that_withdraws_access_ends_those_sessions_and_no_others() {
    let scene = Scene::new(|config| config);
    scene.keyward.rewrite(&scene.config.clone().allow("alice", "*"));
    scene.keyward.cli(&["reload"]).ok();
    let (stays, goes) = (Psql::open(&scene.dsn("orders")), Psql::open(&scene.dsn("orders_old")));
    scene.keyward.rewrite(&scene.config.clone().allow("alice", "orders"));
    scene.keyward.cli(&["reload"]).ok();
    scene.keyward.until_audit("closed", 1);
    let said = goes.last_words();
    assert!(said.contains("the permission for this session was withdrawn"), "{said}");
    assert_eq!(stays.ask("SELECT 1"), "1");
    psql(&scene.dsn("orders_old"), "SELECT 1").refused();
}

#[test]
fn a_reload_without_the_last_member_of_a_group_is_taken_and_ends_his_sessions() {
    let ((config, _), password) = (orders(), canary());
    let with = |groups: &str| config.clone().member("alice", &password, groups).allow("payments", "orders");
    let keyward = Keyward::start(&with("payments"));
    let dsn = keyward.dsn("alice", &password, "orders");
    let goes = Psql::open(&dsn);
    keyward.rewrite(&with(""));
    assert!(keyward.cli(&["reload"]).ok().contains("ended 1 sessions"));
    let said = goes.last_words();
    assert!(said.contains("the permission for this session was withdrawn"), "{said}");
    psql(&dsn, "SELECT 1").refused();
    let check = keyward.cli(&["check", "--offline"]);
    assert!(check.ok().contains("warning: access[0].allow: no user or group is named \"payments\""), "{check:?}");
}

#[test]
fn a_reload_of_another_file_than_the_one_that_runs_is_refused() {
    let scene = Scene::new(|config| config.allow("alice", "*"));
    let other = scene.keyward.given().join("other.yaml");
    std::fs::write(&other, scene.config.text(&scene.keyward.state(), &scene.keyward.given())).unwrap();
    let reload = |file: &std::path::Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
        command.args(["reload", "--config"]).arg(file);
        run(command, "", SOON)
    };
    let said = reload(&other);
    assert!(said.code == Some(1) && said.stderr.contains("keyward.yaml, not with ") && said.stderr.contains("other.yaml"), "{said:?}");
    // The same file by another name.
    let link = scene.keyward.given().join("link.yaml");
    std::os::unix::fs::symlink(scene.keyward.given().join("../keyward.yaml"), &link).unwrap();
    reload(&link).ok();
}

#[test]
fn a_reload_of_a_broken_file_keeps_everything_as_it_was() {
    let scene = Scene::new(|config| config.allow("alice", "*"));
    let client = Psql::open(&scene.dsn("orders"));
    let ok = || scene.keyward.http("/metrics").body.lines().find_map(|line| line.strip_prefix("keyward_reload_ok ")?.parse::<u8>().ok());
    assert_eq!(ok(), Some(1), "as it was started");
    scene.keyward.rewrite(&scene.config.clone().line("colour: green"));
    scene.keyward.expect_log("WARN").expect_log("ERROR");
    let said = scene.keyward.cli(&["reload"]);
    assert!(said.code == Some(1) && said.stderr.contains("colour"), "{said:?}");
    assert_eq!(ok(), Some(0));
    assert_eq!(client.ask("SELECT 1"), "1");
    assert_eq!(psql(&scene.dsn("orders"), "SELECT 1").ok(), "1");
    // SIGHUP takes the same way.
    scene.keyward.rewrite(&scene.config.clone().line("limits: { sessions: 1 }"));
    scene.keyward.signal(Signal::HUP);
    eventually("the new limit holds", || psql(&scene.dsn("orders"), "SELECT 1").stderr.contains("too many").then_some(()));
    eventually("the file was taken", || (ok() == Some(1)).then_some(()));
}

#[test]
fn a_reload_says_what_it_changed_beside_connections() {
    let scene = Scene::new(|config| config.allow("alice", "*"));
    let changes = |config: &Config| {
        scene.keyward.rewrite(config);
        scene.keyward.cli(&["reload"]).ok().to_owned()
    };
    assert!(changes(&scene.config).contains("added nothing; changed nothing; removed nothing"));
    let fewer = scene.config.clone().line("limits: { sessions_per_user: 7 }");
    assert!(changes(&fewer).contains("added nothing; changed limits; removed nothing"));
    let socket = scene.keyward.state().join("other");
    let listener = |more: &str| fewer.clone().listener(&format!("protocol: postgres, address: {}, {more}", socket.display()));
    let shown = format!("listener {}", socket.display());
    assert!(changes(&listener("proxy_protocol: []")).contains(&format!("added {shown}; changed nothing")));
    assert!(changes(&listener("connection: orders")).contains(&format!("changed {shown}; removed nothing")));
    assert!(changes(&fewer).contains(&format!("removed {shown};")));
    // A certificate that was renewed in its place.
    let folder = scratch("certificate");
    certificate(&folder);
    let address = format!("127.0.0.1:{}", free_port());
    let tls = format!("tls: {{ certificate: {0}/server.pem, private_key: {0}/server.key }}", folder.display());
    let listener = fewer.clone().listener(&format!("protocol: postgres, address: \"{address}\", {tls}"));
    assert!(changes(&listener).contains(&format!("added listener {address}; changed nothing")));
    assert!(changes(&listener).contains("added nothing; changed nothing"));
    certificate(&folder);
    assert!(changes(&listener).contains(&format!("changed certificate of listener {address}; removed nothing")));
}

#[test]
fn what_a_login_took_is_counted_when_it_is_in() {
    let scene = Scene::new(|config| config.allow("alice", "*"));
    let client = Psql::open(&scene.dsn("orders"));
    let metrics = scene.keyward.http("/metrics").body;
    for stage in ["open", "login", "authorise", "lease", "connect", "inject", "audit"] {
        let counted = format!("keyward_stage_seconds_count{{protocol=\"postgres\",stage=\"{stage}\"}} 1\n");
        assert!(metrics.contains(&counted), "{counted}: {metrics}");
    }
    assert_eq!(client.end(), "");
    let again = || scene.keyward.http("/metrics").body.contains("keyward_stage_seconds_count{protocol=\"postgres\",stage=\"audit\"} 1\n");
    scene.keyward.until_audit("closed", 1);
    assert!(again(), "and once");
}

#[test]
fn sessions_lists_a_session_and_kill_ends_it() {
    let scene = Scene::new(|config| config.allow("alice", "*"));
    assert_eq!(scene.sessions(), Vec::<Value>::new());
    let client = Psql::open(&scene.dsn("orders"));
    let rows = scene.sessions();
    assert_eq!((rows.len(), &rows[0]["user"], &rows[0]["connection"]), (1, &Value::from("alice"), &Value::from("orders")));
    scene.keyward.cli(&["kill", rows[0]["session"].as_str().unwrap()]).ok();
    let said = client.last_words();
    assert!(said.contains("the session was ended by an administrator"), "{said}");
    eventually("it is out of the list", || scene.sessions().is_empty().then_some(()));
    let unknown = scene.keyward.cli(&["kill", "0123456789abcdef"]);
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
}

#[test]
fn the_http_listener_tells_life_readiness_and_metrics() {
    let scene = Scene::new(|config| config.allow("alice", "*"));
    assert_eq!((scene.keyward.http("/livez").status, scene.keyward.http("/readyz").status), (200, 200));
    assert_eq!(scene.keyward.http("/nothing").status, 404);
    let client = Psql::open(&scene.dsn("orders"));
    let metrics = scene.keyward.http("/metrics").body;
    assert!(metrics.lines().any(|line| line.starts_with("keyward_sessions") && line.ends_with(" 1")), "{metrics}");
    assert!(metrics.contains("# EOF"), "OpenMetrics ends with a mark: {metrics}");
    drop(client);
}

#[test]
fn a_second_process_on_the_same_state_says_who_holds_it() {
    let scene = Scene::new(|config| config.allow("alice", "*"));
    let second = scene.keyward.cli(&["run"]);
    assert_eq!(second.code, Some(1), "{second:?}");
    let said = format!("{}{}", second.stdout, second.stderr);
    assert!(said.contains(&scene.keyward.pid().to_string()), "{said}");
}

#[test]
fn check_finds_nothing_wrong_with_a_config_that_works() {
    let scene = Scene::new(|config| config.allow("alice", "*"));
    let offline = scene.keyward.cli(&["check", "--offline"]);
    offline.ok();
    let online = scene.keyward.cli(&["check", "--format", "json"]);
    let found: Value = serde_json::from_str(online.ok()).expect("one JSON document");
    let rows = found["results"].as_array().unwrap();
    let fine = |row: &&Value| row["outcome"] == "ok" && row["ok"] == true;
    assert_eq!(rows.iter().filter(|row| row["kind"] == "connection").filter(fine).count(), 2, "{found}");
    scene.keyward.cli(&["check"]).ok();
}

#[test]
fn check_names_the_connection_whose_secret_cannot_be_read() {
    let scene = Scene::new(|config| {
        let body = format!(
            "address: \"{}\", store: corp, username: \"nowhere/data/x?username\", password: \"nowhere/data/x?password\"",
            postgres15().address()
        );
        config.connection("broken", &body).allow("alice", "*")
    });
    let said = scene.keyward.cli(&["check"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stdout.lines().any(|line| line.contains("broken") && line.contains("nowhere/data/x")), "{said:?}");
    let found: Value = serde_json::from_str(&scene.keyward.cli(&["check", "--format", "json"]).stdout).unwrap();
    let broken = found["results"].as_array().unwrap().iter().find(|row| row["name"] == "broken").unwrap();
    assert_eq!((&broken["outcome"], &broken["ok"]), (&"failed".into(), &false.into()), "{found}");
}

#[test]
fn a_changed_file_whose_certificate_comes_later_is_taken_when_it_is_there() {
    let scene = Scene::new(|config| config.line("reload: on_change").log("level: debug"));
    scene.keyward.expect_log("reload refused");
    let (there, late) = (scratch("certificate"), scene.keyward.state().join("late"));
    certificate(&there);
    let tls = format!("tls: {{ certificate: {0}/server.pem, private_key: {0}/server.key }}", late.display());
    let listener = format!("protocol: postgres, address: \"127.0.0.1:{}\", {tls}", free_port());
    scene.keyward.rewrite(&scene.config.clone().allow("alice", "orders").listener(&listener));
    let said = |wanted: &str| scene.keyward.log().iter().filter(|line| line.to_string().contains(wanted)).count();
    // Its own times alone are fifteen seconds.
    let long = Duration::from_secs(90);
    within(long, "it is refused, and tried again as it is", || (said("the reload is still refused") > 0).then_some(()));
    std::os::unix::fs::symlink(there, &late).unwrap();
    within(long, "it is in force", || (psql(&scene.dsn("orders"), "SELECT 1").code == Some(0)).then_some(()));
    assert_eq!(said("reload refused;"), 1, "what is known is not told again");
}

#[test]
fn an_address_on_a_port_that_another_listener_still_has_wants_a_restart() {
    let port = free_port();
    let listener = |host: &str| format!("protocol: postgres, address: \"{host}:{port}\"");
    let scene = Scene::new(|config| config.allow("alice", "*"));
    scene.keyward.rewrite(&scene.config.clone().listener(&listener("127.0.0.1")));
    scene.keyward.cli(&["reload"]).ok();
    scene.keyward.expect_log("reload refused");
    scene.keyward.rewrite(&scene.config.clone().listener(&listener("[::ffff:127.0.0.1]")));
    let said = scene.keyward.cli(&["reload"]);
    assert!(said.code == Some(1) && said.stderr.contains("restart to change its address"), "{said:?}");
}

#[test]
fn a_changed_file_is_taken_by_itself_where_it_says_so() {
    let scene = Scene::new(|config| config.line("reload: on_change"));
    psql(&scene.dsn("orders"), "SELECT 1").refused();
    scene.keyward.rewrite(&scene.config.clone().allow("alice", "orders"));
    scene.keyward.until_logged("it is in force", |line| line.to_string().contains("\"reloaded\""));
    assert_eq!(psql(&scene.dsn("orders"), "SELECT 1").ok(), "1");
    // A listener that is new in the file is opened, and the one that was there stays.
    let port = scene.keyward.port("postgres");
    let moved = scene.config.clone().allow("alice", "orders").listener("protocol: postgres, address: GIVEN/pg.sock");
    scene.keyward.rewrite(&moved);
    let socket = scene.keyward.given().join("pg.sock");
    eventually("the new listener is there", || socket.exists().then_some(()));
    assert_eq!(psql(&scene.dsn("orders"), "SELECT 1").ok(), "1", "the one on port {port} stays");
}
