//! Which message may come when, and what becomes of it. Rules 5, 6, 14 and 24 are the table [`Conn::allow`]; `tests/hostile.rs` holds it
//! against every number in every state.

use std::ops::Range;

use super::exchange::Exchange;
use super::{Conn, FAREWELL_MAX, Keys, Login, PACKET, PACKET_BEFORE_LOGIN, Strictness};
use crate::error::Fatal;
use crate::ident::Line;
use crate::message;
use crate::negotiate::Guess;
use crate::wire::{Put, Reader};

/// What the caller hears of.
pub(super) enum Step {
    /// A host key to be accepted.
    HostKey,
    /// The first exchange is done.
    Ready,
    /// A message of a layer above.
    Message(Range<usize>),
    /// The peer's end.
    Disconnect { reason: u32, text: String },
}

impl Conn {
    pub(super) fn step(&mut self) -> Result<Option<Step>, Fatal> {
        self.release();
        if self.peer_ident.is_none() && !self.identify()? {
            return Ok(None);
        }
        loop {
            self.release();
            if matches!(self.exchange, Exchange::HostKey(_)) {
                return Ok(None);
            }
            let longest = if self.login == Login::Done { PACKET } else { PACKET_BEFORE_LOGIN };
            let Some(packet) = self.inbound.packet(longest)? else { return Ok(None) };
            let step = self.take(packet.sequence, packet.payload)?;
            self.rekey_if_due()?;
            if step.is_some() {
                return Ok(step);
            }
        }
    }

    /// What came before a login may have been a password.
    pub(super) fn release(&mut self) {
        self.inbound.release(self.login == Login::Awaited);
    }

    /// Whether the peer has said who it is.
    fn identify(&mut self) -> Result<bool, Fatal> {
        loop {
            match self.reading.next(self.inbound.data())? {
                Line::Incomplete => return Ok(false),
                Line::Skip(length) => self.inbound.take(length),
                Line::Ident(line, length) => {
                    self.peer_ident = Some(line);
                    self.inbound.take(length);
                    return Ok(true);
                }
            }
        }
    }

    fn take(&mut self, sequence: u32, payload: Range<usize>) -> Result<Option<Step>, Fatal> {
        let number = self.inbound.payload(payload.clone()).first().copied().unwrap_or(0);
        if self.guess == Guess::Wrong && message::KEX_METHOD.contains(&number) {
            self.guess = Guess::None;
            return Ok(None);
        }
        self.allow(number)?;
        // Those of key exchanges are copied: they are few, and answering them needs the rest of this object.
        match number {
            message::DISCONNECT => self.farewell(payload).map(Some),
            message::IGNORE | message::UNIMPLEMENTED | message::DEBUG | message::PONG => Ok(None),
            message::EXT_INFO if self.login == Login::Done => Ok(None),
            message::EXT_INFO => self.extensions.read(self.inbound.payload(payload)).map(|()| None),
            message::KEXINIT => {
                let kexinit = self.inbound.payload(payload).to_vec();
                self.on_kexinit(kexinit, sequence).map(|()| None)
            }
            message::NEWKEYS => self.on_newkeys(payload.len()),
            30..=49 => {
                let half = self.inbound.payload(payload).to_vec();
                self.on_half(&half)
            }
            message::PING => {
                let mut pong = vec![message::PONG];
                let mut reader = Reader::new(self.inbound.payload(payload));
                let _number = reader.u8()?;
                pong.put_string(reader.string()?);
                reader.end()?;
                self.put_answer(&pong).map(|()| None)
            }
            message::SERVICE_REQUEST | message::SERVICE_ACCEPT | 50..=79 if self.login == Login::Awaited => {
                Ok(Some(Step::Message(payload)))
            }
            // RFC 4252 section 5.1: what is left of a login when it is done.
            50..=79 => Ok(None),
            80..=127 => Ok(Some(Step::Message(payload))),
            _ => {
                let mut unknown = vec![message::UNIMPLEMENTED];
                unknown.put_u32(sequence);
                self.put_answer(&unknown).map(|()| None)
            }
        }
    }

    /// May this come now?
    fn allow(&self, number: u8) -> Result<(), Fatal> {
        let of_exchange = matches!(number, message::KEXINIT | message::NEWKEYS) || message::KEX_METHOD.contains(&number);
        let harmless = matches!(number, message::IGNORE | message::UNIMPLEMENTED | message::DEBUG);
        match number {
            0 => Err(Fatal::Protocol("a message has no number")),
            message::DISCONNECT => Ok(()),
            _ if of_exchange => Ok(()),
            // Whoever could slip one in before the first keys could make as many later ones vanish.
            _ if self.keys == Keys::None && self.strictness == Strictness::Strict => {
                Err(Fatal::Protocol("a message that strict key exchange does not allow"))
            }
            _ if harmless => Ok(()),
            _ if self.keys == Keys::None => Err(Fatal::Protocol("a message before the first keys")),
            _ if self.exchange.peer_began() => Err(Fatal::Protocol("a message inside a key exchange")),
            80..=127 if self.login == Login::Awaited => Err(Fatal::Protocol("a message before the login")),
            _ => Ok(()),
        }
    }

    fn farewell(&self, payload: Range<usize>) -> Result<Step, Fatal> {
        let mut reader = Reader::new(self.inbound.payload(payload));
        let _number = reader.u8()?;
        let reason = reader.u32()?;
        // Some leave the rest away.
        let text = reader.string().unwrap_or_default();
        let shown = |byte: &u8| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '?' };
        Ok(Step::Disconnect { reason, text: text.iter().take(FAREWELL_MAX).map(shown).collect() })
    }
}
