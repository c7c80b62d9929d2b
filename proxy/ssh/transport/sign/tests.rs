use super::*;
use crate::certificate::Presented;
use crate::key::{KeyType, SkPolicy, Untrusted};
use crate::keygen::{Keygen, TYPES, sshsig};

#[test]
fn what_we_sign_counts_for_us_and_for_openssh() {
    let keygen = Keygen::new();
    let message = sshsig("sha512", b"message");
    for (number, (kind, name)) in TYPES.into_iter().enumerate() {
        let file = format!("key{number}");
        let public = keygen.key(&file, kind);
        let signer = read_private_key(keygen.read(&file).as_bytes(), None).unwrap();
        assert_eq!(signer.public(), &public);
        assert_eq!(signer.blob(), public.blob());
        assert_eq!(signer.algorithms(), public.kind().algorithms());
        for algorithm in signer.algorithms() {
            // Numbers of other lengths than usual come up now and then.
            for _ in 0..50 {
                let signed = signer.sign(algorithm, &message).unwrap();
                public.verify(algorithm, &message, &signed, SkPolicy::TOUCH).unwrap();
            }
            keygen.accepts(&public, &signer.sign(algorithm, &message).unwrap(), b"message").unwrap();
        }
        for another in ["ssh-rsa", "none", "", "ssh-ed25519", "rsa-sha2-512", "ecdsa-sha2-nistp256", "ssh-ed25519-cert-v01@openssh.com"] {
            if !signer.algorithms().contains(&another) {
                assert_eq!(signer.sign(another, &message), Err(NOT_OURS), "{name} as {another}");
            }
        }
        assert_eq!(format!("{signer:?}"), format!("Signer({public:?})"), "nothing of the secret");
    }
}

#[test]
fn a_key_that_we_make_is_written_as_ssh_keygen_reads_it() {
    let keygen = Keygen::new();
    for comment in ["", "Keyward's host key", "two\nlines", &"\u{fc}".repeat(1000)] {
        let key = generate_ed25519().unwrap();
        let file = key.to_openssh(comment);
        assert!(file.lines().all(|line| line.len() <= 70));
        keygen.write("made", file.as_bytes());
        let shown = keygen.run(&["-y", "-P", "", "-f", "made"]);
        let kept: String = comment.chars().filter(|c| *c != '\n').take(128).collect();
        assert_eq!(shown.trim_end(), format!("{} {kept}", key.public().to_line()).trim_end());
        let read = read_private_key(file.as_bytes(), None).unwrap();
        assert_eq!(read.public(), key.public());
        assert_eq!(read.sign("ssh-ed25519", b"x").unwrap(), key.sign("ssh-ed25519", b"x").unwrap());
    }
    assert_ne!(generate_ed25519().unwrap().public(), generate_ed25519().unwrap().public());
}

#[test]
fn a_key_with_a_certificate_presents_that_and_signs_under_its_names() {
    let keygen = Keygen::new();
    keygen.key("ca", &["-t", "ed25519"]);
    for (number, (kind, _)) in TYPES.into_iter().enumerate() {
        let file = format!("key{number}");
        keygen.key(&file, kind);
        let certificate = keygen.certificate("ca", &file, &["-n", "alice"]);
        let signer: Arc<dyn Signer> = read_private_key(keygen.read(&file).as_bytes(), None).unwrap().into();
        let certified = Certified::new(Arc::clone(&signer), &certificate).unwrap();
        assert_eq!((certified.blob(), certified.public()), (certificate.as_slice(), signer.public()));
        assert_eq!(certified.algorithms(), signer.public().kind().certificate_algorithms());
        for algorithm in certified.algorithms() {
            let signed = certified.sign(algorithm, b"message").unwrap();
            let presented = Presented::parse(algorithm, certified.blob()).unwrap();
            assert_eq!(presented.verify(b"message", &signed, SkPolicy::TOUCH), Ok(()));
            assert_eq!(presented.verify(b"another", &signed, SkPolicy::TOUCH), Err(Untrusted::SignatureWrong));
        }
        // Never under the name of the key alone.
        assert_eq!(certified.sign(signer.algorithms()[0], b"message"), Err(NOT_OURS));
        let stranger: Arc<dyn Signer> = Arc::new(generate_ed25519().unwrap());
        assert!(Certified::new(stranger, &certificate).is_err(), "the certificate of another key");
        assert!(Certified::new(Arc::clone(&signer), signer.blob()).is_err(), "no certificate");
        if signer.public().kind() == KeyType::Rsa {
            assert_eq!(certified.algorithms().len(), 2);
        }
    }
}
