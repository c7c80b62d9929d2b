//! Keys that a hostile server may give.

use super::*;

#[test]
fn what_is_no_key_of_a_sound_size_is_refused() {
    let pem = |der: &[u8]| format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der));
    // SubjectPublicKeyInfo of an RSA key with this modulus and the exponent 65537.
    let rsa = |modulus: &[u8]| {
        let sequence = |tag: u8, body: &[u8]| {
            let length = u16::try_from(body.len()).unwrap().to_be_bytes();
            [&[tag, 0x82], length.as_slice(), body].concat()
        };
        let key = sequence(0x30, &[sequence(2, modulus), vec![2, 3, 1, 0, 1]].concat());
        let algorithm = [0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
        sequence(0x30, &[algorithm.as_slice(), &sequence(3, &[&[0], key.as_slice()].concat())].concat())
    };
    let odd = |bytes: usize| [&[0, 0xc1], vec![0x5b; bytes - 1].as_slice()].concat();
    server_key::check(pem(&rsa(&odd(256))).as_bytes()).unwrap();
    let ed25519 = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
    let cases = [
        String::new(),
        "\0".to_owned(),
        "-----BEGIN PUBLIC KEY-----".to_owned(),
        pem(b""),
        pem(&[0x30; 300]),
        pem(&rsa(&[0])),
        pem(&rsa(&[0; 256])),
        pem(&rsa(&odd(128))),
        pem(&rsa(&odd(2048))),
        pem(ed25519.public_key().as_der().unwrap().as_ref()),
        "A".repeat(60_000),
    ];
    let rules = Said::default();
    let rules = rules.rules();
    for case in cases {
        let mut proof = Proof::new(PASSWORD, LOOPBACK, &rules);
        proof.next(switch("sha256_password", &nul(scramble()))).ok().unwrap();
        assert_eq!(refusal(proof.next(Reply::More(case.as_bytes()))), REJECTED, "{case:.80}");
    }
    let key = ServerKey::make();
    let mut proof = Proof::new(&[b'x'; 300], LOOPBACK, &rules);
    proof.next(switch("sha256_password", &nul(scramble()))).ok().unwrap();
    assert_eq!(refusal(proof.next(Reply::More(key.pem.as_bytes()))), REJECTED, "a password too long for the key");
}
