//! Ctrl-C and KILL: the client knows its session by an id of Keyward's, the server by another one.

use std::time::Duration;

use crate::bed::{
    Login, Mysql, MysqlClient, MysqlDsn, MysqlLeased, MysqlRaw, MysqlShell, MysqlTls, MysqlTold, canary, eventually, installed, mariadb,
    mysql9, run,
};

const SLEEP: &str = "SELECT SLEEP(600)";
const COM_PROCESS_KILL: u8 = 0x0c;
/// The capability of MySQL by which what stands before the text of a query says that it has no attributes.
const QUERY_ATTRIBUTES: u32 = 1 << 27;
const ENDED: &str = "keyward: the session was ended by its user (session ID)";

fn servers() -> impl Iterator<Item = &'static Mysql> {
    [Some(mariadb()), mysql9()].into_iter().flatten()
}

/// The clients that are there, and for each the ways to name a connection; whether that connection is the dynamic one.
fn ways(stage: &MysqlLeased<'_>) -> Vec<(&'static str, MysqlDsn, bool)> {
    let (lobby, door) = (stage.scene.lobby(), stage.scene.keyward.ports("mysql")[1]);
    let door = MysqlDsn::new("127.0.0.1", door, "alice", &stage.scene.alice).tls(MysqlTls::Verified(stage.scene.ca()));
    vec![
        ("the database", stage.scene.dsn(), false),
        ("the database, leased", stage.dsn(), true),
        ("the login name", lobby.clone().with_user("alice+orders"), false),
        ("the login name, leased", lobby.with_user("alice+orders_rw"), true),
        ("the listener, leased", door, true),
    ]
}

#[track_caller]
fn until_asleep(server: &Mysql, account: &str, count: usize) {
    eventually(&format!("{count} queries sleep"), || (server.running(account, "SLEEP(600)") == count).then_some(()));
}

/// What became of a query that was killed: MySQL says of a SLEEP that it was cut short, MariaDB that it was interrupted.
#[track_caller]
fn is_interrupted(outcome: Result<Vec<String>, MysqlTold>) {
    match outcome {
        Ok(rows) => assert_eq!(rows, ["1"]),
        Err(told) => assert_eq!(told.code, 1317, "{told:?}"),
    }
}

#[track_caller]
fn is_unknown(told: &MysqlTold, id: u64) {
    let wanted = (1, 1094, Some("HY000"), format!("Unknown thread id: {id}"));
    assert_eq!((told.sequence, told.code, told.state.as_deref(), told.message.clone()), wanted);
}

#[track_caller]
fn is_ended(told: &MysqlTold) {
    assert_eq!((told.sequence, told.code, told.state.as_deref(), told.message.as_str()), (1, 1053, Some("08S01"), ENDED));
}

#[track_caller]
fn counted(stage: &MysqlLeased<'_>, line: &str) {
    eventually(line, || stage.scene.keyward.http("/metrics").body.contains(&format!("{line}\n")).then_some(()));
}

#[test]
fn ctrl_c_stops_the_query_and_the_session_goes_on() {
    for server in servers() {
        let stage = MysqlLeased::new(server);
        let mut hits = 0;
        for client in MysqlClient::all() {
            for (way, dsn, leased) in ways(&stage) {
                let shell = MysqlShell::open(client, &dsn);
                let account = shell.account();
                let opened = stage.scene.keyward.until_audit("opened", 1).len();
                for _ in 0..2 {
                    shell.tell(&format!("{SLEEP};"));
                    until_asleep(server, &account, 1);
                    shell.interrupt();
                    let said = shell.rest();
                    assert!(said.contains('1') || said.contains("1317"), "{client:?} by {way}: {said}");
                    until_asleep(server, &account, 0);
                    assert_eq!(shell.ask("SELECT 'still here'"), "still here", "{client:?} by {way}");
                    hits += 1;
                }
                if leased {
                    eventually("the second logins have left no lease", || (stage.leases.leases() == 1).then_some(()));
                }
                eventually("nor a session", || (server.sessions_of(&account) == 1).then_some(()));
                let after = stage.scene.keyward.until_audit("opened", 1).len();
                assert_eq!(after - opened, if way.starts_with("the database") { 0 } else { 2 }, "{client:?} by {way}");
                shell.end();
                if leased {
                    stage.until_nothing_is_left(&account);
                }
            }
        }
        counted(&stage, &format!("keyward_cancels_total{{protocol=\"mysql\",outcome=\"hit\"}} {hits}"));
    }
}

#[test]
fn kill_typed_in_another_session_of_the_user_ends_what_it_names() {
    for server in servers() {
        let stage = MysqlLeased::new(server);
        for (theirs, ours) in [("orders", "orders"), ("orders_rw", "orders"), ("orders", "orders_rw"), ("orders_rw", "orders_rw")] {
            let ((mut victim, id), (mut killer, _)) = (stage.session(Some(theirs)), stage.session(Some(ours)));
            let account = victim.account();
            victim.ask(SLEEP);
            until_asleep(server, &account, 1);
            assert_eq!(killer.query(&format!("KILL QUERY {id}")), Ok(Vec::new()));
            is_interrupted(victim.result());
            assert_eq!(victim.query("SELECT 'still here'").unwrap(), ["still here"]);
            // In a query, and idle.
            victim.ask(SLEEP);
            until_asleep(server, &account, 1);
            assert_eq!(killer.query(&format!("KILL {id}")), Ok(Vec::new()));
            is_ended(&victim.refusal());
            until_asleep(server, &account, 0);
            let (mut victim, id) = stage.session(Some(theirs));
            assert_eq!(killer.query(&format!("KILL CONNECTION {id}")), Ok(Vec::new()));
            is_ended(&victim.refusal());
            eventually("it is unknown from then on", || killer.query(&format!("KILL {id}")).err().map(|told| is_unknown(&told, id.into())));
            assert_eq!(killer.query("SELECT 1").unwrap(), ["1"]);
        }
        // Theirs and the killers': all twelve have ended.
        let closed = stage.scene.keyward.until_audit("closed", 12);
        assert_eq!(closed.iter().filter(|record| record["outcome"] == "killed_by_user").count(), 8, "{closed:?}");
        counted(&stage, "keyward_sessions_closed_total{protocol=\"mysql\",outcome=\"killed_by_user\"} 8");
    }
}

#[test]
fn kill_query_of_an_idle_session_is_no_harm_to_its_next_query() {
    for server in servers() {
        let stage = MysqlLeased::new(server);
        let ((mut victim, id), (mut lobby, _)) = (stage.session(Some("orders")), stage.session(None));
        for round in 0..10 {
            assert_eq!(lobby.query(&format!("KILL QUERY {id}")), Ok(Vec::new()));
            assert_eq!(victim.query("SELECT 'still', COUNT(*) FROM information_schema.schemata WHERE 0").unwrap(), ["still\t0"], "{round}");
        }
    }
}

#[test]
fn what_a_kill_comes_to_is_told_in_its_turn() {
    for server in servers() {
        let stage = MysqlLeased::new(server);
        let ((mut raw, own), (mut victim, id)) = (stage.session(Some("orders")), stage.session(Some("orders")));
        let nobodys = if own == u32::MAX { own - 1 } else { own + 1 };
        // Drivers send the next command without waiting for what the one before comes to.
        raw.ask("SELECT SLEEP(0.3), 'first'").ask(&format!("KILL {nobodys}")).ask("SELECT 'third'");
        raw.ask(&format!("KILL {id}")).ask("SELECT 'last'");
        let mut answer = || {
            raw.next = 1;
            raw.result()
        };
        assert_eq!(answer().unwrap(), ["0\tfirst"]);
        is_unknown(&answer().unwrap_err(), nobodys.into());
        assert_eq!(
            (answer().unwrap(), answer().unwrap(), answer().unwrap()),
            (vec!["third".to_owned()], Vec::new(), vec!["last".to_owned()])
        );
        is_ended(&victim.refusal());
        raw.ask("SELECT SLEEP(0.3), 'first'").command(COM_PROCESS_KILL, &nobodys.to_le_bytes());
        raw.next = 1;
        assert_eq!(raw.result().unwrap(), ["0\tfirst"]);
        raw.next = 1;
        is_unknown(&raw.result().unwrap_err(), nobodys.into());
    }
}

#[test]
fn a_query_can_be_stopped_after_the_password_was_changed() {
    for server in servers() {
        let stage = MysqlLeased::new(server);
        let Login { name, .. } = &stage.scene.app;
        let ((mut victim, id), (mut lobby, _)) = (stage.session(Some("orders")), stage.session(None));
        let password = canary();
        server.sql("", &format!("ALTER USER '{name}'@'%' IDENTIFIED BY '{password}'"));
        stage.scene.kv.put("orders", &[("username", name), ("password", &password)]);
        for _ in 0..2 {
            victim.ask(SLEEP);
            until_asleep(server, name, 1);
            assert_eq!(lobby.query(&format!("KILL QUERY {id}")), Ok(Vec::new()));
            is_interrupted(victim.result());
            victim.change_user("alice", "orders", 45, &stage.scene.alice).unwrap();
        }
        // And where nobody is left to wait for it.
        victim.ask(SLEEP);
        until_asleep(server, name, 1);
        drop(victim);
        server.until_gone(name);
    }
}

#[test]
fn a_session_may_kill_itself() {
    for server in servers() {
        let stage = MysqlLeased::new(server);
        let (mut raw, id) = stage.session(Some("orders_rw"));
        let account = raw.account();
        // Nothing of its own runs while it asks.
        let _ = raw.query(&format!("KILL QUERY {id}"));
        assert_eq!(raw.query("SELECT 'still here'").unwrap(), ["still here"]);
        raw.ask(&format!("KILL {id}"));
        is_ended(&raw.refusal());
        stage.until_nothing_is_left(&account);
    }
}

#[test]
fn kill_of_another_users_session_is_as_of_one_that_is_not_there_and_does_nothing() {
    for server in servers() {
        // They share an account, so that the server itself would let them.
        let stage = MysqlLeased::with(server, "lease: shared", |config| config);
        for connection in ["orders", "orders_rw"] {
            let (mut victim, id) = stage.session(Some(connection));
            let account = victim.account();
            victim.ask(SLEEP);
            until_asleep(server, &account, 1);
            let nobodys = if id == u32::MAX { id - 1 } else { id + 1 };
            for from in [Some(connection), None] {
                let (mut carol, _) = stage.carols_session(from);
                for id in [id, nobodys] {
                    for kill in ["KILL", "KILL QUERY", "KILL CONNECTION"] {
                        is_unknown(&carol.query(&format!("{kill} {id}")).unwrap_err(), id.into());
                    }
                    let told = carol.command(COM_PROCESS_KILL, &id.to_le_bytes()).result().unwrap_err();
                    is_unknown(&told, id.into());
                }
                carol.command(0x0e, b"");
                assert_eq!(carol.ordered().unwrap()[0], 0, "her own session goes on");
            }
            assert_eq!(server.running(&account, "SLEEP(600)"), 1);
            assert!(!victim.heard());
            let (mut alice, _) = stage.session(None);
            assert_eq!(alice.query(&format!("KILL QUERY {id}")), Ok(Vec::new()));
            is_interrupted(victim.result());
        }
        counted(&stage, "keyward_cancels_total{protocol=\"mysql\",outcome=\"miss\"} 32");
        counted(&stage, "keyward_cancels_total{protocol=\"mysql\",outcome=\"hit\"} 2");
    }
}

#[test]
fn every_spelling_of_kill_is_known() {
    for server in servers() {
        let stage = MysqlLeased::new(server);
        let ((mut victim, id), (mut killer, _)) = (stage.session(Some("orders")), stage.session(Some("orders")));
        let account = victim.account();
        let mut texts = vec![
            format!("kill query {id}"),
            format!("Kill Query {id} ; "),
            format!("\t/* one */ KILL -- two\n QUERY # three\n {id} /* four */ ; -- five"),
            format!("KILL/**/QUERY/**/{id}"),
            format!("/*!50000 KILL QUERY */ {id}"),
            format!("/*! KILL QUERY {id} */"),
        ];
        if server.is_mariadb() {
            texts.extend([format!("KILL SOFT QUERY {id}"), format!("kill hard query {id}"), format!("/*M!100000 KILL QUERY {id} */")]);
        }
        for text in texts {
            let (mut lobby, _) = stage.session(None);
            for from in [&mut killer, &mut lobby] {
                victim.ask(SLEEP);
                until_asleep(server, &account, 1);
                assert_eq!(from.query(&text), Ok(Vec::new()), "{text}");
                is_interrupted(victim.result());
            }
        }
        assert_eq!(victim.query("SELECT 'still here'").unwrap(), ["still here"]);
    }
}

#[test]
fn kill_is_known_behind_the_mark_that_a_query_has_no_attributes() {
    let Some(server) = mysql9() else { return };
    let stage = MysqlLeased::new(server);
    let (mut victim, id) = stage.session(Some("orders"));
    let account = victim.account();
    for connection in [Some("orders"), None] {
        let mut raw = stage.scene.raw();
        assert!(raw.greeting().has(QUERY_ATTRIBUTES), "the victim's login has taught what the server has");
        let hello = crate::bed::Hello::new("alice", connection);
        raw.answer(&crate::bed::Hello { flags: hello.flags | QUERY_ATTRIBUTES, ..hello }).prove(&stage.scene.alice).unwrap();
        victim.ask(SLEEP);
        until_asleep(server, &account, 1);
        assert_eq!(raw.query(&format!("\0\x01KILL QUERY {id}")), Ok(Vec::new()));
        is_interrupted(victim.result());
        is_unknown(&raw.query("\0\x01KILL QUERY 4294967295").unwrap_err(), u64::from(u32::MAX));
    }
}

#[test]
fn an_id_of_the_servers_own_goes_to_the_server() {
    for server in servers() {
        let stage = MysqlLeased::new(server);
        let (mut raw, id) = stage.session(Some("orders"));
        let mut direct = MysqlRaw::to(server.port);
        let Login { name, password } = &stage.scene.app;
        let said = |raw: &mut MysqlRaw, sql: &str| raw.query(sql).map_err(|told| (told.code, told.state, told.message));
        if server.is_mariadb() {
            // Its own login is by another plugin than the raw client's, which does not matter here: the texts are what is compared.
            drop(direct);
            for sql in ["KILL 999999", "KILL 4294967296", "KILL QUERY 18446744073709551615"] {
                assert_eq!(raw.query(sql).unwrap_err().code, 1094, "{sql}");
            }
        } else {
            direct.log_in(name, None, password).unwrap();
            for sql in ["KILL 999999", "KILL 4294967296", "KILL QUERY 18446744073709551615", "KILL", "KILL QUERY", "KILL 'x'"] {
                assert_eq!(said(&mut raw, sql), said(&mut direct, sql), "{sql}");
            }
        }
        // The account is the same, so that the server allows it.
        let (mut other, _) = stage.session(Some("orders"));
        let theirs = other.query("SELECT CONNECTION_ID()").unwrap().remove(0);
        assert_ne!(theirs, id.to_string());
        other.ask(SLEEP);
        until_asleep(server, name, 1);
        assert_eq!(raw.query(&format!("KILL QUERY {theirs}")), Ok(Vec::new()));
        is_interrupted(other.result());
        assert_eq!(raw.query(&format!("KILL {theirs}")), Ok(Vec::new()));
        assert_eq!(other.packet(), None, "the server says nothing to whom it ends");
        let closed = stage.scene.keyward.until_audit("closed", 1);
        assert_eq!(closed[0]["outcome"], "upstream");
        let metrics = stage.scene.keyward.http("/metrics").body;
        assert!(!metrics.contains("keyward_cancels_total{protocol=\"mysql\""), "Keyward had no part in it: {metrics}");
    }
}

#[test]
fn the_command_that_kills_is_known_like_the_statement() {
    for server in servers() {
        let stage = MysqlLeased::new(server);
        for from in [Some("orders_rw"), None] {
            let ((mut victim, id), (mut killer, _)) = (stage.session(Some("orders")), stage.session(from));
            killer.command(COM_PROCESS_KILL, &id.to_le_bytes());
            assert_eq!(killer.result(), Ok(Vec::new()));
            is_ended(&victim.refusal());
            eventually("it is unknown from then on", || {
                let told = killer.command(COM_PROCESS_KILL, &id.to_le_bytes()).result().err()?;
                is_unknown(&told, id.into());
                Some(())
            });
        }
        let (mut raw, _) = stage.session(Some("orders"));
        // Of an id that is not Keyward's, the server says what it says: MySQL 9 does not know the command any more.
        let told = raw.command(COM_PROCESS_KILL, &999_999_u32.to_le_bytes()).result().unwrap_err();
        assert_eq!(told.code, if server.is_mariadb() { 1094 } else { 1047 });
    }
}

#[test]
fn pymysql_and_mysqladmin_kill_a_session() {
    for server in servers() {
        let stage = MysqlLeased::new(server);
        let (mut victim, id) = stage.session(Some("orders"));
        let program = format!(
            "import os, pymysql\n\
             env = os.environ\n\
             db = pymysql.connect(host=env['MYSQL_HOST'], port=int(env['MYSQL_PORT']), user=env['MYSQL_USER'],\n\
             \x20   password=env['MYSQL_PASSWORD'], database='orders_rw', ssl={{'ca': env['MYSQL_CA']}})\n\
             db.kill({id})\n\
             cursor = db.cursor()\n\
             cursor.execute('SELECT 7')\n\
             print(cursor.fetchone()[0])\n"
        );
        let mut command = stage.scene.lobby().command(installed("python").join("bin/python"));
        command.args(["-W", "ignore", "-c", &program]);
        assert_eq!(run(command, "", Duration::from_secs(60)).ok(), "7");
        is_ended(&victim.refusal());
        for client in MysqlClient::all() {
            let (mut victim, id) = stage.session(Some("orders"));
            assert_eq!(client.admin(&stage.scene.lobby(), &["kill", &id.to_string()]).ok(), "", "{client:?}");
            is_ended(&victim.refusal());
        }
    }
}
