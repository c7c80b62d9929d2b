//! Whole files, and everything that is wrong with them.

use std::path::Path;

use proptest::prelude::*;

use self::rows::*;
use crate::*;

fn kinds() -> Kinds<'static> {
    Kinds { protocols: &PROTOCOLS, stores: &STORES }
}

pub(crate) fn read(text: &str) -> Loaded {
    parse(Path::new("/etc/keyward/keyward.yaml"), text, &kinds())
}

/// The problems, one a line, without the file's name.
fn problems(text: &str) -> Vec<String> {
    read(text).problems.to_string().lines().map(|line| line.replace("/etc/keyward/keyward.yaml:", "")).collect()
}

const HEAD: &str = "state: /s\nlisteners: [{ protocol: postgres, address: '127.0.0.1:0' }]\n";

/// The problems of a text behind a good beginning of two lines.
fn after_head(text: &str) -> Vec<String> {
    problems(&format!("{HEAD}{text}"))
}

#[test]
fn the_example_is_read_without_a_problem() {
    let loaded = read(include_str!("example.yaml"));
    assert_eq!(loaded.problems.to_string(), "");
    let config = loaded.config.unwrap();
    assert_eq!((config.listeners.len(), config.stores.len(), config.connections.len(), config.access.len()), (4, 7, 6, 3));
    assert_eq!(config.limits, Limits::default(), "the example shows the defaults");
    let orders_rw = &config.connections["orders_rw"];
    assert_eq!(orders_rw.tls.as_ref().unwrap().ca.as_deref(), Some(Path::new("/etc/keyward/tls/pg-ca.pem")));
    assert_eq!(orders_rw.accounts.keys().map(Name::as_str).collect::<Vec<_>>(), ["default"]);
    assert_eq!(config.connections["orders"].limits.max_sessions, Some(50));
    let old = &config.connections["reports"].accounts["old"];
    assert!(matches!(old.username.as_deref(), Some(CredentialField::Reference(text)) if text == "prod_db/data/reports?username"));
    let keys = orders_rw.settings.downcast_ref::<AssetKeys>().unwrap();
    assert_eq!(keys.database.as_deref(), Some("orders"));
    assert_eq!(config.listeners[0].proxy_protocol[0].to_string(), "10.0.0.0/8");
    assert_eq!(config.listeners[1].connection.as_ref().unwrap().span, Span { line: 24, column: 17 });
}

/// One of every problem that there is.
const BROKEN: &str = "\
stat: /s
listeners:
  - { protocol: postgres, adress: '0.0.0.0:5432' }
  - { protocol: postgress, address: '0.0.0.0:5432' }
  - { protocol: mysql, address: '0.0.0.0:1', connection: ordres }
  - { protocol: mysql, address: '0.0.0.0:1', logn: scram }
stores:
  corp: { type: vault, address: a, auth: { method: token, token: t }, enabled: perhaps }
  corp: { type: vault }
connections:
  orders:
    protocol: postgres
    address: h:1
    store: crop
    credential: db/creds/x
    databse: orders
    limits: { max_session: 3 }
  both: { protocol: mysql, address: h, credential: a, accounts: { x: { credential: b } } }
  none: { protocol: mysql, address: h }
  bad name: { protocol: mysql, address: h, credential: a }
  wrong: { protocol: mysql, address: h, credential: a, replication: [] }
users:
  alice: { groups: payments }
  bob: { groups: [ops], passwd: x }
access:
  - { allow: [ops, carol], connections: [orders, nothing*], accounts: [missing] }
  - { alow: [ops], connections: [orders] }
limits: { sessions: 0, idle_timeout: soon }
http: { address: '0.0.0.0:1' }
";

#[test]
fn every_problem_of_a_file_is_told_in_one_run() {
    let expected = "\
1:1: unknown key \"stat\"; did you mean \"state\"?
1:1: state: the key \"state\" is missing: the folder for the lease journal, keys and the local CA
3:5: listeners[0]: the key \"address\" is missing
3:27: listeners[0]: unknown key \"adress\"; did you mean \"address\"?
4:17: listeners[1].protocol: expected one of postgres, mysql, ssh; did you mean \"postgres\"?
5:58: listeners[2].connection: no connection is named \"ordres\"; did you mean \"orders\"?
6:33: listeners[3].address: a listener of this address is declared at line 5 already
6:46: listeners[3]: unknown key \"logn\"; did you mean \"login\"?
8:80: stores.corp.enabled: expected true or false, found a string
9:3: stores: the key \"corp\" is here twice
14:12: connections.orders.store: no store is named \"crop\"; did you mean \"corp\"?
16:5: connections.orders: unknown key \"databse\"; did you mean \"database\"?
17:15: connections.orders.limits: unknown key \"max_session\"; did you mean \"max_sessions\"?
18:52: connections.both: expected either `accounts` or the keys of one credential, not both
19:9: connections.none: expected `credential`, or `username` with `password` or `private_key`, or `accounts`
20:3: connections.\"bad name\": expected a name: a letter or digit, then letters, digits and . _ @ -, at most 128 in all
21:69: connections.wrong.replication: expected true or false, found a list
23:20: users.alice.groups: expected a list, found a string
24:25: users.bob: unknown key \"passwd\"; did you mean \"password\"?
26:20: warning: access[0].allow: no user or group is named \"carol\"
26:50: warning: access[0].connections: no connection is named \"nothing*\"
26:72: warning: access[0].accounts: none of these connections has an account \"missing\"
27:5: access[1]: the key \"allow\" is missing
27:7: access[1]: unknown key \"alow\"; did you mean \"allow\"?
28:38: limits.idle_timeout: expected a time such as 500ms, 60s, 5m, 1h or 2d (a plain whole number is seconds; at most 3650d)
29:1: warning: http.address: reachable from outside this host, and it asks for no login";
    assert_eq!(problems(BROKEN).join("\n"), expected);
}

#[test]
fn a_key_is_unknown_only_if_neither_part_knows_it() {
    let found =
        after_head("connections:\n  a: { protocol: mysql, address: h, credential: c, database: d, cert: x, tls: { modes: require } }\n");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("4:65: connections.a: unknown key \"cert\""), "{found:?}");
    assert_eq!(found[1], "4:81: connections.a.tls: unknown key \"modes\"; did you mean \"mode\"?");
}

#[test]
fn nothing_that_may_mean_no_switches_verification_off() {
    let insecure = |written: &str| {
        let text = format!("{HEAD}connections: {{ a: {{ protocol: mysql, address: h, credential: c, insecure: {written} }} }}\n");
        let loaded = read(&text);
        let insecure =
            loaded.config.and_then(|config| config.connections.get("a")?.insecure.clone()).map(|reason| reason.value.to_string());
        (loaded.problems.has_errors(), insecure)
    };
    for no in ["false", "true", "no", "No", "'no'", "'false'", "off", "0", "1", "0.5", "\"\"", "'  '", "'-'", "[x]", "{ why: x }"] {
        assert_eq!(insecure(no), (true, None), "{no}");
    }
    assert_eq!(insecure("~"), (true, None), "whether it was meant is not known");
    assert_eq!(insecure("old server until March"), (false, Some("old server until March".into())));
    assert_eq!(insecure("' a test '"), (false, Some("a test".into())));
}

#[test]
fn a_missing_protocol_is_told_with_the_words() {
    let found = problems("state: /s\nlisteners: [{ address: '127.0.0.1:1' }, 5]\n");
    assert_eq!(found[0], "2:13: listeners[0]: the key \"protocol\" is missing: one of postgres, mysql, ssh");
    assert_eq!(found[1..], ["2:41: listeners[1]: expected a mapping, found a whole number"]);
}

#[test]
fn a_value_is_never_echoed() {
    let canary = "canary-s3cret";
    let places = [
        "canary-s3cret",
        "reload: canary-s3cret",
        "limits: { sessions: canary-s3cret, idle_timeout: 5s }",
        "limits: canary-s3cret",
        "log: { format: canary-s3cret }",
        "http: { address: canary-s3cret }",
        "stores: { s: { type: canary-s3cret } }",
        "stores: { s: { type: vault, address: a, auth: canary-s3cret } }",
        "stores: { s: { type: vault, address: a, auth: { method: canary-s3cret } } }",
        "stores: { s: { type: vault, address: a, auth: { method: token, token: [canary-s3cret] } } }",
        "stores: { s: { type: vault, address: a, auth: { method: token, token: { env: canary-s3cret } } } }",
        "stores: { s: { type: vault, address: a, auth: { method: token, token: { file: a, env: canary-s3cret } } } }",
        "connections: { c: { protocol: mysql, address: 'u:canary-s3cret@h:1', credential: a } }",
        "connections: { c: { protocol: mysql, address: h, tls: canary-s3cret, credential: a } }",
        "connections: { c: { protocol: mysql, address: h, password: [canary-s3cret] } }",
        "connections: { c: { protocol: mysql, address: h, store: 'canary-s3cret with blanks', credential: a } }",
        "users: { u: { password: [canary-s3cret] } }",
        "users: { u: { password: { canary-s3cret } } }",
        "connections: { c: { protocol: mysql, address: h, username: a?b, password: { canary-s3cret } } }",
        "connections: { c: { protocol: mysql, address: h, username: a?b, password: { canary-s3cret: x, literal: y } } }",
        "connections: { c: { protocol: mysql, address: h, credential: a?b, insecure: [canary-s3cret] } }",
        "stores: { s: { type: vault, address: a, auth: { method: token, token: { canary-s3cret } } } }",
        "users: { u: canary-s3cret }",
        "audit: \"canary-s3cret",
        "audit: *canary-s3cret",
        "audit: &a canary-s3cret",
        "audit: !!binary canary-s3cret",
        "audit: {canary-s3cret",
        "users:\n\tcanary-s3cret",
        "users: %canary-s3cret: x\n  y",
    ];
    for place in places {
        let found = after_head(place);
        assert!(!found.is_empty(), "{place}");
        assert!(!found.iter().any(|line| line.contains(canary)), "{found:?}");
    }
}

#[test]
fn what_yaml_has_beyond_plain_trees_is_refused() {
    let table = [
        ("audit: &a { file: x }\nlog: *a\n", "an anchor"),
        ("audit: &a { file: x }\nlog: *a\n", "an alias"),
        ("audit: { <<: { file: x } }\n", "a merge key"),
        ("audit: !t { file: x }\n", "a tag"),
        ("audit: {}\n---\nstate: /other\n", "a second document"),
        ("? [a, b]\n: 1\n", "a list or a mapping as a key"),
        ("audit: { file: a, file: b, 'file': c }\n", "the key \"file\" is here twice"),
    ];
    for (text, said) in table {
        let found = after_head(text);
        assert!(found.iter().any(|line| line.contains(said)), "{text}: {found:?}");
    }
    assert_eq!(after_head("audit: { file: a, file: b, 'file': c }\n").len(), 2, "each duplicate is told");
    for (text, said) in
        [("", "the file is empty"), ("# only a comment\n", "the file is empty"), ("[]", "expected a mapping"), ("a: b: c", "no YAML")]
    {
        let loaded = read(text);
        assert!(loaded.config.is_none() && loaded.problems.to_string().contains(said), "{text}: {}", loaded.problems);
    }
}

#[test]
fn deep_and_large_files_are_refused() {
    for (open, close) in [("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", "")] {
        for depth in [40, 10_000] {
            let found = after_head(&format!("audit:\n  {}{}", open.repeat(depth), close.repeat(depth)));
            assert!(
                found.iter().any(|line| line.contains("nested deeper than 32 levels") || line.contains("no YAML")),
                "{open}: {found:?}"
            );
        }
    }
    let large = problems(&"#".repeat(4 * 1024 * 1024 + 1));
    assert_eq!(large, [" larger than 4194304 bytes"]);
}

#[test]
fn unquoted_scalars_are_strings_where_a_string_is_wanted() {
    let config = read(&format!(
        "{HEAD}users: {{ 0123: {{}}, 1e5: {{}}, true: {{}} }}\nconnections: {{ c: {{ protocol: mysql, address: 1.2.3.4:80, database: 0x1F, \
         username: 007, password: {{ literal: 1.50 }} }} }}\n"
    ));
    assert_eq!(config.problems.to_string(), "");
    let config = config.config.unwrap();
    assert_eq!(config.users.keys().map(Name::as_str).collect::<Vec<_>>(), ["0123", "1e5", "true"]);
    let connection = &config.connections["c"];
    assert_eq!(connection.settings.downcast_ref::<AssetKeys>().unwrap().database.as_deref(), Some("0x1F"));
    let account = &connection.accounts["default"];
    assert!(matches!(account.username.as_deref(), Some(CredentialField::Reference(text)) if text == "007"));
    assert!(matches!(account.password.as_deref(), Some(CredentialField::Given(SecretInput::Literal(text))) if text.expose() == "1.50"));
    assert_eq!(connection.place.address(), Some(&UpstreamAddress::Tcp { host: "1.2.3.4".into(), port: Some(80) }));
}

#[test]
fn a_relative_path_starts_at_the_folder_of_the_file_even_behind_a_tag() {
    let store =
        "stores: { s: { type: vault, address: a, ca_cert: ca.pem, auth: { method: approle, role_id: 12, secret_id: { file: sid } } } }\n";
    let config =
        read(&format!("state: state\nlisteners: [{{ protocol: mysql, address: '127.0.0.1:0' }}]\n{store}audit: {{ file: a.jsonl }}\n"));
    assert_eq!(config.problems.to_string(), "");
    let config = config.config.unwrap();
    assert_eq!(config.state, Path::new("/etc/keyward/state"));
    assert_eq!(config.audit.file.as_deref(), Some(Path::new("/etc/keyward/a.jsonl")));
    let keys = config.stores["s"].settings.downcast_ref::<VaultKeys>().unwrap();
    assert_eq!(keys.ca_cert.as_deref(), Some(Path::new("/etc/keyward/ca.pem")));
    let Some(Auth::Approle { secret_id: SecretInput::File(path), role_id: SecretInput::Literal(role), .. }) = &keys.auth else {
        panic!("an approle")
    };
    assert_eq!((path.as_path(), role.expose()), (Path::new("/etc/keyward/sid"), "12"));
}

#[test]
fn account_is_an_old_spelling() {
    let whole = read(&format!("{HEAD}connections: {{ c: {{ protocol: mysql, address: h, account: db/creds/x }} }}")).config.unwrap();
    assert!(whole.connections["c"].accounts["default"].credential.is_some());
    let found = after_head("connections: { c: { protocol: mysql, address: h, account: a?b, username: c?d } }");
    assert!(found.len() == 1 && found[0].contains("old spelling"), "{found:?}");
}

#[test]
fn nodes_are_equal_where_only_places_and_order_differ() {
    let node = |text: &str| {
        let config = read(&format!("{HEAD}connections:\n  c: {text}")).config.unwrap();
        config.connections["c"].node.clone()
    };
    let first = node("{ protocol: mysql, address: h, credential: a, replication: true }");
    assert!(first == node("{ address:   'h', protocol: mysql,\n   replication: true, credential: a }"));
    assert!(first != node("{ protocol: mysql, address: h, credential: b, replication: true }"));
    assert!(first != node("{ protocol: mysql, address: h, credential: a }"));
}

#[test]
fn a_missing_file_is_an_error_and_an_open_one_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keyward.yaml");
    let loaded = load(&path, &kinds());
    assert!(loaded.config.is_none() && loaded.problems.has_errors());
    let secret = format!("{HEAD}users: {{ u: {{ password: x }} }}\n");
    for (text, mode, warned) in [(HEAD, 0o644, None), (HEAD, 0o664, Some("write")), (&secret, 0o644, Some("read")), (&secret, 0o600, None)]
    {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let loaded = load(&path, &kinds());
        assert!(loaded.config.is_some() && !loaded.problems.has_errors());
        let said = loaded.problems.to_string();
        assert!(warned.map_or(said.is_empty(), |word| said.contains(&format!("others may {word}"))), "{mode:o}: {said}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = read(&text).problems.to_string();
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(&String::from_utf8_lossy(&bytes)).problems.to_string();
    }

    /// Pieces of YAML in any order get further into the parser than letters do.
    #[test]
    fn no_yaml_panics(pieces in proptest::collection::vec(prop::sample::select(vec![
        "state", "listeners", "connections", "users", ": ", ":", "- ", "\n", "\n  ", "\n    ", "[", "]", "{", "}", ",", "'", "\"", "|", ">", "|2-", "&a", "*a",
        "!!str", "? ", "---", "...", "%YAML 1.2", "#", "\t", "\r", "<<", "~", "0x", "1e", "\u{feff}", "\\x", "protocol", "postgres", "address", "accounts",
    ]), 0..60), head in any::<bool>()) {
        let text = pieces.concat();
        let _ = read(&if head { format!("{HEAD}{text}") } else { text }).problems.to_string();
    }
}

mod rows;
mod servers;
mod slips;
