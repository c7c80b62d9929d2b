use proptest::prelude::*;

use super::*;

fn client(input: &[u8]) -> Result<Line, Fatal> {
    Reading::new(Earlier::Refused).next(input)
}

fn line(text: &[u8], length: usize) -> Result<Line, Fatal> {
    Ok(Line::Ident(text.to_vec(), length))
}

/// Rule 1.
#[test]
fn a_line_of_version_2_is_taken_without_its_end() {
    assert_eq!(client(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\nrest"), line(b"SSH-2.0-OpenSSH_9.2p1 Debian-2", 32));
    assert_eq!(client(b"SSH-2.0-x\n"), line(b"SSH-2.0-x", 10));
    assert_eq!(client(b"SSH-1.99-x\r\n"), line(b"SSH-1.99-x", 12));
}

/// Rule 1.
#[test]
fn what_is_not_version_2_is_refused() {
    for input in [
        &b"SSH-1.5-x\r\n"[..],
        b"SSH-2.1-x\r\n",
        b"SSH-\r\n",
        b"SSH-2.0\r\n",
        b"ssh-2.0-x\r\n",
        b"GET / HTTP/1.1\r\n",
        b"\r\n",
        b"G",
        b"SSHX",
    ] {
        assert!(client(input).is_err(), "{input:?}");
    }
}

/// Rule 1.
#[test]
fn what_is_not_printable_is_refused() {
    for input in [&b"SSH-2.0-\0\r\n"[..], b"SSH-2.0-\x1b[2J\r\n", b"SSH-2.0-\xff\r\n", b"SSH-2.0-a\rb\r\n", b"SSH-2.0-a\r\r\n"] {
        assert!(client(input).is_err(), "{input:?}");
    }
}

/// Rule 1.
#[test]
fn a_line_has_at_most_255_bytes() {
    let of = |length: usize| [b"SSH-2.0-".to_vec(), vec![b'x'; length - 10], b"\r\n".to_vec()].concat();
    assert!(matches!(client(&of(IDENT_MAX)), Ok(Line::Ident(..))));
    assert!(client(&of(IDENT_MAX + 1)).is_err());
    assert_eq!(client(&of(IDENT_MAX)[..IDENT_MAX - 1]), Ok(Line::Incomplete));
    assert!(client(&of(IDENT_MAX + 2)[..IDENT_MAX]).is_err(), "nothing more is waited for");
    let mut server = Reading::new(Earlier::Allowed);
    assert!(server.next(&of(IDENT_MAX + 1)).is_err());
    assert!(server.next(&of(IDENT_MAX + 2)[..IDENT_MAX]).is_err());
}

/// Rule 1.
#[test]
fn only_a_server_may_send_lines_before_its_own() {
    let mut server = Reading::new(Earlier::Allowed);
    assert_eq!(server.next(b"welcome\r\nSSH-2.0-x\r\n"), Ok(Line::Skip(9)));
    assert_eq!(server.next(b"SSH-2.0-x\r\n"), line(b"SSH-2.0-x", 11));
    assert!(client(b"welcome\r\nSSH-2.0-x\r\n").is_err());
}

/// Rule 1.
#[test]
fn the_lines_before_it_are_bounded_in_number_and_in_bytes() {
    let mut many = Reading::new(Earlier::Allowed);
    let taken = (0..10 * EARLIER_LINES).take_while(|_| many.next(b"\n").is_ok()).count();
    assert_eq!(taken, EARLIER_LINES);
    let mut long = Reading::new(Earlier::Allowed);
    let wide = [vec![b'x'; EARLIER_LINE - 1], b"\n".to_vec()].concat();
    assert!((0..EARLIER_BYTES / EARLIER_LINE).all(|_| long.next(&wide).is_ok()));
    assert!(long.next(&wide).is_err());
    let mut longer = Reading::new(Earlier::Allowed);
    assert_eq!(longer.next(&vec![b'x'; EARLIER_LINE - 1]), Ok(Line::Incomplete));
    assert!(longer.next(&vec![b'x'; EARLIER_LINE]).is_err(), "no room for its end");
    assert!(longer.next(&[vec![b'x'; EARLIER_LINE], b"\n".to_vec()].concat()).is_err(), "also where its end is there");
}

proptest! {
    #[test]
    fn a_line_is_read_the_same_in_whatever_pieces_it_comes(text in "[ -~]{0,200}", cut: prop::sample::Index) {
        let whole = [b"SSH-2.0-", text.as_bytes(), b"\r\n"].concat();
        let cut = cut.index(whole.len());
        prop_assert_eq!(client(&whole[..cut]), Ok(Line::Incomplete));
        prop_assert_eq!(client(&whole), line(&whole[..whole.len() - 2], whole.len()));
    }
}
