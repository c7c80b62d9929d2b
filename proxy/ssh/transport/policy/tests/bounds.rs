//! Rule 28: channels by the numbers of both sides; what a peer can make us keep.

use super::super::table::CHANNELS_MAX;
use super::*;

fn data(recipient: u32) -> Message<'static> {
    Message::Data { recipient, data: b"contents" }
}

#[test]
fn contents_pass_once_a_channel_is_confirmed_and_until_its_sender_closes_it() {
    let mut bed = Bed::new(&[]);
    bed.client(open(b"session", 3, b""));
    for looked in [bed.client(data(7)), bed.server(data(3))] {
        assert!(matches!(looked.verdict, Verdict::Broken(_)), "{looked:?}");
    }
    bed.server(confirmation(3, 7));
    let both = |bed: &mut Bed| [bed.client(data(7)).verdict, bed.server(data(3)).verdict];
    assert_eq!(both(&mut bed), [Verdict::Pass, Verdict::Pass]);
    let stderr = Message::ExtendedData { recipient: 3, kind: 1, data: b"e" };
    assert_eq!(bed.server(stderr).verdict, Verdict::Pass);
    assert_eq!(bed.client(Message::Eof { recipient: 7 }).verdict, Verdict::Pass);
    assert_eq!(bed.client(Message::Close { recipient: 7 }).verdict, Verdict::Pass);
    assert_eq!(both(&mut bed), [Verdict::Drop, Verdict::Pass]);
    assert_eq!(bed.client(Message::Close { recipient: 7 }).verdict, Verdict::Drop);
    assert_eq!(bed.client(Message::Request { recipient: 7, name: b"window-change", wants_reply: false, rest: b"" }).verdict, Verdict::Drop);
    assert_eq!(bed.server(Message::Close { recipient: 3 }).verdict, Verdict::Pass);
    assert_eq!(bed.policy.table.sizes(), [0; 3]);
    for looked in
        [bed.client(data(7)), bed.server(data(3)), bed.server(Message::Close { recipient: 3 }), bed.client(Message::Eof { recipient: 7 })]
    {
        assert!(matches!(looked.verdict, Verdict::Broken(_)), "{looked:?}");
    }
}

/// OpenSSH's ends only log these when a channel is gone.
#[test]
fn a_window_a_request_or_an_answer_for_a_channel_that_is_gone_is_dropped() {
    let mut bed = Bed::new(&Permission::ALL);
    for message in [
        Message::WindowAdjust { recipient: 5, bytes: 10 },
        Message::Request { recipient: 5, name: b"shell", wants_reply: true, rest: b"" },
        Message::Success { recipient: 5 },
        Message::Failure { recipient: 5 },
    ] {
        for looked in [bed.client(message), bed.server(message)] {
            assert_eq!((looked.verdict, looked.event), (Verdict::Drop, None));
        }
    }
}

#[test]
fn each_side_speaks_by_the_numbers_of_the_other() {
    let mut bed = Bed::new(&[Permission::RemoteForward]);
    bed.opened(b"session", b"", [0, 1]);
    bed.opened(b"session", b"", [1, 0]);
    bed.client(Message::Close { recipient: 1 });
    assert_eq!(bed.client(data(1)).verdict, Verdict::Drop, "the first is closed");
    assert_eq!(bed.client(data(0)).verdict, Verdict::Pass, "the second is not");
    bed.server(Message::Close { recipient: 0 });
    assert_eq!(bed.policy.table.sizes(), [1; 3]);
    bed.asks_all(b"tcpip-forward", false, &place(b"", 80));
    assert_eq!(bed.server(open(b"forwarded-tcpip", 1, &to(b"", 80))).verdict, Verdict::Pass);
    assert!(matches!(bed.client(data(1)).verdict, Verdict::Broken(_)), "the server's 1 is not confirmed");
}

#[test]
fn a_number_that_is_in_use_and_an_answer_to_nothing_end_the_session() {
    let broken = |looked: Looked| assert!(matches!(looked.verdict, Verdict::Broken(_)), "{looked:?}");
    let failure = |recipient| Message::OpenFailure { recipient, reason: 2, text: b"", language: b"" };
    let mut bed = Bed::session(&Permission::ALL);
    broken(bed.client(open(b"session", 3, b"")));
    broken(bed.client(open(b"direct-tcpip", 3, &to(b"a", 1))));
    broken(bed.server(confirmation(3, 8)));
    broken(bed.server(failure(3)));
    broken(bed.server(confirmation(99, 8)));
    broken(bed.client(failure(7)));
    bed.client(open(b"session", 4, b""));
    broken(bed.server(confirmation(4, 7)));
    let mut bed = Bed::new(&Permission::ALL);
    bed.asks_all(b"tcpip-forward", false, &place(b"", 80));
    bed.server(open(b"forwarded-tcpip", 5, &to(b"", 80)));
    broken(bed.server(confirmation(5, 6)));
    broken(bed.server(open(b"forwarded-tcpip", 5, &to(b"", 80))));
    assert_eq!(bed.client(confirmation(5, 6)).verdict, Verdict::Pass);
    broken(bed.client(confirmation(5, 7)));
}

#[test]
fn a_channel_that_was_refused_is_gone() {
    let mut bed = Bed::new(&[]);
    bed.client(open(b"session", 3, b""));
    assert_eq!(bed.server(Message::OpenFailure { recipient: 3, reason: 4, text: b"no", language: b"" }).verdict, Verdict::Pass);
    assert_eq!(bed.policy.table.sizes(), [0; 3]);
    bed.opened(b"session", b"", [3, 7]);
}

#[test]
fn one_channel_more_than_there_may_be_is_refused_to_either_side() {
    let mut bed = Bed::new(&[Permission::LocalForward, Permission::RemoteForward]);
    bed.asks_all(b"tcpip-forward", false, &place(b"", 80));
    let many = u32::try_from(CHANNELS_MAX).unwrap();
    (0..many).for_each(|number| bed.opened(b"session", b"", [number, number + 9]));
    let text: &[u8] = b"keyward: too many channels are open";
    let refused =
        |recipient| Verdict::Answer(Message::OpenFailure { recipient, reason: reason::RESOURCE_SHORTAGE, text, language: b"" }.write());
    assert_eq!(bed.client(open(b"session", many, b"")).verdict, refused(many));
    assert_eq!(bed.client(open(b"direct-tcpip", many, &to(b"a", 1))).verdict, refused(many));
    assert_eq!(bed.server(open(b"forwarded-tcpip", 1, &to(b"", 80))).verdict, refused(1));
    assert_eq!(bed.policy.table.sizes(), [CHANNELS_MAX; 3]);
    bed.client(Message::Close { recipient: 9 });
    bed.server(Message::Close { recipient: 0 });
    bed.opened(b"session", b"", [0, 9]);
}

#[test]
fn places_and_requests_without_an_answer_are_bounded() {
    let mut bed = Bed::new(&[Permission::RemoteForward]);
    let looked: Vec<_> = (1..=300).map(|port| bed.asks_all(b"tcpip-forward", false, &place(b"", port))).collect();
    assert_eq!(looked.iter().filter(|looked| looked.verdict == Verdict::Pass).count(), 256);
    assert_eq!(looked.last().and_then(decided).map(|(_, decision)| decision), Some(Decision::Refused));
    let verdicts: Vec<_> = (0..1100).map(|_| bed.asks_all(b"keepalive@openssh.com", true, b"").verdict).collect();
    assert_eq!(verdicts.iter().position(|verdict| matches!(verdict, Verdict::Broken(_))), Some(1024));
    assert_eq!(bed.policy.forwards.sizes(), [256, 1024]);
    let long = bed.asks_all(b"tcpip-forward", false, &place(&[b'a'; 5000], 1));
    assert!(matches!(long.verdict, Verdict::Broken(_)));
}
