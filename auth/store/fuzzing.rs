//! Ways in for the fuzz targets (tests/fuzz), which are another crate and must not see more than bytes. Compiled with the feature
//! `fuzzing` only.

use super::journal::{replay_bytes, written};
pub use super::vault::fuzzing::{answer, reference};

/// Replays the bytes of a lease journal, and then what a compaction would make of them. Returns whether both have the same entries open
/// and the second has no line that cannot be read.
#[must_use]
pub fn journal(bytes: &[u8]) -> bool {
    let (open, _) = replay_bytes(bytes);
    written(&open).is_ok_and(|text| replay_bytes(&text) == (open, 0))
}
