//! Small queries: pgbench's prepared SELECTs; and what they share with sysbench's point selects.

use std::time::Duration;

use crate::Scale;
use crate::bed::Dsn;
use crate::pgbench;
use crate::place::{Place, Tls, Way};
use crate::race::{Better, Contestant, Lap, Race, Standing};
use crate::report::{Bound, Report};

pub const CLIENTS: [u32; 3] = [1, 32, 128];

/// Of one lap, with its connects.
pub const LIMIT: Duration = Duration::from_secs(120);

pub fn run(scale: &Scale, report: &mut Report) {
    let place = Place::new();
    pgbench::run(&place.postgres, &place.direct(Tls::Plain), &["-i", "-q", "-s", if scale.smoke { "1" } else { "10" }], LIMIT);
    for tls in Tls::ALL {
        for clients in CLIENTS {
            select(&place, tls, clients, scale).contend(scale, report, |standing, report| goals(standing, tls, clients, report));
        }
    }
}

fn select<'a>(place: &'a Place, tls: Tls, clients: u32, scale: &'a Scale) -> Race<'a> {
    let contestant = |Way { name, dsn, between }: Way| Contestant::new(name, &between, move || lap(place, &dsn, clients, scale));
    by_clients("PostgreSQL, prepared SELECTs", tls, clients, place.ways(tls).into_iter().map(contestant).collect())
}

/// A race of small queries. Its contestants tell queries a second; of one client alone the time of a query says more.
pub fn by_clients<'a>(what: &str, tls: Tls, clients: u32, contestants: Vec<Contestant<'a>>) -> Race<'a> {
    let (title, operation) = (format!("{what}, {}, {}", tls.words(), words(clients)), "query");
    if clients > 1 {
        return Race { title, unit: "queries/s", operation, better: Better::More, contestants };
    }
    let inverted = |Contestant { name, between, mut lap }: Contestant<'a>| {
        Contestant::new(name, &between, move || {
            let lap = lap();
            Lap { value: 1e6 / lap.value, ..lap }
        })
    };
    let contestants = contestants.into_iter().map(inverted).collect();
    Race { title, unit: "µs per query", operation, better: Better::Less, contestants }
}

/// What tracking may cost, by whatever such a race tells.
pub fn tracked_to_raw(standing: &Standing, place: &str, clients: u32, report: &mut Report) {
    let (measure, bound) = if clients == 1 { ("latency", Bound::AtMost(1.05)) } else { ("throughput", Bound::AtLeast(0.95)) };
    let what = format!("{place}, {}: {measure} of tracked to raw", words(clients));
    report.goal(&what, bound, standing.ratio("keyward", "keyward raw"));
}

fn words(clients: u32) -> String {
    if clients == 1 { "1 client".to_owned() } else { format!("{clients} clients") }
}

fn lap(place: &Place, dsn: &Dsn, clients: u32, scale: &Scale) -> Lap {
    // The clock of pgbench runs while it connects; its figure leaves that out.
    let seconds = (scale.lap.as_secs().max(1) + u64::from(clients) / 64).to_string();
    let (clients, jobs) = (clients.to_string(), clients.min(2).to_string());
    let mut options = vec!["-S", "-n", "-M", "prepared", "-c", &clients, "-j", &jobs];
    options.extend(if scale.smoke { ["-t", "5"] } else { ["-T", &seconds] });
    let said = pgbench::run(&place.postgres, dsn, &options, LIMIT);
    Lap { value: pgbench::figure(&said, "tps ="), operations: pgbench::figure(&said, "actually processed:") }
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
    tracked_to_raw(standing, tls.words(), clients, report);
}
