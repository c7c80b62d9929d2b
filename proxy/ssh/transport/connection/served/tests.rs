mod peers;
mod sessions;
mod violations;
mod windows;

use super::super::message::{FAILURE, OPEN_FAILURE, REQUEST_FAILURE, REQUEST_SUCCESS, SUCCESS};
use super::*;
use crate::message::CONNECTION;
use crate::wire::Put;

/// What the peer of these tests calls its first channel.
const PEERS: u32 = 700;

fn window() -> usize {
    usize::try_from(WINDOW).unwrap()
}

fn packet() -> usize {
    usize::try_from(PACKET).unwrap()
}

fn open(kind: &[u8], sender: u32, window: u32, packet: u32, rest: &[u8]) -> Vec<u8> {
    Message::Open { kind, sender, window, packet, rest }.write()
}

fn target(host: &[u8], port: u32, originator: &[u8], originator_port: u32) -> Vec<u8> {
    let mut rest = Vec::new();
    rest.put_string(host).put_u32(port).put_string(originator).put_u32(originator_port);
    rest
}

fn direct(sender: u32, window: u32, packet: u32) -> Vec<u8> {
    open(b"direct-tcpip", sender, window, packet, &target(b"web-1", 22, b"127.0.0.1", 65535))
}

fn session(sender: u32) -> Vec<u8> {
    open(b"session", sender, WINDOW, PACKET, &[])
}

fn data(recipient: u32, data: &[u8]) -> Vec<u8> {
    Message::Data { recipient, data }.write()
}

fn extended(recipient: u32, data: &[u8]) -> Vec<u8> {
    Message::ExtendedData { recipient, kind: 1, data }.write()
}

fn adjust(recipient: u32, bytes: u32) -> Vec<u8> {
    Message::WindowAdjust { recipient, bytes }.write()
}

fn eof(recipient: u32) -> Vec<u8> {
    Message::Eof { recipient }.write()
}

fn close(recipient: u32) -> Vec<u8> {
    Message::Close { recipient }.write()
}

fn request(recipient: u32, name: &[u8], wants_reply: bool, rest: &[u8]) -> Vec<u8> {
    Message::Request { recipient, name, wants_reply, rest }.write()
}

fn global(name: &[u8], wants_reply: bool) -> Vec<u8> {
    Message::GlobalRequest { name, wants_reply, rest: &[] }.write()
}

/// The peer opens a channel, which is not decided yet.
fn opened(channels: &mut Channels, message: &[u8]) -> ChannelId {
    match channels.receive(message) {
        Ok(Action::Open { id, .. }) => id,
        action => panic!("{action:?}"),
    }
}

/// One channel, which the peer calls [`PEERS`] and gives so much.
fn served_with(window: u32, packet: u32) -> (Channels, ChannelId) {
    let mut channels = Channels::new();
    let id = opened(&mut channels, &direct(PEERS, window, packet));
    assert!(channels.confirm(id).is_some());
    (channels, id)
}

fn served() -> (Channels, ChannelId) {
    served_with(WINDOW, PACKET)
}

/// A message of ours with at most so much data; the data.
fn sent(channels: &mut Channels, id: ChannelId, bytes: &[u8]) -> Vec<u8> {
    let mut message = vec![1, 2, 3];
    let length = channels.data(id, bytes, &mut message);
    if length == 0 {
        assert!(message.is_empty(), "nothing is left to be sent by mistake");
        return Vec::new();
    }
    let Ok(Some(Message::Data { recipient: PEERS, data })) = Message::read(&message) else { panic!("{message:?}") };
    assert_eq!(data, &bytes[..length]);
    data.to_vec()
}

#[test]
fn a_channel_is_opened_used_and_closed() {
    let mut channels = Channels::new();
    let message = direct(PEERS, 5000, 1000);
    let Ok(Action::Open { id, target }) = channels.receive(&message) else { panic!() };
    assert_eq!(target, Target { host: "web-1", port: 22, originator: "127.0.0.1", originator_port: 65535 });
    let confirmation = Message::Confirmation { recipient: PEERS, sender: id.0, window: WINDOW, packet: PACKET, rest: &[] };
    assert_eq!(channels.confirm(id), Some(confirmation.write()));
    assert_eq!(channels.receive(&data(id.0, b"SSH-2.0-x\r\n")), Ok(Action::Data(id)));
    assert_eq!(channels.unread(id), b"SSH-2.0-x\r\n");
    assert_eq!(channels.consumed(id, 11), None);
    assert_eq!(channels.unread(id), b"");
    assert_eq!(sent(&mut channels, id, b"SSH-2.0-y\r\n"), b"SSH-2.0-y\r\n");
    assert_eq!(channels.eof(id), Some(eof(PEERS)));
    assert_eq!(channels.receive(&eof(id.0)), Ok(Action::Eof(id)));
    assert_eq!(channels.close(id), Some(close(PEERS)));
    assert_eq!(channels.len(), 1, "the peer still knows it");
    assert_eq!(channels.receive(&close(id.0)), Ok(Action::Nothing));
    assert!(channels.is_empty());
}

#[test]
fn a_channel_is_gone_when_both_sides_closed_it_whoever_is_first() {
    let (mut channels, id) = served();
    assert_eq!(channels.receive(&data(id.0, b"the last words")), Ok(Action::Data(id)));
    assert_eq!(channels.receive(&close(id.0)), Ok(Action::Close(id)));
    assert_eq!(channels.unread(id), b"the last words", "they can still be read");
    assert_eq!((channels.room(id), channels.eof(id)), (0, None), "nobody hears anything any more");
    assert_eq!(channels.consumed(id, 14), None);
    assert_eq!(channels.len(), 1);
    assert_eq!(channels.close(id), Some(close(PEERS)));
    assert!(channels.is_empty());
}

#[test]
fn what_is_said_of_a_channel_that_is_gone_or_undecided_comes_to_nothing() {
    let (mut channels, gone) = served();
    assert!(channels.close(gone).is_some());
    assert_eq!(channels.receive(&close(gone.0)), Ok(Action::Nothing));
    let undecided = opened(&mut channels, &direct(PEERS, WINDOW, PACKET));
    assert_ne!(gone, undecided);
    for id in [gone, undecided] {
        assert_eq!((channels.room(id), channels.unread(id)), (0, &b""[..]));
        assert_eq!([channels.consumed(id, 5), channels.eof(id), channels.close(id), channels.exit_status(id, 0)], [const { None }; 4]);
        assert_eq!(sent(&mut channels, id, b"x"), b"");
    }
    assert_eq!([channels.confirm(gone), channels.refuse(gone, 1, "")], [None, None]);
    // Two decisions are one too many.
    assert!(channels.confirm(undecided).is_some());
    assert_eq!([channels.confirm(undecided), channels.refuse(undecided, 1, "")], [None, None]);
    assert_eq!(channels.len(), 1);
}

#[test]
fn what_is_decided_late_holds_up_nobody() {
    let mut channels = Channels::new();
    let first = opened(&mut channels, &direct(PEERS, WINDOW, PACKET));
    let second = opened(&mut channels, &direct(PEERS + 1, WINDOW, PACKET));
    let third = opened(&mut channels, &direct(PEERS + 2, WINDOW, PACKET));
    assert!(channels.confirm(third).is_some());
    assert_eq!(channels.receive(&data(third.0, b"x")), Ok(Action::Data(third)));
    assert_eq!(channels.receive(&global(b"keepalive@openssh.com", true)), Ok(Action::Answer(vec![REQUEST_FAILURE])));
    let failure = Message::OpenFailure { recipient: PEERS + 1, reason: 1, text: b"no", language: b"" };
    assert_eq!(channels.refuse(second, reason::ADMINISTRATIVELY_PROHIBITED, "no"), Some(failure.write()));
    assert!(channels.confirm(first).is_some());
    assert_eq!(channels.len(), 2);
}

/// Rule 29: undecided channels count, and those that only one side has closed: of both the peer can make as many as it likes.
#[test]
fn rule_29_there_are_sixty_four_channels_and_not_one_more() {
    let mut channels = Channels::new();
    let ids: Vec<ChannelId> = (0..64).map(|number| opened(&mut channels, &direct(number, WINDOW, PACKET))).collect();
    for (id, number) in ids[..8].iter().zip(0..) {
        assert!(channels.confirm(*id).is_some());
        let _ = if number % 2 == 0 { channels.receive(&close(id.0)) == Ok(Action::Close(*id)) } else { channels.close(*id).is_some() };
    }
    for message in [direct(PEERS, WINDOW, PACKET), session(PEERS)] {
        let Ok(Action::Answer(answer)) = channels.receive(&message) else { panic!() };
        let Ok(Some(Message::OpenFailure { recipient: PEERS, reason: reason::RESOURCE_SHORTAGE, .. })) = Message::read(&answer) else {
            panic!("{answer:?}")
        };
    }
    assert_eq!(channels.len(), CHANNELS_MAX);
    // Each of the three ways to go makes place for one.
    assert!(channels.close(ids[0]).is_some());
    assert_eq!(channels.receive(&close(ids[1].0)), Ok(Action::Nothing));
    assert!(channels.refuse(ids[8], 1, "").is_some());
    let again: Vec<ChannelId> = (0..3).map(|number| opened(&mut channels, &direct(number, WINDOW, PACKET))).collect();
    assert!(again.iter().all(|id| !ids.contains(id)), "a late word about an old channel must not reach a new one");
    assert!(matches!(channels.receive(&direct(PEERS, WINDOW, PACKET)), Ok(Action::Answer(answer)) if answer[0] == OPEN_FAILURE));
}

#[test]
fn numbers_begin_anew_beside_those_in_use() {
    let (mut channels, id) = served();
    channels.next = u32::MAX;
    let last = opened(&mut channels, &direct(1, WINDOW, PACKET));
    let next = opened(&mut channels, &direct(2, WINDOW, PACKET));
    assert_eq!([id.0, last.0, next.0], [0, u32::MAX, 1]);
    assert_eq!(last.to_string(), "4294967295");
}

/// Rule 27: names are compared byte for byte.
#[test]
fn rule_27_other_kinds_of_channels_are_refused_and_named_so() {
    let mut channels = Channels::new();
    let rest = target(b"web-1", 22, b"127.0.0.1", 1);
    let kinds: [&[u8]; 9] = [
        b"",
        b"x11",
        b"forwarded-tcpip",
        b"direct-streamlocal@openssh.com",
        b"tun@openssh.com",
        b"auth-agent@openssh.com",
        b"SESSION",
        b"session\0",
        b"direct-tcpip ",
    ];
    for kind in kinds {
        let Ok(Action::Answer(answer)) = channels.receive(&open(kind, PEERS, WINDOW, PACKET, &rest)) else { panic!("{kind:?}") };
        let Ok(Some(Message::OpenFailure { recipient: PEERS, reason, .. })) = Message::read(&answer) else { panic!("{kind:?}") };
        assert_eq!(reason, reason::UNKNOWN_CHANNEL_TYPE, "{kind:?}");
    }
    assert!(channels.is_empty());
}

#[test]
fn rule_27_a_target_is_what_everybody_reads_in_it() {
    let long = [b'a'; 256];
    let good: [(&[u8], u32, &[u8], u32); 5] = [
        (b"web-1", 22, b"127.0.0.1", 65535),
        (b"10.0.0.7", 65535, b"", 0),
        (b"fe80::1%eth0", 1, b"::1", 70_000),
        (b"web-1.internal", 2222, b"server internal proxy", 0),
        (&long[1..], 22, &long[1..], 1),
    ];
    for (host, port, originator, originator_port) in good {
        let mut channels = Channels::new();
        let message = open(b"direct-tcpip", PEERS, WINDOW, PACKET, &target(host, port, originator, originator_port));
        let Ok(Action::Open { target, .. }) = channels.receive(&message) else { panic!("{host:?}") };
        assert_eq!((target.host.as_bytes(), u32::from(target.port)), (host, port));
        assert_eq!((target.originator.as_bytes(), target.originator_port), (originator, originator_port));
    }
    let bad: [(&[u8], u32, &[u8]); 9] = [
        (b"", 22, b"127.0.0.1"),
        (b"web-1", 0, b"127.0.0.1"),
        (b"web-1", 65536, b"127.0.0.1"),
        (b"web-1", 65558, b"127.0.0.1"),
        (b"web-1\0.other", 22, b"127.0.0.1"),
        (b"web-1\x1b[2J", 22, b"127.0.0.1"),
        ("wéb-1".as_bytes(), 22, b"127.0.0.1"),
        (b"web-1", 22, b"127.0.0.1\n"),
        (&long, 22, b"127.0.0.1"),
    ];
    for (host, port, originator) in bad {
        let mut channels = Channels::new();
        let message = open(b"direct-tcpip", PEERS, WINDOW, PACKET, &target(host, port, originator, 1));
        let Ok(Action::Answer(answer)) = channels.receive(&message) else { panic!("{host:?} {port}") };
        assert_eq!(answer[..9], [&[OPEN_FAILURE][..], &PEERS.to_be_bytes(), &1u32.to_be_bytes()].concat(), "{host:?} {port}");
        assert!(channels.is_empty());
    }
}

#[test]
fn a_message_with_another_number_is_not_understood() {
    let mut channels = Channels::new();
    for number in CONNECTION.filter(|number| !matches!(number, 80..=82 | 90..=100)) {
        assert_eq!(channels.receive(&[number, 0]), Ok(Action::Unknown), "{number}");
    }
}
