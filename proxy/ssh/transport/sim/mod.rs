//! A relay between a client and a server, played out step by step: four transports, four pipes that hold little, and dice that say who
//! does what next, how many bytes move, and when which of the four exchanges keys. The same seed plays the same game.
//!
//! ```text
//! client ⇄ pipes[0], pipes[3] ⇄ user leg | relay | upstream leg ⇄ pipes[1], pipes[2] ⇄ server
//! ```
//! What must hold in every game: all messages arrive once and in their order, nobody waits for good, and little waits in the relay.

mod pipe;
mod tests;

use std::time::{Duration, Instant};

use crate::cipher::Cipher;
use crate::conn::tests::{Dice, client, client_config, data, lenient, server, server_config, settle};
use crate::conn::{Conn, Event, Limits};
use crate::pump::{self, Gate, HIGH, Pumped, Verdict};
use crate::wire::Reader;

use pipe::Pipe;

/// Bytes that a client or a server itself lets wait before it writes no more.
const OWN_BACKLOG: usize = 100_000;
/// Bytes of the longest message, about, and of what is read at once.
const LONGEST: usize = 31_000;
const READ: usize = 256 * 1024;
/// The exchanges of both legs before the game begins.
const FIRST_EXCHANGES: u32 = 2;
/// Turns in which nothing happened after which nothing will: far more than any of them can come to nothing by chance.
const PATIENCE: usize = 500;

/// Which side of a relay may be read.
pub(crate) type Rule = fn(&Conn, &Conn) -> Gate;

/// What becomes of a message on its way.
pub(crate) type Look = fn(&[u8]) -> Verdict;

/// One game.
#[derive(Clone, Debug)]
pub(crate) struct Game {
    pub(crate) seed: u64,
    pub(crate) rule: Rule,
    pub(crate) look: Look,
    /// Bytes that a pipe holds.
    pub(crate) pipe: usize,
    /// Messages from each end.
    pub(crate) messages: u32,
    /// Bytes after which each of the four exchanges keys: client, user leg, upstream leg, server.
    pub(crate) rekey_bytes: [u64; 4],
    /// The same in packets.
    pub(crate) rekey_packets: [u64; 4],
    /// One turn of so many begins an exchange somewhere.
    pub(crate) rekey_turns: Option<usize>,
    /// Whether client and server know strict key exchange.
    pub(crate) strict: [bool; 2],
    /// A pipe that takes no more after so many bytes.
    pub(crate) cut: Option<(usize, usize)>,
    /// When client and server do not read.
    pub(crate) stalled: [Stall; 2],
}

/// When an end does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stall {
    Never,
    Always,
    /// From the one turn to the other.
    Between(usize, usize),
}

impl Stall {
    fn is_now(self, turn: usize) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::Between(from, to) => (from..to).contains(&turn),
        }
    }
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct End {
    /// The most that ever waited for one of the two legs, in bytes.
    pub(crate) most: usize,
    /// Key exchanges of both legs.
    pub(crate) exchanges: u32,
    /// What client and server got.
    pub(crate) got: [u32; 2],
    /// Nobody could do anything any more, and not all had arrived.
    pub(crate) stuck: bool,
}

/// The four, and what lies between them.
pub(crate) struct World {
    pub(crate) client: Conn,
    pub(crate) user: Conn,
    pub(crate) upstream: Conn,
    pub(crate) server: Conn,
    pub(crate) pipes: [Pipe; 4],
    game: Game,
    dice: Dice,
    sent: [u32; 2],
    got: [u32; 2],
    most: usize,
    rekeys_left: u32,
    turns: usize,
}

impl World {
    pub(crate) fn new(game: Game) -> Self {
        let mut dice = Dice::new(game.seed);
        let mut limits = game.rekey_bytes.into_iter().zip(game.rekey_packets);
        let mut limits = || {
            let (rekey_bytes, rekey_packets) = limits.next().unwrap();
            Limits { rekey_bytes, rekey_packets, ..Limits::default() }
        };
        let (of_client, of_user, of_upstream, of_server) = (limits(), limits(), limits(), limits());
        let mut ciphers = || vec![Cipher::ALL[dice.below(3)]];
        let (user_cipher, upstream_cipher) = (ciphers(), ciphers());
        let (mut client_end, mut user) = pair(of_client, of_user, user_cipher);
        let (mut upstream, mut server_end) = pair(of_upstream, of_server, upstream_cipher);
        let [strict_client, strict_server] = game.strict;
        client_end = if strict_client { client_end } else { lenient(client_end) };
        server_end = if strict_server { server_end } else { lenient(server_end) };
        settle(&mut client_end, &mut user).unwrap();
        settle(&mut upstream, &mut server_end).unwrap();
        for conn in [&mut client_end, &mut user, &mut upstream, &mut server_end] {
            conn.authenticated();
        }
        assert_eq!([user.is_strict(), upstream.is_strict()], game.strict);
        let pipes =
            std::array::from_fn(|number| Pipe::new(game.pipe, game.cut.filter(|(pipe, _)| *pipe == number).map(|(_, after)| after)));
        Self {
            client: client_end,
            user,
            upstream,
            server: server_end,
            pipes,
            dice,
            sent: [0; 2],
            got: [0; 2],
            most: 0,
            rekeys_left: 100,
            turns: 0,
            game,
        }
    }

    /// Plays until all has arrived or nothing happens any more.
    pub(crate) fn play(&mut self) -> End {
        let all = [self.game.messages; 2];
        let mut idle = 0;
        while self.got != all && idle < PATIENCE {
            let mut happened = false;
            for _ in 0..8 {
                happened |= self.turn();
            }
            self.most = self.most.max(self.user.backlog()).max(self.upstream.backlog());
            // Who reads again later is waited for.
            let stalled = self.game.stalled.iter().any(|stall| *stall != Stall::Always && stall.is_now(self.turns));
            idle = if happened || stalled { 0 } else { idle + 1 };
        }
        let exchanges = self.user.exchanges() + self.upstream.exchanges();
        End { most: self.most, exchanges, got: self.got, stuck: self.got != all }
    }

    /// One turn of somebody; whether anything came of it.
    fn turn(&mut self) -> bool {
        self.turns += 1;
        // Not without end, or a game that is stuck would never be still.
        if self.rekeys_left > 0 && self.game.rekey_turns.is_some_and(|turns| self.dice.below(turns) == 0) {
            self.rekeys_left -= 1;
            [&mut self.client, &mut self.user, &mut self.upstream, &mut self.server][self.dice.below(4)].rekey();
        }
        let (rule, look) = (self.game.rule, self.game.look);
        let [to_user, to_server, to_upstream, to_client] = &mut self.pipes;
        let dice = &mut self.dice;
        let [got_client, got_server] = &mut self.got;
        let [sent_client, sent_server] = &mut self.sent;
        let [client_stalled, server_stalled] = self.game.stalled.map(|stall| stall.is_now(self.turns));
        match dice.below(14) {
            0 => say(&mut self.client, sent_client, self.game.messages, dice),
            1 => say(&mut self.server, sent_server, self.game.messages, dice),
            2 => hear(&mut self.client, got_client),
            3 => hear(&mut self.server, got_server),
            4 => relay(rule, look, &mut self.user, &mut self.upstream),
            5 => relay(rule, look, &mut self.upstream, &mut self.user),
            6 => to_user.put(&mut self.client, dice),
            7 => rule(&self.user, &self.upstream) == Gate::Open && to_user.get(&mut self.user, dice),
            8 => to_server.put(&mut self.upstream, dice),
            9 => !server_stalled && to_server.get(&mut self.server, dice),
            10 => to_upstream.put(&mut self.server, dice),
            11 => rule(&self.upstream, &self.user) == Gate::Open && to_upstream.get(&mut self.upstream, dice),
            12 => to_client.put(&mut self.user, dice),
            _ => !client_stalled && to_client.get(&mut self.client, dice),
        }
    }

    /// Does one of the legs find, so much later, that somebody has not answered?
    pub(crate) fn times_out(&mut self, begin: Instant, later: Duration) -> bool {
        [&mut self.user, &mut self.upstream].into_iter().any(|leg| leg.tick(begin).is_err() || leg.tick(begin + later).is_err())
    }
}

fn pair(of_client: Limits, of_server: Limits, ciphers: Vec<Cipher>) -> (Conn, Conn) {
    let of_client = crate::ClientConfig { limits: of_client, ciphers: ciphers.clone(), ..client_config() };
    let of_server = crate::ServerConfig { limits: of_server, ciphers, ..server_config() };
    (client(of_client), server(of_server))
}

fn say(conn: &mut Conn, sent: &mut u32, messages: u32, dice: &mut Dice) -> bool {
    if *sent == messages || conn.backlog() >= OWN_BACKLOG {
        return false;
    }
    conn.send(&data(*sent, dice.below(LONGEST - 1000))).unwrap();
    *sent += 1;
    true
}

/// Everything that has come must be what was sent next.
fn hear(conn: &mut Conn, got: &mut u32) -> bool {
    let before = *got;
    while let Some(event) = conn.next().unwrap() {
        let Event::Message(message) = event else { panic!("{event:?}") };
        assert_eq!(Reader::new(&message[9..]).u32(), Ok(*got), "out of order, lost or twice");
        *got += 1;
    }
    *got > before
}

fn relay(rule: Rule, mut look: Look, from: &mut Conn, to: &mut Conn) -> bool {
    match pump::pump_by(rule, from, to, usize::MAX, &mut look).unwrap() {
        Pumped::Messages(messages) => messages > 0,
        Pumped::Disconnect { .. } => panic!("nobody said goodbye"),
    }
}

/// The most that may ever wait for a leg: the usual, and once for each exchange of keys what the other end had under way when it was asked for
/// them. Ends that exchange keys every few packets can so heap up more than any window; [`pump::BURST`] ends that.
pub(crate) fn bound(game: &Game, end: &End) -> usize {
    let under_way = game.pipe + OWN_BACKLOG + LONGEST + 2 * READ;
    let exchanges = usize::try_from(end.exchanges - FIRST_EXCHANGES).unwrap();
    (HIGH + LONGEST + exchanges * under_way).min(pump::BURST)
}
