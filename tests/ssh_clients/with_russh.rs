//! russh, one step at a time: what it sees, as text.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ::russh::client::{self, Handle, Msg};
use ::russh::keys::{Algorithm, HashAlg, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate, load_secret_key};
use ::russh::{Channel, ChannelMsg, Error, Preferred, cipher, kex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bed::{SshScene, SshWay};

/// Not `unread`: a channel that nobody reads stops the others of its connection in russh itself.
pub const STEPS: [&str; 7] = ["login", "signal", "many", "forward", "refused", "rekey", "not_strict"];

/// Whom it expects: a server's own key, or one that this authority certifies as `web-1`.
enum Expected {
    Key(PublicKey),
    CertifiedBy(PublicKey),
}

impl client::Handler for Expected {
    type Error = Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Error> {
        Ok(match (self, shown) {
            (Self::Key(expected), PublicKeyOrCertificate::PublicKey { key, .. }) => expected.key_data() == key.key_data(),
            (Self::CertifiedBy(authority), PublicKeyOrCertificate::Certificate(certificate)) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
                certificate.validate_at(now, &[authority.fingerprint(HashAlg::Sha256)]).is_ok()
                    && certificate.cert_type().is_host()
                    && certificate.valid_principals() == ["web-1"]
            }
            _ => false,
        })
    }
}

/// A connection, and the one that it is inside.
struct Ssh {
    inner: Handle<Expected>,
    _outer: Option<Handle<Expected>>,
}

/// What a client offers that knows nothing of strict key exchange, with the cipher whose nonces are the numbers of packets: those go on where
/// keys are made anew.
fn not_strict() -> Preferred {
    let kex = Cow::Borrowed([kex::CURVE25519, kex::EXTENSION_SUPPORT_AS_CLIENT].as_slice());
    Preferred { kex, cipher: Cow::Borrowed(&[cipher::CHACHA20_POLY1305]), ..Preferred::default() }
}

async fn connect(scene: &SshScene<'_>, way: SshWay, rekey: usize, preferred: Preferred) -> Ssh {
    let (user, port, key, host_key) = match way {
        SshWay::Direct => (scene.sshd.login("deploy").name.as_str(), scene.sshd.port(), &scene.around, scene.sshd.host_key()),
        SshWay::Plus => ("alice+web-1+deploy", scene.port(), &scene.alice, scene.host_key()),
        SshWay::Jump => ("alice", scene.port(), &scene.alice, scene.host_key()),
    };
    let limits = ::russh::Limits { rekey_write_limit: rekey, rekey_read_limit: rekey, ..::russh::Limits::default() };
    let config = client::Config { limits: limits.clone(), preferred: preferred.clone(), ..client::Config::default() };
    let expected = Expected::Key(PublicKey::from_openssh(&host_key).unwrap());
    let mut outer = client::connect(Arc::new(config), ("127.0.0.1", port), expected).await.expect("a key exchange");
    let key = PrivateKeyWithHashAlg::new(Arc::new(load_secret_key(key.file(), None).unwrap()), None);
    assert!(outer.authenticate_publickey(user, key).await.unwrap().success(), "{way:?}: a login by key");
    if way != SshWay::Jump {
        return Ssh { inner: outer, _outer: None };
    }
    let certificates = Cow::Owned(vec![Algorithm::Ed25519]);
    let preferred = Preferred { host_key_certificates: certificates, ..preferred };
    let config = client::Config { preferred, limits, ..client::Config::default() };
    let expected = Expected::CertifiedBy(PublicKey::from_openssh(&scene.host_authority()).unwrap());
    let stream = outer.channel_open_direct_tcpip("web-1", 22, "127.0.0.1", 0).await.unwrap().into_stream();
    let mut inner = client::connect_stream(Arc::new(config), stream, expected).await.expect("a key exchange inside");
    assert!(inner.authenticate_none("deploy").await.unwrap().success(), "a login inside");
    Ssh { inner, _outer: Some(outer) }
}

async fn start(ssh: &Ssh, command: &str) -> Channel<Msg> {
    let channel = ssh.inner.channel_open_session().await.unwrap();
    channel.exec(true, command).await.unwrap();
    channel
}

/// Its two outputs, and how it ended.
async fn run(ssh: &Ssh, command: &str, input: &[u8]) -> (Vec<u8>, Vec<u8>, String) {
    let mut channel = start(ssh, command).await;
    let (mut out, mut errors, mut end) = (Vec::new(), Vec::new(), String::new());
    let mut sent = false;
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => out.extend_from_slice(&data),
            ChannelMsg::ExtendedData { data, .. } => errors.extend_from_slice(&data),
            ChannelMsg::ExitStatus { exit_status } => end = format!("code {exit_status}"),
            ChannelMsg::ExitSignal { signal_name, core_dumped, .. } => end = format!("{signal_name:?} {core_dumped}"),
            ChannelMsg::Success if !sent => {
                sent = true;
                channel.data(input).await.unwrap();
                channel.eof().await.unwrap();
            }
            _ => {}
        }
    }
    (out, errors, end)
}

fn text((out, errors, end): (Vec<u8>, Vec<u8>, String)) -> String {
    format!("{} {} {end}\n", String::from_utf8_lossy(&out), String::from_utf8_lossy(&errors))
}

/// What the step shows.
pub async fn act(scene: &SshScene<'_>, step: &str, way: SshWay) -> String {
    let (often, preferred) = (2 << 20, if step == "not_strict" { not_strict() } else { Preferred::default() });
    let ssh = connect(scene, way, if ["rekey", "not_strict"].contains(&step) { often } else { 1 << 30 }, preferred).await;
    let mut said = String::new();
    match step {
        "login" => said = text(run(&ssh, "id -un; echo err >&2; cat; exit 3", b"from here").await),
        "signal" => said = text(run(&ssh, "kill -KILL $$", b"").await),
        "many" => {
            let commands: Vec<String> = (0..30).map(|number| format!("seq {number}000 | md5sum; exit {number}")).collect();
            let all = futures_util::future::join_all(commands.iter().map(|command| run(&ssh, command, b""))).await;
            said.extend(all.into_iter().map(text));
        }
        "forward" => {
            let mut stream =
                ssh.inner.channel_open_direct_tcpip("127.0.0.1", scene.sshd.port().into(), "127.0.0.1", 0).await.unwrap().into_stream();
            let mut greeting = [0; 8];
            stream.read_exact(&mut greeting).await.unwrap();
            stream.write_all(b"SSH-2.0-hello\r\n").await.unwrap();
            write!(said, "{}", String::from_utf8_lossy(&greeting)).unwrap();
        }
        "refused" => {
            let refused = ssh.inner.channel_open_direct_tcpip("127.0.0.1", 1, "127.0.0.1", 0).await;
            write!(said, "{:?}", refused.err()).unwrap();
        }
        "rekey" | "not_strict" => {
            let (down, _, end) = run(&ssh, "seq 1500000", b"").await;
            write!(said, "{} {end} ", down == lines()).unwrap();
            said += &text(run(&ssh, "md5sum", &lines()).await);
        }
        other => panic!("no step {other}"),
    }
    said
}

/// What `seq 1500000` prints.
fn lines() -> Vec<u8> {
    (1..=1_500_000).fold(String::new(), |all, number| all + &number.to_string() + "\n").into_bytes()
}
