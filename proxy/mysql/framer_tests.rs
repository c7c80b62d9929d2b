use proptest::prelude::*;

use super::*;

const ALL: Capabilities = Capabilities(u64::MAX).without(Capabilities::QUERY_ATTRIBUTES);
const NO_FILES: Capabilities = ALL.without(Capabilities::LOCAL_FILES);
const CHANGE_USER: &[u8] = b"\x11alice\0\0\0";

fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let [a, b, c, _] = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&[a, b, c, sequence], payload].concat()
}

fn hold(replication: bool) -> Hold {
    Hold { own_name: Some(b"orders".to_vec()), replication }
}

/// What went on, and what was held, in turns; the last is what went on after the last that was held.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    turns: Vec<(Vec<u8>, Vec<u8>)>,
    last: Vec<u8>,
    refused: bool,
}

/// Passes bytes as the relay does, in pieces of these lengths.
fn seen(commands: &mut Commands, bytes: &[u8], cuts: &[usize]) -> Seen {
    let (mut seen, mut at, mut cuts) = (Seen::default(), 0, cuts.iter().cycle());
    while at < bytes.len() {
        let piece = &bytes[at..(at + cuts.next().unwrap()).min(bytes.len())];
        at += piece.len();
        let mut fresh = piece;
        while !fresh.is_empty() {
            let passed = commands.pass(fresh);
            seen.last.extend_from_slice(&passed.release);
            seen.last.extend_from_slice(&fresh[..passed.forward]);
            assert!(passed.taken >= passed.forward && (passed.taken == fresh.len() || passed.held.is_some()));
            fresh = &fresh[passed.taken..];
            let Some(held) = passed.held else { continue };
            if held_command(&held).is_none() {
                seen.refused = true;
                let passed = commands.pass(b"x");
                assert!((passed.forward, passed.held.is_some()) == (0, true), "nothing passes any more");
                return seen;
            }
            seen.turns.push((std::mem::take(&mut seen.last), held.to_vec()));
        }
    }
    seen
}

fn whole(client: Capabilities, hold: Hold, bytes: &[u8]) -> Seen {
    seen(&mut Commands::new(client, hold), bytes, &[bytes.len().max(1)])
}

/// What is held of one command after a ping, which passes.
fn held(client: Capabilities, replication: bool, payload: &[u8]) -> bool {
    let ping = packet(0, b"\x0e");
    let bytes = [ping.clone(), packet(0, payload), ping.clone()].concat();
    let seen = whole(client, hold(replication), &bytes);
    match seen.turns.as_slice() {
        [] => {
            assert_eq!(seen.last, bytes);
            false
        }
        [(before, held)] => {
            assert_eq!((before, held, &seen.last), (&ping, &packet(0, payload), &ping));
            assert_eq!(held_command(held), Some(payload));
            true
        }
        _ => panic!("held twice: {seen:?}"),
    }
}

#[test]
fn what_must_not_reach_the_upstream_as_it_is_is_held() {
    for payload in [
        CHANGE_USER,
        b"\x02orders",
        b"\x03KILL QUERY 2147483648",
        b"\x03/* x */kill 4294967295;",
        b"\x03USE `orders`",
        b"\x0c\x01\x00\x00\x80",
        b"\x12\x04\0\0\0",
        b"\x13\0\0",
        b"\x15\x01\0\0\0",
        b"\x1e\0\0",
        b"\x20",
        b"\x21",
        b"\xfe\x01\x0e",
    ] {
        assert!(held(ALL, false, payload), "{payload:?}");
    }
    assert!(held(ALL.or(Capabilities::QUERY_ATTRIBUTES), false, b"\x03\0\x01KILL QUERY 2147483648"));
    for payload in [CHANGE_USER, b"\x20", b"\x21", b"\x13\0\0"] {
        assert!(held(ALL, true, payload), "a replica needs none of these: {payload:?}");
    }
}

#[test]
fn everything_else_passes() {
    for payload in [
        b"".as_slice(),
        b"\x01",
        b"\x02order",
        b"\x02orders2",
        b"\x02Orders",
        b"\x03SELECT 1",
        b"\x03KILL QUERY 7",
        b"\x03KILL 4294967296",
        b"\x03USE `other`",
        b"\x0c\x01\x00\x00\x7f",
        b"\x0c\x80",
        b"\x0c\x01\x00\x00\x80\x00",
        b"\x16KILL 2147483648",
        b"\x1f",
        b"\xfa\0\0",
        b"\xff",
    ] {
        assert!(!held(ALL, false, payload), "{payload:?}");
    }
    let comment = format!("\x03/*{}*/KILL 2147483648", "x".repeat(TEXT_MAX));
    assert!(!held(ALL, false, comment.as_bytes()), "longer than any that is looked into");
    for payload in [b"\x12\x04\0\0\0".as_slice(), b"\x15\x01\0\0\0", b"\x1e\0\0"] {
        assert!(!held(ALL, true, payload), "{payload:?}");
    }
}

#[test]
fn a_file_is_no_command_until_its_empty_packet() {
    let file: Vec<u8> = (2..=255).chain(0..4).flat_map(|sequence| packet(sequence, CHANGE_USER)).chain(packet(4, b"")).collect();
    let bytes = [packet(0, b"\x03LOAD DATA LOCAL INFILE 'x'"), file.clone(), packet(0, CHANGE_USER)].concat();
    let seen = whole(ALL, hold(false), &bytes);
    assert_eq!(seen.turns.len(), 1, "only what comes behind the file is a command");
    assert_eq!(seen.turns[0].0.len(), bytes.len() - packet(0, CHANGE_USER).len());
    let empty = [packet(0, b"\x03LOAD"), packet(2, b""), packet(0, CHANGE_USER)].concat();
    assert_eq!(whole(ALL, hold(false), &empty).turns.len(), 1, "a file of nothing");
}

#[test]
fn without_local_files_nothing_passes_that_is_out_of_order() {
    let ping = packet(0, b"\x0e");
    let seen = whole(NO_FILES, hold(true), &[ping.clone(), packet(1, CHANGE_USER), ping.clone()].concat());
    assert_eq!(seen, Seen { last: ping.clone(), refused: true, ..Seen::default() });
    let seen = whole(NO_FILES, hold(false), &[packet(2, b""), ping].concat());
    assert!(!seen.refused && seen.last.len() == 9, "an empty packet refuses a file: {seen:?}");
}

#[test]
fn a_message_of_several_packets_is_one_command() {
    let mut bytes = packet(0, b"\x03");
    bytes[..3].copy_from_slice(&[0xff; 3]);
    bytes.resize(HEADER + PART, b'x');
    for (sequence, length) in [(1, PART), (2, 0)] {
        let [a, b, c, _] = u32::try_from(length).unwrap().to_le_bytes();
        bytes.extend([a, b, c, sequence]);
        // As if it were a command of its own.
        bytes.resize(bytes.len() + length, 0x11);
    }
    bytes.extend(packet(0, CHANGE_USER));
    for client in [ALL, NO_FILES] {
        let seen = seen(&mut Commands::new(client, hold(false)), &bytes, &[64 * 1024, 5, 3]);
        assert_eq!((seen.turns.len(), seen.refused), (1, false));
        assert_eq!(seen.turns[0].1, packet(0, CHANGE_USER));
        assert!(seen.turns[0].0 == bytes[..bytes.len() - packet(0, CHANGE_USER).len()], "all of it passed");
    }
}

#[test]
fn a_file_in_packets_of_the_full_length_ends_where_it_ends() {
    let mut bytes = packet(2, &[]);
    bytes[..3].copy_from_slice(&[0xff; 3]);
    bytes.resize(HEADER + PART, 0x11);
    bytes.extend(packet(3, b""));
    bytes.extend(packet(4, CHANGE_USER));
    bytes.extend(packet(5, b""));
    let passing = bytes.len();
    bytes.extend(packet(0, CHANGE_USER));
    let seen = seen(&mut Commands::new(ALL, hold(false)), &bytes, &[64 * 1024, 7]);
    assert_eq!(seen.turns.len(), 1);
    assert_eq!(seen.turns[0].0.len(), passing, "the empty packet behind a full one is no end");
}

#[test]
fn what_is_too_long_to_be_held_ends_everything() {
    let ping = packet(0, b"\x0e");
    let fits = [CHANGE_USER, &vec![0; HELD_MAX - HEADER - CHANGE_USER.len()]].concat();
    assert!(held(ALL, false, &fits));
    let long = [fits.as_slice(), b"\0"].concat();
    for cut in [1, 5, 64 * 1024, 1 << 20] {
        let bytes = [ping.clone(), packet(0, &long), ping.clone()].concat();
        let seen = seen(&mut Commands::new(ALL, hold(false)), &bytes, &[cut]);
        assert_eq!(seen, Seen { last: ping.clone(), refused: true, ..Seen::default() });
    }
}

#[test]
fn a_replica_may_say_what_it_has_and_still_not_change_its_user() {
    let dump = packet(0, b"\x12\x04\0\0\0");
    let said = [packet(0, b"\xef12345678binlog.1\0"), packet(9, b"\xef12345678binlog.1\0")].concat();
    let bytes = [dump, said].concat();
    for client in [ALL, NO_FILES] {
        let seen = whole(client, hold(true), &[bytes.clone(), packet(0, CHANGE_USER)].concat());
        assert_eq!(seen.turns, [(bytes.clone(), packet(0, CHANGE_USER))]);
    }
    assert!(whole(NO_FILES, hold(true), &[bytes, packet(3, CHANGE_USER)].concat()).refused);
}

#[test]
fn nothing_is_kept_of_what_cannot_be_held() {
    let mut commands = Commands::new(ALL, hold(false));
    let passed = commands.pass(&packet(0, b"\x03SELECT 'a long one'")[..7]);
    assert_eq!((passed.forward, passed.taken), (7, 7));
    assert_eq!(commands.to_boundary(), 17);
    let passed = commands.pass(b"LECT");
    assert_eq!((passed.release.len(), passed.forward), (0, 4));
    assert!(commands.kept.is_empty());
}

#[test]
fn a_header_that_is_cut_goes_on_when_it_is_whole() {
    let mut commands = Commands::new(ALL, hold(false));
    let bytes = packet(0, b"\x03KISS");
    let passed = commands.pass(&bytes[..3]);
    assert_eq!((passed.forward, passed.taken, passed.held.is_some(), commands.to_boundary()), (0, 3, false, 1));
    let passed = commands.pass(&bytes[3..7]);
    assert_eq!((passed.forward, passed.taken, commands.to_boundary()), (0, 4, 2), "it may be a KILL");
    let passed = commands.pass(&bytes[7..]);
    assert_eq!((passed.release.as_slice(), passed.forward, passed.taken), (&bytes[..7], 2, 2));
    assert_eq!(commands.to_boundary(), 0);
}

/// A packet, and whether it is held.
fn a_command() -> impl Strategy<Value = (Vec<u8>, bool)> {
    let body = prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        (prop::sample::select(vec![1_u8, 3, 0x0e, 0x16, 0x17, 0x1f, 0xfa]), body.clone())
            .prop_map(|(first, body)| (packet(0, &[&[first], b"x", body.as_slice()].concat()), false)),
        (prop::sample::select(vec![0x11_u8, 0x12, 0x13, 0x15, 0x1e, 0x20, 0x21, 0xfe]), body)
            .prop_map(|(first, body)| (packet(0, &[&[first], body.as_slice()].concat()), true)),
        any::<u32>().prop_map(|id| (packet(0, format!("\x03 /* */ KILL QUERY {id} ;").as_bytes()), id >= 0x8000_0000)),
        any::<u32>().prop_map(|id| (packet(0, &[&[0x0c], id.to_le_bytes().as_slice()].concat()), id >= 0x8000_0000)),
        any::<bool>().prop_map(|own| (packet(0, if own { b"\x02orders" } else { b"\x02others" }), own)),
        any::<bool>().prop_map(|own| (packet(0, if own { b"\x03Use\n`orders`" } else { b"\x03USE `orders" }), own)),
        Just((packet(0, b""), false)),
    ]
}

proptest! {
    #[test]
    fn commands_are_held_or_passed_however_they_are_cut(
        commands in prop::collection::vec(a_command(), 0..12),
        cuts in prop::collection::vec(1_usize..30, 1..20),
    ) {
        let mut wanted = Seen::default();
        for (packet, held) in &commands {
            if *held {
                wanted.turns.push((std::mem::take(&mut wanted.last), packet.clone()));
            } else {
                wanted.last.extend_from_slice(packet);
            }
        }
        let bytes: Vec<u8> = commands.into_iter().flat_map(|(packet, _)| packet).collect();
        prop_assert_eq!(&seen(&mut Commands::new(NO_FILES, hold(false)), &bytes, &cuts), &wanted);
        prop_assert_eq!(&whole(NO_FILES, hold(false), &bytes), &wanted);
    }

    #[test]
    fn any_bytes_are_judged_the_same_however_they_are_cut(
        packets in prop::collection::vec((0_usize..12, prop::sample::select(vec![0_u8, 0, 0, 1, 255]), prop::collection::vec(any::<u8>(), 0..12)), 0..12),
        first in prop::sample::select(vec![2_u8, 3, 0x0c, 0x11, 0x12, 0xef]),
        cuts in prop::collection::vec(1_usize..9, 1..20),
        files: bool,
        attributes: bool,
        replication: bool,
    ) {
        let mut bytes = Vec::new();
        for (length, sequence, mut body) in packets {
            if let Some(slot) = body.first_mut() {
                *slot = first;
            }
            bytes.extend([u8::try_from(length).unwrap(), 0, 0, sequence]);
            bytes.extend(body);
        }
        let client = if files { ALL } else { NO_FILES };
        let client = if attributes { client.or(Capabilities::QUERY_ATTRIBUTES) } else { client };
        let mut cut = Commands::new(client, hold(replication));
        let mut uncut = Commands::new(client, hold(replication));
        let seen_cut = seen(&mut cut, &bytes, &cuts);
        prop_assert_eq!(&seen_cut, &seen(&mut uncut, &bytes, &[bytes.len().max(1)]));
        prop_assert_eq!(cut.to_boundary(), uncut.to_boundary());
        prop_assert_eq!(&*cut.kept, &*uncut.kept);
        if !seen_cut.refused {
            let all: Vec<u8> = seen_cut.turns.into_iter().flat_map(|(passed, held)| [passed, held].concat()).collect();
            prop_assert_eq!([all.as_slice(), &seen_cut.last, &cut.kept].concat(), bytes, "nothing is lost");
        }
    }

    #[test]
    fn the_packets_of_an_upstream_are_known_however_they_are_cut(
        packets in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..20)), 1..8),
        cuts in prop::collection::vec(1_usize..9, 1..200),
    ) {
        let (mut bytes, mut ends) = (Vec::new(), vec![(0, None)]);
        for (sequence, body) in &packets {
            bytes.extend(packet(*sequence, body));
            ends.push((bytes.len(), Some((*sequence, body.first().copied()))));
        }
        let (mut answers, mut at) = (Answers::default(), 0);
        for cut in cuts {
            let end = (at + cut).min(bytes.len());
            prop_assert_eq!(answers.pass(&bytes[at..end]).forward, end - at);
            at = end;
            let (next, last) = ends.iter().find(|(end, _)| *end >= at).unwrap();
            prop_assert_eq!(answers.to_boundary() == 0, *next == at);
            prop_assert!(answers.to_boundary() <= next - at, "never past a boundary");
            if *next == at {
                prop_assert_eq!(answers.last(), *last);
            }
        }
    }
}

#[test]
fn a_long_answer_is_one_message() {
    let mut answers = Answers::default();
    answers.pass(&[0xff, 0xff, 0xff, 7, 0x0a]);
    assert_eq!((answers.to_boundary(), answers.last()), (PART - 1 + HEADER, Some((7, Some(0x0a)))));
    answers.pass(&vec![0; PART - 1]);
    assert_eq!(answers.to_boundary(), HEADER, "no boundary between its parts");
    answers.pass(&[1, 0, 0, 8]);
    answers.pass(&[0xff]);
    assert_eq!((answers.to_boundary(), answers.last()), (0, Some((8, Some(0x0a)))));
}

#[test]
fn the_place_is_the_number_that_a_client_waits_for() {
    let mut answers = Answers::default();
    let place = answers.place();
    assert_eq!(place.next(), 1, "nothing was answered yet");
    // A result set of one column: count, column, EOF, row, EOF.
    let packets: [(&[u8], u8); 5] = [(&[1], 2), (b"\x03def", 3), (&[0xfe, 0, 0, 2, 0], 1), (b"\x011", 5), (&[0xfe, 0, 0, 2, 0], 1)];
    for (sequence, (payload, next)) in (1..).zip(packets) {
        answers.pass(&packet::framed(sequence, payload));
        assert_eq!(place.next(), next, "after packet {sequence}");
    }
}

#[test]
fn a_row_of_a_prepared_statement_is_no_end_of_an_answer_and_the_ok_of_a_call_is() {
    let mut answers = Answers::default();
    let place = answers.place();
    let ok: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
    let long_ok = [ok, b"Rows matched: 1"].concat();
    let row: &[u8] = b"\0\0\x06abcdef";
    let end: &[u8] = &[0xfe, 0, 0, 2, 0];
    let packets =
        [(1, &*long_ok, 1), (1, ok, 1), (5, row, 6), (255, row, 0), (0, row, 1), (1, row, 2), (9, ok, 1), (0, end, 1), (1, &long_ok, 1)];
    for (sequence, payload, next) in packets {
        answers.pass(&packet::framed(sequence, payload));
        assert_eq!(place.next(), next, "after packet {sequence}");
    }
}

#[test]
fn a_quit_is_a_goodbye_and_nothing_else_is() {
    let mut commands = Commands::new(Capabilities::NONE, Hold::default());
    for (payload, goodbye) in [(&[command::QUERY, b'q'][..], false), (&[command::QUIT], true), (&[command::QUIT, 0], false)] {
        commands.pass(&packet::framed(0, payload));
        assert_eq!(commands.said_goodbye(), goodbye, "{payload:?}");
    }
}
