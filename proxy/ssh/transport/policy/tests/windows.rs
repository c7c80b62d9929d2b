//! Words of ours in a channel whose window is not ours.

use super::super::window::RESERVE;
use super::*;

/// The words in a message for the client's channel 3.
fn words(message: &[u8]) -> String {
    match Message::read(message) {
        Ok(Some(Message::ExtendedData { recipient: 3, kind: 1, data })) => String::from_utf8(data.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn window_of(verdict: Verdict) -> u32 {
    let Verdict::Replace(message) = verdict else { panic!("{verdict:?}") };
    let Ok(Some(Message::Open { window, kind: b"session", sender: 3, packet: PACKET, rest: b"" })) = Message::read(&message) else {
        panic!("{message:?}")
    };
    window
}

#[test]
fn the_server_hears_of_a_smaller_window_and_what_we_say_is_withheld_from_the_next_adjustments() {
    let mut bed = Bed::new(&[]);
    assert_eq!(window_of(bed.client(open(b"session", 3, b"")).verdict), WINDOW - RESERVE);
    assert!(bed.policy.say("too early").is_empty());
    bed.server(confirmation(3, 7));
    let adjust = |bytes| Message::WindowAdjust { recipient: 7, bytes };
    assert_eq!(bed.client(adjust(5)).verdict, Verdict::Pass, "nothing was said");
    let said = bed.policy.say("hello");
    assert_eq!(said.iter().map(|message| words(message)).collect::<Vec<_>>(), ["hello\n"]);
    assert_eq!(bed.client(adjust(4)).verdict, Verdict::Drop);
    assert_eq!(bed.client(adjust(10)).verdict, Verdict::Replace(adjust(8).write()));
    assert_eq!(bed.client(adjust(10)).verdict, Verdict::Pass);
    assert_eq!(bed.server(Message::WindowAdjust { recipient: 3, bytes: 10 }).verdict, Verdict::Pass);
}

#[test]
fn more_than_the_reserve_is_never_said_until_the_client_has_given_it_back() {
    let mut bed = Bed::session(&[]);
    let long = "é".repeat(800);
    let lengths = |bed: &mut Bed| bed.policy.say(&long).iter().map(|message| words(message).len()).collect::<Vec<_>>();
    assert_eq!([lengths(&mut bed), lengths(&mut bed), lengths(&mut bed)], [vec![501], vec![501], vec![]]);
    assert_eq!(bed.policy.say("twenty-two bytes long").len(), 1, "a line that still fits");
    assert!(bed.policy.say("").is_empty());
    bed.client(Message::WindowAdjust { recipient: 7, bytes: 500 });
    assert!(lengths(&mut bed).is_empty());
    bed.client(Message::WindowAdjust { recipient: 7, bytes: 1 });
    assert_eq!(lengths(&mut bed), [501]);
}

#[test]
fn a_small_window_is_left_alone_and_a_small_packet_is_kept_to() {
    let mut bed = Bed::new(&[]);
    let small = Message::Open { kind: b"session", sender: 3, window: 8191, packet: PACKET, rest: b"" };
    assert_eq!(bed.client(small).verdict, Verdict::Pass);
    bed.server(confirmation(3, 7));
    assert!(bed.policy.say("no room").is_empty());
    let mut bed = Bed::new(&[]);
    bed.client(Message::Open { kind: b"session", sender: 3, window: 8192, packet: 5, rest: b"" });
    bed.server(confirmation(3, 7));
    assert!(bed.policy.say("hello").is_empty(), "with its end it is longer");
    assert_eq!(bed.policy.say("hell").iter().map(|message| words(message)).collect::<Vec<_>>(), ["hell\n"]);
}

#[test]
fn a_line_in_a_terminal_stands_on_a_line_of_its_own() {
    let mut bed = Bed::session(&[Permission::Shell]);
    bed.asks(b"pty-req", true, b"");
    assert_eq!(bed.policy.say("hello").iter().map(|message| words(message)).collect::<Vec<_>>(), ["\r\nhello\r\n"]);
}

#[test]
fn nothing_is_said_on_connections_nor_after_an_end() {
    let mut bed = Bed::new(&[Permission::LocalForward]);
    bed.opened(b"direct-tcpip", &to(b"a", 1), [3, 7]);
    assert!(bed.policy.say("hello").is_empty());
    for end in [Message::Eof { recipient: 3 }, Message::Close { recipient: 3 }] {
        let mut bed = Bed::session(&[]);
        bed.server(end);
        assert!(bed.policy.say("hello").is_empty());
    }
    let mut bed = Bed::session(&[]);
    bed.client(Message::Eof { recipient: 7 });
    assert_eq!(bed.policy.say("hello").len(), 1, "it still listens");
    bed.client(Message::Close { recipient: 7 });
    assert!(bed.policy.say("hello").is_empty());
}

#[test]
fn all_sessions_hear_it_and_a_refusal_only_the_one_that_asked() {
    let mut bed = Bed::new(&[]);
    bed.opened(b"session", b"", [2, 6]);
    bed.opened(b"session", b"", [3, 7]);
    assert_eq!(bed.policy.say("hello").len(), 2);
    let Some(Tell::Waiting(channel)) = bed.asks(b"shell", true, b"").event.and_then(|event| event.tell) else { panic!() };
    assert_eq!(bed.policy.tell(channel, "no").map(|message| words(&message)), Some("no\n".to_owned()));
    bed.client(Message::Close { recipient: 7 });
    bed.server(Message::Close { recipient: 3 });
    bed.opened(b"session", b"", [3, 7]);
    assert_eq!(bed.policy.tell(channel, "no"), None, "the same numbers, another channel");
}
