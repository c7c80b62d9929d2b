//! Where a store's own address and credentials come from, seen through psql and `check`: the environment of the process, a list of Vaults in a
//! variable or in a file, another store. And stores that are switched off.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::bed::{Bao, Config, Keyward, Kv, Login, Method, Psql, bao, canary, eventually, postgres15, psql, scratch};

/// A login of PostgreSQL in a KV secret, and who may read it.
struct Secret {
    kv: Kv<'static>,
    app: Login,
}

impl Secret {
    fn new() -> Self {
        let (kv, app) = (bao().mount_kv2(), postgres15().login(Method::Scram));
        kv.put("orders", &[("username", &app.name), ("password", &app.password)]);
        Self { kv, app }
    }

    /// A token that may read it.
    fn token(&self) -> String {
        token(bao(), &[&self.kv.path("orders")])
    }

    /// The keys of a connection that takes it from this store.
    fn connection(&self, store: &str) -> String {
        let (address, path) = (postgres15().address(), self.kv.path("orders"));
        format!("address: \"{address}\", database: postgres, store: {store}, username: \"{path}?username\", password: \"{path}?password\"")
    }
}

/// A token that may read these paths, for an hour; wherever it turns up, it is known for a secret.
fn token(bao: &Bao, paths: &[&str]) -> String {
    let (token, policy) = (canary(), bao.approle(paths).name);
    bao.call("POST", "auth/token/create", json!({ "id": token, "policies": [policy], "period": "1h", "no_parent": true }));
    token
}

fn revoke(token: &str) {
    bao().call("POST", "auth/token/revoke", json!({ "token": token }));
}

/// alice may reach all; `stores` is the section of the file.
fn config(stores: &str, connection: &str, alice: &str) -> Config {
    Config::new().line(&format!("stores: {stores}")).connection("orders", connection).user("alice", alice).allow("alice", "*")
}

fn works(keyward: &Keyward, alice: &str, login: &Login) {
    assert_eq!(psql(&keyward.dsn("alice", alice, "orders"), "SELECT current_user").ok(), login.name);
}

#[test]
fn a_store_without_keys_is_the_one_of_vaults_own_variables_and_those_of_openbao_come_first() {
    let (secret, alice) = (Secret::new(), canary());
    let (address, token) = (bao().address(), secret.token());
    let variables = [("VAULT_ADDR", "http://127.0.0.1:1"), ("BAO_ADDR", &address), ("VAULT_TOKEN", &token)];
    let keyward = Keyward::start_in(&variables, &config("{ corp: { type: vault } }", &secret.connection("corp"), &alice));
    works(&keyward, &alice, &secret.app);
    let said = keyward.cli(&["check"]);
    assert!(said.ok().contains("address from BAO_ADDR; auth from VAULT_TOKEN"), "{said:?}");
    assert!(!said.stdout.contains(&token));
}

#[test]
fn without_the_variables_check_says_both_ways_to_name_a_store() {
    let said = Keyward::command_in(&[], &config("{ corp: { type: vault } }", &Secret::new().connection("corp"), &canary()), &["check"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.stdout.contains("stores.corp: ") && said.stdout.contains("VAULT_ADDR") && said.stdout.contains("VAULT_TOKEN"), "{said:?}");
}

#[test]
fn a_server_that_a_variable_says_not_to_verify_is_told_of_loudly() {
    let (secret, alice) = (Secret::new(), canary());
    let (address, token) = (bao().address(), secret.token());
    let variables = [("VAULT_ADDR", address.as_str()), ("VAULT_TOKEN", &token), ("VAULT_SKIP_VERIFY", "true")];
    let keyward = Keyward::start_in(&variables, &config("{ corp: { type: vault } }", &secret.connection("corp"), &alice));
    keyward.expect_log("this store's server is not verified");
    let told =
        |line: &Value| line.to_string().contains("this store's server is not verified") && line.to_string().contains("VAULT_SKIP_VERIFY");
    keyward.until_logged("it is not verified", told);
    assert!(keyward.http("/metrics").body.contains("keyward_store_unverified{store=\"corp\"} 1\n"));
    let said = keyward.cli(&["check"]);
    assert!(said.ok().contains("VAULT_SKIP_VERIFY: warning: stores.corp.insecure: the server is not verified"), "{said:?}");
}

#[test]
fn the_vaults_of_a_list_are_stores_and_one_that_cannot_be_asked_takes_no_other_down() {
    let (secret, alice) = (Secret::new(), canary());
    let list = json!([
        { "from_secret_store": "AWS", "region": "eu-west-1", "secret_id": "vault/prod" },
        { "address": bao().address(), "token": secret.token() },
        { "name": "away", "address": "http://127.0.0.1:1", "token": canary() },
    ]);
    let list = list.to_string();
    let variables = [("HASHICORP_VAULT_CONFIG", list.as_str())];
    let keyward = Keyward::start_in(&variables, &config("{}", &secret.connection("vault-2"), &alice));
    // A token is looked at although nobody asks for it.
    keyward.expect_log("the store is away");
    works(&keyward, &alice, &secret.app);
    let said = keyward.cli(&["check"]);
    assert_eq!(said.code, Some(1), "one of them is away: {said:?}");
    let row = |name: &str| said.stdout.lines().find(|line| line.split_whitespace().nth(2) == Some(name)).unwrap_or_default();
    assert!(row("vault-2").starts_with("ok") && row("vault-2").contains("from HASHICORP_VAULT_CONFIG"), "{said:?}");
    assert!(row("vault").starts_with('-') && row("vault").contains("AWS Secrets Manager"), "{said:?}");
    assert!(row("away").starts_with("FAILED"), "{said:?}");
    assert!(row("orders").starts_with("ok"), "{said:?}");
    let needed = Keyward::command_in(&variables, &config("{}", &secret.connection("vault"), &alice), &["check"]);
    assert_eq!(needed.code, Some(2), "{needed:?}");
    assert!(needed.stdout.contains("the store vault cannot be asked: its entry is in AWS Secrets Manager"), "{needed:?}");
}

#[test]
fn a_list_with_a_trailing_comma_is_refused_with_its_place_and_without_its_token() {
    let (secret, token) = (Secret::new(), canary());
    let list = format!("[\n  {{ \"address\": \"https://v\", \"token\": \"{token}\", }}\n]");
    let variables = [("HASHICORP_VAULT_CONFIG", list.as_str())];
    for command in ["check", "run"] {
        let said = Keyward::command_in(&variables, &config("{}", &secret.connection("vault"), &canary()), &[command]);
        let text = format!("{}{}", said.stdout, said.stderr);
        assert!(said.code == Some(2) && text.contains("HASHICORP_VAULT_CONFIG:2:"), "{said:?}");
        assert!(text.contains("trailing comma") && !text.contains(&token), "{said:?}");
    }
}

#[test]
fn a_list_in_a_file_that_changes_is_taken_by_itself_where_the_file_says_so() {
    let (secret, alice) = (Secret::new(), canary());
    let file = scratch("vaults").join("vaults.json");
    let write = |entries: &Value| {
        let new = file.with_extension("new");
        fs::write(&new, entries.to_string()).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(&new, &file).unwrap();
    };
    write(&json!([{ "name": "corp", "address": bao().address(), "token": secret.token() }]));
    let variables = [("HASHICORP_VAULT_CONFIG_FILE_PATH", file.to_str().unwrap())];
    let on_change = config("{}", &secret.connection("corp"), &alice).line("reload: on_change");
    let keyward = Keyward::start_in(&variables, &on_change);
    write(
        &json!([{ "name": "corp", "address": bao().address(), "token": secret.token() }, { "name": "second", "address": bao().address(), "token": secret.token() }]),
    );
    keyward.until_logged("the changed list is in force", |line| line.to_string().contains("added store second"));
    works(&keyward, &alice, &secret.app);
    // One that is gone is told, and not waited for in silence.
    keyward.expect_log("reload refused");
    fs::remove_file(&file).unwrap();
    keyward.until_logged("the list is gone", |line| line.to_string().contains("reload refused"));
    assert!(keyward.http("/metrics").body.contains("keyward_reload_ok 0\n"));
    write(&json!([{ "name": "corp", "address": bao().address(), "token": secret.token() }]));
    keyward.until_logged("it is there again", |line| line.to_string().contains("removed store second"));
    works(&keyward, &alice, &secret.app);
}

#[test]
fn a_list_in_a_file_is_read_again_by_a_reload() {
    let (secret, alice) = (Secret::new(), canary());
    let file = scratch("vaults").join("vaults.json");
    let write = |entries: &Value| {
        fs::write(&file, entries.to_string()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let first = json!({ "name": "corp", "address": bao().address(), "token": secret.token() });
    write(&json!([first]));
    let variables = [("HASHICORP_VAULT_CONFIG_FILE_PATH", file.to_str().unwrap())];
    let keyward = Keyward::start_in(&variables, &config("{}", &secret.connection("corp"), &alice));
    works(&keyward, &alice, &secret.app);
    write(&json!([first, { "name": "second", "address": bao().address(), "token": secret.token() }]));
    assert!(keyward.cli(&["reload"]).ok().contains("added store second"));
    // What is no list keeps the old stores.
    fs::write(&file, "[").unwrap();
    keyward.expect_log("reload refused");
    let said = keyward.cli(&["reload"]);
    assert!(said.code == Some(1) && said.stderr.contains("vaults.json:1:"), "{said:?}");
    works(&keyward, &alice, &secret.app);
}

/// `corp`, whose token is in the KV secret `corp` of `outer`; corp keeps nothing in memory.
struct Chained {
    secret: Secret,
    outer: Kv<'static>,
    stores: String,
}

impl Chained {
    fn new() -> Self {
        let (secret, outer) = (Secret::new(), bao().mount_kv2());
        let path = outer.path("corp");
        outer.put("corp", &[("token", &secret.token())]);
        let (address, token) = (bao().address(), token(bao(), &[&path]));
        let stores = format!(
            "{{ corp: {{ type: vault, cache_ttl: 0, address: '{address}', auth: {{ method: token, token: {{ secret: 'outer:{path}?token' }} }} }}, \
             outer: {{ type: vault, address: '{address}', auth: {{ method: token, token: {token} }} }} }}"
        );
        Self { secret, outer, stores }
    }

    fn token(&self) -> String {
        let answer = bao().call("GET", &self.outer.path("corp"), Value::Null).json();
        answer["data"]["data"]["token"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_vault_whose_token_is_in_another_vault_is_logged_in_to_and_follows_its_rotation() {
    let (chained, alice) = (Chained::new(), canary());
    let keyward = Keyward::start(&config(&chained.stores, &chained.secret.connection("corp"), &alice));
    works(&keyward, &alice, &chained.secret.app);
    keyward.cli(&["check"]).ok();
    // The token dies, and another one takes its place there.
    let dead = chained.token();
    chained.outer.put("corp", &[("token", &chained.secret.token())]);
    works(&keyward, &alice, &chained.secret.app);
    revoke(&dead);
    keyward.expect_log("WARN");
    eventually("the new token is used", || (psql(&keyward.dsn("alice", &alice, "orders"), "SELECT 1").code == Some(0)).then_some(()));
}

#[test]
fn while_the_outer_store_is_away_an_inner_login_lives_on_and_a_new_one_says_which_key_it_lacks() {
    let outer = Bao::own();
    let (secret, kv, alice) = (Secret::new(), outer.mount_kv2(), canary());
    let path = kv.path("corp");
    kv.put("corp", &[("token", &secret.token())]);
    let stores = format!(
        "{{ corp: {{ type: vault, cache_ttl: 0, address: '{}', auth: {{ method: token, token: {{ secret: 'outer:{path}?token' }} }} }}, \
         outer: {{ type: vault, address: '{}', auth: {{ method: token, token: {} }} }} }}",
        bao().address(),
        outer.address(),
        token(&outer, &[&path])
    );
    let keyward = Keyward::start(&config(&stores, &secret.connection("corp"), &alice));
    works(&keyward, &alice, &secret.app);
    outer.kill9();
    keyward.expect_log("WARN").expect_log("ERROR");
    works(&keyward, &alice, &secret.app);
    let said = keyward.cli(&["check"]);
    let row = said.stdout.lines().find(|line| line.split_whitespace().nth(2) == Some("corp")).unwrap_or_default();
    assert!(said.code == Some(1) && row.contains("auth.token: "), "{said:?}");
    // It comes back, and nothing was given up for good.
    outer.start_again();
    eventually("check finds both well", || (keyward.cli(&["check"]).code == Some(0)).then_some(()));
}

/// A file that only its owner may read.
fn private(folder: &Path, name: &str, text: &str) {
    let file = folder.join(name);
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn the_token_of_an_entry_may_be_in_a_folder_of_files() {
    let (secret, alice, folder) = (Secret::new(), canary(), scratch("secrets"));
    private(&folder, "plain", &format!("{}\n", secret.token()));
    private(&folder, "nested.json", &json!({ "vault": { "token": secret.token() } }).to_string());
    let stores = format!("{{ files: {{ type: file, folder: {} }} }}", folder.display());
    for path in ["plain", "nested.json?vault.token"] {
        let list = json!([{ "name": "corp", "address": bao().address(), "from_secret_store": "files", "path": path }]).to_string();
        let variables = [("HASHICORP_VAULT_CONFIG", list.as_str())];
        let keyward = Keyward::start_in(&variables, &config(&stores, &secret.connection("corp"), &alice));
        works(&keyward, &alice, &secret.app);
    }
}

#[test]
fn a_secret_id_in_a_folder_of_files_is_read_anew_at_each_login() {
    let (secret, alice, folder) = (Secret::new(), canary(), scratch("secrets"));
    let role = bao().approle(&[&secret.kv.path("orders")]);
    private(&folder, "secret_id", &role.secret_id);
    let (address, role_id) = (bao().address(), &role.role_id);
    let stores = format!(
        "{{ files: {{ type: file, folder: {} }}, corp: {{ type: vault, address: '{address}', \
         auth: {{ method: approle, role_id: {role_id}, secret_id: {{ secret: 'files:secret_id' }} }} }} }}",
        folder.display()
    );
    let keyward = Keyward::start(&config(&stores, &secret.connection("corp"), &alice));
    works(&keyward, &alice, &secret.app);
    let role_path = format!("auth/approle/role/{}/secret-id", role.name);
    let next = bao().call("POST", &role_path, Value::Null).json();
    bao().call("POST", &format!("{role_path}/destroy"), json!({ "secret_id": role.secret_id }));
    let said = keyward.cli(&["check"]);
    assert!(said.code == Some(1) && said.stdout.contains("login"), "each check logs in: {said:?}");
    private(&folder, "secret_id", next["data"]["secret_id"].as_str().unwrap());
    keyward.cli(&["check"]).ok();
}

#[test]
fn stores_whose_credentials_are_in_each_other_are_refused_with_the_chain() {
    let vault = |outer: &str| {
        format!("{{ type: vault, address: 'https://v', auth: {{ method: token, token: {{ secret: '{outer}:kv/data/x?token' }} }} }}")
    };
    let stores = format!("{{ a: {}, b: {}, c: {} }}", vault("b"), vault("c"), vault("a"));
    let said = Keyward::command_in(&[], &config(&stores, &Secret::new().connection("a"), &canary()), &["check", "--offline"]);
    assert!(said.code == Some(2) && said.stdout.contains("a → b → c → a"), "{said:?}");
    // The same through an entry of the list.
    let list = r#"[{"address":"https://v","from_secret_store":"vault","path":"kv/data/x?token"}]"#;
    let variables = [("HASHICORP_VAULT_CONFIG", list)];
    let said = Keyward::command_in(&variables, &config("{}", &Secret::new().connection("vault"), &canary()), &["check", "--offline"]);
    assert!(said.code == Some(2) && said.stdout.contains("vault → vault"), "{said:?}");
    assert!(said.stdout.contains("HASHICORP_VAULT_CONFIG:1:"), "{said:?}");
}

#[test]
fn a_store_that_is_switched_off_is_a_problem_for_whoever_needs_it_and_for_nobody_else() {
    let (chained, alice) = (Chained::new(), canary());
    let off = |name: &str| chained.stores.replace(&format!("{name}: {{ type: vault,"), &format!("{name}: {{ type: vault, enabled: false,"));
    let check = |stores: &str, connection: &str| Keyward::command_in(&[], &config(stores, connection, &alice), &["check"]);
    let said = check(&off("corp"), &chained.secret.connection("corp"));
    assert!(said.code == Some(2) && said.stdout.contains("connections.orders") && said.stdout.contains("corp is switched off"), "{said:?}");
    let said = check(&off("outer"), &chained.secret.connection("corp"));
    assert!(
        said.code == Some(2) && said.stdout.contains("stores.corp.auth.token") && said.stdout.contains("outer is switched off"),
        "{said:?}"
    );
    let connection = format!("address: \"{}\", username: {{ literal: u }}, password: {{ literal: p }}", postgres15().address());
    let said = check(&off("corp"), &connection);
    let row = said.stdout.lines().find(|line| line.split_whitespace().nth(2) == Some("corp")).unwrap_or_default();
    assert!(row.starts_with('-') && row.contains("switched off (`enabled: false`)"), "{said:?}");
}

#[test]
fn a_reload_that_switches_a_store_off_gives_its_leases_back_when_their_sessions_end() {
    let database = bao().enable_database(postgres15(), "1h", "2h");
    let (creds, alice) = (database.creds(), canary());
    let role = bao().approle(&[&creds]);
    let stores = |corp: &str| {
        let vault = |keys: &str| {
            let (address, role_id) = (bao().address(), &role.role_id);
            format!(
                "{{ type: vault, {keys} address: '{address}', auth: {{ method: approle, role_id: {role_id}, secret_id: {} }} }}",
                role.secret_id
            )
        };
        format!("{{ corp: {}, next: {} }}", vault(corp), vault(""))
    };
    let connection =
        |store: &str| format!("address: \"{}\", database: postgres, store: {store}, credential: {creds}", postgres15().address());
    let keyward = Keyward::start(&config(&stores(""), &connection("corp"), &alice));
    let client = Psql::open(&keyward.dsn("alice", &alice, "orders"));
    let login = client.ask("SELECT current_user");
    // While a connection needs it, it cannot be switched off.
    keyward.expect_log("reload refused");
    keyward.rewrite(&config(&stores("enabled: false,"), &connection("corp"), &alice));
    assert!(keyward.cli(&["reload"]).stderr.contains("corp is switched off"));
    assert_eq!(client.ask("SELECT current_user"), login);
    keyward.rewrite(&config(&stores("enabled: false,"), &connection("next"), &alice));
    keyward.cli(&["reload"]).ok();
    assert_eq!(client.ask("SELECT current_user"), login, "the session lives on");
    let other = Psql::open(&keyward.dsn("alice", &alice, "orders"));
    assert_eq!(database.leases(), 2);
    assert_eq!((client.end(), other.end()), (String::new(), String::new()));
    eventually("both leases are back", || (database.leases() == 0).then_some(()));
    assert!(!postgres15().has_role(&login));
}
