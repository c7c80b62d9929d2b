//! Reading messages from a stream: exactly as many bytes as a message has, never more than allowed.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use super::wire::{self, Malformed};
use crate::stream::Stream;

/// Reads one tagged message of at most `most` bytes and not a byte more. The body is zeroised: it may be a password.
///
/// # Errors
/// The transport's, or `InvalidData`.
pub(super) async fn read(stream: &mut Stream, most: usize) -> io::Result<(u8, Zeroizing<Vec<u8>>)> {
    let mut header = [0_u8; 5];
    stream.read_exact(&mut header).await?;
    let [tag, length @ ..] = header;
    let mut body = Zeroizing::new(vec![0; wire::body_length(length, most).map_err(invalid)?]);
    stream.read_exact(&mut body).await?;
    Ok((tag, body))
}

/// Reads one packet without a tag and not a byte more. `None`: the stream ended before its first byte.
///
/// # Errors
/// The transport's, or `InvalidData`.
pub(super) async fn read_packet(stream: &mut Stream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0_u8; 4];
    if stream.read(length.get_mut(..1).unwrap_or_default()).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(length.get_mut(1..).unwrap_or_default()).await?;
    let mut body = vec![0; wire::body_length(length, wire::STARTUP_MAX).map_err(invalid)?];
    stream.read_exact(&mut body).await?;
    Ok(Some(body))
}

/// Writes and flushes.
///
/// # Errors
/// The transport's.
pub(super) async fn write(stream: &mut Stream, messages: &wire::Messages) -> io::Result<()> {
    stream.write_all(messages.bytes()).await?;
    stream.flush().await
}

fn invalid(error: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.0)
}

/// Messages of an upstream, read in as few system calls as they came in. What follows the last one is the session's first bytes.
#[derive(Default)]
pub(super) struct Inbox {
    bytes: Zeroizing<Vec<u8>>,
    start: usize,
}

impl Inbox {
    /// The next message.
    ///
    /// # Errors
    /// The transport's, or `InvalidData` for one of more than `most` bytes.
    pub(super) async fn next(&mut self, stream: &mut Stream, most: usize) -> io::Result<(u8, &[u8])> {
        let length = loop {
            let unread = self.bytes.get(self.start..).unwrap_or_default();
            let Some(([_, length @ ..], rest)) = unread.split_first_chunk::<5>() else {
                self.fill(stream).await?;
                continue;
            };
            let length = wire::body_length(*length, most).map_err(invalid)?;
            if rest.len() >= length {
                break length;
            }
            self.fill(stream).await?;
        };
        let at = self.start;
        self.start = at.saturating_add(5).saturating_add(length);
        let message = self.bytes.get(at..self.start).unwrap_or_default();
        let (tag, body) = message.split_first().ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok((*tag, body.get(4..).unwrap_or_default()))
    }

    /// What was read beyond the last message.
    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    async fn fill(&mut self, stream: &mut Stream) -> io::Result<()> {
        let mut chunk = Zeroizing::new([0_u8; 4096]);
        let read = stream.read(chunk.as_mut_slice()).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let read_already = self.start.min(self.bytes.len());
        self.bytes.drain(..read_already);
        self.start = 0;
        self.bytes.extend_from_slice(chunk.get(..read).unwrap_or_default());
        Ok(())
    }
}
