//! The relay: bytes between a client and an upstream until either ends or somebody ends the session.
//!
//! One task polls both directions in turn; they are independent: a blocked writer never stops the other one. A direction takes a buffer
//! from the pool when there is something to read and gives it back when there is not, so that idle sessions hold none.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use zeroize::Zeroizing;

use crate::refusal::Reason;
use crate::registry::Traffic;
use crate::stream::Stream;

/// Bytes of one read. Larger costs memory per active session, smaller costs system calls.
const BUFFER: usize = 64 * 1024;
/// Buffers kept for the next who needs one: 16 MiB in all.
const POOLED: usize = 256;
/// After its client has gone, an upstream that is silent for this long is at work for nobody.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// A session that is being ended may finish the message that is under way for this long.
const FAREWELL: Duration = Duration::from_secs(2);

/// How the two directions are watched.
pub struct Framing {
    /// From the client to the upstream.
    pub up: Direction,
    /// From the upstream to the client.
    pub down: Direction,
}

/// How one direction is watched.
pub enum Direction {
    /// Bytes.
    Raw,
    /// Message headers are counted; bodies are streamed.
    Tracked(Box<dyn Framer>),
}

/// A sans-I/O reader of message headers.
pub trait Framer: Send {
    /// These bytes came. It is asked again with what it did not take.
    fn pass(&mut self, bytes: &[u8]) -> Passed;

    /// Bytes that must certainly still pass before a message boundary; 0 at one.
    fn to_boundary(&self) -> usize;
}

/// What a framer makes of bytes.
#[derive(Default)]
pub struct Passed {
    /// Bytes of former calls that were kept back until now, and go on before all others.
    pub release: Vec<u8>,
    /// How many of the bytes go on as they are.
    pub forward: usize,
    /// How many the framer took: those, and behind them what it keeps of a message.
    pub taken: usize,
    /// A message that is held back, whole: nothing goes on until somebody has decided about it.
    pub held: Option<Zeroizing<Vec<u8>>>,
}

impl Passed {
    /// All of them go on.
    #[must_use]
    pub fn all(bytes: &[u8]) -> Self {
        Self { forward: bytes.len(), taken: bytes.len(), ..Self::default() }
    }
}

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client closed first.
    Client,
    /// The upstream closed first.
    Upstream,
    /// The client's transport failed.
    ClientFailed(io::ErrorKind),
    /// The upstream's transport failed.
    UpstreamFailed(io::ErrorKind),
    /// Keyward ended it.
    Ended(Reason),
}

impl End {
    /// A fixed word, for the log, metric labels and audit records.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::ClientFailed(_) => "client_failed",
            Self::UpstreamFailed(_) => "upstream_failed",
            Self::Ended(reason) => reason.word(),
        }
    }
}

/// How a relay ended, and whether the upstream may still be at work for nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Who ended it.
    pub end: End,
    /// The upstream closed too: nothing of the session runs there any more.
    pub upstream_closed: bool,
}

/// Buffers that are not in use.
#[derive(Default)]
pub struct Pool(Mutex<Vec<Box<[u8]>>>);

impl Pool {
    fn take(&self) -> Box<[u8]> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| vec![0; BUFFER].into_boxed_slice())
    }

    fn give(&self, buffer: Box<[u8]>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < POOLED {
            kept.push(buffer);
        }
    }
}

/// What one session relays with.
pub struct Relay<'a> {
    /// The client's transport.
    pub client: &'a mut Stream,
    /// The upstream's transport. The caller closes it.
    pub upstream: &'a mut Stream,
    /// How the directions are watched.
    pub framing: Framing,
    /// Where bytes are counted.
    pub traffic: &'a Traffic,
    /// Where buffers come from.
    pub pool: &'a Pool,
}

impl Relay<'_> {
    /// Relays until the end. When `ends` resolves, the message that is under way is finished if the way down is tracked, `farewell` gives
    /// the bytes that tell the client why, and the client's side is closed.
    pub async fn run(self, ends: impl Future<Output = Reason>, farewell: impl FnOnce(Reason) -> Vec<u8>) -> Outcome {
        let Self { client, upstream, framing, traffic, pool } = self;
        let mut up = Pump::new(framing.up);
        let mut down = Pump::new(framing.down);
        let mut ends = pin!(ends);
        let mut end = {
            let mut down_first = false;
            std::future::poll_fn(|cx| {
                if let Poll::Ready(reason) = ends.as_mut().poll(cx) {
                    return Poll::Ready(End::Ended(reason));
                }
                // In turns, or a client that never stops sending would use up this task's share of polls before any answer moved.
                down_first = !down_first;
                for turn in [down_first, !down_first] {
                    let ended = if turn {
                        let polled = down.poll(cx, upstream, client, pool, |bytes| traffic.add_down(bytes));
                        polled.map(|stop| stop.end(End::Upstream, End::UpstreamFailed, End::ClientFailed))
                    } else {
                        let polled = up.poll(cx, client, upstream, pool, |bytes| traffic.add_up(bytes));
                        polled.map(|stop| stop.end(End::Client, End::ClientFailed, End::UpstreamFailed))
                    };
                    if ended.is_ready() {
                        return ended;
                    }
                }
                Poll::Pending
            })
            .await
        };
        let mut upstream_closed = (end == End::Upstream).then_some(true);
        if matches!(end, End::Client | End::UpstreamFailed(_)) {
            // A client may have closed only its sending half, and a server that no longer listens may have said why: the client still gets
            // it, as long as the session may last.
            tokio::select! {
                closed = down.last_words(upstream, Some(client), pool, traffic) => upstream_closed = Some(closed),
                reason = ends.as_mut() => end = End::Ended(reason),
            }
        }
        if let End::Ended(reason) = end {
            let finish = std::future::poll_fn(|cx| down.poll_to_boundary(cx, upstream, client, pool, traffic));
            // Out of the boundary, a message of ours would be taken for a part of theirs: then the client only sees the close.
            if matches!(tokio::time::timeout(FAREWELL, finish).await, Ok(true)) {
                let bytes = farewell(reason);
                let _ = tokio::time::timeout(FAREWELL, async {
                    client.write_all(&bytes).await?;
                    client.flush().await
                })
                .await;
            }
        }
        let _ = tokio::time::timeout(FAREWELL, client.shutdown()).await;
        let upstream_closed = match upstream_closed {
            Some(closed) => closed,
            None => down.last_words(upstream, None, pool, traffic).await,
        };
        up.release(pool);
        down.release(pool);
        Outcome { end, upstream_closed }
    }
}

/// Why a pump stopped.
enum Stop {
    Eof,
    Read(io::ErrorKind),
    Write(io::ErrorKind),
}

impl Stop {
    fn end(self, eof: End, read: fn(io::ErrorKind) -> End, write: fn(io::ErrorKind) -> End) -> End {
        match self {
            Self::Eof => eof,
            Self::Read(kind) => read(kind),
            Self::Write(kind) => write(kind),
        }
    }
}

/// One direction.
struct Pump {
    framer: Option<Box<dyn Framer>>,
    buffer: Option<Box<[u8]>>,
    start: usize,
    end: usize,
    unflushed: bool,
}

impl Pump {
    fn new(direction: Direction) -> Self {
        let framer = match direction {
            Direction::Raw => None,
            Direction::Tracked(framer) => Some(framer),
        };
        Self { framer, buffer: None, start: 0, end: 0, unflushed: false }
    }

    /// Moves what can be moved; ready only when this direction has stopped.
    fn poll(&mut self, cx: &mut Context<'_>, from: &mut Stream, to: &mut Stream, pool: &Pool, count: impl Fn(usize)) -> Poll<Stop> {
        // A share of turns for the other direction and for other sessions: tokio's budget ends this loop on busy sockets.
        loop {
            if let Err(kind) = ready!(self.poll_write(cx, to)) {
                return Poll::Ready(Stop::Write(kind));
            }
            match self.poll_read(cx, from, pool, BUFFER) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Stop::Eof),
                Poll::Ready(Ok(bytes)) => count(bytes),
                Poll::Ready(Err(kind)) => return Poll::Ready(Stop::Read(kind)),
                Poll::Pending => {
                    self.release(pool);
                    if self.unflushed {
                        match Pin::new(&mut *to).poll_flush(cx) {
                            Poll::Ready(Ok(())) => self.unflushed = false,
                            Poll::Ready(Err(error)) => return Poll::Ready(Stop::Write(error.kind())),
                            Poll::Pending => {}
                        }
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Writes what was read and goes on to the next message boundary, not a byte further. `false`: it cannot be reached.
    fn poll_to_boundary(&mut self, cx: &mut Context<'_>, from: &mut Stream, to: &mut Stream, pool: &Pool, traffic: &Traffic) -> Poll<bool> {
        loop {
            if ready!(self.poll_write(cx, to)).is_err() {
                return Poll::Ready(false);
            }
            let left = match &self.framer {
                None => return Poll::Ready(false),
                Some(framer) => framer.to_boundary(),
            };
            if left == 0 {
                return Poll::Ready(true);
            }
            match ready!(self.poll_read(cx, from, pool, left)) {
                Ok(bytes) if bytes > 0 => traffic.add_down(bytes),
                _ => return Poll::Ready(false),
            }
        }
    }

    /// Tells the upstream that nothing more comes, and passes on what it still says (to nobody, once the client cannot be written) until it
    /// closes. `false`: it did not; a query may be running there. A server that has nothing to do closes at once.
    async fn last_words(&mut self, upstream: &mut Stream, mut client: Option<&mut Stream>, pool: &Pool, traffic: &Traffic) -> bool {
        let _ = tokio::time::timeout(FAREWELL, upstream.shutdown()).await;
        let mut deadline = Instant::now().checked_add(LAST_WORDS);
        loop {
            let step = async {
                if let Some(to) = client.as_deref_mut() {
                    let written = std::future::poll_fn(|cx| self.poll_write(cx, to)).await.is_ok() && to.flush().await.is_ok();
                    if !written {
                        client = None;
                    }
                }
                std::future::poll_fn(|cx| self.poll_read(cx, upstream, pool, BUFFER)).await
            };
            let left = deadline.map_or(LAST_WORDS, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            match tokio::time::timeout(left, step).await {
                Ok(Ok(0) | Err(_)) => return true,
                Ok(Ok(bytes)) if client.is_some() => {
                    traffic.add_down(bytes);
                    // Somebody listens: only silence counts.
                    deadline = Instant::now().checked_add(LAST_WORDS);
                }
                Ok(Ok(_)) => {}
                Err(_) => return false,
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, from: &mut Stream, pool: &Pool, most: usize) -> Poll<Result<usize, io::ErrorKind>> {
        let buffer = self.buffer.get_or_insert_with(|| pool.take());
        let room = buffer.get_mut(..most.min(BUFFER)).unwrap_or_default();
        let mut space = ReadBuf::new(room);
        ready!(Pin::new(from).poll_read(cx, &mut space)).map_err(|error| error.kind())?;
        let bytes = space.filled();
        if let Some(framer) = &mut self.framer {
            framer.pass(bytes);
        }
        (self.start, self.end) = (0, bytes.len());
        Poll::Ready(Ok(self.end))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, to: &mut Stream) -> Poll<Result<(), io::ErrorKind>> {
        while let Some(left) = self.buffer.as_deref().and_then(|buffer| buffer.get(self.start..self.end)).filter(|left| !left.is_empty()) {
            let wrote = ready!(Pin::new(&mut *to).poll_write(cx, left)).map_err(|error| error.kind())?;
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero));
            }
            self.start = self.start.saturating_add(wrote);
            self.unflushed = true;
        }
        Poll::Ready(Ok(()))
    }

    fn release(&mut self, pool: &Pool) {
        if let Some(buffer) = self.buffer.take() {
            pool.give(buffer);
        }
        (self.start, self.end) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;

    use super::*;

    const PIECE: usize = 64 * 1024;

    /// A relay without an end of its own between two sockets: the client's and the upstream's.
    fn relayed() -> (UnixStream, UnixStream) {
        let (client, upstream, _) = relayed_until(std::future::pending());
        (client, upstream)
    }

    /// One that somebody may end.
    fn relayed_until(ends: impl Future<Output = Reason> + Send + 'static) -> (UnixStream, UnixStream, tokio::task::JoinHandle<Outcome>) {
        let ((client, ours), (theirs, upstream)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let ended = tokio::spawn(async move {
            let (mut client, mut upstream) = (Stream::Unix(ours), Stream::Unix(theirs));
            let (traffic, pool) = (Arc::new(Traffic::new(<_>::default())), Pool::default());
            let framing = Framing { up: Direction::Raw, down: Direction::Raw };
            let relay = Relay { client: &mut client, upstream: &mut upstream, framing, traffic: &traffic, pool: &pool };
            relay.run(ends, |_| b"bye".to_vec()).await
        });
        (client, upstream, ended)
    }

    async fn flood(mut to: impl AsyncWrite + Unpin) {
        while to.write_all(&[0; PIECE]).await.is_ok() {}
    }

    async fn drink(mut from: impl AsyncRead + Unpin) {
        let mut buffer = vec![0; PIECE];
        while from.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {}
    }

    /// One side floods the other, which speaks all the while and reads only if it `drinks`.
    async fn words_beside_a_flood(flood_is_down: bool, drinks: bool) {
        let (client, upstream) = relayed();
        let (flooder, other) = if flood_is_down { (upstream, client) } else { (client, upstream) };
        let ((mut reader, out), (into, mut writer)) = (flooder.into_split(), other.into_split());
        let flooding = tokio::spawn(flood(out));
        let drinking = drinks.then_some(into).map(|into| tokio::spawn(drink(into)));
        for word in 0..100 {
            writer.write_all(&[word]).await.unwrap();
            let heard = tokio::time::timeout(Duration::from_secs(10), reader.read_u8()).await;
            assert_eq!(heard.expect("the word is not held up").unwrap(), word);
        }
        assert!(!flooding.is_finished(), "the flood went on");
        flooding.abort();
        drinking.inspect(tokio::task::JoinHandle::abort);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn a_word_gets_through_beside_a_flood_the_other_way() {
        words_beside_a_flood(true, true).await;
        words_beside_a_flood(false, true).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn a_blocked_writer_does_not_stop_the_other_direction() {
        words_beside_a_flood(true, false).await;
        words_beside_a_flood(false, false).await;
    }

    #[tokio::test]
    async fn what_a_server_says_that_no_longer_listens_still_gets_to_the_client() {
        let (mut client, mut upstream) = relayed();
        socket2::SockRef::from(&upstream).shutdown(std::net::Shutdown::Read).unwrap();
        client.write_all(b"query").await.unwrap();
        // The relay has to find out first; on this one thread it runs while we give way.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        upstream.write_all(b"why").await.unwrap();
        drop(upstream);
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"why");
    }

    #[tokio::test]
    async fn a_session_can_be_ended_after_its_client_closed_the_sending_half() {
        let (end, ends) = tokio::sync::oneshot::channel();
        let (mut client, mut upstream, ended) = relayed_until(async { ends.await.unwrap_or(Reason::Killed) });
        client.shutdown().await.unwrap();
        assert_eq!(upstream.read(&mut [0; 1]).await.unwrap(), 0, "the relay has seen it");
        upstream.write_all(b"more to come").await.unwrap();
        client.read_exact(&mut [0; 12]).await.unwrap();
        end.send(Reason::Killed).unwrap();
        let outcome = ended.await.unwrap();
        assert_eq!(outcome, Outcome { end: End::Ended(Reason::Killed), upstream_closed: false });
    }
}
