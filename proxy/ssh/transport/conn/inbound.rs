//! What the peer sends: from bytes to packets.

use std::ops::Range;

use super::buffer::Buffer;
use super::{PACKETS_MAX, PAYLOAD_MAX, Strictness};
use crate::cipher::{BEFORE, LENGTH, Opening};
use crate::error::Fatal;

/// Bytes that the caller may put in at once, before a login and after it: in bulk, half as many system calls and wake-ups as with 64 KiB.
pub(crate) const READ_BEFORE_LOGIN: usize = 4096;
const READ: usize = 256 * 1024;

/// A packet at the beginning of the buffer, opened.
pub(super) struct Packet {
    /// Its number, by which the peer can be told that it was not understood.
    pub(super) sequence: u32,
    /// Where its payload is, at least one byte.
    pub(super) payload: Range<usize>,
}

pub(super) struct Inbound {
    buffer: Buffer,
    opening: Opening,
    /// The number of the next packet.
    pub(super) sequence: u32,
    /// Packets and bytes under the present key.
    pub(super) packets: u64,
    pub(super) bytes: u64,
    /// All bytes of the packet that comes next, once that is known.
    whole: Option<usize>,
    /// Bytes of the packet that was handed out.
    handed_out: usize,
}

impl Inbound {
    pub(super) fn new() -> Self {
        Self { buffer: Buffer::default(), opening: Opening::clear(), sequence: 0, packets: 0, bytes: 0, whole: None, handed_out: 0 }
    }

    /// A place for what is read from the peer, once nothing is handed out; empty if what is there has to be taken out first.
    pub(super) fn room(&mut self, logged_in: bool) -> &mut [u8] {
        let step = if logged_in { READ } else { READ_BEFORE_LOGIN };
        let wanted = self.whole.unwrap_or(0).max(step);
        if self.buffer.len() >= wanted {
            return &mut [];
        }
        self.buffer.room(step)
    }

    pub(super) fn filled(&mut self, length: usize) {
        self.buffer.filled(length);
    }

    pub(super) fn data(&self) -> &[u8] {
        self.buffer.data()
    }

    /// What was read.
    pub(super) fn queue(&mut self) -> &mut Buffer {
        &mut self.buffer
    }

    pub(super) fn take(&mut self, length: usize) {
        self.buffer.take(length);
    }

    /// The packet that was handed out is done with.
    pub(super) fn release(&mut self, secret: bool) {
        let length = std::mem::take(&mut self.handed_out);
        match (length, secret) {
            (0, _) => {}
            (_, true) => self.buffer.wipe(length),
            (_, false) => self.buffer.take(length),
        }
    }

    /// The next packet, opened where it is, if all of it is there. `longest` is the greatest length that it may announce, in bytes.
    pub(super) fn packet(&mut self, longest: usize) -> Result<Option<Packet>, Fatal> {
        let whole = match self.whole {
            Some(whole) => whole,
            None => {
                let Some(first) = self.buffer.data().first_chunk::<LENGTH>() else { return Ok(None) };
                let whole = self.opening.whole(self.sequence, *first, longest)?;
                self.whole = Some(whole);
                whole
            }
        };
        let Some(packet) = self.buffer.data_mut().get_mut(..whole) else { return Ok(None) };
        self.whole = None;
        let payload = self.opening.open(self.sequence, packet)?;
        if payload > PAYLOAD_MAX {
            return Err(Fatal::TooMuch("a message is too long"));
        }
        self.handed_out = whole;
        self.packets = self.packets.saturating_add(1);
        self.bytes = self.bytes.saturating_add(u64::try_from(whole).unwrap_or(u64::MAX));
        // Rule 12: a number may not come twice under one key, since it is the nonce.
        if self.packets > PACKETS_MAX {
            return Err(Fatal::TooMuch("too many packets under one key"));
        }
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        Ok(Some(Packet { sequence, payload: BEFORE..BEFORE.saturating_add(payload) }))
    }

    /// All that is in memory, read or not, or left from before.
    #[cfg(test)]
    pub(super) fn memory(&self) -> &[u8] {
        self.buffer.memory()
    }

    pub(super) fn payload(&self, range: Range<usize>) -> &[u8] {
        self.buffer.data().get(range).unwrap_or_default()
    }

    /// From the next packet on, these keys.
    pub(super) fn rekey(&mut self, opening: Opening, strictness: Strictness) {
        self.opening = opening;
        (self.packets, self.bytes) = (0, 0);
        if strictness == Strictness::Strict {
            self.sequence = 0;
        }
    }
}
