//! Golden: each refusal that a client of MySQL can provoke, field by field as bytes, and as mysql, mariadb and PyMySQL print it.

use rustix::process::Signal;

use crate::bed::{
    Bao, CACHING_SHA2, Config, Hello, Keyward, Login, Mysql, MysqlClient, MysqlDsn, MysqlRaw, MysqlScene, MysqlTls, MysqlTold, Plugin, bao,
    canary, eventually, flag, free_port, mariadb, masked, mysql_servers, own_address, pymysql, ssl_request,
};

/// How a refusal reads: MySQL's number, the state, the words.
type Wanted = (u16, &'static str, &'static str);

const FAILED: Wanted = (1045, "28000", "login failed");
const NOT_OPEN: Wanted = (1044, "42000", "no such connection, or it is not open to you");
const UNAVAILABLE: Wanted = (1105, "HY000", "the credential for this connection is not available; ask the administrator");
/// The answer to the greeting is packet 1 without TLS, and 2 inside it; the password is packet 3 or, where a key was asked for, 5.
const INSTEAD_OF_THE_SECOND: u8 = 2;
const AFTER_A_SEALED_PASSWORD: u8 = 6;
const AFTER_A_PASSWORD_INSIDE_TLS: u8 = 5;
const AFTER_A_PASSWORD_BY_SOCKET: u8 = 4;

#[track_caller]
fn golden(told: &MysqlTold, sequence: u8, (code, state, words): Wanted) {
    let message = format!("keyward: {words} (session ID)");
    let wanted = MysqlTold { sequence, code, state: Some(state.to_owned()), message };
    assert_eq!(told, &wanted);
}

/// All faces: the bytes on each way in, and what the clients print.
#[track_caller]
fn all(scene: &MysqlScene, wanted: Wanted) {
    golden(&scene.log_in(&mut scene.raw()).unwrap_err(), AFTER_A_SEALED_PASSWORD, wanted);
    golden(&scene.log_in(&mut scene.secure_raw()).unwrap_err(), AFTER_A_PASSWORD_INSIDE_TLS, wanted);
    golden(&scene.log_in(&mut MysqlRaw::unix(&scene.socket())).unwrap_err(), AFTER_A_PASSWORD_BY_SOCKET, wanted);
    printed(&scene.dsn(), wanted);
}

#[track_caller]
fn printed(dsn: &MysqlDsn, (code, state, words): Wanted) {
    for client in MysqlClient::all() {
        let said = masked(client.run(dsn, "SELECT 1").refused());
        assert_eq!(said, format!("ERROR {code} ({state}): keyward: {words} (session ID)"), "{client:?}");
    }
    let said = masked(&pymysql(dsn));
    assert!(said.ends_with(&format!("Error {code} keyward: {words} (session ID)")), "{said}");
}

/// The refusal of a login, without TLS.
#[track_caller]
fn refuse(scene: &MysqlScene, user: &str, database: Option<&str>, password: &str) -> MysqlTold {
    scene.raw().log_in(user, database, password).unwrap_err()
}

/// What stores were asked so far.
fn store_calls(keyward: &Keyward) -> Vec<String> {
    let calls = |line: &&str| line.starts_with("keyward_store_calls") || line.starts_with("keyward_store_cache");
    keyward.http("/metrics").body.lines().filter(calls).map(str::to_owned).collect()
}

#[test]
fn a_user_who_is_not_there_and_a_wrong_password_are_the_same_bytes() {
    let argon2 = canary();
    for login in ["caching_sha2_password", "cleartext"] {
        let listener = format!("protocol: mysql, address: \"127.0.0.1:0\", login: {login}");
        let scene = MysqlScene::with(mariadb(), "", |config| config.only_listener(&listener).user_with_argon2("carol", &argon2));
        let before = store_calls(&scene.keyward);
        let users = ["alice", "mallory", "carol", "alice+orders", "mallory+orders", "alice+nothing", "", "mallory+orders+default"];
        for (index, user) in users.into_iter().enumerate() {
            for (secure, sequence) in [(true, AFTER_A_PASSWORD_INSIDE_TLS), (false, AFTER_A_SEALED_PASSWORD)] {
                // In clear text there is no question for a key, but one for the other plugin.
                let sequence = if login == "cleartext" { AFTER_A_PASSWORD_BY_SOCKET + u8::from(secure) } else { sequence };
                // Each from elsewhere: an address that fails often is made to wait.
                let raw = MysqlRaw::from(&format!("127.0.2.{index}"), scene.port()).unwrap();
                let mut raw = if secure { raw.ask_tls(&scene.ca()) } else { raw };
                golden(&raw.log_in(user, Some("orders"), "wrong").unwrap_err(), sequence, FAILED);
            }
        }
        assert_eq!(store_calls(&scene.keyward), before, "a store was asked for somebody who has proven nothing");
    }
    let scene = MysqlScene::new(mariadb());
    printed(&scene.dsn().with_password("wrong"), FAILED);
    printed(&scene.dsn().with_user("mallory"), FAILED);
}

#[test]
fn every_byte_up_to_the_refusal_is_the_same_for_a_user_who_is_not_there() {
    let scene = MysqlScene::new(mariadb());
    // Lengths and numbers of all packets; numbers, scrambles and the session's id differ by design.
    let shape = |user: &str, auth: &[u8], plugin: &str| {
        let mut raw = scene.secure_raw();
        raw.say(&Hello { auth: auth.to_vec(), plugin: plugin.into(), ..Hello::new(user, Some("orders")) }.encode());
        let mut packets = Vec::new();
        while let Some((sequence, payload)) = raw.packet() {
            packets.push((sequence, payload[0], payload.len()));
            raw.next = sequence + 1;
            match payload[0] {
                0xfe => raw.say(&[7; 32]),
                _ => raw.say(b"wrong\0"),
            };
        }
        packets
    };
    for plugin in [CACHING_SHA2, "mysql_native_password"] {
        let known = shape("alice", &[7; 32], plugin);
        assert_eq!(known, shape("mallory", &[7; 32], plugin), "{plugin}");
        assert_eq!(known.len(), if plugin == CACHING_SHA2 { 2 } else { 3 }, "{known:?}");
    }
}

#[test]
fn an_empty_password_is_a_wrong_one() {
    let scene = MysqlScene::new(mariadb());
    let before = store_calls(&scene.keyward);
    for (user, auth) in [("alice", vec![]), ("mallory", vec![]), ("alice", vec![0]), ("mallory", vec![0])] {
        let mut raw = scene.raw();
        raw.answer(&Hello { auth, ..Hello::new(user, Some("orders")) });
        golden(&raw.refusal(), INSTEAD_OF_THE_SECOND, FAILED);
    }
    // Where it is said in full.
    for user in ["alice", "mallory"] {
        golden(&scene.secure_raw().log_in(user, Some("orders"), "").unwrap_err(), AFTER_A_PASSWORD_INSIDE_TLS, FAILED);
        golden(&refuse(&scene, user, Some("orders"), ""), AFTER_A_SEALED_PASSWORD, FAILED);
    }
    assert_eq!(store_calls(&scene.keyward), before);
    printed(&scene.dsn().with_password(""), FAILED);
}

#[test]
fn a_sealed_password_that_does_not_open_is_a_wrong_one() {
    let scene = MysqlScene::new(mariadb());
    for user in ["alice", "mallory"] {
        for sealed in [vec![], vec![1], vec![7; 255], vec![7; 256], vec![0xff; 256], vec![7; 257]] {
            let mut raw = scene.raw();
            raw.answer(&Hello::new(user, Some("orders")));
            assert_eq!(raw.ordered().unwrap(), [1, 4]);
            raw.say(&[2]).ordered().unwrap();
            golden(&raw.say(&sealed).refusal(), AFTER_A_SEALED_PASSWORD, FAILED);
        }
    }
}

#[test]
fn a_connection_that_is_not_there_and_a_forbidden_one_are_the_same_bytes() {
    let scene = MysqlScene::new(mariadb());
    let before = store_calls(&scene.keyward);
    let forbidden = refuse(&scene, "alice", Some("payroll"), &scene.alice);
    golden(&forbidden, AFTER_A_SEALED_PASSWORD, NOT_OPEN);
    for (user, database) in [
        ("alice", Some("nothing")),
        ("alice+payroll", None),
        ("alice+nothing", None),
        ("alice+", None),
        ("alice+orders+nobody", None),
        ("alice+payroll+default", None),
        ("alice+orders+default+more", None),
        ("alice+payroll", Some("payroll")),
        ("alice+nothing", Some("orders")),
    ] {
        assert_eq!(refuse(&scene, user, database, &scene.alice), forbidden, "{user} {database:?}");
    }
    assert_eq!(store_calls(&scene.keyward), before, "a store was asked");
    assert_eq!(refuse(&scene, "alice+orders", Some("no_such_database"), &scene.alice), forbidden);
    assert_eq!(mariadb().sessions_of(&scene.app.name), 0);
    printed(&scene.lobby().database("payroll"), NOT_OPEN);
    printed(&scene.lobby().database("nothing"), NOT_OPEN);
    // With a wrong password, nothing of that is told.
    golden(&refuse(&scene, "alice", Some("payroll"), "wrong"), AFTER_A_SEALED_PASSWORD, FAILED);
}

#[test]
fn a_user_who_names_no_connection_is_told_the_names() {
    let scene = MysqlScene::new(mariadb());
    let words = "the login names no connection: name one as the database, or log in as user+connection; you may reach: orders";
    let message = format!("keyward: {words} (session ID)");
    for database in [None, Some("")] {
        let mut raw = scene.raw();
        raw.log_in("alice", database, &scene.alice).unwrap();
        let told = raw.query("SELECT 1").unwrap_err();
        assert_eq!(told, MysqlTold { sequence: 1, code: 1046, state: Some("3D000".to_owned()), message: message.clone() });
        // And again: it is no end.
        assert_eq!(raw.query("USE orders").unwrap_err(), told);
        raw.command(0x0e, b"");
        assert_eq!(raw.ordered().unwrap()[0], 0, "PING");
        raw.command(1, b"");
        assert_eq!(raw.packet(), None, "QUIT");
    }
    for client in MysqlClient::all() {
        let said = masked(client.run(&scene.lobby(), "SELECT 1").refused());
        // MariaDB's client repeats the statement before.
        assert!(said.ends_with(&format!("ERROR 1046 (3D000) at line 1: {message}")), "{client:?}: {said}");
    }
    let said = masked(&pymysql(&scene.lobby()));
    assert!(said.ends_with(&format!("Error 1046 {message}")), "{said}");
    // Not without the password.
    golden(&refuse(&scene, "alice", None, "wrong"), AFTER_A_SEALED_PASSWORD, FAILED);
}

#[test]
fn a_user_who_names_no_account_of_several_is_told_the_accounts() {
    let login = mariadb().login(Plugin::Native);
    let (kv, alice) = (bao().mount_kv2(), canary());
    kv.put("orders", &[("username", &login.name), ("password", &login.password)]);
    let path = kv.path("orders");
    let account = format!("{{ username: \"{path}?username\", password: \"{path}?password\" }}");
    let body = format!("address: \"{}\", store: corp, accounts: {{ reader: {account}, writer: {account} }}", mariadb().address());
    let config = Config::mysql().store("corp", bao(), &bao().approle(&[&path])).mysql_connection("orders", &body);
    let keyward = Keyward::start(&config.user("alice", &alice).allow("alice", "orders"));
    let told = MysqlRaw::to(keyward.port("mysql")).log_in("alice", Some("orders"), &alice).unwrap_err();
    assert_eq!((told.sequence, told.code, told.state.as_deref()), (AFTER_A_SEALED_PASSWORD, 1044, Some("42000")));
    let words = "keyward: no such connection, or it is not open to you; you may reach: ";
    let names = told.message.strip_prefix(words).and_then(|names| names.strip_suffix(" (session ID)"));
    let names = names.unwrap_or_else(|| panic!("{told:?}"));
    assert!(names.contains("orders+reader") && names.contains("orders+writer"), "{names}");
    let mut named = MysqlRaw::to(keyward.port("mysql"));
    named.log_in("alice+orders+reader", None, &alice).unwrap();
    assert_eq!(named.query("SELECT current_user()").unwrap(), [format!("{}@%", login.name)]);
}

#[test]
fn who_comes_without_tls_from_elsewhere_is_told_so_before_he_is_asked_for_anything() {
    let needs_tls: Wanted = (3159, "HY000", "this login needs TLS (--ssl-mode=REQUIRED, --ssl)");
    let here = own_address();
    for login in ["caching_sha2_password", "cleartext"] {
        let listener = format!("protocol: mysql, address: \"127.0.0.1:0\", login: {login}, proxy_protocol: [127.0.0.2]");
        let direct = format!("protocol: mysql, address: \"{here}:0\", login: {login}");
        let scene = MysqlScene::with(mariadb(), "", |config| config.only_listener(&listener).listener(&direct));
        for (user, plugin) in [("alice", CACHING_SHA2), ("mallory", CACHING_SHA2), ("alice", "mysql_clear_password")] {
            let mut remote = MysqlRaw::from("127.0.0.2", scene.port()).unwrap();
            remote.send(b"PROXY TCP4 203.0.113.9 192.0.2.1 4000 3306\r\n");
            remote.answer(&Hello { plugin: plugin.into(), ..Hello::new(user, Some("orders")) });
            golden(&remote.refusal(), INSTEAD_OF_THE_SECOND, needs_tls);
        }
        // With TLS he is served.
        let mut remote = MysqlRaw::from("127.0.0.2", scene.port()).unwrap();
        remote.send(b"PROXY TCP4 203.0.113.9 192.0.2.1 4000 3306\r\n");
        scene.log_in(&mut remote.ask_tls(&scene.ca())).unwrap();
        if login == "caching_sha2_password" {
            let port = scene.keyward.ports("mysql")[1];
            let elsewhere = MysqlDsn::new(&here, port, "alice", &scene.alice).database("orders");
            printed(&elsewhere, needs_tls);
            for client in MysqlClient::all() {
                assert_eq!(client.run(&elsewhere.clone().tls(MysqlTls::Unverified), "SELECT 1").ok(), "1", "{client:?}");
            }
        }
    }
}

#[test]
fn what_the_protocol_forbids_is_told_in_its_own_words() {
    let scene = MysqlScene::new(mariadb());
    let (violation, old): (Wanted, Wanted) = (
        (1043, "08S01", "protocol violation"),
        (1251, "08004", "the client or the server lacks a feature of the protocol that this login needs"),
    );
    let mut raw = scene.raw();
    raw.greeting();
    // A packet that was not read has not moved the numbers on.
    golden(&raw.send(&[0xff, 0xff, 0xff, 1]).refusal(), 1, violation);
    let mut raw = scene.raw();
    raw.greeting();
    golden(&raw.say(b"\x85\x24\0\0\0root\0pass").refusal(), INSTEAD_OF_THE_SECOND, old);
    let mut raw = scene.raw();
    raw.answer(&Hello { flags: 0x0000_a20d, ..Hello::new("alice", Some("orders")) });
    golden(&raw.refusal(), INSTEAD_OF_THE_SECOND, old);
    let mut raw = scene.secure_raw();
    golden(&raw.say(&ssl_request(flag::PROTOCOL_41)).refusal(), 3, violation);
    let mut raw = scene.secure_raw();
    raw.say(&Hello::new("alice", Some("orders")).encode());
    assert_eq!(raw.ordered().unwrap(), [1, 4]);
    golden(&raw.say(b"no NUL behind it").refusal(), AFTER_A_PASSWORD_INSIDE_TLS, violation);
}

#[test]
fn limits_are_told() {
    let line = "limits: { sessions: 1, failed_logins: 1, handshake_timeout: 8s }";
    let scene = MysqlScene::with(mariadb(), "", |config| config.line(line));
    let (mut silent, mut asked) = (scene.raw(), scene.raw());
    silent.greeting();
    asked.answer(&Hello::new("alice", Some("orders")));
    let held = scene.session();
    all(&scene, (1040, "08004", "too many connections; try again later"));
    drop(held);
    golden(&silent.refusal(), 1, (1159, "08S01", "the login took too long"));
    golden(&asked.refusal(), 3, (1159, "08S01", "the login took too long"));
    golden(&refuse(&scene, "alice", Some("orders"), "wrong"), AFTER_A_SEALED_PASSWORD, FAILED);
    let locked: Wanted = (3955, "HY000", "too many failed logins; try again later");
    golden(&scene.log_in(&mut scene.raw()).unwrap_err(), AFTER_A_SEALED_PASSWORD, locked);
    printed(&scene.dsn(), locked);
}

#[test]
fn a_store_that_gives_nothing_is_told_without_its_words() {
    let (mount, alice) = (bao().mount_kv2(), canary());
    let path = mount.path("nothing");
    let body = format!("address: \"{}\", store: corp, username: \"{path}?username\", password: \"{path}?password\"", mariadb().address());
    let config = Config::mysql().store("corp", bao(), &bao().approle(&[&path])).mysql_connection("orders", &body);
    let keyward = Keyward::start(&config.user("alice", &alice).allow("alice", "orders"));
    keyward.expect_log("credentials_unavailable");
    let told = MysqlRaw::to(keyward.port("mysql")).log_in("alice", Some("orders"), &alice).unwrap_err();
    golden(&told, AFTER_A_SEALED_PASSWORD, UNAVAILABLE);
    printed(&keyward.mysql_dsn("alice", &alice).database("orders"), UNAVAILABLE);
}

#[test]
fn a_store_that_is_gone_is_told_the_same() {
    let (own, alice) = (Bao::own(), canary());
    let kv = own.mount_kv2();
    kv.put("orders", &[("username", "app"), ("password", &canary())]);
    let path = kv.path("orders");
    let body = format!("address: \"{}\", store: corp, username: \"{path}?username\", password: \"{path}?password\"", mariadb().address());
    let config = Config::mysql().store("corp", &own, &own.approle(&[&path])).mysql_connection("orders", &body);
    let keyward = Keyward::start(&config.user("alice", &alice).allow("alice", "orders"));
    keyward.expect_log("WARN").expect_log("ERROR");
    own.kill9();
    let told = MysqlRaw::to(keyward.port("mysql")).log_in("alice", Some("orders"), &alice).unwrap_err();
    golden(&told, AFTER_A_SEALED_PASSWORD, UNAVAILABLE);
}

#[test]
fn a_record_that_cannot_be_written_is_told() {
    let scene = MysqlScene::with(mariadb(), "", |config| config.line("audit: { file: /dev/full }"));
    scene.keyward.expect_log("the audit record cannot be written").expect_log("audit_unavailable");
    all(&scene, (1105, "HY000", "the audit record cannot be written; ask the administrator"));
    mariadb().until_gone(&scene.app.name);
}

#[test]
fn an_upstream_that_cannot_be_reached_or_verified_is_told_without_its_address() {
    let closed = format!("127.0.0.1:{}", free_port());
    let login = Login { name: "app".to_owned(), password: canary() };
    let gone = MysqlScene::of(login, "shop", &closed, "", |config| config);
    gone.keyward.expect_log("upstream_unreachable");
    all(&gone, (1429, "HY000", "the server behind this connection cannot be reached"));
    let unverified = MysqlScene::with(mariadb(), "tls: verify-full", |config| config);
    unverified.keyward.expect_log("upstream_unverified");
    all(&unverified, (1429, "HY000", "the server behind this connection could not be verified; ask the administrator"));
}

#[test]
fn what_an_upstream_refuses_is_told_without_its_words() {
    for server in mysql_servers() {
        let login = || server.login(server.plugins()[0]);
        let other = MysqlScene::of(login(), "no_such_database", &server.address(), "", |config| config);
        other.keyward.expect_log("upstream_no_such_database");
        all(&other, (1049, "42000", "the server behind this connection has no such database"));
        let wrong = Login { password: canary(), ..login() };
        let wrong = MysqlScene::of(wrong, &server.database(), &server.address(), "", |config| config);
        wrong.keyward.expect_log("upstream_login_rejected");
        all(&wrong, (1429, "HY000", "the server behind this connection refused the login"));
        let full = MysqlScene::new(server);
        server.sql("", &format!("ALTER USER '{}'@'%' WITH MAX_USER_CONNECTIONS 1", full.app.name));
        full.keyward.expect_log("upstream_too_many_connections");
        let held = full.session();
        all(&full, (1040, "08004", "the server behind this connection has no place left"));
        drop(held);
    }
}

#[test]
fn an_upstream_that_is_closed_for_users_is_told() {
    let Some(server) = Mysql::own("mysql-9", crate::bed::Certificate::OfTheBed, &[]) else { return };
    let scene = MysqlScene::new(&server);
    server.sql("", "SET GLOBAL offline_mode = ON");
    scene.keyward.expect_log("upstream_starting_up");
    all(&scene, (1053, "08S01", "the server behind this connection is starting up or shutting down"));
    server.sql("", "SET GLOBAL offline_mode = OFF");
    eventually("it is open again", || scene.log_in(&mut scene.raw()).ok());
}

#[test]
fn a_frozen_upstream_is_told_as_one_that_cannot_be_reached() {
    let server = Mysql::own("mariadb", crate::bed::Certificate::OfTheBed, &[]).unwrap();
    let scene = MysqlScene::with(&server, "", |config| config.line("limits: { handshake_timeout: 8s }"));
    scene.session();
    server.signal(Signal::STOP);
    scene.keyward.expect_log("WARN");
    let told = scene.log_in(&mut scene.raw()).unwrap_err();
    golden(&told, AFTER_A_SEALED_PASSWORD, (1429, "HY000", "the server behind this connection cannot be reached"));
    server.signal(Signal::CONT);
    eventually("it answers again", || scene.log_in(&mut scene.raw()).ok());
}

#[test]
fn a_shutdown_is_told_to_those_who_are_in_and_to_those_who_are_about_to_be() {
    let scene = MysqlScene::with(mariadb(), "", |config| config.line("limits: { drain_timeout: 1s }"));
    let goes: Wanted = (1053, "08S01", "keyward is shutting down; connect again");
    let (mut held, mut greeted, mut asked, mut lobby) = (scene.session(), scene.raw(), scene.raw(), scene.raw());
    greeted.greeting();
    asked.answer(&Hello::new("alice", Some("orders")));
    assert_eq!(asked.ordered().unwrap(), [1, 4]);
    lobby.log_in("alice", None, &scene.alice).unwrap();
    scene.keyward.sigterm();
    golden(&greeted.refusal(), 1, goes);
    golden(&asked.refusal(), 3, goes);
    golden(&lobby.refusal(), 1, goes);
    golden(&held.refusal(), 1, goes);
}
