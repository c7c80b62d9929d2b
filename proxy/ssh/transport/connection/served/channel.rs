//! One channel: its two windows, its two ways, and what came and was not consumed yet (RFC 4254 sections 5.2 and 5.3).

use std::collections::VecDeque;

use super::super::message::{Message, STDERR};
use super::{PACKET, Terminal, WINDOW};
use crate::error::Fatal;

/// Bytes that nothing waits in, kept for the next ones.
const KEPT: usize = 64 * 1024;

/// What it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Bytes for somewhere else.
    Tcp,
    /// A session in which nothing runs.
    Session(Program, Terminal),
}

/// A session is for one program (RFC 4254 section 6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// The peer has not asked for any.
    Unasked,
    /// It has.
    Asked,
}

/// Whether the peer knows that it has the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Awaited,
    Confirmed,
}

/// How far one side has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It may send.
    Open,
    /// No more data: it said EOF.
    Ended,
    /// Nothing more: it said CLOSE.
    Closed,
}

/// Whether a request was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Granted {
    Yes,
    No,
}

/// What becomes of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Kept until it is consumed.
    Held,
    /// Nobody is there to take it.
    Lost,
}

/// What the peer says of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// Its number of the channel.
    pub(super) number: u32,
    /// Bytes that it takes yet …
    pub(super) window: u32,
    /// … and in one message.
    pub(super) packet: u32,
}

pub(super) struct Channel {
    pub(super) kind: Kind,
    peer: Peer,
    decision: Decision,
    /// Bytes that the peer may send yet.
    window: u32,
    /// Bytes that were consumed and not given back yet. As long as the peer sends, `window`, `spent` and what is held make one [`WINDOW`].
    spent: u32,
    held: VecDeque<u8>,
    heard: Way,
    said: Way,
}

impl Peer {
    /// It does not get the channel.
    pub(super) fn refuse(self, reason: u32, text: &str) -> Vec<u8> {
        Message::OpenFailure { recipient: self.number, reason, text: text.as_bytes(), language: &[] }.write()
    }
}

impl Channel {
    pub(super) fn new(kind: Kind, peer: Peer) -> Self {
        Self { kind, peer, decision: Decision::Awaited, window: WINDOW, spent: 0, held: VecDeque::new(), heard: Way::Open, said: Way::Open }
    }

    /// The peer knows our number.
    pub(super) fn is_confirmed(&self) -> bool {
        self.decision == Decision::Confirmed
    }

    /// Both sides have said CLOSE: neither knows the channel any more.
    pub(super) fn is_gone(&self) -> bool {
        (self.heard, self.said) == (Way::Closed, Way::Closed)
    }

    pub(super) fn confirm(&mut self, number: u32) -> Option<Vec<u8>> {
        if self.is_confirmed() {
            return None;
        }
        self.decision = Decision::Confirmed;
        Some(Message::Confirmation { recipient: self.peer.number, sender: number, window: WINDOW, packet: PACKET, rest: &[] }.write())
    }

    pub(super) fn refuse(&self, reason: u32, text: &str) -> Option<Vec<u8>> {
        (!self.is_confirmed()).then(|| self.peer.refuse(reason, text))
    }

    /// Rule 29: whatever the peer sends is paid out of the window that it was given.
    pub(super) fn data(&mut self, data: &[u8]) -> Result<Fate, Fatal> {
        self.pay(data.len())?;
        if self.said == Way::Closed {
            return Ok(Fate::Lost);
        }
        match self.kind {
            Kind::Tcp => {
                self.hold(data);
                Ok(Fate::Held)
            }
            Kind::Session(..) => {
                self.spend(data.len());
                Ok(Fate::Lost)
            }
        }
    }

    /// No kind of it is defined for what a client says; it is paid for and thrown away.
    pub(super) fn extended_data(&mut self, data: &[u8]) -> Result<(), Fatal> {
        self.pay(data.len())?;
        self.spend(data.len());
        Ok(())
    }

    fn pay(&mut self, length: usize) -> Result<(), Fatal> {
        if self.heard != Way::Open {
            return Err(Fatal::Protocol("data behind the end of a channel"));
        }
        let length = u32::try_from(length).ok().filter(|length| *length <= PACKET);
        let length = length.ok_or(Fatal::Protocol("more data in a message than was agreed on"))?;
        self.window = self.window.checked_sub(length).ok_or(Fatal::Protocol("more data than the window allows"))?;
        Ok(())
    }

    /// What it can grow to is bounded by [`Self::pay`]; it never takes more than that either.
    fn hold(&mut self, data: &[u8]) {
        let needed = self.held.len().saturating_add(data.len());
        if needed > self.held.capacity() {
            let window = usize::try_from(WINDOW).unwrap_or(usize::MAX);
            let larger = needed.checked_next_power_of_two().unwrap_or(needed).min(window);
            self.held.reserve_exact(larger.saturating_sub(self.held.len()));
        }
        self.held.extend(data);
    }

    /// What came and was not consumed: its oldest part.
    pub(super) fn unread(&self) -> &[u8] {
        self.held.as_slices().0
    }

    /// The first so many bytes of it are done with. The answer is due at once.
    pub(super) fn consume(&mut self, length: usize) -> Option<Vec<u8>> {
        let length = length.min(self.held.len());
        self.held.drain(..length);
        if self.held.is_empty() && self.held.capacity() > KEPT {
            self.held = VecDeque::new();
        }
        self.spend(length);
        self.give_back()
    }

    fn spend(&mut self, length: usize) {
        self.spent = self.spent.saturating_add(u32::try_from(length).unwrap_or(u32::MAX));
    }

    /// Window for what was consumed: half of it at once, so that there is one message for many. Whoever sends nothing more needs none.
    pub(super) fn give_back(&mut self) -> Option<Vec<u8>> {
        if self.spent < WINDOW / 2 || self.heard != Way::Open || self.said == Way::Closed {
            return None;
        }
        let bytes = std::mem::take(&mut self.spent);
        self.window = self.window.saturating_add(bytes);
        Some(Message::WindowAdjust { recipient: self.peer.number, bytes }.write())
    }

    pub(super) fn adjust(&mut self, bytes: u32) -> Result<(), Fatal> {
        self.peer.window = self.peer.window.checked_add(bytes).ok_or(Fatal::Protocol("a window of more bytes than there are"))?;
        Ok(())
    }

    /// The peer has no more data. Whether that is new: some clients say it each time that somebody closes their end.
    pub(super) fn ended(&mut self) -> Result<bool, Fatal> {
        match self.heard {
            Way::Open => {
                self.heard = Way::Ended;
                Ok(true)
            }
            Way::Ended => Ok(false),
            Way::Closed => Err(Fatal::Protocol("an EOF behind the end of a channel")),
        }
    }

    pub(super) fn closed(&mut self) -> Result<(), Fatal> {
        if self.heard == Way::Closed {
            return Err(Fatal::Protocol("a channel is closed twice"));
        }
        self.heard = Way::Closed;
        Ok(())
    }

    /// The peer asks for something: what it is answered, if it wants to know. Nothing goes out behind our CLOSE.
    pub(super) fn answer(&self, wants_reply: bool, granted: Granted) -> Option<Vec<u8>> {
        let recipient = self.peer.number;
        let answer = match granted {
            Granted::Yes => Message::Success { recipient },
            Granted::No => Message::Failure { recipient },
        };
        (wants_reply && self.said != Way::Closed).then(|| answer.write())
    }

    pub(super) fn heard(&self) -> Way {
        self.heard
    }

    pub(super) fn said(&self) -> Way {
        self.said
    }

    /// Bytes that may be sent now in one message.
    pub(super) fn room(&self) -> u32 {
        let sends = self.is_confirmed() && self.said == Way::Open && self.heard != Way::Closed;
        if sends { self.peer.window.min(self.peer.packet).min(PACKET) } else { 0 }
    }

    /// A message with as much of `data` as there is room for; how much that is.
    pub(super) fn send(&mut self, data: &[u8], stream: Stream, message: &mut Vec<u8>) -> usize {
        let length = data.len().min(usize::try_from(self.room()).unwrap_or(usize::MAX));
        let data = data.get(..length).unwrap_or_default();
        message.clear();
        if data.is_empty() {
            return 0;
        }
        self.peer.window = self.peer.window.saturating_sub(u32::try_from(length).unwrap_or(u32::MAX));
        let recipient = self.peer.number;
        match stream {
            Stream::Out => Message::Data { recipient, data }.write_to(message),
            Stream::Err => Message::ExtendedData { recipient, kind: STDERR, data }.write_to(message),
        }
        length
    }

    /// "No more data", unless that was said or cannot be heard any more.
    pub(super) fn eof(&mut self) -> Option<Vec<u8>> {
        if !self.is_confirmed() || self.said != Way::Open || self.heard == Way::Closed {
            return None;
        }
        self.said = Way::Ended;
        Some(Message::Eof { recipient: self.peer.number }.write())
    }

    /// "Nothing more", unless that was said.
    pub(super) fn close(&mut self) -> Option<Vec<u8>> {
        if !self.is_confirmed() || self.said == Way::Closed {
            return None;
        }
        self.said = Way::Closed;
        self.held = VecDeque::new();
        Some(Message::Close { recipient: self.peer.number }.write())
    }

    /// How the program of a session ended (RFC 4254 section 6.10).
    pub(super) fn exit_status(&self, status: u32) -> Option<Vec<u8>> {
        let hears = self.is_confirmed() && self.said != Way::Closed && self.heard != Way::Closed;
        let request =
            Message::Request { recipient: self.peer.number, name: b"exit-status", wants_reply: false, rest: &status.to_be_bytes() };
        (hears && matches!(self.kind, Kind::Session(..))).then(|| request.write())
    }
}

/// Which of a channel's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

#[cfg(test)]
impl Channel {
    /// Bytes that wait, and bytes that are allocated for such.
    pub(super) fn held(&self) -> (usize, usize) {
        (self.held.len(), self.held.capacity())
    }
}
