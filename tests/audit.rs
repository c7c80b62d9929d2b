//! The audit record: no session without it, and none left open in it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use rustix::fs::{CWD, FileType, Mode, OFlags, fcntl_setfl, mknodat, open};
use rustix::process::Signal;
use serde_json::Value;

use crate::bed::{Config, Keyward, Psql, SOON, bao, canary, eventually, must_be_absent, postgres15, psql, scratch};

/// alice may reach `orders`, a connection with a KV credential; `line` is added to the file.
fn start(line: &str) -> (Keyward, crate::bed::Dsn) {
    let (alice, login) = (canary(), postgres15().login(crate::bed::Method::Scram));
    let kv = bao().mount_kv2();
    kv.put("postgres", &[("username", &login.name), ("password", &login.password)]);
    let path = kv.path("postgres");
    let body = format!(
        "address: \"{}\", database: postgres, store: corp, username: \"{path}?username\", password: \"{path}?password\"",
        postgres15().address()
    );
    let config = Config::new().store("corp", bao(), &bao().approle(&[&path])).connection("orders", &body).user("alice", &alice);
    let keyward = Keyward::start(&config.allow("alice", "orders").line(line));
    let dsn = keyward.dsn("alice", &alice, "orders");
    (keyward, dsn)
}

#[test]
fn without_a_record_there_is_no_session() {
    let (keyward, dsn) = start("audit: { file: /dev/full }");
    keyward.expect_log("the audit record cannot be written").expect_log("audit_unavailable");
    let refused = psql(&dsn, "SELECT 1");
    assert!(refused.refused().contains("the audit record cannot be written"), "{}", refused.refused());
    assert!(keyward.http("/metrics").body.contains("keyward_audit_failures_total"));
}

#[test]
fn the_file_may_say_that_sessions_go_on_without_a_record() {
    let (keyward, dsn) = start("audit: { file: /dev/full, on_failure: continue }");
    keyward.expect_log("the audit record cannot be written");
    assert_eq!(psql(&dsn, "SELECT 7").ok(), "7");
}

#[test]
fn a_record_that_was_moved_away_is_opened_anew_on_sighup() {
    let (keyward, dsn) = start("");
    let live = Psql::open(&dsn);
    let (record, moved) = (keyward.state().join("audit.jsonl"), keyward.state().join("audit.jsonl.1"));
    std::fs::rename(&record, &moved).unwrap();
    keyward.signal(Signal::HUP);
    eventually("a new record", || record.exists().then_some(()));
    assert_eq!(live.ask("SELECT 1"), "1", "a reload without changes leaves sessions alone");
    assert_eq!(live.end(), "");
    let closed = keyward.until_audit("closed", 1);
    let old = std::fs::read_to_string(&moved).unwrap();
    assert!(old.contains(closed[0]["session"].as_str().unwrap()), "its opening is in the old one: {old}");
}

#[test]
fn a_reload_that_cannot_open_the_record_anew_takes_the_file_and_says_what_failed() {
    let (keyward, dsn) = start("");
    keyward.expect_log("the audit record cannot be opened anew");
    let (record, moved) = (keyward.state().join("audit.jsonl"), keyward.state().join("audit.jsonl.1"));
    std::fs::rename(&record, &moved).unwrap();
    std::fs::create_dir(&record).unwrap();
    let said = keyward.cli(&["reload"]);
    let wanted = [
        "the audit record cannot be opened anew: Is a directory",
        "; the old file is kept",
        "the configuration was reloaded: added nothing",
    ];
    assert!(said.code == Some(1) && wanted.iter().all(|wanted| said.stderr.contains(wanted)), "{said:?}");
    assert!(keyward.http("/metrics").body.contains("keyward_reload_ok 1\n"));
    assert_eq!(psql(&dsn, "SELECT 1").ok(), "1");
    assert!(std::fs::read_to_string(&moved).unwrap().contains("opened"), "the record goes on in the old file");
    std::fs::remove_dir(&record).unwrap();
    keyward.cli(&["reload"]).ok();
    assert!(record.is_file(), "it is there when the command says so");
}

/// Reads a pipe, which has no writer yet.
fn collector(pipe: &Path) -> File {
    let reads = open(pipe, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).unwrap();
    fcntl_setfl(&reads, OFlags::empty()).unwrap();
    reads.into()
}

#[test]
fn a_record_may_be_a_pipe_that_a_collector_reads_and_nobody_waits_for_one_that_is_not_there() {
    let pipe = scratch("pipe").join("audit");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let line = format!("audit: {{ file: {} }}", pipe.display());
    let unread = Keyward::command_in(&[], &Config::new().line(&line), &["run"]);
    assert!(unread.code == Some(1) && unread.stderr.contains("No such device or address"), "{unread:?}");

    let reads = collector(&pipe);
    let (keyward, dsn) = start(&line);
    let (tell, told) = mpsc::channel();
    let collects = thread::spawn(move || {
        for line in BufReader::new(reads).lines().map(Result::unwrap) {
            let is_last = line.contains("\"closed\"");
            tell.send(line).unwrap();
            if is_last {
                return;
            }
        }
    });
    assert_eq!(psql(&dsn, "SELECT 7").ok(), "7");
    for event in ["opened", "closed"] {
        let line = told.recv_timeout(SOON).unwrap();
        assert!(line.contains(&format!("\"{event}\"")), "{line}");
        must_be_absent("the record", &line);
    }
    collects.join().unwrap();

    // The collector is gone, which `check` finds out, too.
    keyward.expect_log("the audit record cannot be opened anew").expect_log("the audit record cannot be written");
    keyward.expect_log("audit_unavailable");
    let said = keyward.cli(&["check"]);
    assert!(said.code == Some(1) && said.stdout.contains("No such device or address"), "{said:?}");
    let said = keyward.cli(&["reload"]);
    assert!(said.code == Some(1) && said.stderr.contains("cannot be opened anew: No such device or address"), "{said:?}");
    let refused = psql(&dsn, "SELECT 1");
    assert!(refused.refused().contains("the audit record cannot be written"), "{}", refused.refused());
    let _reads = collector(&pipe);
    keyward.cli(&["reload"]).ok();
    keyward.cli(&["check"]).ok();
    assert_eq!(psql(&dsn, "SELECT 7").ok(), "7");
}

#[test]
fn a_session_that_was_opened_before_the_record_was_moved_away_is_not_lost_in_a_crash() {
    let (keyward, dsn) = start("");
    let (_ended, live) = (Psql::open(&dsn).end(), Psql::open(&dsn));
    let [_, opened] = <[_; 2]>::try_from(keyward.until_audit("opened", 2)).unwrap();
    keyward.until_audit("closed", 1);
    let record = keyward.state().join("audit.jsonl");
    std::fs::rename(&record, keyward.state().join("audit.jsonl.1")).unwrap();
    // As a check does that runs before we are told.
    std::fs::write(&record, "{\"event\":\"checked\"}\n").unwrap();
    keyward.signal(Signal::HUP);
    let continued = keyward.until_audit("continued", 1);
    assert_eq!(continued[0]["session"], opened["session"], "only the one that is open");
    // One more turn, without a new file.
    keyward.signal(Signal::HUP);
    let turns = || keyward.log().iter().filter(|line| line.to_string().contains("the audit record was opened anew")).count();
    eventually("the second turn", || (turns() == 2).then_some(()));
    keyward.kill9();
    drop(live);
    let next = keyward.start_again();
    let closed = next.until_audit("closed", 1);
    assert_eq!((&closed[0]["session"], closed[0]["outcome"].as_str()), (&opened["session"], Some("crashed")));
    assert_eq!(next.until_audit("continued", 1).len(), 1, "said once");
}

#[test]
fn a_record_says_who_what_and_with_which_secret_and_never_the_secret() {
    let (keyward, dsn) = start("");
    assert_eq!(psql(&dsn, "SELECT 1").ok(), "1");
    let opened = keyward.until_audit("opened", 1).remove(0);
    assert_eq!(
        (opened["user"].as_str(), opened["connection"].as_str(), opened["account"].as_str()),
        (Some("alice"), Some("orders"), Some("default"))
    );
    assert_eq!((opened["proof"].as_str(), opened["verified_by"].as_str()), (Some("scram-sha-256-plus"), Some("local")));
    assert!(opened["source"].as_str().unwrap().starts_with("127.0.0.1:"), "{opened}");
    let secrets = opened["secrets"].as_array().unwrap();
    assert!(secrets.iter().any(|name| name.as_str().unwrap().ends_with("?username")), "{opened}");
    assert_eq!(opened["version"], 1);
    assert!(!opened["store_request"].as_str().unwrap().is_empty(), "{opened}");
    let stages = opened["stages_ms"].as_object().unwrap();
    for stage in ["open", "login", "authorise", "lease", "connect", "inject"] {
        assert!(stages[stage].as_f64().unwrap() >= 0.0, "{stage}: {opened}");
    }
    let closed = keyward.until_audit("closed", 1).remove(0);
    assert_eq!((&closed["session"], closed["outcome"].as_str()), (&opened["session"], Some("client")));
    assert!(closed["bytes_down"].as_u64().unwrap() > 0);
    is_shown_in_the_readme(&[opened, closed]);
}

/// The README has two such lines, and names every field.
fn is_shown_in_the_readme(lines: &[Value]) {
    let readme = include_str!("../README.md");
    let block = readme.split("\n```").filter_map(|block| block.strip_prefix("json\n")).find(|block| block.contains("\"event\""));
    let shown: Vec<Value> = serde_json::Deserializer::from_str(block.unwrap()).into_iter().map(Result::unwrap).collect();
    let fields = |line: &Value| line.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(shown.iter().map(fields).collect::<Vec<_>>(), lines.iter().map(fields).collect::<Vec<_>>());
    assert_eq!(fields(&shown[0]["stages_ms"]), fields(&lines[0]["stages_ms"]));
    for field in lines.iter().chain([&lines[0]["stages_ms"]]).flat_map(fields) {
        assert!(readme.contains(&format!("`{field}`")), "the README does not name {field}");
    }
}
