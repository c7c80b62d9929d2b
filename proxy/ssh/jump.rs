//! A link that names no connection: `ssh -J alice@keyward deploy@web-1`, or plain `ssh alice@keyward`. It has an identity and no session. Each
//! `direct-tcpip` channel that its client opens is a link of its own, inside: with our certificate for the name that was asked for, on its own
//! task, under the same identity, with a session of its own. A `session` channel is told what there is to reach.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use keyward_auth::{Identity, SessionId};
use keyward_ssh_transport::connection::message::reason;
use keyward_ssh_transport::connection::served::{Action, ChannelId, Channels, Target, Terminal};
use keyward_ssh_transport::pump::{self, Gate};
use keyward_ssh_transport::{Event, Fatal, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use super::settings::{AccessSettings, JumpLogin, ListenerSettings, RekeyLimit};
use super::wire::{Silent, Wire};
use super::{NAME, PREFACE, host_of, refuse, serve_inside};
use crate::error::{Party, SessionError, Stage};
use crate::link::{Claimed, Link};
use crate::protocol::Served;
use crate::refusal::Refusal;
use crate::server;
use crate::stream::Stream;

/// Bytes between a channel and the link inside it, each way.
const PIPE: usize = 64 * 1024;
/// Bytes that are read of an inner link at once; no message of data is longer.
const CHUNK: usize = 32 * 1024;

/// Who comes in through a jump, and to what.
pub(super) struct Visitor {
    /// Who the outer link's user proved to be.
    pub(super) identity: Arc<Identity>,
    /// The name to authorise by.
    pub(super) target: String,
    /// What the inner link is served with.
    pub(super) config: Arc<ServerConfig>,
    /// The name on our certificate, and its number.
    certified: (String, u64),
    /// The outer link.
    outer: SessionId,
    origin: Origin,
}

/// Where an inner link begins, as its client says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// In the client's own process, as with `-J` and `-W`.
    Client,
    /// Elsewhere: a port of the client's that others may connect to, as with `-L` and `-D`.
    Elsewhere,
}

impl Visitor {
    /// Whether an inner link may do without a proof at all, if no rule wants one.
    pub(super) fn may_pass(&self) -> bool {
        self.origin == Origin::Client
    }

    /// The account that a login inside names. The user's own name, which ssh sends where he says none, is none unless there is such an account.
    pub(super) fn account<'a>(&self, link: &Link, login: &'a str) -> Option<&'a str> {
        let named = link.proxy.gate.authorise(&self.identity, NAME, &self.target, Some(login), link.id);
        (named.is_ok() || login != self.identity.user().as_str()).then_some(login)
    }

    /// What the rules want of this login.
    pub(super) fn wanted(&self, link: &Link, login: &str) -> JumpLogin {
        let gate = &link.proxy.gate;
        let Ok(grant) = gate.authorise(&self.identity, NAME, &self.target, self.account(link, login), link.id) else {
            // He is told so once he is in.
            return JumpLogin::None;
        };
        let wants_key =
            |rule: &keyward_config::Settings| rule.downcast_ref::<AccessSettings>().is_some_and(|rule| rule.jump_login == JumpLogin::Key);
        if gate.rules(&grant).iter().any(wants_key) { JumpLogin::Key } else { JumpLogin::None }
    }

    /// What the record says of it.
    pub(super) fn noted(&self) -> Vec<(&'static str, String)> {
        let (name, serial) = &self.certified;
        vec![("jump", self.outer.to_string()), ("host_certificate", format!("{name} {serial:016x}"))]
    }
}

/// Serves the channels until the client leaves, or there is nothing left to serve.
pub(super) async fn serve(link: &mut Link, client: &mut Stream, wire: &mut Wire, identity: Arc<Identity>) -> Result<Served, SessionError> {
    let limits = link.proxy.limits();
    let place = link.proxy.registry.admit_jump(identity.user(), &limits);
    let full = || SessionError::new(Refusal::Busy, Party::Client, Stage::Authorise, "a limit on jumps is reached");
    let _place = place.ok_or_else(full)?;
    link.handshake = None;
    let mut jump = Jump { link, client, wire, identity, channels: Channels::new(), inner: BTreeMap::new(), chunk: vec![0; CHUNK] };
    let ended = jump.run(limits.idle_timeout.get()).await;
    match ended {
        Ended::Left => {}
        Ended::Broken(silent) => {
            let error = silent.of_client(Stage::Authorise);
            if !error.left {
                return Err(error);
            }
        }
        Ended::Idle => jump.goodbye(Refusal::SessionEnded(crate::refusal::Reason::Idle)).await,
        Ended::Drained => jump.goodbye(Refusal::ShuttingDown).await,
    }
    Ok(Served::Request)
}

/// An outer link.
struct Jump<'a> {
    link: &'a Link,
    client: &'a mut Stream,
    wire: &'a mut Wire,
    identity: Arc<Identity>,
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
    /// The inner link sends nothing more.
    finished: bool,
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
                if !self.channels.is_empty() {
                    idle_since = now;
                } else if drained.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Ended::Drained);
                }
                let mut next = match self.wire.conn.tick(now) {
                    Ok(next) => next,
                    Err(fatal) => return Poll::Ready(Ended::Broken(Silent::Fatal(fatal))),
                };
                if !idle.is_zero() && self.channels.is_empty() {
                    let due = idle_since.checked_add(idle);
                    if due.is_some_and(|due| due <= now) {
                        return Poll::Ready(Ended::Idle);
                    }
                    next = next.into_iter().chain(due).min();
                }
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
                Action::Open { id, target } => match visit(self.link, &self.identity, &target) {
                    Ok(pipe) => {
                        self.inner.insert(id, Inner { pipe, ended: Told::Open, closed: false, finished: false });
                        Reply::Send(self.channels.confirm(id).into_iter().collect())
                    }
                    Err(text) => {
                        let text = refuse::sentence(text, self.link.id);
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
                    let text = what_there_is(self.link, &self.identity, terminal);
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
        while !inner.finished && pump::gate(false, conn.backlog()) == Gate::Open {
            let room = self.channels.room(id).min(self.chunk.len());
            let Some(chunk) = self.chunk.get_mut(..room).filter(|chunk| !chunk.is_empty()) else { break };
            let mut buffer = ReadBuf::new(chunk);
            let Poll::Ready(read) = Pin::new(&mut inner.pipe).poll_read(cx, &mut buffer) else { break };
            moved = true;
            if read.is_err() || buffer.filled().is_empty() {
                inner.finished = true;
                if let Some(eof) = self.channels.eof(id) {
                    conn.send(&eof)?;
                }
                break;
            }
            let mut message = Vec::with_capacity(buffer.filled().len().saturating_add(16));
            let _all = self.channels.data(id, buffer.filled(), &mut message);
            conn.send(&message)?;
        }
        if inner.finished || inner.closed && read_all {
            // The inner link is over, or nobody listens to it: dropping our end of the pipe tells it.
            self.inner.remove(&id);
            if let Some(close) = self.channels.close(id) {
                conn.send(&close)?;
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

/// Begins a link inside, if the user may reach that: unknown and forbidden are the same, and nothing is signed for either.
fn visit(outer: &Link, identity: &Arc<Identity>, target: &Target<'_>) -> Result<DuplexStream, &'static str> {
    let (host, port) = (target.host, target.port);
    let gate = &outer.proxy.gate;
    let Some(name) = gate.target(identity, NAME, host, port, PREFACE.default_port) else {
        let claimed = Claimed { user: Some(identity.user().to_string()), connection: Some(format!("{host}:{port}")) };
        let error = SessionError::new(Refusal::NotPermitted, Party::Client, Stage::Authorise, "a jump to no connection of this user's");
        server::refused(outer, &claimed, &error);
        return Err("no such connection, or it is not open to you");
    };
    let limits = ListenerSettings::of(&outer.door).map(|settings| RekeyLimit::limits(settings.rekey_limit)).unwrap_or_default();
    let acting = match host_of(&outer.proxy).and_then(|keys| keys.acting_as(host, limits)) {
        Ok(acting) => acting,
        Err(text) => {
            tracing::error!(error = text, "no certificate for a jump");
            return Err("internal error");
        }
    };
    // What `-J` and `-W` say, and a listening port of the client's own that only it can reach.
    let local = target.originator.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
    let visitor = Arc::new(Visitor {
        identity: Arc::clone(identity),
        target: name,
        config: acting.config,
        certified: (host.to_owned(), acting.serial),
        outer: outer.id,
        origin: if local { Origin::Client } else { Origin::Elsewhere },
    });
    let (ours, theirs) = tokio::io::duplex(PIPE);
    if server::inside(outer, Stream::Inner(theirs), serve_inside(visitor)) {
        Ok(ours)
    } else {
        Err("too many connections; try again later")
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
