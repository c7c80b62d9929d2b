//! `ssh -J alice@keyward deploy@web-1`: who must prove himself again, as whom, whereto, and by which certificate we are `web-1`.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use crate::bed::{
    Caller, SOON, SecurityKey, SshPlan, SshRunning, SshScene, SshWay, Sshd, eventually, installed, run, sshd, without_session,
};
use crate::ssh_login::{opened, with_user};

const JUMP: SshWay = SshWay::Jump;

fn key_wanted() -> String {
    format!("jump_login: key, {}", crate::bed::ALL_CHANNELS)
}

#[test]
fn a_jump_takes_one_signature_where_no_rule_wants_another() {
    let key = SecurityKey::new();
    let scene = SshScene::with(sshd(), with_user(SshPlan::default(), "carol", &[&key.public()]));
    let carol = Caller::new(&scene, "carol").touches(&key);
    carol.is_in(JUMP);
    assert_eq!(key.signatures(), 1);
    // Also where the client would give another.
    carol.touches_inside(&key).is_in(JUMP);
    assert_eq!(key.signatures(), 2);
}

#[test]
fn a_rule_that_wants_a_key_gets_a_second_signature_and_takes_nothing_else() {
    let key = SecurityKey::new();
    let scene = SshScene::with(sshd(), SshPlan { rule: key_wanted(), ..SshPlan::default() });
    let alice = || Caller::new(&scene, "alice").key(scene.alice.file());
    let inside = format!("-i{}", scene.alice.file().display());
    assert!(alice().is_out(JUMP).contains("Permission denied (publickey"), "no proof inside");
    assert!(alice().touches_inside(&key).is_out(JUMP).contains("Permission denied (publickey"), "a key that nobody knows");
    for method in ["password", "keyboard-interactive"] {
        let typed = alice().types(&scene.password).inside(&[&format!("-oPreferredAuthentications={method}")]);
        assert!(typed.is_out(JUMP).contains("Permission denied (publickey"), "{method}");
    }
    alice().inside(&["-i", scene.alice.file().to_str().unwrap()]).is_in(JUMP);
    // Whoever came by a password has a key to show inside.
    let typed = Caller::new(&scene, "alice").types(&scene.password).with(&["-oPubkeyAuthentication=no"]);
    assert!(typed.is_out(JUMP).contains("Permission denied (publickey"));
    typed.inside(&[&inside]).is_in(JUMP);
    Caller::new(&scene, "alice").key(scene.alice.file()).is_in(SshWay::Plus);
    opened(&scene, 3);
}

#[test]
fn one_rule_that_wants_a_key_is_enough_and_counts_for_its_accounts_only() {
    let key = SecurityKey::new();
    let mut plan = with_user(SshPlan::default(), "carol", &[&key.public()]);
    plan.rules += "  - { allow: [carol], connections: [web-1], accounts: [deploy], jump_login: key }\n";
    plan.rules += "  - { allow: [carol], connections: [web-1], accounts: [ops] }\n";
    let scene = SshScene::with(sshd(), plan);
    let carol = Caller::new(&scene, "carol").touches(&key);
    assert!(carol.is_out(JUMP).contains("Permission denied"));
    assert_eq!(key.signatures(), 1);
    carol.clone().to("web-1", Some("ops")).is_in(JUMP);
    assert_eq!(key.signatures(), 2);
    carol.touches_inside(&key).is_in(JUMP);
    assert_eq!(key.signatures(), 4);
}

#[test]
fn a_link_that_begins_elsewhere_proves_itself_again() {
    let scene = SshScene::new(sshd());
    let tries = |originator: &str, proofs: &[&str]| {
        let mut command = Command::new(installed("python").join("bin/python"));
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bed/ssh_logins_jump.py")).arg(originator).args(proofs);
        command.env("SSH_PORT", scene.port().to_string()).env("SSH_USER", "alice").env("SSH_KEY", scene.alice.file());
        run(command, "", Duration::from_secs(60)).ok().to_owned()
    };
    for local in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(tries(local, &["none"]), "none lets in", "{local}");
    }
    for elsewhere in ["", "localhost", "0.0.0.0", "::", "127.0.0.1.example.org", "127.1", "127.0.0.1 "] {
        assert_eq!(tries(elsewhere, &["none"]), "none does not count", "{elsewhere:?}");
    }
    assert_eq!(tries("192.0.2.7", &["none", "key", "other"]), "none does not count\nkey lets in\nother does not count");
}

#[test]
fn the_login_inside_names_the_account() {
    let scene = SshScene::new(sshd());
    let alice = Caller::new(&scene, "alice").key(scene.alice.file());
    for account in ["deploy", "ops"] {
        let said = alice.clone().to("web-1", Some(account)).run(JUMP, "id -un");
        assert_eq!(said.ok(), sshd().login(account).name);
    }
    let choices = alice.clone().to("web-1", None).is_out(JUMP);
    assert!(choices.contains("you may reach: web-1+deploy, web-1+ops"), "{choices}");
    let unknown = alice.clone().to("web-1", Some("nobody")).is_out(JUMP);
    assert!(unknown.contains("keyward: no such connection, or it is not open to you"), "{unknown}");
    assert_eq!(unknown, alice.to("web-1", Some("app")).is_out(JUMP), "one that there is not, and one that is not hers");

    let key = SecurityKey::new();
    let scene = SshScene::with(sshd(), with_user(SshPlan::default(), "carol", &[&key.public()]));
    Caller::new(&scene, "carol").touches(&key).to("web-1", None).is_in(JUMP);
    assert_eq!(opened(&scene, 1)[0]["account"], "deploy", "who has one account need not name it");
}

#[test]
fn an_unknown_and_a_forbidden_target_fail_alike_and_neither_the_server_nor_the_store_hears_of_them() {
    let payroll = TcpListener::bind("127.0.0.1:0").unwrap();
    payroll.set_nonblocking(true).unwrap();
    let address = format!("address: \"{}\"", payroll.local_addr().unwrap());
    let scene = SshScene::with(sshd(), SshPlan { payroll: address, ..SshPlan::default() });
    let alice = |target: &str| Caller::new(&scene, "alice").key(scene.alice.file()).to(target, Some("deploy")).with(&["-oLogLevel=INFO"]);
    let jump = |target: &str| alice(target).is_out(JUMP).replace(target, "TARGET");
    let unknown = jump("web-9");
    assert!(unknown.contains("administratively prohibited: keyward: no such connection, or it is not open to you"), "{unknown}");
    assert_eq!(unknown, jump("payroll"));
    assert_eq!(unknown, jump("192.0.2.1"));
    alice("payroll").is_out(SshWay::Plus);
    let denied = scene.keyward.until_audit("denied", 4);
    let asked: Vec<&str> = denied.iter().map(|record| record["connection"].as_str().unwrap()).collect();
    assert_eq!(asked, ["web-9:22", "payroll:22", "192.0.2.1:22", "payroll"]);
    assert!(denied.iter().all(|record| record["refusal"] == "not_permitted" && record["user"] == "alice"), "{denied:#?}");
    assert!(!scene.keyward.http("/metrics").body.contains("keyward_store_calls_total{"), "it is asked when the first credential is wanted");
    assert!(scene.keyward.audit().iter().all(|record| record["event"] != "opened"));

    // By now a connection that was begun for them would be there.
    alice("web-1").is_in(JUMP);
    assert!(scene.keyward.http("/metrics").body.contains("keyward_store_calls_total{"));
    assert_eq!(payroll.accept().map(|_| ()).map_err(|none| none.kind()), Err(ErrorKind::WouldBlock));
    scene.keyward.expect_log("upstream_unreachable");
    scene.reload(|plan| plan.rules = "  - { allow: [alice], connections: [payroll] }\n".to_owned());
    let hers = SshRunning::start(alice("payroll").ssh(SshWay::Plus).arg("true"));
    drop(eventually("the server is asked once it is hers", || payroll.accept().ok()));
    assert_eq!(hers.ended().code, Some(255));
}

#[test]
fn what_is_not_ssh_does_not_go_through_a_jump() {
    let own = Sshd::own("");
    let scene = SshScene::new(&own);
    let came = || own.log().matches("Connection from ").count();
    let before = came();
    for (number, said) in (1..).zip(["GET / HTTP/1.0\r\n\r\n", "SSH-1.5-old\r\n", "\0\0\0\x08\0\0\0\0\0\0\0\0"]) {
        let link = Caller::new(&scene, "alice").key(scene.alice.file()).with(&["-Wweb-1:22"]).link();
        let heard = run(link, said, SOON);
        assert!(heard.stdout.starts_with("SSH-2.0-"), "{said:?}: {heard:?}");
        // DISCONNECT in clear, PROTOCOL_ERROR (RFC 4253 section 11.1).
        assert!(heard.stdout.contains("\u{1}\0\0\0\u{2}\0\0\0\u{e}protocol error"), "{said:?}: {heard:?}");
        scene.keyward.until_malformed(number);
    }
    assert_eq!(came(), before, "the server heard of it: {}", own.log());
    assert!(scene.keyward.audit().iter().all(|record| record["event"] != "opened"));
    Caller::new(&scene, "alice").key(scene.alice.file()).is_in(JUMP);
}

#[test]
fn a_target_is_a_name_with_its_port_or_the_address_itself() {
    let scene = SshScene::new(sshd());
    let port = sshd().port();
    let shows = |target: &str| {
        let by_hand = Caller::new(&scene, "alice").key(scene.alice.file()).with(&["-oLogLevel=INFO", &format!("-W{target}")]);
        let said = run(by_hand.link(), "", SOON);
        (said.stdout.starts_with("SSH-2.0-"), without_session(&said.stderr))
    };
    for target in ["web-1:22".to_owned(), format!("web-1:{port}"), format!("127.0.0.1:{port}")] {
        assert!(shows(&target).0, "{target}: {:?}", shows(&target));
    }
    for target in
        ["web-1:23".to_owned(), format!("localhost:{port}"), "127.0.0.1:22".to_owned(), format!("payroll:{port}"), "web-1x:22".to_owned()]
    {
        let (open, said) = shows(&target);
        assert!(!open && said.contains("no such connection, or it is not open to you"), "{target}: {said}");
    }
}

#[test]
fn our_certificate_has_exactly_the_name_that_was_asked_for_and_counts_for_a_day() {
    let scene = SshScene::new(sshd());
    let alice = Caller::new(&scene, "alice").key(scene.alice.file()).inside(&["-vvv"]);
    let said = alice.run(JUMP, "echo in").stderr;
    let line = said.lines().find(|line| line.contains("Server host certificate: ")).unwrap_or_else(|| panic!("no certificate: {said}"));
    assert!(line.contains("ID \"keyward web-1\""), "{line}");
    let names: Vec<&str> =
        said.lines().filter_map(|line| line.split_once("Server host certificate hostname: ")).map(|(_, name)| name.trim()).collect();
    assert_eq!(names, ["web-1"]);
    let (_, valid) = line.split_once("valid from ").unwrap();
    let (from, to) = valid.trim().split_once(" to ").unwrap();
    let seconds = |time: &str| -> i64 {
        let mut date = Command::new("date");
        date.args(["-d", time, "+%s"]);
        run(date, "", SOON).ok().parse().unwrap()
    };
    let (from, to, now) = (seconds(from), seconds(to), seconds("now"));
    assert!(from < now && now < to && to - from <= 24 * 3600, "{line}");
    let record = &opened(&scene, 1)[0];
    let serial: u64 = line.split_once("serial ").unwrap().1.split_whitespace().next().unwrap().parse().unwrap();
    assert_eq!(record["host_certificate"], format!("web-1 {serial}"));
}

#[test]
fn who_does_not_trust_our_authority_for_the_name_says_nothing_more() {
    let scene = SshScene::new(sshd());
    let folder = crate::bed::scratch("known");
    let jump = |known: &str| {
        fs::write(folder.join("known_hosts"), known).unwrap();
        let file = format!("-oUserKnownHostsFile={}", folder.join("known_hosts").display());
        Caller::new(&scene, "alice").key(scene.alice.file()).inside(&[&file]).run(JUMP, "echo in")
    };
    let authority = scene.host_authority();
    let own = scene.host_key();
    for known in [format!("@cert-authority web-2 {authority}\n"), format!("web-1 {authority}\n"), format!("@cert-authority web-1 {own}\n")]
    {
        let said = jump(&known);
        assert!(said.code == Some(255) && said.stderr.contains("Host key verification failed"), "{known}: {said:?}");
    }
    assert_eq!(jump(&format!("@cert-authority web-1 {authority}\n")).ok(), "in");
    opened(&scene, 1);
}
