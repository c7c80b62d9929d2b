//! A link that names no connection: `ssh -J alice@keyward deploy@web-1`, or plain `ssh alice@keyward`. It has an identity and no session. Each
//! `direct-tcpip` channel that its client opens is a link of its own, inside: with our certificate for the name that was asked for, on its own
//! task, under the same identity, with a session of its own. A `session` channel is told what there is to reach.

use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use keyward_auth::Identity;
use keyward_ssh_transport::connection::message::reason;
use keyward_ssh_transport::connection::served::{Action, ChannelId, Channels, Terminal};
use keyward_ssh_transport::pump::{self, Gate};
use keyward_ssh_transport::{Event, Fatal};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use super::login::Who;
use super::visitor::visit;
use super::wire::{Silent, Wire};
use super::{NAME, refuse};
use crate::error::{Party, SessionError, Stage};
use crate::link::Link;
use crate::protocol::Served;
use crate::refusal::{Reason, Refusal};
use crate::stream::Stream;
use crate::told;

/// Bytes that are read of an inner link at once; no message of data is longer.
const CHUNK: usize = 32 * 1024;

/// Serves the channels until the client leaves, or there is nothing left to serve.
pub(super) async fn serve(link: &mut Link, client: &mut Stream, wire: &mut Wire, who: Arc<Who>) -> Result<Served, SessionError> {
    let limits = link.proxy.limits();
    let place = link.proxy.registry.admit_jump(who.identity.user(), &limits);
    let full = || SessionError::new(Refusal::Busy, Party::Client, Stage::Authorise, "a limit on jumps is reached");
    let _place = place.ok_or_else(full)?;
    link.handshake = None;
    let lifetime = limits.max_lifetime.get();
    let until = if lifetime.is_zero() { None } else { Instant::now().checked_add(lifetime) };
    let (channels, inner, chunk) = (Channels::new(), BTreeMap::new(), vec![0; CHUNK]);
    let mut jump = Jump { link, client, wire, who, until, channels, inner, chunk };
    let ended = jump.run(limits.idle_timeout.get()).await;
    match ended {
        Ended::Left => {}
        Ended::Broken(silent) => {
            let error = silent.of_client(Stage::Authorise);
            if !error.left {
                return Err(error);
            }
        }
        Ended::Idle => jump.goodbye(Refusal::SessionEnded(Reason::Idle)).await,
        Ended::TooOld => jump.goodbye(Refusal::SessionEnded(Reason::Lifetime)).await,
        Ended::Drained => jump.goodbye(Refusal::ShuttingDown).await,
    }
    Ok(Served::Request)
}

/// An outer link.
struct Jump<'a> {
    link: &'a Link,
    client: &'a mut Stream,
    wire: &'a mut Wire,
    who: Arc<Who>,
    /// Then no more links begin inside, and when none is left it ends. `None`: it may grow as old as it likes.
    until: Option<Instant>,
    channels: Channels,
    inner: BTreeMap<ChannelId, Inner>,
    chunk: Vec<u8>,
}

/// Our end of a link inside a channel.
struct Inner {
    pipe: DuplexStream,
    /// The client sends nothing more; and the inner link has heard so.
    ended: Told,
    /// The client is through with the channel.
    closed: bool,
    /// Since when the inner link has sent nothing more.
    finished: Option<Instant>,
}

impl Inner {
    /// When the channel ends though its client is not through with it; `None`: not yet. ssh does not read why its link is over if it cannot
    /// write to it any more, and `ssh -W` takes nothing more from it once the channel has an end.
    fn due(&self) -> Option<Instant> {
        self.finished.and_then(|since| since.checked_add(told::PATIENCE))
    }
}

#[derive(PartialEq, Eq)]
enum Told {
    Open,
    Due,
    Done,
}

enum Ended {
    Left,
    Broken(Silent),
    Idle,
    TooOld,
    Drained,
}

/// What a message is answered with.
enum Reply {
    Nothing,
    Answer(Vec<u8>),
    Send(Vec<Vec<u8>>),
    Unknown,
}

impl Jump<'_> {
    async fn run(&mut self, idle: Duration) -> Ended {
        let draining = self.link.proxy.draining.clone();
        let mut drained = pin!(draining.cancelled());
        let mut clock = pin!(tokio::time::sleep(Duration::ZERO));
        let mut idle_since = Instant::now();
        std::future::poll_fn(|cx| {
            loop {
                let moved = match self.turn(cx) {
                    Ok(moved) => moved,
                    Err(ended) => return Poll::Ready(ended),
                };
                if moved {
                    continue;
                }
                if self.wire.eof {
                    return Poll::Ready(Ended::Left);
                }
                let now = Instant::now();
                // What counts are the links inside: a session that asks for nothing would keep us for good.
                if !self.inner.is_empty() {
                    idle_since = now;
                } else if drained.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Ended::Drained);
                } else if self.is_too_old(now) {
                    return Poll::Ready(Ended::TooOld);
                }
                let mut next = match self.wire.conn.tick(now) {
                    Ok(next) => next,
                    Err(fatal) => return Poll::Ready(Ended::Broken(Silent::Fatal(fatal))),
                };
                if !idle.is_zero() && self.inner.is_empty() {
                    let due = idle_since.checked_add(idle);
                    if due.is_some_and(|due| due <= now) {
                        return Poll::Ready(Ended::Idle);
                    }
                    next = next.into_iter().chain(due).min();
                }
                let finished = self.inner.values().filter_map(Inner::due);
                next = next.into_iter().chain(self.until.filter(|until| *until > now)).chain(finished).min();
                // What `tick` began has to be written.
                if !self.wire.conn.output().is_empty() && self.wire.poll_flush(cx, self.client).is_ready() {
                    continue;
                }
                let Some(next) = next else { return Poll::Pending };
                clock.as_mut().reset(next.into());
                if clock.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// Moves what can be moved; whether anything was.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        let broken = |fatal| Ended::Broken(Silent::Fatal(fatal));
        let mut moved = self.hear().map_err(|fatal| fatal.map_or(Ended::Left, broken))?;
        let ids: Vec<ChannelId> = self.inner.keys().copied().collect();
        for id in ids {
            moved |= self.step(id, cx).map_err(broken)?;
        }
        match self.wire.poll_flush(cx, self.client) {
            Poll::Ready(Ok(_)) => moved = true,
            Poll::Ready(Err(error)) => return Err(Ended::Broken(Silent::Io(error))),
            Poll::Pending => {}
        }
        if self.gate() == Gate::Open {
            match self.wire.poll_fill(cx, self.client) {
                Poll::Ready(Ok(())) => moved = true,
                Poll::Ready(Err(error)) => return Err(Ended::Broken(Silent::Io(error))),
                Poll::Pending => {}
            }
        }
        Ok(moved)
    }

    /// What waits for the client, and it does not read, keeps it from being read.
    fn gate(&self) -> Gate {
        pump::gate(self.wire.conn.in_exchange(), self.wire.conn.backlog())
    }

    /// Takes the messages that are there. `Err(None)`: the client said goodbye.
    fn hear(&mut self) -> Result<bool, Option<Fatal>> {
        let mut heard = false;
        let too_old = self.is_too_old(Instant::now());
        loop {
            match self.gate() {
                Gate::Open => {}
                Gate::Shut => return Ok(heard),
                Gate::Burst => return Err(Some(Fatal::TooMuch("too much waits for a client that exchanges keys"))),
            }
            let action = match self.wire.conn.next()? {
                None => return Ok(heard),
                Some(Event::Disconnect { .. }) => return Err(None),
                Some(Event::Ready | Event::HostKey { .. }) => continue,
                Some(Event::Message(message)) => self.channels.receive(message)?,
            };
            heard = true;
            let reply = match action {
                Action::Nothing | Action::Data(_) | Action::Room(_) => Reply::Nothing,
                Action::Answer(message) => Reply::Answer(message),
                Action::Unknown => Reply::Unknown,
                Action::Open { id, .. } if too_old => {
                    let text = told::sentence("this link has reached its longest lifetime; connect again", self.link.id);
                    let refused = self.channels.refuse(id, reason::ADMINISTRATIVELY_PROHIBITED, &text);
                    refused.map_or(Reply::Nothing, Reply::Answer)
                }
                Action::Open { id, target } => match visit(self.link, &self.who, &target) {
                    Ok(pipe) => {
                        self.inner.insert(id, Inner { pipe, ended: Told::Open, closed: false, finished: None });
                        Reply::Send(self.channels.confirm(id).into_iter().collect())
                    }
                    Err(text) => {
                        let text = told::sentence(text, self.link.id);
                        let refused = self.channels.refuse(id, reason::ADMINISTRATIVELY_PROHIBITED, &text);
                        refused.map_or(Reply::Nothing, Reply::Answer)
                    }
                },
                Action::Eof(id) => {
                    if let Some(inner) = self.inner.get_mut(&id).filter(|inner| inner.ended == Told::Open) {
                        inner.ended = Told::Due;
                    }
                    Reply::Nothing
                }
                Action::Close(id) => match self.inner.get_mut(&id) {
                    Some(inner) => {
                        inner.closed = true;
                        Reply::Nothing
                    }
                    None => Reply::Send(self.channels.close(id).into_iter().collect()),
                },
                Action::Wants { id, terminal, answer, .. } => {
                    let text = what_there_is(self.link, &self.who.identity, terminal);
                    Reply::Send(say(&mut self.channels, id, answer, &text))
                }
            };
            match reply {
                Reply::Nothing => {}
                Reply::Answer(message) => self.wire.conn.answer(&message)?,
                Reply::Unknown => self.wire.conn.unimplemented()?,
                Reply::Send(messages) => {
                    for message in messages {
                        self.wire.conn.send(&message)?;
                    }
                }
            }
        }
    }

    fn is_too_old(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// Moves bytes between a channel and the link inside it.
    fn step(&mut self, id: ChannelId, cx: &mut Context<'_>) -> Result<bool, Fatal> {
        let Some(inner) = self.inner.get_mut(&id) else { return Ok(false) };
        let conn = &mut self.wire.conn;
        let mut moved = false;
        // What the inner link does not take any more is thrown away, so that its window comes back and its end is reached.
        loop {
            let unread = self.channels.unread(id);
            if unread.is_empty() {
                break;
            }
            let taken = match Pin::new(&mut inner.pipe).poll_write(cx, unread) {
                Poll::Pending => break,
                Poll::Ready(Ok(taken)) if taken > 0 => taken,
                Poll::Ready(_) => unread.len(),
            };
            moved = true;
            if let Some(adjust) = self.channels.consumed(id, taken) {
                conn.send(&adjust)?;
            }
        }
        let read_all = self.channels.unread(id).is_empty();
        if read_all && (inner.ended == Told::Due || inner.closed && inner.ended == Told::Open) {
            let _ = Pin::new(&mut inner.pipe).poll_shutdown(cx);
            inner.ended = Told::Done;
            moved = true;
        }
        while inner.finished.is_none() && pump::gate(false, conn.backlog()) == Gate::Open {
            let room = self.channels.room(id).min(self.chunk.len());
            let Some(chunk) = self.chunk.get_mut(..room).filter(|chunk| !chunk.is_empty()) else { break };
            let mut buffer = ReadBuf::new(chunk);
            let Poll::Ready(read) = Pin::new(&mut inner.pipe).poll_read(cx, &mut buffer) else { break };
            moved = true;
            if read.is_err() || buffer.filled().is_empty() {
                inner.finished = Some(Instant::now());
                break;
            }
            let mut message = Vec::with_capacity(buffer.filled().len().saturating_add(16));
            let _all = self.channels.data(id, buffer.filled(), &mut message);
            conn.send(&message)?;
        }
        let over = inner.finished.is_some() && inner.ended == Told::Done || inner.due().is_some_and(|due| due <= Instant::now());
        if over || inner.closed && read_all {
            // The inner link is over, or nobody listens to it: dropping our end of the pipe tells it.
            self.inner.remove(&id);
            for message in [self.channels.eof(id), self.channels.close(id)].into_iter().flatten() {
                conn.send(&message)?;
            }
            moved = true;
        }
        Ok(moved)
    }

    async fn goodbye(&mut self, refusal: Refusal) {
        let error = SessionError::new(refusal, Party::Proxy, Stage::Authorise, "the link of a jump is over");
        refuse::tell(self.client, self.wire, self.link.id, &error).await;
    }
}

/// What a session on a link without a connection is told.
fn what_there_is(link: &Link, identity: &Identity, terminal: Terminal) -> String {
    let user = identity.user();
    let names: Vec<String> = link.proxy.gate.reachable(identity, NAME).iter().map(ToString::to_string).collect();
    let mut text = format!("keyward: name what you want to reach: ssh {user}+NAME@…, or ssh -J {user}@… NAME (session {})\n", link.id);
    text.push_str(if names.is_empty() { "You may reach nothing by ssh.\n" } else { "You may reach:\n" });
    for name in names {
        text.push_str("  ");
        text.push_str(&name);
        text.push('\n');
    }
    match terminal {
        Terminal::None => text,
        Terminal::Raw => text.replace('\n', "\r\n"),
    }
}

/// The answer, the text, and the end of the session.
fn say(channels: &mut Channels, id: ChannelId, answer: Option<Vec<u8>>, text: &str) -> Vec<Vec<u8>> {
    let mut messages: Vec<Vec<u8>> = answer.into_iter().collect();
    let mut rest = text.as_bytes();
    loop {
        let mut message = Vec::new();
        let said = channels.stderr(id, rest, &mut message);
        // A client that gives no window does not hear the rest.
        if said == 0 {
            break;
        }
        messages.push(message);
        rest = rest.get(said..).unwrap_or_default();
    }
    messages.extend(channels.exit_status(id, 1));
    messages.extend(channels.eof(id));
    messages.extend(channels.close(id));
    messages
}
