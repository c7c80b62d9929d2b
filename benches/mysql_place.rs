//! A MariaDB, what stands before it, and the ways to it.

use crate::bed::{Certificate, Config, Keyward, Login, Mysql, MysqlDsn, MysqlTls, Plugin, bao, canary};
use crate::peers::Peer;
use crate::place::{Tls, connections};

/// One server and all that stands before it. The login has a KV credential, and may do all in the one database.
pub struct MysqlPlace {
    pub mysql: Mysql,
    pub keyward: Keyward,
    pub database: String,
    app: Login,
    alice: String,
    haproxy: Peer,
}

/// A way to the server: how a client takes it, and whose CPU time it costs.
pub struct MysqlWay {
    pub name: &'static str,
    pub dsn: MysqlDsn,
    pub between: Vec<u32>,
}

impl MysqlPlace {
    pub fn new() -> Self {
        let settings = ["--max-connections=1000", "--innodb-buffer-pool-size=1G", "--innodb-log-file-size=512M", "--skip-name-resolve"];
        let mysql = Mysql::own("mariadb", Certificate::OfTheBed, &settings).expect("it is always there");
        let (kv, app, alice) = (bao().mount_kv2(), mysql.login(Plugin::Native), canary());
        let database = mysql.database();
        kv.put("orders", &[("username", &app.name), ("password", &app.password)]);
        let path = kv.path("orders");
        let server = (mysql.port, mysql.ca(), database.as_str());
        let config = connections(Config::mysql(), Config::mysql_connection, server, &path)
            .store("corp", bao(), &bao().approle(&[&path]))
            .user("alice", &alice)
            .allow("alice", "*")
            // Clients of a benchmark log in all at the same moment, from one address.
            .line("limits: { handshakes_per_address: 1024, sessions_per_user: 1000 }");
        let keyward = Keyward::start(&config);
        let haproxy = Peer::haproxy(mysql.port);
        Self { mysql, keyward, database, app, alice, haproxy }
    }

    /// Around all of them.
    pub fn direct(&self, tls: Tls) -> MysqlDsn {
        self.to_server(self.mysql.port, tls)
    }

    /// All ways, the direct one first. HAProxy in TCP mode passes the client's TLS through to the server: it neither ends nor sees it.
    /// To Keyward the connection is named in the login, since a dump chooses its database only when it is in.
    pub fn ways(&self, tls: Tls) -> Vec<MysqlWay> {
        let [tracked, raw] = tls.connections();
        let keyward = |connection: &str| {
            let dsn = self.keyward.mysql_dsn(&format!("alice+{connection}"), &self.alice).database(&self.database);
            if tls == Tls::Plain { dsn.tls(MysqlTls::Off) } else { dsn }
        };
        let way = |name, dsn, between: &[u32]| MysqlWay { name, dsn, between: between.to_vec() };
        vec![
            way("direct", self.direct(tls), &[]),
            way("haproxy", self.to_server(self.haproxy.port, tls), &[self.haproxy.pid()]),
            way("keyward raw", keyward(raw), &[self.keyward.pid()]),
            way("keyward", keyward(tracked), &[self.keyward.pid()]),
        ]
    }

    fn to_server(&self, port: u16, tls: Tls) -> MysqlDsn {
        let dsn = MysqlDsn::new("127.0.0.1", port, &self.app.name, &self.app.password).database(&self.database);
        if tls == Tls::Plain { dsn } else { dsn.tls(MysqlTls::Verified(self.mysql.ca())) }
    }
}
