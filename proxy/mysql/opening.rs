//! From the first byte, which is ours, to the client's answer: the greeting, and TLS if the client asks for it.

use std::io;

use super::capabilities::{self, Capabilities};
use super::facts::Face;
use super::packet::{self, Packets};
use super::wire::{self, Answer, ClientFirst, Greeting};
use crate::error::{Party, SessionError, Stage};
use crate::link::Link;
use crate::refusal::Refusal;
use crate::stream::Stream;

/// Names as they come: a user, a connection and an account of the file's length, and what joins them, fit by far.
const NAME_MAX: usize = 1024;

const OLD: &str = "a client that does not speak protocol 4.1";
/// What no client may lack: the packets as they are since 4.1, and a login by plugin.
const NEEDED: [(Capabilities, &str); 3] = [
    (Capabilities::PROTOCOL_41, OLD),
    (Capabilities::SECURE_CONNECTION, "a client without CLIENT_SECURE_CONNECTION"),
    (Capabilities::PLUGIN_AUTH, "a client without CLIENT_PLUGIN_AUTH"),
];

/// What a client came for.
pub(super) enum Opening {
    /// Nothing: a health probe.
    Probe,
    /// A session, or a word to one.
    Answered(Box<Opened>),
}

/// A client that answered.
pub(super) struct Opened {
    /// The login name as it came.
    pub(super) login: String,
    /// The database that it names; an empty name is none (the second login of Ctrl-C in mysql sends one).
    pub(super) database: Option<String>,
    /// The answer. It claims no capability that was not offered.
    pub(super) answer: Answer,
    /// What the client was to mix its proof with.
    pub(super) scramble: [u8; 20],
    /// What it was offered.
    pub(super) offered: Capabilities,
}

/// Greets, and reads what the client answers, inside TLS if it asks for that. `packets` knows afterwards which number a refusal has.
pub(super) async fn open(
    link: &Link,
    client: &mut Stream,
    packets: &mut Packets,
    face: &Face,
    thread_id: u32,
) -> Result<Opening, SessionError> {
    let offered = capabilities::offer(face.capabilities, link.door.identity.is_some(), face.local_infile);
    let scramble = wire::scramble().ok_or_else(|| SessionError::no_random(Stage::Open))?;
    let greeting = Greeting {
        version: face.version.clone(),
        thread_id,
        scramble: scramble.to_vec(),
        capabilities: offered,
        charset: face.charset,
        status: face.status,
        plugin: super::login::CACHING_SHA2.to_vec(),
    };
    let first = async {
        packets.write(client, &greeting.encode()).await?;
        packets.read_or_end(client, packet::LOGIN_MAX).await
    };
    let payload = match first.await {
        Ok(Some(payload)) => payload,
        Ok(None) => return Ok(Opening::Probe),
        // Several balancers end their probes with a reset.
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => return Ok(Opening::Probe),
        Err(error) => return Err(SessionError::client_io(Stage::Open, &error)),
    };
    let answer = match wire::client_first(&payload).map_err(malformed)? {
        ClientFirst::Tls { .. } => {
            // Exactly one packet was read: bytes that came before TLS must never be taken for bytes that came inside it.
            secure(link, client).await?;
            let payload = packets.read(client, packet::LOGIN_MAX).await.map_err(|error| SessionError::client_io(Stage::Open, &error))?;
            match wire::client_first(&payload).map_err(malformed)? {
                ClientFirst::Answer(answer) => *answer,
                ClientFirst::Tls { .. } => return Err(SessionError::malformed(Stage::Open, "asked twice for TLS")),
                ClientFirst::Unsupported => return Err(unsupported(OLD)),
            }
        }
        _ if !link.local => {
            let text = "a login without TLS from another machine";
            return Err(SessionError::new(Refusal::TlsRequired, Party::Client, Stage::Open, text));
        }
        ClientFirst::Answer(answer) => *answer,
        ClientFirst::Unsupported => return Err(unsupported(OLD)),
    };
    opened(answer, scramble, offered).map(|opened| Opening::Answered(Box::new(opened)))
}

fn opened(mut answer: Answer, scramble: [u8; 20], offered: Capabilities) -> Result<Opened, SessionError> {
    if let Some((_, text)) = NEEDED.iter().find(|(needed, _)| !answer.capabilities.has(*needed)) {
        return Err(unsupported(text));
    }
    // The mysql client sets flags that nobody offered. Bit 0 is no offer: it says which of the flags the client has.
    answer.capabilities = answer.capabilities.and(offered.or(Capabilities::LONG_PASSWORD));
    let login = name(&answer.user, "the user's name is too long or not UTF-8")?;
    let database = answer.database.as_deref().filter(|database| !database.is_empty());
    let database = database.map(|database| name(database, "the database's name is too long or not UTF-8")).transpose()?;
    Ok(Opened { login, database, answer, scramble, offered })
}

fn name(bytes: &[u8], otherwise: &'static str) -> Result<String, SessionError> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= NAME_MAX);
    text.map(str::to_owned).ok_or_else(|| SessionError::malformed(Stage::Open, otherwise))
}

async fn secure(link: &Link, client: &mut Stream) -> Result<(), SessionError> {
    let none = || SessionError::malformed(Stage::Open, "TLS where there is none");
    // Taken only if it is TCP: whoever asks elsewhere still hears why not.
    let identity = link.door.identity.as_ref().filter(|_| matches!(client, Stream::Tcp(_))).ok_or_else(none)?;
    let Stream::Tcp(socket) = client.take() else { return Err(none()) };
    let tls = identity.accept(socket).await;
    let tls = tls.map_err(|error| SessionError::malformed(Stage::Open, format!("TLS: {error}")))?;
    *client = Stream::TlsServer(Box::new(tls));
    Ok(())
}

fn unsupported(text: &'static str) -> SessionError {
    SessionError::new(Refusal::Unsupported, Party::Client, Stage::Open, text)
}

fn malformed(error: wire::Malformed) -> SessionError {
    SessionError::malformed(Stage::Open, error.0)
}

#[cfg(test)]
#[path = "opening_tests.rs"]
mod tests;
