//! The table on bad days: against the real PostgreSQL of the tests, and against servers that no PostgreSQL would be.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::store::contract::beds::{OwnTable, open, sql, table, try_open, try_sql};
use crate::store::vault::real;

async fn read(store: &dyn Store, name: &str) -> Result<Document, StoreError> {
    store.read(SessionId::random(), &SecretPath::of_name(name, None).unwrap(), true).await
}

async fn kind(store: &dyn Store, name: &str) -> StoreErrorKind {
    read(store, name).await.err().unwrap_or_else(|| panic!("{name} was read")).kind
}

/// How many connections of the table's login there are.
fn connections(own: &OwnTable) -> String {
    sql(&format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{}'", own.reader))
}

#[tokio::test]
async fn all_reads_share_one_connection_and_one_that_the_server_ended_is_replaced_unseen() {
    let (bed, own) = table("table", None);
    bed.put("a", &json!({"k": "v"})).await;
    for document in futures_util::future::join_all((0..20).map(|_| read(&*bed.store, "a"))).await {
        document.unwrap();
    }
    assert_eq!(connections(&own), "1");
    for _ in 0..3 {
        sql(&format!("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '{}'", own.reader));
        assert_eq!(connections(&own), "0");
        read(&*bed.store, "a").await.unwrap();
    }
    assert_eq!(connections(&own), "1");
    let shown = sql(&format!("SELECT application_name FROM pg_stat_activity WHERE usename = '{}'", own.reader));
    assert_eq!(shown, "keyward", "its admin sees whose it is");
}

#[tokio::test]
async fn a_table_that_somebody_has_locked_is_waited_for_two_seconds() {
    let (bed, own) = table("table", None);
    bed.put("a", &json!({"k": "v"})).await;
    read(&*bed.store, "a").await.unwrap();
    let schema = &own.schema;
    let locked = format!("BEGIN; LOCK TABLE {schema}.secret IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(60)");
    let lock = std::thread::spawn(move || try_sql(&locked).is_some());
    let held = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation IS NOT NULL";
    let end = Instant::now() + Duration::from_secs(30);
    while sql(&format!("{held} AND relation = '{schema}.secret'::regclass")) != "1" {
        assert!(Instant::now() < end, "nobody holds the lock");
    }
    let error = read(&*bed.store, "a").await.err().unwrap();
    assert!(error.kind == StoreErrorKind::Unavailable, "{error}");
    // On a slow machine we have stopped listening by then, a second later; the server gives up by itself all the same.
    assert!(error.detail.contains("57014") || error.detail.contains("no answer in 3 s"), "{error}");
    let waits = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{}' AND wait_event_type = 'Lock'", own.reader);
    while sql(&waits) != "0" {
        assert!(Instant::now() < end, "the server waits for the lock without end");
    }
    assert_eq!(sql(&format!("{held} AND relation = '{schema}.secret'::regclass")), "1", "which is still held");
    sql(&format!(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = '{schema}.secret'::regclass"
    ));
    assert!(!lock.join().unwrap());
    read(&*bed.store, "a").await.unwrap();
}

#[tokio::test]
async fn rows_that_hold_no_secret_say_why() {
    let (bed, own) = table("table", None);
    let schema = &own.schema;
    sql(&format!("INSERT INTO {schema}.secret VALUES ('null', NULL), ('sealed', 'v1:AAAA')"));
    sql(&format!("ALTER TABLE {schema}.secret DROP CONSTRAINT secret_pkey; INSERT INTO {schema}.secret VALUES ('two', 'a'), ('two', 'b')"));
    for (name, why) in [("null", "the value is null"), ("two", "more than one row"), ("sealed", "no `key`")] {
        let error = read(&*bed.store, name).await.err().unwrap();
        assert!(error.kind == StoreErrorKind::Malformed && error.detail.contains(why), "{error}");
    }
    // What an attacker would write as a name is a name.
    assert_eq!(kind(&*bed.store, "x' OR 'a' = 'a").await, StoreErrorKind::NotFound);
    sql(&format!("ALTER TABLE {schema}.secret RENAME COLUMN value TO elsewhere"));
    assert_eq!(kind(&*bed.store, "two").await, StoreErrorKind::NotFound);
    sql(&format!("DROP TABLE {schema}.secret"));
    assert_eq!(kind(&*bed.store, "two").await, StoreErrorKind::NotFound);
}

#[tokio::test]
async fn what_the_server_quotes_of_a_value_goes_nowhere() {
    let (bed, own) = table("table", None);
    let schema = &own.schema;
    // Latin-1 in a place of UTF-8, as a database without an encoding gives it: the bytes of `äcanary`.
    let latin1 = "e463616e617279";
    sql(&format!("INSERT INTO {schema}.secret VALUES ('cast', 'canary'), ('bytes', '{latin1}')"));
    let raise = "BEGIN RAISE EXCEPTION '%', $1 USING ERRCODE = '42P01'; END";
    sql(&format!("CREATE FUNCTION {schema}.raised(text) RETURNS text LANGUAGE plpgsql AS $function${raise}$function$"));
    for (number, (name, value, code)) in [
        ("cast", "value::integer", "22P02"),
        ("cast", "value::regclass", "42P01"),
        ("cast", "value::regtype", "42704"),
        ("cast", "value::json", "22P02"),
        ("cast", &*format!("{schema}.raised(value)"), "42P01"),
        ("bytes", "convert_from(decode(value, 'hex'), 'UTF8')", "22021"),
    ]
    .into_iter()
    .enumerate()
    {
        let view = format!("{schema}.view{number}");
        sql(&format!("CREATE VIEW {view} AS SELECT key, {value} AS value FROM {schema}.secret"));
        let store =
            open("table", &format!("address: '127.0.0.1:{}', database: postgres, table: {view}, username: postgres", real::postgres()));
        let error = read(&*store, name).await.err().unwrap();
        assert!(error.detail.contains(code), "{value}: {error}");
        assert!(!error.detail.contains("canary") && !error.detail.contains("0x"), "{value}: {error}");
    }
    // What is ours is named.
    sql(&format!("ALTER TABLE {schema}.secret RENAME COLUMN value TO elsewhere"));
    let error = read(&*bed.store, "cast").await.err().unwrap();
    assert!(error.detail.contains("column \"value\" does not exist (42703)"), "{error}");
}

#[tokio::test]
async fn a_sealed_table_takes_no_plain_value_and_none_of_another_name() {
    let (bed, own) = table("sealed table", Some(SealingKey::make().unwrap().to_string()));
    let schema = &own.schema;
    bed.put("orders", &json!({"password": "canary"})).await;
    read(&*bed.store, "orders").await.unwrap();
    sql(&format!("INSERT INTO {schema}.secret SELECT 'shop', value FROM {schema}.secret WHERE key = 'orders'"));
    sql(&format!("INSERT INTO {schema}.secret VALUES ('plain', 'canary')"));
    for name in ["shop", "plain"] {
        let error = read(&*bed.store, name).await.err().unwrap();
        assert!(error.kind == StoreErrorKind::Malformed && !error.detail.contains("canary"), "{error}");
    }
}

/// A server that does to every connection what a test says; its port, and how many came.
async fn server<F: Future<Output = ()> + Send + 'static>(each: impl Fn(TcpStream) -> F + Send + 'static) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, came) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&came);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(each(stream));
        }
    });
    (port, came)
}

fn store_at(port: u16) -> Arc<dyn Store> {
    open("table", &format!("address: '127.0.0.1:{port}', database: d, username: u, password: canary"))
}

/// A message of a server's: its type, its length, its body.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[kind], &length[..], body].concat()
}

async fn startup(stream: &mut TcpStream) {
    let length = stream.read_u32().await.unwrap();
    let mut body = vec![0; usize::try_from(length).unwrap() - 4];
    stream.read_exact(&mut body).await.unwrap();
}

#[tokio::test]
async fn a_refused_login_is_shared_by_those_who_come_with_it() {
    let (port, came) = server(|mut stream| async move {
        startup(&mut stream).await;
        let _ = stream.write_all(&message(b'E', b"SFATAL\0C28P01\0Mpassword authentication failed\0\0")).await;
    })
    .await;
    let store = store_at(port);
    for result in futures_util::future::join_all((0..20).map(|_| read(&*store, "a"))).await {
        let error = result.err().unwrap();
        assert!(error.kind == StoreErrorKind::LoginFailed && !error.detail.contains("canary"), "{error}");
    }
    assert_eq!(came.load(Ordering::Relaxed), 1, "a server must not be stormed, nor lock us out");
}

#[tokio::test]
async fn a_server_that_wants_a_password_of_an_unverified_peer_is_not_told_one() {
    let (port, _) = server(|mut stream| async move {
        startup(&mut stream).await;
        // It says that it has no TLS.
        let _ = stream.write_all(b"N").await;
        let mut more = Vec::new();
        let _ = stream.read_to_end(&mut more).await;
        assert!(more.is_empty(), "{more:?}");
    })
    .await;
    let keys = format!("address: 'localhost:{port}', database: d, username: u, password: canary, tls: {{ mode: verify-full, ca: CA }}");
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap().cert.pem()).unwrap();
    let store = open("table", &keys.replace("CA", &format!("'{}'", ca.display())));
    let error = read(&*store, "a").await.err().unwrap();
    assert!(error.kind == StoreErrorKind::LoginFailed && error.detail.contains("no TLS"), "{error}");
}

#[tokio::test]
async fn a_server_that_goes_away_in_the_middle_of_tls_is_away_and_not_another_one() {
    let (port, _) = server(|mut stream| async move {
        startup(&mut stream).await;
        let _ = stream.write_all(b"S").await;
        let _ = stream.read_u8().await;
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap().cert.pem()).unwrap();
    let tls = format!("tls: {{ mode: verify-full, ca: '{}' }}", ca.display());
    let store = open("table", &format!("address: 'localhost:{port}', database: d, username: u, password: canary, {tls}"));
    assert_eq!(kind(&*store, "a").await, StoreErrorKind::Unavailable, "what is in the cache may stand in for it");
}

#[tokio::test]
async fn an_answer_without_an_end_has_one_for_us() {
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let (port, _) = server(move |mut stream| {
        let count = Arc::clone(&count);
        async move {
            startup(&mut stream).await;
            let ready = [message(b'R', &[0; 4]), message(b'Z', b"I")].concat();
            let _ = stream.write_all(&ready).await;
            let _ = stream.read_u8().await;
            // A row of a gigabyte.
            let _ = stream.write_all(&[b'D', 0x40, 0, 0, 0]).await;
            while stream.write_all(&[0; 64 * 1024]).await.is_ok() {
                count.fetch_add(64 * 1024, Ordering::Relaxed);
            }
        }
    })
    .await;
    assert_eq!(kind(&*store_at(port), "a").await, StoreErrorKind::Unavailable);
    let written = written.load(Ordering::Relaxed);
    assert!(written > text::MAX && written < 64 * text::MAX, "{written}");
}

#[tokio::test]
async fn a_server_that_never_answers_has_five_seconds() {
    let (port, _) = server(|mut stream| async move {
        startup(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let store = store_at(port);
    let error = tokio::time::timeout(Duration::from_secs(20), read(&*store, "a")).await.unwrap().err().unwrap();
    assert!(error.kind == StoreErrorKind::Unavailable && error.detail.contains("no login in 5 s"), "{error}");
}

#[test]
fn settings_that_verify_nobody_are_refused() {
    let wrong = |keys: &str, why: &str| {
        let keys = format!("database: d, username: u, {keys}");
        let said = try_open("table", &keys).err().unwrap();
        assert!(said.contains(why), "{said}");
    };
    wrong("address: 'db:5432', tls: require", "`require` verifies nothing");
    wrong("address: /run/pg.sock, tls: verify-full", "none on a unix socket");
    wrong("address: 'db:5432', tls: { ca: /none/such.pem }", "/none/such.pem");
    wrong("address: 'db:5432', table: a.b.c", "schema.name");
    wrong("address: 'db:5432', key_column: 'k\"'", "`key_column` is a name");
}
