//! What can be seen of a running Keyward from outside: nothing of its memory, but for root.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::process::{Command, Stdio};

use crate::bed::{Server, eventually, scratch};

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
    fs::copy(env!("CARGO_BIN_EXE_keyward"), &program).unwrap();
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
