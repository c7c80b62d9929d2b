//! Public keys as blobs, and what they signed.

/// A signature or a key that proves nothing; the text is for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Untrusted(pub &'static str);

/// What a key in a security token must have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SkPolicy {}

/// A public key: its blob and what it says.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    blob: Vec<u8>,
}

impl PublicKey {
    /// Reads a key blob (RFC 4253 section 6.6).
    pub fn parse(blob: &[u8]) -> Result<Self, Untrusted> {
        Ok(Self { blob: blob.to_vec() })
    }

    /// The blob as it is sent.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// Checks a signature blob over `message`.
    pub fn verify(&self, algorithm: &str, message: &[u8], signature: &[u8], policy: SkPolicy) -> Result<(), Untrusted> {
        let _ = (algorithm, message, signature, policy);
        Err(Untrusted("no verifier yet"))
    }
}
