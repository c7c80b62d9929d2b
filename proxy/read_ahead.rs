//! Reads ahead below TLS. rustls asks for 4 KiB and then for what fits into its buffer, about one record of 8 KiB a system call (its
//! `DeframerVecBuffer`); where more is waiting than it asked for, a read here takes 64 KiB at once, and the next ones cost no system call. A
//! stream of small messages, and one that is still, hold nothing.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

/// Bytes of one read ahead.
const AHEAD: usize = 64 * 1024;

/// A TCP socket that carries TLS.
pub struct ReadAhead {
    socket: TcpStream,
    ahead: BytesMut,
    /// The last read filled all the room that it was given: more is waiting.
    more: bool,
}

impl ReadAhead {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(socket: TcpStream) -> Self {
        Self { socket, ahead: BytesMut::new(), more: false }
    }

    /// The socket itself, for its addresses.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }
}

impl AsyncRead for ReadAhead {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() {
            let room = buf.remaining();
            if !this.more || room >= AHEAD {
                let before = buf.filled().len();
                ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
                this.more = room > 0 && buf.filled().len().saturating_sub(before) == room;
                return Poll::Ready(Ok(()));
            }
            this.ahead.reserve(AHEAD);
            let read = poll_read_buf(Pin::new(&mut this.socket), cx, &mut this.ahead);
            if !matches!(read, Poll::Ready(Ok(1..))) {
                this.ahead = BytesMut::new();
                this.more = false;
            }
            ready!(read)?;
        }
        let taken = this.ahead.len().min(buf.remaining());
        buf.put_slice(this.ahead.get(..taken).unwrap_or_default());
        this.ahead.advance(taken);
        if this.ahead.is_empty() {
            // Whether more is waiting, the next read of the ordinary size will see.
            this.ahead = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ReadAhead {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (ReadAhead, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (ours, theirs) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (ReadAhead::new(ours.unwrap()), theirs.unwrap().0)
    }

    #[tokio::test]
    async fn every_byte_comes_once_and_in_order_in_reads_of_any_size() {
        let (mut ours, mut theirs) = pair().await;
        let all: Vec<u8> = (0..1_000_003_u32).map(|number| u8::try_from(number % 251).unwrap()).collect();
        let sent = all.clone();
        let send = tokio::spawn(async move {
            for part in sent.chunks(70_001) {
                theirs.write_all(part).await.unwrap();
            }
        });
        let (mut got, mut sizes) = (Vec::new(), [1_usize, 7, 4096, 8214, 3, 65_536, 100_000].into_iter().cycle());
        loop {
            let mut room = vec![0; sizes.next().unwrap()];
            match ours.read(&mut room).await.unwrap() {
                0 => break,
                count => got.extend_from_slice(&room[..count]),
            }
        }
        send.await.unwrap();
        assert!(got == all);
        assert_eq!(ours.ahead.capacity(), 0, "nothing is held at the end");
    }

    #[tokio::test]
    async fn small_messages_hold_nothing() {
        let (mut ours, mut theirs) = pair().await;
        let mut room = [0; 4096];
        for _ in 0..10 {
            theirs.write_all(b"a small message").await.unwrap();
            assert_eq!(ours.read(&mut room).await.unwrap(), 15);
            assert_eq!((ours.ahead.capacity(), ours.more), (0, false));
        }
    }
}
