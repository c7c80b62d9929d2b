//! psql as a client: one command to its end, or a session that stays open.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use super::canary::{must_be_absent, random_hex};
use super::process::{Output, SOON, Server, installed, run};

/// Where to connect, as whom. The password is not in it when it is shown.
#[derive(Clone)]
pub struct Dsn {
    pairs: Vec<(&'static str, String)>,
    password: String,
}

impl Dsn {
    /// A connect string of these pairs; `password` travels by the environment of the client.
    pub fn new(password: &str, pairs: &[(&'static str, &str)]) -> Self {
        let dsn = Self { pairs: Vec::new(), password: password.to_owned() };
        pairs.iter().fold(dsn, |dsn, (key, value)| dsn.with(key, value))
    }

    /// The same with this key set, or set otherwise.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: &str) -> Self {
        self.pairs.retain(|(other, _)| *other != key);
        self.pairs.push((key, value.to_owned()));
        self
    }

    /// The same with another password.
    #[must_use]
    pub fn with_password(mut self, password: &str) -> Self {
        self.password = password.to_owned();
        self
    }

    /// libpq's environment variables, the password too; most drivers read them.
    pub fn environment(&self) -> Vec<(String, String)> {
        let name = |key: &str| if key == "dbname" { "PGDATABASE".to_owned() } else { format!("PG{}", key.to_uppercase()) };
        let pairs = self.pairs.iter().map(|(key, value)| (name(key), value.clone()));
        pairs.chain([("PGPASSWORD".to_owned(), self.password.clone())]).collect()
    }

    /// libpq's spelling, without the password.
    pub fn text(&self) -> String {
        let quoted = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
        self.pairs.iter().map(|(key, value)| format!("{key}='{}' ", quoted(value))).collect()
    }
}

/// Debian's psql runs `sql` and ends. No secret may be in what it prints.
#[track_caller]
pub fn psql(dsn: &Dsn, sql: &str) -> Output {
    run_psql(Command::new("psql"), dsn, sql)
}

/// The same with psql 18.
#[track_caller]
pub fn psql18(dsn: &Dsn, sql: &str) -> Output {
    run_psql(Command::new(installed("clients-18").join("bin/psql")), dsn, sql)
}

/// Rows alone, no start-up file, the first error ends it, no question asked, and nothing of the caller's environment.
pub fn quiet(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.args(["-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1"])
}

#[track_caller]
fn run_psql(mut command: Command, dsn: &Dsn, sql: &str) -> Output {
    quiet(&mut command).env("PGPASSWORD", &dsn.password).args(["-d", &dsn.text()]);
    // Some read hundreds of megabytes.
    let output = run(command, sql, Duration::from_secs(120));
    must_be_absent("what psql printed", &output.stdout);
    must_be_absent("what psql printed", &output.stderr);
    output
}

/// A psql that stays connected; killed when it is dropped.
pub struct Psql {
    server: Server,
    lines: Mutex<mpsc::Receiver<String>>,
}

impl Psql {
    /// Starts it and waits until it is in.
    #[track_caller]
    pub fn open(dsn: &Dsn) -> Self {
        let mut command = Command::new("psql");
        quiet(&mut command).env("PGPASSWORD", &dsn.password).args(["-d", &dsn.text()]);
        let server = Server::start(&command, "KILL", &[], [Stdio::piped(), Stdio::piped(), Stdio::piped()]);
        let (tell, lines) = mpsc::channel();
        let (stdout, stderr) = {
            let mut child = server.child();
            (child.stdout.take().unwrap(), child.stderr.take().unwrap())
        };
        let also = tell.clone();
        thread::spawn(move || BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        thread::spawn(move || BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|line| also.send(line)));
        let psql = Self { server, lines: Mutex::new(lines) };
        psql.ask("SELECT 1");
        psql
    }

    /// Runs SQL and returns its rows, one a line.
    #[track_caller]
    pub fn ask(&self, sql: &str) -> String {
        let end = random_hex(8);
        self.tell(&format!("{sql};\n\\echo {end}"));
        let mut rows = Vec::new();
        loop {
            match self.lines.lock().unwrap().recv_timeout(SOON) {
                Ok(line) if line == end => return rows.join("\n"),
                Ok(line) => rows.push(line),
                Err(error) => panic!("psql: {error} after {sql}: {rows:?}"),
            }
        }
    }

    /// Sends SQL without waiting for what it answers.
    pub fn tell(&self, text: &str) {
        let mut child = self.server.child();
        writeln!(child.stdin.as_mut().unwrap(), "{text}").expect("psql reads");
    }

    /// What it says when it tries once more, in a session that was ended from the other side: psql looks only when it has to.
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
                Err(mpsc::RecvTimeoutError::Disconnected) => return said.join("\n"),
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("psql does not end: {said:?}"),
            }
        }
    }

    /// As if the machine of the client had gone, but with its kernel still there to say so.
    pub fn kill9(&self) {
        self.server.kill9();
    }
}
