use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;
use crate::mysql::capabilities::Capabilities;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// What MySQL 9.7.4 greets with.
fn mysql_greeting() -> Vec<u8> {
    hex("0a 392e372e342d3200 0a000000 3a2f6528565b0f4f 00 ffff ff 0200 ffdf 15 00000000000000000000 7d0b487d644a3b54197a0c1d00
         63616368696e675f736861325f70617373776f726400")
}

/// What MariaDB 10.11.19 greets with.
fn mariadb_greeting() -> Vec<u8> {
    hex("0a 352e352e352d31302e31312e31392d4d6172696144422d302b646562313275313100 04000000 745e5d352f2e3664 00 fef7 08 0200 ff81 15
         000000000000 1d000000 784d5648445f32782b69513a00 6d7973716c5f6e61746976655f70617373776f726400")
}

fn answer(capabilities: Capabilities) -> Answer {
    Answer {
        capabilities,
        max_packet: 1 << 24,
        charset: 45,
        user: b"alice+orders".to_vec(),
        auth: Zeroizing::new(vec![7; 32]),
        database: Some(b"orders".to_vec()),
        plugin: b"caching_sha2_password".to_vec(),
        attributes: vec![(b"_client_name".to_vec(), b"libmysql".to_vec()), (b"long".to_vec(), vec![b'x'; 300])],
    }
}

const FULL: Capabilities = Capabilities(0x19bf_a28d);

#[test]
fn the_greetings_of_real_servers_are_read_and_written_as_they_are() {
    let greeting = Greeting::parse(&mysql_greeting()).unwrap();
    assert_eq!((greeting.version.as_slice(), greeting.thread_id, greeting.charset, greeting.status), (b"9.7.4-2".as_slice(), 10, 255, 2));
    assert_eq!(greeting.scramble, hex("3a2f6528565b0f4f 7d0b487d644a3b54197a0c1d"));
    assert_eq!((greeting.capabilities, greeting.plugin.as_slice()), (Capabilities(0xdfff_ffff), b"caching_sha2_password".as_slice()));
    assert!(!greeting.is_mariadb());
    assert_eq!(greeting.encode(), mysql_greeting());
    let greeting = Greeting::parse(&mariadb_greeting()).unwrap();
    assert_eq!(greeting.capabilities, Capabilities(0x1d_81ff_f7fe));
    assert!(greeting.is_mariadb());
    assert_eq!(greeting.encode(), mariadb_greeting());
}

#[test]
fn the_extended_capabilities_are_mariadbs_alone() {
    let mut bytes = mysql_greeting();
    let at = 1 + 8 + 4 + 8 + 1 + 2 + 1 + 2 + 2 + 1 + 6;
    bytes[at..at + 4].fill(0xff);
    assert_eq!(Greeting::parse(&bytes).unwrap().capabilities.extended(), 0, "a MySQL has none");
    let old = Greeting { version: b"10.1.48-MariaDB".to_vec(), ..Greeting::parse(&bytes).unwrap() };
    assert!(old.is_mariadb());
    let said = |capabilities| Answer::parse(&answer(capabilities).encode()).unwrap().capabilities;
    let extended = Capabilities(FULL.0 | (0x3d << 32));
    assert_eq!(said(extended), FULL, "a client that speaks as MySQL's");
    let extended = extended.without(Capabilities::LONG_PASSWORD);
    assert_eq!(said(extended), extended);
}

#[test]
fn a_greeting_that_is_none_is_an_error() {
    let whole = mysql_greeting();
    for end in 0..whole.len() - 22 {
        assert!(Greeting::parse(&whole[..end]).is_err(), "cut after {end}");
    }
    assert!(Greeting::parse(&whole[..whole.len() - 1]).is_ok(), "a plugin without its NUL");
    assert!(Greeting::parse(b"\x09").is_err());
    assert!(Greeting::parse(&error_before_greeting(1040, "Too many connections")).is_err());
}

#[test]
fn an_answer_is_read_as_it_was_written() {
    for flags in [FULL, FULL.without(Capabilities::PLUGIN_AUTH_LENENC), FULL.without(Capabilities::CONNECT_ATTRS)] {
        let written = answer(flags);
        let Ok(ClientFirst::Answer(read)) = client_first(&written.encode()) else { panic!("no answer") };
        assert_eq!((read.capabilities, read.max_packet, read.charset), (flags, 1 << 24, 45));
        assert_eq!((read.user.as_slice(), read.auth.as_slice()), (b"alice+orders".as_slice(), [7; 32].as_slice()));
        assert_eq!((read.database.as_deref(), read.plugin.as_slice()), (Some(b"orders".as_slice()), b"caching_sha2_password".as_slice()));
        let wanted = if flags.has(Capabilities::CONNECT_ATTRS) { written.attributes } else { Attributes::new() };
        assert_eq!(read.attributes, wanted);
    }
    let flags = FULL.without(Capabilities::CONNECT_WITH_DB);
    assert_eq!(Answer::parse(&answer(flags).encode()).unwrap().database, None);
    let none = Answer { database: None, ..answer(FULL) };
    assert_eq!(Answer::parse(&none.encode()).unwrap().database.as_deref(), Some(b"".as_slice()));
}

#[test]
fn a_client_may_leave_out_the_end_of_its_answer() {
    let flags = FULL.without(Capabilities::CONNECT_ATTRS);
    let bytes = answer(flags).encode();
    let read = Answer::parse(&bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(read.plugin, b"caching_sha2_password");
    let without = bytes.len() - b"caching_sha2_password\0".len();
    let read = Answer::parse(&bytes[..without]).unwrap();
    assert_eq!(read.plugin, b"");
    assert!(Answer::parse(&bytes[..without - 1]).is_err(), "a database without its end");
}

#[test]
fn the_first_packet_of_a_client_says_what_it_wants() {
    let tls = ssl_request(FULL.or(Capabilities::SSL), 1 << 24, 255);
    assert_eq!(tls.len(), 32);
    let Ok(ClientFirst::Tls { capabilities, max_packet, charset }) = client_first(&tls) else { panic!("no request") };
    assert_eq!((capabilities, max_packet, charset), (FULL.or(Capabilities::SSL), 1 << 24, 255));
    assert!(client_first(&ssl_request(FULL, 0, 0)).is_err(), "neither a request nor an answer");
    assert!(client_first(&tls[..31]).is_err());
    // MySQL 3.23: two bytes of capabilities, three of a length, user, scramble.
    assert!(matches!(client_first(b"\x85\x24\0\0\0root\0pass"), Ok(ClientFirst::Unsupported)));
    assert!(client_first(b"\x85").is_err());
}

#[test]
fn lengths_that_say_too_much_are_errors() {
    let mut bytes = answer(FULL).encode();
    let at = 32 + b"alice+orders\0".len();
    for length in [[0xfb; 9], [0xfc; 9], [0xfd; 9], [0xfe; 9], [0xff; 9]] {
        bytes[at..at + 9].copy_from_slice(&length);
        assert!(Answer::parse(&bytes).is_err(), "{length:?}");
    }
    let many = Answer { attributes: vec![(vec![], vec![]); ATTRIBUTES + 1], ..answer(FULL) };
    assert!(Answer::parse(&many.encode()).is_err());
    let most = Answer { attributes: vec![(vec![], vec![]); ATTRIBUTES], ..answer(FULL) };
    assert!(Answer::parse(&most.encode()).is_ok());
}

#[test]
fn the_replies_of_a_server_are_told_apart() {
    assert_eq!(reply(&ok()), Ok(Reply::Ok(&ok())));
    let refused = ServerError { code: 1045, state: *b"28000", message: b"no".to_vec() };
    assert_eq!(reply(&error(1045, "28000", "no")), Ok(Reply::Error(refused)));
    let blocked = ServerError { code: 1129, state: *b"HY000", message: b"Host is blocked".to_vec() };
    assert_eq!(ServerError::parse(&error_before_greeting(1129, "Host is blocked")), Ok(blocked));
    let switch = auth_switch(b"client_ed25519", &[7; 32]);
    let data = [[7_u8; 32].as_slice(), &[0]].concat();
    assert_eq!(reply(&switch), Ok(Reply::Switch { plugin: b"client_ed25519", data: &data }));
    assert_eq!(reply(&auth_more(&[4])), Ok(Reply::More(&[4])));
    for bytes in [b"".as_slice(), b"\xfe", b"\x02webauthn\0", b"\xff\0", b"\x0a"] {
        assert!(reply(bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn an_error_is_never_longer_than_clients_take() {
    let long = error(1, "HY000", &"ü".repeat(1000));
    assert_eq!(long.len(), 9 + 512);
    assert!(String::from_utf8(long[9..].to_vec()).is_ok(), "not cut inside a letter");
    assert_eq!(&error(1, "odd", "x")[3..9], b"#HY000");
}

#[test]
fn a_change_of_the_user_is_taken_apart() {
    let payload = [b"\x11bob\0\x02xyshop\0".as_slice(), &[45, 0], b"mysql_native_password\0", b"\x04\x01a\x01b"].concat();
    let change = ChangeUser::parse(&payload, FULL).unwrap();
    assert_eq!((change.user.as_slice(), change.auth.as_slice()), (b"bob".as_slice(), b"xy".as_slice()));
    assert_eq!((change.database.as_deref(), change.charset), (Some(b"shop".as_slice()), Some(45)));
    assert_eq!((change.plugin.as_slice(), change.attributes), (b"mysql_native_password".as_slice(), vec![(b"a".to_vec(), b"b".to_vec())]));
    let short = ChangeUser::parse(b"\x11bob\0\0\0", FULL).unwrap();
    assert_eq!((short.database, short.charset, short.plugin.len()), (None, None, 0));
    for payload in [b"".as_slice(), b"\x11", b"\x11bob", b"\x11bob\0", b"\x11bob\0\x05x", b"\x11bob\0\0a\0\x2d", b"\x0e"] {
        assert!(ChangeUser::parse(payload, FULL).is_err(), "{payload:?}");
    }
}

#[test]
fn scrambles_are_printable_and_never_the_same() {
    let scrambles: Vec<_> = (0..200).map(|_| scramble().unwrap()).collect();
    for scramble in &scrambles {
        assert!(scramble.iter().all(|byte| (0x21..=0x7e).contains(byte) && *byte != b'$'), "{scramble:?}");
    }
    let mut letters: Vec<u8> = scrambles.iter().flatten().copied().collect();
    letters.sort_unstable();
    letters.dedup();
    assert_eq!(letters.len(), 93, "all of them come up");
    assert_eq!(scrambles.iter().collect::<std::collections::HashSet<_>>().len(), 200);
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(1_u8.., 0..40)
}

proptest! {
    #[test]
    fn what_is_read_of_a_client_is_written_as_the_same(bytes in prop::collection::vec(any::<u8>(), 0..200), flags: u32) {
        let bytes = [&flags.to_le_bytes(), bytes.as_slice()].concat();
        if let Ok(read) = Answer::parse(&bytes) {
            prop_assert!(Answer::parse(&read.encode()) == Ok(read));
        }
        let _ = client_first(&bytes);
        let _ = ChangeUser::parse(&bytes, Capabilities(flags.into()));
    }

    #[test]
    fn any_answer_is_read_as_it_was_written(
        flags: u32, user in name(), auth in prop::collection::vec(1_u8.., 0..255), database in name(), plugin in name(),
        attributes in prop::collection::vec((name(), name()), 0..5),
    ) {
        let capabilities = Capabilities(u64::from(flags)).or(Capabilities::PROTOCOL_41);
        let has = |flag| capabilities.has(flag);
        let written = Answer {
            capabilities, max_packet: flags, charset: 1, user, auth: Zeroizing::new(auth),
            database: Some(database).filter(|_| has(Capabilities::CONNECT_WITH_DB)),
            plugin: if has(Capabilities::PLUGIN_AUTH) { plugin } else { Vec::new() },
            attributes: if has(Capabilities::CONNECT_ATTRS) { attributes } else { Vec::new() },
        };
        prop_assert!(Answer::parse(&written.encode()) == Ok(written));
    }

    #[test]
    fn any_greeting_is_read_as_it_was_written(
        version in name(), thread_id: u32, scramble in prop::collection::vec(1_u8.., 20..200), flags: u64, charset: u8, status: u16, plugin in name(),
    ) {
        let capabilities = Capabilities(flags);
        let capabilities = if capabilities.has(Capabilities::LONG_PASSWORD) { Capabilities(flags & 0xffff_ffff) } else { capabilities };
        let capabilities = capabilities.or(Capabilities::SECURE_CONNECTION);
        let named = capabilities.has(Capabilities::PLUGIN_AUTH);
        // Without a plugin there is no room for more than the scramble of 4.1.
        let scramble = if named { scramble } else { scramble[..20].to_vec() };
        let plugin = if named { plugin } else { Vec::new() };
        let written = Greeting { version, thread_id, scramble, capabilities, charset, status, plugin };
        prop_assert_eq!(Greeting::parse(&written.encode()), Ok(written));
    }

    #[test]
    fn no_bytes_of_a_server_break_anything(bytes in prop::collection::vec(any::<u8>(), 0..200), first in prop::sample::select(vec![0_u8, 1, 2, 10, 0xfe, 0xff])) {
        let bytes = [&[first], bytes.as_slice()].concat();
        let _ = reply(&bytes);
        if let Ok(greeting) = Greeting::parse(&bytes) {
            prop_assert_eq!(Greeting::parse(&greeting.encode()), Ok(greeting));
        }
    }
}
