//! Users who prove themselves by keys and certificates, which OpenSSH's own `ssh-keygen` makes.

use std::fs;
use std::process::Command;

use keyward_ssh_transport::auth::client::{Client, Credentials, Step as ClientStep};
use keyward_ssh_transport::auth::question::{By, Offer, Offers, Question, Verdict};
use keyward_ssh_transport::auth::server::{Limits as ServerLimits, Server, Step};
use keyward_ssh_transport::certificate::{Permission, What};
use keyward_ssh_transport::key::{Demand, PublicKey, SIGNATURE_ALGORITHMS};
use keyward_ssh_transport::revocation::Revocations;
use keyward_ssh_transport::sign::{Certified, NewKey, Signer, generate_ed25519};
use keyward_ssh_transport::wire::Put;

use super::*;

const SESSION: &[u8] = b"the hash of the first key exchange";
const HOST_KEY: &[u8] = b"our host key";

/// Lets a client with this key log in to the machine that verifies signatures, whose owner takes every key.
fn proven(login: &str, credentials: Credentials) -> Proven {
    let offers = Offers::new(&SIGNATURE_ALGORITHMS, Offer::Yes, Offer::No);
    let mut server = Server::new(SESSION, HOST_KEY, offers, ServerLimits::default(), None);
    let mut client = Client::new(SESSION, login, credentials);
    client.learn(&SIGNATURE_ALGORITHMS);
    let mut to_server = client.start().unwrap().as_bytes().to_vec();
    loop {
        let mut step = server.receive(&to_server).unwrap();
        while let Step::Ask { question, .. } = step {
            let key = matches!(question, Question::Query(_) | Question::Proof(..));
            step = server.answer(if key { Verdict::AcceptedUnder(SkPolicy::TOUCH) } else { Verdict::Accepted }).unwrap();
        }
        let to_client = match step {
            Step::Proven(proven) => return proven,
            Step::Send(messages) => messages,
            other => panic!("{other:?}"),
        };
        for message in to_client {
            if let ClientStep::Send(payload) = client.receive(&message).unwrap() {
                to_server = payload.as_bytes().to_vec();
            }
        }
    }
}

fn by_key(signer: impl Signer + 'static) -> Proven {
    proven("alice+web-1", Credentials { signers: vec![Arc::new(signer)], password: None })
}

fn presented(proven: &Proven) -> Presented {
    let By::Key(presented, _) = proven.by() else { panic!("{proven:?}") };
    presented.clone()
}

fn new_key() -> NewKey {
    generate_ed25519().unwrap()
}

/// Runs `ssh-keygen` in a folder.
fn keygen(folder: &std::path::Path, arguments: &[&str]) {
    let output = Command::new("ssh-keygen").args(arguments).current_dir(folder).env("TZ", "UTC").env_remove("SSH_AUTH_SOCK").output();
    let output = output.expect("ssh-keygen, of Debian's package openssh-client");
    assert!(output.status.success(), "ssh-keygen {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An authority for users, and what it signs.
struct Authority {
    folder: tempfile::TempDir,
    public: PublicKey,
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        keygen(folder.path(), &["-q", "-N", "", "-t", "ed25519", "-f", "authority"]);
        let public = PublicKey::parse_line(&fs::read_to_string(folder.path().join("authority.pub")).unwrap()).unwrap();
        Self { folder, public }
    }

    /// A proof by a new key with a certificate of it.
    fn certify(&self, options: &[&str]) -> Proven {
        let key = new_key();
        fs::write(self.folder.path().join("user.pub"), key.public().to_line()).unwrap();
        let sign = ["-q", "-s", "authority", "-I", "alice of the crew", "-z", "7"];
        keygen(self.folder.path(), &[&sign, options, &["user.pub"]].concat());
        let line = fs::read_to_string(self.folder.path().join("user-cert.pub")).unwrap();
        by_key(Certified::from_line(Arc::new(key), &line).unwrap())
    }

    fn trusted(&self) -> KeyTrust {
        KeyTrust { authorities: vec![self.public.clone()], revocations: Revocations::default() }
    }
}

/// `alice` has this key, and `dave` none; two failures lock.
fn crew(key: &PublicKey) -> String {
    let alice = format!("  alice: {{ public_keys: ['{}'], groups: [crew] }}\n  dave: {{ groups: [crew] }}\n", key.to_line());
    users().replace("users:\n", &format!("users:\n{alice}")).replace("  alice: { password", "  erin: { password")
}

#[tokio::test]
async fn a_user_is_known_by_his_own_key_and_all_others_are_nobody_alike() {
    let (key, other) = (new_key(), new_key());
    let (own, fingerprint) = (key.public().clone(), key.public().fingerprint());
    let gate = open(&(crew(&own) + CONNECTIONS));
    let (right, wrong) = (by_key(key), by_key(other));
    let trust = KeyTrust::default();
    let revoked = KeyTrust { revocations: Revocations::parse(own.to_line().as_bytes()).unwrap(), ..KeyTrust::default() };

    let from = source("192.0.2.1");
    assert_eq!(gate.would_accept("alice", &presented(&right), from, &trust), Some(SkPolicy::TOUCH));
    assert_eq!(gate.signed("alice", &presented(&right), from, &trust).await, Ok(SkPolicy::TOUCH));
    let identity = gate.public_key("alice", &right, from, &trust).await.unwrap();
    assert_eq!((identity.user().as_str(), identity.proof(), identity.source()), ("alice", Proof::PublicKey, from));
    assert_eq!((identity.groups().len(), identity.proof().word()), (1, "public_key"));
    let shown = identity.key().unwrap();
    assert_eq!((shown.fingerprint(), shown.certificate().is_none()), (fingerprint.as_str(), true));
    let grant = gate.authorise(&identity, "postgres", "orders", None, SessionId::random()).unwrap();
    assert_eq!(grant.key().unwrap().fingerprint(), fingerprint);

    let before = gate.hashing.computations().load(Ordering::Relaxed);
    let table = [
        ("bob", &right, &trust),
        ("dave", &right, &trust),
        ("carol", &right, &trust),
        ("nobody", &right, &trust),
        ("", &right, &trust),
        ("ALICE", &right, &trust),
        ("alice+web-1", &right, &trust),
        ("alice", &wrong, &trust),
        ("alice", &right, &revoked),
    ];
    for (number, (user, proven, trust)) in table.into_iter().enumerate() {
        // Each from an address of his own, so that none is slowed.
        let from = source(&format!("198.51.100.{number}"));
        assert_eq!(gate.would_accept(user, &presented(proven), from, trust), None, "{user}");
        assert_eq!(gate.signed(user, &presented(proven), from, trust).await, Err(AuthFailure::NotAuthenticated), "{user}");
        assert_eq!(gate.public_key(user, proven, from, trust).await.err(), Some(AuthFailure::NotAuthenticated), "{user}");
    }
    assert_eq!(gate.hashing.computations().load(Ordering::Relaxed), before, "no key costs a hash");
}

#[tokio::test]
async fn what_was_proven_by_a_password_is_no_proof_by_key() {
    let gate = open(&(users() + CONNECTIONS));
    let password = zeroize::Zeroizing::new(b"whatever".to_vec());
    let proven = proven("alice", Credentials { signers: Vec::new(), password: Some(password) });
    assert!(matches!(proven.by(), By::Password));
    let outcome = gate.public_key("alice", &proven, Source::local(), &KeyTrust::default()).await;
    assert_eq!(outcome.err(), Some(AuthFailure::NotAuthenticated));
}

#[tokio::test]
async fn a_failed_signature_counts_like_a_wrong_password_and_a_question_does_not() {
    let (key, other) = (new_key(), new_key());
    let gate = open(&(crew(key.public()) + CONNECTIONS));
    let (right, wrong) = (by_key(key), by_key(other));
    let trust = KeyTrust::default();
    let (bad, good) = (source("203.0.113.9"), source("192.0.2.1"));
    for _ in 0..20 {
        assert_eq!(gate.would_accept("alice", &presented(&wrong), bad, &trust), None);
    }
    let mistake = async || gate.signed("alice", &presented(&wrong), bad, &trust).await.err();
    assert_eq!(mistake().await, Some(AuthFailure::NotAuthenticated));
    assert!(gate.public_key("alice", &right, bad, &trust).await.is_ok(), "one failure locks nobody, and a success clears it");
    assert_eq!(mistake().await, Some(AuthFailure::NotAuthenticated));
    gate.missigned("alice", bad).await;
    // Locked, whatever is shown.
    assert_eq!(gate.would_accept("alice", &presented(&right), bad, &trust), None);
    assert_eq!(gate.signed("alice", &presented(&right), bad, &trust).await, Err(AuthFailure::Locked));
    assert_eq!(gate.public_key("alice", &right, bad, &trust).await.err(), Some(AuthFailure::Locked));
    assert_eq!(gate.password("alice", secret("right"), bad).await.err(), Some(AuthFailure::Locked));
    assert!(gate.would_accept("alice", &presented(&right), good, &trust).is_some());
    assert!(gate.public_key("alice", &right, good, &trust).await.is_ok());
    // A name that does not exist is locked like one that does.
    for _ in 0..2 {
        assert_eq!(gate.signed("nobody", &presented(&right), good, &trust).await, Err(AuthFailure::NotAuthenticated));
    }
    assert_eq!(gate.signed("nobody", &presented(&right), good, &trust).await, Err(AuthFailure::Locked));
}

#[tokio::test]
async fn a_certificate_makes_a_user_of_the_file_who_it_says_and_nobody_else() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let gate = open(&(crew(new_key().public()) + CONNECTIONS));
    let trust = authority.trusted();
    let from = source("192.0.2.1");
    // A user without any key of his own.
    let good = authority.certify(&["-n", "dave,nobody", "-O", "clear", "-O", "permit-pty", "-O", "permit-port-forwarding"]);
    assert!(gate.would_accept("dave", &presented(&good), from, &trust).is_some());
    let identity = gate.public_key("dave", &good, from, &trust).await.unwrap();
    assert_eq!((identity.user().as_str(), identity.proof(), identity.proof().word()), ("dave", Proof::Certificate, "certificate"));
    let key = identity.key().unwrap();
    let certificate = key.certificate().unwrap();
    assert_eq!(key.fingerprint(), presented(&good).key().fingerprint());
    assert_eq!((certificate.key_id().as_str(), certificate.serial()), ("alice of the crew", 7));
    assert_eq!((certificate.authority(), certificate.valid_before()), (authority.public.fingerprint().as_str(), u64::MAX));
    assert_eq!(certificate.permissions(), [Permission::PortForwarding, Permission::Pty]);

    let revoked = |list: String| KeyTrust { revocations: Revocations::parse(list.as_bytes()).unwrap(), ..authority.trusted() };
    let of_alice = authority.certify(&["-n", "alice"]);
    let of_dave = |options: &[&str]| authority.certify(&[&["-n", "dave"], options].concat());
    let table = [
        ("nobody", authority.certify(&["-n", "nobody"]), authority.trusted(), "is not in the file"),
        ("dave", of_alice, authority.trusted(), "another principal"),
        ("dave", authority.certify(&[]), authority.trusted(), "no principal"),
        ("dave", stranger.certify(&["-n", "dave"]), authority.trusted(), "another authority"),
        ("dave", of_dave(&[]), KeyTrust::default(), "no authority"),
        ("dave", of_dave(&["-V", "20200101:20210101"]), authority.trusted(), "expired"),
        ("dave", of_dave(&["-O", "source-address=198.51.100.0/24"]), authority.trusted(), "from elsewhere"),
        ("dave", of_dave(&["-O", "force-command=true"]), authority.trusted(), "a critical option"),
        ("dave", of_dave(&[]), revoked("serial: 7".into()), "revoked by its number"),
        ("dave", of_dave(&[]), revoked(authority.public.to_line()), "its authority is revoked"),
        ("dave", authority.certify(&["-h", "-n", "dave"]), authority.trusted(), "of a host"),
    ];
    for (number, (user, proven, trust, why)) in table.into_iter().enumerate() {
        let from = source(&format!("203.0.113.{number}"));
        assert_eq!(gate.would_accept(user, &presented(&proven), from, &trust), None, "{why}");
        assert_eq!(gate.public_key(user, &proven, from, &trust).await.err(), Some(AuthFailure::NotAuthenticated), "{why}");
    }
    let bound = of_dave(&["-O", "source-address=192.0.2.0/24"]);
    assert!(gate.public_key("dave", &bound, from, &trust).await.is_ok());
    assert_eq!(gate.would_accept("dave", &presented(&bound), Source::local(), &trust), None, "a socket has no address");
}

#[tokio::test]
async fn a_certificate_of_a_users_own_key_counts_only_by_its_authority() {
    let authority = Authority::new();
    let proven = authority.certify(&["-n", "alice"]);
    let What::Certificate(certificate) = presented(&proven).what().clone() else { panic!("{proven:?}") };
    let gate = open(&(crew(certificate.key()) + CONNECTIONS));
    let outcome = gate.public_key("alice", &proven, Source::local(), &KeyTrust::default()).await;
    assert_eq!(outcome.err(), Some(AuthFailure::NotAuthenticated));
    assert!(gate.public_key("alice", &proven, Source::local(), &authority.trusted()).await.is_ok());
}

#[tokio::test]
async fn what_a_security_key_must_have_seen_its_line_or_its_certificate_says() {
    let mut blob = Vec::new();
    blob.put_string("sk-ssh-ed25519@openssh.com").put_string([7; 32]).put_string("ssh:");
    let key = Presented::parse("sk-ssh-ed25519@openssh.com", &blob).unwrap();
    let line = key.key().to_line();
    let policy = |options: &str| {
        let gate = open(&format!("users: {{ alice: {{ public_keys: ['{options} {line}'] }} }}"));
        gate.would_accept("alice", &key, Source::local(), &KeyTrust::default()).unwrap()
    };
    let demands = |touch, verification| SkPolicy { touch, verification };
    assert_eq!(policy(""), demands(Demand::Required, Demand::Waived));
    assert_eq!(policy("no-touch-required"), demands(Demand::Waived, Demand::Waived));
    assert_eq!(policy("verify-required"), demands(Demand::Required, Demand::Required));

    let authority = Authority::new();
    let gate = open(&(crew(new_key().public()) + CONNECTIONS));
    let policy = |options: &[&str]| {
        let certificate = presented(&authority.certify(&[&["-n", "dave"], options].concat()));
        gate.would_accept("dave", &certificate, Source::local(), &authority.trusted()).unwrap()
    };
    assert_eq!(policy(&[]), demands(Demand::Required, Demand::Waived));
    assert_eq!(policy(&["-O", "no-touch-required"]), demands(Demand::Waived, Demand::Waived));
    assert_eq!(policy(&["-O", "verify-required"]), demands(Demand::Required, Demand::Required));
}

#[tokio::test]
async fn a_link_opens_sessions_again_until_its_key_is_taken_from_the_user() {
    let key = new_key();
    let line = key.public().to_line();
    let text = crew(key.public()) + CONNECTIONS;
    let gate = open(&text);
    let identity = gate.public_key("alice", &by_key(key), Source::local(), &KeyTrust::default()).await.unwrap();
    let session = || gate.authorise(&identity, "postgres", "orders", None, SessionId::random());
    let (one, two) = (session().unwrap(), session().unwrap());
    assert_ne!(one.session(), two.session());
    assert!(replace(&gate, &text.replace("groups: [crew] }\n  dave", "groups: [crew, more] }\n  dave")).0.is_some());
    assert!(session().is_ok(), "he has it still");
    assert!(replace(&gate, &text.replace(&line, &new_key().public().to_line())).0.is_some());
    assert_eq!(session().err(), Some(Denied::NotPermitted));
    assert!(gate.still_allowed(&one), "what lives is ended for what the rules say");
}

#[tokio::test]
async fn a_jump_leads_nowhere_once_what_proved_its_user_is_no_longer_his() {
    let (key, other) = (new_key(), new_key().public().to_line());
    let own = key.public().clone();
    let servers = "
connections:
  web-1: { protocol: ssh, address: 'web-1.internal:22', username: { literal: app }, password: { literal: hidden } }
access:
  - { allow: [crew], connections: [web-1] }
";
    let text = crew(&own) + servers;
    let gate = open(&text);
    let from = source("192.0.2.1");
    let by_key = gate.public_key("alice", &by_key(key), from, &KeyTrust::default()).await.unwrap();
    let by_password = gate.password("bob", secret("right"), from).await.unwrap();
    let leads = || [&by_key, &by_password].map(|identity| gate.target(identity, "ssh", "web-1", 22, 22).is_some());
    assert_eq!(leads(), [true, true]);
    replace(&gate, &text.replace(&own.to_line(), &other)).0.unwrap();
    assert_eq!(leads(), [false, true]);
    // Another salt: another form of it, which is how a changed password looks from here.
    replace(&gate, &(crew(&own) + servers)).0.unwrap();
    assert_eq!(leads(), [true, false]);
    replace(&gate, &text).0.unwrap();
    assert_eq!(leads(), [true, true], "they have them again");
}

#[tokio::test]
async fn a_password_at_a_prompt_is_checked_like_one_that_came_by_itself() {
    let gate = open(&(users() + CONNECTIONS));
    let before = gate.hashing.computations().load(Ordering::Relaxed);
    let identity = gate.keyboard_interactive("alice", secret("right"), source("192.0.2.1")).await.unwrap();
    assert_eq!((identity.proof(), identity.proof().word()), (Proof::KeyboardInteractive, "keyboard_interactive"));
    assert!(identity.key().is_none());
    let wrong = gate.keyboard_interactive("alice", secret("wrong"), source("192.0.2.1")).await;
    assert_eq!(wrong.err(), Some(AuthFailure::NotAuthenticated));
    assert_eq!(gate.hashing.computations().load(Ordering::Relaxed) - before, 2);
}

#[test]
fn every_line_that_is_no_key_of_one_user_is_told() {
    let (a, b) = (new_key().public().to_line(), new_key().public().to_line());
    let folder = tempfile::tempdir().unwrap();
    keygen(folder.path(), &["-q", "-N", "", "-t", "rsa", "-b", "1024", "-f", "short"]);
    let short = fs::read_to_string(folder.path().join("short.pub")).unwrap();
    let authority = Authority::new();
    authority.certify(&["-n", "alice"]);
    let certificate = fs::read_to_string(authority.folder.path().join("user-cert.pub")).unwrap();
    let text = format!(
        "users:\n  alice:\n    public_keys:\n      - '{a} canary'\n      - '{b}'\n      - 'no canary'\n      - '{}'\n      - '{}'\n      \
         - 'restrict {b}'\n  bob:\n    public_keys:\n      - 'verify-required {a}'\n      - '{b}'\n",
        short.trim(),
        certificate.trim(),
    );
    let (config, mut problems) = sample::config(&text);
    Gate::check(&config, &mut problems);
    let found: Vec<_> = problems.iter().map(|one| (one.span.unwrap().line, format!("{}: {}", one.path, one.message))).collect();
    let form = "write a line of a .pub file, such as `ssh-ed25519 AAAA… alice@laptop`";
    let expected = [
        (8, format!("users.alice.public_keys[2]: expected `type base64 [comment]`; {form}")),
        (9, format!("users.alice.public_keys[3]: an RSA key must have 2048 to 8192 bits; {form}")),
        (10, format!("users.alice.public_keys[4]: a certificate where a key must be; {form}")),
        (11, format!("users.alice.public_keys[5]: expected no option but `no-touch-required` and `verify-required`; {form}")),
        (14, "users.bob.public_keys[0]: this key is that of the user alice already, at line 6".to_owned()),
        (15, "users.bob.public_keys[1]: this key is that of the user alice already, at line 7".to_owned()),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_user_of_whom_the_file_has_nothing_may_come_where_an_authority_is_trusted() {
    let check = |listener: &str| {
        let (config, mut problems) = sample::config_behind(listener, "users: { alice: {} }\n");
        Gate::check(&config, &mut problems);
        problems.len()
    };
    assert_eq!(check("protocol: ssh, address: '127.0.0.1:22'"), 1);
    assert_eq!(check("protocol: ssh, address: '127.0.0.1:22', trusted_user_ca_keys: ['ssh-ed25519 AAAA']"), 0);
}
