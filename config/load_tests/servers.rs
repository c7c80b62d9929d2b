//! What only protocols have whose connections are servers: groups of hosts, and keys in a rule.

use super::*;

#[test]
fn a_group_of_hosts_stands_for_servers_where_a_protocol_has_such() {
    let text =
        "connections:\n  web: { protocol: ssh, hosts: [Web-2.internal, '10.0.0.7:2222', 'web-*.prod.internal'], credential: a/data/b }\n";
    let loaded = read(&format!("{HEAD}{text}"));
    assert_eq!(loaded.problems.to_string(), "");
    let config = loaded.config.unwrap();
    let (place, assets) = (&config.connections["web"].place, config.connections["web"].assets);
    assert_eq!((place.address(), assets), (None, Assets::Servers));
    assert_eq!(place.hosts().iter().map(|host| host.as_str()).collect::<Vec<_>>(), ["web-2.internal", "10.0.0.7", "web-*.prod.internal"]);
    assert_eq!(place.hosts()[1].span, Span { line: 4, column: 49 });

    let table = [
        ("a: { protocol: mysql, hosts: [h], address: h, credential: c }", "4:25: connections.a: unknown key \"hosts\""),
        ("a: { protocol: mysql, credential: c }", "4:6: connections.a: the key \"address\" is missing"),
        ("a: { protocol: ssh, credential: c }", "4:6: connections.a: expected `address`, or `hosts`"),
        ("a: { protocol: ssh, hosts: [], credential: c }", "4:30: connections.a.hosts: expected at least one host"),
        ("a: { protocol: ssh, hosts: h, credential: c }", "4:30: connections.a.hosts: expected a list, found a string"),
        ("a: { protocol: ssh, hosts: [h, '*'], credential: c }", "4:34: connections.a.hosts[1]: expected a host (web-2.internal"),
        ("a: { protocol: ssh, hosts: [/run/x], credential: c }", "4:31: connections.a.hosts[0]: expected a host (web-2.internal"),
        (
            "a: { protocol: ssh, address: h, hosts: [h], credential: c }",
            "4:42: connections.a: expected either `address` or `hosts`, not both",
        ),
        ("a: { protocol: ssh, hosts: [h, 'H:2'], credential: c }", "4:34: connections.a.hosts[1]: this host is at line 4 already"),
        (
            "a: { protocol: ssh, hosts: ['w*'], credential: c }\n  b: { protocol: ssh, hosts: ['w*'], credential: c }",
            "5:31: connections.b.hosts[0]: this host is at line 4 already",
        ),
        (
            "a: { protocol: ssh, hosts: [B], credential: c }\n  b: { protocol: mysql, address: h, credential: c }",
            "4:31: connections.a.hosts[0]: a connection is named \"b\" already",
        ),
    ];
    for (text, said) in table {
        let found = after_head(&format!("connections:\n  {text}\n"));
        assert!(found.len() == 1 && found[0].starts_with(said), "{text}: {found:?}");
    }
    assert_eq!(
        after_head("connections:\n  web: { protocol: ssh, hosts: [web], credential: c }\n"),
        [""; 0],
        "a group may be called like its host"
    );
    let listener = "state: /s\nlisteners: [{ protocol: ssh, address: '127.0.0.1:0', connection: web }]\n";
    let found = problems(&format!("{listener}connections: {{ web: {{ protocol: ssh, hosts: [h], credential: c }} }}\n"));
    assert_eq!(found, ["2:66: listeners[0].connection: this connection is a group of hosts, and a listener leads to one server"]);
}

#[test]
fn a_rule_has_the_keys_of_every_protocol_beside_its_own() {
    let text = "users: { u: {} }\nconnections:\n  web: { protocol: ssh, hosts: [h, 'w-*'], credential: c }\n  db: { protocol: mysql, address: h, credential: c }\n";
    let rule = |rule: &str| after_head(&format!("{text}access:\n  - {{ allow: [u], connections: {rule} }}\n"));
    assert_eq!(rule("['*'], channels: [shell]"), [""; 0]);
    assert_eq!(rule("[web], channels: [shell], jump_login: key"), [""; 0]);
    let table = [
        ("[db], channels: [shell]", "8:38: warning: access[0].channels: it does nothing here: none of these connections speaks ssh"),
        ("[web], chanels: [shell]", "8:39: access[0]: unknown key \"chanels\"; did you mean \"channels\"?"),
        ("[web], channels: shell", "8:49: access[0].channels: expected a list, found a string"),
        (
            "[h]",
            "8:33: warning: access[0].connections: no connection is named \"h\"; it is a host of the connection \"web\", which is what a rule names",
        ),
        ("['w-*']", "8:33: warning: access[0].connections: no connection is named \"w-*\"; it is a host of the connection \"web\""),
    ];
    for (text, said) in table {
        let found = rule(text);
        assert!(found.len() == 1 && found[0].starts_with(said), "{text}: {found:?}");
    }
    let config = read(&format!("{HEAD}{text}access: [{{ allow: [u], connections: [web], channels: [shell] }}]\n")).config.unwrap();
    assert_eq!(config.access[0].settings.keys().collect::<Vec<_>>(), [&"ssh"]);
    let keys = config.access[0].settings["ssh"].downcast_ref::<RuleKeys>().unwrap();
    assert_eq!(keys.channels.as_deref(), Some(&["shell".to_owned()][..]));
}
