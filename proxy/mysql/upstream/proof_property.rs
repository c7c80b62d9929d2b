//! What holds whatever a server says.

use proptest::prelude::*;

use super::*;
use crate::mysql::upstream::reply;

/// What a server may say, sense or not.
fn anything() -> impl Strategy<Value = Vec<u8>> {
    let plugins = [
        "mysql_native_password",
        "caching_sha2_password",
        "sha256_password",
        "client_ed25519",
        "parsec",
        "mysql_clear_password",
        "mysql_old_password",
    ];
    let data = prop_oneof![Just(nul(scramble())), Just(vec![7; 32]), proptest::collection::vec(any::<u8>(), 0..40)];
    let asked = (proptest::sample::select(plugins.to_vec()), data)
        .prop_map(|(plugin, data)| [b"\xfe".as_slice(), plugin.as_bytes(), b"\0", &data].concat());
    let sensible = prop_oneof![
        Just(vec![1, 3]),
        Just(vec![1, 4]),
        Just(vec![4]),
        Just([b"\x01P\0".as_slice(), &[9; 18]].concat()),
        Just([b"P\x01".as_slice(), &[9; 18]].concat()),
        Just([b"\x01".as_slice(), KEY.as_bytes()].concat()),
        Just(vec![0, 0, 0, 2, 0, 0, 0]),
    ];
    prop_oneof![3 => asked, 3 => sensible, 1 => proptest::collection::vec(any::<u8>(), 0..64)]
}

/// A key of 2048 bits that nobody has the other half of.
const KEY: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAwVtbW1tbW1tbW1tbW1tb
W1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tb
W1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tb
W1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tb
W1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tb
W1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tb
WwIDAQAB
-----END PUBLIC KEY-----
";

#[test]
fn the_key_of_the_property_is_one() {
    server_key::check(KEY.as_bytes()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever a server says that is verified by nothing, in whatever order: what it hears ends, and holds neither the password nor the
    /// wish for a key to hide it by.
    #[test]
    fn a_server_that_is_verified_by_nothing_hears_no_password(
        greeted in proptest::sample::select([NATIVE, CACHING, b"sha256_password", b"mysql_clear_password", b"parsec", b""].as_slice()),
        tls: bool,
        packets in proptest::collection::vec(anything(), 0..40),
    ) {
        let rules = Said::default();
        let rules = rules.rules();
        let mut proof = Proof::new(PASSWORD, if tls { BLIND_TLS } else { BLIND }, &rules);
        let mut heard = vec![proof.first(greeted, &scramble()).1.to_vec()];
        for packet in &packets {
            match reply(packet).and_then(|reply| proof.next(reply)) {
                Ok(Step::Say(said)) => heard.push(said.to_vec()),
                Ok(Step::Wait) => {}
                Ok(Step::In(_)) | Err(_) => break,
            }
        }
        prop_assert!(heard.len() <= 20, "{} packets", heard.len());
        for said in heard {
            prop_assert!(!said.windows(PASSWORD.len()).any(|window| window == PASSWORD));
            prop_assert!(said != [CACHING_KEY_PLEASE] && said != [SHA256_KEY_PLEASE]);
            prop_assert!(matches!(said.len(), 0 | 20 | 32 | 64 | 96), "{} bytes", said.len());
        }
    }
}
