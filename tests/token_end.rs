//! A lease dies with the token that issued it, however long it is itself: its session is told, and ended before, and is none of those that have
//! their leases from the next token.

use std::time::Duration;

use serde_json::{Value, json};

use crate::bed::{Config, Dialogue, Keyward, Psql, bao, canary, client_command, eventually, installed, masked, postgres15, within};

/// For what comes within the life of a token.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_session_ends_in_order_before_the_token_that_issued_its_lease_and_one_of_the_next_token_goes_on() {
    let (alice, database) = (canary(), bao().enable_database(postgres15(), "1h", "2h"));
    // Whenever an account is revoked, it is written down how many sessions that has.
    let (creds, table) = (database.creds(), format!("ends_of_{}", database.mount));
    postgres15().sql("postgres", &format!("CREATE TABLE {table} (account text, sessions int)"));
    let count = format!("INSERT INTO {table} SELECT '{{{{name}}}}', count(*) FROM pg_stat_activity WHERE usename = '{{{{name}}}}';");
    let statements = json!({ "db_name": "asset", "default_ttl": "1h", "max_ttl": "2h",
        "creation_statements": ["CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';"],
        "revocation_statements": [count, "DROP ROLE IF EXISTS \"{{name}}\";"] });
    bao().call("POST", &format!("{}/roles/rw", database.mount), statements);
    let of_a_role = |role: &str| {
        let sql = format!("SELECT count(*) || ' of ' || coalesce(sum(sessions), 0) FROM {table} WHERE account = '{role}'");
        postgres15().sql("postgres", &sql)
    };

    // The store may renew it once, and not beyond its end.
    let tokens = bao().approle_with(&[&creds], json!({ "token_ttl": "36s", "token_max_ttl": "36s" }));
    let body = format!("address: \"{}\", database: postgres, store: corp, credential: {creds}", postgres15().address());
    let config = Config::new().store("corp", bao(), &tokens).connection("orders_rw", &format!("{body}, limits: {{ end_warnings: [4s] }}"));
    let keyward = Keyward::start(&config.user("alice", &alice).allow("alice", "orders*"));
    let dsn = keyward.dsn("alice", &alice, "orders_rw");
    let mut command = client_command(installed("python").join("bin/python"), &dsn);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bed/told_by_psycopg.py"));
    let first = Dialogue::with_program(&command);
    let role = first.line().strip_prefix("in ").unwrap().to_owned();
    let logins = |log: Vec<Value>| log.iter().filter(|line| line.to_string().contains("logged in to the store")).count();
    within(LONG, "another token has replaced it", || (logins(keyward.log()) == 2).then_some(()));
    let second = Psql::open(&dsn);
    let another = second.ask("SELECT current_user");

    keyward.until_audit_within(LONG, "closed", 1);
    let warning = masked(&first.line());
    let left = warning.strip_prefix("WARNING 01000 keyward: the session ends in ").and_then(|rest| rest.split_once(" second"));
    let (left, ends) = left.unwrap_or_else(|| panic!("{warning}"));
    assert!(left.parse::<u64>().unwrap() >= 1, "in time: {warning}");
    assert_eq!(ends.trim_start_matches('s'), ", when its credential comes to its end (session ID)");
    let farewell = "FATAL 57P01 keyward: the session's credential has come to its end; connect again (session ID)";
    assert_eq!((masked(&first.line()).as_str(), first.line().as_str()), (farewell, "over"));
    eventually("its role is gone", || (!postgres15().has_role(&role)).then_some(()));
    assert_eq!(of_a_role(&role), "1 of 0", "it had no session any more when it was revoked");

    assert_eq!(second.ask("SELECT current_user"), another);
    let record = keyward.audit();
    let mut ended = record.iter().filter(|line| ["warned", "closed"].contains(&line["event"].as_str().unwrap()));
    assert!(ended.clone().all(|line| line["session"] == record[0]["session"]), "{record:?}");
    assert_eq!(ended.next_back().unwrap()["outcome"], "lease_end");
    assert_eq!(second.end(), "");
    eventually("its role is gone too", || (!postgres15().has_role(&another)).then_some(()));
    eventually("no lease is left", || (database.leases() == 0).then_some(()));
    postgres15().sql("postgres", &format!("DROP TABLE {table}"));
}
