use super::super::sample::{self, PASSWORD, SESSION};
use super::*;
use crate::key::{KeyType, PublicKey, SkPolicy};
use crate::sign::CannotSign;

use super::super::message::{Method as Shown, Request};

const ALL: [&str; 3] = ["publickey", "password", "keyboard-interactive"];

fn with(signers: Vec<Arc<dyn Signer>>, password: Option<&str>) -> Client {
    let password = password.map(|password| Zeroizing::new(password.as_bytes().to_vec()));
    Client::new(SESSION, "alice", Credentials { signers, password })
}

/// A client that has just asked with `none` what there is.
fn asking(signers: Vec<Arc<dyn Signer>>, password: Option<&str>) -> Client {
    let mut client = with(signers, password);
    assert_eq!(client.start().unwrap().as_bytes(), message::service_request(b"ssh-userauth"));
    let step = client.receive(&message::service_accept(b"ssh-userauth"));
    assert_eq!(sent(step), message::none_request("alice"));
    client
}

#[track_caller]
fn sent(step: Result<Step, Ended>) -> Vec<u8> {
    match step {
        Ok(Step::Send(payload)) => payload.as_bytes().to_vec(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(step: Result<Step, Ended>) -> Why {
    match step {
        Ok(Step::Refused(refused)) => refused.why,
        other => panic!("{other:?}"),
    }
}

fn failure(methods: &[&str], partial: bool) -> Vec<u8> {
    let mut message = vec![51];
    message.put_names(methods).put_bool(partial);
    message
}

/// What a request shows: a method, and for a key its algorithm.
fn shows(request: &[u8]) -> String {
    match Request::read(request).unwrap().method {
        Shown::None => "none".to_owned(),
        Shown::PublicKey(key) => String::from_utf8(key.algorithm.to_vec()).unwrap(),
        Shown::Password(password) => format!("password {}", str::from_utf8(password).unwrap()),
        Shown::Interactive => "keyboard-interactive".to_owned(),
        _ => panic!("{request:?}"),
    }
}

/// A state, and how a login comes there.
fn in_state(state: &str) -> Client {
    let mut client = with(vec![sample::signer()], Some(PASSWORD));
    if state == "new" {
        return client;
    }
    client.start().unwrap();
    if state == "service" {
        return client;
    }
    sent(client.receive(&message::service_accept(b"ssh-userauth")));
    match state {
        "none" => {}
        "publickey" => assert_eq!(shows(&sent(client.receive(&failure(&ALL, false)))), "ssh-ed25519"),
        "password" => {
            sent(client.receive(&failure(&["password"], false)));
        }
        "interactive" => {
            sent(client.receive(&failure(&["keyboard-interactive"], false)));
        }
        "success" => assert_eq!(client.receive(&[52]), Ok(Step::Success(Method::None))),
        "refused" => assert_eq!(refused(client.receive(&failure(&["hostbased"], false))), Why::NothingFits),
        "broken" => assert!(client.receive(&[50]).is_err()),
        other => panic!("{other}"),
    }
    client
}

#[test]
fn rule_25_every_message_in_every_state() {
    let states = ["new", "service", "none", "publickey", "password", "interactive", "success", "refused", "broken"];
    for state in states {
        for number in 0..=255_u8 {
            let message = match number {
                6 => message::service_accept(b"ssh-userauth"),
                51 => failure(&["hostbased"], false),
                52 => vec![52],
                53 => message::banner("hello"),
                60 => sample::prompts(&[false]),
                _ => vec![number, 0, 0, 0, 0],
            };
            let step = in_state(state).receive(&message);
            let waiting = ["none", "publickey", "password", "interactive"].contains(&state);
            match (state, number) {
                ("service", 6) => assert_eq!(sent(step), message::none_request("alice")),
                (_, 51) if waiting => assert!(matches!(step, Ok(Step::Refused(_))), "{step:?}"),
                (_, 52) if waiting => assert!(matches!(step, Ok(Step::Success(_))), "{step:?}"),
                (_, 53) if waiting => assert_eq!(step, Ok(Step::Banner(Banner::new(b"hello")))),
                ("password", 60) => assert_eq!(refused(step), Why::PasswordExpired),
                ("interactive", 60) => assert_eq!(sent(step), *message::one_response(PASSWORD.as_bytes())),
                _ => assert!(matches!(step, Err(Ended::Broken(crate::Fatal::Protocol(_)))), "{number} when {state}: {step:?}"),
            }
        }
        assert!(in_state(state).receive(&[]).is_err());
    }
}

#[test]
fn nothing_is_taken_after_an_error_and_nothing_begins_twice() {
    let mut long = message::banner("x");
    long.resize(MESSAGE_MAX + 1, 0);
    for bad in [&[][..], &[6], &[60], &[52, 0], &[51], &long] {
        let mut client = asking(vec![sample::signer()], Some(PASSWORD));
        assert!(client.receive(bad).is_err(), "{:?}", bad.first());
        for message in [&failure(&ALL, false)[..], &[52], &message::banner("x"), &message::service_accept(b"ssh-userauth")] {
            assert!(client.receive(message).is_err());
        }
        assert!(client.start().is_err());
    }
    for service in [&b"ssh-connection"[..], b""] {
        assert!(in_state("service").receive(&message::service_accept(service)).is_err());
    }
}

#[test]
fn rule_25_a_password_is_never_offered_unless_the_server_lists_its_method() {
    for listed in [&["publickey"][..], &["publickey", "hostbased", "gssapi-with-mic"], &[], &["passwords", "Password", "password2"]] {
        let mut client = asking(vec![sample::signer()], Some(PASSWORD));
        let mut step = client.receive(&failure(listed, false));
        while let Ok(Step::Send(payload)) = &step {
            assert_eq!(shows(payload.as_bytes()), "ssh-ed25519", "{listed:?}");
            step = client.receive(&failure(listed, false));
        }
        refused(step);
    }
}

#[test]
fn rule_25_keys_first_then_the_password_and_each_once() {
    let keys: Vec<_> = sample::signers().iter().chain(sample::certified()).map(Arc::clone).collect();
    let mut client = asking(keys.clone(), Some(PASSWORD));
    client.learn(&crate::key::SIGNATURE_ALGORITHMS);
    for key in keys {
        assert_eq!(shows(&sent(client.receive(&failure(&ALL, false)))), key.algorithms()[0]);
    }
    assert_eq!(shows(&sent(client.receive(&failure(&ALL, false)))), format!("password {PASSWORD}"));
    // Not at a prompt as well: it would be the same password, and a second failure of the account.
    assert_eq!(refused(client.receive(&failure(&ALL, false))), Why::Rejected);
}

#[test]
fn a_server_without_password_gets_it_at_its_prompt() {
    let mut client = asking(vec![], Some(PASSWORD));
    let listed = ["publickey", "keyboard-interactive"];
    assert_eq!(sent(client.receive(&failure(&listed, false))), message::interactive_request("alice"));
    // A text, the prompt, another text: as PAM does it.
    assert_eq!(sent(client.receive(&sample::prompts(&[]))), message::no_responses());
    assert_eq!(sent(client.receive(&sample::prompts(&[false]))), *message::one_response(PASSWORD.as_bytes()));
    assert_eq!(sent(client.receive(&sample::prompts(&[]))), message::no_responses());
    assert_eq!(client.receive(&[52]), Ok(Step::Success(Method::Interactive)));
}

#[test]
fn rule_25_the_password_is_given_to_one_hidden_prompt_once() {
    for shown in [&[true][..], &[false, false], &[true, false], &[false; 8]] {
        let mut client = asking(vec![], Some(PASSWORD));
        sent(client.receive(&failure(&["keyboard-interactive"], false)));
        assert_eq!(refused(client.receive(&sample::prompts(shown))), Why::OtherPrompt, "{shown:?}");
        assert!(client.receive(&sample::prompts(&[false])).is_err());
    }
    let mut client = asking(vec![], Some(PASSWORD));
    sent(client.receive(&failure(&["keyboard-interactive"], false)));
    sent(client.receive(&sample::prompts(&[false])));
    assert_eq!(refused(client.receive(&sample::prompts(&[false]))), Why::OtherPrompt);
}

#[test]
fn a_server_cannot_ask_or_talk_without_an_end() {
    let mut client = asking(vec![], Some(PASSWORD));
    sent(client.receive(&failure(&["keyboard-interactive"], false)));
    let rounds = (0..100).take_while(|_| client.receive(&sample::prompts(&[])).is_ok()).count();
    assert_eq!(rounds, 8);
    let mut client = asking(vec![], None);
    let banners = (0..100).take_while(|_| client.receive(&message::banner("x")).is_ok()).count();
    assert_eq!(banners, 16);
}

#[test]
fn rule_25_a_banner_is_escaped() {
    let mut client = asking(vec![], None);
    let Ok(Step::Banner(banner)) = client.receive(&message::banner("hello\n\x1b[2J")) else { panic!() };
    assert_eq!(banner.as_str(), "hello\n\\u{1b}[2J");
}

#[test]
fn rule_25_a_signature_is_over_this_session_and_this_request() {
    for signer in sample::signers() {
        let mut client = asking(vec![Arc::clone(signer)], None);
        let request = sent(client.receive(&failure(&["publickey"], false)));
        let Shown::PublicKey(key) = Request::read(&request).unwrap().method else { panic!() };
        let signed = key.signature.unwrap();
        let public = PublicKey::parse(key.blob).unwrap();
        let algorithm = str::from_utf8(key.algorithm).unwrap();
        let verify =
            |session: &[u8]| public.verify(algorithm, &message::signed_data(session, signed.request), signed.signature, SkPolicy::TOUCH);
        assert_eq!(verify(SESSION), Ok(()));
        assert!(verify(b"another").is_err());
    }
}

#[test]
fn rule_26_an_rsa_key_signs_by_what_the_server_says_it_takes() {
    let certified = Arc::clone(sample::certified().iter().find(|signer| signer.public().kind() == KeyType::Rsa).unwrap());
    for (says, plain, certificate) in [
        (Some(&["ssh-ed25519", "rsa-sha2-256", "rsa-sha2-512"][..]), &["rsa-sha2-512"][..], &["rsa-sha2-512-cert-v01@openssh.com"][..]),
        (Some(&["rsa-sha2-256"]), &["rsa-sha2-256"], &["rsa-sha2-256-cert-v01@openssh.com"]),
        (Some(&["ssh-ed25519", "ssh-rsa"]), &[], &[]),
        (None, &["rsa-sha2-512", "rsa-sha2-256"], &["rsa-sha2-512-cert-v01@openssh.com", "rsa-sha2-256-cert-v01@openssh.com"]),
    ] {
        for (signer, expected) in [(sample::rsa(), plain), (Arc::clone(&certified), certificate)] {
            let mut client = asking(vec![signer], None);
            if let Some(says) = says {
                client.learn(says);
            }
            for &algorithm in expected {
                assert_eq!(shows(&sent(client.receive(&failure(&["publickey"], false)))), algorithm, "{says:?}");
            }
            let why = refused(client.receive(&failure(&["publickey"], false)));
            assert_eq!(why, if expected.is_empty() { Why::NothingFits } else { Why::Rejected }, "{says:?}");
        }
    }
}

/// sshd 7.2 to 7.5 list nothing but RSA's.
#[test]
fn rule_26_other_keys_are_shown_whatever_the_server_says() {
    for signer in sample::signers().iter().filter(|signer| signer.public().kind() != KeyType::Rsa) {
        let mut client = asking(vec![Arc::clone(signer)], None);
        client.learn(&["rsa-sha2-256", "rsa-sha2-512"]);
        assert_eq!(shows(&sent(client.receive(&failure(&["publickey"], false)))), signer.algorithms()[0]);
    }
}

/// `AuthenticationMethods publickey,password`.
#[test]
fn a_server_that_wants_two_proofs_gets_them() {
    let mut client = asking(vec![sample::signer()], Some(PASSWORD));
    assert_eq!(shows(&sent(client.receive(&failure(&["publickey"], false)))), "ssh-ed25519");
    assert_eq!(shows(&sent(client.receive(&failure(&["password"], true)))), format!("password {PASSWORD}"));
    assert_eq!(client.receive(&[52]), Ok(Step::Success(Method::Password)));
    // The other way round, and where a third is wanted.
    let mut client = asking(vec![sample::signer()], Some(PASSWORD));
    assert_eq!(shows(&sent(client.receive(&failure(&["password"], false)))), format!("password {PASSWORD}"));
    assert_eq!(shows(&sent(client.receive(&failure(&["publickey"], true)))), "ssh-ed25519");
    let step = client.receive(&failure(&["keyboard-interactive", "x\x7f"], true));
    assert!(step.is_err(), "no name of a method");
    let mut client = asking(vec![sample::signer()], None);
    sent(client.receive(&failure(&["publickey"], false)));
    let step = client.receive(&failure(&["keyboard-interactive", "\"odd\\"], true));
    let Ok(Step::Refused(Refused { why, listed })) = step else { panic!() };
    assert_eq!((why, listed[1].as_str()), (Why::MoreNeeded, "\\\"odd\\\\"));
}

#[test]
fn a_server_that_wants_no_proof_has_none() {
    let mut client = asking(vec![sample::signer()], Some(PASSWORD));
    assert_eq!(client.receive(&[52]), Ok(Step::Success(Method::None)));
    for message in [&[52][..], &[51, 0, 0, 0, 0, 0], &message::banner("x")] {
        assert!(client.receive(message).is_err());
    }
}

struct Broken(Arc<dyn Signer>);

impl Signer for Broken {
    fn algorithms(&self) -> &'static [&'static str] {
        self.0.algorithms()
    }

    fn public(&self) -> &PublicKey {
        self.0.public()
    }

    fn sign(&self, _: &str, _: &[u8]) -> Result<Vec<u8>, CannotSign> {
        Err(CannotSign("broken"))
    }
}

#[test]
fn a_key_that_cannot_sign_is_our_fault() {
    let mut client = asking(vec![Arc::new(Broken(sample::signer()))], Some(PASSWORD));
    let ended = client.receive(&failure(&ALL, false)).unwrap_err();
    assert_eq!((ended.reason(), ended.text(), ended.to_string().as_str()), (11, "internal error", "broken"));
}

#[test]
fn nothing_shows_a_password() {
    let credentials = Credentials { signers: vec![sample::signer()], password: Some(Zeroizing::new(PASSWORD.as_bytes().to_vec())) };
    assert!(!format!("{credentials:?}").contains("67"));
    for listed in [["password"], ["keyboard-interactive"]] {
        let mut client = asking(vec![], Some(PASSWORD));
        let mut step = client.receive(&failure(&listed, false));
        if listed[0] == "keyboard-interactive" {
            step = client.receive(&sample::prompts(&[false]));
        }
        let shown = format!("{step:?}");
        assert!(shown.len() < 60 && !shown.contains("Horse"), "{shown}");
    }
}
