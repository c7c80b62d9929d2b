//! Small queries: pgbench's prepared SELECTs, sysbench's point selects.

use std::process::Command;
use std::time::Duration;

use crate::Scale;
use crate::bed::{Dsn, run as run_to_end};
use crate::place::{Place, Tls, Way};
use crate::race::{Better, Contestant, Lap, Race, Standing};
use crate::report::{Bound, Report};

const CLIENTS: [u32; 3] = [1, 32, 128];

pub fn run(scale: &Scale, report: &mut Report) {
    let place = Place::new();
    pgbench(&place, &place.direct(Tls::Plain), &["-i", "-q", "-s", if scale.smoke { "1" } else { "10" }]);
    for tls in Tls::ALL {
        for clients in CLIENTS {
            let race = select(&place, tls, clients, scale);
            if !scale.wants(&race.title) {
                continue;
            }
            let standing = race.run(scale.rounds);
            report.standing(&standing);
            if !scale.smoke {
                goals(&standing, tls, clients, report);
            }
        }
    }
}

fn select<'a>(place: &'a Place, tls: Tls, clients: u32, scale: &'a Scale) -> Race<'a> {
    let alone = clients == 1;
    let contestant = |Way { name, dsn, between }: Way| {
        Contestant::new(name, &between, move || {
            let lap = lap(place, &dsn, clients, scale);
            if alone { Lap { value: 1e6 / lap.value, ..lap } } else { lap }
        })
    };
    Race {
        title: format!(
            "PostgreSQL, prepared SELECTs, {}, {}",
            tls.words(),
            if alone { "1 client".into() } else { format!("{clients} clients") }
        ),
        unit: if alone { "µs per query" } else { "queries/s" },
        operation: "query",
        better: if alone { Better::Less } else { Better::More },
        contestants: place.ways(tls).into_iter().map(contestant).collect(),
    }
}

fn lap(place: &Place, dsn: &Dsn, clients: u32, scale: &Scale) -> Lap {
    // The clock of pgbench runs while it connects; its figure leaves that out.
    let seconds = (scale.lap.as_secs().max(1) + u64::from(clients) / 64).to_string();
    let (clients, jobs) = (clients.to_string(), clients.min(2).to_string());
    let mut options = vec!["-S", "-n", "-M", "prepared", "-c", &clients, "-j", &jobs];
    options.extend(if scale.smoke { ["-t", "5"] } else { ["-T", &seconds] });
    let said = pgbench(place, dsn, &options);
    let after = |what: &str| {
        let word = said.split_once(what).and_then(|(_, rest)| rest.split_whitespace().next());
        let digits = word.unwrap_or_else(|| panic!("pgbench says nothing of {what:?}: {said}"));
        digits.split('/').next().and_then(|number| number.parse::<f64>().ok()).unwrap_or_else(|| panic!("{what:?} of pgbench is {digits}"))
    };
    Lap { value: after("tps ="), operations: after("actually processed:") }
}

fn pgbench(place: &Place, dsn: &Dsn, options: &[&str]) -> String {
    let mut command = Command::new(place.postgres.programs().join("bin/pgbench"));
    command.args(options).envs(dsn.environment());
    run_to_end(command, "", Duration::from_secs(120)).ok().to_owned()
}

fn goals(standing: &Standing, tls: Tls, clients: u32, report: &mut Report) {
    let mut goal = |what: &str, bound, reached| report.goal(&format!("{}, {what}", tls.words()), bound, reached);
    let to = |than| standing.ratio("keyward", than);
    match (tls, clients) {
        (Tls::Plain, 1) => {
            let added = standing.added("keyward", "haproxy", "direct");
            goal("1 client: added latency to haproxy's", Bound::AtMost(1.0), added);
        }
        (Tls::Plain, 32) => {
            goal("32 clients: throughput to haproxy's", Bound::AtLeast(1.1), to("haproxy"));
            goal("32 clients: throughput to pgbouncer's", Bound::AtLeast(1.0), to("pgbouncer"));
        }
        (_, 32) => goal("32 clients: throughput to pgbouncer's", Bound::AtLeast(1.0), to("pgbouncer")),
        _ => {}
    }
    match clients {
        1 => goal("1 client: latency of tracked to raw", Bound::AtMost(1.05), to("keyward raw")),
        _ => goal(&format!("{clients} clients: throughput of tracked to raw"), Bound::AtLeast(0.95), to("keyward raw")),
    }
}
