//! The outer link: its transport on its stream, and what is inside. Whom it lets in and what it says to a session its host decides.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use keyward_ssh_transport::connection::message::reason;
use keyward_ssh_transport::connection::served::{Action, ChannelId, Channels, Target, Terminal};
use keyward_ssh_transport::pump::{self, Gate};
use keyward_ssh_transport::{Conn, Event, Fatal};

use super::inside::Inside;
use crate::ssh::visitor::Begun;
use crate::ssh::wire::{Silent, Wire};
use crate::stream::Stream;

/// Who knows the user.
pub(super) trait Host {
    /// A link to this target begins, or why not, in words for the user.
    fn visit(&mut self, target: &Target<'_>) -> Result<Begun, String>;

    /// What a session is told.
    fn what_there_is(&mut self, terminal: Terminal) -> String;
}

/// May the client be read?
pub(super) type Rule = fn(&Conn) -> Gate;

/// An outer link.
pub(super) struct Outer<'a> {
    pub(super) client: &'a mut Stream,
    pub(super) wire: &'a mut Wire,
    pub(super) inside: Inside,
    /// [`gate`]; a simulation can break it.
    rule: Rule,
}

/// What a message is answered with.
enum Reply {
    Nothing,
    Answer(Vec<u8>),
    Send(Vec<Vec<u8>>),
    Unknown,
}

/// What waits for the client, and it does not read, keeps it from being read.
pub(super) fn gate(conn: &Conn) -> Gate {
    pump::gate(conn.in_exchange(), conn.backlog())
}

impl<'a> Outer<'a> {
    /// With nothing inside.
    pub(super) fn new(client: &'a mut Stream, wire: &'a mut Wire) -> Self {
        Self { client, wire, inside: Inside::new(), rule: gate }
    }

    /// Moves what can be moved; whether anything was. `untaken`: how long what an inner link said waits for the client, once it has ended.
    ///
    /// # Errors
    /// The link is over. `None`: the client said goodbye.
    pub(super) fn turn(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        untaken: Duration,
        host: &mut dyn Host,
    ) -> Result<bool, Option<Silent>> {
        let mut moved = self.hear(host).map_err(|fatal| fatal.map(Silent::Fatal))?;
        moved |= self.inside.turn(&mut self.wire.conn, cx, now, untaken).map_err(Silent::Fatal)?;
        match self.wire.poll_flush(cx, self.client) {
            Poll::Ready(Ok(_)) => moved = true,
            Poll::Ready(Err(error)) => return Err(Some(Silent::Io(error))),
            Poll::Pending => {}
        }
        if (self.rule)(&self.wire.conn) == Gate::Open {
            match self.wire.poll_fill(cx, self.client) {
                Poll::Ready(Ok(())) => moved = true,
                Poll::Ready(Err(error)) => return Err(Some(Silent::Io(error))),
                Poll::Pending => {}
            }
        }
        Ok(moved)
    }

    /// Takes the messages that are there. `Err(None)`: the client said goodbye.
    fn hear(&mut self, host: &mut dyn Host) -> Result<bool, Option<Fatal>> {
        let mut heard = false;
        loop {
            match (self.rule)(&self.wire.conn) {
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
                Action::Open { id, target } => match host.visit(&target) {
                    Ok(begun) => Reply::Send(self.inside.begin(id, begun).into_iter().collect()),
                    Err(text) => {
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
                    Reply::Send(say(&mut self.inside.channels, id, answer, &host.what_there_is(terminal)))
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

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;
