//! What breaks on the way: a client that leaves at any step of the login, a server that is cut off or slow. Nothing is left behind: no
//! lease, no account, no session of the server's.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::bed::{Bao, Certificate, Hello, Mysql, MysqlClient, MysqlLeased, MysqlRaw, MysqlScene, eventually, mariadb, mysql9, seal};

fn servers() -> impl Iterator<Item = &'static Mysql> {
    [Some(mariadb()), mysql9()].into_iter().flatten()
}

/// A way to a server that is cut once the server has said so many bytes, or that lets one byte through at a time.
struct Way {
    address: String,
    most: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl Way {
    const UNCUT: usize = usize::MAX;

    fn to(server: &Mysql, piece: usize) -> Self {
        let (listener, port) = (TcpListener::bind("127.0.0.1:0").unwrap(), server.port);
        let way = Self { address: listener.local_addr().unwrap().to_string(), most: Arc::new(Self::UNCUT.into()), open: Arc::default() };
        let (most, open) = (Arc::clone(&way.most), Arc::clone(&way.open));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let (from, to, most, open) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap(), Arc::clone(&most), Arc::clone(&open));
                open.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || copy(from, to, piece, Self::UNCUT));
                thread::spawn(move || {
                    copy(server, client, piece, most.load(Ordering::SeqCst));
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        way
    }

    fn cut_after(&self, bytes: usize) {
        self.most.store(bytes, Ordering::SeqCst);
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, piece: usize, most: usize) {
    let (mut buffer, mut left) = ([0; 16 * 1024], most);
    while left > 0 {
        let room = buffer.len().min(piece).min(left);
        let Ok(bytes @ 1..) = from.read(&mut buffer[..room]) else { break };
        if to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
        left -= bytes;
        if piece == 1 {
            thread::sleep(Duration::from_micros(100)); // a slow line; a KILL of some 900 bytes has five seconds in all
        }
    }
    let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
}

fn through<'a>(server: &'a Mysql, way: &Way) -> MysqlLeased<'a> {
    let stage = MysqlLeased::with(server, &format!("address: \"{}\"", way.address), |config| config);
    eventually("the server's greeting is known", || (way.open.load(Ordering::SeqCst) == 0).then_some(()));
    stage
}

#[test]
fn a_server_that_is_cut_off_anywhere_in_its_login_leaves_no_lease_and_no_session() {
    for server in servers() {
        let way = Way::to(server, 16 * 1024);
        let stage = through(server, &way);
        stage.scene.keyward.expect_log("upstream_unreachable");
        let mut refused = 0;
        // Up to the length at which the login gets through.
        let mut whole = (1..).step_by(11).find_map(|bytes| {
            way.cut_after(bytes);
            let mut raw = stage.scene.raw();
            let told = match raw.log_in("alice", Some("orders_rw"), &stage.scene.alice) {
                Ok(()) => return Some(raw),
                Err(told) => told,
            };
            let words = "keyward: the server behind this connection cannot be reached (session ID)";
            assert_eq!((told.code, told.message.as_str()), (1429, words), "cut after {bytes}");
            refused += 1;
            eventually("its lease is back", || (stage.leases.leases() == 0).then_some(()));
            None
        });
        assert!(refused > 5, "{refused}");
        // What it still may say is cut off, too.
        let whole = whole.as_mut().expect("the login came through in the end");
        whole.ask("SELECT REPEAT('x', 1000000)");
        assert!(whole.rest().len() < 1_000_000);
        assert_eq!(stage.scene.keyward.until_audit("closed", 1)[0]["outcome"], "upstream");
        eventually("no lease is left", || (stage.leases.leases() == 0).then_some(()));
        eventually("no way to the server is left", || (way.open.load(Ordering::SeqCst) == 0).then_some(()));
        assert_eq!(stage.scene.keyward.cli(&["sessions", "--format", "json"]).ok(), "[]");
    }
}

#[test]
fn a_server_that_is_cut_off_in_the_middle_of_a_result_ends_that_session_only() {
    for server in servers() {
        let way = Way::to(server, 16 * 1024);
        let stage = through(server, &way);
        let (mut bystander, _) = stage.session(Some("orders_rw"));
        for bytes in [1000, 100_003, 3_000_017] {
            way.cut_after(bytes);
            let (mut raw, _) = stage.session(Some("orders_rw"));
            let account = raw.account();
            raw.ask(
                "SELECT REPEAT('x', 500000) FROM (SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4) a, (SELECT 1 UNION SELECT 2) b",
            );
            let said = raw.rest().len();
            assert!(said <= bytes, "{said} of {bytes}");
            eventually("its account is gone", || (!server.has_user(&account)).then_some(()));
            way.cut_after(Way::UNCUT);
            assert_eq!(bystander.query("SELECT 42").unwrap(), ["42"]);
        }
        let closed = stage.scene.keyward.until_audit("closed", 3);
        assert!(closed.iter().all(|record| record["outcome"] == "upstream"), "{closed:?}");
        let account = bystander.account();
        drop(bystander);
        stage.until_nothing_is_left(&account);
        for client in MysqlClient::all() {
            way.cut_after(100_000);
            let said = client.run(&stage.dsn(), "SELECT REPEAT('x', 500000)");
            assert!(said.code == Some(1) && said.stderr.contains("ERROR 2013"), "{client:?}: {said:?}");
        }
        eventually("no lease is left", || (stage.leases.leases() == 0).then_some(()));
    }
}

#[test]
fn a_slow_line_to_the_server_is_slow_and_nothing_else() {
    for server in servers() {
        let way = Way::to(server, 1);
        let stage = through(server, &way);
        let (mut raw, id) = stage.session(Some("orders_rw"));
        let account = raw.account();
        assert_eq!(raw.query("SELECT REPEAT('x', 300), 'behind'").unwrap(), [format!("{}\tbehind", "x".repeat(300))]);
        raw.change_user("alice", "orders_rw", 45, &stage.scene.alice).unwrap();
        raw.ask("SELECT SLEEP(600)");
        eventually("it sleeps", || (server.running(&account, "SLEEP(600)") == 1).then_some(()));
        let (mut lobby, _) = stage.session(None);
        assert_eq!(lobby.query(&format!("KILL QUERY {id}")), Ok(Vec::new()));
        assert!(raw.result().map_or_else(|told| told.code == 1317, |rows| rows == ["1"]));
        drop(raw);
        stage.until_nothing_is_left(&account);
    }
}

#[test]
fn a_server_that_does_not_answer_does_not_keep_a_session_from_being_killed() {
    let server = Mysql::own("mariadb", Certificate::OfTheBed, &[]).unwrap();
    let stage = MysqlLeased::new(&server);
    stage.scene.keyward.expect_log("a query could not be stopped on the server");
    let ((mut victim, id), (mut lobby, _)) = (stage.session(Some("orders")), stage.session(None));
    server.signal(Signal::STOP);
    victim.ask("SELECT SLEEP(600)");
    assert_eq!(lobby.query(&format!("KILL {id}")), Ok(Vec::new()));
    let told = victim.refusal();
    assert_eq!((told.code, told.message.as_str()), (1053, "keyward: the session was ended by its user (session ID)"));
    assert_eq!(stage.scene.keyward.until_audit("closed", 1)[0]["outcome"], "killed_by_user");
    server.signal(Signal::CONT);
    server.until_gone(&stage.scene.app.name);
}

#[test]
fn a_session_whose_answers_are_not_looked_into_is_killed_without_a_word_and_nothing_else_is_different() {
    for server in servers() {
        let stage = MysqlLeased::with(server, "relay: raw", |config| config);
        let ((mut victim, id), (mut lobby, _)) = (stage.session(Some("orders_rw")), stage.session(None));
        let account = victim.account();
        for _ in 0..2 {
            victim.ask("SELECT SLEEP(600)");
            eventually("it sleeps", || (server.running(&account, "SLEEP(600)") == 1).then_some(()));
            assert_eq!(lobby.query(&format!("KILL QUERY {id}")), Ok(Vec::new()));
            assert!(victim.result().map_or_else(|told| told.code == 1317, |rows| rows == ["1"]));
            victim.change_user("alice", "orders_rw", 45, &stage.scene.alice).unwrap();
        }
        assert_eq!(victim.query("KILL 4294967295").unwrap_err().code, 1094);
        assert_eq!(lobby.query(&format!("KILL {id}")), Ok(Vec::new()));
        assert_eq!(victim.packet(), None);
        stage.until_nothing_is_left(&account);
    }
}

/// A client that has come this far, up to the sealed password.
fn come(scene: &MysqlScene, steps: usize) -> MysqlRaw {
    let mut raw = scene.raw();
    if steps == 0 {
        return raw;
    }
    let greeting = raw.greeting();
    if steps > 1 {
        raw.say(&Hello::new("alice", Some("orders_rw")).encode());
    }
    if steps > 2 {
        assert_eq!(raw.ordered().unwrap(), [1, 4]);
    }
    if steps > 3 {
        raw.say(&[2]);
    }
    if steps > 4 {
        let key = raw.ordered().unwrap();
        let sealed = seal(&key[1..], &greeting.scramble, &scene.alice);
        raw.say(&sealed);
    }
    raw
}

#[test]
fn a_client_that_leaves_at_any_step_of_the_login_leaves_nothing_behind() {
    for server in servers() {
        let stage = MysqlLeased::new(server);
        for steps in 0..=5 {
            for _ in 0..3 {
                drop(come(&stage.scene, steps));
            }
        }
        // The last of them are on their way in, and find out.
        let counted = |line: &str| stage.scene.keyward.http("/metrics").body.contains(line);
        eventually("all have left", || {
            let [opened, closed] =
                ["opened", "closed"].map(|event| stage.scene.keyward.audit().iter().filter(|record| record["event"] == event).count());
            (opened == closed && counted("keyward_links_total{protocol=\"mysql\"} 18\n")).then_some(())
        });
        eventually("no lease is left", || (stage.leases.leases() == 0).then_some(()));
        // And one that does not leave is served.
        let (mut raw, _) = stage.session(Some("orders_rw"));
        let account = raw.account();
        drop(raw);
        stage.until_nothing_is_left(&account);
        eventually("no session is left", || (stage.scene.keyward.cli(&["sessions", "--format", "json"]).ok() == "[]").then_some(()));
    }
}

#[test]
fn a_client_that_leaves_while_the_store_makes_its_account_leaves_none() {
    let bao = Bao::own();
    for server in servers() {
        let stage = MysqlLeased::of(&bao, server, ("1h", "2h"), "", |config| config);
        let (raw, _) = stage.session(Some("orders_rw"));
        drop(raw);
        eventually("that lease is back", || (stage.leases.leases() == 0).then_some(()));
        let journal = stage.scene.keyward.state().join("leases.journal");
        let asked = || std::fs::read_to_string(&journal).unwrap_or_default().matches("\"asked\"").count();
        bao.signal(Signal::STOP);
        let raw = come(&stage.scene, 5);
        eventually("the account is asked for", || (asked() == 2).then_some(()));
        drop(raw);
        bao.signal(Signal::CONT);
        eventually("its session has come to its end", || {
            let closed = stage.scene.keyward.audit().iter().filter(|record| record["event"] == "closed").count();
            (closed == 2 || stage.scene.keyward.audit().iter().any(|record| record["event"] == "refused")).then_some(())
        });
        eventually("no lease is left", || (stage.leases.leases() == 0).then_some(()));
    }
}

/// One of a crowd: what it does is always the same for the same seed.
fn wander(stage: &MysqlLeased<'_>, seed: u64, ids: &Mutex<Vec<u32>>) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut any = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for _ in 0..8 {
        let connection = if any(4) == 0 { "orders" } else { "orders_rw" };
        let (mut raw, id) = stage.session(Some(connection));
        ids.lock().unwrap().push(id);
        for _ in 0..any(6) {
            let other = ids.lock().unwrap().iter().rev().nth(usize::try_from(any(12)).unwrap()).copied().unwrap_or(id);
            // Others end it at any time, so that nothing of it has to succeed.
            match any(7) {
                0 => drop(raw.ask(&format!("KILL {other}"))),
                1 | 2 => drop(raw.ask(&format!("KILL QUERY {other}"))),
                3 => drop(raw.command(0x11, b"alice\0\0\0\x2d\0").say(&[7; 32])),
                4 => drop(raw.ask("SELECT SLEEP(0.05)")),
                5 => drop(raw.ask("SELECT REPEAT('x', 2000000)")),
                _ => drop(raw.ask("SELECT 1")),
            }
            if any(3) == 0 {
                break;
            }
            if any(2) == 0 && raw.packet().is_none() {
                break;
            }
        }
    }
}

#[test]
fn a_crowd_that_kills_and_changes_and_leaves_at_random_leaves_nothing_behind() {
    for (server, keys) in servers().flat_map(|server| [(server, "lease: per_session"), (server, "lease: per_user")]) {
        let stage = MysqlLeased::with(server, keys, |config| config);
        let (mut bystander, _) = stage.carols_session(Some("orders_rw"));
        let account = bystander.account();
        let ids = Mutex::default();
        thread::scope(|scope| {
            (1..=8).for_each(|seed| {
                drop(scope.spawn({
                    let (stage, ids) = (&stage, &ids);
                    move || wander(stage, seed, ids)
                }))
            })
        });
        let keyward = &stage.scene.keyward;
        eventually("one session is left", || {
            let sessions: serde_json::Value = serde_json::from_str(keyward.cli(&["sessions", "--format", "json"]).ok()).unwrap();
            (sessions.as_array().map(Vec::len) == Some(1)).then_some(())
        });
        eventually("one lease is left", || (stage.leases.leases() == 1).then_some(()));
        server.until_gone(&stage.scene.app.name);
        assert_eq!(keyward.until_audit("closed", 64).len(), 64);
        assert_eq!((bystander.query("SELECT 42").unwrap(), server.sessions_of(&account)), (vec!["42".to_owned()], 1));
        drop(bystander);
        stage.until_nothing_is_left(&account);
    }
}
