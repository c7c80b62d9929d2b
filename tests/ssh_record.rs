//! What the record and the metrics say of SSH: who came in how, what it was used for, what was refused, how it ended; and no contents.

use std::time::Duration;

use serde_json::Value;

use crate::bed::{SshKey, SshPlan, SshRunning, SshScene, SshWay, eventually, run, sshd};

const LONG: Duration = Duration::from_secs(120);

/// The records of this event, with the fields of a test.
fn fields(records: &[Value], names: &[&str]) -> Vec<String> {
    let of = |record: &Value| {
        names
            .iter()
            .map(|name| match &record[name] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            })
            .collect::<Vec<_>>()
            .join(" ")
    };
    records.iter().map(of).collect()
}

fn of_event(scene: &SshScene<'_>, event: &str) -> Vec<Value> {
    scene.keyward.audit().into_iter().filter(|record| record["event"] == event).collect()
}

/// The number in the metrics behind this name and these labels.
fn metric(scene: &SshScene<'_>, series: &str) -> u64 {
    let body = scene.keyward.http("/metrics").body;
    let line = body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0, |number| number.parse().unwrap())
}

#[test]
fn a_session_is_opened_with_all_that_is_known_of_it() {
    let authority = SshKey::new();
    let plan = SshPlan { listener: format!("trusted_user_ca_keys: [\"{}\"]", authority.public()), ..SshPlan::default() };
    let scene = SshScene::with(sshd(), plan);
    let certified = SshKey::new();
    certified.certified_by(&authority, "alice", &["-z", "77"]);
    assert_eq!(scene.tools.run(SshWay::Plus, &[], "true").code, Some(0));
    assert_eq!(scene.tools.run(SshWay::Jump, &[], "true").code, Some(0));
    let file = certified.file().display().to_string();
    assert_eq!(scene.tools.run(SshWay::Plus, &["-o", "User=alice+web-1+ops", "-i", &file], "true").code, Some(0));
    let opened = scene.keyward.until_audit("opened", 3);
    let names = ["protocol", "user", "proof", "connection", "account", "host", "verified_by", "store", "insecure"];
    let rest = "null host_key corp null";
    assert_eq!(
        fields(&opened, &names),
        [
            format!("ssh alice public_key web-1 deploy {rest}"),
            format!("ssh alice public_key web-1 deploy {rest}"),
            format!("ssh alice certificate web-1 ops {rest}"),
        ]
    );
    for (record, key) in opened.iter().zip([&scene.alice, &scene.alice, &certified]) {
        assert_eq!(record["key"], key.fingerprint().as_str(), "{record}");
        assert!(record["source"].as_str().unwrap().starts_with("127.0.0.1:"), "{record}");
        let stages = record["stages_ms"].as_object().unwrap();
        for stage in ["open", "login", "authorise", "lease", "connect", "inject"] {
            assert!(stages[stage].as_f64().unwrap() >= 0.0, "{stage}: {record}");
        }
    }
    assert!(opened[0]["jump"].is_null() && opened[0]["host_certificate"].is_null() && opened[0]["certificate"].is_null(), "{}", opened[0]);
    let (jump, host) = (opened[1]["jump"].as_str().unwrap(), opened[1]["host_certificate"].as_str().unwrap());
    assert!(jump.len() == 16 && opened[1]["session"] != jump && host.starts_with("web-1 "), "{}", opened[1]);
    let certificate = &opened[2]["certificate"];
    let wanted = serde_json::json!({ "key_id": "of the tests", "serial": "77", "authority": authority.fingerprint() });
    assert_eq!(certificate, &wanted);
    let closed = scene.keyward.until_audit("closed", 3);
    assert!(closed.iter().all(|record| record["outcome"] == "client"), "{closed:?}");
    assert_eq!(metric(&scene, "keyward_sessions_closed_total{protocol=\"ssh\",outcome=\"client\"}"), 3);
}

#[test]
fn commands_are_on_record_by_their_first_word_and_nothing_of_the_rest() {
    let scene = SshScene::with(sshd(), SshPlan { rule: "channels: [exec, sftp, local-forward]".to_owned(), ..SshPlan::default() });
    let secret = crate::bed::canary();
    for command in
        [format!("echo -p{secret}"), format!("true '{secret}'"), format!("MYSQL_PWD={secret} true"), format!("  /bin/true;{secret}")]
    {
        scene.tools.run(SshWay::Plus, &[], &command);
    }
    scene.tools.run(SshWay::Plus, &["-s"], "sftp");
    scene.tools.run(SshWay::Plus, &["-s"], "netconf").refused();
    scene.tools.run(SshWay::Plus, &["-W", "localhost:9"], "").refused();
    scene.tools.run(SshWay::Plus, &["-o", "ExitOnForwardFailure=yes", "-R", "127.0.0.1:0:127.0.0.1:9"], "true").refused();
    let used = scene.keyward.until_audit("used", 8);
    let said = fields(&used, &["by", "what", "outcome", "command", "name", "address", "port"]);
    let exec = |command: &str| format!("client exec allowed {command} null null null");
    assert_eq!(
        said,
        [
            exec("echo"),
            exec("true"),
            exec("MYSQL_PWD"),
            exec("/bin/true"),
            "client sftp allowed null null null null".to_owned(),
            "client other refused null netconf null null".to_owned(),
            "client local-forward allowed null null localhost 9".to_owned(),
            "client remote-forward refused null null 127.0.0.1 0".to_owned(),
        ]
    );
    let opened = scene.keyward.until_audit("opened", 8);
    assert_eq!(fields(&used, &["session"]), fields(&opened, &["session"]), "each with the id of its session");
    for (what, outcome, count) in [
        ("exec", "allowed", 4),
        ("sftp", "allowed", 1),
        ("other", "refused", 1),
        ("local-forward", "allowed", 1),
        ("remote-forward", "refused", 1),
    ] {
        let series = format!("keyward_uses_total{{protocol=\"ssh\",what=\"{what}\",outcome=\"{outcome}\"}}");
        assert_eq!(metric(&scene, &series), count, "{series}");
    }
    scene.nothing_is_left();
}

/// Lines of bash that use what there is; `$CERTIFIED` are the options by which a certificate logs in that allows no terminal.
const USES: &str = "cd $HOME; eval $(ssh-agent) > /dev/null; trap 'kill $SSH_AGENT_PID' EXIT
echo true | $SSH -T $HOST
$SSH -A -o IdentityAgent=$SSH_AUTH_SOCK $HOST true
DISPLAY=127.0.0.1:9 $SSH -Y $HOST true
$SSH $CERTIFIED -tt $HOST true < /dev/null
$SSH -MNf -S ./c -o ExitOnForwardFailure=yes -R $HOME_THERE/socket:127.0.0.1:9 -L $PWD/local:$HOME_THERE/nobody $HOST
python3 -c 'import socket; one = socket.socket(socket.AF_UNIX); one.connect(\"local\"); one.recv(1)'
$SSH -S ./c -O exit $HOST 2> /dev/null";

#[test]
fn what_a_session_is_used_for_is_on_record_whatever_it_is() {
    let (authority, certified) = (SshKey::new(), SshKey::new());
    certified.certified_by(&authority, "alice", &["-O", "no-pty"]);
    let listener = format!("trusted_user_ca_keys: [\"{}\"]", authority.public());
    let scene = SshScene::with(sshd(), SshPlan { listener, ..SshPlan::default() });
    let there = scene.sshd.folder_of("deploy");
    let (there, options) = (there.to_str().unwrap(), format!("-o IdentityFile=none -i {}", certified.file().display()));
    let said = run(scene.tools.script(SshWay::Plus, USES, &[("HOME_THERE", there), ("CERTIFIED", &options)]), "", LONG);
    assert_eq!(said.code, Some(0), "{said:?}");
    scene.nothing_is_left();
    let used = of_event(&scene, "used");
    assert_eq!(
        fields(&used, &["by", "what", "outcome", "command", "name", "path"]),
        [
            "client shell allowed null null null".to_owned(),
            "client agent allowed null null null".to_owned(),
            "client exec allowed true null null".to_owned(),
            "client x11 allowed null null null".to_owned(),
            "client exec allowed true null null".to_owned(),
            "client other refused null pty-req null".to_owned(),
            "client exec allowed true null null".to_owned(),
            format!("client remote-forward allowed null null {there}/socket"),
            format!("client local-forward allowed null null {there}/nobody"),
        ]
    );
}

#[test]
fn who_is_refused_is_on_record_with_what_he_asked_for() {
    let scene = SshScene::new(sshd());
    let jump = |target: &str| {
        let said = scene.tools.run(SshWay::Plus, &["-o", "User=alice", "-o", "LogLevel=INFO", "-W", target], "");
        assert!(said.refused().contains("keyward: no such connection, or it is not open to you (session "), "{said:?}");
        // The ids differ, nothing else does.
        said.stderr.split("(session ").map(|part| part.split_once(')').map_or(part, |(_, rest)| rest)).collect::<String>()
    };
    assert_eq!(jump("payroll:22"), jump("nowhere:22"), "forbidden and unknown are one");
    jump("web-1:2222");
    scene.tools.run(SshWay::Plus, &["-o", "User=alice+payroll"], "true").refused();
    scene.tools.run(SshWay::Plus, &["-o", "User=mallory+web-1"], "true").refused();
    let denied = scene.keyward.until_audit("denied", 5);
    let said = fields(&denied, &["protocol", "user", "connection", "refusal", "fault", "stage"]);
    assert_eq!(
        said,
        [
            "ssh alice payroll:22 not_permitted client authorise",
            "ssh alice nowhere:22 not_permitted client authorise",
            "ssh alice web-1:2222 not_permitted client authorise",
            "ssh alice payroll not_permitted client authorise",
            "ssh mallory web-1 not_authenticated client login",
        ]
    );
    assert!(of_event(&scene, "opened").is_empty());
    assert_eq!(
        metric(&scene, "keyward_refusals_total{protocol=\"ssh\",refusal=\"not_permitted\",party=\"client\",stage=\"authorise\"}"),
        4
    );
}

#[test]
fn without_a_record_there_is_no_session_by_either_way() {
    let scene = SshScene::with(sshd(), SshPlan { rest: "audit: { file: /dev/full }\n".to_owned(), ..SshPlan::default() });
    scene.keyward.expect_log("the audit record cannot be written").expect_log("audit_unavailable");
    for way in SshWay::THROUGH {
        let said = scene.tools.run(way, &[], "echo in");
        assert!(
            said.refused().contains("keyward: the audit record cannot be written; ask the administrator (session "),
            "{way:?} {said:?}"
        );
    }
    assert!(scene.keyward.http("/metrics").body.contains("keyward_audit_failures_total"));
}

#[test]
fn a_session_whose_use_cannot_be_recorded_any_more_is_ended() {
    let folder = crate::bed::scratch("record");
    let (record, link) = (folder.join("record"), folder.join("link"));
    std::fs::write(&record, "").unwrap();
    std::os::unix::fs::symlink(&record, &link).unwrap();
    for (failure, goes_on) in [("refuse", false), ("continue", true)] {
        let rest = format!("audit: {{ file: {}, on_failure: {failure} }}\n", link.display());
        let scene = SshScene::with(sshd(), SshPlan { rest, ..SshPlan::default() });
        scene.keyward.expect_log("the audit record cannot be written").expect_log("audit_unavailable");
        let control = format!("{}/control", scene.tools.folder().display());
        let master = SshRunning::start(scene.tools.ssh().args(["-M", "-S", &control, "plus", "echo begun; sleep 1000"]));
        master.until_printed("begun");
        // The disk is full from here on.
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("/dev/full", &link).unwrap();
        scene.keyward.signal(rustix::process::Signal::HUP);
        scene.keyward.until_logged("it goes on there", |line| line.to_string().contains("the audit record was opened anew"));
        let again = || scene.tools.run(SshWay::Plus, &["-S", &control], "echo again");
        if goes_on {
            assert_eq!(again().ok(), "again");
            master.signal(rustix::process::Signal::TERM);
            master.ended();
        } else {
            // The first line that fails shows that the disk is full; the next one has to wait for it in vain.
            eventually("the session is ended", || (again().code != Some(0)).then_some(()));
            let said = master.ended();
            assert!(said.code == Some(255) && said.stderr.contains("keyward: the audit record cannot be written"), "{said:?}");
        }
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&record, &link).unwrap();
    }
}
