//! A policy between a client and a server that say what a test wants.

mod any;
mod bounds;
mod forwards;
mod opens;
mod relay;
mod requests;
mod windows;

use std::sync::{Arc, Mutex};

use super::event::Decision;
use super::*;
use crate::connection::message::reason;
use crate::wire::Put;

/// A policy, and what it asks, which a test can change.
pub(super) struct Bed {
    pub(super) policy: Policy,
    allowed: Arc<Mutex<Channels>>,
}

impl Bed {
    /// A session that may do this.
    pub(super) fn new(permissions: &[Permission]) -> Self {
        Self::with(Channels::of(permissions.iter().copied()))
    }

    pub(super) fn with(channels: Channels) -> Self {
        let allowed = Arc::new(Mutex::new(channels));
        let asked = Arc::clone(&allowed);
        Self { policy: Policy::new(Box::new(move || *asked.lock().unwrap())), allowed }
    }

    /// From now on it may do this.
    pub(super) fn allow(&self, permissions: &[Permission]) {
        *self.allowed.lock().unwrap() = Channels::of(permissions.iter().copied());
    }

    pub(super) fn client(&mut self, message: Message<'_>) -> Looked {
        self.policy.look(Side::Client, &message.write())
    }

    pub(super) fn server(&mut self, message: Message<'_>) -> Looked {
        self.policy.look(Side::Server, &message.write())
    }

    /// A channel of this type, opened by the client under the first number and confirmed under the second.
    pub(super) fn opened(&mut self, kind: &[u8], rest: &[u8], [client, server]: [u32; 2]) {
        let verdict = self.client(open(kind, client, rest)).verdict;
        assert!(matches!(verdict, Verdict::Pass | Verdict::Replace(_)), "{verdict:?}");
        assert_eq!(self.server(confirmation(client, server)).verdict, Verdict::Pass);
    }

    /// A session, the client's 3 and the server's 7.
    pub(super) fn session(permissions: &[Permission]) -> Self {
        let mut bed = Self::new(permissions);
        bed.opened(b"session", b"", [3, 7]);
        bed
    }

    /// The client asks this of the session.
    pub(super) fn asks(&mut self, name: &[u8], wants_reply: bool, rest: &[u8]) -> Looked {
        self.client(Message::Request { recipient: 7, name, wants_reply, rest })
    }

    /// The client asks this of the connection.
    pub(super) fn asks_all(&mut self, name: &[u8], wants_reply: bool, rest: &[u8]) -> Looked {
        self.client(Message::GlobalRequest { name, wants_reply, rest })
    }
}

pub(super) const WINDOW: u32 = 2 << 20;
pub(super) const PACKET: u32 = 32 << 10;

pub(super) fn open<'a>(kind: &'a [u8], sender: u32, rest: &'a [u8]) -> Message<'a> {
    Message::Open { kind, sender, window: WINDOW, packet: PACKET, rest }
}

pub(super) fn confirmation(recipient: u32, sender: u32) -> Message<'static> {
    Message::Confirmation { recipient, sender, window: WINDOW, packet: PACKET, rest: b"" }
}

/// What a `direct-tcpip` says: where, and who comes from where.
pub(super) fn to(host: &[u8], port: u32) -> Vec<u8> {
    let mut rest = Vec::new();
    rest.put_string(host).put_u32(port).put_string("127.0.0.1").put_u32(40_000);
    rest
}

/// An address to listen on.
pub(super) fn place(address: &[u8], port: u32) -> Vec<u8> {
    let mut rest = Vec::new();
    rest.put_string(address).put_u32(port);
    rest
}

pub(super) fn string(text: &[u8]) -> Vec<u8> {
    let mut rest = Vec::new();
    rest.put_string(text);
    rest
}

/// What the opener of a channel hears if it may not.
pub(super) fn prohibited(recipient: u32, text: &str) -> Verdict {
    let reason = reason::ADMINISTRATIVELY_PROHIBITED;
    Verdict::Answer(Message::OpenFailure { recipient, reason, text: text.as_bytes(), language: b"" }.write())
}

/// What goes on in place of a refused request of the channel.
pub(super) fn denied(recipient: u32) -> Verdict {
    Verdict::Replace(Message::Request { recipient, name: b"denied@keyward", wants_reply: true, rest: b"" }.write())
}

/// The same of the connection.
pub(super) fn denied_all() -> Verdict {
    Verdict::Replace(Message::GlobalRequest { name: b"denied@keyward", wants_reply: true, rest: b"" }.write())
}

pub(super) fn decided(looked: &Looked) -> Option<(&What, Decision)> {
    looked.event.as_ref().map(|event| (&event.what, event.decision))
}
