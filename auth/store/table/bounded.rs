//! A stream that gives only so many bytes until somebody allows more: an answer has a bound whatever the server says of its length.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Answers that may be under way at one time, and what unused allowances add up to.
const MOST_ANSWERS: usize = 4;

/// How many bytes may still be read.
#[derive(Clone)]
pub(super) struct Allowance(Arc<AtomicUsize>);

impl Allowance {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// So many more, for one more answer.
    pub(super) fn more(&self, bytes: usize) {
        let more = |left: usize| Some(left.saturating_add(bytes).min(bytes.saturating_mul(MOST_ANSWERS)));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }
}

/// The stream.
pub(super) struct Bounded<S> {
    stream: S,
    left: Allowance,
}

impl<S> Bounded<S> {
    pub(super) fn new(stream: S, left: Allowance) -> Self {
        Self { stream, left }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let read = buffer.filled().len().saturating_sub(before);
        let taken = self.left.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(read));
        Poll::Ready(taken.map(drop).map_err(|_| io::Error::other("the answer is longer than any that was asked for")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn what_is_longer_than_allowed_is_an_error() {
        let left = Allowance::new(4);
        let mut stream = Bounded::new(&b"123456789"[..], left.clone());
        let mut four = [0; 4];
        stream.read_exact(&mut four).await.unwrap();
        assert!(stream.read_u8().await.is_err());
        left.more(1);
        assert_eq!(stream.read_u8().await.unwrap(), b'6');
        (0..9).for_each(|_| left.more(1));
        assert_eq!(left.0.load(Ordering::Relaxed), MOST_ANSWERS, "what nobody used does not add up for ever");
    }
}
