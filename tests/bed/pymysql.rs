//! PyMySQL as a client that prints what it hears.

use std::process::Command;
use std::time::Duration;

use super::canary::must_be_absent;
use super::dialogue::Dialogue;
use super::mysql_client::MysqlDsn;
use super::process::{installed, run};

/// What it says of a login and a `SELECT 1`: the number, or the error's kind, code and text.
#[track_caller]
pub fn pymysql(dsn: &MysqlDsn) -> String {
    let said = run(command(dsn, &["once"]), "", Duration::from_secs(60)).ok().to_owned();
    must_be_absent("what PyMySQL printed", &said);
    said
}

/// It logs in, says `in`, and runs its `SELECT 1` when it is told to go on.
pub fn pymysql_later(dsn: &MysqlDsn) -> Dialogue {
    Dialogue::with_program(&command(dsn, &["later"]))
}

/// It reads a long result row by row, says `streams` once some are there, and in the end why there are no more.
pub fn pymysql_stream(dsn: &MysqlDsn, sql: &str) -> Dialogue {
    Dialogue::with_program(&command(dsn, &["stream", sql]))
}

fn command(dsn: &MysqlDsn, arguments: &[&str]) -> Command {
    let mut command = dsn.command(installed("python").join("bin/python"));
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bed/says_with_pymysql.py")).args(arguments);
    command
}
