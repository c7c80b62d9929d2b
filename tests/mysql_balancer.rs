//! Several servers behind one address: the numbers of their sessions are alike, and what stops one on its server harms none on another.

use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::bed::{Certificate, Login, Mysql, MysqlLeased, MysqlRaw, MysqlScene, MysqlShell, MysqlTold, eventually, mariadb};

const SLEEP: &str = "SELECT SLEEP(600)";
/// Sessions that the first server had more than the second, at the least.
const AHEAD: u32 = 20;

/// A TCP proxy that leads each connection to the next of its servers in turn. It ends with the run.
struct Balancer {
    port: u16,
    turn: Arc<AtomicUsize>,
}

impl Balancer {
    fn of(ports: Vec<u16>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (port, turn) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
        let its = Arc::clone(&turn);
        thread::spawn(move || {
            for client in listener.incoming() {
                let port = ports[its.fetch_add(1, Ordering::SeqCst) % ports.len()];
                let (Ok(client), Ok(server)) = (client, TcpStream::connect((Ipv4Addr::LOCALHOST, port))) else { continue };
                let pairs = [(&client, &server), (&server, &client)].map(|(from, to)| (from.try_clone(), to.try_clone()));
                for (from, to) in pairs {
                    thread::spawn(move || {
                        let (mut from, mut to) = (from?, to?);
                        let _ = io::copy(&mut from, &mut to);
                        to.shutdown(Shutdown::Write)
                    });
                }
            }
        });
        Self { port, turn }
    }

    /// The next connection goes to this server, and the ones behind it to the others in turn.
    fn next_is(&self, server: usize) {
        self.turn.store(server, Ordering::SeqCst);
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// Two servers with one account, and Keyward, which knows of one address.
struct Pair {
    servers: [Mysql; 2],
    balancer: Balancer,
    scene: MysqlScene,
    /// A session of that account on the second server, which has nothing to do with Keyward and the number that alice's has on the first.
    bystander: MysqlShell,
}

impl Pair {
    /// With alice's session at work. `None`: there are no such servers, and the run says so.
    fn at_work(name: &str, settings: &[&str]) -> Option<(Self, MysqlRaw, u32)> {
        let own = || Mysql::own(name, Certificate::OfTheBed, settings);
        let servers = [own()?, own()?];
        let [first, second] = &servers;
        let (Login { name, password }, database) = (first.login(first.plugins()[0]), first.database());
        second.sql("", &format!("CREATE DATABASE {database}; CREATE USER '{name}'@'%' IDENTIFIED BY '{password}'"));
        let balancer = Balancer::of(servers.iter().map(|server| server.port).collect());
        let scene = MysqlScene::of(Login { name, password }, &database, &balancer.address(), "", |config| config);
        eventually("Keyward has heard a server's greeting", || (scene.raw().greeting().version != "8.0.11-keyward").then_some(()));
        // Each greeting takes a number.
        let ahead = greeted(second) + AHEAD;
        while greeted(first) < ahead {}
        balancer.next_is(0);
        let mut raw = scene.raw();
        let id = raw.greeting().id;
        scene.log_in(&mut raw).unwrap();
        let number: u32 = raw.query("SELECT CONNECTION_ID()").unwrap()[0].parse().unwrap();
        while greeted(second) < number - 1 {}
        let bystander = MysqlShell::open(second.client, &second.verified_dsn(&scene.app));
        assert_eq!(bystander.ask("SELECT CONNECTION_ID()"), number.to_string(), "the two have the same number");
        bystander.tell(&format!("{SLEEP};"));
        raw.ask(SLEEP);
        let pair = Self { servers, balancer, scene, bystander };
        eventually("both are at work", || (pair.asleep() == [1, 1]).then_some(()));
        Some((pair, raw, id))
    }

    /// Queries that run on each server.
    fn asleep(&self) -> [usize; 2] {
        self.servers.each_ref().map(|server| server.running(&self.scene.app.name, "SLEEP(600)"))
    }

    fn lobby(&self) -> MysqlRaw {
        let mut raw = self.scene.raw();
        raw.log_in("alice", None, &self.scene.alice).unwrap();
        raw
    }
}

/// The number of a server's next session, which is none.
fn greeted(server: &Mysql) -> u32 {
    MysqlRaw::to(server.port).greeting().id
}

fn could_not_be_stopped() -> MysqlTold {
    let message = "keyward: the query could not be stopped (session ID)".to_owned();
    MysqlTold { sequence: 1, code: 1105, state: Some("HY000".to_owned()), message }
}

#[test]
fn a_session_is_killed_on_the_server_that_has_it_and_on_no_other() {
    for name in ["mariadb", "mysql-9"] {
        let Some((pair, mut raw, id)) = Pair::at_work(name, &["--performance-schema=ON"]) else { continue };
        // It is looked for on the second server first, where a session of the same account has its number.
        pair.balancer.next_is(1);
        assert_eq!(pair.lobby().query(&format!("KILL QUERY {id}")), Ok(Vec::new()), "{name}");
        assert!(raw.result().map_or_else(|told| told.code == 1317, |rows| rows == ["1"]));
        assert_eq!(pair.asleep(), [0, 1], "{name}");
        raw.ask(SLEEP);
        eventually("it is at work again", || (pair.asleep() == [1, 1]).then_some(()));
        pair.balancer.next_is(1);
        drop(raw);
        pair.servers[0].until_gone(&pair.scene.app.name);
        assert_eq!(pair.asleep(), [0, 1], "and the other one goes on, {name}");
        pair.bystander.interrupt();
    }
}

#[test]
fn what_cannot_be_known_for_the_sessions_own_is_not_killed() {
    // Without a performance schema nothing tells the two apart: the balancer has the ports of both.
    let (pair, raw, id) = Pair::at_work("mariadb", &[]).expect("it is always there");
    pair.scene.keyward.expect_log("a query could not be stopped on the server");
    for next in [0, 1] {
        pair.balancer.next_is(next);
        assert_eq!(pair.lobby().query(&format!("KILL QUERY {id}")), Err(could_not_be_stopped()));
        assert_eq!(pair.asleep(), [1, 1]);
    }
    pair.balancer.next_is(1);
    drop(raw);
    pair.scene.keyward.until_audit("closed", 1);
    // Its own SLEEP looks every five seconds whether its client is there, and may have ended by itself.
    let killed = pair.servers.each_ref().map(|server| server.sql("", "SHOW GLOBAL STATUS LIKE 'Com_kill'"));
    assert_eq!(killed, ["Com_kill\t0", "Com_kill\t0"], "the user is told, and the operator: nobody else pays for it");
    assert_eq!(pair.asleep()[1], 1, "and the other one goes on");
    pair.bystander.interrupt();
}

#[test]
fn an_account_of_the_sessions_own_is_proof_enough() {
    let server = mariadb();
    let balancer = Balancer::of(vec![server.port]);
    let stage = MysqlLeased::with(server, &format!("address: \"{}\"", balancer.address()), |config| config);
    let ((mut raw, id), (mut lobby, _)) = (stage.session(Some("orders_rw")), stage.session(None));
    let account = raw.account();
    let at_work = |raw: &mut MysqlRaw| {
        raw.ask(SLEEP);
        eventually("it is at work", || (server.running(&account, "SLEEP(600)") == 1).then_some(()));
    };
    at_work(&mut raw);
    assert_eq!(lobby.query(&format!("KILL QUERY {id}")), Ok(Vec::new()));
    assert!(raw.result().map_or_else(|told| told.code == 1317, |rows| rows == ["1"]));
    at_work(&mut raw);
    drop(raw);
    stage.until_nothing_is_left(&account);
}
