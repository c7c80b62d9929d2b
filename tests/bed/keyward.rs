//! Keyward itself, as a process: `keyward run` on a config of the test's own.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::canary::{must_be_absent, only_leases_may_be_in};
use super::config::Config;
use super::http::{self, Answer};
use super::mysql_client::{MysqlDsn, MysqlTls};
use super::process::{Output, SOON, Server, eventually, run, scratch, within};
use super::psql::Dsn;

/// One running Keyward. When it is dropped it is asked to end (SIGTERM) and must do so with success; then its log must hold no
/// unexpected WARN or ERROR, and no secret may be in its log, its audit record, its metrics, its arguments or its state folder.
pub struct Keyward {
    folder: PathBuf,
    variables: Variables,
    server: Server,
    log: Arc<Mutex<Vec<String>>>,
    expected: Mutex<Vec<String>>,
    killed: Mutex<bool>,
    ending: AtomicBool,
}

impl Keyward {
    /// Starts it and waits until it says `ready`.
    #[track_caller]
    pub fn start(config: &Config) -> Self {
        Self::start_in(&[], config)
    }

    /// The same with these variables in its environment; in their values too, `GIVEN` stands for that folder.
    #[track_caller]
    pub fn start_in(variables: &[(&str, &str)], config: &Config) -> Self {
        let (folder, variables) = prepare(variables, config);
        let keyward = Self::spawn(folder, variables, &[]);
        keyward.until_ready(SOON);
        keyward
    }

    /// Starts it under a program that runs others (`valgrind` and its options) and may take its time: for the benches.
    #[allow(dead_code)]
    #[track_caller]
    pub fn start_under(wrapper: &[&str], config: &Config) -> Self {
        let (folder, variables) = prepare(&[], config);
        let keyward = Self::spawn(folder, variables, wrapper);
        keyward.until_ready(Duration::from_secs(120));
        keyward
    }

    /// Runs a command of the binary (`check`) on a config that no process serves, with these variables in its environment.
    #[track_caller]
    pub fn command_in(variables: &[(&str, &str)], config: &Config, arguments: &[&str]) -> Output {
        let (folder, variables) = prepare(variables, config);
        said(command(&folder, &variables, arguments))
    }

    /// What `keyward check` says of a config that is not taken.
    #[track_caller]
    pub fn refused_to_start(config: &Config) -> String {
        let folder = scratch("keyward");
        fs::create_dir(folder.join("given")).unwrap();
        write_config(&folder, config);
        let said = said(command(&folder, &Variables::new(), &["check", "--offline"]));
        assert!(said.code != Some(0), "it is taken: {said:?}");
        format!("{}{}", said.stdout, said.stderr)
    }

    /// Starts another one on the same config and state folder, after [`Self::kill9`] of this one.
    #[track_caller]
    pub fn start_again(&self) -> Self {
        let keyward = Self::spawn(self.folder.clone(), self.variables.clone(), &[]);
        keyward.until_ready(SOON);
        keyward
    }

    fn spawn(folder: PathBuf, variables: Variables, wrapper: &[&str]) -> Self {
        let command = command(&folder, &variables, &["run"]);
        let server = Server::start(&command, "KILL", wrapper, [Stdio::null(), Stdio::null(), Stdio::piped()]);
        let log = Arc::new(Mutex::new(Vec::new()));
        let (stderr, lines) = (server.child().stderr.take().unwrap(), Arc::clone(&log));
        thread::spawn(move || BufReader::new(stderr).lines().map_while(Result::ok).for_each(|line| lines.lock().unwrap().push(line)));
        Self { folder, variables, server, log, expected: Mutex::default(), killed: Mutex::new(false), ending: AtomicBool::new(false) }
    }

    #[track_caller]
    fn until_ready(&self, limit: Duration) {
        within(limit, "Keyward is ready", || {
            if let Some(status) = self.server.exited() {
                panic!("Keyward ended ({status}) before it was ready:\n{}", self.log_text());
            }
            self.log().iter().any(|line| message(line) == "ready").then_some(())
        });
        fs::write(self.ca(), self.cli(&["ca"]).ok()).unwrap();
    }

    /// The port of the first listener of this protocol (`"http"` for metrics).
    #[track_caller]
    pub fn port(&self, protocol: &str) -> u16 {
        *self.ports(protocol).first().unwrap_or_else(|| panic!("no {protocol} listener in the log"))
    }

    /// The ports of all listeners of this protocol, in the order of the file.
    pub fn ports(&self, protocol: &str) -> Vec<u16> {
        let listening = |line: &Value| message(line) == "listening" && field(line, "protocol") == protocol;
        let port = |line: &Value| field(line, "address").rsplit(':').next().and_then(|port| port.parse().ok());
        self.log().iter().filter(|line| listening(line)).filter_map(port).collect()
    }

    /// How `user` reaches `connection` by its database name, with verified TLS.
    pub fn dsn(&self, user: &str, password: &str, connection: &str) -> Dsn {
        let (port, ca) = (self.port("postgres").to_string(), self.ca().display().to_string());
        let place = [("host", "localhost"), ("hostaddr", "127.0.0.1"), ("port", &port), ("user", user), ("dbname", connection)];
        Dsn::new(password, &place).with("sslmode", "verify-full").with("sslrootcert", &ca).with("connect_timeout", "20")
    }

    /// How `user` reaches its MySQL listener with verified TLS; no connection is named yet.
    pub fn mysql_dsn(&self, user: &str, password: &str) -> MysqlDsn {
        MysqlDsn::new("127.0.0.1", self.port("mysql"), user, password).tls(MysqlTls::Verified(self.ca()))
    }

    /// The local CA that its listeners' certificates come from, as a PEM file.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// The folder that the config calls `GIVEN`.
    pub fn given(&self) -> PathBuf {
        self.folder.join("given")
    }

    /// Runs another command of the binary on the same config (`sessions`, `kill ID`, `reload`, `check --offline`).
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> Output {
        said(command(&self.folder, &self.variables, arguments))
    }

    /// Writes another config to the same file; a reload takes it.
    pub fn rewrite(&self, config: &Config) {
        write_config(&self.folder, config);
    }

    /// Every record of the log so far.
    pub fn log(&self) -> Vec<Value> {
        let line = |line: &String| serde_json::from_str(line).unwrap_or_else(|_| Value::String(line.clone()));
        self.lines().iter().map(line).collect()
    }

    /// A WARN or ERROR whose line contains this is expected, here and from here on.
    pub fn expect_log(&self, text: &str) -> &Self {
        self.expected.lock().unwrap().push(text.to_owned());
        self
    }

    /// Waits until such a line is in the log, and returns every one that is.
    #[track_caller]
    pub fn until_logged(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let found = || self.log().into_iter().filter(|line| wanted(line)).collect::<Vec<_>>();
        eventually(&format!("the log says: {what}"), || Some(found()).filter(|lines| !lines.is_empty()))
    }

    /// Every record of the audit file so far.
    pub fn audit(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.state().join("audit.jsonl")).unwrap_or_default();
        // The last line may be under way.
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        whole.lines().map(|line| serde_json::from_str(line).expect("an audit record is one JSON object a line")).collect()
    }

    /// Waits until this many audit records of this event are there and returns them.
    #[track_caller]
    pub fn until_audit(&self, event: &str, count: usize) -> Vec<Value> {
        self.until_audit_within(SOON, event, count)
    }

    /// The same for what comes in its own time.
    #[track_caller]
    pub fn until_audit_within(&self, limit: Duration, event: &str, count: usize) -> Vec<Value> {
        within(limit, &format!("{count} audit records {event:?}"), || {
            let records: Vec<Value> = self.audit().into_iter().filter(|record| record["event"] == event).collect();
            (records.len() >= count).then_some(records)
        })
    }

    /// Waits until this many links were refused for breaking the protocol before they named anybody: such are counted, not recorded.
    #[track_caller]
    pub fn until_malformed(&self, count: usize) {
        let wanted = format!("refusal=\"malformed\",party=\"client\",stage=\"open\"}} {count}\n");
        eventually(&wanted, || self.http("/metrics").body.contains(&wanted).then_some(()));
    }

    /// A request to the HTTP listener (`/livez`, `/readyz`, `/metrics`).
    pub fn http(&self, path: &str) -> Answer {
        self.try_http(path).expect("the HTTP listener answers")
    }

    fn try_http(&self, path: &str) -> io::Result<Answer> {
        http::request(&format!("127.0.0.1:{}", self.port("http")), "GET", path, &[], "")
    }

    pub fn pid(&self) -> u32 {
        self.server.child().id()
    }

    /// The most memory that it ever had, in KiB.
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// How many files and sockets it has open. It is not dumpable, so that only root may look; its sockets of one protocol anybody may
    /// count.
    pub fn descriptors(&self, protocol: &str) -> usize {
        if let Ok(open) = fs::read_dir(format!("/proc/{}/fd", self.pid())) {
            return open.count();
        }
        let port = format!("{:04X}", self.port(protocol));
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let live = |line: &&str| line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(&port)) && !line.contains(" 06 ");
        table.lines().filter(live).count()
    }

    pub fn signal(&self, signal: Signal) {
        self.server.signal(signal);
    }

    /// Asks it to end, as a service manager does.
    pub fn sigterm(&self) {
        self.ending.store(true, Ordering::Relaxed);
        self.signal(Signal::TERM);
    }

    /// Waits until it has ended.
    #[track_caller]
    pub fn until_ended(&self) -> ExitStatus {
        self.until_ended_within(SOON)
    }

    /// The same where it has something to wait for.
    #[track_caller]
    pub fn until_ended_within(&self, limit: Duration) -> ExitStatus {
        within(limit, "Keyward has ended", || self.server.exited())
    }

    /// Ends it as a power cut would.
    pub fn kill9(&self) {
        *self.killed.lock().unwrap() = true;
        self.server.kill9();
    }

    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.log.lock().unwrap()
    }

    fn log_text(&self) -> String {
        self.lines().join("\n")
    }

    fn check_log(&self) {
        let expected = self.expected.lock().unwrap();
        for line in self.lines().iter() {
            let level = serde_json::from_str::<Value>(line).map_or_else(|_| "not JSON".to_owned(), |line| field(&line, "level"));
            let fine = matches!(level.as_str(), "INFO" | "DEBUG" | "TRACE") || expected.iter().any(|text| line.contains(text));
            assert!(fine, "unexpected in the log: {line}");
        }
    }
}

impl Drop for Keyward {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the log of this test's Keyward:\n{}", self.log_text());
            return;
        }
        if !*self.killed.lock().unwrap() {
            if self.server.exited().is_none() {
                match self.try_http("/metrics") {
                    Ok(answer) => must_be_absent("the metrics", &answer.body),
                    // Whom the test told to end may do so between the look and the question.
                    Err(error) => assert!(self.ending.load(Ordering::Relaxed), "the HTTP listener answers: {error}"),
                }
                must_be_absent("the process list", &fs::read_to_string(format!("/proc/{}/cmdline", self.pid())).unwrap());
                self.sigterm();
            }
            let status = self.until_ended();
            assert!(status.success(), "Keyward ended with {status}:\n{}", self.log_text());
        }
        self.check_log();
        must_be_absent("the log", &self.log_text());
        no_secret_in_files(&self.state());
    }
}

/// Names and values.
type Variables = Vec<(String, String)>;

/// A folder of the process's own with this config in it.
fn prepare(variables: &[(&str, &str)], config: &Config) -> (PathBuf, Variables) {
    let folder = scratch("keyward");
    let given = folder.join("given");
    fs::create_dir(&given).unwrap();
    write_config(&folder, config);
    let value = |text: &str| text.replace("GIVEN", &given.display().to_string());
    (folder, variables.iter().map(|(name, text)| ((*name).to_owned(), value(text))).collect())
}

fn command(folder: &Path, variables: &Variables, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    command
        .args(arguments)
        .arg("--config")
        .arg(folder.join("keyward.yaml"))
        .current_dir(folder)
        .env_remove("RUST_LOG")
        .env_remove("KEYWARD_CONFIG");
    // Those of whoever runs the tests are another one's business.
    let of_a_store = |name: &str| ["BAO_", "VAULT_", "HASHICORP_VAULT_"].iter().any(|prefix| name.starts_with(prefix));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_a_store)) {
        command.env_remove(name);
    }
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command
}

/// What it says, in which there is no secret, nor was one among its arguments.
#[track_caller]
fn said(command: Command) -> Output {
    command.get_args().for_each(|argument| must_be_absent("the arguments of a command", &argument.to_string_lossy()));
    let said = run(command, "", Duration::from_secs(60));
    must_be_absent("what a command of Keyward's said", &said.stdout);
    must_be_absent("what a command of Keyward's complained of", &said.stderr);
    said
}

fn write_config(folder: &Path, config: &Config) {
    let given = folder.join("given");
    let private = |path: &Path, text: &str| {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    config.files().iter().for_each(|(name, text)| private(&given.join(name), text));
    // Written beside and moved into place: a reload must never see half of it.
    private(&folder.join("next.yaml"), &config.text(&folder.join("state"), &given));
    fs::rename(folder.join("next.yaml"), folder.join("keyward.yaml")).unwrap();
}

fn no_secret_in_files(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            no_secret_in_files(&path);
        } else if path.is_file() {
            let search = if path.ends_with("leases.journal") { only_leases_may_be_in } else { must_be_absent };
            search(&path.display().to_string(), &String::from_utf8_lossy(&fs::read(&path).unwrap()));
        }
    }
}

/// A field of a log record; they stand beside the message, which is at the top or under `fields`.
fn field(line: &Value, name: &str) -> String {
    let value = if line[name].is_null() { &line["fields"][name] } else { &line[name] };
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn message(line: &Value) -> String {
    field(line, "message")
}
