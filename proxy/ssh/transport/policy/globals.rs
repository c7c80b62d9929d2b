//! What may be asked of the connection (RFC 4254 sections 4 and 7.1; OpenSSH PROTOCOL sections 2.2 to 2.5), and by whom.

use super::event::{Decision, Event, Tell};
use super::forwards::{Place, Reply};
use super::opens::{has_control_bytes, shown};
use super::permission::Permission;
use super::{Broken, DENIED, KEEPALIVE, Looked, Policy};
use crate::connection::message::Message;
use crate::negotiate::Side;
use crate::pump::Verdict;
use crate::wire::Reader;

impl Policy {
    /// Somebody asks something of the connection.
    pub(super) fn global(&mut self, by: Side, name: &[u8], reply: Reply, rest: &[u8]) -> Result<Looked, Broken> {
        match by {
            Side::Client => self.asked_by_client(name, reply, rest),
            Side::Server => self.asked_by_server(name, reply).map(Looked::from),
        }
    }

    fn asked_by_client(&mut self, name: &[u8], reply: Reply, rest: &[u8]) -> Result<Looked, Broken> {
        let mut reader = Reader::new(rest);
        match name {
            b"tcpip-forward" | b"streamlocal-forward@openssh.com" => {
                let place = if name == b"tcpip-forward" { Place::tcp(&mut reader) } else { Place::socket(&mut reader) }?;
                reader.end()?;
                self.listen(place, reply)
            }
            b"cancel-tcpip-forward" | b"cancel-streamlocal-forward@openssh.com" => {
                let place = if name == b"cancel-tcpip-forward" { Place::tcp(&mut reader) } else { Place::socket(&mut reader) }?;
                reader.end()?;
                self.forwards.cancel(&place, reply)?;
                Ok(Verdict::Pass.into())
            }
            KEEPALIVE | b"no-more-sessions@openssh.com" => {
                self.forwards.other(reply)?;
                Ok(Verdict::Pass.into())
            }
            _ => {
                self.forwards.other(reply)?;
                Ok(denied(reply).into())
            }
        }
    }

    /// The client wants the server to listen for it.
    fn listen(&mut self, place: Place, reply: Reply) -> Result<Looked, Broken> {
        let what = shown(&place);
        let plain = match &place {
            Place::Tcp { address: text, .. } | Place::Socket { path: text } => !has_control_bytes(text),
        };
        let allowed = plain && self.allows(Permission::RemoteForward) && !self.forwards.is_full();
        if allowed {
            self.forwards.listen(place, reply)?;
        } else {
            self.forwards.other(reply)?;
        }
        let (verdict, decision, tell) = match allowed {
            true => (Verdict::Pass, Decision::Allowed, None),
            false => (denied(reply), Decision::Refused, Some(Tell::Anybody)),
        };
        Ok(Looked { verdict, event: Some(Event { by: Side::Client, what, decision, tell }) })
    }

    /// A server's host keys (`hostkeys-00@openssh.com`) are not among what passes: their proof is bound to another session than the client's,
    /// and the client must not learn to trust them for us.
    fn asked_by_server(&mut self, name: &[u8], reply: Reply) -> Result<Verdict, Broken> {
        if reply == Reply::Wanted {
            self.asked_by_server = self.asked_by_server.checked_add(1).ok_or(Broken("too many global requests without an answer"))?;
        }
        Ok(if name == KEEPALIVE { Verdict::Pass } else { denied(reply) })
    }

    /// The answer to the oldest global request of the other side. One that nobody waits for ends here.
    pub(super) fn global_answer(&mut self, by: Side, answer: &Message<'_>) -> Verdict {
        let waited_for = match (by, answer) {
            (Side::Client, _) => {
                let left = self.asked_by_server.checked_sub(1);
                self.asked_by_server = left.unwrap_or(0);
                left.is_some()
            }
            (Side::Server, Message::RequestSuccess { rest }) => self.forwards.done(rest),
            (Side::Server, _) => self.forwards.failed(),
        };
        if waited_for { Verdict::Pass } else { Verdict::Drop }
    }
}

/// It ends here, or goes on to be refused in its turn.
fn denied(reply: Reply) -> Verdict {
    match reply {
        Reply::None => Verdict::Drop,
        Reply::Wanted => Verdict::Replace(Message::GlobalRequest { name: DENIED, wants_reply: true, rest: b"" }.write()),
    }
}
