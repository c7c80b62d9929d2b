//! Rule 29: the windows of both directions, and what is kept.

use super::*;

fn fill(channels: &mut Channels, id: ChannelId, length: usize) {
    for chunk in vec![7; length].chunks(packet()) {
        assert_eq!(channels.receive(&data(id.0, chunk)), Ok(Action::Data(id)));
    }
}

/// Everything that waits in a channel.
fn waiting(channels: &Channels, id: ChannelId) -> usize {
    channels.channels.get(&id.0).map_or(0, |channel| channel.held().0)
}

/// Bytes that are allocated for it.
fn allocated(channels: &Channels, id: ChannelId) -> usize {
    channels.channels.get(&id.0).map_or(0, |channel| channel.held().1)
}

#[test]
fn rule_29_the_window_comes_back_when_half_of_it_was_consumed_and_not_before() {
    let (mut channels, id) = served();
    fill(&mut channels, id, window());
    assert_eq!(channels.consumed(id, window() / 2 - 1), None);
    assert_eq!(channels.consumed(id, 1), Some(adjust(PEERS, WINDOW / 2)));
    assert_eq!(channels.consumed(id, 10), None, "it was given back");
    fill(&mut channels, id, window() / 2);
    assert_eq!(waiting(&channels, id), window() - 10);
    assert_eq!(channels.receive(&data(id.0, b"x")), Err(Fatal::Protocol("more data than the window allows")));
}

#[test]
fn rule_29_no_more_is_given_back_than_came() {
    let (mut channels, id) = served();
    fill(&mut channels, id, window() - 1);
    let consumed = channels.consumed(id, usize::MAX);
    assert_eq!(consumed, Some(adjust(PEERS, WINDOW - 1)));
    assert_eq!(channels.unread(id), b"");
    assert_eq!(channels.consumed(id, usize::MAX), None);
    fill(&mut channels, id, window());
    assert!(channels.receive(&data(id.0, b"x")).is_err());
}

/// What is neither ours nor anybody's is paid for, and must not eat the window up.
#[test]
fn rule_29_extended_data_is_paid_for_and_given_back() {
    let (mut channels, id) = served();
    let mut given = 0;
    for _ in 0..100 {
        match channels.receive(&extended(id.0, &vec![7; packet()])) {
            Ok(Action::Nothing) => {}
            Ok(Action::Answer(answer)) if answer == adjust(PEERS, WINDOW / 2) => given += window() / 2,
            action => panic!("{action:?}"),
        }
    }
    assert_eq!(given, 100 * packet() / (window() / 2) * (window() / 2));
    assert_eq!(channels.unread(id), b"");
}

#[test]
fn who_sends_nothing_more_gets_no_window() {
    let (mut channels, id) = served();
    fill(&mut channels, id, window());
    assert_eq!(channels.receive(&eof(id.0)), Ok(Action::Eof(id)));
    assert_eq!(channels.consumed(id, window()), None);
    let (mut channels, id) = served();
    fill(&mut channels, id, window());
    assert_eq!(channels.receive(&close(id.0)), Ok(Action::Close(id)));
    assert_eq!(channels.consumed(id, window()), None);
}

#[test]
fn rule_29_what_is_sent_fits_into_the_peers_window_and_its_messages() {
    let cases =
        [(0, PACKET, 0), (5, PACKET, 5), (WINDOW, 1, 1), (WINDOW, 0, 0), (u32::MAX, u32::MAX, packet()), (WINDOW, PACKET, packet())];
    for (their_window, their_packet, room) in cases {
        let (mut channels, id) = served_with(their_window, their_packet);
        assert_eq!(channels.room(id), room, "{their_window} {their_packet}");
        assert_eq!(sent(&mut channels, id, &vec![9; 100_000]).len(), room);
    }
    let (mut channels, id) = served_with(250, 100);
    let lengths: Vec<usize> = (0..4).map(|_| sent(&mut channels, id, &[9; 1000]).len()).collect();
    assert_eq!(lengths, [100, 100, 50, 0]);
    assert_eq!(channels.receive(&adjust(id.0, 30)), Ok(Action::Room(id)));
    let mut message = Vec::new();
    assert_eq!(channels.stderr(id, &[9; 1000], &mut message), 30, "standard error has the same window");
    assert_eq!(channels.receive(&adjust(id.0, 30)), Ok(Action::Room(id)));
    assert_eq!(channels.room(id), 30);
    assert_eq!(sent(&mut channels, id, b""), b"");
    assert!(channels.eof(id).is_some());
    assert_eq!((channels.room(id), sent(&mut channels, id, b"x").len()), (0, 0), "nothing behind an EOF of ours");
}

#[test]
fn rule_29_nothing_is_allocated_by_announced_sizes_and_little_is_kept() {
    for (odd, messages) in [(1, 20_000), (77, 13_617), (17_000, 61), (packet(), 32)] {
        let (mut channels, id) = served_with(u32::MAX, u32::MAX);
        assert_eq!(allocated(&channels, id), 0);
        for _ in 0..messages {
            assert_eq!(channels.receive(&data(id.0, &vec![7; odd])), Ok(Action::Data(id)));
            assert!(allocated(&channels, id) <= window());
        }
        assert_eq!(waiting(&channels, id), odd * messages);
        while !channels.unread(id).is_empty() {
            let length = channels.unread(id).len().min(100_000);
            let _ = channels.consumed(id, length);
        }
        assert!(allocated(&channels, id) <= 64 * 1024, "{odd}");
    }
    let (mut channels, id) = served();
    fill(&mut channels, id, packet());
    assert!(channels.close(id).is_some());
    assert_eq!(allocated(&channels, id), 0, "nobody will read that");
    assert_eq!(channels.receive(&data(id.0, &[7; 100])), Ok(Action::Nothing));
    assert_eq!(allocated(&channels, id), 0);
}
