mod vectors;

use super::*;
use crate::key::{BadKey, KeyType, SIGNATURE_ALGORITHMS};
use crate::keygen::{Keygen, TYPES, sshsig};
use crate::sign::{Signer, read_private_key};

const MESSAGE: &[u8] = b"what was agreed on";
const ANY: SkPolicy = SkPolicy::NOTHING;

fn signer(keygen: &Keygen, name: &str) -> Box<dyn Signer> {
    read_private_key(keygen.read(name).as_bytes(), None).unwrap()
}

fn signature(algorithm: &str, bytes: &[u8]) -> Vec<u8> {
    let mut blob = Vec::new();
    blob.put_string(algorithm).put_string(bytes);
    blob
}

/// The bytes inside a signature's blob.
fn inside(blob: &[u8]) -> &[u8] {
    let mut reader = Reader::new(blob);
    reader.string().unwrap();
    reader.string().unwrap()
}

#[test]
fn what_ssh_keygen_signed_counts_for_this_key_this_message_and_this_algorithm_alone() {
    let keygen = Keygen::new();
    let other_keys: Vec<PublicKey> =
        TYPES.into_iter().enumerate().map(|(number, (kind, _))| keygen.key(&format!("other{number}"), kind)).collect();
    for (number, (kind, name)) in TYPES.into_iter().enumerate() {
        let file = format!("key{number}");
        let key = keygen.key(&file, kind);
        for hash in ["sha512", "sha256"] {
            let (message, signed) = keygen.signature(&file, hash, MESSAGE);
            let algorithm = if name == "ssh-rsa" { "rsa-sha2-512" } else { name };
            assert_eq!(key.verify(algorithm, &message, &signed, SkPolicy::TOUCH), Ok(()), "{name}");
            // Rule 18: of these bytes, by this key.
            assert_eq!(key.verify(algorithm, &[&message, b"x".as_slice()].concat(), &signed, ANY), Err(Untrusted::SignatureWrong));
            for other in &other_keys {
                assert!(other.verify(algorithm, &message, &signed, ANY).is_err(), "{name} by {other:?}");
            }
            // Rule 19: the algorithm agreed on is the signature's own and the key's.
            for another in SIGNATURE_ALGORITHMS.into_iter().filter(|another| *another != algorithm) {
                let fits = key.kind().algorithms().contains(&another);
                let wanted = if fits { Untrusted::SignatureOfAnotherAlgorithm } else { Untrusted::AlgorithmOfAnotherKey };
                assert_eq!(key.verify(another, &message, &signed, ANY), Err(wanted), "{name} as {another}");
                assert!(key.verify(algorithm, &message, &signature(another, inside(&signed)), ANY).is_err());
            }
            let certified = key.kind().certificate_algorithms()[0];
            assert_eq!(key.verify(certified, &message, &signed, ANY), Err(Untrusted::AlgorithmOfAnotherKey));
            assert_eq!(key.verify(algorithm, &message, &[signed.as_slice(), &[0]].concat(), ANY), Err(Untrusted::SignatureMalformed));
            for length in 0..signed.len() {
                assert!(key.verify(algorithm, &message, &signed[..length], ANY).is_err(), "{name} cut to {length}");
            }
            // The same bits of every byte by turns: all of them take long with RSA.
            for bit in (0..signed.len() * 8).step_by(3) {
                let mut flipped = signed.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(key.verify(algorithm, &message, &flipped, ANY).is_err(), "{name} with bit {bit} flipped");
            }
        }
    }
}

#[test]
fn rule_4_sha1_and_small_rsa_do_not_count() {
    let keygen = Keygen::new();
    let key = keygen.key("rsa", &["-t", "rsa", "-b", "2048"]);
    let signed = signer(&keygen, "rsa").sign("rsa-sha2-256", MESSAGE).unwrap();
    assert_eq!(key.verify("rsa-sha2-256", MESSAGE, &signed, ANY), Ok(()));
    for name in ["ssh-rsa", "ssh-dss", "none", "", "rsa-sha2-256\0"] {
        let refused = key.verify(name, MESSAGE, &signature(name, inside(&signed)), ANY);
        assert!(matches!(refused, Err(Untrusted::Algorithm(_))), "{name} {refused:?}");
    }
    assert_eq!(
        key.verify("rsa-sha2-256", MESSAGE, &signature("ssh-rsa", inside(&signed)), ANY),
        Err(Untrusted::SignatureOfAnotherAlgorithm)
    );
    keygen.run(&["-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", "small"]);
    assert_eq!(PublicKey::parse_line(&keygen.read("small.pub")), Err(BadKey::RsaSize));
    assert!(read_private_key(keygen.read("small").as_bytes(), None).is_err());
}

#[test]
fn an_rsa_signature_counts_with_and_without_its_leading_zeros_and_no_longer() {
    let keygen = Keygen::new();
    let key = keygen.key("rsa", &["-t", "rsa", "-b", "2048"]);
    let signer = signer(&keygen, "rsa");
    // One in 256 begins with a zero.
    let (message, signed) = (0_u32..)
        .map(|number| number.to_be_bytes())
        .map(|message| (message, inside(&signer.sign("rsa-sha2-512", &message).unwrap()).to_vec()))
        .find(|(_, signed)| signed[0] == 0 && signed[1] != 0)
        .unwrap();
    let verify = |bytes: &[u8]| key.verify("rsa-sha2-512", &message, &signature("rsa-sha2-512", bytes), ANY);
    assert_eq!(verify(&signed), Ok(()));
    assert_eq!(verify(&signed[1..]), Ok(()));
    assert_eq!(verify(&[&[0], signed.as_slice()].concat()), Err(Untrusted::SignatureMalformed));
    assert_eq!(verify(&signed[2..]), Err(Untrusted::SignatureWrong));
    assert_eq!(verify(&[]), Err(Untrusted::SignatureWrong));
    assert_eq!(verify(&[0xff; 256]), Err(Untrusted::SignatureWrong));
}

#[test]
fn an_ecdsa_signature_is_two_numbers_within_the_order_of_the_curve() {
    let keygen = Keygen::new();
    let key = keygen.key("key", &["-t", "ecdsa", "-b", "256"]);
    let signed = signer(&keygen, "key").sign("ecdsa-sha2-nistp256", MESSAGE).unwrap();
    let mut reader = Reader::new(inside(&signed));
    let (r, s) = (reader.mpint().unwrap(), reader.mpint().unwrap());
    let verify = |numbers: &[u8]| key.verify("ecdsa-sha2-nistp256", MESSAGE, &signature("ecdsa-sha2-nistp256", numbers), ANY);
    let pair = |r: &[u8], s: &[u8]| {
        let mut numbers = Vec::new();
        numbers.put_mpint(r).put_mpint(s);
        numbers
    };
    assert_eq!(verify(&pair(r, s)), Ok(()));
    // FIPS 186-4 D.1.2.3, the order of the group.
    let order: Vec<u8> = (0..32)
        .map(|at| u8::from_str_radix(&"ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"[at * 2..at * 2 + 2], 16).unwrap())
        .collect();
    let plus_order = {
        let mut sum = vec![0; 33];
        let mut carry = 0_u16;
        let s = padded(s, 33).unwrap();
        let order = padded(&order, 33).unwrap();
        for at in (0..33).rev() {
            let digit = u16::from(s[at]) + u16::from(order[at]) + carry;
            sum[at] = u8::try_from(digit & 0xff).unwrap();
            carry = digit >> 8;
        }
        sum
    };
    for (what, numbers) in [
        ("zeros", pair(&[], &[])),
        ("r is 0", pair(&[], s)),
        ("s is 0", pair(r, &[])),
        ("the order", pair(&order, s)),
        ("s and the order", pair(r, &plus_order)),
        ("the other way round", pair(s, r)),
        ("a number too many", [pair(r, s), pair(r, s)].concat()),
        ("a byte too many", [pair(r, s), vec![0]].concat()),
        ("one number", pair(r, s)[..r.len() + 5].to_vec()),
        ("nothing", vec![]),
        ("a long number", pair(&[1; 33], s)),
        ("DER", vec![0x30, 6, 2, 1, 1, 2, 1, 1]),
        ("64 bytes as they are", [padded(r, 32).unwrap(), padded(s, 32).unwrap()].concat()),
    ] {
        assert!(verify(&numbers).is_err(), "{what}");
    }
    let mut negative = Vec::new();
    negative.put_string([0xff; 32]).put_string(s);
    assert_eq!(verify(&negative), Err(Untrusted::SignatureMalformed));
}

#[test]
fn an_ed25519_signature_is_not_malleable() {
    let keygen = Keygen::new();
    let key = keygen.key("key", &["-t", "ed25519"]);
    let signed = inside(&signer(&keygen, "key").sign("ssh-ed25519", MESSAGE).unwrap()).to_vec();
    let verify = |bytes: &[u8]| key.verify("ssh-ed25519", MESSAGE, &signature("ssh-ed25519", bytes), ANY);
    assert_eq!(verify(&signed), Ok(()));
    // s plus the order of the group (RFC 8032 §5.1.7 demands that s is below it), least significant byte first.
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0x10,
    ];
    let mut greater = signed.clone();
    let mut carry = 0_u16;
    for (byte, add) in greater[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = u8::try_from(sum & 0xff).unwrap();
        carry = sum >> 8;
    }
    assert_eq!(verify(&greater), Err(Untrusted::SignatureWrong));
    assert_eq!(verify(&[0; 64]), Err(Untrusted::SignatureWrong));
    for bytes in [&signed[..63], &[signed.as_slice(), &[0]].concat(), &[]] {
        assert_eq!(verify(bytes), Err(Untrusted::SignatureMalformed));
    }
}

/// A security key of our own: the key of `signer` inside one.
struct SecurityKey {
    signer: Box<dyn Signer>,
    public: PublicKey,
}

impl SecurityKey {
    fn new(signer: Box<dyn Signer>, application: &str) -> Self {
        let mut fields = Vec::new();
        signer.public().put_fields(&mut fields);
        let kind = if signer.public().kind() == KeyType::Ed25519 { KeyType::SkEd25519 } else { KeyType::SkEcdsaP256 };
        let mut blob = Vec::new();
        blob.put_string(kind.name()).put_bytes(&fields).put_string(application);
        Self { signer, public: PublicKey::parse(&blob).unwrap() }
    }

    fn sign(&self, application: &str, (flags, counter): (u8, u32), message: &[u8]) -> Vec<u8> {
        let mut seen = digest(&SHA256, application.as_bytes()).as_ref().to_vec();
        seen.put_u8(flags).put_u32(counter).put_bytes(digest(&SHA256, message).as_ref());
        let signed = self.signer.sign(self.signer.algorithms()[0], &seen).unwrap();
        let mut blob = Vec::new();
        blob.put_string(self.public.kind().name()).put_string(inside(&signed)).put_u8(flags).put_u32(counter);
        blob
    }
}

#[test]
fn rule_21_a_security_key_must_have_been_touched_and_its_owner_verified_where_that_is_asked() {
    let keygen = Keygen::new();
    keygen.key("ed25519", &["-t", "ed25519"]);
    keygen.key("ecdsa", &["-t", "ecdsa", "-b", "256"]);
    let both = SkPolicy { touch: Demand::Required, verification: Demand::Required };
    let pin = SkPolicy { touch: Demand::Waived, verification: Demand::Required };
    for (name, application) in [("ed25519", "ssh:"), ("ecdsa", "ssh:work")] {
        let token = SecurityKey::new(signer(&keygen, name), application);
        let algorithm = token.public.kind().name();
        let verify = |signed: &[u8], policy| token.public.verify(algorithm, MESSAGE, signed, policy);
        for (flags, policy, wanted) in [
            (0, ANY, Ok(())),
            (0, SkPolicy::TOUCH, Err(Untrusted::NoTouch)),
            (4, SkPolicy::TOUCH, Err(Untrusted::NoTouch)),
            (0xfe, SkPolicy::TOUCH, Err(Untrusted::NoTouch)),
            (1, SkPolicy::TOUCH, Ok(())),
            (5, SkPolicy::TOUCH, Ok(())),
            (1, both, Err(Untrusted::NoVerification)),
            (4, both, Err(Untrusted::NoTouch)),
            (5, both, Ok(())),
            (4, pin, Ok(())),
            (1, pin, Err(Untrusted::NoVerification)),
        ] {
            assert_eq!(verify(&token.sign(application, (flags, 7), MESSAGE), policy), wanted, "{name} {flags} {policy:?}");
        }
        let signed = token.sign(application, (0, 7), MESSAGE);
        // What the flags say is signed: a client cannot add a touch.
        let mut touched = signed.clone();
        let flags = touched.len() - 5;
        touched[flags] = 1;
        assert_eq!(verify(&touched, SkPolicy::TOUCH), Err(Untrusted::SignatureWrong));
        let mut counted = signed.clone();
        *counted.last_mut().unwrap() ^= 1;
        assert_eq!(verify(&counted, ANY), Err(Untrusted::SignatureWrong));
        assert_eq!(verify(&token.sign("https://example.com", (1, 7), MESSAGE), ANY), Err(Untrusted::SignatureWrong), "another application");
        assert_eq!(verify(&signed[..signed.len() - 5], ANY), Err(Untrusted::SignatureMalformed));
        assert_eq!(verify(&[signed.as_slice(), &[0]].concat(), ANY), Err(Untrusted::SignatureMalformed));
        // The key that is inside signed nothing as itself.
        let plain = token.signer.public();
        assert!(plain.verify(plain.kind().name(), MESSAGE, &signed, ANY).is_err());
        // OpenSSH reads such a signature as we do.
        let message = sshsig("sha512", MESSAGE);
        keygen.accepts(&token.public, &token.sign(application, (1, 7), &message), MESSAGE).unwrap();
        assert!(keygen.accepts(&token.public, &token.sign("ssh", (1, 7), &message), MESSAGE).is_err());
    }
}
