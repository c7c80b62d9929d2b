//! When keys are exchanged again, and how long that may take. Rule 13 (RFC 4253 section 9, RFC 4344 section 3.1).

use std::time::Instant;

use super::{Conn, Keys, Login};
use crate::error::Fatal;

impl Conn {
    /// Exchanges keys again, if that is not under way and somebody is logged in.
    pub fn rekey(&mut self) {
        if self.may_rekey()
            && let Err(fatal) = self.begin_exchange()
        {
            self.fail(fatal);
        }
    }

    /// The time is `now`; says when to say so again, at the latest. To be called whenever something was moved, too: what begins between two
    /// calls begins with the second.
    ///
    /// # Errors
    /// A key exchange took too long.
    pub fn tick(&mut self, now: Instant) -> Result<Option<Instant>, Fatal> {
        if let Some(fatal) = self.ended.clone() {
            return Err(fatal);
        }
        let renewal = self.renewal(now)?;
        Ok(self.give_back(now).into_iter().chain(renewal).min())
    }

    /// When keys have to be exchanged again, or have to have been.
    pub(super) fn renewal(&mut self, now: Instant) -> Result<Option<Instant>, Fatal> {
        if !self.in_exchange() {
            // Keys that nothing was sealed with do not grow old.
            if self.inbound.packets == 0 && self.outbound.packets == 0 {
                self.keyed_at = None;
            }
            let due = self.keyed_at.get_or_insert(now).checked_add(self.limits.rekey_after);
            if !self.may_rekey() || due.is_none_or(|due| now < due) {
                return Ok(due.filter(|due| *due > now));
            }
            self.begin_exchange().map_err(|fatal| self.fail(fatal))?;
        }
        let allowed = if self.keys == Keys::None { self.limits.first_exchange } else { self.limits.later_exchange };
        let deadline = self.exchange_since.get_or_insert(now).checked_add(allowed);
        if deadline.is_some_and(|deadline| now >= deadline) { Err(self.fail(Fatal::TimedOut)) } else { Ok(deadline) }
    }

    fn may_rekey(&self) -> bool {
        self.ended.is_none() && self.login == Login::Done && !self.in_exchange()
    }

    /// Rule 13.
    pub(super) fn rekey_if_due(&mut self) -> Result<(), Fatal> {
        let bytes = self.outbound.bytes.max(self.inbound.bytes);
        let packets = self.outbound.packets.max(self.inbound.packets);
        let due = bytes >= self.limits.rekey_bytes || packets >= self.limits.rekey_packets;
        if due && self.may_rekey() { self.begin_exchange() } else { Ok(()) }
    }
}
