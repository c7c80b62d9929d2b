//! The messages of the connection protocol as bytes (RFC 4254 section 9): read without copying, exactly and to their end, and written.
//!
//! Names, texts and contents stay bytes: nobody says that they are UTF-8, and what we compare must be what the other side compares (rule 27).
//! What depends on a name (the address in a `direct-tcpip`, the command of an `exec`) is `rest`, unread.

use crate::wire::{Malformed, Put, Reader};

/// SSH_MSG_GLOBAL_REQUEST.
pub const GLOBAL_REQUEST: u8 = 80;
/// SSH_MSG_REQUEST_SUCCESS.
pub const REQUEST_SUCCESS: u8 = 81;
/// SSH_MSG_REQUEST_FAILURE.
pub const REQUEST_FAILURE: u8 = 82;
/// SSH_MSG_CHANNEL_OPEN.
pub const OPEN: u8 = 90;
/// SSH_MSG_CHANNEL_OPEN_CONFIRMATION.
pub const OPEN_CONFIRMATION: u8 = 91;
/// SSH_MSG_CHANNEL_OPEN_FAILURE.
pub const OPEN_FAILURE: u8 = 92;
/// SSH_MSG_CHANNEL_WINDOW_ADJUST.
pub const WINDOW_ADJUST: u8 = 93;
/// SSH_MSG_CHANNEL_DATA.
pub const DATA: u8 = 94;
/// SSH_MSG_CHANNEL_EXTENDED_DATA.
pub const EXTENDED_DATA: u8 = 95;
/// SSH_MSG_CHANNEL_EOF.
pub const EOF: u8 = 96;
/// SSH_MSG_CHANNEL_CLOSE.
pub const CLOSE: u8 = 97;
/// SSH_MSG_CHANNEL_REQUEST.
pub const REQUEST: u8 = 98;
/// SSH_MSG_CHANNEL_SUCCESS.
pub const SUCCESS: u8 = 99;
/// SSH_MSG_CHANNEL_FAILURE.
pub const FAILURE: u8 = 100;

/// "Are you there": a request of OpenSSH's that every peer answers, whatever it thinks of it (section 4).
pub const KEEPALIVE: &[u8] = b"keepalive@openssh.com";
/// The kind of extended data that is standard error (SSH_EXTENDED_DATA_STDERR, section 5.2).
pub const STDERR: u32 = 1;
/// Bytes of a data message besides its data, at most: number, channel, kind, length.
pub const DATA_OVERHEAD: usize = 13;

/// Why a channel was not opened (section 5.1).
pub mod reason {
    /// Somebody does not allow it.
    pub const ADMINISTRATIVELY_PROHIBITED: u32 = 1;
    /// What it would lead to could not be reached.
    pub const CONNECT_FAILED: u32 = 2;
    /// Nobody knows this type of channel.
    pub const UNKNOWN_CHANNEL_TYPE: u32 = 3;
    /// There are too many already.
    pub const RESOURCE_SHORTAGE: u32 = 4;
}

/// A message. `recipient` is a channel's number as the one who hears the message counts them; `sender`, as the one who says it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// About the whole connection (section 4).
    GlobalRequest {
        /// What is asked for.
        name: &'a [u8],
        /// Whether it is to be answered; answers come in the order of the requests.
        wants_reply: bool,
        /// What belongs to this name.
        rest: &'a [u8],
    },
    /// The oldest global request that is to be answered was done.
    RequestSuccess {
        /// What belongs to the request: a port for `tcpip-forward`.
        rest: &'a [u8],
    },
    /// It was not.
    RequestFailure,
    /// "Let us have a channel" (section 5.1).
    Open {
        /// Its type.
        kind: &'a [u8],
        /// What the sender calls it.
        sender: u32,
        /// Bytes that the sender will take before it adjusts the window.
        window: u32,
        /// Bytes of data that it takes in one message.
        packet: u32,
        /// What belongs to this type.
        rest: &'a [u8],
    },
    /// It is open.
    Confirmation {
        /// Which.
        recipient: u32,
        /// What the other side calls it.
        sender: u32,
        /// As in `Open`, for the other direction.
        window: u32,
        /// As in `Open`.
        packet: u32,
        /// What belongs to its type.
        rest: &'a [u8],
    },
    /// It was not opened.
    OpenFailure {
        /// Which.
        recipient: u32,
        /// Why; see [`reason`].
        reason: u32,
        /// Why in words.
        text: &'a [u8],
        /// In which language.
        language: &'a [u8],
    },
    /// So many bytes more will be taken (section 5.2).
    WindowAdjust {
        /// On which channel.
        recipient: u32,
        /// How many.
        bytes: u32,
    },
    /// Contents.
    Data {
        /// Of which channel.
        recipient: u32,
        /// The bytes.
        data: &'a [u8],
    },
    /// Contents beside the others, such as [`STDERR`].
    ExtendedData {
        /// Of which channel.
        recipient: u32,
        /// Which kind.
        kind: u32,
        /// The bytes.
        data: &'a [u8],
    },
    /// No more contents will come from here (section 5.3).
    Eof {
        /// On which channel.
        recipient: u32,
    },
    /// Nothing more will come from here; the channel is gone when both sides have said so.
    Close {
        /// Which.
        recipient: u32,
    },
    /// About a channel (section 5.4).
    Request {
        /// Which.
        recipient: u32,
        /// What is asked for.
        name: &'a [u8],
        /// Whether it is to be answered; answers come in the order of the requests on this channel.
        wants_reply: bool,
        /// What belongs to this name.
        rest: &'a [u8],
    },
    /// The oldest request of this channel that is to be answered was done.
    Success {
        /// Which.
        recipient: u32,
    },
    /// It was not.
    Failure {
        /// Which.
        recipient: u32,
    },
}

impl<'a> Message<'a> {
    /// Reads a message with its number. `None`: its number is none of these.
    ///
    /// # Errors
    /// It is shorter or longer than its kind.
    pub fn read(message: &'a [u8]) -> Result<Option<Self>, Malformed> {
        let mut reader = Reader::new(message);
        let number = reader.u8()?;
        let read = match number {
            GLOBAL_REQUEST => {
                let (name, wants_reply) = (reader.string()?, reader.boolean()?);
                Self::GlobalRequest { name, wants_reply, rest: all(&mut reader) }
            }
            REQUEST_SUCCESS => Self::RequestSuccess { rest: all(&mut reader) },
            REQUEST_FAILURE => Self::RequestFailure,
            OPEN => {
                let (kind, sender, window, packet) = (reader.string()?, reader.u32()?, reader.u32()?, reader.u32()?);
                Self::Open { kind, sender, window, packet, rest: all(&mut reader) }
            }
            OPEN_CONFIRMATION => {
                let (recipient, sender, window, packet) = (reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?);
                Self::Confirmation { recipient, sender, window, packet, rest: all(&mut reader) }
            }
            OPEN_FAILURE => {
                let (recipient, reason) = (reader.u32()?, reader.u32()?);
                Self::OpenFailure { recipient, reason, text: reader.string()?, language: reader.string()? }
            }
            WINDOW_ADJUST => Self::WindowAdjust { recipient: reader.u32()?, bytes: reader.u32()? },
            DATA => Self::Data { recipient: reader.u32()?, data: reader.string()? },
            EXTENDED_DATA => Self::ExtendedData { recipient: reader.u32()?, kind: reader.u32()?, data: reader.string()? },
            EOF => Self::Eof { recipient: reader.u32()? },
            CLOSE => Self::Close { recipient: reader.u32()? },
            REQUEST => {
                let (recipient, name, wants_reply) = (reader.u32()?, reader.string()?, reader.boolean()?);
                Self::Request { recipient, name, wants_reply, rest: all(&mut reader) }
            }
            SUCCESS => Self::Success { recipient: reader.u32()? },
            FAILURE => Self::Failure { recipient: reader.u32()? },
            _ => return Ok(None),
        };
        reader.end()?;
        Ok(Some(read))
    }

    /// The message as bytes.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        self.write_to(&mut bytes);
        bytes
    }

    /// The message as bytes at the end of a buffer.
    pub fn write_to(&self, bytes: &mut Vec<u8>) {
        match *self {
            Self::GlobalRequest { name, wants_reply, rest } => {
                bytes.put_u8(GLOBAL_REQUEST).put_string(name).put_bool(wants_reply).put_bytes(rest)
            }
            Self::RequestSuccess { rest } => bytes.put_u8(REQUEST_SUCCESS).put_bytes(rest),
            Self::RequestFailure => bytes.put_u8(REQUEST_FAILURE),
            Self::Open { kind, sender, window, packet, rest } => {
                bytes.put_u8(OPEN).put_string(kind).put_u32(sender).put_u32(window).put_u32(packet).put_bytes(rest)
            }
            Self::Confirmation { recipient, sender, window, packet, rest } => {
                bytes.put_u8(OPEN_CONFIRMATION).put_u32(recipient).put_u32(sender).put_u32(window).put_u32(packet).put_bytes(rest)
            }
            Self::OpenFailure { recipient, reason, text, language } => {
                bytes.put_u8(OPEN_FAILURE).put_u32(recipient).put_u32(reason).put_string(text).put_string(language)
            }
            Self::WindowAdjust { recipient, bytes: more } => bytes.put_u8(WINDOW_ADJUST).put_u32(recipient).put_u32(more),
            Self::Data { recipient, data } => bytes.put_u8(DATA).put_u32(recipient).put_string(data),
            Self::ExtendedData { recipient, kind, data } => bytes.put_u8(EXTENDED_DATA).put_u32(recipient).put_u32(kind).put_string(data),
            Self::Eof { recipient } => bytes.put_u8(EOF).put_u32(recipient),
            Self::Close { recipient } => bytes.put_u8(CLOSE).put_u32(recipient),
            Self::Request { recipient, name, wants_reply, rest } => {
                bytes.put_u8(REQUEST).put_u32(recipient).put_string(name).put_bool(wants_reply).put_bytes(rest)
            }
            Self::Success { recipient } => bytes.put_u8(SUCCESS).put_u32(recipient),
            Self::Failure { recipient } => bytes.put_u8(FAILURE).put_u32(recipient),
        };
    }
}

/// All that is left; what it means depends on a name.
fn all<'a>(reader: &mut Reader<'a>) -> &'a [u8] {
    std::mem::replace(reader, Reader::new(&[])).rest()
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;
