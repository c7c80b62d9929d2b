//! An OpenSSH client at our server.

use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::thread;

use keyward_ssh_transport::auth::question::{By, Offer, Offers, Question, Verdict};
use keyward_ssh_transport::auth::server::{Limits, Server, Step};
use keyward_ssh_transport::auth::{Banner, Ended, Prompts};
use keyward_ssh_transport::certificate::{HostCertificate, What, mint_host};
use keyward_ssh_transport::key::{SIGNATURE_ALGORITHMS, SkPolicy};
use keyward_ssh_transport::sign::{Certified, Signer, generate_ed25519};
use keyward_ssh_transport::{Role, ServerConfig, SystemRandom};

use crate::PASSWORD;
use crate::keys::{KEYS, Keys};
use crate::wire::Wire;

/// Who came in, and by which questions; or why not.
type Served = Result<(By, Vec<Question>), Option<Ended>>;

/// Serves one client until it is in and asks for more, or has gone.
fn serve(listener: &TcpListener, host_key: &Arc<dyn Signer>, offers: &Offers, owner: &dyn Fn(&Question) -> Verdict) -> Served {
    let (stream, _) = listener.accept().unwrap();
    let mut wire = Wire::new(Role::Server(Arc::new(ServerConfig::new(vec![Arc::clone(host_key)]))), stream);
    let first = wire.hear(None).ok_or(None)?;
    let banner = Some(Banner::new(b"Authorised use only.\n"));
    let (session, shown) = (wire.conn.session_id().unwrap(), wire.conn.host_key().unwrap());
    let mut server = Server::new(session, shown, offers.clone(), Limits::default(), banner);
    let (mut questions, mut message) = (Vec::new(), first);
    loop {
        let mut step = server.receive(&message);
        while let Ok(Step::Ask { user, question }) = step {
            assert_eq!(user, "alice");
            step = server.answer(owner(&question));
            questions.push(question);
        }
        match step {
            Ok(Step::Send(messages) | Step::Refuse { messages, .. }) => wire.say(messages),
            Ok(Step::Proven(proven)) => {
                wire.say([server.success().unwrap()]);
                wire.conn.authenticated();
                assert!(wire.hear(None).is_some_and(|message| message[0] >= 80), "it goes on");
                wire.conn.disconnect(11, "that was all");
                wire.flush();
                return Ok((proven.by().clone(), questions));
            }
            Ok(other) => panic!("{other:?}"),
            Err(ended) => {
                wire.conn.disconnect(ended.reason(), ended.text());
                wire.flush();
                return Err(Some(ended));
            }
        }
        message = wire.hear(None).ok_or(None)?;
    }
}

/// An OpenSSH client at our server.
fn at_our_server(keys: &Keys, options: &[String], offers: &Offers, owner: &dyn Fn(&Question) -> Verdict) -> (Served, String) {
    let host_key: Arc<dyn Signer> = Arc::new(generate_ed25519().unwrap());
    let known = format!("* {}\n", host_key.public().to_line());
    at_our_host(keys, (host_key, &known), options, offers, owner)
}

/// The same with this host key, and this line by which the client knows it.
fn at_our_host(
    keys: &Keys,
    (host_key, known): (Arc<dyn Signer>, &str),
    options: &[String],
    offers: &Offers,
    owner: &dyn Fn(&Question) -> Verdict,
) -> (Served, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let known_hosts = keys.write("known_hosts", known, 0o600);
    let askpass = keys.write("askpass", &format!("#!/bin/sh\necho {PASSWORD}\n"), 0o700);
    let mut ssh = Command::new("ssh");
    ssh.args(["-F", "none", "-vvv", "-p", &port.to_string(), "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes"]);
    ssh.arg("-o").arg(format!("UserKnownHostsFile={}", known_hosts.display())).args(options).args(["alice@127.0.0.1", "true"]);
    ssh.env_remove("SSH_AUTH_SOCK").env("SSH_ASKPASS", askpass).env("SSH_ASKPASS_REQUIRE", "force").stdin(Stdio::null());
    let (served, Output { stderr, .. }) = thread::scope(|scope| {
        let client = scope.spawn(|| ssh.output().unwrap());
        (serve(&listener, &host_key, offers, owner), client.join().unwrap())
    });
    (served, String::from_utf8_lossy(&stderr).into_owned())
}

fn identity(keys: &Keys, name: &str) -> Vec<String> {
    vec!["-i".to_owned(), keys.path(name).display().to_string()]
}

fn all() -> Offers {
    Offers::new(&SIGNATURE_ALGORITHMS, Offer::Yes, Offer::Yes)
}

#[test]
fn an_openssh_client_logs_in_with_every_type_of_key_bound_to_our_host_key_or_not() {
    let keys = Keys::new();
    for (name, ..) in KEYS {
        let public = keys.public(name);
        let owner = |question: &Question| match question {
            Question::Query(presented) | Question::Proof(presented, _) if *presented.key() == public => {
                Verdict::AcceptedUnder(SkPolicy::TOUCH)
            }
            _ => Verdict::Refused,
        };
        let (served, said) = at_our_server(&keys, &identity(&keys, name), &all(), &owner);
        let (by, questions) = served.unwrap_or_else(|ended| panic!("{name} {ended:?}: {said}"));
        assert!(matches!(by, By::Key(presented, None) if *presented.key() == public), "{name}");
        assert!(matches!(questions[..], [Question::Query(_), Question::Proof(..)]), "{questions:?}");
        assert!(said.contains("publickey-hostbound-v00@openssh.com") && said.contains("Authorised use only."), "{said}");
        let unbound = [identity(&keys, name), vec!["-o".to_owned(), "PubkeyAuthentication=unbound".to_owned()]].concat();
        let (served, said) = at_our_server(&keys, &unbound, &all(), &owner);
        assert!(served.is_ok() && !said.contains("using publickey-hostbound"), "{said}");
    }
}

/// What the proof is bound to is then the certificate, not the key in it.
#[test]
fn an_openssh_client_binds_its_proof_to_our_host_certificate() {
    let keys = Keys::new();
    let (authority, key) = (generate_ed25519().unwrap(), Arc::new(generate_ed25519().unwrap()));
    let wanted = HostCertificate {
        key: key.public(),
        principals: &["127.0.0.1"],
        key_id: "web-1",
        serial: 0,
        valid_after: 0,
        valid_before: u64::MAX,
    };
    let certificate = mint_host(&authority, &wanted, &mut SystemRandom).unwrap();
    let host_key: Arc<dyn Signer> = Arc::new(Certified::new(key, &certificate).unwrap());
    let known = format!("@cert-authority * {}\n", authority.public().to_line());
    let owner = |question: &Question| match question {
        Question::Query(_) | Question::Proof(..) => Verdict::AcceptedUnder(SkPolicy::TOUCH),
        _ => Verdict::Refused,
    };
    let (served, said) = at_our_host(&keys, (host_key, &known), &identity(&keys, "ed25519"), &all(), &owner);
    assert!(matches!(served, Ok((By::Key(..), _))), "{served:?} {said}");
    assert!(said.contains("matches the ED25519-CERT host certificate"), "{said}");
    assert!(said.contains("using publickey-hostbound-v00@openssh.com"), "{said}");
}

#[test]
fn an_openssh_client_logs_in_with_certificates_of_every_type() {
    let keys = Keys::new();
    for (name, ..) in KEYS {
        keys.certify(name, "alice");
        let public = keys.public(name);
        let owner = |question: &Question| match question {
            Question::Query(presented) | Question::Proof(presented, _) if matches!(presented.what(), What::Certificate(_)) => {
                Verdict::AcceptedUnder(SkPolicy::TOUCH)
            }
            _ => Verdict::Refused,
        };
        let (served, said) = at_our_server(&keys, &identity(&keys, name), &all(), &owner);
        let (by, _) = served.unwrap_or_else(|ended| panic!("{name} {ended:?}: {said}"));
        assert!(matches!(by, By::Key(presented, None) if *presented.key() == public), "{name}");
    }
}

#[test]
fn an_openssh_client_logs_in_with_a_password_and_at_prompts() {
    let keys = Keys::new();
    let owner = |question: &Question| {
        let right = match question {
            Question::Password(typed) => *typed.clone().expose() == PASSWORD.as_bytes(),
            Question::Interactive => return Verdict::Ask(Prompts::password()),
            Question::Responses(typed) => typed.iter().all(|typed| *typed.clone().expose() == PASSWORD.as_bytes()),
            _ => false,
        };
        if right { Verdict::Accepted } else { Verdict::Refused }
    };
    let (served, said) = at_our_server(&keys, &[], &Offers::new(&[], Offer::Yes, Offer::No), &owner);
    assert!(matches!(served, Ok((By::Password, _))), "{served:?} {said}");
    let (served, said) = at_our_server(&keys, &[], &Offers::new(&[], Offer::No, Offer::Yes), &owner);
    assert!(matches!(served, Ok((By::Interactive, _))), "{served:?} {said}");
}

#[test]
fn an_openssh_client_is_told_why_it_is_turned_away() {
    let keys = Keys::new();
    let mut identities = Vec::new();
    for number in 0..7 {
        let name = format!("wrong{number}");
        keys.keygen(&["-t", "ed25519", "-f", &name]);
        identities.extend(identity(&keys, &name));
    }
    let (served, said) = at_our_server(&keys, &identities, &all(), &|_| Verdict::Refused);
    assert_eq!(served.unwrap_err(), Some(Ended::TooManyFailures));
    assert!(said.contains("too many authentication failures"), "{said}");
    let (served, said) =
        at_our_server(&keys, &identity(&keys, "rsa"), &Offers::new(&SIGNATURE_ALGORITHMS, Offer::No, Offer::No), &|_| Verdict::Refused);
    assert_eq!(served.unwrap_err(), None, "it gives up by itself");
    assert!(said.contains("Permission denied (publickey)"), "{said}");
}
