//! The channels of a session, by the numbers of both sides (rule 28): each side numbers its own end, and messages name the hearer's.

use std::collections::HashMap;

use super::Broken;
use super::event::ChannelId;
use super::window::Reserve;
use crate::negotiate::Side;

/// Channels at a time. OpenSSH's server takes 10 sessions of a connection, and as many forwarded connections as it has descriptors for.
pub(super) const CHANNELS_MAX: usize = 4096;

/// One for each side.
#[derive(Debug, Default)]
pub(super) struct Both<T> {
    client: T,
    server: T,
}

impl<T> Both<T> {
    pub(super) fn of(&self, side: Side) -> &T {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }

    pub(super) fn of_mut(&mut self, side: Side) -> &mut T {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }
}

/// What a channel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A shell, a command, a subsystem.
    Session,
    /// A connection; it takes no requests but those of OpenSSH for any channel.
    Stream,
}

/// How far one side is with a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Said {
    /// It may say all.
    #[default]
    Nothing,
    /// No more contents.
    Eof,
    /// Nothing more.
    Close,
}

/// Whether there is a terminal, in which a line needs its carriage return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Terminal {
    /// There is none.
    None,
    /// It was asked for.
    Asked,
}

/// A channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) kind: Kind,
    opener: Side,
    /// What each side calls it; that of the other side than the opener's comes with its confirmation.
    numbers: Both<Option<u32>>,
    pub(super) said: Both<Said>,
    /// Requests of each side that the other one has yet to answer.
    pub(super) unanswered: Both<u32>,
    pub(super) terminal: Terminal,
    pub(super) reserve: Reserve,
}

impl Channel {
    /// What this side calls it, once both have a number.
    pub(super) fn open(&self, side: Side) -> Option<u32> {
        self.numbers.of(side.other()).and(*self.numbers.of(side))
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct Table {
    channels: HashMap<u64, Channel>,
    numbers: Both<HashMap<u32, u64>>,
    next: u64,
}

impl Table {
    /// Is there no room for one more?
    pub(super) fn is_full(&self) -> bool {
        self.channels.len() >= CHANNELS_MAX
    }

    /// This side wants a channel, and calls it so.
    pub(super) fn open(&mut self, by: Side, number: u32, kind: Kind, reserve: Reserve) -> Result<(), Broken> {
        let mut numbers: Both<Option<u32>> = Both::default();
        *numbers.of_mut(by) = Some(number);
        if self.numbers.of(by).contains_key(&number) {
            return Err(Broken("a channel is opened under a number that is in use"));
        }
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        self.numbers.of_mut(by).insert(number, id);
        let (said, unanswered) = (Both::default(), Both::default());
        self.channels.insert(id, Channel { kind, opener: by, numbers, said, unanswered, terminal: Terminal::None, reserve });
        Ok(())
    }

    /// This side has the channel too, and calls it so.
    pub(super) fn confirm(&mut self, by: Side, recipient: u32, number: u32) -> Result<(), Broken> {
        let id = self.opening(by, recipient)?;
        if self.numbers.of(by).contains_key(&number) {
            return Err(Broken("a channel is confirmed under a number that is in use"));
        }
        if let Some(channel) = self.channels.get_mut(&id) {
            *channel.numbers.of_mut(by) = Some(number);
            self.numbers.of_mut(by).insert(number, id);
        }
        Ok(())
    }

    /// This side does not want the channel.
    pub(super) fn refuse(&mut self, by: Side, recipient: u32) -> Result<(), Broken> {
        let id = self.opening(by, recipient)?;
        self.remove(id);
        Ok(())
    }

    /// The channel that this side has yet to take or refuse.
    fn opening(&self, by: Side, recipient: u32) -> Result<u64, Broken> {
        let id = self.numbers.of(by.other()).get(&recipient).copied();
        id.filter(|id| self.channels.get(id).is_some_and(|channel| channel.opener != by && channel.open(by).is_none()))
            .ok_or(Broken("an answer to a channel that nobody opens"))
    }

    /// The channel that a message of this side is about, if it is open.
    pub(super) fn heard(&mut self, by: Side, recipient: u32) -> Option<(ChannelId, &mut Channel)> {
        let id = *self.numbers.of(by.other()).get(&recipient)?;
        let channel = self.channels.get_mut(&id).filter(|channel| channel.open(by).is_some())?;
        Some((ChannelId(id), channel))
    }

    /// Both sides have closed it.
    pub(super) fn forget(&mut self, id: ChannelId) {
        self.remove(id.0);
    }

    pub(super) fn get_mut(&mut self, id: ChannelId) -> Option<&mut Channel> {
        self.channels.get_mut(&id.0)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Channel> {
        self.channels.values_mut()
    }

    fn remove(&mut self, id: u64) {
        let Some(channel) = self.channels.remove(&id) else { return };
        for side in [Side::Client, Side::Server] {
            if let Some(number) = channel.numbers.of(side) {
                self.numbers.of_mut(side).remove(number);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> [usize; 3] {
        [self.channels.len(), self.numbers.client.len(), self.numbers.server.len()]
    }
}
