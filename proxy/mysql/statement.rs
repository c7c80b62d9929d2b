//! KILL and USE, out of the text of a query.

use super::capabilities::Capabilities;

/// What a KILL statement names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kill {
    /// `KILL n`, `KILL CONNECTION n`.
    Connection(u64),
    /// `KILL QUERY n`.
    Query(u64),
}

/// The KILL statement that this text is.
#[must_use]
pub fn kill(_text: &[u8]) -> Option<Kill> {
    None
}

/// The database of the USE statement that this text is.
#[must_use]
pub fn used_database(_text: &[u8]) -> Option<Vec<u8>> {
    None
}

/// The text of a COM_QUERY.
#[must_use]
pub fn query_text(_payload: &[u8], _client: Capabilities) -> Option<&[u8]> {
    None
}
