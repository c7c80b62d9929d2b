use std::time::Duration;

use super::super::sample::{self, Client};
use super::*;

const SESSION: &str = "0123456789abcdef";
const EOF: &[u8] = b"\xfe\0\0\x02\0";
/// As MariaDB has it where the performance schema is off, and MySQL has it whatever the account.
const NO_ATTRIBUTE: &[&[Option<&str>]] = &[];

fn row(columns: &[Option<&str>]) -> Vec<u8> {
    let column = |column: &Option<&str>| match column {
        Some(text) => [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat(),
        None => vec![0xfb],
    };
    columns.iter().flat_map(column).collect()
}

/// Hears this query, and answers with rows.
async fn answer(server: &mut Client, query: &str, rows: &[&[Option<&str>]]) {
    assert_eq!(String::from_utf8_lossy(&server.hear().await), format!("\x03{query}"));
    // How many columns there are, and what they are called, is nothing to us; a row may begin as an EOF does.
    for payload in [b"\x02".as_slice(), b"\x03def one", b"\x03def two", EOF] {
        server.say(payload).await;
    }
    for columns in rows {
        server.say(&row(columns)).await;
    }
    server.say(EOF).await;
    server.packets = Packets::default();
}

/// What is found out where the server lists these, and says this of the attributes.
async fn found(thread: Thread, alone: bool, listed: &[&[Option<&str>]], attributes: Option<&[&[Option<&str>]]>) -> Standing {
    let (theirs, mut ours) = sample::unix();
    let mut server = Client::at(theirs, 0);
    let script = async {
        answer(&mut server, "SHOW PROCESSLIST", listed).await;
        if let Some(rows) = attributes {
            let asked = format!(
                "SELECT ATTR_VALUE FROM performance_schema.session_account_connect_attrs WHERE PROCESSLIST_ID = {} AND \
                 ATTR_NAME = 'keyward_session'",
                thread.id
            );
            answer(&mut server, &asked, rows).await;
        }
    };
    let owner = Owner { user: "app", alone, session: SESSION.parse().unwrap() };
    let both = async { tokio::join!(standing(&mut ours, thread, &owner), script).0 };
    tokio::time::timeout(Duration::from_secs(10), both).await.expect("one waits for the other").unwrap()
}

#[tokio::test]
async fn a_session_is_known_by_our_port_by_its_attributes_or_by_an_account_of_its_own() {
    let at = |port| Thread { id: 1234, port };
    let of = |host| [Some("1234"), Some("app"), Some(host), None, Some("Query"), Some("7"), Some(""), Some("SELECT SLEEP(9)")];
    let other: &[Option<&str>] = &[Some("12"), Some("app"), Some("kw:40000"), None];
    let (tcp, unix) = (of("kw.internal:40000"), of("localhost"));
    assert_eq!(found(at(Some(40_000)), false, &[other, &tcp], None).await, Standing::Here);
    assert_eq!(found(at(Some(40_000)), false, &[other, &of("2001:db8::7:40000")], None).await, Standing::Here);
    assert_eq!(found(at(None), false, &[&unix, other], None).await, Standing::Here);
    // Something on the way has a port of its own.
    let attributed: &[&[Option<&str>]] = &[&[Some(SESSION)]];
    assert_eq!(found(at(Some(40_001)), false, &[&tcp], Some(attributed)).await, Standing::Here);
    assert_eq!(found(at(Some(40_001)), true, &[&tcp], None).await, Standing::Here);
}

#[tokio::test]
async fn a_number_and_a_shared_account_show_nothing() {
    let at = |port| Thread { id: 1234, port };
    let row: &[Option<&str>] = &[Some("1234"), Some("app"), Some("balancer:40000"), Some("shop")];
    for (port, host) in [(Some(40_001), "balancer:40000"), (None, "balancer:40000"), (Some(40_000), "localhost"), (Some(40_000), "x:")] {
        let row: &[Option<&str>] = &[Some("1234"), Some("app"), Some(host), None];
        assert_eq!(found(at(port), false, &[row], Some(NO_ATTRIBUTE)).await, Standing::Unproven, "{host}");
    }
    for other in [Some("fedcba9876543210"), None] {
        assert_eq!(found(at(Some(7)), false, &[row], Some(&[&[other]])).await, Standing::Unproven);
    }
    // Of another account, of another number, of nobody yet: whatever else fits.
    for (id, user) in [("1234", "root"), ("123", "app"), ("12345", "app")] {
        let row: &[Option<&str>] = &[Some(id), Some(user), Some("kw:40000"), None];
        assert_eq!(found(at(Some(40_000)), true, &[row], None).await, Standing::Absent, "{id} {user}");
    }
    assert_eq!(found(at(Some(40_000)), true, &[], None).await, Standing::Absent);
    // A long list takes more packets than there are numbers for them.
    let many = vec![row; 600];
    assert_eq!(found(Thread { id: 1, port: None }, true, &many, None).await, Standing::Absent);
}

#[tokio::test]
async fn what_is_no_list_is_an_error_and_an_error_about_attributes_is_none() {
    let owner = Owner { user: "app", alone: false, session: SESSION.parse().unwrap() };
    let thread = Thread { id: 1, port: Some(2) };
    for (said, wanted) in [(b"\xff\x47\x04#42000no".as_slice(), "1095"), (b"", "end of file"), (b"\x05\x01", "ends within")] {
        let (theirs, mut ours) = sample::unix();
        let mut server = Client::at(theirs, 0);
        let script = async {
            server.hear().await;
            match said {
                b"" => drop(server),
                [0xff, ..] => server.say(said).await,
                said => {
                    for payload in [b"\x01".as_slice(), EOF, said] {
                        server.say(payload).await;
                    }
                }
            }
        };
        let error = tokio::join!(standing(&mut ours, thread, &owner), script).0.unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
    }
    let (theirs, mut ours) = sample::unix();
    let mut server = Client::at(theirs, 0);
    let script = async {
        answer(&mut server, "SHOW PROCESSLIST", &[&[Some("1"), Some("app"), Some("x:9")]]).await;
        server.hear().await;
        server.say(b"\xff\x7a\x04#42S02no such table").await;
    };
    assert_eq!(tokio::join!(standing(&mut ours, thread, &owner), script).0.unwrap(), Standing::Unproven);
}
