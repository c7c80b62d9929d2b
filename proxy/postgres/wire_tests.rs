use proptest::prelude::*;

use super::*;

fn packet(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
    }
    body.push(0);
    body
}

#[test]
fn a_startup_message_is_taken_apart() {
    let body = packet(
        (3 << 16) | 2,
        &[("user", "alice+orders"), ("database", "x"), ("application_name", "psql"), ("_pq_.command_tag", "1"), ("options", "-c x=1")],
    );
    let First::Startup(startup) = first(&body).unwrap() else { panic!("not a startup") };
    assert_eq!((startup.minor, startup.user.as_str(), startup.database.as_deref()), (2, "alice+orders", Some("x")));
    assert_eq!(startup.application_name.as_deref(), Some(b"psql".as_slice()));
    assert_eq!(startup.extensions, [b"_pq_.command_tag".to_vec()]);
    assert_eq!(startup.others, [(b"options".to_vec(), b"-c x=1".to_vec())]);
}

#[test]
fn replication_that_is_off_is_none() {
    for (value, wanted) in [
        ("false", None),
        ("off", None),
        ("0", None),
        ("no", None),
        ("true", Some("true")),
        ("database", Some("database")),
        ("1", Some("1")),
    ] {
        let First::Startup(startup) = first(&packet(3 << 16, &[("user", "u"), ("replication", value)])).unwrap() else {
            panic!("no startup")
        };
        assert_eq!(startup.replication.as_deref(), wanted.map(str::as_bytes), "{value}");
    }
}

#[test]
fn broken_first_packets_are_errors() {
    let cases: [&[u8]; 7] = [
        b"",
        b"\0\0\0",
        b"\0\x03\0\0user\0alice\0",
        b"\0\x03\0\0user\0alice",
        b"\0\x03\0\0user\0alice\0\0x",
        b"\x04\xd2\x16\x2e\0\0\0\x01abc",
        b"\0\x03\0\0user\0\xff\0\0",
    ];
    for case in cases {
        assert!(first(case).is_err(), "{case:?}");
    }
    assert_eq!(first(b"\0\x02\0\0").unwrap(), First::Unsupported);
}

#[test]
fn a_cancel_key_may_be_longer_than_four_bytes() {
    let mut body = 80_877_102_u32.to_be_bytes().to_vec();
    body.extend_from_slice(&7_u32.to_be_bytes());
    body.extend_from_slice(&[9; 32]);
    assert_eq!(first(&body).unwrap(), First::Cancel { number: 7, key: vec![9; 32] });
    assert_eq!(cancel_request(7, &[9; 32]).bytes().get(4..), Some(body.as_slice()));
}

#[test]
fn lengths_are_bounded() {
    assert!(body_length([0, 0, 0, 3], 100).is_err());
    assert_eq!(body_length([0, 0, 0, 4], 100), Ok(0));
    assert_eq!(body_length([0, 0, 0, 104], 100), Ok(100));
    assert!(body_length([0, 0, 0, 105], 100).is_err());
    assert!(body_length([0xff; 4], STARTUP_MAX).is_err());
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = first(&bytes);
        let _ = fields(&bytes);
        let _ = authentication(&bytes);
        let _ = sasl_initial(&bytes);
        let _ = password(&bytes);
    }

    #[test]
    fn what_we_send_upstream_parses_back(user in "[a-z]{1,20}", database in "[a-z]{1,20}", value in "[^\0]{0,20}") {
        let packet = upstream_startup(&user, &database, &[(b"options", value.as_bytes())]);
        let First::Startup(startup) = first(packet.bytes().get(4..).unwrap()).unwrap() else { panic!("not a startup") };
        prop_assert_eq!(startup.user, user);
        prop_assert_eq!(startup.database, Some(database));
        prop_assert_eq!(startup.others, [(b"options".to_vec(), value.into_bytes())]);
    }
}
