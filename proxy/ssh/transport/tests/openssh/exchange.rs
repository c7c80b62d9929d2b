//! Key exchanges, up to the first question of a login.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread;

use keyward_ssh_transport::key::PublicKey;
use keyward_ssh_transport::sign::{Signer, generate_ed25519};
use keyward_ssh_transport::wire::{Put, Reader};
use keyward_ssh_transport::{Cipher, ClientConfig, Conn, Method, Role, ServerConfig};

use crate::wire::Wire;
use crate::{connected, is_root, own_sshd, skipped};

/// Its namespace has a `/run/sshd`, which a server of root's wants for the part of it that has no rights; the machine may have none.
const ENTER: &str = "set -e; mount -t tmpfs tmpfs /run; mkdir -m 755 /run/sshd; exec \"$@\"";

/// One OpenSSH.
struct Release {
    ssh: PathBuf,
    /// There are machines without it.
    sshd: Option<PathBuf>,
    /// What it knows of what we do.
    methods: &'static [Method],
}

impl Release {
    /// The machine's own: 9.2 on Debian 12, which does not know mlkem768x25519-sha256 yet.
    fn of_machine() -> Self {
        let methods = &[Method::Curve25519, Method::Curve25519Libssh, Method::EcdhNistp256, Method::EcdhNistp384];
        Self { ssh: "ssh".into(), sshd: own_sshd(), methods }
    }

    /// OpenSSH 10, where tests/install.sh could get it.
    fn ten() -> Option<Self> {
        let cache = std::env::var_os("KEYWARD_CACHE").map(PathBuf::from);
        let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/keyward")));
        let folder = cache.map(|cache| cache.join("use/openssh-10")).filter(|folder| folder.join("bin/ssh").exists());
        if folder.is_none() {
            skipped("OpenSSH 10");
        }
        let folder = folder?;
        Some(Self { ssh: folder.join("bin/ssh"), sshd: Some(folder.join("sbin/sshd")), methods: &Method::ALL })
    }

    fn all() -> impl Iterator<Item = Self> {
        [Some(Self::of_machine()), Self::ten()].into_iter().flatten()
    }
}

/// Serves one client until its first question, and turns it away in words.
fn serve(listener: &TcpListener, host_key: &Arc<dyn Signer>) -> Conn {
    let mut wire = accepted(listener, host_key);
    let mut service = vec![5];
    service.put_string("ssh-userauth");
    assert_eq!(wire.hear(None).unwrap(), service);
    service[0] = 6;
    wire.say([service]);
    let request = wire.hear(None).unwrap();
    let mut reader = Reader::new(&request);
    assert_eq!(reader.u8(), Ok(50));
    assert_eq!([reader.text(), reader.text(), reader.text()], [Ok("alice"), Ok("ssh-connection"), Ok("none")]);
    wire.conn.disconnect(11, "not today");
    wire.flush();
    wire.conn
}

/// Our server, with the next client.
fn accepted(listener: &TcpListener, host_key: &Arc<dyn Signer>) -> Wire {
    let config = ServerConfig::new(vec![Arc::clone(host_key)]);
    Wire::new(Role::Server(Arc::new(config)), listener.accept().unwrap().0)
}

fn ssh(program: &Path, port: u16, known_hosts: &Path, options: &[String]) -> Output {
    let mut ssh = Command::new(program);
    ssh.args(["-F", "none", "-vv", "-p", &port.to_string(), "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes"]);
    ssh.arg("-o").arg(format!("UserKnownHostsFile={}", known_hosts.display()));
    for option in options {
        ssh.args(["-o", option]);
    }
    ssh.args(["alice@127.0.0.1", "true"]).output().unwrap()
}

#[test]
fn an_openssh_client_comes_to_its_login_with_every_method_and_cipher() {
    let folder = tempfile::tempdir().unwrap();
    let host_key: Arc<dyn Signer> = Arc::new(generate_ed25519().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let known_hosts = folder.path().join("known_hosts");
    std::fs::write(&known_hosts, format!("[127.0.0.1]:{port} {}\n", line(host_key.public()))).unwrap();
    for release in Release::all() {
        for method in release.methods {
            for cipher in Cipher::ALL {
                let options = [format!("KexAlgorithms={}", method.name()), format!("Ciphers={}", cipher.name())];
                let (conn, output) = thread::scope(|scope| {
                    let client = scope.spawn(|| ssh(&release.ssh, port, &known_hosts, &options));
                    (serve(&listener, &host_key), client.join().unwrap())
                });
                comes_to_its_login(&conn, &String::from_utf8_lossy(&output.stderr), *method, cipher);
            }
        }
    }
}

fn comes_to_its_login(conn: &Conn, said: &str, method: Method, cipher: Cipher) {
    assert!(said.contains("not today"), "{said}");
    for heard in ["server-sig-algs=", "publickey-hostbound@openssh.com=<0>", "kex-strict-s-v00@openssh.com"] {
        assert!(said.contains(heard), "{heard}: {said}");
    }
    let agreed = conn.agreed().unwrap();
    assert_eq!((agreed.method, agreed.ciphers.to_client, agreed.ciphers.to_server), (method, cipher, cipher));
    // A client from before strict key exchange does not say so.
    assert_eq!(conn.is_strict(), said.contains("resetting read seqnr"), "{said}");
}

#[test]
fn an_openssh_client_that_has_nothing_in_common_with_us_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let host_key: Arc<dyn Signer> = Arc::new(generate_ed25519().unwrap());
    let options = ["KexAlgorithms=diffie-hellman-group14-sha256".to_owned()];
    let output = thread::scope(|scope| {
        let client = scope.spawn(|| ssh(Path::new("ssh"), port, &folder.path().join("known_hosts"), &options));
        let mut wire = accepted(&listener, &host_key);
        let fatal = loop {
            let goes_on = wire.fill();
            if let Err(fatal) = wire.conn.next() {
                break fatal;
            }
            assert!(goes_on);
        };
        let said = fatal.to_string();
        assert!(said.starts_with("the peer has no key exchange method in common with us: it has diffie-hellman-group14-sha256"), "{said}");
        assert!(
            said.ends_with(
                "; we have mlkem768x25519-sha256, curve25519-sha256, curve25519-sha256@libssh.org, ecdh-sha2-nistp256, ecdh-sha2-nistp384"
            ),
            "{said}"
        );
        wire.flush();
        drop(wire);
        client.join().unwrap()
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no matching key exchange method found. Their offer: mlkem768x25519-sha256,curve25519-sha256"), "{said}");
}

#[test]
fn an_openssh_server_lets_our_client_ask_with_every_method_cipher_and_host_key() {
    if is_root() && !Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success()) {
        return skipped("namespaces, which root needs to start sshd in");
    }
    for release in Release::all() {
        let Some(sshd) = &release.sshd else { continue };
        let folder = tempfile::tempdir().unwrap();
        for (kind, bits, algorithms) in [
            ("ed25519", "256", &["ssh-ed25519"][..]),
            ("ecdsa", "256", &["ecdsa-sha2-nistp256"]),
            ("ecdsa", "384", &["ecdsa-sha2-nistp384"]),
            ("ecdsa", "521", &["ecdsa-sha2-nistp521"]),
            ("rsa", "2048", &["rsa-sha2-512", "rsa-sha2-256"]),
        ] {
            let file = folder.path().join(format!("{kind}-{bits}"));
            let made = Command::new("ssh-keygen").args(["-q", "-N", "", "-t", kind, "-b", bits, "-f"]).arg(&file).status().unwrap();
            assert!(made.success());
            let known = public(&file.with_extension("pub"));
            for algorithm in algorithms {
                meets(sshd, &file, &known, algorithm, Method::Curve25519, Cipher::Aes256Gcm);
            }
            if kind == "ed25519" {
                for method in release.methods {
                    for cipher in Cipher::ALL {
                        meets(sshd, &file, &known, "ssh-ed25519", *method, cipher);
                    }
                }
            }
        }
    }
}

fn meets(sshd: &Path, host_key: &Path, known: &PublicKey, algorithm: &'static str, method: Method, cipher: Cipher) {
    let (ours, theirs) = connected();
    let mut server = serving(sshd, host_key, theirs);
    let config = ClientConfig { methods: vec![method], ciphers: vec![cipher], ..ClientConfig::new(vec![algorithm]) };
    let mut wire = Wire::new(Role::Client(Arc::new(config)), ours);
    let mut service = vec![5];
    service.put_string("ssh-userauth");
    wire.say([service.clone()]);
    service[0] = 6;
    assert_eq!(wire.hear(Some(known)).unwrap(), service);
    let agreed = wire.conn.agreed().unwrap();
    assert_eq!((agreed.host_key, agreed.method, agreed.ciphers.to_client), (algorithm, method, cipher));
    let extensions = wire.conn.extensions();
    assert!(extensions.signature_algorithms.as_ref().is_some_and(|algorithms| algorithms.contains(&"rsa-sha2-512")));
    assert!(extensions.hostbound);
    wire.conn.disconnect(11, "bye");
    wire.flush();
    drop(wire);
    server.wait().unwrap();
}

/// A server for one connection, as inetd starts it.
fn serving(program: &Path, host_key: &Path, stream: TcpStream) -> Child {
    let input = OwnedFd::from(stream);
    let output = input.try_clone().unwrap();
    let mut sshd = Command::new(if is_root() { Path::new("unshare") } else { program });
    if is_root() {
        sshd.args(["--mount", "sh", "-c", ENTER, "sh"]).arg(program);
    }
    sshd.args(["-i", "-f", "/dev/null", "-o", "UsePAM=no", "-h"]).arg(host_key);
    // From 9.8 on it is three programs.
    for (option, name) in [("SshdSessionPath", "sshd-session"), ("SshdAuthPath", "sshd-auth")] {
        let part = program.with_file_name(name);
        if part.exists() {
            sshd.arg("-o").arg(format!("{option}={}", part.display()));
        }
    }
    sshd.stdin(Stdio::from(input)).stdout(Stdio::from(output)).stderr(Stdio::null()).spawn().unwrap()
}

fn public(file: &Path) -> PublicKey {
    let line = std::fs::read_to_string(file).unwrap();
    let blob = line.split(' ').nth(1).unwrap();
    PublicKey::parse(&base64::Engine::decode(&base64::engine::general_purpose::STANDARD, blob).unwrap()).unwrap()
}

fn line(key: &PublicKey) -> String {
    format!("ssh-ed25519 {}", base64::Engine::encode(&base64::engine::general_purpose::STANDARD, key.blob()))
}
