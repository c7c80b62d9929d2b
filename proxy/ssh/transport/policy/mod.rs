//! What a relay between a client and a server lets pass (rules 27 and 28): the connection protocol (RFC 4254 and OpenSSH's PROTOCOL), seen
//! in passing.
//!
//! ```text
//! client ─► look(Side::Client, message) ─► Looked { verdict, event } ─► server        opens     may this channel be opened
//! client ◄─ verdict ◄─ look(Side::Server, message) ◄─ server                          requests  may this be asked of a channel
//!                                                                                     globals   … of the connection
//! ```
//! All is refused that is not named here, byte for byte, in both directions. A channel that is not to be opened is refused to its opener at
//! once, since the answer names it. Answers to requests name none, so a refusal of ours could overtake an answer that is still under way:
//! a refused request goes on under a name that nobody knows, and the other side refuses it in its turn; if no answer is wanted it ends here.
//!
//! Contents are looked at no further than their channel's number.

mod event;
mod forwards;
mod globals;
mod opens;
mod permission;
mod requests;
mod table;
mod window;

use crate::connection::message::{DATA, EXTENDED_DATA, KEEPALIVE, Message, STDERR};
use crate::message::USERAUTH;
use crate::negotiate::Side;
use crate::pump::Verdict;
use crate::wire::{Malformed, Reader};

pub use event::{ChannelId, Decision, Event, Tell, What};
pub use permission::{Channels, Permission};

use forwards::Forwards;
use table::{Channel, Kind, Said, Table, Terminal};

/// Under this name a request goes on that is to be refused.
const DENIED: &[u8] = b"denied@keyward";
/// Bytes of a line of ours; of a longer one, the first of them. Two fit into a reserve.
const LINE_MAX: usize = 500;
/// A request of OpenSSH's that either side may make, as [`KEEPALIVE`], of any channel: "nobody reads any more".
const EOW: &[u8] = b"eow@openssh.com";

/// A peer did what it must not; the session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Broken(&'static str);

impl From<Malformed> for Broken {
    fn from(malformed: Malformed) -> Self {
        Self(malformed.0)
    }
}

/// What becomes of a message, and what there is to be recorded of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Looked {
    /// For [`crate::pump`].
    pub verdict: Verdict,
    /// For the audit record, before the verdict is carried out.
    pub event: Option<Event>,
}

impl From<Verdict> for Looked {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, event: None }
    }
}

/// Whether the client has asked for something that the server may then open channels for. It lasts: sshd keeps one agent's socket for a whole
/// connection, whichever of its sessions asked for it. Nor does it matter whether the server said yes: one that means harm would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Invited {
    Yes,
    No,
}

/// The policy of one session.
pub struct Policy {
    /// Asked at every decision: rules change while sessions live.
    allowed: Box<dyn Fn() -> Channels + Send>,
    table: Table,
    forwards: Forwards,
    agent: Invited,
    x11: Invited,
    /// Global requests of the server's that the client has yet to answer.
    asked_by_server: u32,
}

impl Policy {
    /// A session that has no channels yet; `allowed` says at any time what it may do.
    #[must_use]
    pub fn new(allowed: Box<dyn Fn() -> Channels + Send>) -> Self {
        Self { allowed, table: Table::default(), forwards: Forwards::default(), agent: Invited::No, x11: Invited::No, asked_by_server: 0 }
    }

    /// What becomes of a message that `by` says, with its number. Every message of both sides has to be looked at, in its order; but none of a
    /// side whose messages go nowhere any more.
    pub fn look(&mut self, by: Side, message: &[u8]) -> Looked {
        let looked = match message.first() {
            Some(&(DATA | EXTENDED_DATA)) => self.contents(by, message).map(Looked::from),
            // Of a login, which is over (RFC 4252 section 5.1).
            Some(number) if USERAUTH.contains(number) => Ok(Verdict::Drop.into()),
            _ => self.judge(by, message),
        };
        looked.unwrap_or_else(|Broken(what)| Verdict::Broken(what).into())
    }

    /// Messages for the client that show this line (at most 500 bytes, without its end) on the standard error of all its sessions, as far as
    /// their windows allow: there may be none. They are to be sent before anything else is looked at.
    pub fn say(&mut self, line: &str) -> Vec<Vec<u8>> {
        self.table.iter_mut().filter_map(|channel| words(channel, line)).collect()
    }

    /// The same for one channel.
    pub fn tell(&mut self, channel: ChannelId, line: &str) -> Option<Vec<u8>> {
        self.table.get_mut(channel).and_then(|channel| words(channel, line))
    }

    /// All that is not contents.
    fn judge(&mut self, by: Side, message: &[u8]) -> Result<Looked, Broken> {
        let Some(read) = Message::read(message)? else { return Ok(Verdict::Unknown.into()) };
        match read {
            Message::GlobalRequest { name, wants_reply, rest } => self.global(by, name, wants_reply.into(), rest),
            Message::RequestSuccess { .. } | Message::RequestFailure => Ok(self.global_answer(by, &read).into()),
            Message::Open { kind, sender, window, packet, rest } => match by {
                Side::Client => self.client_opens(kind, sender, (window, packet), rest),
                Side::Server => self.server_opens(kind, sender, rest),
            },
            Message::Confirmation { recipient, sender, .. } => {
                self.table.confirm(by, recipient, sender)?;
                Ok(Verdict::Pass.into())
            }
            Message::OpenFailure { recipient, .. } => {
                self.table.refuse(by, recipient)?;
                Ok(Verdict::Pass.into())
            }
            Message::WindowAdjust { recipient, bytes } => Ok(self.adjust(by, recipient, bytes).into()),
            Message::Eof { recipient } => self.ends(by, recipient, Said::Eof).map(Looked::from),
            Message::Close { recipient } => self.ends(by, recipient, Said::Close).map(Looked::from),
            Message::Request { recipient, name, wants_reply, rest } => self.request(by, recipient, name, wants_reply.into(), rest),
            Message::Success { recipient } | Message::Failure { recipient } => Ok(self.answer(by, recipient).into()),
            Message::Data { .. } | Message::ExtendedData { .. } => self.contents(by, message).map(Looked::from),
        }
    }

    fn contents(&mut self, by: Side, message: &[u8]) -> Result<Verdict, Broken> {
        let mut reader = Reader::new(message);
        let _number = reader.u8()?;
        let (_, channel) = self.table.heard(by, reader.u32()?).ok_or(Broken("contents of a channel that is not open"))?;
        Ok(if *channel.said.of(by) == Said::Close { Verdict::Drop } else { Verdict::Pass })
    }

    /// End of contents, or of the channel.
    fn ends(&mut self, by: Side, recipient: u32, said: Said) -> Result<Verdict, Broken> {
        let (id, channel) = self.table.heard(by, recipient).ok_or(Broken("the end of a channel that is not open"))?;
        if *channel.said.of(by) == Said::Close {
            return Ok(Verdict::Drop);
        }
        *channel.said.of_mut(by) = said;
        if said == Said::Close && *channel.said.of(by.other()) == Said::Close {
            self.table.forget(id);
        }
        Ok(Verdict::Pass)
    }

    /// More window. OpenSSH's ends only log it if the channel is gone, so this is no reason to end a session either.
    fn adjust(&mut self, by: Side, recipient: u32, bytes: u32) -> Verdict {
        let Some(channel) = self.speaks(by, recipient) else { return Verdict::Drop };
        if by == Side::Server {
            return Verdict::Pass;
        }
        match channel.reserve.adjust(bytes) {
            rest if rest == bytes => Verdict::Pass,
            0 => Verdict::Drop,
            rest => Verdict::Replace(Message::WindowAdjust { recipient, bytes: rest }.write()),
        }
    }

    /// The open channel that `by` speaks of and has not closed.
    fn speaks(&mut self, by: Side, recipient: u32) -> Option<&mut Channel> {
        self.table.heard(by, recipient).map(|(_, channel)| channel).filter(|channel| *channel.said.of(by) != Said::Close)
    }

    fn allows(&self, permission: Permission) -> bool {
        (self.allowed)().allow(permission)
    }
}

/// A line on the standard error of a session whose client still listens to it.
fn words(channel: &mut Channel, line: &str) -> Option<Vec<u8>> {
    let over = *channel.said.of(Side::Server) != Said::Nothing || *channel.said.of(Side::Client) == Said::Close;
    let recipient = channel.open(Side::Client).filter(|_| channel.kind == Kind::Session && !over)?;
    let line = line.get(..line.floor_char_boundary(LINE_MAX)).unwrap_or_default();
    let line = match channel.terminal {
        Terminal::None => format!("{line}\n"),
        // It is raw, and something stands on its present line.
        Terminal::Asked => format!("\r\n{line}\r\n"),
    };
    channel.reserve.spend(line.len())?;
    Some(Message::ExtendedData { recipient, kind: STDERR, data: line.as_bytes() }.write())
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;
