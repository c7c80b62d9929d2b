//! The rule by which a relay between two transports lives through key exchanges on both.
//!
//! Between our KEXINIT and our NEWKEYS nothing may be sent that is not part of the exchange (RFC 4253 section 7.1), so what is to be relayed to
//! that side waits. If a side that is full were simply no longer passed to, the other one would not be read; its own KEXINIT could not be
//! seen, nor its answer to ours; and two sides that exchange keys at the same time would wait for each other for good. Hence: *a side that
//! exchanges keys is always read, however much waits on the other*. What comes that way is finite, since no peer may send anything else after
//! its KEXINIT; it is bounded all the same.

use crate::conn::{Conn, Event};
use crate::error::Fatal;

#[cfg(test)]
mod tests;

/// Bytes that may wait for a side before the other one is no longer read.
pub const HIGH: usize = 256 * 1024;
/// Bytes that may wait for a side while the other one exchanges keys: what a peer sends between our KEXINIT and its own.
pub const BURST: usize = 32 * 1024 * 1024;

/// May the next message of a side be taken, and its socket be read?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Yes.
    Open,
    /// Not before some of what waits is written.
    Shut,
    /// More waits than any peer that keeps the rules can have caused: the session ends.
    Burst,
}

/// The rule: `in_exchange` of the side that is read, `backlog` in bytes of the side that it is passed to.
#[must_use]
pub fn gate(in_exchange: bool, backlog: usize) -> Gate {
    match (in_exchange, backlog) {
        (_, ..HIGH) => Gate::Open,
        (true, ..BURST) => Gate::Open,
        (true, _) => Gate::Burst,
        (false, _) => Gate::Shut,
    }
}

/// [`gate`] between two transports.
#[must_use]
pub fn between(from: &Conn, to: &Conn) -> Gate {
    gate(from.in_exchange(), to.backlog())
}

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on as it is.
    Pass,
    /// Nobody hears of it.
    Drop,
    /// This goes on in its place.
    Replace(Vec<u8>),
    /// Its sender hears this, and the other side nothing.
    Answer(Vec<u8>),
    /// Its sender hears that it was not understood.
    Unknown,
    /// Its sender broke the protocol, and both sides end.
    Broken(&'static str),
}

/// What [`pump`] stopped at.
#[derive(Debug, PartialEq, Eq)]
pub enum Pumped {
    /// Nothing more is there, or the gate is shut, or as many were taken as were asked for; so many messages were taken.
    Messages(usize),
    /// The peer said goodbye.
    Disconnect {
        /// Why (RFC 4253 section 11.1).
        reason: u32,
        /// Why in words; see [`Event::Disconnect`].
        text: String,
    },
}

/// Whose fault it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The side that was read.
    From(Fatal),
    /// The side that was passed to.
    To(Fatal),
}

/// Passes on what `from` has received, at `most` so many messages, as far as the gate allows and as `look` says.
///
/// # Errors
/// One of the transports has to end, and with it the other.
pub fn pump(from: &mut Conn, to: &mut Conn, most: usize, look: &mut dyn FnMut(&[u8]) -> Verdict) -> Result<Pumped, Broken> {
    pump_by(between, from, to, most, look)
}

/// [`pump`] by a rule that the simulation can break.
pub(crate) fn pump_by(
    rule: fn(&Conn, &Conn) -> Gate,
    from: &mut Conn,
    to: &mut Conn,
    most: usize,
    look: &mut dyn FnMut(&[u8]) -> Verdict,
) -> Result<Pumped, Broken> {
    let mut messages: usize = 0;
    while messages < most {
        match rule(from, to) {
            Gate::Open => {}
            Gate::Shut => return Ok(Pumped::Messages(messages)),
            Gate::Burst => return Err(Broken::From(Fatal::TooMuch("too much came before the answer to our KEXINIT"))),
        }
        let answer = match from.next().map_err(Broken::From)? {
            None => return Ok(Pumped::Messages(messages)),
            Some(Event::Disconnect { reason, text }) => return Ok(Pumped::Disconnect { reason, text }),
            // A relay begins behind both logins, where these two cannot come any more.
            Some(Event::Ready | Event::HostKey { .. }) => Verdict::Drop,
            Some(Event::Message(message)) => match look(message) {
                Verdict::Pass => {
                    to.send(message).map_err(Broken::To)?;
                    Verdict::Drop
                }
                verdict => verdict,
            },
        };
        messages = messages.saturating_add(1);
        match answer {
            Verdict::Pass | Verdict::Drop => {}
            Verdict::Replace(message) => to.send(&message).map_err(Broken::To)?,
            Verdict::Answer(message) => from.answer(&message).map_err(Broken::From)?,
            Verdict::Unknown => from.unimplemented().map_err(Broken::From)?,
            Verdict::Broken(what) => {
                let fatal = Fatal::Protocol(what);
                from.disconnect(fatal.reason(), fatal.text());
                return Err(Broken::From(fatal));
            }
        }
    }
    Ok(Pumped::Messages(messages))
}
