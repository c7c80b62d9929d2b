//! OpenBao as a store: sealed storage in memory, TLS off, on loopback.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::canary::{ISSUED_ALPHABET, random_hex, remember};
use super::http::{self, Answer};
use super::mysql::Mysql;
use super::postgres::Postgres;
use super::process::{Server, eventually, free_port, installed, scratch};

/// The OpenBao of this run; shared by all tests.
pub fn bao() -> &'static Bao {
    static SHARED: LazyLock<Bao> = LazyLock::new(|| Bao::start_with("storage \"inmem\" {}\n"));
    &SHARED
}

/// One running server, unsealed.
pub struct Bao {
    port: u16,
    folder: PathBuf,
    root: String,
    unseal_key: String,
    server: Mutex<Option<Server>>,
}

/// What Keyward logs in with.
pub struct AppRole {
    /// The name of the role and of its policy.
    pub name: String,
    pub role_id: String,
    pub secret_id: String,
}

/// A KV version 2 mount of the test's own.
pub struct Kv<'a> {
    bao: &'a Bao,
    pub mount: String,
}

/// A database mount of the test's own, with the role `rw`.
pub struct Database<'a> {
    bao: &'a Bao,
    pub mount: String,
    /// How a login's password is changed.
    rotation: &'static str,
}

impl Bao {
    /// A server of the test's own, with its storage on disk: it may be killed and started again.
    pub fn own() -> Self {
        let storage = scratch("bao-storage");
        // With the default it takes seconds until the only node leads.
        Self::start_with(&format!(
            "storage \"raft\" {{\n  path = \"{}\"\n  node_id = \"one\"\n  performance_multiplier = 1\n}}\n",
            storage.display()
        ))
    }

    fn start_with(storage: &str) -> Self {
        let (folder, port, cluster) = (scratch("bao"), free_port(), free_port());
        let config = format!(
            "{storage}cluster_addr = \"http://127.0.0.1:{cluster}\"\napi_addr = \"http://127.0.0.1:{port}\"\n\
             listener \"tcp\" {{\n  address = \"127.0.0.1:{port}\"\n  cluster_address = \"127.0.0.1:{cluster}\"\n  tls_disable = true\n}}\n"
        );
        fs::write(folder.join("bao.hcl"), config).unwrap();
        let mut bao = Self { port, folder, root: String::new(), unseal_key: String::new(), server: Mutex::new(None) };
        bao.spawn();
        let keys = bao.call("PUT", "sys/init", json!({ "secret_shares": 1, "secret_threshold": 1 })).json();
        bao.root = text(&keys["root_token"]);
        bao.unseal_key = text(&keys["keys"][0]);
        bao.unseal();
        // Passwords that OpenBao makes are recognisable as its own, wherever they turn up.
        let policy = format!("length = 40\nrule \"charset\" {{\n  charset = \"{ISSUED_ALPHABET}\"\n  min-chars = 40\n}}\n");
        bao.call("PUT", "sys/policies/password/canary", json!({ "policy": policy }));
        bao.call("POST", "sys/auth/approle", json!({ "type": "approle" }));
        bao
    }

    /// Starts it again after [`Self::kill9`]; what was stored on disk is there again.
    pub fn start_again(&self) {
        self.spawn();
        self.unseal();
    }

    pub fn kill9(&self) {
        self.server.lock().unwrap().take();
    }

    /// `Signal::STOP` freezes it, `Signal::CONT` thaws it.
    pub fn signal(&self, signal: Signal) {
        self.server.lock().unwrap().as_ref().expect("the server runs").signal(signal);
    }

    /// `http://127.0.0.1:port`
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A new KV version 2 mount.
    pub fn mount_kv2(&self) -> Kv<'_> {
        let mount = format!("kv_{}", random_hex(4));
        self.call("POST", &format!("sys/mounts/{mount}"), json!({ "type": "kv", "options": { "version": "2" } }));
        eventually("the KV mount is ready", || (self.request("GET", &format!("{mount}/config"), "").status == 200).then_some(()));
        Kv { bao: self, mount }
    }

    /// A new database mount whose role `rw` makes logins in `postgres`, members of nothing, with these lives (`"1m"`).
    pub fn enable_database(&self, postgres: &Postgres, default_ttl: &str, max_ttl: &str) -> Database<'_> {
        let admin = postgres.superuser();
        let url = format!("postgresql://{{{{username}}}}:{{{{password}}}}@{}/postgres?sslmode=disable", postgres.address());
        let asset = json!({ "plugin_name": "postgresql-database-plugin", "connection_url": url, "username": admin.name,
            "password": admin.password });
        let role = json!({ "default_ttl": default_ttl, "max_ttl": max_ttl,
            "creation_statements": ["CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';"],
            "revocation_statements": ["DROP ROLE IF EXISTS \"{{name}}\";"] });
        self.database(asset, role, "ALTER ROLE \"{{name}}\" WITH PASSWORD '{{password}}';")
    }

    /// The same for MySQL or MariaDB: its logins may do all in what [`Mysql::database`] makes.
    pub fn enable_mysql_database(&self, mysql: &Mysql, default_ttl: &str, max_ttl: &str) -> Database<'_> {
        let admin = mysql.superuser();
        let asset = json!({ "plugin_name": "mysql-database-plugin", "username": admin.name, "password": admin.password,
            "connection_url": format!("{{{{username}}}}:{{{{password}}}}@tcp({})/", mysql.address()) });
        let role = json!({ "default_ttl": default_ttl, "max_ttl": max_ttl,
            "creation_statements": ["CREATE USER '{{name}}'@'%' IDENTIFIED BY '{{password}}';", "GRANT ALL ON `db\\_%`.* TO '{{name}}'@'%';"],
            "revocation_statements": ["DROP USER IF EXISTS '{{name}}'@'%';"] });
        self.database(asset, role, "ALTER USER '{{name}}'@'%' IDENTIFIED BY '{{password}}';")
    }

    fn database(&self, mut asset: Value, mut role: Value, rotation: &'static str) -> Database<'_> {
        let mount = format!("db_{}", random_hex(4));
        (asset["allowed_roles"], asset["password_policy"]) = (json!(["*"]), json!("canary"));
        role["db_name"] = json!("asset");
        self.call("POST", &format!("sys/mounts/{mount}"), json!({ "type": "database" }));
        self.call("POST", &format!("{mount}/config/asset"), asset);
        self.call("POST", &format!("{mount}/roles/rw"), role);
        Database { bao: self, mount, rotation }
    }

    /// An AppRole that may read these paths (update those of an SSH engine, `ssh_…`), and give back leases made under those of them that are
    /// `…/creds/…`. Its tokens are periodic, one hour.
    pub fn approle(&self, paths: &[&str]) -> AppRole {
        self.approle_with(paths, json!({ "token_period": "1h" }))
    }

    /// The same with tokens of another kind (`{ "token_max_ttl": "1m" }`).
    pub fn approle_with(&self, paths: &[&str], mut tokens: Value) -> AppRole {
        let name = format!("keyward_{}", random_hex(4));
        // What an SSH engine makes is asked for with something in hand.
        let may = |path: &str| if path.starts_with("ssh_") { "update" } else { "read" };
        let mut policy: String = paths.iter().map(|path| format!("path \"{path}\" {{ capabilities = [\"{}\"] }}\n", may(path))).collect();
        let leases: Vec<String> = paths.iter().filter(|path| path.contains("/creds/")).map(|path| format!("\"{path}/*\"")).collect();
        if !leases.is_empty() {
            let allowed = format!("{{ \"lease_id\" = [{}], \"sync\" = [] }}", leases.join(", "));
            policy += &format!("path \"sys/leases/revoke\" {{\n  capabilities = [\"update\"]\n  allowed_parameters = {allowed}\n}}\n");
        }
        self.call("PUT", &format!("sys/policies/acl/{name}"), json!({ "policy": policy }));
        tokens["token_policies"] = json!([name]);
        self.call("POST", &format!("auth/approle/role/{name}"), tokens);
        let role_id = self.call("GET", &format!("auth/approle/role/{name}/role-id"), Value::Null).json();
        let secret_id = self.call("POST", &format!("auth/approle/role/{name}/secret-id"), Value::Null).json();
        let secret_id = text(&secret_id["data"]["secret_id"]);
        remember(&secret_id);
        AppRole { name, role_id: text(&role_id["data"]["role_id"]), secret_id }
    }

    /// Writes a new version of a secret.
    pub fn put(&self, mount: &str, path: &str, keys: &[(&str, &str)]) {
        let data: serde_json::Map<String, Value> = keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
        self.call("POST", &format!("{mount}/data/{path}"), json!({ "data": data }));
    }

    /// A call as root that must succeed.
    #[track_caller]
    pub fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        let answer = self.request(method, path, &if body.is_null() { String::new() } else { body.to_string() });
        assert!(answer.status < 300, "{method} {path}: {answer:?}");
        answer
    }

    /// A call as root, whatever comes of it.
    pub fn request(&self, method: &str, path: &str, body: &str) -> Answer {
        let address = format!("127.0.0.1:{}", self.port);
        http::request(&address, method, &format!("/v1/{path}"), &[("X-Vault-Token", &self.root)], body).expect("OpenBao answers")
    }

    /// Asks for a new secret id of this role, wrapped for a minute: all that the CLI prints of it.
    pub fn wrapped_secret_id(&self, role: &AppRole) -> Value {
        let (path, address) = (format!("/v1/auth/approle/role/{}/secret-id", role.name), format!("127.0.0.1:{}", self.port));
        let headers = [("X-Vault-Token", self.root.as_str()), ("X-Vault-Wrap-TTL", "60s")];
        http::request(&address, "POST", &path, &headers, "").expect("OpenBao answers").json()
    }

    /// Opens a wrapping token, as whoever has it can.
    pub fn unwrap(&self, token: &str) -> Answer {
        let address = format!("127.0.0.1:{}", self.port);
        let answer = http::request(&address, "POST", "/v1/sys/wrapping/unwrap", &[("X-Vault-Token", token)], "").expect("OpenBao answers");
        if answer.status == 200 {
            remember(&text(&answer.json()["data"]["secret_id"]));
        }
        answer
    }

    fn spawn(&self) {
        let mut command = Command::new(installed("bao"));
        command.arg("server").arg("-config").arg(self.folder.join("bao.hcl"));
        let log = || Stdio::from(fs::File::options().append(true).create(true).open(self.folder.join("log")).unwrap());
        *self.server.lock().unwrap() = Some(Server::start(&command, "KILL", &[], [Stdio::null(), log(), log()]));
        self.until_health(&[200, 429, 501, 503]);
    }

    fn unseal(&self) {
        self.call("PUT", "sys/unseal", json!({ "key": self.unseal_key }));
        self.until_health(&[200]);
    }

    fn until_health(&self, wanted: &[u16]) {
        let address = format!("127.0.0.1:{}", self.port);
        eventually("OpenBao's health", || {
            let answer = http::request(&address, "GET", "/v1/sys/health", &[], "").ok()?;
            wanted.contains(&answer.status).then_some(())
        });
    }
}

impl Kv<'_> {
    /// Writes a new version of a secret.
    pub fn put(&self, path: &str, keys: &[(&str, &str)]) {
        self.bao.put(&self.mount, path, keys);
    }

    /// Deletes the newest version, as `vault kv delete` does.
    pub fn delete(&self, path: &str) {
        self.bao.call("DELETE", &format!("{}/data/{path}", self.mount), Value::Null);
    }

    /// `mount/data/path`, as a policy and a reference spell it.
    pub fn path(&self, path: &str) -> String {
        format!("{}/data/{path}", self.mount)
    }
}

impl Database<'_> {
    /// `mount/creds/rw`
    pub fn creds(&self) -> String {
        format!("{}/creds/rw", self.mount)
    }

    /// A static role for a login that is already there; OpenBao takes its password over. Returns `mount/static-creds/name`.
    pub fn static_role(&self, login: &str) -> String {
        self.static_role_every(login, "1h")
    }

    /// The same, with the time after which the store changes the password by itself.
    pub fn static_role_every(&self, login: &str, period: &str) -> String {
        let role = json!({ "db_name": "asset", "username": login, "rotation_period": period,
            "rotation_statements": [self.rotation] });
        self.bao.call("POST", &format!("{}/static-roles/{login}", self.mount), role);
        format!("{}/static-creds/{login}", self.mount)
    }

    /// Has the store change the password of a static role now.
    pub fn rotate(&self, login: &str) {
        self.bao.call("POST", &format!("{}/rotate-role/{login}", self.mount), Value::Null);
    }

    /// How many leases are live under it.
    pub fn leases(&self) -> usize {
        let answer = self.bao.request("LIST", &format!("sys/leases/lookup/{}/creds/rw", self.mount), "");
        answer.json()["data"]["keys"].as_array().map_or(0, Vec::len)
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}")).to_owned()
}
