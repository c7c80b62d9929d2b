//! Project Wycheproof: keys and signatures that other implementations judged wrongly, each as the blobs in which SSH would carry them. Where a
//! vector is about an encoding that SSH does not have, such as DER, nothing is left of it: such ones are counted and not tried.

use std::fmt::Debug;

use wycheproof::ecdsa::TestName as EcdsaSet;
use wycheproof::rsa_pkcs1_verify::{self, TestFlag, TestName as RsaSet};
use wycheproof::{TestResult, ecdsa, eddsa};

use super::*;

/// How many vectors of a set went which way.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tried {
    valid: usize,
    invalid: usize,
    /// Some may take them and some not.
    acceptable: usize,
    /// They cannot be said in SSH.
    formless: usize,
}

impl Tried {
    fn count(&mut self, wanted: TestResult, got: Result<(), Untrusted>, vector: &dyn Debug) {
        match wanted {
            TestResult::Valid => {
                assert_eq!(got, Ok(()), "{vector:?}");
                self.valid += 1;
            }
            TestResult::Invalid => {
                assert!(got.is_err(), "accepted: {vector:?}");
                self.invalid += 1;
            }
            TestResult::Acceptable => self.acceptable += 1,
        }
    }
}

fn ecdsa_key(curve: Curve, point: &[u8]) -> Result<PublicKey, BadKey> {
    let mut blob = Vec::new();
    blob.put_string(curve.kind().name()).put_string(curve.name()).put_string(point);
    PublicKey::parse(&blob)
}

/// The fields of a SEQUENCE of two INTEGERs in DER. An INTEGER is written as an `mpint` is.
fn der(signature: &[u8]) -> Option<[&[u8]; 2]> {
    let (r, s) = element(0x30, signature).filter(|(_, rest)| rest.is_empty()).and_then(|(both, _)| element(0x02, both))?;
    let (s, rest) = element(0x02, s)?;
    let shortest = |number: &[u8]| match *number {
        [] => false,
        [0, next, ..] => next & 0x80 != 0,
        [0xff, next, ..] => next & 0x80 == 0,
        _ => true,
    };
    (rest.is_empty() && shortest(r) && shortest(s)).then_some([r, s])
}

/// What is in an element of this tag, and what follows it.
fn element(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match *bytes {
        [found, length @ 0..=0x7f, ref rest @ ..] if found == tag => (usize::from(length), rest),
        [found, 0x81, length @ 0x80..=0xff, ref rest @ ..] if found == tag => (usize::from(length), rest),
        [found, 0x82, high @ 1..=0xff, low, ref rest @ ..] if found == tag => (usize::from(u16::from_be_bytes([high, low])), rest),
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// All of a set; `numbers` takes a signature apart into its two numbers, each as it stands in an `mpint`.
fn try_ecdsa(set: EcdsaSet, curve: Curve, numbers: impl Fn(&[u8]) -> Option<[Vec<u8>; 2]>) -> Tried {
    let mut tried = Tried::default();
    let algorithm = curve.kind().name();
    for group in ecdsa::TestSet::load(set).unwrap().test_groups {
        let key = ecdsa_key(curve, &group.key.key).unwrap();
        for test in group.tests {
            let Some([r, s]) = numbers(&test.sig) else {
                assert_eq!(test.result, TestResult::Invalid, "{test:?}");
                tried.formless += 1;
                continue;
            };
            let mut both = Vec::new();
            both.put_string(r).put_string(s);
            tried.count(test.result, key.verify(algorithm, &test.msg, &signature(algorithm, &both), ANY), &test);
        }
    }
    tried
}

#[test]
fn ed25519_signatures_count_as_wycheproof_says() {
    let mut tried = Tried::default();
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        let mut blob = Vec::new();
        blob.put_string("ssh-ed25519").put_string(&*group.key.pk);
        let key = PublicKey::parse(&blob).unwrap();
        for test in group.tests {
            tried.count(test.result, key.verify("ssh-ed25519", &test.msg, &signature("ssh-ed25519", &test.sig), ANY), &test);
        }
    }
    assert_eq!(tried, Tried { valid: 88, invalid: 63, ..Tried::default() });
}

/// Two numbers of a fixed width each; of another width they would be other numbers in SSH, or the same ones.
#[test]
fn ecdsa_signatures_of_fixed_width_count_as_wycheproof_says() {
    for (set, curve, valid, invalid, formless) in [
        (EcdsaSet::EcdsaSecp256r1Sha256P1363, Curve::P256, 173, 68, 21),
        (EcdsaSet::EcdsaSecp384r1Sha384P1363, Curve::P384, 193, 68, 19),
        (EcdsaSet::EcdsaSecp521r1Sha512P1363, Curve::P521, 231, 73, 14),
    ] {
        let tried = try_ecdsa(set, curve, |signature| {
            let (r, s) = signature.split_at_checked(curve.width()).filter(|(_, s)| s.len() == curve.width())?;
            let [mut of_r, mut of_s] = [Vec::new(), Vec::new()];
            of_r.put_mpint(r);
            of_s.put_mpint(s);
            Some([of_r[4..].to_vec(), of_s[4..].to_vec()])
        });
        assert_eq!(tried, Tried { valid, invalid, formless, ..Tried::default() }, "{curve:?}");
    }
}

/// As DER has them: negative ones, and longer ones than the curve's.
#[test]
fn ecdsa_signatures_of_any_two_numbers_count_as_wycheproof_says() {
    for (set, curve, valid, invalid, formless) in [
        (EcdsaSet::EcdsaSecp256r1Sha256, Curve::P256, 174, 117, 193),
        (EcdsaSet::EcdsaSecp384r1Sha384, Curve::P384, 194, 117, 193),
        (EcdsaSet::EcdsaSecp521r1Sha512, Curve::P521, 232, 118, 192),
    ] {
        let tried = try_ecdsa(set, curve, |signature| der(signature).map(|numbers| numbers.map(<[u8]>::to_vec)));
        assert_eq!(tried, Tried { valid, invalid, formless, ..Tried::default() }, "{curve:?}");
    }
}

/// Rule 19: the name inside a blob does not make a point one of the curve.
#[test]
fn points_of_other_curves_are_no_keys() {
    for (set, curve, points) in [
        (EcdsaSet::EcdsaSecp256k1Sha256P1363, Curve::P256, 108),
        (EcdsaSet::EcdsaBrainpool256r1Sha256P1363, Curve::P256, 107),
        (EcdsaSet::EcdsaBrainpool384r1Sha384P1363, Curve::P384, 108),
        (EcdsaSet::EcdsaSecp384r1Sha384P1363, Curve::P256, 104),
        (EcdsaSet::EcdsaSecp256r1Sha256P1363, Curve::P521, 112),
    ] {
        let groups = ecdsa::TestSet::load(set).unwrap().test_groups;
        assert!(groups.iter().all(|group| ecdsa_key(curve, &group.key.key) == Err(BadKey::Point)), "{set:?} as {curve:?}");
        assert_eq!(groups.len(), points, "{set:?}");
    }
}

fn rsa_key(key: &wycheproof::RsaPublic) -> PublicKey {
    let mut blob = Vec::new();
    blob.put_string("ssh-rsa").put_mpint(&key.e).put_mpint(&key.n);
    PublicKey::parse(&blob).unwrap()
}

#[test]
fn rsa_signatures_count_as_wycheproof_says() {
    for (set, algorithm, valid, invalid) in [
        (RsaSet::Rsa2048Sha256, "rsa-sha2-256", 9, 249),
        (RsaSet::Rsa2048Sha512, "rsa-sha2-512", 8, 250),
        (RsaSet::Rsa3072Sha256, "rsa-sha2-256", 8, 250),
        (RsaSet::Rsa3072Sha512, "rsa-sha2-512", 8, 251),
        (RsaSet::Rsa4096Sha256, "rsa-sha2-256", 7, 250),
        (RsaSet::Rsa4096Sha512, "rsa-sha2-512", 7, 251),
        (RsaSet::Rsa8192Sha256, "rsa-sha2-256", 7, 250),
        (RsaSet::Rsa8192Sha512, "rsa-sha2-512", 7, 251),
    ] {
        let mut tried = Tried::default();
        for group in rsa_pkcs1_verify::TestSet::load(set).unwrap().test_groups {
            let key = rsa_key(&group.key);
            for test in group.tests {
                let got = key.verify(algorithm, &test.msg, &signature(algorithm, &test.sig), ANY);
                tried.count(test.result, got, &test);
            }
        }
        assert_eq!(tried, Tried { valid, invalid, acceptable: 1, ..Tried::default() }, "{set:?}");
    }
}

/// Rule 4: right signatures, over hashes that are not in the name of the algorithm.
#[test]
fn rsa_signatures_over_other_hashes_do_not_count() {
    for set in [RsaSet::Rsa2048Sha224, RsaSet::Rsa2048Sha384, RsaSet::Rsa2048Sha512_256, RsaSet::Rsa2048Sha3_256, RsaSet::Rsa2048Sha3_512] {
        let groups = rsa_pkcs1_verify::TestSet::load(set).unwrap().test_groups;
        let mut valid = 0;
        for (group, test) in groups.iter().flat_map(|group| group.tests.iter().map(move |test| (group, test))) {
            let key = rsa_key(&group.key);
            for algorithm in ["rsa-sha2-256", "rsa-sha2-512"] {
                let got = key.verify(algorithm, &test.msg, &signature(algorithm, &test.sig), ANY);
                assert!(got.is_err() || test.flags.contains(&TestFlag::WrongHash), "{algorithm} {test:?}");
            }
            valid += usize::from(test.result == TestResult::Valid);
        }
        assert!(valid > 0, "{set:?}");
    }
}
