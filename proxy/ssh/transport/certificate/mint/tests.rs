use super::*;
use crate::certificate::{Certificate, HostCheck};
use crate::error::Fatal;
use crate::keygen::{Keygen, TYPES};
use crate::revocation::Revocations;
use crate::sign::{Certified, generate_ed25519, read_private_key};
use crate::untrusted::Untrusted;

/// Random bytes that are not.
struct Sevens;

impl Random for Sevens {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Fatal> {
        bytes.fill(7);
        Ok(())
    }
}

struct Nothing;

impl Random for Nothing {
    fn fill(&mut self, _: &mut [u8]) -> Result<(), Fatal> {
        Err(Fatal::Internal("none"))
    }
}

const NOW: u64 = 1_800_000_000;

fn wanted(key: &PublicKey) -> HostCertificate<'_> {
    HostCertificate {
        key,
        principals: &["web-1", "Web-1.example.com"],
        key_id: "web-1",
        serial: 42,
        valid_after: NOW,
        valid_before: NOW + 60,
    }
}

#[test]
fn what_we_make_is_what_openssh_reads_and_what_we_take_ourselves() {
    let keygen = Keygen::new();
    for (number, (kind, name)) in TYPES.into_iter().enumerate() {
        let (authority, key) = (keygen.key(&format!("ca{number}"), kind), keygen.key(&format!("key{number}"), kind));
        let authority_key = read_private_key(keygen.read(&format!("ca{number}")).as_bytes(), None).unwrap();
        let blob = mint_host(&*authority_key, &wanted(&key), &mut Sevens).unwrap();
        let certificate = Certificate::parse(&blob).unwrap();
        let none = Revocations::default();
        let check =
            |host, now| certificate.check_host(&HostCheck { authorities: std::slice::from_ref(&authority), revocations: &none, host, now });
        assert_eq!(check("web-1", NOW), Ok(()), "{name}");
        assert_eq!(check("web-1.example.com", NOW + 59), Ok(()), "{name}");
        assert_eq!(check("web-1", NOW + 60), Err(Untrusted::Expired));
        // `ssh-keygen -L` verifies the signature of what it reads.
        keygen.write("made-cert.pub", crate::keygen::line(key.kind().certificate_name(), &blob));
        let (last, rest) = blob.split_last().unwrap();
        keygen.write("broken-cert.pub", crate::keygen::line(key.kind().certificate_name(), &[rest, &[last ^ 1]].concat()));
        assert!(keygen.ask(&["-L", "-f", "broken-cert.pub"], b"").is_err(), "{name}");
        let shown: Vec<String> = keygen.run(&["-L", "-f", "made-cert.pub"]).lines().map(|line| line.trim().to_owned()).collect();
        for line in [
            format!("Public key: {} {}", shown_kind(name), key.fingerprint()),
            "Key ID: \"web-1\"".to_owned(),
            "Serial: 42".to_owned(),
            "Valid: from 2027-01-15T08:00:00 to 2027-01-15T08:01:00".to_owned(),
            "web-1".to_owned(),
            "web-1.example.com".to_owned(),
            "Critical Options: (none)".to_owned(),
            "Extensions: (none)".to_owned(),
        ] {
            assert!(shown.contains(&line), "{line}: {shown:#?}");
        }
        assert!(shown.iter().any(|line| line.starts_with("Type: ") && line.ends_with("host certificate")), "{shown:#?}");
        let signing = shown.iter().find(|line| line.starts_with("Signing CA:")).unwrap();
        assert!(signing.contains(&authority.fingerprint()) && !signing.contains("using ssh-rsa"), "{signing}");
    }
}

/// What `ssh-keygen -L` calls a type of key in the line of the certificate's.
fn shown_kind(name: &str) -> &'static str {
    match name {
        "ssh-ed25519" => "ED25519-CERT",
        "ssh-rsa" => "RSA-CERT",
        _ => "ECDSA-CERT",
    }
}

#[test]
fn a_certificate_for_every_host_for_none_or_for_no_time_is_not_made() {
    let (authority, key) = (generate_ed25519().unwrap(), generate_ed25519().unwrap());
    let good = wanted(key.public());
    assert!(mint_host(&authority, &good, &mut Sevens).is_ok());
    let long = "x".repeat(513);
    let many = vec!["web"; 257];
    for (what, bad) in [
        ("no names", HostCertificate { principals: &[], ..good }),
        ("an empty name", HostCertificate { principals: &["web-1", ""], ..good }),
        ("a name with a line end", HostCertificate { principals: &["web-1\n"], ..good }),
        ("a name with a blank", HostCertificate { principals: &["web 1"], ..good }),
        ("a name for all hosts", HostCertificate { principals: &["*"], ..good }),
        ("a name for many", HostCertificate { principals: &["web-?"], ..good }),
        ("several names in one", HostCertificate { principals: &["web-1,web-2"], ..good }),
        ("a long name", HostCertificate { principals: &[&long], ..good }),
        ("many names", HostCertificate { principals: &many, ..good }),
        ("a long id", HostCertificate { key_id: &long, ..good }),
        ("no time", HostCertificate { valid_before: NOW, ..good }),
        ("less than no time", HostCertificate { valid_before: NOW - 1, ..good }),
    ] {
        assert!(mint_host(&authority, &bad, &mut Sevens).is_err(), "{what}");
    }
    assert!(mint_host(&authority, &good, &mut Nothing).is_err(), "no random bytes");
    let certificate = mint_host(&authority, &wanted(key.public()), &mut Sevens).unwrap();
    let certified = Certified::new(std::sync::Arc::new(key), &certificate).unwrap();
    assert!(mint_host(&certified, &wanted(authority.public()), &mut Sevens).is_err(), "an authority that is a certificate");
}
