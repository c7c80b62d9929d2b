//! What clients send and hear on the wire: the opening, the PROXY protocol, cancel requests, startup parameters. Real clients where they
//! can be made to do it, raw bytes where only a broken or hostile one would.

use std::process::Command;
use std::time::Duration;

use crate::bed::{
    GSS_REQUEST, Method, Raw, SSL_REQUEST, Scene, cancel_request, eventually, installed, packet, postgres15, postgres18, psql, psql18, run,
    startup,
};

const ALICE: [(&str, &str); 2] = [("user", "alice"), ("database", "orders")];

#[test]
fn a_client_that_asks_for_gssapi_encryption_is_told_no_and_may_ask_for_tls() {
    let scene = Scene::new(postgres15());
    let mut raw = scene.raw();
    assert_eq!(raw.send(&GSS_REQUEST).byte(), Some(b'N'));
    let mut raw = raw.ask_tls(&scene.ca());
    scene.log_in(&mut raw).unwrap();
    // Or go on without; and each may be asked for once only.
    let mut plain = scene.raw();
    assert_eq!(plain.send(&GSS_REQUEST).byte(), Some(b'N'));
    scene.log_in(&mut plain).unwrap();
    let mut twice = scene.raw();
    assert_eq!(twice.send(&GSS_REQUEST).byte(), Some(b'N'));
    assert_eq!(twice.send(&GSS_REQUEST).refusal().field('C'), "08P01");
    let mut inside = scene.secure_raw();
    assert_eq!(inside.send(&SSL_REQUEST).refusal().field('C'), "08P01");
}

#[test]
fn bytes_that_were_sent_before_tls_are_never_taken_for_bytes_inside_it() {
    let scene = Scene::new(postgres15());
    let mut raw = scene.raw();
    // CVE-2021-23214: somebody in between puts a startup packet of his own behind the SSLRequest.
    raw.send(&[SSL_REQUEST.as_slice(), &startup(0, &[("user", "mallory"), ("database", "orders")])].concat());
    assert_eq!(raw.byte(), Some(b'S'));
    assert!(raw.tls(&scene.ca(), Some("postgresql")).is_err(), "the bytes were dropped, or taken for the session's");
    scene.keyward.until_malformed(1);
    assert!(scene.keyward.audit().is_empty(), "nobody was named");
}

#[test]
fn newer_versions_and_extensions_are_negotiated_down_and_the_login_goes_on() {
    let scene = Scene::new(postgres15());
    let version = |minor: u32| ((3_u32 << 16) | minor).to_be_bytes();
    let none = 0_u32.to_be_bytes();
    for (minor, option, wanted, key) in [
        (0, None, None, 4),
        (2, None, None, 32),
        (9, None, Some([version(2), none].concat()), 32),
        (0, Some("_pq_.colour"), Some([&version(0)[..], &1_u32.to_be_bytes(), b"_pq_.colour\0"].concat()), 4),
    ] {
        let mut raw = scene.raw();
        let parameters: Vec<_> = ALICE.into_iter().chain(option.map(|option| (option, "green"))).collect();
        let backend = raw.startup(minor, &parameters).log_in(&scene.alice).unwrap();
        assert_eq!((backend.negotiated, backend.key.len()), (wanted, key), "3.{minor} {option:?}");
        assert!(backend.number > 0 && backend.number <= 0x7fff_ffff, "drivers take it for a positive int32");
    }
}

#[test]
fn what_is_no_startup_packet_of_protocol_3_is_refused_at_once() {
    let scene = Scene::new(postgres15());
    let version = |major: u16| packet(&[&major.to_be_bytes(), [0, 0].as_slice(), b"user\0alice\0\0"].concat());
    let cases: [(&str, Vec<u8>, &str); 10] = [
        ("protocol 2", version(2), "0A000"),
        ("protocol 4", version(4), "0A000"),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), "08P01"),
        ("a length below four", vec![0, 0, 0, 3], "08P01"),
        ("a huge length", vec![0xff; 4], "08P01"),
        ("one byte more than a startup packet may have", 10_005_u32.to_be_bytes().to_vec(), "08P01"),
        ("a packet without a code", packet(b""), "08P01"),
        ("parameters without an end", packet(b"\0\x03\0\0user\0alice\0"), "08P01"),
        ("a parameter without a value", packet(b"\0\x03\0\0user\0"), "08P01"),
        ("bytes behind the parameters", packet(b"\0\x03\0\0user\0alice\0\0more"), "08P01"),
    ];
    for (what, bytes, code) in &cases {
        for secure in [false, true] {
            let mut raw = if secure { scene.secure_raw() } else { scene.raw() };
            assert_eq!(raw.send(bytes).refusal().field('C'), *code, "{what}");
        }
    }
    // A large one that is allowed, sent byte by byte, is one.
    let mut raw = scene.raw();
    for byte in startup(0, &[ALICE[0], ALICE[1], ("a.b", &"x".repeat(9800))]) {
        raw.send(&[byte]);
    }
    raw.log_in(&scene.alice).unwrap();
}

#[test]
fn another_message_than_the_answer_to_the_login_ends_it() {
    let scene = Scene::new(postgres15());
    let sasl = |mechanism: &str, length: u32, message: &[u8]| [mechanism.as_bytes(), b"\0", &length.to_be_bytes(), message].concat();
    let cases: [(&str, u8, Vec<u8>); 6] = [
        ("a query", b'Q', b"SELECT 1\0".to_vec()),
        ("a mechanism that was not offered", b'p', sasl("SCRAM-SHA-1", 2, b"n,")),
        ("a mechanism without an end", b'p', b"SCRAM-SHA-256".to_vec()),
        ("another length than it says", b'p', sasl("SCRAM-SHA-256", 200, b"n,,n=,r=abc")),
        ("no SCRAM", b'p', sasl("SCRAM-SHA-256", 4, b"\xff\xfe,,")),
        ("-PLUS without TLS", b'p', sasl("SCRAM-SHA-256-PLUS", 5, b"p=x,,")),
    ];
    for (what, tag, body) in &cases {
        let mut raw = scene.raw();
        raw.startup(0, &ALICE).message().unwrap();
        assert_eq!(raw.say(*tag, body).refusal().field('C'), "08P01", "{what}");
    }
    // More than any answer has: refused by its header.
    let mut raw = scene.raw();
    raw.startup(0, &ALICE).message().unwrap();
    assert_eq!(raw.send(&[b"p".as_slice(), &8197_u32.to_be_bytes()].concat()).refusal().field('C'), "08P01");
}

#[test]
fn a_listener_for_clear_text_takes_users_of_either_stored_form_and_only_where_it_is_safe() {
    let (carol, address) = (crate::bed::canary(), "127.0.0.1:0");
    let listener = format!("protocol: postgres, address: \"{address}\", login: cleartext, proxy_protocol: [127.0.0.2]");
    let scene =
        Scene::with(postgres15(), "", |config| config.only_listener(&listener).user_with_argon2("carol", &carol).allow("carol", "orders"));
    for (user, password) in [("alice", &scene.alice), ("carol", &carol)] {
        let dsn = scene.keyward.dsn(user, password, "orders");
        // psql 18 insists on being asked for the password itself; this build of it has no TLS.
        assert_eq!(psql(&dsn, "SELECT current_user").ok(), scene.app.name);
        assert_eq!(psql18(&dsn.clone().with("sslmode", "disable").with("require_auth", "password"), "SELECT 1").ok(), "1");
        assert!(psql(&dsn.with_password("wrong"), "SELECT 1").refused().contains("login failed"));
    }
    assert!(scene.keyward.until_audit("opened", 4).iter().all(|record| record["proof"] == "cleartext"), "{:?}", scene.keyward.audit());
    // From another machine without TLS it does not even ask; with TLS it does.
    let mut remote = Raw::from("127.0.0.2", scene.port()).unwrap();
    remote.send(b"PROXY TCP4 203.0.113.9 192.0.2.1 4000 5432\r\n");
    assert_eq!(scene.log_in(&mut remote).unwrap_err().field('C'), "28000");
    let mut remote = Raw::from("127.0.0.2", scene.port()).unwrap();
    remote.send(b"PROXY TCP4 203.0.113.9 192.0.2.1 4000 5432\r\n");
    scene.log_in(&mut remote.ask_tls(&scene.ca())).unwrap();
}

#[test]
fn the_address_in_a_proxy_protocol_header_counts_and_only_from_named_sources() {
    let listener = "protocol: postgres, address: \"127.0.0.1:0\", proxy_protocol: [127.0.0.1]";
    let scene = Scene::with(postgres15(), "", |config| config.only_listener(listener));
    let v1 = b"PROXY TCP4 203.0.113.9 192.0.2.1 4000 5432\r\n".to_vec();
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    let v2 = [signature.as_slice(), &[0x21, 0x11, 0, 12, 203, 0, 113, 9, 192, 0, 2, 1, 0x0f, 0xa0, 0x15, 0x38]].concat();
    let v2_six = {
        let (client, server) = ("2001:db8::9", "2001:db8::1");
        let octets = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
        [signature.as_slice(), &[0x21, 0x21, 0, 36], &octets(client), &octets(server), &[0x0f, 0xa0, 0x15, 0x38]].concat()
    };
    for (count, (header, source)) in
        [(&v1, "203.0.113.9:4000"), (&v2, "203.0.113.9:4000"), (&v2_six, "[2001:db8::9]:4000")].iter().enumerate()
    {
        let mut raw = scene.raw();
        raw.send(header);
        scene.log_in(&mut raw.ask_tls(&scene.ca())).unwrap();
        assert_eq!(scene.keyward.until_audit("opened", count + 1)[count]["source"], *source);
        // Through a balancer on this machine, from another one: not local.
        let mut plain = scene.raw();
        plain.send(header);
        assert_eq!(scene.log_in(&mut plain).unwrap_err().field('C'), "28000");
    }
    // A named source that sends none, or half of one, is not served; one that is not named and sends one has broken the protocol.
    scene.keyward.expect_log("no PROXY protocol header");
    for bytes in [SSL_REQUEST.to_vec(), startup(0, &ALICE), b"PROXY TCP4 203.0.113.9\r\n".to_vec(), b"PROXY TCP4 ".repeat(20)] {
        assert_eq!(scene.raw().send(&bytes).rest(), b"", "{bytes:?}");
    }
    for header in [&v1, &v2] {
        let mut raw = Raw::from("127.0.0.2", scene.port()).unwrap();
        assert_eq!(raw.send(header).refusal().field('C'), "08P01");
    }
    let mut unnamed = Raw::from("127.0.0.2", scene.port()).unwrap();
    scene.log_in(&mut unnamed).unwrap();
}

#[test]
fn a_cancel_request_cancels_the_query_of_its_session_and_no_other() {
    let ca = postgres18().ca().display().to_string();
    let tls = format!("address: \"localhost:{}\", tls: {{ mode: verify-full, ca: {ca} }}", postgres18().port);
    let scenes = [Scene::new(postgres15()), Scene::of(postgres18().login(Method::ScramTls), "", &tls, |config| config)];
    for (scene, postgres) in scenes.iter().zip([postgres15(), postgres18()]) {
        let running = || {
            let sleeping =
                format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{}' AND query LIKE '%pg_sleep%'", scene.app.name);
            postgres.sql("postgres", &format!("{sleeping} AND state = 'active'"))
        };
        let (mut other, _) = scene.session();
        other.ask("SELECT pg_sleep(60)");
        for (round, (minor, secure)) in [(0, false), (2, false), (2, true)].into_iter().enumerate() {
            let mut raw = scene.raw();
            let backend = raw.startup(minor, &ALICE).log_in(&scene.alice).unwrap();
            raw.ask("SELECT pg_sleep(60)");
            eventually("both queries run", || (running() == "2").then_some(()));
            let cancel = |number: u32, key: &[u8]| {
                let mut raw = if secure { scene.secure_raw() } else { scene.raw() };
                assert_eq!(raw.send(&cancel_request(number, key)).rest(), b"", "hit and miss look the same");
            };
            // One miss a round: they cost the address.
            let (mut number, mut key) = (backend.number, backend.key.clone());
            match round {
                0 => key[3] ^= 1,
                1 => number ^= 1,
                _ => key.push(0),
            }
            cancel(number, &key);
            assert_eq!(running(), "2", "a wrong key did something");
            cancel(backend.number, &backend.key);
            let said = raw.until_ready();
            assert_eq!(said.iter().map(|told| told.field('C')).collect::<Vec<_>>(), ["57014"], "{said:?}");
            assert_eq!(running(), "1");
        }
        drop(other);
        eventually("a client that left leaves no query behind", || (running() == "0").then_some(()));
    }
}

#[test]
fn startup_parameters_reach_the_upstream_and_the_name_says_who_it_is() {
    let scene = Scene::with(postgres15(), "", |config| config);
    let show = "SELECT current_setting('application_name'), current_setting('client_encoding'), current_setting('work_mem')";
    let dsn = scene.dsn().with("options", "-c work_mem=123kB").with("client_encoding", "LATIN1");
    assert_eq!(psql(&dsn, show).ok(), "alice via psql|LATIN1|123kB");
    let long = "n".repeat(80);
    let name = psql(&dsn.clone().with("application_name", &long), show).ok().split('|').next().unwrap().to_owned();
    assert_eq!(name, format!("alice via {}", &long[..53]), "63 bytes");
    let kept = Scene::with(postgres15(), "application_name: keep", |config| config);
    assert_eq!(psql(&kept.dsn().with("application_name", "mine"), show).ok(), "mine|UTF8|4MB");
}

#[test]
fn a_user_may_ask_for_the_databases_that_the_connection_serves() {
    let (one, two) = (postgres15().database(), postgres15().database());
    for (keys, others) in [
        (String::new(), [false, false]),
        (format!("databases: [{one}]"), [true, false]),
        (format!("databases: [{one}, {two}]"), [true, true]),
        ("databases: any".to_owned(), [true, true]),
    ] {
        let scene = Scene::with(postgres15(), &keys, |config| config);
        let dsn = |database: &str| scene.dsn().with("user", "alice+orders").with("dbname", database);
        for (database, served) in [("postgres", true), ("alice", true), ("alice+orders", true), (&one, others[0]), (&two, others[1])] {
            let answer = psql(&dsn(database), "SELECT current_database()");
            if served {
                assert_eq!(answer.ok(), if database.starts_with("alice") { "postgres" } else { database }, "{keys}");
            } else {
                assert!(answer.refused().contains("no such connection, or it is not open to you"), "{keys}: {answer:?}");
            }
        }
    }
}

#[test]
fn replication_needs_the_connections_word_and_keeps_its_name() {
    let login = postgres18().login(Method::Scram);
    postgres18().sql("postgres", &format!("ALTER ROLE {} REPLICATION", login.name));
    let (name, address) = (login.name.clone(), postgres18().address());
    let allowed = Scene::of(login, &address, "replication: true", |config| config);
    let dsn = |scene: &Scene| scene.dsn().with("sslmode", "disable").with("replication", "database").with("application_name", "standby_1");
    let identified = psql18(&dsn(&allowed), "IDENTIFY_SYSTEM");
    assert!(identified.ok().ends_with("|postgres"), "{identified:?}");
    assert_eq!(psql18(&dsn(&allowed), "SHOW application_name").ok(), "standby_1");
    let denied = Scene::new(postgres18());
    assert!(psql18(&dsn(&denied), "IDENTIFY_SYSTEM").refused().contains("not open to you"));
    // A base backup: replication = true, megabytes of COPY both ways.
    let mut backup = Command::new(installed("clients-18").join("bin/pg_basebackup"));
    let target = allowed.keyward.given().join("backup");
    let connect = allowed.dsn().with("sslmode", "disable").with("dbname", "orders").text();
    backup.env("PGPASSWORD", &allowed.alice).args(["--wal-method=fetch", "--checkpoint=fast", "-w", "-d", &connect, "-D"]).arg(&target);
    let output = run(backup, "", Duration::from_secs(120));
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(target.join("backup_manifest").exists(), "of {name}");
}

#[test]
fn a_user_who_names_no_connection_hears_which_he_may_reach() {
    let scene = Scene::new(postgres15());
    let said = psql(&scene.dsn().with("dbname", "alice"), "SELECT 1").refused().to_owned();
    assert!(said.ends_with("DETAIL:  You may reach: orders"), "{said}");
    // Not without the password.
    let said = psql(&scene.dsn().with("dbname", "alice").with_password("wrong"), "SELECT 1").refused().to_owned();
    assert!(!said.contains("You may reach"), "{said}");
}
