//! The two machines against each other.

use std::sync::Arc;

use proptest::prelude::*;
use zeroize::Zeroizing;

use super::client::{self, Client, Credentials, Method};
use super::question::{By, Offer, Offers, Proven, Question, Verdict};
use super::sample::{self, HOST_KEY, PASSWORD, SESSION};
use super::server::{self, Limits, Server};
use super::{Banner, Ended};
use crate::certificate::{UserCheck, What};
use crate::key::{KeyType, SIGNATURE_ALGORITHMS, SkPolicy};
use crate::keygen::Keygen;
use crate::revocation::Revocations;
use crate::sign::{Certified, Signer, read_private_key};

/// How a login ended for both.
#[derive(Debug)]
struct Outcome {
    client: client::Step,
    proven: Option<Proven>,
    banners: usize,
}

/// Lets both talk until the client is done.
fn log_in(mut client: Client, mut server: Server, owner: impl Fn(Question) -> Verdict) -> Result<Outcome, Ended> {
    let (mut proven, mut banners) = (None, 0);
    let mut to_server = vec![client.start()?.as_bytes().to_vec()];
    while let Some(message) = to_server.pop() {
        let mut step = server.receive(&message)?;
        while let server::Step::Ask { user, question } = step {
            assert_eq!(user, "alice");
            step = server.answer(owner(question))?;
        }
        let to_client = match step {
            server::Step::Send(messages) | server::Step::Refuse { messages, .. } => messages,
            server::Step::Proven(by) => {
                proven = Some(by);
                vec![server.success()?]
            }
            other => panic!("{other:?}"),
        };
        for message in to_client {
            match client.receive(&message)? {
                client::Step::Send(payload) => to_server.push(payload.as_bytes().to_vec()),
                client::Step::Banner(_) => banners += 1,
                done => return Ok(Outcome { client: done, proven, banners }),
            }
        }
    }
    panic!("nobody says anything any more");
}

fn client(signers: Vec<Arc<dyn Signer>>, password: Option<&str>) -> Client {
    let password = password.map(|password| Zeroizing::new(password.as_bytes().to_vec()));
    let mut client = Client::new(SESSION, "alice", Credentials { signers, password });
    client.learn(&SIGNATURE_ALGORITHMS);
    client
}

fn server(offers: Offers) -> Server {
    Server::new(SESSION, HOST_KEY, offers, Limits::default(), Some(Banner::new(b"hello\n")))
}

#[test]
fn every_type_of_key_and_certificate_logs_in() {
    for signer in sample::signers().iter().chain(sample::certified()) {
        let outcome = log_in(client(vec![Arc::clone(signer)], None), server(sample::all_offers()), sample::owner).unwrap();
        assert_eq!(outcome.client, client::Step::Success(Method::PublicKey), "{signer:?}");
        assert!(matches!(outcome.proven.unwrap().by(), By::Key(presented, _) if presented.key() == signer.public()));
        assert_eq!(outcome.banners, 1);
    }
}

#[test]
fn a_password_logs_in_by_its_method_and_at_a_prompt() {
    for (offers, method) in [
        (Offers::new(&[], Offer::Yes, Offer::No), Method::Password),
        (Offers::new(&[], Offer::No, Offer::Yes), Method::Interactive),
        (sample::all_offers(), Method::Password),
    ] {
        let outcome = log_in(client(vec![], Some(PASSWORD)), server(offers.clone()), sample::owner).unwrap();
        assert_eq!(outcome.client, client::Step::Success(method));
        assert!(matches!(
            (method, outcome.proven.unwrap().by()),
            (Method::Password, By::Password) | (Method::Interactive, By::Interactive)
        ));
        let outcome = log_in(client(vec![], Some("wrong")), server(offers), sample::owner).unwrap();
        assert!(matches!(outcome.client, client::Step::Refused(client::Refused { why: client::Why::Rejected, .. })), "{outcome:?}");
        assert!(outcome.proven.is_none());
    }
}

#[test]
fn a_password_helps_after_keys_that_do_not_and_six_failures_end_it() {
    let strangers = |count: usize| -> Vec<Arc<dyn Signer>> {
        (0..count).map(|_| Arc::new(sample::SecurityKey::ed25519(sample::TOUCHED)) as Arc<dyn Signer>).collect()
    };
    let outcome = log_in(client(strangers(5), Some(PASSWORD)), server(sample::all_offers()), sample::owner).unwrap();
    assert_eq!(outcome.client, client::Step::Success(Method::Password));
    let ended = log_in(client(strangers(6), Some(PASSWORD)), server(sample::all_offers()), sample::owner).unwrap_err();
    assert_eq!(ended, Ended::TooManyFailures);
}

#[test]
fn an_untouched_security_key_is_refused() {
    for key in [sample::SecurityKey::ed25519(0), sample::SecurityKey::ecdsa(sample::VERIFIED)] {
        let anybody = |question| if matches!(question, Question::Proof(..)) { sample::UNDER_TOUCH } else { Verdict::Refused };
        let outcome = log_in(client(vec![Arc::new(key)], None), server(sample::all_offers()), anybody).unwrap();
        assert!(matches!(outcome.client, client::Step::Refused(_)), "{outcome:?}");
    }
}

/// The owner's half of rule 22, as it should be written: the certificate is checked, and what it wants of a security key is handed on.
#[test]
fn rule_22_a_certificate_logs_in_its_principal_for_as_long_as_it_counts() {
    let keygen = Keygen::new();
    let authority = keygen.key("authority", &["-t", "ed25519"]);
    let stranger = keygen.key("stranger", &["-t", "ed25519"]);
    keygen.key("mine", &["-t", "ecdsa", "-b", "384"]);
    let signer: Arc<dyn Signer> = Arc::from(read_private_key(keygen.read("mine").as_bytes(), None).unwrap());
    let attempt = |options: &[&str], authorities: &[crate::key::PublicKey], now: u64| {
        let certificate = keygen.certificate("authority", "mine", options);
        let certified = Arc::new(Certified::new(Arc::clone(&signer), &certificate).unwrap());
        let revocations = Revocations::default();
        let owner = |question| match question {
            Question::Proof(presented, _) => match presented.what() {
                What::Certificate(certificate) => {
                    let check = UserCheck {
                        authorities,
                        revocations: &revocations,
                        principal: "alice",
                        source: None,
                        now,
                        policy: SkPolicy::TOUCH,
                    };
                    certificate.check_user(&check).map_or(Verdict::Refused, |granted| Verdict::AcceptedUnder(granted.policy))
                }
                What::Key(_) => Verdict::Refused,
            },
            _ => Verdict::Refused,
        };
        let outcome = log_in(client(vec![certified], None), server(sample::all_offers()), owner).unwrap();
        outcome.client == client::Step::Success(Method::PublicKey)
    };
    let (now, valid) = (1_800_000_000, "20270101000000Z:20280101000000Z");
    let authorities = [authority];
    assert!(attempt(&["-n", "bob,alice", "-V", valid], &authorities, now));
    for (options, authorities, now) in [
        (&["-n", "bob", "-V", valid][..], &authorities[..], now),
        (&["-V", valid], &authorities, now),
        (&["-h", "-n", "alice", "-V", valid], &authorities, now),
        (&["-n", "alice", "-V", valid, "-O", "force-command=true"], &authorities, now),
        (&["-n", "alice", "-V", valid, "-O", "source-address=192.0.2.0/24"], &authorities, now),
        (&["-n", "alice", "-V", valid], &[stranger], now),
        (&["-n", "alice", "-V", valid], &[], now),
        (&["-n", "alice", "-V", valid], &authorities, 1_700_000_000),
        (&["-n", "alice", "-V", valid], &authorities, 1_900_000_000),
    ] {
        assert!(!attempt(options, authorities, now), "{options:?} at {now}");
    }
}

#[test]
fn whoever_has_proven_itself_already_needs_nothing() {
    let trusts = |question| if matches!(question, Question::Nothing) { Verdict::Accepted } else { Verdict::Refused };
    let outcome = log_in(client(vec![sample::signer()], Some(PASSWORD)), server(sample::all_offers().or_nothing()), trusts).unwrap();
    assert_eq!(outcome.client, client::Step::Success(Method::None));
    let outcome = log_in(client(vec![sample::rsa()], None), server(sample::all_offers()), sample::owner).unwrap();
    assert_eq!(outcome.client, client::Step::Success(Method::PublicKey));
}

#[test]
fn an_rsa_key_finds_the_one_algorithm_that_the_server_takes() {
    for algorithm in KeyType::Rsa.algorithms() {
        let offers = Offers::new(&[algorithm], Offer::No, Offer::No);
        let mut client = Client::new(SESSION, "alice", Credentials { signers: vec![sample::rsa()], password: None });
        client.learn(offers.signature_algorithms());
        let outcome = log_in(client, server(offers), sample::owner).unwrap();
        assert_eq!(outcome.client, client::Step::Success(Method::PublicKey), "{algorithm}");
    }
}

/// Messages that look like those of a login.
fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let signer = sample::signer();
    let seeds = [
        super::message::service_request(b"ssh-userauth"),
        super::message::service_accept(b"ssh-userauth"),
        super::message::none_request("alice"),
        super::message::password_request("alice", b"wrong").to_vec(),
        super::message::interactive_request("alice"),
        super::message::one_response(b"wrong").to_vec(),
        super::message::failure(&["publickey", "password", "keyboard-interactive"]),
        super::message::banner("hello"),
        sample::prompts(&[false]),
        sample::prompts(&[]),
        sample::query("alice", "ssh-ed25519", signer.blob()),
        sample::signed_request("alice", &*signer),
    ];
    let mutated = (prop::sample::select(seeds.to_vec()), prop::option::of((any::<prop::sample::Index>(), any::<u8>()))).prop_map(
        |(mut message, change)| {
            if let Some((at, byte)) = change {
                let at = at.index(message.len());
                message[at] = byte;
            }
            message
        },
    );
    prop::collection::vec(prop_oneof![8 => mutated, 1 => prop::collection::vec(any::<u8>(), 0..40)], 0..80)
}

proptest! {
    /// Whatever comes: the server proves nobody whom the owner did not accept, answers no more than it may, and never begins again after an end.
    #[test]
    fn no_messages_make_the_server_fail_badly(messages in messages(), verdicts: Vec<u8>) {
        let mut server = server(sample::all_offers());
        let mut verdicts = verdicts.into_iter().cycle();
        let (mut ended, mut accepted, mut failures) = (false, false, 0);
        for message in messages {
            let mut step = server.receive(&message);
            while let Ok(server::Step::Ask { question, .. }) = step {
                let about_a_query = matches!(question, Question::Query(_));
                let verdict = match verdicts.next().unwrap_or(0) % 4 {
                    0 if matches!(question, Question::Proof(..)) => sample::UNDER_TOUCH,
                    0 => Verdict::Accepted,
                    1 => Verdict::Ask(super::Prompts::password()),
                    _ => Verdict::Refused,
                };
                accepted = accepted || (!about_a_query && matches!(verdict, Verdict::Accepted | Verdict::AcceptedUnder(_)));
                step = server.answer(verdict);
            }
            match step {
                Err(_) => ended = true,
                Ok(_) if ended => prop_assert!(false, "after the end"),
                Ok(server::Step::Proven(_)) => prop_assert!(accepted),
                Ok(server::Step::Refuse { .. }) => failures += 1,
                Ok(_) => {}
            }
            prop_assert!(failures < 6);
        }
    }

    /// The client shows its password at most once, and nothing after its end.
    #[test]
    fn no_messages_make_the_client_fail_badly(messages in messages()) {
        let mut client = client(vec![sample::signer()], Some(PASSWORD));
        client.start().unwrap();
        let (mut ended, mut passwords) = (false, 0);
        for message in messages {
            match client.receive(&message) {
                Ok(step) => {
                    prop_assert!(!ended);
                    if let client::Step::Send(payload) = &step {
                        passwords += usize::from(payload.as_bytes().windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes()));
                    }
                    ended = matches!(step, client::Step::Success(_) | client::Step::Refused(_));
                }
                Err(_) => ended = true,
            }
        }
        prop_assert!(passwords <= 1);
    }
}
