//! What is in the memory of a running Keyward, and who may look there: root, and nobody else of its user.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::{FileExt, MetadataExt, chown};
use std::process::{Command, Stdio};

use crate::bed::{
    Asyncssh, Caller, Config, Keyward, Method, Psql, Server, SshPlan, SshRunning, SshScene, SshWay, bao, canary, eventually, postgres15,
    scratch, skipped, sshd,
};

/// What to look for.
enum Secret<'a> {
    /// Any password that OpenBao has made, or the most of it.
    Issued,
    This(&'a str),
}

/// Letters in a row that only a password has which OpenBao has made.
const RUN: usize = 24;

impl Secret<'_> {
    /// The letter before each copy and the one behind it.
    fn around(&self, memory: &[u8]) -> Vec<(u8, u8)> {
        let (letters, least) = match self {
            Self::Issued => (b"QZ7".as_slice(), RUN),
            Self::This(text) => (text.as_bytes(), text.len()),
        };
        let is_one: Vec<bool> = (0..=u8::MAX).map(|byte| letters.contains(&byte)).collect();
        let is_one = |at: usize| memory.get(at).is_some_and(|byte| is_one[usize::from(*byte)]);
        let mut found = Vec::new();
        let mut at = 0;
        while at < memory.len() {
            // No copy lies between two such steps.
            if !is_one(at) {
                at += least;
                continue;
            }
            let (mut start, mut end) = (at, at + 1);
            while start > 0 && is_one(start - 1) {
                start -= 1;
            }
            while is_one(end) {
                end += 1;
            }
            let edge = |at: Option<usize>| at.and_then(|at| memory.get(at)).copied().unwrap_or_default();
            let run = &memory[start..end];
            match self {
                Self::Issued if run.len() >= RUN => found.push((edge(start.checked_sub(1)), edge(Some(end)))),
                Self::This(text) if run.len() >= text.len() => {
                    let starts = run.windows(text.len()).enumerate().filter(|(_, part)| *part == text.as_bytes());
                    found.extend(starts.map(|(more, _)| (edge((start + more).checked_sub(1)), edge(Some(start + more + text.len())))));
                }
                Self::Issued | Self::This(_) => {}
            }
            at = end + least;
        }
        found
    }

    /// How many copies of it Keyward has, beside the store's own answer as the HTTP library read it, which wipes nothing: in that it is a JSON
    /// string, of which one end may have been overwritten since.
    fn copies(&self, keyward: &Keyward) -> usize {
        let maps = fs::read_to_string(format!("/proc/{}/maps", keyward.pid())).unwrap();
        let memory = File::open(format!("/proc/{}/mem", keyward.pid())).unwrap();
        let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
        let mut copies = 0;
        for line in maps.lines().filter(|line| line.contains(" rw")) {
            let (start, end) = line.split(' ').next().and_then(|range| range.split_once('-')).unwrap();
            let mut bytes = vec![0; usize::try_from(number(end) - number(start)).unwrap()];
            // What was given back meanwhile holds nothing.
            if memory.read_exact_at(&mut bytes, number(start)).is_ok() {
                copies += self.around(&bytes).into_iter().filter(|around| around.0 != b'"' && around.1 != b'"').count();
            }
        }
        copies
    }
}

/// Whether we may look into the memory of a process that is not dumpable.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skipped("root, who alone can look into such a process");
    }
    root
}

#[track_caller]
fn nothing_is_kept(what: &str, secret: &Secret<'_>, keyward: &Keyward) {
    eventually(&format!("no copy is kept: {what}"), || (secret.copies(keyward) == 0).then_some(()));
}

#[test]
fn copies_are_found_wherever_they_lie() {
    let text = "canary0123456789";
    for before in 0..100 {
        let with =
            |secret: &str, quote: &str| [&vec![0; before], quote.as_bytes(), secret.as_bytes(), quote.as_bytes(), &[0; 100]].concat();
        assert_eq!(Secret::This(text).around(&with(text, "\"")), [(b'"', b'"')], "{before}");
        assert_eq!(Secret::This(text).around(&with(&format!("{text}c"), "")).len(), 1, "{before}");
        assert_eq!(Secret::Issued.around(&with(&"QZ7".repeat(8), " ")), [(b' ', b' ')], "{before}");
        assert!(Secret::This(text).around(&with("canary", "")).is_empty() && Secret::Issued.around(&with("QZ7", "")).is_empty());
    }
}

#[test]
fn after_a_login_to_postgres_keyward_has_no_copy_of_its_own_of_a_password_that_it_does_not_cache() {
    if !is_root() {
        return;
    }
    let (database, kv, alice) = (bao().enable_database(postgres15(), "1h", "2h"), bao().mount_kv2(), canary());
    // Asked for as it is.
    let app = postgres15().login(Method::Cleartext);
    kv.put("orders", &[("username", &app.name), ("password", &app.password)]);
    let (creds, path) = (database.creds(), kv.path("orders"));
    let body =
        |credential: &str| format!("address: \"{}\", database: postgres, store: corp, credential: {credential}", postgres15().address());
    let config = Config::new().store_with("corp", bao(), &bao().approle(&[&creds, &path]), "cache_ttl: 0");
    let config = config.connection("orders", &body(&path)).connection("orders_rw", &body(&creds));
    let keyward = Keyward::start(&config.user("alice", &alice).allow("alice", "*"));
    let clients = ["orders", "orders_rw"].map(|connection| Psql::open(&keyward.dsn("alice", &alice, connection)));
    assert_eq!(clients[0].ask("SELECT current_user"), app.name);
    assert!(clients[1].ask("SELECT current_user").starts_with("v-"));
    nothing_is_kept("a dynamic one", &Secret::Issued, &keyward);
    nothing_is_kept("one that was read", &Secret::This(&app.password), &keyward);
    clients.into_iter().for_each(|client| assert_eq!(client.end(), ""));
}

#[test]
fn after_a_login_to_ssh_keyward_has_no_copy_of_its_own_of_a_dynamic_password_and_none_of_the_users() {
    if !is_root() {
        return;
    }
    let (server, database) = (Asyncssh::start("lasts", ""), bao().enable_database(postgres15(), "1h", "2h"));
    let plan = SshPlan {
        connection: server.place(),
        accounts: format!(", leased: {{ credential: {} }}", database.creds()),
        rules: "  - { allow: [alice], connections: [web-1], accounts: [leased], channels: [exec] }\n".to_owned(),
        paths: vec![database.creds()],
        ..SshPlan::default()
    };
    let scene = SshScene::with(sshd(), plan);
    let alice = Caller::new(&scene, "alice").types(&scene.password).to("web-1", Some("leased"));
    let client = SshRunning::start(alice.ssh(SshWay::Plus).arg("anything"));
    client.until_printed("in as v-");
    nothing_is_kept("a dynamic one", &Secret::Issued, &scene.keyward);
    nothing_is_kept("the user's", &Secret::This(&scene.password), &scene.keyward);
    client.close_stdin();
    client.ended();
}

#[test]
fn nobody_else_of_its_user_looks_into_a_process_that_holds_secrets() {
    // A store that never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    silent.set_nonblocking(true).unwrap();
    let folder = scratch("not-dumpable");
    let (state, file, program) = (folder.join("state"), folder.join("keyward.yaml"), folder.join("keyward"));
    let text = format!(
        "state: {}\nlisteners: [{{ protocol: postgres, address: \"127.0.0.1:0\" }}]\n\
         stores: {{ corp: {{ type: vault, address: \"http://{}\", auth: {{ method: token, token: t }} }} }}\n\
         connections: {{ db: {{ protocol: postgres, address: \"127.0.0.1:1\", store: corp, credential: kv/x }} }}\n",
        state.display(),
        silent.local_addr().unwrap()
    );
    fs::write(&file, text).unwrap();
    // By another process: a child that another test has just forked would hold ours open for writing, and then nobody can start it.
    assert!(Command::new("cp").args([env!("CARGO_BIN_EXE_keyward").as_ref(), program.as_os_str()]).status().unwrap().success());
    // What root runs is root's in any case.
    let is_root = rustix::process::geteuid().is_root();
    let nobody: &[&str] = if is_root { &["--reuid=65534", "--regid=65534", "--clear-groups"] } else { &[] };
    if is_root {
        chown(&folder, Some(65_534), None).unwrap();
    }
    for arguments in [&["run"][..], &["check"], &["policy", "corp"], &["secret", "list", "corp:kv"]] {
        // What another one has asked.
        while silent.accept().is_ok() {}
        let mut command = Command::new(&program);
        command.args(arguments).env("KEYWARD_CONFIG", &file).env("HOME", &folder).env("VAULT_TOKEN", "t").env_remove("BAO_TOKEN");
        let server = Server::start(&command, "KILL", nobody, [Stdio::null(), Stdio::null(), Stdio::null()]);
        eventually(&format!("{arguments:?} is at work"), || match arguments {
            ["run"] => state.join("leases.journal").exists().then_some(()),
            _ => silent.accept().is_ok().then_some(()),
        });
        // The kernel gives them to root where a process is not dumpable (proc(5)): then its memory is root's to read, too.
        let owner = fs::metadata(format!("/proc/{}/environ", server.child().id())).unwrap().uid();
        assert_eq!(owner, 0, "{arguments:?}");
    }
}
