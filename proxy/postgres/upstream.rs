//! The upstream's side of the login: SSLRequest, TLS, and the injection of the credential.

use std::io;
use std::time::Duration;

use keyward_auth::{Credential, ScramClient, ScramFailure};
use postgres_protocol::authentication::md5_hash;
use tokio::io::AsyncReadExt;

use super::messages::{self, Inbox};
use super::settings::Method;
use super::wire::{self, Authentication, Messages};
use crate::error::{Party, SessionError, Stage};
use crate::refusal::{Refusal, UpstreamRefusal};
use crate::session::{self, LoginFailure as Failure};
use crate::settings::Methods;
use crate::upstream::{Endpoint, Verified, VerifiedBy};

/// The server answers an SSLRequest at once or is no server.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
/// NoticeResponse in the middle of a login: a server sends one or two.
const NOTICES_MAX: u32 = 100;
/// ParameterStatus and NoticeResponse before the server is ready: a PostgreSQL sends about fifteen.
const STATUSES_MAX: usize = 128 * 1024;

/// A server that let us in.
#[derive(Default)]
pub(super) struct Ready {
    /// What a cancel request must say.
    pub(super) number: u32,
    pub(super) key: Vec<u8>,
    /// ParameterStatus and NoticeResponse messages, for the client.
    pub(super) statuses: Messages,
    /// `server_version`, escaped.
    pub(super) version: String,
    /// ReadyForQuery.
    pub(super) ready: Messages,
    /// What came behind it: the session's first bytes.
    pub(super) rest: Vec<u8>,
}

/// How a session gets into its server.
pub(super) struct Login<'a, S> {
    /// The startup packet, by the name of the login.
    pub(super) startup: S,
    /// `require_auth`.
    pub(super) methods: &'a Methods<Method>,
}

impl<S: Fn(&str) -> Messages + Sync> session::Login for Login<'_, S> {
    type Reached = Verified;
    type Ready = Ready;

    async fn connect(&self, endpoint: Endpoint) -> Result<Verified, SessionError> {
        connect(endpoint).await
    }

    fn verified(reached: &Verified) -> &Verified {
        reached
    }

    async fn log_in(&self, upstream: &mut Verified, credential: &Credential) -> Result<Ready, Failure> {
        login(upstream, credential, &(self.startup)(credential.username()), self.methods).await
    }
}

/// TCP, SSLRequest and TLS, as the connection asks for.
pub(super) async fn connect(endpoint: Endpoint) -> Result<Verified, SessionError> {
    let mut unverified = endpoint.connect().await?;
    if !unverified.wants_tls() {
        return unverified.exempt();
    }
    let stream = unverified.preface();
    // Exactly one byte: more would be bytes from before TLS.
    let asked = tokio::time::timeout(PREFACE_TIMEOUT, async {
        messages::write(stream, &wire::ssl_request()).await?;
        stream.read_u8().await
    });
    let unreachable =
        |error: io::Error| SessionError::new(Refusal::UpstreamUnreachable, Party::Upstream, Stage::Connect, format!("SSLRequest: {error}"));
    match asked.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(unreachable)? {
        b'S' => unverified.secure().await,
        _ => Err(SessionError::new(Refusal::UpstreamUnverified, Party::Upstream, Stage::Connect, "the server has no TLS")),
    }
}

/// Logs in with the credential. This is the injection.
async fn login(upstream: &mut Verified, credential: &Credential, startup: &Messages, methods: &Methods<Method>) -> Result<Ready, Failure> {
    let mut inbox = Inbox::default();
    messages::write(upstream.stream(), startup).await.map_err(|error| broken(&error))?;
    authenticate(upstream, &mut inbox, credential, methods).await?;
    let mut ready = Ready::default();
    loop {
        let (tag, body) = inbox.next(upstream.stream(), wire::UPSTREAM_MAX).await.map_err(|error| broken(&error))?;
        match tag {
            b'S' | b'N' => {
                if let Some(version) = body.strip_prefix(b"server_version\0".as_slice()).filter(|_| tag == b'S') {
                    ready.version = crate::error::escaped(version.strip_suffix(b"\0".as_slice()).unwrap_or(version));
                }
                ready.statuses.push(tag, body);
                if ready.statuses.bytes().len() > STATUSES_MAX {
                    return Err(protocol("too many messages before it is ready"));
                }
            }
            b'K' => {
                let (number, key) = body.split_first_chunk::<4>().ok_or_else(|| protocol("a short BackendKeyData"))?;
                (ready.number, ready.key) = (u32::from_be_bytes(*number), key.to_vec());
            }
            b'Z' => {
                ready.ready.push(tag, body);
                ready.rest = inbox.rest().to_vec();
                return Ok(ready);
            }
            b'E' => return Err(refused(body)),
            _ => return Err(protocol("an unexpected message before it is ready")),
        }
    }
}

async fn authenticate(
    upstream: &mut Verified,
    inbox: &mut Inbox,
    credential: &Credential,
    methods: &Methods<Method>,
) -> Result<(), Failure> {
    // Who is not verified by more than our word gets no password, nor a hash that is worth one.
    let trusted = upstream.by() != VerifiedBy::Insecure;
    let password = credential.password().map(keyward_auth::Secret::expose);
    let mut proven = false;
    let mut notices = 0..NOTICES_MAX;
    loop {
        let (tag, body) = inbox.next(upstream.stream(), wire::UPSTREAM_MAX).await.map_err(|error| broken(&error))?;
        match tag {
            b'R' => {}
            b'E' => return Err(refused(body)),
            b'N' if notices.next().is_some() => continue,
            b'v' => return Err(protocol("it does not speak protocol 3.0")),
            _ => return Err(protocol("an unexpected message during the login")),
        }
        let asked = wire::authentication(body).map_err(|error| protocol(error.0))?;
        let (method, reply) = match asked {
            Authentication::Ok if proven || methods.allow(Method::None) => return Ok(()),
            Authentication::Ok => return Err(unacceptable("it asks for no login, which require_auth does not allow")),
            _ if proven => return Err(protocol("a second login")),
            Authentication::Cleartext if trusted => {
                (Method::Password, zeroize::Zeroizing::new([password.ok_or_else(no_password)?, b"\0"].concat()))
            }
            Authentication::Md5(salt) if trusted => {
                let hash = md5_hash(credential.username().as_bytes(), password.ok_or_else(no_password)?, salt);
                (Method::Md5, zeroize::Zeroizing::new([hash.as_bytes(), b"\0"].concat()))
            }
            Authentication::Sasl(mechanisms) => {
                if !methods.allow(Method::Scram) {
                    return Err(unacceptable("it asks for SCRAM, which require_auth does not allow"));
                }
                let exchange = credential.scram(&mechanisms, upstream.binding()).map_err(unproven)?;
                scram(upstream, inbox, exchange).await?;
                proven = true;
                continue;
            }
            Authentication::Cleartext | Authentication::Md5(_) => {
                return Err(unacceptable("it asks for a password or an MD5 hash, and is not verified"));
            }
            Authentication::SaslContinue(_) | Authentication::SaslFinal(_) | Authentication::Other(_) => {
                return Err(unacceptable("it asks for a login that we do not speak"));
            }
        };
        if !methods.allow(method) {
            return Err(unacceptable("it asks for a login that require_auth does not allow"));
        }
        messages::write(upstream.stream(), Messages::default().push(b'p', &reply)).await.map_err(|error| broken(&error))?;
        proven = true;
    }
}

async fn scram(upstream: &mut Verified, inbox: &mut Inbox, exchange: ScramClient) -> Result<(), Failure> {
    let (mechanism, first) = (exchange.mechanism(), exchange.client_first());
    let length = u32::try_from(first.len()).unwrap_or(u32::MAX);
    let first = [mechanism.as_bytes(), b"\0", &length.to_be_bytes(), &first].concat();
    messages::write(upstream.stream(), Messages::default().push(b'p', &first)).await.map_err(|error| broken(&error))?;
    let challenge = sasl(upstream, inbox).await?;
    let (last, expected) = exchange.server_first(&challenge).await.map_err(unproven)?;
    messages::write(upstream.stream(), Messages::default().push(b'p', &last)).await.map_err(|error| broken(&error))?;
    let signature = sasl(upstream, inbox).await?;
    // The server proves here that it knows the password too.
    expected.server_final(&signature).map_err(unproven)
}

async fn sasl(upstream: &mut Verified, inbox: &mut Inbox) -> Result<Vec<u8>, Failure> {
    let (tag, body) = inbox.next(upstream.stream(), wire::UPSTREAM_MAX).await.map_err(|error| broken(&error))?;
    match tag {
        b'E' => Err(refused(body)),
        b'R' => match wire::authentication(body) {
            Ok(Authentication::SaslContinue(message) | Authentication::SaslFinal(message)) => Ok(message.to_vec()),
            _ => Err(protocol("another message than the next of the SASL exchange")),
        },
        _ => Err(protocol("another message than the next of the SASL exchange")),
    }
}

/// What a server's ErrorResponse before it is ready means to us. Its text holds user names and hosts: it stays in the log.
fn refused(body: &[u8]) -> Failure {
    let fields = wire::fields(body);
    let (upstream, again) = match fields.code.as_str() {
        "28P01" => (UpstreamRefusal::LoginRejected, true),
        // 28000 is no word about the credential: pg_hba.conf rejects the database that the user asked for, say, or the role may not log in.
        // Whoever asks for such a thing again and again must not make the store give one credential after the other, nor take from the
        // other sessions the lease that they share.
        "3D000" => (UpstreamRefusal::NoSuchDatabase, false),
        "53300" => (UpstreamRefusal::TooManyConnections, false),
        "57P03" | "57P01" | "57P02" => (UpstreamRefusal::StartingUp, false),
        _ => (UpstreamRefusal::LoginRejected, false),
    };
    let text = format!("{}: {}", fields.code, fields.message);
    let error = SessionError::new(Refusal::UpstreamRefused(upstream), Party::Upstream, Stage::Inject, text);
    if again { Failure::Rejected(error) } else { Failure::Other(error) }
}

fn unacceptable(text: &'static str) -> Failure {
    let refusal = Refusal::UpstreamRefused(UpstreamRefusal::LoginRejected);
    Failure::Other(SessionError::new(refusal, Party::Upstream, Stage::Inject, text))
}

fn no_password() -> Failure {
    unacceptable("it asks for a password, and the account has none")
}

/// What the end of a SCRAM exchange means to us.
fn unproven(failure: ScramFailure) -> Failure {
    match failure {
        ScramFailure::NoPassword => no_password(),
        ScramFailure::NoMechanism => unacceptable("it offers no SASL mechanism that we speak"),
        ScramFailure::Refused => unacceptable("it refuses our SCRAM proof"),
        ScramFailure::Malformed => protocol("a SCRAM challenge that is none"),
        ScramFailure::Unproven => {
            Failure::Other(SessionError::new(Refusal::UpstreamUnverified, Party::Upstream, Stage::Inject, "its SCRAM signature is wrong"))
        }
        ScramFailure::Unavailable => {
            Failure::Other(SessionError::new(Refusal::Internal, Party::Proxy, Stage::Inject, "no random numbers, or no thread, for SCRAM"))
        }
    }
}

fn protocol(text: &'static str) -> Failure {
    Failure::Other(SessionError::new(Refusal::UpstreamUnreachable, Party::Upstream, Stage::Inject, text))
}

fn broken(error: &io::Error) -> Failure {
    let text = format!("upstream: {error}");
    Failure::Other(SessionError::new(Refusal::UpstreamUnreachable, Party::Upstream, Stage::Inject, text))
}
