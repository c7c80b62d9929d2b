use proptest::prelude::*;

use super::*;

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(u32::MAX), any::<u32>()]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..40)
}

/// One of each kind, as the fields say.
fn message<'a>(kind: usize, [a, b, c, d]: [u32; 4], wants_reply: bool, name: &'a [u8], rest: &'a [u8]) -> Message<'a> {
    match kind {
        0 => Message::GlobalRequest { name, wants_reply, rest },
        1 => Message::RequestSuccess { rest },
        2 => Message::RequestFailure,
        3 => Message::Open { kind: name, sender: a, window: b, packet: c, rest },
        4 => Message::Confirmation { recipient: a, sender: b, window: c, packet: d, rest },
        5 => Message::OpenFailure { recipient: a, reason: b, text: name, language: rest },
        6 => Message::WindowAdjust { recipient: a, bytes: b },
        7 => Message::Data { recipient: a, data: rest },
        8 => Message::ExtendedData { recipient: a, kind: b, data: rest },
        9 => Message::Eof { recipient: a },
        10 => Message::Close { recipient: a },
        11 => Message::Request { recipient: a, name, wants_reply, rest },
        12 => Message::Success { recipient: a },
        _ => Message::Failure { recipient: a },
    }
}

const KINDS: usize = 14;

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        kind in 0..KINDS, numbers in [number(), number(), number(), number()], wants in any::<bool>(), name in bytes(), rest in bytes(),
    ) {
        let message = message(kind, numbers, wants, &name, &rest);
        let written = message.write();
        prop_assert_eq!(Message::read(&written), Ok(Some(message)));
    }

    /// Only what is a message to its last byte is one.
    #[test]
    fn any_bytes_are_read_or_refused_and_what_is_read_is_all_of_it(mut bytes in proptest::collection::vec(any::<u8>(), 1..60), number in 80..=100_u8) {
        bytes[0] = number;
        if let Ok(Some(message)) = Message::read(&bytes) {
            let mut written = message.write();
            // Every value but 0 is true (RFC 4251 section 5); we write 1.
            if let Message::GlobalRequest { name, wants_reply: true, .. } | Message::Request { name, wants_reply: true, .. } = message {
                let before = if number == REQUEST { 9 } else { 5 };
                written[before + name.len()] = bytes[before + name.len()];
            }
            prop_assert_eq!(written, bytes);
        }
    }
}

#[test]
fn a_message_that_is_cut_or_has_a_byte_too_many_is_none() {
    for kind in 0..KINDS {
        let whole = message(kind, [1, 2, 3, 4], true, b"name", b"").write();
        assert!(matches!(Message::read(&whole), Ok(Some(_))));
        for length in 0..whole.len() {
            assert!(Message::read(&whole[..length]).is_err(), "kind {kind}, {length} bytes");
        }
        let open_ended = matches!(whole[0], GLOBAL_REQUEST | REQUEST_SUCCESS | OPEN | OPEN_CONFIRMATION | REQUEST);
        let longer = [whole.as_slice(), &[0]].concat();
        assert_eq!(Message::read(&longer).is_ok(), open_ended, "kind {kind}: what follows a name belongs to the name");
    }
}

#[test]
fn an_announced_length_is_not_believed() {
    let mut message = vec![DATA];
    message.put_u32(0).put_u32(u32::MAX).put_bytes(b"short");
    assert!(Message::read(&message).is_err());
}

#[test]
fn other_numbers_are_no_messages_of_this_protocol() {
    for number in (0..=79).chain(83..=89).chain(101..=255) {
        assert_eq!(Message::read(&[number, 1, 2]), Ok(None), "{number}");
    }
}
