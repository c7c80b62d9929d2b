//! What a rule allows over SSH, and what it does not: by its channels, one at a time, and as rules change.

use crate::bed::{SshAsks, SshPlan, SshScene, SshWay, SshWilful, eventually, free_port, run, sshd};

const LONG: std::time::Duration = std::time::Duration::from_secs(60);

fn allowed(channels: &str) -> SshPlan {
    SshPlan { rule: if channels.is_empty() { String::new() } else { format!("channels: [{channels}]") }, ..SshPlan::default() }
}

/// What ssh does with each permission: its name, lines of bash that print `works` if it was allowed, and what ssh shows if it was not.
const USES: [(&str, &str, &str); 9] = [
    ("shell", "echo 'echo works' | $SSH -T $HOST", "keyward: shell is not allowed here (session "),
    ("exec", "$SSH $HOST 'echo works'", "keyward: exec is not allowed here (session "),
    ("sftp", "echo 'pwd' | sftp -F $CONFIG -b - $HOST | grep -q working && echo works", "keyward: sftp is not allowed here (session "),
    (
        "local-forward",
        "printf 'x' | $SSH -o LogLevel=INFO -W 127.0.0.1:$SSHD_PORT $HOST | grep -a -q SSH-2.0 && echo works",
        "administratively prohibited: keyward: local-forward is not allowed here",
    ),
    (
        "local-forward",
        "$SSH -MNf -S ./c -o LogLevel=INFO -E log -L 127.0.0.1:$P:$HOME_THERE/none $HOST; cat < /dev/tcp/127.0.0.1/$P; $SSH -S ./c -O exit $HOST 2>/dev/null
cat log >&2; grep -q 'connect failed: open failed' log && echo works",
        "administratively prohibited: keyward: local-forward is not allowed here",
    ),
    (
        "remote-forward",
        "$SSH -MNf -S ./c $HOST && $SSH -S ./c -O forward -R 0:127.0.0.1:1 $HOST > port && grep -q '^[0-9]' port && echo works; $SSH -S ./c -O exit $HOST 2>/dev/null",
        "remote port forwarding failed",
    ),
    (
        "remote-forward",
        "$SSH -MNf -S ./c $HOST; $SSH -S ./c -O forward -R $HOME_THERE/socket:127.0.0.1:1 $HOST; test -S $HOME_THERE/socket && echo works; $SSH -S ./c -O exit $HOST 2>/dev/null",
        "remote port forwarding failed",
    ),
    ("agent", "eval $(ssh-agent) >/dev/null; trap 'kill $SSH_AGENT_PID' EXIT; $SSH -A -o IdentityAgent=$SSH_AUTH_SOCK $HOST 'test -S \"$SSH_AUTH_SOCK\" && echo works'", "keyward: agent is not allowed here (session "),
    (
        "x11",
        "DISPLAY=127.0.0.1:9 $SSH -o LogLevel=INFO -Y $HOST 'test -n \"$DISPLAY\" && echo works'",
        "keyward: x11 is not allowed here (session ",
    ),
];

/// Which of [`USES`] work; those that do not must say why.
fn uses(scene: &SshScene<'_>, way: SshWay, besides: &[&str]) -> Vec<&'static str> {
    let (port, free, there) = (scene.sshd.port().to_string(), free_port().to_string(), scene.sshd.folder_of("deploy"));
    let variables = [("SSHD_PORT", port.as_str()), ("P", free.as_str()), ("HOME_THERE", there.to_str().unwrap())];
    let mut works = Vec::new();
    for (permission, script, words) in USES {
        // The last two need a command that runs.
        let needs = ["agent", "x11"].contains(&permission);
        if needs && !besides.contains(&"exec") {
            continue;
        }
        let said = run(scene.tools.script(way, script, &variables), "", LONG);
        if said.stdout.contains("works") {
            works.push(permission);
        } else {
            assert!(said.stderr.contains(words), "{way:?} {permission}: {said:?}");
        }
    }
    works.dedup();
    works
}

#[test]
fn without_words_of_its_own_a_rule_allows_shells_commands_and_files() {
    let scene = SshScene::with(sshd(), allowed(""));
    for way in SshWay::THROUGH {
        assert_eq!(uses(&scene, way, &["exec"]), ["shell", "exec", "sftp"]);
    }
    scene.nothing_is_left();
}

#[test]
fn each_permission_allows_what_it_names_and_nothing_else() {
    for permission in ["shell", "exec", "sftp", "local-forward", "remote-forward"] {
        let scene = SshScene::with(sshd(), allowed(permission));
        assert_eq!(uses(&scene, SshWay::Plus, &[permission]), [permission]);
    }
    for permission in ["agent", "x11"] {
        let scene = SshScene::with(sshd(), allowed(&format!("exec, {permission}")));
        assert_eq!(uses(&scene, SshWay::Jump, &["exec"]), ["exec", permission]);
    }
}

#[test]
fn a_forward_that_is_refused_before_there_is_a_session_is_explained_on_the_first_one() {
    let scene = SshScene::with(sshd(), allowed("exec"));
    for way in SshWay::THROUGH {
        let said = run(scene.tools.script(way, "$SSH -o LogLevel=INFO -R 0:127.0.0.1:1 $HOST 'echo in'", &[]), "", LONG);
        assert_eq!(said.ok(), "in");
        for words in ["remote port forwarding failed", "keyward: remote-forward is not allowed here (session "] {
            assert!(said.stderr.contains(words), "{way:?}: {said:?}");
        }
    }
}

#[test]
fn several_rules_add_up() {
    let mut plan = allowed("exec");
    plan.rules = "  - { allow: [alice], connections: [\"web-*\"], channels: [local-forward] }\n  - { allow: [alice], connections: [payroll], channels: [sftp] }\n".to_owned();
    let scene = SshScene::with(sshd(), plan);
    assert_eq!(uses(&scene, SshWay::Plus, &["exec"]), ["exec", "local-forward"]);
}

#[test]
fn what_the_rule_says_of_channels_counts_from_the_reload_on() {
    let scene = SshScene::new(sshd());
    for way in SshWay::THROUGH {
        let script = "cd $HOME; eval $(ssh-agent) >/dev/null; trap 'kill $SSH_AGENT_PID' EXIT
            python3 -c 'import socket,sys
s = socket.create_server((\"127.0.0.1\", 0)); print(s.getsockname()[1], flush=True)
while True: c, _ = s.accept(); c.sendall(b\"hello\"); c.close()' > port & trap \"kill $! $SSH_AGENT_PID\" EXIT; while [ ! -s port ]; do sleep 0.05; done
            $SSH -A -o IdentityAgent=$SSH_AUTH_SOCK -o LogLevel=INFO -R 127.0.0.1:0:127.0.0.1:$(cat port) $HOST 2>log 'echo begun; read line; eval \"$line\"; echo 1st; read line; eval \"$line\"; echo 2nd; read line; eval \"$line\"; echo 3rd; read line'";
        let client = crate::bed::SshRunning::start(&scene.tools.script(way, &script.replace("2>log", "2> >(tee log >&2)"), &[]));
        client.until_printed("begun");
        client.until_complained("Allocated port ");
        let said = client.complained();
        let port: String = said.split("Allocated port ").nth(1).unwrap().chars().take_while(char::is_ascii_digit).collect();
        let ask = format!("ssh-add -l 2>&1; cat < /dev/tcp/127.0.0.1/{port}");
        client.say(&ask);
        client.until_printed("The agent has no identities.\nhello1st\n");
        scene.reload(|plan| plan.rule.clear());
        client.say(&ask);
        client.until_printed("2nd\n");
        scene.reload(|_| ());
        client.say(&ask);
        client.until_printed("The agent has no identities.\nhello3rd\n");
        client.say("");
        let said = client.ended();
        assert_eq!(said.stdout.matches("hello").count(), 2, "{said:?}");
        assert_eq!(said.stdout.matches("The agent has no identities.").count(), 2, "{said:?}");
    }
    scene.nothing_is_left();
}

#[test]
fn replies_keep_their_order_where_one_of_them_is_a_refusal() {
    let scene = SshScene::with(sshd(), allowed("shell"));
    let asks = SshAsks::plus(&scene);
    let said = asks.ask("pipelined exec env:LC_A shell");
    assert_eq!(said, "no yes yes", "the answer of the refused request does not overtake, and nobody waits for it in vain");
    let said = asks.ask("pipelined env:LC_A env:HOME sftp tun@openssh.com exec env:LC_B shell");
    assert_eq!(said, "yes no no no no yes yes");
}

#[test]
fn what_nobody_named_is_refused() {
    let scene = SshScene::new(sshd());
    let asks = SshAsks::plus(&scene);
    for kind in [
        "tun@openssh.com",
        "made-up",
        "session ",
        "SESSION",
        "session\0",
        "direct-tcpip\n",
        "x11",
        "auth-agent@openssh.com",
        "forwarded-tcpip",
    ] {
        let said = asks.ask(&format!("open {kind:?}"));
        assert_eq!(said, "refused 1", "{kind:?}");
    }
    for request in ["hostkeys-prove-00@openssh.com", "made-up", "tcpip-forward\0", "hostkeys-00@openssh.com"] {
        assert_eq!(asks.ask(&format!("global {request:?}")), "no", "{request:?}");
    }
    assert_eq!(asks.ask("forward \"127.0.0.1\""), "yes");
    assert_eq!(asks.ask("forward \"127.0.0.1\\n\""), "no", "an address that one reads so and another reads so");
    for request in ["made-up", "exec\0", "eow", "simple@putty.projects.tartarus.org", "exit-status"] {
        assert_eq!(asks.ask(&format!("request {request:?}")), "no", "{request:?}");
    }
    drop(asks);
    let others = || -> Vec<_> {
        let audit = scene.keyward.audit().into_iter();
        audit.filter(|record| record["event"] == "used" && record["what"] == "other").collect()
    };
    eventually("each of them is on record", || (others().len() >= 9).then_some(()));
    let others = others();
    assert_eq!(others.len(), 9, "{others:#?}");
    assert!(others.iter().all(|record| record["outcome"] == "refused" && record["name"].is_string()), "{others:#?}");
    assert!(others.iter().any(|record| record["name"] == "session\\u{0}"), "{others:#?}");
}

#[test]
fn the_servers_host_keys_do_not_reach_the_client() {
    let scene = SshScene::new(sshd());
    let heard = |way| {
        let said = scene.tools.run(way, &["-vvv", "-o", "UpdateHostKeys=yes"], "sleep 0.3; echo in");
        assert_eq!(said.ok(), "in");
        said.stderr.contains("hostkeys-00@openssh.com")
    };
    assert!(heard(SshWay::Direct), "sshd says which keys it has");
    assert!(!SshWay::THROUGH.map(heard).contains(&true));
    let known = std::fs::read_to_string(scene.tools.folder().join("known_hosts")).unwrap();
    assert_eq!(known.lines().count(), 3, "{known}");
}

#[test]
fn a_server_opens_only_what_its_client_has_asked_for() {
    let server = SshWilful::start();
    let scene = SshScene::with(
        sshd(),
        SshPlan {
            connections: server.connection("wilful"),
            rules: format!("  - {{ allow: [alice], connections: [wilful], {} }}\n", crate::bed::ALL_CHANNELS),
            ..SshPlan::default()
        },
    );
    let ask = |options: &[&str]| {
        let wilful = ["-o", "User=alice+wilful", "-o", "LogLevel=VERBOSE"];
        let said = scene.tools.run(SshWay::Plus, &[&wilful, options].concat(), "try");
        assert_eq!(said.code, Some(0), "{said:?}");
        said
    };
    let nothing = ask(&["-vvv", "-o", "UpdateHostKeys=yes"]);
    let heard = |name: &str| nothing.stderr.contains(&format!("rtype {name}"));
    assert!(heard("keepalive@openssh.com") && !heard("made-up") && !heard("hostkeys"), "{nothing:?}");
    let nothing = nothing.stdout;
    for kind in ["x11", "auth-agent@openssh.com", "forwarded-tcpip", "session", "direct-tcpip", "made-up"] {
        assert!(nothing.contains(&format!("{kind}: refused 1\n")), "{nothing}");
    }
    assert_eq!(nothing.matches(" asked: no\n").count(), 3, "{nothing}");
    let by_server = || -> Vec<String> {
        let used = scene.keyward.audit().into_iter().filter(|record| record["event"] == "used" && record["by"] == "server");
        used.map(|record| format!("{} {} {}", record["what"], record["name"], record["outcome"]).replace('"', "")).collect()
    };
    let recorded = eventually("all that it wanted is on record", || Some(by_server()).filter(|used| used.len() >= 6));
    let (named, others) =
        (["x11", "agent", "remote-forward"].map(|what| format!("{what} null refused")), ["session", "direct-tcpip", "made-up"]);
    assert_eq!(recorded, [named, others.map(|name| format!("other {name} refused"))].concat());
    let agent = ask(&["-A", "-o", &format!("IdentityAgent={}", crate::bed::SecurityKey::new().socket().display())]).stdout;
    assert!(agent.contains("auth-agent@openssh.com: open\n") && agent.contains("x11: refused 1"), "{agent}");
}
