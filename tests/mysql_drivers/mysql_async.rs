//! The steps with mysql_async.

use std::fmt::Debug;
use std::path::Path;
use std::sync::mpsc::Sender;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use mysql_async::prelude::{Queryable, StatementLike};
use mysql_async::{ChangeUserOpts, Conn, Error, OptsBuilder, Params, Row, TxOpts, Value};

use crate::bed::{MysqlDsn, mysql_options};

/// Does one step. Fails by panicking.
pub fn act(step: &str, dsn: &MysqlDsn, file: &Path, say: &Sender<String>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let said = runtime.block_on(async {
        match step {
            "login" => login(dsn).await,
            "wrong_password" => Ok(code(&Conn::new(mysql_options(dsn)).await.unwrap_err())),
            "untrusted" => Ok(untrusted(&Conn::new(mysql_options(dsn)).await.unwrap_err())),
            "types" => types(dsn).await,
            "transaction" => transaction(dsn).await,
            "results" => results(dsn).await,
            "streamed" => streamed(dsn).await,
            "big" => big(dsn).await,
            "infile" => infile(dsn, file).await,
            "no_infile" => no_infile(dsn, file).await,
            "session" => session(dsn).await,
            "change_user" => change_user(dsn).await,
            "errors" => errors(dsn).await,
            other => panic!("no step {other}"),
        }
    });
    say.send(said.unwrap()).unwrap();
}

fn code(error: &Error) -> String {
    match error {
        Error::Server(error) if error.code == 1045 => format!("{} {}", error.code, error.state),
        Error::Server(error) => format!("{} {} {}", error.code, error.state, error.message),
        other => format!("{other}"),
    }
}

fn untrusted(error: &Error) -> String {
    format!("refused {}", error.to_string().contains("UnknownIssuer"))
}

async fn all<Q: StatementLike>(db: &mut Conn, query: Q, values: impl Into<Params> + Send) -> Result<Vec<Row>, Error> {
    db.exec(query, values).await
}

fn shown(rows: impl Debug) -> String {
    format!("{rows:?}\n")
}

async fn login(dsn: &MysqlDsn) -> Result<String, Error> {
    let mut db = Conn::new(mysql_options(dsn)).await?;
    let row: Option<Row> = db.query_first("SELECT current_user(), database(), @@version, @@character_set_client").await?;
    let version = db.server_version();
    db.disconnect().await?;
    Ok(format!("{row:?} {version:?}"))
}

async fn types(dsn: &MysqlDsn) -> Result<String, Error> {
    let mut db = Conn::new(mysql_options(dsn)).await?;
    let text: Vec<Row> = db.query("SELECT * FROM types ORDER BY id").await?;
    let prepared = all(&mut db, "SELECT * FROM types WHERE id > ? ORDER BY id", (0,)).await?;
    let columns = shown(text[0].columns_ref());
    let values = || (42, "it's \\ ünïcode € 🦀", Value::NULL, b"\0\xff'\\".as_slice(), 1.5_f64);
    let one = all(&mut db, "SELECT ?, ?, ?, ?, ?", values()).await?;
    let again = all(&mut db, "SELECT ?, ?, ?, ?, ?", values()).await?;
    db.disconnect().await?;
    Ok([columns, shown(text), shown(prepared), shown(one), shown(again)].concat())
}

async fn transaction(dsn: &MysqlDsn) -> Result<String, Error> {
    let mut db = Conn::new(mysql_options(dsn)).await?;
    let mut outer = db.start_transaction(TxOpts::default()).await?;
    outer.query_drop("INSERT INTO work VALUES (1, 'one')").await?;
    outer.commit().await?;
    let mut undone = db.start_transaction(TxOpts::default()).await?;
    let twice = undone.query_drop("INSERT INTO work VALUES (1, 'again')").await.unwrap_err();
    undone.exec_drop("INSERT INTO work VALUES (?, ?)", (2, "two")).await?;
    undone.rollback().await?;
    db.exec_batch("INSERT INTO work (word) VALUES (?)", (0..1000).map(|number| (format!("word {number}"),))).await?;
    let rows: Vec<Row> = db.query("SELECT count(*), max(id) FROM work").await?;
    db.disconnect().await?;
    Ok(format!("{} {rows:?}", code(&twice)))
}

async fn results(dsn: &MysqlDsn) -> Result<String, Error> {
    let mut db = Conn::new(mysql_options(dsn)).await?;
    let mut said = String::new();
    let many = "SELECT 1; SELECT 2, 'b' UNION SELECT 3, NULL; UPDATE numbers SET word = '' WHERE id < 3; DO 1; SELECT 'last'";
    for query in [many, "CALL several(21, @twice); SELECT @twice"] {
        let mut results = db.query_iter(query).await?;
        while !results.is_empty() {
            said += &shown((results.collect::<Row>().await?, results.affected_rows()));
        }
    }
    let mut results = db.exec_iter("CALL several(?, @twice)", (22,)).await?;
    while !results.is_empty() {
        said += &shown(results.collect::<Row>().await?);
    }
    drop(results);
    let mut results = db.query_iter("CALL failing()").await?;
    said += &shown(results.collect::<Row>().await?);
    said += &code(&results.collect::<Row>().await.unwrap_err());
    drop(results);
    said += &shown(db.query::<Row, _>("SELECT 'still here'").await?);
    db.disconnect().await?;
    Ok(said)
}

async fn streamed(dsn: &MysqlDsn) -> Result<String, Error> {
    let mut db = Conn::new(mysql_options(dsn)).await?;
    let mut rows = db.exec_stream::<(u64, String), _, _>("SELECT id, word FROM numbers ORDER BY id", ()).await?;
    let mut said = String::new();
    while let Some(row) = rows.next().await {
        let (number, word) = row?;
        said += &format!("{number}{word}");
    }
    drop(rows);
    db.disconnect().await?;
    Ok(said)
}

async fn big(dsn: &MysqlDsn) -> Result<String, Error> {
    let mut db = Conn::new(mysql_options(dsn)).await?;
    let (text, behind): (String, String) = db.query_first("SELECT REPEAT('abcdefghij', 2000000), 'behind'").await?.unwrap();
    let same = text == "abcdefghij".repeat(2_000_000);
    let rows = all(&mut db, "SELECT length(?), sha2(?, 256)", (&text, &text)).await?;
    let back: Option<String> = db.exec_first("SELECT ?", (&text,)).await?;
    db.disconnect().await?;
    Ok(format!("{same} {behind} {rows:?} {}", back == Some(text)))
}

/// In pieces that are not the lengths of the lines.
fn sending(options: OptsBuilder, file: &Path) -> OptsBuilder {
    let content = std::fs::read(file).unwrap();
    let pieces: Vec<Bytes> = content.chunks(7001).map(Bytes::copy_from_slice).collect();
    let handler = move |_: &[u8]| {
        let pieces = pieces.clone();
        async move { Ok(stream::iter(pieces.into_iter().map(Ok)).boxed()) }.boxed()
    };
    options.local_infile_handler(Some(handler))
}

async fn load(db: &mut Conn) -> String {
    let loaded = db.query_drop("LOAD DATA LOCAL INFILE 'a name of mine' INTO TABLE `lines`").await;
    loaded.map_or_else(|error| code(&error), |()| "done".to_owned())
}

async fn infile(dsn: &MysqlDsn, file: &Path) -> Result<String, Error> {
    let mut db = Conn::new(sending(mysql_options(dsn), file)).await?;
    let loaded = load(&mut db).await;
    let rows: Vec<Row> = db.query("SELECT count(*), sum(length(line)), sum(crc32(line)) FROM `lines`").await?;
    db.disconnect().await?;
    Ok(format!("{loaded} {rows:?}"))
}

async fn no_infile(dsn: &MysqlDsn, file: &Path) -> Result<String, Error> {
    let mut db = Conn::new(sending(mysql_options(dsn), file)).await?;
    let loaded = load(&mut db).await;
    let here: Option<String> = db.query_first("SELECT 'still here'").await?;
    db.disconnect().await?;
    Ok(format!("{loaded} {here:?}"))
}

async fn session(dsn: &MysqlDsn) -> Result<String, Error> {
    let mut db = Conn::new(mysql_options(dsn)).await?;
    db.ping().await?;
    db.query_drop("SET @mine = 42").await?;
    let reset = db.reset().await?;
    let rows: Vec<Row> = db.query("SELECT @mine, database()").await?;
    db.disconnect().await?;
    Ok(format!("{reset} {rows:?}"))
}

async fn change_user(dsn: &MysqlDsn) -> Result<String, Error> {
    let mut db = Conn::new(mysql_options(dsn)).await?;
    db.query_drop("SET @mine = 42").await?;
    db.change_user(ChangeUserOpts::default()).await?;
    let rows: Vec<Row> = db.query("SELECT @mine, database(), current_user()").await?;
    let prepared = all(&mut db, "SELECT count(*) FROM numbers WHERE id > ?", (1,)).await?;
    db.disconnect().await?;
    Ok(format!("{rows:?} {prepared:?}"))
}

async fn errors(dsn: &MysqlDsn) -> Result<String, Error> {
    let mut db = Conn::new(mysql_options(dsn)).await?;
    let mut said = Vec::new();
    for query in
        ["SELEKT 1", "SELECT * FROM there_is_none_such", "INSERT INTO numbers VALUES (1, 'twice')", "DROP DATABASE mysql", "KILL 1"]
    {
        said.push(code(&db.query_drop(query).await.unwrap_err()));
        said.push(code(&db.exec_drop(query, ()).await.unwrap_err()));
    }
    let rows: Vec<Row> = db.query("SELECT cast('abc' AS signed), 1/0").await?;
    let warnings = db.get_warnings();
    let told: Vec<Row> = db.query("SHOW WARNINGS").await?;
    db.disconnect().await?;
    Ok(format!("{said:?} {rows:?} {warnings} {told:?}"))
}
