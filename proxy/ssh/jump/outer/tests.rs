//! A jump with two links inside it, played out step by step: the client's, Keyward's and the servers' transports, pipes that hold little, and dice
//! that say who does what next, how many bytes move, and when which of the ten ends exchanges keys. The same seed rolls the same dice.
//!
//! ```text
//! client of a server ⇄ channel of the outer client ⇄ pipe ⇄ Outer::turn ⇄ pipe ⇄ Relay::run ⇄ pipe ⇄ server
//! ```
//! What must hold in every game: all messages arrive once and in their order, nobody waits for good, and little waits in the outer link.

mod link;
mod world;

use keyward_ssh_transport::Limits;

use super::*;
use crate::relay::End;
use crate::ssh::dice::{Dice, seeds};
use world::{Ending, World};

/// Bytes of a message of data beside its data, sealed, and more; and of the answers to a client that was heard during an exchange.
const SLACK: usize = 8 * 1024;

/// One game.
#[derive(Clone, Debug)]
struct Game {
    seed: u64,
    rule: Rule,
    /// Bytes that the pipes of the client, of the inner links and of the servers hold.
    pipes: [usize; 3],
    /// Bytes that the client takes of a channel ahead of what it has read.
    window: u32,
    /// Messages from each end of an inner link.
    messages: u32,
    /// When the transports exchange keys: client, outer link; inner client, its leg; leg of the server, server.
    limits: [Limits; 6],
    /// One turn of so many begins an exchange at one of those that we can reach.
    rekey_turns: Option<usize>,
    /// The turns in which the client does not read.
    stalled: (usize, usize),
    cut: Cut,
}

/// What ends in the midst of it, after so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Nothing,
    /// The client's connection.
    Client(usize),
    /// The connection to the first server.
    Server(usize),
}

fn any(seed: u64) -> Game {
    let mut dice = Dice::new(seed.wrapping_mul(91).wrapping_add(3));
    let mut limits = || {
        let rekey_bytes = if dice.below(3) == 0 { u64::MAX } else { 30_000 + dice.below(1_000_000) as u64 };
        let rekey_packets = if dice.below(3) > 0 { u64::MAX } else { 10 + dice.below(200) as u64 };
        Limits { rekey_bytes, rekey_packets, ..Limits::default() }
    };
    let limits = std::array::from_fn(|_| limits());
    let from = dice.below(4000);
    Game {
        seed,
        rule: gate,
        pipes: [dice.one_of(&[3000, 70_000, 600_000]), dice.one_of(&[5000, pump::HIGH]), dice.one_of(&[3000, 70_000, 600_000])],
        window: dice.one_of(&[40_000, 1 << 20, 1 << 24]),
        messages: 100,
        limits,
        rekey_turns: dice.one_of(&[None, Some(100), Some(1000)]),
        stalled: if dice.below(2) == 0 { (0, 0) } else { (from, from + dice.below(6000)) },
        cut: Cut::Nothing,
    }
}

fn play(game: &Game) -> Ending {
    // For the relays' clocks, which never ring: time stands still.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    World::new(game).play()
}

fn plays_to_its_end(game: &Game) -> Ending {
    let ending = play(game);
    assert!(!ending.stuck, "a deadlock: {game:?} {ending:?}");
    assert!(ending.most <= pump::HIGH + 2 * super::super::inside::CHUNK + SLACK, "too much waits: {game:?} {ending:?}");
    ending
}

#[test]
fn all_arrives_through_links_inside_a_link_whoever_exchanges_keys_and_when() {
    let (mut exchanges, mut full) = (0, 0);
    for seed in seeds(60) {
        let game = any(seed);
        let ending = plays_to_its_end(&game);
        assert_eq!(ending.got, [[game.messages; 2]; 2], "{game:?}");
        exchanges += ending.exchanges;
        full += usize::from(ending.most > pump::HIGH);
    }
    assert!(exchanges > 3000 && full > 0, "{exchanges} {full}: too few to show anything");
}

/// What the test above rests on: an outer link that is not read during an exchange of keys waits for good.
#[test]
fn without_the_rule_an_outer_link_waits_for_its_own_exchange_of_keys() {
    fn no_rule(conn: &Conn) -> Gate {
        pump::gate(false, conn.backlog())
    }
    assert!((1..=30).any(|seed| play(&Game { rule: no_rule, ..any(seed) }).stuck));
}

/// The links inside end with it; what they had passed on before was in its order.
#[test]
fn a_client_whose_connection_ends_anywhere_takes_the_links_inside_with_it() {
    for seed in seeds(40) {
        let after = Dice::new(seed).below(4_000_000);
        let ending = plays_to_its_end(&Game { cut: Cut::Client(after), ..any(seed) });
        assert!(ending.ends.iter().all(|end| matches!(end, Some(End::Client | End::ClientFailed(_)))), "{seed} {ending:?}");
    }
}

/// Its own link ends, and its client is told so behind what the server had said; the other one has all that is its.
#[test]
fn a_server_whose_connection_ends_anywhere_leaves_the_other_link_alone() {
    for seed in seeds(40) {
        let after = Dice::new(seed).below(2_000_000);
        let game = Game { cut: Cut::Server(after), ..any(seed) };
        let ending = plays_to_its_end(&game);
        assert!(matches!(ending.ends, [Some(End::Upstream | End::UpstreamFailed(_)), None]), "{seed} {ending:?}");
        assert_eq!((ending.got[1], ending.told), ([game.messages; 2], [true, false]), "{seed} {ending:?}");
    }
}
