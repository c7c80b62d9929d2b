use proptest::prelude::*;

use super::algorithm::Algorithm;
use super::*;
use crate::keygen::{self, Keygen, TYPES};

/// A blob of these fields.
fn blob(kind: &str, fields: &[&[u8]]) -> Vec<u8> {
    let mut blob = Vec::new();
    blob.put_string(kind);
    for field in fields {
        blob.put_string(field);
    }
    blob
}

/// The generator of nistp256 (FIPS 186-4 D.1.2.3): a point that is on the curve.
fn generator() -> Vec<u8> {
    let x = "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296";
    let y = "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
    let digits = format!("04{x}{y}");
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// A modulus of so many bits, and odd; no product of two primes.
fn modulus(bits: usize) -> Vec<u8> {
    let mut modulus = vec![0xff; bits.div_ceil(8)];
    modulus[0] = 0xff >> (bits.div_ceil(8) * 8 - bits);
    modulus
}

fn rsa(exponent: &[u8], modulus: &[u8]) -> Vec<u8> {
    let mut blob = Vec::new();
    blob.put_string("ssh-rsa").put_mpint(exponent).put_mpint(modulus);
    blob
}

const E: [u8; 3] = [1, 0, 1];

#[test]
fn every_type_of_key_is_read_as_ssh_keygen_writes_it() {
    let keygen = Keygen::new();
    for (number, (kind, name)) in TYPES.into_iter().enumerate() {
        let file = format!("key{number}");
        let key = keygen.key(&file, kind);
        let line = keygen.read(&format!("{file}.pub"));
        assert_eq!(key.kind().name(), name);
        assert_eq!(format!("{} a comment\n", key.to_line()), line);
        assert_eq!(key.blob(), keygen::blob(&line));
        let listed = keygen.run(&["-l", "-f", &file]);
        assert_eq!(listed.split(' ').nth(1), Some(key.fingerprint().as_str()), "{listed}");
        assert_eq!(format!("{key:?}"), format!("{name} {}", key.fingerprint()));
        for length in 0..key.blob().len() {
            assert!(PublicKey::parse(&key.blob()[..length]).is_err(), "{name} cut to {length}");
        }
        assert_eq!(PublicKey::parse(&[key.blob(), &[0]].concat()), Err(BadKey::Malformed), "{name} with a byte behind it");
    }
}

#[test]
fn keys_of_security_keys_are_read() {
    for (kind, blob) in [
        (KeyType::SkEd25519, blob("sk-ssh-ed25519@openssh.com", &[&[7; 32], b"ssh:"])),
        (KeyType::SkEcdsaP256, blob("sk-ecdsa-sha2-nistp256@openssh.com", &[b"nistp256", &generator(), b"ssh:mine"])),
    ] {
        let key = PublicKey::parse(&blob).unwrap();
        assert_eq!((key.kind(), key.blob()), (kind, blob.as_slice()));
    }
    let long = blob("sk-ssh-ed25519@openssh.com", &[&[7; 32], &[b'x'; 257]]);
    assert_eq!(PublicKey::parse(&long), Err(BadKey::Malformed));
}

#[test]
fn rule_4_what_is_no_key_or_too_weak_a_key_is_refused() {
    let point = generator();
    let (mut beside, mut compressed, mut other_form) = (point.clone(), point[..33].to_vec(), point.clone());
    beside[64] ^= 1;
    compressed[0] = 3;
    other_form[0] = 6;
    let p256 = "ecdsa-sha2-nistp256";
    let mut needless = Vec::new();
    needless.put_string("ssh-rsa").put_mpint(&E).put_string([&[0, 0], modulus(2048).as_slice()].concat());
    let mut negative = Vec::new();
    negative.put_string("ssh-rsa").put_mpint(&E).put_string(modulus(2048));
    for (what, blob, wanted) in [
        ("nothing", vec![], BadKey::Malformed),
        ("an empty type", blob("", &[]), BadKey::Type),
        ("DSA", blob("ssh-dss", &[&[1], &[1], &[1], &[1]]), BadKey::Type),
        ("a type of another case", blob("SSH-ED25519", &[&[7; 32]]), BadKey::Type),
        ("a certificate", blob("ssh-ed25519-cert-v01@openssh.com", &[&[7; 32], &[7; 32]]), BadKey::Certificate),
        ("the algorithm of a signature", blob("rsa-sha2-256", &[&E, &[0; 257]]), BadKey::Type),
        ("31 bytes", blob("ssh-ed25519", &[&[7; 31]]), BadKey::Malformed),
        ("33 bytes", blob("ssh-ed25519", &[&[7; 33]]), BadKey::Malformed),
        ("another curve's name", blob(p256, &[b"nistp384", &point]), BadKey::Curve),
        ("a curve's name of another case", blob(p256, &[b"NISTP256", &point]), BadKey::Curve),
        ("another curve's type", blob("ecdsa-sha2-nistp384", &[b"nistp384", &point]), BadKey::Point),
        ("no point of the curve", blob(p256, &[b"nistp256", &beside]), BadKey::Point),
        ("a compressed point", blob(p256, &[b"nistp256", &compressed]), BadKey::Point),
        ("a point in the hybrid form", blob(p256, &[b"nistp256", &other_form]), BadKey::Point),
        ("the point at infinity", blob(p256, &[b"nistp256", &[0]]), BadKey::Point),
        ("an empty point", blob(p256, &[b"nistp256", &[]]), BadKey::Point),
        ("RSA of 1024 bits", rsa(&E, &modulus(1024)), BadKey::RsaSize),
        ("RSA of 2047 bits", rsa(&E, &modulus(2047)), BadKey::RsaSize),
        ("RSA of 8193 bits", rsa(&E, &modulus(8193)), BadKey::RsaSize),
        ("RSA of 0", rsa(&E, &[]), BadKey::RsaSize),
        ("exponent 0", rsa(&[], &modulus(2048)), BadKey::RsaExponent),
        ("exponent 1", rsa(&[1], &modulus(2048)), BadKey::RsaExponent),
        ("an even exponent", rsa(&[1, 0, 0], &modulus(2048)), BadKey::RsaExponent),
        ("a long exponent", rsa(&[1, 0, 0, 0, 1], &modulus(2048)), BadKey::RsaExponent),
        ("needless zeros: another blob of the same key", needless, BadKey::Malformed),
        ("a negative modulus", negative, BadKey::Malformed),
        ("more than any key", blob("ssh-ed25519", &[&[7; 5000]]), BadKey::Malformed),
    ] {
        assert_eq!(PublicKey::parse(&blob), Err(wanted), "{what}");
    }
    for bits in [2048, 3072, 8192] {
        assert!(PublicKey::parse(&rsa(&E, &modulus(bits))).is_ok(), "{bits}");
    }
    assert!(PublicKey::parse(&rsa(&[3], &modulus(2048))).is_ok());
}

#[test]
fn the_names_of_algorithms_agree_with_each_other() {
    for kind in KeyType::ALL {
        for (plain, certified) in kind.algorithms().iter().zip(kind.certificate_algorithms()) {
            assert!(SIGNATURE_ALGORITHMS.contains(plain));
            assert_eq!(signature_algorithm(plain), Some(*plain));
            assert_eq!(signature_algorithm(certified), Some(*plain));
            assert_eq!(Algorithm::named(plain).unwrap().0.key, kind);
        }
        assert_eq!(KeyType::named(kind.name().as_bytes()), Some(kind));
        assert_eq!(KeyType::of_certificate(kind.certificate_name().as_bytes()), Some(kind));
        assert_eq!(KeyType::named(kind.certificate_name().as_bytes()), None);
    }
    assert_eq!(KeyType::ALL.iter().map(|kind| kind.algorithms().len()).sum::<usize>(), SIGNATURE_ALGORITHMS.len());
    for name in ["ssh-rsa", "ssh-rsa-cert-v01@openssh.com", "ssh-dss", "none", "", "ssh-ed25519 ", "ssh-ed448", "ssh-ed25519,rsa-sha2-256"]
    {
        assert_eq!(signature_algorithm(name), None, "{name}");
    }
}

#[test]
fn a_line_of_a_users_keys_is_a_key_and_says_how_a_security_key_must_have_signed() {
    let key = PublicKey::of_ed25519([7; 32]);
    let line = key.to_line();
    let (touch, verified) = (SkPolicy::TOUCH, Demand::Required);
    for (before, behind, policy, comment) in [
        ("", "", touch, ""),
        ("", " alice@laptop", touch, "alice@laptop"),
        ("  ", "  of  alice ", touch, "of  alice"),
        ("no-touch-required ", "", SkPolicy { touch: Demand::Waived, ..touch }, ""),
        ("verify-required\t", " x", SkPolicy { verification: verified, ..touch }, "x"),
        ("No-Touch-Required,verify-required ", "", SkPolicy { touch: Demand::Waived, verification: verified }, ""),
    ] {
        let parsed = AuthorizedKey::parse(&format!("{before}{line}{behind}")).unwrap();
        assert_eq!(parsed, AuthorizedKey { key: key.clone(), policy, comment: comment.to_owned() });
    }
    for (line, wanted) in [
        (String::new(), BadKey::Line),
        ("ssh-ed25519".to_owned(), BadKey::Line),
        ("ssh-ed25519 AAAA".to_owned(), BadKey::Line),
        (line.replace("ssh-ed25519 ", "ssh-rsa "), BadKey::Line),
        (line.replace("AAAAC3", "AAAA C3"), BadKey::Line),
        (format!("restrict {line}"), BadKey::Option),
        (format!("no-touch-required,restrict {line}"), BadKey::Option),
        (format!("from=\"10.0.0.1\" {line}"), BadKey::Option),
        (format!("command=\"echo x\" {line}"), BadKey::Line),
        (format!("ssh-ed25519 {}", "A".repeat(70_000)), BadKey::Line),
    ] {
        assert_eq!(AuthorizedKey::parse(&line), Err(wanted), "{line:.60}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused_and_what_is_read_is_written_the_same(kind in 0..KeyType::ALL.len(), rest in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut blob = Vec::new();
        blob.put_string(KeyType::ALL[kind].name()).put_bytes(&rest);
        if let Ok(key) = PublicKey::parse(&blob) {
            prop_assert_eq!(key.blob(), blob.as_slice());
        }
        let _ = PublicKey::parse(&rest);
    }
}
