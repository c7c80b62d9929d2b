//! A link inside: its client, its server, and the product's relay between them.

use std::pin::Pin;
use std::task::Waker;

use keyward_ssh_transport::policy;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::oneshot;

use super::world::Lobby;
use super::*;
use crate::relay::Outcome;
use crate::ssh::numbered::Talk;
use crate::ssh::pair::{pair, relayed};

/// Bytes that a client or a server lets wait before it says no more.
pub(super) const OWN_BACKLOG: usize = 100_000;
/// Bytes of the longest message, about, and of what is read at once.
const LONGEST: usize = 31_000;
const READ: usize = 256 * 1024;

/// Both ends of a link inside, and what is between them.
pub(super) struct Link {
    pub(super) client: Conn,
    pub(super) server: Conn,
    pub(super) near: Option<DuplexStream>,
    /// Bytes after which its server's connection ends, and bytes that went over it.
    cut: Option<usize>,
    carried: usize,
    relay: Pin<Box<dyn Future<Output = Outcome>>>,
    pub(super) ended: Option<End>,
    /// What its client and its server say.
    pub(super) talks: [Talk; 2],
    pub(super) told: bool,
    pub(super) channel: Channel,
}

/// The outer client's side of a channel.
#[derive(Default)]
pub(super) struct Channel {
    /// Keyward's number of it.
    pub(super) number: Option<u32>,
    /// Bytes that we may send, bytes that Keyward may send, bytes that it gets back.
    pub(super) window: usize,
    pub(super) given: usize,
    pub(super) spent: usize,
    pub(super) closed: bool,
}

impl Link {
    pub(super) fn new(game: &Game, cut: Option<usize>, lobby: &mut Lobby, now: Instant) -> Self {
        let [_, _, of_client, of_user, of_upstream, of_server] = game.limits;
        let ((mut client, user), (upstream, server)) = (pair(of_client, of_user, now), pair(of_upstream, of_server, now));
        let (talk, first) = Talk::client(game.messages);
        client.send(&first).unwrap();
        let ((pipe, inside), (outside, near)) = (tokio::io::duplex(game.pipes[1]), tokio::io::duplex(game.pipes[2]));
        let (ends, over) = oneshot::channel();
        lobby.0.push_back(Begun { pipe, over });
        let relay = Box::pin(async move {
            let _ends = ends;
            let (mut user, mut upstream) = (Wire { conn: user, eof: false }, Wire { conn: upstream, eof: false });
            let (mut inside, mut outside) = (Stream::Inner(inside), Stream::Inner(outside));
            relayed((&mut user, &mut inside), (&mut upstream, &mut outside), policy::Channels::of([])).await
        });
        Self {
            client,
            server,
            near: Some(near),
            cut,
            carried: 0,
            relay,
            ended: None,
            talks: [talk, Talk::server(game.messages)],
            told: false,
            channel: Channel::default(),
        }
    }

    pub(super) fn got(&self) -> [u32; 2] {
        [self.talks[0].got, self.talks[1].got]
    }

    pub(super) fn relay(&mut self) -> bool {
        if self.ended.is_some() {
            return false;
        }
        if let Poll::Ready(outcome) = self.relay.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            self.ended = Some(outcome.end);
            // With all that it had, as a task.
            self.relay = Box::pin(std::future::pending());
        }
        self.ended.is_some()
    }

    pub(super) fn put(&mut self, dice: &mut Dice) -> bool {
        let moved = put(&mut self.server, &mut self.near, dice);
        self.carried += moved;
        self.cut();
        moved > 0
    }

    pub(super) fn get(&mut self, dice: &mut Dice) -> bool {
        let moved = get(&mut self.server, &mut self.near, dice);
        self.carried += moved;
        while let Ok(Some(event)) = self.server.next() {
            match event {
                Event::Message(message) => {
                    if let Some(answer) = self.talks[1].hears(message) {
                        self.server.send(&answer).unwrap();
                    }
                }
                Event::Disconnect { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        self.cut();
        moved > 0
    }

    fn cut(&mut self) {
        if self.cut.is_some_and(|after| after <= self.carried) {
            self.near = None;
        }
    }

    /// What its client gets through its channel.
    pub(super) fn hears(&mut self, mut data: &[u8]) {
        while !data.is_empty() && !self.told {
            let taken = self.client.receive(data);
            data = &data[taken..];
            while let Some(event) = self.client.next().unwrap() {
                match event {
                    Event::Message(message) => assert_eq!(self.talks[0].hears(message), None),
                    Event::Disconnect { .. } => {
                        self.told = true;
                        break;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

pub(super) fn say(conn: &mut Conn, talk: &mut Talk, dice: &mut Dice) -> bool {
    talk.is_due() && conn.backlog() < OWN_BACKLOG && conn.send(&talk.says(dice.below(LONGEST))).is_ok()
}

/// Some of what waits in a transport goes into its pipe.
pub(super) fn put(conn: &mut Conn, pipe: &mut Option<DuplexStream>, dice: &mut Dice) -> usize {
    let Some(pipe) = pipe.as_mut().filter(|_| !conn.output().is_empty()) else { return 0 };
    let length = 1 + dice.below(conn.output().len());
    let written = Pin::new(pipe).poll_write(&mut Context::from_waker(Waker::noop()), &conn.output()[..length]);
    let Poll::Ready(Ok(written)) = written else { return 0 };
    conn.wrote(written);
    written
}

/// Some of what is in a pipe comes out.
pub(super) fn get(conn: &mut Conn, pipe: &mut Option<DuplexStream>, dice: &mut Dice) -> usize {
    let Some(pipe) = pipe.as_mut() else { return 0 };
    let room = conn.room();
    let length = room.len().min(1 + dice.below(READ));
    let mut buffer = ReadBuf::new(&mut room[..length]);
    let read = Pin::new(pipe).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer);
    let length = buffer.filled().len();
    assert!(!matches!(read, Poll::Ready(Err(_))));
    conn.received(length);
    length
}
