//! What clients of MySQL may do wrong: at each step of the login and behind it, it ends that link and no other. Raw bytes, since no real
//! client would.

use crate::bed::{
    FLAGS, Hello, MysqlRaw, MysqlScene, MysqlTold, eventually, flag, mariadb, mysql_packet, mysql_servers, seal, ssl_request,
};

const VIOLATION: u16 = 1043;
const NEEDS_TLS: u16 = 3159;
const COM_QUERY: u8 = 3;

fn hello() -> Hello {
    Hello::new("alice", Some("orders"))
}

#[track_caller]
fn violation(told: &MysqlTold) {
    let wanted = (VIOLATION, Some("08S01"), "keyward: protocol violation (session ID)");
    assert_eq!((told.code, told.state.as_deref(), told.message.as_str()), wanted);
}

/// Somebody who came in before, and is still served.
struct Bystander(MysqlRaw);

impl Bystander {
    fn of(scene: &MysqlScene) -> Self {
        Self(scene.session())
    }

    #[track_caller]
    fn is_served(&mut self) {
        assert_eq!(self.0.query("SELECT 42").unwrap(), ["42"]);
    }
}

/// Numbers that look random and are the same in each run.
fn noise(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::from_fn(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some(state.to_le_bytes()[3])
    })
}

#[test]
fn what_is_no_answer_to_the_greeting_is_refused_at_once() {
    let scene = MysqlScene::new(mariadb());
    let mut bystander = Bystander::of(&scene);
    let whole = hello().encode();
    let cases: [(&str, Vec<u8>); 11] = [
        ("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("a startup packet of PostgreSQL", b"\0\0\0\x29\0\x03\0\0user\0alice\0database\0orders\0\0".to_vec()),
        ("an empty packet", mysql_packet(0, b"")),
        ("one byte", mysql_packet(0, b"\x8d")),
        ("the header of 16 MiB", vec![0xff, 0xff, 0xff, 0]),
        ("the header of one byte more than an answer may have", vec![0x01, 0x10, 0x01, 0]),
        ("a user's name without an end", mysql_packet(0, &whole[..36])),
        ("a user's name that is too long", mysql_packet(0, &Hello { user: vec![b'a'; 2000], ..hello() }.encode())),
        ("a user's name that is not UTF-8", mysql_packet(0, &Hello { user: vec![0xff, 0xfe], ..hello() }.encode())),
        ("a database that is not UTF-8", mysql_packet(0, &Hello { database: Some(vec![0xc3]), ..hello() }.encode())),
        (
            "attributes of another length than they say",
            mysql_packet(0, &Hello { flags: hello().flags | flag::CONNECT_ATTRS, rest: vec![9, 1, b'a'], ..hello() }.encode()),
        ),
    ];
    for (what, mut bytes) in cases {
        for secure in [false, true] {
            let mut raw = if secure { scene.secure_raw() } else { scene.raw() };
            if !secure {
                raw.greeting();
            }
            let numbered = bytes[3] == 0;
            bytes[3] = if numbered { raw.next } else { bytes[3] };
            let told = raw.send(&bytes).refusal();
            assert_eq!(told.code, VIOLATION, "{what}: {told:?}");
            bytes[3] = if numbered { 0 } else { bytes[3] };
        }
        bystander.is_served();
    }
}

#[test]
fn a_number_out_of_order_ends_the_login_at_every_step() {
    let scene = MysqlScene::new(mariadb());
    let mut bystander = Bystander::of(&scene);
    for wrong in [1, 2, 0xff] {
        let at = |raw: &mut MysqlRaw, payload: &[u8]| {
            let packet = mysql_packet(raw.next.wrapping_add(wrong), payload);
            violation(&raw.send(&packet).refusal());
        };
        let mut raw = scene.raw();
        raw.greeting();
        at(&mut raw, &hello().encode());
        at(&mut scene.secure_raw(), &hello().encode());
        let mut raw = scene.secure_raw();
        raw.say(&hello().encode()).ordered().unwrap();
        at(&mut raw, format!("{}\0", scene.alice).as_bytes());
        let mut raw = scene.raw();
        raw.answer(&hello()).ordered().unwrap();
        at(&mut raw, &[2]);
        let mut raw = scene.raw();
        raw.answer(&hello()).ordered().unwrap();
        raw.say(&[2]).ordered().unwrap();
        at(&mut raw, &[7; 256]);
        let mut raw = scene.raw();
        raw.answer(&Hello { plugin: b"mysql_native_password".to_vec(), ..hello() }).ordered().unwrap();
        at(&mut raw, &[7; 32]);
        bystander.is_served();
    }
}

#[test]
fn an_answer_that_is_cut_anywhere_or_changed_anywhere_is_no_way_in() {
    let scene = MysqlScene::new(mariadb());
    let mut bystander = Bystander::of(&scene);
    let attributes = [&[14], b"\x04_pid\x011".as_slice(), b"\x05_name\x01x"].concat();
    let whole = Hello { flags: hello().flags | flag::CONNECT_ATTRS, rest: attributes, ..hello() }.encode();
    let mut outcomes = [0; 3];
    let mut judge = |payload: &[u8]| {
        let mut raw = scene.raw();
        raw.greeting();
        let (_, said) = raw.say(payload).packet().expect("a word");
        match said[0] {
            // It is asked for its proof: what is missing may be left out.
            1 | 0xfe => outcomes[0] += 1,
            0xff => {
                let told = MysqlTold::of(2, &said);
                outcomes[if told.code == VIOLATION { 1 } else { 2 }] += 1;
                assert!([VIOLATION, 1251, 1045].contains(&told.code), "{told:?}");
                assert_eq!(raw.packet(), None);
            }
            _ => panic!("{said:?}"),
        }
    };
    (0..whole.len()).for_each(|end| judge(&whole[..end]));
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0xff;
        judge(&changed);
    }
    for seed in 0..150 {
        let length = usize::from(noise(seed).next().unwrap());
        let mut payload = noise(seed + 1000).take(length).collect::<Vec<_>>();
        if let (0, Some(flags)) = (seed % 2, payload.get_mut(..4)) {
            flags.copy_from_slice(&FLAGS.to_le_bytes());
        }
        judge(&payload);
    }
    assert!(outcomes.iter().all(|count| *count > 0), "each was seen: {outcomes:?}");
    bystander.is_served();
}

#[test]
fn what_is_no_answer_to_the_question_for_the_password_is_none() {
    let scene = MysqlScene::new(mariadb());
    let mut bystander = Bystander::of(&scene);
    let asked = |secure: bool| {
        let mut raw = if secure { scene.secure_raw() } else { scene.raw() };
        raw.answer(&hello());
        assert_eq!(raw.ordered().unwrap(), [1, 4]);
        raw
    };
    for secure in [true, false] {
        // A query in the place of the proof, numbered as a command and as an answer.
        violation(&asked(secure).send(&mysql_packet(0, b"\x03SELECT 1")).refusal());
        violation(&asked(secure).send(&[0xff, 0xff, 0xff, 4]).refusal());
        let mut raw = asked(secure);
        let told = raw.say(b"\x03SELECT 1").refusal();
        assert_eq!(told.code, if secure { VIOLATION } else { NEEDS_TLS }, "unsealed where it must be sealed");
        // The password itself, unsealed, on a transport where anybody on this machine could read it: not accepted.
        let mut raw = asked(secure);
        raw.say(format!("{}\0", scene.alice).as_bytes());
        let next = raw.ordered().unwrap();
        assert_eq!(next[0], if secure { 0 } else { 0xff });
        bystander.is_served();
    }
    for payload in [b"".as_slice(), b"x", &[2, 2]] {
        violation(&asked(true).say(payload).refusal());
    }
    // The key may be asked for once.
    let mut raw = asked(false);
    raw.say(&[2]).ordered().unwrap();
    assert_eq!(raw.say(&[2]).refusal().code, 1045);
    bystander.is_served();
}

#[test]
fn a_sealed_password_is_of_one_login_only() {
    let scene = MysqlScene::new(mariadb());
    let mut first = scene.raw();
    let scramble = first.greeting().scramble;
    first.say(&hello().encode()).ordered().unwrap();
    let key = first.say(&[2]).ordered().unwrap();
    let sealed = seal(&key[1..], &scramble, &scene.alice);
    assert_eq!(first.say(&sealed).ordered().unwrap()[0], 0);
    let mut replayed = scene.raw();
    assert_ne!(replayed.greeting().scramble, scramble);
    replayed.say(&hello().encode()).ordered().unwrap();
    replayed.say(&[2]).ordered().unwrap();
    assert_eq!(replayed.say(&sealed).refusal().code, 1045, "a listener on the loopback has no use for it");
}

#[test]
fn bytes_that_were_sent_before_tls_are_never_taken_for_bytes_inside_it() {
    let scene = MysqlScene::new(mariadb());
    // Somebody in between puts an answer of his own behind the request for TLS.
    for behind in [mysql_packet(2, &Hello::new("mallory", Some("orders")).encode()), b"\0".to_vec(), mysql_packet(0, b"\x03SELECT 1")] {
        let mut raw = scene.raw();
        raw.greeting();
        raw.send(&[mysql_packet(1, &ssl_request(FLAGS)), behind].concat());
        assert!(raw.tls(&scene.ca()).is_err(), "the bytes were dropped, or taken for the session's");
    }
    scene.keyward.until_malformed(3);
    assert!(scene.keyward.audit().is_empty(), "nobody was named");
}

#[test]
fn tls_is_asked_for_once_and_where_there_is_some() {
    let scene = MysqlScene::new(mariadb());
    let mut bystander = Bystander::of(&scene);
    violation(&scene.secure_raw().say(&ssl_request(FLAGS)).refusal());
    let mut socket = MysqlRaw::unix(&scene.socket());
    assert!(!socket.greeting().has(flag::SSL), "there is no TLS on a unix socket");
    violation(&socket.say(&ssl_request(FLAGS)).refusal());
    // What comes instead of a hello ends the link without a word that somebody could take for TLS.
    for garbage in [mysql_packet(2, &hello().encode()), noise(7).take(3000).collect(), vec![0x16, 3, 1, 0xff, 0xff]] {
        let mut raw = scene.raw();
        raw.greeting();
        raw.say(&ssl_request(FLAGS)).send(&garbage);
        raw.writer().shutdown(std::net::Shutdown::Write).unwrap();
        let said = raw.rest();
        assert!(!said.windows(7).any(|piece| piece == b"keyward"), "{:?}", String::from_utf8_lossy(&said));
    }
    bystander.is_served();
}

#[test]
fn a_client_that_does_not_wait_for_the_ok_is_served_all_the_same() {
    let scene = MysqlScene::new(mariadb());
    let password = format!("{}\0", scene.alice);
    let mut raw = scene.secure_raw();
    raw.send(
        &[
            mysql_packet(2, &hello().encode()),
            mysql_packet(4, password.as_bytes()),
            mysql_packet(0, b"\x03SELECT 43"),
            mysql_packet(0, b"\x01"),
        ]
        .concat(),
    );
    raw.next = 3;
    assert_eq!(raw.ordered().unwrap(), [1, 4]);
    raw.next = 5;
    assert_eq!(raw.ordered().unwrap()[0], 0);
    raw.next = 1;
    assert_eq!(raw.result().unwrap(), ["43"]);
    assert_eq!(raw.packet(), None, "QUIT");
}

#[test]
fn a_client_that_answers_byte_by_byte_is_served() {
    let scene = MysqlScene::new(mariadb());
    let mut raw = scene.raw();
    raw.greeting();
    mysql_packet(1, &hello().encode()).iter().for_each(|byte| _ = raw.send(&[*byte]));
    raw.next = 2;
    raw.prove(&scene.alice).unwrap();
    mysql_packet(0, b"\x03SELECT 44").iter().for_each(|byte| _ = raw.send(&[*byte]));
    raw.next = 1;
    assert_eq!(raw.result().unwrap(), ["44"]);
}

#[test]
fn what_breaks_the_protocol_behind_the_login_ends_that_session_only() {
    for server in mysql_servers() {
        let scene = MysqlScene::new(server);
        let mut bystander = Bystander::of(&scene);
        let before = server.sessions_of(&scene.app.name);
        let change_user = |length: usize| mysql_packet(0, &[&[0x11], vec![b'a'; length].as_slice()].concat());
        let cases: [(&str, Vec<u8>); 8] = [
            ("a command with another number", mysql_packet(1, b"\x03SELECT 1")),
            ("the last number", mysql_packet(0xff, b"\x03SELECT 1")),
            ("noise", noise(1).take(2000).collect()),
            ("more noise", noise(2).take(100_000).collect()),
            ("the header of 16 MiB and silence", vec![0xff, 0xff, 0xff, 0]),
            ("half a command", mysql_packet(0, b"\x03SELECT sleep(100)")[..10].to_vec()),
            ("half a held command", change_user(1000)[..500].to_vec()),
            ("a change of the user that is too long", change_user(100_000)),
        ];
        for (what, bytes) in &cases {
            let mut raw = scene.session();
            raw.send(bytes);
            let _ = raw.writer().shutdown(std::net::Shutdown::Write);
            let said = raw.rest();
            assert!(!said.starts_with(&[7, 0, 0, 1, 0]), "{what}: an OK: {said:?}");
            bystander.is_served();
            eventually(what, || (server.sessions_of(&scene.app.name) == before).then_some(()));
        }
    }
}

#[test]
fn a_command_that_is_none_is_the_servers_to_refuse_and_the_session_goes_on() {
    for server in mysql_servers() {
        let scene = MysqlScene::new(server);
        let mut raw = scene.session();
        for command in [0x40_u8, 0x7f, 0xf9] {
            raw.command(command, b"x");
            let (sequence, said) = raw.packet().expect("an answer");
            let told = MysqlTold::of(sequence, &said);
            assert_eq!((told.sequence, told.code), (1, 1047), "{command:#x}: {told:?}");
            assert_eq!(raw.query("SELECT 1").unwrap(), ["1"]);
        }
        // What Keyward itself takes apart. Nobody knows what of it comes next, and whether it is a proof: that session ends.
        for broken in [b"".as_slice(), b"alice", b"alice\0", b"alice\0\x20abc", b"\xff\xfe\0\0\0"] {
            let mut other = scene.session();
            other.command(0x11, broken);
            let (sequence, said) = other.packet().expect("an answer");
            violation(&MysqlTold::of(sequence, &said));
            assert_eq!((sequence, other.packet()), (1, None));
            assert_eq!(raw.query("SELECT 1").unwrap(), ["1"]);
        }
        raw.command(COM_QUERY, b"");
        let (_, said) = raw.packet().expect("an answer");
        assert_eq!(said[0], 0xff, "an empty query");
        assert_eq!(raw.query("SELECT 1").unwrap(), ["1"]);
    }
}

#[test]
fn what_breaks_the_protocol_in_the_lobby_ends_that_link_only() {
    let scene = MysqlScene::new(mariadb());
    let mut bystander = Bystander::of(&scene);
    let lobby = || {
        let mut raw = scene.raw();
        raw.log_in("alice", None, &scene.alice).unwrap();
        raw
    };
    for bytes in [mysql_packet(1, b"\x0e"), mysql_packet(0, &[3; 20_000]), vec![0xff, 0xff, 0xff, 0], noise(3).take(500).collect()] {
        violation(&lobby().send(&bytes).refusal());
        bystander.is_served();
    }
    // What is no command of its own hears where to go; an empty packet is the end, as for a server.
    for command in [b"\x11alice\0\0\0".as_slice(), b"\x0c\x01", b"\x03", b"\x16SELECT 1", b"\xff"] {
        let mut raw = lobby();
        raw.next = 0;
        raw.say(command);
        assert_eq!(MysqlTold::of(1, &raw.ordered().unwrap()).code, 1046, "{command:?}");
    }
    let mut raw = lobby();
    raw.next = 0;
    assert_eq!(raw.say(b"").packet(), None);
}

#[test]
fn a_command_that_is_numbered_as_a_file_is_served_by_nobody() {
    for server in mysql_servers() {
        // Where files may be sent, Keyward cannot tell such a packet from a piece of one. The server can.
        for keys in ["", "local_infile: true"] {
            let scene = MysqlScene::with(server, keys, |config| config.line("limits: { drain_timeout: 1s }"));
            let mut bystander = Bystander::of(&scene);
            let victim = format!("KILL {}", bystander.0.query("SELECT connection_id()").unwrap().concat());
            let change = [b"\x11".as_slice(), scene.app.name.as_bytes(), b"\0\0\0"].concat();
            for command in [b"\x03SELECT 'smuggled'".to_vec(), [b"\x03", victim.as_bytes()].concat(), change] {
                for sequence in [1, 2, 0xff] {
                    let mut raw = scene.raw();
                    let asks = FLAGS | flag::CONNECT_WITH_DB | flag::LOCAL_FILES;
                    raw.answer(&Hello { flags: asks, ..hello() }).prove(&scene.alice).unwrap();
                    // And what would be held back stands behind it.
                    raw.send(&[mysql_packet(sequence, &command), mysql_packet(0, &command), mysql_packet(sequence, &command)].concat());
                    let said = raw.rest();
                    let text = String::from_utf8_lossy(&said);
                    assert!(!text.contains("smuggled") && said.get(4) != Some(&0), "{keys} {sequence}: {text:?}");
                    bystander.is_served();
                }
            }
        }
    }
}

#[test]
fn a_probe_of_a_balancer_is_no_login() {
    let scene = MysqlScene::new(mariadb());
    for _ in 0..3 {
        drop(scene.raw());
        scene.raw().greeting();
    }
    let counted = "keyward_probes_total{protocol=\"mysql\"} ";
    eventually("they are counted", || {
        let metrics = scene.keyward.http("/metrics").body;
        metrics.lines().find_map(|line| line.strip_prefix(counted)?.parse::<u32>().ok()).filter(|count| *count == 6)
    });
    assert!(scene.keyward.audit().is_empty());
}
