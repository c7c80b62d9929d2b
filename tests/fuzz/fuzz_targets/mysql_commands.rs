//! What a client sends after its login, and what a server does: cut at random it passes, and is held back, as if it came at once. The first
//! bytes say what the client can do, then how the rest is cut.
#![no_main]

use keyward::mysql::capabilities::Capabilities;
use keyward::mysql::framer::{Answers, Commands, Hold, held_command};
use keyward::relay::Framer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, Vec<u8>, &[u8])| {
    let (kind, cuts, bytes) = input;
    let has = |bit: u8, flag| if kind & bit == 0 { Capabilities::NONE } else { flag };
    let client = has(1, Capabilities::LOCAL_FILES).or(has(2, Capabilities::QUERY_ATTRIBUTES));
    let commands = || {
        let own_name = (kind & 4 != 0).then(|| b"orders".to_vec());
        Commands::new(client, Hold { own_name, replication: kind & 8 != 0 })
    };
    let whole = seen(&mut commands(), bytes, &[]);
    let cut = seen(&mut commands(), bytes, &cuts);
    assert!(whole == cut, "{whole:?} of the whole, {cut:?} of the pieces");
    let passed: Vec<u8> = cut.parts.concat();
    assert!(bytes.starts_with(&passed), "nothing is made up, nothing is left out");
    answers(bytes, &cuts);
});

/// What passed and what was held, in turns.
#[derive(Default, Debug, PartialEq)]
struct Seen {
    parts: Vec<Vec<u8>>,
    refused: bool,
    to_boundary: usize,
}

fn pieces<'a>(bytes: &'a [u8], cuts: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    let cuts = if cuts.is_empty() { vec![usize::MAX] } else { cuts.iter().map(|cut| usize::from(*cut).max(1)).collect() };
    let (mut rest, mut cuts) = (bytes, cuts.into_iter().cycle());
    std::iter::from_fn(move || {
        let piece;
        (piece, rest) = rest.split_at(cuts.next()?.min(rest.len()));
        (!piece.is_empty()).then_some(piece)
    })
}

fn seen(commands: &mut Commands, bytes: &[u8], cuts: &[u8]) -> Seen {
    let (mut seen, mut last) = (Seen::default(), Vec::new());
    for mut piece in pieces(bytes, cuts) {
        while !piece.is_empty() {
            let passed = commands.pass(piece);
            last.extend_from_slice(&passed.release);
            last.extend_from_slice(&piece[..passed.forward]);
            assert!(passed.forward <= passed.taken);
            assert!(passed.taken == piece.len() || passed.held.is_some(), "what is left has a reason");
            piece = &piece[passed.taken..];
            let Some(held) = passed.held else { continue };
            if held_command(&held).is_none() {
                let again = commands.pass(bytes);
                assert!(again.forward == 0 && again.release.is_empty() && again.held.is_some(), "nothing passes any more");
                return Seen { parts: [seen.parts, vec![last]].concat(), refused: true, to_boundary: 0 };
            }
            seen.parts.extend([std::mem::take(&mut last), held.to_vec()]);
        }
    }
    seen.parts.push(last);
    seen.to_boundary = commands.to_boundary();
    seen
}

/// Boundaries and the last packet of a server, against one that sees all bytes at once.
fn answers(bytes: &[u8], cuts: &[u8]) {
    let (mut whole, mut cut) = (Answers::default(), Answers::default());
    whole.pass(bytes);
    let mut left = bytes.len();
    for piece in pieces(bytes, cuts) {
        assert_eq!(cut.pass(piece).forward, piece.len());
        left -= piece.len();
        assert!(left == 0 || cut.to_boundary() <= 0xff_ff_ff + 4);
    }
    assert_eq!((whole.to_boundary(), whole.last()), (cut.to_boundary(), cut.last()));
}
