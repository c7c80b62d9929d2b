//! What users may write for a reference, seen through psql and, where servers greet before they know anybody, MySQL's clients: the spellings
//! of other products, fields that are in a store, a secret for each user, secrets of two stores in one credential.

use crate::bed::{
    Bao, Config, Keyward, Login, Method, Mysql, MysqlClient, MysqlRaw, SshPlan, SshScene, SshWay, bao, canary, eventually, mariadb, mysql9,
    postgres15, psql, scratch, sshd,
};

/// A login of the database, its secret at these paths, and an AppRole that may read them.
struct Secrets {
    app: Login,
    mount: String,
}

impl Secrets {
    fn at(bao: &Bao, paths: &[&str], more: &[(&str, &str)]) -> Self {
        let (kv, app) = (bao.mount_kv2(), postgres15().login(Method::Scram));
        let mut keys = vec![("username", app.name.as_str()), ("password", app.password.as_str())];
        keys.extend(more);
        paths.iter().for_each(|path| kv.put(path, &keys));
        Self { app, mount: kv.mount }
    }

    fn path(&self, name: &str) -> String {
        format!("{}/data/{name}", self.mount)
    }
}

fn started(config: Config, secrets: &Secrets, connections: &[(&str, &str)]) -> (Keyward, String) {
    let alice = canary();
    let add = |config: Config, (name, keys): &(&str, &str)| config.connection(name, &keys.replace("MOUNT", &secrets.mount));
    let config = connections.iter().fold(config, add);
    let keyward = Keyward::start(&config.user("alice", &alice).allow("alice", "*"));
    (keyward, alice)
}

fn with_store(secrets: &Secrets, names: &[&str], keys: &str) -> Config {
    let paths: Vec<String> = names.iter().map(|name| secrets.path(name)).collect();
    let approle = bao().approle(&paths.iter().map(String::as_str).collect::<Vec<_>>());
    Config::new().store_with("corp", bao(), &approle, &keys.replace("MOUNT", &secrets.mount))
}

#[test]
fn the_spellings_of_other_products_log_in() {
    let secrets = Secrets::at(bao(), &["db", "team/a.b"], &[]);
    let config = with_store(&secrets, &["db", "team/a.b"], "mount: /MOUNT/, path: MOUNT/data/db");
    let address = format!("address: '{}', database: postgres", postgres15().address());
    let own = format!("{address}, store: corp");
    let rows = [
        ("plain", format!("{own}, username: 'MOUNT/data/db?username', password: 'MOUNT/data/db?password'")),
        ("without_data", format!("{own}, username: 'MOUNT/db?username', password: 'MOUNT/db?password'")),
        ("named", format!("{address}, username: 'corp:MOUNT/data/db?username', password: 'corp:MOUNT/data/db?password'")),
        ("called", format!("{address}, username: 'vault.secret(corp:db.username)', password: 'vault.secret(corp:data/db.password)'")),
        (
            "dotted",
            format!("{address}, username: 'vault.secret(corp:team/a.b#username)', password: 'vault.secret(corp:team/a.b.password)'"),
        ),
        ("braces", format!("{address}, username: '{{{{secrets.corp.username}}}}', password: '{{{{ secrets.corp.password }}}}'")),
        (
            "mapped",
            format!("{own}, username: {{ secret: 'MOUNT/data/db?username' }}, password: {{ secret: 'corp:MOUNT/data/db?password' }}"),
        ),
        ("whole", format!("{address}, credential: corp:MOUNT/data/db")),
    ];
    let connections: Vec<(&str, &str)> = rows.iter().map(|(name, keys)| (*name, keys.as_str())).collect();
    let (keyward, alice) = started(config, &secrets, &connections);
    for (name, _) in &rows {
        let dsn = keyward.dsn("alice", &alice, name);
        assert_eq!(psql(&dsn, "SELECT current_user").ok().trim(), secrets.app.name, "{name}");
    }
    let opened = keyward.until_audit("opened", rows.len());
    for record in &opened {
        let text = record.to_string();
        assert!(text.contains("corp") && text.contains(&secrets.mount) && !text.contains(&secrets.app.name), "{text}");
    }
}

#[test]
fn a_reference_that_is_none_is_a_problem_and_no_password() {
    let secrets = Secrets::at(bao(), &["db"], &[]);
    let config = with_store(&secrets, &["db"], "path: MOUNT/data/db");
    let secret = canary();
    for written in [
        format!("vault.secret(corp:{secret}.password"),
        format!("{{{{secrets.corp.{secret}"),
        format!("other:{secret}/data/x?y"),
        secret.clone(),
    ] {
        let keys = format!(
            "address: '{}', store: corp, username: '{}?username', password: '{written}'",
            postgres15().address(),
            secrets.path("db")
        );
        let said = Keyward::refused_to_start(&config.clone().connection("orders", &keys).user("alice", &canary()).allow("alice", "*"));
        assert!(said.contains("connections.orders.password") && !said.contains(&secret), "{said}");
    }
}

#[test]
fn where_an_asset_is_may_be_in_the_store_and_may_move() {
    let address = postgres15().address();
    let database = postgres15().database();
    let secrets = Secrets::at(bao(), &["db"], &[("host", &address), ("name", &database)]);
    let config = with_store(&secrets, &["db"], "cache_ttl: 0, path: MOUNT/data/db");
    let keys = "address: { secret: 'MOUNT/data/db?host' }, database: '{{secrets.corp.name}}', tls: disable, store: corp, credential: MOUNT/data/db";
    let (keyward, alice) = started(config, &secrets, &[("orders", keys)]);
    let dsn = keyward.dsn("alice", &alice, "orders");
    assert_eq!(psql(&dsn, "SELECT current_database()").ok().trim(), database);
    let said = keyward.cli(&["check"]);
    assert!(said.ok().contains("orders"), "{said:?}");

    let other = postgres15().database();
    let kv = [("username", secrets.app.name.as_str()), ("password", &secrets.app.password), ("host", &address), ("name", &other)];
    bao().put(&secrets.mount, "db", &kv);
    eventually("the other database is meant", || (psql(&dsn, "SELECT current_database()").ok().trim() == other).then_some(()));

    // What cannot be an address is the operator's to know, and not the client's.
    let wrong =
        [("username", secrets.app.name.as_str()), ("password", &secrets.app.password), ("host", "no host:at all"), ("name", &other)];
    bao().put(&secrets.mount, "db", &wrong);
    keyward.expect_log("cannot be used there");
    let refused = psql(&dsn, "SELECT 1").refused().to_owned();
    assert!(!refused.contains("no host") && !refused.contains("address"), "{refused}");
}

#[test]
fn the_name_that_a_server_must_prove_may_be_in_the_store() {
    let secrets = Secrets::at(bao(), &["db"], &[("name", "other.example")]);
    let config = with_store(&secrets, &["db"], "cache_ttl: 0");
    let tls = format!("{{ mode: verify-full, ca: '{}', server_name: {{ secret: 'MOUNT/data/db?name' }} }}", postgres15().ca().display());
    let keys = format!("address: '{}', database: postgres, tls: {tls}, store: corp, credential: MOUNT/data/db", postgres15().address());
    let (keyward, alice) = started(config, &secrets, &[("orders", &keys)]);
    let dsn = keyward.dsn("alice", &alice, "orders");
    keyward.expect_log("upstream_unverified");
    let refused = psql(&dsn, "SELECT 1").refused().to_owned();
    assert!(refused.contains("keyward: ") && !refused.contains("other.example"), "{refused}");
    assert_eq!(keyward.until_audit("denied", 1)[0]["refusal"], "upstream_unverified");

    let right = [("username", secrets.app.name.as_str()), ("password", &secrets.app.password), ("name", "localhost")];
    bao().put(&secrets.mount, "db", &right);
    let inside = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    eventually("the other name is meant", || (psql(&dsn, inside).stdout.trim() == "t").then_some(()));
    assert_eq!(keyward.until_audit("opened", 1)[0]["verified_by"], "certificate");
}

#[test]
fn an_ssh_server_whose_address_is_in_the_store_is_known_there_by_its_key_and_reached_by_either_way() {
    let (kv, known) = (bao().mount_kv2(), scratch("known").join("known_hosts"));
    kv.put("web", &[("host", &sshd().address())]);
    std::fs::write(&known, format!("[127.0.0.1]:{} {}\n", sshd().port(), sshd().host_key())).unwrap();
    let path = kv.path("web");
    let connection = format!("address: {{ secret: '{path}?host' }}, known_hosts: '{}'", known.display());
    let scene = SshScene::with(sshd(), SshPlan { connection, paths: vec![path], ..SshPlan::default() });
    for way in SshWay::THROUGH {
        assert_eq!(scene.tools.run(way, &[], "id -un").ok(), sshd().login("deploy").name, "{way:?}");
    }
    scene.nothing_is_left();
}

/// The keys of a connection to a MySQL or MariaDB whose address is in the store, the path that they read, and the login that they lead to.
fn kept_in_the_store(server: &Mysql) -> (String, String, Login) {
    let (kv, app) = (bao().mount_kv2(), server.login(server.plugins()[0]));
    kv.put("db", &[("host", &server.address()), ("username", &app.name), ("password", &app.password)]);
    let path = kv.path("db");
    (format!("address: {{ secret: '{path}?host' }}, tls: disable, store: corp, credential: {path}"), path, app)
}

#[test]
fn a_mysql_server_whose_address_is_in_the_store_is_known_from_its_first_login_on() {
    let ((keys, path, app), alice) = (kept_in_the_store(mariadb()), canary());
    let config = Config::mysql().only_listener("protocol: mysql, address: \"127.0.0.1:0\", connection: orders");
    let config = config.store("corp", bao(), &bao().approle(&[&path])).mysql_connection("orders", &keys);
    let keyward = Keyward::start(&config.user("alice", &alice).allow("alice", "*"));
    let raw = || MysqlRaw::to(keyward.port("mysql"));
    assert_eq!(raw().greeting().version, "8.0.11-keyward", "nobody asks the store for an address that nobody wants");
    let mut session = raw();
    session.log_in("alice", None, &alice).unwrap();
    assert_eq!(session.query("SELECT current_user()").unwrap(), [format!("{}@%", app.name)]);
    assert_eq!(raw().greeting().version, format!("5.5.5-{}", mariadb().sql("", "SELECT @@version")));
    let looked = keyward.log().iter().any(|line| line.to_string().contains("until this server answers"));
    assert!(!looked, "nobody looks for the server by the name that stands in its place");
}

#[test]
fn a_listener_of_all_learns_what_a_server_lacks_whose_address_is_in_the_store() {
    let Some(other) = mysql9() else { return };
    let ((keys, path, _), alice) = (kept_in_the_store(mariadb()), canary());
    let body = format!("address: '{}', store: corp, credential: {path}", other.address());
    let config = Config::mysql().store("corp", bao(), &bao().approle(&[&path]));
    let config = config.mysql_connection("a", &body).mysql_connection("b", &keys).user("alice", &alice).allow("alice", "*");
    let keyward = Keyward::start(&config);
    let version = other.sql("", "SELECT @@version");
    eventually("a's server has answered", || (MysqlRaw::to(keyward.port("mysql")).greeting().version == version).then_some(()));
    // Its client takes what MariaDB has not, and hears so; from then on it is not offered.
    keyward.expect_log("which the server has not");
    let dsn = keyward.mysql_dsn("alice", &alice).database("b");
    assert!(MysqlClient::Mysql9.run(&dsn, "SELECT 7").refused().contains("1251"));
    assert_eq!(MysqlClient::Mysql9.run(&dsn, "SELECT 7").ok(), "7");
}

#[test]
fn each_user_logs_in_with_a_secret_of_his_own() {
    let (of_alice, of_bob) = (postgres15().login(Method::Scram), postgres15().login(Method::Scram));
    let (kv, alice, bob) = (bao().mount_kv2(), canary(), canary());
    for (user, app) in [("alice", &of_alice), ("bob@corp.example", &of_bob)] {
        kv.put(&format!("users/{user}/db"), &[("username", &app.name), ("password", &app.password)]);
    }
    let mine = format!("{}/data/users/{{{{user.name}}}}/db", kv.mount);
    let keys = format!("address: '{}', database: postgres, store: corp, credential: '{mine}'", postgres15().address());
    let policy = format!("{}/data/users/+/db", kv.mount);
    let config = Config::new().store("corp", bao(), &bao().approle(&[&policy])).connection("orders", &keys);
    let config = config.user("alice", &alice).user("bob@corp.example", &bob).user("carol", &alice).allow("alice", "*");
    let config = config.allow("bob@corp.example", "*").allow("carol", "*");
    let keyward = Keyward::start(&config);
    assert_eq!(psql(&keyward.dsn("alice", &alice, "orders"), "SELECT current_user").ok().trim(), of_alice.name);
    assert_eq!(psql(&keyward.dsn("bob@corp.example", &bob, "orders"), "SELECT current_user").ok().trim(), of_bob.name);
    keyward.expect_log("not_found");
    psql(&keyward.dsn("carol", &alice, "orders"), "SELECT 1").refused();
    let opened = keyward.until_audit("opened", 2);
    assert!(opened[0].to_string().contains("users/alice/db") && opened[1].to_string().contains("users/bob@corp.example/db"), "{opened:?}");
    let said = keyward.cli(&["check"]);
    assert!(said.ok().contains("each user has a credential of his own"), "{said:?}");
    // A name that is a word of paths would mean another path.
    let said = Keyward::refused_to_start(&config.user("data", &canary()));
    assert!(said.contains("users.data"), "{said}");
}

#[test]
fn one_credential_may_be_in_two_stores() {
    let secrets = Secrets::at(bao(), &["db"], &[]);
    let other = bao().mount_kv2();
    other.put("names", &[("account", &secrets.app.name)]);
    let (names, passwords) = (other.path("names"), secrets.path("db"));
    let config = Config::new().store("names", bao(), &bao().approle(&[&names])).store("corp", bao(), &bao().approle(&[&passwords]));
    let keys = format!(
        "address: '{}', database: postgres, store: corp, username: 'names:{names}?account', password: '{passwords}?password'",
        postgres15().address()
    );
    let (keyward, alice) = started(config, &secrets, &[("orders", &keys)]);
    assert_eq!(psql(&keyward.dsn("alice", &alice, "orders"), "SELECT current_user").ok().trim(), secrets.app.name);
    let record = keyward.until_audit("opened", 1).remove(0);
    assert_eq!(record["store"], "corp, names", "{record}");
    assert!(record["secrets"].to_string().contains(&format!("names:{names}?account")), "{record}");
}
