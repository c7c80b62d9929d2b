//! How Keyward logs in to a server: with what the store has, and by what the server takes. That it is the right server: `ssh_host_keys`.

use std::fs;

use serde_json::json;

use crate::bed::{Asyncssh, Caller, SshKey, SshPlan, SshScene, SshWay, Sshd, bao, canary, eventually, scratch, sshd};
use crate::ssh_login::opened;

/// alice by her key.
pub fn alice(scene: &SshScene<'_>) -> Caller {
    Caller::new(scene, "alice").key(scene.alice.file())
}

#[test]
fn a_password_from_the_store_answers_a_server_that_only_prompts() {
    let password = canary();
    let server = Asyncssh::start("prompts", &password);
    let scene = SshScene::with(sshd(), SshPlan { connection: server.place(), ..SshPlan::default() });
    scene.kv.put("deploy", &[("username", "robot"), ("password", &password), ("key", "")]);
    for way in SshWay::THROUGH {
        assert_eq!(alice(&scene).run(way, "anything").ok(), "in as robot");
    }
    assert_eq!(server.tried(), ["keyboard-interactive counts"; 2]);
}

#[test]
fn a_server_that_asks_for_more_than_the_password_does_not_get_it_twice() {
    let password = canary();
    let server = Asyncssh::start("asks_twice", &password);
    let scene = SshScene::with(sshd(), SshPlan { connection: server.place(), ..SshPlan::default() });
    scene.keyward.expect_log("it asks for something else than the password");
    scene.kv.put("deploy", &[("username", "robot"), ("password", &password), ("key", "")]);
    let said = alice(&scene).is_out(SshWay::Plus);
    assert!(said.contains("keyward: the server behind this connection refused the login"), "{said}");
    assert!(server.tried().is_empty(), "{:?}", server.tried());
}

#[test]
fn a_password_that_was_changed_in_the_store_is_fetched_once_more() {
    let (old, new) = (canary(), canary());
    let server = Asyncssh::start("password", &old);
    let scene = SshScene::with(sshd(), SshPlan { connection: server.place(), ..SshPlan::default() });
    scene.kv.put("deploy", &[("username", "robot"), ("password", &old), ("key", "")]);
    assert_eq!(alice(&scene).run(SshWay::Plus, "anything").ok(), "in as robot");
    scene.kv.put("deploy", &[("username", "robot"), ("password", &new), ("key", "")]);
    server.change(&new);
    assert_eq!(alice(&scene).run(SshWay::Plus, "anything").ok(), "in as robot");
    let records = opened(&scene, 2);
    assert_eq!((&records[1]["cached"], &records[1]["version"]), (&json!(false), &json!(3)), "{}", records[1]);
    assert_eq!(server.tried()[..2], ["password counts", "password does not count"]);

    server.change(&canary());
    scene.keyward.expect_log("it refused the credential");
    let before = server.tried().len();
    let said = alice(&scene).is_out(SshWay::Plus);
    assert!(said.contains("keyward: the server behind this connection refused the login"), "{said}");
    assert!(server.tried().len() - before <= 2, "no more than once from the cache and once from the store: {:?}", server.tried());
}

#[test]
fn private_keys_from_the_store_of_every_kind_and_form_let_in() {
    let passphrase = canary();
    let kinds: [(&[&str], &str); 9] = [
        (&["-t", "ed25519"], ""),
        (&["-t", "ed25519"], &passphrase),
        (&["-t", "ecdsa", "-b", "256"], ""),
        (&["-t", "ecdsa", "-b", "384"], &passphrase),
        (&["-t", "ecdsa", "-b", "521"], ""),
        (&["-t", "rsa", "-b", "2048"], ""),
        (&["-t", "rsa", "-b", "3072"], &passphrase),
        (&["-t", "rsa", "-b", "2048", "-m", "PEM"], ""),
        (&["-t", "ecdsa", "-b", "256", "-m", "PKCS8"], ""),
    ];
    let (kv, login) = (bao().mount_kv2(), &sshd().login("ops").name);
    let mut plan = SshPlan::default();
    for (number, (kind, passphrase)) in kinds.iter().enumerate() {
        let (key, name) = (SshKey::of(kind, passphrase), format!("key{number}"));
        sshd().authorize("ops", &key.public());
        // As somebody pastes it on another system, and without the end of the last line.
        let text = if number % 2 == 0 { key.private() } else { key.private().trim_end().replace('\n', "\r\n") };
        kv.put(&name, &[("username", login), ("key", &text), ("passphrase", passphrase)]);
        let path = kv.path(&name);
        let more = if passphrase.is_empty() { String::new() } else { format!(", passphrase: \"{path}?passphrase\"") };
        plan.accounts += &format!(", {name}: {{ username: \"{path}?username\", private_key: \"{path}?key\"{more} }}");
        plan.paths.push(path);
    }
    plan.rules = "  - { allow: [alice], connections: [web-1], accounts: [\"key*\"] }\n".to_owned();
    let scene = SshScene::with(sshd(), plan);
    let mut wrong = Vec::new();
    for (number, (kind, _)) in kinds.into_iter().enumerate() {
        let said = alice(&scene).to("web-1", Some(&format!("key{number}"))).run(SshWay::Plus, "id -un");
        if said.stdout.trim() != login {
            wrong.push(format!("{kind:?}: {said:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_key_that_cannot_be_read_is_the_stores_fault_and_goes_nowhere() {
    let own = Sshd::own("");
    let scene = SshScene::with(&own, SshPlan::default());
    scene.keyward.expect_log("the private key from the store");
    let login = &own.login("ops").name;
    let key = SshKey::of(&["-t", "ed25519"], &canary());
    for (text, passphrase) in [(key.private(), canary()), (key.public(), canary()), (canary(), canary())] {
        scene.kv.put("ops", &[("username", login), ("key", &text), ("passphrase", &passphrase)]);
        let said = alice(&scene).to("web-1", Some("ops")).is_out(SshWay::Plus);
        assert!(said.contains("keyward: the credential for this connection is not available; ask the administrator"), "{said}");
    }
    assert!(!own.log().contains("userauth-request"), "{}", own.log());
}

#[test]
fn an_authority_in_the_store_certifies_a_key_for_each_session() {
    let own = Sshd::own("");
    let login = own.login("app").name.clone();
    let engine = bao().ssh_engine(&login);
    own.trust(&engine.authority());
    let accounts = format!(", app: {{ username: {{ literal: {login} }}, credential: {} }}", engine.sign());
    let rules = "  - { allow: [alice], connections: [web-1], accounts: [app] }\n".to_owned();
    let scene = SshScene::with(&own, SshPlan { accounts, rules, paths: vec![engine.sign()], ..SshPlan::default() });
    for way in SshWay::THROUGH {
        assert_eq!(alice(&scene).to("web-1", Some("app")).run(way, "id -un").ok(), login);
    }
    let log = own.log();
    let accepted: Vec<&str> = log.lines().filter(|line| line.contains(&format!("Accepted publickey for {login} "))).collect();
    assert_eq!(accepted.len(), 2, "{log}");
    let serials: Vec<String> = opened(&scene, 2).iter().map(|record| record["signed_certificate"].as_str().unwrap().to_owned()).collect();
    for (line, serial) in accepted.iter().zip(&serials) {
        assert!(line.contains(&format!("(serial {serial}) CA ED25519")), "{serial}: {line}");
    }
    assert_ne!(serials[0], serials[1], "a key of its own for each session");

    own_authority_is_another(&own, &scene, &engine.mount);
}

/// The store signs with another authority than the server trusts.
fn own_authority_is_another(own: &Sshd, scene: &SshScene<'_>, mount: &str) {
    bao().call("DELETE", &format!("{mount}/config/ca"), serde_json::Value::Null);
    bao().call("POST", &format!("{mount}/config/ca"), json!({ "generate_signing_key": true, "key_type": "ed25519" }));
    scene.keyward.expect_log("it refused the credential");
    let said = alice(scene).to("web-1", Some("app")).is_out(SshWay::Plus);
    assert!(said.contains("keyward: the server behind this connection refused the login"), "{said}");
    assert_eq!(own.log().matches("Accepted publickey for").count(), 2);
}

#[test]
fn a_certificate_beside_its_key_in_the_store_is_shown_and_counts_as_far_as_the_server_says() {
    let (own, authority, kv) = (Sshd::own(""), SshKey::new(), bao().mount_kv2());
    own.trust(&authority.public());
    let login = &own.login("ops").name;
    let invalid = |why: &str| format!("Certificate invalid: {why}");
    // Their names, whom they are for, what else they say, and what the server says of those that do not count.
    let rows: [(&str, &str, &[&str], String); 4] = [
        ("good", login, &["-z", "77", "-O", "source-address=127.0.0.0/8"], String::new()),
        ("other", "nobody", &[], invalid("name is not a listed principal")),
        ("expired", login, &["-V", "-2d:-1d"], invalid("expired")),
        ("elsewhere", login, &["-O", "source-address=192.0.2.0/24"], "not from a permitted source address".to_owned()),
    ];
    let mut plan = SshPlan { rules: "  - { allow: [alice], connections: [web-1] }\n".to_owned(), ..SshPlan::default() };
    for (name, principal, options, _) in &rows {
        let key = SshKey::new();
        let line = key.certified_by(&authority, principal, options);
        kv.put(name, &[("username", login), ("private_key", &key.private()), ("certificate", &line)]);
        plan.accounts += &format!(", {name}: {{ credential: {} }}", kv.path(name));
        plan.paths.push(kv.path(name));
    }
    let scene = SshScene::with(&own, plan);
    scene.keyward.expect_log("it refused the credential");
    for (name, _, _, why) in rows {
        let (caller, before) = (alice(&scene).to("web-1", Some(name)), own.log().len());
        if why.is_empty() {
            caller.is_in(SshWay::Plus);
            let log = own.log();
            let accepted = log.lines().find(|line| line.contains(&format!("Accepted publickey for {login} "))).unwrap_or_default();
            assert!(accepted.contains("ED25519-CERT") && accepted.contains("ID of the tests (serial 77) CA ED25519"), "{log}");
        } else {
            let said = caller.is_out(SshWay::Plus);
            assert!(said.contains("keyward: the server behind this connection refused the login"), "{name}: {said}");
            eventually(&format!("sshd says of {name}: {why}"), || own.log()[before..].contains(&why).then_some(()));
        }
    }
    assert_eq!(opened(&scene, 1)[0]["account"], "good");
}

#[test]
fn a_one_time_password_lets_in_once_and_is_given_back() {
    let engine = bao().ssh_engine("ubuntu");
    let server = Asyncssh::start("once", &engine.verify_url());
    let accounts = format!(", otp: {{ username: {{ literal: ubuntu }}, credential: {0} }}, otp2: {{ credential: {0} }}", engine.otp());
    let rules = "  - { allow: [alice], connections: [web-1], accounts: [otp, otp2] }\n".to_owned();
    let plan = SshPlan { connection: server.place(), accounts, rules, paths: vec![engine.otp()], ..SshPlan::default() };
    let scene = SshScene::with(sshd(), plan);
    for account in ["otp", "otp2"] {
        for way in SshWay::THROUGH {
            assert_eq!(alice(&scene).to("web-1", Some(account)).run(way, "anything").ok(), "in as ubuntu");
        }
    }
    assert_eq!(server.tried(), ["password counts"; 4]);
    assert_eq!(server.remember_passwords(), 4);
    eventually("every one-time password is given back", || (engine.passwords() == 0).then_some(()));
    let records = opened(&scene, 4);
    assert!(records.iter().all(|record| record["lease"].is_string() && record["cached"] == false), "{records:#?}");
}

#[test]
fn a_one_time_password_that_the_server_does_not_take_is_given_back_as_well() {
    let engine = bao().ssh_engine("ubuntu");
    let server = Asyncssh::start("password", &canary());
    let accounts = format!(", otp: {{ credential: {} }}", engine.otp());
    let rules = "  - { allow: [alice], connections: [web-1], accounts: [otp] }\n".to_owned();
    let plan = SshPlan { connection: server.place(), accounts, rules, paths: vec![engine.otp()], ..SshPlan::default() };
    let scene = SshScene::with(sshd(), plan);
    scene.keyward.expect_log("it refused the credential");
    let said = alice(&scene).to("web-1", Some("otp")).is_out(SshWay::Plus);
    assert!(said.contains("keyward: the server behind this connection refused the login"), "{said}");
    eventually("it is given back", || (engine.passwords() == 0).then_some(()));
}

#[test]
fn a_server_that_knows_nothing_of_strict_key_exchange_is_followed_through_new_keys() {
    let password = canary();
    let server = Asyncssh::start("not_strict", &password);
    let connection = format!("{}, rekey_limit: 1MiB", server.place());
    let scene = SshScene::with(sshd(), SshPlan { connection, ..SshPlan::default() });
    scene.kv.put("deploy", &[("username", "robot"), ("password", &password), ("key", "")]);
    let said = alice(&scene).run(SshWay::Plus, "anything");
    assert!(said.code == Some(0) && said.stdout.starts_with("in as robot\n0123456789abcdef"), "{}", said.stderr);
    assert_eq!(said.stdout.matches("0123456789abcdef").count(), (4 << 20) / 16, "{}", said.stderr);
}

#[test]
fn a_server_that_has_nothing_in_common_with_us_cannot_be_reached_and_the_log_says_in_what() {
    let rows = [("KexAlgorithms", "diffie-hellman-group14-sha256", "key exchange method"), ("Ciphers", "aes128-ctr,aes256-ctr", "cipher")];
    for (keyword, names, what) in rows {
        let own = Sshd::own(&format!("{keyword} {names}"));
        let scene = SshScene::new(&own);
        scene.keyward.expect_log("upstream_unreachable");
        for way in SshWay::THROUGH {
            let said = alice(&scene).is_out(way);
            assert!(said.contains("keyward: the server behind this connection cannot be reached"), "{what} by {way:?}: {said}");
        }
        let said = format!("the peer has no {what} in common with us: it has {}", names.replace(',', ", "));
        let logged = scene.keyward.until_logged(&said, |line| line.to_string().contains(&said));
        assert_eq!(logged.len(), 2, "{logged:?}");
    }
}

#[test]
fn the_newest_sshd_is_logged_in_to_by_every_kind_of_credential() {
    let Some(server) = crate::bed::sshd10() else { return };
    let login = server.login("app").name.clone();
    let engine = bao().ssh_engine(&login);
    server.trust(&engine.authority());
    let accounts = format!(", app: {{ username: {{ literal: {login} }}, credential: {} }}", engine.sign());
    let rules = "  - { allow: [alice], connections: [web-1], accounts: [app] }\n".to_owned();
    let scene = SshScene::with(server, SshPlan { accounts, rules, paths: vec![engine.sign()], ..SshPlan::default() });
    for account in ["deploy", "ops", "app"] {
        for way in SshWay::THROUGH {
            let said = alice(&scene).to("web-1", Some(account)).run(way, "id -un");
            assert_eq!(said.ok(), server.login(account).name, "{account} by {way:?}");
        }
    }
    scene.nothing_is_left();
}

#[test]
fn a_client_is_not_told_that_it_is_in_before_the_server_let_us_in() {
    let password = canary();
    let server = Asyncssh::start("password", &password);
    let scene = SshScene::with(sshd(), SshPlan { connection: server.place(), ..SshPlan::default() });
    scene.keyward.expect_log("it refused the credential");
    let client = |way| {
        let alice = alice(&scene);
        // The outer link of a jump is let in for itself.
        if way == SshWay::Jump { alice.inside(&["-oLogLevel=VERBOSE"]) } else { alice.with(&["-oLogLevel=VERBOSE"]) }
    };
    scene.kv.put("deploy", &[("username", "robot"), ("password", &password), ("key", "")]);
    for way in SshWay::THROUGH {
        let said = client(way).run(way, "anything");
        assert!(said.ok() == "in as robot" && said.stderr.contains("Authenticated to"), "{way:?}: {said:?}");
    }
    server.change(&canary());
    for way in SshWay::THROUGH {
        let said = client(way).is_out(way);
        assert!(said.contains("refused the login") && !said.contains("Authenticated to"), "{way:?}: {said}");
    }
}

#[test]
fn what_a_server_wants_its_users_to_read_reaches_them_without_its_control_characters() {
    let file = scratch("banner").join("banner");
    fs::write(&file, "Tres\u{e9} private.\u{1b}]0;owned\u{7}\nSecond\u{9b}2J line.\n").unwrap();
    let own = Sshd::own(&format!("Banner {}", file.display()));
    let scene = SshScene::new(&own);
    for way in SshWay::THROUGH {
        let level = "-oLogLevel=INFO";
        let said = alice(&scene).with(&[level]).inside(&[level]).run(way, "echo in");
        assert_eq!(said.ok(), "in", "{way:?}");
        assert_eq!(said.stderr.matches("private.").count(), 1, "{way:?}: {said:?}");
        assert!(said.stderr.contains("line."), "{way:?}: {said:?}");
        assert!(!said.stderr.contains(['\u{1b}', '\u{7}', '\u{9b}']), "{way:?}: {said:?}");
    }
}
