//! Much at once: COPY out of PostgreSQL and into it, a dump of MariaDB.
//!
//! What arrives is checked once for each way, before the clock runs: half an answer would be a fast one.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{Context, SHA256};

use crate::Scale;
use crate::bed::{Dsn, MysqlClient, MysqlDsn, MysqlTool, scratch};
use crate::mysql_place::MysqlPlace;
use crate::place::{Place, Tls};
use crate::race::{Better, Contestant, Lap, Race, Standing};
use crate::report::{Bound, Report};

/// Bytes of a row of `bulk`, with its newline.
const ROW: u64 = 1024;
const MIB: f64 = 1_048_576.0;
const OUT: &str = "COPY bulk TO STDOUT";
const IN: &str = "COPY sink FROM STDIN";

pub fn run(scale: &Scale, report: &mut Report) {
    copy(scale, report);
    dump(scale, report);
}

fn copy(scale: &Scale, report: &mut Report) {
    let place = Place::new();
    let psql = Psql(place.postgres.programs().join("bin/psql"));
    for table in ["bulk", "sink"] {
        // Nobody may look through it while the clock runs.
        psql.ask(
            &place,
            &format!("CREATE UNLOGGED TABLE {table} (row text) WITH (autovacuum_enabled = off); GRANT ALL ON {table} TO public"),
        );
    }
    let rows =
        format!("INSERT INTO bulk SELECT left(repeat(md5(i::text), 32), {}) FROM generate_series(1, {}) i", ROW - 1, scale.bulk / ROW);
    psql.ask(&place, &rows);
    let file = scratch("bulk").join("rows");
    let rows = digest(psql.command(&place.direct(Tls::Plain), OUT));
    assert_eq!(rows.1, scale.bulk, "bytes of the whole table");
    timed(psql.command(&place.direct(Tls::Plain), OUT).stdout(fs::File::create(&file).unwrap()));
    for tls in Tls::ALL {
        race("PostgreSQL, COPY out", tls, scale, report, || copy_out(&place, &psql, tls, &rows, scale));
        race("PostgreSQL, COPY in", tls, scale, report, || copy_in(&place, &psql, tls, &file, scale));
    }
}

fn copy_out<'a>(place: &'a Place, psql: &'a Psql, tls: Tls, rows: &(String, u64), scale: &'a Scale) -> Vec<Contestant<'a>> {
    let ways = place.ways(tls);
    for way in &ways {
        assert_eq!(&digest(psql.command(&way.dsn, OUT)), rows, "{} by {}, {}", OUT, way.name, tls.words());
    }
    let lap = |dsn: Dsn| move || per_second(scale.bulk, timed(psql.command(&dsn, OUT).stdout(Stdio::null())));
    ways.into_iter().map(|way| Contestant::new(way.name, &way.between, lap(way.dsn))).collect()
}

fn copy_in<'a>(place: &'a Place, psql: &'a Psql, tls: Tls, file: &'a Path, scale: &'a Scale) -> Vec<Contestant<'a>> {
    let copy = move |dsn: &Dsn| {
        psql.ask(place, "TRUNCATE sink");
        timed(psql.command(dsn, IN).stdin(fs::File::open(file).unwrap()))
    };
    // Not in the order in which they came: a sum of what is random of each row.
    let sum = |table: &str| psql.ask(place, &format!("SELECT count(*), sum(hashtextextended(row, 0)) FROM {table}"));
    let (ways, whole) = (place.ways(tls), sum("bulk"));
    for way in &ways {
        copy(&way.dsn);
        assert_eq!(sum("sink"), whole, "{} by {}, {}", IN, way.name, tls.words());
    }
    let lap = |dsn: Dsn| move || per_second(scale.bulk, copy(&dsn));
    ways.into_iter().map(|way| Contestant::new(way.name, &way.between, lap(way.dsn))).collect()
}

fn dump(scale: &Scale, report: &mut Report) {
    let place = MysqlPlace::new();
    let rows = format!("INSERT INTO bulk SELECT left(repeat(md5(seq), 32), {}) FROM seq_1_to_{}", ROW, scale.bulk / ROW);
    place.mysql.sql(&place.database, &format!("CREATE TABLE bulk (text varchar({ROW})) CHARACTER SET latin1 ENGINE = MyISAM; {rows}"));
    let whole = digest(dumper(&place, &place.direct(Tls::Plain)));
    assert!(whole.1 > scale.bulk, "bytes of the whole table: {}", whole.1);
    for tls in Tls::ALL {
        race("MariaDB, mariadb-dump", tls, scale, report, || {
            let (ways, place) = (place.ways(tls), &place);
            for way in &ways {
                assert_eq!(digest(dumper(place, &way.dsn)), whole, "dump by {}, {}", way.name, tls.words());
            }
            let lap = |dsn: MysqlDsn| move || per_second(scale.bulk, timed(dumper(place, &dsn).stdout(Stdio::null())));
            ways.into_iter().map(|way| Contestant::new(way.name, &way.between, lap(way.dsn))).collect()
        });
    }
}

/// `mariadb-dump` without the comments, which tell the time.
fn dumper(place: &MysqlPlace, dsn: &MysqlDsn) -> Command {
    let mut command = MysqlClient::Mariadb.tool(MysqlTool::Dump, dsn);
    command.args(["--single-transaction", "--skip-comments", &place.database]);
    command
}

/// If it is wanted. Its contestants are asked for, and what they bring is checked, only then.
fn race<'a>(what: &str, tls: Tls, scale: &Scale, report: &mut Report, contestants: impl FnOnce() -> Vec<Contestant<'a>>) {
    let title = format!("{what}, {}, {} MiB", tls.words(), scale.bulk >> 20);
    if !scale.wants(&title) {
        return;
    }
    let race = Race { title, unit: "MiB/s", operation: "MiB", better: Better::More, contestants: contestants() };
    race.contend(scale, report, |standing, report| goals(standing, what, tls, report));
}

fn goals(standing: &Standing, what: &str, tls: Tls, report: &mut Report) {
    let mut goal = |than: &str, least| {
        report.goal(&format!("{}, {what} to {than}", tls.words()), Bound::AtLeast(least), standing.ratio("keyward", than));
    };
    match tls {
        _ if what.starts_with("MariaDB") => {}
        Tls::Client => goal("direct", 0.8),
        Tls::Plain => goal("direct", 0.9),
        Tls::Both => {}
    }
    goal("keyward raw", 0.95);
}

/// The program itself: what Debian has in the path is a script that looks for it.
struct Psql(PathBuf);

impl Psql {
    fn command(&self, dsn: &Dsn, sql: &str) -> Command {
        let mut command = Command::new(&self.0);
        command.args(["-X", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-c", sql]).envs(dsn.environment());
        command
    }

    /// As the superuser, directly.
    fn ask(&self, place: &Place, sql: &str) -> String {
        let login = place.postgres.superuser();
        let dsn = place.direct(Tls::Plain).with("user", &login.name).with_password(&login.password);
        let said = self.command(&dsn, sql).output().unwrap();
        assert!(said.status.success(), "{sql}: {said:?}");
        String::from_utf8(said.stdout).unwrap()
    }
}

fn per_second(bytes: u64, seconds: f64) -> Lap {
    let operations = bytes as f64 / MIB;
    Lap { value: operations / seconds, operations }
}

/// How long it takes to its end, in seconds.
fn timed(command: &mut Command) -> f64 {
    let start = Instant::now();
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{:?} ended with {status}", command.get_program());
            return start.elapsed().as_secs_f64();
        }
        if start.elapsed() > Duration::from_secs(300) {
            let _ = child.kill();
            panic!("{:?} has not ended within 5 minutes", command.get_program());
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// What it prints: its SHA-256, and how many bytes it is.
fn digest(mut command: Command) -> (String, u64) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (mut said, mut hash, mut bytes) = (child.stdout.take().unwrap(), Context::new(&SHA256), 0);
    let mut piece = vec![0; 1 << 16];
    loop {
        let read = said.read(&mut piece).unwrap();
        if read == 0 {
            break;
        }
        hash.update(&piece[..read]);
        bytes += read as u64;
    }
    assert!(child.wait().unwrap().success(), "{:?} failed", command.get_program());
    (format!("{:?}", hash.finish()), bytes)
}
