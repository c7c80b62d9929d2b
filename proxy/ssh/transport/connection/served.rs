//! Channels that end with us (RFC 4254 section 5, rule 29): those of a link that leads to no upstream. `ssh -J` opens a `direct-tcpip` in it,
//! whose bytes are an SSH link of its own; plain `ssh` a `session`, whose user is told what there is.
//!
//! ```text
//! a message ─► receive ─► Action    Open ─► confirm, refuse (any time later)        Wants ─► stderr, exit_status, eof, close
//!                                   Data ─► unread, consumed                        Room  ─► room, data
//!                                   Eof, Close ─► close when all is read
//! ```
//! What came waits here until somebody says that it was consumed, and only then does the peer get its window back: at most [`WINDOW`] bytes of a
//! channel wait, whatever the peer announces or sends. No two channels wait for each other.

mod action;
mod channel;
#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use super::message::{Message, reason};
use crate::error::Fatal;
use crate::wire::Reader;

pub use action::{Action, Target, Terminal, Wanted};

use channel::{Channel, Fate, Granted, Kind, Peer, Program, Stream, Way};

/// Bytes that a peer may send ahead of what was consumed of a channel; no more of it are ever held.
pub const WINDOW: u32 = 1 << 20;
/// Bytes of data in one message, of either side. OpenSSH's clients use the same.
pub const PACKET: u32 = 32 * 1024;
/// Channels of one link, undecided ones included: ssh and Ansible reach many servers over one shared jump. One further is refused.
pub const CHANNELS_MAX: usize = 64;

/// Our number of a channel. It is not used again before four thousand million others were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(u32);

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// May the peer open sessions?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sessions {
    Allowed,
    /// It said itself that it will not (OpenSSH PROTOCOL section 2.2).
    NoMore,
}

/// The channels of one link. Whatever is said of one that is not there, or not any more, comes to nothing.
pub struct Channels {
    channels: BTreeMap<u32, Channel>,
    next: u32,
    sessions: Sessions,
}

impl Default for Channels {
    fn default() -> Self {
        Self::new()
    }
}

impl Channels {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self { channels: BTreeMap::new(), next: 0, sessions: Sessions::Allowed }
    }

    /// Takes a message of the peer, with its number.
    ///
    /// # Errors
    /// The peer broke the protocol: the link must end.
    pub fn receive<'a>(&mut self, message: &'a [u8]) -> Result<Action<'a>, Fatal> {
        let Some(message) = Message::read(message)? else { return Ok(Action::Unknown) };
        match message {
            Message::GlobalRequest { name, wants_reply, .. } => Ok(self.global_request(name, wants_reply)),
            Message::Open { kind, sender, window, packet, rest } => self.open(kind, Peer { number: sender, window, packet }, rest),
            Message::WindowAdjust { recipient, bytes } => self.window_adjust(recipient, bytes),
            Message::Data { recipient, data } => self.data_came(recipient, data),
            Message::ExtendedData { recipient, data, .. } => {
                let channel = self.find(recipient)?;
                channel.extended_data(data)?;
                Ok(answer(channel.give_back()))
            }
            Message::Eof { recipient } => {
                let new = self.find(recipient)?.ended()?;
                Ok(if new { Action::Eof(ChannelId(recipient)) } else { Action::Nothing })
            }
            Message::Close { recipient } => self.close_came(recipient),
            Message::Request { recipient, name, wants_reply, rest } => self.request(recipient, name, wants_reply, rest),
            // We open nothing and ask for nothing.
            Message::RequestSuccess { .. }
            | Message::RequestFailure
            | Message::Confirmation { .. }
            | Message::OpenFailure { .. }
            | Message::Success { .. }
            | Message::Failure { .. } => Err(Fatal::Protocol("an answer to what nobody asked")),
        }
    }

    /// The peer gets its channel. What to send; nothing if it was decided already.
    #[must_use]
    pub fn confirm(&mut self, id: ChannelId) -> Option<Vec<u8>> {
        self.channels.get_mut(&id.0)?.confirm(id.0)
    }

    /// It does not: why, as one of [`reason`], and in words for the user. What to send; nothing if it was decided already.
    #[must_use]
    pub fn refuse(&mut self, id: ChannelId, reason: u32, text: &str) -> Option<Vec<u8>> {
        let failure = self.channels.get(&id.0)?.refuse(reason, text)?;
        self.channels.remove(&id.0);
        Some(failure)
    }

    /// The oldest bytes that came and were not consumed, or the first part of them. Empty: there are none.
    #[must_use]
    pub fn unread(&self, id: ChannelId) -> &[u8] {
        self.channels.get(&id.0).map_or(&[], Channel::unread)
    }

    /// The first so many bytes of [`Self::unread`] were taken. What to send: at half a window, the peer gets it back.
    #[must_use]
    pub fn consumed(&mut self, id: ChannelId, length: usize) -> Option<Vec<u8>> {
        self.channels.get_mut(&id.0)?.consume(length)
    }

    /// Bytes that may be sent now in one message: what is left of the peer's window, at most what it takes at once.
    #[must_use]
    pub fn room(&self, id: ChannelId) -> usize {
        self.channels.get(&id.0).map_or(0, |channel| usize::try_from(channel.room()).unwrap_or(usize::MAX))
    }

    /// Writes a message with as much of `data` as there is room for over what `message` holds, and says how much that is. With 0 there is none.
    #[must_use]
    pub fn data(&mut self, id: ChannelId, data: &[u8], message: &mut Vec<u8>) -> usize {
        self.send(id, data, Stream::Out, message)
    }

    /// The same, for what the user's `ssh` prints on standard error.
    #[must_use]
    pub fn stderr(&mut self, id: ChannelId, data: &[u8], message: &mut Vec<u8>) -> usize {
        self.send(id, data, Stream::Err, message)
    }

    /// No more data goes to the peer. What to send; nothing if it was said, or the peer is through with the channel.
    #[must_use]
    pub fn eof(&mut self, id: ChannelId) -> Option<Vec<u8>> {
        self.channels.get_mut(&id.0)?.eof()
    }

    /// We are through with the channel; what was not read is gone. What to send; nothing if it was said.
    #[must_use]
    pub fn close(&mut self, id: ChannelId) -> Option<Vec<u8>> {
        let channel = self.channels.get_mut(&id.0)?;
        let close = channel.close();
        if channel.is_gone() {
            self.channels.remove(&id.0);
        }
        close
    }

    /// How the program of a session ended. What to send before [`Self::close`].
    #[must_use]
    pub fn exit_status(&mut self, id: ChannelId, status: u32) -> Option<Vec<u8>> {
        self.channels.get(&id.0)?.exit_status(status)
    }

    /// How many channels there are, undecided ones and those that only one side has closed included; at most [`CHANNELS_MAX`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    fn send(&mut self, id: ChannelId, data: &[u8], stream: Stream, message: &mut Vec<u8>) -> usize {
        message.clear();
        self.channels.get_mut(&id.0).map_or(0, |channel| channel.send(data, stream, message))
    }

    /// The channel of a message. One that was not confirmed has no number that the peer could know.
    fn find(&mut self, number: u32) -> Result<&mut Channel, Fatal> {
        let channel = self.channels.get_mut(&number).filter(|channel| channel.is_confirmed());
        channel.ok_or(Fatal::Protocol("a message for a channel that does not exist"))
    }

    /// Any answer tells a client that asks whether we are alive (`keepalive@openssh.com`) what it wants to know.
    fn global_request(&mut self, name: &[u8], wants_reply: bool) -> Action<'static> {
        let done = name == b"no-more-sessions@openssh.com";
        if done {
            self.sessions = Sessions::NoMore;
        }
        let reply = if done { Message::RequestSuccess { rest: &[] } } else { Message::RequestFailure };
        answer(wants_reply.then(|| reply.write()))
    }

    fn open<'a>(&mut self, kind: &[u8], peer: Peer, rest: &'a [u8]) -> Result<Action<'a>, Fatal> {
        let refused = |reason, text| Ok(Action::Answer(peer.refuse(reason, text)));
        let target = match kind {
            b"direct-tcpip" => match Target::read(rest)? {
                None => return refused(reason::ADMINISTRATIVELY_PROHIBITED, "that is no host and port"),
                target => target,
            },
            b"session" => {
                Reader::new(rest).end()?;
                if self.sessions == Sessions::NoMore {
                    // Who opens one now is not who said that.
                    return Err(Fatal::Protocol("a session after the last one"));
                }
                None
            }
            _ => return refused(reason::UNKNOWN_CHANNEL_TYPE, "only sessions and direct-tcpip are served here"),
        };
        if self.channels.len() >= CHANNELS_MAX {
            return refused(reason::RESOURCE_SHORTAGE, "too many channels at once");
        }
        Ok(match target {
            Some(target) => Action::Open { id: self.insert(Channel::new(Kind::Tcp, peer)), target },
            None => {
                let id = self.insert(Channel::new(Kind::Session(Program::Unasked, Terminal::None), peer));
                answer(self.confirm(id))
            }
        })
    }

    fn insert(&mut self, channel: Channel) -> ChannelId {
        // At most as many steps as there are channels.
        while self.channels.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let id = ChannelId(self.next);
        self.next = self.next.wrapping_add(1);
        self.channels.insert(id.0, channel);
        id
    }

    /// For a channel that is gone it comes to nothing, as at sshd: clients with a thread for each channel send it while another one closes it.
    fn window_adjust(&mut self, number: u32, bytes: u32) -> Result<Action<'static>, Fatal> {
        if !self.channels.contains_key(&number) {
            return Ok(Action::Nothing);
        }
        self.find(number)?.adjust(bytes)?;
        Ok(Action::Room(ChannelId(number)))
    }

    fn data_came(&mut self, number: u32, data: &[u8]) -> Result<Action<'static>, Fatal> {
        let channel = self.find(number)?;
        Ok(match channel.data(data)? {
            Fate::Held => Action::Data(ChannelId(number)),
            Fate::Lost => answer(channel.give_back()),
        })
    }

    fn close_came(&mut self, number: u32) -> Result<Action<'static>, Fatal> {
        let channel = self.find(number)?;
        channel.closed()?;
        if channel.is_gone() {
            self.channels.remove(&number);
            return Ok(Action::Nothing);
        }
        Ok(Action::Close(ChannelId(number)))
    }

    fn request<'a>(&mut self, number: u32, name: &[u8], wants_reply: bool, rest: &'a [u8]) -> Result<Action<'a>, Fatal> {
        let channel = self.find(number)?;
        if channel.heard() == Way::Closed {
            return Err(Fatal::Protocol("a request behind the end of a channel"));
        }
        let Kind::Session(Program::Unasked, terminal) = channel.kind else {
            return Ok(answer(channel.answer(wants_reply, Granted::No)));
        };
        let Some(what) = Wanted::read(name, rest)? else {
            let granted = if name == b"pty-req" { Granted::Yes } else { Granted::No };
            if granted == Granted::Yes {
                channel.kind = Kind::Session(Program::Unasked, Terminal::Raw);
            }
            return Ok(answer(channel.answer(wants_reply, granted)));
        };
        channel.kind = Kind::Session(Program::Asked, terminal);
        if channel.said() == Way::Closed {
            return Ok(Action::Nothing);
        }
        Ok(Action::Wants { id: ChannelId(number), what, terminal, answer: channel.answer(wants_reply, Granted::Yes) })
    }
}

fn answer(message: Option<Vec<u8>>) -> Action<'static> {
    message.map_or(Action::Nothing, Action::Answer)
}
