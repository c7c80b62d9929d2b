//! A login over SSH: whatever a client says to our server, and a server to our client. The first byte says which; then come messages, each with
//! its length in two bytes before it and what the server's owner answers in one behind it.
#![no_main]

use std::sync::{Arc, LazyLock};

use keyward_ssh_transport::Fatal;
use keyward_ssh_transport::auth::client::{self, Client, Credentials};
use keyward_ssh_transport::auth::question::{By, Offer, Offers, Question, Verdict};
use keyward_ssh_transport::auth::server::{self, Limits, Server};
use keyward_ssh_transport::auth::{BANNER_MAX, Banner, Ended, Prompt, Prompts};
use keyward_ssh_transport::key::{SIGNATURE_ALGORITHMS, SkPolicy};
use keyward_ssh_transport::sign::{Signer, read_private_key};
use libfuzzer_sys::fuzz_target;

const SESSION: &[u8] = b"the hash of the first key exchange";
const HOST_KEY: &[u8] = b"the blob of our host key";
const PASSWORD: &[u8] = b"CorrectHorseBatteryStaple";
/// The blob of an Ed25519 signature, and the length before it.
const SIGNATURE: usize = 4 + 11 + 4 + 64;

/// A key that is good for nothing else: the same in every run, so that signatures can be among the seeds.
static SIGNER: LazyLock<Arc<dyn Signer>> =
    LazyLock::new(|| Arc::from(read_private_key(include_bytes!("../seeds/ssh_keys/private_ed25519"), None).unwrap()));

fuzz_target!(|bytes: &[u8]| {
    match bytes.split_first() {
        Some((0, rest)) => to_server(rest),
        Some((1, rest)) => to_client(rest),
        _ => {}
    }
});

/// The messages, and the byte behind each.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (&[u8], u8)> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let (message, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        let (&verdict, rest) = rest.split_first()?;
        bytes = rest;
        Some((message, verdict))
    })
}

fn to_server(bytes: &[u8]) {
    let offers = Offers::new(&SIGNATURE_ALGORITHMS, Offer::Yes, Offer::Yes);
    let mut server = Server::new(SESSION, HOST_KEY, offers, Limits::default(), Some(Banner::new(b"hello")));
    let (mut taken, mut failures, mut proven, mut ended) = (0, 0, false, false);
    for (message, verdict) in messages(bytes) {
        let mut step = server.receive(message);
        let mut accepted = None;
        while let Ok(server::Step::Ask { question, .. }) = step {
            let answer = answer(&question, message, verdict);
            if matches!(answer, Verdict::Accepted | Verdict::AcceptedUnder(_)) {
                accepted = Some(question);
            }
            step = server.answer(answer);
        }
        assert!(!ended || step.is_err(), "nothing is taken after an end");
        taken += usize::from(step.is_ok() && !proven);
        match step {
            Ok(server::Step::Proven(by)) => {
                let good = match (accepted, by.by()) {
                    (Some(Question::Proof(asked, _)), By::Key(presented, _)) => asked.key() == presented.key(),
                    (Some(Question::Password(_)), By::Password) | (Some(Question::Responses(_)), By::Interactive) => true,
                    _ => false,
                };
                assert!(good && !proven && by.user().len() <= 255);
                proven = true;
                if verdict & 0x80 != 0 {
                    assert_eq!(server.success().unwrap(), [52]);
                }
            }
            Ok(server::Step::Refuse { messages, .. }) => {
                failures += 1;
                assert!(messages.last().is_some_and(|message| message[0] == 51));
            }
            Ok(_) => {}
            // The owner asks for prompts where there is no place for them, and accepts a proof without saying what it must show; nothing that a client says makes us fail by ourselves.
            Err(Ended::Broken(Fatal::Internal(_))) if verdict & 0x0f > 1 => panic!("a failure of our own"),
            Err(_) => ended = true,
        }
    }
    assert!(taken <= 64 && failures < 6);
}

/// An owner who takes one key and one password, and says sometimes what it should not.
fn answer(question: &Question, message: &[u8], verdict: u8) -> Verdict {
    let yes = match question {
        Question::Nothing => panic!("it is not offered"),
        Question::Query(_) => true,
        Question::Proof(presented, _) => {
            let ours = presented.key() == SIGNER.public();
            if ours {
                // Whatever else the message may be, our key signed all of it: the signature is the one that only it can make.
                let (request, signature) = message.split_at(message.len() - SIGNATURE - 4);
                let data = [&u32::try_from(SESSION.len()).unwrap().to_be_bytes()[..], SESSION, request].concat();
                assert_eq!(SIGNER.sign("ssh-ed25519", &data).unwrap(), signature[4..]);
            }
            ours
        }
        Question::Password(typed) => *typed.clone().expose() == PASSWORD,
        Question::Interactive => return Verdict::Ask(Prompts::new("hello", vec![Prompt::hidden("?"); (verdict % 4).into()]).unwrap()),
        Question::Responses(typed) => typed.len() == 1 && *typed[0].clone().expose() == PASSWORD,
    };
    match verdict & 0x0f {
        0 => Verdict::Ask(Prompts::password()),
        1 if yes && matches!(question, Question::Proof(..)) => Verdict::Accepted,
        _ if yes && matches!(question, Question::Proof(..)) => Verdict::AcceptedUnder(SkPolicy::TOUCH),
        _ if yes => Verdict::Accepted,
        _ => Verdict::Refused,
    }
}

fn to_client(bytes: &[u8]) {
    let credentials = Credentials { signers: vec![Arc::clone(&SIGNER)], password: Some(PASSWORD.to_vec().into()) };
    let mut client = Client::new(SESSION, "alice", credentials);
    client.start().unwrap();
    let (mut passwords, mut sent, mut ended, mut listed) = (0, 0, false, false);
    for (message, _) in messages(bytes) {
        let step = client.receive(message);
        assert!(!ended || step.is_err(), "nothing is taken after an end");
        let contains = |what: &[u8]| message.windows(what.len()).any(|window| window == what);
        listed = listed || (message.first() == Some(&51) && (contains(b"password") || contains(b"keyboard-interactive")));
        match step {
            Ok(client::Step::Send(payload)) => {
                let shown = payload.as_bytes().windows(PASSWORD.len()).any(|window| window == PASSWORD);
                assert!(!shown || listed, "no server asked for it");
                passwords += usize::from(shown);
                sent += 1;
            }
            Ok(client::Step::Banner(banner)) => {
                let odd = |char: char| char != '\n' && (char.is_control() || char == '\u{202e}');
                assert!(banner.as_str().len() <= BANNER_MAX && !banner.as_str().contains(odd));
            }
            Ok(client::Step::Success(_) | client::Step::Refused(_)) | Err(_) => ended = true,
        }
    }
    assert!(passwords <= 1 && sent <= 16);
}
