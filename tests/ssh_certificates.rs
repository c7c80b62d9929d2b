//! Users who prove themselves by a certificate of an authority that the listener trusts, and keys and certificates that no longer count.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::bed::{
    Caller, REFUSED, SOON, SecurityKey, SshKey, SshPlan, SshRunning, SshScene, SshWay, TOUCHED, VERIFIED, eventually, revocation_list, run,
    scratch, sshd,
};
use crate::ssh_login::{opened, with_user};

const LONG: Duration = Duration::from_secs(60);

/// A listener that trusts this authority, and has a file of revoked keys.
fn trusting(authority: &SshKey, revoked: Option<&PathBuf>) -> SshPlan {
    let revoked = revoked.map_or_else(String::new, |file| format!(", revoked_keys: \"{}\"", file.display()));
    SshPlan { listener: format!("trusted_user_ca_keys: [\"{} users\"]{revoked}", authority.public()), ..SshPlan::default() }
}

#[test]
fn a_certificate_lets_in_the_user_whom_it_names_and_the_record_has_its_number() {
    let (authority, key) = (SshKey::new(), SshKey::new());
    key.certified_by(&authority, "alice", &["-z", "4711"]);
    let scene = SshScene::with(sshd(), trusting(&authority, None));
    for way in SshWay::THROUGH {
        Caller::new(&scene, "alice").key(key.file()).is_in(way);
    }
    for record in opened(&scene, 2) {
        assert_eq!((&record["proof"], &record["key"]), (&Value::from("certificate"), &Value::from(key.fingerprint())), "{record}");
        let shown = &record["certificate"];
        assert_eq!(
            (&shown["key_id"], &shown["serial"], &shown["authority"]),
            (&Value::from("of the tests"), &Value::from("4711"), &Value::from(authority.fingerprint())),
            "{record}"
        );
    }
    // The key alone, which nobody knows.
    fs::remove_file(key.certificate()).unwrap();
    assert!(Caller::new(&scene, "alice").key(key.file()).is_out(SshWay::Plus).contains(REFUSED));
}

#[test]
fn authorities_and_keys_of_every_kind_make_certificates_that_count() {
    let kinds: [&[&str]; 5] = [
        &["-t", "ed25519"],
        &["-t", "ecdsa", "-b", "256"],
        &["-t", "ecdsa", "-b", "384"],
        &["-t", "ecdsa", "-b", "521"],
        &["-t", "rsa", "-b", "2048"],
    ];
    let authorities: Vec<SshKey> = kinds.iter().map(|kind| SshKey::of(kind, "")).collect();
    let lines: Vec<String> = authorities.iter().map(|authority| format!("\"{}\"", authority.public())).collect();
    let listener = format!("trusted_user_ca_keys: [{}]", lines.join(", "));
    let scene = SshScene::with(sshd(), SshPlan { listener, ..SshPlan::default() });
    for (authority, kind) in authorities.iter().zip(kinds.iter().rev()) {
        let key = SshKey::of(kind, "");
        key.certified_by(authority, "alice", &[]);
        Caller::new(&scene, "alice").key(key.file()).is_in(SshWay::Plus);
    }
    let (rsa, key) = (authorities.last().unwrap(), SshKey::new());
    key.certified_by(rsa, "alice", &["-t", "ssh-rsa"]);
    let old = Caller::new(&scene, "alice").key(key.file()).with(&["-oCASignatureAlgorithms=+ssh-rsa"]);
    assert!(old.is_out(SshWay::Plus).contains(REFUSED), "SHA-1 under a certificate");
}

/// A certificate by the options of `ssh-keygen`, and whether it lets alice in.
struct Row {
    name: &'static str,
    made: fn(&SshKey, &SshKey),
    counts: bool,
}

const ROWS: &[Row] = &[
    Row { name: "for her", made: |key, ca| drop(key.certified_by(ca, "alice", &[])), counts: true },
    Row { name: "for several", made: |key, ca| drop(key.certified_by(ca, "bob,alice", &[])), counts: true },
    Row { name: "for an hour", made: |key, ca| drop(key.certified_by(ca, "alice", &["-V", "-5m:+1h"])), counts: true },
    Row { name: "from here", made: |key, ca| drop(key.certified_by(ca, "alice", &["-O", "source-address=127.0.0.0/8"])), counts: true },
    Row {
        name: "with an unknown extension",
        made: |key, ca| drop(key.certified_by(ca, "alice", &["-O", "extension:x@example.org=1"])),
        counts: true,
    },
    Row { name: "for another", made: |key, ca| drop(key.certified_by(ca, "bob", &[])), counts: false },
    Row { name: "for a longer name", made: |key, ca| drop(key.certified_by(ca, "alice2,alic,ALICE", &[])), counts: false },
    Row { name: "for the login as typed", made: |key, ca| drop(key.certified_by(ca, "alice+web-1+deploy,deploy", &[])), counts: false },
    Row { name: "expired", made: |key, ca| drop(key.certified_by(ca, "alice", &["-V", "-2d:-1d"])), counts: false },
    Row { name: "not yet valid", made: |key, ca| drop(key.certified_by(ca, "alice", &["-V", "+1h:+2h"])), counts: false },
    Row { name: "for nobody", made: |key, ca| drop(key.signed_by(ca, &[])), counts: false },
    Row { name: "of a host", made: |key, ca| drop(key.certified_as_host_by(ca, "alice", &[])), counts: false },
    Row { name: "of another authority", made: |key, _| drop(key.certified_by(&SshKey::new(), "alice", &[])), counts: false },
    Row { name: "of the key itself", made: |key, _| drop(key.certified_by(key, "alice", &[])), counts: false },
    Row { name: "with a command", made: |key, ca| drop(key.certified_by(ca, "alice", &["-O", "force-command=/bin/true"])), counts: false },
    Row {
        name: "from elsewhere",
        made: |key, ca| drop(key.certified_by(ca, "alice", &["-O", "source-address=192.0.2.0/24"])),
        counts: false,
    },
    Row {
        name: "with an unknown condition",
        made: |key, ca| drop(key.certified_by(ca, "alice", &["-O", "critical:x@example.org=1"])),
        counts: false,
    },
];

#[test]
fn a_certificate_counts_only_if_all_of_it_fits() {
    let authority = SshKey::new();
    let scene = SshScene::with(sshd(), trusting(&authority, None));
    let mut wrong = String::new();
    for row in ROWS {
        let key = SshKey::new();
        (row.made)(&key, &authority);
        for way in SshWay::THROUGH {
            let said = Caller::new(&scene, "alice").key(key.file()).run(way, "echo in");
            if (said.code == Some(0)) != row.counts || !row.counts && !said.stderr.contains(REFUSED) {
                writeln!(wrong, "{} by {way:?}: {said:?}", row.name).unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    opened(&scene, 2 * ROWS.iter().filter(|row| row.counts).count());
    scene.nothing_is_left();
}

#[test]
fn a_certificate_of_a_user_who_is_not_in_the_file_lets_nobody_in() {
    let (authority, key) = (SshKey::new(), SshKey::new());
    key.certified_by(&authority, "mallory,alice", &[]);
    let scene = SshScene::with(sshd(), trusting(&authority, None));
    assert!(Caller::new(&scene, "mallory").key(key.file()).is_out(SshWay::Plus).contains(REFUSED));
    Caller::new(&scene, "alice").key(key.file()).is_in(SshWay::Plus);
}

#[test]
fn a_certificate_takes_from_what_the_rules_allow_and_adds_nothing() {
    let (authority, bare, full) = (SshKey::new(), SshKey::new(), SshKey::new());
    bare.certified_by(&authority, "alice", &["-O", "clear"]);
    full.certified_by(&authority, "alice", &[]);
    let scene = SshScene::with(sshd(), trusting(&authority, None));
    let agent = SecurityKey::new();
    let socket = format!("-oIdentityAgent={}", agent.socket().display());
    let to = format!("-W127.0.0.1:{}", sshd().port());
    for (key, counts) in [(&bare, false), (&full, true)] {
        for way in SshWay::THROUGH {
            let alice = Caller::new(&scene, "alice").key(key.file());
            // What is for the session belongs to the link that leads there.
            let with = |options: &[&str]| match way {
                SshWay::Jump => alice.clone().inside(options),
                _ => alice.clone().with(options),
            };
            with(&[]).is_in(way);
            let said = with(&["-tt"]).run(way, "tty > /dev/null && echo a-tty");
            assert_eq!(said.stdout.contains("a-tty"), counts, "{way:?}: {said:?}");
            assert_eq!(said.stderr.contains("PTY allocation request failed"), !counts, "{way:?}: {said:?}");
            let said = with(&["-A", &socket]).run(way, "echo agent:$SSH_AUTH_SOCK");
            assert_eq!(said.ok() != "agent:", counts, "{way:?}: {said:?}");
            let mut screen = with(&["-Y"]).ssh(way);
            screen.env("DISPLAY", "127.0.0.1:99").arg("echo display:$DISPLAY");
            let said = run(screen, "", LONG);
            assert_eq!(said.ok() != "display:", counts, "{way:?}: {said:?}");
            let said = with(&["-oExitOnForwardFailure=yes", "-R", "0:127.0.0.1:9"]).run(way, "echo forwarded");
            assert_eq!(said.stdout.contains("forwarded"), counts, "{way:?}: {said:?}");
            let mut forward = with(&[&to, "-oLogLevel=INFO"]).ssh(way);
            forward.env_remove("SSH_ASKPASS");
            let said = run(forward, "", SOON);
            assert_eq!(said.stdout.starts_with("SSH-2.0-"), counts, "{way:?}: {said:?}");
            assert_eq!(said.stderr.contains("administratively prohibited"), !counts, "{way:?}: {said:?}");
        }
    }
}

#[test]
fn a_certificate_cannot_allow_what_the_rules_do_not() {
    let (authority, full) = (SshKey::new(), SshKey::new());
    full.certified_by(&authority, "alice", &[]);
    let scene = SshScene::with(sshd(), SshPlan { rule: "channels: [exec]".to_owned(), ..trusting(&authority, None) });
    let alice = Caller::new(&scene, "alice").key(full.file());
    alice.is_in(SshWay::Plus);
    let said = alice.with(&["-oExitOnForwardFailure=yes", "-R", "0:127.0.0.1:9"]).run(SshWay::Plus, "echo forwarded");
    assert!(said.code == Some(255) && said.stdout.is_empty(), "{said:?}");
}

#[test]
fn a_certified_security_key_is_touched_unless_its_certificate_waives_it() {
    let authority = SshKey::new();
    let scene = SshScene::with(sshd(), trusting(&authority, None));
    let mut serial = 0;
    let mut row = |options: &[&str], says: u8, counts: bool| {
        let key = SecurityKey::new();
        serial += 1;
        let mut sign = Command::new("ssh-keygen");
        sign.args(["-q", "-s"]).arg(authority.file()).args(["-I", "security key", "-n", "alice", "-z", &serial.to_string()]);
        sign.args(options).arg(key.public_file());
        run(sign, "", SOON).ok();
        key.says(says);
        let certificate = format!("-oCertificateFile={}", key.socket().with_file_name("key-cert.pub").display());
        let said = Caller::new(&scene, "alice").touches(&key).with(&[&certificate]).run(SshWay::Plus, "echo in");
        assert_eq!(said.code == Some(0), counts, "{options:?}, {says}: {said:?}");
        assert!(counts || said.stderr.contains(REFUSED), "{said:?}");
    };
    row(&[], TOUCHED, true);
    row(&[], 0, false);
    row(&["-O", "no-touch-required"], 0, true);
    row(&["-O", "verify-required"], TOUCHED, false);
    row(&["-O", "verify-required"], TOUCHED | VERIFIED, true);
}

/// A revocation list by what `ssh-keygen` reads of it (`serial: 1-5`), for certificates of this authority.
fn list_of(authority: &SshKey, lines: &str) -> Vec<u8> {
    let folder = scratch("krl");
    fs::write(folder.join("lines"), lines).unwrap();
    let mut make = Command::new("ssh-keygen");
    make.args(["-q", "-k", "-f"]).arg(folder.join("krl")).arg("-s").arg(authority.file().with_extension("pub")).arg(folder.join("lines"));
    run(make, "", SOON).ok();
    fs::read(folder.join("krl")).unwrap()
}

#[test]
fn a_revoked_key_or_certificate_does_not_count_from_the_next_login_on() {
    let (authority, plain, key) = (SshKey::new(), SshKey::new(), SshKey::new());
    key.certified_by(&authority, "alice", &["-z", "42"]);
    let file = scratch("revoked").join("revoked");
    fs::write(&file, "# nothing yet\n").unwrap();
    let scene = SshScene::with(sshd(), with_user(trusting(&authority, Some(&file)), "carol", &[&plain.public()]));
    let (alice, carol) = (Caller::new(&scene, "alice").key(key.file()), Caller::new(&scene, "carol").key(plain.file()));
    let now = |content: &[u8], alice_counts: bool, carol_counts: bool| {
        fs::write(file.with_extension("next"), content).unwrap();
        fs::rename(file.with_extension("next"), &file).unwrap();
        for (who, counts) in [(&alice, alice_counts), (&carol, carol_counts)] {
            if counts {
                who.is_in(SshWay::Plus);
            } else {
                assert!(who.is_out(SshWay::Plus).contains(REFUSED));
            }
        }
    };
    now(b"# nothing yet\n", true, true);
    now(format!("{}\n", plain.public()).as_bytes(), true, false);
    now(format!("# of a certificate its key\n{}\n", key.public()).as_bytes(), false, true);
    now(format!("{}\n", authority.public()).as_bytes(), false, true);
    now(&list_of(&authority, "serial: 42"), false, true);
    now(&list_of(&authority, "serial: 1-41\nserial: 43-50"), true, true);
    now(&list_of(&authority, "id: of the tests"), false, true);
    now(&list_of(&authority, "id: of other tests"), true, true);
    now(&list_of(&SshKey::new(), "serial: 42"), true, true);
    now(&fs::read(revocation_list(&[&plain.file().with_extension("pub")])).unwrap(), true, false);
    now(&fs::read(revocation_list(&[&key.certificate()])).unwrap(), false, true);
}

#[test]
fn where_the_file_of_revoked_keys_cannot_be_read_no_key_counts() {
    let (authority, key) = (SshKey::new(), SshKey::new());
    key.certified_by(&authority, "alice", &[]);
    let file = scratch("revoked").join("revoked");
    fs::write(&file, "").unwrap();
    let scene = SshScene::with(sshd(), trusting(&authority, Some(&file)));
    scene.keyward.expect_log("revoked_keys");
    let (certified, own) = (Caller::new(&scene, "alice").key(key.file()), Caller::new(&scene, "alice").key(scene.alice.file()));
    certified.is_in(SshWay::Plus);
    let outs = [None, Some("neither a key nor a list"), Some("SSHKRL\n\0half a list")];
    for content in outs {
        fs::remove_file(&file).unwrap_or_default();
        if let Some(text) = content {
            fs::write(&file, text).unwrap();
        }
        for caller in [&certified, &own] {
            for way in SshWay::THROUGH {
                caller.is_out(way);
            }
        }
        let alice = Caller::new(&scene, "alice").types(&scene.password).with(&["-oPubkeyAuthentication=no"]);
        alice.is_in(SshWay::Plus);
    }
    fs::write(&file, "").unwrap();
    own.is_in(SshWay::Plus);
    opened(&scene, 5);
}

#[test]
fn a_jump_does_not_outlive_what_proved_it() {
    let (authority, key) = (SshKey::new(), SshKey::new());
    key.certified_by(&authority, "alice", &["-z", "42"]);
    let file = scratch("revoked").join("revoked");
    fs::write(&file, "").unwrap();
    let scene = SshScene::with(sshd(), trusting(&authority, Some(&file)));
    let socket = scratch("master").join("socket");
    let path = format!("-oControlPath={}", socket.display());
    let alice = Caller::new(&scene, "alice").key(key.file());
    // `ssh -J` with this in it goes through the link that is there already.
    let through = || Caller::new(&scene, "alice").with(&[&path, "-oPubkeyAuthentication=no"]);
    assert!(through().is_out(SshWay::Jump).contains(REFUSED), "there is none yet");
    let running = SshRunning::start(&alice.with(&[&path, "-oControlMaster=yes", "-N"]).link());
    eventually("the master is there", || socket.exists().then_some(()));
    through().is_in(SshWay::Jump);
    fs::write(&file, list_of(&authority, "serial: 42")).unwrap();
    assert!(through().is_out(SshWay::Jump).contains(REFUSED), "what proved the link counts no more");
    through().inside(&["-i", scene.alice.file().to_str().unwrap()]).is_in(SshWay::Jump);
    fs::write(&file, "").unwrap();
    through().is_in(SshWay::Jump);
    assert!(!running.is_over());
    opened(&scene, 3);
}

/// The way through a load balancer that tells who comes: `bash way PORT HEADER`.
const BALANCER: &str = "exec 3<>/dev/tcp/127.0.0.1/$1
printf '%s 4711 22\\r\\n' \"$2\" >&3
cat <&3 &
trap 'kill $!' EXIT HUP
cat >&3
";

#[test]
fn a_certificate_counts_from_the_address_that_the_proxy_in_front_tells() {
    let (authority, key) = (SshKey::new(), SshKey::new());
    key.certified_by(&authority, "alice", &["-O", "source-address=192.0.2.0/24,2001:db8::/64"]);
    let mut plan = trusting(&authority, None);
    plan.listener += ", proxy_protocol: [\"127.0.0.1/32\"]";
    let scene = SshScene::with(sshd(), plan);
    let way = scratch("proxy").join("way");
    fs::write(&way, BALANCER).unwrap();
    let from = |header: &str| {
        let proxy = format!("ProxyCommand=bash {} {} '{header}'", way.display(), scene.port());
        Caller::new(&scene, "alice").key(key.file()).with(&["-o", &proxy]).run(SshWay::Plus, "echo in")
    };
    for header in ["PROXY TCP4 192.0.2.9 127.0.0.1", "PROXY TCP6 2001:db8::7 ::1", "PROXY TCP6 ::ffff:192.0.2.9 ::1"] {
        assert_eq!(from(header).ok(), "in", "{header}");
    }
    for header in ["PROXY TCP4 198.51.100.1 127.0.0.1", "PROXY TCP4 127.0.0.1 127.0.0.1", "PROXY TCP6 2001:db8:1::7 ::1"] {
        let said = from(header);
        assert!(said.refused().contains(REFUSED), "{header}: {said:?}");
    }
    let sources: Vec<Value> = opened(&scene, 3).iter().map(|record| record["source"].clone()).collect();
    assert!(sources[0].as_str().unwrap().contains("192.0.2.9"), "{sources:?}");
}
