//! Which servers Keyward logs in to: those whose host key is known, in every form in which ssh knows one, and no other.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::bed::{Release, SOON, SshKey, SshPlan, SshScene, SshWay, Sshd, run, scratch};
use crate::ssh_login::opened;
use crate::ssh_upstream::alice;

/// `web-1` is this server, and what is known of it is in these keys of the connection.
fn known_by(server: &Sshd, keys: &str) -> SshPlan {
    SshPlan { connection: format!("address: \"{}\", {keys}", server.address()), ..SshPlan::default() }
}

/// A file of known hosts of the test's own.
fn known_hosts(lines: &str) -> (PathBuf, String) {
    let file = scratch("known").join("known_hosts");
    fs::write(&file, lines).unwrap();
    let key = format!("known_hosts: \"{}\"", file.display());
    (file, key)
}

/// The file as `ssh-keygen -H` leaves it.
fn hashed(lines: &str) -> String {
    let (file, key) = known_hosts(lines);
    let mut hash = Command::new("ssh-keygen");
    hash.args(["-q", "-H", "-f"]).arg(&file);
    run(hash, "", SOON).ok();
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("|1|") && !text.contains("127.0.0.1"), "{text}");
    key
}

#[test]
fn a_server_is_known_by_every_form_that_ssh_knows_it_by() {
    let (authority, key) = (SshKey::new(), SshKey::new());
    key.certified_as_host_by(&authority, "127.0.0.1,web-1", &[]);
    let certified = Sshd::of(Release::Debian, key, "");
    let (port, own, ca) = (certified.port(), certified.host_key(), authority.public());
    let rows = [
        ("a pinned key", format!("host_keys: [\"{own}\"]"), "host_key"),
        ("one of several pinned keys", format!("host_keys: [\"{}\", \"{own} web-1\"]", SshKey::new().public()), "host_key"),
        ("known_hosts", known_hosts(&format!("# ours\n[127.0.0.1]:{port} {own}\n")).1, "host_key"),
        ("known_hosts, a pattern", known_hosts(&format!("[127.0.*]:{port},!elsewhere {own}\n")).1, "host_key"),
        ("known_hosts, which says nothing of ports, as ssh takes it", known_hosts(&format!("127.0.0.1 {own}\n")).1, "host_key"),
        ("known_hosts, hashed", hashed(&format!("[127.0.0.1]:{port} {own}\n")), "host_key"),
        ("known_hosts, an authority", known_hosts(&format!("@cert-authority [127.0.0.?]:* {ca}\n")).1, "host_certificate"),
        ("host_ca", format!("host_ca: [\"{ca}\"]"), "host_certificate"),
    ];
    for (name, keys, by) in rows {
        let scene = SshScene::with(&certified, known_by(&certified, &keys));
        alice(&scene).is_in(SshWay::Plus);
        assert_eq!(opened(&scene, 1)[0]["verified_by"], by, "{name}");
    }
}

#[test]
fn of_a_server_with_several_host_keys_the_one_that_is_known_is_asked_for() {
    let (ecdsa, rsa) = (SshKey::of(&["-t", "ecdsa", "-b", "521"], ""), SshKey::of(&["-t", "rsa", "-b", "2048"], ""));
    let own = Sshd::own(&format!("HostKey {}\nHostKey {}", ecdsa.file().display(), rsa.file().display()));
    for key in [own.host_key(), ecdsa.public(), rsa.public()] {
        let scene = SshScene::with(&own, known_by(&own, &format!("host_keys: [\"{key}\"]")));
        alice(&scene).is_in(SshWay::Plus);
        assert_eq!(opened(&scene, 1)[0]["verified_by"], "host_key", "{key}");
    }
}

#[test]
fn a_server_that_is_not_known_is_told_nothing() {
    let (authority, key) = (SshKey::new(), SshKey::new());
    key.certified_as_host_by(&authority, "elsewhere,web-1", &[]);
    let stranger = Sshd::of(Release::Debian, key, "");
    let (port, own, other, ca) = (stranger.port(), stranger.host_key(), SshKey::new().public(), authority.public());
    let rows = [
        ("another key is pinned", format!("host_keys: [\"{other}\"]")),
        ("another key is in known_hosts", known_hosts(&format!("[127.0.0.1]:{port} {other}\n")).1),
        ("the key is known of another port", known_hosts(&format!("[127.0.0.1]:1 {own}\n")).1),
        ("another key is known of this port", known_hosts(&format!("127.0.0.1 {own}\n[127.0.0.1]:{port} {other}\n")).1),
        ("the key is known of another host", known_hosts(&format!("[127.0.0.2]:{port},web-1 {own}\n")).1),
        ("nothing is known", known_hosts("# nothing\n").1),
        ("a name is taken out", known_hosts(&format!("[127.0.0.*]:{port},![127.0.0.1]:{port} {own}\n")).1),
        ("the key is revoked", known_hosts(&format!("[127.0.0.1]:{port} {own}\n@revoked * {own}\n")).1),
        ("another authority", format!("host_ca: [\"{other}\"]")),
        ("the certificate is for other names", format!("host_ca: [\"{ca}\"]")),
        ("the authority is not marked as one", known_hosts(&format!("[127.0.0.1]:{port} {ca}\n")).1),
    ];
    for (name, keys) in rows {
        let scene = SshScene::with(&stranger, known_by(&stranger, &keys));
        scene.keyward.expect_log("upstream_unverified");
        for way in SshWay::THROUGH {
            let said = alice(&scene).is_out(way);
            let told = "keyward: the server behind this connection could not be verified; ask the administrator";
            assert!(said.contains(told), "{name} by {way:?}: {said}");
        }
        assert!(scene.keyward.audit().iter().all(|record| record["event"] != "opened"), "{name}");
    }
    let log = stranger.log();
    assert!(log.contains("Connection from 127.0.0.1"), "{log}");
    assert!(!log.contains("userauth-request"), "a login was tried: {log}");
}

#[test]
fn known_hosts_is_read_when_it_is_used() {
    let own = Sshd::own("");
    let (port, key) = (own.port(), own.host_key());
    let (file, keys) = known_hosts(&format!("[127.0.0.1]:{port} {key}\n"));
    let scene = SshScene::with(&own, known_by(&own, &keys));
    scene.keyward.expect_log("upstream_unverified");
    alice(&scene).is_in(SshWay::Plus);
    fs::write(&file, format!("[127.0.0.1]:{port} {}\n", SshKey::new().public())).unwrap();
    assert!(alice(&scene).is_out(SshWay::Plus).contains("could not be verified"));
    fs::remove_file(&file).unwrap();
    assert!(alice(&scene).is_out(SshWay::Plus).contains("could not be verified"));
    fs::write(&file, format!("[127.0.0.1]:{port} {key}\n")).unwrap();
    alice(&scene).is_in(SshWay::Plus);
    opened(&scene, 2);
}

#[test]
fn insecure_lets_an_unknown_server_pass_and_says_so() {
    let own = Sshd::own("");
    let (_, none) = known_hosts("");
    let scene = SshScene::with(&own, known_by(&own, &format!("{none}, insecure: \"a test\"")));
    scene.keyward.expect_log("insecure");
    alice(&scene).is_in(SshWay::Plus);
    let record = &opened(&scene, 1)[0];
    assert_eq!((&record["verified_by"], &record["insecure"]), (&json!("insecure"), &json!("a test")), "{record}");
}

#[test]
fn insecure_does_not_let_a_changed_key_pass() {
    let own = Sshd::own("");
    let connection = format!("host_keys: [\"{}\"], insecure: \"a test\"", SshKey::new().public());
    let scene = SshScene::with(&own, SshPlan { connection, ..SshPlan::default() });
    scene.keyward.expect_log("insecure").expect_log("upstream_unverified");
    assert!(alice(&scene).is_out(SshWay::Plus).contains("could not be verified"));
    assert!(!own.log().contains("userauth-request"), "{}", own.log());
}
