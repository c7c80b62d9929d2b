//! Drivers of MySQL and MariaDB: each does the same steps through Keyward and directly, and must see the same.
//!
//! The steps: `login`, `wrong_password`, `untrusted` (the CA of somebody else), `types` (as text and prepared), `transaction` (error, rollback, many rows), `results` (several
//! statements, procedures with several results, an error between them), `streamed` (row by row), `cursors` (on the server), `big` (20 MB
//! down and up, and packets of about 16 MiB), `infile` (`LOAD DATA LOCAL INFILE`), `session` (another database, another character set,
//! ping, statistics, reset), `change_user`, `pipelined`, `errors`; and `no_infile` where the connection does not allow it. What they find is
//! in `mysql_drivers/schema.sql`. A driver's script prints what it sees. Where to connect, as whom: [`MysqlDsn::command`] names the
//! variables; `MYSQL_FILE` is what is loaded.

mod mysql_async;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use crate::bed::{Dialogue, Mysql, MysqlDsn, MysqlStage, MysqlTls, installed, mariadb, mysql9, scratch};

const LONG: Duration = Duration::from_secs(90); // tens of megabytes between two lines
const STEPS: [&str; 14] = [
    "login",
    "wrong_password",
    "untrusted",
    "types",
    "transaction",
    "results",
    "streamed",
    "cursors",
    "big",
    "infile",
    "session",
    "change_user",
    "pipelined",
    "errors",
];

/// The steps that are also done without TLS, where a driver hides the password by the server's key or by nothing but the socket.
const STEPS_OF_EACH_WAY: [&str; 3] = ["login", "types", "results"];

/// A row of the table.
struct Driver {
    name: &'static str,
    program: Program,
    /// What it does not know.
    cannot: &'static [&'static str],
    /// Whether it proves itself by caching_sha2_password without TLS too.
    plain: bool,
}

enum Program {
    Python(&'static str),
    Node(&'static str),
    Rust,
}

const PYMYSQL: Driver =
    Driver { name: "PyMySQL", program: Program::Python("with_pymysql.py"), cannot: &["cursors", "change_user", "pipelined"], plain: true };
const CONNECTOR: Driver =
    Driver { name: "Connector/Python", program: Program::Python("with_connector.py"), cannot: &["pipelined"], plain: false };
const ASYNCMY: Driver = Driver {
    name: "asyncmy",
    program: Program::Python("with_asyncmy.py"),
    cannot: &["cursors", "change_user", "pipelined", "infile"],
    plain: true,
};
const MYSQL2: Driver = Driver { name: "mysql2", program: Program::Node("with_mysql2.js"), cannot: &["cursors", "pipelined"], plain: true };
const NODE_MARIADB: Driver = Driver { name: "mariadb", program: Program::Node("with_mariadb.js"), cannot: &["cursors"], plain: true };
const MYSQL_ASYNC: Driver = Driver { name: "mysql_async", program: Program::Rust, cannot: &["cursors", "pipelined"], plain: true };

#[test]
fn pymysql_sees_no_difference_on_mariadb() {
    sees_no_difference(&PYMYSQL, mariadb());
}

#[test]
fn pymysql_sees_no_difference_on_mysql() {
    mysql9().into_iter().for_each(|server| sees_no_difference(&PYMYSQL, server));
}

#[test]
fn connector_python_sees_no_difference_on_mariadb() {
    sees_no_difference(&CONNECTOR, mariadb());
}

#[test]
fn connector_python_sees_no_difference_on_mysql() {
    mysql9().into_iter().for_each(|server| sees_no_difference(&CONNECTOR, server));
}

#[test]
fn asyncmy_sees_no_difference_on_mariadb() {
    sees_no_difference(&ASYNCMY, mariadb());
}

#[test]
fn asyncmy_sees_no_difference_on_mysql() {
    mysql9().into_iter().for_each(|server| sees_no_difference(&ASYNCMY, server));
}

#[test]
fn node_mysql2_sees_no_difference_on_mariadb() {
    sees_no_difference(&MYSQL2, mariadb());
}

#[test]
fn node_mysql2_sees_no_difference_on_mysql() {
    mysql9().into_iter().for_each(|server| sees_no_difference(&MYSQL2, server));
}

#[test]
fn node_mariadb_sees_no_difference_on_mariadb() {
    sees_no_difference(&NODE_MARIADB, mariadb());
}

#[test]
fn node_mariadb_sees_no_difference_on_mysql() {
    mysql9().into_iter().for_each(|server| sees_no_difference(&NODE_MARIADB, server));
}

#[test]
fn mysql_async_sees_no_difference_on_mariadb() {
    sees_no_difference(&MYSQL_ASYNC, mariadb());
}

#[test]
fn mysql_async_sees_no_difference_on_mysql() {
    mysql9().into_iter().for_each(|server| sees_no_difference(&MYSQL_ASYNC, server));
}

#[test]
fn connector_python_sees_no_difference_where_the_relay_is_raw() {
    sees_no_difference_with(&CONNECTOR, mysql9().unwrap_or(mariadb()), ", relay: raw");
}

#[test]
fn no_command_is_different_on_mariadb() {
    every_command(mariadb());
}

#[test]
fn no_command_is_different_on_mysql() {
    mysql9().into_iter().for_each(every_command);
}

fn sees_no_difference(driver: &Driver, server: &Mysql) {
    sees_no_difference_with(driver, server, "");
}

fn sees_no_difference_with(driver: &Driver, server: &Mysql, keys: &str) {
    let stage = MysqlStage::new(server, &format!("local_infile: true{keys}"));
    for step in STEPS.into_iter().filter(|step| !driver.cannot.contains(step)) {
        let direct = act(&stage, driver, step, &stage.direct());
        assert!(!direct.is_empty(), "{} {step} says nothing", driver.name);
        assert!(step != "untrusted" || direct.to_lowercase() == "refused true", "{}: {direct}", driver.name);
        let all_ways = driver.plain && STEPS_OF_EACH_WAY.contains(&step);
        for (way, dsn) in stage.ways().into_iter().take(if all_ways { 3 } else { 1 }) {
            assert_eq!(act(&stage, driver, step, &dsn), direct, "{} {step} {way}", driver.name);
        }
    }
    stage.nothing_is_left();
    let closed = MysqlStage::new(server, "");
    let said = act(&closed, driver, "no_infile", &closed.through());
    // The server's own words, and Connector/Python's for one of them: it was told that this client has not the means.
    assert!(["1148", "3948", "4166", "rejected due to restrictions"].iter().any(|code| said.contains(code)), "{}: {said}", driver.name);
    assert!(said.contains("still here"), "{}: {said}", driver.name);
}

/// What no driver sends by itself, packet by packet.
fn every_command(server: &Mysql) {
    let stage = MysqlStage::new(server, "");
    server.sql("", &format!("GRANT SUPER ON *.* TO '{}'@'%'", stage.scene.app.name)); // COM_DEBUG
    let raw = Driver { name: "raw", program: Program::Python("with_commands.py"), cannot: &[], plain: true };
    for step in ["simple", "odd", "statements", "pipelined"] {
        let direct = act(&stage, &raw, step, &stage.direct());
        for (way, dsn) in stage.ways() {
            assert_eq!(act(&stage, &raw, step, &dsn), direct, "{step} {way}");
        }
    }
    let said = act(&stage, &raw, "dump_refused", &stage.through());
    let refused = ["18", "21", "19", "30"].map(|command| format!("{command} 255 1227 #42000\n")).concat();
    assert!(said.starts_with(&refused) && said.contains(&hex("still here")), "{said}");
    stage.nothing_is_left();
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// One step of one driver, and what it said.
fn act(stage: &MysqlStage<'_>, driver: &Driver, step: &'static str, dsn: &MysqlDsn) -> String {
    static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
        let file = scratch("infile").join("lines");
        fs::write(&file, what_looks_like_commands()).unwrap();
        file
    });
    stage.fill(include_str!("mysql_drivers/schema.sql"));
    let dsn = match step {
        "wrong_password" => dsn.clone().with_password("wrong"),
        "untrusted" => dsn.clone().tls(MysqlTls::Verified(if dsn.place().ca == Some(stage.server.ca()) {
            stage.scene.ca()
        } else {
            stage.server.ca()
        })),
        _ => dsn.clone(),
    };
    let script = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mysql_drivers").join(name);
    let mut command: Command = match driver.program {
        Program::Python(name) => {
            let mut command = dsn.command(installed("python").join("bin/python"));
            command.envs([("PYTHONDONTWRITEBYTECODE", "1"), ("PYTHONUTF8", "1"), ("PYTHONHASHSEED", "0")]).arg(script(name));
            command
        }
        Program::Node(name) => {
            let mut command = dsn.command("node");
            command.env("NODE_PATH", installed("node_modules")).arg(script(name));
            command
        }
        Program::Rust => {
            return Dialogue::with_thread(driver.name, move |_, say| mysql_async::act(step, &dsn, &FILE, &say)).rest_within(LONG);
        }
    };
    Dialogue::with_program(command.arg(step).env("MYSQL_FILE", &*FILE)).rest_within(LONG)
}

/// 5 MB, so that the packets of any driver's pieces are more than 256 and one of them has the sequence number of a command; whichever it
/// is, it begins as COM_CHANGE_USER does, or one of its neighbours that must not pass.
pub fn what_looks_like_commands() -> Vec<u8> {
    let line = [[0x11; 31].as_slice(), [0x12; 16].as_slice(), [0x0c; 16].as_slice(), b"\n"].concat();
    line.repeat(5_000_000 / line.len())
}
