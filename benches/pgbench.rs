//! pgbench, with the whole DSN in its environment.

use std::process::Command;
use std::time::Duration;

use crate::bed::{Dsn, Postgres, run as run_to_end};

/// What it says at the end, which must come within `limit`.
pub fn run(postgres: &Postgres, dsn: &Dsn, options: &[&str], limit: Duration) -> String {
    let mut command = Command::new(postgres.programs().join("bin/pgbench"));
    command.args(options).envs(dsn.environment());
    run_to_end(command, "", limit).ok().to_owned()
}

/// The number behind these words; of `20/20` the first.
pub fn figure(said: &str, what: &str) -> f64 {
    let word = said.split_once(what).and_then(|(_, rest)| rest.split_whitespace().next());
    let digits = word.unwrap_or_else(|| panic!("pgbench says nothing of {what:?}: {said}"));
    digits.split('/').next().and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{what:?} of pgbench is {digits}"))
}
