//! The upstream: its host key first, then the login with the credential, which is the injection (RFC 4253, RFC 4252). Rules 9, 25 and 26.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keyward_auth::{Credential, Grant};
use keyward_ssh_transport::auth::Banner;
use keyward_ssh_transport::auth::client::{self, Client, Credentials, Why};
use keyward_ssh_transport::certificate::{Presented, What};
use keyward_ssh_transport::key::SIGNATURE_ALGORITHMS;
use keyward_ssh_transport::known_hosts::Trusted;
use keyward_ssh_transport::revocation::Revocations;
use keyward_ssh_transport::sign::{Certified, Signer, read_private_key};
use keyward_ssh_transport::{ClientConfig, Limits};
use zeroize::Zeroizing;

use super::settings::ConnectionSettings;
use super::wire::{Heard, Silent, Wire};
use crate::error::{Party, SessionError, Stage};
use crate::refusal::{Refusal, UpstreamRefusal};
use crate::session::{self, LoginFailure};
use crate::upstream::{Endpoint, HostKnown, Unverified, Verified};

/// From the identification to the first keys.
const KEX_TIMEOUT: Duration = Duration::from_secs(10);
/// Banners that are kept for the user.
const BANNERS: usize = 4;

/// A login upstream, for this grant.
pub(super) struct Login<'a> {
    /// What it is for.
    pub(super) grant: &'a Grant,
}

/// A server whose host key is known.
pub(super) struct Reached {
    /// The transport.
    pub(super) wire: Wire,
    /// Its stream.
    pub(super) verified: Verified,
}

/// A server that let us in.
pub(super) struct Ready {
    /// What it wants its users to read before they are in.
    pub(super) banners: Vec<Banner>,
}

impl session::Login for Login<'_> {
    type Reached = Reached;
    type Ready = Ready;

    async fn connect(&self, endpoint: Endpoint) -> Result<Reached, SessionError> {
        let mut unverified = endpoint.connect().await?;
        let settings = ConnectionSettings::of(self.grant)?;
        let (host, port) = unverified.host().map(|(host, port)| (host.to_owned(), port)).unwrap_or_default();
        let trusted = settings.trusted(&host, port).await?;
        let exchange = exchange_keys(&mut unverified, &trusted, &host, settings.limits());
        let exchanged = tokio::time::timeout(KEX_TIMEOUT, exchange).await;
        let slow = || SessionError::new(Refusal::UpstreamUnreachable, Party::Upstream, Stage::Connect, "no key exchange within 10 s");
        let (wire, known) = exchanged.map_err(|_| slow())??;
        let verified = match known {
            Some(known) => unverified.known_by(known),
            None => unverified.unknown()?,
        };
        Ok(Reached { wire, verified })
    }

    fn verified(reached: &Reached) -> &Verified {
        &reached.verified
    }

    async fn log_in(&self, reached: &mut Reached, credential: &Credential) -> Result<Ready, LoginFailure> {
        let credentials = credentials(credential).await.map_err(LoginFailure::Other)?;
        let session_id = reached.wire.conn.session_id().unwrap_or_default().to_vec();
        let client = Client::new(&session_id, credential.username(), credentials);
        prove(reached, client).await
    }
}

/// Up to the first keys. `None`: nobody knows the server, and the connection says that it does not matter.
async fn exchange_keys(
    unverified: &mut Unverified,
    trusted: &Trusted,
    host: &str,
    limits: Limits,
) -> Result<(Wire, Option<HostKnown>), SessionError> {
    let refused = |text: String| SessionError::new(Refusal::UpstreamUnverified, Party::Upstream, Stage::Connect, text);
    // What is known is held to, also where the connection says `insecure`.
    let known = trusted.knows_any();
    if !known && !unverified.is_insecure() {
        return Err(refused(format!("no host key of {host} is known; `keyward trust` prints what to pin")));
    }
    let algorithms = if known { trusted.algorithms() } else { SIGNATURE_ALGORITHMS.to_vec() };
    let mut wire = Wire::client(ClientConfig { limits, ..ClientConfig::new(algorithms) });
    let mut by = None;
    loop {
        match wire.hear(unverified.preface()).await.map_err(|silent| silent.of_upstream(Stage::Connect))? {
            Heard::HostKey(presented) => {
                if known {
                    let checked = trusted.check(&presented, host, now()?, &Revocations::default());
                    checked
                        .map_err(|untrusted| refused(format!("the host key of {host} ({}): {untrusted}", presented.key().fingerprint())))?;
                    by = Some(known_by(trusted, &presented));
                }
                let accepted = wire.conn.accept_host_key(presented.key());
                accepted.map_err(|fatal| Silent::Fatal(fatal).of_upstream(Stage::Connect))?;
            }
            Heard::Ready => return Ok((wire, by)),
            Heard::Message(_) => return Err(refused("a message before the first keys".to_owned())),
        }
    }
}

fn known_by(trusted: &Trusted, presented: &Presented) -> HostKnown {
    match presented.what() {
        What::Certificate(_) if !trusted.keys.contains(presented.key()) => HostKnown::Certificate,
        What::Certificate(_) | What::Key(_) => HostKnown::Key,
    }
}

/// Seconds since 1970.
fn now() -> Result<u64, SessionError> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let none = |_| SessionError::new(Refusal::Internal, Party::Proxy, Stage::Connect, "the clock stands before 1970");
    since.map(|since| since.as_secs()).map_err(none)
}

/// The credential as the client's machine wants it. Decrypting a key takes up to seconds: not on a thread on which others wait.
async fn credentials(credential: &Credential) -> Result<Credentials, SessionError> {
    // Exposed: it is sent to the server that was verified for it, and nowhere else.
    let password = credential.password().map(|password| Zeroizing::new(password.expose().to_vec()));
    let Some(key) = credential.private_key() else { return Ok(Credentials { signers: Vec::new(), password }) };
    // Exposed: both are read into the key that signs.
    let text = Zeroizing::new(key.expose().to_vec());
    let passphrase = credential.passphrase().map(|passphrase| Zeroizing::new(passphrase.expose().to_vec()));
    let certificate = credential.certificate().map(ToOwned::to_owned);
    let read = tokio::task::spawn_blocking(move || {
        let signer = read_private_key(&text, passphrase.as_ref().map(|passphrase| passphrase.as_slice()));
        let signer = signer.map_err(|bad| format!("the private key from the store: {bad}"))?;
        signers(signer.into(), certificate.as_deref())
    });
    let unusable = |text| SessionError::new(Refusal::CredentialsUnavailable, Party::Store, Stage::Inject, text);
    let signers = read.await.unwrap_or_else(|_| Err("reading the private key was cut off".to_owned())).map_err(unusable)?;
    Ok(Credentials { signers, password })
}

/// The key, and before it its certificate if there is one: a server that does not know the authority may know the key.
fn signers(signer: Arc<dyn Signer>, certificate: Option<&str>) -> Result<Vec<Arc<dyn Signer>>, String> {
    let Some(line) = certificate else { return Ok(vec![signer]) };
    let certified = Certified::from_line(Arc::clone(&signer), line).map_err(|bad| format!("the certificate from the store: {bad}"))?;
    Ok(vec![Arc::new(certified), signer])
}

async fn prove(reached: &mut Reached, mut client: Client) -> Result<Ready, LoginFailure> {
    let other = |silent: Silent| LoginFailure::Other(silent.of_upstream(Stage::Inject));
    let broken = |ended: keyward_ssh_transport::auth::Ended| {
        let text = format!("the server's login: {ended}");
        LoginFailure::Other(SessionError::new(Refusal::UpstreamUnreachable, Party::Upstream, Stage::Inject, text))
    };
    let Reached { wire, verified } = reached;
    let mut banners = Vec::new();
    let mut payload = client.start().map_err(broken)?;
    loop {
        wire.say(verified.stream(), &[payload.as_bytes()]).await.map_err(other)?;
        payload = loop {
            let Heard::Message(message) = wire.hear(verified.stream()).await.map_err(other)? else { continue };
            if let Some(algorithms) = &wire.conn.extensions().signature_algorithms {
                client.learn(algorithms);
            }
            match client.receive(&message).map_err(broken)? {
                client::Step::Send(payload) => break payload,
                client::Step::Banner(banner) if banners.len() < BANNERS => banners.push(banner),
                client::Step::Banner(_) => {}
                client::Step::Success(_) => {
                    wire.conn.authenticated();
                    return Ok(Ready { banners });
                }
                client::Step::Refused(refused) => return Err(rejected(&refused)),
            }
        };
    }
}

fn rejected(refused: &client::Refused) -> LoginFailure {
    let listed: Vec<&str> = refused.listed.iter().map(keyward_ssh_transport::shown::Shown::as_str).collect();
    let what = match refused.why {
        Why::Rejected => "it refused the credential",
        Why::NothingFits => "it takes no proof of the kind that the credential has",
        Why::MoreNeeded => "it wants a second proof",
        Why::PasswordExpired => "the password has expired there",
        Why::OtherPrompt => "it asks for something else than the password",
    };
    let text = format!("the server refused the login: {what}; it takes: {}", listed.join(", "));
    let refusal = Refusal::UpstreamRefused(UpstreamRefusal::LoginRejected);
    let error = SessionError::new(refusal, Party::Upstream, Stage::Inject, text);
    // Another credential may do where this one was looked at.
    match refused.why {
        Why::Rejected | Why::PasswordExpired => LoginFailure::Rejected(error),
        Why::NothingFits | Why::MoreNeeded | Why::OtherPrompt => LoginFailure::Other(error),
    }
}
