//! The links inside a jump, each behind a channel of the outer one. Bytes go both ways as far as windows and the outer link allow (RFC 4254
//! section 5.2). All share one way to the client: whoever has much to say leaves the others their part of it.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use keyward_ssh_transport::connection::served::{ChannelId, Channels};
use keyward_ssh_transport::pump::{self, Gate};
use keyward_ssh_transport::{Conn, Fatal};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::oneshot;

use crate::ssh::visitor::Begun;
use crate::told;

/// Bytes that are read of an inner link at once; no message of data is longer.
pub(super) const CHUNK: usize = 32 * 1024;

/// After an inner link has ended, a client that takes nothing of what it said for this long gets nothing more of it: time for a network that
/// comes back, and no more, since until then the jump counts as used.
pub(super) const UNTAKEN: Duration = Duration::from_secs(10);

/// All of them.
pub(super) struct Inside {
    /// What the client knows of them, and channels that lead to none.
    pub(super) channels: Channels,
    links: BTreeMap<ChannelId, Inner>,
    /// Who was read last. The one behind it comes first.
    last: Option<ChannelId>,
    chunk: Vec<u8>,
}

/// Our end of a link inside a channel.
struct Inner {
    pipe: DuplexStream,
    over: oneshot::Receiver<Infallible>,
    /// The client sends nothing more; and the inner link has heard so.
    ended: Told,
    /// The client is through with the channel.
    closed: bool,
    says: Says,
}

#[derive(PartialEq, Eq)]
enum Told {
    Open,
    Due,
    Done,
}

/// What is still to come of an inner link.
enum Says {
    /// It lives.
    More,
    /// It has ended, and what it said is not all with the client, who has taken none of it since then.
    Rest(Instant),
    /// It was read to its end, at this time.
    Nothing(Instant),
}

impl Inner {
    /// When the channel ends though its client is not through with it; `None`: not yet. ssh does not read why its link is over if it cannot
    /// write to it any more, and `ssh -W` takes nothing more from it once the channel has an end.
    fn due(&self, untaken: Duration) -> Option<Instant> {
        match self.says {
            Says::More => None,
            Says::Rest(since) => since.checked_add(untaken),
            Says::Nothing(since) => since.checked_add(told::PATIENCE),
        }
    }

    fn is_over(&self, now: Instant, untaken: Duration) -> bool {
        let heard_all = matches!(self.says, Says::Nothing(_)) && self.ended == Told::Done;
        heard_all || self.due(untaken).is_some_and(|due| due <= now)
    }
}

impl Inside {
    /// None yet.
    pub(super) fn new() -> Self {
        Self { channels: Channels::new(), links: BTreeMap::new(), last: None, chunk: vec![0; CHUNK] }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// A link begins inside this channel. What to send.
    pub(super) fn begin(&mut self, id: ChannelId, begun: Begun) -> Option<Vec<u8>> {
        let Begun { pipe, over } = begun;
        self.links.insert(id, Inner { pipe, over, ended: Told::Open, closed: false, says: Says::More });
        self.channels.confirm(id)
    }

    /// The client sends nothing more.
    pub(super) fn ended(&mut self, id: ChannelId) {
        if let Some(inner) = self.links.get_mut(&id).filter(|inner| inner.ended == Told::Open) {
            inner.ended = Told::Due;
        }
    }

    /// The client is through with the channel. What to send.
    pub(super) fn closed(&mut self, id: ChannelId) -> Option<Vec<u8>> {
        match self.links.get_mut(&id) {
            Some(inner) => {
                inner.closed = true;
                None
            }
            None => self.channels.close(id),
        }
    }

    /// When one of them is over though its client has not said so. `untaken`: how long what it said waits for him.
    pub(super) fn due(&self, untaken: Duration) -> Option<Instant> {
        self.links.values().filter_map(|inner| inner.due(untaken)).min()
    }

    /// Moves what can be moved between all of them and the client; whether anything was.
    ///
    /// # Errors
    /// The outer link has to end.
    pub(super) fn turn(&mut self, conn: &mut Conn, cx: &mut Context<'_>, now: Instant, untaken: Duration) -> Result<bool, Fatal> {
        let mut ids: VecDeque<ChannelId> = self.links.keys().copied().collect();
        let served = ids.partition_point(|id| self.last.is_some_and(|last| *id <= last));
        ids.rotate_left(served);
        let mut moved = false;
        for id in &ids {
            moved |= self.write(*id, conn, cx)?;
        }
        moved |= self.read(ids.clone(), conn, cx, now)?;
        for id in &ids {
            moved |= self.close(*id, conn, now, untaken)?;
        }
        Ok(moved)
    }

    /// Passes on to a link what its client has said.
    fn write(&mut self, id: ChannelId, conn: &mut Conn, cx: &mut Context<'_>) -> Result<bool, Fatal> {
        let Some(inner) = self.links.get_mut(&id) else { return Ok(false) };
        let mut moved = false;
        // What the inner link does not take any more is thrown away, so that its window comes back and its end is reached.
        loop {
            let unread = self.channels.unread(id);
            if unread.is_empty() {
                break;
            }
            let taken = match Pin::new(&mut inner.pipe).poll_write(cx, unread) {
                Poll::Pending => return Ok(moved),
                Poll::Ready(Ok(taken)) if taken > 0 => taken,
                Poll::Ready(_) => unread.len(),
            };
            moved = true;
            if let Some(adjust) = self.channels.consumed(id, taken) {
                conn.send(&adjust)?;
            }
        }
        if inner.ended == Told::Due || inner.closed && inner.ended == Told::Open {
            let _ = Pin::new(&mut inner.pipe).poll_shutdown(cx);
            inner.ended = Told::Done;
            moved = true;
        }
        Ok(moved)
    }

    /// Passes on to the client what the links have said, a piece of each in turn: one that has more than the client takes would else be all
    /// that it ever gets.
    fn read(&mut self, mut waiting: VecDeque<ChannelId>, conn: &mut Conn, cx: &mut Context<'_>, now: Instant) -> Result<bool, Fatal> {
        for id in &waiting {
            if let Some(inner) = self.links.get_mut(id).filter(|inner| matches!(inner.says, Says::More)) {
                // Its end is not to be waited for in what it said: a client that reads nothing would hide it.
                if Pin::new(&mut inner.over).poll(cx).is_ready() {
                    inner.says = Says::Rest(now);
                }
            }
        }
        let mut moved = false;
        while pump::gate(false, conn.backlog()) == Gate::Open {
            let Some(id) = waiting.pop_front() else { break };
            if self.read_some(id, conn, cx, now)? {
                self.last = Some(id);
                waiting.push_back(id);
                moved = true;
            }
        }
        // A client that reads takes nothing of those whose turn it is not.
        for id in waiting.iter().filter(|id| moved && self.channels.room(**id) > 0) {
            if let Some(Inner { says: Says::Rest(since), .. }) = self.links.get_mut(id) {
                *since = now;
            }
        }
        Ok(moved)
    }

    /// One piece; whether there was one, and room for it at the client.
    fn read_some(&mut self, id: ChannelId, conn: &mut Conn, cx: &mut Context<'_>, now: Instant) -> Result<bool, Fatal> {
        let Some(inner) = self.links.get_mut(&id).filter(|inner| !matches!(inner.says, Says::Nothing(_))) else { return Ok(false) };
        let room = self.channels.room(id).min(self.chunk.len());
        let Some(chunk) = self.chunk.get_mut(..room).filter(|chunk| !chunk.is_empty()) else { return Ok(false) };
        let mut buffer = ReadBuf::new(chunk);
        let Poll::Ready(read) = Pin::new(&mut inner.pipe).poll_read(cx, &mut buffer) else { return Ok(false) };
        if read.is_err() || buffer.filled().is_empty() {
            inner.says = Says::Nothing(now);
            return Ok(false);
        }
        if matches!(inner.says, Says::Rest(_)) {
            inner.says = Says::Rest(now);
        }
        let mut message = Vec::with_capacity(buffer.filled().len().saturating_add(16));
        let _all = self.channels.data(id, buffer.filled(), &mut message);
        conn.send(&message)?;
        Ok(true)
    }

    /// Ends the channel of a link that is over, or that nobody listens to: dropping our end of the pipe tells it.
    fn close(&mut self, id: ChannelId, conn: &mut Conn, now: Instant, untaken: Duration) -> Result<bool, Fatal> {
        let Some(inner) = self.links.get(&id) else { return Ok(false) };
        if !(inner.is_over(now, untaken) || inner.closed && self.channels.unread(id).is_empty()) {
            return Ok(false);
        }
        self.links.remove(&id);
        for message in [self.channels.eof(id), self.channels.close(id)].into_iter().flatten() {
            conn.send(&message)?;
        }
        Ok(true)
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;
