//! Our client at an OpenSSH server.

use std::fs::Permissions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use keyward_ssh_transport::auth::client::{self, Client, Credentials};
use keyward_ssh_transport::sign::{Certified, Signer, generate_ed25519};
use keyward_ssh_transport::{ClientConfig, Role};

use crate::keys::{KEYS, Keys};
use crate::wire::Wire;
use crate::{PASSWORD, connected, is_root, own_sshd};

/// Whom sshd runs as where we may choose: it then has no need of a user of its own, nor of a folder to shut itself in. Not `nobody`, whose
/// account may be locked.
const DAEMON: &str = "daemon";

/// The machine's own server: a copy that anybody may start.
fn sshd(keys: &Keys) -> Option<PathBuf> {
    let binary = own_sshd()?;
    // By another process: a child that another test has just forked would hold ours open for writing, and then nobody can start it.
    assert!(Command::new("cp").arg(binary).arg(keys.path("sshd")).status().unwrap().success());
    std::fs::copy(keys.path("ed25519"), keys.path("host")).unwrap();
    std::fs::set_permissions(keys.path("host"), Permissions::from_mode(0o644)).unwrap();
    Some(keys.path("sshd"))
}

/// Who may log in: the server runs as this user, and cannot become another.
fn user() -> String {
    if is_root() { DAEMON.to_owned() } else { id(&["-un"]) }
}

fn id(arguments: &[&str]) -> String {
    String::from_utf8(Command::new("id").args(arguments).output().unwrap().stdout).unwrap().trim().to_owned()
}

/// Our client at an OpenSSH server with these options.
fn at_their_server(binary: &Path, keys: &Keys, options: &[String], credentials: Credentials) -> client::Step {
    let (ours, theirs) = connected();
    let theirs = OwnedFd::from(theirs);
    let mut command = Command::new(binary);
    command
        .args(["-i", "-f", "/dev/null", "-o", "UsePAM=no", "-o", "StrictModes=no", "-o", "MaxAuthTries=20", "-h"])
        .arg(keys.path("host"));
    for option in options {
        command.args(["-o", option]);
    }
    if is_root() {
        command.uid(id(&["-u", DAEMON]).parse().unwrap());
    }
    let mut sshd = command.stdin(theirs.try_clone().unwrap()).stdout(theirs).stderr(Stdio::null()).spawn().unwrap();
    drop(command);

    let known = keys.public("ed25519");
    let mut wire = Wire::new(Role::Client(Arc::new(ClientConfig::new(vec!["ssh-ed25519"]))), ours);
    // The transport holds it until there are keys; what a login is bound to is known from then on.
    let mut client = None;
    let mut to_send = Client::new(b"", "", Credentials::default()).start().unwrap();
    let mut credentials = Some(credentials);
    let done = loop {
        wire.say([to_send.as_bytes().to_vec()]);
        let step = loop {
            let message = wire.hear(Some(&known)).expect("the server goes on");
            let client = client.get_or_insert_with(|| {
                let mut client = Client::new(wire.conn.session_id().unwrap(), &user(), credentials.take().unwrap());
                client.start().unwrap();
                client
            });
            if let Some(algorithms) = &wire.conn.extensions().signature_algorithms {
                client.learn(algorithms);
            }
            match client.receive(&message).unwrap() {
                client::Step::Banner(banner) => assert_eq!(banner.as_str(), "hello\n"),
                step => break step,
            }
        };
        match step {
            client::Step::Send(payload) => to_send = payload,
            done => break done,
        }
    };
    if matches!(done, client::Step::Success(_)) {
        wire.conn.authenticated();
        // A global request that nobody knows is refused by whoever serves them: we are in.
        wire.say([b"\x50\0\0\0\x01x\x01".to_vec()]);
        while wire.hear(None).expect("the server goes on")[0] != 82 {}
    }
    wire.conn.disconnect(11, "bye");
    wire.flush();
    drop(wire);
    sshd.wait().unwrap();
    done
}

#[test]
fn our_client_logs_in_to_an_openssh_server_with_every_type_of_key_and_certificate() {
    let keys = Keys::new();
    let Some(binary) = sshd(&keys) else { return };
    let banner = keys.write("banner", "hello\n", 0o644);
    let authority = format!("TrustedUserCAKeys={}", keys.path("authority.pub").display());
    let banner = format!("Banner={}", banner.display());
    for (name, ..) in KEYS {
        let certificate = keys.certify(name, &user());
        let certified: Arc<dyn Signer> = Arc::new(Certified::new(keys.signer(name), &certificate).unwrap());
        let authorized = format!("AuthorizedKeysFile={}", keys.path(&format!("{name}.pub")).display());
        for (signer, option) in [(keys.signer(name), &authorized), (certified, &authority)] {
            let stranger: Arc<dyn Signer> = Arc::new(generate_ed25519().unwrap());
            let credentials = Credentials { signers: vec![stranger, signer], password: None };
            let done = at_their_server(&binary, &keys, &[option.clone(), banner.clone()], credentials);
            assert_eq!(done, client::Step::Success(client::Method::PublicKey), "{name} {option}");
        }
    }
}

#[test]
fn our_client_gives_an_openssh_server_two_proofs_where_it_wants_them_and_knows_when_it_has_too_few() {
    let keys = Keys::new();
    let Some(binary) = sshd(&keys) else { return };
    let lines = [keys.read("p256.pub"), keys.read("rsa.pub")].concat();
    let authorized = format!("AuthorizedKeysFile={}", keys.write("authorized", &lines, 0o644).display());
    let options = [authorized, "AuthenticationMethods=publickey,publickey".to_owned()];
    let both = Credentials { signers: vec![keys.signer("p256"), keys.signer("rsa")], password: None };
    assert_eq!(at_their_server(&binary, &keys, &options, both), client::Step::Success(client::Method::PublicKey));
    for (signers, why) in
        [(vec!["p256"], client::Why::MoreNeeded), (vec!["p384"], client::Why::Rejected), (vec![], client::Why::NothingFits)]
    {
        let signers = signers.into_iter().map(|name| keys.signer(name)).collect();
        let done = at_their_server(&binary, &keys, &options, Credentials { signers, password: None });
        let client::Step::Refused(refused) = done else { panic!("{done:?}") };
        assert_eq!(refused.why, why);
        assert!(refused.listed.iter().any(|method| method.as_str() == "publickey"), "{refused:?}");
    }
}

/// A server that is not root cannot check one: it says no, and hears it once.
#[test]
fn our_client_offers_an_openssh_server_its_password_once() {
    let keys = Keys::new();
    let Some(binary) = sshd(&keys) else { return };
    let password = || Some(PASSWORD.as_bytes().to_vec().into());
    let done = at_their_server(&binary, &keys, &[], Credentials { signers: vec![], password: password() });
    let client::Step::Refused(refused) = done else { panic!("{done:?}") };
    assert_eq!(refused.why, client::Why::Rejected);
    let options = ["PasswordAuthentication=no".to_owned(), "KbdInteractiveAuthentication=no".to_owned()];
    let done = at_their_server(&binary, &keys, &options, Credentials { signers: vec![], password: password() });
    let client::Step::Refused(refused) = done else { panic!("{done:?}") };
    assert_eq!(refused.why, client::Why::NothingFits);
}
