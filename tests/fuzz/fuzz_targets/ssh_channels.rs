//! Channels that end with us: whatever a client says and whatever our side does meanwhile, beside a second set of books. Each step is a byte for what
//! it is: a message with its length in two bytes before it; data, so that a window is soon at its end; or something that the owner of a channel does.
//! What is asked for is read by a second parser too.
#![no_main]

#[path = "../second/message.rs"]
mod second;
#[path = "../second/wire.rs"]
mod wire;

use std::collections::BTreeMap;

use keyward_ssh_transport::connection::message::Message;
use keyward_ssh_transport::connection::served::{Action, CHANNELS_MAX, ChannelId, Channels, PACKET, WINDOW, Wanted};
use keyward_ssh_transport::{Fatal, Side};
use libfuzzer_sys::fuzz_target;

use crate::wire::Value;

/// What must be true of a channel.
#[derive(Default)]
struct Book {
    /// Bytes that the client may send yet, and that we may, and in one message.
    window: u64,
    their_window: u64,
    their_packet: usize,
    /// Bytes that came for the owner and were not consumed.
    unread: Vec<u8>,
    /// We have said CLOSE.
    closed: bool,
}

#[derive(Default)]
struct World {
    channels: Channels,
    /// By our number, as the client knows it.
    books: BTreeMap<u32, Book>,
    undecided: Vec<(ChannelId, Book)>,
    ids: Vec<ChannelId>,
}

fuzz_target!(|bytes: &[u8]| {
    let mut world = World::default();
    let _ = steps(&mut world, bytes);
    assert!(world.channels.len() <= CHANNELS_MAX);
});

/// `None`: the input or the link is at its end.
fn steps(world: &mut World, mut bytes: &[u8]) -> Option<()> {
    loop {
        let (&[step, which, high, low], rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        bytes = rest;
        match step {
            0 => {
                let (message, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                world.hear(message)?;
            }
            1 => world.hear(&Message::Data { recipient: which.into(), data: &vec![step; length] }.write())?,
            2 => world.decide(which, length % 2 == 0),
            3 => world.consume(which, length),
            4 => world.send(which, length),
            5 => world.end(which, length),
            _ => return None,
        }
    }
}

/// What is to be done is what the client asked for.
fn asks(bytes: &[u8], action: &Action<'_>) {
    let number = |number: u32| Value::Number(number.into());
    let wanted = match action {
        Action::Open { target, .. } => {
            let (host, originator) = (Value::Bytes(target.host.as_bytes()), Value::Bytes(target.originator.as_bytes()));
            ("direct-tcpip", vec![host, number(target.port.into()), originator, number(target.originator_port)])
        }
        Action::Wants { what: Wanted::Shell, .. } => ("shell", vec![]),
        Action::Wants { what: Wanted::Exec(command), .. } => ("exec", vec![Value::Bytes(command)]),
        Action::Wants { what: Wanted::Subsystem(name), .. } => ("subsystem", vec![Value::Bytes(name)]),
        _ => return,
    };
    let (_, _, inside) = second::asked(Side::Client, bytes).unwrap().unwrap();
    assert_eq!(inside, Some(wanted));
}

fn number(id: ChannelId) -> u32 {
    id.to_string().parse().unwrap()
}

impl World {
    fn hear(&mut self, bytes: &[u8]) -> Option<()> {
        second::hold(bytes);
        let read = Message::read(bytes);
        let action = match self.channels.receive(bytes) {
            Ok(action) => action,
            Err(Fatal::Protocol(_)) => return None,
            Err(fatal) => panic!("{fatal:?}"),
        };
        asks(bytes, &action);
        match read.unwrap() {
            Some(Message::Data { recipient, data }) => {
                self.came(recipient, data, action == Action::Nothing || matches!(action, Action::Answer(_)))
            }
            Some(Message::ExtendedData { recipient, data, .. }) => self.came(recipient, data, true),
            Some(Message::WindowAdjust { recipient, bytes }) if self.books.contains_key(&recipient) => {
                let book = self.books.get_mut(&recipient).unwrap();
                book.their_window += u64::from(bytes);
                assert!(book.their_window <= u64::from(u32::MAX));
            }
            Some(Message::Close { recipient }) if self.books[&recipient].closed => drop(self.books.remove(&recipient)),
            Some(Message::Open { window, packet, .. }) => {
                let their_packet = usize::try_from(packet).unwrap();
                let book = Book { window: WINDOW.into(), their_window: window.into(), their_packet, ..Book::default() };
                match &action {
                    Action::Open { id, target } => {
                        assert!(!target.host.is_empty() && target.host.len() <= 255 && target.port > 0);
                        assert!(target.host.bytes().chain(target.originator.bytes()).all(|byte| matches!(byte, b' '..=b'~')));
                        self.undecided.push((*id, book));
                    }
                    Action::Answer(answer) => {
                        if let Some(Message::Confirmation { sender, .. }) = Message::read(answer).unwrap() {
                            self.books.insert(sender, book);
                        }
                    }
                    action => panic!("{action:?}"),
                }
            }
            _ => {}
        }
        match action {
            Action::Answer(answer) => {
                if let Some(Message::WindowAdjust { bytes: more, .. }) = Message::read(&answer).unwrap() {
                    let Some(Message::Data { recipient, .. } | Message::ExtendedData { recipient, .. }) = Message::read(bytes).unwrap()
                    else {
                        panic!()
                    };
                    self.give(recipient, more);
                }
            }
            Action::Wants { id, .. } => self.ids.push(id),
            _ => {}
        }
        Some(())
    }

    fn came(&mut self, recipient: u32, data: &[u8], lost: bool) {
        let book = self.books.get_mut(&recipient).expect("data of a channel that is open");
        book.window = book.window.checked_sub(u64::try_from(data.len()).unwrap()).expect("no more than the window");
        assert!(data.len() <= usize::try_from(PACKET).unwrap());
        if !lost {
            book.unread.extend(data);
        }
    }

    fn give(&mut self, recipient: u32, bytes: u32) {
        let book = self.books.get_mut(&recipient).unwrap();
        book.window += u64::from(bytes);
        assert!(book.window + u64::try_from(book.unread.len()).unwrap() <= u64::from(WINDOW), "no more than was consumed");
    }

    fn decide(&mut self, which: u8, yes: bool) {
        if self.undecided.is_empty() {
            return;
        }
        let (id, book) = self.undecided.remove(usize::from(which) % self.undecided.len());
        let answer = if yes { self.channels.confirm(id) } else { self.channels.refuse(id, 1, "no") };
        assert!(answer.is_some() && self.channels.confirm(id).is_none() && self.channels.refuse(id, 1, "no").is_none());
        if yes {
            self.books.insert(number(id), book);
            self.ids.push(id);
        }
    }

    /// One of those that were there once.
    fn pick(&self, which: u8) -> Option<ChannelId> {
        self.ids.get(usize::from(which) % self.ids.len().max(1)).copied()
    }

    fn consume(&mut self, which: u8, length: usize) {
        let Some(id) = self.pick(which) else { return };
        let unread = self.channels.unread(id).len();
        let Some(book) = self.books.get_mut(&number(id)) else {
            assert_eq!(unread, 0);
            return;
        };
        assert!(book.unread.starts_with(self.channels.unread(id)) && (unread > 0 || book.unread.is_empty()));
        book.unread.drain(..length.min(book.unread.len()));
        if let Some(answer) = self.channels.consumed(id, length) {
            let Some(Message::WindowAdjust { bytes, .. }) = Message::read(&answer).unwrap() else { panic!() };
            self.give(number(id), bytes);
        }
    }

    fn send(&mut self, which: u8, length: usize) {
        let Some(id) = self.pick(which) else { return };
        let (room, mut message) = (self.channels.room(id), Vec::new());
        let sent = if length % 2 == 0 {
            self.channels.data(id, &vec![4; length], &mut message)
        } else {
            self.channels.stderr(id, &vec![4; length], &mut message)
        };
        assert!(sent == room.min(length) && (sent > 0) == !message.is_empty());
        if sent > 0 {
            let book = self.books.get_mut(&number(id)).expect("what is gone hears nothing");
            book.their_window = book.their_window.checked_sub(u64::try_from(sent).unwrap()).expect("no more than they take");
            assert!(sent <= book.their_packet && !book.closed);
        }
    }

    fn end(&mut self, which: u8, how: usize) {
        let Some(id) = self.pick(which) else { return };
        match how % 3 {
            0 => drop(self.channels.exit_status(id, 0)),
            1 => {
                let _ = self.channels.eof(id);
                assert_eq!(self.channels.room(id), 0);
            }
            _ => {
                let (before, closed) = (self.channels.len(), self.channels.close(id).is_some());
                if let Some(book) = self.books.get_mut(&number(id)).filter(|_| closed) {
                    book.closed = true;
                    book.unread.clear();
                    if self.channels.len() < before {
                        self.books.remove(&number(id));
                    }
                }
                assert!(self.channels.unread(id).is_empty() && self.channels.close(id).is_none());
            }
        }
    }
}
