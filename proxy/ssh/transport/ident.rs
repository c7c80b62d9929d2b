//! The lines by which two sides say who they are (RFC 4253 section 4.2). Rule 1.

use crate::conn::READ_BEFORE_LOGIN;
use crate::error::Fatal;

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;

/// Bytes of the longest line, its end included (section 4.2).
pub(crate) const IDENT_MAX: usize = 255;
/// Bytes and number of the lines that a server may send before its own. OpenSSH takes more of both; what sends any is an old gateway.
const EARLIER_BYTES: usize = 8192;
const EARLIER_LINES: usize = 64;
/// Bytes of one of them, its end included: no more is kept of who is not logged in, so that a longer one would never be whole.
const EARLIER_LINE: usize = READ_BEFORE_LOGIN;

/// Reads the peer's line.
#[derive(Debug)]
pub(crate) struct Reading {
    earlier: Earlier,
    lines: usize,
    bytes: usize,
}

/// Whether other lines may come before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Earlier {
    /// A server's: they may.
    Allowed,
    /// A client's: it comes first.
    Refused,
}

/// What there is at the beginning of the input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// No whole line yet.
    Incomplete,
    /// So many bytes that say nothing.
    Skip(usize),
    /// The peer's line without its end, and the bytes that it took with it.
    Ident(Vec<u8>, usize),
}

impl Reading {
    /// Nothing was read yet.
    pub(crate) fn new(earlier: Earlier) -> Self {
        Self { earlier, lines: 0, bytes: 0 }
    }

    /// Looks at what has come and has not been taken.
    ///
    /// # Errors
    /// This is no SSH of version 2, or too long.
    pub(crate) fn next(&mut self, input: &[u8]) -> Result<Line, Fatal> {
        let Some(end) = input.iter().take(EARLIER_LINE).position(|byte| *byte == b'\n') else {
            // Told as soon as it can be: who speaks something else gets no further byte kept.
            let longest = if self.earlier == Earlier::Refused || is_ident(input) { IDENT_MAX } else { EARLIER_LINE };
            let other = self.earlier == Earlier::Refused && !b"SSH-".iter().zip(input).all(|(ours, theirs)| ours == theirs);
            return match () {
                () if other => Err(Fatal::Protocol("the client does not speak SSH")),
                () if input.len() >= longest => Err(Fatal::Protocol("the identification line is too long")),
                () => Ok(Line::Incomplete),
            };
        };
        let length = end.saturating_add(1);
        let line = input.get(..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if is_ident(line) {
            return if length <= IDENT_MAX { checked(line, length) } else { Err(Fatal::Protocol("the identification line is too long")) };
        }
        self.lines = self.lines.saturating_add(1);
        self.bytes = self.bytes.saturating_add(length);
        match self.earlier {
            Earlier::Refused => Err(Fatal::Protocol("the client does not speak SSH")),
            Earlier::Allowed if self.lines > EARLIER_LINES || self.bytes > EARLIER_BYTES => {
                Err(Fatal::TooMuch("the server sends too much before its identification"))
            }
            Earlier::Allowed => Ok(Line::Skip(length)),
        }
    }
}

fn is_ident(line: &[u8]) -> bool {
    line.starts_with(b"SSH-")
}

fn checked(line: &[u8], length: usize) -> Result<Line, Fatal> {
    // 1.99 is how a server says that it speaks 2.0 and what came before it (section 5.1).
    let version = line.starts_with(b"SSH-2.0-") || line.starts_with(b"SSH-1.99-");
    if !version {
        return Err(Fatal::Protocol("the peer does not speak version 2 of SSH"));
    }
    if !line.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(Fatal::Protocol("the identification line is not printable"));
    }
    Ok(Line::Ident(line.to_vec(), length))
}
