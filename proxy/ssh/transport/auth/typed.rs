//! What somebody typed: a password, or the answer to a prompt.

use std::fmt;

use zeroize::Zeroizing;

/// Bytes of the longest password or answer. A token may be one.
pub const TYPED_MAX: usize = 8192;

/// A secret of a user's. It never shows itself, and is wiped when it goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Typed(Zeroizing<Vec<u8>>);

impl Typed {
    /// `None`: longer than `TYPED_MAX`.
    pub(super) fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= TYPED_MAX).then(|| Self(Zeroizing::new(bytes.to_vec())))
    }

    /// The bytes as they came. UTF-8 if the client does what it should (RFC 4252 section 8, RFC 4256 section 3.4); nobody checked.
    #[must_use]
    pub fn expose(self) -> Zeroizing<Vec<u8>> {
        self.0
    }
}

impl fmt::Debug for Typed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Typed")
    }
}
