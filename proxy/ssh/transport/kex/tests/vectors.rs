//! Project Wycheproof: halves of an exchange that other implementations took wrongly, as a client and a server of ours get them. A server makes a
//! private value of its own and has no way to be given one, so that the secret itself is compared at the client alone.

use wycheproof::mlkem::{TestFlag as KemFlag, TestName as KemSet};
use wycheproof::xdh::TestFlag as XdhFlag;
use wycheproof::{TestResult, ecdh, mlkem, xdh};

use super::*;

/// What a client with this private value makes of the server's half.
fn agreed(method: Method, private: &[u8], public: &[u8]) -> Result<Vec<u8>, Fatal> {
    let client = ClientHalf { curve: ephemeral(method, private), lattice: None, public: Vec::new() };
    client.finish(public).map(|secret| secret.encoded.to_vec())
}

fn encoded(method: Method, secret: &[u8]) -> Vec<u8> {
    SharedSecret::number(method, secret).encoded.to_vec()
}

/// Rule 7. What is acceptable are points of the twist, points in two spellings, and points that lead to nothing: RFC 8731 wants the last refused.
#[test]
fn x25519_agrees_as_wycheproof_says() {
    let (mut equal, mut nothing) = (0, 0);
    let groups = xdh::TestSet::load(xdh::TestName::X25519).unwrap().test_groups;
    for test in groups.iter().flat_map(|group| &group.tests) {
        for method in [Method::Curve25519, Method::Curve25519Libssh] {
            let client = agreed(method, &test.private_key, &test.public_key);
            let server = answer(method, &test.public_key);
            if test.flags.contains(&XdhFlag::ZeroSharedSecret) {
                assert_eq!((client, server.err()), (Err(MALFORMED), Some(MALFORMED)), "{test:?}");
                nothing += 1;
            } else {
                assert_ne!(test.result, TestResult::Invalid);
                assert_eq!(client, Ok(encoded(method, &test.shared_secret)), "{test:?}");
                assert!(server.is_ok(), "{test:?}");
                equal += 1;
            }
        }
    }
    assert_eq!((equal, nothing), (2 * 487, 2 * 31));
}

/// Rule 7. A compressed point is acceptable elsewhere and has no place in SSH. A secret of zeros, which a curve has for one point, is refused as
/// with X25519: nobody meets it by chance.
#[test]
fn curves_agree_as_wycheproof_says() {
    for (set, method, width, valid, refused) in [
        (ecdh::TestName::EcdhSecp256r1Ecpoint, Method::EcdhNistp256, 32, 329, 25),
        (ecdh::TestName::EcdhSecp384r1Ecpoint, Method::EcdhNistp384, 48, 770, 19),
    ] {
        let mut tried = [0; 3];
        let groups = ecdh::TestSet::load(set).unwrap().test_groups;
        for test in groups.iter().flat_map(|group| &group.tests) {
            // They are numbers there: some with a zero too many, some with few digits.
            let digits = &test.private_key[test.private_key.iter().take_while(|byte| **byte == 0).count()..];
            let private = [vec![0; width - digits.len()], digits.to_vec()].concat();
            let client = agreed(method, &private, &test.public_key);
            let server = answer(method, &test.public_key);
            if test.result != TestResult::Valid {
                assert_eq!((client, server.err()), (Err(MALFORMED), Some(MALFORMED)), "{test:?}");
                tried[1] += 1;
            } else if test.shared_secret.iter().all(|byte| *byte == 0) {
                assert_eq!(client, Err(MALFORMED), "{test:?}");
                tried[2] += 1;
            } else {
                assert_eq!(client, Ok(encoded(method, &test.shared_secret)), "{test:?}");
                assert!(server.is_ok(), "{test:?}");
                tried[0] += 1;
            }
        }
        assert_eq!(tried, [valid, refused, 1], "{method:?}");
    }
}

/// FIPS 203 section 7.2: the keys that a client may send, and those with numbers that are not below q, or of another length.
#[test]
fn encapsulation_keys_are_taken_as_wycheproof_says() {
    let curve = ephemeral(Method::Curve25519, &counting(1, 32)).public().unwrap();
    let (mut taken, mut refused) = (0, 0);
    let groups = mlkem::TestSet::load(KemSet::MlKem768Encaps).unwrap().test_groups;
    for test in groups.iter().flat_map(|group| &group.tests) {
        let server = answer(Method::MlKem768X25519, &[test.encaps_key.as_deref().unwrap(), &curve[..]].concat());
        if test.result == TestResult::Valid {
            assert!(server.is_ok(), "{test:?}");
            taken += 1;
        } else {
            assert_eq!(server.err(), Some(MALFORMED), "{test:?}");
            refused += 1;
        }
    }
    assert_eq!((taken, refused), (133, 132));
}

/// FIPS 203 sections 6.3 and 7.3: a ciphertext of the right length that was changed leads to another secret and not to an error; one of another
/// length is none, and what is inside a damaged private key is not used.
#[test]
fn a_client_decapsulates_as_wycheproof_says() {
    let server = ephemeral(Method::Curve25519, &counting(101, 32)).public().unwrap();
    let (mut equal, mut refused, mut no_keys) = (0, 0, 0);
    let groups = mlkem::TestSet::load(KemSet::MlKem768SemiExpandedDecaps).unwrap().test_groups;
    for test in groups.iter().flat_map(|group| &group.tests) {
        let Ok(lattice) = DecapsulationKey::new(&ML_KEM_768, test.decaps_key.as_deref().unwrap()) else {
            assert!(test.flags.contains(&KemFlag::IncorrectDecapsulationKeyLength), "{test:?}");
            no_keys += 1;
            continue;
        };
        let curve = ephemeral(Method::MlKem768X25519, &counting(1, 32));
        let client = ClientHalf { curve, lattice: Some(lattice), public: Vec::new() };
        let finished = client.finish(&[test.ct.as_deref().unwrap(), &server[..]].concat());
        if test.result == TestResult::Valid {
            let of_curve = ephemeral(Method::Curve25519, &counting(1, 32)).agree(&server).unwrap();
            let wanted = SharedSecret::hybrid(test.shared_secret.as_deref().unwrap(), &of_curve);
            assert_eq!(*finished.unwrap().encoded, *wanted.encoded, "{test:?}");
            equal += 1;
        } else {
            assert_eq!(finished.err(), Some(MALFORMED), "{test:?}");
            refused += 1;
        }
    }
    assert_eq!((equal, refused, no_keys), (3, 4, 2));
}
