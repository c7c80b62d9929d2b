//! Memory that a burst has left behind. While bytes flow it is kept, since to get it anew for each of them would cost more than sealing them;
//! sessions in which nobody does anything are many, and keep none.

use std::time::{Duration, Instant};

use super::{Conn, Login};

/// How long nothing has come and nothing gone before the memory is given back.
const QUIET: Duration = Duration::from_secs(5);

impl Conn {
    /// Gives back what empty queues have allocated, once nothing goes through them; says when to look again.
    pub(super) fn give_back(&mut self, now: Instant) -> Option<Instant> {
        self.release();
        let queues = [self.inbound.queue(), &mut self.outbound.buffer];
        let used = queues.map(|queue| queue.was_used());
        if used.contains(&true) {
            self.quiet_since = None;
        }
        let queues = [self.inbound.queue(), &mut self.outbound.buffer];
        if self.login == Login::Awaited || !queues.iter().any(|queue| queue.is_spare()) {
            return None;
        }
        let due = self.quiet_since.get_or_insert(now).checked_add(QUIET)?;
        if now < due {
            return Some(due);
        }
        queues.into_iter().for_each(|queue| queue.give_back());
        None
    }
}
