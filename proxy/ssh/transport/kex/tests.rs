//! The values that are not from an RFC were computed by another implementation (Python's hashlib and cryptography) from the RFCs' formulas.

mod vectors;

use super::*;

/// Bytes from hexadecimal digits.
fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

fn ephemeral(method: Method, private: &[u8]) -> Ephemeral {
    Ephemeral { method, private: PrivateKey::from_private_key(method.curve(), private).unwrap() }
}

fn counting(from: u8, length: u8) -> Vec<u8> {
    (from..from + length).collect()
}

/// RFC 7748 section 6.1: Bob's side.
#[test]
fn x25519_agrees_as_the_rfc_shows() {
    let bob = ephemeral(Method::Curve25519, &hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"));
    assert_eq!(bob.public().unwrap(), hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"));
    let alice = hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
    assert_eq!(*bob.agree(&alice).unwrap(), hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"));
}

struct Vector {
    method: Method,
    halves: [Vec<u8>; 2],
    secret: SharedSecret,
    hash: &'static str,
    /// The initialisation vectors and keys: `A`, `B`, `C` of 64 bytes, `D` of 32.
    keys: [&'static str; 4],
}

fn vectors() -> [Vector; 3] {
    let of = |method, length| {
        let (client, server) = (ephemeral(method, &counting(1, length)), ephemeral(method, &counting(101, length)));
        let halves = [client.public().unwrap(), server.public().unwrap()];
        let secret = SharedSecret::number(method, &client.agree(&halves[1]).unwrap());
        assert_eq!(*secret.encoded, *SharedSecret::number(method, &server.agree(&halves[0]).unwrap()).encoded);
        (method, halves, secret)
    };
    let vector = |(method, halves, secret), hash, keys| Vector { method, halves, secret, hash, keys };
    [
        vector(
            of(Method::Curve25519, 32),
            "e108f154a399355b0331e864cbe8472df5278ca70f82282f5e60cc3d1b9869a3",
            [
                "afb82ed9aac95df22a2a14be",
                "6d78f3ec44f1e5c4c6934644",
                "066f3f409e5b0e9f947d2ee2f1bded51b28839cec8d3780249e5540a6a579822
                 eff448140c9d9ea99b271ea6cf79d0ff73a02a348c2ac934db70b5e4e39db7fb",
                "6c9b063d7df0cc66158466d9c0197302df4d4fd951eea2d0dce79830c0bf4cd6",
            ],
        ),
        vector(
            of(Method::EcdhNistp256, 32),
            "7ba333b1c56cd6083a49054b274725385b5dd4cf9fb827cce9d3ed60303caf24",
            [
                "79915492fcc1a0b4b4605c19",
                "2346c0e77c4a9d36e080a8fa",
                "c1314557e027e746c3d14066890f1e2b75bbfedd7616f594241ae4532ff76f38
                 564558c1453254ecd1164737d573294c07a102054add5c3017884983c5a695ef",
                "6438cf5d6a11bab8b6256aa19210197c058859bd4b7145816ab4c528f2f7ee88",
            ],
        ),
        vector(
            of(Method::EcdhNistp384, 48),
            "9b1b5097a8abc2da7654d35149d95a056ec86e9b1b3926781d7b2f33ad43170cbf96ae48b2b987ec94b1ad626acc50c0",
            [
                "10f59a3b026ec756030e7509",
                "d165884ed5b0c281c9937446",
                "5b420ab9b8ad2172c151aec1bcf331f5680dbdf8adb311e07b8e893c2d64894f
                 127246d233769f200a6a08621cf5b22d58226e4d4cb6dcedc80dfa54213ce8b5",
                "8356b206ae41b176cc526c1299f6fb60c37e4d0d18f7128e91457d99bca29ada",
            ],
        ),
    ]
}

fn transcript(halves: &[Vec<u8>; 2]) -> Transcript<'_> {
    let [client, server] = halves;
    Transcript {
        idents: [b"SSH-2.0-client", b"SSH-2.0-server"],
        kexinits: [b"\x14client", b"\x14server"],
        host_key: b"host key",
        halves: [client, server],
    }
}

/// Rule 7.
#[test]
fn the_exchange_hash_is_over_all_that_was_said() {
    for Vector { method, halves, secret, hash, .. } in vectors() {
        assert_eq!(transcript(&halves).hash(&secret), hex(hash), "{method:?}");
        let whole = hex(hash);
        let changed = [
            Transcript { idents: [b"SSH-2.0-Client", b"SSH-2.0-server"], ..transcript(&halves) },
            Transcript { idents: [b"SSH-2.0-client", b"SSH-2.0-Server"], ..transcript(&halves) },
            Transcript { kexinits: [b"\x14Client", b"\x14server"], ..transcript(&halves) },
            Transcript { kexinits: [b"\x14client", b"\x14Server"], ..transcript(&halves) },
            Transcript { host_key: b"Host key", ..transcript(&halves) },
            Transcript { halves: [b"", &halves[1]], ..transcript(&halves) },
            Transcript { halves: [&halves[0], b""], ..transcript(&halves) },
        ];
        assert!(changed.iter().all(|other| other.hash(&secret) != whole));
    }
}

/// Rule 8.
#[test]
fn keys_are_derived_from_the_secret_the_hash_and_the_session() {
    for Vector { method, secret, hash, keys: [a, b, c, d], .. } in vectors() {
        let derived = |from, cipher| derive(&secret, &hex(hash), b"session", from, cipher);
        let gcm = derived(Side::Client, Cipher::Aes256Gcm);
        assert_eq!((gcm.iv.to_vec(), gcm.key.to_vec()), (hex(a), hex(c)[..32].to_vec()), "{method:?}");
        let gcm = derived(Side::Server, Cipher::Aes256Gcm);
        assert_eq!((gcm.iv.to_vec(), gcm.key.to_vec()), (hex(b), hex(d)), "{method:?}");
        let small = derived(Side::Server, Cipher::Aes128Gcm);
        assert_eq!((small.iv.to_vec(), small.key.to_vec()), (hex(b), hex(d)[..16].to_vec()), "{method:?}");
        let chacha = derived(Side::Client, Cipher::ChaCha20Poly1305);
        assert_eq!((chacha.iv.to_vec(), chacha.key.to_vec()), (vec![], hex(c)), "{method:?}");
    }
}

/// Rule 7: a number for a curve alone, a string for both together.
#[test]
fn the_secret_is_hashed_as_its_method_says() {
    let curve = hex("c9ea6a3f79a000b60b076d4afc990b272f3f0b5aaa3f0b8713c209273e363863");
    let number = SharedSecret::number(Method::Curve25519, &curve);
    assert_eq!(*number.encoded, [&[0, 0, 0, 33, 0][..], &curve].concat());
    let short = SharedSecret::number(Method::Curve25519, &[&[0, 0x7f][..], &curve[2..]].concat());
    assert_eq!(*short.encoded, [&[0, 0, 0, 31, 0x7f][..], &curve[2..]].concat());
    let hybrid = SharedSecret::hybrid(&[1; 32], &curve);
    assert_eq!(*hybrid.encoded, hex("00000020ced986251ea556104823d840d622d9eb6b340ce9077b262757b3013b7dd24840"));
}

/// Rule 7: the lengths of draft-ietf-sshm-mlkem-hybrid-kex section 2.2, RFC 8731 section 3 and RFC 5656 section 4, and no others.
#[test]
fn halves_have_one_length() {
    for (method, client_length, server_length) in [
        (Method::MlKem768X25519, 1216, 1120),
        (Method::Curve25519, 32, 32),
        (Method::Curve25519Libssh, 32, 32),
        (Method::EcdhNistp256, 65, 65),
        (Method::EcdhNistp384, 97, 97),
    ] {
        let client = ClientHalf::begin(method).unwrap();
        let init = client.public().to_vec();
        let (reply, of_server) = answer(method, &init).unwrap();
        assert_eq!((init.len(), reply.len()), (client_length, server_length), "{method:?}");
        assert_eq!(*client.finish(&reply).unwrap().encoded, *of_server.encoded);
        for wrong in [&init[1..], &[&init[..], &[0]].concat(), &[]] {
            assert_eq!(answer(method, wrong).err(), Some(MALFORMED), "{method:?}");
        }
        for wrong in [&reply[1..], &[&reply[..], &[0]].concat(), &[]] {
            assert_eq!(ClientHalf::begin(method).unwrap().finish(wrong).err(), Some(MALFORMED), "{method:?}");
        }
    }
}

/// Rule 7, RFC 8731 section 3: points of small order give a secret that everybody knows.
#[test]
fn a_public_value_that_leads_to_nothing_is_refused() {
    let mut order_8 = hex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800");
    for public in [vec![0; 32], [vec![1], vec![0; 31]].concat(), order_8.clone()] {
        assert_eq!(answer(Method::Curve25519, &public).err(), Some(MALFORMED), "{public:?}");
        assert_eq!(ClientHalf::begin(Method::Curve25519).unwrap().finish(&public).err(), Some(MALFORMED));
    }
    let begin = ClientHalf::begin(Method::MlKem768X25519).unwrap();
    let mut init = begin.public()[..ENCAPSULATION_KEY].to_vec();
    init.append(&mut order_8);
    assert_eq!(answer(Method::MlKem768X25519, &init).err(), Some(MALFORMED));
}

/// Rule 7: RFC 5656 section 4, "a point that is not on the curve".
#[test]
fn what_is_no_point_or_is_written_in_another_way_is_refused() {
    for (method, length) in [(Method::EcdhNistp256, 32), (Method::EcdhNistp384, 48)] {
        let good = ephemeral(method, &counting(1, length)).public().unwrap();
        let mut off = good.clone();
        *off.last_mut().unwrap() ^= 1;
        let compressed = [&[2 + (good.last().unwrap() & 1)][..], &good[1..=usize::from(length)]].concat();
        let hybrid = [&[6 + (good.last().unwrap() & 1)][..], &good[1..]].concat();
        for wrong in [off, compressed, hybrid, vec![4; good.len()], vec![0]] {
            assert_eq!(answer(method, &wrong).err(), Some(MALFORMED), "{method:?} {wrong:?}");
        }
        assert!(answer(method, &good).is_ok());
    }
}

/// FIPS 203 section 7.2: an encapsulation key whose numbers are not below q.
#[test]
fn an_encapsulation_key_that_is_none_is_refused() {
    let mut init = ClientHalf::begin(Method::MlKem768X25519).unwrap().public().to_vec();
    init[..384].fill(0xff);
    assert_eq!(answer(Method::MlKem768X25519, &init).err(), Some(MALFORMED));
}

/// Rule 10.
#[test]
fn every_exchange_has_halves_of_its_own() {
    for method in Method::ALL {
        let [a, b] = [(); 2].map(|()| ClientHalf::begin(method).unwrap());
        assert_ne!(a.public(), b.public());
        let [x, y] = [(); 2].map(|()| answer(method, a.public()).unwrap());
        assert_ne!(x.0, y.0);
        assert_ne!(*x.1.encoded, *y.1.encoded);
    }
}
