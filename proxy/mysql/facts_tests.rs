use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::sample::{self, connections};
use super::*;
use crate::upstream::Security;

const PREFACE: Preface = Preface { default_port: 3306, alpn: &[], security: Security::Tls };
const MYSQL: &[Capabilities] = &[
    Capabilities::LONG_PASSWORD,
    Capabilities::PROTOCOL_41,
    Capabilities::SECURE_CONNECTION,
    Capabilities::PLUGIN_AUTH,
    Capabilities::DEPRECATE_EOF,
    Capabilities::QUERY_ATTRIBUTES,
];
const MARIADB: &[Capabilities] = &[
    Capabilities::PROTOCOL_41,
    Capabilities::SECURE_CONNECTION,
    Capabilities::PLUGIN_AUTH,
    Capabilities::DEPRECATE_EOF,
    Capabilities::MARIADB_BULK,
    Capabilities::MARIADB_CACHE_METADATA,
];

fn all(flags: &[Capabilities]) -> Capabilities {
    flags.iter().fold(Capabilities::NONE, |all, flag| all.or(*flag))
}

fn greeting(version: &str, charset: u8, flags: &[Capabilities]) -> Greeting {
    Greeting {
        version: version.into(),
        thread_id: 1,
        scramble: vec![b'x'; 20],
        capabilities: all(flags),
        charset,
        status: AUTOCOMMIT,
        plugin: b"mysql_native_password".to_vec(),
    }
}

/// The facts of these connections, whose servers nobody asks: a test tells what they would say.
fn facts(entries: &[&str]) -> (Arc<Facts>, Vec<Arc<Connection>>) {
    let (facts, connections) = (Arc::default(), connections(entries));
    take(&facts, &connections);
    (facts, connections)
}

fn take(facts: &Arc<Facts>, connections: &[Arc<Connection>]) {
    let stop = CancellationToken::new();
    stop.cancel();
    refresh(facts, connections, PREFACE, &Arc::default(), &stop);
}

#[track_caller]
fn is_unknown(face: &Face) {
    assert_eq!(face.version, UNKNOWN_VERSION);
    assert_eq!(face.capabilities, all(&COMMON));
}

fn named(name: &str) -> Name {
    name.parse().unwrap()
}

#[tokio::test]
async fn a_listener_of_one_connection_greets_as_its_server_does() {
    let (facts, connections) = facts(&["orders: { address: 'db:3306' }", "payroll: { address: 'other:3306', local_infile: true }"]);
    let said = greeting("9.7.0", 255, MYSQL);
    facts.learn(&connections[0], &said);
    let face = facts.face(Some(&named("orders")));
    assert_eq!((face.version, face.charset, face.status), (said.version, said.charset, said.status));
    assert_eq!((face.capabilities, face.local_infile), (said.capabilities, false));
    let payroll = facts.face(Some(&named("payroll")));
    is_unknown(&payroll);
    assert!(payroll.local_infile, "of the connection, not of the server");
    is_unknown(&facts.face(Some(&named("unheard-of"))));
    // An upgrade shows at the first login after it.
    facts.learn(&connections[0], &greeting("9.8.0", 255, MYSQL));
    assert_eq!(facts.face(Some(&named("orders"))).version, b"9.8.0");
}

#[tokio::test]
async fn a_shared_listener_greets_with_what_all_known_servers_have() {
    let (facts, connections) =
        facts(&["a: { address: 'a:3306' }", "b: { address: 'b:3306' }", "c: { address: 'c:3306', local_infile: true }"]);
    is_unknown(&facts.face(None));
    facts.learn(&connections[0], &greeting("9.7.0", 255, MYSQL));
    let face = facts.face(None);
    assert_eq!((face.version.as_slice(), face.charset), (b"9.7.0".as_slice(), 255));
    assert_eq!(face.capabilities, all(MYSQL), "what is not known of the others takes nothing away");
    assert!(face.local_infile);

    facts.learn(&connections[1], &greeting("8.0.36", 255, &MYSQL[..5]));
    let face = facts.face(None);
    assert_eq!((face.version.as_slice(), face.charset, face.capabilities), (b"8.0.36".as_slice(), 255, all(&MYSQL[..5])));

    facts.learn(&connections[2], &greeting("5.5.5-10.11.6-MariaDB-0+deb12u1", 45, MARIADB));
    let face = facts.face(None);
    assert_eq!((face.version.as_slice(), face.charset), (b"5.5.5-10.11.6-MariaDB-0+deb12u1".as_slice(), COMMON_CHARSET));
    assert_eq!(face.capabilities, all(&MYSQL[..5]), "bit 0 stays: not all are MariaDB, and none of MariaDB's own flags holds");
}

#[tokio::test]
async fn a_shared_listener_of_mariadb_alone_greets_as_a_mariadb() {
    let (facts, connections) = facts(&["a: { address: 'a:3306' }", "b: { address: 'b:3306' }"]);
    facts.learn(&connections[0], &greeting("11.8.2-MariaDB", 45, MARIADB));
    facts.learn(&connections[1], &greeting("11.4.10-MariaDB", 45, &MARIADB[..5]));
    let face = facts.face(None);
    assert_eq!((face.version.as_slice(), face.capabilities), (b"11.4.10-MariaDB".as_slice(), all(&MARIADB[..5])));
    assert!(!face.capabilities.has(Capabilities::LONG_PASSWORD) && face.capabilities.extended() != 0);
}

#[test]
fn versions_are_ordered_by_their_numbers() {
    let ordered = ["", "x", "5.5.5-10.6.1-MariaDB", "5.7.44-log", "8.0.9", "8.0.36", "8.4", "9.7.0", "11.4.2-MariaDB", "99999999999.1"];
    assert!(ordered.map(|version| release(version.as_bytes())).is_sorted());
    assert!(release(b"8.0.9") < release(b"8.0.36"));
}

#[tokio::test]
async fn what_is_known_belongs_to_the_server_not_to_the_name() {
    let (facts, before) = facts(&["a: { address: 'db:3306' }", "b: { address: 'db:3306' }", "c: { address: 'db:3306', tls: require }"]);
    facts.learn(&before[0], &greeting("9.7.0", 255, MYSQL));
    assert_eq!(facts.face(Some(&named("b"))).version, b"9.7.0", "another connection to the same server");
    is_unknown(&facts.face(Some(&named("c"))));

    take(&facts, &connections(&["renamed: { address: 'db:3306' }", "a: { address: 'moved:3306' }"]));
    assert_eq!(facts.face(Some(&named("renamed"))).version, b"9.7.0");
    is_unknown(&facts.face(Some(&named("a"))));
    // A session from before the reload tells of the server that `a` was.
    facts.learn(&before[0], &greeting("9.7.1", 255, MYSQL));
    is_unknown(&facts.face(Some(&named("a"))));

    take(&facts, &connections(&["other: { address: 'other:3306' }"]));
    is_unknown(&facts.face(None));
    take(&facts, &before);
    is_unknown(&facts.face(None));
}

/// Connections of a file whose values are in a store, a folder of the test's own.
fn stored(folder: &std::path::Path, entries: &[&str]) -> Arc<keyward_auth::Gate> {
    let entry =
        |entry: &&str| entry.replacen("{ ", "{ protocol: mysql, store: s, username: { literal: app }, password: { literal: hidden }, ", 1);
    let entries: Vec<String> = entries.iter().map(entry).collect();
    let stores = format!("stores: {{ s: {{ type: file, folder: '{}', cache_ttl: 0s }} }}\n", folder.display());
    sample::gate(&format!("{stores}connections:\n  {}\n", entries.join("\n  ")))
}

/// The connection of this name as a session has it.
async fn filled(gate: &keyward_auth::Gate, name: &str) -> keyward_auth::Grant {
    let grant = gate.operator_grants().into_iter().find(|grant| grant.connection().name().as_str() == name).unwrap();
    gate.fill(grant).await.unwrap()
}

#[tokio::test]
async fn a_server_whose_place_is_in_a_store_is_known_by_its_entry_from_its_first_login_on() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    put("db", r#"{"host": "db:3306", "other": "other:3306", "ca": "db"}"#);
    let mut entries = vec![
        "a: { address: { secret: 's:db?host' } }",
        "same: { address: { secret: 's:db?host' } }",
        "b: { address: { secret: 's:db?other' } }",
        "plain: { address: 'db:3306', tls: verify-full }",
        "named: { address: 'db:3306', tls: { server_name: { secret: 's:db?ca' } } }",
        "database: { address: 'db:3306', tls: verify-full, database: { secret: 's:db?ca' } }",
    ];
    let gate = stored(folder.path(), &entries);
    let facts = Arc::default();
    take(&facts, &gate.connections("mysql"));
    let face = |name: &str| facts.face(Some(&named(name)));
    facts.learn(filled(&gate, "a").await.connection(), &greeting("5.5.5-10.11.6-MariaDB", 45, MARIADB));
    assert_eq!((face("a").version.as_slice(), face("a").capabilities), (b"5.5.5-10.11.6-MariaDB".as_slice(), all(MARIADB)));
    assert_eq!(face("same").version, face("a").version, "the file says the same of both");
    ["b", "plain", "named", "database"].iter().for_each(|name| is_unknown(&face(name)));
    // Where only the verification is in the store, too; of what else is there, a login tells as of any connection.
    facts.learn(filled(&gate, "named").await.connection(), &greeting("9.7.0", 255, MYSQL));
    facts.learn(filled(&gate, "database").await.connection(), &greeting("9.8.0", 255, MYSQL));
    assert_eq!((face("named").version, face("database").version), (b"9.7.0".to_vec(), b"9.8.0".to_vec()));
    assert_eq!(face("plain").version, b"9.8.0", "it is at the same address");

    // It moves: the first login there tells.
    put("db", r#"{"host": "moved:3306", "other": "other:3306", "ca": "db"}"#);
    let before = filled(&gate, "a").await;
    facts.learn(before.connection(), &greeting("9.7.1", 255, MYSQL));
    assert_eq!(face("a").version, b"9.7.1");
    // What is known outlives a reload that leaves the entry as it was, and does not survive one that sends it elsewhere.
    take(&facts, &stored(folder.path(), &entries).connections("mysql"));
    assert_eq!(face("a").version, b"9.7.1");
    entries[0] = "a: { address: { secret: 's:db?other' } }";
    take(&facts, &stored(folder.path(), &entries).connections("mysql"));
    is_unknown(&face("a"));
    facts.learn(before.connection(), &greeting("9.7.2", 255, MYSQL));
    is_unknown(&face("a"));
}

#[tokio::test]
async fn nobody_is_asked_where_only_the_store_knows_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let entries = ["a: { address: { secret: 's:db?host' } }", "b: { address: 'db:3306', tls: { server_name: { secret: 's:db?name' } } }"];
    let (facts, stop) = (Arc::<Facts>::default(), CancellationToken::new());
    let connections = stored(folder.path(), &entries).connections("mysql");
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    refresh(&facts, &connections, PREFACE, &Arc::default(), &stop);
    assert_eq!(tasks(), before);
}

/// A server of the test's own, and a connection to it.
async fn server() -> (TcpListener, Vec<Arc<Connection>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let entries = [format!("a: {{ address: '{address}' }}"), format!("b: {{ address: '{address}' }}")];
    (listener, connections(&entries.each_ref().map(String::as_str)))
}

async fn visitor(listener: &TcpListener) -> TcpStream {
    let accepted = tokio::time::timeout(Duration::from_secs(10), listener.accept()).await;
    accepted.expect("a visitor within 10 s").unwrap().0
}

/// What the visitor says before it leaves.
async fn said(visitor: &mut TcpStream) -> usize {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), visitor.read_to_end(&mut bytes)).await;
    // A reset is a way to leave, too.
    read.expect("it leaves within 10 s").unwrap_or(0)
}

#[tokio::test]
async fn an_unknown_server_is_asked_until_it_has_answered_once() {
    let (listener, connections) = server().await;
    let (facts, stop) = (Arc::default(), CancellationToken::new());
    refresh(&facts, &connections, PREFACE, &Arc::default(), &stop);
    // It is still starting, or has no place left.
    drop(visitor(&listener).await);
    let mut refused = visitor(&listener).await;
    refused.write_all(&packet::framed(0, b"\xff\x10\x04Too many connections")).await.unwrap();
    assert_eq!(said(&mut refused).await, 0);
    is_unknown(&facts.face(None));
    let mut asked = visitor(&listener).await;
    asked.write_all(&packet::framed(0, &greeting("9.7.0", 255, MYSQL).encode())).await.unwrap();
    assert_eq!(said(&mut asked).await, 0, "it reads the greeting and leaves");
    assert_eq!(facts.face(Some(&named("b"))).version, b"9.7.0");
    // A reload has nothing to ask, and nobody asks twice: the next visitor is our own.
    refresh(&facts, &connections, PREFACE, &Arc::default(), &stop);
    assert_eq!(facts.face(None).version, b"9.7.0");
    let own = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    assert_eq!(visitor(&listener).await.peer_addr().unwrap(), own.local_addr().unwrap());
}

#[tokio::test]
async fn a_probe_ends_with_a_login_a_reload_and_the_process() {
    let (listener, connections) = server().await;
    type End<'a> = &'a dyn Fn(&Arc<Facts>, &CancellationToken);
    let end_by: [End<'_>; 3] = [
        &|facts, _| facts.learn(&connections[0], &greeting("9.7.0", 255, MYSQL)),
        &|facts, stop| refresh(facts, &[], PREFACE, &Arc::default(), stop),
        &|_, stop| stop.cancel(),
    ];
    for end in end_by {
        let (facts, stop) = (Arc::default(), CancellationToken::new());
        refresh(&facts, &connections, PREFACE, &Arc::default(), &stop);
        let mut waiting = visitor(&listener).await;
        end(&facts, &stop);
        assert_eq!(said(&mut waiting).await, 0);
    }
}
