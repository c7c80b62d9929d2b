//! Small queries to MariaDB: sysbench's point selects, prepared.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Command;

use crate::Scale;
use crate::bed::{MysqlDsn, run as run_to_end, scratch};
use crate::mysql_place::{MysqlPlace, MysqlWay};
use crate::peers::program;
use crate::place::Tls;
use crate::queries::{CLIENTS, LIMIT, by_clients, tracked_to_raw};
use crate::race::{Contestant, Lap, Race, Standing};
use crate::report::Report;

/// Point selects of clients that log in one after another. All 128 at the same moment are more than Keyward lets wait for the check of a
/// password from one address. The clock runs only when all are in.
const SCRIPT: &str = r#"
require("oltp_point_select")
local ffi = require("ffi")
ffi.cdef("int poll(void *, unsigned long, int);")
local log_in = thread_init
function thread_init()
  ffi.C.poll(nil, 0, sysbench.tid * 8)
  log_in()
end
"#;

pub fn run(scale: &Scale, report: &mut Report) {
    let place = MysqlPlace::new();
    let rows = if scale.smoke { "--table-size=100" } else { "--table-size=100000" };
    Sysbench::new(&place, &place.direct(Tls::Plain)).run(&[rows, "prepare"]);
    let clients = if scale.smoke { &CLIENTS[..1] } else { &CLIENTS };
    for tls in Tls::ALL {
        for &clients in clients {
            let goal = |standing: &Standing, report: &mut Report| {
                tracked_to_raw(standing, &format!("MariaDB, {}", tls.words()), clients, report);
            };
            select(&place, tls, clients, rows, scale).contend(scale, report, goal);
        }
    }
}

fn select<'a>(place: &MysqlPlace, tls: Tls, clients: u32, rows: &'a str, scale: &'a Scale) -> Race<'a> {
    let contestant = |MysqlWay { name, dsn, between }: MysqlWay| {
        let sysbench = Sysbench::new(place, &dsn);
        Contestant::new(name, &between, move || lap(&sysbench, clients, rows, scale))
    };
    by_clients("MariaDB, prepared point selects", tls, clients, place.ways(tls).into_iter().map(contestant).collect())
}

fn lap(sysbench: &Sysbench, clients: u32, rows: &str, scale: &Scale) -> Lap {
    let threads = format!("--threads={clients}");
    let much = if scale.smoke { format!("--events={}", 5 * clients) } else { format!("--time={}", scale.lap.as_secs().max(1)) };
    let said = sysbench.run(&[rows, &threads, &much, "run"]);
    // `queries: 12345 (6172.50 per sec.)`
    let words: Vec<&str> = said.split_once("queries:").map(|(_, rest)| rest.split_whitespace().take(2).collect()).unwrap_or_default();
    let figure = |at: usize| words.get(at).and_then(|word| word.trim_start_matches('(').parse::<f64>().ok());
    let [Some(operations), Some(value)] = [figure(0), figure(1)] else { panic!("sysbench says no number of queries: {said}") };
    Lap { value, operations }
}

/// sysbench on one way. Where to connect, and the password, lie in a file. With TLS it wants a CA, and a certificate of its own with its
/// key, under fixed names in its working directory.
struct Sysbench {
    folder: PathBuf,
}

impl Sysbench {
    fn new(place: &MysqlPlace, dsn: &MysqlDsn) -> Self {
        let (folder, way) = (scratch("sysbench"), dsn.place());
        let mut options =
            format!("mysql-host={}\nmysql-port={}\nmysql-user={}\nmysql-password={}\n", way.host, way.port, way.user, way.password);
        options += &way.database.map(|name| format!("mysql-db={name}\n")).unwrap_or_default();
        if let Some(ca) = way.ca {
            options += "mysql-ssl=on\n";
            let certificate = place.mysql.certificate();
            let files = [("cacert.pem", ca), ("client-key.pem", certificate.with_extension("key")), ("client-cert.pem", certificate)];
            for (name, from) in files {
                fs::copy(from, folder.join(name)).unwrap();
            }
        }
        fs::write(folder.join("script.lua"), SCRIPT).unwrap();
        let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(folder.join("options")).unwrap();
        file.write_all(options.as_bytes()).unwrap();
        Self { folder }
    }

    fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(program("sysbench"));
        command.current_dir(&self.folder).args(["script.lua", "--config-file=options", "--db-driver=mysql"]).args(arguments);
        run_to_end(command, "", LIMIT).ok().to_owned()
    }
}
