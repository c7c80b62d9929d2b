//! The stage of the tests with drivers and bulk: alice may reach one database in two ways, and the test may reach it directly.

use super::bao::{Database, bao};
use super::canary::canary;
use super::config::Config;
use super::keyward::Keyward;
use super::postgres::{Login, Method, Postgres};
use super::process::{eventually, free_port};
use super::psql::Dsn;
use super::raw::Raw;

/// One Keyward with a KV connection `orders` and a dynamic one `orders_rw` to the same database, and that database itself.
pub struct Stage<'a> {
    pub keyward: Keyward,
    pub postgres: &'a Postgres,
    pub database: String,
    /// The login of `orders`.
    pub app: Login,
    pub leases: Database<'static>,
    alice: String,
}

impl<'a> Stage<'a> {
    /// `keys` are further keys of both connections.
    pub fn new(postgres: &'a Postgres, keys: &str) -> Self {
        let (kv, app, database, alice) = (bao().mount_kv2(), postgres.login(Method::Scram), postgres.database(), canary());
        let leases = bao().enable_database(postgres, "1h", "2h");
        kv.put("orders", &[("username", &app.name), ("password", &app.password)]);
        let (path, creds) = (kv.path("orders"), leases.creds());
        let place = format!("address: \"{}\", database: {database}, databases: any, store: corp{keys}", postgres.address());
        let config = Config::new()
            .only_listener(&format!("protocol: postgres, address: \"127.0.0.1:{}\"", free_port())) // a client comes back to it
            .store("corp", bao(), &bao().approle(&[&path, &creds]))
            .connection("orders", &format!("{place}, username: \"{path}?username\", password: \"{path}?password\""))
            .connection("orders_rw", &format!("{place}, credential: {creds}"))
            .user("alice", &alice)
            .allow("alice", "orders*")
            .line("limits: { drain_timeout: 200ms }");
        Self { keyward: Keyward::start(&config), postgres, database, app, alice, leases }
    }

    /// The database without Keyward.
    pub fn direct(&self) -> Dsn {
        let (port, ca) = (self.postgres.port.to_string(), self.postgres.ca().display().to_string());
        let place = [("host", "localhost"), ("hostaddr", "127.0.0.1"), ("port", &port), ("user", &self.app.name)];
        Dsn::new(&self.app.password, &place).with("dbname", &self.database).with("sslmode", "verify-full").with("sslrootcert", &ca)
    }

    /// The database through this connection.
    pub fn through(&self, connection: &str) -> Dsn {
        self.keyward.dsn("alice", &self.alice, connection)
    }

    /// The login of a dynamic credential differs each time, by design.
    pub fn masked(&self, said: &str) -> String {
        let name = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
        let role = |word: &str| word == self.app.name || word.starts_with("v-approle-");
        said.split_inclusive(|letter: char| !name(letter))
            .map(|piece| {
                let word = piece.trim_end_matches(|letter: char| !name(letter));
                if role(word) { piece.replace(word, "ROLE") } else { piece.to_owned() }
            })
            .collect()
    }

    /// Whether a session of the database holds an advisory lock.
    pub fn lock_is_held(&self) -> bool {
        let database = format!("(SELECT oid FROM pg_database WHERE datname = '{}')", self.database);
        self.postgres.sql("postgres", &format!("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = {database}"))
            != "0"
    }

    /// Ends the sessions of the database, as a restart would.
    pub fn end_sessions(&self) {
        let sessions = format!("FROM pg_stat_activity WHERE datname = '{}'", self.database);
        self.postgres.sql("postgres", &format!("SELECT pg_terminate_backend(pid, 10000) {sessions}"));
    }

    /// A session of alice's without TLS, from loopback, message by message.
    #[track_caller]
    pub fn raw(&self, connection: &str) -> Raw {
        let mut raw = Raw::to(self.keyward.port("postgres"));
        raw.startup(0, &[("user", "alice"), ("database", connection)]).log_in(&self.alice).expect("alice is let in");
        raw
    }

    /// Waits until all that the sessions had is given back.
    #[track_caller]
    pub fn nothing_is_left(&self) {
        eventually("no lease is left", || (self.leases.leases() == 0).then_some(()));
        let sessions = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'", self.database);
        eventually("no session is left", || (self.postgres.sql("postgres", &sessions) == "0").then_some(()));
        eventually("Keyward has none either", || (self.keyward.cli(&["sessions", "--format", "json"]).ok() == "[]").then_some(()));
    }
}
