//! Secret text that the file holds, or names.

use std::fmt;
use std::path::PathBuf;

use zeroize::Zeroizing;

/// Text from the file that may be secret: never shown, zeroised when dropped.
pub struct Protected(Zeroizing<String>);

impl Protected {
    /// Takes over the text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. Every call is a place to justify.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Protected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[protected]")
    }
}

/// A secret that Keyward itself needs: a plain string is the value; or `{ literal: … }`, `{ file: … }`, `{ env: … }`.
#[derive(Debug)]
pub enum SecretInput {
    /// The value itself.
    Literal(Protected),
    /// The file that holds it, read when needed; one trailing newline is not part of it.
    File(PathBuf),
    /// The environment variable that holds it.
    Env(String),
}
