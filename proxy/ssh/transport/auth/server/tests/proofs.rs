//! Signatures: what counts as a proof, and of whom.

use super::*;
use crate::keygen::Keygen;
use crate::sign::read_private_key;
use std::sync::Arc;

#[test]
fn rule_18_every_type_of_key_and_certificate_signs_and_is_named_in_the_proof() {
    for signer in sample::signers().iter().chain(sample::certified()) {
        for &algorithm in signer.algorithms() {
            let mut server = sample::server();
            assert!(matches!(asked(server.receive(&sample::query("alice", algorithm, signer.blob()))), Question::Query(_)));
            assert_eq!(sent(server.answer(Verdict::Accepted)), message::key_would_do(algorithm, signer.blob()));
            let mut request = message::key_request("alice", algorithm, signer.blob());
            let signature = signer.sign(algorithm, &message::signed_data(SESSION, &request)).unwrap();
            request.put_string(signature);
            let Question::Proof(presented, _) = asked(server.receive(&request)) else { panic!() };
            assert_eq!(presented.key(), signer.public());
            let proven = proven(server.answer(sample::UNDER_TOUCH));
            let By::Key(presented, _) = proven.by() else { panic!() };
            assert_eq!(presented.key(), signer.public());
            let certified = matches!(presented.what(), What::Certificate(_));
            assert_eq!(certified, algorithm.contains("-cert-v01@"));
        }
    }
}

#[test]
fn rule_18_a_query_proves_nothing() {
    let signer = sample::signer();
    for verdict in [Verdict::Accepted, Verdict::AcceptedUnder(SkPolicy::TOUCH)] {
        let mut server = sample::server();
        asked(server.receive(&sample::query("alice", "ssh-ed25519", signer.blob())));
        sent(server.answer(verdict));
        assert!(matches!(server.state, State::Open));
        assert!(server.success().is_err());
    }
}

/// CVE-2024-45337: the key that was offered last is not the one that signed.
#[test]
fn rule_18_the_key_that_counts_is_the_one_that_signed() {
    let [mine, admins] = [0, 1].map(|at| &*sample::signers()[at]);
    let mut server = sample::server();
    // The admin's key would do, and so would mine.
    for key in [mine, admins] {
        asked(server.receive(&sample::query("alice", key.algorithms()[0], key.blob())));
        sent(server.answer(Verdict::Accepted));
    }
    let Question::Proof(presented, _) = asked(server.receive(&sample::signed_request("alice", mine))) else { panic!() };
    assert_eq!(presented.key(), mine.public());
    let proven = proven(server.answer(sample::UNDER_TOUCH));
    assert!(matches!(proven.by(), By::Key(presented, _) if presented.key() == mine.public()));

    // My signature under the admin's key.
    let mut forged = message::key_request("alice", admins.algorithms()[0], admins.blob());
    let signature = mine.sign(mine.algorithms()[0], &message::signed_data(SESSION, &forged)).unwrap();
    forged.put_string(signature);
    assert!(matches!(refused(sample::server().receive(&forged)), Why::Untrusted(_)));
}

/// Nobody is asked about a signature that is wrong: the owner could take the question for a proof.
#[test]
fn rule_18_a_signature_over_anything_else_is_none() {
    let signer = sample::signer();
    let request = message::key_request("alice", "ssh-ed25519", signer.blob());
    let good = sample::signed(request.clone(), &*signer, SESSION);
    assert!(matches!(asked(sample::server().receive(&good)), Question::Proof(..)));

    let other_session = sample::signed(request.clone(), &*signer, b"the hash of another key exchange");
    assert_eq!(refused(sample::server().receive(&other_session)), Why::Untrusted(Untrusted::SignatureWrong));

    let sign_for = |over: &[u8]| {
        let mut forged = request.clone();
        let signature = signer.sign("ssh-ed25519", over).unwrap();
        forged.put_string(signature);
        forged
    };
    let data = message::signed_data(SESSION, &request);
    asked(sample::server().receive(&sign_for(&data)));
    let bobs = message::signed_data(SESSION, &message::key_request("bob", "ssh-ed25519", signer.blob()));
    let without_length = [SESSION, &request].concat();
    for over in [&bobs[..], &request, &without_length, &data[..data.len() - 1], b""] {
        assert_eq!(refused(sample::server().receive(&sign_for(over))), Why::Untrusted(Untrusted::SignatureWrong));
    }
}

#[test]
fn rule_18_no_bit_of_a_signed_request_can_be_turned() {
    let signer = sample::signer();
    let good = sample::signed_request("alice", &*signer);
    for bit in 0..good.len() * 8 {
        let mut turned = good.clone();
        turned[bit / 8] ^= 1 << (bit % 8);
        let step = sample::server().receive(&turned);
        assert!(!matches!(&step, Ok(Step::Ask { question: Question::Proof(..), .. })), "bit {bit}: {step:?}");
    }
}

/// The blob says `ssh-ed25519`, the signature `ssh-ed25519`, and the request anything else; or one of the others says something else.
#[test]
fn rule_19_the_algorithm_of_the_request_is_that_of_the_key_and_of_the_signature() {
    let offered = || SIGNATURE_ALGORITHMS.into_iter().flat_map(|name| [name.to_owned(), certified_name(name)]);
    for signer in sample::signers().iter().chain(sample::certified()) {
        for name in offered().filter(|name| !signer.algorithms().contains(&name.as_str())) {
            let mut request = message::key_request("alice", &name, signer.blob());
            let signature = signer.sign(signer.algorithms()[0], &message::signed_data(SESSION, &request)).unwrap();
            request.put_string(signature);
            let step = sample::server().receive(&request);
            assert!(matches!(refused(step), Why::Untrusted(_)), "{name} of {:?}", signer.public());
            let step = sample::server().receive(&sample::query("alice", &name, signer.blob()));
            assert!(matches!(refused(step), Why::Untrusted(_)), "a query of {name} of {:?}", signer.public());
        }
    }
    // An RSA key by two algorithms: the request's is not the signature's.
    let rsa = sample::rsa();
    let mut request = message::key_request("alice", "rsa-sha2-512", rsa.blob());
    let signature = rsa.sign("rsa-sha2-256", &message::signed_data(SESSION, &request)).unwrap();
    request.put_string(signature);
    assert_eq!(refused(sample::server().receive(&request)), Why::Untrusted(Untrusted::SignatureOfAnotherAlgorithm));
}

fn certified_name(name: &str) -> String {
    match name.strip_suffix("@openssh.com") {
        Some(name) => format!("{name}-cert-v01@openssh.com"),
        None => format!("{name}-cert-v01@openssh.com"),
    }
}

#[test]
fn rule_19_what_is_taken_is_what_server_sig_algs_says() {
    for allowed in SIGNATURE_ALGORITHMS {
        let offers = Offers::new(&[allowed, "ssh-rsa", "ssh-dss"], Offer::No, Offer::No);
        assert_eq!(offers.signature_algorithms(), [allowed]);
        for signer in sample::signers().iter().chain(sample::certified()) {
            for &name in signer.algorithms() {
                let mut server = sample::server_with(offers.clone());
                let step = server.receive(&sample::query("alice", name, signer.blob()));
                let taken = signature_algorithm(name) == Some(allowed);
                assert_eq!(matches!(step, Ok(Step::Ask { .. })), taken, "{name} where {allowed} is: {step:?}");
            }
        }
    }
    let ours = crate::ServerConfig::new(vec![]).signature_algorithms;
    assert_eq!(Offers::new(&ours, Offer::Yes, Offer::Yes).signature_algorithms(), ours);
}

#[test]
fn rule_4_ssh_rsa_with_its_sha1_is_refused_under_every_name() {
    let rsa = sample::rsa();
    for name in ["ssh-rsa", "ssh-rsa-cert-v01@openssh.com", "ssh-dss", "rsa-sha2-512\0", "RSA-SHA2-512", ""] {
        for request in [sample::query("alice", name, rsa.blob()), message::key_request("alice", name, rsa.blob())] {
            let request =
                if request == sample::query("alice", name, rsa.blob()) { request } else { sample::signed(request, &*rsa, SESSION) };
            assert!(matches!(refused(sample::server().receive(&request)), Why::Untrusted(Untrusted::Algorithm(_))), "{name}");
        }
    }
}

#[test]
fn rule_20_a_bound_request_must_name_the_host_key_of_this_connection() {
    let signer = sample::signer();
    let request = sample::signed(sample::bound_request("alice", &*signer, HOST_KEY), &*signer, SESSION);
    assert!(matches!(asked(sample::server().receive(&request)), Question::Proof(..)));
    let longer = [HOST_KEY, b"x"].concat();
    for other in [&b"the blob of another key"[..], b"", &HOST_KEY[1..], &longer] {
        let request = sample::signed(sample::bound_request("alice", &*signer, other), &*signer, SESSION);
        assert_eq!(refused(sample::server().receive(&request)), Why::AnotherHostKey);
    }
    // What is signed says which kind it is: one cannot be sent as the other.
    let mut plain = message::key_request("alice", "ssh-ed25519", signer.blob());
    let bound = sample::bound_request("alice", &*signer, HOST_KEY);
    plain.put_string(signer.sign("ssh-ed25519", &message::signed_data(SESSION, &bound)).unwrap());
    assert!(matches!(refused(sample::server().receive(&plain)), Why::Untrusted(Untrusted::SignatureWrong)));
}

#[test]
fn rule_21_a_security_key_must_have_seen_what_its_options_want() {
    let under = |touch, verification| Verdict::AcceptedUnder(SkPolicy { touch, verification });
    let (touch, pin) = (Untrusted::NoTouch, Untrusted::NoVerification);
    for make in [SecurityKey::ed25519, SecurityKey::ecdsa] {
        for (flags, verdict, missing) in [
            (0, sample::UNDER_TOUCH, Some(&touch)),
            (VERIFIED, sample::UNDER_TOUCH, Some(&touch)),
            (TOUCHED, sample::UNDER_TOUCH, None),
            (TOUCHED | VERIFIED, sample::UNDER_TOUCH, None),
            (0, under(Demand::Waived, Demand::Waived), None),
            (TOUCHED, under(Demand::Required, Demand::Required), Some(&pin)),
            (0, under(Demand::Waived, Demand::Required), Some(&pin)),
            (VERIFIED, under(Demand::Waived, Demand::Required), None),
            (TOUCHED | VERIFIED, under(Demand::Required, Demand::Required), None),
        ] {
            let key = make(flags);
            let mut server = sample::server();
            let Question::Proof(_, seen) = asked(server.receive(&sample::signed_request("alice", &key))) else { panic!() };
            assert_eq!(seen, Some(Seen { flags, counter: 7 }));
            let step = server.answer(verdict.clone());
            match missing {
                Some(missing) => assert_eq!(refused(step), Why::Untrusted(missing.clone()), "{flags} {verdict:?}"),
                None => assert!(matches!(proven(step).by(), By::Key(_, Some(seen)) if seen.flags == flags)),
            }
        }
        // The flags are signed: turning the bit on afterwards does not help.
        let mut forged = sample::signed_request("alice", &make(0));
        let flags = forged.len() - 5;
        forged[flags] = TOUCHED;
        assert_eq!(refused(sample::server().receive(&forged)), Why::Untrusted(Untrusted::SignatureWrong));
    }
    // Other keys have nothing to show, and nothing is asked of them.
    let mut server = sample::server();
    let Question::Proof(_, None) = asked(server.receive(&sample::signed_request("alice", &*sample::signer()))) else { panic!() };
    proven(server.answer(under(Demand::Required, Demand::Required)));
}

/// That a certificate counts is its owner's to check (`Certificate::check_user`); that the key inside it signed is what the question says.
#[test]
fn rule_22_of_a_certificate_the_key_inside_it_must_sign() {
    let keygen = Keygen::new();
    keygen.key("authority", &["-t", "ed25519"]);
    keygen.key("mine", &["-t", "ed25519"]);
    keygen.key("other", &["-t", "ed25519"]);
    let read = |name: &str| -> Arc<dyn Signer> { Arc::from(read_private_key(keygen.read(name).as_bytes(), None).unwrap()) };
    let certificate = keygen.certificate("authority", "mine", &["-n", "alice"]);
    let name = KeyType::Ed25519.certificate_algorithms()[0];
    let mine = Certified::new(read("mine"), &certificate).unwrap();
    let Question::Proof(presented, None) = asked(sample::server().receive(&sample::signed_request("alice", &mine))) else { panic!() };
    let What::Certificate(inside) = presented.what() else { panic!() };
    assert_eq!((inside.key(), presented.key()), (mine.public(), mine.public()));
    for signs in ["authority", "other"] {
        let mut forged = message::key_request("alice", name, &certificate);
        let signature = read(signs).sign("ssh-ed25519", &message::signed_data(SESSION, &forged)).unwrap();
        forged.put_string(signature);
        assert_eq!(refused(sample::server().receive(&forged)), Why::Untrusted(Untrusted::SignatureWrong), "{signs}");
    }
    // The name of the certificate's algorithm inside the signature, and a certificate under the name of a key.
    let mut request = message::key_request("alice", name, &certificate);
    let signature = read("mine").sign("ssh-ed25519", &message::signed_data(SESSION, &request)).unwrap();
    let mut renamed = Vec::new();
    let raw = crate::wire::Reader::new(&signature[4 + 11..]).string().unwrap().to_vec();
    renamed.put_string(name).put_string(raw);
    request.put_string(renamed);
    assert_eq!(refused(sample::server().receive(&request)), Why::Untrusted(Untrusted::SignatureOfAnotherAlgorithm));
    let plain = sample::query("alice", "ssh-ed25519", &certificate);
    assert!(matches!(refused(sample::server().receive(&plain)), Why::Untrusted(Untrusted::Key(_))));
}
