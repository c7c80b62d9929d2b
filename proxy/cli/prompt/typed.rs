//! A line that is typed on a terminal and not shown. The terminal's own editor of lines keeps no more than 4095 bytes and throws the rest away
//! without a word, and the keys that end a program would leave the terminal mute: here each byte is taken as it comes.

use rustix::process::Signal;
use rustix::termios::{LocalModes, SpecialCodeIndex as Code, Termios};
use zeroize::Zeroizing;

/// What a key did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// It belongs to the line, or changed it.
    Taken,
    /// The line is whole.
    End,
    /// It asks for this.
    Signal(Signal),
}

/// What was typed so far.
pub(super) struct Typed {
    line: Zeroizing<Vec<u8>>,
    most: usize,
    /// More came than is kept.
    overflowed: bool,
}

impl Typed {
    /// Nothing yet; of a line of at most so many bytes.
    pub(super) fn new(most: usize) -> Self {
        // Never moved to another place, where a copy would stay behind.
        Self { line: Zeroizing::new(Vec::with_capacity(most)), most, overflowed: false }
    }

    /// The next byte from a terminal that was as `shown` before. What its keys mean there they mean here.
    pub(super) fn take(&mut self, byte: u8, shown: &Termios) -> Key {
        let is = |code: Code| shown.special_codes[code] == byte && byte != 0;
        if shown.local_modes.contains(LocalModes::ISIG) {
            let signals = [(Code::VINTR, Signal::INT), (Code::VQUIT, Signal::QUIT), (Code::VSUSP, Signal::TSTP)];
            if let Some((_, signal)) = signals.into_iter().find(|(code, _)| is(*code)) {
                return Key::Signal(signal);
            }
        }
        match byte {
            b'\n' | b'\r' => return Key::End,
            _ if is(Code::VEOF) => return Key::End,
            _ if is(Code::VERASE) || byte == 0x7f || byte == 0x08 => self.erase(),
            _ if is(Code::VKILL) => self.line.clear(),
            _ if is(Code::VWERASE) => self.erase_word(),
            _ if self.line.len() < self.most => self.line.push(byte),
            _ => self.overflowed = true,
        }
        Key::Taken
    }

    /// The line; `None` if it is longer than it may be.
    pub(super) fn line(&self) -> Option<&[u8]> {
        Some(self.line.as_slice()).filter(|_| !self.overflowed)
    }

    /// One character, which may have several bytes.
    fn erase(&mut self) {
        while self.line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
    }

    fn erase_word(&mut self) {
        let blank = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_whitespace);
        while blank(self.line.last()) {
            self.line.pop();
        }
        while !self.line.is_empty() && !blank(self.line.last()) {
            self.line.pop();
        }
    }
}

/// The terminal as it is to be while something is typed that is not shown.
pub(super) fn quiet(shown: &Termios) -> Termios {
    let mut quiet = shown.clone();
    quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG);
    quiet.special_codes[Code::VMIN] = 1;
    quiet.special_codes[Code::VTIME] = 0;
    quiet
}

#[cfg(test)]
mod tests {
    use rustix::pty::{OpenptFlags, openpt};
    use rustix::termios::tcgetattr;

    use super::*;

    /// As a new terminal is.
    fn shown() -> Termios {
        tcgetattr(openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap()).unwrap()
    }

    fn typed(keys: &[u8], most: usize) -> Option<String> {
        let (shown, mut typed) = (shown(), Typed::new(most));
        assert!(keys.iter().all(|byte| typed.take(*byte, &shown) == Key::Taken));
        assert_eq!(typed.take(b'\n', &shown), Key::End);
        typed.line().map(|line| String::from_utf8(line.to_vec()).unwrap())
    }

    #[test]
    fn what_is_typed_is_changed_as_at_a_shell() {
        for (keys, wanted) in [
            ("one", "one"),
            ("onf\x7fe", "one"),
            ("\x7f\x7fone\u{e9}\u{1f511}\x7f\x7f", "one"),
            ("wrong\x15one", "one"),
            ("one two  \x17", "one "),
            ("two\x17one", "one"),
            ("  one\ttwo ", "  one\ttwo "),
        ] {
            assert_eq!(typed(keys.as_bytes(), 64).as_deref(), Some(wanted), "{keys:?}");
        }
    }

    #[test]
    fn a_line_is_kept_to_its_last_byte_or_not_at_all() {
        let long = "x".repeat(10_000);
        assert_eq!(typed(long.as_bytes(), 10_000), Some(long.clone()));
        assert_eq!(typed(long.as_bytes(), 9_999), None);
    }

    #[test]
    fn keys_that_end_or_stop_a_program_are_told_apart_from_what_is_typed() {
        let mut shown = shown();
        for (key, signal) in [(0x03, Signal::INT), (0x1c, Signal::QUIT), (0x1a, Signal::TSTP)] {
            assert_eq!(Typed::new(8).take(key, &shown), Key::Signal(signal));
        }
        assert_eq!(Typed::new(8).take(0x04, &shown), Key::End);
        shown.local_modes.remove(LocalModes::ISIG);
        assert_eq!(Typed::new(8).take(0x03, &shown), Key::Taken);
    }
}
