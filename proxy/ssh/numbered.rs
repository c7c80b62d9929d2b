//! What two ends say to each other in tests of what is between them: a session is opened, and then come messages that say which they are.

use keyward_ssh_transport::connection::message::Message;

/// What the client calls the session, and the server.
const AT_CLIENT: u32 = 3;
const AT_SERVER: u32 = 7;
/// More than anybody says.
const WINDOW: u32 = 1 << 30;
const PACKET: u32 = 32 * 1024;

/// One of the two.
#[derive(Clone, Debug)]
pub(super) struct Talk {
    /// What the other one calls the session.
    recipient: u32,
    /// Messages that it has to say, and that it has said.
    messages: u32,
    said: u32,
    /// Messages that it got.
    pub(super) got: u32,
    /// The session is open, as far as it knows.
    open: bool,
}

impl Talk {
    /// The client's, which has so much to say; and what it says first.
    pub(super) fn client(messages: u32) -> (Self, Vec<u8>) {
        let open = Message::Open { kind: b"session", sender: AT_CLIENT, window: WINDOW, packet: PACKET, rest: &[] };
        (Self { recipient: AT_SERVER, messages, said: 0, got: 0, open: false }, open.write())
    }

    /// The server's.
    pub(super) fn server(messages: u32) -> Self {
        Self { recipient: AT_CLIENT, messages, said: 0, got: 0, open: false }
    }

    /// It has something to say now.
    pub(super) fn is_due(&self) -> bool {
        self.open && self.said < self.messages
    }

    /// The next message, of so many bytes and a few.
    pub(super) fn says(&mut self, length: usize) -> Vec<u8> {
        let data = [&self.said.to_be_bytes()[..], &vec![7; length]].concat();
        self.said += 1;
        Message::Data { recipient: self.recipient, data: &data }.write()
    }

    /// Everything that has come must be what was said next. What it is answered with.
    pub(super) fn hears(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let confirmed = Message::Confirmation { recipient: AT_CLIENT, sender: AT_SERVER, window: WINDOW, packet: PACKET, rest: &[] };
        match Message::read(message).unwrap().unwrap() {
            Message::Open { .. } => {
                self.open = true;
                Some(confirmed.write())
            }
            Message::Confirmation { .. } => {
                self.open = true;
                None
            }
            Message::Data { data, .. } => {
                assert_eq!(data[..4], self.got.to_be_bytes(), "out of order, lost or twice");
                self.got += 1;
                None
            }
            other => panic!("{other:?}"),
        }
    }
}
