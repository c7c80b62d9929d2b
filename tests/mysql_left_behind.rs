//! What a session had under way on its server when it ended, or when its user changed: nothing of it runs on. And what the server does not
//! let be ended is not said to be.

use std::sync::LazyLock;

use crate::bed::{Mysql, MysqlRaw, MysqlScene, MysqlTold, canary, eventually, mariadb, mysql9};

const SLEEP: &str = "SELECT SLEEP(600)";
/// Where the first is stopped alone, the others run: MySQL takes a SLEEP of no table for done. In pieces, since one of more than five seconds
/// looks every five whether its client is there, and ends by itself if not.
static SEVERAL: LazyLock<String> =
    LazyLock::new(|| format!("SELECT {}; INSERT INTO done VALUES (1); SELECT SLEEP(3)", ["SLEEP(4)"; 150].join(" + ")));
const UTF8MB4: u16 = 45;

fn servers() -> impl Iterator<Item = &'static Mysql> {
    [Some(mariadb()), mysql9()].into_iter().flatten()
}

/// A session of alice's, and the id by which she knows it.
#[track_caller]
fn session(scene: &MysqlScene) -> (MysqlRaw, u32) {
    let mut raw = scene.raw();
    let id = raw.greeting().id;
    scene.log_in(&mut raw).unwrap();
    (raw, id)
}

#[track_caller]
fn lobby(scene: &MysqlScene) -> MysqlRaw {
    let mut raw = scene.raw();
    raw.log_in("alice", None, &scene.alice).unwrap();
    raw
}

#[track_caller]
fn until_asleep(server: &Mysql, scene: &MysqlScene) {
    eventually("it sleeps", || (server.running(&scene.app.name, "SLEEP(") == 1).then_some(()));
}

/// A session that is at the first of several statements.
#[track_caller]
fn at_work(server: &Mysql, scene: &MysqlScene) -> (MysqlRaw, u32) {
    let (mut raw, id) = session(scene);
    raw.ask(&SEVERAL);
    until_asleep(server, scene);
    (raw, id)
}

fn with_table(server: &Mysql) -> MysqlScene {
    let scene = MysqlScene::new(server);
    server.sql(&scene.database, "CREATE TABLE done (id INT)");
    scene
}

/// The later statements had their chance, and did not run.
#[track_caller]
fn was_not_done(server: &Mysql, scene: &MysqlScene, what: &str) {
    server.until_gone(&scene.app.name);
    assert_eq!(server.sql(&scene.database, "SELECT COUNT(*) FROM done"), "0", "{what}");
}

/// Brings this session of alice's, that she knows by this id, to its end.
type End = fn(&MysqlScene, MysqlRaw, u32);

/// What a session may come to its end by.
const ENDS: [(&str, End); 4] = [
    ("her KILL", |scene, mut raw, id| {
        assert_eq!(lobby(scene).query(&format!("KILL {id}")), Ok(Vec::new()));
        assert_eq!(raw.refusal().code, 1053);
    }),
    ("the operator's kill", |scene, mut raw, _| {
        let rows: serde_json::Value = serde_json::from_str(scene.keyward.cli(&["sessions", "--format", "json"]).ok()).unwrap();
        scene.keyward.cli(&["kill", rows[0]["session"].as_str().unwrap()]).ok();
        assert_eq!(raw.refusal().code, 1053);
    }),
    ("a client that vanishes", |_, raw, _| drop(raw)),
    ("a client that vanishes in the middle of a change of its user", |_, mut raw, _| {
        raw.command(0x11, b"alice\0\0orders\0\x2d\0");
        assert_eq!(raw.ordered().unwrap()[0], 0xfe);
        drop(raw);
    }),
];

#[test]
fn nothing_more_of_several_statements_runs_once_their_session_has_ended() {
    for server in servers() {
        let scene = with_table(server);
        for (what, end) in ENDS {
            let (raw, id) = at_work(server, &scene);
            end(&scene, raw, id);
            was_not_done(server, &scene, what);
        }
    }
}

#[test]
fn nothing_of_a_query_outlives_a_change_of_the_user_behind_it() {
    for server in servers() {
        let scene = with_table(server);
        let (mut raw, _) = at_work(server, &scene);
        // Nobody waits for what was asked before.
        raw.change_user("alice", "orders", UTF8MB4, &scene.alice).unwrap();
        eventually("the query is gone, and its session", || {
            let name = &scene.app.name;
            (server.running(name, "SLEEP") == 0 && server.sessions_of(name) == 1).then_some(())
        });
        assert_eq!(raw.query("SELECT COUNT(*) FROM done").unwrap(), ["0"], "the session goes on, and nothing was done");
        drop(raw);
        was_not_done(server, &scene, "after the end of the session");
    }
}

#[test]
fn a_kill_that_the_server_does_not_let_be_done_is_an_error() {
    for server in servers() {
        let scene = MysqlScene::new(server);
        scene.keyward.expect_log("a query could not be stopped on the server");
        let alter = |change: &str| server.sql("", &format!("ALTER USER '{}'@'%' {change}", scene.app.name));
        let changed = format!("IDENTIFIED BY '{}'", canary());
        let as_it_was = format!("IDENTIFIED BY '{}'", scene.app.password);
        let ((mut victim, id), (mut other, _), mut lobby) = (session(&scene), session(&scene), lobby(&scene));
        for (change, back) in [("ACCOUNT LOCK", "ACCOUNT UNLOCK"), (changed.as_str(), as_it_was.as_str())] {
            victim.ask(SLEEP);
            until_asleep(server, &scene);
            alter(change);
            for from in [&mut lobby, &mut other] {
                let told = from.query(&format!("KILL QUERY {id}"));
                let message = "keyward: the query could not be stopped (session ID)".to_owned();
                assert_eq!(told, Err(MysqlTold { sequence: 1, code: 1105, state: Some("HY000".to_owned()), message }), "{change}");
                assert_eq!(server.running(&scene.app.name, "SLEEP(600)"), 1, "{change}");
            }
            alter(back);
            assert_eq!(lobby.query(&format!("KILL QUERY {id}")), Ok(Vec::new()), "{back}");
            assert!(victim.result().map_or_else(|told| told.code == 1317, |rows| rows == ["1"]));
        }
        assert_eq!(victim.query("SELECT 'still here'").unwrap(), ["still here"]);
    }
}
