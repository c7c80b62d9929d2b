use crate::policy::{Denied, Policy};
use crate::sample::AccessSettings;
use crate::{Grant, Identity, Proof, SessionId, Source, sample};

const CONNECTIONS: &str = "
connections:
  web-1:  { protocol: ssh, address: 'web-1.internal:2222', username: { literal: u }, password: { literal: p } }
  Web-9:  { protocol: ssh, address: 'web-9.internal', username: { literal: u }, password: { literal: p } }
  secret: { protocol: ssh, address: '10.0.0.9', username: { literal: u }, password: { literal: p } }
  sock:   { protocol: ssh, address: /run/sshd, username: { literal: u }, password: { literal: p } }
  web:
    protocol: ssh
    hosts: [web-2.internal, '10.0.0.7:2222', '*.prod.internal', 'Web-*.prod.internal:2200']
    accounts:
      deploy: { username: { literal: d }, password: { literal: p } }
      ops:    { username: { literal: o }, password: { literal: p } }
  db:
    protocol: ssh
    hosts: [db.prod.internal, 'db-*.prod.internal']
    username: { literal: u }
    password: { literal: p }
  web-2:  { protocol: postgres, address: 'pg:5432', username: { literal: u }, password: { literal: p } }
users:
  alice: { groups: [payments] }
  bob:   {}
";
const RULES: &str = "
  - { allow: [payments], connections: [web-1, Web-9, web, sock], channels: [shell] }
  - { allow: [alice], connections: ['web*'], accounts: [deploy], channels: [agent, x11] }
  - { allow: [bob], connections: ['*'], accounts: [ops, default] }
";

fn policy_of(text: &str) -> Policy {
    let (config, mut problems) = sample::config(text);
    let policy = Policy::read(&config, &mut problems);
    assert!(!problems.has_errors(), "{problems}");
    policy
}

fn policy() -> Policy {
    policy_of(&format!("{CONNECTIONS}access:{RULES}"))
}

fn who(user: &str) -> Identity {
    Identity::of(user, Proof::PublicKey, Source::local())
}

fn grant(policy: &Policy, user: &str, name: &str, account: Option<&str>) -> Result<Grant, Denied> {
    policy.authorise(&who(user), "ssh", name, account, SessionId::random())
}

#[test]
fn a_server_is_reached_by_the_name_of_its_connection_or_by_its_own_in_a_group() {
    let policy = policy();
    let reached = |name: &str| {
        let grant = grant(&policy, "bob", name, None).ok()?;
        Some((grant.connection().name().to_string(), grant.host().map(str::to_owned), grant.address().to_string()))
    };
    let table = [
        ("web-1", Some(("web-1", None, "web-1.internal:2222"))),
        ("web-2.internal", Some(("web", Some("web-2.internal"), "web-2.internal"))),
        ("WEB-2.internal", Some(("web", Some("web-2.internal"), "web-2.internal"))),
        ("10.0.0.7", Some(("web", Some("10.0.0.7"), "10.0.0.7:2222"))),
        ("x.prod.internal", Some(("web", Some("x.prod.internal"), "x.prod.internal"))),
        // The pattern with more written out, and before all patterns the host that is.
        ("web-7.PROD.internal", Some(("web", Some("web-7.prod.internal"), "web-7.prod.internal:2200"))),
        ("db-1.prod.internal", Some(("db", Some("db-1.prod.internal"), "db-1.prod.internal"))),
        ("db.prod.internal", Some(("db", Some("db.prod.internal"), "db.prod.internal"))),
        // A group is no server, nor is a pattern, nor what only looks like a host of it, nor what another protocol speaks to.
        ("web", None),
        ("*.prod.internal", None),
        ("a.b.prod.internal", None),
        ("web-2.internal:22", None),
        ("10.0.0.7:2222", None),
        ("web-2", None),
        ("", None),
    ];
    for (name, expected) in table {
        let expected = expected.map(|(connection, host, address)| (connection.to_owned(), host.map(str::to_owned), address.to_owned()));
        assert_eq!(reached(name), expected, "{name}");
    }
}

#[test]
fn the_rules_of_a_host_are_those_of_its_group_whoever_else_might_have_it() {
    let policy = policy();
    assert_eq!(grant(&policy, "alice", "web-2.internal", None).err(), Some(Denied::Choose(vec!["deploy".to_owned(), "ops".to_owned()])));
    assert!(grant(&policy, "alice", "web-2.internal", Some("deploy")).is_ok());
    // `*.prod.internal` would do, but this server is the other group's.
    assert_eq!(grant(&policy, "alice", "db-1.prod.internal", Some("deploy")).err(), Some(Denied::NotPermitted));
    let without = policy_of(&format!("{CONNECTIONS}access:{RULES}").replace(", 'db-*.prod.internal'", ""));
    assert!(grant(&without, "alice", "db-1.prod.internal", Some("deploy")).is_ok());
}

#[test]
fn a_jump_means_a_server_by_its_name_or_by_its_address() {
    let policy = policy();
    let target = |user: &str, host: &str, port: u16| policy.target(&who(user), "ssh", host, port, 22);
    let table = [
        // By name: the port that a client takes where none is said, or its own.
        ("web-1", 22, Some("web-1")),
        ("web-1", 2222, Some("web-1")),
        ("web-1", 2223, None),
        ("web-2.internal", 22, Some("web-2.internal")),
        ("web-2.internal", 2222, None),
        ("10.0.0.7", 22, Some("10.0.0.7")),
        ("10.0.0.7", 2222, Some("10.0.0.7")),
        ("WEB-3.prod.internal", 2200, Some("web-3.prod.internal")),
        // ssh lowers the letters of what it takes for a host name.
        ("web-9", 22, Some("Web-9")),
        ("WEB-1", 22, Some("web-1")),
        // By address: its own port and no other.
        ("web-1.internal", 2222, Some("web-1")),
        ("Web-1.Internal", 2222, Some("web-1")),
        ("web-1.internal", 22, None),
        ("web-9.internal", 22, Some("Web-9")),
        ("web-9.internal", 2222, None),
        // What she may not reach is as good as not there.
        ("secret", 22, None),
        ("10.0.0.9", 22, None),
        ("db-1.prod.internal", 22, None),
        ("sock", 22, None),
        ("web", 22, None),
        ("web-2", 5432, None),
        ("nothing", 22, None),
        ("", 0, None),
    ];
    for (host, port, expected) in table {
        assert_eq!(target("alice", host, port).as_deref(), expected, "{host}:{port}");
        let Some(name) = target("alice", host, port) else { continue };
        assert_ne!(grant(&policy, "alice", &name, None).err(), Some(Denied::NotPermitted), "{name} leads there");
    }
    assert_eq!(target("bob", "10.0.0.9", 22).as_deref(), Some("secret"));
    assert_eq!(target("mallory", "web-1", 22), None);
}

#[test]
fn a_host_in_other_letters_never_leads_to_the_connection_that_is_called_so() {
    let text = "
connections:
  a.internal: { protocol: ssh, address: 'elsewhere', username: { literal: u }, password: { literal: p } }
  group:      { protocol: ssh, hosts: ['*.internal'], username: { literal: u }, password: { literal: p } }
users: { alice: {}, bob: {} }
access: [{ allow: [alice], connections: [group] }, { allow: [bob], connections: [a.internal, group] }]
";
    let policy = policy_of(text);
    assert_eq!(policy.target(&who("alice"), "ssh", "A.internal", 22, 22), None);
    assert_eq!(policy.target(&who("bob"), "ssh", "A.internal", 22, 22).as_deref(), Some("a.internal"));
    assert_eq!(policy.target(&who("alice"), "ssh", "B.internal", 22, 22).as_deref(), Some("b.internal"));
    for user in ["alice", "bob"] {
        assert!(grant(&policy, user, "A.internal", None).is_err(), "{user}: nor does a login that names it");
    }
}

#[test]
fn a_grant_of_a_host_lasts_as_long_as_the_host_is_of_its_group() {
    let before = policy();
    let of = |name: &str| grant(&before, "bob", name, None).unwrap();
    let after = |grant: &Grant, from: &str, to: &str| {
        let text = format!("{CONNECTIONS}access:{RULES}");
        assert!(text.contains(from), "{from}");
        policy_of(&text.replace(from, to)).still_allows(grant)
    };
    let (host, fitting, own) = (of("web-2.internal"), of("x.prod.internal"), of("web-1"));
    assert!(before.still_allows(&host) && before.still_allows(&fitting) && before.still_allows(&own));
    assert!(!after(&host, "web-2.internal, ", ""), "the group has it no more");
    assert!(after(&host, "web-2.internal,", "'web-2.internal:2222',"), "another port ends no session");
    assert!(!after(&fitting, "'*.prod.internal', ", ""), "the pattern is gone");
    assert!(!after(&fitting, "[db.prod.internal,", "[x.prod.internal,"), "it is another group's now");
    assert!(!after(&fitting, "  secret:", "  x.prod.internal:"), "a connection is called so now");
    assert!(!after(&own, "address: 'web-1.internal:2222'", "hosts: [web-1.internal]"), "the connection is a group now");
    assert!(!after(&own, "address: 'web-1.internal:2222'", "hosts: [web-1]"), "even if a host of it is called so");
    assert!(!after(&host, "accounts: [ops, default]", "accounts: [deploy, default]"), "no longer that account");
}

#[test]
fn what_may_be_reached_shows_hosts_and_patterns_and_what_is_checked_only_hosts() {
    let policy = policy();
    let list = |user: &str| policy.reachable(&user.parse().unwrap(), "ssh").iter().map(ToString::to_string).collect::<Vec<_>>();
    let alice = [
        "Web-9",
        "sock",
        "*.prod.internal+deploy",
        "*.prod.internal+ops",
        "10.0.0.7+deploy",
        "10.0.0.7+ops",
        "web-*.prod.internal+deploy",
        "web-*.prod.internal+ops",
        "web-2.internal+deploy",
        "web-2.internal+ops",
        "web-1",
    ];
    assert_eq!(list("alice"), alice);
    assert_eq!(list("mallory"), [""; 0]);
    let checked: Vec<_> =
        policy.operator_grants().iter().map(|grant| format!("{} {}", grant.host().unwrap_or("-"), grant.address())).collect();
    let all = [
        "- web-9.internal",
        "db.prod.internal db.prod.internal",
        "- 10.0.0.9",
        "- /run/sshd",
        "web-2.internal web-2.internal",
        "web-2.internal web-2.internal",
        "10.0.0.7 10.0.0.7:2222",
        "10.0.0.7 10.0.0.7:2222",
        "- web-1.internal:2222",
        "- pg:5432",
    ];
    assert_eq!(checked, all);
    assert!(policy.operator_grants().iter().all(|grant| policy.still_allows(grant)));
}

#[test]
fn the_settings_of_each_rule_that_allows_it_now_are_told() {
    let policy = policy();
    let channels = |policy: &Policy, grant: &Grant| {
        let settings = policy.rules(grant);
        settings.iter().map(|one| one.downcast_ref::<AccessSettings>().unwrap().channels.join("+")).collect::<Vec<_>>()
    };
    let of = |user: &str, name: &str, account: &str| grant(&policy, user, name, Some(account)).unwrap();
    let deploy = of("alice", "web-2.internal", "deploy");
    assert_eq!(channels(&policy, &deploy), ["shell", "agent+x11"]);
    assert_eq!(channels(&policy, &of("alice", "web-2.internal", "ops")), ["shell"]);
    assert_eq!(channels(&policy, &of("bob", "web-2.internal", "ops")), [""], "one rule, which gives nothing");
    let text = format!("{CONNECTIONS}access:{RULES}");
    let after = policy_of(&text.replace("[agent, x11]", "[sftp]"));
    assert_eq!(channels(&after, &deploy), ["shell", "sftp"], "as the rules are now");
    assert_eq!(channels(&policy_of(&text.replace("web-2.internal, ", "")), &deploy), [""; 0], "nothing allows it any more");
    assert!(policy.operator_grants().iter().all(|grant| policy.rules(grant).is_empty()));
    let database = policy.authorise(&who("bob"), "postgres", "web-2", None, SessionId::random()).unwrap();
    assert!(policy.still_allows(&database) && policy.rules(&database).is_empty(), "this protocol has no keys in a rule");
}
