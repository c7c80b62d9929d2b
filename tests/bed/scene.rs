//! The scene of most tests: alice may reach `orders`, whose login is in a KV secret, and knows of `payroll`, which she may not reach.

use std::path::PathBuf;

use super::bao::bao;
use super::canary::canary;
use super::config::Config;
use super::keyward::Keyward;
use super::postgres::{Login, Method, Postgres};
use super::psql::Dsn;
use super::raw::{Backend, Raw, Told};

/// One Keyward before one PostgreSQL.
pub struct Scene {
    pub keyward: Keyward,
    /// The login of `orders`.
    pub app: Login,
    /// alice's password.
    pub alice: String,
}

impl Scene {
    /// With the upstream as it is by default: loopback, no TLS, SCRAM.
    pub fn new(postgres: &Postgres) -> Self {
        Self::with(postgres, "", |config| config)
    }

    /// `keys` are further keys of the connection (an `address` and a `database` instead of the default ones), `change` what else is to be
    /// in the config.
    pub fn with(postgres: &Postgres, keys: &str, change: impl FnOnce(Config) -> Config) -> Self {
        Self::of(postgres.login(Method::Scram), &postgres.address(), keys, change)
    }

    /// The same for a login and an address of the test's own.
    pub fn of(app: Login, address: &str, keys: &str, change: impl FnOnce(Config) -> Config) -> Self {
        let (kv, alice) = (bao().mount_kv2(), canary());
        kv.put("orders", &[("username", &app.name), ("password", &app.password)]);
        let path = kv.path("orders");
        let mut body = format!("store: corp, username: \"{path}?username\", password: \"{path}?password\"");
        for (key, default) in [("address", format!("\"{address}\"")), ("database", "postgres".to_owned())] {
            if !keys.contains(&format!("{key}: ")) {
                body += &format!(", {key}: {default}");
            }
        }
        if !keys.is_empty() {
            body += &format!(", {keys}");
        }
        let config = Config::new().store("corp", bao(), &bao().approle(&[&path])).connection("orders", &body).connection("payroll", &body);
        let config = change(config.user("alice", &alice).user("bob", &canary()).allow("alice", "orders").allow("bob", "*"));
        Self { keyward: Keyward::start(&config), app, alice }
    }

    /// How alice reaches `orders`.
    pub fn dsn(&self) -> Dsn {
        self.keyward.dsn("alice", &self.alice, "orders")
    }

    pub fn port(&self) -> u16 {
        self.keyward.port("postgres")
    }

    pub fn ca(&self) -> PathBuf {
        self.keyward.ca()
    }

    /// A transport without TLS, from loopback.
    pub fn raw(&self) -> Raw {
        Raw::to(self.port())
    }

    /// One inside TLS.
    pub fn secure_raw(&self) -> Raw {
        self.raw().ask_tls(&self.ca())
    }

    /// A login of alice's on this transport.
    #[track_caller]
    pub fn log_in(&self, raw: &mut Raw) -> Result<Backend, Told> {
        raw.startup(0, &[("user", "alice"), ("database", "orders")]).log_in(&self.alice)
    }

    /// A session of alice's without TLS, from loopback.
    #[track_caller]
    pub fn session(&self) -> (Raw, Backend) {
        let mut raw = self.raw();
        let backend = self.log_in(&mut raw).expect("alice is let in");
        (raw, backend)
    }
}
