//! One byte stream, whatever carries it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::read_ahead::ReadAhead;

/// A transport to a client or to an upstream.
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
    /// TLS towards a client.
    TlsServer(Box<tokio_rustls::server::TlsStream<ReadAhead>>),
    /// TLS towards an upstream.
    TlsClient(Box<tokio_rustls::client::TlsStream<ReadAhead>>),
    /// The inside of another link, such as a channel of SSH.
    Inner(DuplexStream),
    /// Nothing: the stream was taken, or failed in the middle of a TLS handshake.
    Closed,
}

/// Keep-alive on both sides: an idle peer that vanished without a FIN is noticed within about 90 s. No TCP_USER_TIMEOUT: it would also cut
/// a peer that is there and does not read for a while (tcp(7)), as a COPY into a slow disk does.
pub fn tune(socket: &TcpStream) -> io::Result<()> {
    use std::time::Duration;
    let socket = socket2::SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10)).with_retries(3);
    socket.set_tcp_keepalive(&keepalive)
}

impl Stream {
    /// Takes the stream and leaves `Closed`.
    #[must_use]
    pub fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Closed)
    }

    /// Whether TLS protects it.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::TlsServer(_) | Self::TlsClient(_))
    }

    /// The address of our end, if it has one.
    #[must_use]
    pub fn local(&self) -> Option<SocketAddr> {
        self.socket().and_then(|tcp| tcp.local_addr().ok())
    }

    /// The address of the other end, if it has one.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.socket().and_then(|tcp| tcp.peer_addr().ok())
    }

    fn socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(tcp) => Some(tcp),
            Self::TlsServer(tls) => Some(tls.get_ref().0.socket()),
            Self::TlsClient(tls) => Some(tls.get_ref().0.socket()),
            Self::Unix(_) | Self::Inner(_) | Self::Closed => None,
        }
    }
}

macro_rules! each {
    ($self:expr, $stream:ident => $call:expr, $closed:expr) => {
        match $self.get_mut() {
            Stream::Tcp($stream) => $call,
            Stream::Unix($stream) => $call,
            Stream::TlsServer($stream) => $call,
            Stream::TlsClient($stream) => $call,
            Stream::Inner($stream) => $call,
            Stream::Closed => $closed,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = each!(self, stream => Pin::new(stream).poll_read(cx, buf), Poll::Ready(Ok(())));
        match read {
            // A client that drops without close_notify (psql, several drivers) ends in the ordinary way: the protocols above carry
            // their own end, so a cut cannot be taken for one.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            other => other,
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, buf), Poll::Ready(Err(io::ErrorKind::NotConnected.into())))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx), Poll::Ready(Ok(())))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx), Poll::Ready(Ok(())))
    }
}
