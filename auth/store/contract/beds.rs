//! Each kind of store as its file would open it, with a way to put secrets into it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::CANARY;
use crate::sample;
use crate::store::env::Env;
use crate::store::sealing::SealingKey;
use crate::store::vault::real;
use crate::store::{KINDS, Kind, Opening, SecretPath, Store, text};

/// A store with what a test does to it.
pub(in crate::store) struct Bed {
    /// For messages: the kind, and which way to set it up.
    pub(in crate::store) name: &'static str,
    kind: &'static str,
    pub(in crate::store) store: Arc<dyn Store>,
    put: Put,
    /// Where its secrets are: before the name of each.
    below: String,
    /// A store and a secret there that it may not read. `None`: who runs the tests may read everything.
    pub(in crate::store) forbidden: Option<(Arc<dyn Store>, SecretPath)>,
    /// The same store where nobody is. `None`: it is in our own memory.
    pub(in crate::store) away: Option<Arc<dyn Store>>,
    /// A secret of so many bytes is not read.
    pub(in crate::store) too_long: usize,
    again: Box<dyn Fn() -> Arc<dyn Store>>,
    _folder: Option<TempDir>,
}

type Put = Box<dyn Fn(String, Value) -> BoxFuture<'static, ()>>;

impl Bed {
    pub(in crate::store) async fn put(&self, name: &str, secret: &Value) {
        (self.put)(name.to_owned(), secret.clone()).await;
    }

    pub(in crate::store) fn path(&self, name: &str) -> SecretPath {
        let path = format!("{}{name}", self.below);
        if self.kind().roles { SecretPath::of_engine(&path, true, None) } else { SecretPath::of_name(&path, None) }.unwrap()
    }

    pub(in crate::store) fn kind(&self) -> &'static Kind {
        KINDS.iter().find(|kind| kind.settings.name == self.kind).unwrap()
    }

    /// Whether a secret there may be one text. A sealed file is written by us, and has keys.
    pub(in crate::store) fn has_texts(&self) -> bool {
        !self.kind().roles && self.name != "sealed file"
    }

    pub(in crate::store) fn open_again(&self) -> Arc<dyn Store> {
        (self.again)()
    }
}

/// The beds of a kind. A new kind fails here until it has one.
pub(in crate::store) async fn beds(kind: &str) -> Vec<Bed> {
    match kind {
        "vault" => vec![vault().await],
        "file" => vec![folder(), sealed_file()],
        "env" => vec![environment()],
        "table" => {
            let key = SealingKey::make().unwrap().to_string();
            vec![table("table", None).0, table("sealed table", Some(key)).0]
        }
        other => panic!("the kind {other} has no bed in the contract tests"),
    }
}

/// A store as the file opens it.
pub(in crate::store) fn open(kind: &str, keys: &str) -> Arc<dyn Store> {
    try_open(kind, keys).unwrap_or_else(|error| panic!("{error}"))
}

/// The same, of keys that may be wrong.
pub(in crate::store) fn try_open(kind: &str, keys: &str) -> Result<Arc<dyn Store>, String> {
    let row = KINDS.iter().find(|row| row.settings.name == kind).unwrap();
    with_opening(kind, keys, |opening| (row.open)(opening))
}

fn with_opening<T>(kind: &str, keys: &str, then: impl FnOnce(&Opening<'_>) -> T) -> T {
    let (config, _) = sample::config(&format!("stores: {{ s: {{ type: {kind}, {keys} }} }}\n"));
    then(&Opening {
        store: &config.stores["s"],
        label: "s",
        runner: None,
        stay: crate::store::Stay::Serves,
        observer: sample::nobody(),
        outer: sample::nowhere(),
        former: None,
    })
}

fn number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

async fn vault() -> Bed {
    let mount = real::kv("2", "first", json!({"k": "v"})).await;
    let policy = format!("contract-{mount}");
    let rules = format!("path \"{mount}/data/open/*\" {{ capabilities = [\"read\"] }}");
    real::post(&format!("sys/policies/acl/{policy}"), json!({ "policy": rules })).await;
    let made = real::post("auth/token/create", json!({"policies": [policy], "no_default_policy": false})).await;
    let token = made["auth"]["client_token"].as_str().unwrap().to_owned();
    let keys = |address: &str| format!("address: '{address}', auth: {{ method: token, token: '{token}' }}");
    let (here, nowhere) = (keys(real::bao()), keys(&format!("http://127.0.0.1:{}", real::free_port())));
    let store = open("vault", &here);
    let below = format!("{mount}/data/open/");
    Bed {
        name: "vault",
        kind: "vault",
        forbidden: Some((Arc::clone(&store), SecretPath::of_engine(&format!("{mount}/data/closed"), true, None).unwrap())),
        store,
        put: Box::new(move |name, secret| {
            let mount = mount.clone();
            Box::pin(async move { real::put(&mount, "2", &format!("open/{name}"), secret).await })
        }),
        below,
        away: Some(open("vault", &nowhere)),
        too_long: text::MAX,
        again: Box::new(move || open("vault", &here)),
        _folder: None,
    }
}

fn folder() -> Bed {
    let around = tempfile::tempdir().unwrap();
    let root = around.path().join("store");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(around.path().join("outside"), CANARY).unwrap();
    symlink("../outside", root.join("out")).unwrap();
    let (here, nowhere) = (format!("folder: '{}'", root.display()), format!("folder: '{}/none'", root.display()));
    let store = open("file", &here);
    Bed {
        name: "folder",
        kind: "file",
        forbidden: Some((Arc::clone(&store), SecretPath::of_name("out", None).unwrap())),
        store,
        put: Box::new(move |name, secret| {
            std::fs::write(root.join(name), as_text(&secret)).unwrap();
            Box::pin(async {})
        }),
        below: String::new(),
        away: Some(open("file", &nowhere)),
        too_long: text::MAX,
        again: Box::new(move || open("file", &here)),
        _folder: Some(around),
    }
}

/// Its form is held here, too: files that are there must open with every later version.
fn sealed_file() -> Bed {
    let around = tempfile::tempdir().unwrap();
    let file = around.path().join("secrets.sealed");
    let key = SealingKey::make().unwrap().to_string();
    let keys = |file: &std::path::Path| format!("sealed: '{}', key: '{key}'", file.display());
    let (here, nowhere) = (keys(&file), keys(&around.path().join("none")));
    let (sealing, all) = (SealingKey::new(&key), Mutex::new(Map::new()));
    let put = move |name: String, secret: Value| {
        let mut all = all.lock().unwrap();
        all.insert(name, secret);
        let head = "keyward-sealed-file 1";
        let sealed = sealing.seal(head, Value::Object(all.clone()).to_string().as_bytes()).unwrap();
        std::fs::write(&file, format!("{head}\n{sealed}\n")).unwrap();
    };
    Bed {
        name: "sealed file",
        kind: "file",
        forbidden: None,
        store: open("file", &here),
        put: Box::new(move |name, secret| {
            put(name, secret);
            Box::pin(async {})
        }),
        below: String::new(),
        away: Some(open("file", &nowhere)),
        too_long: 4 * text::MAX,
        again: Box::new(move || open("file", &here)),
        _folder: Some(around),
    }
}

/// The environment of the tests' process cannot be changed safely: this one is a map.
fn environment() -> Bed {
    let variables: Arc<Mutex<BTreeMap<String, OsString>>> = Arc::default();
    let held = Arc::clone(&variables);
    let here = "prefix: KEYWARD_";
    let open = move || -> Arc<dyn Store> {
        let variables = Arc::clone(&held);
        let lookup = Arc::new(move |name: &str| variables.lock().unwrap().get(name).cloned());
        Arc::new(with_opening("env", here, |opening| Env::open(opening, lookup)).unwrap())
    };
    let store = open();
    variables.lock().unwrap().insert("OTHER".to_owned(), CANARY.into());
    Bed {
        name: "environment",
        kind: "env",
        forbidden: Some((Arc::clone(&store), SecretPath::of_name("OTHER", None).unwrap())),
        store,
        put: Box::new(move |name, secret| {
            variables.lock().unwrap().insert(format!("KEYWARD_{name}"), as_text(&secret).into());
            Box::pin(async {})
        }),
        below: "KEYWARD_".to_owned(),
        away: None,
        too_long: text::MAX,
        again: Box::new(open),
        _folder: None,
    }
}

/// Where the table of a bed is, and who reads it.
pub(in crate::store) struct OwnTable {
    pub(in crate::store) schema: String,
    pub(in crate::store) reader: String,
}

/// A table of its own, and a login that may only read it. With a key the values are sealed.
pub(in crate::store) fn table(name: &'static str, key: Option<String>) -> (Bed, OwnTable) {
    let number = number();
    let (schema, reader) = (format!("contract_{number}"), format!("contract_reader_{number}"));
    sql(&format!(
        "CREATE ROLE {reader} LOGIN PASSWORD '{CANARY}'; CREATE SCHEMA {schema}; GRANT USAGE ON SCHEMA {schema} TO {reader}; \
         CREATE TABLE {schema}.secret (key text PRIMARY KEY, value text); CREATE TABLE {schema}.closed (LIKE {schema}.secret); \
         GRANT SELECT ON {schema}.secret TO {reader}"
    ));
    let sealed = key.as_ref().map(|key| format!(", key: '{key}'")).unwrap_or_default();
    let keys = |port: u16, table: &str| {
        let login = format!("username: {reader}, password: {CANARY}");
        format!("address: '127.0.0.1:{port}', database: postgres, table: {schema}.{table}, {login}{sealed}")
    };
    let (here, closed, nowhere) = (keys(real::postgres(), "secret"), keys(real::postgres(), "closed"), keys(real::free_port(), "secret"));
    let own = OwnTable { schema: schema.clone(), reader };
    let put = move |name: String, secret: Value| {
        let text = as_text(&secret);
        let value = key.as_ref().map_or(text.clone(), |key| SealingKey::new(key).seal(&name, text.as_bytes()).unwrap());
        let values = format!("('{name}', $keyward${value}$keyward$)");
        sql(&format!("INSERT INTO {schema}.secret VALUES {values} ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value"));
    };
    let bed = Bed {
        name,
        kind: "table",
        forbidden: Some((open("table", &closed), SecretPath::of_name("a", None).unwrap())),
        store: open("table", &here),
        put: Box::new(move |name, secret| {
            put(name, secret);
            Box::pin(async {})
        }),
        below: String::new(),
        away: Some(open("table", &nowhere)),
        too_long: text::MAX,
        again: Box::new(move || open("table", &here)),
        _folder: None,
    };
    (bed, own)
}

/// Runs statements as the admin of PostgreSQL; what they gave.
pub(in crate::store) fn sql(statements: &str) -> String {
    try_sql(statements).unwrap_or_else(|| panic!("failed: {statements}"))
}

/// The same, of what may fail. Over standard input, since a long value is no argument.
pub(in crate::store) fn try_sql(statements: &str) -> Option<String> {
    let mut psql = Command::new(real::pg_program("psql"));
    psql.args(["-h", "127.0.0.1", "-p", &real::postgres().to_string(), "-U", "postgres", "-d", "postgres", "-qAtv", "ON_ERROR_STOP=1"]);
    let mut psql = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    psql.stdin.take().unwrap().write_all(statements.as_bytes()).unwrap();
    let output = psql.wait_with_output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

/// A text as it is, an object as JSON.
fn as_text(secret: &Value) -> String {
    secret.as_str().map_or_else(|| secret.to_string(), str::to_owned)
}
