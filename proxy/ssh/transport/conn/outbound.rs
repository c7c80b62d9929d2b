//! What we send: from messages to packets.

use super::buffer::Buffer;
use super::{PACKETS_MAX, Strictness};
use crate::cipher::{LENGTH, Sealing};
use crate::error::Fatal;
use crate::random::Random;

/// Random bytes that are drawn at once: a draw costs more than the few that a packet needs.
const POOL: usize = 512;

pub(super) struct Outbound {
    pub(super) buffer: Buffer,
    sealing: Sealing,
    padding: Padding,
    /// The number of the next packet.
    pub(super) sequence: u32,
    /// Packets and bytes under the present key.
    pub(super) packets: u64,
    pub(super) bytes: u64,
    /// Bytes that the caller took, ever.
    pub(super) written: u64,
}

impl Outbound {
    pub(super) fn new(random: Box<dyn Random>) -> Self {
        Self {
            buffer: Buffer::default(),
            sealing: Sealing::clear(),
            padding: Padding { random, pool: [0; POOL], used: POOL },
            sequence: 0,
            packets: 0,
            bytes: 0,
            written: 0,
        }
    }

    /// Random bytes for what is not secret.
    pub(super) fn random(&mut self, bytes: &mut [u8]) -> Result<(), Fatal> {
        self.padding.random.fill(bytes)
    }

    /// Seals a message straight into the output.
    pub(super) fn seal(&mut self, payload: &[u8]) -> Result<(), Fatal> {
        const FAILED: Fatal = Fatal::Internal("a packet could not be laid out");
        if self.packets >= PACKETS_MAX {
            return Err(Fatal::TooMuch("too many packets under one key"));
        }
        let layout = self.sealing.layout(payload.len());
        let packet = self.buffer.room(layout.whole);
        let (length, rest) = packet.split_first_chunk_mut::<LENGTH>().ok_or(FAILED)?;
        *length = u32::try_from(layout.length).map_err(|_| FAILED)?.to_be_bytes();
        let (padding, rest) = rest.split_first_mut().ok_or(FAILED)?;
        *padding = u8::try_from(layout.padding).map_err(|_| FAILED)?;
        let (place, rest) = rest.split_at_mut_checked(payload.len()).ok_or(FAILED)?;
        place.copy_from_slice(payload);
        self.padding.fill(rest.get_mut(..layout.padding).ok_or(FAILED)?)?;
        self.sealing.seal(self.sequence, packet)?;
        self.buffer.filled(layout.whole);
        self.sequence = self.sequence.wrapping_add(1);
        self.packets = self.packets.saturating_add(1);
        self.bytes = self.bytes.saturating_add(u64::try_from(layout.whole).unwrap_or(u64::MAX));
        Ok(())
    }

    /// The caller took so many bytes.
    pub(super) fn wrote(&mut self, length: usize) {
        let length = length.min(self.buffer.len());
        self.buffer.take(length);
        self.written = self.written.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
    }

    /// Bytes that were ever sealed.
    pub(super) fn sealed(&self) -> u64 {
        self.written.saturating_add(u64::try_from(self.buffer.len()).unwrap_or(u64::MAX))
    }

    /// From the next packet on, these keys.
    pub(super) fn rekey(&mut self, sealing: Sealing, strictness: Strictness) {
        self.sealing = sealing;
        (self.packets, self.bytes) = (0, 0);
        if strictness == Strictness::Strict {
            self.sequence = 0;
        }
    }
}

/// What fills packets up (RFC 4253 section 6: random bytes).
struct Padding {
    random: Box<dyn Random>,
    pool: [u8; POOL],
    used: usize,
}

impl Padding {
    fn fill(&mut self, place: &mut [u8]) -> Result<(), Fatal> {
        const FAILED: Fatal = Fatal::Internal("a padding is too long");
        let mut end = self.used.saturating_add(place.len());
        if end > POOL {
            self.random.fill(&mut self.pool)?;
            (self.used, end) = (0, place.len());
        }
        place.copy_from_slice(self.pool.get(self.used..end).ok_or(FAILED)?);
        self.used = end;
        Ok(())
    }
}
