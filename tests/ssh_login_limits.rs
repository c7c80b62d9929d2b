//! What a client may take before it is proven: time, attempts and places.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use crate::bed::{Caller, SOON, SshPlan, SshRunning, SshScene, SshWay, eventually, sshd, uninterrupted};
use crate::ssh_login::opened;
use crate::ssh_refusals::{heard, says as says_by_hand};

fn limited(limits: &str) -> SshPlan {
    SshPlan { rest: format!("limits: {{ {limits} }}\n"), ..SshPlan::default() }
}

/// A client that says this and nothing more.
fn says(scene: &SshScene<'_>, words: &[u8]) -> TcpStream {
    let mut stream = silent(scene);
    stream.write_all(words).unwrap();
    stream
}

/// What it hears up to the end.
fn hears(mut stream: TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    // Who is cut off with something unread may hear a reset instead of the end.
    let _ = stream.read_to_end(&mut heard);
    heard
}

fn silent(scene: &SshScene<'_>) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", scene.port())).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

#[test]
fn a_client_that_stops_in_the_middle_of_a_login_is_let_go() {
    let scene = SshScene::with(sshd(), limited("handshake_timeout: 6s"));
    let stopped = [&b""[..], b"SSH-2.0-", b"SSH-2.0-slow\r\n", b"SSH-2.0-slow\r\n\0\0\x01\0"].map(|words| (words, says(&scene, words)));
    for (words, stream) in stopped {
        assert!(hears(stream).starts_with(b"SSH-2.0-"), "{words:?}");
    }
    // Nobody types the password.
    let alice = Caller::new(&scene, "alice").types("not typed").with(&["-oPreferredAuthentications=password"]);
    let mut ssh = alice.ssh(SshWay::Plus);
    ssh.env("SSH_ASKPASS", alice.never_types()).arg("echo in");
    let _running = SshRunning::start(&ssh);
    let wanted = "refusal=\"too_slow\",party=\"client\",stage=\"login\"} 1\n";
    eventually(wanted, || scene.keyward.http("/metrics").body.contains(wanted).then_some(()));
    let denied = &scene.keyward.until_audit("denied", 1)[0];
    assert_eq!((&denied["refusal"], &denied["user"]), (&"too_slow".into(), &"alice".into()), "who says who he is, is on record");
    Caller::new(&scene, "alice").key(scene.alice.file()).is_in(SshWay::Plus);
}

#[test]
fn a_link_inside_a_jump_has_as_long_as_any_and_the_jump_lives_on() {
    let scene = SshScene::with(sshd(), limited("handshake_timeout: 6s"));
    let forward = Caller::new(&scene, "alice").key(scene.alice.file()).with(&["-Wweb-1:22"]).link();
    let running = SshRunning::start(&forward);
    running.until_printed("SSH-2.0-");
    eventually("the link inside is over, and with it its ssh", || running.is_over().then_some(()));
    for way in SshWay::THROUGH {
        Caller::new(&scene, "alice").key(scene.alice.file()).is_in(way);
    }
    opened(&scene, 2);
}

#[test]
fn an_address_has_only_so_many_logins_under_way() {
    let scene = SshScene::with(sshd(), limited("handshakes_per_address: 2"));
    let alice = Caller::new(&scene, "alice").key(scene.alice.file());
    let is_greeted = |mut stream: &TcpStream| match uninterrupted(|| stream.read(&mut [0])) {
        Ok(bytes) => bytes > 0,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            false
        }
    };
    eventually("the third is turned away", || {
        // After a second they have had their chance and give way: they must be younger than that when the third comes.
        let waiting = [silent(&scene), silent(&scene)];
        (waiting.iter().all(is_greeted) && !is_greeted(&silent(&scene))).then_some(())
    });
    eventually("there is a place again", || (alice.run(SshWay::Plus, "echo in").code == Some(0)).then_some(()));
    // Sessions are no logins, and neither is a jump with links inside.
    let mut sessions = Vec::new();
    for way in [SshWay::Plus, SshWay::Jump, SshWay::Plus, SshWay::Jump] {
        let mut ssh = alice.ssh(way);
        ssh.arg("echo begun; sleep 1000");
        let running = SshRunning::start(&ssh);
        running.until_printed("begun");
        sessions.push(running);
    }
    for way in SshWay::THROUGH {
        alice.is_in(way);
    }
}

#[test]
fn a_link_inside_a_jump_has_its_place_among_the_logins_of_its_address() {
    let scene = SshScene::with(sshd(), limited("handshakes_per_address: 2"));
    let hold = "hold:web-1";
    let failure = eventually("the third has no place", || {
        // After a second they have had their chance and give way: all three have to come within that.
        let messages = heard(says_by_hand(&scene, &["key", hold, hold, hold, "all"]));
        messages.into_iter().find(|message| message[0] == 92)
    });
    let told = String::from_utf8_lossy(&failure);
    assert!(told.contains("keyward: too many connections; try again later (session "), "{told:?}");
    let alice = Caller::new(&scene, "alice").key(scene.alice.file());
    eventually("there is a place again", || (alice.run(SshWay::Jump, "echo in").code == Some(0)).then_some(()));
    assert!(scene.keyward.http("/metrics").body.contains("refusal=\"busy\",party=\"client\",stage=\"open\"}"));
    scene.nothing_is_left();
}

#[test]
fn a_wrong_signature_is_counted_like_a_wrong_password() {
    let key = crate::bed::SecurityKey::new();
    let plan = crate::ssh_login::with_user(limited("failed_logins: 2, lock_time: 1h"), "carol", &[&key.public()]);
    let scene = SshScene::with(sshd(), plan);
    let carol = Caller::new(&scene, "carol").touches(&key);
    carol.is_in(SshWay::Plus);
    key.says(0);
    for _ in 0..2 {
        carol.is_out(SshWay::Plus);
    }
    key.says(crate::bed::TOUCHED);
    assert_eq!(key.signatures(), 3);
    carol.is_out(SshWay::Plus);
    assert_eq!(key.signatures(), 3, "who is locked out is not asked to sign");
    opened(&scene, 1);
}
