//! A dynamic credential: one role in PostgreSQL for one session, and gone with it, however it ends.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::bed::{Bao, Config, Database, Dsn, Keyward, Postgres, Psql, bao, canary, eventually, postgres15, psql, within};

/// alice may reach `orders_rw`, whose credential is a lease.
fn config(bao: &Bao, database: &Database<'_>, postgres: &Postgres, alice: &str) -> Config {
    let creds = database.creds();
    let body = format!("address: \"{}\", database: postgres, store: corp, credential: {creds}", postgres.address());
    Config::new().store("corp", bao, &bao.approle(&[&creds])).connection("orders_rw", &body).user("alice", alice).allow("alice", "orders*")
}

fn start(database: &Database<'_>) -> (Keyward, Dsn) {
    let alice = canary();
    let keyward = Keyward::start(&config(bao(), database, postgres15(), &alice));
    let dsn = keyward.dsn("alice", &alice, "orders_rw");
    (keyward, dsn)
}

fn until_gone(role: &str) {
    eventually(&format!("the role {role} is gone"), || (!postgres15().has_role(role)).then_some(()));
}

#[test]
fn a_dynamic_role_lives_as_long_as_its_session() {
    let database = bao().enable_database(postgres15(), "1h", "2h");
    let (keyward, dsn) = start(&database);
    let (one, other) = (Psql::open(&dsn), Psql::open(&dsn));
    let (role, another) = (one.ask("SELECT current_user"), other.ask("SELECT current_user"));
    assert_ne!(role, another, "each session has its own");
    assert!(role.starts_with("v-approle-") && postgres15().has_role(&role));
    assert_eq!(one.end(), "");
    until_gone(&role);
    assert!(postgres15().has_role(&another));
    assert_eq!(other.end(), "");
    until_gone(&another);
    eventually("no lease is left", || (database.leases() == 0).then_some(()));
    let opened = keyward.until_audit("opened", 2);
    assert!(opened[0]["lease"].is_string() && opened[0]["lease"] != opened[1]["lease"], "{opened:?}");
}

#[test]
fn a_killed_client_gives_its_lease_back() {
    let database = bao().enable_database(postgres15(), "1h", "2h");
    let (_keyward, dsn) = start(&database);
    let client = Psql::open(&dsn);
    let role = client.ask("SELECT current_user");
    client.kill9();
    until_gone(&role);
}

#[test]
fn a_client_killed_in_the_middle_of_a_query_gives_its_lease_back() {
    let database = bao().enable_database(postgres15(), "1h", "2h");
    let (_keyward, dsn) = start(&database);
    let client = Psql::open(&dsn);
    let role = client.ask("SELECT current_user");
    client.tell("SELECT pg_sleep(600);");
    eventually("the query runs", || (postgres15().sessions_of(&role) == 1).then_some(()));
    client.kill9();
    until_gone(&role);
    assert_eq!(postgres15().sessions_of(&role), 0);
}

#[test]
fn what_a_killed_keyward_left_is_given_back_at_the_next_start() {
    let database = bao().enable_database(postgres15(), "1h", "2h");
    let (keyward, dsn) = start(&database);
    let client = Psql::open(&dsn);
    let role = client.ask("SELECT current_user");
    keyward.kill9();
    assert!(postgres15().has_role(&role), "nobody was there to give it back");
    let next = keyward.start_again();
    until_gone(&role);
    eventually("no lease is left", || (database.leases() == 0).then_some(()));
    let closed = next.until_audit("closed", 1);
    assert_eq!(closed[0]["outcome"], "crashed");
    drop(client);
}

#[test]
fn a_terminated_keyward_gives_its_leases_back_before_it_ends() {
    let database = bao().enable_database(postgres15(), "1h", "2h");
    let alice = canary();
    let config = config(bao(), &database, postgres15(), &alice).line("limits: { drain_timeout: 1s }");
    let keyward = Keyward::start(&config);
    let client = Psql::open(&keyward.dsn("alice", &alice, "orders_rw"));
    let role = client.ask("SELECT current_user");
    keyward.sigterm();
    assert!(keyward.until_ended().success());
    // Nobody is there any more who could still ask for that.
    until_gone(&role);
    eventually("the store has it back", || (database.leases() == 0).then_some(()));
}

#[test]
fn a_terminated_keyward_whose_store_is_down_ends_in_its_time_and_leaves_its_lease_to_the_next_one() {
    let bao = Bao::own();
    let database = bao.enable_database(postgres15(), "1h", "2h");
    let alice = canary();
    let config = config(&bao, &database, postgres15(), &alice).line("limits: { drain_timeout: 1s }");
    let keyward = Keyward::start(&config);
    keyward.expect_log("could not be given back").expect_log("the store is away");
    let client = Psql::open(&keyward.dsn("alice", &alice, "orders_rw"));
    let role = client.ask("SELECT current_user");
    bao.kill9();
    keyward.sigterm();
    // A second for the session, ten for the store.
    assert!(keyward.until_ended_within(Duration::from_secs(60)).success());
    let journal = std::fs::read_to_string(keyward.state().join("leases.journal")).unwrap();
    assert_eq!((journal.matches("\"closing\"").count(), journal.matches("\"done\"").count()), (1, 0), "{journal}");
    let left = keyward.until_logged("it is left", |line| line.to_string().contains("are left to the next start"));
    assert!(left[0].to_string().contains("\"leases\":1"), "{left:?}");
    assert!(postgres15().has_role(&role), "nobody was there to take it back");
    bao.start_again();
    let next = keyward.start_again();
    until_gone(&role);
    eventually("the store has it back", || (database.leases() == 0).then_some(()));
    eventually("it is counted", || next.http("/metrics").body.contains("event=\"revoked\"} 1\n").then_some(()));
    drop(client);
}

#[test]
fn a_lease_is_renewed_while_its_session_lives() {
    let database = bao().enable_database(postgres15(), "20s", "1h");
    let (_keyward, dsn) = start(&database);
    let client = Psql::open(&dsn);
    let role = client.ask("SELECT current_user");
    let begin = Instant::now();
    // Twice its life: the role is still there and still usable.
    within(Duration::from_secs(80), "two lives of the lease have passed", || {
        assert_eq!(client.ask("SELECT current_user"), role);
        std::thread::sleep(Duration::from_millis(300));
        (begin.elapsed() > Duration::from_secs(40)).then_some(())
    });
    assert_eq!(client.end(), "");
    until_gone(&role);
}

#[test]
fn a_session_ends_before_the_last_second_of_its_lease() {
    let database = bao().enable_database(postgres15(), "20s", "20s");
    let (keyward, dsn) = start(&database);
    keyward.expect_log("lease");
    let client = Psql::open(&dsn);
    let role = client.ask("SELECT current_user");
    keyward.until_audit_within(Duration::from_secs(40), "closed", 1);
    eventually("the session is ended", || (postgres15().sessions_of(&role) == 0).then_some(()));
    until_gone(&role);
}

#[test]
fn a_store_that_is_down_at_the_end_of_a_session_gets_the_lease_back_later() {
    let bao = Bao::own();
    let database = bao.enable_database(postgres15(), "1h", "2h");
    let alice = canary();
    let keyward = Keyward::start(&config(&bao, &database, postgres15(), &alice));
    keyward.expect_log("WARN").expect_log("ERROR");
    let client = Psql::open(&keyward.dsn("alice", &alice, "orders_rw"));
    let role = client.ask("SELECT current_user");
    bao.kill9();
    assert_eq!(client.ask("SELECT 1"), "1", "a live session does not need the store");
    assert_eq!(client.end(), "");
    keyward.until_audit("closed", 1);
    bao.start_again();
    // Keyward tries again after up to half a minute.
    within(Duration::from_secs(60), "the role is gone", || (!postgres15().has_role(&role)).then_some(()));
}

#[test]
fn a_frozen_store_refuses_a_login_in_time_and_leaves_no_role_behind() {
    let bao = Bao::own();
    let database = bao.enable_database(postgres15(), "1h", "2h");
    let alice = canary();
    let config = config(&bao, &database, postgres15(), &alice).line("limits: { handshake_timeout: 14s }");
    let keyward = Keyward::start(&config);
    keyward.expect_log("WARN").expect_log("ERROR");
    let dsn = keyward.dsn("alice", &alice, "orders_rw");
    psql(&dsn, "SELECT 1").ok();
    bao.signal(Signal::STOP);
    let said = psql(&dsn, "SELECT 1").refused().to_owned();
    assert!(!said.contains(&bao.address()), "{said}");
    bao.signal(Signal::CONT);
    eventually("no lease is left", || (database.leases() == 0).then_some(()));
    psql(&dsn, "SELECT 1").ok();
}

#[test]
fn a_postgres_killed_under_a_session_ends_it_and_the_role_goes_once_postgres_is_back() {
    let postgres = Postgres::own("postgres-debian");
    let database = bao().enable_database(&postgres, "1h", "2h");
    let alice = canary();
    let keyward = Keyward::start(&config(bao(), &database, &postgres, &alice));
    let client = Psql::open(&keyward.dsn("alice", &alice, "orders_rw"));
    let role = client.ask("SELECT current_user");
    postgres.kill9();
    keyward.until_audit("closed", 1);
    postgres.start();
    // The store took the lease back while PostgreSQL was down, and tries to drop the role again in its own time: after about 10 s, then 20.
    within(Duration::from_secs(90), "PostgreSQL has recovered and the store has dropped the role", || {
        (!postgres.has_role(&role)).then_some(())
    });
    drop(client);
}

#[test]
fn what_a_killed_keyward_had_asked_for_and_not_heard_of_is_counted_and_named_at_the_next_start() {
    let bao = Bao::own();
    let database = bao.enable_database(postgres15(), "1h", "2h");
    let alice = canary();
    let keyward = Keyward::start(&config(&bao, &database, postgres15(), &alice));
    let dsn = keyward.dsn("alice", &alice, "orders_rw");
    assert_eq!(psql(&dsn, "SELECT 1").ok(), "1");
    eventually("that lease is back", || (database.leases() == 0).then_some(()));
    // The store does not answer: whether it will have made an account, nobody can know.
    bao.signal(Signal::STOP);
    let client = std::thread::spawn(move || psql(&dsn, "SELECT 1"));
    let journal = keyward.state().join("leases.journal");
    eventually("the request is in the journal", || {
        std::fs::read_to_string(&journal).is_ok_and(|text| text.matches("asked").count() == 2).then_some(())
    });
    keyward.kill9();
    bao.signal(Signal::CONT);
    client.join().unwrap().refused();
    let next = keyward.start_again();
    next.expect_log("a lease may be orphaned");
    let named = next.until_logged("it may be orphaned", |line| line.to_string().contains("a lease may be orphaned"));
    assert!(named[0].to_string().contains(&database.creds()), "{named:?}");
    eventually("it is counted", || next.http("/metrics").body.contains("event=\"possible_orphan\"} 1").then_some(()));
}
