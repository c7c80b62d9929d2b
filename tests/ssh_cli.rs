//! What operators and users type around SSH: `keyward trust`, `keyward ssh-config`, `keyward check`, `keyward sessions`.

use std::fs;
use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::bed::{Config, SshKey, SshPlan, SshScene, Sshd, eventually, free_port, run, scratch, sshd};

const LONG: Duration = Duration::from_secs(60);

/// alice may also reach `Big-1`, which is sshd, and `farm`, a group of sshd and of a pattern; both as `only`.
fn farm(key: &SshKey, sshd: &Sshd) -> SshPlan {
    sshd.authorize("deploy", &key.public());
    let account =
        format!("{{ username: {{ literal: {} }}, private_key: {{ file: {} }} }}", sshd.login("deploy").name, key.file().display());
    let hosts = format!("[\"{}\", \"web-*.test.internal\"]", sshd.address());
    let rest = format!("protocol: ssh, host_keys: [\"{}\"], accounts: {{ only: {account} }}", sshd.host_key());
    let connections = format!("  farm: {{ hosts: {hosts}, {rest} }}\n  Big-1: {{ address: \"{}\", {rest} }}\n", sshd.address());
    SshPlan { connections, rules: "  - { allow: [alice], connections: [farm, Big-1] }\n".to_owned(), ..SshPlan::default() }
}

/// The binary without a process of its own.
fn keyward(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    command.args(arguments).current_dir(scratch("cli")).env_remove("KEYWARD_CONFIG");
    command
}

/// The lines that are no comments.
fn pasted(said: &str) -> Vec<String> {
    said.lines().filter(|line| !line.starts_with('#')).map(ToOwned::to_owned).collect()
}

#[test]
fn what_trust_prints_makes_a_server_known() {
    let (ecdsa, rsa) = (SshKey::of(&["-t", "ecdsa", "-b", "384"], ""), SshKey::of(&["-t", "rsa", "-b", "3072"], ""));
    let own = Sshd::own(&format!("HostKey {}\nHostKey {}", ecdsa.file().display(), rsa.file().display()));
    let shown = run(keyward(&["trust", &format!("nobody@{}", own.address())]), "", LONG);
    let keys = format!("host_keys: [\"{}\", \"{}\", \"{}\"]", own.host_key(), ecdsa.public(), rsa.public());
    assert_eq!(pasted(shown.ok()), std::slice::from_ref(&keys));
    for key in [&ecdsa, &rsa] {
        assert!(shown.stdout.lines().any(|line| line.starts_with('#') && line.contains(&key.fingerprint())), "{shown:?}");
    }
    assert!(shown.stdout.contains("Compare the fingerprints over another way before you paste"), "{shown:?}");

    let scene = SshScene::with(&own, SshPlan { connection: keys, ..SshPlan::default() });
    assert_eq!(scene.tools.run(crate::bed::SshWay::Plus, &[], "echo in").ok(), "in");
    let by_name = scene.keyward.cli(&["trust", "web-1"]);
    assert_eq!(pasted(by_name.ok()), pasted(shown.ok()), "a connection of the file is asked at its address");
}

#[test]
fn trust_prints_the_authority_of_a_host_certificate_where_it_counts() {
    let authority = SshKey::new();
    for (names, counts) in [("127.0.0.1,web-1", true), ("elsewhere", false)] {
        let key = SshKey::new();
        key.certified_as_host_by(&authority, names, &[]);
        let own = Sshd::of(crate::bed::Release::Debian, key, "");
        let shown = run(keyward(&["trust", &own.address()]), "", LONG);
        let line = format!("host_ca: [\"{}\"]", authority.public());
        assert_eq!(pasted(shown.ok()).contains(&line), counts, "{shown:?}");
        assert!(shown.stdout.contains(&authority.fingerprint()), "{shown:?}");
        if counts {
            let scene = SshScene::with(&own, SshPlan { connection: line, ..SshPlan::default() });
            assert_eq!(scene.tools.run(crate::bed::SshWay::Plus, &[], "echo in").ok(), "in");
        }
    }
}

/// Some versions of dropbear end when they are asked for a kind of key that they have not.
#[test]
fn trust_prints_what_a_server_showed_before_it_gave_up() {
    let (shy, upstream) = (TcpListener::bind("127.0.0.1:0").unwrap(), sshd().port());
    let address = shy.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (client, _) = shy.accept().unwrap();
        let server = TcpStream::connect(("127.0.0.1", upstream)).unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let up = std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let _ = std::io::copy(&mut &server, &mut &client);
        let _ = client.shutdown(Shutdown::Both);
        drop(up.join());
        shy.incoming().for_each(drop);
    });
    let shown = run(keyward(&["trust", &address]), "", LONG);
    assert_eq!(pasted(shown.ok()), [format!("host_keys: [\"{}\"]", sshd().host_key())]);
    assert!(shown.stdout.contains("# Not shown: rsa-sha2-512, rsa-sha2-256 (the server: "), "{shown:?}");
}

#[test]
fn trust_says_why_there_is_nothing_to_print() {
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = web.local_addr().unwrap().to_string();
    std::thread::spawn(move || web.incoming().flatten().for_each(|mut client| drop(client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"))));
    let said = run(keyward(&["trust", &address]), "", LONG);
    assert!(said.code == Some(1) && said.refused().starts_with(&format!("keyward: {address}: ")), "{said:?}");
    let closed = format!("127.0.0.1:{}", free_port());
    let said = run(keyward(&["trust", &closed]), "", LONG);
    assert!(said.code == Some(1) && said.refused().contains("Connection refused"), "{said:?}");
    let said = run(keyward(&["trust", "no host at all"]), "", LONG);
    assert!(said.code == Some(2) && said.refused().contains("expected HOST"), "{said:?}");

    let folder = scratch("cli");
    let file = folder.join("keyward.yaml");
    let text = format!(
        "state: {}\nlisteners: [{{ protocol: ssh, address: '127.0.0.1:0' }}]\nstores: {{ environment: {{ type: env }} }}\n\
         connections: {{ web-1: {{ protocol: ssh, address: {{ secret: 'environment:WEB_1' }}, host_keys: ['{}'], \
         username: {{ literal: x }}, password: {{ literal: x }} }} }}\n",
        folder.join("state").display(),
        sshd().host_key()
    );
    std::fs::write(&file, text).unwrap();
    let said = run(keyward(&["trust", "web-1", "--config", &file.display().to_string()]), "", LONG);
    assert!(said.code == Some(2) && said.refused().contains("is in a store; name the server itself"), "{said:?}");

    let plan = farm(&SshKey::new(), sshd());
    let scene = SshScene::with(sshd(), plan);
    let said = scene.keyward.cli(&["trust", "farm"]);
    assert!(said.code == Some(2) && said.refused().contains("name one of them: 127.0.0.1, web-*.test.internal"), "{said:?}");
    let said = scene.keyward.cli(&["trust", "127.0.0.1"]);
    assert_eq!(pasted(said.ok()), [format!("host_keys: [\"{}\"]", sshd().host_key())], "a host of a group is asked at its port");
}

/// `ssh` with what Keyward printed, untouched, and what every user has besides.
struct Printed(std::path::PathBuf);

impl Printed {
    fn of(scene: &SshScene<'_>) -> Self {
        let folder = scratch("printed");
        let address = format!("127.0.0.1:{}", scene.port());
        let print =
            |more: &[&str]| scene.keyward.cli(&[&["ssh-config", "alice", "--address", &address], more].concat()).ok().to_owned() + "\n";
        fs::write(folder.join("printed"), print(&[])).unwrap();
        fs::write(folder.join("known_hosts"), print(&["--known-hosts"])).unwrap();
        let at = folder.display();
        let own = format!(
            "Include {at}/printed\nHost *\nUserKnownHostsFile {at}/known_hosts\nGlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\n\
             BatchMode yes\nIdentityFile {}\nIdentitiesOnly yes\nIdentityAgent none\nLogLevel ERROR\n",
            scene.alice.file().display()
        );
        fs::write(folder.join("config"), own).unwrap();
        Self(folder)
    }

    fn ssh(&self, arguments: &[&str]) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(self.0.join("config")).args(arguments);
        ssh
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }

    /// Whether ssh would go through Keyward for this name, and whether it would take Keyward's word for it.
    fn leads(&self, name: &str) -> (bool, bool) {
        let through = run(self.ssh(&["-G", name]), "", LONG).ok().lines().any(|line| line == "proxyjump keyward");
        let mut find = Command::new("ssh-keygen");
        find.args(["-F", name, "-f"]).arg(self.0.join("known_hosts"));
        (through, run(find, "", LONG).stdout.contains("@cert-authority"))
    }
}

#[test]
fn with_what_ssh_config_prints_ssh_needs_only_the_name() {
    let key = SshKey::new();
    let scene = SshScene::with(sshd(), farm(&key, sshd()));
    let printed = Printed::of(&scene);
    let (deploy, ops) = (&sshd().login("deploy").name, &sshd().login("ops").name);
    let ssh = |arguments: &[&str]| run(printed.ssh(arguments), "", LONG);
    assert_eq!(ssh(&["deploy@web-1", "id -un"]).ok(), deploy);
    assert_eq!(ssh(&["ops@web-1", "id -un"]).ok(), ops);
    assert_eq!(ssh(&["127.0.0.1", "id -un"]).ok(), deploy, "a server at another port than 22, whose only account needs no name");
    assert_eq!(ssh(&["-p", &sshd().port().to_string(), "127.0.0.1", "id -un"]).ok(), deploy, "who knows the port may say it");
    assert_eq!(ssh(&["Big-1", "id -un"]).ok(), deploy, "ssh asks for names in lower case");
    assert_eq!(ssh(&["only@big-1", "id -un"]).ok(), deploy);
    assert_eq!(ssh(&["-l", "alice+web-1+deploy", "keyward", "id -un"]).ok(), deploy);
    let several = ssh(&["web-1", "id -un"]);
    assert!(several.refused().contains("you may reach: web-1+deploy, web-1+ops"), "{several:?}");
    let config = printed.text("printed");
    assert!(config.contains("# web-1: as deploy, ops (ssh deploy@web-1)"), "{config}");
    assert!(config.contains("# 127.0.0.1: as only (ssh 127.0.0.1, ssh only@127.0.0.1)"), "{config}");
    scene.nothing_is_left();
}

#[test]
fn what_ssh_config_prints_is_about_what_the_user_may_reach_and_nothing_else() {
    let scene = SshScene::with(sshd(), farm(&SshKey::new(), sshd()));
    let printed = Printed::of(&scene);
    for name in ["web-1", "Big-1", "big-1", "127.0.0.1", "web-7.test.internal", "web-.test.internal"] {
        assert_eq!(printed.leads(name), (true, true), "{name}");
    }
    for name in ["payroll", "web-2", "keyward", "web-7.evil.test.internal", "web-7.test.internal.evil.example", "example.org"] {
        assert_eq!(printed.leads(name), (false, false), "{name}");
    }
    let all = printed.text("printed") + &printed.text("known_hosts");
    assert!(!all.contains("payroll") && !all.contains("PRIVATE"), "{all}");
    assert!(all.contains(&scene.host_key()) && all.contains(&scene.host_authority()), "{all}");
    let known = format!("[127.0.0.1]:{} {}", scene.port(), scene.host_key());
    assert!(printed.text("known_hosts").lines().any(|line| line == known), "{all}");

    let own = scene.keyward.cli(&["ssh-config", "alice", "--address", "127.0.0.1", "--name", "web-7.test.internal"]);
    fs::write(printed.0.join("printed"), own.ok()).unwrap();
    let way = run(printed.ssh(&["-G", "web-7.test.internal"]), "", LONG);
    assert!(
        way.ok().contains("hostname 127.0.0.1\n") && !way.stdout.contains("proxyjump"),
        "Keyward is not jumped to through itself: {way:?}"
    );

    let nobody = scene.keyward.cli(&["ssh-config", "nobody", "--address", "127.0.0.1"]);
    assert!(nobody.code == Some(2) && nobody.refused().contains("no user is called nobody"), "{nobody:?}");
    let taken = scene.keyward.cli(&["ssh-config", "alice", "--address", "127.0.0.1", "--name", "web-1"]);
    assert!(taken.code == Some(2) && taken.refused().contains("--name"), "{taken:?}");
}

#[test]
fn ssh_config_makes_the_keys_that_are_not_there_and_never_other_ones() {
    let folder = scratch("state");
    let (state, file) = (folder.join("state"), folder.join("keyward.yaml"));
    fs::DirBuilder::new().mode(0o700).create(&state).unwrap();
    let config = Config::new().only_listener("protocol: ssh, address: \"127.0.0.1:0\"").line(
        "connections:\n  web-1: { protocol: ssh, address: \"127.0.0.1:9\", insecure: a test, username: { literal: u }, password: { literal: p } }\n\
         users:\n  alice: { public_keys: [] }\naccess:\n  - { allow: [alice], connections: [web-1] }",
    );
    fs::write(&file, config.text(&state, Path::new("/nowhere"))).unwrap();
    let print = |more: &[&str]| {
        run(keyward(&[&["ssh-config", "alice", "-c", file.to_str().unwrap(), "--address", "keyward.example"], more].concat()), "", LONG)
    };
    assert!(print(&[]).ok().contains("Host web-1\n"), "{:?}", print(&[]));
    assert!(!state.join("ssh_host_ca").exists(), "what needs no keys makes none");
    let first = print(&["--known-hosts"]).ok().to_owned();
    let key = fs::read_to_string(state.join("ssh_host_ed25519_key.pub")).unwrap();
    let key: Vec<&str> = key.split_whitespace().take(2).collect();
    assert!(first.starts_with(&format!("keyward.example {}\n@cert-authority web-1 ssh-ed25519 ", key.join(" "))), "{first}");
    assert_eq!(print(&["--known-hosts"]).ok(), first);
}

#[test]
fn check_logs_in_to_every_host_of_a_group_and_names_trust_where_a_host_key_is_another() {
    let key = SshKey::new();
    let mut plan = farm(&key, sshd());
    let impostor = plan.connections.replace("Big-1:", "changed:").replace(&sshd().host_key(), &SshKey::new().public());
    let scene = SshScene::with(sshd(), plan.clone());
    let check = || {
        let said = scene.keyward.cli(&["check", "--format", "json"]);
        let rows = serde_json::from_str::<Value>(&said.stdout).expect("one JSON document")["results"].as_array().unwrap().clone();
        (said.code, rows)
    };
    let row =
        |rows: &[Value], name: &str| rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name}: {rows:#?}")).clone();
    let (code, rows) = check();
    assert_eq!(code, Some(0), "{rows:#?}");
    for name in ["web-1+deploy", "web-1+ops", "Big-1+only", "farm/127.0.0.1+only"] {
        let row = row(&rows, name);
        assert!(row["ok"] == true && row["detail"].as_str().unwrap().contains("verified by host_key"), "{row}");
    }
    let pattern = row(&rows, "farm/web-*.test.internal");
    assert!(pattern["ok"].is_null() && pattern["stage"] == "not tried", "{pattern}");

    plan.connections = impostor;
    plan.rules.clear();
    scene.rewrite(|change| *change = plan.clone());
    let (code, rows) = check();
    assert_eq!(code, Some(1), "{rows:#?}");
    for (name, trusted) in [("changed+only", "`keyward trust changed`"), ("farm/127.0.0.1+only", "`keyward trust 127.0.0.1`")] {
        let changed = row(&rows, name);
        assert!(changed["ok"] == false && changed["stage"] == "connect", "{changed}");
        assert!(changed["detail"].as_str().unwrap().contains(trusted), "{changed}");
    }
    let table = scene.keyward.cli(&["check"]);
    assert!(table.stdout.lines().any(|line| line.starts_with("FAILED") && line.contains("changed+only")), "{table:?}");
}

#[test]
fn sessions_shows_the_host_of_a_group() {
    let scene = SshScene::with(sshd(), farm(&SshKey::new(), sshd()));
    let mut ssh = scene.tools.ssh();
    let (port, key) = (scene.port().to_string(), scene.alice.file().display().to_string());
    ssh.args(["-p", &port, "-i", &key, "-l", "alice+127.0.0.1", "127.0.0.1", "cat"]);
    let mut child = ssh.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    eventually("the session is listed with its host", || {
        let table = scene.keyward.cli(&["sessions"]);
        table.ok().lines().any(|line| line.split_whitespace().any(|word| word == "farm/127.0.0.1")).then_some(())
    });
    let rows: Vec<Value> = serde_json::from_str(scene.keyward.cli(&["sessions", "--format", "json"]).ok()).unwrap();
    assert!(rows.len() == 1 && rows[0]["connection"] == "farm" && rows[0]["host"] == "127.0.0.1", "{rows:?}");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}
