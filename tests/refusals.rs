//! Golden: each refusal that a client can provoke, field by field as bytes, and as psql prints it.

use rustix::process::Signal;

use crate::bed::{Bao, Config, Login, Method, Postgres, Raw, Scene, Told, bao, canary, eventually, free_port, masked, postgres15, psql};

const ALICE: [(&str, &str); 2] = [("user", "alice"), ("database", "orders")];

/// Both faces: what the protocol says, and what psql prints of it.
#[track_caller]
fn golden(told: &Told, code: &str, words: &str) {
    let message = format!("keyward: {words} (session ID)");
    let fields = [('S', "FATAL"), ('V', "FATAL"), ('C', code), ('M', &message)];
    assert_eq!(told.0, fields.map(|(letter, text)| (letter, text.to_owned())));
}

#[track_caller]
fn both(scene: &Scene, code: &str, words: &str) {
    golden(&scene.log_in(&mut scene.raw()).unwrap_err(), code, words);
    let printed = masked(psql(&scene.dsn(), "SELECT 1").refused());
    let (place, said) = printed.split_once(" failed: ").expect("psql says which server");
    assert!(place.starts_with("psql: error: connection to server at "), "{printed}");
    assert_eq!(said, format!("FATAL:  keyward: {words} (session ID)"));
}

fn refuse(scene: &Scene, user: &str, database: &str, password: &str) -> Told {
    scene.raw().startup(0, &[("user", user), ("database", database)]).log_in(password).unwrap_err()
}

#[test]
fn a_user_who_is_not_there_and_a_wrong_password_are_the_same_bytes() {
    let argon2 = canary();
    for login in ["scram", "cleartext"] {
        let listener = format!("protocol: postgres, address: \"127.0.0.1:0\", login: {login}");
        let scene = Scene::with(postgres15(), "", |config| config.only_listener(&listener).user_with_argon2("carol", &argon2));
        // Every byte of the server's until it has the proof, numbers and salts masked by their length.
        let shape = |user: &str| {
            let mut raw = scene.raw();
            let first = raw.startup(0, &[("user", user), ("database", "orders")]).message().unwrap();
            (first.tag, first.body)
        };
        assert_eq!(shape("alice"), shape("mallory"));
        let wrong = refuse(&scene, "alice", "orders", "wrong");
        golden(&wrong, "28P01", "login failed");
        assert_eq!(refuse(&scene, "mallory", "orders", "wrong"), wrong);
        if login == "cleartext" {
            assert_eq!(refuse(&scene, "carol", "orders", "wrong"), wrong);
        }
    }
}

#[test]
fn a_salt_of_a_user_who_is_not_there_is_as_steady_as_a_real_one() {
    let scene = Scene::new(postgres15());
    let challenge = |user: &str| {
        let mut raw = scene.raw();
        raw.startup(0, &[("user", user), ("database", "orders")]).message().unwrap();
        let first = b"n,,n=,r=abcdefghijklmnop";
        let length = u32::try_from(first.len()).unwrap().to_be_bytes();
        raw.say(b'p', &[b"SCRAM-SHA-256\0", length.as_slice(), first].concat());
        let body = String::from_utf8(raw.message().unwrap().body.split_off(4)).unwrap();
        let parts: Vec<_> = body.split(',').map(str::to_owned).collect();
        assert!(parts.len() == 3 && parts[0].starts_with("r=abcdefghijklmnop") && parts[1].starts_with("s="), "{body}");
        (parts[0].len(), parts[1].clone(), parts[2].clone())
    };
    let (known, unknown) = (challenge("alice"), challenge("mallory"));
    assert_eq!((known.0, known.1.len(), &known.2), (unknown.0, unknown.1.len(), &unknown.2));
    assert_eq!((challenge("alice"), challenge("mallory")), (known, unknown.clone()));
    assert_ne!(challenge("malloch").1, unknown.1);
}

#[test]
fn a_connection_that_is_not_there_and_a_forbidden_one_are_the_same_bytes() {
    let scene = Scene::new(postgres15());
    let words = "no such connection, or it is not open to you";
    let forbidden = refuse(&scene, "alice", "payroll", &scene.alice);
    golden(&forbidden, "42501", words);
    for (user, database) in [
        ("alice", "nothing"),
        ("alice+payroll", "postgres"),
        ("alice+nothing", "postgres"),
        ("alice+orders+nobody", "postgres"),
        ("alice+payroll+default", "postgres"),
        ("alice+orders", "no_such_database"),
    ] {
        assert_eq!(refuse(&scene, user, database, &scene.alice), forbidden, "{user} {database}");
    }
    assert_eq!(postgres15().sessions_of(&scene.app.name), 0);
    // With a wrong password, nothing of that is told.
    golden(&refuse(&scene, "alice", "payroll", "wrong"), "28P01", "login failed");
}

#[test]
fn a_user_who_names_no_connection_is_told_the_names_in_a_detail() {
    let scene = Scene::new(postgres15());
    let told = refuse(&scene, "alice", "alice", &scene.alice);
    let message = "keyward: no such connection, or it is not open to you (session ID)";
    let fields = [('S', "FATAL"), ('V', "FATAL"), ('C', "42501"), ('M', message), ('D', "You may reach: orders")];
    assert_eq!(told.0, fields.map(|(letter, text)| (letter, text.to_owned())));
}

#[test]
fn what_the_protocol_forbids_is_told_in_its_own_words() {
    let listener = "protocol: postgres, address: \"127.0.0.1:0\", proxy_protocol: [127.0.0.2]";
    let scene = Scene::with(postgres15(), "", |config| config.only_listener(listener));
    golden(&scene.raw().send(&[0, 0, 0, 3]).refusal(), "08P01", "protocol violation");
    golden(&scene.raw().send(&[0, 0, 0, 8, 0, 2, 0, 0]).refusal(), "0A000", "unsupported protocol version");
    let mut remote = Raw::from("127.0.0.2", scene.port()).unwrap();
    remote.send(b"PROXY TCP4 203.0.113.9 192.0.2.1 4000 5432\r\n");
    golden(&scene.log_in(&mut remote).unwrap_err(), "28000", "this login needs TLS (sslmode=require or stronger)");
}

#[test]
fn limits_are_told() {
    let scene = Scene::with(postgres15(), "", |config| config.line("limits: { sessions: 1, failed_logins: 1, handshake_timeout: 8s }"));
    let mut silent = scene.raw();
    let held = scene.session();
    both(&scene, "53300", "too many connections; try again later");
    drop(held);
    golden(&silent.refusal(), "57014", "the login took too long");
    golden(&refuse(&scene, "alice", "orders", "wrong"), "28P01", "login failed");
    both(&scene, "28P01", "too many failed logins; try again later");
}

#[test]
fn a_store_that_gives_nothing_is_told_without_its_words() {
    let (mount, alice) = (bao().mount_kv2(), canary());
    let path = mount.path("nothing");
    let body =
        format!("address: \"{}\", store: corp, username: \"{path}?username\", password: \"{path}?password\"", postgres15().address());
    let config = Config::new().store("corp", bao(), &bao().approle(&[&path])).connection("orders", &body);
    let keyward = crate::bed::Keyward::start(&config.user("alice", &alice).allow("alice", "orders"));
    keyward.expect_log("credentials_unavailable");
    let told = Raw::to(keyward.port("postgres")).startup(0, &ALICE).log_in(&alice).unwrap_err();
    golden(&told, "58000", "the credential for this connection is not available; ask the administrator");
}

#[test]
fn a_store_that_is_gone_is_told_the_same() {
    let (own, alice) = (Bao::own(), canary());
    let kv = own.mount_kv2();
    kv.put("orders", &[("username", "app"), ("password", &canary())]);
    let path = kv.path("orders");
    let body =
        format!("address: \"{}\", store: corp, username: \"{path}?username\", password: \"{path}?password\"", postgres15().address());
    let config = Config::new().store("corp", &own, &own.approle(&[&path])).connection("orders", &body);
    let keyward = crate::bed::Keyward::start(&config.user("alice", &alice).allow("alice", "orders"));
    keyward.expect_log("WARN").expect_log("ERROR");
    own.kill9();
    let told = Raw::to(keyward.port("postgres")).startup(0, &ALICE).log_in(&alice).unwrap_err();
    golden(&told, "58000", "the credential for this connection is not available; ask the administrator");
}

#[test]
fn an_upstream_that_cannot_be_reached_or_verified_is_told_without_its_address() {
    let closed = format!("127.0.0.1:{}", free_port());
    let gone = Scene::of(Login { name: "app".to_owned(), password: canary() }, &closed, "", |config| config);
    gone.keyward.expect_log("upstream_unreachable");
    both(&gone, "08001", "the server behind this connection cannot be reached");
    let unverified = Scene::with(postgres15(), "tls: verify-full", |config| config);
    unverified.keyward.expect_log("upstream_unverified");
    both(&unverified, "08001", "the server behind this connection could not be verified; ask the administrator");
}

#[test]
fn what_an_upstream_refuses_is_told_without_its_words() {
    let database = Scene::with(postgres15(), "database: no_such_database", |config| config);
    database.keyward.expect_log("upstream_no_such_database");
    both(&database, "3D000", "the server behind this connection has no such database");
    let (app, other) = (postgres15().login(Method::Scram), canary());
    let wrong = Scene::of(Login { name: app.name, password: other }, &postgres15().address(), "", |config| config);
    wrong.keyward.expect_log("upstream_login_rejected");
    both(&wrong, "08004", "the server behind this connection refused the login");
    let full = postgres15().login(Method::Scram);
    postgres15().sql("postgres", &format!("ALTER ROLE {} CONNECTION LIMIT 0", full.name));
    let full = Scene::of(full, &postgres15().address(), "", |config| config);
    full.keyward.expect_log("upstream_too_many_connections");
    both(&full, "53300", "the server behind this connection has no place left");
}

#[test]
fn an_upstream_that_shuts_down_is_told() {
    let postgres = Postgres::own("postgres-debian");
    let scene = Scene::new(&postgres);
    scene.keyward.expect_log("upstream_starting_up").expect_log("upstream_unreachable");
    let (held, _) = scene.session();
    postgres.signal(Signal::TERM); // "smart": no new sessions, the old ones stay
    let wanted = "the server behind this connection is starting up or shutting down";
    let told = eventually("it shuts down", || scene.log_in(&mut scene.raw()).err());
    golden(&told, "57P03", wanted);
    both(&scene, "57P03", wanted);
    drop(held);
}

#[test]
fn a_shutdown_is_told_to_those_who_are_in_and_to_those_who_are_about_to_be() {
    let scene = Scene::with(postgres15(), "", |config| config.line("limits: { drain_timeout: 1s }"));
    let words = "keyward is shutting down; connect again";
    let (mut held, _) = scene.session();
    let mut asked = scene.raw();
    asked.startup(0, &ALICE).message().unwrap();
    scene.keyward.sigterm();
    golden(&asked.refusal(), "57P01", words);
    golden(&held.refusal(), "57P01", words);
}

#[test]
fn the_end_of_a_session_is_told() {
    let scene = Scene::with(postgres15(), "", |config| config);
    let (mut held, _) = scene.session();
    let opened = scene.keyward.until_audit("opened", 1);
    scene.keyward.cli(&["kill", opened[0]["session"].as_str().unwrap()]).ok();
    golden(&held.refusal(), "57P01", "the session was ended by an administrator");
}
