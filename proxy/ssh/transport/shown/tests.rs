use super::*;

#[test]
fn what_a_terminal_would_act_on_is_escaped() {
    for (text, shown) in [
        (&b"force-command"[..], "force-command"),
        (b"a\x1b[2Jb", "a\\u{1b}[2Jb"),
        (b"two\nlines\r\0", "two\\nlines\\r\\u{0}"),
        ("m\u{fc}ller \u{202e}".as_bytes(), "m\\u{fc}ller \\u{202e}"),
        (b"say \"x\" \\", "say \\\"x\\\" \\\\"),
        (b"\xff\xfe", "\\u{fffd}\\u{fffd}"),
    ] {
        assert_eq!(Shown::new(text).as_str(), shown);
    }
}

#[test]
fn a_long_text_is_cut() {
    assert_eq!(Shown::new(&[b'x'; 80]).as_str(), "x".repeat(80));
    assert_eq!(Shown::new(&[b'x'; 100_000]).as_str(), format!("{}…", "x".repeat(80)));
    assert!(Shown::new(&[0xff; 100_000]).as_str().len() <= SHOWN_MAX * 8 + 3);
}
