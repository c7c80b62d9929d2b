//! From nothing to the first row: one connect after the other, each with one `SELECT 1`, by clients that are written in C: pgbench (libpq)
//! and mariadb-slap. Every one is a whole login: neither client resumes a TLS session.
//!
//! Keyward is measured with a credential that its cache has (`keyward`), with one that it asks the store for each time, and with a lease
//! of each session's own. PgBouncer logs in once and gives the same connection to one client after the other: it answers another question.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Scale;
use crate::bed::{
    Config, Database, Dsn, Keyward, Login, Method, MysqlClient, MysqlDsn, MysqlTls, MysqlTool, Plugin, bao, canary, run as run_to_end,
    scratch,
};
use crate::mysql_place::MysqlPlace;
use crate::pgbench;
use crate::place::{Place, Tls};
use crate::queries::LIMIT;
use crate::race::{Better, Contestant, Lap, Race};
use crate::report::{Bound, Report};
use crate::stages::{self, Tally};

/// With TLS everywhere, and without any.
const KINDS: [Tls; 2] = [Tls::Both, Tls::Plain];

/// One way from nothing to the first row.
struct Way<'a> {
    name: &'static str,
    between: Vec<u32>,
    /// Goes it this many times; the mean of one in microseconds.
    client: Box<dyn Fn(u32) -> f64 + 'a>,
    /// Whose stages are of interest.
    keyward: Option<&'a Keyward>,
    /// Whether the store makes a new login for each: that takes many times as long.
    leased: bool,
}

pub fn run(scale: &Scale, report: &mut Report) {
    postgres(scale, report);
    mariadb(scale, report);
}

fn postgres(scale: &Scale, report: &mut Report) {
    let place = Place::new();
    let (login, leases) = (place.postgres.login(Method::Scram), bao().enable_database(&place.postgres, "1h", "2h"));
    let behind = Behind { port: place.postgres.port, ca: place.postgres.ca(), database: "postgres", login, leases };
    let fresh = Fresh::new(Config::new(), Config::connection, &behind);
    let script = scratch("connect").join("select.sql");
    fs::write(&script, "SELECT 1;\n").unwrap();
    for tls in KINDS {
        let (place, script) = (&place, &script);
        let way = move |name, between: &[u32], dsn: Dsn, keyward| {
            let client = Box::new(move |connects| pgbench(place, &dsn, script, connects));
            Way { name, between: between.to_vec(), client, keyward, leased: false }
        };
        let others = place.ways(tls).into_iter().filter(|way| way.name != "keyward raw");
        let mut ways: Vec<Way<'_>> =
            others.map(|one| way(one.name, &one.between, one.dsn, Some(&place.keyward).filter(|_| one.name == "keyward"))).collect();
        for (name, connection, leased) in fresh.connections(tls) {
            let dsn = fresh.keyward.dsn("alice", &fresh.alice, connection);
            let dsn = if tls == Tls::Plain { dsn.with("sslmode", "disable") } else { dsn };
            ways.push(Way { leased, ..way(name, &[fresh.keyward.pid()], dsn, Some(&fresh.keyward)) });
        }
        race(("PostgreSQL", "postgres"), tls, ways, (scale.lap.as_secs_f64() * 100.0) as u32, scale, report);
    }
}

fn mariadb(scale: &Scale, report: &mut Report) {
    let place = MysqlPlace::new();
    let (login, leases) = (place.mysql.login(Plugin::Native), bao().enable_mysql_database(&place.mysql, "1h", "2h"));
    let behind = Behind { port: place.mysql.port, ca: place.mysql.ca(), database: &place.database, login, leases };
    let fresh = Fresh::new(Config::mysql(), Config::mysql_connection, &behind);
    for tls in KINDS {
        let database = &place.database;
        let way = move |name, between: &[u32], dsn: MysqlDsn, keyward| {
            let client = Box::new(move |connects| slap(&dsn, database, connects));
            Way { name, between: between.to_vec(), client, keyward, leased: false }
        };
        let others = place.ways(tls).into_iter().filter(|way| way.name != "keyward raw");
        let mut ways: Vec<Way<'_>> =
            others.map(|one| way(one.name, &one.between, one.dsn, Some(&place.keyward).filter(|_| one.name == "keyward"))).collect();
        for (name, connection, leased) in fresh.connections(tls) {
            let dsn = fresh.keyward.mysql_dsn(&format!("alice+{connection}"), &fresh.alice);
            let dsn = if tls == Tls::Plain { dsn.tls(MysqlTls::Off) } else { dsn };
            ways.push(Way { leased, ..way(name, &[fresh.keyward.pid()], dsn, Some(&fresh.keyward)) });
        }
        // It is faster, and the tool tells whole milliseconds.
        race(("MariaDB", "mysql"), tls, ways, (scale.lap.as_secs_f64() * 200.0) as u32, scale, report);
    }
}

/// `connects` are those of one lap.
fn race((server, protocol): (&str, &str), tls: Tls, ways: Vec<Way<'_>>, connects: u32, scale: &Scale, report: &mut Report) {
    let tallies: Vec<RefCell<Vec<Tally>>> = ways.iter().map(|_| RefCell::default()).collect();
    let looked_at: Vec<&'static str> = ways.iter().map(|way| way.name).collect();
    let contestant = |(Way { name, between, client, keyward, leased }, tallies)| {
        let tallies: &RefCell<Vec<Tally>> = tallies;
        let connects = if leased { (connects / 10).max(1) } else { connects };
        Contestant::new(name, &between, move || {
            let before = keyward.map(|keyward| (keyward, Tally::of(keyward, protocol)));
            let value = client(connects);
            if let Some((keyward, before)) = before {
                tallies.borrow_mut().push(before.since(keyward, protocol, connects));
            }
            Lap { value, operations: f64::from(connects) }
        })
    };
    let title = format!("{server}, from nothing to the first row, {}", tls.words());
    let contestants = ways.into_iter().zip(&tallies).map(contestant).collect();
    let standing =
        Race { title: title.clone(), unit: "µs per connect", operation: "connect", better: Better::Less, contestants }.run(scale.rounds);
    report.standing(&standing);
    // The first round does not count.
    let sum = |tallies: &RefCell<Vec<Tally>>| tallies.borrow().iter().skip(1).copied().reduce(|sum, one| sum.and(&one));
    let rows: Vec<(&str, Tally)> = looked_at.into_iter().zip(&tallies).filter_map(|(name, tallies)| Some((name, sum(tallies)?))).collect();
    report.section(&stages::table(&title, &rows));
    if !scale.smoke && tls == Tls::Both {
        let what = format!("{server}, connect with a cached credential, {}, to direct", tls.words());
        report.goal(&what, Bound::AtMost(1.15), standing.ratio("keyward", "direct"));
    }
}

/// What a Keyward needs to know of a server.
struct Behind<'a> {
    port: u16,
    ca: PathBuf,
    database: &'a str,
    login: Login,
    leases: Database<'static>,
}

/// A Keyward that asks the store for each login.
struct Fresh {
    keyward: Keyward,
    alice: String,
}

impl Fresh {
    fn new(config: Config, connection: fn(Config, &str, &str) -> Config, behind: &Behind<'_>) -> Self {
        let Behind { port, ca, database, login, leases } = behind;
        let (kv, alice, creds) = (bao().mount_kv2(), canary(), leases.creds());
        kv.put("orders", &[("username", &login.name), ("password", &login.password)]);
        let path = kv.path("orders");
        let verified = format!("{{ mode: verify-full, ca: \"{}\" }}", ca.display());
        let mut config = config.store_with("corp", bao(), &bao().approle(&[&path, &creds]), "cache_ttl: 0s");
        for (end, tls) in [("", "disable"), ("_tls", &verified)] {
            let place = format!("address: \"localhost:{port}\", database: {database}, store: corp, tls: {tls}");
            let kv = format!("{place}, username: \"{path}?username\", password: \"{path}?password\"");
            let lease = format!("{place}, credential: {creds}, limits: {{ max_leases_per_user: 0 }}");
            config = connection(connection(config, &format!("uncached{end}"), &kv), &format!("leased{end}"), &lease);
        }
        Self { keyward: Keyward::start(&config.user("alice", &alice).allow("alice", "*")), alice }
    }

    /// The name of the contestant, the connection, and whether it is leased.
    fn connections(&self, tls: Tls) -> [(&'static str, &'static str, bool); 2] {
        let [uncached, leased] = if tls == Tls::Plain { ["uncached", "leased"] } else { ["uncached_tls", "leased_tls"] };
        [("keyward uncached", uncached, false), ("keyward lease", leased, true)]
    }
}

/// `-C` makes a connection for each transaction, and counts the time that it takes to make it.
fn pgbench(place: &Place, dsn: &Dsn, script: &Path, connects: u32) -> f64 {
    let (connects, script) = (connects.to_string(), script.display().to_string());
    let said = pgbench::run(&place.postgres, dsn, &["-n", "-C", "-c", "1", "-t", &connects, "-f", &script], LIMIT);
    1e6 / pgbench::figure(&said, "tps =")
}

/// `--detach=1` makes a connection for each statement, and one before the first of them, which is closed as it is.
fn slap(dsn: &MysqlDsn, database: &str, connects: u32) -> f64 {
    let mut command = MysqlClient::Mariadb.tool(MysqlTool::Slap, dsn);
    command.args(["--concurrency=1", "--iterations=1", "--detach=1", "--query=SELECT 1", "--csv"]);
    command.args([format!("--number-of-queries={connects}"), format!("--create-schema={database}")]);
    let output = run_to_end(command, "", LIMIT);
    // `,mixed,0.512,0.512,0.512,1,200`: an engine, a name, and of all iterations the mean first, in seconds.
    let seconds = output.ok().split(',').nth(2).and_then(|seconds| seconds.parse::<f64>().ok());
    seconds.unwrap_or_else(|| panic!("mariadb-slap says no time: {output:?}")) * 1e6 / f64::from(connects + 1)
}
