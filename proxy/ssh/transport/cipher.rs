//! Sealing and opening packets (RFC 4253 section 6; RFC 5647 as OpenSSH does it; PROTOCOL.chacha20poly1305). Rules 3, 11 and 12.
//!
//! ```text
//! length (4) | padding's length (1) | payload | padding (>= 4) | tag (16; none before the first keys)
//! ```
//! Only ciphers that authenticate: with them the negotiated MAC is not used, and a packet is looked at only once its tag has been found right, but
//! for its length. GCM sends that in clear and authenticates it; chacha20-poly1305 encrypts it with a key of its own.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey, chacha20_poly1305_openssh as chacha};
use zeroize::Zeroizing;

use crate::error::Fatal;

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;

/// Bytes of the length before each packet.
pub(crate) const LENGTH: usize = 4;
/// Bytes before the payload: the length of the packet, the length of the padding.
pub(crate) const BEFORE: usize = LENGTH + 1;
/// Bytes of a tag.
pub(crate) const TAG: usize = 16;
/// Bytes of the shortest padding (RFC 4253 section 6).
const PADDING_MIN: usize = 4;
/// The shortest packet has a payload of one byte, the number of a message: 1 + 1 + 4 is less than what alignment makes of it.
const LENGTH_MIN: usize = 1 + 1 + PADDING_MIN;

const CHACHA_KEY: usize = chacha::KEY_LEN;

/// How packets are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    /// AES-256 in GCM (RFC 5647; OpenSSH PROTOCOL section 1.6).
    Aes256Gcm,
    /// ChaCha20 and Poly1305 (PROTOCOL.chacha20poly1305).
    ChaCha20Poly1305,
    /// AES-128 in GCM.
    Aes128Gcm,
}

impl Cipher {
    /// All of them, the best first.
    pub const ALL: [Self; 3] = [Self::Aes256Gcm, Self::ChaCha20Poly1305, Self::Aes128Gcm];

    /// Its name in a KEXINIT.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "aes256-gcm@openssh.com",
            Self::ChaCha20Poly1305 => "chacha20-poly1305@openssh.com",
            Self::Aes128Gcm => "aes128-gcm@openssh.com",
        }
    }

    /// Bytes of the initialisation vector and of the key that a key exchange must derive.
    pub fn lengths(self) -> (usize, usize) {
        match self {
            Self::Aes256Gcm => (Gcm::IV, 32),
            Self::ChaCha20Poly1305 => (0, CHACHA_KEY),
            Self::Aes128Gcm => (Gcm::IV, 16),
        }
    }

    /// What the length of a packet, as far as it is encrypted, must be a multiple of; and whether the four bytes of the length itself count.
    fn alignment(self) -> (usize, usize) {
        match self {
            Self::Aes256Gcm | Self::Aes128Gcm => (16, 0),
            Self::ChaCha20Poly1305 => (8, 0),
        }
    }
}

/// The keys of one direction, as a key exchange derived them.
pub(crate) struct Keys {
    /// For which cipher.
    pub cipher: Cipher,
    /// The initialisation vector.
    pub iv: Zeroizing<Vec<u8>>,
    /// The key.
    pub key: Zeroizing<Vec<u8>>,
}

/// AES in GCM with the nonce of RFC 5647 section 7.1: four fixed bytes, and eight that count the packets of this key.
struct Gcm {
    key: LessSafeKey,
    fixed: [u8; 4],
    invocation: u64,
}

impl Gcm {
    const IV: usize = 12;

    fn new(keys: &Keys) -> Result<Self, Fatal> {
        const WRONG: Fatal = Fatal::Internal("a derived key does not fit its cipher");
        let algorithm = if keys.cipher == Cipher::Aes256Gcm { &AES_256_GCM } else { &AES_128_GCM };
        let key = UnboundKey::new(algorithm, &keys.key).map_err(|_| WRONG)?;
        let (fixed, invocation) = keys.iv.split_first_chunk::<4>().ok_or(WRONG)?;
        let invocation = u64::from_be_bytes(invocation.try_into().map_err(|_| WRONG)?);
        Ok(Self { key: LessSafeKey::new(key), fixed: *fixed, invocation })
    }

    /// The nonce of the next packet: never the same twice, since a key is given up long before 2^64 packets.
    fn nonce(&mut self) -> Nonce {
        let [a, b, c, d] = self.fixed;
        let [e, f, g, h, i, j, k, l] = self.invocation.to_be_bytes();
        self.invocation = self.invocation.wrapping_add(1);
        Nonce::assume_unique_for_key([a, b, c, d, e, f, g, h, i, j, k, l])
    }
}

fn chacha_key(keys: &Keys) -> Result<&[u8; CHACHA_KEY], Fatal> {
    keys.key.as_slice().try_into().map_err(|_| Fatal::Internal("a derived key does not fit its cipher"))
}

/// A direction's alignment where nothing is encrypted yet: the whole packet, length included, in eights.
const CLEAR: (usize, usize) = (8, LENGTH);

/// Seals what we send.
pub(crate) struct Sealing(Seal);

enum Seal {
    Clear,
    Gcm(Box<Gcm>),
    ChaCha(Box<chacha::SealingKey>),
}

impl Sealing {
    /// Before the first keys.
    pub(crate) fn clear() -> Self {
        Self(Seal::Clear)
    }

    /// With these keys, which are of no use to anybody afterwards.
    ///
    /// # Errors
    /// The keys do not fit the cipher: never, with keys from a key exchange.
    pub(crate) fn new(keys: &Keys) -> Result<Self, Fatal> {
        Ok(Self(match keys.cipher {
            Cipher::Aes256Gcm | Cipher::Aes128Gcm => Seal::Gcm(Box::new(Gcm::new(keys)?)),
            Cipher::ChaCha20Poly1305 => Seal::ChaCha(Box::new(chacha::SealingKey::new(chacha_key(keys)?))),
        }))
    }

    /// How the packet of a payload of so many bytes is laid out.
    pub(crate) fn layout(&self, payload: usize) -> Layout {
        let ((block, counted), tag) = match self.0 {
            Seal::Clear => (CLEAR, 0),
            Seal::Gcm(_) => (Cipher::Aes256Gcm.alignment(), TAG),
            Seal::ChaCha(_) => (Cipher::ChaCha20Poly1305.alignment(), TAG),
        };
        let unpadded = payload.saturating_add(1).saturating_add(counted);
        let over = unpadded.checked_rem(block).unwrap_or(0);
        let padding = block.saturating_sub(over);
        let padding = if padding < PADDING_MIN { padding.saturating_add(block) } else { padding };
        let length = payload.saturating_add(1).saturating_add(padding);
        Layout { length, padding, whole: length.saturating_add(LENGTH).saturating_add(tag) }
    }

    /// Seals in place a packet that is laid out as [`Self::layout`] says, its tag's place included. `sequence` is the packet's number.
    ///
    /// # Errors
    /// The packet is not laid out so, or the cipher failed.
    pub(crate) fn seal(&mut self, sequence: u32, packet: &mut [u8]) -> Result<(), Fatal> {
        const FAILED: Fatal = Fatal::Internal("a packet could not be sealed");
        match &mut self.0 {
            Seal::Clear => Ok(()),
            Seal::Gcm(gcm) => {
                let (length, rest) = packet.split_first_chunk_mut::<LENGTH>().ok_or(FAILED)?;
                let (body, place) = rest.split_last_chunk_mut::<TAG>().ok_or(FAILED)?;
                let nonce = gcm.nonce();
                let tag = gcm.key.seal_in_place_separate_tag(nonce, Aad::from(&*length), body).map_err(|_| FAILED)?;
                *place = tag.as_ref().try_into().map_err(|_| FAILED)?;
                Ok(())
            }
            Seal::ChaCha(key) => {
                let (body, place) = packet.split_last_chunk_mut::<TAG>().filter(|(body, _)| body.len() >= LENGTH).ok_or(FAILED)?;
                key.seal_in_place(sequence, body, place);
                Ok(())
            }
        }
    }
}

/// The lengths of a packet, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// What its first four bytes say.
    pub length: usize,
    /// How much of it is padding.
    pub padding: usize,
    /// All of it.
    pub whole: usize,
}

/// Opens what the peer sends.
pub(crate) struct Opening(Open);

enum Open {
    Clear,
    Gcm(Box<Gcm>),
    ChaCha(Box<chacha::OpeningKey>),
}

impl Opening {
    /// Before the first keys.
    pub(crate) fn clear() -> Self {
        Self(Open::Clear)
    }

    /// With these keys.
    ///
    /// # Errors
    /// The keys do not fit the cipher: never, with keys from a key exchange.
    pub(crate) fn new(keys: &Keys) -> Result<Self, Fatal> {
        Ok(Self(match keys.cipher {
            Cipher::Aes256Gcm | Cipher::Aes128Gcm => Open::Gcm(Box::new(Gcm::new(keys)?)),
            Cipher::ChaCha20Poly1305 => Open::ChaCha(Box::new(chacha::OpeningKey::new(chacha_key(keys)?))),
        }))
    }

    /// How many bytes the packet has that begins with these four, tag and these included; `longest` is the greatest length that it may
    /// announce. Nothing else is believed, and nothing is kept for a packet, before this said how long it is. Rule 11.
    ///
    /// # Errors
    /// No packet has this length.
    pub(crate) fn whole(&self, sequence: u32, first: [u8; LENGTH], longest: usize) -> Result<usize, Fatal> {
        let (length, (block, counted), tag) = match &self.0 {
            Open::Clear => (first, CLEAR, 0),
            Open::Gcm(_) => (first, Cipher::Aes256Gcm.alignment(), TAG),
            Open::ChaCha(key) => (key.decrypt_packet_length(sequence, first), Cipher::ChaCha20Poly1305.alignment(), TAG),
        };
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        let aligned = length.checked_add(counted).and_then(|whole| whole.checked_rem(block)) == Some(0);
        if length < LENGTH_MIN || length > longest || !aligned {
            // The same as for a wrong tag: with GCM and chacha20 alike the length may be what somebody changed.
            return Err(if tag == 0 { Fatal::Protocol("a packet has an impossible length") } else { Fatal::Integrity });
        }
        Ok(length.saturating_add(LENGTH).saturating_add(tag))
    }

    /// Opens in place a packet of the length that [`Self::whole`] said, and gives the length of its payload, which begins at [`BEFORE`] and
    /// has at least one byte.
    ///
    /// # Errors
    /// The tag is wrong, or the padding impossible; the packet is then not to be looked at.
    pub(crate) fn open(&mut self, sequence: u32, packet: &mut [u8]) -> Result<usize, Fatal> {
        let length = match &mut self.0 {
            Open::Clear => packet.len().checked_sub(LENGTH),
            Open::Gcm(gcm) => {
                let nonce = gcm.nonce();
                let (length, rest) = packet.split_first_chunk_mut::<LENGTH>().ok_or(Fatal::Integrity)?;
                let opened = gcm.key.open_in_place(nonce, Aad::from(&*length), rest).map_err(|_| Fatal::Integrity)?;
                Some(opened.len())
            }
            Open::ChaCha(key) => {
                let (body, tag) = packet.split_last_chunk_mut::<TAG>().filter(|(body, _)| body.len() >= LENGTH).ok_or(Fatal::Integrity)?;
                Some(key.open_in_place(sequence, body, tag).map_err(|_| Fatal::Integrity)?.len())
            }
        };
        let padding = packet.get(LENGTH).copied().map(usize::from).filter(|padding| *padding >= PADDING_MIN);
        let payload = padding.and_then(|padding| length?.checked_sub(1)?.checked_sub(padding)).filter(|payload| *payload > 0);
        payload.ok_or(Fatal::Protocol("a packet has an impossible padding"))
    }
}
