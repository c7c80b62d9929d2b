//! A transport on a byte stream: the bytes that `Conn` neither reads nor writes itself. Logins use `hear` and `say`; the relay and the jump
//! poll.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use keyward_ssh_transport::certificate::Presented;
use keyward_ssh_transport::{ClientConfig, Conn, Event, Fatal, Role, ServerConfig, SystemRandom};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use zeroize::Zeroizing;

use crate::error::{Party, SessionError, Stage};
use crate::refusal::Refusal;
use crate::stream::Stream;

/// A transport. Its stream is the caller's: a login borrows it, a relay takes it.
pub(super) struct Wire {
    /// The state machine.
    pub(super) conn: Conn,
    /// The peer sends nothing any more.
    pub(super) eof: bool,
}

/// What was heard.
pub(super) enum Heard {
    /// A server shows this as its host key; nothing more comes before it is accepted.
    HostKey(Box<Presented>),
    /// The first keys are in use.
    Ready,
    /// A message of a layer above; wiped, since it may hold a password.
    Message(Zeroizing<Vec<u8>>),
}

/// Why nothing more is heard.
#[derive(Debug)]
pub(super) enum Silent {
    /// The stream failed.
    Io(io::Error),
    /// The peer said goodbye, in these words: printable ASCII, at most 200 characters.
    Goodbye(String),
    /// The peer did what it must not do.
    Fatal(Fatal),
}

impl Wire {
    /// Towards a user.
    pub(super) fn server(config: Arc<ServerConfig>) -> Self {
        Self::new(Role::Server(config))
    }

    /// Towards an upstream.
    pub(super) fn client(config: ClientConfig) -> Self {
        Self::new(Role::Client(Arc::new(config)))
    }

    fn new(role: Role) -> Self {
        Self { conn: Conn::new(role, Box::new(SystemRandom), Instant::now()), eof: false }
    }

    /// The next thing that the peer says. What waits for it is sent before.
    pub(super) async fn hear(&mut self, stream: &mut Stream) -> Result<Heard, Silent> {
        loop {
            match self.conn.next().map_err(Silent::Fatal)? {
                Some(Event::Message(message)) => return Ok(Heard::Message(Zeroizing::new(message.to_vec()))),
                Some(Event::Ready) => return Ok(Heard::Ready),
                Some(Event::HostKey { blob, algorithm }) => {
                    let presented = Presented::parse(algorithm, blob);
                    let presented = presented.map_err(|_| Silent::Fatal(Fatal::HostKey("the host key cannot be read")))?;
                    return Ok(Heard::HostKey(Box::new(presented)));
                }
                Some(Event::Disconnect { text, .. }) => return Err(Silent::Goodbye(text)),
                None => {}
            }
            self.flush(stream).await.map_err(Silent::Io)?;
            let read = stream.read(self.conn.room()).await.map_err(Silent::Io)?;
            if read == 0 {
                return Err(Silent::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            self.conn.received(read);
        }
    }

    /// Sends messages of a layer above.
    pub(super) async fn say<M: AsRef<[u8]>>(&mut self, stream: &mut Stream, messages: &[M]) -> Result<(), Silent> {
        for message in messages {
            self.conn.send(message.as_ref()).map_err(Silent::Fatal)?;
        }
        self.flush(stream).await.map_err(Silent::Io)
    }

    /// Writes what waits for the peer.
    pub(super) async fn flush(&mut self, stream: &mut Stream) -> io::Result<()> {
        while !self.conn.output().is_empty() {
            let written = stream.write(self.conn.output()).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.conn.wrote(written);
        }
        stream.flush().await
    }

    /// Writes as much as the stream takes now. Ready: something was written; the number of bytes.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<io::Result<usize>> {
        let mut written: usize = 0;
        while !self.conn.output().is_empty() {
            match Pin::new(&mut *stream).poll_write(cx, self.conn.output()) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(length)) => {
                    self.conn.wrote(length);
                    written = written.saturating_add(length);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        if written == 0 {
            return Poll::Pending;
        }
        // TLS and pipes have nothing of their own to hold back here; sockets never do.
        let _ = Pin::new(stream).poll_flush(cx)?;
        Poll::Ready(Ok(written))
    }

    /// Reads what is there. Ready: bytes came, or the end did (`eof`). Pending also where what came before has to be taken out first.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<io::Result<()>> {
        let room = self.conn.room();
        if self.eof || room.is_empty() {
            return Poll::Pending;
        }
        let mut buffer = ReadBuf::new(room);
        ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
        let length = buffer.filled().len();
        self.eof = length == 0;
        self.conn.received(length);
        Poll::Ready(Ok(()))
    }
}

impl Silent {
    /// As the client's fault.
    pub(super) fn of_client(self, stage: Stage) -> SessionError {
        match self {
            Self::Io(error) => SessionError::client_io(stage, &error),
            Self::Goodbye(text) => SessionError { left: true, ..SessionError::malformed(stage, format!("the client left: {text:?}")) },
            Self::Fatal(Fatal::Internal(text)) => SessionError::new(Refusal::Internal, Party::Proxy, stage, text),
            Self::Fatal(fatal @ (Fatal::NoCommon(_) | Fatal::NotStrict)) => {
                SessionError::new(Refusal::Unsupported, Party::Client, stage, fatal.to_string())
            }
            Self::Fatal(fatal) => SessionError::malformed(stage, fatal.to_string()),
        }
    }

    /// As the upstream's fault.
    pub(super) fn of_upstream(self, stage: Stage) -> SessionError {
        let unreachable = |text: String| SessionError::new(Refusal::UpstreamUnreachable, Party::Upstream, stage, text);
        match self {
            Self::Io(error) => unreachable(format!("the server: {error}")),
            Self::Goodbye(text) => unreachable(format!("the server ended the connection: {text:?}")),
            Self::Fatal(fatal @ Fatal::HostKey(_)) => {
                SessionError::new(Refusal::UpstreamUnverified, Party::Upstream, stage, fatal.to_string())
            }
            Self::Fatal(Fatal::Internal(text)) => SessionError::new(Refusal::Internal, Party::Proxy, stage, text),
            Self::Fatal(fatal) => unreachable(fatal.to_string()),
        }
    }
}
