//! Programs that move much: pgbench, pg_dump, COPY, large rows, many short sessions.

use std::ffi::OsStr;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::bed::{Dsn, RustClient, SOON, Stage, client_command, eventually, installed, postgres15, postgres18, psql, psql18, run, scratch};

const LONG: Duration = Duration::from_secs(120);

/// Runs a client program of PostgreSQL's to its end.
#[track_caller]
fn program<A: AsRef<OsStr>>(name: impl AsRef<OsStr>, dsn: &Dsn, arguments: impl IntoIterator<Item = A>) -> String {
    let mut command: Command = client_command(name, dsn);
    command.args(arguments);
    run(command, "", LONG).ok().to_owned()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn pgbench_runs_in_every_query_mode_and_with_a_lease_for_each_client() {
    let stage = Stage::new(postgres15(), "");
    let kv = stage.through("orders");
    program("pgbench", &kv, ["-i", "-s", "1", "-q"]);
    for mode in ["simple", "extended", "prepared"] {
        let said = program("pgbench", &kv, ["-n", "-c", "8", "-j", "2", "-t", "50", "-M", mode]);
        assert!(said.contains("actually processed: 400/400") && said.contains("failed transactions: 0 "), "{mode}: {said}");
    }
    // Eight sessions with a role each, that may use the tables of another.
    stage.postgres.sql(&stage.database, "GRANT ALL ON ALL TABLES IN SCHEMA public TO public");
    let leased = stage.through("orders_rw").with("sslmode", "disable"); // the clients of 18 were built without TLS
    let said = program(installed("clients-18").join("bin/pgbench"), &leased, ["-n", "-c", "8", "-j", "2", "-t", "50", "-M", "prepared"]);
    assert!(said.contains("actually processed: 400/400") && said.contains("failed transactions: 0 "), "{said}");
    assert_eq!(stage.postgres.sql(&stage.database, "SELECT count(*) FROM pgbench_history"), "1600");
    stage.nothing_is_left();
}

const CONTENT: &str = "\
CREATE TYPE mood AS ENUM ('calm', 'wild');
CREATE TABLE parent (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, word text NOT NULL, raw bytea, tags int[], at timestamptz, m mood);
CREATE TABLE child (id int PRIMARY KEY, parent bigint REFERENCES parent, price numeric(20, 7) CHECK (price > 0));
INSERT INTO parent (word, raw, tags, at, m) SELECT E'tab\\there \\\\ ''' || md5(n::text), decode(md5(n::text), 'hex'), ARRAY[n, NULL, n * 2],
  timestamptz '2020-01-01' + n * interval '1 hour', CASE WHEN n % 2 = 0 THEN 'calm'::mood END FROM generate_series(1, 40000) n;
INSERT INTO child SELECT n, n, n / 7.0 FROM generate_series(1, 20000) n;
CREATE INDEX ON parent (word);
CREATE VIEW priced AS SELECT word, price FROM parent JOIN child ON child.parent = parent.id;
CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql IMMUTABLE RETURN n * 2;
SELECT lo_from_bytea(0, 'a large object') > 0;
";

#[test]
fn a_dump_restored_through_keyward_is_equal_to_what_was_dumped() {
    let stage = Stage::new(postgres15(), "");
    let own = stage.through("orders");
    psql(&own, CONTENT).ok();
    // Another database of the same connection is named by the login's form.
    let other = |name: &str| own.clone().with("user", "alice+orders").with("dbname", name);
    let (plain, parallel, folder) = (stage.postgres.database(), stage.postgres.database(), scratch("dump"));

    let dump = |dsn: &Dsn| without_key(&program("pg_dump", dsn, ["--no-owner"]));
    let dumped = program("pg_dump", &own, ["--no-owner"]);
    psql(&other(&plain), &dumped).ok();
    assert_eq!(dump(&other(&plain)), dump(&own));

    let folder = folder.join("parallel");
    let arguments = |rest: &[&str]| rest.iter().map(|word| (*word).to_owned()).chain([folder.display().to_string()]).collect::<Vec<_>>();
    program("pg_dump", &own, arguments(&["-Fd", "-j", "3", "--no-owner", "-f"]));
    // `public` is there already and not ours.
    program("pg_restore", &other(&parallel), arguments(&["-j", "3", "--no-owner", "--dbname", &parallel]));
    assert_eq!(dump(&other(&parallel)), dump(&own));
    assert!(dumped.len() > 4_000_000, "there was something to dump: {}", dumped.len());
    assert!(stage.postgres.sql(&plain, "SELECT count(*), min(word) FROM priced").starts_with("20000|tab\there"));
}

/// A newer pg_dump writes a random key into each dump.
fn without_key(dump: &str) -> String {
    dump.lines().filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict")).collect::<Vec<_>>().join("\n")
}

#[test]
fn fifty_megabytes_go_in_and_out_by_copy_as_text_and_as_binary() {
    let (stage, folder) = (Stage::new(postgres18(), ""), scratch("copy"));
    let (given, back, binary) = (folder.join("given"), folder.join("back"), folder.join("binary"));
    let mut text = String::new();
    for number in 0..500_000_u32 {
        writeln!(text, "{number}\t{:0>90}", number.wrapping_mul(2_654_435_761)).unwrap();
    }
    assert!(text.len() > 48_000_000);
    fs::write(&given, &text).unwrap();
    let shown = |path: &Path| path.display().to_string();
    for connection in ["orders", "orders_rw"] {
        let script = format!(
            "CREATE TEMP TABLE t (id int, word text);\n\\copy t from '{}'\n\\copy (SELECT * FROM t ORDER BY id) to '{}'\n\
             \\copy t to '{binary}' (format binary)\nCREATE TEMP TABLE u (LIKE t);\n\\copy u from '{binary}' (format binary)\n\
             SELECT count(*), sum(hashtextextended(word, id)) = (SELECT sum(hashtextextended(word, id)) FROM t) FROM u;",
            shown(&given),
            shown(&back),
            binary = shown(&binary)
        );
        assert_eq!(psql(&stage.through(connection), &script).ok(), "500000|t");
        assert!(fs::read_to_string(&back).unwrap() == text, "what came back through {connection} differs");
    }
    stage.nothing_is_left();
}

#[test]
fn a_notification_reaches_an_idle_session() {
    let (stage, runtime) = (Stage::new(postgres15(), ""), runtime());
    let (ear, mouth) = runtime.block_on(async {
        let ear = RustClient::connect(&stage.through("orders")).await.unwrap();
        ear.client.batch_execute("LISTEN news").await.unwrap();
        (ear, RustClient::connect(&stage.through("orders_rw")).await.unwrap())
    });
    for word in ["one", "other"] {
        runtime.block_on(mouth.client.execute("SELECT pg_notify('news', $1)", &[&word])).unwrap();
        // The listener says nothing in between.
        let message = ear.messages.recv_timeout(SOON).unwrap();
        let tokio_postgres::AsyncMessage::Notification(heard) = message else { panic!("{message:?}") };
        assert_eq!((heard.channel(), heard.payload()), ("news", word));
    }
}

#[test]
fn a_row_of_200_megabytes_comes_through_and_a_parameter_of_100_goes_up_in_constant_memory() {
    let (stage, runtime) = (Stage::new(postgres15(), ""), runtime());
    for connection in ["orders", "orders_rw"] {
        let before = stage.keyward.peak_memory();
        runtime.block_on(async {
            let db = RustClient::connect(&stage.through(connection)).await.unwrap();
            let row = db.client.query_one("SELECT repeat('x', 200000000)", &[]).await.unwrap();
            let text: &str = row.get(0);
            assert!(text.len() == 200_000_000 && text == "x".repeat(200_000_000), "the row differs");
            let parameter = "abcdefghij".repeat(10_000_000);
            let query = "SELECT length($1::text), $1::text = repeat('abcdefghij', 10000000)";
            let row = db.client.query_one(query, &[&parameter]).await.unwrap();
            assert_eq!((row.get::<_, i32>(0), row.get::<_, bool>(1)), (100_000_000, true));
        });
        let grown = stage.keyward.peak_memory().saturating_sub(before);
        assert!(grown < 16 * 1024, "Keyward grew by {grown} KiB for 300 MB");
    }
}

#[test]
fn many_short_sessions_leave_nothing_behind() {
    let stage = Stage::new(postgres15(), "");
    let (kv, leased) = (stage.through("orders"), stage.through("orders_rw").with("sslmode", "disable"));
    let wave = |times: usize| {
        thread::scope(|scope| {
            for at_once in 0..16 {
                let (kv, leased) = (&kv, &leased);
                scope.spawn(move || {
                    for _ in 0..times {
                        let row = if at_once % 2 == 0 { psql(kv, "SELECT 1") } else { psql18(leased, "SELECT 1") };
                        assert_eq!(row.ok(), "1");
                    }
                });
            }
        });
        stage.nothing_is_left();
    };
    // The store's connections are kept open for a while, at most one for each that asked at the same time.
    wave(1);
    let before = stage.keyward.descriptors("postgres");
    wave(12);
    stage.keyward.until_audit("closed", 16 * 13);
    eventually("no descriptor is left", || (stage.keyward.descriptors("postgres") <= before + 16).then_some(()));
}
