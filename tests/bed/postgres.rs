//! PostgreSQL as an upstream: TLS on, and a role may log in by the method that it was made for.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use rustix::process::Signal;

use super::canary::{canary, random_hex};
use super::process::{Server, eventually, free_port, installed, run, scratch};
use super::{certificates, psql};

/// Debian's own, 15 on Debian 12; shared by all tests.
pub fn postgres15() -> &'static Postgres {
    static SHARED: LazyLock<Postgres> = LazyLock::new(|| Postgres::own("postgres-debian"));
    &SHARED
}

/// PostgreSQL 18: TLS 1.3, protocol 3.2; shared by all tests.
pub fn postgres18() -> &'static Postgres {
    static SHARED: LazyLock<Postgres> = LazyLock::new(|| Postgres::own("postgres-18"));
    &SHARED
}

/// How a role must prove itself (`pg_hba.conf` asks for its group).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Trust,
    Cleartext,
    Md5,
    Scram,
    /// SCRAM, and never without TLS.
    ScramTls,
}

/// A role that can log in. Its password is a canary.
pub struct Login {
    pub name: String,
    pub password: String,
}

/// One running server.
pub struct Postgres {
    pub port: u16,
    superuser_password: String,
    folder: PathBuf,
    programs: PathBuf,
    server: Mutex<Option<Server>>,
}

/// The group that a method's line names, its method's name there, and the extra condition.
const HBA: &str = "\
hostnossl all  +tls_only     127.0.0.1/32  reject
host      all  +use_trust    127.0.0.1/32  trust
host      all  +use_clear    127.0.0.1/32  password
host      all  +use_md5      127.0.0.1/32  md5
host      all          all   127.0.0.1/32  scram-sha-256
host      replication  all   127.0.0.1/32  scram-sha-256
local     all          all                 scram-sha-256
";

const SETTINGS: &str = "\
fsync = off
listen_addresses = '127.0.0.1'
ssl = on
ssl_cert_file = 'server.pem'
ssl_key_file = 'server.key'
wal_level = logical
max_connections = 200
";

impl Postgres {
    /// A server of the test's own, from what is installed as `name`; it ends when it is dropped.
    pub fn own(name: &str) -> Self {
        Self::own_with(name, "")
    }

    /// The same with further lines of its settings; of two lines about one thing the last holds.
    pub fn own_with(name: &str, more: &str) -> Self {
        let folder = scratch(name);
        let (data, port, superuser_password) = (folder.join("data"), free_port(), canary());
        let programs = reachable_programs(name, &folder);
        let password_file = folder.join("superuser.password");
        fs::create_dir(&data).unwrap();
        fs::write(&password_file, &superuser_password).unwrap();
        own_by_postgres(&[&folder, &data, &password_file]);
        let mut initdb = Command::new("setpriv");
        initdb.args(as_postgres()).arg(programs.join("bin/initdb")).arg("--pgdata").arg(&data).arg("--pwfile").arg(&password_file);
        initdb.args(["--username=postgres", "--auth=scram-sha-256", "--locale=C", "--encoding=UTF8", "--no-sync"]);
        run(initdb, "", Duration::from_secs(60)).ok();

        certificates::write(&data);
        fs::write(data.join("pg_hba.conf"), HBA).unwrap();
        let settings = format!("{SETTINGS}port = {port}\nunix_socket_directories = '{}'\n{more}", folder.display());
        fs::write(data.join("postgresql.auto.conf"), settings).unwrap();
        own_by_postgres(&[&data.join("server.key"), &data.join("server.pem")]);
        fs::set_permissions(data.join("server.key"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::copy(data.join("ca.pem"), folder.join("ca.pem")).unwrap();

        let postgres = Self { port, superuser_password, folder, programs, server: Mutex::new(None) };
        postgres.start();
        let groups = ["use_trust", "use_clear", "use_md5", "tls_only"].map(|group| format!("CREATE ROLE {group} NOLOGIN;"));
        postgres.sql("postgres", &groups.concat());
        postgres
    }

    /// A replica of it, on which one may read. It learns of what happens only after this time (`"700ms"`).
    pub fn replica(&self, delay: &str) -> Self {
        let folder = scratch("postgres-replica");
        let (data, port) = (folder.join("data"), free_port());
        own_by_postgres(&[&folder]);
        let mut copy = Command::new("setpriv");
        copy.args(as_postgres())
            .arg(self.programs.join("bin/pg_basebackup"))
            .arg("--pgdata")
            .arg(&data)
            .env("PGPASSWORD", &self.superuser_password);
        copy.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--host=127.0.0.1", "--username=postgres"]);
        copy.arg(format!("--port={}", self.port));
        run(copy, "", Duration::from_secs(60)).ok();
        // The last line that sets something holds.
        let settings = data.join("postgresql.auto.conf");
        let more = format!("port = {port}\nunix_socket_directories = '{}'\nrecovery_min_apply_delay = '{delay}'\n", folder.display());
        fs::write(&settings, fs::read_to_string(&settings).unwrap() + &more).unwrap();
        let (superuser_password, programs) = (self.superuser_password.clone(), self.programs.clone());
        let replica = Self { port, superuser_password, folder, programs, server: Mutex::new(None) };
        replica.start();
        replica
    }

    /// Starts it, or starts it again after [`Self::kill9`].
    pub fn start(&self) {
        let mut command = Command::new(self.programs.join("bin/postgres"));
        command.arg("-D").arg(self.folder.join("data"));
        let log = || Stdio::from(fs::File::options().append(true).create(true).open(self.folder.join("log")).unwrap());
        *self.server.lock().unwrap() = Some(Server::start(&command, "INT", &as_postgres(), [Stdio::null(), log(), log()]));
        eventually("PostgreSQL answers", || self.try_sql("postgres", "SELECT 1").code.filter(|code| *code == 0));
    }

    /// The end of all of it, as by a crash: the postmaster is killed, and the others follow when they see it.
    pub fn kill9(&self) {
        self.server.lock().unwrap().take();
        // As long as one of them is attached to the memory that they share, no new server starts in this folder.
        let file = fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap();
        let id = file.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)).expect("the shared memory's key and id");
        eventually("the others have followed", || {
            let all = fs::read_to_string("/proc/sysvipc/shm").unwrap();
            let mut rows = all.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            // key, shmid, perms, size, cpid, lpid, nattch
            rows.find(|row| row.get(1) == Some(&id)).is_none_or(|row| row[6] == "0").then_some(())
        });
    }

    /// SIGSTOP to the postmaster: connections are accepted by the kernel and never answered. `Signal::CONT` thaws it.
    pub fn signal(&self, signal: Signal) {
        self.server.lock().unwrap().as_ref().expect("the server runs").signal(signal);
    }

    /// `host:port`; on loopback, so that Keyward's default is no TLS.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The folder of its programs (`bin/pgbench`): for the benches.
    #[allow(dead_code)]
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// Its key and certificate, which only its own user may read: for the benches.
    #[allow(dead_code)]
    pub fn identity(&self) -> [PathBuf; 2] {
        ["server.key", "server.pem"].map(|name| self.folder.join("data").join(name))
    }

    /// The folder of its unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join(format!(".s.PGSQL.{}", self.port))
    }

    /// The PEM file of the CA that signed its certificate.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Its superuser, for OpenBao's database engine.
    pub fn superuser(&self) -> Login {
        Login { name: "postgres".to_owned(), password: self.superuser_password.clone() }
    }

    /// A new role that must log in by `method`.
    pub fn login(&self, method: Method) -> Login {
        let login = Login { name: format!("app_{}", random_hex(6)), password: canary() };
        let (encryption, group) = match method {
            Method::Trust => ("scram-sha-256", " IN ROLE use_trust"),
            Method::Cleartext => ("scram-sha-256", " IN ROLE use_clear"),
            Method::Md5 => ("md5", " IN ROLE use_md5"),
            Method::Scram => ("scram-sha-256", ""),
            Method::ScramTls => ("scram-sha-256", " IN ROLE tls_only"),
        };
        let (name, password) = (&login.name, &login.password);
        self.sql("postgres", &format!("SET password_encryption = '{encryption}'; CREATE ROLE {name} LOGIN PASSWORD '{password}'{group};"));
        login
    }

    /// A new database that everybody may use as he likes.
    pub fn database(&self) -> String {
        let name = format!("db_{}", random_hex(6));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.sql(&name, "GRANT ALL ON SCHEMA public TO public");
        name
    }

    /// Runs SQL as the superuser, directly; the rows come as `a|b` lines.
    #[track_caller]
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql).ok().to_owned()
    }

    /// Is this role there?
    pub fn has_role(&self, name: &str) -> bool {
        self.sql("postgres", &format!("SELECT count(*) FROM pg_roles WHERE rolname = '{name}'")) == "1"
    }

    /// Whether it has refused somebody who said that he was this role.
    pub fn has_refused(&self, role: &str) -> bool {
        let log = fs::read_to_string(self.folder.join("log")).unwrap();
        log.lines().any(|line| line.contains("FATAL:") && line.contains(&format!("\"{role}\"")))
    }

    /// How many live sessions it has as this role.
    pub fn sessions_of(&self, role: &str) -> usize {
        self.sql("postgres", &format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}'")).parse().unwrap()
    }

    fn try_sql(&self, database: &str, sql: &str) -> super::process::Output {
        let mut command = Command::new("psql");
        let host = format!("host=127.0.0.1 port={} user=postgres dbname={database} connect_timeout=20", self.port);
        psql::quiet(&mut command).env("PGPASSWORD", &self.superuser_password).args(["-d", &host]);
        run(command, sql, Duration::from_secs(30))
    }
}

/// PostgreSQL refuses to run as root; anybody else runs it as himself.
pub fn as_postgres() -> Vec<&'static str> {
    if is_root() { vec!["--reuid=postgres", "--regid=postgres", "--init-groups"] } else { Vec::new() }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn own_by_postgres(paths: &[&Path]) {
    if is_root() {
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        let line = passwd.lines().find(|line| line.starts_with("postgres:")).expect("the package made a user postgres");
        let ids: Vec<u32> = line.split(':').skip(2).take(2).map(|id| id.parse().unwrap()).collect();
        paths.iter().for_each(|path| chown(path, Some(ids[0]), Some(ids[1])).unwrap());
    }
}

/// The user `postgres` cannot reach a cache in root's home: he gets a copy.
fn reachable_programs(name: &str, folder: &Path) -> PathBuf {
    let programs = installed(name);
    if !is_root() || programs.starts_with("/usr") {
        return programs;
    }
    let copy = folder.join("programs");
    let mut command = Command::new("cp");
    command.args(["-r", "--"]).arg(&programs).arg(&copy);
    run(command, "", Duration::from_secs(60)).ok();
    copy
}
