//! The text of policies, of files whose stores nobody asks. Whether they are enough, and no more than that, real/policy.rs says.

use crate::store::policies::{AskStore, PolicyOf, StorePolicy};
use crate::{Gate, sample};

/// The policies of the store `corp`, whose further keys these are.
async fn policies(store: &str, connections: &str) -> Vec<StorePolicy> {
    asked(AskStore::Never, store, connections).await
}

async fn asked(ask: AskStore, store: &str, connections: &str) -> Vec<StorePolicy> {
    let text = format!(
        "stores:\n  corp: {{ type: vault, address: 'https://vault.invalid', {store} }}\nconnections:\n{connections}\
         users: {{ alice: {{}} }}\naccess: [{{ allow: [alice], connections: ['*'] }}]\n"
    );
    let (config, mut problems) = sample::config(&text);
    let gate = Gate::for_operator(&config, sample::nobody(), &mut problems).unwrap_or_else(|| panic!("{problems}"));
    gate.store_policies(&config, "corp", ask).await.unwrap()
}

fn database(name: &str, keys: &str) -> String {
    format!("  {name}: {{ protocol: postgres, address: 'pg:5432', store: corp, {keys} }}\n")
}

fn server(name: &str, keys: &str) -> String {
    format!("  {name}: {{ protocol: ssh, address: 'web:22', store: corp, {keys} }}\n")
}

const TOKEN: &str = "auth: { method: token, token: t }";

#[tokio::test]
async fn every_form_has_its_path_and_its_capability() {
    let connections = [
        database("orders", "username: 'prod_db/data/mysql?username', password: 'prod_db/data/mysql?password&version=3'"),
        database("orders_ro", "credential: prod_db/data/mysql"),
        database("orders_rw", "credential: database/creds/rw"),
        database("reports", "credential: database/static-creds/reporting"),
        database("own", "username: { literal: app }, password: 'users/data/{{user.name}}/db?password'"),
        database("older", "accounts: { default: { credential: old/app/mysql }, own: { credential: 'database/creds/{{user.name}}' } }"),
        server("web", "accounts: { app: { username: { literal: app }, credential: ssh/sign/ops }, otp: { credential: ssh/creds/otp } }"),
    ];
    let policies = policies(TOKEN, &connections.concat()).await;
    let expected = r##"# For the store corp: what Keyward's file needs, and no more.
# Which version of KV is mounted is not known: the store was not asked. With both forms in force it can be asked: then
# only one is left.
# A `+` stands for the name of each user.

# older+own
path "database/creds/+" {
  capabilities = ["read"]
}

# orders_rw
path "database/creds/rw" {
  capabilities = ["read"]
}

# reports
path "database/static-creds/reporting" {
  capabilities = ["read"]
}

# older; if its mount is KV version 1
path "old/app/mysql" {
  capabilities = ["read"]
}

# older; if `old` is a mount of KV version 2
path "old/data/app/mysql" {
  capabilities = ["read"]
}

# orders, orders_ro
path "prod_db/data/mysql" {
  capabilities = ["read"]
}

# web+otp
path "ssh/creds/otp" {
  capabilities = ["update"]
}

# web+app
path "ssh/sign/ops" {
  capabilities = ["update"]
}

# Leases are given back: those of these roles.
path "sys/leases/revoke" {
  capabilities = ["update"]
  allowed_parameters = {
    "lease_id" = [
      "database/creds/*/*",
      "database/creds/rw/*",
      "ssh/creds/otp/*",
    ]
    "sync" = []
  }
}

# own
path "users/data/+/db" {
  capabilities = ["read"]
}

# The policy `default` gives this. For a role with token_no_default_policy, take the `# ` away before each line.
# path "auth/token/lookup-self" { capabilities = ["read"] }
# path "auth/token/renew-self" { capabilities = ["update"] }
# path "sys/capabilities-self" { capabilities = ["update"] }
# path "sys/leases/renew" { capabilities = ["update"] }
"##;
    assert_eq!(policies, [StorePolicy { of: PolicyOf::Store, text: expected.to_owned() }], "{}", policies[0].text);
}

#[tokio::test]
async fn each_runner_has_what_its_connections_need_and_the_worker_has_no_secret() {
    let runner = |keys: &str| format!("{{ role_id: {{ literal: r }}{keys} }}");
    let auth = format!(
        "auth: {{ method: approle, mount: auth/my-app-approle, worker: {{ role_id: {{ literal: w }}, secret_id: {{ literal: s }} }}, \
         runners: {{ dba: {}, web: {} }}, runner: web }}",
        runner(", role_name: my-database-runner"),
        runner(", mount: other")
    );
    let connections = [
        database("orders", "runner: dba, credential: prod_db/data/mysql"),
        database("shop", "credential: shop/data/mysql"),
        database("shop_too", "runner: web, credential: shop/data/mysql"),
    ];
    let policies = policies(&auth, &connections.concat()).await;
    let of: Vec<&PolicyOf> = policies.iter().map(|policy| &policy.of).collect();
    assert_eq!(of, [&PolicyOf::Runner("dba".to_owned()), &PolicyOf::Runner("web".to_owned()), &PolicyOf::Worker]);
    let [dba, web, worker] = policies.as_slice() else { panic!("{policies:?}") };
    assert!(dba.text.starts_with("# For the runner dba of the store corp: ") && !dba.text.contains("shop"), "{}", dba.text);
    assert!(dba.text.contains("\n# orders\npath \"prod_db/data/mysql\" {\n") && !dba.text.contains("sys/leases"), "{}", dba.text);
    assert!(web.text.contains("\n# shop, shop_too\npath \"shop/data/mysql\" {\n") && !web.text.contains("prod_db"), "{}", web.text);
    let expected = r##"# For the worker of the store corp: it may read nothing.

# Secret ids of the runner dba, hidden by a wrapping token.
path "auth/my-app-approle/role/my-database-runner/secret-id" {
  capabilities = ["update"]
  min_wrapping_ttl = "10s"
  max_wrapping_ttl = "5m"
}

# Secret ids of the runner web, hidden by a wrapping token.
path "auth/other/role/web/secret-id" {
  capabilities = ["update"]
  min_wrapping_ttl = "10s"
  max_wrapping_ttl = "5m"
}

# The policy `default` gives this. For a role with token_no_default_policy, take the `# ` away before each line.
# path "auth/token/revoke-self" { capabilities = ["update"] }
"##;
    assert_eq!(worker.text, expected);
}

#[tokio::test]
async fn a_policy_of_a_login_above_the_secrets_names_the_namespace_in_its_paths() {
    let lease = database("orders", "credential: database/creds/rw");
    let beside = "auth: { method: token, token: t, namespace: a }";
    let text = |policies: Vec<StorePolicy>| policies.into_iter().map(|policy| policy.text).collect::<String>();

    let same = text(policies(&format!("namespace: a/b/, {TOKEN}"), &lease).await);
    assert!(same.contains("# It belongs into the namespace a/b: bao policy write -namespace=a/b NAME -\n"), "{same}");
    assert!(same.contains("\npath \"database/creds/rw\" {") && same.contains("\n# path \"sys/leases/renew\""), "{same}");

    let above = text(policies(&format!("namespace: a/b, {beside}"), &lease).await);
    assert!(above.contains("# It belongs into the namespace a: "), "{above}");
    for path in ["b/database/creds/rw", "b/sys/leases/renew", "b/sys/leases/revoke"] {
        assert!(above.contains(&format!("\npath \"{path}\" {{")), "{path}: {above}");
    }
    assert!(above.contains("\"database/creds/rw/*\""), "the ids themselves have no namespace before them: {above}");

    let apart = text(policies(&format!("namespace: ab, {beside}"), &lease).await);
    assert!(apart.contains("no policy leads there"), "{apart}");
}

#[tokio::test]
async fn a_store_of_which_nothing_is_wanted_says_so() {
    let policies = policies(TOKEN, &database("given", "username: { literal: u }, password: { literal: p }")).await;
    assert!(policies[0].text.contains("# The file wants nothing of it.\n") && !policies[0].text.contains("\npath"), "{policies:?}");
}

#[tokio::test]
async fn a_wrapped_secret_id_is_left_to_the_process_that_it_is_for() {
    let auth = "auth: { method: approle, role_id: r, role_name: keyward, wrapped_secret_id: { literal: w } }";
    let policies = asked(AskStore::IfNeeded, auth, &database("older", "credential: old/app/mysql")).await;
    let text = policies[0].text.replace("\n# ", " ");
    assert!(
        text.contains("could not be asked: auth.wrapped_secret_id: it can be opened once")
            && text.contains("\npath \"old/data/app/mysql\""),
        "{text}"
    );
}
