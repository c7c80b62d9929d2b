//! Speed and memory, beside no proxy at all and beside other proxies. Run by `benches/run.sh`, which installs those.
//!
//! ```text
//! race.rs      contestants in turns, medians and quartiles of their ratios      report.rs   tables and goals
//! peers.rs     haproxy and pgbouncer                                          place.rs    the servers, Keyward, and the ways to them
//! stub.rs      a server that lets everybody in, inside the bench            lean.rs     a client of which thousands cost little
//! mysql_place.rs   the same for MariaDB                                       stages.rs   what Keyward's metrics say of a login's stages
//! queries.rs   small queries (mysql_queries.rs: to MariaDB)      connect.rs   from nothing to the first row      bulk.rs   COPY, dumps
//! ssh.rs       bulk and connects by SSH      idle.rs   memory and CPU of sessions that say nothing      store.rs   a store under load
//! instructions.rs   per query, by callgrind                                   pgbench.rs  the program
//! ```
//!
//! `cargo bench` measures; `cargo test --bench keyward` runs all of it as small as it goes, and judges nothing.

// Code of tests fails by panicking: that is how it says so. Nothing outside this program sees its items.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![allow(clippy::print_stdout, clippy::print_stderr, unreachable_pub, missing_docs)]
// Of figures that are shown with three digits.
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

// What only the tests use of it is no dead code.
#[allow(dead_code, unused_imports)]
#[path = "../tests/bed/mod.rs"]
mod bed;
mod bulk;
mod connect;
mod idle;
mod instructions;
mod lean;
mod mysql_place;
mod mysql_queries;
mod peers;
mod pgbench;
mod place;
mod queries;
mod race;
mod report;
mod ssh;
mod stages;
mod store;
mod stub;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use report::Report;

/// How much is measured.
pub struct Scale {
    /// Rounds that count.
    pub rounds: usize,
    /// Of one lap of queries.
    pub lap: Duration,
    /// Bytes of one bulk transfer.
    pub bulk: u64,
    /// Nothing is judged: it is tried only whether it runs.
    pub smoke: bool,
    /// Of the races only those with this in their titles.
    pub only: Option<String>,
}

impl Scale {
    /// Whether a race of this title is to be run.
    pub fn wants(&self, title: &str) -> bool {
        self.only.as_ref().is_none_or(|text| title.contains(text))
    }
}

type Group = (&'static str, fn(&Scale, &mut Report));

/// What can be named to measure only that.
const GROUPS: [Group; 8] = [
    ("queries", queries::run),
    ("mysql_queries", mysql_queries::run),
    ("ssh", ssh::run),
    ("connect", connect::run),
    ("bulk", bulk::run),
    ("idle", idle::run),
    ("store", store::run),
    ("instructions", instructions::run),
];

fn main() {
    let mut scale = Scale { rounds: 7, lap: Duration::from_secs(2), bulk: 1 << 30, smoke: true, only: None };
    let (mut wanted, mut out) = (Vec::new(), None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| usage(&argument));
        match argument.as_str() {
            "--bench" => scale.smoke = false, // said by `cargo bench`
            "--rounds" => scale.rounds = value().parse().unwrap_or_else(|_| usage("--rounds")),
            "--seconds" => scale.lap = value().parse().map(Duration::from_secs_f64).unwrap_or_else(|_| usage("--seconds")),
            "--only" => scale.only = Some(value()),
            "--out" => out = Some(value()),
            name if GROUPS.iter().any(|(group, _)| *group == name) => wanted.push(name.to_owned()),
            other => usage(other),
        }
    }
    if scale.smoke {
        scale = Scale { rounds: 1, lap: Duration::from_millis(100), bulk: 1 << 20, smoke: true, only: scale.only };
    }
    let mut report = Report::default();
    let groups = GROUPS.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|one| one == name));
    let (mut passed, mut failed) = (0, 0);
    for (name, run) in groups {
        println!("\n## {name}");
        match catch_unwind(AssertUnwindSafe(|| run(&scale, &mut report))) {
            Ok(()) => passed += 1,
            Err(_) => failed += 1,
        }
    }
    if let Some(out) = out {
        std::fs::write(&out, report.markdown()).unwrap_or_else(|error| panic!("{out}: {error}"));
    }
    // The line by which tests/run.sh counts.
    println!("\ntest result: {}. {passed} passed; {failed} failed; 0 ignored", if failed == 0 { "ok" } else { "FAILED" });
    std::process::exit(i32::from(failed > 0));
}

fn usage(wrong: &str) -> ! {
    let groups = GROUPS.map(|(name, _)| name).join(" ");
    eprintln!("{wrong}: not understood\nusage: [--rounds N] [--seconds S] [--only TEXT] [--out FILE] [GROUP …], groups: {groups}");
    std::process::exit(2);
}
