use super::*;

#[test]
fn a_banner_cannot_move_the_cursor_or_turn_the_text_around() {
    for (text, clean) in [
        (&b"Authorised use only.\r\nAll is recorded.\n"[..], "Authorised use only.\nAll is recorded.\n"),
        ("Nur f\u{fc}r Befugte".as_bytes(), "Nur f\u{fc}r Befugte"),
        (b"\x1b[2J\x1b]0;title\x07", "\\u{1b}[2J\\u{1b}]0;title\\u{7}"),
        (b"over\rwritten", "over\\rwritten"),
        ("a\u{202e}b\u{9b}c\u{200b}".as_bytes(), "a\\u{202e}b\\u{9b}c\\u{200b}"),
        (b"\xff", "\\u{fffd}"),
    ] {
        assert_eq!(Banner::new(text).as_str(), clean);
    }
}

#[test]
fn a_long_banner_is_cut() {
    assert_eq!(Banner::new(&[b'x'; 100_000]).as_str().len(), BANNER_MAX);
    for byte in [0x1b, 0xff] {
        assert!(Banner::new(&[byte; 100_000]).as_str().len() <= BANNER_MAX);
    }
}
