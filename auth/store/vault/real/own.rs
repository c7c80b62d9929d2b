//! Servers of a test's own, which it may harm: not in dev mode, on one node or on several.

use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::*;

/// The node of a cluster, or a server for itself. Dies with this value.
pub(super) struct Own {
    pub(super) port: u16,
    process: OwnedFd,
    pid: Pid,
    _folder: Arc<tempfile::TempDir>,
}

/// What it takes to open a server, and to be its admin.
#[derive(Clone)]
pub(super) struct Keys {
    share: String,
    pub(super) root: String,
}

impl Own {
    fn run(program: &Path, folder: Arc<tempfile::TempDir>, port: u16, config: &str) -> Self {
        let file = folder.path().join(format!("{port}.hcl"));
        std::fs::write(&file, config).unwrap();
        let mut command = with_us(program);
        command.arg("server").arg("-config").arg(&file).env("HOME", folder.path());
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut child = command.spawn().expect("the server starts");
            let pid = Pid::from_child(&child);
            tell.send((pidfd_open(pid, PidfdFlags::empty()).unwrap(), pid)).unwrap();
            child.wait()
        });
        let (process, pid) = told.recv().unwrap();
        let own = Self { port, process, pid, _folder: folder };
        wait_until("OpenBao", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        own
    }

    /// One server that keeps its data in memory; `more` is put before its listener.
    pub(super) async fn alone(program: &Path, more: &str) -> (Self, Keys) {
        let (port, folder) = (free_port(), Arc::new(tempfile::tempdir().unwrap()));
        let listener = format!("listener \"tcp\" {{\n  address = \"127.0.0.1:{port}\"\n  tls_disable = true\n}}\n");
        let config = format!("disable_mlock = true\n{more}\nstorage \"inmem\" {{}}\n{listener}");
        let own = Self::run(program, folder, port, &config);
        let keys = own.init().await;
        (own, keys)
    }

    /// A cluster whose members all vote; the first one leads.
    pub(super) async fn cluster(program: &Path) -> (Vec<Self>, Keys) {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let ports: Vec<(u16, u16)> = (0..3).map(|_| (free_port(), free_port())).collect();
        let joins: String =
            ports.iter().map(|(api, _)| format!("  retry_join {{\n    leader_api_addr = \"http://127.0.0.1:{api}\"\n  }}\n")).collect();
        let start = |(api, cluster): &(u16, u16)| {
            let data = folder.path().join(api.to_string());
            std::fs::create_dir(&data).unwrap();
            let config = format!(
                "disable_mlock = true\napi_addr = \"http://127.0.0.1:{api}\"\ncluster_addr = \"http://127.0.0.1:{cluster}\"\n\
                 listener \"tcp\" {{\n  address = \"127.0.0.1:{api}\"\n  cluster_address = \"127.0.0.1:{cluster}\"\n  tls_disable = true\n}}\n\
                 storage \"raft\" {{\n  path = \"{}\"\n  node_id = \"{api}\"\n  performance_multiplier = 1\n{joins}}}\n",
                data.display()
            );
            Self::run(program, Arc::clone(&folder), *api, &config)
        };
        let first = start(&ports[0]);
        let keys = first.init().await;
        let quickly = json!({"server_stabilization_time": "1s", "dead_server_last_contact_threshold": "24h"});
        first.post(&keys, "sys/storage/raft/autopilot/configuration", quickly).await;
        let others: Vec<Self> = ports[1..].iter().map(start).collect();
        for other in &others {
            other
                .eventually("to be unsealed", async || {
                    other.unseal(&keys).await;
                    other.ask(Method::GET, "sys/health?standbyok=true", None, Value::Null).await.0 == 200
                })
                .await;
        }
        first
            .eventually("three members to vote", async || {
                let (_, answer) = first.ask(Method::GET, "sys/storage/raft/configuration", Some(&keys), Value::Null).await;
                let servers = answer["data"]["config"]["servers"].as_array().cloned().unwrap_or_default();
                servers.len() == 3 && servers.iter().all(|server| server["voter"] == true)
            })
            .await;
        (std::iter::once(first).chain(others).collect(), keys)
    }

    async fn init(&self) -> Keys {
        let body = json!({"secret_shares": 1, "secret_threshold": 1});
        self.eventually("to listen", async || self.ask(Method::GET, "sys/health", None, Value::Null).await.0 == 501).await;
        let (_, answer) = self.ask(Method::PUT, "sys/init", None, body).await;
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("no key: {answer}")).to_owned();
        let keys = Keys { share: text(&answer["keys_base64"][0]), root: text(&answer["root_token"]) };
        self.unseal(&keys).await;
        self.eventually("to lead", async || self.ask(Method::GET, "sys/health", None, Value::Null).await.0 == 200).await;
        keys
    }

    pub(super) async fn unseal(&self, keys: &Keys) {
        self.ask(Method::PUT, "sys/unseal", None, json!({"key": keys.share})).await;
    }

    pub(super) fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(super) fn freeze(&self) {
        pidfd_send_signal(&self.process, Signal::STOP).unwrap();
        // Each thread stops when it has a core again, and until then may answer somebody.
        wait_until("a standstill", || {
            let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid.as_raw_nonzero())).unwrap().flatten();
            let mut states = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
            states.all(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
        });
    }

    pub(super) fn thaw(&self) {
        pidfd_send_signal(&self.process, Signal::CONT).unwrap();
    }

    pub(super) fn kill(&self) {
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
    }

    /// One request; `0` is the status of none.
    pub(super) async fn ask(&self, method: Method, path: &str, keys: Option<&Keys>, body: Value) -> (u16, Value) {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut request = reqwest::Client::new().request(method, format!("{}/v1/{path}", self.address()));
        if let Some(keys) = keys {
            request = request.header("x-vault-token", &keys.root);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        let Ok(answer) = request.send().await else { return (0, Value::Null) };
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default())
    }

    /// Does something as its admin, as soon as it is ready for that.
    pub(super) async fn post(&self, keys: &Keys, path: &str, body: Value) -> Value {
        self.done(Method::POST, keys, path, body).await
    }

    async fn get(&self, keys: &Keys, path: &str) -> Value {
        self.done(Method::GET, keys, path, Value::Null).await
    }

    async fn done(&self, method: Method, keys: &Keys, path: &str, body: Value) -> Value {
        let mut last = Value::Null;
        self.eventually(&format!("to do {path}"), async || {
            let (status, answer) = self.ask(method.clone(), path, Some(keys), body.clone()).await;
            last = answer;
            (200..300).contains(&status)
        })
        .await;
        last
    }

    pub(super) async fn eventually(&self, what: &str, mut done: impl AsyncFnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(90);
        while !done().await {
            assert!(Instant::now() < end, "the server on port {} was expected {what}", self.port);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A KV version 2 mount with the secret `p`; its name.
    pub(super) async fn kv(&self, keys: &Keys) -> String {
        let mount = unique("kv");
        self.post(keys, &format!("sys/mounts/{mount}"), json!({"type": "kv", "options": {"version": "2"}})).await;
        self.post(keys, &format!("{mount}/data/p"), json!({"data": {"username": "app", "password": "x"}})).await;
        mount
    }

    /// An AppRole mount with one role that has these rights; the keys of `auth:` for it.
    pub(super) async fn approle(&self, keys: &Keys, rules: &str) -> String {
        let (mount, policy) = (unique("approle"), unique("policy"));
        self.post(keys, &format!("sys/policies/acl/{policy}"), json!({ "policy": rules })).await;
        self.post(keys, &format!("sys/auth/{mount}"), json!({"type": "approle"})).await;
        self.post(keys, &format!("auth/{mount}/role/keyward"), json!({ "token_policies": policy })).await;
        let role_id = self.get(keys, &format!("auth/{mount}/role/keyward/role-id")).await;
        let secret_id = self.post(keys, &format!("auth/{mount}/role/keyward/secret-id"), json!({})).await;
        let (role_id, secret_id) = (&role_id["data"]["role_id"], &secret_id["data"]["secret_id"]);
        format!("{{ method: approle, mount: {mount}, role_id: {role_id}, secret_id: {secret_id} }}")
    }

    /// A database mount with the dynamic role `r`, whose accounts are made after `first`; its name.
    pub(super) async fn database(&self, keys: &Keys, port: u16, first: &str, ttl: u64) -> String {
        let mount = unique("db");
        self.post(keys, &format!("sys/mounts/{mount}"), json!({"type": "database"})).await;
        let url = format!("postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{port}/postgres?sslmode=disable");
        let config = json!({"plugin_name": "postgresql-database-plugin", "allowed_roles": "*", "connection_url": url,
            "username": "postgres", "password": "any", "verify_connection": false});
        self.post(keys, &format!("{mount}/config/pg"), config).await;
        let create = format!(
            "{first} CREATE ROLE \"{{{{name}}}}\" LOGIN PASSWORD '{{{{password}}}}' VALID UNTIL '{{{{expiration}}}}'; \
             COMMENT ON ROLE \"{{{{name}}}}\" IS '{mount}'"
        );
        let role = json!({"db_name": "pg", "creation_statements": create, "default_ttl": ttl, "max_ttl": 7200});
        self.post(keys, &format!("{mount}/roles/r"), role).await;
        mount
    }

    /// A lease, as soon as the server is ready for that.
    pub(super) async fn lease(&self, bed: &Bed, of: &str) -> Lease {
        let mut lease = None;
        self.eventually("to issue a lease", async || {
            lease = bed.lease(of).await.ok();
            lease.is_some()
        })
        .await;
        lease.unwrap()
    }

    /// How many leases of this mount's role there are. `None`: nobody leads who could say.
    pub(super) async fn leases(&self, keys: &Keys, mount: &str) -> Option<usize> {
        let list = Method::from_bytes(b"LIST").unwrap();
        match self.ask(list, &format!("sys/leases/lookup/{mount}/creds/r"), Some(keys), Value::Null).await {
            (200, answer) => Some(answer["data"]["keys"].as_array().unwrap().len()),
            (404, _) => Some(0),
            _ => None,
        }
    }

    /// A gate whose store this is.
    pub(super) fn bed(&self, keys: &Keys, more: &str, connections: &[(&str, &str)]) -> Bed {
        Self::bed_of(&[self], keys, more, connections)
    }

    pub(super) fn bed_of(nodes: &[&Self], keys: &Keys, more: &str, connections: &[(&str, &str)]) -> Bed {
        let addresses: Vec<String> = nodes.iter().map(|node| format!("'{}'", node.address())).collect();
        let auth = format!("auth: {{ method: token, token: {} }}", keys.root);
        Bed::of(&format!("address: [{}], {auth}, cache_ttl: 0s{more}", addresses.join(", ")), connections)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The keys of a connection for the secret of [`Own::kv`].
pub(super) fn secret(mount: &str) -> String {
    format!("username: '{mount}/data/p?username', password: '{mount}/data/p?password'")
}
