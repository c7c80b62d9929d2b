//! The programs that come with MySQL and MariaDB, and sysbench: through Keyward they print what they print directly.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::bed::{
    Certificate, Dialogue, Mysql, MysqlClient, MysqlDsn, MysqlStage, MysqlTool, WITH_BINLOG, mariadb, mysql_servers, mysql9, run, scratch,
};
use crate::mysql_drivers::what_looks_like_commands;

const LONG: Duration = Duration::from_secs(120);

#[test]
fn what_mysql_and_mariadb_print_is_the_same_byte_for_byte() {
    for server in [Some(mariadb()), mysql9()].into_iter().flatten() {
        let stage = MysqlStage::new(server, "");
        for client in MysqlClient::all() {
            let said = |dsn: &MysqlDsn| {
                stage.fill("DO 1");
                let mut command = client.tool(MysqlTool::Shell, dsn);
                command.args(["--table", "--force", "-vv", "--show-warnings", "--column-type-info", "--default-character-set=utf8mb4"]);
                command.arg(dsn.place().database.unwrap());
                let output = run(command, include_str!("mysql_clients/statements.sql"), LONG);
                format!("{}\n{}", masked(&output.stdout), masked(&output.stderr))
            };
            let direct = said(&stage.direct());
            assert!(direct.contains("id: 1\n") || direct.contains("the end"), "{client:?} did not get to the end: {direct}");
            for (way, dsn) in stage.ways() {
                assert_same(&said(&dsn), &direct, &format!("{client:?} {way} before {}", server.address()));
            }
        }
        stage.nothing_is_left();
    }
}

/// What `status` says of the transport and of the time is of the transport and of the time.
fn masked(said: &str) -> String {
    const OWN: [&str; 8] = ["Connection id:", "SSL:", "Connection:", "TCP port:", "UNIX socket:", "Uptime:", "Threads:", "Binary data as:"];
    said.lines().filter(|line| !OWN.iter().any(|start| line.starts_with(start))).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn assert_same(said: &str, direct: &str, context: &str) {
    if said != direct {
        let line = said.lines().zip(direct.lines()).position(|(one, other)| one != other);
        let line = line.unwrap_or_else(|| said.lines().count().min(direct.lines().count()));
        let around = |text: &str| text.lines().skip(line.saturating_sub(3)).take(6).collect::<Vec<_>>().join("\n");
        panic!("{context}: line {line} differs:\n--- through\n{}\n--- directly\n{}", around(said), around(direct));
    }
}

#[test]
fn a_client_loads_its_own_file_where_the_connection_allows_it_and_nowhere_else() {
    let file = scratch("infile").join("lines");
    fs::write(&file, what_looks_like_commands()).unwrap();
    let load = format!("LOAD DATA LOCAL INFILE '{}' INTO TABLE `lines`;", file.display());
    for server in [Some(mariadb()), mysql9()].into_iter().flatten() {
        let (open, closed) = (MysqlStage::new(server, "local_infile: true"), MysqlStage::new(server, ""));
        for client in MysqlClient::all() {
            let said = |dsn: &MysqlDsn| {
                open.fill("CREATE TABLE `lines` (line varchar(200) CHARACTER SET latin1)");
                client.run(&dsn.clone().with("loose-local-infile=1"), &format!("{load} SELECT count(*), sum(crc32(line)) FROM `lines`"))
            };
            let direct = said(&open.direct());
            assert!(direct.ok().starts_with("78125\t"), "{client:?}: {direct:?}");
            for (way, dsn) in open.ways() {
                assert_eq!(said(&dsn).ok(), direct.ok(), "{client:?} {way}");
            }
            closed.fill("CREATE TABLE `lines` (line varchar(200) CHARACTER SET latin1)");
            let refused = client.run(&closed.through().with("loose-local-infile=1").with("loose-force"), &format!("{load} SELECT 'here'"));
            assert!(["1148", "3948", "4166"].iter().any(|code| refused.stderr.contains(code)), "{client:?}: {refused:?}");
            assert_eq!(server.sql(&closed.database, "SELECT count(*) FROM `lines`"), "0");
        }
        open.nothing_is_left();
        closed.nothing_is_left();
    }
}

const CONTENT: &str = "
CREATE TABLE digits (d int);
INSERT INTO digits VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9);
CREATE TABLE parent (id int PRIMARY KEY, word varchar(200) NOT NULL, raw varbinary(200), at datetime(6), m enum('calm', 'wild'), j json, KEY (word))
  ENGINE = InnoDB;
INSERT INTO parent SELECT n, CONCAT('tab\\there \\\\ '' ünïcode 🦀 ', n, REPEAT('x', 50)), UNHEX(SHA2(n, 256)), '2020-01-01' + INTERVAL n HOUR,
  IF(n % 2, 'calm', NULL), JSON_OBJECT('n', n) FROM
  (SELECT a.d + 10 * b.d + 100 * c.d + 1000 * d.d AS n FROM digits a, digits b, digits c, digits d) AS numbers;
CREATE TABLE child (id int PRIMARY KEY AUTO_INCREMENT, parent int, price decimal(20, 7), FOREIGN KEY (parent) REFERENCES parent (id));
INSERT INTO child (parent, price) SELECT id, id / 7 FROM parent;
CREATE TABLE large (id int, text longtext);
INSERT INTO large VALUES (1, REPEAT('0123456789', 150000)), (2, NULL), (3, '');
CREATE SQL SECURITY INVOKER VIEW priced AS SELECT word, price FROM parent JOIN child ON child.parent = parent.id;
CREATE TRIGGER before_child BEFORE INSERT ON child FOR EACH ROW SET NEW.price = coalesce(NEW.price, 1);
";

#[test]
fn a_dump_through_keyward_is_the_dump_of_the_server_and_loads_through_keyward() {
    for server in mysql_servers() {
        let stage = MysqlStage::new(server, "databases: any");
        stage.fill("DO 1");
        // By the account itself, so that it is the definer and may make all of it anew.
        server.sql("", "SET GLOBAL log_bin_trust_function_creators = 1");
        server.client.run(&stage.through(), &format!("SET NAMES utf8mb4;\n{CONTENT}")).ok();
        for (client, all) in dumpers(server) {
            let dump = |dsn: &MysqlDsn, arguments: &[&str]| undated(client.dump(dsn, &[all, arguments].concat()).ok());
            for (transaction, ways) in [("--single-transaction", 3), ("--lock-tables", 1)] {
                let direct = dump(&stage.direct(), &[transaction]);
                assert!(direct.len() > 3_000_000 && direct.contains("VIEW `priced`"), "there was something to dump: {}", direct.len());
                for (way, dsn) in stage.ways().into_iter().take(ways) {
                    // The program names the database later than the login.
                    let dsn = dsn.with_user("alice+orders").database(&stage.database);
                    assert_same(&dump(&dsn, &[transaction]), &direct, &format!("{client:?} {transaction} {way} of {}", server.address()));
                }
            }
            let named = ["--routines", "--databases", &stage.database];
            let direct = dump(&server.verified_dsn(&stage.scene.app), &named);
            assert_same(&dump(&stage.scene.lobby(), &named), &direct, "--databases");
            assert!(direct.contains("CREATE DATABASE"), "{}", &direct[..2000]);

            let copy = server.database();
            let into = stage.through().database(&copy);
            let dumped = client.dump(&stage.through(), all);
            client.run(&into, dumped.ok()).ok();
            assert_same(&dump(&into, &[]), &dump(&stage.direct(), &[]), "the dump of what was loaded");
            assert_eq!(
                server.sql(&copy, "SELECT count(*), max(price) FROM priced"),
                server.sql(&stage.database, "SELECT count(*), max(price) FROM priced")
            );
        }
        stage.nothing_is_left();
    }
}

/// A dump needs the words of its own family: what it asks about tablespaces and statistics is not the other's.
fn dumpers(server: &Mysql) -> Vec<(MysqlClient, &'static [&'static str])> {
    let own = |client: &MysqlClient| server.is_mariadb() == (*client != MysqlClient::Mysql9);
    let arguments: &[&str] =
        if server.is_mariadb() { &["--hex-blob"] } else { &["--hex-blob", "--no-tablespaces", "--set-gtid-purged=OFF"] };
    MysqlClient::all().into_iter().filter(own).map(|client| (client, arguments)).collect()
}

/// Without the lines that say when it was made, where, and of what.
fn undated(dump: &str) -> String {
    let own = |line: &&str| !line.starts_with("-- Host:") && !line.starts_with("-- Dump completed on");
    dump.lines().filter(own).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_dump_may_name_the_connection_instead_of_the_database() {
    for server in mysql_servers() {
        let stage = MysqlStage::new(server, "");
        stage.fill("CREATE TABLE t (id int PRIMARY KEY, word varchar(10)); INSERT INTO t VALUES (1, 'one'), (2, NULL)");
        for (client, all) in dumpers(server) {
            let direct = undated(client.dump(&stage.direct(), all).ok());
            // The login names none: the first that it hears of it is COM_INIT_DB.
            let lobby = stage.scene.lobby().with_user("alice+orders");
            assert_same(&undated(client.dump(&lobby.clone().database("orders"), all).ok()), &direct, "dump orders");
            let said = client.dump(&lobby, &[all, &["--databases", "orders"]].concat());
            assert!(said.ok().contains("USE `orders`;") && said.ok().contains("INSERT INTO `t` VALUES"), "{client:?}: {said:?}");
            // And what it dumped it can read again: `USE` of the connection's own name.
            let without_creation = client.dump(&lobby, &[all, &["--no-create-db", "--databases", "orders"]].concat());
            client.run(&lobby, without_creation.ok()).ok();
            assert_same(&undated(client.dump(&stage.direct(), all).ok()), &direct, "what was read again");
        }
        stage.nothing_is_left();
    }
}

#[test]
fn sysbench_runs_with_prepared_statements() {
    for server in [Some(mariadb()), mysql9()].into_iter().flatten() {
        let stage = MysqlStage::new(server, "");
        stage.fill("DO 1");
        let [_, (_, plain), (_, socket)] = stage.ways();
        sysbench(&plain, &["prepare"]);
        for dsn in [&plain, &socket] {
            for mode in ["auto", "disable"] {
                let said = sysbench(dsn, &["--threads=8", "--events=400", "--time=0", &format!("--db-ps-mode={mode}"), "run"]);
                let numbers = said.split_whitespace().collect::<Vec<_>>().join(" ");
                for part in ["transactions: 400 ", "reconnects: 0 "] {
                    assert!(numbers.contains(part), "{mode}: {part:?} in {said:?}");
                }
            }
        }
        sysbench(&socket, &["cleanup"]);
        stage.nothing_is_left();
    }
}

#[track_caller]
fn sysbench(dsn: &MysqlDsn, arguments: &[&str]) -> String {
    let (place, folder) = (dsn.place(), scratch("sysbench"));
    let to = match &place.socket {
        Some(path) => format!("mysql-socket={}", path.display()),
        None => format!("mysql-host={}\nmysql-port={}", place.host, place.port),
    };
    let (user, password, database) = (place.user, place.password, place.database.unwrap());
    let file = folder.join("config");
    fs::write(&file, format!("db-driver=mysql\n{to}\nmysql-user={user}\nmysql-password={password}\nmysql-db={database}\n")).unwrap();
    let mut command = Command::new("sysbench");
    // Deadlocks among its threads are the database's own; any other error ends it.
    let what = ["--tables=2", "--table-size=2000", "--mysql-ignore-errors=1213", "oltp_read_write"];
    command.arg(format!("--config-file={}", file.display())).args(what).args(arguments);
    command.current_dir(folder);
    run(command, "", LONG).ok().to_owned()
}

#[test]
fn the_binary_log_comes_through_where_the_connection_allows_replication_and_nowhere_else() {
    for name in ["mariadb", "mysql-9"] {
        let Some(server) = Mysql::own(name, Certificate::OfTheBed, WITH_BINLOG) else { continue };
        let (open, closed) = (MysqlStage::new(&server, "replication: true"), MysqlStage::new(&server, ""));
        for stage in [&open, &closed] {
            server.sql("", &format!("GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO '{}'@'%'", stage.scene.app.name));
        }
        // MariaDB writes there how users were made.
        server.sql("", "FLUSH BINARY LOGS");
        let logs = server.sql("", "SHOW BINARY LOGS");
        let log = logs.lines().last().and_then(|line| line.split('\t').next()).unwrap();
        open.fill("CREATE TABLE t (id int PRIMARY KEY, text longtext); INSERT INTO t VALUES (1, REPEAT('long', 1000000)), (2, 'ü')");
        let command = |dsn: &MysqlDsn, arguments: &[&str]| {
            let mut command = server.client.tool(MysqlTool::Binlog, dsn);
            command.args(["--read-from-remote-server", "--verbose"]).args(arguments).arg(log);
            command
        };
        let print = |dsn: &MysqlDsn| run(command(dsn, &["--to-last-log"]), "", LONG);
        let direct = print(&open.direct());
        assert!(direct.ok().len() > 5_000_000 && direct.ok().contains("### INSERT INTO"), "{} bytes: {}", direct.ok().len(), direct.stderr);
        for (way, dsn) in open.ways() {
            // The program names no database.
            assert_same(print(&dsn.with_user("alice+orders")).ok(), direct.ok(), &format!("{name} {way}"));
        }

        // What is written while somebody waits for more comes at once.
        let waiting = Dialogue::with_program(&command(&open.through(), &["--stop-never"]));
        let until = |text: &str| while !waiting.line().contains(text) {};
        until("###   @1=2");
        server.sql(&open.database, "INSERT INTO t VALUES (3, 'news')");
        until("###   @1=3");
        drop(waiting);

        let refused = print(&closed.through());
        assert!(refused.code != Some(0) && refused.stderr.contains("does not allow this command"), "{refused:?}");
        open.nothing_is_left();
        closed.nothing_is_left();
    }
}
