//! What we may not send yet: messages that wait for the end of a key exchange, and answers that the peer does not read. Rules 14 and 15.

use std::collections::VecDeque;

use zeroize::Zeroizing;

use super::Conn;
use crate::error::Fatal;

/// Bytes of messages that may wait for the end of a key exchange: what a peer can send to the other side of a relay between our KEXINIT
/// and its own. A real one sends at most a few windows.
pub(super) const HELD_MAX: usize = 32 * 1024 * 1024;
/// Answers that a peer may cause and leave unread. OpenSSH's client sends pings by the dozen per second, never thousands ahead.
pub(super) const ANSWERS_MAX: usize = 4096;
/// Bytes of them: a ping is answered with all that it holds, and one may hold a whole packet.
pub(super) const ANSWERS_BYTES: usize = 512 * 1024;
/// What a message costs beside its bytes, about.
const EACH: usize = 64;

impl Conn {
    /// Rule 14: between our KEXINIT and our NEWKEYS nothing goes out but what belongs to the exchange.
    pub(super) fn put(&mut self, message: &[u8]) -> Result<(), Fatal> {
        if self.exchange.holds() {
            return self.held.push(message);
        }
        self.outbound.seal(message)?;
        self.rekey_if_due()
    }

    pub(super) fn put_answer(&mut self, message: &[u8]) -> Result<(), Fatal> {
        let waiting = self.held.bytes().saturating_add(message.len());
        let end = self.outbound.sealed().saturating_add(u64::try_from(waiting).unwrap_or(u64::MAX));
        self.answers.count(end, message.len(), self.outbound.written)?;
        self.put(message)
    }
}

/// Messages that wait for the end of a key exchange, in their order.
#[derive(Default)]
pub(super) struct Held {
    messages: VecDeque<Zeroizing<Vec<u8>>>,
    bytes: usize,
}

impl Held {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, message: &[u8]) -> Result<(), Fatal> {
        let bytes = self.bytes.saturating_add(message.len()).saturating_add(EACH);
        if bytes > HELD_MAX {
            return Err(Fatal::TooMuch("too much waits for the end of a key exchange"));
        }
        self.bytes = bytes;
        self.messages.push_back(Zeroizing::new(message.to_vec()));
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        let message = self.messages.pop_front()?;
        self.bytes = self.bytes.saturating_sub(message.len()).saturating_sub(EACH);
        Some(message)
    }
}

/// Answers that the peer can cause at will, by where in our output each ends: a peer that sends and never reads must not make us keep
/// them without end (CVE-2025-26466 was such a one).
#[derive(Default)]
pub(super) struct Answers {
    unread: VecDeque<Answer>,
    bytes: usize,
}

struct Answer {
    end: u64,
    bytes: usize,
}

impl Answers {
    /// One more of so many bytes, which ends `end` bytes into what we ever sent; `written` of these are gone.
    pub(super) fn count(&mut self, end: u64, bytes: usize, written: u64) -> Result<(), Fatal> {
        while let Some(read) = self.unread.pop_front_if(|answer| answer.end <= written) {
            self.bytes = self.bytes.saturating_sub(read.bytes);
        }
        let bytes = bytes.saturating_add(EACH);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.unread.len() >= ANSWERS_MAX || self.bytes > ANSWERS_BYTES {
            return Err(Fatal::TooMuch("the peer does not read our answers"));
        }
        self.unread.push_back(Answer { end, bytes });
        Ok(())
    }
}
