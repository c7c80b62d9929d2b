//! What a message of the peer comes to, and what its names mean (RFC 4254 sections 6.5 and 7.2).

use super::ChannelId;
use crate::wire::{Malformed, Reader};

/// Bytes of a host or an address: the longest name of the DNS.
const HOST_MAX: usize = 255;

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Nothing.
    Nothing,
    /// Send this. A peer can cause as many of these as it likes: they are for [`crate::Conn::answer`].
    Answer(Vec<u8>),
    /// The message's number is none of the connection protocol's: [`crate::Conn::unimplemented`].
    Unknown,
    /// Decide when you can: [`Channels::confirm`](super::Channels::confirm) or [`Channels::refuse`](super::Channels::refuse).
    Open {
        /// The channel that may come of it.
        id: ChannelId,
        /// Where it is to lead.
        target: Target<'a>,
    },
    /// There is more in [`Channels::unread`](super::Channels::unread).
    Data(ChannelId),
    /// There may be more [`Channels::room`](super::Channels::room).
    Room(ChannelId),
    /// The peer sends no more data: what is behind the channel ends when all is read.
    Eof(ChannelId),
    /// The peer is through with the channel, and hears nothing of it but our [`Channels::close`](super::Channels::close), which is due when all is read.
    Close(ChannelId),
    /// A session is to run something, the first and only time: say what there is to say, then close it.
    Wants {
        /// The session.
        id: ChannelId,
        /// What it is to run.
        what: Wanted<'a>,
        /// What its output is shown on: this says how a line ends.
        terminal: Terminal,
        /// Send this before anything else on the channel.
        answer: Option<Vec<u8>>,
    },
}

/// Where a `direct-tcpip` is to lead (RFC 4254 section 7.2). The peer wrote it all: printable ASCII, at most 255 bytes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// A name or an address, not empty.
    pub host: &'a str,
    /// Its port.
    pub port: u16,
    /// Where the connection comes from that wants to go there, or what the peer says of it; may be empty. `ssh -J` says `127.0.0.1`.
    pub originator: &'a str,
    /// Its port, or what the peer says of it.
    pub originator_port: u32,
}

/// What a session is to run (RFC 4254 section 6.5). The peer's bytes, whatever they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// The user's shell.
    Shell,
    /// This command.
    Exec(&'a [u8]),
    /// The subsystem of this name.
    Subsystem(&'a [u8]),
}

/// What a session's output is shown on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// Whatever the client's output is: lines end as usual.
    None,
    /// A terminal was asked for and granted: the client has its own in raw mode, where a line ends with a carriage return too.
    Raw,
}

impl<'a> Target<'a> {
    /// `None`: it can be read, and is not where anything could be.
    pub(super) fn read(rest: &'a [u8]) -> Result<Option<Self>, Malformed> {
        let mut reader = Reader::new(rest);
        let (host, port, originator, originator_port) = (reader.string()?, reader.u32()?, reader.string()?, reader.u32()?);
        reader.end()?;
        let (Some(host), Some(originator)) = (address(host), address(originator)) else { return Ok(None) };
        let port = u16::try_from(port).ok().filter(|port| *port > 0);
        Ok(port.filter(|_| !host.is_empty()).map(|port| Self { host, port, originator, originator_port }))
    }
}

/// Rule 27: what we read must be what everybody reads.
fn address(bytes: &[u8]) -> Option<&str> {
    let printable = bytes.len() <= HOST_MAX && bytes.iter().all(|byte| matches!(byte, b' '..=b'~'));
    str::from_utf8(bytes).ok().filter(|_| printable)
}

impl<'a> Wanted<'a> {
    /// `None`: the request is for something else.
    pub(super) fn read(name: &[u8], rest: &'a [u8]) -> Result<Option<Self>, Malformed> {
        let mut reader = Reader::new(rest);
        let wanted = match name {
            b"shell" => Self::Shell,
            b"exec" => Self::Exec(reader.string()?),
            b"subsystem" => Self::Subsystem(reader.string()?),
            _ => return Ok(None),
        };
        reader.end()?;
        Ok(Some(wanted))
    }
}
