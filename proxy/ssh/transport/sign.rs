//! Private keys: reading and signing.

use crate::key::PublicKey;

/// A private key could not sign; the text is for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CannotSign(pub &'static str);

/// A private key that signs. It never shows itself.
pub trait Signer: Send + Sync {
    /// The signature algorithms that it can do, the best first.
    fn algorithms(&self) -> &'static [&'static str];
    /// Its public half.
    fn public(&self) -> &PublicKey;
    /// A signature blob (`string` name, `string` signature) over `data`.
    fn sign(&self, algorithm: &str, data: &[u8]) -> Result<Vec<u8>, CannotSign>;
}
