//! The test bed: OpenBao, PostgreSQL, MySQL, MariaDB, sshd and Keyward as real processes, and the clients that talk to them.
//!
//! [`bao`], [`postgres15`], [`postgres18`], [`mariadb`], [`mysql9`], [`mariadb11`], [`sshd`] and [`sshd10`] are shared: started at first use, once per run, ended
//! with it. Each test makes its own mount, role, database and Keyward in them. A test that harms a server starts its own: [`Bao::own`],
//! [`Postgres::own`], [`Mysql::own`], [`Sshd::own`].
//!
//! ```text
//! process.rs       children that end with us, deadlines, scratch folders      http.rs          a request to OpenBao or to the metrics
//! canary.rs        passwords that must never be seen anywhere                 certificates.rs  a CA and a leaf for PostgreSQL
//! bao.rs postgres.rs   the servers        psql.rs   the client        config.rs keyward.rs   the YAML, and the process under test
//! mysql.rs         MySQL and MariaDB                                           mysql_client.rs  their clients
//! raw.rs           a client that may break the rules                     scene.rs         alice, `orders` and a Keyward between them
//! dialogue.rs      any other client, a step at a time                     rust_client.rs  tokio-postgres
//! mysql_rust.rs    mysql_async
//! mysql_impostor.rs  a server that only pretends to be a MySQL         pymysql.rs      PyMySQL, which prints what it hears
//! mysql_scene.rs   the scene over MySQL                                mysql_raw.rs    a client that may break MySQL's rules
//! recorder.rs      a way to a server that keeps what is said to it
//! mysql_leased.rs  the scene over MySQL with a dynamic connection beside it  mysql_wire.rs  what MySQL's two sides say
//! sshd.rs          OpenSSH's server, with users of its own              ssh_keys.rs     keys and certificates, by ssh-keygen
//! ssh_scene.rs     the scene over SSH                                     ssh_ways.rs     OpenSSH's client, and the ways that it knows
//! ssh_agent.rs     a security key in software                           ssh_logins.rs   OpenSSH's client with the proofs that a test gives it
//! ssh_running.rs  `ssh` that runs while a test does something to it   ssh_asks.rs     paramiko, which asks for anything
//! ssh_wilful.rs   a server that asks for what nobody invited it to
//! ssh_logins_engine.rs  OpenBao's SSH engine                            ssh_logins_server.rs  asyncssh as a server
//! terminal.rs      a terminal, and somebody who types there
//! stage.rs         alice, a KV and a dynamic connection, the way around Keyward
//! ```

mod bao;
mod canary;
mod certificates;
mod config;
mod dialogue;
mod http;
mod keyward;
mod mysql;
mod mysql_client;
mod mysql_impostor;
mod mysql_leased;
mod mysql_raw;
mod mysql_rust;
mod mysql_scene;
mod mysql_stage;
mod mysql_wire;
mod postgres;
mod process;
mod psql;
mod pymysql;
mod raw;
mod recorder;
mod rust_client;
mod scene;
mod ssh_agent;
mod ssh_asks;
mod ssh_keys;
mod ssh_logins;
mod ssh_logins_engine;
mod ssh_logins_server;
mod ssh_running;
mod ssh_scene;
mod ssh_ways;
mod ssh_wilful;
mod sshd;
mod stage;
mod terminal;

pub use bao::{AppRole, Bao, Database, Kv, bao};
pub use canary::{canary, must_be_absent};
pub use certificates::{pin, write as certificate};
pub use config::Config;
pub use dialogue::{Dialogue, client_command};
pub use http::request;
pub use keyward::Keyward;
pub use mysql::{Certificate, Mysql, Plugin, WITH_BINLOG, mariadb, mariadb11, mysql_servers, mysql9};
pub use mysql_client::{MysqlClient, MysqlDsn, MysqlShell, MysqlTls, MysqlTool};
pub use mysql_impostor::MysqlImpostor;
pub use mysql_leased::MysqlLeased;
pub use mysql_raw::MysqlRaw;
pub use mysql_rust::mysql_options;
pub use mysql_scene::MysqlScene;
pub use mysql_stage::MysqlStage;
pub use mysql_wire::{CACHING_SHA2, FLAGS, Greeting, Hello, MysqlTold, flag, mysql_packet, seal, ssl_request};
pub use postgres::{Login, Method, Postgres, postgres15, postgres18};
pub use process::{Output, SOON, Server, eventually, free_port, installed, own_address, run, scratch, skipped, uninterrupted, within};
pub use psql::{Dsn, Psql, psql, psql18};
pub use pymysql::{pymysql, pymysql_later, pymysql_stream};
pub use raw::{GSS_REQUEST, Raw, SSL_REQUEST, Told, cancel_request, masked, packet, startup};
pub use recorder::Recorder;
pub use rust_client::RustClient;
pub use scene::Scene;
pub use ssh_agent::{SecurityKey, TOUCHED, VERIFIED};
pub use ssh_asks::SshAsks;
pub use ssh_keys::{SshKey, revocation_list};
pub use ssh_logins::{Caller, REFUSED, without_session};
pub use ssh_logins_server::Asyncssh;
pub use ssh_running::{SshRunning, There, kill_one, processes};
pub use ssh_scene::{ALL_CHANNELS, SshPlan, SshScene};
pub use ssh_ways::{SshTools, SshWay};
pub use ssh_wilful::SshWilful;
pub use sshd::{Release, Sshd, openssh10, sshd, sshd10};
pub use stage::Stage;
pub use terminal::Terminal;

// For the benches only.
#[allow(unused_imports)]
pub use postgres::as_postgres;
