//! `keyward secret`, as operators use it: at a terminal and in scripts, with tokens of their own, against OpenBao and a sealed file.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::bed::{Config, Keyward, Kv, Method, Output, SOON, Terminal, bao, canary, must_be_absent, postgres15, psql, run, scratch};

/// Somebody with a home of his own and a file of Keyward's.
struct Operator {
    folder: PathBuf,
    token: Option<String>,
}

impl Operator {
    /// `stores` is that section of the file.
    fn new(stores: &str) -> Self {
        let folder = scratch("operator");
        let text = format!(
            "state: {}\nlisteners: [{{ protocol: postgres, address: \"127.0.0.1:0\" }}]\nstores:\n{stores}",
            folder.join("state").display()
        );
        fs::write(folder.join("keyward.yaml"), text).unwrap();
        Self { folder, token: None }
    }

    /// At a store whose own login leads nowhere; his token may do all under the mount.
    fn of(kv: &Kv<'_>) -> Self {
        let corp = format!("  corp: {{ type: vault, address: \"{}\", auth: {{ method: token, token: nobodys }} }}\n", bao().address());
        Self { token: Some(token(&kv.mount)), ..Self::new(&corp) }
    }

    /// With the file of a running Keyward.
    fn beside(keyward: &Keyward, token: Option<String>) -> Self {
        Self { folder: keyward.given().parent().unwrap().to_owned(), token }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
        for name in ["BAO_TOKEN", "VAULT_TOKEN", "BAO_ADDR", "VAULT_ADDR", "RUST_LOG"] {
            command.env_remove(name);
        }
        command.arg("secret").args(arguments).env("HOME", &self.folder).env("KEYWARD_CONFIG", self.folder.join("keyward.yaml"));
        command.envs(self.token.iter().map(|token| ("VAULT_TOKEN", token)));
        command
    }

    #[track_caller]
    fn run(&self, arguments: &[&str], input: &str) -> Output {
        run(self.command(arguments), input, SOON)
    }

    fn at_terminal(&self, arguments: &[&str]) -> Terminal {
        Terminal::start(&self.command(arguments))
    }
}

/// A token that may do all under a mount, and nothing else.
fn token(mount: &str) -> String {
    let policy = format!("path \"{mount}/*\" {{ capabilities = [\"create\", \"read\", \"update\", \"delete\", \"list\"] }}");
    bao().call("PUT", &format!("sys/policies/acl/{mount}"), json!({ "policy": policy }));
    let made = bao().call("POST", "auth/token/create", json!({ "policies": [mount], "ttl": "1h" })).json();
    made["auth"]["client_token"].as_str().unwrap().to_owned()
}

fn wrong(said: &Output, text: &str) {
    assert!(said.code == Some(2) && said.stdout.is_empty() && said.stderr.contains(text), "{said:?}");
}

fn failed(said: &Output, text: &str) {
    assert!(said.code == Some(1) && said.stdout.is_empty() && said.stderr.contains(text), "{said:?}");
}

#[track_caller]
fn dumps_nothing(pid: u32) {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core: Vec<&str> = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap().split_whitespace().collect();
    assert_eq!(core[..2], ["0", "0"], "no core dump");
}

#[test]
fn commands_that_hold_what_a_store_gives_dump_nothing() {
    // A store that never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let corp =
        format!("  corp: {{ type: vault, address: \"http://{}\", auth: {{ method: token, token: t }} }}\n", silent.local_addr().unwrap());
    let connection = "connections: { db: { protocol: postgres, address: \"127.0.0.1:1\", store: corp, credential: kv/x } }\n";
    let operator = Operator::new(&(corp + connection));
    for arguments in [&["check"][..], &["policy", "corp"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
        command.args(arguments).env("KEYWARD_CONFIG", operator.folder.join("keyward.yaml")).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let _asked = silent.accept().unwrap();
        dumps_nothing(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn what_is_typed_at_a_terminal_logs_sessions_in_and_is_seen_nowhere() {
    let (kv, alice, app) = (bao().mount_kv2(), canary(), postgres15().login(Method::Scram));
    let path = kv.path("orders");
    let body = format!(
        "address: \"{}\", database: postgres, store: corp, username: \"{path}?username\", password: \"{path}?password\"",
        postgres15().address()
    );
    let config = Config::new().store("corp", bao(), &bao().approle(&[&path])).connection("orders", &body);
    let keyward = Keyward::start(&config.user("alice", &alice).allow("alice", "orders"));
    let operator = Operator::beside(&keyward, Some(token(&kv.mount)));

    let name = format!("corp:{}/orders", kv.mount);
    let terminal = operator.at_terminal(&["put", &name, "username", "password"]);
    terminal.until("username: ").types(&app.name).until("username, again: ").types(&app.name).until("password: ").types(&app.password);
    terminal.until("password, again: ");
    let arguments = fs::read_to_string(format!("/proc/{}/cmdline", terminal.pid())).unwrap();
    assert!(arguments.contains("secret\0put"), "{arguments}");
    must_be_absent("the process list", &arguments);
    dumps_nothing(terminal.pid());
    dumps_nothing(keyward.pid());
    terminal.types(&app.password);
    let (said, code) = terminal.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.ends_with(&format!("{name}: version 1, keys: password, username\n")), "{said}");
    must_be_absent("the terminal", &said);
    assert!(!said.contains(&app.name));

    assert_eq!(psql(&keyward.dsn("alice", &alice, "orders"), "SELECT current_user").ok(), app.name);
}

#[test]
fn two_values_that_differ_are_not_written() {
    let kv = bao().mount_kv2();
    let operator = Operator::of(&kv);
    let name = format!("corp:{}/orders", kv.mount);
    let terminal = operator.at_terminal(&["put", &format!("{name}?password")]);
    terminal.until("password: ").types("one").until("password, again: ").types("two");
    let (said, code) = terminal.end();
    assert!(code == Some(1) && said.contains("password: the two are not the same") && !said.contains("one"), "{said}");
    failed(&operator.run(&["get", &name], ""), "no such secret");
}

#[test]
fn whoever_changes_his_mind_at_the_prompt_leaves_a_terminal_that_shows_what_he_types() {
    let kv = bao().mount_kv2();
    let operator = Operator::of(&kv);
    let name = format!("corp:{}/orders", kv.mount);
    let terminal = operator.at_terminal(&["put", &format!("{name}?password")]);
    terminal.until("password: ");
    assert!(!terminal.is_as_it_was());
    terminal.presses("half\x03");
    let (said, code) = terminal.end();
    assert!(code.is_none() && !said.contains("half"), "ended by the signal: {said}");
    assert!(terminal.is_as_it_was());
    failed(&operator.run(&["get", &name], ""), "no such secret");

    // Whoever comes back from Ctrl-Z is asked anew.
    let terminal = operator.at_terminal(&["put", &format!("{name}?password")]);
    terminal.until("password: ").presses("half\x1a").until_after_a_stop("password: \r\npassword: ");
    terminal.types("who\x7fle").until("password, again: ").types("whle");
    let (said, code) = terminal.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(terminal.is_as_it_was() && !said.contains("half") && !said.contains("whle"), "{said}");
    assert_eq!(operator.run(&["get", &format!("{name}?password")], "").ok(), "whle");
}

#[test]
fn a_long_value_is_kept_to_its_last_letter_and_shown_to_it() {
    let kv = bao().mount_kv2();
    let operator = Operator::of(&kv);
    let name = format!("corp:{}/long?token", kv.mount);
    // A terminal's own editor keeps 4095 bytes of a line, and says nothing.
    let token = "0123456789".repeat(1000);
    let terminal = operator.at_terminal(&["put", &name]);
    terminal.until("token: ").types(&token).until("token, again: ").types(&token);
    let (said, code) = terminal.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(operator.run(&["get", &name], "").ok() == token);

    let token = token.repeat(7);
    operator.run(&["put", &name], &token).ok();
    let shown = operator.run(&["get", name.trim_end_matches("?token"), "--show"], "");
    assert!(shown.ok().ends_with(&format!("\ntoken  {token}")));
}

#[test]
fn values_are_read_from_standard_input_as_they_are() {
    let kv = bao().mount_kv2();
    let operator = Operator::of(&kv);
    let name = format!("corp:{}/deep/key", kv.mount);
    let key = "-----BEGIN KEY-----\n  two lines: \"quoted\" \\ ü\n-----END KEY-----";
    operator.run(&["put", &format!("{name}?private_key")], &format!("{key}\n")).ok();
    assert_eq!(operator.run(&["get", &format!("{name}?private_key")], "").ok(), key);
    operator.run(&["put", &name, "username", "password"], "app\r\nfirst secret\n").ok();
    assert_eq!(operator.run(&["get", &format!("{name}?password")], "").stdout, "first secret", "not a byte more");
    operator.run(&["put", &name, "--json"], "{\"port\": 5432, \"password\": \"second\"}").ok();
    assert_eq!(operator.run(&["get", &format!("{name}?port")], "").stdout, "5432");
    assert_eq!(operator.run(&["get", &format!("{name}?password"), "--version", "2"], "").stdout, "first secret");
    assert_eq!(operator.run(&["get", &format!("{name}?password&version=3")], "").stdout, "second");
    let quoted = operator.run(&["get", &format!("{name}?private_key"), "--format", "json"], "");
    assert_eq!(serde_json::from_str::<String>(quoted.ok()).unwrap(), key, "a JSON document, too");
    let facts: Value = serde_json::from_str(operator.run(&["get", &name, "--format", "json"], "").ok()).unwrap();
    assert_eq!(facts["keys"], json!(["password", "port", "private_key", "username"]));
    assert_eq!((&facts["version"]["number"], &facts["values"]), (&json!(3), &Value::Null));
    operator.run(&["put", &name, "password", "--replace"], "third").ok();
    let shown = operator.run(&["get", &name, "--show"], "");
    assert!(shown.ok().ends_with("password  third") && !shown.stdout.contains("port"), "{shown:?}");

    for (arguments, input, text) in [
        (vec!["put", &name, "a", "b"], "only one\n", "b: standard input has no line for it"),
        (vec!["put", &name, "a", "b"], "one\ntwo\nthree\n", "more lines than keys"),
        (vec!["put", &name, "a"], "", "a: the value is empty"),
        (vec!["put", &name, "--json"], "{\"password\": canary}", "not JSON: line 1, column 14"),
        (vec!["get", &name, "--version", "99"], "", "no such secret or version"),
    ] {
        let said = operator.run(&arguments, input);
        failed(&said, text);
        assert!(!said.stderr.contains("canary"), "{said:?}");
    }
}

#[test]
fn a_value_among_the_arguments_is_refused_and_not_repeated() {
    let operator = Operator::of(&bao().mount_kv2());
    for arguments in [["put", "corp:kv/x", "password=canary"], ["put", "password=canary", "x"]] {
        let said = operator.run(&arguments, "");
        wrong(&said, "a value is never an argument");
        assert!(!said.stderr.contains("canary"), "{said:?}");
    }
    wrong(&operator.run(&["put", "corp:kv/x"], "value"), "say which keys");
    wrong(&operator.run(&["put", "corp:kv/x", "a", "--json"], "{}"), "name none beside it");
    wrong(&operator.run(&["put", "password", "corp:kv/x"], "value"), "the secret is named first");
    wrong(&operator.run(&["get", "other:kv/x"], ""), "no store of the name");
    wrong(&operator.run(&["delete", "corp:kv/x?key"], ""), "the whole secret");
    wrong(&operator.run(&["destroy", "corp:kv/x"], ""), "--version");
}

#[test]
fn the_token_is_the_operators_own_from_where_the_other_commands_keep_it() {
    let kv = bao().mount_kv2();
    kv.put("orders", &[("password", "x")]);
    let path = kv.path("orders");
    let alice = canary();
    let config = Config::new().store("corp", bao(), &bao().approle(&[&path])).user("alice", &alice);
    let keyward = Keyward::start(&config);
    let name = format!("corp:{path}");
    // Keyward's own login may read it. An operator without a token may not.
    let mut operator = Operator::beside(&keyward, None);
    failed(&operator.run(&["get", &name], ""), "there is no token: set BAO_TOKEN or VAULT_TOKEN");
    operator.token = Some("s.nobodys".to_owned());
    let said = operator.run(&["get", &name], "");
    failed(&said, "does not know this token");
    assert!(said.stderr.contains("that of VAULT_TOKEN") && !said.stderr.contains("s.nobodys"), "{said:?}");

    let own = token(&kv.mount);
    operator.token = Some(own.clone());
    operator.run(&["get", &name], "").ok();
    // BAO_TOKEN first, as OpenBao's own command does.
    let mut command = operator.command(&["get", &name]);
    command.env("BAO_TOKEN", "s.nobodys");
    failed(&run(command, "", SOON), "that of BAO_TOKEN");
    operator.token = None;
    let file = operator.folder.join(".vault-token");
    fs::write(&file, format!("{own}\n")).unwrap();
    operator.run(&["get", &name], "").ok();
    fs::write(&file, "s.nobodys").unwrap();
    failed(&operator.run(&["get", &name], ""), "that of ~/.vault-token");
    fs::remove_file(&file).unwrap();
    let terminal = operator.at_terminal(&["get", &name]);
    terminal.until("Your token for corp: ").types(&own);
    let (said, code) = terminal.end();
    assert!(code == Some(0) && said.contains("password") && !said.contains(&own), "{said}");
}

#[test]
fn a_policy_that_lets_him_only_read_is_said_to_be_the_reason() {
    let kv = bao().mount_kv2();
    kv.put("orders", &[("password", "x")]);
    let policy = format!("{}_reader", kv.mount);
    let text = format!("path \"{}\" {{ capabilities = [\"read\"] }}", kv.path("orders"));
    bao().call("PUT", &format!("sys/policies/acl/{policy}"), json!({ "policy": text }));
    let made = bao().call("POST", "auth/token/create", json!({ "policies": [policy] })).json();
    let mut operator = Operator::of(&kv);
    operator.token = made["auth"]["client_token"].as_str().map(str::to_owned);
    let name = format!("corp:{}", kv.path("orders"));
    assert_eq!(operator.run(&["get", &format!("{name}?password")], "").ok(), "x");
    for arguments in
        [vec!["put", &name, "password"], vec!["delete", &name], vec!["destroy", &name, "--version", "1", "--yes"], vec!["metadata", &name]]
    {
        failed(&operator.run(&arguments, "y"), "permission denied");
    }
}

#[test]
fn versions_are_deleted_brought_back_and_destroyed() {
    let kv = bao().mount_kv2();
    ["one", "two", "three"].iter().for_each(|value| kv.put("app", &[("password", value)]));
    let operator = Operator::of(&kv);
    let name = format!("corp:{}/app", kv.mount);
    assert_eq!(operator.run(&["list", &format!("corp:{}", kv.mount)], "").ok(), "app");
    operator.run(&["delete", &name], "").ok();
    failed(&operator.run(&["get", &name], ""), "was deleted at");
    operator.run(&["undelete", &name, "--version", "3"], "").ok();
    assert_eq!(operator.run(&["get", &format!("{name}?password")], "").ok(), "three");

    wrong(&operator.run(&["destroy", &name, "--version", "1,2"], ""), "say --yes");
    let terminal = operator.at_terminal(&["destroy", &name, "--version", "1,2"]);
    terminal.until("): ").types("something else");
    assert!(terminal.end().0.contains("nothing was done"));
    assert_eq!(operator.run(&["get", &format!("{name}?password"), "--version", "1"], "").ok(), "one");
    let terminal = operator.at_terminal(&["destroy", &name, "--version", "1,2"]);
    terminal.until("): ").types(&name);
    let (said, code) = terminal.end();
    assert!(code == Some(0) && said.contains("destroyed versions 1, 2"), "{said}");
    operator.run(&["metadata", &name, "--note", "owner=payments", "--max-versions", "7"], "").ok();
    let facts: Value = serde_json::from_str(operator.run(&["metadata", &name, "--format", "json"], "").ok()).unwrap();
    let destroyed: Vec<bool> =
        facts["versions"].as_array().unwrap().iter().map(|version| version["destroyed"].as_bool().unwrap()).collect();
    assert_eq!((destroyed, &facts["notes"]["owner"], &facts["max_versions"]), (vec![true, true, false], &json!("payments"), &json!(7)));
    operator.run(&["destroy", &name, "--all", "--yes"], "").ok();
    failed(&operator.run(&["list", &format!("corp:{}", kv.mount)], ""), "nothing in it");
}

#[test]
fn a_sealed_file_is_made_by_hand_and_logs_sessions_in() {
    let (alice, app, old) = (canary(), postgres15().login(Method::Scram), canary());
    let body = format!("address: \"{}\", database: postgres, credential: files:team/orders", postgres15().address());
    let config = Config::new()
        .line("stores: { files: { type: file, sealed: GIVEN/secrets, key: { file: GIVEN/key }, cache_ttl: 0s, max_stale: 0s } }");
    let keyward = Keyward::start(&config.connection("orders", &body).user("alice", &alice).allow("alice", "orders"));
    // No token is looked for.
    let operator = Operator::beside(&keyward, None);
    let (key, sealed) = (keyward.given().join("key"), keyward.given().join("secrets"));
    let said = operator.run(&["key", &key.display().to_string()], "");
    must_be_absent("what it says of the key", said.ok());
    let made = fs::read_to_string(&key).unwrap();
    failed(&operator.run(&["key", &key.display().to_string()], ""), "exists");
    assert_eq!(fs::read_to_string(&key).unwrap(), made, "a key that is there stays");
    assert!(!said.stdout.contains(made.trim()));

    operator.run(&["put", "files:team/orders", "username", "password"], &format!("{}\n{old}\n", app.name)).ok();
    operator.run(&["put", "files:team/orders?password"], &app.password).ok();
    must_be_absent("the sealed file", &fs::read_to_string(&sealed).unwrap());
    assert_eq!(operator.run(&["get", "team/orders?username"], "").ok(), app.name, "there is only one store");
    assert_eq!(operator.run(&["list", "files:"], "").ok(), "team/");
    let names = operator.run(&["get", "files:team/orders"], "");
    assert!(names.ok().ends_with("password\n  username"), "{names:?}");

    let dsn = keyward.dsn("alice", &alice, "orders");
    assert_eq!(psql(&dsn, "SELECT current_user").ok(), app.name);

    wrong(&operator.run(&["delete", "files:team/orders"], ""), "say --yes");
    failed(&operator.run(&["undelete", "files:team/orders", "--version", "1"], ""), "neither versions nor metadata");
    let terminal = operator.at_terminal(&["delete", "files:team/orders"]);
    terminal.until("(files:team/orders): ").types("files:team/orders");
    assert_eq!(terminal.end().1, Some(0));
    keyward.expect_log("not_found").expect_log("no such secret");
    psql(&dsn, "SELECT 1").refused();
    operator.run(&["put", "files:team/orders", "username", "password"], &format!("{}\n{}\n", app.name, app.password)).ok();
    assert_eq!(psql(&dsn, "SELECT 1").ok(), "1");
}

#[test]
fn a_key_in_a_folder_or_in_another_sealed_file_needs_no_token() {
    let folder = scratch("keys").display().to_string();
    let stores = format!(
        "  run: {{ type: file, folder: {folder} }}\n  \
         box: {{ type: file, sealed: {folder}/box, key: {{ secret: \"run:box-key\" }} }}\n  \
         inner: {{ type: file, sealed: {folder}/inner, key: {{ secret: \"box:keys?inner\" }} }}\n  \
         rows: {{ type: table, address: \"127.0.0.1:1\", database: d, username: u, key: {{ secret: \"inner:keys?rows\" }} }}\n"
    );
    let operator = Operator::new(&stores);
    operator.run(&["key", &format!("{folder}/box-key")], "").ok();
    for name in ["box:keys?inner", "inner:keys?rows"] {
        operator.run(&["put", name], &canary()).ok();
        operator.run(&["get", name], "").ok();
    }
    assert!(operator.run(&["seal", "rows:orders", "username", "password"], "app\nsecret\n").ok().starts_with("v1:"));
}

#[test]
fn a_number_in_a_key_that_is_not_named_is_not_changed_unseen() {
    let kv = bao().mount_kv2();
    let operator = Operator::of(&kv);
    let name = format!("corp:{}/orders", kv.mount);
    bao().call("POST", &kv.path("orders"), json!({ "data": { "password": "old", "rate": 1.5, "port": 5432 } }));
    failed(&operator.run(&["put", &name, "password"], "new"), "the key `rate` is a number that cannot be kept exactly");
    failed(&operator.run(&["get", &format!("{name}?rate")], ""), "`rate` is a number that cannot be kept exactly: write it as a string");
    failed(&operator.run(&["put", &name, "--json"], "{\"pin\": 12345678901234567890123}"), "the key `pin` is a number");
    assert_eq!(operator.run(&["get", &format!("{name}?password")], "").ok(), "old");
    let shown = operator.run(&["get", &name, "--show"], "");
    assert!(shown.ok().contains("about 1.5: it cannot be kept exactly"), "{shown:?}");
    operator.run(&["put", &name, "password", "rate"], "new\n1.50\n").ok();
    assert_eq!(operator.run(&["get", &format!("{name}?rate")], "").ok(), "1.50");
    assert_eq!(operator.run(&["get", &format!("{name}?port")], "").ok(), "5432");
}

#[test]
fn a_value_that_was_sealed_for_a_row_logs_sessions_in_from_there_and_from_nowhere_else() {
    let (alice, app, reader) = (canary(), postgres15().login(Method::Scram), postgres15().login(Method::Scram));
    let database = postgres15().database();
    let address = postgres15().address();
    let rows = format!(
        "stores: {{ rows: {{ type: table, address: \"{address}\", database: {database}, username: {}, password: {{ file: GIVEN/password }}, \
         key: {{ file: GIVEN/key }}, cache_ttl: 0s, max_stale: 0s }} }}",
        reader.name
    );
    let body = |row: &str| format!("address: \"{address}\", database: postgres, credential: rows:{row}");
    let config = Config::new().line(&rows).connection("orders", &body("orders")).connection("other", &body("other"));
    let keyward = Keyward::start(&config.user("alice", &alice).allow("alice", "*"));
    let operator = Operator::beside(&keyward, None);
    fs::write(keyward.given().join("password"), &reader.password).unwrap();
    operator.run(&["key", &keyward.given().join("key").display().to_string()], "").ok();

    let sealed = operator.run(&["seal", "rows:orders", "username", "password"], &format!("{}\n{}\n", app.name, app.password));
    let text = sealed.ok();
    assert!(text.starts_with("v1:") && !text.contains(&app.name), "{text}");
    must_be_absent("the sealed value", text);
    let insert = |row: &str| format!("INSERT INTO secret VALUES ('{row}', '{text}');");
    let create = format!("CREATE TABLE secret (key text PRIMARY KEY, value text); GRANT SELECT ON secret TO {};", reader.name);
    postgres15().sql(&database, &(create + &insert("orders") + &insert("other")));
    assert_eq!(psql(&keyward.dsn("alice", &alice, "orders"), "SELECT current_user").ok(), app.name);
    keyward.expect_log("another key or for another name");
    psql(&keyward.dsn("alice", &alice, "other"), "SELECT 1").refused();
    // One value, as `password: rows:name` wants it; and what is written elsewhere.
    assert!(operator.run(&["seal", "rows:single"], "one").ok().starts_with("v1:"));
    failed(&operator.run(&["seal", "rows:single"], ""), "the value is empty");
    wrong(&operator.run(&["put", "rows:orders", "password"], "x"), "written elsewhere");
}

#[test]
fn a_shell_completes_it() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    command.args(["completions", "bash"]);
    let script = run(command, "", SOON);
    for word in ["keyward__subcmd__secret,put)", "keyward__subcmd__secret,undelete)", "--delete-version-after"] {
        assert!(script.ok().contains(word), "{word}");
    }
}
