use super::*;
use crate::identity::Source;
use crate::sample;

const CONNECTIONS: &str = "
connections:
  orders:     { protocol: postgres, address: 'pg:5432', username: { literal: u }, password: { literal: p }, database: shop }
  orders_old: { protocol: postgres, address: 'pg:5432', username: { literal: u }, password: { literal: p } }
  payroll:
    protocol: postgres
    address: pg:5432
    accounts:
      reader: { username: { literal: r }, password: { literal: p } }
      writer: { username: { literal: w }, password: { literal: p } }
  ledger:
    protocol: postgres
    address: pg:5432
    accounts:
      default: { username: { literal: d }, password: { literal: p } }
      admin:   { username: { literal: a }, password: { literal: p } }
  web-1:      { protocol: ssh, address: 'web:22', username: { literal: u }, password: { literal: p } }
users:
  alice: { groups: [payments] }
  bob:   { groups: [payments, ops] }
  carol: {}
  payments: {}
";

fn policy(rules: &str) -> Policy {
    let (config, mut problems) = sample::config(&format!("{CONNECTIONS}access:\n{rules}"));
    let policy = Policy::read(&config, &mut problems);
    assert!(!problems.has_errors(), "{problems}");
    policy
}

fn who(user: &str) -> Identity {
    Identity::of(user, Proof::ScramSha256, Source::local())
}

fn ask(policy: &Policy, user: &str, connection: &str, account: Option<&str>) -> Result<String, Denied> {
    let session = SessionId::random();
    let grant = policy.authorise(&who(user), "postgres", connection, account, session)?;
    assert_eq!((grant.session(), grant.user().as_str(), grant.proof()), (session, user, Proof::ScramSha256));
    Ok(format!("{}/{}", grant.connection().name(), grant.account().name()))
}

#[test]
fn a_rule_reaches_users_and_groups_connections_by_wildcard_and_accounts_that_it_names() {
    let policy = policy(
        "  - { allow: [payments], connections: ['orders*'] }
  - { allow: [bob], connections: [payroll], accounts: ['re*'] }
  - { allow: [ops], connections: ['*'], accounts: [admin] }",
    );
    let table = [
        ("alice", "orders", None, Some("orders/default")),
        ("alice", "orders_old", Some("default"), Some("orders_old/default")),
        ("alice", "payroll", None, None),
        ("alice", "ledger", Some("admin"), None),
        ("bob", "orders", None, Some("orders/default")),
        ("bob", "payroll", None, Some("payroll/reader")),
        ("bob", "payroll", Some("reader"), Some("payroll/reader")),
        ("bob", "payroll", Some("writer"), None),
        ("bob", "ledger", None, Some("ledger/admin")),
        ("bob", "ledger", Some("default"), None),
        ("carol", "orders", None, None),
        // A user who is called like a group is meant by that name too.
        ("payments", "orders", None, Some("orders/default")),
        // A rule names nobody whom the file does not have as a user.
        ("ops", "ledger", Some("admin"), None),
        ("mallory", "orders", None, None),
    ];
    for (user, connection, account, expected) in table {
        let got = ask(&policy, user, connection, account);
        assert_eq!(got, expected.map(str::to_owned).ok_or(Denied::NotPermitted), "{user} {connection} {account:?}");
    }
}

#[test]
fn unknown_forbidden_and_other_protocol_are_the_same() {
    let policy = policy("  - { allow: [alice], connections: [orders, web-1] }");
    let wild = "*".repeat(10_000);
    for (connection, account) in [
        ("payroll", None),
        ("payroll", Some("reader")),
        ("nothing", None),
        ("orders", Some("nothing")),
        ("orders", Some("")),
        ("", None),
        ("*", None),
        ("ORDERS", None),
        ("orders\0", None),
        ("\u{202e}\n; --", Some("'")),
        (wild.as_str(), None),
        ("web-1", None),
    ] {
        assert_eq!(ask(&policy, "alice", connection, account), Err(Denied::NotPermitted), "{connection:?} {account:?}");
    }
    assert!(policy.authorise(&who("alice"), "ssh", "web-1", None, SessionId::random()).is_ok());
}

#[test]
fn who_names_no_account_gets_default_or_the_only_one_or_has_to_choose_among_his() {
    let everything = policy("  - { allow: [alice], connections: ['*'] }");
    assert_eq!(ask(&everything, "alice", "ledger", None).unwrap(), "ledger/default");
    let choose = Denied::Choose(vec!["reader".to_owned(), "writer".to_owned()]);
    assert_eq!(ask(&everything, "alice", "payroll", None), Err(choose));
    let one = policy("  - { allow: [alice], connections: [payroll], accounts: [writer] }");
    assert_eq!(ask(&one, "alice", "payroll", None).unwrap(), "payroll/writer");
}

#[test]
fn what_a_user_may_reach_is_listed_by_protocol_and_nothing_else_is() {
    let policy = policy("  - { allow: [payments], connections: [payroll, web-1, orders] }");
    let list = |user, protocol| {
        policy
            .reachable(who(user).user(), protocol)
            .into_iter()
            .map(|one| format!("{}/{}", one.connection, one.account))
            .collect::<Vec<_>>()
    };
    assert_eq!(list("alice", "postgres"), ["orders/default", "payroll/reader", "payroll/writer"]);
    assert_eq!(list("alice", "ssh"), ["web-1/default"]);
    assert_eq!(list("alice", "mysql"), Vec::<String>::new());
    assert_eq!(list("carol", "postgres"), Vec::<String>::new());
}

#[test]
fn a_grant_carries_its_connection_with_the_settings_of_its_protocol() {
    let policy = policy("  - { allow: [alice], connections: [orders] }");
    let grant = policy.authorise(&who("alice"), "postgres", "orders", None, SessionId::random()).unwrap();
    let connection = grant.connection();
    assert_eq!(connection.settings::<sample::Settings>().unwrap().database.as_deref(), Some("shop"));
    assert!(connection.settings::<String>().is_none());
    assert_eq!((connection.protocol(), connection.store().is_none(), connection.insecure()), ("postgres", true, None));
}

#[test]
fn a_live_grant_lasts_as_long_as_user_connection_account_and_rule_do() {
    let rules = "  - { allow: [payments], connections: [orders, payroll] }";
    let before = policy(rules);
    let grant = before.authorise(&who("alice"), "postgres", "payroll", Some("writer"), SessionId::random()).unwrap();
    let after = |from: &str, to: &str| {
        let text = format!("{CONNECTIONS}access:\n{rules}\n");
        assert!(text.contains(from), "{from}");
        let (config, mut problems) = sample::config(&text.replace(from, to));
        Policy::read(&config, &mut problems).still_allows(&grant)
    };
    assert!(before.still_allows(&grant));
    assert!(after("pg:5432", "elsewhere:5432"), "another address ends no session");
    assert!(!after("alice: { groups: [payments] }", "alice: {}"), "no longer in the group");
    assert!(!after("  alice: { groups: [payments] }\n", ""), "no longer a user");
    assert!(!after("connections: [orders, payroll] }", "connections: [orders] }"), "no longer that connection");
    assert!(!after("payroll] }", "payroll], accounts: [reader] }"), "no longer that account");
    assert!(!after("      writer: { username: { literal: w }, password: { literal: p } }\n", ""), "the account is gone");
    assert!(!after("  payroll:\n    protocol: postgres", "  payroll:\n    protocol: ssh"), "another protocol");
}

#[test]
fn the_operator_gets_every_account_of_every_connection_and_no_user_is_he() {
    let policy = policy("  - { allow: [alice], connections: [orders] }");
    let grants = policy.operator_grants();
    let names: Vec<_> = grants.iter().map(|grant| format!("{}/{}", grant.connection().name(), grant.account().name())).collect();
    let all =
        ["ledger/admin", "ledger/default", "orders/default", "orders_old/default", "payroll/reader", "payroll/writer", "web-1/default"];
    assert_eq!(names, all);
    assert!(grants.iter().all(|grant| grant.proof() == Proof::Operator && policy.still_allows(grant)));
    assert_eq!(ask(&policy, "operator", "orders", None), Err(Denied::NotPermitted));
}
