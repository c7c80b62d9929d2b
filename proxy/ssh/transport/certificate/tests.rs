use std::net::IpAddr;

use super::*;
use crate::key::{BadKey, Demand};
use crate::keygen::{Keygen, TYPES};
use crate::revocation::Revocations;
use crate::sign::{Signer, generate_ed25519, read_private_key};
use crate::wire::Put;

const NOW: u64 = 1_800_000_000;

fn signer(keygen: &Keygen, name: &str) -> Box<dyn Signer> {
    read_private_key(keygen.read(name).as_bytes(), None).unwrap()
}

/// A user's check of these authorities, for alice from 192.0.2.7.
fn alice<'a>(authorities: &'a [PublicKey], revocations: &'a Revocations) -> UserCheck<'a> {
    let source = Some("192.0.2.7".parse().unwrap());
    UserCheck { authorities, revocations, principal: "alice", source, now: NOW, policy: SkPolicy::TOUCH }
}

/// A certificate that nobody would make: every field can be what it must not be.
struct Draft {
    kind: &'static str,
    nonce: Vec<u8>,
    key: PublicKey,
    role: u32,
    principals: Vec<&'static str>,
    validity: (u64, u64),
    critical: Vec<(&'static str, Vec<u8>)>,
    extensions: Vec<(&'static str, Vec<u8>)>,
    authority: Vec<u8>,
}

/// An option's data that is a string.
fn text(text: &str) -> Vec<u8> {
    let mut data = Vec::new();
    data.put_string(text);
    data
}

impl Draft {
    fn of(authority: &dyn Signer) -> Self {
        Self {
            kind: "ssh-ed25519-cert-v01@openssh.com",
            nonce: vec![9; 32],
            key: PublicKey::parse(&[text("ssh-ed25519"), text("an ed25519 key is 32 bytes long!")].concat()).unwrap(),
            role: 1,
            principals: vec!["alice"],
            validity: (NOW - 60, NOW + 60),
            critical: vec![],
            extensions: vec![],
            authority: authority.public().blob().to_vec(),
        }
    }

    fn signed_by(&self, authority: &dyn Signer) -> Vec<u8> {
        let mut blob = self.unsigned();
        let signature = authority.sign(authority.algorithms()[0], &blob).unwrap();
        blob.put_string(signature);
        blob
    }

    fn unsigned(&self) -> Vec<u8> {
        let list = |options: &[(&str, Vec<u8>)]| {
            let mut list = Vec::new();
            for (name, data) in options {
                list.put_string(name).put_string(data);
            }
            list
        };
        let principals: Vec<u8> = self.principals.iter().flat_map(|name| text(name)).collect();
        let mut blob = Vec::new();
        blob.put_string(self.kind).put_string(&self.nonce);
        self.key.put_fields(&mut blob);
        blob.put_u64(7).put_u32(self.role).put_string("a name").put_string(principals);
        blob.put_u64(self.validity.0).put_u64(self.validity.1).put_string(list(&self.critical)).put_string(list(&self.extensions));
        blob.put_string("").put_string(&self.authority);
        blob
    }
}

#[track_caller]
fn parse(blob: &[u8]) -> Certificate {
    Certificate::parse(blob).unwrap()
}

#[test]
fn certificates_of_every_key_by_every_authority_count_as_ssh_keygen_makes_them() {
    let keygen = Keygen::new();
    let none = Revocations::default();
    for (number, (kind, _)) in TYPES.into_iter().enumerate() {
        keygen.key(&format!("ca{number}"), kind);
        keygen.key(&format!("key{number}"), kind);
    }
    for authority in 0..TYPES.len() {
        let authority_key = PublicKey::parse_line(&keygen.read(&format!("ca{authority}.pub"))).unwrap();
        let authorities = [PublicKey::parse_line(&keygen.read("key0.pub")).unwrap(), authority_key.clone()];
        for key in [authority, (authority + 1) % TYPES.len()] {
            let file = format!("key{key}");
            let validity = format!("0x{:x}:0x{:x}", NOW - 60, NOW + 60);
            let options = ["-n", "bob,alice", "-z", "42", "-V", &validity, "-O", "clear", "-O", "permit-pty"];
            let blob = keygen.certificate(&format!("ca{authority}"), &file, &options);
            let certificate = parse(&blob);
            let granted = certificate.check_user(&alice(&authorities, &none)).unwrap();
            assert_eq!(granted.key, PublicKey::parse_line(&keygen.read(&format!("{file}.pub"))).unwrap());
            assert_eq!((granted.serial, granted.valid_before, granted.key_id.as_str()), (42, NOW + 60, "a name"));
            assert_eq!(
                (granted.permissions, granted.policy, granted.authority),
                (vec![Permission::Pty], SkPolicy::TOUCH, authority_key.clone())
            );
            let line = keygen.read(&format!("{file}-cert.pub"));
            assert_eq!(Certificate::parse_line(&line).unwrap().serial(), 42);
            for length in 0..blob.len() {
                assert!(Certificate::parse(&blob[..length]).is_err(), "cut to {length}");
            }
            assert!(Certificate::parse(&[blob.as_slice(), &[0]].concat()).is_err());
            // Any bit of it: it is read no more, or its signature is wrong.
            for bit in (0..blob.len() * 8).step_by(5) {
                let mut flipped = blob.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let counts = Certificate::parse(&flipped).and_then(|certificate| certificate.check_user(&alice(&authorities, &none)));
                assert!(counts.is_err(), "bit {bit} flipped");
            }
        }
    }
}

#[test]
fn rule_22_who_when_and_by_whom() {
    let keygen = Keygen::new();
    let authority = keygen.key("ca", &["-t", "ed25519"]);
    let stranger = keygen.key("stranger", &["-t", "ed25519"]);
    keygen.key("key", &["-t", "ecdsa"]);
    let (authorities, none) = ([authority], Revocations::default());
    let make = |options: &[&str]| parse(&keygen.certificate("ca", "key", options));
    let check = |certificate: &Certificate, principal: &str, now: u64| {
        certificate.check_user(&UserCheck { principal, now, ..alice(&authorities, &none) }).map(|_| ())
    };
    let validity = format!("0x{:x}:0x{:x}", NOW, NOW + 60);
    let good = make(&["-n", "alice,bob", "-V", &validity]);
    for (principal, now, wanted) in [
        ("alice", NOW, Ok(())),
        ("bob", NOW + 59, Ok(())),
        ("alice", NOW - 1, Err(Untrusted::NotYetValid)),
        ("alice", NOW + 60, Err(Untrusted::Expired)),
        ("alice", u64::MAX, Err(Untrusted::Expired)),
        ("alice", 0, Err(Untrusted::NotYetValid)),
        ("carol", NOW, Err(Untrusted::AnotherPrincipal)),
        ("alic", NOW, Err(Untrusted::AnotherPrincipal)),
        ("alice,bob", NOW, Err(Untrusted::AnotherPrincipal)),
        ("Alice", NOW, Err(Untrusted::AnotherPrincipal)),
        ("", NOW, Err(Untrusted::AnotherPrincipal)),
    ] {
        assert_eq!(check(&good, principal, now), wanted, "{principal} {now}");
    }
    let forever = make(&["-n", "alice", "-V", "always:forever"]);
    assert_eq!((check(&forever, "alice", 0), check(&forever, "alice", u64::MAX - 1)), (Ok(()), Ok(())));
    assert_eq!(check(&make(&[]), "alice", NOW), Err(Untrusted::NoPrincipals));
    assert_eq!(check(&make(&["-h", "-n", "alice"]), "alice", NOW), Err(Untrusted::CertificateForAnotherRole), "a host's");
    for (authorities, wanted) in [(vec![], Untrusted::UnknownAuthority), (vec![stranger], Untrusted::UnknownAuthority)] {
        assert_eq!(good.check_user(&alice(&authorities, &none)).err(), Some(wanted), "the authority inside alone");
    }
    // The key of a certificate is no authority, even if it is trusted as a key.
    let own = keygen.certificate("key", "stranger", &["-n", "alice"]);
    assert_eq!(check(&parse(&own), "alice", NOW), Err(Untrusted::UnknownAuthority));
    // Another authority's signature under the name of ours.
    let impostor = Draft::of(&*signer(&keygen, "ca")).signed_by(&*signer(&keygen, "stranger"));
    assert_eq!(check(&parse(&impostor), "alice", NOW), Err(Untrusted::SignatureWrong));
}

#[test]
fn rule_22_what_is_revoked_does_not_count() {
    let keygen = Keygen::new();
    let authorities = [keygen.key("ca", &["-t", "ed25519"])];
    keygen.key("key", &["-t", "ed25519"]);
    let user = parse(&keygen.certificate("ca", "key", &["-n", "alice", "-z", "7"]));
    let host = parse(&keygen.certificate("ca", "key", &["-h", "-n", "web-1", "-z", "8"]));
    let counts = |list: &str| {
        let revocations = Revocations::parse(list.as_bytes()).unwrap();
        let check = HostCheck { authorities: &authorities, revocations: &revocations, host: "web-1", now: NOW };
        (user.check_user(&alice(&authorities, &revocations)).map(|_| ()), host.check_host(&check))
    };
    let revoked = || Err(Untrusted::Revoked);
    assert_eq!(counts(""), (Ok(()), Ok(())));
    assert_eq!(counts("serial: 7"), (revoked(), Ok(())));
    assert_eq!(counts("serial: 8"), (Ok(()), revoked()));
    assert_eq!(counts("id: a name"), (revoked(), revoked()));
    assert_eq!(counts(&keygen.read("key.pub")), (revoked(), revoked()));
    assert_eq!(counts(&keygen.read("ca.pub")), (revoked(), revoked()));
}

#[test]
fn rule_22_every_critical_option_must_be_honoured() {
    let keygen = Keygen::new();
    let authorities = [keygen.key("ca", &["-t", "ed25519"])];
    keygen.key("key", &["-t", "ed25519"]);
    let none = Revocations::default();
    let from = |options: &[&str], source: Option<&str>| {
        let certificate = parse(&keygen.certificate("ca", "key", &[&["-n", "alice"], options].concat()));
        let source = source.map(|address| address.parse::<IpAddr>().unwrap());
        certificate.check_user(&UserCheck { source, ..alice(&authorities, &none) })
    };
    let bound = ["-O", "source-address=192.0.2.0/24,2001:db8::/32"];
    assert!(from(&bound, Some("192.0.2.7")).is_ok());
    assert!(from(&bound, Some("2001:db8::7")).is_ok());
    assert_eq!(from(&bound, Some("192.0.3.7")).err(), Some(Untrusted::SourceAddress));
    assert_eq!(from(&bound, None).err(), Some(Untrusted::SourceAddress), "nobody knows where from");
    for option in ["force-command=/bin/true", "critical:new@example.com=x"] {
        let name = option.trim_start_matches("critical:").split('=').next().unwrap();
        let refused = Untrusted::CriticalOption(Shown::new(name.as_bytes()));
        assert_eq!(from(&["-O", option], Some("192.0.2.7")).err(), Some(refused));
    }
    assert_eq!(from(&["-O", "verify-required"], None).unwrap().policy.verification, Demand::Required);
    assert!(from(&["-O", "extension:new@example.com=x"], None).is_ok(), "what is not critical may be unknown");
    for option in ["permit-pty", "no-touch-required"] {
        let refused = from(&["-O", "clear", "-O", &format!("extension:{option}=x")], None).err();
        assert_eq!(refused, Some(Untrusted::CertificateMalformed("an extension that takes no data has some")), "{option}");
    }
    let usual = from(&[], None).unwrap();
    assert_eq!(usual.permissions.len(), 5, "what ssh-keygen gives by default");
    // Sorted after one that is honoured: it is looked at too.
    let both = ["-O", "source-address=192.0.2.0/24", "-O", "critical:zzz=x"];
    assert_eq!(from(&both, Some("192.0.2.7")).err(), Some(Untrusted::CriticalOption(Shown::new(b"zzz"))));
}

#[test]
fn a_touch_is_waived_only_where_the_certificate_and_its_check_both_say_so() {
    let keygen = Keygen::new();
    let authorities = [keygen.key("ca", &["-t", "ed25519"])];
    keygen.key("key", &["-t", "ed25519"]);
    let none = Revocations::default();
    let waived = SkPolicy { touch: Demand::Waived, verification: Demand::Waived };
    for (option, policy, wanted) in [
        ("permit-pty", SkPolicy::TOUCH, Demand::Required),
        ("permit-pty", waived, Demand::Required),
        ("no-touch-required", SkPolicy::TOUCH, Demand::Required),
        ("no-touch-required", waived, Demand::Waived),
    ] {
        let certificate = parse(&keygen.certificate("ca", "key", &["-n", "alice", "-O", option]));
        let granted = certificate.check_user(&UserCheck { policy, ..alice(&authorities, &none) }).unwrap();
        assert_eq!(granted.policy.touch, wanted, "{option} {policy:?}");
    }
}

#[test]
fn a_certificate_that_is_not_as_it_must_be_is_malformed() {
    let authority = generate_ed25519().unwrap();
    let (authorities, none) = ([authority.public().clone()], Revocations::default());
    let draft = || Draft::of(&authority);
    let flag = |name| (name, vec![]);
    let good = draft().signed_by(&authority);
    assert!(parse(&good).check_user(&alice(&authorities, &none)).is_ok());
    let malformed = |draft: Draft| Certificate::parse(&draft.signed_by(&authority)).err();
    for (what, draft) in [
        ("role 0", Draft { role: 0, ..draft() }),
        ("role 3", Draft { role: 3, ..draft() }),
        ("critical options out of order", Draft { critical: vec![flag("verify-required"), ("source-address", text("::/0"))], ..draft() }),
        ("a critical option twice", Draft { critical: vec![flag("verify-required"), flag("verify-required")], ..draft() }),
        ("extensions out of order", Draft { extensions: vec![flag("permit-pty"), flag("permit-X11-forwarding")], ..draft() }),
        ("many principals", Draft { principals: vec!["alice"; 257], ..draft() }),
        ("a long nonce", Draft { nonce: vec![9; 40_000], ..draft() }),
        ("the key's own type", Draft { kind: "ssh-ed25519", ..draft() }),
        ("another type", Draft { kind: "ssh-dss-cert-v01@openssh.com", ..draft() }),
        ("an older format", Draft { kind: "ssh-ed25519-cert-v00@openssh.com", ..draft() }),
    ] {
        assert!(matches!(malformed(draft), Some(Untrusted::CertificateMalformed(_))), "{what}");
    }
    assert_eq!(malformed(Draft { kind: "ecdsa-sha2-nistp256-cert-v01@openssh.com", ..draft() }), Some(Untrusted::Key(BadKey::Curve)));
    assert!(malformed(Draft { principals: vec!["alice"; 256], ..draft() }).is_none());
    assert_eq!(
        malformed(Draft { authority: good.clone(), ..draft() }),
        Some(Untrusted::Key(BadKey::Certificate)),
        "an authority that is one"
    );
    for data in [vec![0], text("x")] {
        let option = Draft { critical: vec![("verify-required", data)], ..draft() }.signed_by(&authority);
        assert!(matches!(parse(&option).check_user(&alice(&authorities, &none)), Err(Untrusted::CriticalOption(_))));
    }
    for data in [vec![], b"192.0.2.7".to_vec(), [text("192.0.2.7"), vec![0]].concat()] {
        let option = Draft { critical: vec![("source-address", data)], ..draft() }.signed_by(&authority);
        assert!(parse(&option).check_user(&alice(&authorities, &none)).is_err());
    }
}

#[test]
fn rule_4_an_authority_does_not_sign_with_sha1() {
    let keygen = Keygen::new();
    let authorities = [keygen.key("ca", &["-t", "rsa", "-b", "2048"])];
    keygen.key("key", &["-t", "ed25519"]);
    let none = Revocations::default();
    for (algorithm, wanted) in
        [("rsa-sha2-512", None), ("rsa-sha2-256", None), ("ssh-rsa", Some(Untrusted::Algorithm(Shown::new(b"ssh-rsa"))))]
    {
        let blob = keygen.certificate("ca", "key", &["-t", algorithm, "-n", "alice"]);
        assert_eq!(parse(&blob).check_user(&alice(&authorities, &none)).err(), wanted, "{algorithm}");
    }
    keygen.run(&["-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", "small"]);
    let blob = keygen.certificate("ca", "small", &["-n", "alice"]);
    assert_eq!(Certificate::parse(&blob).err(), Some(Untrusted::Key(BadKey::RsaSize)));
}

#[test]
fn a_hosts_certificate_counts_for_its_names_alone() {
    let keygen = Keygen::new();
    let authorities = [keygen.key("ca", &["-t", "ed25519"])];
    keygen.key("key", &["-t", "ed25519"]);
    let none = Revocations::default();
    let check = |certificate: &Certificate, host: &str, now| {
        certificate.check_host(&HostCheck { authorities: &authorities, revocations: &none, host, now })
    };
    let validity = format!("0x{:x}:0x{:x}", NOW, NOW + 60);
    let good = parse(&keygen.certificate("ca", "key", &["-h", "-n", "web-1,*.example.com", "-V", &validity]));
    for (host, now, wanted) in [
        ("web-1", NOW, Ok(())),
        ("WEB-1", NOW, Ok(())),
        ("web-2", NOW, Err(Untrusted::AnotherPrincipal)),
        ("a.example.com", NOW, Err(Untrusted::AnotherPrincipal)),
        ("", NOW, Err(Untrusted::AnotherPrincipal)),
        ("web-1", NOW - 1, Err(Untrusted::NotYetValid)),
        ("web-1", NOW + 60, Err(Untrusted::Expired)),
    ] {
        assert_eq!(check(&good, host, now), wanted, "{host} {now}");
    }
    let empty = HostCheck { authorities: &[], revocations: &none, host: "web-1", now: NOW };
    assert_eq!(good.check_host(&empty), Err(Untrusted::UnknownAuthority));
    assert_eq!(check(&parse(&keygen.certificate("ca", "key", &["-h"])), "web-1", NOW), Err(Untrusted::NoPrincipals));
    let user = parse(&keygen.certificate("ca", "key", &["-n", "web-1"]));
    assert_eq!(check(&user, "web-1", NOW), Err(Untrusted::CertificateForAnotherRole));
    let authority = signer(&keygen, "ca");
    let optional = Draft { role: 2, principals: vec!["web-1"], critical: vec![("source-address", text("::/0"))], ..Draft::of(&*authority) };
    let refused = Untrusted::CriticalOption(Shown::new(b"source-address"));
    assert_eq!(check(&parse(&optional.signed_by(&*authority)), "web-1", NOW), Err(refused), "there is none for hosts");
}

#[test]
fn rule_19_what_is_presented_is_what_the_algorithm_says() {
    let keygen = Keygen::new();
    keygen.key("ca", &["-t", "ed25519"]);
    let rsa = keygen.key("rsa", &["-t", "rsa", "-b", "2048"]);
    let ed25519 = keygen.key("ed25519", &["-t", "ed25519"]);
    let certified = keygen.certificate("ca", "rsa", &["-n", "alice"]);
    let read = |algorithm, blob: &[u8]| Presented::parse(algorithm, blob).map(|presented| presented.key().clone());
    for (algorithm, blob) in [
        ("rsa-sha2-256", rsa.blob()),
        ("rsa-sha2-512", rsa.blob()),
        ("rsa-sha2-256-cert-v01@openssh.com", &certified),
        ("rsa-sha2-512-cert-v01@openssh.com", &certified),
    ] {
        assert_eq!(read(algorithm, blob), Ok(rsa.clone()), "{algorithm}");
    }
    for (algorithm, blob, wanted) in [
        ("rsa-sha2-256", &certified[..], Untrusted::Key(BadKey::Certificate)),
        ("rsa-sha2-256-cert-v01@openssh.com", rsa.blob(), Untrusted::CertificateMalformed("its type is unknown")),
        ("rsa-sha2-256", ed25519.blob(), Untrusted::AlgorithmOfAnotherKey),
        ("ssh-ed25519", rsa.blob(), Untrusted::AlgorithmOfAnotherKey),
        ("ssh-ed25519-cert-v01@openssh.com", &certified, Untrusted::AlgorithmOfAnotherKey),
        ("ssh-rsa", rsa.blob(), Untrusted::Algorithm(Shown::new(b"ssh-rsa"))),
        ("ssh-rsa-cert-v01@openssh.com", &certified, Untrusted::Algorithm(Shown::new(b"ssh-rsa-cert-v01@openssh.com"))),
    ] {
        assert_eq!(read(algorithm, blob), Err(wanted), "{algorithm}");
    }
    // Signed by one of the two algorithms of the same key, presented under the other.
    let signed = signer(&keygen, "rsa").sign("rsa-sha2-256", b"message").unwrap();
    for (algorithm, wanted) in [("rsa-sha2-256", Ok(())), ("rsa-sha2-512", Err(Untrusted::SignatureOfAnotherAlgorithm))] {
        let presented = Presented::parse(algorithm, rsa.blob()).unwrap();
        assert_eq!(presented.verify(b"message", &signed, SkPolicy::TOUCH), wanted);
        assert!(matches!(presented.what(), What::Key(_)));
    }
}
