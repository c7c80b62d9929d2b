//! What Keyward tells SSH clients: each refusal as bytes, and as what `ssh` prints of it.
//!
//! Not here, since nothing that SSH leads to brings them about: `TlsRequired`, `NoSuchDatabase`, `TooManyConnections` and `StartingUp`. What a
//! session hears of the end of its lease is in [`crate::lease_end`].

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use serde_json::json;

use crate::bed::{
    Asyncssh, Caller, Dialogue, SOON, SshKey, SshPlan, SshScene, SshWay, bao, canary, eventually, free_port, installed, postgres15, sshd,
    without_session,
};

/// RFC 4253 section 11.1.
const NOT_ALLOWED: u32 = 1;
const PROTOCOL_ERROR: u32 = 2;
const KEY_EXCHANGE_FAILED: u32 = 3;
const NOT_AVAILABLE: u32 = 7;
const BY_APPLICATION: u32 = 11;
const TOO_MANY: u32 = 12;
const NO_MORE_METHODS: u32 = 14;

const DEPLOY: &str = "as:alice+web-1+deploy";

/// A client of the test's own: see `bed/says_with_paramiko.py` for the words.
pub fn says(scene: &SshScene<'_>, words: &[&str]) -> Dialogue {
    let mut command = Command::new(installed("python").join("bin/python"));
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bed/says_with_paramiko.py")).args(words);
    command.env("SSH_PORT", scene.port().to_string()).env("SSH_KEY", scene.alice.file());
    Dialogue::with_program(&command)
}

/// What it heard after the first keys: the messages of the lines that are hexadecimal.
#[track_caller]
pub fn heard(dialogue: Dialogue) -> Vec<Vec<u8>> {
    let byte = |line: &str, at: usize| line.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
    let message = |line: &str| (0..line.len()).step_by(2).map(|at| byte(line, at)).collect::<Option<Vec<u8>>>();
    dialogue.rest().lines().filter_map(message).collect()
}

fn string(text: &str) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
}

/// SSH_MSG_DISCONNECT, all of it, with a session's number.
fn disconnect(code: u32, words: &str, session: &str) -> Vec<u8> {
    [vec![1], code.to_be_bytes().to_vec(), string(&format!("keyward: {words} (session {session})")), string("")].concat()
}

/// The last message is this DISCONNECT and none is before it but those that failed: what was refused was told at its end, and no good news.
#[track_caller]
fn golden(messages: &[Vec<u8>], code: u32, words: &str) {
    let (last, before) = messages.split_last().expect("something was heard");
    let text = String::from_utf8_lossy(last).into_owned();
    let session = text.split_once("(session ").and_then(|(_, rest)| rest.split_once(')')).expect("it names a session").0.to_owned();
    assert_eq!(*last, disconnect(code, words, &session), "{text:?}");
    assert!(before.iter().all(|message| message[0] != 52), "it heard that it is in: {before:?}");
}

/// The same, with what `ssh` prints of it by either way.
#[track_caller]
fn both(scene: &SshScene<'_>, target: &str, account: &str, code: u32, words: &str) {
    golden(&heard(says(scene, &[&format!("as:alice+{target}+{account}"), "key", "all"])), code, words);
    let caller = Caller::new(scene, "alice").key(scene.alice.file()).to(target, Some(account));
    let plus = format!("Received disconnect from 127.0.0.1 port {}:{code}: keyward: {words} (session)", scene.port());
    assert!(caller.is_out(SshWay::Plus).contains(&plus), "{}", caller.is_out(SshWay::Plus));
    let jump = format!("Received disconnect from UNKNOWN port 65535:{code}: keyward: {words} (session)");
    assert!(caller.is_out(SshWay::Jump).contains(&jump), "{}", caller.is_out(SshWay::Jump));
}

/// Further connections that alice may reach, each with an account `deploy` of this login and password.
fn reaching(connections: &[(&str, String)], login: &str, password: &str) -> SshPlan {
    let line = |(name, body): &(&str, String)| {
        format!(
            "  {name}: {{ protocol: ssh, store: corp, {body}, \
             accounts: {{ deploy: {{ username: {{ literal: {login} }}, password: {{ literal: {password} }} }} }} }}\n"
        )
    };
    let connections = connections.iter().map(line).collect();
    SshPlan { connections, rules: "  - { allow: [alice], connections: [\"web-*\"] }\n".to_owned(), ..SshPlan::default() }
}

#[test]
fn whoever_is_not_proven_hears_the_same_bytes_whatever_was_wrong() {
    let scene = SshScene::with(sshd(), SshPlan { rest: "limits: { failed_logins: 0 }\n".to_owned(), ..SshPlan::default() });
    let key = SshKey::new();
    let failure = [vec![51], string("publickey,password,keyboard-interactive"), vec![0]].concat();
    let proofs = [format!("key:{}", key.file().display()), "password:wrong".to_owned(), "prompt:wrong".to_owned()];
    for (proof, messages) in proofs.iter().zip([1, 1, 2]) {
        let of = |user: &str| heard(says(&scene, &[&format!("as:{user}"), proof, "all"]));
        let alice = of("alice");
        assert_eq!(alice.len(), messages, "{proof}");
        assert_eq!(alice.last(), Some(&failure), "{proof}");
        // One who is not there, and one who has neither a key nor this password, whatever they want to reach.
        for other in ["mallory", "bob+payroll+deploy"] {
            assert_eq!(of(other), alice, "{other} {proof}");
        }
    }
}

#[test]
fn a_link_that_fails_too_often_is_told_no_more_than_that() {
    let scene = SshScene::with(sshd(), SshPlan { rest: "limits: { failed_logins: 1 }\n".to_owned(), ..SshPlan::default() });
    let six = ["password:wrong"; 6];
    let of = |user: &str| heard(says(&scene, &[[user].as_slice(), &six, &["all"]].concat()));
    let messages = of("as:alice");
    assert_eq!(messages.len(), 6);
    golden(&messages, NO_MORE_METHODS, "login failed");
    // The address is slowed by now; who waits there hears it late, and no different.
    assert_eq!(messages[..5], [messages[0].clone(), messages[0].clone(), messages[0].clone(), messages[0].clone(), messages[0].clone()]);
}

#[test]
fn a_connection_that_is_not_there_and_a_forbidden_one_are_the_same_bytes() {
    let scene = SshScene::new(sshd());
    let words = "no such connection, or it is not open to you";
    for user in
        ["alice+payroll", "alice+nothing", "alice+payroll+deploy", "alice+web-1+nobody", "alice+web-1+deploy+x", "alice+", "alice+WEB-1"]
    {
        let messages = heard(says(&scene, &[&format!("as:{user}"), "key", "all"]));
        assert_eq!(messages.len(), 1, "{user}");
        golden(&messages, NOT_ALLOWED, words);
    }
    // What becomes of channels, ssh says at its usual level.
    let caller = Caller::new(&scene, "alice").key(scene.alice.file()).with(&["-oLogLevel=INFO"]).to("payroll", Some("deploy"));
    let plus = format!("Received disconnect from 127.0.0.1 port {}:{NOT_ALLOWED}: keyward: {words} (session)", scene.port());
    assert!(caller.is_out(SshWay::Plus).contains(&plus));
    assert!(caller.is_out(SshWay::Jump).contains(&format!("administratively prohibited: keyward: {words} (session)")));
    let choose = heard(says(&scene, &["as:alice+web-1", "key", "all"]));
    golden(&choose, NOT_ALLOWED, &format!("{words}; you may reach: web-1+deploy, web-1+ops"));
}

#[test]
fn what_the_protocol_forbids_is_told_in_its_own_words() {
    let scene = SshScene::with(sshd(), SshPlan { rest: "limits: { handshake_timeout: 6s }\n".to_owned(), ..SshPlan::default() });
    golden(&heard(says(&scene, &["another", "all"])), PROTOCOL_ERROR, "protocol violation");
    golden(&heard(says(&scene, &["silent", "all"])), BY_APPLICATION, "the login took too long");
    // The transport's own words, which know of no session.
    let early = heard(says(&scene, &["early", "all"]));
    assert_eq!(early.len(), 1);
    assert_eq!(early[0][..5], [1, 0, 0, 0, 2]);
}

#[test]
fn limits_are_told() {
    let scene = SshScene::with(sshd(), SshPlan { rest: "limits: { sessions: 1 }\n".to_owned(), ..SshPlan::default() });
    let held = says(&scene, &[DEPLOY, "key", "wait"]);
    assert_eq!([held.line(), held.line()], ["in", "waiting"]);
    both(&scene, "web-1", "deploy", TOO_MANY, "too many connections; try again later");
    held.go_on();
    held.rest();
}

#[test]
fn a_record_that_cannot_be_written_is_told() {
    let scene = SshScene::with(sshd(), SshPlan { rest: "audit: { file: /dev/full }\n".to_owned(), ..SshPlan::default() });
    scene.keyward.expect_log("audit");
    both(&scene, "web-1", "deploy", BY_APPLICATION, "the audit record cannot be written; ask the administrator");
}

#[test]
fn a_store_that_gives_nothing_is_told_without_its_words() {
    let gone = ", gone: { username: \"secret/data/nothing?username\", password: \"secret/data/nothing?password\" }";
    let rules = "  - { allow: [alice], connections: [web-1], accounts: [gone] }\n".to_owned();
    let scene = SshScene::with(sshd(), SshPlan { accounts: gone.to_owned(), rules, ..SshPlan::default() });
    scene.keyward.expect_log("credentials_unavailable");
    both(&scene, "web-1", "gone", NOT_AVAILABLE, "the credential for this connection is not available; ask the administrator");
}

#[test]
fn what_is_wrong_with_an_upstream_is_told_without_its_address_and_without_its_words() {
    let closed = format!("127.0.0.1:{}", free_port());
    let (known, other) = (sshd().host_key(), SshKey::new().public());
    let body = |address: &str, key: &str| format!("address: \"{address}\", host_keys: [\"{key}\"]");
    let connections = [
        ("web-closed", body(&closed, &known)),
        ("web-other", body(&sshd().address(), &other)),
        ("web-wrong", body(&sshd().address(), &known)),
    ];
    let scene = SshScene::with(sshd(), reaching(&connections, "nobody-there", &canary()));
    scene.keyward.expect_log("upstream_");
    both(&scene, "web-closed", "deploy", NOT_AVAILABLE, "the server behind this connection cannot be reached");
    both(&scene, "web-other", "deploy", NOT_AVAILABLE, "the server behind this connection could not be verified; ask the administrator");
    both(&scene, "web-wrong", "deploy", NOT_AVAILABLE, "the server behind this connection refused the login");
}

/// The DISCONNECT of a session that is in, once `end` has been done to it.
#[track_caller]
fn told_in_session(scene: &SshScene<'_>, user: &str, end: impl FnOnce(&str), words: &str) {
    let held = says(scene, &[user, "key", "wait", "over", "all"]);
    assert_eq!([held.line(), held.line()], ["in", "waiting"]);
    let opened = scene.keyward.audit().into_iter().rfind(|record| record["event"] == "opened").expect("a session");
    let session = opened["session"].as_str().unwrap();
    end(session);
    held.go_on();
    assert_eq!(heard(held).last(), Some(&disconnect(BY_APPLICATION, words, session)));
}

#[test]
fn the_end_of_a_session_is_told() {
    let limits = |limits: &str| SshPlan { rest: format!("limits: {{ {limits} }}\n"), ..SshPlan::default() };
    let own = sshd().login("deploy");
    let web_2 = ("web-2", format!("address: \"{}\", host_keys: [\"{}\"]", sshd().address(), sshd().host_key()));
    let plan = SshPlan { rest: "limits: { drain_timeout: 1s }\n".to_owned(), ..reaching(&[web_2], &own.name, &own.password) };
    let scene = SshScene::with(sshd(), plan);
    told_in_session(&scene, DEPLOY, |id| drop(scene.keyward.cli(&["kill", id])), "the session was ended by an administrator");
    let withdraw = |_: &str| {
        scene.rewrite(|plan| plan.rules.clear());
        scene.keyward.cli(&["reload"]).ok();
    };
    if sshd().has_passwords() {
        told_in_session(&scene, "as:alice+web-2+deploy", withdraw, "the permission for this session was withdrawn");
    }
    told_in_session(&scene, DEPLOY, |_| scene.keyward.sigterm(), "keyward is shutting down; connect again");
    told_in_session(&SshScene::with(sshd(), limits("idle_timeout: 4s")), DEPLOY, |_| {}, "the session was idle for too long");
    told_in_session(&SshScene::with(sshd(), limits("max_lifetime: 4s")), DEPLOY, |_| {}, "the session reached its longest lifetime");
}

#[test]
fn a_session_whose_lease_the_store_took_back_is_told_so() {
    let server = Asyncssh::start("lasts", "");
    // It is renewed when two thirds of it are over, and found out then.
    let database = bao().enable_database(postgres15(), "18s", "1h");
    let creds = database.creds();
    let plan = SshPlan {
        connection: server.place(),
        accounts: format!(", leased: {{ credential: {creds} }}"),
        rules: "  - { allow: [alice], connections: [web-1], accounts: [leased] }\n".to_owned(),
        paths: vec![creds.clone()],
        ..SshPlan::default()
    };
    let scene = SshScene::with(sshd(), plan);
    scene.keyward.expect_log("a lease could not be renewed");
    let revoke = |_: &str| drop(bao().call("PUT", &format!("sys/leases/revoke-prefix/{creds}"), json!({ "sync": true })));
    told_in_session(&scene, "as:alice+web-1+leased", revoke, "the session's credential was withdrawn by the store; connect again");
    assert_eq!(scene.until_ended(1), ["lease_lost"]);
    scene.nothing_is_left();
}

/// What a client offers: how keys are exchanged, host keys, ciphers, compression; the same both ways.
fn kexinit([methods, host_keys, ciphers, compression]: [&str; 4]) -> Vec<u8> {
    let lists = [methods, host_keys, ciphers, ciphers, "hmac-sha2-256", "hmac-sha2-256", compression, compression, "", ""];
    let mut payload = [vec![20], vec![7; 16], lists.map(string).concat(), vec![0; 5]].concat();
    let padding = 8 + (8 - (payload.len() + 5) % 8) % 8;
    payload.extend(vec![0; padding]);
    [&u32::try_from(payload.len() + 1).unwrap().to_be_bytes()[..], &[u8::try_from(padding).unwrap()], &payload].concat()
}

/// The messages of a server that says all in clear and then closes.
fn in_clear(bytes: &[u8]) -> Vec<Vec<u8>> {
    let end = bytes.iter().position(|byte| *byte == b'\n').expect("a line of identification");
    let (mut rest, mut messages) = (&bytes[end + 1..], Vec::new());
    while let Some((length, packet)) = rest.split_first_chunk() {
        let (packet, behind) = packet.split_at(usize::try_from(u32::from_be_bytes(*length)).unwrap());
        messages.push(packet[1..packet.len() - usize::from(packet[0])].to_vec());
        rest = behind;
    }
    messages
}

#[test]
fn a_client_that_has_nothing_in_common_with_us_is_told_what_we_have() {
    let scene = SshScene::new(sshd());
    let (method, key, cipher) = ("curve25519-sha256", "ssh-ed25519", "aes256-gcm@openssh.com");
    let methods = "mlkem768x25519-sha256, curve25519-sha256, curve25519-sha256@libssh.org, ecdh-sha2-nistp256, ecdh-sha2-nistp384";
    let ciphers = "aes256-gcm@openssh.com, chacha20-poly1305@openssh.com, aes128-gcm@openssh.com";
    let rows = [
        (["diffie-hellman-group14-sha256", key, cipher, "none"], format!("no common key exchange method; we have {methods}")),
        ([method, "ssh-rsa,rsa-sha2-512", cipher, "none"], format!("no common host key algorithm; we have {key}")),
        ([method, key, "aes128-ctr,aes256-ctr", "none"], format!("no common cipher; we have {ciphers}")),
        ([method, key, cipher, "zlib"], "compression is not supported".to_owned()),
    ];
    for (count, (offer, words)) in (1..).zip(rows) {
        let mut stream = TcpStream::connect(("127.0.0.1", scene.port())).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(&[b"SSH-2.0-old\r\n", kexinit(offer).as_slice()].concat()).unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        let wanted = [vec![1], KEY_EXCHANGE_FAILED.to_be_bytes().to_vec(), string(&words), string("")].concat();
        assert_eq!(in_clear(&heard).last(), Some(&wanted), "{}", String::from_utf8_lossy(&heard));
        let counted = format!("{{protocol=\"ssh\",refusal=\"unsupported\",party=\"client\",stage=\"open\"}} {count}\n");
        eventually(&counted, || scene.keyward.http("/metrics").body.contains(&counted).then_some(()));
    }
}

#[test]
fn a_client_without_our_algorithms_sees_that_there_are_none_in_common() {
    let scene = SshScene::new(sshd());
    for (option, what) in [
        ("-oKexAlgorithms=diffie-hellman-group14-sha256", "no matching key exchange method found"),
        ("-oCiphers=aes128-ctr", "no matching cipher found"),
        ("-oHostKeyAlgorithms=ssh-rsa", "no matching host key type found"),
    ] {
        let said =
            without_session(&Caller::new(&scene, "alice").key(scene.alice.file()).with(&["-oLogLevel=INFO", option]).is_out(SshWay::Plus));
        assert!(said.contains(what), "{said}");
    }
}
