//! SSH clients that mean harm, or whose rights come to an end while they are in: what they may go on with, and what they cost the others.

use std::fs;
use std::time::{Duration, Instant};

use crate::bed::{ALL_CHANNELS, Dialogue, SOON, SshKey, SshPlan, SshScene, SshWay, eventually, scratch, sshd, within};
use crate::ssh_refusals::says;

/// Long enough for a few logins of a test's client, and for this test to wait for its end.
const SHORT: Duration = Duration::from_secs(20);

fn limited(rest: &str) -> SshPlan {
    SshPlan { rest: format!("limits: {{ {rest} }}\n"), ..SshPlan::default() }
}

#[track_caller]
fn lines<const N: usize>(dialogue: &Dialogue) -> [String; N] {
    std::array::from_fn(|_| dialogue.line())
}

#[test]
fn a_jump_opens_nothing_new_once_the_certificate_that_let_it_in_has_ended() {
    let (authority, key) = (SshKey::new(), SshKey::new());
    let listener = format!("trusted_user_ca_keys: [\"{}\"]", authority.public());
    let scene = SshScene::with(sshd(), SshPlan { listener, ..SshPlan::default() });
    key.certified_by(&authority, "alice", &["-V", &format!("-1m:+{}s", SHORT.as_secs())]);
    let proof = format!("key:{}", key.file().display());
    let inner = "inner:web-1:deploy";
    let jump = says(&scene, &[&proof, inner, "wait", inner]);
    assert_eq!(lines(&jump), ["in", "in", "said in", "waiting"]);
    within(SHORT + SOON, "the certificate has ended", || (says(&scene, &[&proof]).rest() == "out").then_some(()));
    jump.go_on();
    assert_eq!(jump.rest(), "out");
    scene.nothing_is_left();
}

#[test]
fn a_jump_opens_nothing_new_once_the_key_that_let_it_in_is_revoked() {
    let file = scratch("revoked").join("revoked");
    fs::write(&file, "").unwrap();
    let scene = SshScene::with(sshd(), SshPlan { listener: format!("revoked_keys: {}", file.display()), ..SshPlan::default() });
    let inner = "inner:web-1:deploy";
    let (by_key, password) = (says(&scene, &["key", inner, "wait", inner]), format!("password:{}", scene.password));
    let by_password = says(&scene, &[&password, inner, "wait", inner]);
    for jump in [&by_key, &by_password] {
        assert_eq!(lines(jump), ["in", "in", "said in", "waiting"]);
    }
    fs::write(&file, scene.alice.public()).unwrap();
    for jump in [&by_key, &by_password] {
        jump.go_on();
    }
    assert_eq!(by_key.rest(), "out");
    assert_eq!(by_password.rest(), "in\nsaid in", "whoever came by password has nothing to do with it");
}

#[test]
fn once_its_key_is_no_longer_the_users_a_jump_gets_no_channel() {
    let key = SshKey::new();
    let carols = |key: &SshKey| format!("  carol: {{ public_keys: [\"{}\"] }}\n", key.public());
    let rules = format!("  - {{ allow: [carol], connections: [web-1], accounts: [deploy], {ALL_CHANNELS} }}\n");
    let scene = SshScene::with(sshd(), SshPlan { users: carols(&key), rules, ..SshPlan::default() });
    let proof = format!("key:{}", key.file().display());
    let (inner, nowhere) = ("inner:web-1:deploy", "inner:web-9:deploy");
    let jump = says(&scene, &["as:carol", &proof, inner, "wait", inner, nowhere, "wait", inner]);
    assert_eq!(lines(&jump), ["in", "in", "said in", "waiting"]);
    scene.reload(|plan| plan.users = carols(&SshKey::new()));
    jump.go_on();
    assert_eq!(lines(&jump), ["no channel 1", "no channel 1", "waiting"], "like a server that there is not");
    let denied = scene.keyward.until_audit("denied", 2);
    assert!(denied.iter().all(|record| record["refusal"] == "not_permitted"), "{denied:?}");
    scene.reload(|_| {});
    jump.go_on();
    assert_eq!(jump.rest(), "in\nsaid in", "it is hers again");
}

/// A jump that this proof let in opens nothing more while the listener says this, and again once it is as it was.
#[track_caller]
fn opens_nothing_while(scene: &SshScene, proof: &str, listener: &str) {
    let inner = "inner:web-1:deploy";
    let jump = says(scene, &[proof, inner, "wait", inner, "wait", inner]);
    assert_eq!(lines(&jump), ["in", "in", "said in", "waiting"]);
    scene.rewrite(|plan| listener.clone_into(&mut plan.listener));
    scene.keyward.cli(&["reload"]).ok();
    jump.go_on();
    assert_eq!(lines(&jump), ["out", "waiting"]);
    scene.rewrite(|_| {});
    scene.keyward.cli(&["reload"]).ok();
    jump.go_on();
    assert_eq!(jump.rest(), "in\nsaid in");
}

#[test]
fn a_jump_opens_nothing_new_once_the_listener_does_not_trust_the_authority_that_let_it_in() {
    let (authority, key) = (SshKey::new(), SshKey::new());
    let listener = format!("trusted_user_ca_keys: [\"{}\"]", authority.public());
    let scene = SshScene::with(sshd(), SshPlan { listener, ..SshPlan::default() });
    key.certified_by(&authority, "alice", &[]);
    opens_nothing_while(&scene, &format!("key:{}", key.file().display()), "");
}

#[test]
fn a_jump_opens_nothing_new_once_the_listener_takes_the_way_of_its_login_no_more() {
    opens_nothing_while(&SshScene::new(sshd()), "key", "login: [password, keyboard-interactive]");
}

#[test]
fn where_revoked_keys_cannot_be_read_a_client_that_tries_its_key_first_may_give_its_password() {
    let file = scratch("revoked").join("revoked");
    fs::write(&file, "").unwrap();
    let scene = SshScene::with(sshd(), SshPlan { listener: format!("revoked_keys: {}", file.display()), ..SshPlan::default() });
    scene.keyward.expect_log("no key counts");
    fs::write(&file, "neither a key nor a list").unwrap();
    let told = says(&scene, &["as:alice+web-1+deploy", "key", &format!("password:{}", scene.password), "exec:echo here"]).rest();
    assert_eq!(told, "out\nin\nsaid here");
    let said = scene.keyward.until_logged("no key counts", |line| line.to_string().contains("no key counts"));
    assert_eq!(said.len(), 1, "once for the link");
}

#[test]
fn a_client_that_asks_for_what_it_may_not_have_cannot_fill_the_record() {
    const ASKED: usize = 20_000;
    let scene = SshScene::with(sshd(), SshPlan { rule: "channels: [exec]".to_owned(), ..SshPlan::default() });
    let flood = says(&scene, &["as:alice+web-1+deploy", "key", &format!("flood:{ASKED}:direct-tcpip"), "wait"]);
    assert_eq!(flood.line(), "in");
    let used = || scene.keyward.audit().iter().filter(|record| record["event"] == "used").count();
    // A burst is recorded at once; what is behind it is not even read.
    eventually("the burst is recorded", || (used() >= 1000).then_some(()));
    assert_eq!(scene.tools.run(SshWay::Plus, &[], "echo in").ok(), "in", "others are served meanwhile");
    assert!(used() < ASKED / 2, "{}", used());
    drop(flood);
    // What a client has left unread does not keep its session.
    let closed = || scene.keyward.audit().iter().filter(|record| record["event"] == "closed").count();
    eventually("both sessions are over", || (closed() == 2).then_some(()));
    assert!(used() < ASKED / 2, "{}", used());
}

#[test]
fn a_session_goes_on_behind_a_burst_of_refusals() {
    let scene = SshScene::with(sshd(), SshPlan { rule: "channels: [exec]".to_owned(), ..SshPlan::default() });
    let words = ["as:alice+web-1+deploy", "key", "flood:1200:direct-tcpip", "exec:echo still here"];
    assert_eq!(says(&scene, &words).rest(), "in\nsaid still here");
    let refused = || scene.keyward.audit().iter().filter(|record| record["outcome"] == "refused").count();
    eventually("each of them is on record", || (refused() >= 1200).then_some(()));
    assert_eq!(refused(), 1200);
    scene.nothing_is_left();
}

#[test]
fn a_client_that_jumps_to_what_is_not_there_cannot_fill_the_log() {
    const ASKED: usize = 2000;
    let (scene, begun) = (SshScene::new(sshd()), Instant::now());
    let flood = says(&scene, &["key", &format!("flood:{ASKED}:direct-tcpip"), "inner:web-1:deploy"]);
    assert_eq!(flood.rest(), "in\nin\nsaid in");
    // The last ones may wait for the next line to be counted.
    let logged = || scene.keyward.log().iter().filter(|line| line.to_string().contains("a jump to no connection")).count();
    let denied = || scene.keyward.audit().iter().filter(|record| record["event"] == "denied").count();
    eventually("the log has what the record has", || (logged() >= 1 && logged() == denied()).then_some(()));
    // Twenty a second, of which the first and the last may be begun.
    let most = 20 * (usize::try_from(begun.elapsed().as_secs()).unwrap() + 2);
    assert!(logged() <= most && logged() < ASKED, "{} in {:?}", logged(), begun.elapsed());
}

#[test]
fn a_jump_in_which_nothing_happens_does_not_hold_up_a_drain() {
    let scene = SshScene::new(sshd());
    // It has a session that asks for nothing. A drain that has to cut a link warns, and so fails this test.
    let held = says(&scene, &["key", "session", "wait", "over"]);
    assert_eq!(lines(&held), ["in", "waiting"]);
    held.go_on();
    scene.keyward.sigterm();
    scene.keyward.until_ended();
    held.rest();
}

#[test]
fn a_jump_in_which_nothing_happens_is_idle() {
    let scene = SshScene::with(sshd(), limited("idle_timeout: 8s"));
    let held = says(&scene, &["key", "session", "wait", "over"]);
    assert_eq!(lines(&held), ["in", "waiting"]);
    held.go_on();
    held.rest();
}

#[test]
fn a_jump_grows_no_older_than_a_session() {
    let scene = SshScene::with(sshd(), limited("max_lifetime: 8s"));
    let held = says(&scene, &["key", "inner:web-1:deploy", "wait", "over"]);
    assert_eq!(lines(&held), ["in", "in", "said in", "waiting"]);
    held.go_on();
    held.rest();
}

#[test]
fn the_certificate_that_a_jump_showed_is_on_record_also_where_the_login_inside_is_refused() {
    let scene = SshScene::new(sshd());
    let refused = says(&scene, &["key", "inner:web-1:nobody"]).rest();
    assert_eq!(refused, "in\nout");
    let denied = scene.keyward.until_audit("denied", 1);
    let shown = denied[0]["host_certificate"].as_str().expect("its name and number");
    assert!(shown.starts_with("web-1 ") && denied[0]["jump"].is_string(), "{denied:?}");
}
