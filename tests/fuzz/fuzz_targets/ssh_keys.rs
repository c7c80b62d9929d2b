//! Keys, certificates, signatures, private keys and revocation lists of SSH, as a peer, a file or a secret store has them. The first byte says
//! which. A key is read by ssh-key too; a certificate by a parser made from the specification and by ssh-key, and what it is good for is decided
//! a second time.
#![no_main]

#[path = "../second/certificate.rs"]
mod certificate;
#[path = "../second/check.rs"]
mod check;
#[path = "../second/wire.rs"]
mod wire;

use std::sync::LazyLock;

use keyward_ssh_transport::certificate::{Certificate, Granted, HostCheck, UserCheck};
use keyward_ssh_transport::fuzzing;
use keyward_ssh_transport::key::{AuthorizedKey, Demand, KeyType, PublicKey, SIGNATURE_ALGORITHMS, SkPolicy, Untrusted};
use keyward_ssh_transport::revocation::Revocations;
use keyward_ssh_transport::shown::Shown;
use keyward_ssh_transport::sign::{Signer, read_private_key};
use libfuzzer_sys::fuzz_target;

use crate::certificate::{Fields, string};
use crate::check::Asked;

/// Nothing of a security key is needed.
const WAIVED: SkPolicy = SkPolicy { touch: Demand::Waived, verification: Demand::Waived };

/// The authority that signs what the fuzzer has written, so that what comes after the signature is reached.
static AUTHORITY: LazyLock<Box<dyn Signer>> =
    LazyLock::new(|| read_private_key(include_bytes!("../seeds/ssh_keys/private_ed25519"), None).unwrap());

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

/// A certificate as it is, and the same signed by an authority of ours.
fn certificate(blob: &[u8]) {
    let (parsed, fields) = (Certificate::parse(blob), Fields::read(blob));
    assert_eq!(parsed.is_ok(), fields.as_ref().is_some_and(Fields::is_acceptable), "{parsed:?} {fields:?}");
    let (Ok(certificate), Some(fields)) = (parsed, fields) else { return };
    same(&certificate, &fields);
    let asked = Asked { principal: "alice", source: None, now: fields.valid_after, policy: WAIVED };
    let in_its_role = |authorities: &[PublicKey]| match fields.role {
        1 => user(&certificate, asked, authorities).map(|_| ()),
        _ => host(&certificate, asked, authorities),
    };
    assert_eq!(in_its_role(&[]), Err(Untrusted::UnknownAuthority));
    match ssh_key::Certificate::from_bytes(blob) {
        _ if fields.beyond_ssh_key().is_some() => {}
        Ok(second) => fields.hold_against(&second),
        // Keyward keeps the signature as bytes until somebody asks whether the certificate counts; then it must not.
        Err(error) if !is_signature(fields.signature) => {
            let verdict = in_its_role(&[certificate.authority().clone()]);
            // Except that it forgives needless zeros before the two numbers of an ECDSA signature, as OpenSSH does.
            assert!(verdict.is_err_and(is_of_signature) || certificate.authority().kind().name().contains("ecdsa"), "{error}");
        }
        // As in `key`.
        Err(error) => assert!(certificate.authority().kind().name().starts_with("sk-"), "{error}"),
    }
    signed_by_ours(&fields);
}

fn same(certificate: &Certificate, fields: &Fields<'_>) {
    assert_eq!(certificate.key().blob(), fields.plain_key());
    assert_eq!((certificate.serial(), certificate.valid_before()), (fields.serial, fields.valid_before));
    assert_eq!((fuzzing::key_id(certificate), certificate.key_id()), (fields.key_id, Shown::new(fields.key_id)));
    assert_eq!(certificate.authority().blob(), fields.authority);
}

/// Now all that it says can count, and it is asked for at every border of what it says.
fn signed_by_ours(fields: &Fields<'_>) {
    let mut blob = [fields.before_authority, &string(AUTHORITY.public().blob())].concat();
    blob.extend(string(&AUTHORITY.sign("ssh-ed25519", &blob).unwrap()));
    let fields = Fields::read(&blob).unwrap();
    // What was as long as may be is too long now.
    let Ok(certificate) = Certificate::parse(&blob) else { return assert!(!fields.is_acceptable()) };
    same(&certificate, &fields);
    let second = ssh_key::Certificate::from_bytes(&blob);
    if fields.beyond_ssh_key().is_none() {
        let second = second.unwrap();
        fields.hold_against(&second);
        assert_eq!(second.to_bytes().unwrap(), blob);
    }
    let principals: Vec<&str> = fields.principals.iter().filter_map(|name| str::from_utf8(name).ok()).collect();
    let first = principals.first().copied().unwrap_or("alice");
    let good = Asked { principal: first, source: Some([192, 0, 2, 7].into()), now: fields.valid_after, policy: WAIVED };
    agree(&certificate, &fields, Asked { policy: SkPolicy::TOUCH, ..good });
    let (begin, end) = (fields.valid_after, fields.valid_before);
    for now in [begin, begin.saturating_sub(1), end, end.saturating_sub(1), 1_800_000_000] {
        agree(&certificate, &fields, Asked { now, ..good });
    }
    let others =
        [&first.to_ascii_uppercase(), &format!("{first}x"), first.split_at(first.ceil_char_boundary(first.len() / 2)).0, "alice", ""];
    for principal in principals.iter().take(3).chain(principals.last()).copied().chain(others.map(|name| &name[..])) {
        agree(&certificate, &fields, Asked { principal, ..good });
    }
    for source in [None, Some([0x2001, 0xdb8, 0, 0, 0, 0, 0, 7].into())] {
        agree(&certificate, &fields, Asked { source, ..good });
    }
}

/// What we find that it is good for is what the second opinion is.
fn agree(certificate: &Certificate, fields: &Fields<'_>, asked: Asked<'_>) {
    let authorities = [AUTHORITY.public().clone()];
    let (user, host) = (user(certificate, asked, &authorities), host(certificate, asked, &authorities));
    for error in [user.as_ref().err(), host.as_ref().err()].into_iter().flatten() {
        assert!(error.to_string().len() < 1000 && error.to_string().is_ascii() || matches!(error, Untrusted::CriticalOption(_)));
    }
    match (user, check::user(fields, asked)) {
        (Err(Untrusted::CertificateMalformed(_)), Ok(_)) if check::has_needless_data(fields) => {}
        (Ok(granted), Ok((policy, permissions))) => {
            assert_eq!((granted.policy, &granted.permissions), (policy, &permissions));
            assert_eq!((granted.serial, granted.valid_before), (fields.serial, fields.valid_before));
            assert_eq!((granted.key.blob(), granted.authority), (&fields.plain_key()[..], authorities[0].clone()));
            assert_eq!(granted.key_id, Shown::new(fields.key_id));
        }
        (Err(Untrusted::CertificateMalformed(_)), Err(Untrusted::CertificateMalformed(_))) => {}
        (ours, second) => assert_eq!(ours.map(|_| ()), second.map(|_| ()), "{asked:?} {fields:?}"),
    }
    assert_eq!(host, check::host(fields, asked), "{asked:?} {fields:?}");
}

fn user(certificate: &Certificate, asked: Asked<'_>, authorities: &[PublicKey]) -> Result<Granted, Untrusted> {
    let Asked { principal, source, now, policy } = asked;
    certificate.check_user(&UserCheck { authorities, revocations: &Revocations::default(), principal, source, now, policy })
}

fn host(certificate: &Certificate, asked: Asked<'_>, authorities: &[PublicKey]) -> Result<(), Untrusted> {
    let Asked { principal: host, now, .. } = asked;
    certificate.check_host(&HostCheck { authorities, revocations: &Revocations::default(), host, now })
}

/// Whether ssh-key reads it; what is behind it ssh-key leaves to whoever asks.
fn is_signature(bytes: &[u8]) -> bool {
    ssh_key::Signature::try_from(bytes).is_ok_and(|signature| {
        let letters = if signature.algorithm().as_str().starts_with("sk-") { "ssbu" } else { "ss" };
        wire::whole(letters, bytes).is_some()
    })
}

fn is_of_signature(error: Untrusted) -> bool {
    use Untrusted::{Algorithm, AlgorithmOfAnotherKey, SignatureMalformed, SignatureOfAnotherAlgorithm, SignatureWrong};
    matches!(error, Algorithm(_) | AlgorithmOfAnotherKey | SignatureMalformed | SignatureOfAnotherAlgorithm | SignatureWrong)
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
