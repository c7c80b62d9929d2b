//! `keyward policy` and what `check` says of a token, as operators use them: printed, piped into the store's own program, and found to be enough.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bed::{Config, Keyward, Method, bao, canary, eventually, installed, postgres15, psql, run};

/// Writes a policy as an operator does, with the store's own program.
fn write(name: &str, policy: &str) {
    let token = canary();
    bao().call("POST", "auth/token/create", json!({ "id": token, "policies": ["root"], "ttl": "5m", "no_parent": true }));
    let mut command = Command::new(installed("bao"));
    command.args(["policy", "write", name, "-"]).env("BAO_ADDR", bao().address()).env("BAO_TOKEN", &token);
    run(command, policy, Duration::from_secs(30)).ok();
}

/// The row of `check` on what the token may do.
fn rights(keyward: &Keyward) -> (Option<i32>, Value) {
    let said = keyward.cli(&["check", "--format", "json"]);
    let result: Value = serde_json::from_str(&said.stdout).expect("one JSON document");
    let rows = result["results"].as_array().unwrap();
    (said.code, rows.iter().find(|row| row["stage"] == "rights").unwrap_or_else(|| panic!("{said:?}")).clone())
}

#[test]
fn the_printed_policy_piped_into_the_store_is_what_check_and_sessions_need() {
    let (kv, app, alice) = (bao().mount_kv2(), postgres15().login(Method::Scram), canary());
    let leases = bao().enable_database(postgres15(), "1h", "2h");
    kv.put("orders", &[("username", &app.name), ("password", &app.password)]);
    let role = bao().approle(&["nothing/data/yet"]);
    let place = format!("address: \"{}\", database: postgres, store: corp", postgres15().address());
    let config = Config::new()
        .store("corp", bao(), &role)
        .connection("orders", &format!("{place}, credential: {}/orders", kv.mount))
        .connection("orders_rw", &format!("{place}, credential: {}", leases.creds()))
        .user("alice", &alice)
        .allow("alice", "*");
    let keyward = Keyward::start(&config);

    let (code, row) = rights(&keyward);
    let detail = row["detail"].as_str().unwrap();
    assert_eq!((code, &row["ok"]), (Some(1), &Value::from(false)), "{row}");
    for lack in [format!("read is denied: {} (for orders_rw)", leases.creds()), "`keyward policy corp`".to_owned()] {
        assert!(detail.contains(&lack), "{detail}");
    }
    // Nobody in whose right it is to know has told which version of KV that is.
    let first = keyward.cli(&["policy", "corp"]);
    assert!(first.ok().contains(&format!("path \"{}/orders\"", kv.mount)) && first.stdout.contains("KV version 2"), "{first:?}");
    write(&role.name, &first.stdout);
    let second = keyward.cli(&["policy", "corp"]);
    let expected = format!("\n# orders\npath \"{}\" {{\n  capabilities = [\"read\"]\n}}\n", kv.path("orders"));
    assert!(second.ok().contains(&expected), "{second:?}");
    assert_eq!(second.stdout.matches("\npath \"").count(), 3, "the role, its leases, and one form of the secret: {second:?}");
    write(&role.name, &second.stdout);

    let (code, row) = rights(&keyward);
    assert_eq!((code, &row["ok"], row["detail"].as_str()), (Some(0), &Value::from(true), Some("what the file needs, and no more")));
    assert_eq!(psql(&keyward.dsn("alice", &alice, "orders"), "SELECT current_user").ok(), app.name);
    psql(&keyward.dsn("alice", &alice, "orders_rw"), "SELECT 1").ok();
    eventually("the leases are given back", || (leases.leases() == 0).then_some(()));

    write(&role.name, &format!("{}\npath \"{}/*\" {{ capabilities = [\"read\", \"list\"] }}\n", second.stdout, kv.mount));
    let (code, row) = rights(&keyward);
    let wide = format!("may list, read all of {}/; `keyward policy corp` prints what it needs", kv.mount);
    assert_eq!((code, &row["ok"], row["detail"].as_str()), (Some(0), &Value::from(true), Some(wide.as_str())));
    assert_eq!(row["outcome"], "warning", "it works, and may more");
    let table = keyward.cli(&["check"]);
    assert!(table.ok().lines().any(|line| line.starts_with("warning") && line.contains(&wide)), "{table:?}");
}

#[test]
fn each_login_to_a_store_has_a_policy_of_its_own_and_the_file_is_enough_to_print_it() {
    let id = "{ literal: id }";
    let auth = format!(
        "{{ method: approle, worker: {{ role_id: {id}, secret_id: {id} }}, runners: {{ dba: {{ role_id: {id} }}, web: {{ role_id: {id} }} }}, runner: web }}"
    );
    let stores = format!(
        "stores: {{ corp: {{ type: vault, address: \"http://127.0.0.1:9\", auth: {auth} }}, files: {{ type: file, folder: GIVEN }} }}"
    );
    let config = Config::new()
        .line(&stores)
        .connection("orders", "address: \"pg:1\", store: corp, runner: dba, credential: database/creds/rw")
        .connection("shop", "address: \"pg:1\", store: corp, credential: shop/data/db");
    let policy = |arguments: &[&str]| Keyward::command_in(&[], &config, &[&["policy"], arguments].concat());

    let all = policy(&["corp"]);
    assert_eq!(all.ok().matches("\npath \"").count(), 5, "{all:?}");
    assert!(all.stderr.contains("3 policies") && all.stderr.contains("--runner dba, --runner web, --worker"), "{all:?}");
    let (dba, web, worker) = (policy(&["corp", "--runner", "dba"]), policy(&["corp", "--runner", "web"]), policy(&["corp", "--worker"]));
    assert!(dba.ok().contains("database/creds/rw") && !dba.stdout.contains("shop/") && dba.stderr.is_empty(), "{dba:?}");
    assert!(web.ok().contains("shop/data/db") && !web.stdout.contains("sys/leases") && web.stderr.is_empty(), "{web:?}");
    assert!(worker.ok().contains("min_wrapping_ttl") && !worker.stdout.contains("/creds/") && worker.stderr.is_empty(), "{worker:?}");
    for one in [&dba, &web, &worker] {
        write("never-used", &one.stdout);
    }

    let nobody = policy(&["corp", "--runner", "nobody"]);
    assert!(nobody.code == Some(1) && nobody.stdout.is_empty() && nobody.stderr.contains("--runner web"), "{nobody:?}");
    let files = policy(&["files"]);
    assert!(files.code == Some(2) && files.stdout.is_empty() && files.stderr.contains("has no policies"), "{files:?}");
    let absent = policy(&["absent"]);
    assert!(absent.code == Some(2) && absent.stdout.is_empty() && absent.stderr.contains("absent"), "{absent:?}");
}
