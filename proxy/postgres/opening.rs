//! From the first byte to the startup message: direct TLS, SSLRequest, GSSENCRequest, CancelRequest.

use std::io;

use tokio::io::AsyncWriteExt;

use super::messages;
use super::wire::{self, First, Startup};
use crate::error::{Party, SessionError, Stage};
use crate::link::Link;
use crate::refusal::Refusal;
use crate::stream::Stream;

/// The name that a client offers in direct TLS (manual, "SSL Session Encryption").
pub(super) const ALPN: &[u8] = b"postgresql";
/// The first byte of a TLS handshake; no packet of PostgreSQL's is that long.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a client came for.
pub(super) enum Opening {
    /// Nothing: a health probe.
    Probe,
    /// To stop a query of another session.
    Cancel { number: u32, key: Vec<u8> },
    /// A session.
    Startup(Startup),
}

/// Reads what the client came for, inside TLS if it asks for that.
pub(super) async fn open(link: &Link, client: &mut Stream) -> Result<Opening, SessionError> {
    let failed = |error: io::Error| SessionError::client_io(Stage::Open, &error);
    if let Stream::Tcp(socket) = client {
        let mut first = [0_u8; 1];
        match socket.peek(&mut first).await {
            Ok(0) => return Ok(Opening::Probe),
            // Several balancers end their probes with a reset.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(Opening::Probe),
            Err(error) => return Err(failed(error)),
            _ if first == [TLS_HANDSHAKE] => secure(link, client, true).await?,
            _ => {}
        }
    }
    let (mut asked_ssl, mut asked_gss) = (false, false);
    loop {
        // Exactly one packet: bytes that came before TLS must never be taken for bytes that came inside it (CVE-2021-23214).
        let Some(packet) = messages::read_packet(client).await.map_err(failed)? else {
            return if client.is_tls() || asked_ssl || asked_gss {
                Err(failed(io::ErrorKind::UnexpectedEof.into()))
            } else {
                Ok(Opening::Probe)
            };
        };
        match wire::first(&packet).map_err(|error| SessionError::malformed(Stage::Open, error.0))? {
            First::Ssl if !asked_ssl && !client.is_tls() => {
                asked_ssl = true;
                let answer = if link.door.identity.is_some() { b'S' } else { b'N' };
                client.write_u8(answer).await.map_err(failed)?;
                client.flush().await.map_err(failed)?;
                if answer == b'S' {
                    secure(link, client, false).await?;
                }
            }
            First::Gss if !asked_gss && !client.is_tls() => {
                asked_gss = true;
                client.write_u8(b'N').await.map_err(failed)?;
                client.flush().await.map_err(failed)?;
            }
            First::Ssl | First::Gss => return Err(SessionError::malformed(Stage::Open, "asked twice for encryption")),
            First::Cancel { number, key } => return Ok(Opening::Cancel { number, key }),
            First::Startup(startup) => return Ok(Opening::Startup(startup)),
            First::Unsupported => {
                return Err(SessionError::new(Refusal::Unsupported, Party::Client, Stage::Open, "not protocol 3"));
            }
        }
    }
}

async fn secure(link: &Link, client: &mut Stream, direct: bool) -> Result<(), SessionError> {
    let (Some(identity), Stream::Tcp(socket)) = (&link.door.identity, client.take()) else {
        return Err(SessionError::malformed(Stage::Open, "TLS where there is none"));
    };
    let tls = identity.accept(socket).await;
    let tls = tls.map_err(|error| SessionError::malformed(Stage::Open, format!("TLS: {error}")))?;
    // Without the name, a browser made to speak to us could pass for a client (the ALPACA attack).
    if direct && tls.get_ref().1.alpn_protocol() != Some(ALPN) {
        return Err(SessionError::malformed(Stage::Open, "direct TLS without the ALPN name postgresql"));
    }
    *client = Stream::TlsServer(Box::new(tls));
    Ok(())
}
