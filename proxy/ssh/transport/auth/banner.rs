//! The text before a login (RFC 4252 section 5.4): ours for a user, an upstream's for a user or a log.

use std::fmt;

/// Bytes of a banner, escapes included. What is longer is cut.
pub const BANNER_MAX: usize = 4096;

/// A text of several lines that a terminal can print: letters of any script, printable ASCII and newlines; whatever else there was is escaped,
/// so that it can neither move a cursor nor turn the direction of the text around.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Banner(String);

impl Banner {
    /// Escapes and cuts.
    #[must_use]
    pub fn new(text: &[u8]) -> Self {
        let mut clean = String::new();
        for char in String::from_utf8_lossy(text.get(..BANNER_MAX).unwrap_or(text)).replace("\r\n", "\n").chars() {
            let plain = char == '\n' || char == ' ' || char.is_ascii_graphic() || char.is_alphanumeric();
            let length = if plain { char.len_utf8() } else { char.escape_default().len() };
            if clean.len().saturating_add(length) > BANNER_MAX {
                break;
            }
            if plain { clean.push(char) } else { clean.extend(char.escape_default()) }
        }
        Self(clean)
    }

    /// The clean text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Banner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
