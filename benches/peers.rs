//! Other proxies, each with what its manual recommends for this use and else its defaults.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::bed::{Login, Postgres, Server, as_postgres, eventually, free_port, scratch};

/// A running proxy.
pub struct Peer {
    pub port: u16,
    server: Server,
}

/// Its TLS towards the server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Upstream {
    Plain,
    Verified,
}

impl Peer {
    /// HAProxy in TCP mode before one server.
    pub fn haproxy(server_port: u16) -> Self {
        Self::haproxy_for(4000, server_port)
    }

    /// The same for this many sessions. More than the limit on open files allows, and it does not start.
    pub fn haproxy_for(sessions: usize, server_port: u16) -> Self {
        let (folder, port) = (scratch("haproxy"), free_port());
        let config = format!(
            "global\n  maxconn {sessions}\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
             listen one\n  bind 127.0.0.1:{port}\n  server one 127.0.0.1:{server_port}\n"
        );
        let file = folder.join("haproxy.cfg");
        fs::write(&file, config).unwrap();
        let mut command = Command::new(program("haproxy"));
        command.arg("-db").arg("-f").arg(file);
        Self::start(&command, &[], port)
    }

    /// PgBouncer in session mode before one server, logging in there as `login`. Clients may use TLS, and log in by SCRAM. It keeps its
    /// connections, as it does in life: it takes one at a session's first query, and would else log in while the clock runs.
    pub fn pgbouncer(postgres: &Postgres, login: &Login, upstream: Upstream) -> Self {
        let to_server = match upstream {
            Upstream::Plain => "server_tls_sslmode = disable".to_owned(),
            Upstream::Verified => format!("server_tls_sslmode = verify-full\nserver_tls_ca_file = {}", postgres.ca().display()),
        };
        Self::pgbouncer_with(postgres.port, login, &postgres.identity(), 150, &to_server)
    }

    /// The same before a plain server that lets everybody in, with a pool of this many sessions, and this key and certificate. It gives up after
    /// a second what nobody uses: the next measurement begins with none.
    pub fn pgbouncer_for(sessions: usize, server_port: u16, login: &Login, identity: &[PathBuf; 2]) -> Self {
        let to_server = "server_tls_sslmode = disable\nserver_idle_timeout = 1";
        Self::pgbouncer_with(server_port, login, identity, sessions, to_server)
    }

    fn pgbouncer_with(server_port: u16, login: &Login, identity: &[PathBuf; 2], pool: usize, to_server: &str) -> Self {
        let (folder, port) = (scratch("pgbouncer"), free_port());
        let ([key, certificate], users) = (identity.each_ref().map(|path| path.display()), folder.join("users.txt"));
        let clients = 2000.max(pool + 10);
        let config = format!(
            "[databases]\n* = host=127.0.0.1 port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             pool_mode = session\nmax_client_conn = {clients}\ndefault_pool_size = {pool}\nauth_type = scram-sha-256\nauth_file = {}\n\
             client_tls_sslmode = allow\nclient_tls_key_file = {key}\nclient_tls_cert_file = {certificate}\n{to_server}\n\
             ignore_startup_parameters = extra_float_digits\nlog_connections = 0\nlog_disconnections = 0\n",
            users.display()
        );
        let file = folder.join("pgbouncer.ini");
        fs::write(&users, format!("\"{}\" \"{}\"\n", login.name, login.password)).unwrap();
        fs::write(&file, config).unwrap();
        let mut command = Command::new(program("pgbouncer"));
        command.arg("--quiet").arg(file);
        Self::start(&command, &as_postgres(), port)
    }

    fn start(command: &Command, options: &[&str], port: u16) -> Self {
        let server = Server::start(command, "KILL", options, [Stdio::null(), Stdio::null(), Stdio::inherit()]);
        eventually("the peer accepts", || {
            assert!(server.exited().is_none(), "{command:?} ended at once");
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self { port, server }
    }

    pub fn pid(&self) -> u32 {
        self.server.child().id()
    }
}

/// Debian keeps some of them where only root looks.
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed: run benches/run.sh"))
}
