//! Strict key exchange where the file requires it: of clients, and of a server. Without that, see `ssh_clients` and `ssh_upstream`.

use std::process::Command;

use crate::bed::{Asyncssh, Caller, SOON, SshPlan, SshScene, SshWay, canary, installed, run, sshd};

/// The key exchange alone. What the server said at the end is in paramiko's log.
const BEGIN: &str = "
import logging, socket, sys, paramiko
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
transport = paramiko.Transport(socket.create_connection(('127.0.0.1', int(sys.argv[1]))), strict_kex=sys.argv[2] == 'strict')
try:
    transport.start_client(timeout=20)
    print('begun, strict' if transport.agreed_on_strict_kex else 'begun')
except Exception as error:
    print(error)
";

#[test]
fn a_client_that_does_not_know_it_is_told_and_no_other_is_kept_out() {
    let scene = SshScene::with(sshd(), SshPlan { listener: "strict_kex: required".to_owned(), ..SshPlan::default() });
    let begins = |knows: &str| {
        let mut python = Command::new(installed("python").join("bin/python"));
        python.args(["-c", BEGIN, &scene.port().to_string(), knows]);
        run(python, "", SOON).ok().to_owned()
    };
    let begun = begins("strict");
    assert!(begun.contains("begun, strict"), "{begun}");
    let told = begins("without");
    assert!(told.contains("strict key exchange is needed here"), "{told}");
    let counted = "keyward_refusals_total{protocol=\"ssh\",refusal=\"unsupported\",party=\"client\",stage=\"open\"} 1\n";
    let metrics = scene.keyward.http("/metrics").body;
    assert!(metrics.contains(counted), "{metrics}");
    for way in SshWay::THROUGH {
        Caller::new(&scene, "alice").key(scene.alice.file()).is_in(way);
    }
}

#[test]
fn a_server_that_does_not_know_it_is_not_reached_and_why_is_in_the_log() {
    let password = canary();
    let server = Asyncssh::start("not_strict", &password);
    let plan = SshPlan { connection: format!("{}, strict_kex: required", server.place()), ..SshPlan::default() };
    let scene = SshScene::with(sshd(), plan);
    scene.kv.put("deploy", &[("username", "robot"), ("password", &password), ("key", "")]);
    scene.keyward.expect_log("the peer does not know strict key exchange");
    let said = Caller::new(&scene, "alice").key(scene.alice.file()).is_out(SshWay::Plus);
    assert!(said.contains("keyward: the server behind this connection cannot be reached"), "{said}");
    scene.keyward.until_logged("why", |line| line.to_string().contains("the peer does not know strict key exchange"));
    assert_eq!(server.tried(), Vec::<String>::new());
}
