//! How Keyward logs in to its store, seen through psql, `check`, the log and the metrics: wrapped secret ids, and a worker with its runners.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::bed::{AppRole, Config, Keyward, Kv, Login, Method, bao, canary, postgres15, psql, scratch};

/// A login of PostgreSQL in a KV secret, and a role that may read it.
struct Secret {
    kv: Kv<'static>,
    app: Login,
    role: AppRole,
}

impl Secret {
    fn new() -> Self {
        let (kv, app) = (bao().mount_kv2(), postgres15().login(Method::Scram));
        kv.put("orders", &[("username", &app.name), ("password", &app.password)]);
        let role = bao().approle(&[&kv.path("orders")]);
        Self { kv, app, role }
    }

    /// The keys of a connection that takes it from the store.
    fn connection(&self) -> String {
        let (address, path) = (postgres15().address(), self.kv.path("orders"));
        format!("address: \"{address}\", database: postgres, store: corp, username: \"{path}?username\", password: \"{path}?password\"")
    }
}

/// alice may reach all that these connections lead to.
fn config(auth: &str, connections: &[(&str, String)], alice: &str) -> Config {
    let config = Config::new().line(&format!("stores: {{ corp: {{ type: vault, address: \"{}\", auth: {auth} }} }}", bao().address()));
    connections.iter().fold(config, |config, (name, keys)| config.connection(name, keys)).user("alice", alice).allow("alice", "*")
}

fn by_file(role: &AppRole, file: &Path) -> String {
    let wrapped = format!("wrapped_secret_id: {{ file: \"{}\" }}, role_name: {}", file.display(), role.name);
    format!("{{ method: approle, role_id: {}, {wrapped} }}", role.role_id)
}

fn write(file: &Path, wrapped: &Value) {
    fs::write(file, format!("# wrapped for keyward\n{wrapped:#}\n")).unwrap();
}

fn token(wrapped: &Value) -> &str {
    wrapped["wrap_info"]["token"].as_str().unwrap()
}

/// That Keyward has written this nowhere that others read.
fn is_nowhere(keyward: &Keyward, secret: &str) {
    let written = format!("{:?}{:?}{}{:?}", keyward.log(), keyward.audit(), keyward.http("/metrics").body, keyward.cli(&["check"]));
    assert!(written.len() > 1000 && !written.contains(secret));
}

#[test]
fn a_secret_id_in_a_variable_lets_sessions_in_and_one_that_is_not_set_is_named() {
    let (secret, alice) = (Secret::new(), canary());
    let auth = format!("{{ method: approle, role_id: {}, secret_id: {{ env: ITS_SECRET_ID }} }}", secret.role.role_id);
    let config = config(&auth, &[("orders", secret.connection())], &alice);
    let keyward = Keyward::start_in(&[("ITS_SECRET_ID", &secret.role.secret_id)], &config);
    assert_eq!(psql(&keyward.dsn("alice", &alice, "orders"), "SELECT current_user").ok(), secret.app.name);
    assert!(keyward.cli(&["check"]).ok().contains("orders"));
    let without = Keyward::command_in(&[], &config, &["check"]);
    let said = format!("{}{}", without.stdout, without.stderr);
    assert!(
        without.code != Some(0) && said.contains("auth.secret_id: the environment variable \"ITS_SECRET_ID\" is not set"),
        "{without:?}"
    );
}

#[test]
fn a_wrapped_secret_id_in_a_file_is_opened_at_the_start_and_lets_sessions_in() {
    let (secret, alice) = (Secret::new(), canary());
    let file = scratch("wrapped").join("wrapped.json");
    let wrapped = bao().wrapped_secret_id(&secret.role);
    write(&file, &wrapped);
    let keyward = Keyward::start(&config(&by_file(&secret.role, &file), &[("orders", secret.connection())], &alice));
    // It would end while nobody logs in, and then look stolen.
    let opened = |line: &Value| line.to_string().contains("opened a wrapped secret id");
    keyward.until_logged("it is opened before anybody logs in", opened);
    assert_eq!(bao().unwrap(token(&wrapped)).status, 400, "whoever tries it now finds that somebody was there");
    assert_eq!(psql(&keyward.dsn("alice", &alice, "orders"), "SELECT current_user").ok(), secret.app.name);
    is_nowhere(&keyward, token(&wrapped));
}

#[test]
fn a_reload_that_leaves_the_login_as_it_is_needs_no_new_wrapping_token() {
    let (secret, alice) = (Secret::new(), canary());
    let file = scratch("wrapped").join("wrapped.json");
    write(&file, &bao().wrapped_secret_id(&secret.role));
    let (auth, connections) = (by_file(&secret.role, &file), [("orders", secret.connection())]);
    let keyward = Keyward::start(&config(&auth, &connections, &alice));
    let logs_in = || assert_eq!(psql(&keyward.dsn("alice", &alice, "orders"), "SELECT current_user").ok(), secret.app.name);
    logs_in();
    keyward.rewrite(&config(&format!("{auth}, cache_ttl: 7s"), &connections, &alice));
    assert!(keyward.cli(&["reload"]).ok().contains("changed store corp"));
    logs_in();
    assert!(!keyward.http("/metrics").body.contains("keyward_store_security_events_total{"));
}

#[test]
fn a_check_leaves_a_wrapped_secret_id_to_the_process_that_serves() {
    let (secret, alice) = (Secret::new(), canary());
    let file = scratch("wrapped").join("wrapped.json");
    let wrapped = bao().wrapped_secret_id(&secret.role);
    write(&file, &wrapped);
    let said = Keyward::command_in(&[], &config(&by_file(&secret.role, &file), &[("orders", secret.connection())], &alice), &["check"]);
    assert!(said.ok().contains("left to the process that serves"), "{said:?}");
    assert_eq!(bao().unwrap(token(&wrapped)).status, 200, "it is as good as before");
}

#[test]
fn a_wrapped_secret_id_that_somebody_else_has_opened_is_told_to_those_who_watch_and_not_to_the_client() {
    let (secret, alice) = (Secret::new(), canary());
    let file = scratch("wrapped").join("wrapped.json");
    let wrapped = bao().wrapped_secret_id(&secret.role);
    assert_eq!(bao().unwrap(token(&wrapped)).status, 200);
    write(&file, &wrapped);
    let keyward = Keyward::start(&config(&by_file(&secret.role, &file), &[("orders", secret.connection())], &alice));
    keyward.expect_log("wrapped secret id is not ours alone").expect_log("login_failed").expect_log("auth.wrapped_secret_id");
    for _ in 0..2 {
        let refused = psql(&keyward.dsn("alice", &alice, "orders"), "SELECT 1");
        assert!(refused.code != Some(0) && refused.stderr.contains("the credential for this connection is not available"), "{refused:?}");
        assert!(!refused.stderr.contains("wrap"), "{refused:?}");
    }
    let events = keyward.until_logged("it is used up", |line| line["event"] == "wrapped_secret_id_consumed");
    assert!(
        matches!(&events[..], [one] if one["level"] == "ERROR" && one["store"] == "corp"),
        "once, however often it is tried: {events:?}"
    );
    let metrics = keyward.http("/metrics").body;
    let counted = "keyward_store_security_events_total{store=\"corp\",event=\"wrapped_secret_id_consumed\"} 1\n";
    assert!(metrics.contains(counted), "{metrics}");
    is_nowhere(&keyward, token(&wrapped));
    // A new one in the file, and all is well.
    write(&file, &bao().wrapped_secret_id(&secret.role));
    assert_eq!(psql(&keyward.dsn("alice", &alice, "orders"), "SELECT current_user").ok(), secret.app.name);
}

#[test]
fn each_connection_is_read_with_the_rights_of_its_runner() {
    let (orders, payroll, alice) = (Secret::new(), Secret::new(), canary());
    let path = |secret: &Secret| {
        format!(
            "path \"auth/approle/role/{}/secret-id\" {{\n capabilities = [\"update\"]\n min_wrapping_ttl = \"10s\"\n}}\n",
            secret.role.name
        )
    };
    let worker = bao().approle(&["replaced/below"]);
    bao().call("PUT", &format!("sys/policies/acl/{}", worker.name), json!({ "policy": path(&orders) + &path(&payroll) }));
    let runner = |name: &str, secret: &Secret| format!("{name}: {{ role_id: {}, role_name: {} }}", secret.role.role_id, secret.role.name);
    let runners = format!("runners: {{ {}, {} }}, runner: orders", runner("orders", &orders), runner("payroll", &payroll));
    let auth = format!("{{ method: approle, worker: {{ role_id: {}, secret_id: {} }}, {runners} }}", worker.role_id, worker.secret_id);
    let connections = [
        ("orders", orders.connection()),
        ("payroll", format!("runner: payroll, {}", payroll.connection())),
        ("beyond", payroll.connection()),
    ];
    let keyward = Keyward::start(&config(&auth, &connections, &alice));
    for (connection, secret) in [("orders", &orders), ("payroll", &payroll)] {
        assert_eq!(psql(&keyward.dsn("alice", &alice, connection), "SELECT current_user").ok(), secret.app.name);
    }
    keyward.expect_log("denied");
    let refused = psql(&keyward.dsn("alice", &alice, "beyond"), "SELECT 1");
    assert!(refused.stderr.contains("the credential for this connection is not available"), "{refused:?}");
    let metrics = keyward.http("/metrics").body;
    for store in ["corp", "corp/payroll"] {
        assert!(metrics.contains(&format!("keyward_store_token_left_seconds{{store=\"{store}\"}}")), "{metrics}");
    }
}
