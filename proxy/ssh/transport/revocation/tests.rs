use proptest::prelude::*;

use super::*;
use crate::keygen::{Keygen, line};
use crate::wire::Put;

/// Keys and certificates to revoke, some of them; and the judge of it.
struct Bench {
    keygen: Keygen,
}

impl Bench {
    /// Two authorities, `ca` and `other`; certificates 1 to 6 of `ca` and 7 of `other`, each of a key of its own.
    fn new() -> Self {
        let keygen = Keygen::new();
        keygen.key("ca", &["-t", "ed25519"]);
        keygen.key("other", &["-t", "ecdsa"]);
        for number in 1..=7 {
            let (name, serial) = (format!("key{number}"), number.to_string());
            keygen.key(&name, &["-t", "ed25519"]);
            let authority = if number == 7 { "other" } else { "ca" };
            keygen.run(&["-q", "-s", authority, "-I", &format!("name {number}"), "-z", &serial, "-n", "alice", &format!("{name}.pub")]);
        }
        Self { keygen }
    }

    fn certificate(&self, number: usize) -> Certificate {
        Certificate::parse_line(&self.keygen.read(&format!("key{number}-cert.pub"))).unwrap()
    }

    fn key(&self, name: &str) -> PublicKey {
        PublicKey::parse_line(&self.keygen.read(&format!("{name}.pub"))).unwrap()
    }

    fn line(&self, name: &str) -> String {
        self.keygen.read(&format!("{name}.pub"))
    }

    /// The numbers of the certificates and of the keys that are revoked.
    fn revoked(&self, list: &Revocations) -> (Vec<usize>, Vec<usize>) {
        let of =
            |check: &dyn Fn(usize) -> Result<(), Untrusted>| (1..=7).filter(|number| check(*number) == Err(Untrusted::Revoked)).collect();
        (of(&|number| list.check_certificate(&self.certificate(number))), of(&|number| list.check_key(&self.key(&format!("key{number}")))))
    }
}

#[test]
fn a_text_revokes_what_its_lines_say() {
    let bench = Bench::new();
    let fingerprint = bench.key("key4").fingerprint();
    let nothing: [usize; 0] = [];
    for (text, certificates, keys) in [
        (String::new(), &nothing[..], &nothing[..]),
        ("# serial: 1\n\n".to_owned(), &[], &[]),
        ("serial: 2".to_owned(), &[2], &[]),
        ("serial:2\nSERIAL: 0x3\nserial: 5 - 6".to_owned(), &[2, 3, 5, 6], &[]),
        ("serial: 7".to_owned(), &[7], &[]),
        ("serial: 1-18446744073709551615".to_owned(), &[1, 2, 3, 4, 5, 6, 7], &[]),
        ("id: name 3".to_owned(), &[3], &[]),
        ("id: name".to_owned(), &[], &[]),
        (bench.line("key3"), &[3], &[3]),
        (format!("{} cardno:000612345678", bench.key("key3").to_line()), &[3], &[3]),
        (format!("key:{}\tserial: 7", bench.key("key3").to_line()), &[3], &[3]),
        (format!("key: {}", bench.line("key3")), &[3], &[3]),
        (format!("sha256: {}", bench.line("key3")), &[3], &[3]),
        (bench.line("key3-cert"), &[3], &[3]),
        (format!("hash: {fingerprint}"), &[4], &[4]),
        (format!("hash: {fingerprint}="), &[4], &[4]),
        (bench.line("ca"), &[1, 2, 3, 4, 5, 6], &[]),
        (format!("{}\n{}", bench.line("key1").trim_end(), bench.line("key2")).replace('\n', "\r\n"), &[1, 2], &[1, 2]),
    ] {
        let list = Revocations::parse(text.as_bytes()).unwrap();
        assert_eq!(bench.revoked(&list), (certificates.to_vec(), keys.to_vec()), "{text}");
    }
}

#[test]
fn a_list_with_a_line_that_cannot_be_read_is_no_list() {
    for text in [
        "serial: 0",
        "serial: 0-5",
        "serial: 5-4",
        "serial: 010",
        "serial: -1",
        "serial:",
        "serial: 18446744073709551616",
        "serial: 1 2",
        "id:",
        "hash: SHA256:AAAA",
        "hash: MD5:00:11",
        "key: nothing",
        "ssh-ed25519 AAAA",
        "revoke: 1",
        "serial : 1",
        "everything",
    ] {
        let bad = Revocations::parse(format!("# a comment\n{text}\n").as_bytes()).unwrap_err();
        assert_eq!(bad.line, 2, "{text}");
        assert!(bad.to_string().starts_with("line 2: expected"), "{bad}");
    }
    assert_eq!(Revocations::parse(&[0xff, 0xfe]).unwrap_err().line, 0);
    assert_eq!(Revocations::parse(&vec![b'#'; LIST_MAX + 1]).unwrap_err().line, 0);
    // Of a type that nobody takes any more, and yet listed.
    let mut blob = Vec::new();
    blob.put_string("ssh-dss").put_mpint(&[1]);
    assert!(Revocations::parse(line("ssh-dss", &blob).as_bytes()).is_ok());
}

#[test]
fn the_lists_of_ssh_keygen_revoke_what_it_says_they_do() {
    let bench = Bench::new();
    let fingerprint = bench.key("key4").fingerprint();
    let mut bitmaps = 0;
    let many: String = (100..400).map(|number| format!("serial: {}\n", number * 3)).collect();
    for (number, (specification, authority)) in [
        ("serial: 2\n".to_owned(), Some("ca.pub")),
        ("serial: 2\nserial: 4-6\n".to_owned(), Some("ca.pub")),
        ("serial: 7\n".to_owned(), Some("ca.pub")),
        ("serial: 7\n".to_owned(), Some("other.pub")),
        ("serial: 1\nserial: 3\nserial: 5\nserial: 6\nserial: 9\n".to_owned(), Some("ca.pub")),
        (format!("serial: 3\n{many}"), Some("ca.pub")),
        ("id: name 3\nid: name 7\n".to_owned(), Some("ca.pub")),
        (format!("key: {}", bench.line("key5")), None),
        (format!("sha1: {}", bench.line("key5")), None),
        (format!("sha256: {}", bench.line("key5")), None),
        (format!("hash: {fingerprint}\n"), None),
        (format!("key: {}", bench.line("ca")), None),
        (format!("{}{}", bench.line("key1"), bench.line("key2-cert")), Some("ca.pub")),
        (String::new(), None),
    ]
    .into_iter()
    .enumerate()
    {
        let list = format!("list{number}");
        bench.keygen.write("specification", &specification);
        let mut arguments = vec!["-q", "-k", "-f", list.as_str()];
        arguments.extend(authority.into_iter().flat_map(|authority| ["-s", authority]));
        arguments.push("specification");
        bench.keygen.run(&arguments);
        let read = Revocations::parse(&std::fs::read(bench.keygen.path(&list)).unwrap()).unwrap();
        bitmaps +=
            read.certificates.iter().flat_map(|listed| &listed.serials).filter(|serials| matches!(serials, Serials::Bitmap { .. })).count();
        let judged = |suffix: &str| -> Vec<usize> {
            // It fails if what it is asked of is revoked.
            let file = |number: usize| format!("key{number}{suffix}.pub");
            (1..=7).filter(|number| bench.keygen.ask(&["-Q", "-f", &list, &file(*number)], b"").is_err()).collect()
        };
        assert_eq!(bench.revoked(&read), (judged("-cert"), judged("")), "{specification:.200}");
    }
    assert!(bitmaps > 0, "one of the lists is dense enough for a bitmap");
}

/// A binary list with these sections.
fn binary(sections: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut list = krl::MAGIC.to_vec();
    list.put_u32(1).put_u64(1).put_u64(0).put_u64(0).put_string("").put_string("");
    for (kind, section) in sections {
        list.put_u8(*kind).put_string(section);
    }
    list
}

#[test]
fn a_binary_list_that_is_not_wholly_understood_is_no_list() {
    let extension = |critical| {
        let mut extension = Vec::new();
        extension.put_string("new@example.com").put_bool(critical).put_string("");
        extension
    };
    let certificates = |kind: u8, section: &[u8]| {
        let mut certificates = Vec::new();
        certificates.put_string("").put_string("").put_u8(kind).put_string(section);
        certificates
    };
    for (what, list) in [
        ("no section", binary(&[])),
        ("an extension that is not critical", binary(&[(255, extension(false))])),
        ("one among the certificates", binary(&[(1, certificates(0x39, &extension(false)))])),
        ("a list of serials of every authority", binary(&[(1, certificates(0x20, &[0; 16]))])),
    ] {
        assert!(Revocations::parse(&list).is_ok(), "{what}");
        // Of no byte it is an empty text, and cut between two sections a shorter list: nothing says how many there are.
        for length in 1..list.len() {
            if length != binary(&[]).len() {
                assert!(Revocations::parse(&list[..length]).is_err(), "{what} cut to {length}");
            }
        }
    }
    let mut version = binary(&[]);
    version[11] = 2;
    for (what, list) in [
        ("another version", version),
        ("a critical extension", binary(&[(255, extension(true))])),
        ("one among the certificates", binary(&[(1, certificates(0x39, &extension(true)))])),
        ("a section of another kind", binary(&[(6, vec![])])),
        ("a signature", binary(&[(4, vec![])])),
        ("certificates in another way", binary(&[(1, certificates(0x24, &[]))])),
        ("half a serial", binary(&[(1, certificates(0x20, &[0; 12]))])),
        ("a range with more", binary(&[(1, certificates(0x21, &[0; 17]))])),
        ("a range that ends before it begins", binary(&[(1, certificates(0x21, &[[1; 8], [0; 8]].concat()))])),
    ] {
        assert!(Revocations::parse(&list).is_err(), "{what}");
    }
}

#[test]
fn a_bitmap_says_which_serials_it_means() {
    let bitmap = Serials::Bitmap { first: 100, bits: vec![0x80, 0x05] };
    let wanted = [100, 102, 115];
    for serial in 0..300 {
        assert_eq!(bitmap.contains(serial), wanted.contains(&serial), "{serial}");
    }
    assert!(!bitmap.contains(u64::MAX));
}

proptest! {
    #[test]
    fn any_list_is_read_or_refused(kind in any::<u8>(), rest in proptest::collection::vec(any::<u8>(), 0..100), text in "[a-zA-Z0-9: #\n-]{0,80}") {
        let _ = Revocations::parse(&binary(&[(kind, rest.clone())]));
        let _ = Revocations::parse(&binary(&[(1, rest.clone())]));
        let _ = Revocations::parse(&[krl::MAGIC, &rest].concat());
        let _ = Revocations::parse(text.as_bytes());
    }
}
