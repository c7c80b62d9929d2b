//! The lobby: a user who is proven and names no connection. There is no server behind it and no lease, and nothing of it is recorded as a
//! session.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::bed::{
    Login, Mysql, MysqlClient, MysqlLeased, MysqlRaw, MysqlScene, MysqlShell, MysqlTold, eventually, free_port, mariadb, masked, mysql9,
};

const COM_QUIT: u8 = 1;
const COM_PING: u8 = 0x0e;
const LOST: &str = "keyward: the login names no connection: name one as the database, or log in as user+connection";

fn servers() -> impl Iterator<Item = &'static Mysql> {
    [Some(mariadb()), mysql9()].into_iter().flatten()
}

#[track_caller]
fn lobby(scene: &MysqlScene) -> MysqlRaw {
    let mut raw = scene.raw();
    raw.log_in("alice", None, &scene.alice).expect("alice is let in");
    raw
}

#[track_caller]
fn pings(raw: &mut MysqlRaw) {
    raw.command(COM_PING, b"");
    assert_eq!(raw.ordered().expect("an answer")[0], 0);
}

/// A way to a server that counts who takes it.
fn counted(server: &Mysql) -> (String, Arc<AtomicUsize>) {
    let (listener, port, count) = (TcpListener::bind("127.0.0.1:0").unwrap(), server.port, Arc::new(AtomicUsize::new(0)));
    let (address, taken) = (listener.local_addr().unwrap().to_string(), Arc::clone(&count));
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            taken.fetch_add(1, Ordering::SeqCst);
            let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || copy(from, to));
            thread::spawn(move || copy(server, client));
        }
    });
    (address, count)
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn nobody_who_names_no_connection_costs_a_lease_or_a_way_upstream() {
    for server in servers() {
        let (address, dialled) = counted(server);
        let stage = MysqlLeased::with(server, &format!("address: \"{address}\""), |config| config);
        eventually("the server was asked for its greeting", || (dialled.load(Ordering::SeqCst) == 1).then_some(()));
        let calls = || {
            let metrics = stage.scene.keyward.http("/metrics").body;
            metrics
                .lines()
                .filter(|line| line.starts_with("keyward_store_c") || line.starts_with("keyward_leases"))
                .map(str::to_owned)
                .collect()
        };
        let before: Vec<String> = calls();
        for _ in 0..5 {
            let mut raw = lobby(&stage.scene);
            pings(&mut raw);
            assert_eq!(raw.query("SELECT * FROM mine").unwrap_err().code, 1046);
            assert_eq!(raw.query("KILL 4294967295").unwrap_err().code, 1094);
            assert_eq!(raw.command(COM_QUIT, b"").packet(), None);
        }
        for client in MysqlClient::all() {
            client.run(&stage.scene.lobby(), "SELECT 1").refused();
            assert!(client.admin(&stage.scene.lobby(), &["ping"]).ok().contains("alive"), "{client:?}");
        }
        assert_eq!(calls(), before, "a store was asked");
        assert_eq!((dialled.load(Ordering::SeqCst), stage.leases.leases()), (1, 0));
        assert_eq!(stage.scene.keyward.audit(), Vec::<serde_json::Value>::new());
        // And who names one, does.
        let (mut raw, _) = stage.session(Some("orders_rw"));
        pings(&mut raw);
        assert_eq!((dialled.load(Ordering::SeqCst), stage.leases.leases()), (2, 1));
    }
}

#[test]
fn who_may_reach_nothing_is_told_no_names() {
    let dave = crate::bed::canary();
    let scene = MysqlScene::with(mariadb(), "", |config| config.user("dave", &dave));
    let mut raw = scene.raw();
    raw.log_in("dave", None, &dave).unwrap();
    let told = raw.query("SELECT 1").unwrap_err();
    let wanted = MysqlTold { sequence: 1, code: 1046, state: Some("3D000".to_owned()), message: format!("{LOST} (session ID)") };
    assert_eq!(told, wanted);
    pings(&mut raw);
}

#[test]
fn all_that_a_user_may_reach_is_named_and_no_more() {
    let stage = MysqlLeased::new(mariadb());
    let (mut raw, _) = stage.session(None);
    // The names that other users reach, alice does not hear: payroll.
    assert_eq!(raw.query("SHOW TABLES").unwrap_err().message, format!("{LOST}; you may reach: orders, orders_rw (session ID)"));
    for (command, argument) in [(2, "orders"), (4, "mine\0"), (9, ""), (0x16, "SELECT 1"), (0x1f, ""), (0x12, "")] {
        let (sequence, said) = raw.command(command, argument.as_bytes()).packet().expect("an answer");
        assert_eq!(MysqlTold::of(sequence, &said).code, 1046, "{command:#x}");
    }
    pings(&mut raw);
    for client in MysqlClient::all() {
        let said = masked(client.run(&stage.scene.lobby(), "USE orders").refused());
        assert!(
            said.contains("ERROR 1046 (3D000)") && said.contains("you may reach: orders, orders_rw (session ID)"),
            "{client:?}: {said}"
        );
    }
}

#[test]
fn of_more_names_than_an_error_has_room_for_whole_ones_are_told_and_that_there_are_more() {
    let scene = MysqlScene::with(mariadb(), "", |config| {
        let body = "address: '127.0.0.1:1', username: { literal: app }, password: { literal: throw_away }";
        let names = (10..40).map(|number| format!("prod-orders-{number}"));
        names.fold(config, |config, name| config.mysql_connection(&name, body)).allow("alice", "prod-orders-*")
    });
    let mut raw = scene.raw();
    raw.log_in("alice", None, &scene.alice).unwrap();
    let said = [raw.query("SELECT 1").unwrap_err().message]
        .into_iter()
        .chain(MysqlClient::all().into_iter().map(|client| masked(client.run(&scene.lobby(), "SELECT 1").refused())));
    for said in said {
        let listed = said.split_once("; you may reach: ").and_then(|(_, names)| names.strip_suffix(", ... (session ID)"));
        let listed: Vec<&str> = listed.unwrap_or_else(|| panic!("{said}")).split(", ").collect();
        assert!(listed.len() > 20, "{said}");
        let all = std::iter::once("orders".to_owned()).chain((10..40).map(|number| format!("prod-orders-{number}")));
        assert!(all.take(listed.len()).eq(listed), "{said}");
    }
    pings(&mut raw);
}

#[test]
fn a_session_can_be_killed_from_the_lobby_by_its_user_and_by_nobody_else() {
    for server in servers() {
        let stage = MysqlLeased::new(server);
        let ((mut victim, id), (mut other, _)) = (stage.session(Some("orders_rw")), stage.carols_session(None));
        let account = victim.account();
        assert_eq!(other.query(&format!("KILL {id}")).unwrap_err().code, 1094);
        pings(&mut victim);
        // Of ids that are a server's: there is no server here.
        let (mut lobby, own) = stage.session(None);
        for id in [1, u64::from(own), u64::from(u32::MAX) + 1, u64::MAX] {
            let told = lobby.query(&format!("KILL QUERY {id}")).unwrap_err();
            assert_eq!((told.code, told.message), (1094, format!("Unknown thread id: {id}")));
        }
        assert_eq!(lobby.query(&format!("KILL {id}")), Ok(Vec::new()));
        let told = victim.refusal();
        assert_eq!((told.code, told.message.as_str()), (1053, "keyward: the session was ended by its user (session ID)"));
        stage.until_nothing_is_left(&account);
        pings(&mut lobby);
    }
}

#[test]
fn a_newcomer_takes_the_place_of_one_who_waits_in_the_lobby() {
    let scene = MysqlScene::with(mariadb(), "", |config| config.line("limits: { handshakes: 2, handshake_timeout: 10m }"));
    let (mut first, mut second) = (lobby(&scene), lobby(&scene));
    // Once they have had their chance, the oldest goes.
    eventually("there is a place", || MysqlClient::Mariadb.run(&scene.dsn(), "SELECT 1").stdout.starts_with('1').then_some(()));
    let told = first.refusal();
    let wanted = (1, 1040, "keyward: too many connections; try again later (session ID)");
    assert_eq!((told.sequence, told.code, told.message.as_str()), wanted);
    // And it is one that goes, for one that comes.
    pings(&mut second);
    scene.keyward.sigterm();
    let told = second.refusal();
    assert_eq!((told.code, told.message.as_str()), (1053, "keyward: keyward is shutting down; connect again (session ID)"));
    scene.keyward.until_ended();
    let denied: Vec<_> = scene.keyward.audit().into_iter().filter(|record| record["event"] == "denied").collect();
    assert!(denied.is_empty(), "both were let in: {denied:?}");
}

#[test]
fn ctrl_c_works_where_no_further_session_is_allowed() {
    let scene = MysqlScene::with(mariadb(), "", |config| config.line("limits: { sessions: 1 }"));
    for client in MysqlClient::all() {
        let shell = MysqlShell::open(client, &scene.dsn());
        assert_eq!(scene.log_in(&mut scene.raw()).unwrap_err().code, 1040);
        shell.tell("SELECT SLEEP(600);");
        eventually("it sleeps", || (mariadb().running(&scene.app.name, "SLEEP(600)") == 1).then_some(()));
        shell.interrupt();
        assert!(shell.rest().contains("1317"), "{client:?}");
        assert_eq!(shell.end(), "");
        mariadb().until_gone(&scene.app.name);
    }
}

#[test]
fn a_lobby_outlives_the_time_of_a_handshake() {
    let scene = MysqlScene::with(mariadb(), "", |config| config.line("limits: { handshake_timeout: 8s }"));
    let (mut waits, mut silent) = (lobby(&scene), scene.raw());
    silent.greeting();
    // The other one is a measure of the time.
    assert_eq!(silent.refusal().code, 1159);
    pings(&mut waits);
}

#[test]
fn a_server_that_is_away_keeps_nobody_out_of_the_lobby() {
    let nowhere = format!("127.0.0.1:{}", free_port());
    let login = Login { name: "app".to_owned(), password: crate::bed::canary() };
    let scene = MysqlScene::of(login, "shop", &nowhere, "", |config| config);
    let mut raw = lobby(&scene);
    pings(&mut raw);
    assert_eq!(raw.query("SELECT 1").unwrap_err().message, format!("{LOST}; you may reach: orders (session ID)"));
    for client in MysqlClient::all() {
        assert!(client.admin(&scene.lobby(), &["ping"]).ok().contains("alive"), "{client:?}");
    }
}

#[test]
fn who_is_locked_out_or_wrong_is_not_let_into_the_lobby() {
    let scene = MysqlScene::with(mariadb(), "", |config| config.line("limits: { failed_logins: 2, lock_time: 1h }"));
    for _ in 0..2 {
        let (wrong, nobody) = (scene.raw().log_in("alice", None, "wrong"), scene.raw().log_in("mallory", None, "wrong"));
        assert_eq!(wrong, nobody);
        assert_eq!(wrong.unwrap_err().code, 1045);
    }
    assert_eq!(scene.raw().log_in("alice", None, &scene.alice).unwrap_err().code, 3955);
}
