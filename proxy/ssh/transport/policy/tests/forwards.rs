//! Where the server listens, as the client's requests and the server's answers say.

use super::*;

fn comes(bed: &mut Bed, address: &[u8], port: u32) -> bool {
    match bed.server(open(b"forwarded-tcpip", 9, &to(address, port))).verdict {
        Verdict::Pass => {
            assert_eq!(bed.client(Message::OpenFailure { recipient: 9, reason: 2, text: b"", language: b"" }).verdict, Verdict::Pass);
            true
        }
        Verdict::Answer(_) => false,
        verdict => panic!("{verdict:?}"),
    }
}

const LISTEN: &[u8] = b"tcpip-forward";
const CANCEL: &[u8] = b"cancel-tcpip-forward";

#[test]
fn a_server_says_which_port_it_took_and_only_that_one_counts() {
    let mut bed = Bed::new(&[Permission::RemoteForward]);
    bed.asks_all(b"keepalive@openssh.com", true, b"");
    bed.asks_all(LISTEN, true, &place(b"", 0));
    assert!(!comes(&mut bed, b"", 0) && !comes(&mut bed, b"", 43210), "nobody knows the port yet");
    assert_eq!(bed.server(Message::RequestFailure).verdict, Verdict::Pass);
    assert!(!comes(&mut bed, b"", 43210), "that was the answer to the keepalive");
    assert_eq!(bed.server(Message::RequestSuccess { rest: &43210_u32.to_be_bytes() }).verdict, Verdict::Pass);
    assert!(comes(&mut bed, b"localhost", 43210));
    assert!(!comes(&mut bed, b"", 0) && !comes(&mut bed, b"", 43211));
    bed.asks_all(CANCEL, false, &place(b"", 43210));
    assert!(!comes(&mut bed, b"", 43210));
}

#[test]
fn a_place_that_the_server_would_not_take_invites_nobody() {
    let mut bed = Bed::new(&[Permission::RemoteForward]);
    bed.asks_all(LISTEN, true, &place(b"", 80));
    assert!(comes(&mut bed, b"", 80), "not every server answers before it listens");
    bed.server(Message::RequestFailure);
    assert!(!comes(&mut bed, b"", 80));
}

#[test]
fn after_a_cancellation_connections_come_until_the_server_has_agreed() {
    let mut bed = Bed::new(&[Permission::RemoteForward]);
    bed.asks_all(LISTEN, false, &place(b"", 80));
    assert!(comes(&mut bed, b"", 80));
    bed.asks_all(CANCEL, true, &place(b"other", 80));
    bed.server(Message::RequestFailure);
    assert!(comes(&mut bed, b"", 80), "that was another address");
    bed.asks_all(CANCEL, true, &place(b"", 80));
    assert!(comes(&mut bed, b"", 80));
    bed.server(Message::RequestFailure);
    assert!(comes(&mut bed, b"", 80), "it did not agree");
    bed.asks_all(CANCEL, true, &place(b"", 80));
    bed.server(Message::RequestSuccess { rest: b"" });
    assert!(!comes(&mut bed, b"", 80));
}

#[test]
fn a_cancellation_passes_even_if_nothing_may_be_forwarded_any_more() {
    let mut bed = Bed::new(&[Permission::RemoteForward]);
    bed.asks_all(LISTEN, false, &place(b"", 80));
    bed.allow(&[]);
    assert_eq!(bed.asks_all(CANCEL, true, &place(b"", 80)).verdict, Verdict::Pass);
}

#[test]
fn a_socket_is_another_place_than_a_port_and_is_compared_byte_for_byte() {
    let mut bed = Bed::new(&[Permission::RemoteForward]);
    let comes = |bed: &mut Bed, path: &[u8]| {
        let rest = [string(path), string(b"")].concat();
        bed.server(open(b"forwarded-streamlocal@openssh.com", 9, &rest)).verdict == Verdict::Pass
    };
    bed.asks_all(LISTEN, false, &place(b"/a", 80));
    assert!(!comes(&mut bed, b"/a"));
    bed.asks_all(b"streamlocal-forward@openssh.com", false, &string(b"/a"));
    assert!(!comes(&mut bed, b"/a/") && !comes(&mut bed, b"/A"));
    bed.asks_all(b"cancel-streamlocal-forward@openssh.com", false, &string(b"/b"));
    assert!(comes(&mut bed, b"/a"));
    bed.client(confirmation(9, 1));
    bed.asks_all(b"cancel-streamlocal-forward@openssh.com", false, &string(b"/a"));
    let rest = [string(b"/a"), string(b"")].concat();
    assert!(matches!(bed.server(open(b"forwarded-streamlocal@openssh.com", 10, &rest)).verdict, Verdict::Answer(_)));
}
