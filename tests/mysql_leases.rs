//! Dynamic credentials on MariaDB and MySQL: one account for one session, or for all that may share it, and gone with the last of them,
//! however it ends.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::bed::{
    Bao, Certificate, Mysql, MysqlClient, MysqlDsn, MysqlLeased, MysqlShell, bao, eventually, mariadb, masked, mysql9, within,
};

const DRAIN: &str = "limits: { drain_timeout: 1s }";

fn servers() -> impl Iterator<Item = &'static Mysql> {
    [Some(mariadb()), mysql9()].into_iter().flatten()
}

/// What takes its time: with all servers at the same time.
fn for_each_at_once(test: impl Fn(&'static Mysql) + Sync) {
    let test = &test;
    thread::scope(|scope| servers().for_each(|server| drop(scope.spawn(move || test(server)))));
}

/// Its own client, in a session that stays open.
fn open(server: &Mysql, dsn: &MysqlDsn) -> MysqlShell {
    MysqlShell::open(server.client, dsn)
}

#[track_caller]
fn until_gone(server: &Mysql, account: &str) {
    eventually(&format!("the account {account} is gone"), || (!server.has_user(account)).then_some(()));
}

#[track_caller]
fn until_asleep(server: &Mysql, account: &str) {
    eventually("the query runs", || (server.running(account, "SLEEP(600)") == 1).then_some(()));
}

#[test]
fn an_account_lives_as_long_as_its_session() {
    for server in servers() {
        let stage = MysqlLeased::new(server);
        let (one, other) = (open(server, &stage.dsn()), open(server, &stage.dsn()));
        let (account, another) = (one.account(), other.account());
        assert_ne!(account, another, "each session has its own");
        assert!(account.starts_with("v-") && server.has_user(&account), "{account}");
        assert_eq!(one.end(), "");
        until_gone(server, &account);
        assert!(server.has_user(&another));
        assert_eq!(other.ask("SELECT 'still here'"), "still here");
        assert_eq!(other.end(), "");
        stage.until_nothing_is_left(&another);
        let opened = stage.scene.keyward.until_audit("opened", 2);
        assert!(opened[0]["lease"].is_string() && opened[0]["lease"] != opened[1]["lease"], "{opened:?}");
    }
}

#[test]
fn a_killed_client_gives_its_lease_back_idle_and_in_the_middle_of_a_query() {
    for server in servers() {
        let stage = MysqlLeased::new(server);
        for client in MysqlClient::all() {
            let shell = MysqlShell::open(client, &stage.dsn());
            let account = shell.account();
            shell.kill9();
            stage.until_nothing_is_left(&account);
            let shell = MysqlShell::open(client, &stage.dsn());
            let account = shell.account();
            shell.tell("SELECT SLEEP(600);");
            until_asleep(server, &account);
            shell.kill9();
            stage.until_nothing_is_left(&account);
        }
    }
}

#[test]
fn what_a_killed_keyward_left_is_given_back_at_the_next_start() {
    for server in servers() {
        let stage = MysqlLeased::new(server);
        let client = open(server, &stage.dsn());
        let account = client.account();
        stage.scene.keyward.kill9();
        assert!(server.has_user(&account), "nobody was there to give it back");
        let next = stage.scene.keyward.start_again();
        stage.until_nothing_is_left(&account);
        assert_eq!(next.until_audit("closed", 1)[0]["outcome"], "crashed");
        drop(client);
    }
}

#[test]
fn a_terminated_keyward_gives_its_leases_back_before_it_ends() {
    for (server, keys) in servers().zip(["lease: per_session", "lease: shared"]) {
        let stage = MysqlLeased::with(server, keys, |config| config.line(DRAIN));
        let client = open(server, &stage.dsn());
        let account = client.account();
        stage.scene.keyward.sigterm();
        assert!(stage.scene.keyward.until_ended().success());
        // The store has it back: nobody is there any more who could still ask for that.
        stage.until_nothing_is_left(&account);
        let said = masked(&client.last_words());
        assert!(said.contains("ERROR 1053 (08S01)") && said.contains("keyward is shutting down; connect again (session ID)"), "{said}");
    }
}

#[test]
fn a_lease_is_renewed_while_its_session_lives() {
    for_each_at_once(|server| {
        let stage = MysqlLeased::of(bao(), server, ("20s", "1h"), "", |config| config);
        let client = open(server, &stage.dsn());
        let (account, begin) = (client.account(), Instant::now());
        // Twice its life: the account is still there and still usable.
        within(Duration::from_secs(80), "two lives of the lease have passed", || {
            assert_eq!(client.account(), account);
            std::thread::sleep(Duration::from_millis(300));
            (begin.elapsed() > Duration::from_secs(40)).then_some(())
        });
        assert_eq!(client.end(), "");
        stage.until_nothing_is_left(&account);
    });
}

#[test]
fn a_session_ends_before_the_last_second_of_its_lease_and_says_why() {
    for_each_at_once(|server| {
        let stage = MysqlLeased::of(bao(), server, ("20s", "20s"), "", |config| config);
        stage.scene.keyward.expect_log("lease");
        let (mut idle, _) = stage.session(Some("orders_rw"));
        let client = open(server, &stage.dsn());
        let (account, others) = (client.account(), idle.account());
        let words = "keyward: the session's credential has come to its end; connect again (session ID)";
        stage.scene.keyward.until_audit_within(Duration::from_secs(40), "closed", 2);
        let told = idle.refusal();
        assert_eq!((told.sequence, told.code, told.state.as_deref(), told.message.as_str()), (1, 1053, Some("08S01"), words));
        let said = masked(&client.last_words());
        assert!(said.contains(words), "{said}");
        for account in [account, others] {
            until_gone(server, &account);
        }
    });
}

#[test]
fn a_store_that_is_down_at_the_end_of_a_session_gets_the_lease_back_later() {
    let bao = Bao::own();
    for server in servers() {
        let stage = MysqlLeased::of(&bao, server, ("1h", "2h"), "", |config| config);
        stage.scene.keyward.expect_log("WARN").expect_log("ERROR");
        let client = open(server, &stage.dsn());
        let account = client.account();
        bao.kill9();
        assert_eq!(client.ask("SELECT 1"), "1", "a live session does not need the store");
        assert_eq!(client.end(), "");
        stage.scene.keyward.until_audit("closed", 1);
        bao.start_again();
        // Keyward tries again after up to half a minute.
        within(Duration::from_secs(60), "the account is gone", || (!server.has_user(&account)).then_some(()));
    }
}

#[test]
fn ctrl_c_needs_no_store() {
    let bao = Bao::own();
    for server in servers() {
        let stage = MysqlLeased::of(&bao, server, ("1h", "2h"), "", |config| config);
        stage.scene.keyward.expect_log("WARN").expect_log("ERROR");
        let client = open(server, &stage.dsn());
        let account = client.account();
        client.tell("SELECT SLEEP(600);");
        until_asleep(server, &account);
        bao.signal(Signal::STOP);
        client.interrupt();
        client.rest();
        assert_eq!(client.ask("SELECT 'still here'"), "still here");
        bao.signal(Signal::CONT);
        client.end();
        stage.until_nothing_is_left(&account);
    }
}

#[test]
fn a_server_killed_under_a_session_ends_it_and_the_account_goes_once_it_is_back() {
    let server = Mysql::own("mariadb", Certificate::OfTheBed, &[]).unwrap();
    let stage = MysqlLeased::new(&server);
    stage.scene.keyward.expect_log("a query could not be stopped on the server");
    let client = open(&server, &stage.dsn());
    let account = client.account();
    server.kill9();
    let closed = stage.scene.keyward.until_audit("closed", 1);
    assert!(["upstream", "upstream_failed"].contains(&closed[0]["outcome"].as_str().unwrap()), "{closed:?}");
    server.start();
    // The store took the lease back while the server was down, and tries to drop the account again in its own time: after about 10 s,
    // then 20.
    within(Duration::from_secs(90), "the server is back and the store has dropped the account", || {
        (!server.has_user(&account)).then_some(())
    });
    drop(client);
}

#[test]
fn sessions_of_a_user_that_overlap_use_one_account_and_the_last_gives_it_back() {
    for server in servers() {
        let stage = MysqlLeased::with(server, "lease: per_user", |config| config);
        let (first, second) = (open(server, &stage.dsn()), open(server, &stage.dsn()));
        let shared = first.account();
        assert_eq!(second.account(), shared);
        let others = open(server, &stage.carols());
        assert_ne!(others.account(), shared, "another user has her own");
        assert_eq!((stage.leases.leases(), server.sessions_of(&shared)), (2, 2));
        assert_eq!(first.end(), "");
        let third = open(server, &stage.dsn());
        assert_eq!(third.account(), shared, "it lives as long as somebody uses it");
        second.kill9();
        stage.scene.keyward.until_audit("closed", 2);
        assert_eq!(third.account(), shared);
        assert_eq!(third.end(), "");
        until_gone(server, &shared);
        let hers = others.account();
        assert_eq!(others.end(), "");
        stage.until_nothing_is_left(&hers);
        let next = open(server, &stage.dsn());
        assert_ne!(next.account(), shared, "they did not overlap");
        let metrics = stage.scene.keyward.http("/metrics").body;
        assert!(metrics.contains("event=\"joined\"} 2") && metrics.contains("event=\"issued\"} 3"), "{metrics}");
    }
}

#[test]
fn a_session_may_end_another_one_that_shares_its_account_by_the_servers_own_number() {
    for server in servers() {
        let stage = MysqlLeased::with(server, "lease: shared", |config| config);
        let ((mut busy, _), (mut idle, _)) = (stage.session(Some("orders_rw")), stage.carols_session(Some("orders_rw")));
        let (shared, number) = (busy.account(), busy.query("SELECT CONNECTION_ID()").unwrap().remove(0));
        assert_eq!((idle.account(), stage.leases.leases()), (shared.clone(), 1));
        busy.ask("SELECT SLEEP(600)");
        let line = eventually("it is in the list of processes", || {
            let list = idle.query("SHOW PROCESSLIST").unwrap();
            list.into_iter().find(|line| line.contains("SLEEP(600)"))
        });
        assert_eq!(line.split('\t').next(), Some(number.as_str()));
        assert_eq!(idle.query(&format!("KILL QUERY {number}")), Ok(Vec::new()));
        assert!(busy.result().map_or_else(|told| told.code == 1317, |rows| rows == ["1"]));
        assert_eq!(idle.query(&format!("KILL {number}")), Ok(Vec::new()));
        assert_eq!(busy.packet(), None, "the server says nothing to whom it ends");
        assert_eq!(stage.scene.keyward.until_audit("closed", 1)[0]["outcome"], "upstream");
        assert_eq!((idle.account(), stage.leases.leases()), (shared.clone(), 1));
        drop(idle);
        stage.until_nothing_is_left(&shared);
    }
}

#[test]
fn a_client_killed_beside_others_stops_its_own_query_and_disturbs_none_of_them() {
    for server in servers() {
        let stage = MysqlLeased::with(server, "lease: shared", |config| config);
        let (first, second) = (open(server, &stage.dsn()), open(server, &stage.carols()));
        let shared = first.account();
        first.tell("SELECT SLEEP(600);");
        second.tell("SELECT SLEEP(600);");
        eventually("both sleep", || (server.running(&shared, "SLEEP(600)") == 2).then_some(()));
        first.kill9();
        stage.scene.keyward.until_audit("closed", 1);
        eventually("its query is stopped", || (server.sessions_of(&shared) == 1).then_some(()));
        assert_eq!((server.running(&shared, "SLEEP(600)"), stage.leases.leases()), (1, 1));
        second.interrupt();
        second.rest();
        assert_eq!(second.account(), shared);
        second.end();
        stage.until_nothing_is_left(&shared);
    }
}

#[test]
fn twenty_clients_at_once_make_one_account() {
    for server in servers() {
        let stage = MysqlLeased::with(server, "lease: shared", |config| config);
        let clients: Vec<_> = thread::scope(|scope| {
            let come = |number| if number % 2 == 0 { stage.session(Some("orders_rw")) } else { stage.carols_session(Some("orders_rw")) };
            let threads: Vec<_> = (0..20).map(|number| scope.spawn(move || come(number).0)).collect();
            threads.into_iter().map(|client| client.join().unwrap()).collect()
        });
        let mut clients = clients;
        let shared = clients[0].account();
        assert!(clients.iter_mut().all(|client| client.account() == shared));
        assert_eq!((stage.leases.leases(), server.sessions_of(&shared)), (1, 20));
        let metrics = stage.scene.keyward.http("/metrics").body;
        assert!(metrics.contains("event=\"issued\"} 1") && metrics.contains("event=\"joined\"} 19"), "{metrics}");
        drop(clients);
        stage.until_nothing_is_left(&shared);
    }
}

#[test]
fn a_lease_that_leaves_a_session_too_little_is_not_joined() {
    for (keys, joined) in [("lease: shared", false), ("lease: shared, min_session: 1s", true)] {
        let stage = MysqlLeased::of(bao(), mariadb(), ("50s", "50s"), keys, |config| config);
        let ((mut first, _), (mut second, _)) = (stage.session(Some("orders_rw")), stage.session(Some("orders_rw")));
        assert_eq!(first.account() == second.account(), joined, "{keys}");
    }
}
