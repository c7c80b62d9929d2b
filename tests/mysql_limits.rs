//! How a session of MySQL's protocol ends when Keyward ends it: what the client hears, idle and in the middle of a result; that nothing of
//! it is left at the server; and what the record says.

use std::time::Duration;

use serde_json::Value;

use crate::bed::{
    Config, Dialogue, FLAGS, Hello, Keyward, Mysql, MysqlClient, MysqlDsn, MysqlRaw, MysqlScene, MysqlShell, MysqlTold, bao, canary,
    eventually, mariadb, masked, mysql_packet, mysql_servers, pymysql_later, pymysql_stream, ssl_request, within,
};

const KILLED: &str = "the session was ended by an administrator";

/// Rows of all sizes, so that reads end anywhere in them: hundreds of thousands.
const LONG_RESULT: &str = "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 500) \
                           SELECT repeat('x', 1 + (a.i * 7919 + b.i * 104729) % 60000) FROM n AS a, n AS b";

fn words(words: &str) -> String {
    format!("keyward: {words} (session ID)")
}

/// What ends a session, as the packet with this number.
#[track_caller]
fn ended(told: &MysqlTold, sequence: u8, reason: &str) {
    let wanted = MysqlTold { sequence, code: 1053, state: Some("08S01".to_owned()), message: words(reason) };
    assert_eq!(told, &wanted);
}

/// A session of every client at hand, which waits.
struct Waiting {
    shells: Vec<(MysqlClient, MysqlShell)>,
    pymysql: Dialogue,
    raw: MysqlRaw,
}

impl Waiting {
    fn of(dsn: &MysqlDsn, raw: MysqlRaw) -> Self {
        let shells = MysqlClient::all().into_iter().map(|client| (client, MysqlShell::open(client, dsn))).collect();
        let pymysql = pymysql_later(dsn);
        assert_eq!(pymysql.line(), "in");
        Self { shells, pymysql, raw }
    }

    /// Each was ended, and hears why when it tries once more.
    #[track_caller]
    fn hear(mut self, reason: &str) {
        for (client, shell) in self.shells {
            let said = masked(&shell.last_words());
            let line = said.lines().find(|line| line.starts_with("ERROR")).unwrap_or_default();
            assert!(line.starts_with("ERROR 1053 (08S01)") && line.ends_with(&words(reason)), "{client:?}: {said}");
        }
        self.pymysql.go_on();
        assert_eq!(masked(&self.pymysql.rest()), format!("OperationalError 1053 {}", words(reason)));
        ended(&self.raw.refusal(), 1, reason);
    }

    fn count(&self) -> usize {
        self.shells.len() + 2
    }
}

fn sessions(keyward: &Keyward) -> Vec<Value> {
    serde_json::from_str(keyward.cli(&["sessions", "--format", "json"]).ok()).unwrap()
}

#[track_caller]
fn kill_all(keyward: &Keyward) {
    for session in sessions(keyward) {
        keyward.cli(&["kill", session["session"].as_str().unwrap()]).ok();
    }
}

fn orders() -> Hello {
    Hello::new("alice", Some("orders"))
}

/// Whether the server is at work on a `sleep` of this user.
fn sleeps(server: &Mysql, user: &str) -> bool {
    server.running(user, "sleep(") > 0
}

#[test]
fn a_session_that_is_idle_for_too_long_is_ended_with_words_and_one_that_works_is_not() {
    for (limits, keys) in [("idle_timeout: 6s", ""), ("idle_timeout: 1h", "limits: { idle_timeout: 6s }")] {
        let scene = MysqlScene::with(mariadb(), keys, |config| config.line(&format!("limits: {{ {limits} }}")));
        let waiting = Waiting::of(&scene.dsn(), scene.session());
        let (mut works, count) = (scene.session(), waiting.count());
        within(Duration::from_secs(40), "they are ended", || {
            works.query("SELECT sleep(0.5)").unwrap();
            let closed = scene.keyward.audit().into_iter().filter(|record| record["event"] == "closed").collect::<Vec<_>>();
            assert!(closed.iter().all(|record| record["outcome"] == "idle"), "{closed:?}");
            (closed.len() == count).then_some(())
        });
        // Before the others are heard, which takes its time.
        assert_eq!(works.query("SELECT 1").unwrap(), ["1"]);
        waiting.hear("the session was idle for too long");
    }
}

#[test]
fn an_operator_ends_sessions_and_each_client_hears_it() {
    for server in mysql_servers() {
        let scene = MysqlScene::new(server);
        let waiting = Waiting::of(&scene.dsn(), scene.session());
        let rows = sessions(&scene.keyward);
        assert_eq!(rows.len(), waiting.count());
        assert!(rows.iter().all(|row| row["user"] == "alice" && row["connection"] == "orders"), "{rows:?}");
        kill_all(&scene.keyward);
        server.until_gone(&scene.app.name);
        assert!(scene.keyward.until_audit("closed", rows.len()).iter().all(|record| record["outcome"] == "killed"));
        waiting.hear(KILLED);
        assert_eq!(sessions(&scene.keyward), Vec::<Value>::new());
    }
}

#[test]
fn a_session_that_is_ended_while_its_query_runs_is_told_at_once_and_the_query_is_gone() {
    for server in mysql_servers() {
        for keys in ["", "relay: raw"] {
            let scene = MysqlScene::with(server, keys, |config| config);
            let mut raw = scene.session();
            raw.ask("SELECT sleep(600)");
            eventually("the query runs", || sleeps(server, &scene.app.name).then_some(()));
            kill_all(&scene.keyward);
            if keys.is_empty() {
                ended(&raw.refusal(), 1, KILLED);
            } else {
                assert_eq!(raw.packet(), None, "a raw relay knows no place for words");
            }
            eventually("the query is gone", || (!sleeps(server, &scene.app.name)).then_some(()));
            server.until_gone(&scene.app.name);
        }
    }
}

#[test]
fn a_session_at_its_longest_life_is_ended_between_two_packets_of_a_long_result() {
    for server in mysql_servers() {
        for (secure, binary) in [(false, false), (true, false), (false, true)] {
            let scene = MysqlScene::with(server, "limits: { max_lifetime: 4s }", |config| config);
            let mut raw = if secure { scene.secure_raw() } else { scene.raw() };
            scene.log_in(&mut raw).unwrap();
            if binary {
                // Each row of a prepared statement begins with the byte that an OK begins with.
                let statement = prepare(&mut raw, LONG_RESULT);
                raw.command(0x17, &[statement.as_slice(), &[0, 1, 0, 0, 0]].concat());
            } else {
                raw.ask(LONG_RESULT);
            }
            let (mut packets, mut last) = (0, Vec::new());
            while let Some(packet) = raw.ordered() {
                packets += 1;
                last = packet;
            }
            assert!(packets > 10 && last.first() == Some(&0xff), "{packets} packets, then {:?}", last.first());
            ended(&MysqlTold::of(0, &last), 0, "the session reached its longest lifetime");
            assert_eq!(scene.keyward.until_audit("closed", 1)[0]["outcome"], "lifetime");
            server.until_gone(&scene.app.name);
        }
    }
}

/// Prepares a statement without parameters; its number.
#[track_caller]
fn prepare(raw: &mut MysqlRaw, sql: &str) -> [u8; 4] {
    raw.command(0x16, sql.as_bytes());
    let prepared = raw.ordered().expect("an answer");
    assert!(prepared[0] == 0 && prepared[5..9] == [1, 0, 0, 0], "one column, no parameters: {prepared:?}");
    raw.ordered().expect("its column");
    raw.ordered().expect("the end of the columns");
    prepared[1..5].try_into().unwrap()
}

#[test]
fn clients_hear_why_in_the_middle_of_a_result() {
    for server in mysql_servers() {
        let scene = MysqlScene::new(server);
        let streams = pymysql_stream(&scene.dsn(), LONG_RESULT);
        assert_eq!(streams.line(), "streams");
        kill_all(&scene.keyward);
        assert_eq!(masked(&streams.rest()), format!("OperationalError 1053 {}", words(KILLED)));
        for client in MysqlClient::all() {
            let scene = MysqlScene::with(server, "limits: { max_lifetime: 2s }", |config| config);
            let said = client.run(&scene.dsn(), &format!("{LONG_RESULT};"));
            let error = masked(said.stderr.lines().find(|line| line.starts_with("ERROR")).unwrap_or_default());
            assert!(said.code != Some(0), "{client:?}");
            assert!(
                error.starts_with("ERROR 1053 (08S01)") && error.ends_with(&words("the session reached its longest lifetime")),
                "{client:?}: {}",
                said.stderr
            );
        }
    }
}

#[test]
fn a_client_that_vanishes_leaves_no_query_behind() {
    for server in mysql_servers() {
        let scene = MysqlScene::new(server);
        let mut raw = scene.session();
        raw.ask("SELECT sleep(600)");
        eventually("its query runs", || sleeps(server, &scene.app.name).then_some(()));
        drop(raw);
        server.until_gone(&scene.app.name);
        for client in MysqlClient::all() {
            let shell = MysqlShell::open(client, &scene.dsn());
            shell.tell("SELECT sleep(600);");
            eventually("its query runs", || sleeps(server, &scene.app.name).then_some(()));
            shell.kill9();
            server.until_gone(&scene.app.name);
        }
    }
}

#[test]
fn a_session_whose_client_stopped_reading_can_be_killed() {
    for server in mysql_servers() {
        let scene = MysqlScene::new(server);
        let mut raw = scene.session();
        raw.ask(LONG_RESULT);
        eventually("it has begun", || (scene.keyward.http("/metrics").body.contains("direction=\"down\"}")).then_some(()));
        kill_all(&scene.keyward);
        assert_eq!(scene.keyward.until_audit("closed", 1)[0]["outcome"], "killed");
        server.until_gone(&scene.app.name);
    }
}

#[test]
fn a_reload_that_withdraws_access_ends_those_sessions_and_no_others() {
    let (kv, app, alice) = (bao().mount_kv2(), mariadb().login(mariadb().plugins()[0]), canary());
    kv.put("orders", &[("username", &app.name), ("password", &app.password)]);
    let path = kv.path("orders");
    let body = format!("address: \"{}\", store: corp, username: \"{path}?username\", password: \"{path}?password\"", mariadb().address());
    let config = Config::mysql().store("corp", bao(), &bao().approle(&[&path])).mysql_connection("orders", &body);
    let config = config.mysql_connection("orders_old", &body).user("alice", &alice);
    let keyward = Keyward::start(&config.clone().allow("alice", "*"));
    let session = |connection: &str| {
        let mut raw = MysqlRaw::to(keyward.port("mysql"));
        raw.log_in("alice", Some(connection), &alice).unwrap();
        raw
    };
    let (mut stays, goes) = (session("orders"), session("orders_old"));
    let waiting = Waiting::of(&keyward.mysql_dsn("alice", &alice).database("orders_old"), goes);
    let count = waiting.count();
    keyward.rewrite(&config.allow("alice", "orders"));
    keyward.cli(&["reload"]).ok();
    keyward.until_audit("closed", count);
    waiting.hear("the permission for this session was withdrawn");
    assert_eq!(stays.query("SELECT 1").unwrap(), ["1"]);
    assert_eq!(MysqlRaw::to(keyward.port("mysql")).log_in("alice", Some("orders_old"), &alice).unwrap_err().code, 1044);
}

#[test]
fn a_session_ends_with_words_before_its_lease_does() {
    let leases = bao().enable_mysql_database(mariadb(), "20s", "20s");
    let (creds, alice) = (leases.creds(), canary());
    let body = format!("address: \"{}\", store: corp, credential: {creds}", mariadb().address());
    let config = Config::mysql().store("corp", bao(), &bao().approle(&[&creds])).mysql_connection("orders", &body);
    let keyward = Keyward::start(&config.user("alice", &alice).allow("alice", "orders"));
    keyward.expect_log("lease");
    let mut raw = MysqlRaw::to(keyward.port("mysql"));
    raw.log_in("alice", Some("orders"), &alice).unwrap();
    let user = raw.query("SELECT substring_index(current_user(), '@', 1)").unwrap().concat();
    assert_eq!(keyward.until_audit_within(Duration::from_secs(40), "closed", 1)[0]["outcome"], "lease_end");
    ended(&raw.refusal(), 1, "the session's credential has come to its end; connect again");
    eventually("its user is gone", || (!mariadb().has_user(&user)).then_some(()));
}

#[test]
fn a_client_that_stops_in_the_middle_of_a_step_is_let_go() {
    let scene = MysqlScene::with(mariadb(), "", |config| config.line("limits: { handshake_timeout: 6s }"));
    let whole = mysql_packet(1, &orders().encode());
    let greeted = |bytes: &[u8]| {
        let mut raw = scene.raw();
        raw.greeting();
        raw.send(bytes);
        raw
    };
    let asked = |payload: &[u8], bytes: &[u8]| {
        let mut raw = greeted(b"");
        raw.say(&orders().encode()).ordered().unwrap();
        if !payload.is_empty() {
            raw.say(payload).ordered().unwrap();
        }
        raw.send(bytes);
        raw
    };
    let mut switched = greeted(b"");
    switched.say(&Hello { plugin: b"mysql_native_password".to_vec(), ..orders() }.encode()).ordered().unwrap();
    // What they hear: the words where they can read them, nothing in the middle of TLS.
    let stopped = [
        ("nothing", greeted(b""), true),
        ("half a header", greeted(&whole[..2]), true),
        ("a header", greeted(&whole[..4]), true),
        ("half an answer", greeted(&whole[..40]), true),
        ("no TLS behind its request", greeted(&mysql_packet(1, &ssl_request(FLAGS))), false),
        ("half a TLS hello", greeted(&[mysql_packet(1, &ssl_request(FLAGS)).as_slice(), &[0x16, 3, 1]].concat()), false),
        ("nothing inside TLS", scene.secure_raw(), true),
        ("no proof", asked(b"", b""), true),
        ("half a proof", asked(b"", &[8, 0, 0, 3, b'x']), true),
        ("no sealed password", asked(&[2], b""), true),
        ("no other plugin's answer", switched, true),
    ];
    for (what, mut raw, told) in stopped {
        let said = String::from_utf8_lossy(&raw.rest()).into_owned();
        assert_eq!(said.contains("#08S01keyward: the login took too long (session "), told, "{what}: {said:?}");
        assert!(told || said.is_empty(), "{what}: {said:?}");
    }
}

#[test]
fn failed_logins_lock_the_user_out_of_that_address_and_nobody_else() {
    let carol = canary();
    let scene = MysqlScene::with(mariadb(), "", |config| {
        config.line("limits: { failed_logins: 3, lock_time: 1h }").user("carol", &carol).allow("carol", "orders")
    });
    let try_in = |source: &str, user: &str, password: &str| {
        let mut raw = MysqlRaw::from(source, scene.port()).unwrap();
        raw.log_in(user, Some("orders"), password).map_or_else(|told| told.code, |()| 0)
    };
    let (failed, locked) = (1045, 3955);
    // One who is not there is locked like one who is.
    for user in ["alice", "mallory"] {
        for _ in 0..3 {
            assert_eq!(try_in("127.0.0.3", user, "wrong"), failed);
        }
        for password in ["wrong", scene.alice.as_str()] {
            assert_eq!(try_in("127.0.0.3", user, password), locked, "{user}");
        }
    }
    assert_eq!(try_in("127.0.0.3", "carol", &carol), 0);
    assert_eq!(try_in("127.0.0.1", "alice", &scene.alice), 0);
    assert_eq!(try_in("127.0.0.3", "alice", &scene.alice), locked, "success elsewhere does not open the lock");
}

#[test]
fn sessions_are_limited_in_all_per_user_and_per_connection() {
    for (limits, keys, alone) in
        [("sessions: 2", "", false), ("sessions_per_user: 2", "", true), ("sessions: 100", "limits: { max_sessions: 2 }", false)]
    {
        let carol = canary();
        let scene = MysqlScene::with(mariadb(), keys, |config| {
            config.line(&format!("limits: {{ {limits} }}")).user("carol", &carol).allow("carol", "orders")
        });
        let held = [scene.session(), scene.session()];
        assert_eq!(scene.log_in(&mut scene.raw()).unwrap_err().code, 1040);
        let mut other = scene.raw();
        assert_eq!(other.log_in("carol", Some("orders"), &carol).is_ok(), alone, "{limits} {keys}");
        // Who has no session has none of their places: the lobby, with the word to stop a query, is open.
        scene.raw().log_in("alice", None, &scene.alice).unwrap();
        let [one, _other] = held;
        drop(one);
        eventually("there is a place again", || scene.log_in(&mut scene.raw()).ok());
    }
}

#[test]
fn a_record_says_who_what_and_with_which_secret_and_never_the_secret() {
    for secure in [true, false] {
        let scene = MysqlScene::new(mariadb());
        let mut raw = if secure { scene.secure_raw() } else { scene.raw() };
        scene.log_in(&mut raw).unwrap();
        raw.query("SELECT 1").unwrap();
        raw.command(1, b"");
        assert_eq!(raw.packet(), None);
        let opened = scene.keyward.until_audit("opened", 1).remove(0);
        let text = |name: &str| opened[name].as_str().unwrap_or_default().to_owned();
        assert_eq!([text("user"), text("connection"), text("account"), text("protocol")], ["alice", "orders", "default", "mysql"]);
        // Sealed or not on its way: what came was the password itself.
        assert_eq!([text("verified_by"), text("proof")], ["local", "cleartext"]);
        assert!(text("source").starts_with("127.0.0.1:"), "{opened}");
        assert!(opened["secrets"].as_array().unwrap().iter().any(|name| name.as_str().unwrap().ends_with("?username")), "{opened}");
        for stage in ["open", "login", "authorise", "lease", "connect", "inject"] {
            assert!(opened["stages_ms"][stage].as_f64().unwrap() >= 0.0, "{stage}: {opened}");
        }
        let closed = scene.keyward.until_audit("closed", 1).remove(0);
        assert_eq!((&closed["session"], closed["outcome"].as_str()), (&opened["session"], Some("client")));
        assert!(closed["bytes_down"].as_u64().unwrap() > 0 && closed["bytes_up"].as_u64().unwrap() > 0, "{closed}");
    }
}
