//! psql reaches PostgreSQL through Keyward: the life of one session, from the user's password to the upstream's rows.

use rustix::process::Signal;
use serde_json::Value;

use crate::bed::{Config, Dsn, Keyward, Kv, Login, Method, Postgres, Psql, bao, canary, eventually, postgres15, postgres18, psql, psql18};

/// alice may reach `orders`, whose login is in a KV secret, and knows of `payroll`, which she may not reach.
struct Scene {
    keyward: Keyward,
    kv: Kv<'static>,
    app: Login,
    database: String,
    config: Config,
    alice: String,
}

impl Scene {
    fn new(postgres: &Postgres, method: Method) -> Self {
        Self::with(postgres, method, "")
    }

    /// `line` is a top-level entry of the config.
    fn with(postgres: &Postgres, method: Method, line: &str) -> Self {
        let (kv, app, database, alice) = (bao().mount_kv2(), postgres.login(method), postgres.database(), canary());
        kv.put("orders", &[("username", &app.name), ("password", &app.password)]);
        let path = kv.path("orders");
        let credential = format!("store: corp, username: \"{path}?username\", password: \"{path}?password\"");
        let body = format!("address: \"{}\", database: {database}, {credential}", postgres.address());
        let config = Config::new()
            .store("corp", bao(), &bao().approle(&[&path]))
            .connection("orders", &body)
            .connection("payroll", &body)
            .user("alice", &alice)
            .user("bob", &canary())
            .allow("alice", "orders*")
            .allow("bob", "*")
            .line(line);
        Self { keyward: Keyward::start(&config), kv, app, database, config, alice }
    }

    fn dsn(&self) -> Dsn {
        self.keyward.dsn("alice", &self.alice, "orders")
    }
}

#[test]
fn psql_reaches_postgres_with_a_kv_credential() {
    let scene = Scene::new(postgres15(), Method::Scram);
    assert_eq!(psql(&scene.dsn(), "SELECT current_user, current_database()").ok(), format!("{}|{}", scene.app.name, scene.database));
    // This psql was built without TLS; on loopback a login by password may do without.
    assert_eq!(psql18(&scene.dsn().with("sslmode", "disable"), "SELECT 6 * 7").ok(), "42");
}

#[test]
fn every_way_to_log_in_upstream_works_with_the_same_kv_credential() {
    for method in [Method::Scram, Method::Trust, Method::ScramTls] {
        for postgres in [postgres15(), postgres18()] {
            let (kv, app, alice) = (bao().mount_kv2(), postgres.login(method), canary());
            kv.put("orders", &[("username", &app.name), ("password", &app.password)]);
            let path = kv.path("orders");
            let tls = if method == Method::ScramTls {
                format!("address: \"localhost:{}\", tls: {{ mode: verify-full, ca: {} }}", postgres.port, postgres.ca().display())
            } else {
                format!("address: \"{}\"", postgres.address())
            };
            let body = format!("{tls}, database: postgres, store: corp, username: \"{path}?username\", password: \"{path}?password\"");
            let config = Config::new().store("corp", bao(), &bao().approle(&[&path])).connection("orders", &body);
            let keyward = Keyward::start(&config.user("alice", &alice).allow("alice", "orders"));
            let row = psql(&keyward.dsn("alice", &alice, "orders"), "SELECT current_user");
            assert_eq!(row.ok(), app.name, "{method:?}");
        }
    }
}

#[test]
fn clear_text_and_md5_logins_work_on_loopback() {
    for method in [Method::Cleartext, Method::Md5] {
        let scene = Scene::new(postgres15(), method);
        assert_eq!(psql(&scene.dsn(), "SELECT current_user").ok(), scene.app.name, "{method:?}");
    }
}

#[test]
fn a_wrong_password_is_refused_like_an_unknown_user() {
    let scene = Scene::new(postgres15(), Method::Scram);
    let wrong = psql(&scene.dsn().with_password("wrong"), "SELECT 1").refused().replace("\"alice\"", "\"USER\"");
    let unknown =
        psql(&scene.dsn().with("user", "mallory").with_password("wrong"), "SELECT 1").refused().replace("\"mallory\"", "\"USER\"");
    assert_eq!(without_session_id(&wrong), without_session_id(&unknown));
    assert!(wrong.contains("login failed"), "{wrong}");
    // The store was not asked, and the upstream saw nobody.
    assert_eq!(postgres15().sessions_of(&scene.app.name), 0);
    scene.keyward.until_audit("denied", 1);
}

#[test]
fn a_forbidden_connection_is_refused_like_an_unknown_one() {
    let scene = Scene::new(postgres15(), Method::Scram);
    let forbidden = psql(&scene.dsn().with("dbname", "payroll"), "SELECT 1").refused().replace("payroll", "NAME");
    let unknown = psql(&scene.dsn().with("dbname", "nothing"), "SELECT 1").refused().replace("nothing", "NAME");
    assert_eq!(without_session_id(&forbidden), without_session_id(&unknown));
}

#[test]
fn the_user_never_sees_the_credential() {
    let scene = Scene::new(postgres15(), Method::Scram);
    // A store that gives a wrong password: the upstream's refusal names the login, and must not get through.
    let not_it = canary();
    scene.kv.put("orders", &[("username", &scene.app.name), ("password", &not_it)]);
    scene.keyward.expect_log("WARN").expect_log("ERROR");
    let said = psql(&scene.dsn(), "SELECT 1").refused().to_owned();
    assert!(!said.contains(&scene.app.name), "the upstream's login is in: {said}");
    assert!(!said.contains(&bao().address()), "the store's address is in: {said}");
}

#[test]
fn the_three_ways_to_name_a_connection_lead_to_the_same_place() {
    let scene = Scene::new(postgres15(), Method::Scram);
    let by_login = scene.dsn().with("user", "alice+orders").with("dbname", &scene.database);
    let with_account = scene.dsn().with("user", "alice+orders+default").with("dbname", &scene.database);
    for dsn in [scene.dsn(), by_login, with_account] {
        assert_eq!(psql(&dsn, "SELECT current_user, current_database()").ok(), format!("{}|{}", scene.app.name, scene.database));
    }
    let leading =
        Scene { config: scene.config.clone().only_listener("protocol: postgres, address: \"127.0.0.1:0\", connection: orders"), ..scene };
    let keyward = Keyward::start(&leading.config);
    let dsn = keyward.dsn("alice", &leading.alice, &leading.database);
    assert_eq!(psql(&dsn, "SELECT current_user").ok(), leading.app.name);
}

#[test]
fn a_session_has_one_opened_and_one_closed_record_with_the_same_id() {
    let scene = Scene::new(postgres15(), Method::Scram);
    let client = Psql::open(&scene.dsn());
    // The record is there before the client hears that it is in.
    let opened = scene.keyward.until_audit("opened", 1);
    assert!(scene.keyward.audit().iter().all(|record| record["event"] != "closed"));
    assert_eq!(client.end(), "");
    let closed = scene.keyward.until_audit("closed", 1);
    assert_eq!((opened.len(), closed.len()), (1, 1));
    assert!(opened[0]["session"].is_string());
    assert_eq!(opened[0]["session"], closed[0]["session"]);
    assert_eq!((&opened[0]["user"], &opened[0]["connection"]), (&Value::from("alice"), &Value::from("orders")));
}

#[test]
fn the_upstream_session_ends_with_the_clients_however_it_ends() {
    let scene = Scene::new(postgres15(), Method::Scram);
    let sessions = || postgres15().sessions_of(&scene.app.name);
    for kill in [false, true] {
        let client = Psql::open(&scene.dsn());
        assert_eq!(sessions(), 1);
        if kill {
            client.kill9()
        } else {
            drop(client.end())
        }
        eventually("the upstream session is gone", || (sessions() == 0).then_some(()));
    }
    scene.keyward.until_audit("closed", 2);
}

#[test]
fn a_rotated_password_is_used_by_the_next_login() {
    let scene = Scene::new(postgres15(), Method::Scram);
    assert_eq!(psql(&scene.dsn(), "SELECT 1").ok(), "1");
    // The cached secret is now wrong: the upstream rejects it, and the store is asked once more within the same login.
    let next = canary();
    postgres15().sql("postgres", &format!("ALTER ROLE {} PASSWORD '{next}'", scene.app.name));
    scene.kv.put("orders", &[("username", &scene.app.name), ("password", &next)]);
    assert_eq!(psql(&scene.dsn(), "SELECT current_user").ok(), scene.app.name);
}

#[test]
fn both_sides_may_be_unix_sockets() {
    let (kv, app, alice) = (bao().mount_kv2(), postgres15().login(Method::Scram), canary());
    kv.put("orders", &[("username", &app.name), ("password", &app.password)]);
    let (path, socket) = (kv.path("orders"), postgres15().socket().display().to_string());
    let body =
        format!("address: \"{socket}\", database: postgres, store: corp, username: \"{path}?username\", password: \"{path}?password\"");
    let config = Config::new().store("corp", bao(), &bao().approle(&[&path])).connection("orders", &body);
    let config = config.listener("protocol: postgres, address: GIVEN/.s.PGSQL.5432").user("alice", &alice).allow("alice", "orders");
    let keyward = Keyward::start(&config);
    let folder = keyward.given().display().to_string();
    let dsn = Dsn::new(&alice, &[("host", &folder), ("port", "5432"), ("user", "alice"), ("dbname", "orders")]);
    assert_eq!(psql(&dsn, "SELECT current_user, inet_client_addr() IS NULL").ok(), format!("{}|t", app.name));
    assert_eq!(keyward.until_audit("opened", 1)[0]["user"], "alice");
}

#[test]
fn a_frozen_upstream_is_refused_in_time_and_a_dead_one_at_once() {
    let postgres = Postgres::own("postgres-debian");
    let scene = Scene::with(&postgres, Method::Scram, "limits: { handshake_timeout: 12s }");
    scene.keyward.expect_log("WARN").expect_log("ERROR");
    psql(&scene.dsn(), "SELECT 1").ok();
    postgres.signal(Signal::STOP);
    let frozen = psql(&scene.dsn(), "SELECT 1").refused().to_owned();
    postgres.signal(Signal::CONT);
    postgres.kill9();
    let dead = psql(&scene.dsn(), "SELECT 1").refused().to_owned();
    for said in [frozen, dead] {
        assert!(said.contains("FATAL") && !said.contains(&scene.app.name) && !said.contains(&postgres.address()), "{said}");
    }
    postgres.start();
    assert_eq!(psql(&scene.dsn(), "SELECT 1").ok(), "1");
}

#[test]
fn a_large_row_comes_through_whole() {
    let scene = Scene::new(postgres15(), Method::Scram);
    let row = psql(&scene.dsn(), "SELECT repeat('abcdefghij', 1024 * 1024)");
    assert_eq!(row.ok().len(), 10 * 1024 * 1024);
}

/// The id that a refusal carries for the operator differs by design.
fn without_session_id(text: &str) -> String {
    let id = |word: &str| word.len() == 16 && word.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit());
    let shown = |word: &str| if id(word) { "ID".to_owned() } else { word.to_owned() };
    text.split(|letter: char| !letter.is_ascii_alphanumeric()).map(shown).collect::<Vec<_>>().join(" ")
}
