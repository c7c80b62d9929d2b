use super::super::Prompt;
use super::super::sample::{self, HOST_KEY, PASSWORD, SESSION, SecurityKey, TOUCHED, VERIFIED};
use super::*;
use crate::certificate::What;
use crate::key::{Demand, KeyType, SIGNATURE_ALGORITHMS};
use crate::sign::{Certified, Signer};
use crate::wire::Put;

use super::super::question::Offer;

mod limits;
mod proofs;

const FAILED: &[u8] = b"\x33\0\0\0\x27publickey,password,keyboard-interactive\0";

#[track_caller]
fn asked(step: Result<Step, Ended>) -> Question {
    match step {
        Ok(Step::Ask { question, .. }) => question,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(step: Result<Step, Ended>) -> Why {
    match step {
        Ok(Step::Refuse { messages, why }) => {
            assert_eq!(messages, [FAILED]);
            why
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn sent(step: Result<Step, Ended>) -> Vec<u8> {
    match step {
        Ok(Step::Send(messages)) => <[_; 1]>::try_from(messages).unwrap().into_iter().next().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn proven(step: Result<Step, Ended>) -> Proven {
    match step {
        Ok(Step::Proven(proven)) => proven,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn broken(step: Result<Step, Ended>) -> Ended {
    step.unwrap_err()
}

/// A request of alice's password.
fn password(password: &str) -> Vec<u8> {
    message::password_request("alice", password.as_bytes()).to_vec()
}

/// A state, and how a login comes there.
fn in_state(state: &str) -> Server {
    let mut server = Server::new(SESSION, HOST_KEY, sample::all_offers(), Limits::default(), None);
    if state == "early" {
        return server;
    }
    sent(server.receive(&message::service_request(b"ssh-userauth")));
    match state {
        "open" => {}
        "prompted" => {
            asked(server.receive(&message::interactive_request("alice")));
            sent(server.answer(Verdict::Ask(Prompts::password())));
        }
        "asked" => {
            asked(server.receive(&password(PASSWORD)));
        }
        "proven" | "over" => {
            asked(server.receive(&password(PASSWORD)));
            proven(server.answer(Verdict::Accepted));
            if state == "over" {
                assert_eq!(server.success(), Ok(vec![52]));
            }
        }
        "broken" => {
            broken(server.receive(&[52]));
        }
        other => panic!("{other}"),
    }
    server
}

/// What a client may send is taken; everything else ends the connection: the service's answer, a success, a key's approval, and whatever
/// belongs to what comes after a login, among it (CVE-2018-10933, CVE-2025-32433).
#[test]
fn rules_16_and_24_every_message_in_every_state() {
    let service = message::service_request(b"ssh-userauth");
    let request = message::none_request("alice");
    let response = message::one_response(b"pw").to_vec();
    for state in ["early", "open", "prompted", "asked", "proven", "over", "broken"] {
        for number in 0..=255_u8 {
            let message = match number {
                5 => service.clone(),
                50 => request.clone(),
                61 => response.clone(),
                _ => [&[number][..], &service[1..]].concat(),
            };
            let step = in_state(state).receive(&message);
            match (state, number) {
                ("early" | "open" | "prompted", 5) => assert_eq!(sent(step), message::service_accept(b"ssh-userauth")),
                ("open" | "prompted", 50) => assert_eq!(sent(step), FAILED),
                ("prompted", 61) => assert!(matches!(asked(step), Question::Responses(_))),
                ("proven" | "over", 50) => assert!(matches!(step, Ok(Step::Nothing)), "{step:?}"),
                ("asked", _) => assert!(matches!(broken(step), Ended::Broken(crate::Fatal::Internal(_)))),
                _ => assert!(matches!(broken(step), Ended::Broken(crate::Fatal::Protocol(_))), "{number} when {state}"),
            }
        }
        assert!(in_state(state).receive(&[]).is_err());
    }
}

#[test]
fn nothing_is_taken_after_an_error() {
    let requests = [message::service_request(b"ssh-userauth"), message::none_request("alice"), password(PASSWORD)];
    for bad in [&[52][..], &[], &[50], &[5, 0], &message::service_request(b"ssh-connection")] {
        let mut server = sample::server();
        broken(server.receive(bad));
        for request in &requests {
            broken(server.receive(request));
        }
        for verdict in [Verdict::Accepted, Verdict::Refused, Verdict::Ask(Prompts::password())] {
            broken(server.answer(verdict));
        }
        assert!(server.success().is_err());
    }
}

#[test]
fn an_answer_to_no_question_or_to_another_one_ends_the_login() {
    for state in ["early", "open", "prompted", "proven", "over"] {
        for verdict in [Verdict::Accepted, Verdict::AcceptedUnder(SkPolicy::TOUCH), Verdict::Refused, Verdict::Ask(Prompts::password())] {
            assert!(matches!(broken(in_state(state).answer(verdict)), Ended::Broken(crate::Fatal::Internal(_))), "{state}");
        }
    }
    let interactive = message::interactive_request("alice");
    for (request, verdict) in [
        (password(PASSWORD), Verdict::Ask(Prompts::password())),
        (password(PASSWORD), Verdict::AcceptedUnder(SkPolicy::TOUCH)),
        // Nobody was asked anything yet.
        (interactive.clone(), Verdict::Accepted),
        (interactive, Verdict::AcceptedUnder(SkPolicy::TOUCH)),
        (sample::signed_request("alice", &*sample::signer()), Verdict::Ask(Prompts::password())),
        // What must a security key have seen? Whoever forgets to say so lets nobody in.
        (sample::signed_request("alice", &*sample::signer()), Verdict::Accepted),
    ] {
        let mut server = sample::server();
        asked(server.receive(&request));
        assert!(matches!(broken(server.answer(verdict)), Ended::Broken(crate::Fatal::Internal(_))));
    }
}

#[test]
fn success_is_said_once_and_only_to_who_is_proven() {
    for state in ["early", "open", "prompted", "asked", "over", "broken"] {
        assert!(in_state(state).success().is_err(), "{state}");
    }
    let mut server = in_state("proven");
    assert_eq!(server.success(), Ok(vec![52]));
    assert!(server.success().is_err());
}

#[test]
fn rule_16_only_the_two_services_exist() {
    for service in [&b"ssh-connection"[..], b"ssh-userauth\0", b"", b"SSH-USERAUTH"] {
        let mut server = in_state("early");
        assert_eq!(broken(server.receive(&message::service_request(service))), Ended::NoSuchService);
    }
    for service in ["ssh-userauth", "ssh-connection2", ""] {
        let mut request = vec![50];
        request.put_string("alice").put_string(service).put_string("none");
        assert_eq!(broken(sample::server().receive(&request)), Ended::NoSuchService);
    }
}

#[test]
fn rule_17_the_user_cannot_change_between_requests() {
    for other in ["bob", "alice ", "Alice", ""] {
        let mut server = sample::server();
        sent(server.receive(&message::none_request("alice")));
        asked(server.receive(&password("wrong")));
        refused(server.answer(Verdict::Refused));
        let changed = message::password_request(other, PASSWORD.as_bytes());
        assert!(matches!(broken(server.receive(&changed)), Ended::Broken(crate::Fatal::Protocol("the user name changed"))));
    }
    // Nor where the first request had no effect, or was abandoned.
    let mut server = in_state("prompted");
    broken(server.receive(&message::none_request("bob")));
}

#[test]
fn rule_17_the_question_and_the_proof_are_about_the_user_of_the_request() {
    let mut server = sample::server();
    let step = server.receive(&sample::signed_request("al\u{ef}ce", &*sample::signer()));
    assert!(matches!(step, Ok(Step::Ask { ref user, question: Question::Proof(..) }) if user == "al\u{ef}ce"), "{step:?}");
    assert_eq!(proven(server.answer(sample::UNDER_TOUCH)).user(), "al\u{ef}ce");
}

#[test]
fn every_failure_is_the_same_bytes_and_the_log_knows_why() {
    let mut server = sample::server_with(sample::all_offers());
    server.limits.failures = u32::MAX;
    let mut ed448 = vec![50];
    ed448.put_string("alice").put_string("ssh-connection").put_string("gssapi-\x1b[2J").put_u32(1);
    assert_eq!(refused(server.receive(&ed448)).to_string(), "the method \"gssapi-\\u{1b}[2J\" is not offered");
    assert_eq!(refused(server.receive(&sample::query("alice", "ssh-dss", b"x"))).to_string(), "the algorithm \"ssh-dss\" is not allowed");
    asked(server.receive(&password("wrong")));
    assert_eq!(refused(server.answer(Verdict::Refused)), Why::Refused);
    assert_eq!(sent(server.receive(&message::none_request("alice"))), FAILED);
    let mut change = vec![50];
    change.put_string("alice").put_string("ssh-connection").put_string("password").put_bool(true).put_string(PASSWORD).put_string("new");
    assert_eq!(refused(server.receive(&change)), Why::PasswordChange);
}

#[test]
fn what_is_not_offered_is_not_asked_about_and_not_listed() {
    for (offers, listed) in [
        (Offers::new(&[], Offer::No, Offer::No), ""),
        (Offers::new(&["ssh-ed25519"], Offer::No, Offer::No), "publickey"),
        (Offers::new(&[], Offer::Yes, Offer::No), "password"),
        (Offers::new(&[], Offer::No, Offer::Yes).or_nothing(), "keyboard-interactive"),
    ] {
        let mut server = sample::server_with(offers.clone());
        server.limits.failures = u32::MAX;
        let requests = [
            ("none", message::none_request("alice")),
            ("publickey", sample::signed_request("alice", &*sample::signer())),
            ("password", password(PASSWORD)),
            ("keyboard-interactive", message::interactive_request("alice")),
        ];
        for (method, request) in requests {
            match server.receive(&request).unwrap() {
                Step::Ask { .. } => {
                    assert!(listed == method || (method == "none" && offers.has_none()), "{method} where {listed} is");
                    server.answer(Verdict::Refused).unwrap();
                }
                Step::Send(messages) | Step::Refuse { messages, .. } => {
                    assert!(listed != method && !(method == "none" && offers.has_none()), "{method} where {listed} is");
                    assert_eq!(messages, [message::failure(if listed.is_empty() { &[] } else { std::slice::from_ref(&listed) })]);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn no_proof_is_enough_only_where_the_owner_says_so() {
    let mut server = sample::server_with(sample::all_offers().or_nothing());
    assert!(matches!(asked(server.receive(&message::none_request("alice"))), Question::Nothing));
    assert_eq!(sent(server.answer(Verdict::Refused)), FAILED);
    asked(server.receive(&message::none_request("alice")));
    assert!(matches!(proven(server.answer(Verdict::Accepted)).by(), By::Nothing));
}

#[test]
fn a_password_is_asked_about_and_never_shown() {
    let mut server = sample::server();
    let step = server.receive(&password(PASSWORD));
    assert!(!format!("{step:?}").contains("Horse"));
    let Question::Password(typed) = asked(step) else { panic!() };
    assert_eq!(*typed.expose(), PASSWORD.as_bytes());
    let proven = proven(server.answer(Verdict::Accepted));
    assert!(matches!(proven.by(), By::Password));
    // An empty one costs what another does.
    let mut server = sample::server();
    assert!(matches!(asked(server.receive(&password(""))), Question::Password(_)));
}

#[test]
fn prompts_are_answered_in_as_many_rounds_as_the_owner_wants() {
    let mut server = sample::server();
    assert!(matches!(asked(server.receive(&message::interactive_request("alice"))), Question::Interactive));
    assert_eq!(sent(server.answer(Verdict::Ask(Prompts::password()))), message::prompts(&Prompts::password()));
    let step = server.receive(&message::one_response(PASSWORD.as_bytes()));
    assert!(!format!("{step:?}").contains("Horse"));
    let Question::Responses(typed) = asked(step) else { panic!() };
    assert_eq!(typed.into_iter().map(|typed| typed.expose().to_vec()).collect::<Vec<_>>(), [PASSWORD.as_bytes()]);

    let two = Prompts::new("and these", vec![Prompt::shown("Code: "), Prompt::hidden("Pin: ")]).unwrap();
    assert_eq!(
        sent(server.answer(Verdict::Ask(two))),
        b"\x3c\0\0\0\0\0\0\0\x09and these\0\0\0\0\0\0\0\x02\0\0\0\x06Code: \x01\0\0\0\x05Pin: \0"
    );
    let Question::Responses(typed) = asked(server.receive(b"\x3d\0\0\0\x02\0\0\0\x011\0\0\0\x012")) else { panic!() };
    assert_eq!(typed.len(), 2);

    let text = Prompts::new("Welcome", vec![]).unwrap();
    sent(server.answer(Verdict::Ask(text)));
    let Question::Responses(typed) = asked(server.receive(&message::no_responses())) else { panic!() };
    assert!(typed.is_empty());
    assert!(matches!(proven(server.answer(Verdict::Accepted)).by(), By::Interactive));
}

/// RFC 4252 section 5.1: the abandoned request is never answered, and RFC 4256 section 3.4: another number of answers is a failure.
#[test]
fn prompts_are_abandoned_by_another_request_and_failed_by_other_answers() {
    let mut server = in_state("prompted");
    asked(server.receive(&password(PASSWORD)));
    refused(server.answer(Verdict::Refused));
    broken(server.receive(&message::one_response(PASSWORD.as_bytes())));

    let mut server = in_state("prompted");
    assert_eq!(refused(server.receive(&message::no_responses())), Why::WrongNumberOfResponses);
    broken(server.receive(&message::one_response(PASSWORD.as_bytes())));

    let mut server = in_state("prompted");
    asked(server.receive(&message::one_response(b"wrong")));
    refused(server.answer(Verdict::Refused));
    broken(server.receive(&message::one_response(PASSWORD.as_bytes())));
}

#[test]
fn a_banner_is_sent_once_before_the_first_answer() {
    let banner = Banner::new(b"Authorised use only.\n");
    let mut server = Server::new(SESSION, HOST_KEY, sample::all_offers(), Limits::default(), Some(banner.clone()));
    assert!(server.tell(&banner).is_err(), "no client expects it yet");
    sent(server.receive(&message::service_request(b"ssh-userauth")));
    let Ok(Step::Send(messages)) = server.receive(&message::none_request("alice")) else { panic!() };
    assert_eq!(messages, [message::banner("Authorised use only.\n"), FAILED.to_vec()]);
    assert_eq!(sent(server.receive(&message::none_request("alice"))), FAILED);
    asked(server.receive(&password(PASSWORD)));
    assert_eq!(server.tell(&banner), Ok(message::banner("Authorised use only.\n")));
    proven(server.answer(Verdict::Accepted));
    assert!(server.tell(&banner).is_ok());
    server.success().unwrap();
    assert!(server.tell(&banner).is_err());
}

#[test]
fn a_user_name_that_is_not_utf8_ends_the_connection() {
    let mut request = vec![50];
    request.put_string([0xff]).put_string("ssh-connection").put_string("none");
    broken(sample::server().receive(&request));
}
