//! The relay: bytes between a client and an upstream until either ends or somebody ends the session.
//!
//! One task polls both directions in turn; they are independent: a blocked writer never stops the other one. A direction takes a buffer
//! from the pool when there is something to read and gives it back when there is not, so that idle sessions hold none.

mod pump;

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::Stream as Words;
use futures_util::future::{BoxFuture, join};
use tokio::io::AsyncWriteExt;
use zeroize::Zeroizing;

use crate::refusal::Reason;
use crate::registry::Traffic;
use crate::stream::Stream;
use crate::woken::Woken;
use pump::{Pump, Stop};

/// Bytes of one read. Larger costs memory per active session, smaller costs system calls.
const BUFFER: usize = 64 * 1024;
/// Buffers kept for the next who needs one: 16 MiB in all.
const POOLED: usize = 256;
/// After its client has gone, an upstream that is silent for this long is at work for nobody.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// A session that is being ended may finish the message that is under way for this long.
const FAREWELL: Duration = Duration::from_secs(2);

/// How the two directions are watched.
pub struct Framing<'a> {
    /// From the client to the upstream.
    pub up: Direction,
    /// From the upstream to the client.
    pub down: Direction,
    /// Who decides about messages of the client that `up` holds back. `None`: it holds none.
    pub decide: Option<Box<dyn Decide + 'a>>,
}

/// Decides about messages of the client that a framer holds back.
pub trait Decide: Send {
    /// What goes to the upstream in the place of this message; nothing, if it is answered here. Both ways rest meanwhile, and all that came
    /// before has been passed on. The upstream may be replaced by another one.
    ///
    /// # Errors
    /// How the session ends.
    fn decide<'a>(
        &'a mut self,
        message: Zeroizing<Vec<u8>>,
        client: &'a mut Stream,
        upstream: &'a mut Stream,
    ) -> BoxFuture<'a, Result<Vec<u8>, End>>;
}

/// How one direction is watched.
pub enum Direction {
    /// Bytes.
    Raw,
    /// Bytes, of which these, at the end of a read, are its sender's goodbye. Contents may end so too: it says no more than who closed first.
    RawUntil(&'static [u8]),
    /// Message headers are counted; bodies are streamed.
    Tracked(Box<dyn Framer>),
}

/// A sans-I/O reader of message headers.
pub trait Framer: Send {
    /// These bytes came. It is asked again with what it did not take.
    fn pass(&mut self, bytes: &[u8]) -> Passed;

    /// Bytes that must certainly still pass before a message boundary; 0 at one.
    fn to_boundary(&self) -> usize;

    /// Bytes that must certainly still pass before a message of our own may stand here; 0: here. `None`: none may, as things are.
    fn to_gap(&self) -> Option<usize> {
        None
    }

    /// Whether the last message said that its sender leaves.
    fn said_goodbye(&self) -> bool {
        false
    }
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

/// Words of our own, made when there is a place for them: what they say of a time has to be so then.
pub type Say = Box<dyn FnOnce() -> Vec<u8> + Send>;

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
    pub framing: Framing<'a>,
    /// Where bytes are counted.
    pub traffic: &'a Traffic,
    /// Where buffers come from.
    pub pool: &'a Pool,
}

impl Relay<'_> {
    /// Relays until the end. What `words` says meanwhile is put between two messages of the upstream, where the way down takes it; of several
    /// that wait for such a place the last. When `ends` resolves, the message that is under way is finished if the way down is tracked, the
    /// upstream is told that nothing more comes, `farewell` gives the bytes that tell the client why, and the client's side is closed.
    pub async fn run(
        self,
        ends: impl Future<Output = Reason>,
        words: impl Words<Item = Say>,
        farewell: impl FnOnce(Reason) -> Vec<u8>,
    ) -> Outcome {
        let Self { client, upstream, framing, traffic, pool } = self;
        let Framing { up, down, mut decide } = framing;
        let mut both = Both { up: Pump::new(up), down: Pump::new(down), client, upstream, traffic, pool };
        let (ends, words) = (pin!(ends), pin!(words));
        let (mut ends, mut words) = (Woken::new(ends), Woken::new(words));
        let mut end = loop {
            let message = match both.turn(&mut ends, &mut words).await {
                Turn::Held(message) => message,
                Turn::End(end) => break end,
            };
            let decided = tokio::select! {
                decided = both.decide(decide.as_deref_mut(), message) => decided,
                reason = &mut ends => Err(End::Ended(reason)),
            };
            match decided {
                Ok(bytes) => both.up.instead(bytes),
                Err(end) => break end,
            }
        };
        let Both { mut up, mut down, client, upstream, .. } = both;
        let mut upstream_closed = (end == End::Upstream).then_some(true);
        if end == End::Upstream && up.said_goodbye() {
            end = End::Client;
        }
        if upstream_closed.is_none() && matches!(end, End::Client | End::UpstreamFailed(_)) {
            // A client may have closed only its sending half, and a server that no longer listens may have said why: the client still gets
            // it, as long as the session may last.
            tokio::select! {
                closed = down.last_words(upstream, Some(client), pool, traffic) => upstream_closed = Some(closed),
                reason = &mut ends => end = End::Ended(reason),
            }
        }
        if let End::Ended(reason) = end {
            let tracked = down.is_tracked();
            let finish = std::future::poll_fn(|cx| down.poll_settled(cx, upstream, client, pool, traffic));
            // Out of the boundary, a message of ours would be taken for a part of theirs: then the client only sees the close.
            let at_boundary = tracked && matches!(tokio::time::timeout(FAREWELL, finish).await, Ok(Ok(())));
            let bytes = if at_boundary { farewell(reason) } else { Vec::new() };
            let tell = async {
                client.write_all(&bytes).await?;
                client.flush().await
            };
            // The upstream first: what its client hears is so.
            let _ = tokio::time::timeout(FAREWELL, join(upstream.shutdown(), tell)).await;
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

/// Both directions and both ends.
struct Both<'a> {
    up: Pump,
    down: Pump,
    client: &'a mut Stream,
    upstream: &'a mut Stream,
    traffic: &'a Traffic,
    pool: &'a Pool,
}

/// What a turn of both directions came to.
enum Turn {
    End(End),
    Held(Zeroizing<Vec<u8>>),
}

impl Both<'_> {
    /// Moves bytes until a direction stops or holds a message back.
    async fn turn(&mut self, ends: &mut (impl Future<Output = Reason> + Unpin), words: &mut (impl Words<Item = Say> + Unpin)) -> Turn {
        let Self { up, down, client, upstream, traffic, pool } = self;
        let mut down_first = false;
        std::future::poll_fn(|cx| {
            if let Poll::Ready(reason) = Pin::new(&mut *ends).poll(cx) {
                return Poll::Ready(Turn::End(End::Ended(reason)));
            }
            while let Poll::Ready(Some(words)) = Pin::new(&mut *words).poll_next(cx) {
                down.say(words);
            }
            // In turns, or a client that never stops sending would use up this task's share of polls before any answer moved.
            down_first = !down_first;
            for turn in [down_first, !down_first] {
                let stopped = if turn {
                    let polled = down.poll(cx, upstream, client, pool, |bytes| traffic.add_down(bytes));
                    polled.map(|stop| stop.turn(End::Upstream, End::UpstreamFailed, End::ClientFailed))
                } else {
                    let polled = up.poll(cx, client, upstream, pool, |bytes| traffic.add_up(bytes));
                    polled.map(|stop| stop.turn(End::Client, End::ClientFailed, End::UpstreamFailed))
                };
                if stopped.is_ready() {
                    return stopped;
                }
            }
            Poll::Pending
        })
        .await
    }

    /// What goes up in the place of a message that was held back.
    async fn decide(&mut self, decide: Option<&mut (dyn Decide + '_)>, message: Zeroizing<Vec<u8>>) -> Result<Vec<u8>, End> {
        let Self { down, client, upstream, traffic, pool, .. } = self;
        // What the upstream has answered so far goes first.
        let settled = std::future::poll_fn(|cx| down.poll_settled(cx, upstream, client, pool, traffic)).await;
        settled.map_err(|stop| stop.end(End::Upstream, End::UpstreamFailed, End::ClientFailed))?;
        match decide {
            Some(decide) => decide.decide(message, client, upstream).await,
            None => Ok(message.to_vec()),
        }
    }
}

impl Stop {
    fn turn(self, eof: End, read: fn(io::ErrorKind) -> End, write: fn(io::ErrorKind) -> End) -> Turn {
        match self {
            Self::Held(message) => Turn::Held(message),
            stop => Turn::End(stop.end(eof, read, write)),
        }
    }

    fn end(self, eof: End, read: fn(io::ErrorKind) -> End, write: fn(io::ErrorKind) -> End) -> End {
        match self {
            Self::Read(kind) => read(kind),
            Self::Write(kind) => write(kind),
            // A message is held back on the other way only.
            Self::Eof | Self::Held(_) => eof,
        }
    }
}

#[cfg(test)]
mod tests;
