//! How a word of ours fits into a channel whose window belongs to the two ends (RFC 4254 section 5.2).
//!
//! The server hears of a window that is [`RESERVE`] smaller than the client's. So much can be put in at any time, whatever the server has
//! sent; what was put in is taken from the client's next adjustments, which makes it available again. At every moment what the server may
//! send and what is left of the reserve are together what the client gave.

/// Bytes of a client's window that are ours.
pub(super) const RESERVE: u32 = 1024;
/// A window that is smaller is left alone: the server's throughput would feel it.
const SMALLEST: u32 = 8 * RESERVE;

/// The reserve of one channel.
#[derive(Debug)]
pub(super) struct Reserve {
    /// Bytes that the client gave for good.
    whole: u32,
    /// Bytes of it that are not spent.
    left: u32,
    /// Bytes of data that the client takes in one message.
    packet: u32,
}

impl Reserve {
    /// The reserve out of a window, and the window that is left for the server.
    pub(super) fn of(window: u32, packet: u32) -> (Self, u32) {
        let whole = if window >= SMALLEST { RESERVE } else { 0 };
        (Self { whole, left: whole, packet }, window.saturating_sub(whole))
    }

    /// None.
    pub(super) const NONE: Self = Self { whole: 0, left: 0, packet: 0 };

    /// Spends so many bytes, if they can be had: half a line would run into the server's.
    pub(super) fn spend(&mut self, length: usize) -> Option<()> {
        let length = u32::try_from(length).ok().filter(|length| *length <= self.packet)?;
        self.left = self.left.checked_sub(length)?;
        Some(())
    }

    /// The client gives so many bytes: what was spent comes back first, the rest is the server's.
    pub(super) fn adjust(&mut self, bytes: u32) -> u32 {
        let back = self.whole.saturating_sub(self.left).min(bytes);
        self.left = self.left.saturating_add(back);
        bytes.saturating_sub(back)
    }
}
