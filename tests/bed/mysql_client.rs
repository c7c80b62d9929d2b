//! `mysql` and `mariadb` as clients, with their `dump` and `admin`: one command to its end, or a session that stays open.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::canary::{must_be_absent, random_hex};
use super::mysql::there;
use super::process::{Output, SOON, Server, installed, run, scratch};

/// Whether a client uses TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MysqlTls {
    /// What the client does when nobody tells it.
    AsItLikes,
    Off,
    /// With whoever answers.
    Unverified,
    /// The chain up to this CA (a PEM file), and the name.
    Verified(PathBuf),
}

/// Where to connect, as whom. The password is not in it when it is shown.
#[derive(Clone)]
pub struct MysqlDsn {
    host: String,
    port: u16,
    socket: Option<PathBuf>,
    user: String,
    password: String,
    database: Option<String>,
    tls: MysqlTls,
    /// Further lines of the client's configuration file.
    lines: Vec<String>,
}

impl MysqlDsn {
    /// By TCP, to no database, without TLS.
    pub fn new(host: &str, port: u16, user: &str, password: &str) -> Self {
        let (host, user, password) = (host.to_owned(), user.to_owned(), password.to_owned());
        Self { host, port, socket: None, user, password, database: None, tls: MysqlTls::Off, lines: Vec::new() }
    }

    /// The same with this database.
    #[must_use]
    pub fn database(mut self, name: &str) -> Self {
        self.database = Some(name.to_owned());
        self
    }

    /// The same with TLS, or without.
    #[must_use]
    pub fn tls(mut self, tls: MysqlTls) -> Self {
        self.tls = tls;
        self
    }

    /// The same by a unix socket.
    #[must_use]
    pub fn socket(mut self, path: &Path) -> Self {
        self.socket = Some(path.to_owned());
        self
    }

    /// The same as another user.
    #[must_use]
    pub fn with_user(mut self, user: &str) -> Self {
        self.user = user.to_owned();
        self
    }

    /// The same with another password.
    #[must_use]
    pub fn with_password(mut self, password: &str) -> Self {
        self.password = password.to_owned();
        self
    }

    /// The same with a further line for the `[client]` section of the client's configuration file (`connect-timeout=3`).
    #[must_use]
    pub fn with(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    /// A program (a driver's test) that finds the place and the password in its environment: `MYSQL_HOST`, `MYSQL_PORT`, `MYSQL_USER`,
    /// `MYSQL_PASSWORD`, and where they are set `MYSQL_SOCKET`, `MYSQL_DATABASE`, `MYSQL_CA`. For `Dialogue::with_program`.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = isolated(program);
        command.env("MYSQL_HOST", &self.host).env("MYSQL_PORT", self.port.to_string()).env("MYSQL_USER", &self.user);
        command.env("MYSQL_PASSWORD", &self.password).envs(self.database.iter().map(|name| ("MYSQL_DATABASE", name)));
        command.envs(self.socket.iter().map(|path| ("MYSQL_SOCKET", path)));
        if let MysqlTls::Verified(ca) = &self.tls {
            command.env("MYSQL_CA", ca);
        }
        command
    }

    /// The same for a client that is no program: in clear or verified.
    pub fn place(&self) -> MysqlPlace {
        let Self { host, port, socket, user, password, database, tls, .. } = self.clone();
        let ca = if let MysqlTls::Verified(ca) = tls { Some(ca) } else { None };
        MysqlPlace { host, port, socket, user, password, database, ca }
    }
}

/// What a [`MysqlDsn`] holds, for a client that is no program.
pub struct MysqlPlace {
    pub host: String,
    pub port: u16,
    pub socket: Option<PathBuf>,
    pub user: String,
    pub password: String,
    pub database: Option<String>,
    /// The CA that the server is verified with; `None`: without TLS.
    pub ca: Option<PathBuf>,
}

/// A family of client programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MysqlClient {
    Mysql9,
    /// Debian's own, 10.11 on Debian 12.
    Mariadb,
    Mariadb11,
}

/// One program of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MysqlTool {
    /// `mysql`, `mariadb`
    Shell,
    /// `mysqldump`, `mariadb-dump`
    Dump,
    /// `mysqladmin`, `mariadb-admin`
    Admin,
    /// `mysqlbinlog`, `mariadb-binlog`
    Binlog,
    /// `mysqlslap`, `mariadb-slap`: for the benches.
    #[allow(dead_code)]
    Slap,
}

impl MysqlClient {
    /// Every family that is there.
    pub fn all() -> Vec<Self> {
        [Self::Mysql9, Self::Mariadb, Self::Mariadb11].into_iter().filter(|client| there(client.name()).is_some()).collect()
    }

    /// The one that is installed under this name.
    pub fn of(name: &str) -> Self {
        let found = [Self::Mysql9, Self::Mariadb, Self::Mariadb11].into_iter().find(|client| client.name() == name);
        found.unwrap_or_else(|| panic!("no client is installed as {name}"))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Mysql9 => "mysql-9",
            Self::Mariadb => "mariadb",
            Self::Mariadb11 => "mariadb-11",
        }
    }

    /// Runs `sql` and ends; the rows come as lines, their columns with tabs between them, without the names of the columns. The first error
    /// ends it. No secret may be in what it prints.
    #[track_caller]
    pub fn run(self, dsn: &MysqlDsn, sql: &str) -> Output {
        let mut command = self.tool(MysqlTool::Shell, dsn);
        command.args(["--batch", "--skip-column-names"]).args(&dsn.database);
        searched(run(command, sql, Duration::from_secs(60)))
    }

    /// Runs its `dump` with these arguments (`--single-transaction`), on the database of the DSN if it has one.
    #[track_caller]
    pub fn dump(self, dsn: &MysqlDsn, arguments: &[&str]) -> Output {
        let mut command = self.tool(MysqlTool::Dump, dsn);
        command.args(arguments).args(&dsn.database);
        searched(run(command, "", Duration::from_secs(120)))
    }

    /// Runs its `admin` with these arguments (`ping`, `status`).
    #[track_caller]
    pub fn admin(self, dsn: &MysqlDsn, arguments: &[&str]) -> Output {
        let mut command = self.tool(MysqlTool::Admin, dsn);
        command.args(arguments);
        searched(run(command, "", Duration::from_secs(60)))
    }

    /// A program of the family, told where to connect by a file of its own, which holds the password. It reads no other file, and nothing of
    /// the caller's environment. The database is left to the caller: each tool takes it differently.
    pub fn tool(self, tool: MysqlTool, dsn: &MysqlDsn) -> Command {
        let names = match tool {
            MysqlTool::Shell => ["mysql", "mariadb"],
            MysqlTool::Dump => ["mysqldump", "mariadb-dump"],
            MysqlTool::Admin => ["mysqladmin", "mariadb-admin"],
            MysqlTool::Binlog => ["mysqlbinlog", "mariadb-binlog"],
            MysqlTool::Slap => ["mysqlslap", "mariadb-slap"],
        };
        let programs = installed(self.name());
        let name = if self == Self::Mysql9 { names[0] } else { names[1] };
        let folder = scratch("mysql-client");
        let file = folder.join("client.cnf");
        let mut writer = fs::File::options().write(true).create_new(true).mode(0o600).open(&file).unwrap();
        writer.write_all(self.configuration(&programs, dsn).as_bytes()).unwrap();
        let mut command = isolated(programs.join("bin").join(name));
        command.env("HOME", &folder).arg(format!("--defaults-file={}", file.display()));
        command
    }

    fn configuration(self, programs: &Path, dsn: &MysqlDsn) -> String {
        let quoted = |value: &str| format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
        let mut lines = vec!["[client]".to_owned(), format!("user={}", quoted(&dsn.user)), format!("password={}", quoted(&dsn.password))];
        match &dsn.socket {
            Some(path) => lines.extend(["protocol=socket".to_owned(), format!("socket={}", path.display())]),
            None => lines.extend(["protocol=tcp".to_owned(), format!("host={}", dsn.host), format!("port={}", dsn.port)]),
        }
        let plugins = if self == Self::Mysql9 { "lib/mysql/plugin" } else { "lib/x86_64-linux-gnu/libmariadb3/plugin" };
        lines.push(format!("plugin-dir={}", programs.join(plugins).display()));
        lines.extend(self.tls_lines(dsn));
        lines.extend(dsn.lines.iter().cloned());
        lines.join("\n") + "\n"
    }

    fn tls_lines(self, dsn: &MysqlDsn) -> Vec<String> {
        let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        match (&dsn.tls, self) {
            (MysqlTls::AsItLikes, _) => Vec::new(),
            // Without TLS it hides the password by the server's RSA key, and takes that key only when it is told to.
            (MysqlTls::Off, Self::Mysql9) => lines(&["ssl-mode=DISABLED", "get-server-public-key"]),
            (MysqlTls::Off, _) => lines(&["skip-ssl"]),
            (MysqlTls::Unverified, Self::Mysql9) => lines(&["ssl-mode=REQUIRED"]),
            (MysqlTls::Unverified, _) => lines(&["ssl", "skip-ssl-verify-server-cert"]),
            (MysqlTls::Verified(ca), Self::Mysql9) => lines(&["ssl-mode=VERIFY_IDENTITY", &format!("ssl-ca={}", ca.display())]),
            (MysqlTls::Verified(ca), _) => lines(&["ssl", "ssl-verify-server-cert", &format!("ssl-ca={}", ca.display())]),
        }
    }
}

/// A program that sees no variable of ours that a client of MySQL or MariaDB would read.
fn isolated(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if ["MYSQL", "MARIADB"].iter().any(|start| name.to_string_lossy().starts_with(start)) {
            command.env_remove(name);
        }
    }
    command
}

fn searched(output: Output) -> Output {
    must_be_absent("what the client printed", &output.stdout);
    must_be_absent("what the client printed", &output.stderr);
    output
}

/// A `mysql` or `mariadb` that stays connected; killed when it is dropped. An error is a line like the rows, and does not end it.
pub struct MysqlShell {
    server: Server,
    lines: Mutex<mpsc::Receiver<String>>,
}

impl MysqlShell {
    /// Starts it and waits until it is in.
    #[track_caller]
    pub fn open(client: MysqlClient, dsn: &MysqlDsn) -> Self {
        let mut command = client.tool(MysqlTool::Shell, dsn);
        command.args(["--batch", "--skip-column-names", "--unbuffered", "--force", "--skip-reconnect"]).args(&dsn.database);
        // One pipe for both, so that a line and the error before it keep their order.
        let (said, writer) = std::io::pipe().unwrap();
        let also = writer.try_clone().unwrap();
        let server = Server::start(&command, "KILL", &[], [Stdio::piped(), writer.into(), also.into()]);
        let (tell, lines) = mpsc::channel();
        thread::spawn(move || BufReader::new(said).lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        let shell = Self { server, lines: Mutex::new(lines) };
        shell.ask("SELECT 1");
        shell
    }

    /// Runs SQL and returns its rows (and errors), one a line.
    #[track_caller]
    pub fn ask(&self, sql: &str) -> String {
        self.tell(&format!("{sql};"));
        self.rest()
    }

    /// What came of all that it was told and did not answer yet.
    #[track_caller]
    pub fn rest(&self) -> String {
        let end = random_hex(8);
        self.tell(&format!("SELECT '{end}';"));
        let mut rows = Vec::new();
        loop {
            match self.lines.lock().unwrap().recv_timeout(SOON) {
                Ok(line) if line == end => return searched_lines(&rows),
                Ok(line) => rows.push(line),
                Err(error) => panic!("the client: {error}: {}", searched_lines(&rows)),
            }
        }
    }

    /// Sends SQL (with its semicolon) without waiting for what it answers.
    pub fn tell(&self, text: &str) {
        let mut child = self.server.child();
        writeln!(child.stdin.as_mut().unwrap(), "{text}").expect("the client reads");
    }

    /// Ctrl-C: the client logs in once more and asks the server to kill its query.
    pub fn interrupt(&self) {
        self.server.signal(Signal::INT);
    }

    /// What it says when it tries once more, in a session that was ended from the other side: the client looks only when it has to.
    #[track_caller]
    pub fn last_words(&self) -> String {
        self.tell("SELECT 1;");
        self.end()
    }

    /// What it printed until it ended.
    #[track_caller]
    pub fn end(&self) -> String {
        drop(self.server.child().stdin.take());
        let lines = self.lines.lock().unwrap();
        let mut said = Vec::new();
        loop {
            match lines.recv_timeout(SOON) {
                Ok(line) => said.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => return searched_lines(&said),
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("the client does not end: {}", searched_lines(&said)),
            }
        }
    }

    /// As if the machine of the client had gone, but with its kernel still there to say so.
    pub fn kill9(&self) {
        self.server.kill9();
    }
}

fn searched_lines(lines: &[String]) -> String {
    let said = lines.join("\n");
    must_be_absent("what the client printed", &said);
    said
}
