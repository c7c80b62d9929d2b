//! How users prove who they are over SSH: keys, security keys, passwords, prompts; what a listener takes, and what a client hears that is
//! refused. Certificates are in `ssh_certificates.rs`, jumps in `ssh_jump.rs`.

use std::fmt::Write;

use serde_json::Value;

use crate::bed::{Caller, REFUSED, SecurityKey, SshKey, SshPlan, SshScene, SshWay, TOUCHED, VERIFIED, canary, openssh10, run, sshd};

/// A plan in which `name` may reach `web-1` as `deploy` with these keys, beside alice.
pub fn with_user(plan: SshPlan, name: &str, keys: &[&str]) -> SshPlan {
    let keys: Vec<String> = keys.iter().map(|key| format!("\"{key}\"")).collect();
    SshPlan {
        users: plan.users + &format!("  {name}: {{ public_keys: [{}] }}\n", keys.join(", ")),
        rules: plan.rules + &format!("  - {{ allow: [{name}], connections: [web-1], accounts: [deploy], {} }}\n", crate::bed::ALL_CHANNELS),
        ..plan
    }
}

/// The `opened` records, of which there must be so many.
#[track_caller]
pub fn opened(scene: &SshScene<'_>, count: usize) -> Vec<Value> {
    let records = scene.keyward.until_audit("opened", count);
    assert_eq!(records.len(), count, "{records:#?}");
    records
}

#[test]
fn every_kind_of_key_lets_its_user_in_and_the_record_says_which_it_was() {
    let kinds: [&[&str]; 6] = [
        &["-t", "ed25519"],
        &["-t", "ecdsa", "-b", "256"],
        &["-t", "ecdsa", "-b", "384"],
        &["-t", "ecdsa", "-b", "521"],
        &["-t", "rsa", "-b", "2048"],
        &["-t", "rsa", "-b", "4096"],
    ];
    let keys: Vec<SshKey> = kinds.iter().map(|kind| SshKey::of(kind, "")).collect();
    let lines: Vec<String> = keys.iter().map(SshKey::public).collect();
    let plan = with_user(SshPlan::default(), "carol", &lines.iter().map(String::as_str).collect::<Vec<_>>());
    let scene = SshScene::with(sshd(), plan);
    for key in &keys {
        for way in SshWay::THROUGH {
            Caller::new(&scene, "carol").key(key.file()).is_in(way);
        }
    }
    let records = opened(&scene, 2 * keys.len());
    for (pair, key) in records.chunks(2).zip(&keys) {
        for record in pair {
            assert_eq!((&record["user"], &record["key"]), (&Value::from("carol"), &Value::from(key.fingerprint())), "{record}");
            assert_eq!((&record["proof"], &record["certificate"]), (&Value::from("public_key"), &Value::Null), "{record}");
        }
    }
    scene.nothing_is_left();
}

#[test]
fn rsa_keys_sign_with_sha2_and_never_with_sha1() {
    let (rsa, small) = (SshKey::of(&["-t", "rsa", "-b", "2048"], ""), SshKey::of(&["-t", "rsa", "-b", "1024"], ""));
    let scene = SshScene::with(sshd(), with_user(SshPlan::default(), "carol", &[&rsa.public()]));
    let carol = Caller::new(&scene, "carol").key(rsa.file());
    for algorithm in ["rsa-sha2-256", "rsa-sha2-512"] {
        carol.clone().with(&[&format!("-oPubkeyAcceptedAlgorithms={algorithm}")]).is_in(SshWay::Plus);
    }
    let old = carol.with(&["-oPubkeyAcceptedAlgorithms=ssh-rsa", "-oRequiredRSASize=1024"]);
    assert!(old.is_out(SshWay::Plus).contains(REFUSED));
    let short = format!("  dave: {{ public_keys: [\"{}\"] }}\n", small.public());
    scene.rewrite(|plan| (plan.users, plan.rules) = (short, String::new()));
    let reloaded = scene.keyward.cli(&["check", "--offline"]);
    assert!(reloaded.code == Some(2) && reloaded.stdout.contains("users.dave.public_keys[0]"), "{reloaded:?}");
}

#[test]
fn the_newest_ssh_comes_in_by_every_way() {
    let Some(program) = openssh10("ssh") else { return };
    let scene = SshScene::new(sshd());
    for way in SshWay::THROUGH {
        let alice = Caller::new(&scene, "alice").program(&program);
        alice.clone().key(scene.alice.file()).is_in(way);
        alice.types(&scene.password).with(&["-oPubkeyAuthentication=no"]).is_in(way);
    }
}

#[test]
fn openssh_binds_its_signature_to_our_host_key_and_to_our_certificate() {
    let rule = format!("jump_login: key, {}", crate::bed::ALL_CHANNELS);
    let scene = SshScene::with(sshd(), SshPlan { rule, ..SshPlan::default() });
    let (alice, file) = (Caller::new(&scene, "alice").key(scene.alice.file()), scene.alice.file().to_str().unwrap());
    for (way, verbose) in [(SshWay::Plus, alice.clone().with(&["-vvv"])), (SshWay::Jump, alice.inside(&["-vvv", "-i", file]))] {
        let said = verbose.run(way, "echo in");
        assert!(
            said.ok() == "in" && said.stderr.contains("sign_and_send_pubkey: using publickey-hostbound-v00@openssh.com"),
            "{way:?}: {said:?}"
        );
    }
    opened(&scene, 2);
}

#[test]
fn behind_a_listener_that_leads_to_one_connection_nobody_needs_its_name() {
    let key = SshKey::new();
    let plan = SshPlan { listener: "connection: web-1".to_owned(), ..SshPlan::default() };
    let scene = SshScene::with(sshd(), with_user(plan, "carol", &[&key.public()]));
    let run = |user: &str, key: &SshKey| {
        let mut ssh = Caller::new(&scene, user).key(key.file()).with(&["-oLogLevel=INFO"]).link();
        ssh.arg("id -un");
        run(ssh, "", crate::bed::SOON)
    };
    for (user, key, account) in [
        ("carol", &key, "deploy"),
        ("carol+web-1", &key, "deploy"),
        ("alice+web-1+ops", &scene.alice, "ops"),
        ("carol+web-1+deploy", &key, "deploy"),
    ] {
        assert_eq!(run(user, key).ok(), sshd().login(account).name, "{user}");
    }
    for (user, key) in [("carol+payroll", &key), ("carol+web-2", &key), ("carol+web-1+ops", &key)] {
        let said = run(user, key);
        assert!(said.refused().contains("keyward: no such connection, or it is not open to you"), "{user}: {said:?}");
    }
    let choice = run("alice", &scene.alice);
    assert!(choice.refused().contains("you may reach: web-1+deploy, web-1+ops"), "{choice:?}");
}

#[test]
fn whoever_names_nothing_is_told_what_there_is_for_him() {
    let scene = SshScene::new(sshd());
    let alice = Caller::new(&scene, "alice").key(scene.alice.file());
    let mut command = alice.link();
    command.arg("echo in");
    for ssh in [command, alice.link(), alice.with(&["-tt"]).link()] {
        let said = run(ssh, "", crate::bed::SOON);
        assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""), "{said:?}");
        assert!(said.stderr.contains("keyward: name what you want to reach: ssh alice+NAME@"), "{said:?}");
        assert!(said.stderr.contains("web-1") && !said.stderr.contains("payroll"), "{said:?}");
    }
    assert!(scene.keyward.audit().iter().all(|record| record["event"] != "opened"));
}

#[test]
fn a_password_and_a_prompt_let_in_by_one_question() {
    let scene = SshScene::new(sshd());
    for method in ["password", "keyboard-interactive"] {
        for way in SshWay::THROUGH {
            let only = format!("-oPreferredAuthentications={method}");
            let alice = Caller::new(&scene, "alice").types(&scene.password).with(&[&only]);
            alice.is_in(way);
            assert_eq!(alice.prompts().len(), 1, "{method} by {way:?}: {:?}", alice.prompts());
        }
    }
    let proofs: Vec<String> = opened(&scene, 4).iter().map(|record| record["proof"].as_str().unwrap().to_owned()).collect();
    assert_eq!(proofs, ["cleartext", "cleartext", "keyboard_interactive", "keyboard_interactive"]);
    scene.nothing_is_left();
}

#[test]
fn a_stranger_hears_what_the_user_with_the_wrong_password_hears() {
    let scene = SshScene::new(sshd());
    let wrong = canary();
    let heard = |user: &str, method: &str| {
        let caller = Caller::new(&scene, user).types(&wrong).with(&[&format!("-oPreferredAuthentications={method}"), "-oLogLevel=DEBUG1"]);
        let said = caller.is_out(SshWay::Plus);
        let prompts = caller.prompts();
        // What the server said, without what the client says of itself.
        let said: Vec<String> = said
            .lines()
            .filter(|line| ["Authentications", "denied", "disconnect"].iter().any(|word| line.contains(word)))
            .map(|line| line.replace(user, "USER"))
            .collect();
        assert!(said.iter().any(|line| line.contains("Permission denied")), "{said:?}");
        (said, prompts.into_iter().map(|prompt| prompt.replace(user, "USER")).collect::<Vec<_>>())
    };
    for method in ["password", "keyboard-interactive"] {
        assert_eq!(heard("nobody", method), heard("alice", method), "{method}");
    }
    let keys = SshKey::new();
    let of = |user: &str| Caller::new(&scene, user).key(keys.file()).is_out(SshWay::Plus).replace(user, "USER");
    assert_eq!(of("nobody"), of("alice"));
    let denied = scene.keyward.until_audit("denied", 6);
    assert!(denied.iter().all(|record| record["refusal"] == "not_authenticated" && record["stage"] == "login"), "{denied:#?}");
    assert!(scene.keyward.audit().iter().all(|record| record["event"] != "opened"));
}

#[test]
fn a_listener_takes_the_proofs_that_it_names_and_no_other() {
    for (login, offered) in [
        ("[publickey]", "publickey"),
        ("[password]", "password"),
        ("[keyboard-interactive]", "keyboard-interactive"),
        ("[password, publickey]", "publickey,password"),
    ] {
        let scene = SshScene::with(sshd(), SshPlan { listener: format!("login: {login}"), ..SshPlan::default() });
        let nothing = Caller::new(&scene, "alice").is_out(SshWay::Plus);
        assert!(nothing.contains(&format!("Permission denied ({offered}).")), "{login}: {nothing}");
        for method in ["publickey", "password", "keyboard-interactive"] {
            let only = format!("-oPreferredAuthentications={method}");
            let alice = Caller::new(&scene, "alice").types(&scene.password).key(scene.alice.file()).with(&[&only]);
            if offered.split(',').any(|it| it == method) {
                alice.is_in(SshWay::Plus);
            } else {
                let said = alice.is_out(SshWay::Plus);
                assert!(said.contains(&format!("Permission denied ({offered}).")), "{login}, {method}: {said}");
            }
        }
    }
}

#[test]
fn six_keys_that_do_not_count_end_the_link_and_five_do_not() {
    let scene = SshScene::new(sshd());
    let strangers: Vec<SshKey> = (0..6).map(|_| SshKey::new()).collect();
    let with = |count: usize| strangers.iter().take(count).fold(Caller::new(&scene, "alice"), |caller, key| caller.key(key.file()));
    let said = with(6).key(scene.alice.file()).is_out(SshWay::Plus);
    assert!(said.contains("Too many authentication failures") || said.contains("keyward: login failed"), "{said}");
    with(5).key(scene.alice.file()).is_in(SshWay::Plus);
    // Keys that were only shown are no guesses: nobody is locked out or slowed for having many.
    for _ in 0..3 {
        with(5).key(scene.alice.file()).is_in(SshWay::Plus);
    }
    opened(&scene, 4);
}

#[test]
fn too_many_wrong_passwords_lock_the_user_out_of_his_address_and_sound_like_any_failure() {
    let scene = SshScene::with(sshd(), SshPlan { rest: "limits: { failed_logins: 2, lock_time: 1h }\n".to_owned(), ..SshPlan::default() });
    let only = "-oPreferredAuthentications=password";
    let wrong = || Caller::new(&scene, "alice").types(&canary()).with(&[only]).is_out(SshWay::Plus);
    let first = wrong();
    assert_eq!(first, wrong());
    let right = Caller::new(&scene, "alice").types(&scene.password).with(&[only]).is_out(SshWay::Plus);
    assert_eq!(right, first, "who is locked out hears what everybody hears");
    for way in SshWay::THROUGH {
        let key = Caller::new(&scene, "alice").key(scene.alice.file()).is_out(way);
        assert!(key.contains(REFUSED), "the same user from the same address, whatever he proves himself by: {key}");
    }
    let denied = scene.keyward.until_audit("denied", 5);
    let words: Vec<&str> = denied.iter().map(|record| record["refusal"].as_str().unwrap()).collect();
    assert_eq!(words[..3], ["not_authenticated", "not_authenticated", "locked"], "{words:?}");
    assert!(scene.keyward.audit().iter().all(|record| record["event"] != "opened"));
}

#[test]
fn a_security_key_counts_when_it_saw_what_its_line_asks_for() {
    let (usual, waived, strict) = (SecurityKey::new(), SecurityKey::new(), SecurityKey::new());
    let mut plan = with_user(SshPlan::default(), "usual", &[&usual.public()]);
    plan = with_user(plan, "waived", &[&format!("no-touch-required {}", waived.public())]);
    plan = with_user(plan, "strict", &[&format!("verify-required {}", strict.public())]);
    let scene = SshScene::with(sshd(), plan);
    let rows = [
        ("usual", &usual, TOUCHED, true),
        ("usual", &usual, TOUCHED | VERIFIED, true),
        ("usual", &usual, 0, false),
        ("usual", &usual, VERIFIED, false),
        ("waived", &waived, 0, true),
        ("waived", &waived, TOUCHED, true),
        ("strict", &strict, TOUCHED | VERIFIED, true),
        ("strict", &strict, TOUCHED, false),
        ("strict", &strict, 0, false),
    ];
    let mut wrong = String::new();
    for (user, key, says, counts) in rows {
        key.says(says);
        for way in SshWay::THROUGH {
            let said = Caller::new(&scene, user).touches(key).run(way, "echo in");
            if (said.code == Some(0)) != counts || !counts && !said.stderr.contains(REFUSED) {
                writeln!(wrong, "{user} with {says} by {way:?}: {said:?}").unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    opened(&scene, 10);
}
