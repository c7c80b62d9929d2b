//! A link that names no connection: `ssh -J alice@keyward deploy@web-1`, or plain `ssh alice@keyward`. It has an identity and no session. Each
//! `direct-tcpip` channel that its client opens is a link of its own, inside: with our certificate for the name that was asked for, on its own
//! task, under the same identity, with a session of its own. A `session` channel is told what there is to reach.

mod inside;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use keyward_auth::Identity;
use keyward_ssh_transport::connection::message::reason;
use keyward_ssh_transport::connection::served::{Action, ChannelId, Channels, Terminal};
use keyward_ssh_transport::pump::{self, Gate};
use keyward_ssh_transport::{Event, Fatal};

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
use crate::woken::Woken;
use inside::{Inside, UNTAKEN};

/// Serves the channels until the client leaves, or there is nothing left to serve.
pub(super) async fn serve(link: &mut Link, client: &mut Stream, wire: &mut Wire, who: Arc<Who>) -> Result<Served, SessionError> {
    let limits = link.proxy.limits();
    let place = link.proxy.registry.admit_jump(who.identity.user(), &limits);
    let full = || SessionError::new(Refusal::Busy, Party::Client, Stage::Authorise, "a limit on jumps is reached");
    let _place = place.ok_or_else(full)?;
    link.handshake = None;
    link.count_stages();
    let lifetime = limits.max_lifetime.get();
    let until = if lifetime.is_zero() { None } else { Instant::now().checked_add(lifetime) };
    let mut jump = Jump { link, client, wire, who, until, untaken: UNTAKEN, inside: Inside::new() };
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
    /// What an inner link has said waits so long for the client, once it has ended.
    untaken: Duration,
    inside: Inside,
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
        let drained = pin!(draining.cancelled());
        let mut drained = Woken::new(drained);
        let mut clock = pin!(tokio::time::sleep(Duration::ZERO));
        let mut idle_since = Instant::now();
        std::future::poll_fn(|cx| {
            loop {
                if Pin::new(&mut drained).poll(cx).is_ready() {
                    self.untaken = told::PATIENCE;
                }
                let now = Instant::now();
                match self.turn(cx, now) {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(ended) => return Poll::Ready(ended),
                }
                // What counts are the links inside: a session that asks for nothing would keep us for good.
                if !self.inside.is_empty() {
                    idle_since = now;
                }
                let over = if idle.is_zero() { None } else { idle_since.checked_add(idle) };
                let next = match self.next(now, over) {
                    Ok(next) => next,
                    Err(ended) => return Poll::Ready(ended),
                };
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

    /// Nothing moves: what is waited for, if there is anything. `idle`: when a link with none inside has been so for too long.
    fn next(&mut self, now: Instant, idle: Option<Instant>) -> Result<Option<Instant>, Ended> {
        if self.wire.eof {
            return Err(Ended::Left);
        }
        let idle = idle.filter(|_| self.inside.is_empty());
        if self.inside.is_empty() {
            if self.link.proxy.draining.is_cancelled() {
                return Err(Ended::Drained);
            }
            if self.is_too_old(now) {
                return Err(Ended::TooOld);
            }
            if idle.is_some_and(|due| due <= now) {
                return Err(Ended::Idle);
            }
        }
        let tick = self.wire.conn.tick(now).map_err(|fatal| Ended::Broken(Silent::Fatal(fatal)))?;
        let until = self.until.filter(|until| *until > now);
        Ok([tick, idle, until, self.inside.due(self.untaken)].into_iter().flatten().min())
    }

    /// Moves what can be moved; whether anything was.
    fn turn(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, Ended> {
        let broken = |fatal| Ended::Broken(Silent::Fatal(fatal));
        let mut moved = self.hear().map_err(|fatal| fatal.map_or(Ended::Left, broken))?;
        moved |= self.inside.turn(&mut self.wire.conn, cx, now, self.untaken).map_err(broken)?;
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
                Some(Event::Message(message)) => self.inside.channels.receive(message)?,
            };
            heard = true;
            let reply = match action {
                Action::Nothing | Action::Data(_) | Action::Room(_) => Reply::Nothing,
                Action::Answer(message) => Reply::Answer(message),
                Action::Unknown => Reply::Unknown,
                Action::Open { id, .. } if too_old => {
                    let text = told::sentence("this link has reached its longest lifetime; connect again", self.link.id);
                    let refused = self.inside.channels.refuse(id, reason::ADMINISTRATIVELY_PROHIBITED, &text);
                    refused.map_or(Reply::Nothing, Reply::Answer)
                }
                Action::Open { id, target } => match visit(self.link, &self.who, &target) {
                    Ok(begun) => Reply::Send(self.inside.begin(id, begun).into_iter().collect()),
                    Err(text) => {
                        let text = told::sentence(text, self.link.id);
                        let refused = self.inside.channels.refuse(id, reason::ADMINISTRATIVELY_PROHIBITED, &text);
                        refused.map_or(Reply::Nothing, Reply::Answer)
                    }
                },
                Action::Eof(id) => {
                    self.inside.ended(id);
                    Reply::Nothing
                }
                Action::Close(id) => Reply::Send(self.inside.closed(id).into_iter().collect()),
                Action::Wants { id, terminal, answer, .. } => {
                    let text = what_there_is(self.link, &self.who.identity, terminal);
                    Reply::Send(say(&mut self.inside.channels, id, answer, &text))
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
