//! Where the server listens for the client (RFC 4254 section 7.1; OpenSSH PROTOCOL section 2.4): a server may open channels only for these.
//!
//! Answers to global requests name none, they come in the order of the requests; so all that the client waits for stands in a row here.

use std::collections::VecDeque;

use super::Broken;
use crate::wire::Reader;

/// Places at a time.
const FORWARDS_MAX: usize = 256;
/// Global requests of a client without an answer. OpenSSH's sends a keepalive only if the one before was answered, or three.
const UNANSWERED_MAX: usize = 1024;
/// Bytes of an address or a path.
const PLACE_MAX: usize = 4096;

/// Where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// An address of the server.
    Tcp { address: Vec<u8>, port: u32 },
    /// A path there.
    Socket { path: Vec<u8> },
}

impl Place {
    /// The place in a request, or the beginning of what a channel's opening says.
    pub(super) fn tcp(reader: &mut Reader<'_>) -> Result<Self, Broken> {
        Ok(Self::Tcp { address: bounded(reader.string()?)?, port: reader.u32()? })
    }

    /// The same for sockets.
    pub(super) fn socket(reader: &mut Reader<'_>) -> Result<Self, Broken> {
        Ok(Self::Socket { path: bounded(reader.string()?)? })
    }
}

fn bounded(bytes: &[u8]) -> Result<Vec<u8>, Broken> {
    if bytes.len() > PLACE_MAX { Err(Broken("an address or a path is too long")) } else { Ok(bytes.to_vec()) }
}

/// What the client waits for.
enum Wanted {
    /// Something that changes nothing here.
    Other,
    /// That the server listens.
    Listen(u64),
    /// That it listens no more.
    Cancel(u64),
}

/// Whether a request is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// It is.
    Wanted,
    /// It is not.
    None,
}

impl From<bool> for Reply {
    fn from(wants: bool) -> Self {
        if wants { Self::Wanted } else { Self::None }
    }
}

/// Where the server listens, or is about to.
#[derive(Default)]
pub(super) struct Forwards {
    places: Vec<(u64, Place)>,
    wanted: VecDeque<Wanted>,
    next: u64,
}

impl Forwards {
    /// Is there no room for one more?
    pub(super) fn is_full(&self) -> bool {
        self.places.len() >= FORWARDS_MAX
    }

    /// The client asks for something else.
    pub(super) fn other(&mut self, reply: Reply) -> Result<(), Broken> {
        self.want(Wanted::Other, reply)
    }

    /// The client asks the server to listen. Connections may come before the answer does, since not every server answers first.
    pub(super) fn listen(&mut self, place: Place, reply: Reply) -> Result<(), Broken> {
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        self.places.push((id, place));
        self.want(Wanted::Listen(id), reply)
    }

    /// The client asks it to listen no more. Until it has agreed connections may come (RFC 4254 section 7.1).
    pub(super) fn cancel(&mut self, place: &Place, reply: Reply) -> Result<(), Broken> {
        let known = self.places.iter().find(|(_, known)| known == place).map(|(id, _)| *id);
        match (known, reply) {
            (None, _) => self.other(reply),
            (Some(id), Reply::Wanted) => self.want(Wanted::Cancel(id), reply),
            (Some(id), Reply::None) => {
                self.forget(id);
                Ok(())
            }
        }
    }

    /// The server has done what was asked first; `rest` is what its answer says. Was anything?
    pub(super) fn done(&mut self, rest: &[u8]) -> bool {
        match self.wanted.pop_front() {
            None => return false,
            Some(Wanted::Other) => {}
            Some(Wanted::Cancel(id)) => self.forget(id),
            Some(Wanted::Listen(id)) => self.listens(id, rest),
        }
        true
    }

    /// The server has not done it. Was anything asked?
    pub(super) fn failed(&mut self) -> bool {
        match self.wanted.pop_front() {
            None => return false,
            Some(Wanted::Other | Wanted::Cancel(_)) => {}
            Some(Wanted::Listen(id)) => self.forget(id),
        }
        true
    }

    /// Did the client want connections to this place? By the port alone, as RFC 4254 section 7.2 says: servers name their address in more than
    /// one way.
    pub(super) fn leads_to(&self, place: &Place) -> bool {
        self.places.iter().any(|(_, known)| match (known, place) {
            (Place::Tcp { port: known, .. }, Place::Tcp { port, .. }) => *known != 0 && known == port,
            (Place::Socket { path: known }, Place::Socket { path }) => known == path,
            _ => false,
        })
    }

    /// A server that could choose the port says which it took.
    fn listens(&mut self, id: u64, rest: &[u8]) {
        let Some((_, Place::Tcp { port, .. })) = self.places.iter_mut().find(|(known, _)| *known == id) else { return };
        if *port == 0 {
            *port = Reader::new(rest).u32().unwrap_or(0);
        }
    }

    fn want(&mut self, wanted: Wanted, reply: Reply) -> Result<(), Broken> {
        if reply == Reply::None {
            return Ok(());
        }
        if self.wanted.len() >= UNANSWERED_MAX {
            return Err(Broken("too many global requests without an answer"));
        }
        self.wanted.push_back(wanted);
        Ok(())
    }

    fn forget(&mut self, id: u64) {
        self.places.retain(|(known, _)| *known != id);
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> [usize; 2] {
        [self.places.len(), self.wanted.len()]
    }
}
