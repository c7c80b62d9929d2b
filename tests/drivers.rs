//! Drivers: each does the same steps through Keyward and directly against PostgreSQL, and must see the same.
//!
//! The steps: `login`, `wrong_password`, `parameters` (of several types, prepared too), `transaction` (error, savepoint, rollback),
//! `large_row` (10 MB down and up), `copy` (both ways), `pipeline`, `cancel`, `reconnect` (after a drain). A driver's script prints what
//! it sees. In `cancel` it runs `pg_advisory_lock(7), pg_sleep(60)` and cancels when it is told to; in `reconnect` it logs in, is told
//! when its session was ended, shows the error, and logs in again when it is told to.

mod tokio_postgres;

use std::path::Path;
use std::process::Command;

use crate::bed::{Dialogue, Dsn, Postgres, Stage, client_command, eventually, installed, postgres15, postgres18};

const STEPS: [&str; 9] = ["login", "wrong_password", "parameters", "transaction", "large_row", "copy", "pipeline", "cancel", "reconnect"];

/// A row of the table.
struct Driver {
    name: &'static str,
    program: Program,
    /// What its own manual says that it cannot do.
    cannot: &'static [&'static str],
    /// Whether it was built with TLS.
    tls: bool,
}

enum Program {
    Python(&'static str),
    Node(&'static str),
    /// The psql of this name: a program on the path, or of the clients of 18.
    Psql(&'static str),
    Rust,
}

const PSYCOPG: Driver = Driver { name: "psycopg", program: Program::Python("with_psycopg.py"), cannot: &[], tls: true };
const ASYNCPG: Driver = Driver { name: "asyncpg", program: Program::Python("with_asyncpg.py"), cannot: &[], tls: true };
const PG8000: Driver = Driver { name: "pg8000", program: Program::Python("with_pg8000.py"), cannot: &["pipeline", "cancel"], tls: true };
// COPY is in a package of its own (pg-copy-streams).
const NODE_PG: Driver = Driver { name: "pg", program: Program::Node("with_pg.js"), cannot: &["copy", "pipeline"], tls: true };
const TOKIO_POSTGRES: Driver = Driver { name: "tokio-postgres", program: Program::Rust, cannot: &[], tls: true };
const PSQL: Driver = Driver { name: "psql", program: Program::Psql("psql"), cannot: &["pipeline"], tls: true };
// This psql was built without TLS; on loopback a login by password may do without.
const PSQL_18: Driver = Driver { name: "psql 18", program: Program::Psql("clients-18"), cannot: &[], tls: false };

#[test]
fn psycopg_sees_no_difference() {
    sees_no_difference(&PSYCOPG, postgres15(), "");
}

#[test]
fn psycopg_sees_no_difference_where_the_relay_is_raw() {
    sees_no_difference(&PSYCOPG, postgres18(), ", relay: raw");
}

#[test]
fn asyncpg_sees_no_difference() {
    sees_no_difference(&ASYNCPG, postgres18(), "");
}

#[test]
fn pg8000_sees_no_difference() {
    sees_no_difference(&PG8000, postgres15(), "");
}

#[test]
fn node_pg_sees_no_difference() {
    sees_no_difference(&NODE_PG, postgres18(), "");
}

#[test]
fn tokio_postgres_sees_no_difference() {
    sees_no_difference(&TOKIO_POSTGRES, postgres15(), "");
}

#[test]
fn psql_sees_no_difference() {
    sees_no_difference(&PSQL, postgres15(), "");
}

#[test]
fn psql_18_sees_no_difference() {
    sees_no_difference(&PSQL_18, postgres18(), "");
}

fn sees_no_difference(driver: &Driver, postgres: &Postgres, keys: &str) {
    let mut stage = Stage::new(postgres, keys);
    for step in STEPS.into_iter().filter(|step| !driver.cannot.contains(step)) {
        let direct = act(driver, step, &stage.direct(), &stage, || stage.end_sessions(), || {});
        assert!(!direct.is_empty(), "{} {step} says nothing", driver.name);
        for connection in ["orders", "orders_rw"] {
            let mut next = None;
            let through = stage.through(connection);
            let drain = || {
                stage.keyward.sigterm();
                assert!(stage.keyward.until_ended().success());
            };
            // A raw relay cannot tell a session why it ends.
            if step == "reconnect" && keys.contains("raw") {
                continue;
            }
            let seen = act(driver, step, &through, &stage, drain, || next = Some(stage.keyward.start_again()));
            if let Some(next) = next {
                stage.keyward = next;
            }
            assert_eq!(stage.masked(&seen), stage.masked(&direct), "{} {step} through {connection}", driver.name);
        }
    }
    stage.nothing_is_left();
}

/// One step of one driver, and what it said. `end` ends its session, `start` lets it in again.
fn act(driver: &Driver, step: &'static str, dsn: &Dsn, stage: &Stage<'_>, end: impl FnOnce(), start: impl FnOnce()) -> String {
    let dsn = if driver.tls { dsn.clone() } else { dsn.clone().with("sslmode", "disable") };
    let dsn = if step == "wrong_password" { dsn.with_password("wrong") } else { dsn };
    eventually("nobody holds the lock", || (!stage.lock_is_held()).then_some(()));
    let client = open(driver, step, &dsn);
    match step {
        "cancel" => {
            eventually("the query runs", || stage.lock_is_held().then_some(()));
            client.go_on();
            client.rest()
        }
        "reconnect" => {
            let first = client.line();
            end();
            client.go_on();
            let error = client.line();
            start();
            client.go_on();
            format!("{first}\n{error}\n{}", client.rest())
        }
        _ => client.rest(),
    }
}

fn open(driver: &Driver, step: &'static str, dsn: &Dsn) -> Dialogue {
    let script = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers").join(name);
    let python = |name: &str| {
        let mut command = client_command(installed("python").join("bin/python"), dsn);
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUTF8", "1").arg(script(name)).arg(step);
        command
    };
    let command: Command = match driver.program {
        Program::Python(name) => python(name),
        Program::Node(name) => {
            let mut command = client_command("node", dsn);
            command.env("NODE_PATH", installed("node_modules")).arg(script(name)).arg(step);
            command
        }
        Program::Psql(name) => {
            let mut command = python("with_psql.py");
            command.env("PGCLIENTENCODING", "UTF8");
            command.arg(if name == "psql" { name.into() } else { installed(name).join("bin/psql") });
            command
        }
        Program::Rust => {
            let dsn = dsn.clone();
            return Dialogue::with_thread(driver.name, move |ears, say| tokio_postgres::act(step, &dsn, &ears, &say));
        }
    };
    Dialogue::with_program(&command)
}
