//! Which channels may be opened (RFC 4254 sections 6.1, 6.3.2, 7.2; OpenSSH PROTOCOL sections 2.4 and 4.1; RFC 9987 for the agent).

use super::event::{Decision, Event, What};
use super::forwards::Place;
use super::permission::Permission;
use super::table::Kind;
use super::window::Reserve;
use super::{Broken, Invited, Looked, Policy};
use crate::connection::message::{Message, reason};
use crate::negotiate::Side;
use crate::pump::Verdict;
use crate::shown::Shown;
use crate::wire::Reader;

impl Policy {
    /// The client wants a channel. `limits` are its window and its longest message.
    pub(super) fn client_opens(&mut self, kind: &[u8], sender: u32, limits: (u32, u32), rest: &[u8]) -> Result<Looked, Broken> {
        let mut reader = Reader::new(rest);
        let (what, named) = match kind {
            b"session" => return self.session_opens(sender, limits, rest),
            b"direct-tcpip" => {
                let (host, port) = (reader.string()?, reader.u32()?);
                let (_originator, _its_port) = (reader.string()?, reader.u32()?);
                (What::LocalForward { host: Shown::new(host), port }, host)
            }
            b"direct-streamlocal@openssh.com" => {
                let path = reader.string()?;
                let (_reserved, _reserved_too) = (reader.string()?, reader.u32()?);
                (What::LocalSocket { path: Shown::new(path) }, path)
            }
            _ => return Ok(refused(Side::Client, sender, What::Other { name: Shown::new(kind) })),
        };
        reader.end()?;
        // What a program on its way to the address would read another way than we do is no address.
        if !self.allows(Permission::LocalForward) || has_control_bytes(named) {
            return Ok(refused(Side::Client, sender, what));
        }
        if self.table.is_full() {
            return Ok(no_room(sender).into());
        }
        self.table.open(Side::Client, sender, Kind::Stream, Reserve::NONE)?;
        Ok(Looked { verdict: Verdict::Pass, event: Some(Event { by: Side::Client, what, decision: Decision::Allowed, tell: None }) })
    }

    /// It may have a session always: what it does there is asked for by requests. What the server hears of its window leaves room for words
    /// of ours.
    fn session_opens(&mut self, sender: u32, (window, packet): (u32, u32), rest: &[u8]) -> Result<Looked, Broken> {
        Reader::new(rest).end()?;
        if self.table.is_full() {
            return Ok(no_room(sender).into());
        }
        let (reserve, left) = Reserve::of(window, packet);
        self.table.open(Side::Client, sender, Kind::Session, reserve)?;
        let lowered = Message::Open { kind: b"session", sender, window: left, packet, rest };
        Ok(if left == window { Verdict::Pass } else { Verdict::Replace(lowered.write()) }.into())
    }

    /// The server wants a channel: only for what the client has asked it for, as long as that is allowed.
    pub(super) fn server_opens(&mut self, kind: &[u8], sender: u32, rest: &[u8]) -> Result<Looked, Broken> {
        let mut reader = Reader::new(rest);
        let (what, invited) = match kind {
            b"forwarded-tcpip" => {
                let place = Place::tcp(&mut reader)?;
                let (_originator, _its_port) = (reader.string()?, reader.u32()?);
                reader.end()?;
                (shown(&place), self.forwards.leads_to(&place))
            }
            b"forwarded-streamlocal@openssh.com" => {
                let place = Place::socket(&mut reader)?;
                let _reserved = reader.string()?;
                reader.end()?;
                (shown(&place), self.forwards.leads_to(&place))
            }
            b"auth-agent@openssh.com" | b"agent-connect" => (What::Agent, self.agent == Invited::Yes),
            b"x11" => (What::X11, self.x11 == Invited::Yes),
            _ => return Ok(refused(Side::Server, sender, What::Other { name: Shown::new(kind) })),
        };
        if !invited || !what.permission().is_some_and(|permission| self.allows(permission)) {
            return Ok(refused(Side::Server, sender, what));
        }
        if self.table.is_full() {
            return Ok(no_room(sender).into());
        }
        self.table.open(Side::Server, sender, Kind::Stream, Reserve::NONE)?;
        Ok(Verdict::Pass.into())
    }
}

/// A place for the record.
pub(super) fn shown(place: &Place) -> What {
    match place {
        Place::Tcp { address, port } => What::RemoteForward { address: Shown::new(address), port: *port },
        Place::Socket { path } => What::RemoteSocket { path: Shown::new(path) },
    }
}

/// Bytes that end a text early for some of those who read it.
pub(super) fn has_control_bytes(bytes: &[u8]) -> bool {
    bytes.iter().any(u8::is_ascii_control)
}

fn refused(by: Side, recipient: u32, what: What) -> Looked {
    let text = format!("keyward: {} is not allowed here", what.name());
    let failure = Message::OpenFailure { recipient, reason: reason::ADMINISTRATIVELY_PROHIBITED, text: text.as_bytes(), language: b"" };
    Looked { verdict: Verdict::Answer(failure.write()), event: Some(Event { by, what, decision: Decision::Refused, tell: None }) }
}

fn no_room(recipient: u32) -> Verdict {
    let text = b"keyward: too many channels are open";
    Verdict::Answer(Message::OpenFailure { recipient, reason: reason::RESOURCE_SHORTAGE, text, language: b"" }.write())
}
