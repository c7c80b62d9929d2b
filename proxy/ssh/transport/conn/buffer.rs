//! A queue of bytes: written at its end, read and worked on in place at its beginning.

use zeroize::Zeroize;

/// Bytes that an empty queue keeps for the next ones, as long as there are some (see `spare`): what one turn of a relay moves.
const KEPT: usize = 512 * 1024;
/// Bytes of the smallest allocation.
const SMALLEST: usize = 4096;

/// The bytes, between `start` and `end` of what is allocated.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    used: bool,
}

impl Buffer {
    pub(super) fn len(&self) -> usize {
        self.end.saturating_sub(self.start)
    }

    pub(super) fn data(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    pub(super) fn data_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.end).unwrap_or_default()
    }

    /// Exactly so many bytes behind the last one; what is written there counts once [`Self::filled`] says so.
    pub(super) fn room(&mut self, length: usize) -> &mut [u8] {
        let mut end = self.end.saturating_add(length);
        if end > self.bytes.len() {
            self.make_room(length);
            end = self.end.saturating_add(length);
        }
        self.bytes.get_mut(self.end..end).unwrap_or_default()
    }

    /// So many bytes of the room were written.
    pub(super) fn filled(&mut self, length: usize) {
        self.end = self.end.saturating_add(length).min(self.bytes.len());
        self.used |= length > 0;
    }

    pub(super) fn push(&mut self, data: &[u8]) {
        self.room(data.len()).copy_from_slice(data);
        self.filled(data.len());
    }

    /// The first so many bytes are done with.
    pub(super) fn take(&mut self, length: usize) {
        self.start = self.start.saturating_add(length).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.bytes.len() > KEPT {
                self.give_back();
            }
        }
    }

    /// Whether anything came in since this was asked last.
    pub(super) fn was_used(&mut self) -> bool {
        std::mem::take(&mut self.used)
    }

    /// Whether there is memory and nothing in it.
    pub(super) fn is_spare(&self) -> bool {
        self.len() == 0 && !self.bytes.is_empty()
    }

    /// An empty queue gives back its memory; what was in it may have been typed by somebody.
    pub(super) fn give_back(&mut self) {
        if self.is_spare() {
            self.bytes.zeroize();
            self.bytes = Vec::new();
            (self.start, self.end) = (0, 0);
        }
    }

    /// The same, and they are overwritten: a password may have been among them.
    pub(super) fn wipe(&mut self, length: usize) {
        let end = self.start.saturating_add(length).min(self.end);
        self.bytes.get_mut(self.start..end).unwrap_or_default().zeroize();
        self.take(length);
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> &[u8] {
        &self.bytes
    }

    fn make_room(&mut self, length: usize) {
        let needed = self.len().saturating_add(length);
        // In place only if that moves less than it makes free: else a queue that is never empty would be moved for every packet.
        if needed <= self.bytes.len() && self.start >= self.len() {
            self.bytes.copy_within(self.start..self.end, 0);
        } else {
            let mut larger = vec![0; needed.checked_next_power_of_two().unwrap_or(needed).max(SMALLEST)];
            if let Some(place) = larger.get_mut(..self.len()) {
                place.copy_from_slice(self.data());
            }
            self.bytes.zeroize();
            self.bytes = larger;
        }
        (self.start, self.end) = (0, self.len());
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}
