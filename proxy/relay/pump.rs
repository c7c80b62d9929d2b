//! One direction of a relay: reads, lets the framer look, writes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use zeroize::Zeroizing;

use super::{BUFFER, Direction, FAREWELL, Framer, LAST_WORDS, Pool, Say};
use crate::registry::Traffic;
use crate::stream::Stream;

/// Why a pump stopped.
pub(super) enum Stop {
    /// Nothing more comes.
    Eof,
    /// It cannot be read.
    Read(io::ErrorKind),
    /// It cannot be written.
    Write(io::ErrorKind),
    /// The framer holds a message back; all that came before it is written.
    Held(Zeroizing<Vec<u8>>),
}

/// One direction.
pub(super) struct Pump {
    framer: Option<Box<dyn Framer>>,
    /// How its sender leaves, where there is no framer to know, and whether it has.
    goodbye: Option<&'static [u8]>,
    left: bool,
    /// Goes on before what is in the buffer: what a framer kept for a while, or what somebody decided.
    first: Vec<u8>,
    buffer: Option<Box<[u8]>>,
    /// What may be written of the buffer …
    start: usize,
    end: usize,
    /// … and what the framer has not seen yet.
    fresh: usize,
    filled: usize,
    held: Option<Zeroizing<Vec<u8>>>,
    /// Of our own, for the next gap between two messages.
    words: Option<Say>,
    unflushed: bool,
}

impl Pump {
    pub(super) fn new(direction: Direction) -> Self {
        let (framer, goodbye) = match direction {
            Direction::Raw => (None, None),
            Direction::RawUntil(goodbye) => (None, Some(goodbye)),
            Direction::Tracked(framer) => (Some(framer), None),
        };
        let first = Vec::new();
        Self {
            framer,
            goodbye,
            left: false,
            first,
            buffer: None,
            start: 0,
            end: 0,
            fresh: 0,
            filled: 0,
            held: None,
            words: None,
            unflushed: false,
        }
    }

    /// Moves what can be moved; ready only when this direction has stopped, or holds a message back.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        pool: &Pool,
        count: impl Fn(usize),
    ) -> Poll<Stop> {
        // A share of turns for the other direction and for other sessions: tokio's budget ends this loop on busy sockets.
        loop {
            if let Err(kind) = ready!(self.poll_write(cx, to)) {
                return Poll::Ready(Stop::Write(kind));
            }
            if let Some(message) = self.held.take() {
                return Poll::Ready(Stop::Held(message));
            }
            if self.fresh < self.filled {
                self.look();
                continue;
            }
            let most = match self.framer.as_ref().filter(|_| self.words.is_some()).and_then(|framer| framer.to_gap()) {
                Some(0) => {
                    self.first = self.words.take().map(|words| words()).unwrap_or_default();
                    continue;
                }
                // Not a byte beyond the gap: there may be no other for long.
                Some(left) => left,
                None => BUFFER,
            };
            match self.poll_read(cx, from, pool, most) {
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

    /// These are to stand in the next gap between two messages, if there are any, instead of others that wait for it.
    pub(super) fn say(&mut self, words: Say) {
        if self.is_tracked() {
            self.words = Some(words);
        }
    }

    /// These go on in the place of a message that was held back.
    pub(super) fn instead(&mut self, bytes: Vec<u8>) {
        self.first = bytes;
    }

    /// Writes what was read and, where boundaries are known, goes on to the next one, not a byte further.
    ///
    /// # Errors
    /// Why it cannot be reached.
    pub(super) fn poll_settled(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        pool: &Pool,
        traffic: &Traffic,
    ) -> Poll<Result<(), Stop>> {
        loop {
            if let Err(kind) = ready!(self.poll_write(cx, to)) {
                return Poll::Ready(Err(Stop::Write(kind)));
            }
            let left = self.framer.as_ref().map_or(0, |framer| framer.to_boundary());
            if left == 0 {
                return Pin::new(to).poll_flush(cx).map_err(|error| Stop::Write(error.kind()));
            }
            match ready!(self.poll_read(cx, from, pool, left)) {
                Ok(0) => return Poll::Ready(Err(Stop::Eof)),
                Ok(bytes) => traffic.add_down(bytes),
                Err(kind) => return Poll::Ready(Err(Stop::Read(kind))),
            }
        }
    }

    /// Whether its sender said that it leaves, as far as its messages are known.
    pub(super) fn said_goodbye(&self) -> bool {
        self.left || self.framer.as_ref().is_some_and(|framer| framer.said_goodbye())
    }

    /// Whether message boundaries are known.
    pub(super) fn is_tracked(&self) -> bool {
        self.framer.is_some()
    }

    /// Tells the upstream that nothing more comes, and passes on what it still says (to nobody, once the client cannot be written) until it
    /// closes. `false`: it did not; a query may be running there. A server that has nothing to do closes at once.
    pub(super) async fn last_words(
        &mut self,
        upstream: &mut Stream,
        mut client: Option<&mut Stream>,
        pool: &Pool,
        traffic: &Traffic,
    ) -> bool {
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

    pub(super) fn release(&mut self, pool: &Pool) {
        if let Some(buffer) = self.buffer.take() {
            pool.give(buffer);
        }
        (self.start, self.end, self.fresh, self.filled) = (0, 0, 0, 0);
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, from: &mut Stream, pool: &Pool, most: usize) -> Poll<Result<usize, io::ErrorKind>> {
        let buffer = self.buffer.get_or_insert_with(|| pool.take());
        let room = buffer.get_mut(..most.min(BUFFER)).unwrap_or_default();
        let mut space = ReadBuf::new(room);
        ready!(Pin::new(from).poll_read(cx, &mut space)).map_err(|error| error.kind())?;
        (self.fresh, self.filled) = (0, space.filled().len());
        self.look();
        Poll::Ready(Ok(self.filled))
    }

    /// Asks the framer how much of what it has not seen may be written.
    fn look(&mut self) {
        let bytes = self.buffer.as_deref().and_then(|buffer| buffer.get(self.fresh..self.filled)).unwrap_or_default();
        let Some(framer) = &mut self.framer else {
            self.left = self.goodbye.is_some_and(|goodbye| bytes.ends_with(goodbye));
            (self.start, self.end, self.fresh) = (self.fresh, self.filled, self.filled);
            return;
        };
        let passed = framer.pass(bytes);
        // A framer that took nothing and holds nothing would be asked for ever.
        let taken = if passed.held.is_some() { passed.taken } else { bytes.len() };
        (self.start, self.end) = (self.fresh, self.fresh.saturating_add(passed.forward.min(bytes.len())));
        self.fresh = self.fresh.saturating_add(taken).min(self.filled);
        if !passed.release.is_empty() {
            self.first = passed.release;
        }
        self.held = passed.held;
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, to: &mut Stream) -> Poll<Result<(), io::ErrorKind>> {
        while !self.first.is_empty() {
            let wrote = ready!(write(cx, to, &self.first))?;
            self.first.drain(..wrote);
            self.unflushed = true;
        }
        while let Some(left) = self.buffer.as_deref().and_then(|buffer| buffer.get(self.start..self.end)).filter(|left| !left.is_empty()) {
            let wrote = ready!(write(cx, to, left))?;
            self.start = self.start.saturating_add(wrote);
            self.unflushed = true;
        }
        Poll::Ready(Ok(()))
    }
}

fn write(cx: &mut Context<'_>, to: &mut Stream, bytes: &[u8]) -> Poll<Result<usize, io::ErrorKind>> {
    match ready!(Pin::new(to).poll_write(cx, bytes)) {
        Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero)),
        Ok(wrote) => Poll::Ready(Ok(wrote)),
        Err(error) => Poll::Ready(Err(error.kind())),
    }
}
