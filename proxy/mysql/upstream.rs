//! The upstream's side of the login: its greeting, TLS, and the injection of the credential.

mod proof;
mod server_key;

use std::io;
use std::time::Duration;

use keyward_auth::Credential;

use super::capabilities::{self, Capabilities, Missing};
use super::packet::{self, Packets};
use super::settings::Method;
use super::wire::{self, Answer, Attributes, Greeting, Reply, ServerError};
use crate::error::{Party, SessionError, Stage};
use crate::refusal::{Refusal, UpstreamRefusal};
use crate::session::{self, LoginFailure as Failure};
use crate::settings::Methods;
use crate::stream::Stream;
use crate::upstream::{Endpoint, Verified};
use proof::{Proof, Step, Way};

pub(super) use server_key::check as check_server_key;

/// The server greets at once or is no server.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

/// What our answer to the greeting says, but for the credential.
pub(super) struct Asking<'a> {
    /// What the client can do.
    pub(super) client: Capabilities,
    /// What it was offered.
    pub(super) offered: Capabilities,
    /// The longest packet that the client takes, in bytes.
    pub(super) max_packet: u32,
    /// The client's collation.
    pub(super) charset: u8,
    /// The database on the server. `None` or empty: none is chosen.
    pub(super) database: Option<&'a [u8]>,
    /// Sent if the server knows connection attributes.
    pub(super) attributes: Attributes,
}

/// A server that greeted us and is verified.
pub(super) struct Reached<'a> {
    /// The transport.
    pub(super) verified: Verified,
    /// What it greeted with. It came in plain text.
    pub(super) greeting: Greeting,
    asking: &'a Asking<'a>,
    agreed: Result<Capabilities, Missing>,
    /// What was said before TLS, if there is any, must be said again inside: both flavours take the first for true (seen with MySQL 9.7 and
    /// MariaDB 11.8).
    flags: Capabilities,
    packets: Packets,
}

/// What the account's connection says about the login.
pub(super) struct Rules<'a> {
    /// `require_auth`.
    pub(super) methods: &'a Methods<Method>,
    /// The server's RSA key, PEM.
    pub(super) server_public_key: Option<&'a [u8]>,
}

/// A server that let us in.
pub(super) struct Ready {
    /// Its OK, a packet's whole payload.
    pub(super) ok: Vec<u8>,
    /// How both sides speak from now on. SSL and CONNECT_WITH_DB are never in it.
    pub(super) capabilities: Capabilities,
    /// What a KILL must say.
    pub(super) thread_id: u32,
}

/// How a session gets into its server.
pub(super) struct Login<'a> {
    pub(super) asking: &'a Asking<'a>,
    pub(super) rules: Rules<'a>,
    /// Told what the server greets with, also where it then does not let us in.
    pub(super) heard: &'a (dyn Fn(&Greeting) + Sync),
}

impl<'a> session::Login for Login<'a> {
    type Reached = Reached<'a>;
    type Ready = Ready;

    async fn connect(&self, endpoint: Endpoint) -> Result<Reached<'a>, SessionError> {
        let reached = connect(endpoint, self.asking).await?;
        (self.heard)(&reached.greeting);
        Ok(reached)
    }

    fn verified<'r>(reached: &'r Reached<'a>) -> &'r Verified {
        &reached.verified
    }

    async fn log_in(&self, reached: &mut Reached<'a>, credential: &Credential) -> Result<Ready, Failure> {
        login(reached, credential, &self.rules).await
    }
}

/// TCP, the server's greeting, and TLS as the connection asks for. A server that lacks what the client was promised is reached all the
/// same: what it greeted with is worth knowing. The login fails.
pub(super) async fn connect<'a>(endpoint: Endpoint, asking: &'a Asking<'a>) -> Result<Reached<'a>, SessionError> {
    let mut unverified = endpoint.connect().await?;
    let mut packets = Packets::default();
    // Exactly one packet: more would be bytes from before TLS.
    let read = tokio::time::timeout(GREETING_TIMEOUT, packets.read(unverified.preface(), packet::UPSTREAM_MAX)).await;
    let payload =
        read.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(|error| unreachable(format!("greeting: {error}")))?;
    let greeting = greeting(&payload)?;
    let server = greeting.capabilities;
    let agreed = capabilities::upstream_answer(asking.client, asking.offered, server);
    let mut flags = agreed.unwrap_or_else(|_| asking.client.and(asking.offered).and(server));
    if asking.database.is_some_and(|database| !database.is_empty()) {
        flags = flags.or(Capabilities::CONNECT_WITH_DB);
    }
    let verified = if !unverified.wants_tls() {
        unverified.exempt()?
    } else if server.has(Capabilities::SSL) {
        flags = flags.or(Capabilities::SSL);
        let request = wire::ssl_request(flags, asking.max_packet, asking.charset);
        let written = packets.write(unverified.preface(), &request).await;
        written.map_err(|error| unreachable(format!("SSLRequest: {error}")))?;
        unverified.secure().await?
    } else {
        return Err(SessionError::new(Refusal::UpstreamUnverified, Party::Upstream, Stage::Connect, "the server has no TLS"));
    };
    Ok(Reached { verified, greeting, asking, agreed, flags, packets })
}

/// Parses a greeting of a server that we can log in to.
fn greeting(payload: &[u8]) -> Result<Greeting, SessionError> {
    const NEEDED: Capabilities =
        Capabilities::PROTOCOL_41.or(Capabilities::SECURE_CONNECTION).or(Capabilities::PLUGIN_AUTH).or(Capabilities::CONNECT_WITH_DB);
    let greeting = Greeting::parse(payload).map_err(|malformed| match ServerError::parse(payload) {
        Ok(error) => refused(&error, Stage::Connect).1,
        Err(_) => unreachable(malformed.0),
    })?;
    if !greeting.capabilities.has(NEEDED) {
        let text = "the server is older than authentication plugins (MySQL 5.5, MariaDB 5.2)";
        return Err(SessionError::new(Refusal::Unsupported, Party::Upstream, Stage::Connect, text));
    }
    Ok(greeting)
}

/// Logs in with the credential. This is the injection.
pub(super) async fn login(reached: &mut Reached<'_>, credential: &Credential, rules: &Rules<'_>) -> Result<Ready, Failure> {
    let Reached { verified, greeting, asking, agreed, flags, packets } = reached;
    let capabilities = agreed.map_err(|Missing(flag)| {
        let text = format!("the client was promised {flag}, which the server has not");
        Failure::Other(SessionError::new(Refusal::Unsupported, Party::Upstream, Stage::Inject, text))
    })?;
    let password = credential.password().ok_or_else(|| unacceptable("it asks for a password, and the account has none"))?;
    let way = Way { by: verified.by(), tls: verified.stream().is_tls(), unix: matches!(verified.stream(), Stream::Unix(_)) };
    // Exposed: it is what we log in with.
    let mut proof = Proof::new(password.expose(), way, rules);
    let (plugin, auth) = proof.first(&greeting.plugin, &greeting.scramble);
    let answer = Answer {
        capabilities: *flags,
        max_packet: asking.max_packet,
        charset: asking.charset,
        user: credential.username().as_bytes().to_vec(),
        auth,
        database: asking.database.map(<[u8]>::to_vec),
        plugin: plugin.to_vec(),
        attributes: asking.attributes.clone(),
    };
    packets.write(verified.stream(), &answer.encode()).await.map_err(|error| broken(&error))?;
    loop {
        let payload = packets.read(verified.stream(), packet::UPSTREAM_MAX).await.map_err(|error| broken(&error))?;
        match proof.next(reply(&payload)?)? {
            Step::Say(said) => packets.write(verified.stream(), &said).await.map_err(|error| broken(&error))?,
            Step::Wait => {}
            Step::In(ok) => return Ok(Ready { ok: ok.to_vec(), capabilities, thread_id: greeting.thread_id }),
        }
    }
}

/// MySQL marks whatever a plugin says. MariaDB marks only what would be taken for another packet.
fn reply(payload: &[u8]) -> Result<Reply<'_>, Failure> {
    match payload {
        [0x00..=0x02 | 0xfe | 0xff, ..] | [] => wire::reply(payload).map_err(|error| protocol(error.0)),
        said => Ok(Reply::More(said)),
    }
}

/// What a server's error before its OK means to us, and whether another credential may do. Its text holds user names and hosts: it stays
/// in the log.
fn refused(error: &ServerError, stage: Stage) -> (Again, SessionError) {
    let (upstream, again) = match error.code {
        // ER_ACCESS_DENIED_ERROR, ER_ACCESS_DENIED_NO_PASSWORD_ERROR
        1045 | 1698 => (UpstreamRefusal::LoginRejected, Again::OtherCredential),
        // ER_DBACCESS_DENIED_ERROR, ER_BAD_DB_ERROR
        1044 | 1049 => (UpstreamRefusal::NoSuchDatabase, Again::No),
        // ER_CON_COUNT_ERROR, ER_HOST_IS_BLOCKED, ER_TOO_MANY_USER_CONNECTIONS, ER_USER_LIMIT_REACHED
        1040 | 1129 | 1203 | 1226 => (UpstreamRefusal::TooManyConnections, Again::No),
        // ER_SERVER_SHUTDOWN, ER_SERVER_OFFLINE_MODE
        1053 | 3032 => (UpstreamRefusal::StartingUp, Again::No),
        // Among them an expired password (1820, 1862), a locked account (3118, 3955, 4151) and a host that may not connect (1130).
        _ => (UpstreamRefusal::LoginRejected, Again::No),
    };
    let state = crate::error::escaped(&error.state);
    let text = format!("{} ({state}): {}", error.code, crate::error::escaped(&error.message));
    (again, SessionError::new(Refusal::UpstreamRefused(upstream), Party::Upstream, stage, text))
}

/// Whether a login that a server refused may be tried once more.
enum Again {
    OtherCredential,
    No,
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        match refused(&error, Stage::Inject) {
            (Again::OtherCredential, error) => Self::Rejected(error),
            (Again::No, error) => Self::Other(error),
        }
    }
}

fn unacceptable(text: impl Into<std::borrow::Cow<'static, str>>) -> Failure {
    let refusal = Refusal::UpstreamRefused(UpstreamRefusal::LoginRejected);
    Failure::Other(SessionError::new(refusal, Party::Upstream, Stage::Inject, text))
}

fn unverified(text: &'static str) -> Failure {
    Failure::Other(SessionError::new(Refusal::UpstreamUnverified, Party::Upstream, Stage::Inject, text))
}

fn protocol(text: &'static str) -> Failure {
    Failure::Other(SessionError::new(Refusal::UpstreamUnreachable, Party::Upstream, Stage::Inject, text))
}

fn broken(error: &io::Error) -> Failure {
    let text = format!("upstream: {error}");
    Failure::Other(SessionError::new(Refusal::UpstreamUnreachable, Party::Upstream, Stage::Inject, text))
}

fn unreachable(text: impl Into<std::borrow::Cow<'static, str>>) -> SessionError {
    SessionError::new(Refusal::UpstreamUnreachable, Party::Upstream, Stage::Connect, text)
}

#[cfg(test)]
mod tests;
