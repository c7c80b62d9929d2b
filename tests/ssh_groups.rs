//! Groups: several servers under one entry, as a list and as a pattern, by both ways in.

use std::fs;

use crate::bed::{Caller, Release, SshKey, SshPlan, SshScene, SshWay, Sshd, scratch};
use crate::ssh_login::opened;

/// alice may reach the group `farm` as `only`: a server at 127.0.0.2, one at 127.0.0.3, and whatever is called `localh…`.
fn farm(own: &Sshd, key: &SshKey) -> SshPlan {
    own.authorize("deploy", &key.public());
    let port = own.port();
    let account = format!("{{ username: {{ literal: {} }}, private_key: {{ file: {} }} }}", own.login("deploy").name, key.file().display());
    let hosts = format!("[\"127.0.0.2:{port}\", \"127.0.0.3:{port}\", \"localh*:{port}\", \"nowhere-*.invalid\"]");
    let connections = format!(
        "  farm: {{ protocol: ssh, hosts: {hosts}, host_keys: [\"{}\"], accounts: {{ only: {account}, other: {account} }} }}\n",
        own.host_key()
    );
    let rules = format!("  - {{ allow: [alice], connections: [farm], accounts: [only], {} }}\n", crate::bed::ALL_CHANNELS);
    SshPlan { connections, rules, ..SshPlan::default() }
}

fn listening_twice() -> Sshd {
    Sshd::own("ListenAddress 127.0.0.2\nListenAddress 127.0.0.3")
}

#[test]
fn a_server_of_a_group_is_reached_by_its_name_and_the_record_has_both() {
    let (own, key) = (listening_twice(), SshKey::new());
    let scene = SshScene::with(&own, farm(&own, &key));
    let mut count = 0;
    for host in ["127.0.0.2", "127.0.0.3", "localhost", "LOCALHOST"] {
        for way in SshWay::THROUGH {
            for account in [Some("only"), None] {
                let said = Caller::new(&scene, "alice").key(scene.alice.file()).to(host, account).run(way, "echo $SSH_CONNECTION");
                count += 1;
                if host.starts_with("127") {
                    assert_eq!(said.ok().split(' ').nth(2), Some(host), "{way:?}");
                }
                let record = opened(&scene, count).pop().unwrap();
                assert_eq!((&record["connection"], &record["host"]), (&"farm".into(), &host.to_lowercase().into()), "{way:?}: {record}");
                assert_eq!(record["account"], "only", "{record}");
            }
        }
    }
    scene.nothing_is_left();
}

#[test]
fn a_server_outside_the_group_is_refused_like_one_that_there_is_not() {
    let (own, key) = (listening_twice(), SshKey::new());
    let scene = SshScene::with(&own, farm(&own, &key));
    for way in SshWay::THROUGH {
        let out = |host: &str| {
            let alice = Caller::new(&scene, "alice").key(scene.alice.file()).to(host, Some("only")).with(&["-oLogLevel=INFO"]);
            alice.is_out(way).replace("127.0.0.1 port", "KEYWARD port").replace(host, "HOST")
        };
        let unknown = out("web-9");
        assert!(unknown.contains("no such connection, or it is not open to you"), "{way:?}: {unknown}");
        for host in ["127.0.0.1", "127.0.0.22", "payroll", "localhost.invalid", "a.localhost", "nowhere-.b.invalid"] {
            assert_eq!(out(host), unknown, "{host} by {way:?}");
        }
    }
    // The group itself is no server, and an account that she may not use is none.
    let farm = Caller::new(&scene, "alice").key(scene.alice.file()).to("farm", Some("only")).is_out(SshWay::Plus);
    assert!(farm.contains("no such connection, or it is not open to you"), "{farm}");
    let other = Caller::new(&scene, "alice").key(scene.alice.file()).to("127.0.0.2", Some("other")).is_out(SshWay::Jump);
    assert!(other.contains("no such connection, or it is not open to you"), "{other}");
    assert!(scene.keyward.audit().iter().all(|record| record["event"] != "opened"));
    assert!(!own.log().contains("userauth-request"), "{}", own.log());
}

#[test]
fn a_name_of_a_pattern_that_leads_nowhere_is_unreachable_and_not_forbidden() {
    let key = SshKey::new();
    let own = listening_twice();
    let scene = SshScene::with(&own, farm(&own, &key));
    scene.keyward.expect_log("upstream_unreachable");
    for way in SshWay::THROUGH {
        let said = Caller::new(&scene, "alice").key(scene.alice.file()).to("nowhere-7.invalid", Some("only")).is_out(way);
        assert!(said.contains("keyward: the server behind this connection cannot be reached"), "{way:?}: {said}");
    }
}

#[test]
fn a_server_of_a_group_is_known_by_its_own_name() {
    let (authority, host, key) = (SshKey::new(), SshKey::new(), SshKey::new());
    host.certified_as_host_by(&authority, "127.0.0.2", &[]);
    let own = Sshd::of(Release::Debian, host, "ListenAddress 127.0.0.2\nListenAddress 127.0.0.3");
    let known = scratch("known").join("known_hosts");
    fs::write(&known, format!("[127.0.0.2]:{} {}\n", own.port(), own.host_key())).unwrap();
    let pinned = format!("host_keys: [\"{}\"]", own.host_key());
    for (keys, by) in [
        (format!("known_hosts: \"{}\"", known.display()), "host_key"),
        (format!("host_ca: [\"{}\"]", authority.public()), "host_certificate"),
    ] {
        let mut plan = farm(&own, &key);
        plan.connections = plan.connections.replace(&pinned, &keys);
        let scene = SshScene::with(&own, plan);
        scene.keyward.expect_log("upstream_unverified");
        for way in SshWay::THROUGH {
            let alice = Caller::new(&scene, "alice").key(scene.alice.file());
            alice.clone().to("127.0.0.2", Some("only")).is_in(way);
            let said = alice.to("127.0.0.3", Some("only")).is_out(way);
            assert!(said.contains("keyward: the server behind this connection could not be verified"), "{keys} by {way:?}: {said}");
        }
        assert!(opened(&scene, 2).iter().all(|record| record["verified_by"] == by));
    }
    let log = own.log();
    // `none`, which asks for the methods, and the key; nothing of the server at the other address.
    assert_eq!(log.matches("userauth-request for user").count(), 8, "{log}");
    assert_eq!(log.matches("Accepted publickey for").count(), 4, "{log}");
}

#[test]
fn a_rule_names_the_group_and_none_of_its_servers() {
    let (own, key) = (listening_twice(), SshKey::new());
    let mut plan = farm(&own, &key);
    plan.rules = "  - { allow: [alice], connections: [\"127.0.0.2\"] }\n".to_owned();
    let scene = SshScene::with(&own, plan);
    let said = scene.keyward.cli(&["check", "--offline"]);
    assert!(said.ok().contains("it is a host of the connection \"farm\", which is what a rule names"), "{said:?}");
    for way in SshWay::THROUGH {
        let said =
            Caller::new(&scene, "alice").key(scene.alice.file()).to("127.0.0.2", Some("only")).with(&["-oLogLevel=INFO"]).is_out(way);
        assert!(said.contains("no such connection, or it is not open to you"), "{way:?}: {said}");
    }
}
