use super::*;

const NEVER: u64 = u64::MAX;

/// Seeds of each kind of game: a few seconds' worth, or as many as `KEYWARD_SSH_SEEDS` says.
fn seeds(few: u64) -> std::ops::RangeInclusive<u64> {
    let many = std::env::var("KEYWARD_SSH_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    1..=many.unwrap_or(few)
}

/// Pipes of all sizes; each of the four exchanges keys after so many bytes, or after so many packets, or never of its own accord, and now and then
/// because somebody says so; every fourth peer does not know strict key exchange.
fn any(seed: u64) -> Game {
    let mut dice = Dice::new(seed.wrapping_mul(77).wrapping_add(5));
    let rekey_bytes = std::array::from_fn(|_| if dice.below(3) == 0 { NEVER } else { 50_000 + dice.below(3_000_000) as u64 });
    let rekey_packets = std::array::from_fn(|_| if dice.below(3) > 0 { NEVER } else { 5 + dice.below(200) as u64 });
    Game {
        seed,
        rule: pump::between,
        look: |_| Verdict::Pass,
        pipe: [3000, 70_000, 600_000, 4_000_000][dice.below(4)],
        messages: 300,
        rekey_bytes,
        rekey_packets,
        rekey_turns: [None, Some(20), Some(200)][dice.below(3)],
        strict: [dice.below(4) > 0, dice.below(4) > 0],
        cut: None,
        stalled: [Stall::Never; 2],
    }
}

/// Both legs come to their limit at about the same time, which is when two exchanges can wait for each other.
fn both_legs(seed: u64) -> Game {
    let limits = [NEVER, 2_000_000, 2_000_000, NEVER];
    Game { pipe: 1_000_000, rekey_bytes: limits, rekey_packets: [NEVER; 4], rekey_turns: None, ..any(seed) }
}

fn plays_to_its_end(game: Game) -> End {
    let mut world = World::new(game.clone());
    let end = world.play();
    assert!(!end.stuck, "a deadlock: {game:?} {end:?}, exchanging: {:?}", [world.user.in_exchange(), world.upstream.in_exchange()]);
    assert!(end.most <= bound(&game, &end), "too much waits: {game:?} {end:?}");
    end
}

#[test]
fn all_arrives_whoever_exchanges_keys_and_when() {
    let exchanges: u32 = seeds(100).map(|seed| plays_to_its_end(any(seed)).exchanges).sum();
    assert!(exchanges > 500, "{exchanges}: too few to show anything");
}

#[test]
fn all_arrives_when_both_legs_exchange_keys_at_once() {
    for seed in seeds(40) {
        assert!(plays_to_its_end(both_legs(seed)).exchanges >= 4);
    }
}

/// A policy that puts others in the place of messages, longer and shorter ones, and lets none of them pass as it is.
#[test]
fn all_arrives_when_a_policy_replaces_it() {
    fn replace(message: &[u8]) -> Verdict {
        let number = Reader::new(&message[9..]).u32().unwrap();
        Verdict::Replace(data(number, if number.is_multiple_of(2) { 0 } else { LONGEST }))
    }
    for seed in seeds(40) {
        plays_to_its_end(Game { look: replace, ..any(seed) });
    }
}

/// The rule of pump.rs is what the two tests above rest on: without it they find a deadlock.
#[test]
fn without_the_rule_two_legs_wait_for_each_other() {
    fn no_rule(_: &Conn, to: &Conn) -> Gate {
        pump::gate(false, to.backlog())
    }
    let stuck = |game: Game| World::new(Game { rule: no_rule, ..game }).play().stuck;
    assert!((1..=60).any(|seed| stuck(any(seed))), "any");
    assert!((1..=40).any(|seed| stuck(both_legs(seed))), "both legs");
}

/// An end that is gone: what it said before reaches the other one, and nobody waits for it longer than for an exchange of keys.
#[test]
fn what_was_said_before_a_cut_arrives_and_what_cannot_end_times_out() {
    let mut timed_out = 0;
    for seed in seeds(40) {
        let mut dice = Dice::new(seed);
        let pipe = dice.below(4);
        let game = Game { cut: Some((pipe, dice.below(3_000_000))), ..any(seed) };
        let mut world = World::new(game.clone());
        let end = world.play();
        let World { user, upstream, .. } = &world;
        let (from, to) = if pipe == 0 || pipe == 1 { (user, upstream) } else { (upstream, user) };
        // A leg whose peer hears no more may have to keep what it has; all others have passed on everything.
        if pipe == 0 || pipe == 2 {
            assert!(to.in_exchange() || to.backlog() == 0, "{game:?} {end:?}");
            assert!(to.in_exchange() || from.in_exchange() || world.pipes.iter().all(Pipe::is_empty), "{game:?} {end:?}");
        }
        if user.in_exchange() || upstream.in_exchange() {
            timed_out += 1;
            let begin = Instant::now();
            assert!(!world.times_out(begin, Duration::from_secs(9 * 60)));
            assert!(world.times_out(begin, Duration::from_secs(11 * 60)));
        }
    }
    assert!(timed_out > 0);
}

/// One that does not read stops what is for it, and nothing else.
#[test]
fn an_end_that_does_not_read_stops_one_direction_only() {
    for seed in seeds(20) {
        for stalled in [[Stall::Always, Stall::Never], [Stall::Never, Stall::Always]] {
            // The stalled one would not see that keys are to be exchanged either; that this ends is tested above.
            let game = Game { stalled, rekey_bytes: [NEVER; 4], rekey_packets: [NEVER; 4], rekey_turns: None, ..any(seed) };
            let end = World::new(game.clone()).play();
            let [client, server] = end.got;
            let (reads, does_not) = if stalled[0] == Stall::Always { (server, client) } else { (client, server) };
            assert_eq!((reads, does_not), (game.messages, 0), "{game:?}");
            assert!(end.most <= bound(&game, &end), "{end:?}");
        }
    }
}

/// Ends that stop reading in the midst of all that, one or both, and read again later: with keys to be exchanged meanwhile on every leg.
#[test]
fn all_arrives_when_an_end_reads_again_whoever_exchanges_keys_meanwhile() {
    let (mut exchanges, mut waited) = (0, 0);
    for seed in seeds(60) {
        let mut dice = Dice::new(seed.wrapping_mul(31).wrapping_add(7));
        let mut stall = || {
            let from = dice.below(4000);
            Stall::Between(from, from + 1000 + dice.below(20_000))
        };
        let stalled = [[stall(), Stall::Never], [Stall::Never, stall()], [stall(), stall()]][usize::try_from(seed).unwrap() % 3];
        let game = if seed.is_multiple_of(4) { both_legs(seed) } else { any(seed) };
        let end = plays_to_its_end(Game { stalled, ..game });
        exchanges += end.exchanges;
        waited += usize::from(end.most > HIGH);
    }
    assert!(exchanges > 300 && waited > 0, "{exchanges} {waited}: too few to show anything");
}
