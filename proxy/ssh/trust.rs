//! What a server shows as its host keys, for an operator who wants to pin them (`keyward trust`): one key exchange for each family of keys, up
//! to the point where the server has proven that it has the key (RFC 4253 section 8). No login is tried, and nothing is trusted.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use keyward_ssh_transport::certificate::{Certificate, HostCheck, Presented, What};
use keyward_ssh_transport::key::PublicKey;
use keyward_ssh_transport::revocation::Revocations;
use keyward_ssh_transport::{Choice, ClientConfig, Fatal, reason};
use tokio::net::TcpStream;

use super::refuse;
use super::wire::{Heard, Silent, Wire};
use crate::error::Stage;
use crate::stream::Stream;

/// For all addresses of a name together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// From the identification to the first keys.
const KEX_TIMEOUT: Duration = Duration::from_secs(10);

/// A server has at most one key of each family that it would show us, and the certificates of its keys are of one authority. Of ECDSA it shows
/// the one of the shortest curve, the first that we name.
const FAMILIES: [&[&str]; 4] = [
    &["ssh-ed25519"],
    &["ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"],
    &["rsa-sha2-512", "rsa-sha2-256"],
    &[
        "ssh-ed25519-cert-v01@openssh.com",
        "ecdsa-sha2-nistp256-cert-v01@openssh.com",
        "ecdsa-sha2-nistp384-cert-v01@openssh.com",
        "ecdsa-sha2-nistp521-cert-v01@openssh.com",
        "rsa-sha2-512-cert-v01@openssh.com",
        "rsa-sha2-256-cert-v01@openssh.com",
    ],
];

/// What a server showed.
pub(crate) struct Shows {
    /// Where its name led.
    pub(crate) at: SocketAddr,
    /// Its keys, best first. It has every one of them.
    pub(crate) keys: Vec<PublicKey>,
    /// Who says that it is who it is.
    pub(crate) authority: Option<Authority>,
    /// Where it gave up: the algorithms that it was asked for, and how that ended.
    pub(crate) unknown: Vec<(String, String)>,
}

/// Who signed a server's certificate.
pub(crate) struct Authority {
    /// Its key.
    pub(crate) key: PublicKey,
    /// Why the certificate does not count for the name by which we asked, if it does not.
    pub(crate) useless: Option<String>,
}

/// Asks a server for its keys. Takes at most 10 s for the connection and as much for each exchange.
///
/// # Errors
/// A text for the operator: it cannot be reached, is no SSH server, or has no algorithm in common with us.
pub(crate) async fn ask(host: &str, port: u16) -> Result<Shows, String> {
    let first = connect(TcpStream::connect((host, port))).await?;
    let at = first.peer_addr().map_err(|error| format!("connect: {error}"))?;
    let mut first = Some(first);
    let mut shows = Shows { at, keys: Vec::new(), authority: None, unknown: Vec::new() };
    for family in FAMILIES {
        let socket = match first.take() {
            Some(socket) => socket,
            // The same machine again: a name may have several.
            None => connect(TcpStream::connect(at)).await?,
        };
        match shown(socket, family).await {
            Ok(Some(presented)) => match presented.what() {
                What::Key(key) => shows.keys.push(key.clone()),
                What::Certificate(certificate) => shows.authority = Some(authority(certificate, host)),
            },
            Ok(None) => {}
            // Any one key is enough to know it by.
            Err(text) if shows.knows_any() => shows.unknown.push((family.join(", "), text)),
            Err(text) => return Err(text),
        }
    }
    if shows.knows_any() { Ok(shows) } else { Err("it has no host key that we take".to_owned()) }
}

impl Shows {
    fn knows_any(&self) -> bool {
        !self.keys.is_empty() || self.authority.is_some()
    }
}

/// What the server shows of this family; `None`: nothing, or a key that we do not take.
async fn shown(socket: TcpStream, family: &[&'static str]) -> Result<Option<Presented>, String> {
    let exchanged = tokio::time::timeout(KEX_TIMEOUT, exchange(socket, family)).await.map_err(|_| "no key exchange within 10 s")?;
    match exchanged {
        Ok(presented) => Ok(Some(presented)),
        Err(Silent::Fatal(Fatal::NoCommon(lack))) if lack.choice() == Choice::HostKey => Ok(None),
        Err(Silent::Fatal(Fatal::HostKey(_))) => Ok(None),
        Err(silent) => Err(silent.of_upstream(Stage::Connect).source.into_owned()),
    }
}

async fn connect(dial: impl Future<Output = io::Result<TcpStream>>) -> Result<TcpStream, String> {
    match tokio::time::timeout(CONNECT_TIMEOUT, dial).await {
        Ok(connected) => connected.map_err(|error| format!("connect: {error}")),
        Err(_) => Err("connect: no answer within 10 s".to_owned()),
    }
}

/// Up to the first keys, and goodbye.
async fn exchange(socket: TcpStream, family: &[&'static str]) -> Result<Presented, Silent> {
    let mut stream = Stream::Tcp(socket);
    let mut wire = Wire::client(ClientConfig::new(family.to_vec()));
    let mut shown = None;
    loop {
        match wire.hear(&mut stream).await? {
            Heard::HostKey(presented) => {
                // Nothing is sent on this connection that would be worth protecting; that the server has the key is checked nevertheless.
                wire.conn.accept_host_key(presented.key()).map_err(Silent::Fatal)?;
                shown = Some(*presented);
            }
            Heard::Ready => break,
            Heard::Message(_) => return Err(Silent::Fatal(Fatal::Protocol("a message before the first keys"))),
        }
    }
    wire.conn.disconnect(reason::BY_APPLICATION, "");
    refuse::close(&mut stream, &mut wire).await;
    shown.ok_or(Silent::Fatal(Fatal::Protocol("new keys before a host key")))
}

fn authority(certificate: &Certificate, host: &str) -> Authority {
    // A clock before 1970 finds no certificate that counts yet.
    let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
    let key = certificate.authority().clone();
    let authorities = [key.clone()];
    let check = HostCheck { authorities: &authorities, revocations: &Revocations::default(), host, now };
    let useless = certificate.check_host(&check).err().map(|untrusted| untrusted.to_string());
    Authority { key, useless }
}
