//! COM_CHANGE_USER: a new proof of the same user, and a fresh session of the server's in the place of the old one.

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::bed::{
    Certificate, Mysql, MysqlLeased, MysqlRaw, MysqlScene, MysqlTold, canary, eventually, installed, mariadb, masked, mysql9, run,
};

/// latin1_swedish_ci, which MySQL and MariaDB give the same number; and utf8mb4_general_ci.
const LATIN1: u16 = 8;
const UTF8MB4: u16 = 45;
const NOT_OPEN: (u16, &str) = (1044, "keyward: no such connection, or it is not open to you (session ID)");

fn servers() -> impl Iterator<Item = &'static Mysql> {
    [Some(mariadb()), mysql9()].into_iter().flatten()
}

/// Gives the session all that a change of the user takes away.
#[track_caller]
fn furnish(raw: &mut MysqlRaw) {
    for sql in [
        "CREATE TABLE IF NOT EXISTS kept (id INT) ENGINE=InnoDB",
        "CREATE TEMPORARY TABLE mine (id INT)",
        "SET @mine = 42",
        "SET SESSION sort_buffer_size = 65536",
        "PREPARE ready FROM 'SELECT 1'",
        "BEGIN",
        "INSERT INTO kept VALUES (1)",
    ] {
        assert_eq!(raw.query(sql), Ok(Vec::new()), "{sql}");
    }
    assert_eq!(raw.query("SELECT GET_LOCK(CONCAT(DATABASE(), 'lock'), 0)").unwrap(), ["1"]);
    is_furnished(raw);
}

#[track_caller]
fn is_furnished(raw: &mut MysqlRaw) {
    assert_eq!(raw.query("SELECT @mine, @@sort_buffer_size, (SELECT COUNT(*) FROM mine)").unwrap(), ["42\t65536\t0"]);
    assert_eq!(raw.query("SELECT COUNT(*) FROM kept").unwrap(), ["1"], "the transaction is open");
    assert_eq!(raw.query("EXECUTE ready").unwrap(), ["1"]);
    assert_eq!(raw.query("SELECT IS_USED_LOCK(CONCAT(DATABASE(), 'lock')) = CONNECTION_ID()").unwrap(), ["1"]);
}

/// Nothing of it is left, as another session sees it too.
#[track_caller]
fn is_empty(raw: &mut MysqlRaw, other: &mut MysqlRaw) {
    assert_eq!(raw.query("SELECT @mine, @@sort_buffer_size <> 65536, @@autocommit").unwrap(), ["NULL\t1\t1"]);
    assert_eq!(raw.query("SELECT * FROM mine").unwrap_err().code, 1146, "no temporary table");
    assert_eq!(raw.query("EXECUTE ready").unwrap_err().code, 1243, "no prepared statement");
    eventually("its lock is free and its transaction rolled back", || {
        let free = other.query("SELECT IS_FREE_LOCK(CONCAT(DATABASE(), 'lock')), (SELECT COUNT(*) FROM kept)").unwrap();
        (free == ["1\t0"]).then_some(())
    });
}

#[track_caller]
fn is_refused(told: Result<(), MysqlTold>, (code, message): (u16, &str)) {
    let told = told.unwrap_err();
    assert_eq!((told.code, told.message.as_str()), (code, message));
}

#[track_caller]
fn one_session(server: &Mysql, account: &str, count: usize) {
    eventually(&format!("{count} sessions"), || (server.sessions_of(account) == count).then_some(()));
}

#[test]
fn who_becomes_himself_begins_anew_and_keeps_his_id() {
    for server in servers() {
        let stage = MysqlLeased::with(server, "", |config| config);
        for connection in ["orders", "orders_rw"] {
            let (mut raw, id) = stage.session(Some(connection));
            let (mut other, _) = stage.session(Some("orders"));
            let database = &stage.scene.database;
            raw.query(&format!("USE {database}")).unwrap();
            let (account, count) = (raw.account(), if connection == "orders" { 2 } else { 1 });
            one_session(server, &account, count);
            let mut threads = vec![raw.query("SELECT CONNECTION_ID()").unwrap()];
            for charset in [LATIN1, UTF8MB4, UTF8MB4] {
                furnish(&mut raw);
                raw.change_user("alice", connection, charset, &stage.scene.alice).unwrap();
                let wanted = if connection == "orders" { database.clone() } else { "NULL".to_owned() };
                assert_eq!(raw.query("SELECT DATABASE()").unwrap(), [wanted]);
                raw.query(&format!("USE {database}")).unwrap();
                is_empty(&mut raw, &mut other);
                let charset = if charset == LATIN1 { "latin1" } else { "utf8mb4" };
                assert_eq!(raw.query("SELECT @@character_set_client, @@character_set_results").unwrap(), [format!("{charset}\t{charset}")]);
                assert_eq!(raw.account(), account, "the same account");
                one_session(server, &account, count);
                let thread = raw.query("SELECT CONNECTION_ID()").unwrap();
                assert!(!threads.contains(&thread), "a session of the server's that was there before");
                threads.push(thread);
                // Its own id still means it.
                raw.ask("SELECT SLEEP(600)");
                eventually("it sleeps", || (server.running(&account, "SLEEP(600)") == 1).then_some(()));
                assert_eq!(other.query(&format!("KILL QUERY {id}")), Ok(Vec::new()));
                assert!(raw.result().map_or_else(|told| told.code == 1317, |rows| rows == ["1"]));
            }
            assert_eq!(other.query(&format!("KILL {id}")), Ok(Vec::new()));
            assert_eq!(raw.refusal().code, 1053);
            one_session(server, &account, count - 1);
        }
        eventually("no lease is left", || (stage.leases.leases() == 0).then_some(()));
        assert_eq!(stage.scene.keyward.until_audit("opened", 4).len(), 4, "no session is recorded for a change of the user");
    }
}

#[test]
fn inside_tls_and_by_the_socket_it_is_the_same() {
    for server in servers() {
        let scene = MysqlScene::new(server);
        for mut raw in [scene.secure_raw(), MysqlRaw::unix(&scene.socket())] {
            scene.log_in(&mut raw).unwrap();
            raw.query("SET @mine = 42").unwrap();
            raw.change_user("alice", "orders", UTF8MB4, &scene.alice).unwrap();
            assert_eq!(raw.query("SELECT @mine, DATABASE()").unwrap(), [format!("NULL\t{}", scene.database)]);
        }
        server.until_gone(&scene.app.name);
    }
}

#[test]
fn the_database_is_the_one_that_is_asked_for() {
    for server in servers() {
        let (other, forbidden) = (server.database(), server.database());
        let scene = MysqlScene::with(server, &format!("databases: [{other}]"), |config| config);
        let own = &scene.database;
        let mut raw = scene.session();
        let cases = [
            ("alice", "orders", own),
            ("alice", "", own),
            ("alice+orders", "", own),
            ("alice+orders", "orders", own),
            ("alice+orders+default", "", own),
            ("alice+orders", other.as_str(), &other),
            // A driver that names the session's database, as it named it before.
            ("alice", own, own),
            ("alice", &other, &other),
        ];
        for (user, database, wanted) in cases {
            raw.change_user(user, database, UTF8MB4, &scene.alice).unwrap();
            assert_eq!(raw.query("SELECT DATABASE()").unwrap()[0], *wanted, "{user} {database}");
        }
        for (user, database) in [("alice", forbidden.as_str()), ("alice+orders", &forbidden), ("alice", "mysql")] {
            is_refused(raw.change_user(user, database, UTF8MB4, &scene.alice), NOT_OPEN);
            assert_eq!(raw.query("SELECT DATABASE()").unwrap()[0], other);
        }
        assert_eq!(server.sessions_of(&scene.app.name), 1);
    }
}

#[test]
fn whoever_else_he_asks_to_be_is_refused_and_the_session_goes_on_as_it_was() {
    for server in servers() {
        let stage = MysqlLeased::new(server);
        let (scene, alice) = (&stage.scene, stage.scene.alice.as_str());
        let (mut raw, _) = stage.session(Some("orders"));
        furnish(&mut raw);
        let thread = raw.query("SELECT CONNECTION_ID()").unwrap();
        let failed = (1045, "keyward: login failed (session ID)");
        for (user, database, password, wanted) in [
            ("alice", "orders", "wrong", failed),
            ("alice", "orders", "", failed),
            ("mallory", "orders", alice, failed),
            ("carol", "orders", alice, failed),
            // Whether another user's password holds is told to nobody here.
            ("carol", "orders", stage.carol.as_str(), failed),
            ("carol+orders", "", &stage.carol, failed),
            ("alice", "orders_rw", alice, NOT_OPEN),
            ("alice+orders_rw", "", alice, NOT_OPEN),
            ("alice", "payroll", alice, NOT_OPEN),
            ("alice", "nothing", alice, NOT_OPEN),
            ("alice+orders+nobody", "", alice, NOT_OPEN),
            (&scene.app.name, &scene.database, &scene.app.password, failed),
        ] {
            is_refused(raw.change_user(user, database, UTF8MB4, password), wanted);
            is_furnished(&mut raw);
        }
        assert_eq!(raw.query("SELECT CONNECTION_ID()").unwrap(), thread);
        assert_eq!((server.sessions_of(&scene.app.name), stage.leases.leases()), (1, 0));
        assert_eq!(raw.query("COMMIT"), Ok(Vec::new()));
        assert_eq!(raw.query("SELECT COUNT(*) FROM kept").unwrap(), ["1"]);
        raw.change_user("alice", "orders", UTF8MB4, alice).unwrap();
    }
}

#[test]
fn a_wrong_password_counts_as_one_at_a_login() {
    let scene = MysqlScene::with(mariadb(), "", |config| config.line("limits: { failed_logins: 2, lock_time: 1h }"));
    let mut raw = scene.session();
    for _ in 0..2 {
        assert_eq!(raw.change_user("alice", "orders", UTF8MB4, "wrong").unwrap_err().code, 1045);
    }
    assert_eq!(raw.change_user("alice", "orders", UTF8MB4, &scene.alice).unwrap_err().code, 3955);
    assert_eq!(scene.log_in(&mut scene.raw()).unwrap_err().code, 3955);
    assert_eq!(raw.query("SELECT 'still here'").unwrap(), ["still here"]);
}

#[test]
fn a_server_that_lets_nobody_in_at_that_moment_leaves_the_session_as_it_was() {
    for server in servers() {
        let scene = MysqlScene::new(server);
        let (mut raw, name) = (scene.session(), scene.app.name.as_str());
        scene.keyward.expect_log("upstream_login_rejected");
        furnish(&mut raw);
        server.sql("", &format!("ALTER USER '{name}'@'%' ACCOUNT LOCK"));
        let told = raw.change_user("alice", "orders", UTF8MB4, &scene.alice).unwrap_err();
        assert!(told.message.starts_with("keyward: the server behind this connection "), "{told:?}");
        is_furnished(&mut raw);
        server.sql("", &format!("ALTER USER '{name}'@'%' ACCOUNT UNLOCK"));
        let wrong = canary();
        server.sql("", &format!("ALTER USER '{name}'@'%' IDENTIFIED BY '{wrong}'"));
        let rejected = (1429, "keyward: the server behind this connection refused the login (session ID)");
        is_refused(raw.change_user("alice", "orders", UTF8MB4, &scene.alice), rejected);
        is_furnished(&mut raw);
        server.sql("", &format!("ALTER USER '{name}'@'%' IDENTIFIED BY '{}'", scene.app.password));
        raw.change_user("alice", "orders", UTF8MB4, &scene.alice).unwrap();
        assert_eq!(raw.query("SELECT @mine").unwrap(), ["NULL"]);
    }
}

#[test]
fn a_server_that_does_not_answer_holds_the_session_up_no_longer_than_a_login() {
    let server = Mysql::own("mariadb", Certificate::OfTheBed, &[]).unwrap();
    let scene = MysqlScene::with(&server, "", |config| config.line("limits: { handshake_timeout: 8s }"));
    let mut raw = scene.session();
    furnish(&mut raw);
    server.signal(Signal::STOP);
    scene.keyward.expect_log("upstream_unreachable");
    let unreachable = (1429, "keyward: the server behind this connection cannot be reached (session ID)");
    is_refused(raw.change_user("alice", "orders", UTF8MB4, &scene.alice), unreachable);
    server.signal(Signal::CONT);
    is_furnished(&mut raw);
}

#[test]
fn a_client_that_does_not_say_its_proof_is_not_waited_for() {
    let scene = MysqlScene::with(mariadb(), "", |config| config.line("limits: { handshake_timeout: 8s }"));
    let asked = || {
        let mut raw = scene.session();
        raw.command(0x11, b"alice\0\0orders\0\x2d\0");
        assert_eq!(raw.ordered().unwrap()[0], 0xfe, "it is asked for its proof");
        raw
    };
    // What it says later must not be taken for commands.
    let (mut silent, gone, mut wrong) = (asked(), asked(), asked());
    drop(gone);
    assert_eq!(wrong.send(&[1, 0, 0, 9, 0]).refusal().code, 1043);
    assert_eq!(silent.refusal().code, 1159);
    let closed = scene.keyward.until_audit("closed", 3);
    let ended = |outcome: &str| closed.iter().filter(|record| record["outcome"] == outcome).count();
    assert_eq!((ended("client"), ended("client_failed")), (1, 2), "{closed:?}");
    mariadb().until_gone(&scene.app.name);
}

#[test]
fn a_session_can_be_killed_while_it_waits_for_the_new_proof() {
    let stage = MysqlLeased::new(mariadb());
    let (mut raw, id) = stage.session(Some("orders_rw"));
    let account = raw.account();
    raw.command(0x11, b"alice\0\0orders_rw\0\x2d\0");
    assert_eq!(raw.ordered().unwrap()[0], 0xfe);
    let (mut lobby, _) = stage.session(None);
    assert_eq!(lobby.query(&format!("KILL {id}")), Ok(Vec::new()));
    // In the middle of an exchange only the number of what it would be told is not certain.
    let said = raw.rest();
    assert!(String::from_utf8_lossy(&said).contains("the session was ended by its user"), "{said:?}");
    stage.until_nothing_is_left(&account);
}

#[test]
fn a_change_under_way_of_a_result_harms_nobody_else() {
    for server in servers() {
        let stage = MysqlLeased::with(server, "lease: shared", |config| config);
        let (mut bystander, _) = stage.carols_session(Some("orders_rw"));
        let account = bystander.account();
        for _ in 0..5 {
            let (mut raw, _) = stage.session(Some("orders_rw"));
            raw.ask("SELECT REPEAT('x', 1000000) FROM (SELECT 1 UNION SELECT 2 UNION SELECT 3) AS three");
            // Without waiting for anything.
            raw.command(0x11, b"alice\0\0orders_rw\0\x2d\0").say(&[7; 32]).say(&[2]);
            let _ = raw.packet();
            drop(raw);
            assert_eq!(bystander.query("SELECT 42").unwrap(), ["42"]);
        }
        stage.scene.keyward.until_audit("closed", 5);
        one_session(server, &account, 1);
        assert_eq!(stage.leases.leases(), 1);
        drop(bystander);
        stage.until_nothing_is_left(&account);
    }
}

/// What each driver says of a wrong password, and whether its session still is what it was.
const CONNECTOR: &str = "\
import os, mysql.connector
env = os.environ
who = {'user': env['MYSQL_USER'], 'password': env['MYSQL_PASSWORD'], 'database': 'orders'}
db = mysql.connector.connect(host=env['MYSQL_HOST'], port=int(env['MYSQL_PORT']), ssl_ca=env['MYSQL_CA'], use_pure=True, **who)
cursor = db.cursor()
cursor.execute('SET @mine = 42')
try:
    db.cmd_change_user(who['user'], 'wrong', who['database'])
except mysql.connector.Error as error:
    print(error.errno, error.msg)
cursor.execute('SELECT @mine')
print(cursor.fetchone()[0])
db.cmd_change_user(who['user'], who['password'], who['database'])
cursor.execute('SELECT @mine')
print(cursor.fetchone()[0])
";
const MYSQL2: &str = "\
const { readFileSync } = require('fs');
const { MYSQL_HOST: host, MYSQL_PORT: port, MYSQL_USER: user, MYSQL_PASSWORD: password, MYSQL_CA } = process.env;
const ssl = { ca: readFileSync(MYSQL_CA), verifyIdentity: false };
(async () => {
  const db = await require('mysql2/promise').createConnection({ host, port, user, password, database: 'orders', ssl });
  await db.query('SET @mine = 42');
  await db.changeUser({ user, password, database: 'orders' });
  console.log((await db.query('SELECT @mine AS mine'))[0][0].mine);
  await db.query('SET @mine = 43');
  await db.changeUser({ user, password: 'wrong', database: 'orders' }).catch((error) => console.log(error.errno, error.sqlMessage || error.message));
  process.exit(0);
})();
";

#[test]
fn drivers_hear_why_and_go_on_where_they_can() {
    for server in servers() {
        let scene = MysqlScene::new(server);
        let python = installed("python").join("bin/python");
        let modules = installed("node_modules");
        let said = |mut command: Command| {
            command.env("PYTHONDONTWRITEBYTECODE", "1").env("NODE_PATH", &modules);
            masked(run(command, "", Duration::from_secs(60)).ok())
        };
        let mut connector = scene.lobby().command(&python);
        connector.args(["-W", "ignore", "-c", CONNECTOR]);
        assert_eq!(said(connector), "1045 keyward: login failed (session ID)\n42\nNone");
        let mut mysql2 = scene.lobby().command("node");
        mysql2.args(["-e", MYSQL2]);
        assert_eq!(said(mysql2), "null\n1045 keyward: login failed (session ID)");
        server.until_gone(&scene.app.name);
    }
}

#[test]
fn a_collation_that_no_login_can_ask_for_is_refused_before_anything_is_asked() {
    let stage = MysqlLeased::with(mariadb(), "", |config| config);
    let (mut raw, _) = stage.session(Some("orders"));
    raw.query("SET @mine = 42").unwrap();
    // utf8mb4_ja_0900_as_cs of MySQL; its low byte alone is latin1_bin.
    let told = raw.change_user("alice", "orders", 303, &stage.scene.alice).unwrap_err();
    assert_eq!((told.sequence, told.code), (1, 1251), "{told:?}");
    assert_eq!(raw.query("SELECT @mine").unwrap(), ["42"]);
}
