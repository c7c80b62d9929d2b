//! Keys, certificates, signatures, private keys and revocation lists of SSH, as a peer, a file or a secret store has them. The first byte says
//! which; ssh-key reads the same keys and certificates as a second opinion.
#![no_main]

use keyward_ssh_transport::certificate::{Certificate, HostCheck, UserCheck};
use keyward_ssh_transport::key::{AuthorizedKey, KeyType, PublicKey, SIGNATURE_ALGORITHMS, SkPolicy, Untrusted};
use keyward_ssh_transport::revocation::Revocations;
use keyward_ssh_transport::sign::read_private_key;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, rest)) = bytes.split_first() else { return };
    match kind {
        0 => key(rest),
        1 => certificate(rest),
        2 => signature(rest),
        3 => {
            // Without a passphrase: hashing one takes long.
            if let Ok(signer) = read_private_key(rest, None) {
                let algorithm = signer.algorithms()[0];
                let signed = signer.sign(algorithm, b"message").unwrap();
                assert_eq!(signer.public().verify(algorithm, b"message", &signed, SkPolicy::TOUCH), Ok(()));
            }
        }
        4 => {
            let _ = Revocations::parse(rest);
        }
        _ => {
            if let Ok(line) = str::from_utf8(rest) {
                let _ = Certificate::parse_line(line);
                if let Ok(authorized) = AuthorizedKey::parse(line) {
                    let again = AuthorizedKey::parse(&authorized.key.to_line()).unwrap();
                    assert_eq!(again.key, authorized.key, "what is written is what was read");
                }
            }
        }
    }
});

fn key(blob: &[u8]) {
    if let Ok(key) = PublicKey::parse(blob) {
        assert_eq!(key.blob(), blob);
        match ssh_key::PublicKey::from_bytes(blob) {
            Ok(second) => assert_eq!(second.fingerprint(ssh_key::HashAlg::Sha256).to_string(), key.fingerprint()),
            // It takes no application that is not UTF-8, which OpenSSH does.
            Err(error) => assert!(matches!(key.kind(), KeyType::SkEd25519 | KeyType::SkEcdsaP256), "{error}"),
        }
        assert!(Certificate::parse(blob).is_err(), "one or the other");
    }
}

fn certificate(blob: &[u8]) {
    let Ok(certificate) = Certificate::parse(blob) else { return };
    if let Ok(second) = ssh_key::Certificate::from_bytes(blob) {
        assert_eq!((certificate.serial(), certificate.valid_before()), (second.serial(), second.valid_before()));
        assert_eq!(certificate.key().fingerprint(), second.public_key().fingerprint(ssh_key::HashAlg::Sha256).to_string());
        assert_eq!(certificate.authority().fingerprint(), second.signature_key().fingerprint(ssh_key::HashAlg::Sha256).to_string());
    }
    let (revocations, now) = (Revocations::default(), 1_800_000_000);
    for authorities in [vec![], vec![certificate.authority().clone()]] {
        let user = UserCheck {
            authorities: &authorities,
            revocations: &revocations,
            principal: "alice",
            source: Some([192, 0, 2, 7].into()),
            now,
            policy: SkPolicy::TOUCH,
        };
        let host = HostCheck { authorities: &authorities, revocations: &revocations, host: "web-1", now };
        let (user, host) = (certificate.check_user(&user).map(|_| ()), certificate.check_host(&host));
        assert!(user.is_err() || host.is_err(), "it has one role");
        if authorities.is_empty() {
            assert!(user.is_err() && host.is_err());
        }
        for error in [user.err(), host.err()].into_iter().flatten() {
            assert!(error.to_string().len() < 1000 && error.to_string().is_ascii() || matches!(error, Untrusted::CriticalOption(_)));
        }
    }
}

/// A key, and behind it something that it might have signed with.
fn signature(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return };
    let Some((blob, signature)) = rest.split_at_checked(u16::from_be_bytes(*length).into()) else { return };
    if let Ok(key) = PublicKey::parse(blob) {
        let good: Vec<&str> = SIGNATURE_ALGORITHMS
            .into_iter()
            .filter(|algorithm| key.verify(algorithm, b"message", signature, SkPolicy::TOUCH).is_ok())
            .collect();
        assert!(good.len() <= 1 && good.iter().all(|algorithm| key.kind().algorithms().contains(algorithm)));
    }
}
