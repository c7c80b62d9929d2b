//! What is read, and is not what was meant: a value that was forgotten, a key that does nothing, a limit that lets nobody in.

use super::{after_head, problems};

#[test]
fn a_key_whose_value_was_forgotten_is_a_problem_and_allows_nothing() {
    let connection = |keys: &str| format!("connections: {{ c: {{ protocol: mysql, address: h, credential: a, {keys} }} }}\n");
    let table = [
        ("access: [{ allow: [u], connections: [c], accounts: }]\n".to_owned(), "access[0].accounts"),
        (connection("store: "), "connections.c.store"),
        (connection("tls: "), "connections.c.tls"),
        (connection("tls: { ca: ~ }"), "connections.c.tls.ca"),
        (connection("limits: { max_sessions: null }"), "connections.c.limits.max_sessions"),
        ("audit: { file: }\n".to_owned(), "audit.file"),
        ("stores: { s: { type: vault, address: a, ca_cert: } }\n".to_owned(), "stores.s.ca_cert"),
    ];
    for (text, at) in table {
        let found = after_head(&text);
        assert!(found.iter().any(|line| line.contains(at) && line.ends_with("has no value; leave the key out")), "{text}: {found:?}");
    }
    let listener = problems("state: /s\nlisteners: [{ protocol: mysql, address: '127.0.0.1:0', connection: }]\n");
    assert_eq!(listener, ["2:66: listeners[0].connection: has no value; leave the key out"]);
}

#[test]
fn a_section_that_must_be_there_must_have_a_value() {
    let state = problems("listeners: [{ protocol: mysql, address: '127.0.0.1:0' }]\nstate:\n");
    assert!(state.len() == 1 && state[0].contains("state: the key \"state\" is missing"), "{state:?}");
    for written in ["", " ~", " []"] {
        let listeners = problems(&format!("state: /s\nlisteners:{written}\n"));
        assert!(listeners.len() == 1 && listeners[0].starts_with("2:1: listeners: expected at least one"), "{written}: {listeners:?}");
    }
    assert_eq!(after_head("stores:\nconnections:\nusers:\naccess:\nlimits:\nhttp:\n"), [""; 0], "these may be empty");
}

#[test]
fn what_would_let_nobody_in_or_be_ignored_is_a_problem_of_its_connection() {
    let connection = |keys: &str| after_head(&format!("connections: {{ c: {{ protocol: mysql, address: h, credential: a, {keys} }} }}\n"));
    assert_eq!(
        connection("limits: { max_sessions: 0 }"),
        ["3:75: connections.c.limits.max_sessions: expected more than 0: nobody could log in"]
    );
    assert_eq!(connection("limits: { max_sessions: 1, max_leases_per_user: 0 }"), [""; 0], "there it means no limit");
    for half in ["certificate: c.pem", "private_key: c.key"] {
        let found = connection(&format!("tls: {{ {half} }}"));
        assert_eq!(found, ["3:70: connections.c.tls: expected `certificate` and `private_key` together, or neither"]);
    }
    assert_eq!(connection("tls: { certificate: c.pem, private_key: c.key }"), [""; 0]);
}

#[test]
fn what_a_listener_would_not_use_or_no_client_could_verify_is_told() {
    let listener = |keys: &str| problems(&format!("state: /s\nlisteners: [{{ protocol: mysql, {keys} }}]\n"));
    let tcp = |tls: &str| listener(&format!("address: '127.0.0.1:0', tls: {{ {tls} }}"));
    assert_eq!(tcp("names: [keyward.internal, 10.0.0.1, '::1', '*.db.internal', xn--bro-hoa.example, db_1]"), [""; 0]);
    for bad in ["büro.example", "'keyward.internal:5432'", "'https://keyward.internal'", "'10.0.0.1/8'", "''", "'*'", "'[::1]'"] {
        let found = tcp(&format!("names: [localhost, {bad}]"));
        assert!(found.len() == 1 && found[0].starts_with("2:82: listeners[0].tls.names[1]: expected a host name"), "{bad}: {found:?}");
    }
    let beside = tcp("certificate: c, private_key: k, names: [localhost]");
    assert!(beside.len() == 1 && beside[0].contains("warning: listeners[0].tls.names: not read beside `certificate`"), "{beside:?}");
    assert_eq!(tcp("certificate: c, private_key: k, names: []"), [""; 0]);
    let unix = listener("address: /run/k.sock, tls: { names: [localhost] }, proxy_protocol: [127.0.0.1]");
    assert!(
        unix.len() == 2 && unix.iter().all(|line| line.contains("warning: ") && line.contains("not read on a unix socket")),
        "{unix:?}"
    );
}

#[test]
fn a_group_that_no_rule_names_is_told_once() {
    let users = "users:\n  alice: { groups: [ops, paymnets] }\n  bob: { groups: [paymnets, payments] }\n  carol: { groups: [ops] }\n";
    let rules = |more: &str| {
        format!(
            "{users}connections: {{ c: {{ protocol: mysql, address: h, credential: a }} }}\naccess:\n  - {{ allow: [payments], connections: [c] }}\n{more}"
        )
    };
    assert_eq!(
        after_head(&rules("")),
        [
            "4:21: warning: users.alice.groups: no rule allows \"ops\" anything",
            "4:26: warning: users.alice.groups: no rule allows \"paymnets\" anything; did you mean \"payments\"?"
        ]
    );
    let broken = after_head(&rules("  - { alow: [ops], connections: [c] }\n"));
    assert!(!broken.iter().any(|line| line.contains("no rule")), "the broken one may be it: {broken:?}");
}
