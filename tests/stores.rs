//! Stores that need no cloud, as users and admins see them: a folder of files, a sealed file, the environment, a table in PostgreSQL.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::bed::{
    ALL_CHANNELS, Config, Keyward, Login, Method, MysqlClient, Output, Plugin, SOON, SshKey, canary, certificate, mariadb, must_be_absent,
    postgres15, psql, run, scratch, sshd,
};

/// The stores of this file. Each has the secrets `pg`, `my` and `web`.
const STORES: [&str; 4] = ["folder", "sealed", "env", "rows"];

/// One Keyward before PostgreSQL, MariaDB and sshd, whose logins are in each of the stores.
struct Shop {
    keyward: Keyward,
    password: String,
    alice: SshKey,
    pg: Login,
    my: Login,
}

/// A login that may read one table of secrets, and nothing else.
struct Table {
    database: String,
    reader: Login,
}

impl Table {
    fn new() -> Self {
        let (database, reader) = (postgres15().database(), postgres15().login(Method::Scram));
        let name = &reader.name;
        let table = "CREATE SCHEMA keep; CREATE TABLE keep.secret (key text PRIMARY KEY, value text)";
        postgres15().sql(&database, &format!("{table}; GRANT USAGE ON SCHEMA keep TO {name}; GRANT SELECT ON keep.secret TO {name}"));
        Self { database, reader }
    }

    fn put(&self, key: &str, value: &str) {
        let change = "ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value";
        postgres15().sql(&self.database, &format!("INSERT INTO keep.secret VALUES ('{key}', $keyward${value}$keyward$) {change}"));
    }

    /// Its keys in the file, without `tls` and `key`.
    fn keys(&self) -> String {
        let Self { database, reader } = self;
        let address = format!("localhost:{}", postgres15().port);
        let login = format!("username: {}, password: \"{}\"", reader.name, reader.password);
        format!("type: table, address: '{address}', database: {database}, table: keep.secret, {login}")
    }
}

/// The name of a secret in a store.
fn secret(store: &str, what: &str) -> String {
    match store {
        "folder" if what == "my" => "folder:my.json".to_owned(),
        "env" => format!("env:KEYWARD_TEST_{what}"),
        _ => format!("{store}:{what}"),
    }
}

impl Shop {
    fn open() -> Self {
        let (alice, around, password, table) = (SshKey::new(), SshKey::new(), canary(), Table::new());
        let (pg, my) = (postgres15().login(Method::Scram), mariadb().login(Plugin::Native));
        sshd().authorize("deploy", &around.public());
        let logins = [
            ("pg", vec![("username", pg.name.clone()), ("password", pg.password.clone())]),
            ("my", vec![("username", my.name.clone()), ("password", my.password.clone())]),
            ("web", vec![("username", sshd().login("deploy").name.clone()), ("private_key", around.private())]),
        ];
        let variables: Vec<(String, String)> = logins.iter().map(|(what, keys)| (format!("KEYWARD_TEST_{what}"), json(keys))).collect();
        let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let keyward = Keyward::start_in(&variables, &config(&alice, &password, &table));
        fill(&keyward, &table, &logins);
        Self { keyward, password, alice, pg, my }
    }

    /// Who alice is behind the SSH connection of a store.
    fn ssh(&self, store: &str) -> Output {
        let (known, port) = (self.keyward.given().join("known_hosts"), self.keyward.port("ssh").to_string());
        let host_key = fs::read_to_string(self.keyward.state().join("ssh_host_ed25519_key.pub")).unwrap();
        fs::write(&known, format!("[127.0.0.1]:{port} {host_key}")).unwrap();
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-p", &port, "-oBatchMode=yes", "-oIdentitiesOnly=yes", "-oIdentityAgent=none", "-i"])
            .arg(self.alice.file());
        ssh.arg(format!("-oUserKnownHostsFile={}", known.display())).arg(format!("alice+web_{store}@127.0.0.1")).arg("id -un");
        run(ssh, "", SOON)
    }
}

/// A connection of each protocol for each store.
fn config(alice: &SshKey, password: &str, table: &Table) -> Config {
    let ca = postgres15().ca();
    let stores = format!(
        "stores:\n  folder: {{ type: file, folder: GIVEN/secrets }}\n  sealed: {{ type: file, sealed: GIVEN/sealed, key: {{ file: GIVEN/key }} }}\n  \
         env: {{ type: env, prefix: KEYWARD_TEST_ }}\n  rows: {{ {}, tls: {{ ca: '{}' }}, key: {{ file: GIVEN/key }} }}\n",
        table.keys(),
        ca.display()
    );
    let mut connections = "connections:\n".to_owned();
    for store in STORES {
        let parts = |what: &str, key: &str| {
            let name = secret(store, what);
            format!("username: '{name}?username', {key}: '{name}?{key}'")
        };
        let (pg, my, web) = (postgres15().address(), mariadb().address(), sshd().address());
        connections +=
            &format!("  pg_{store}: {{ protocol: postgres, address: '{pg}', database: postgres, {} }}\n", parts("pg", "password"));
        connections += &format!("  my_{store}: {{ protocol: mysql, address: '{my}', credential: '{}' }}\n", secret(store, "my"));
        let host_key = sshd().host_key();
        connections +=
            &format!("  web_{store}: {{ protocol: ssh, address: '{web}', host_keys: ['{host_key}'], {} }}\n", parts("web", "private_key"));
    }
    let mut hash = Command::new(env!("CARGO_BIN_EXE_keyward"));
    hash.args(["user", "hash"]);
    let verifier = run(hash, &format!("{password}\n"), SOON).ok().to_owned();
    let users = format!("users: {{ alice: {{ password: '{verifier}', public_keys: ['{}'] }} }}\n", alice.public());
    let access = format!(
        "access:\n  - {{ allow: [alice], connections: ['pg_*', 'my_*'] }}\n  - {{ allow: [alice], connections: ['web_*'], {ALL_CHANNELS} }}\n"
    );
    let config = Config::new().listener("protocol: mysql, address: '127.0.0.1:0'").listener("protocol: ssh, address: '127.0.0.1:0'");
    config.line(&(stores + &connections + &users + &access))
}

fn json(keys: &[(&str, String)]) -> String {
    serde_json::Value::Object(keys.iter().map(|(key, value)| ((*key).to_owned(), value.as_str().into())).collect()).to_string()
}

/// Runs `keyward secret` beside a Keyward that runs.
fn operator(keyward: &Keyward, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    command.arg("secret").args(arguments).current_dir(keyward.given().parent().unwrap()).env_remove("KEYWARD_CONFIG");
    run(command, input, SOON)
}

/// A file that nobody else may read.
fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    std::io::Write::write_all(&mut file.unwrap(), text.as_bytes()).unwrap();
}

/// Puts the logins where the stores are, as their admins would.
fn fill(keyward: &Keyward, table: &Table, logins: &[(&str, Vec<(&str, String)>)]) {
    let given = keyward.given();
    let key = given.join("key").display().to_string();
    must_be_absent("what it says of the key", operator(keyward, &["key", &key], "").ok());
    for (what, keys) in logins {
        for (name, value) in keys {
            write(&given.join("secrets").join(what).join(name), &format!("{value}\n"));
        }
        operator(keyward, &["put", &format!("sealed:{what}"), "--json"], &json(keys)).ok();
        let sealed = operator(keyward, &["seal", &format!("rows:{what}"), "--json"], &json(keys));
        must_be_absent("a sealed value", sealed.ok());
        table.put(what, sealed.ok().trim());
        write(&given.join("secrets").join(format!("{what}.json")), &json(keys));
    }
}

#[test]
fn psql_mysql_and_ssh_get_in_with_what_is_in_each_store() {
    let shop = Shop::open();
    for store in STORES {
        let pg = shop.keyward.dsn("alice", &shop.password, &format!("pg_{store}"));
        assert_eq!(psql(&pg, "SELECT current_user").ok(), shop.pg.name, "{store}");
        let my = shop.keyward.mysql_dsn("alice", &shop.password).database(&format!("my_{store}"));
        assert!(MysqlClient::Mariadb.run(&my, "SELECT current_user()").ok().starts_with(&shop.my.name), "{store}");
        assert_eq!(shop.ssh(store).ok(), sshd().login("deploy").name, "{store}");
    }
    let opened = shop.keyward.until_audit("opened", 3 * STORES.len());
    for store in STORES {
        assert_eq!(opened.iter().filter(|record| record["store"] == store).count(), 3, "{store}: {opened:#?}");
    }
    // Whoever reads the table, or a copy of it, reads nothing.
    assert!(fs::read_to_string(shop.keyward.given().join("sealed")).unwrap().starts_with("keyward-sealed-file 1\nv1:"));
    let said = shop.keyward.cli(&["check"]);
    for line in ["readable  folder", "readable  sealed file", "readable  environment", "readable  PostgreSQL 15"] {
        let squeezed = said.ok().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(squeezed.contains(&line.split_whitespace().collect::<Vec<_>>().join(" ")), "{line}: {said:?}");
    }
    let metrics = shop.keyward.http("/metrics").body;
    assert!(metrics.contains("operation=\"read\"") && metrics.contains("store=\"rows\""), "{metrics}");
}

/// One PostgreSQL connection, `orders`, behind one store.
fn orders(store: &str, keys: &str) -> (Keyward, String) {
    let alice = canary();
    let config = Config::new().line(&format!("stores: {{ s: {{ {store} }} }}"));
    let body = format!("address: '{}', database: postgres, {keys}", postgres15().address());
    (Keyward::start(&config.connection("orders", &body).user("alice", &alice).allow("alice", "orders")), alice)
}

fn who(keyward: &Keyward, alice: &str) -> String {
    psql(&keyward.dsn("alice", alice, "orders"), "SELECT current_user").ok().to_owned()
}

/// Gives a login another password, which it returns.
fn rotate(login: &Login) -> String {
    let password = canary();
    postgres15().sql("postgres", &format!("SET password_encryption = 'scram-sha-256'; ALTER ROLE {} PASSWORD '{password}'", login.name));
    password
}

#[test]
fn a_password_that_changed_under_the_cache_lets_the_next_login_in() {
    let (table, app) = (Table::new(), postgres15().login(Method::Scram));
    let login = |password: &str| json(&[("username", app.name.clone()), ("password", password.to_owned())]);
    let (files, alice) = orders("type: file, folder: GIVEN/secrets, cache_ttl: 1h", "credential: 's:team/orders'");
    let write_parts = |password: &str| {
        for (name, value) in [("username", app.name.as_str()), ("password", password)] {
            write(&files.given().join("secrets/team/orders").join(name), value);
        }
    };
    let (rows, bob) =
        orders(&format!("{}, tls: {{ ca: '{}' }}, cache_ttl: 1h", table.keys(), postgres15().ca().display()), "credential: s:orders");
    write_parts(&app.password);
    table.put("orders", &login(&app.password));
    assert_eq!((who(&files, &alice), who(&rows, &bob)), (app.name.clone(), app.name.clone()));
    let next = rotate(&app);
    write_parts(&next);
    table.put("orders", &login(&next));
    assert_eq!((who(&files, &alice), who(&rows, &bob)), (app.name.clone(), app.name.clone()));
}

#[test]
fn a_volume_of_kubernetes_is_turned_under_logins_and_each_has_a_whole_credential() {
    let (keyward, alice) = orders(
        "type: file, folder: GIVEN/secrets, cache_ttl: 0s, max_stale: 0s",
        "username: 's:orders?username', password: 's:orders?password'",
    );
    let volume = keyward.given().join("secrets/orders");
    let turn = |number: usize, login: &Login| {
        let state = format!("..2026_{number}");
        for (name, value) in [("username", &login.name), ("password", &login.password)] {
            write(&volume.join(&state).join(name), value);
            let _ = symlink(format!("..data/{name}"), volume.join(name));
        }
        let old = fs::read_link(volume.join("..data")).ok();
        symlink(&state, volume.join("..data_tmp")).unwrap();
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
        old.iter().for_each(|old| fs::remove_dir_all(volume.join(old)).unwrap());
    };
    let logins = [postgres15().login(Method::Scram), postgres15().login(Method::Scram)];
    turn(0, &logins[0]);
    for number in 1..5 {
        let login = &logins[number % 2];
        turn(number, login);
        assert_eq!(who(&keyward, &alice), login.name, "turn {number}");
    }
}

#[test]
fn a_table_whose_server_is_not_verified_is_sent_no_password() {
    let (table, folder, alice) = (Table::new(), scratch("other-ca"), canary());
    certificate(&folder);
    let store = format!("{}, tls: {{ ca: '{}' }}", table.keys(), folder.join("ca.pem").display());
    let config = Config::new().line(&format!("stores: {{ s: {{ {store} }} }}"));
    let body = format!("address: '{}', database: postgres, credential: s:orders", postgres15().address());
    let keyward = Keyward::start(&config.connection("orders", &body).user("alice", &alice).allow("alice", "orders"));
    keyward.expect_log("not verified");
    let refused = psql(&keyward.dsn("alice", &alice, "orders"), "SELECT 1");
    assert!(!refused.refused().contains("verified"), "what a store says is not for clients: {refused:?}");
    let said = keyward.cli(&["check"]);
    assert!(said.code == Some(1) && said.stdout.contains("the table's server is not verified"), "{said:?}");
    let metrics = keyward.http("/metrics").body;
    assert!(metrics.contains("outcome=\"login_failed\""), "{metrics}");
}

#[test]
fn check_says_what_a_login_to_a_table_may_beyond_reading() {
    let table = Table::new();
    let check = || {
        let store = format!("{}, tls: {{ ca: '{}' }}", table.keys(), postgres15().ca().display());
        let (keyward, _) = orders(&store, "credential: s:orders");
        table.put("orders", &json(&[("username", table.reader.name.clone()), ("password", table.reader.password.clone())]));
        keyward.cli(&["check"]).ok().to_owned()
    };
    assert!(!check().contains("reading is enough"));
    postgres15().sql(&table.database, &format!("GRANT INSERT ON keep.secret TO {}", table.reader.name));
    assert!(check().contains("its login may change the table; reading is enough"));
}

#[test]
fn what_a_store_cannot_give_is_told_to_the_admin_and_not_to_the_client() {
    let (keyward, alice) = orders("type: file, folder: GIVEN/secrets, max_stale: 0s, cache_ttl: 0s", "credential: s:orders.json");
    let secrets = keyward.given().join("secrets");
    write(&keyward.given().join("outside.json"), &json(&[("username", "postgres".to_owned())]));
    let refused = |why: &str| {
        keyward.expect_log(why);
        let said = psql(&keyward.dsn("alice", &alice, "orders"), "SELECT 1");
        let told = said.refused();
        assert!(!told.contains("orders.json") && !told.contains(why), "{told}");
        // The client may hear it first.
        keyward.until_logged(why, |line| line.to_string().contains(why));
    };
    refused("No such file or directory");
    write(&secrets.join("other"), "");
    refused("there is no such file");
    symlink("../outside.json", secrets.join("orders.json")).unwrap();
    refused("a link leads out of the store's folder");
    fs::remove_file(secrets.join("orders.json")).unwrap();
    write(&secrets.join("orders.json"), &format!("{{\"username\": \"{}", canary()));
    refused("no JSON: line 1");
}
