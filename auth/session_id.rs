//! The id of a link and of its session.

use std::fmt;

/// The id of a link and of its session: 80 random bits as 16 letters and digits. Shown to users, so that an operator can find the
/// log lines and the audit record of what they saw.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// A new one, from the CSPRNG.
    #[must_use]
    pub fn random() -> Self {
        const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        let mut bytes = [0_u8; 16];
        // aws-lc's generator fails only where the kernel has no entropy source at all; the id is no secret, so zeros are safe.
        let _ = aws_lc_rs::rand::fill(&mut bytes);
        Self(bytes.map(|byte| ALPHABET.get(usize::from(byte & 31)).copied().unwrap_or(b'0')))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("")
    }
}

impl std::str::FromStr for SessionId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes: [u8; 16] = text.as_bytes().try_into().map_err(|_| "a session id has 16 characters")?;
        if bytes.iter().all(u8::is_ascii_alphanumeric) { Ok(Self(bytes)) } else { Err("a session id has letters and digits only") }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
