//! MySQL and MariaDB: programs that move much, and programs that come and go.

use std::fmt::Write;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use flate2::Crc;
use futures_util::{FutureExt, StreamExt, stream};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Pool};

use crate::bed::{MysqlClient, MysqlDsn, MysqlStage, eventually, mariadb, mysql_options, mysql_servers, mysql9, within};

/// What Keyward may grow by, in KiB, however much it moves.
const CONSTANT: u64 = 16 * 1024;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Rows of 1 MB.
const ROWS: &str = "WITH RECURSIVE numbers AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM numbers WHERE n < 200) \
                    SELECT n, REPEAT(LPAD(n, 10, '0'), 100000) FROM numbers";

fn row(number: u64) -> String {
    format!("{number:010}").repeat(100_000)
}

#[test]
fn two_hundred_megabytes_come_and_a_hundred_go_in_constant_memory() {
    let runtime = runtime();
    for server in mysql_servers() {
        let stage = MysqlStage::new(server, "local_infile: true");
        stage.fill("CREATE TABLE `lines` (line varchar(1000)) ENGINE = MyISAM");
        for (way, dsn) in stage.ways() {
            runtime.block_on(async { Conn::new(mysql_options(&dsn)).await.unwrap().disconnect().await.unwrap() });
            let before = stage.scene.keyward.peak_memory();
            runtime.block_on(async {
                let mut db = Conn::new(mysql_options(&dsn)).await.unwrap();
                let mut rows = db.query_stream::<(u64, String), _>(ROWS).await.unwrap();
                let mut seen = 0;
                while let Some(read) = rows.next().await {
                    let (number, text) = read.unwrap();
                    seen += 1;
                    assert!(number == seen && text == row(number), "row {seen} through Keyward {way} is another");
                }
                drop(rows);
                assert_eq!(seen, 200, "{way}");
                // One row, one parameter, of four packets.
                let text: String = db.query_first("SELECT REPEAT('abcdefghij', 6000000)").await.unwrap().unwrap();
                assert!(text == "abcdefghij".repeat(6_000_000), "the large row {way} is another");
                let back: (u64, u32) = db.exec_first("SELECT length(?), crc32(?)", (&text, &text[..10])).await.unwrap().unwrap();
                assert_eq!(back, (60_000_000, crc(b"abcdefghij")), "{way}");
                db.disconnect().await.unwrap();
            });
            load_lines(&runtime, &dsn, way);
            let grown = stage.scene.keyward.peak_memory().saturating_sub(before);
            assert!(grown < CONSTANT, "Keyward grew by {grown} KiB {way}");
        }
        stage.nothing_is_left();
    }
}

fn crc(text: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(text);
    crc.sum()
}

/// 50 MB by LOAD DATA LOCAL INFILE, compared by a checksum of each line.
fn load_lines(runtime: &tokio::runtime::Runtime, dsn: &MysqlDsn, way: &str) {
    let mut text = String::new();
    let mut sum: u64 = 0;
    for number in 0..100_000_u32 {
        let start = text.len();
        write!(text, "{:0>499}", number.wrapping_mul(2_654_435_761)).unwrap();
        sum += u64::from(crc(&text.as_bytes()[start..]));
        text.push('\n');
    }
    let pieces: Vec<Bytes> = text.as_bytes().chunks(100_003).map(Bytes::copy_from_slice).collect();
    let handler = move |_: &[u8]| {
        let pieces = pieces.clone();
        async move { Ok(stream::iter(pieces.into_iter().map(Ok)).boxed()) }.boxed()
    };
    runtime.block_on(async {
        let mut db = Conn::new(mysql_options(dsn).local_infile_handler(Some(handler))).await.unwrap();
        db.query_drop("TRUNCATE `lines`").await.unwrap();
        db.query_drop("LOAD DATA LOCAL INFILE 'it' INTO TABLE `lines`").await.unwrap();
        let loaded: (u64, u64) = db.query_first("SELECT count(*), cast(sum(crc32(line)) AS unsigned) FROM `lines`").await.unwrap().unwrap();
        assert_eq!(loaded, (100_000, sum), "{way}");
        db.disconnect().await.unwrap();
    });
}

#[test]
fn a_slow_reader_keeps_nobody_waiting_and_nothing_in_memory() {
    let runtime = runtime();
    for server in [Some(mariadb()), mysql9()].into_iter().flatten() {
        let stage = MysqlStage::new(server, "");
        runtime.block_on(async {
            let mut other = Conn::new(mysql_options(&stage.through())).await.unwrap();
            let before = stage.scene.keyward.peak_memory();
            let mut db = Conn::new(mysql_options(&stage.through())).await.unwrap();
            let mut rows = db.query_stream::<(u64, String), _>(ROWS).await.unwrap();
            assert_eq!(rows.next().await.unwrap().unwrap().0, 1);
            until_it_cannot_send(&stage);
            let one: Option<u64> = other.query_first("SELECT 1").await.unwrap();
            assert_eq!(one, Some(1));
            let grown = stage.scene.keyward.peak_memory().saturating_sub(before);
            assert!(grown < CONSTANT, "Keyward grew by {grown} KiB");
            for number in 2..=200 {
                let (seen, text) = rows.next().await.unwrap().unwrap();
                assert!(seen == number && text == row(number), "row {number} is another");
            }
            assert!(rows.next().await.is_none());
            drop(rows);
            db.disconnect().await.unwrap();
            other.disconnect().await.unwrap();
        });
        stage.nothing_is_left();
    }
}

/// Waits until the server has said for a while that it waits for the reader: what is on the way is full then.
fn until_it_cannot_send(stage: &MysqlStage<'_>) {
    let name = &stage.scene.app.name;
    let waits = format!("user = '{name}' AND info LIKE '%REPEAT%' AND state IN ('Sending to client', 'Writing to net')");
    let mut times = 0;
    within(Duration::from_secs(45), "the server waits for the reader", || {
        times = if stage.server.count_sessions(&waits) == 1 { times + 1 } else { 0 };
        (times == 10).then_some(())
    });
}

#[test]
fn many_short_sessions_leave_nothing_behind() {
    for server in [Some(mariadb()), mysql9()].into_iter().flatten() {
        let stage = MysqlStage::new(server, "");
        let wave = |times: usize| {
            thread::scope(|scope| {
                for at_once in 0..16 {
                    let (stage, ways) = (&stage, stage.ways());
                    scope.spawn(move || {
                        let (_, dsn) = &ways[at_once % 3];
                        for _ in 0..times {
                            if at_once < 4 {
                                assert_eq!(stage.server.client.run(dsn, "SELECT 1").ok(), "1");
                            } else {
                                let one = runtime().block_on(async {
                                    let mut db = Conn::new(mysql_options(dsn)).await.unwrap();
                                    // Some say goodbye, some do not.
                                    let one: Option<u64> = db.query_first("SELECT 1").await.unwrap();
                                    if at_once % 2 == 0 { db.disconnect().await.map(|()| one) } else { Ok(one) }
                                });
                                assert_eq!(one.unwrap(), Some(1));
                            }
                        }
                    });
                }
            });
            stage.nothing_is_left();
        };
        // The store's connections are kept open for a while, at most one for each that asked at the same time.
        wave(1);
        let before = stage.scene.keyward.descriptors("mysql");
        wave(12);
        stage.scene.keyward.until_audit("closed", 16 * 13);
        eventually("no descriptor is left", || (stage.scene.keyward.descriptors("mysql") <= before + 16).then_some(()));
    }
}

#[test]
fn a_pool_cleans_its_sessions_and_uses_them_again() {
    for server in [Some(mariadb()), mysql9()].into_iter().flatten() {
        let stage = MysqlStage::new(server, "");
        let sessions = runtime().block_on(async {
            let pool = Pool::new(mysql_options(&stage.through()));
            let mut ids = Vec::new();
            for number in 0..20 {
                let mut db = pool.get_conn().await.unwrap();
                let (id, left): (u64, Option<u64>) = db.query_first("SELECT connection_id(), @mine").await.unwrap().unwrap();
                assert_eq!(left, None, "what an earlier user of it had set is gone");
                db.query_drop(format!("SET @mine = {number}")).await.unwrap();
                ids.push(id);
            }
            pool.disconnect().await.unwrap();
            ids.sort_unstable();
            ids.dedup();
            ids.len()
        });
        // It cleans one while it gives out another; how many it has in the end hangs on how fast the machine is.
        assert!(sessions < 20, "{sessions} sessions for 20 uses");
        stage.nothing_is_left();
        assert_eq!(stage.scene.keyward.until_audit("closed", sessions).len(), sessions);
    }
}

#[test]
fn each_family_of_clients_prints_a_large_result() {
    for server in [Some(mariadb()), mysql9()].into_iter().flatten() {
        let stage = MysqlStage::new(server, "");
        for client in MysqlClient::all() {
            let said = client.run(&stage.through().with("max-allowed-packet=64M"), "SELECT REPEAT('abcdefghij', 2000000), 'end'");
            assert!(said.ok() == "abcdefghij".repeat(2_000_000) + "\tend", "{client:?} printed another text");
        }
        stage.nothing_is_left();
    }
}
