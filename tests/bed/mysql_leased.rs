//! The scene over MySQL with a dynamic connection beside it: alice and carol may reach one server by `orders`, whose login is in a KV
//! secret, and by `orders_rw`, whose login is a lease.

use super::bao::{Bao, Database, bao};
use super::canary::canary;
use super::config::Config;
use super::mysql::Mysql;
use super::mysql_client::{MysqlDsn, MysqlShell};
use super::mysql_raw::MysqlRaw;
use super::mysql_scene::MysqlScene;
use super::process::eventually;

/// One Keyward before one server. Its last TCP listener leads to `orders_rw`.
pub struct MysqlLeased<'a> {
    pub scene: MysqlScene,
    pub server: &'a Mysql,
    pub leases: Database<'a>,
    /// carol's password.
    pub carol: String,
}

impl<'a> MysqlLeased<'a> {
    /// Leases of an hour, one for each session.
    pub fn new(server: &'a Mysql) -> Self {
        Self::with(server, "", |config| config)
    }

    /// `keys` are further keys of `orders_rw` (`lease: shared`), `change` what else is to be in the config.
    pub fn with(server: &'a Mysql, keys: &str, change: impl FnOnce(Config) -> Config) -> Self {
        Self::of(bao(), server, ("1h", "2h"), keys, change)
    }

    /// The same with leases of a store of the test's own, that live for so long, and for so long at the most.
    pub fn of(store: &'a Bao, server: &'a Mysql, (life, longest): (&str, &str), keys: &str, change: impl FnOnce(Config) -> Config) -> Self {
        let (leases, carol) = (store.enable_mysql_database(server, life, longest), canary());
        let (creds, address) = (leases.creds(), server.address());
        let scene = MysqlScene::with(server, "", |config| {
            let place = if keys.contains("address: ") { String::new() } else { format!(", address: \"{address}\"") };
            let keys = if keys.is_empty() { String::new() } else { format!(", {keys}") };
            let config = config.store("leases", store, &store.approle(&[&creds]));
            let config = config.mysql_connection("orders_rw", &format!("store: leases, credential: {creds}{place}{keys}"));
            let config = config.listener("protocol: mysql, address: \"127.0.0.1:0\", connection: orders_rw");
            change(config.user("carol", &carol).allow("alice", "orders_rw").allow("carol", "orders*"))
        });
        Self { scene, server, leases, carol }
    }

    /// How alice reaches `orders_rw`: by its name as the database, with verified TLS.
    pub fn dsn(&self) -> MysqlDsn {
        self.scene.lobby().database("orders_rw")
    }

    /// How carol does.
    pub fn carols(&self) -> MysqlDsn {
        self.dsn().with_user("carol").with_password(&self.carol)
    }

    /// A session of alice's without TLS, and the id by which she knows it. `None`: without a connection.
    #[track_caller]
    pub fn session(&self, connection: Option<&str>) -> (MysqlRaw, u32) {
        session(&self.scene, "alice", connection, &self.scene.alice)
    }

    /// One of carol's.
    #[track_caller]
    pub fn carols_session(&self, connection: Option<&str>) -> (MysqlRaw, u32) {
        session(&self.scene, "carol", connection, &self.carol)
    }

    /// Waits until all that the sessions of this account of the server had is given back.
    #[track_caller]
    pub fn until_nothing_is_left(&self, account: &str) {
        eventually(&format!("the account {account} is gone"), || (!self.server.has_user(account)).then_some(()));
        eventually("no lease is left", || (self.leases.leases() == 0).then_some(()));
        assert_eq!(self.server.sessions_of(account), 0, "its sessions went before");
    }
}

/// A session without TLS, and the id by which its client knows it.
#[track_caller]
fn session(scene: &MysqlScene, user: &str, connection: Option<&str>, password: &str) -> (MysqlRaw, u32) {
    let mut raw = scene.raw();
    let id = raw.greeting().id;
    raw.log_in(user, connection, password).expect("the user is let in");
    (raw, id)
}

impl MysqlShell {
    /// As whom the server knows the session.
    #[track_caller]
    pub fn account(&self) -> String {
        without_host(&self.ask("SELECT current_user()"))
    }
}

impl MysqlRaw {
    /// As whom the server knows the session.
    #[track_caller]
    pub fn account(&mut self) -> String {
        without_host(&self.query("SELECT current_user()").unwrap()[0])
    }
}

fn without_host(user: &str) -> String {
    user.strip_suffix("@%").unwrap_or_else(|| panic!("no account from anywhere: {user}")).to_owned()
}
