//! The admin socket: a unix socket in the state folder, which only our own user may enter. One JSON line asks, one answers.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keyward_auth::SessionId;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::listen::bind_unix;
use crate::refusal::Reason;
use crate::reload::{self, Reloader};
use crate::server::Proxy;

/// The longest path, escaped, and some.
const REQUEST_MAX: u64 = 32 * 1024;
/// A list of 10 000 sessions is about 3 MiB.
const ANSWER_MAX: u64 = 64 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(30);

/// What an operator asks.
#[derive(Serialize, Deserialize, Debug)]
#[serde(tag = "command", rename_all = "lowercase")]
pub enum Request {
    /// The live sessions.
    Sessions,
    /// To end one.
    Kill {
        /// Its id.
        session: String,
    },
    /// To take the file as it is now, and to open the audit record anew.
    Reload {
        /// Which file the operator means, as [`reload::shown`] has it. An earlier version does not say.
        #[serde(default)]
        file: Option<String>,
    },
}

/// What he is answered.
#[derive(Serialize, Deserialize, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// The live sessions, the oldest first.
    Sessions(Vec<SessionRow>),
    /// It was done.
    Done(String),
    /// It was not.
    Failed(String),
}

/// A live session as operators see it.
#[derive(Serialize, Deserialize, Debug)]
pub struct SessionRow {
    /// Its id.
    pub session: String,
    /// Who.
    pub user: String,
    /// From where.
    pub source: String,
    /// What.
    pub connection: String,
    /// Which server of it, if it is a group.
    #[serde(default)]
    pub host: Option<String>,
    /// As whom.
    pub account: String,
    /// Its protocol.
    pub protocol: String,
    /// Seconds since it opened.
    pub age: u64,
    /// Seconds since a byte moved.
    pub idle: u64,
    /// Bytes from the client.
    pub bytes_up: u64,
    /// Bytes to the client.
    pub bytes_down: u64,
}

/// Opens the socket, mode 0600.
///
/// # Errors
/// The socket's.
pub fn open(path: &Path) -> io::Result<UnixListener> {
    bind_unix(path, 0o600)
}

/// Serves operators until dropped.
pub async fn serve(listener: UnixListener, proxy: Arc<Proxy>, reloader: Arc<Reloader>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (proxy, reloader) = (Arc::clone(&proxy), Arc::clone(&reloader));
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(PATIENCE, one(stream, &proxy, reloader)).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "admin socket: accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn one(stream: UnixStream, proxy: &Proxy, reloader: Arc<Reloader>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    (&mut stream).take(REQUEST_MAX).read_line(&mut line).await?;
    let answer = match serde_json::from_str(&line) {
        Ok(request) => answer(request, proxy, reloader).await,
        Err(_) => Answer::Failed("not a request that this version knows".to_owned()),
    };
    let mut bytes = serde_json::to_vec(&answer)?;
    bytes.push(b'\n');
    stream.write_all(&bytes).await?;
    stream.shutdown().await
}

async fn answer(request: Request, proxy: &Proxy, reloader: Arc<Reloader>) -> Answer {
    match request {
        Request::Sessions => Answer::Sessions(rows(proxy)),
        Request::Kill { session } => match session.parse::<SessionId>() {
            Ok(id) if proxy.registry.end(id, Reason::Killed) => {
                tracing::info!(session = %id, "an operator ended a session");
                Answer::Done(format!("session {id} is being ended"))
            }
            _ => Answer::Failed("there is no such session".to_owned()),
        },
        Request::Reload { file: Some(file) } if file != reload::shown(reloader.path()) => {
            Answer::Failed(format!("the process runs with {}, not with {file}; nothing was reloaded", reload::shown(reloader.path())))
        }
        Request::Reload { .. } => reloader.reload().await.map_or_else(Answer::Failed, Answer::Done),
    }
}

fn rows(proxy: &Proxy) -> Vec<SessionRow> {
    let mut live = proxy.registry.list();
    live.sort_by_key(|live| live.opened);
    let row = |live: &Arc<crate::registry::Live>| {
        let grant = &live.grant;
        let (bytes_up, bytes_down) = live.traffic.bytes();
        SessionRow {
            session: grant.session().to_string(),
            user: grant.user().to_string(),
            source: grant.source().to_string(),
            connection: grant.connection().name().to_string(),
            host: grant.host().map(ToOwned::to_owned),
            account: grant.account().name().to_string(),
            protocol: grant.connection().protocol().to_owned(),
            age: live.opened.elapsed().as_secs(),
            idle: live.traffic.idle().as_secs(),
            bytes_up,
            bytes_down,
        }
    };
    live.iter().map(row).collect()
}

/// Asks a running process.
///
/// # Errors
/// A text for the operator: nobody listens, or the answer is none.
pub async fn ask(path: &Path, request: &Request) -> Result<Answer, String> {
    let shown = |error: io::Error| format!("{}: {error}; is keyward running with this state folder?", path.display());
    let exchange = async {
        let mut stream = UnixStream::connect(path).await?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_MAX).read_to_end(&mut answer).await?;
        Ok(answer)
    };
    let answer = tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| "no answer within 30 s".to_owned())?.map_err(shown)?;
    serde_json::from_slice(&answer).map_err(|_| "the answer is none that this version knows".to_owned())
}
