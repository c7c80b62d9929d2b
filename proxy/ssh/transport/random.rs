//! Where cookies and padding come from.

use crate::error::Fatal;

/// A source of random bytes. Tests give one that can be repeated. Secrets of a key exchange never come from here: they are made inside aws-lc-rs.
pub trait Random: Send {
    /// Fills the whole of `bytes`, or says that it cannot.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Fatal>;
}

/// The generator of aws-lc-rs.
#[derive(Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Fatal> {
        aws_lc_rs::rand::fill(bytes).map_err(|_| Fatal::Internal("no random bytes"))
    }
}
