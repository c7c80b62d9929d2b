//! A PostgreSQL, what stands before it, and the ways to it.

use std::path::PathBuf;

use crate::bed::{Config, Dsn, Keyward, Login, Method, Postgres, bao, canary};
use crate::peers::{Peer, Upstream};

/// The variable that names another build of Keyward.
const BESIDE: &str = "KEYWARD_BENCH_BESIDE";

/// Where TLS is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tls {
    Plain,
    /// From the client to the proxy; behind it, plain.
    Client,
    Both,
}

impl Tls {
    /// What people run comes first.
    pub const ALL: [Self; 3] = [Self::Client, Self::Both, Self::Plain];

    pub fn words(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Client => "TLS to the client",
            Self::Both => "TLS on both sides",
        }
    }

    /// The names of the tracked connection and of the raw one, among those that [`connections`] makes.
    pub fn connections(self) -> [&'static str; 2] {
        if self == Self::Both { ["tracked_tls", "raw_tls"] } else { ["tracked", "raw"] }
    }

    fn sslmode(self) -> &'static str {
        if self == Self::Plain { "disable" } else { "verify-full" }
    }
}

/// Four connections to one server (its port, its CA, a database), tracked and raw, without TLS and verified, whose login is the secret at
/// `path`. `connection` adds one of the server's protocol.
pub fn connections(
    config: Config,
    connection: fn(Config, &str, &str) -> Config,
    (port, ca, database): (u16, PathBuf, &str),
    path: &str,
) -> Config {
    let verified = format!("{{ mode: verify-full, ca: \"{}\" }}", ca.display());
    [("", "disable"), ("_tls", &verified)].into_iter().fold(config, |config, (end, tls)| {
        ["tracked", "raw"].into_iter().fold(config, |config, relay| {
            let body = format!(
                "address: \"localhost:{port}\", database: {database}, store: corp, username: \"{path}?username\", \
                 password: \"{path}?password\", tls: {tls}, relay: {relay}"
            );
            connection(config, &format!("{relay}{end}"), &body)
        })
    })
}

/// One server and all that stands before it. The login has a KV credential.
pub struct Place {
    pub postgres: Postgres,
    pub keyward: Keyward,
    /// Another build, whose binary this variable names: to see what a change did.
    beside: Option<Keyward>,
    app: Login,
    alice: String,
    haproxy: Peer,
    pgbouncer: Peer,
    pgbouncer_tls: Peer,
}

/// A way to the server: how a client takes it, and whose CPU time it costs.
pub struct Way {
    pub name: &'static str,
    pub dsn: Dsn,
    pub between: Vec<u32>,
}

impl Place {
    pub fn new() -> Self {
        let postgres = Postgres::own_with("postgres-debian", "max_connections = 1000\nshared_buffers = 512MB\nmax_wal_size = 8GB\n");
        let (kv, app, alice) = (bao().mount_kv2(), postgres.login(Method::Scram), canary());
        kv.put("orders", &[("username", &app.name), ("password", &app.password)]);
        let path = kv.path("orders");
        let server = (postgres.port, postgres.ca(), "postgres");
        let config = connections(Config::new(), Config::connection, server, &path)
            .store("corp", bao(), &bao().approle(&[&path]))
            .user("alice", &alice)
            .allow("alice", "*");
        let keyward = Keyward::start(&config);
        let beside = std::env::var(BESIDE).ok();
        let beside = beside.map(|other| Keyward::start_under(&["sh", "-c", &format!("shift; exec '{other}' \"$@\""), "sh"], &config));
        postgres.sql("postgres", "GRANT ALL ON SCHEMA public TO public");
        let haproxy = Peer::haproxy(postgres.port);
        let pgbouncer = Peer::pgbouncer(&postgres, &app, Upstream::Plain);
        let pgbouncer_tls = Peer::pgbouncer(&postgres, &app, Upstream::Verified);
        Self { postgres, keyward, beside, app, alice, haproxy, pgbouncer, pgbouncer_tls }
    }

    /// Around all of them.
    pub fn direct(&self, tls: Tls) -> Dsn {
        let (port, ca) = (self.postgres.port.to_string(), self.postgres.ca().display().to_string());
        let place = [("host", "localhost"), ("hostaddr", "127.0.0.1"), ("port", &port), ("user", &self.app.name), ("dbname", "postgres")];
        Dsn::new(&self.app.password, &place).with("sslmode", tls.sslmode()).with("sslrootcert", &ca)
    }

    /// All ways, the direct one first. HAProxy in TCP mode passes the client's TLS through to the server: it neither ends nor sees it.
    pub fn ways(&self, tls: Tls) -> Vec<Way> {
        let direct = || self.direct(tls);
        let through = |peer: &Peer| direct().with("port", &peer.port.to_string());
        let [tracked, raw] = tls.connections();
        let to = |keyward: &Keyward, connection| keyward.dsn("alice", &self.alice, connection).with("sslmode", tls.sslmode());
        let pgbouncer = if tls == Tls::Both { &self.pgbouncer_tls } else { &self.pgbouncer };
        let way = |name, dsn, between: &[u32]| Way { name, dsn, between: between.to_vec() };
        let mut ways = vec![
            way("direct", direct(), &[]),
            way("haproxy", through(&self.haproxy), &[self.haproxy.pid()]),
            way("pgbouncer", through(pgbouncer), &[pgbouncer.pid()]),
            way("keyward raw", to(&self.keyward, raw), &[self.keyward.pid()]),
            way("keyward", to(&self.keyward, tracked), &[self.keyward.pid()]),
        ];
        ways.extend(self.beside.as_ref().map(|beside| way("keyward beside", to(beside, tracked), &[beside.pid()])));
        ways
    }
}
