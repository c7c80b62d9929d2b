//! Reading and writing the packets of a login: exactly as many bytes as a packet has, never more than allowed.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::stream::Stream;

/// The longest packet that a client may send during its login: 64 KiB of connection attributes, as the servers allow, and its names.
pub const LOGIN_MAX: usize = 68 * 1024;
/// The longest packet that an upstream may send before its OK, that one included.
pub const UPSTREAM_MAX: usize = 64 * 1024;
/// Bytes of a header.
pub const HEADER: usize = 4;
/// The length that says that the message goes on in the next packet.
pub const PART: usize = 0xff_ff_ff;

/// The sequence numbers of a login: they go on from packet to packet, whoever sends.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Packets {
    next: u8,
}

impl Packets {
    /// The next packet has this number.
    #[must_use]
    pub fn at(next: u8) -> Self {
        Self { next }
    }

    /// The number of the next packet.
    #[must_use]
    pub fn next(&self) -> u8 {
        self.next
    }

    /// Reads one packet of at most `most` bytes and not a byte more: what comes before TLS must never be taken for what comes inside it.
    /// The payload is zeroised: it may be a password.
    ///
    /// # Errors
    /// The transport's, `UnexpectedEof`, or `InvalidData`: too long, out of order, or of more than one part.
    pub async fn read(&mut self, stream: &mut Stream, most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
        self.read_or_end(stream, most).await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// The same. `None`: the stream ended before the first byte of the packet.
    ///
    /// # Errors
    /// As `read`.
    pub async fn read_or_end(&mut self, stream: &mut Stream, most: usize) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let mut header = [0; HEADER];
        let (first, rest) = header.split_at_mut(1);
        if stream.read(first).await? == 0 {
            return Ok(None);
        }
        stream.read_exact(rest).await?;
        let (length, sequence) = parse_header(header);
        if sequence != self.next {
            return Err(invalid("a packet out of order"));
        }
        if length > most || length == PART {
            return Err(invalid("a packet longer than allowed here"));
        }
        let mut payload = Zeroizing::new(vec![0; length]);
        stream.read_exact(&mut payload).await?;
        self.next = self.next.wrapping_add(1);
        Ok(Some(payload))
    }

    /// Writes a packet and flushes.
    ///
    /// # Errors
    /// The transport's, or `InvalidInput` for a payload of 16 MiB or more.
    pub async fn write(&mut self, stream: &mut Stream, payload: &[u8]) -> io::Result<()> {
        self.write_all(stream, &[payload]).await
    }

    /// Writes several packets at once and flushes.
    ///
    /// # Errors
    /// As `write`.
    pub async fn write_all(&mut self, stream: &mut Stream, payloads: &[&[u8]]) -> io::Result<()> {
        let length = payloads.iter().fold(0_usize, |sum, payload| sum.saturating_add(payload.len()).saturating_add(HEADER));
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        for payload in payloads {
            bytes.extend_from_slice(&header(self.next, payload).ok_or(io::ErrorKind::InvalidInput)?);
            bytes.extend_from_slice(payload);
            self.next = self.next.wrapping_add(1);
        }
        stream.write_all(&bytes).await?;
        stream.flush().await
    }
}

/// A packet: header and payload, which is shorter than 16 MiB. Of a longer one nothing is written.
#[must_use]
pub fn framed(sequence: u8, payload: &[u8]) -> Vec<u8> {
    header(sequence, payload).map(|header| [&header, payload].concat()).unwrap_or_default()
}

/// What a header says: the length of the payload, and the sequence number.
#[must_use]
pub fn parse_header(header: [u8; HEADER]) -> (usize, u8) {
    let [a, b, c, sequence] = header;
    let length = u32::from_le_bytes([a, b, c, 0]);
    (usize::try_from(length).unwrap_or(PART), sequence)
}

fn header(sequence: u8, payload: &[u8]) -> Option<[u8; HEADER]> {
    let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() < PART)?;
    let [a, b, c, _] = length.to_le_bytes();
    Some([a, b, c, sequence])
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;

    fn pair() -> (Stream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Stream::Unix(ours), theirs)
    }

    #[tokio::test]
    async fn a_packet_is_read_and_not_a_byte_more() {
        let (mut stream, mut peer) = pair();
        peer.write_all(&[framed(3, b"first"), framed(4, b""), b"\x16\x03TLS".to_vec()].concat()).await.unwrap();
        let mut packets = Packets::at(3);
        assert_eq!(packets.read(&mut stream, 5).await.unwrap().as_slice(), b"first");
        assert_eq!(packets.read(&mut stream, 5).await.unwrap().as_slice(), b"");
        assert_eq!(packets.next(), 5);
        let mut rest = [0; 5];
        stream.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"\x16\x03TLS", "what comes behind is still there");
    }

    #[tokio::test]
    async fn what_is_written_is_numbered_on_from_what_was_read() {
        let (mut stream, mut peer) = pair();
        peer.write_all(&framed(255, b"x")).await.unwrap();
        let mut packets = Packets::at(255);
        packets.read(&mut stream, 1).await.unwrap();
        packets.write_all(&mut stream, &[b"one", b"", b"two"]).await.unwrap();
        packets.write(&mut stream, b"three").await.unwrap();
        let wanted = [framed(0, b"one"), framed(1, b""), framed(2, b"two"), framed(3, b"three")].concat();
        let mut written = vec![0; wanted.len()];
        peer.read_exact(&mut written).await.unwrap();
        assert_eq!(written, wanted);
        let long = vec![0; PART];
        assert_eq!(packets.write(&mut stream, &long).await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(framed(0, &long), b"");
    }

    #[tokio::test]
    async fn what_is_no_packet_of_a_login_is_an_error() {
        let cases: [(&[u8], io::ErrorKind); 6] = [
            (&[1, 0, 0, 1, b'x'], io::ErrorKind::InvalidData),
            (&[11, 0, 0, 0], io::ErrorKind::InvalidData),
            (&[0xff, 0xff, 0xff, 0], io::ErrorKind::InvalidData),
            (&[], io::ErrorKind::UnexpectedEof),
            (&[2, 0], io::ErrorKind::UnexpectedEof),
            (&[2, 0, 0, 0, b'x'], io::ErrorKind::UnexpectedEof),
        ];
        for (bytes, kind) in cases {
            let (mut stream, mut peer) = pair();
            peer.write_all(bytes).await.unwrap();
            drop(peer);
            assert_eq!(Packets::default().read(&mut stream, 10).await.unwrap_err().kind(), kind, "{bytes:?}");
        }
        let (mut stream, mut peer) = pair();
        peer.write_all(&[0xff, 0xff, 0xff, 0]).await.unwrap();
        let error = Packets::default().read(&mut stream, usize::MAX).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "more than one part, whatever may be read");
    }

    #[tokio::test]
    async fn a_peer_that_says_nothing_is_told_from_one_that_stops() {
        let (mut stream, peer) = pair();
        drop(peer);
        assert!(Packets::default().read_or_end(&mut stream, 10).await.unwrap().is_none());
        let (mut stream, mut peer) = pair();
        peer.write_all(&[1]).await.unwrap();
        drop(peer);
        assert!(Packets::default().read_or_end(&mut stream, 10).await.is_err());
    }
}
