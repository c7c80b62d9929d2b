//! Rule 29: whoever breaks the rules of channels ends the link.

use super::*;

/// Our numbers in [`world`].
const TCP: u32 = 0;
const UNDECIDED: u32 = 1;
const SESSION: u32 = 2;
/// The peer has closed it …
const LEFT: u32 = 3;
/// … and we this one.
const CLOSED: u32 = 4;
/// The peer said EOF.
const ENDED: u32 = 5;
/// Both have closed it.
const GONE: u32 = 6;
const NEVER: u32 = 7;

/// A channel of each kind and in each state.
fn world() -> Channels {
    let mut channels = Channels::new();
    for number in 0..7 {
        let message = if number == SESSION { session(number) } else { direct(number, u32::MAX - 1, PACKET) };
        assert!(channels.receive(&message).is_ok());
        assert_eq!(channels.confirm(ChannelId(number)).is_none(), number == SESSION, "a session is confirmed already");
        if number == UNDECIDED {
            channels.channels.remove(&UNDECIDED);
        }
    }
    channels.next = UNDECIDED;
    assert_eq!(opened(&mut channels, &direct(UNDECIDED, WINDOW, PACKET)), ChannelId(UNDECIDED));
    channels.next = NEVER;
    assert_eq!(channels.receive(&close(LEFT)), Ok(Action::Close(ChannelId(LEFT))));
    assert!(channels.close(ChannelId(CLOSED)).is_some());
    assert_eq!(channels.receive(&eof(ENDED)), Ok(Action::Eof(ChannelId(ENDED))));
    assert!(channels.close(ChannelId(GONE)).is_some());
    assert_eq!(channels.receive(&close(GONE)), Ok(Action::Nothing));
    channels
}

/// So much data in the longest messages, and then these.
fn behind(recipient: u32, length: usize, last: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let filling = vec![0; length];
    filling.chunks(packet()).map(|chunk| data(recipient, chunk)).chain(last.iter().cloned()).collect()
}

const MISSING: &str = "a message for a channel that does not exist";
const BEHIND: &str = "data behind the end of a channel";
const TOO_LONG: &str = "more data in a message than was agreed on";
const BEYOND: &str = "more data than the window allows";
const OVERFLOW: &str = "a window of more bytes than there are";
const UNASKED: &str = "an answer to what nobody asked";
const SHORT: &str = "a message is shorter than it says";
const LONG: &str = "a message is longer than it says";

/// Messages, of which all are good but the last, and what is wrong with it.
fn violations() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let long = vec![0; packet() + 1];
    let mut cases = vec![
        (BEYOND, behind(TCP, window(), &[data(TCP, b"x")])),
        (BEYOND, behind(TCP, window(), &[extended(TCP, b"x")])),
        (BEYOND, behind(TCP, window() - 7, &[data(TCP, b"12345678")])),
        (BEYOND, behind(CLOSED, window(), &[data(CLOSED, b"x")])),
        (TOO_LONG, vec![data(TCP, &long)]),
        (TOO_LONG, vec![extended(TCP, &long)]),
        (TOO_LONG, vec![data(SESSION, &long)]),
        (TOO_LONG, vec![data(CLOSED, &long)]),
        (OVERFLOW, vec![adjust(TCP, 1), adjust(TCP, 0), adjust(TCP, 1)]),
        (OVERFLOW, vec![adjust(SESSION, u32::MAX)]),
        ("an EOF behind the end of a channel", vec![eof(LEFT)]),
        ("a channel is closed twice", vec![close(LEFT)]),
        ("a request behind the end of a channel", vec![request(LEFT, b"eow@openssh.com", false, &[])]),
        (MISSING, vec![adjust(UNDECIDED, 1)]),
        (MISSING, vec![close(TCP), close(SESSION), close(CLOSED), close(CLOSED)]),
        (SHORT, vec![data(TCP, b"abc")[..8].to_vec()]),
        (LONG, vec![[data(TCP, b"abc"), vec![0]].concat()]),
        (SHORT, vec![adjust(GONE, 1)[..8].to_vec()]),
        (LONG, vec![[eof(TCP), vec![0]].concat()]),
        (LONG, vec![open(b"session", 9, WINDOW, PACKET, &[0])]),
        (SHORT, vec![open(b"direct-tcpip", 9, WINDOW, PACKET, &target(b"web-1", 22, b"127.0.0.1", 1)[..20])]),
        (LONG, vec![open(b"direct-tcpip", 9, WINDOW, PACKET, &[target(b"web-1", 22, b"127.0.0.1", 1), vec![0]].concat())]),
        (LONG, vec![request(SESSION, b"shell", true, &[0])]),
        (SHORT, vec![request(SESSION, b"exec", true, &[])]),
        (SHORT, vec![request(SESSION, b"exec", true, &[0, 0, 0, 2, b'x'])]),
        (LONG, vec![request(SESSION, b"subsystem", true, &[0, 0, 0, 0, b'x'])]),
    ];
    for number in [LEFT, ENDED] {
        cases.push((BEHIND, vec![data(number, b"x")]));
        cases.push((BEHIND, vec![data(number, b"")]));
        cases.push((BEHIND, vec![extended(number, b"x")]));
    }
    for number in [UNDECIDED, GONE, NEVER, u32::MAX] {
        let request = request(number, b"shell", true, &[]);
        cases.extend([data(number, b"x"), extended(number, b"x"), eof(number), close(number), request].map(|last| (MISSING, vec![last])));
    }
    let confirmation = Message::Confirmation { recipient: TCP, sender: 0, window: 0, packet: 0, rest: &[] };
    let failure = Message::OpenFailure { recipient: TCP, reason: 1, text: &[], language: &[] };
    let answers = [
        Message::RequestSuccess { rest: &[] },
        Message::RequestFailure,
        confirmation,
        failure,
        Message::Success { recipient: TCP },
        Message::Failure { recipient: TCP },
    ];
    cases.extend(answers.map(|answer| (UNASKED, vec![answer.write()])));
    cases
}

#[test]
fn rule_29_whoever_breaks_the_rules_of_channels_ends_the_link() {
    for (wrong, messages) in violations() {
        let mut channels = world();
        let (last, good) = messages.split_last().unwrap();
        for message in good {
            assert!(channels.receive(message).is_ok(), "too early: {wrong}");
        }
        assert_eq!(channels.receive(last), Err(Fatal::Protocol(wrong)), "{:?}", &last[..last.len().min(40)]);
    }
}

/// What stands beside each of the violations and is none.
#[test]
fn what_a_peer_may_do_at_the_border_of_the_rules() {
    let allowed: [(Vec<Vec<u8>>, Action); 11] = [
        (behind(TCP, window(), &[data(TCP, b"")]), Action::Data(ChannelId(TCP))),
        (behind(TCP, window() - 7, &[data(TCP, b"1234567")]), Action::Data(ChannelId(TCP))),
        // It did not know yet that we were through; nobody gives it any of that back.
        (behind(CLOSED, window(), &[data(CLOSED, b"")]), Action::Nothing),
        (vec![eof(CLOSED)], Action::Eof(ChannelId(CLOSED))),
        // Some clients say it each time that somebody closes their end.
        (vec![eof(ENDED)], Action::Nothing),
        (vec![close(ENDED)], Action::Close(ChannelId(ENDED))),
        (vec![adjust(TCP, 1)], Action::Room(ChannelId(TCP))),
        (vec![adjust(ENDED, 1)], Action::Room(ChannelId(ENDED))),
        // Another of the client's threads did not know yet.
        (vec![adjust(LEFT, 1)], Action::Room(ChannelId(LEFT))),
        (vec![adjust(GONE, u32::MAX), adjust(GONE, u32::MAX)], Action::Nothing),
        (vec![request(ENDED, b"eow@openssh.com", false, &[])], Action::Nothing),
    ];
    for (messages, expected) in allowed {
        let mut channels = world();
        let (last, before) = messages.split_last().unwrap();
        for message in before {
            assert!(channels.receive(message).is_ok());
        }
        assert_eq!(channels.receive(last), Ok(expected), "{:?}", &last[..last.len().min(40)]);
    }
}
