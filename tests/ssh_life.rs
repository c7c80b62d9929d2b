//! How a session over SSH ends: by its client, by its server, by Keyward; and that nothing is left of it, wherever it was.

use rustix::process::Signal;

use crate::bed::{ALL_CHANNELS, SshKey, SshPlan, SshRunning, SshScene, SshWay, Sshd, There, eventually, kill_one, processes, sshd, within};

const KILLED: &str = "keyward: the session was ended by an administrator (session ";
const BUSY: &str = "keyward: too many connections; try again later (session ";

/// Further keys of the file.
fn limited(rest: &str) -> SshPlan {
    SshPlan { rest: format!("limits: {{ {rest} }}\n"), ..SshPlan::default() }
}

/// Asks often whether the other side is there, and gives it time to answer.
const ALIVE: [&str; 4] = ["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=60"];

/// Of `web-1`.
fn own_limits(limits: &str) -> SshPlan {
    SshPlan { connection: format!("limits: {{ {limits} }}"), ..SshPlan::default() }
}

/// What a client complains of whose session Keyward ends: on the standard error of the session, and in a DISCONNECT.
#[track_caller]
fn told(complaints: &str, words: &str) {
    let line = |line: &str| line.trim_end_matches('\r').starts_with(words);
    assert!(complaints.lines().any(line), "the session was told on its standard error: {complaints:?}");
    let farewell = |line: &str| line.starts_with("Received disconnect from ") && line.contains(words);
    assert!(complaints.lines().any(farewell), "ssh was told in a DISCONNECT: {complaints:?}");
}

/// Begins once there is a place: who was in before has gone, and Keyward may not know it yet.
#[track_caller]
fn begin_in_turn(scene: &SshScene<'_>, way: SshWay, options: &[&str], program: &str) -> (SshRunning, There) {
    eventually("there is a place for it", || {
        let there = There::new();
        let running = scene.start(way, options, &there.command(program));
        eventually("it begins or is refused", || (running.printed().contains("begun") || running.is_over()).then_some(()));
        running.printed().contains("begun").then(|| {
            there.until_there();
            (running, there)
        })
    })
}

#[test]
fn a_killed_client_takes_the_remote_process_with_it_and_leaves_a_place() {
    let scene = SshScene::with(sshd(), limited("sessions_per_user: 1"));
    let mut ended = 0;
    for way in SshWay::THROUGH {
        // A program with a terminal is told that it hangs up; one without reads the end.
        for (options, program) in [(["-tt"], "sleep 1000"), (["-T"], "cat")] {
            let (client, there) = begin_in_turn(&scene, way, &options, program);
            client.signal(Signal::KILL);
            there.until_gone();
            ended += 1;
            assert_eq!(scene.until_ended(ended).last().unwrap(), "client", "{way:?} {program}");
            eventually("there is a place again", || (scene.tools.run(way, &[], "echo in").code == Some(0)).then_some(()));
            ended += 1;
        }
    }
    scene.nothing_is_left();
}

#[test]
fn a_client_hears_that_its_session_on_the_server_is_gone() {
    let scene = SshScene::new(sshd());
    for way in SshWay::THROUGH {
        let (client, there) = scene.begin(way, &[], "cat");
        kill_one(there.parent());
        let said = client.ended();
        assert!(said.code == Some(255) && said.stderr.contains("keyward: the server closed the connection (session "), "{said:?}");
    }
    assert_eq!(scene.until_ended(2), ["upstream", "upstream"]);
    scene.nothing_is_left();
}

#[test]
fn sessions_end_with_their_server() {
    let own = Sshd::own("");
    let scene = SshScene::with(&own, SshPlan::default());
    let clients = SshWay::THROUGH.map(|way| scene.begin(way, &[], "cat").0);
    // Its folder is in the words of the process that everything on this server descends from.
    let config = format!("{}/sshd_config", own.home("deploy").parent().unwrap().parent().unwrap().display());
    let listens = |words: &str| words.contains("sshd") && words.contains(&config) && !words.starts_with("unshare");
    kill_one(processes().find(|(_, words)| listens(words)).expect("the server runs").0);
    for client in clients {
        let said = client.ended();
        assert!(said.code == Some(255) && said.stderr.contains("keyward: the "), "{said:?}");
    }
    scene.nothing_is_left();
    scene.keyward.expect_log("upstream_unreachable");
    let said = scene.tools.run(SshWay::Plus, &[], "echo in");
    assert!(said.refused().contains("the server behind this connection cannot be reached"), "{said:?}");
}

#[test]
fn what_a_killed_keyward_left_open_ends_there_and_is_closed_in_the_record_at_the_next_start() {
    let scene = SshScene::new(sshd());
    let begun = SshWay::THROUGH.map(|way| scene.begin(way, &["-tt"], "sleep 1000"));
    scene.keyward.kill9();
    for (client, there) in &begun {
        assert_eq!(client.ended().code, Some(255));
        there.until_gone();
    }
    let again = scene.keyward.start_again();
    let closed = again.until_audit("closed", 2);
    assert!(closed.iter().all(|record| record["outcome"] == "crashed"), "{closed:?}");
    let ids = |event: &str| -> Vec<_> {
        let mut ids: Vec<String> = again.until_audit(event, 2).iter().map(|record| record["session"].to_string()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids("opened"), ids("closed"));
}

#[test]
fn a_killed_session_says_why_whatever_it_is_doing() {
    let scene = SshScene::new(sshd());
    for way in SshWay::THROUGH {
        for (options, program) in [(&["-tt"][..], "bash --norc"), (&["-T"], "cat"), (&["-T"], "yes some text"), (&["-tt"], "yes some text")]
        {
            let (client, there) = scene.begin(way, options, program);
            let id = scene.sessions().pop().unwrap();
            scene.kill_sessions();
            let said = client.ended();
            assert_eq!(said.code, Some(255), "{way:?} {program}");
            told(&said.stderr, &format!("{KILLED}{id})"));
            there.until_gone();
        }
    }
    assert_eq!(scene.until_ended(8), ["killed"; 8]);
    scene.nothing_is_left();
}

#[test]
fn every_session_of_one_connection_says_why_it_ends() {
    let scene = SshScene::new(sshd());
    for way in SshWay::THROUGH {
        let script = "cd $HOME; $SSH -MNf -S ./control $HOST; for n in 1 2 3; do $SSH -S ./control $HOST 'echo begun; sleep 20' 2>err-$n >out-$n & W=\"$W $!\"; done
            for n in 1 2 3; do while [ ! -s out-$n ]; do sleep 0.05; done; done; echo ready; read line
            wait $W; cat err-1 err-2 err-3";
        let client = SshRunning::start(&scene.tools.script(way, script, &[]));
        client.until_printed("ready");
        scene.kill_sessions();
        client.say("");
        let said = client.ended();
        assert_eq!(said.stdout.matches(KILLED).count(), 3, "{said:?}");
    }
    scene.nothing_is_left();
}

#[test]
fn a_session_whose_client_takes_nothing_can_be_killed() {
    let scene = SshScene::new(sshd());
    for way in SshWay::THROUGH {
        let mut ssh = scene.tools.ssh();
        // Whoever reads its output has stopped: the words come beside it, on its standard error.
        let unread = SshRunning::start_unread(ssh.args([way.host(), "echo begun >&2; yes some text"]));
        unread.until_complained("begun");
        let (stopped, there) = scene.begin(way, &[], "yes some text");
        stopped.signal(Signal::STOP);
        scene.kill_sessions();
        there.until_gone();
        scene.nothing_is_left();
        told(&unread.ended().stderr, KILLED);
        stopped.signal(Signal::CONT);
        assert_eq!(stopped.ended().code, Some(255));
    }
    assert_eq!(scene.outcomes(), ["killed"; 4]);
}

#[test]
fn what_keeps_an_idle_connection_alive_is_no_content() {
    let scene = SshScene::with(sshd(), own_limits("idle_timeout: 8s"));
    for way in SshWay::THROUGH {
        let (idle, there) = scene.begin(way, &ALIVE, "cat");
        let (works, _) = scene.begin(way, &ALIVE, "cat");
        let said = loop {
            works.say("still here");
            if idle.is_over() {
                break idle.ended();
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
        };
        told(&said.stderr, "keyward: the session was idle for too long (session ");
        there.until_gone();
        works.say("to the end");
        works.until_printed("to the end");
        works.close_stdin();
        assert_eq!(works.ended().code, Some(0));
    }
    assert_eq!(scene.until_ended(4).iter().filter(|outcome| *outcome == "idle").count(), 2);
    scene.nothing_is_left();
}

#[test]
fn a_session_at_its_longest_life_is_ended_in_the_middle_of_what_it_says() {
    let scene = SshScene::with(sshd(), own_limits("max_lifetime: 8s"));
    for way in SshWay::THROUGH {
        // Not `yes`: what that says in so long would have to be kept.
        let running = scene.start(way, &[], "echo begun; while echo some text; do sleep 0.01; done");
        running.until_printed("begun\nsome text\n");
        let said = running.ended();
        told(&said.stderr, "keyward: the session reached its longest lifetime (session ");
        assert!(said.stdout.starts_with("begun\nsome text\n"), "{:?}", said.stdout.get(..100));
    }
    assert_eq!(scene.until_ended(2), ["lifetime"; 2]);
    scene.nothing_is_left();
}

#[test]
fn a_drain_lets_sessions_end_by_themselves_and_ends_the_others_with_words() {
    let scene = SshScene::with(sshd(), limited("drain_timeout: 10s"));
    let alone = SshRunning::start(scene.tools.ssh().args(["-N", "-v", "jump"]));
    alone.until_complained("Entering interactive session");
    let [quick, slow, jump] = [SshWay::Plus, SshWay::Plus, SshWay::Jump].map(|way| scene.begin(way, &[], "cat"));
    scene.keyward.sigterm();
    let words = "keyward: keyward is shutting down; connect again (session ";
    let idle = alone.ended();
    assert!(idle.stderr.contains(words), "a jump without sessions has nothing to wait for: {idle:?}");
    assert!(scene.outcomes().is_empty(), "{:?}", scene.outcomes());
    quick.0.say("the last word");
    quick.0.until_printed("the last word");
    quick.0.close_stdin();
    assert_eq!(quick.0.ended().code, Some(0));
    for (client, there) in [slow, jump] {
        told(&client.ended().stderr, words);
        there.until_gone();
    }
    assert!(scene.keyward.until_ended().success());
    let mut outcomes = scene.outcomes();
    outcomes.sort();
    assert_eq!(outcomes, ["client", "drain", "drain"]);
}

/// carol, who may do all that alice may, until a reload.
struct Carol(SshKey);

impl Carol {
    fn plan(&self) -> SshPlan {
        SshPlan {
            users: format!("  carol: {{ public_keys: [\"{}\"] }}\n", self.0.public()),
            rules: format!("  - {{ allow: [carol], connections: [web-1], {ALL_CHANNELS} }}\n"),
            ..SshPlan::default()
        }
    }

    /// Options by which OpenSSH's client is hers, on the way without a jump.
    fn options(&self) -> Vec<String> {
        vec!["-o".to_owned(), "User=carol+web-1+deploy".to_owned(), "-i".to_owned(), self.0.file().display().to_string()]
    }
}

#[test]
fn a_reload_that_withdraws_a_user_or_a_rule_ends_those_sessions_and_no_others() {
    let carol = Carol(SshKey::new());
    for withdrawn in ["user", "rule"] {
        let scene = SshScene::with(sshd(), carol.plan());
        let options = carol.options();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let (hers, there) = scene.begin(SshWay::Plus, &options, "cat");
        let others = SshWay::THROUGH.map(|way| scene.begin(way, &[], "cat").0);
        scene.reload(|plan| {
            plan.rules.clear();
            if withdrawn == "user" {
                plan.users.clear();
            }
        });
        told(&hers.ended().stderr, "keyward: the permission for this session was withdrawn (session ");
        there.until_gone();
        for other in others {
            other.say("still here");
            other.until_printed("still here");
            other.close_stdin();
            assert_eq!(other.ended().code, Some(0));
        }
        let mut outcomes = scene.until_ended(3);
        outcomes.sort();
        assert_eq!(outcomes, ["client", "client", "withdrawn"]);
        scene.tools.run(SshWay::Plus, &options, "echo in").refused();
    }
}

#[test]
fn a_key_that_is_withdrawn_opens_nothing_new() {
    let carol = Carol(SshKey::new());
    let scene = SshScene::with(sshd(), carol.plan());
    let options = carol.options();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let (hers, _) = scene.begin(SshWay::Plus, &options, "cat");
    scene.reload(|plan| {
        plan.users = format!("  carol: {{ public_keys: [\"{}\"] }}\n", SshKey::new().public());
    });
    scene.tools.run(SshWay::Plus, &options, "echo in").refused();
    // Who is in stays in: what he may do is as it was.
    hers.say("still here");
    hers.until_printed("still here");
    hers.close_stdin();
    assert_eq!(hers.ended().code, Some(0));
}

#[test]
fn sessions_are_limited_per_user_and_per_connection_and_so_are_jumps() {
    for (rest, connection) in [("sessions_per_user: 1", ""), ("sessions: 1", ""), ("sessions: 100", "limits: { max_sessions: 1 }")] {
        let scene = SshScene::with(sshd(), SshPlan { connection: connection.to_owned(), ..limited(rest) });
        let mut ended = 0;
        for way in SshWay::THROUGH {
            let (client, _) = begin_in_turn(&scene, way, &[], "cat");
            for second in SshWay::THROUGH {
                let said = scene.tools.run(second, &[], "echo in");
                assert!(said.refused().contains(BUSY), "{rest} {connection} {second:?}: {said:?}");
            }
            client.close_stdin();
            assert_eq!(client.ended().code, Some(0));
            ended += 1;
            scene.until_ended(ended);
            eventually("there is a place again", || (scene.tools.run(way, &[], "echo in").code == Some(0)).then_some(()));
            ended += 1;
        }
    }
}

#[test]
fn a_jump_is_idle_when_nothing_goes_through_it() {
    let scene = SshScene::with(sshd(), limited("idle_timeout: 10s"));
    let (jump, inside) = scene.shared_jump(&ALIVE);
    let (works, _) = scene.begin(SshWay::Jump, &["-o", &inside], "cat");
    let begun = std::time::Instant::now();
    while begun.elapsed() < std::time::Duration::from_secs(15) {
        works.say("still here");
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(!works.is_over() && !jump.is_over(), "{works:?} {jump:?}");
    }
    works.close_stdin();
    assert_eq!(works.ended().code, Some(0));
    let said = jump.ended();
    assert!(said.stderr.contains("keyward: the session was idle for too long (session "), "{said:?}");
}

/// A jump whose client has stopped while the session inside it says all that it can.
fn stopped_jump(scene: &SshScene<'_>) -> [SshRunning; 2] {
    let (jump, inside) = scene.shared_jump(&["-o", &scene.slow_line(100_000_000)]);
    let (client, _) = scene.begin(SshWay::Jump, &["-o", &inside], "yes some text");
    jump.signal(Signal::STOP);
    [jump, client]
}

#[test]
fn a_jump_whose_client_takes_nothing_gives_its_place_back_once_its_session_has_ended() {
    // More than two clients take to start: until the session is there, the jump is idle.
    let scene = SshScene::with(sshd(), limited("sessions_per_user: 1, idle_timeout: 8s"));
    let _stopped = stopped_jump(&scene);
    // Idle, and then the time that a client has to show and to take what it is told.
    scene.keyward.until_audit_within(std::time::Duration::from_secs(60), "closed", 1);
    assert_eq!(scene.outcomes(), ["idle"]);
    let is_in = || scene.tools.run(SshWay::Jump, &[], "echo in").code == Some(0);
    within(std::time::Duration::from_secs(60), "there is a place again", || is_in().then_some(()));
}

#[test]
fn a_jump_whose_client_takes_nothing_does_not_hold_up_a_drain() {
    let scene = SshScene::with(sshd(), limited("drain_timeout: 1s"));
    let [jump, client] = stopped_jump(&scene);
    // A drain that has to cut a link warns, and so fails this test.
    scene.keyward.sigterm();
    assert!(scene.keyward.until_ended().success());
    assert_eq!(scene.outcomes(), ["drain"]);
    jump.signal(Signal::CONT);
    assert_eq!([jump, client].map(|client| client.ended().code), [Some(255); 2]);
}
