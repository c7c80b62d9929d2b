//! How many instructions Keyward spends on a query, counted by callgrind: unlike time, that repeats, whatever else the machine does.
//!
//! A script of N queries is run once short and once long on a session of its own, and the difference of the two counts is divided by that of
//! their lengths: what a start, a login and an end cost is in both. Callgrind counts what runs in user space, not in the kernel, and it knows
//! no AVX-512, for which the cryptography then takes what an older processor would.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Scale;
use crate::bed::{Config, Dsn, Keyward, Login, Method, MysqlClient, MysqlDsn, MysqlTls, MysqlTool, Plugin, bao, canary};
use crate::bed::{mariadb, postgres15, run as run_to_end, scratch};
use crate::peers::program;
use crate::pgbench;
use crate::race::Spread;
use crate::report::{Report, number, spread};

const RELAYS: [&str; 2] = ["raw", "tracked"];

/// Everything is this many times slower under it, and more.
const LONG: Duration = Duration::from_secs(300);

pub fn run(scale: &Scale, report: &mut Report) {
    // The difference must outweigh what goes on beside the queries.
    let (lengths, rounds) = if scale.smoke { ([2, 12], 1) } else { ([100, 2100], scale.rounds.min(3)) };
    let counted = Counted::new();
    let mut table =
        "\n### Instructions of Keyward per query, by callgrind\n\n| | raw | tracked | tracked to raw |\n|---|--:|--:|--:|\n".to_owned();
    for (server, script) in [("PostgreSQL, prepared", Counted::pgbench as Script), ("MariaDB, as text", Counted::shell)] {
        for (tls, words) in [(true, "TLS to the client"), (false, "plain")] {
            if scale.smoke && !tls {
                continue;
            }
            let per_query = |relay: &str| {
                let [short, long] = lengths.map(|length| counted.of(|| script(&counted, relay, tls, length)));
                long.saturating_sub(short) as f64 / f64::from(lengths[1] - lengths[0])
            };
            // The first logins fill caches.
            RELAYS.iter().for_each(|relay| script(&counted, relay, tls, lengths[0]));
            let counts: Vec<[f64; 2]> = (0..rounds).map(|_| RELAYS.map(per_query)).collect();
            let median = |at: usize| number(Spread::of(counts.iter().map(|count| count[at])).median);
            let ratios = spread(Spread::of(counts.iter().map(|[raw, tracked]| tracked / raw)));
            writeln!(table, "| {server}, {words} | {} | {} | {ratios} |", median(0), median(1)).unwrap();
        }
    }
    report.section(&table);
}

/// Runs so many queries by this relay, with TLS or without.
type Script = fn(&Counted, &str, bool, u32);

/// A Keyward under callgrind, before both servers.
struct Counted {
    keyward: Keyward,
    folder: PathBuf,
    alice: String,
}

impl Counted {
    fn new() -> Self {
        let (postgres, mariadb) = (postgres15(), mariadb());
        let (kv, folder, alice) = (bao().mount_kv2(), scratch("callgrind"), canary());
        let logins = [("postgres", postgres.login(Method::Scram)), ("mariadb", mariadb.login(Plugin::Native))];
        for (name, Login { name: user, password }) in &logins {
            kv.put(name, &[("username", user), ("password", password)]);
        }
        let [of_postgres, of_mariadb] = logins.map(|(name, _)| kv.path(name));
        let body = |address: &str, database: &str, path: &str, relay: &str| {
            format!(
                "address: \"{address}\", database: {database}, store: corp, username: \"{path}?username\", \
                 password: \"{path}?password\", tls: disable, relay: {relay}"
            )
        };
        let (address, database) = (format!("127.0.0.1:{}", postgres.port), mariadb.database());
        let mut config = Config::mysql().listener("protocol: postgres, address: \"127.0.0.1:0\"");
        for relay in RELAYS {
            config = config.connection(relay, &body(&address, "postgres", &of_postgres, relay));
            config = config.mysql_connection(&format!("{relay}_too"), &body(&mariadb.address(), &database, &of_mariadb, relay));
        }
        let config = config.store("corp", bao(), &bao().approle(&[&of_postgres, &of_mariadb])).user("alice", &alice).allow("alice", "*");
        let [out, log] = ["out", "log"].map(|name| folder.join(name).display().to_string());
        let valgrind = program("valgrind").display().to_string();
        let options = ["--tool=callgrind", "--quiet", &format!("--callgrind-out-file={out}"), &format!("--log-file={log}")];
        let keyward = Keyward::start_under(&[&[valgrind.as_str()], &options[..]].concat(), &config);
        Self { keyward, folder, alice }
    }

    /// The instructions of all threads while `script` runs.
    fn of(&self, script: impl FnOnce()) -> u64 {
        self.tell("zero");
        script();
        let before = dumps(&self.folder);
        self.tell("dump");
        let new = dumps(&self.folder).into_iter().find(|file| !before.contains(file)).expect("a dump");
        let text = fs::read_to_string(&new).unwrap();
        let total = text.lines().rev().find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")));
        total.and_then(|number| number.trim().parse().ok()).unwrap_or_else(|| panic!("{} has no totals", new.display()))
    }

    fn tell(&self, word: &str) {
        let mut command = Command::new(program("vgdb"));
        command.arg(format!("--pid={}", self.keyward.pid())).arg(word);
        run_to_end(command, "", LONG).ok();
    }

    fn pgbench(&self, relay: &str, tls: bool, length: u32) {
        let dsn: Dsn = self.keyward.dsn("alice", &self.alice, relay).with("sslmode", if tls { "verify-full" } else { "disable" });
        let script = self.folder.join("select.sql");
        fs::write(&script, "SELECT 1;\n").unwrap();
        let (length, script) = (length.to_string(), script.display().to_string());
        pgbench::run(postgres15(), &dsn, &["-n", "-M", "prepared", "-c", "1", "-t", &length, "-f", &script], LONG);
    }

    fn shell(&self, relay: &str, tls: bool, length: u32) {
        let dsn: MysqlDsn = self.keyward.mysql_dsn("alice", &self.alice).database(&format!("{relay}_too"));
        let dsn = if tls { dsn } else { dsn.tls(MysqlTls::Off) };
        let mut command = MysqlClient::Mariadb.tool(MysqlTool::Shell, &dsn);
        command.args(["--batch", &format!("{relay}_too")]);
        run_to_end(command, &"SELECT 1;\n".repeat(length as usize), LONG).ok();
    }
}

fn dumps(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.file_name() != Some("log".as_ref())).collect()
}
