//! Limits, each tested by a client that breaks it: handshakes, sessions, times, failed logins.

use std::collections::VecDeque;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::bed::{Psql, Raw, SSL_REQUEST, Scene, Told, canary, eventually, postgres15, psql, startup};

const ALICE: [(&str, &str); 2] = [("user", "alice"), ("database", "orders")];
const BUSY: &str = "too many connections; try again later";

fn scene(limits: &str) -> Scene {
    Scene::with(postgres15(), "", |config| config.line(&format!("limits: {{ {limits} }}")))
}

/// One session more than allowed is refused, before a store or a server hears of it; when one ends, there is a place again.
#[track_caller]
fn full(scene: &Scene, user: &str, password: &str) -> Told {
    let refused = Raw::to(scene.port()).startup(0, &[("user", user), ("database", "orders")]).log_in(password).unwrap_err();
    assert_eq!((refused.field('C'), refused.field('M')), ("53300", format!("keyward: {BUSY} (session ID)").as_str()));
    refused
}

#[test]
fn a_client_that_stops_in_the_middle_of_a_step_is_let_go() {
    let listener = "protocol: postgres, address: \"127.0.0.1:0\", proxy_protocol: [127.0.0.2]";
    let scene = Scene::with(postgres15(), "", |config| config.only_listener(listener).line("limits: { handshake_timeout: 6s }"));
    let half = startup(0, &ALICE);
    let asked = |bytes: &[u8]| {
        let mut raw = scene.raw();
        raw.startup(0, &ALICE).message().unwrap();
        raw.send(bytes);
        raw
    };
    let sent = |bytes: &[u8]| {
        let mut raw = scene.raw();
        raw.send(bytes);
        raw
    };
    let answered = |mut raw: Raw| {
        assert_eq!(raw.byte(), Some(b'S'));
        raw
    };
    let first = [b"p\0\0\0\x37SCRAM-SHA-256\0\0\0\0\x20n,,n=,r=".as_slice(), &[b'x'; 24]].concat();
    // What they hear: the words where they can read them, nothing in the middle of TLS or of a header.
    let stopped = [
        ("nothing", sent(b""), true),
        ("half a length", sent(&half[..2]), true),
        ("half a startup packet", sent(&half[..20]), true),
        ("no TLS behind its request", answered(sent(&SSL_REQUEST)), false),
        ("half a TLS hello", sent(&[0x16, 3, 1]), false),
        ("nothing inside TLS", scene.secure_raw(), true),
        ("no answer to the login", asked(b""), true),
        ("half an answer", asked(b"p\0\0\0\x37SCRAM"), true),
        ("no second answer", asked(&first), true),
        (
            "half a PROXY protocol header",
            {
                let mut raw = Raw::from("127.0.0.2", scene.port()).unwrap();
                raw.send(b"PROXY TCP4 ");
                raw
            },
            false,
        ),
    ];
    for (what, mut raw, told) in stopped {
        let said = String::from_utf8_lossy(&raw.rest()).into_owned();
        assert_eq!(said.contains("C57014\0Mkeyward: the login took too long (session "), told, "{what}: {said:?}");
        assert!(told || said.is_empty(), "{what}: {said:?}");
    }
}

#[test]
fn an_address_has_only_so_many_handshakes_and_others_do_not_suffer() {
    let scene = scene("handshakes_per_address: 3, handshake_timeout: 10m");
    let mut silent: Vec<_> = (0..10).map(|_| Raw::from("127.0.0.2", scene.port()).unwrap()).collect();
    let mut gone = || silent.iter_mut().map(|raw| usize::from(raw.heard())).sum::<usize>();
    eventually("three are left", || (gone() == 7).then_some(()));
    scene.session();
    assert_eq!(gone(), 7);
    // Its oldest makes room for one who knows his password, once it had its chance.
    eventually("alice is let in from there", || scene.log_in(&mut Raw::from("127.0.0.2", scene.port()).unwrap()).ok());
    eventually("its oldest has gone for her", || (gone() > 7).then_some(()));
}

#[test]
fn a_flood_of_half_open_handshakes_does_not_keep_a_good_client_out() {
    let scene = scene("handshakes: 100, handshakes_per_address: 20, handshake_timeout: 10m");
    let ((mut busy, _), port) = (scene.session(), scene.port());
    let (tell, full) = mpsc::channel();
    let flood = thread::spawn(move || {
        let mut held = VecDeque::new();
        for number in 0..30_000 {
            if number == 1000 {
                tell.send(()).unwrap();
            }
            if let Ok(mut raw) = Raw::from(&format!("127.0.1.{}", number % 25 + 1), port) {
                raw.send(&startup(0, &ALICE)[..number % 30]);
                held.push_back(raw);
            }
            held.drain(..held.len().saturating_sub(500));
        }
        held
    });
    full.recv().unwrap();
    let mut tries = 0;
    while !flood.is_finished() {
        assert_eq!(psql(&scene.dsn(), "SELECT 1").ok(), "1");
        tries += 1;
    }
    assert!(tries > 0);
    // What it holds stays half open; and who is in has nothing to do with it.
    let held = flood.join().unwrap();
    assert_eq!(psql(&scene.dsn(), "SELECT 1").ok(), "1");
    assert_eq!(busy.ask("SELECT 1").until_ready(), []);
    drop(held);
}

#[test]
fn sessions_are_limited_in_all_per_user_and_per_connection() {
    for (limits, keys, alone) in
        [("sessions: 2", "", false), ("sessions_per_user: 2", "", true), ("sessions: 100", "limits: { max_sessions: 2 }", false)]
    {
        let carol = canary();
        let scene = Scene::with(postgres15(), keys, |config| {
            config.line(&format!("limits: {{ {limits} }}")).user("carol", &carol).allow("carol", "orders")
        });
        let held = [scene.session(), scene.session()];
        full(&scene, "alice", &scene.alice);
        let mut other = scene.raw();
        let other = other.startup(0, &[("user", "carol"), ("database", "orders")]).log_in(&carol);
        assert_eq!(other.is_ok(), alone, "{limits} {keys}");
        assert_eq!(postgres15().sessions_of(&scene.app.name), if alone { 3 } else { 2 });
        let [one, _other] = held;
        drop(one);
        eventually("there is a place again", || psql(&scene.dsn(), "SELECT 1").stdout.starts_with('1').then_some(()));
    }
}

#[test]
fn a_session_that_is_idle_for_too_long_is_ended_with_words_and_one_that_works_is_not() {
    // Far longer than a loaded machine takes between two queries of the one that works.
    for (limits, keys) in [("idle_timeout: 6s", ""), ("idle_timeout: 1h", "limits: { idle_timeout: 6s }")] {
        let scene = Scene::with(postgres15(), keys, |config| config.line(&format!("limits: {{ {limits} }}")));
        let mut idle = scene.session().0;
        let sleeps = Psql::open(&scene.dsn());
        let (mut works, since) = (scene.session().0, Instant::now());
        let closed = eventually("the idle ones are ended", || {
            assert_eq!(works.ask("SELECT pg_sleep(0.5)").until_ready(), []);
            Some(scene.keyward.until_audit("closed", 0)).filter(|closed| closed.len() >= 2)
        });
        assert!(closed.len() == 2 && closed.iter().all(|record| record["outcome"] == "idle"), "{closed:?}");
        // Until it is older than that itself.
        while since.elapsed() < Duration::from_secs(7) {
            assert_eq!(works.ask("SELECT pg_sleep(0.5)").until_ready(), []);
        }
        let told = idle.refusal();
        let words = "the session was idle for too long";
        let wanted = format!("keyward: {words} (session ID)");
        assert_eq!((told.field('S'), told.field('C'), told.field('M')), ("FATAL", "57P05", wanted.as_str()));
        let said = sleeps.last_words();
        assert!(said.contains(&format!("FATAL:  keyward: {words} (session ")), "{said}");
    }
}

#[test]
fn a_session_at_its_longest_life_is_ended_between_two_messages_of_a_long_result() {
    let ca = crate::bed::postgres18().ca().display().to_string();
    let address = format!("address: \"localhost:{}\", tls: {{ mode: verify-full, ca: \"{ca}\" }}", crate::bed::postgres18().port);
    for (upstream, secure) in [(None, false), (None, true), (Some(address), true)] {
        let keys = format!("limits: {{ max_lifetime: 5s }}{}", upstream.iter().map(|keys| format!(", {keys}")).collect::<String>());
        let postgres = if upstream.is_some() { crate::bed::postgres18() } else { postgres15() };
        let scene = Scene::with(postgres, &keys, |config| config);
        let mut raw = if secure { scene.secure_raw() } else { scene.raw() };
        scene.log_in(&mut raw).unwrap();
        // Rows of all sizes, so that reads end anywhere in them.
        raw.ask("SELECT repeat('x', 1 + (i % 250000 * 7919) % 90000) FROM (SELECT generate_series(1, 1000000) AS i) AS n");
        let (mut rows, mut last) = (0, None);
        while let Some(message) = raw.message() {
            rows += usize::from(message.tag == b'D');
            last = Some(message);
        }
        let last = last.expect("something was said");
        assert!(rows > 10 && last.tag == b'E', "{rows} rows, then {:?}", char::from(last.tag));
        let told = Told::of(&last.body);
        assert_eq!((told.field('C'), told.field('M')), ("57P01", "keyward: the session reached its longest lifetime (session ID)"));
        assert_eq!(scene.keyward.until_audit("closed", 1)[0]["outcome"], "lifetime");
        eventually("the query is gone", || (postgres.sessions_of(&scene.app.name) == 0).then_some(()));
    }
}

#[test]
fn failed_logins_lock_the_user_out_of_that_address_and_nobody_else() {
    let carol = canary();
    let scene = Scene::with(postgres15(), "", |config| {
        config.line("limits: { failed_logins: 3, lock_time: 1h }").user("carol", &carol).allow("carol", "orders")
    });
    let try_in = |source: &str, user: &str, password: &str| {
        let mut raw = Raw::from(source, scene.port()).unwrap();
        raw.startup(0, &[("user", user), ("database", "orders")]).log_in(password).map(drop)
    };
    let words = |told: Result<(), Told>| told.map_or_else(|told| told.field('M').to_owned(), |()| "in".to_owned());
    let (failed, locked) = ("keyward: login failed (session ID)", "keyward: too many failed logins; try again later (session ID)");
    // One who is not there is locked like one who is.
    for user in ["alice", "mallory"] {
        for _ in 0..3 {
            assert_eq!(words(try_in("127.0.0.3", user, "wrong")), failed);
        }
        for password in ["wrong", scene.alice.as_str()] {
            assert_eq!(words(try_in("127.0.0.3", user, password)), locked, "{user}");
        }
    }
    // The address is slowed by now, and that is all for others who share it; alice gets in from elsewhere.
    assert_eq!(words(try_in("127.0.0.3", "carol", &carol)), "in");
    assert_eq!(words(try_in("127.0.0.1", "alice", &scene.alice)), "in");
    // Success elsewhere does not open the lock.
    assert_eq!(words(try_in("127.0.0.3", "alice", &scene.alice)), locked);
}

#[test]
fn a_lock_opens_by_itself() {
    let scene = scene("failed_logins: 2, lock_time: 1s");
    for _ in 0..2 {
        scene.raw().startup(0, &ALICE).log_in("wrong").unwrap_err();
    }
    eventually("alice is let in again", || scene.log_in(&mut scene.raw()).ok());
}
