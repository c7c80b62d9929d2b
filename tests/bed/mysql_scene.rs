//! The scene of the tests with MySQL: alice may reach `orders`, whose login is in a KV secret, and knows of `payroll`, which she may not
//! reach.

use std::path::PathBuf;

use super::bao::{Kv, bao};
use super::canary::canary;
use super::config::Config;
use super::keyward::Keyward;
use super::mysql::Mysql;
use super::mysql_client::{MysqlDsn, MysqlTls};
use super::mysql_raw::MysqlRaw;
use super::mysql_wire::MysqlTold;
use super::postgres::Login;

/// One Keyward before one MySQL or MariaDB: it listens on a port and on a unix socket.
pub struct MysqlScene {
    pub keyward: Keyward,
    /// Where its login is: `orders`, with `username` and `password`.
    pub kv: Kv<'static>,
    /// The login of `orders`.
    pub app: Login,
    /// The database of `orders`, which is the app's own.
    pub database: String,
    /// alice's password.
    pub alice: String,
}

impl MysqlScene {
    /// With the upstream as it is by default: loopback, no TLS, the first of the server's plugins.
    pub fn new(server: &Mysql) -> Self {
        Self::with(server, "", |config| config)
    }

    /// `keys` are further keys of the connection (an `address` and a `database` instead of the default ones), `change` what else is to be
    /// in the config.
    pub fn with(server: &Mysql, keys: &str, change: impl FnOnce(Config) -> Config) -> Self {
        Self::of(server.login(server.plugins()[0]), &server.database(), &server.address(), keys, change)
    }

    /// The same for a login, a database and an address of the test's own.
    pub fn of(app: Login, database: &str, address: &str, keys: &str, change: impl FnOnce(Config) -> Config) -> Self {
        let (kv, alice) = (bao().mount_kv2(), canary());
        kv.put("orders", &[("username", &app.name), ("password", &app.password)]);
        let path = kv.path("orders");
        let mut body = format!("store: corp, username: \"{path}?username\", password: \"{path}?password\"");
        for (key, default) in [("address", format!("\"{address}\"")), ("database", database.to_owned())] {
            if !keys.contains(&format!("{key}: ")) {
                body += &format!(", {key}: {default}");
            }
        }
        if !keys.is_empty() {
            body += &format!(", {keys}");
        }
        let config = Config::mysql().store("corp", bao(), &bao().approle(&[&path]));
        let config = config.mysql_connection("orders", &body).mysql_connection("payroll", &body);
        let config = change(config.user("alice", &alice).user("bob", &canary()).allow("alice", "orders").allow("bob", "*"));
        Self { keyward: Keyward::start(&config), kv, app, database: database.to_owned(), alice }
    }

    /// How alice reaches `orders`: by its name as the database, with verified TLS.
    pub fn dsn(&self) -> MysqlDsn {
        self.lobby().database("orders")
    }

    /// The same without TLS.
    pub fn plain(&self) -> MysqlDsn {
        self.dsn().tls(MysqlTls::Off)
    }

    /// The same by the unix socket.
    pub fn local(&self) -> MysqlDsn {
        self.plain().socket(&self.socket())
    }

    /// How alice comes in without a connection, with verified TLS.
    pub fn lobby(&self) -> MysqlDsn {
        self.keyward.mysql_dsn("alice", &self.alice)
    }

    pub fn port(&self) -> u16 {
        self.keyward.port("mysql")
    }

    /// Keyward's unix socket.
    pub fn socket(&self) -> PathBuf {
        self.keyward.given().join(super::config::MYSQL_SOCKET)
    }

    pub fn ca(&self) -> PathBuf {
        self.keyward.ca()
    }

    /// A transport without TLS, from loopback.
    pub fn raw(&self) -> MysqlRaw {
        MysqlRaw::to(self.port())
    }

    /// One inside TLS, behind its greeting.
    #[track_caller]
    pub fn secure_raw(&self) -> MysqlRaw {
        self.raw().ask_tls(&self.ca())
    }

    /// A login of alice's to `orders` on this transport.
    #[track_caller]
    pub fn log_in(&self, raw: &mut MysqlRaw) -> Result<(), MysqlTold> {
        raw.log_in("alice", Some("orders"), &self.alice)
    }

    /// A session of alice's without TLS, from loopback.
    #[track_caller]
    pub fn session(&self) -> MysqlRaw {
        let mut raw = self.raw();
        self.log_in(&mut raw).expect("alice is let in");
        raw
    }
}
