//! What a peer wrote, made fit for a log line: bounded, and without a byte that a terminal or a log reader would act on.

use std::fmt;

/// Characters of a peer's text that are shown; of a longer one, these and an ellipsis.
pub const SHOWN_MAX: usize = 80;

/// A text of somebody else's, escaped. It can be printed as it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Shown(String);

impl Shown {
    /// Escapes `text`: what is not printable ASCII becomes `\x..` or `\u{..}`, and so do quotation marks and backslashes.
    #[must_use]
    pub fn new(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text.get(..SHOWN_MAX.saturating_mul(4)).unwrap_or(text)).into_owned();
        let mut shown: String = text.chars().take(SHOWN_MAX).flat_map(char::escape_default).collect();
        if text.chars().nth(SHOWN_MAX).is_some() {
            shown.push('…');
        }
        Self(shown)
    }

    /// The escaped text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

#[cfg(test)]
mod tests;
