//! The steps with tokio-postgres.

use std::pin::pin;
use std::sync::mpsc::{Receiver, Sender};

use bytes::Bytes;
use futures_util::future::try_join_all;
use futures_util::{SinkExt, TryStreamExt};
use tokio_postgres::Error;

use crate::bed::{Dsn, RustClient, SOON};

/// Does one step. Fails by panicking.
pub fn act(step: &str, dsn: &Dsn, ears: &Receiver<()>, say: &Sender<String>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let said = runtime.block_on(async {
        match step {
            "login" => login(dsn).await,
            "wrong_password" => Ok(code(&RustClient::connect(dsn).await.err().unwrap())),
            "parameters" => parameters(dsn).await,
            "transaction" => transaction(dsn).await,
            "large_row" => large_row(dsn).await,
            "copy" => copy(dsn).await,
            "pipeline" => pipeline(dsn).await,
            "cancel" => cancel(dsn, ears).await,
            "reconnect" => reconnect(dsn, ears, say).await,
            other => panic!("no step {other}"),
        }
    });
    say.send(said.unwrap()).unwrap();
}

fn code(error: &Error) -> String {
    error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned())
}

async fn login(dsn: &Dsn) -> Result<String, Error> {
    let db = RustClient::connect(dsn).await?;
    let row = db.client.query_one("SELECT current_database()::text, current_user::text", &[]).await?;
    Ok(format!("{} {}", row.get::<_, String>(0), row.get::<_, String>(1)))
}

async fn parameters(dsn: &Dsn) -> Result<String, Error> {
    let db = RustClient::connect(dsn).await?;
    let query = db.client.prepare("SELECT $1::int, $2::text, $3::text, $4::bytea, $5::int[], $6::float8, $7::bool").await?;
    let (text, none, bytes, numbers) = ("it's \\ ünïcode €", None::<String>, [0_u8, 255].as_slice(), vec![Some(1), None, Some(3)]);
    let row = db.client.query_one(&query, &[&42, &text, &none, &bytes, &numbers, &1.5_f64, &true]).await?;
    let shown = (row.get::<_, i32>(0), row.get::<_, String>(1), row.get::<_, Option<String>>(2), row.get::<_, Vec<u8>>(3));
    Ok(format!("{shown:?} {:?} {} {}", row.get::<_, Vec<Option<i32>>>(4), row.get::<_, f64>(5), row.get::<_, bool>(6)))
}

async fn transaction(dsn: &Dsn) -> Result<String, Error> {
    let mut db = RustClient::connect(dsn).await?;
    db.client.batch_execute("CREATE TEMP TABLE t (id int PRIMARY KEY)").await?;
    let mut outer = db.client.transaction().await?;
    outer.execute("INSERT INTO t VALUES (1)", &[]).await?;
    let inner = outer.transaction().await?;
    let twice = code(&inner.execute("INSERT INTO t VALUES (1)", &[]).await.unwrap_err());
    let aborted = code(&inner.execute("SELECT 1", &[]).await.unwrap_err());
    inner.rollback().await?;
    outer.commit().await?;
    let undone = db.client.transaction().await?;
    undone.execute("INSERT INTO t VALUES (2)", &[]).await?;
    undone.rollback().await?;
    let rows = db.client.query_one("SELECT array_agg(id) FROM t", &[]).await?;
    Ok(format!("{twice} {aborted} {:?}", rows.get::<_, Vec<i32>>(0)))
}

async fn large_row(dsn: &Dsn) -> Result<String, Error> {
    let db = RustClient::connect(dsn).await?;
    let text: String = db.client.query_one("SELECT repeat('abcdefghij', 1024 * 1024)", &[]).await?.get(0);
    let row = db.client.query_one("SELECT length($1::text), md5($1::text)", &[&text]).await?;
    Ok(format!("{} {} {}", text == "abcdefghij".repeat(1024 * 1024), row.get::<_, i32>(0), row.get::<_, String>(1)))
}

async fn copy(dsn: &Dsn) -> Result<String, Error> {
    let db = RustClient::connect(dsn).await?;
    db.client.batch_execute("CREATE TEMP TABLE t (id int, word text)").await?;
    let text: String = (0..20000).map(|number| format!("{number}\tword {number}\n")).collect();
    let mut into = pin!(db.client.copy_in::<_, Bytes>("COPY t FROM STDIN").await?);
    into.send(Bytes::from(text.clone())).await?;
    let rows = into.finish().await?;
    let out = db.client.copy_out("COPY (SELECT * FROM t ORDER BY id) TO STDOUT").await?;
    let pieces: Vec<Bytes> = out.try_collect().await?;
    Ok(format!("{rows} {}", pieces.concat() == text.as_bytes()))
}

async fn pipeline(dsn: &Dsn) -> Result<String, Error> {
    let db = RustClient::connect(dsn).await?;
    let double = db.client.prepare("SELECT $1::int * 2").await?;
    let numbers: Vec<i32> = (0..2000).collect();
    // Polled together, they are all sent before the first is answered.
    let queries = numbers.iter().map(async |number| db.client.query_one(&double, &[number]).await);
    let rows = try_join_all(queries).await?;
    Ok(rows.iter().map(|row| i64::from(row.get::<_, i32>(0))).sum::<i64>().to_string())
}

async fn cancel(dsn: &Dsn, ears: &Receiver<()>) -> Result<String, Error> {
    let db = RustClient::connect(dsn).await?;
    let query = db.client.batch_execute("SELECT pg_advisory_lock(7), pg_sleep(60)");
    let stop = async {
        tokio::task::block_in_place(|| ears.recv_timeout(SOON)).unwrap();
        db.cancel().await;
    };
    // The query first, so that it is under way when the other blocks its thread; the connection has a thread of its own.
    let (outcome, ()) = tokio::join!(query, stop);
    let here = db.client.query_one("SELECT 'still here'", &[]).await?;
    Ok(format!("{} {}", code(&outcome.unwrap_err()), here.get::<_, String>(0)))
}

async fn reconnect(dsn: &Dsn, ears: &Receiver<()>, say: &Sender<String>) -> Result<String, Error> {
    let wait = || tokio::task::block_in_place(|| ears.recv_timeout(SOON)).unwrap();
    let db = RustClient::connect(dsn).await?;
    say.send(db.client.query_one("SELECT 'first'", &[]).await?.get(0)).unwrap();
    wait();
    let end = tokio::time::timeout(SOON, db.ended).await.expect("the connection ends").unwrap();
    say.send(end.map_or("closed".to_owned(), |error| code(&error))).unwrap();
    wait();
    login(dsn).await
}
