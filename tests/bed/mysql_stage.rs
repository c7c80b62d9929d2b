//! The stage of the tests with MySQL's clients, drivers and bulk: one database, through Keyward in three ways, and directly.

use std::io::Read;
use std::net::TcpStream;

use super::config::MYSQL_SOCKET;
use super::mysql::Mysql;
use super::mysql_client::{MysqlDsn, MysqlTls};
use super::mysql_scene::MysqlScene;
use super::process::{SOON, eventually};

/// One Keyward before one server; what comes in by TCP is led to `orders`, so that it is greeted as the server greets.
pub struct MysqlStage<'a> {
    pub scene: MysqlScene,
    pub server: &'a Mysql,
    /// The database of `orders`.
    pub database: String,
}

impl<'a> MysqlStage<'a> {
    /// `keys` are further keys of the connection.
    pub fn new(server: &'a Mysql, keys: &str) -> Self {
        let scene = MysqlScene::with(server, keys, |config| {
            let config = config.only_listener("protocol: mysql, address: \"127.0.0.1:0\", connection: orders");
            config.listener(&format!("protocol: mysql, address: GIVEN/{MYSQL_SOCKET}")).line("limits: { drain_timeout: 200ms }")
        });
        let stage = Self { database: scene.database.clone(), scene, server };
        let version = server.sql("", "SELECT @@version");
        eventually("Keyward greets as the server does", || stage.greeting().contains(&version).then_some(()));
        stage
    }

    fn greeting(&self) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.scene.port())).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut header = [0; 4];
        stream.read_exact(&mut header).unwrap();
        let mut payload = vec![0; usize::from(header[0])];
        stream.read_exact(&mut payload).unwrap();
        String::from_utf8_lossy(&payload).into_owned()
    }

    /// The database without Keyward, with verified TLS.
    pub fn direct(&self) -> MysqlDsn {
        self.server.verified_dsn(&self.scene.app).database(&self.database)
    }

    /// The database through Keyward, with verified TLS.
    pub fn through(&self) -> MysqlDsn {
        self.scene.lobby().database(&self.database)
    }

    /// The same with TLS, without, and by the unix socket, where the name of the connection stands for its database.
    pub fn ways(&self) -> [(&'static str, MysqlDsn); 3] {
        [("with TLS", self.through()), ("without TLS", self.through().tls(MysqlTls::Off)), ("by the socket", self.scene.local())]
    }

    /// Makes the database anew, with nothing but this in it.
    pub fn fill(&self, sql: &str) {
        let database = &self.database;
        self.server.sql("", &format!("DROP DATABASE {database}; CREATE DATABASE {database} CHARACTER SET utf8mb4"));
        self.server.sql(database, &format!("SET NAMES utf8mb4;\n{sql}"));
    }

    /// Waits until all that the sessions had is given back.
    #[track_caller]
    pub fn nothing_is_left(&self) {
        self.server.until_gone(&self.scene.app.name);
        eventually("Keyward has none either", || (self.scene.keyward.cli(&["sessions", "--format", "json"]).ok() == "[]").then_some(()));
    }
}
