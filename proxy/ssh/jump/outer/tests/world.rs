//! All who play, and their turns.

use std::collections::VecDeque;
use std::task::Waker;

use keyward_ssh_transport::connection::message::{KEEPALIVE, Message};
use keyward_ssh_transport::wire::Put;
use tokio::io::DuplexStream;

use super::link::{Channel, Link, OWN_BACKLOG, get, put, say};
use super::*;
use crate::ssh::pair::pair;

/// Bytes of the longest piece of data.
const PACKET: usize = 32 * 1024;
/// Turns in which nothing happened after which nothing will: far more than any of them can come to nothing by chance.
const PATIENCE: usize = 4000;

/// How it ended.
#[derive(Debug)]
pub(super) struct Ending {
    /// The most that ever waited for the client, in bytes.
    pub(super) most: usize,
    /// Key exchanges of the ends that are in sight.
    pub(super) exchanges: u32,
    /// What each link's client and server got.
    pub(super) got: [[u32; 2]; 2],
    /// How each link's relay ended.
    pub(super) ends: [Option<End>; 2],
    /// Whose clients were told.
    pub(super) told: [bool; 2],
    /// Nobody could do anything any more, and that was not the end.
    pub(super) stuck: bool,
}

/// All of them.
pub(super) struct World {
    game: Game,
    dice: Dice,
    client: Conn,
    /// The client's end; `None`: it was cut.
    near: Option<DuplexStream>,
    carried: usize,
    /// Keepalives that were not answered.
    keepalives: usize,
    /// Exchanges and keepalives that may still be begun: not without end, or a game that is stuck would never be still.
    left: [usize; 2],
    outer: Option<Keyward>,
    links: [Link; 2],
    most: usize,
    turns: usize,
}

/// Keyward's end of the outer link.
struct Keyward {
    wire: Wire,
    stream: Stream,
    inside: Option<Inside>,
    lobby: Lobby,
}

/// Links that wait for a channel.
pub(super) struct Lobby(pub(super) VecDeque<Begun>);

impl Host for Lobby {
    fn visit(&mut self, _: &Target<'_>) -> Result<Begun, String> {
        self.0.pop_front().ok_or_else(|| "no such connection".to_owned())
    }

    fn what_there_is(&mut self, _: Terminal) -> String {
        String::new()
    }
}

impl World {
    pub(super) fn new(game: &Game) -> Self {
        let now = Instant::now();
        let [client, outer, ..] = game.limits;
        let (mut client, conn) = pair(client, outer, now);
        let (near, far) = tokio::io::duplex(game.pipes[0]);
        let mut lobby = Lobby(VecDeque::new());
        let links = [0, 1].map(|number| {
            let mut rest = Vec::new();
            rest.put_string("web-1").put_u32(22).put_string("127.0.0.1").put_u32(4711);
            let packet = u32::try_from(PACKET).unwrap();
            client
                .send(&Message::Open { kind: b"direct-tcpip", sender: number, window: game.window, packet, rest: &rest }.write())
                .unwrap();
            let cut = if let Cut::Server(after) = game.cut { (number == 0).then_some(after) } else { None };
            Link::new(game, cut, &mut lobby, now)
        });
        let wire = Wire { conn, eof: false };
        Self {
            game: game.clone(),
            dice: Dice::new(game.seed),
            client,
            near: Some(near),
            carried: 0,
            keepalives: 0,
            left: [200, 300],
            outer: Some(Keyward { wire, stream: Stream::Inner(far), inside: Some(Inside::new()), lobby }),
            links,
            most: 0,
            turns: 0,
        }
    }

    /// Plays until all is said and done or nothing happens any more.
    pub(super) fn play(mut self) -> Ending {
        let mut idle = 0;
        while !self.is_over() && idle < PATIENCE {
            self.turns += 1;
            let stalled = self.turns <= self.game.stalled.1;
            idle = if self.turn() || stalled { 0 } else { idle + 1 };
            self.most = self.most.max(self.outer.as_ref().map_or(0, |outer| outer.wire.conn.backlog()));
        }
        let links = &self.links;
        Ending {
            most: self.most,
            exchanges: self.client.exchanges() + links.iter().map(|link| link.client.exchanges() + link.server.exchanges()).sum::<u32>(),
            got: std::array::from_fn(|link| links[link].got()),
            ends: std::array::from_fn(|link| links[link].ended),
            told: std::array::from_fn(|link| links[link].told),
            stuck: !self.is_over(),
        }
    }

    fn is_over(&self) -> bool {
        let [first, second] = &self.links;
        let all = |link: &Link| link.got() == [self.game.messages; 2];
        match self.game.cut {
            Cut::Client(_) if self.near.is_none() => first.ended.is_some() && second.ended.is_some(),
            Cut::Server(_) if first.near.is_none() => first.ended.is_some() && first.told && all(second) && self.keepalives == 0,
            _ => all(first) && all(second) && self.keepalives == 0 && self.game.cut == Cut::Nothing,
        }
    }

    /// One turn of somebody; whether anything came of it.
    fn turn(&mut self) -> bool {
        if self.left[0] > 0 && self.game.rekey_turns.is_some_and(|turns| self.dice.below(turns) == 0) {
            self.left[0] -= 1;
            self.rekey();
        }
        let which = self.dice.below(2);
        let Self { dice, links, .. } = self;
        let link = &mut links[which];
        match dice.below(11) {
            0 => say(&mut link.client, &mut link.talks[0], dice),
            1 => say(&mut link.server, &mut link.talks[1], dice),
            2 | 3 => self.up(which),
            4 => self.ask(),
            5 => self.put(),
            6 => self.get(),
            7 => self.serve(),
            8 => link.relay(),
            9 => link.put(dice),
            _ => link.get(dice),
        }
    }

    fn rekey(&mut self) {
        let which = self.dice.below(2);
        match (self.dice.below(4), &mut self.outer) {
            (0, Some(outer)) => outer.wire.conn.rekey(),
            (1, _) => self.client.rekey(),
            (2, _) => self.links[which].client.rekey(),
            _ => self.links[which].server.rekey(),
        }
    }

    /// A keepalive, as OpenSSH sends them.
    fn ask(&mut self) -> bool {
        if self.dice.below(20) > 0 || self.left[1] == 0 || self.near.is_none() {
            return false;
        }
        self.left[1] -= 1;
        self.keepalives += 1;
        self.client.send(&Message::GlobalRequest { name: KEEPALIVE, wants_reply: true, rest: &[] }.write()).unwrap();
        false
    }

    /// What an inner client has to say becomes data of its channel.
    fn up(&mut self, which: usize) -> bool {
        let Link { client, channel, .. } = &mut self.links[which];
        let Some(recipient) = channel.number.filter(|_| !channel.closed && self.client.backlog() < OWN_BACKLOG) else { return false };
        let most = client.output().len().min(PACKET).min(channel.window);
        if most == 0 {
            return false;
        }
        let length = 1 + self.dice.below(most);
        self.client.send(&Message::Data { recipient, data: &client.output()[..length] }.write()).unwrap();
        client.wrote(length);
        channel.window -= length;
        true
    }

    fn put(&mut self) -> bool {
        let moved = put(&mut self.client, &mut self.near, &mut self.dice);
        self.carried += moved;
        self.cut();
        moved > 0
    }

    fn get(&mut self) -> bool {
        let (from, to) = self.game.stalled;
        if (from..to).contains(&self.turns) {
            return false;
        }
        let moved = get(&mut self.client, &mut self.near, &mut self.dice);
        while let Some(event) = self.client.next().unwrap() {
            let Event::Message(message) = event else { panic!("{event:?}") };
            let message = message.to_vec();
            self.hear(&message);
        }
        self.carried += moved;
        self.cut();
        moved > 0
    }

    fn cut(&mut self) {
        if matches!(self.game.cut, Cut::Client(after) if after <= self.carried) {
            self.near = None;
        }
    }

    /// What the outer link says.
    fn hear(&mut self, message: &[u8]) {
        let window = usize::try_from(self.game.window).unwrap();
        match Message::read(message).unwrap().unwrap() {
            Message::RequestFailure => self.keepalives -= 1,
            Message::Confirmation { recipient, sender, window: given, .. } => {
                let number = Some(sender);
                let given_to_us = usize::try_from(given).unwrap();
                self.links[usize::try_from(recipient).unwrap()].channel =
                    Channel { number, window: given_to_us, given: window, ..Channel::default() };
            }
            Message::WindowAdjust { recipient, bytes } => {
                self.links[usize::try_from(recipient).unwrap()].channel.window += usize::try_from(bytes).unwrap();
            }
            Message::Data { recipient, data } => {
                let link = &mut self.links[usize::try_from(recipient).unwrap()];
                link.hears(data);
                let channel = &mut link.channel;
                channel.given = channel.given.checked_sub(data.len()).expect("no more than the window");
                channel.spent += data.len();
                if channel.spent > window / 2 && !channel.closed {
                    let bytes = u32::try_from(std::mem::take(&mut channel.spent)).unwrap();
                    channel.given += usize::try_from(bytes).unwrap();
                    self.client.send(&Message::WindowAdjust { recipient: channel.number.unwrap(), bytes }.write()).unwrap();
                }
            }
            Message::Eof { .. } => {}
            Message::Close { recipient } => {
                let channel = &mut self.links[usize::try_from(recipient).unwrap()].channel;
                assert!(!std::mem::replace(&mut channel.closed, true));
                self.client.send(&Message::Close { recipient: channel.number.unwrap() }.write()).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }

    /// What the product does: all that it can.
    fn serve(&mut self) -> bool {
        let Some(Keyward { wire, stream, inside, lobby }) = &mut self.outer else { return false };
        let mut outer = Outer { client: stream, wire, inside: inside.take().unwrap(), rule: self.game.rule };
        let turn = outer.turn(&mut Context::from_waker(Waker::noop()), Instant::now(), Duration::from_secs(10), lobby);
        let is_over = match &turn {
            Ok(moved) => outer.wire.eof && !moved,
            Err(Some(Silent::Io(_))) => true,
            Err(other) => panic!("{other:?}"),
        };
        *inside = Some(outer.inside);
        if is_over {
            assert!(self.near.is_none());
            self.outer = None;
        }
        turn.is_ok_and(|moved| moved)
    }
}
