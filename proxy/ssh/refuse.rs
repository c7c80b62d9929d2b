//! What an SSH client is told: before the user is proven only that a proof failed (RFC 4252 section 5.1); after that the reason, in a DISCONNECT
//! (RFC 4253 section 11.1), which ssh prints.

use keyward_auth::SessionId;
use tokio::io::AsyncWriteExt;

use super::wire::Wire;
use crate::error::SessionError;
use crate::refusal::{Reason, Refusal, UpstreamRefusal};
use crate::stream::Stream;
use crate::told::{PATIENCE, reachable, sentence};
use crate::warning::Warning;

/// Names that a user is told at the most: a DISCONNECT is one line.
const NAMES: usize = 30;

/// RFC 4253 section 11.1.
const PROTOCOL_ERROR: u32 = 2;
const SERVICE_NOT_AVAILABLE: u32 = 7;
const HOST_NOT_ALLOWED_TO_CONNECT: u32 = 1;
const BY_APPLICATION: u32 = 11;
const TOO_MANY_CONNECTIONS: u32 = 12;
const NO_MORE_AUTH_METHODS_AVAILABLE: u32 = 14;

/// Tells the client why, and closes.
pub(super) async fn tell(client: &mut Stream, wire: &mut Wire, id: SessionId, error: &SessionError) {
    if error.left {
        return;
    }
    let (code, text) = words(error.refusal);
    // Where the transport has ended by itself, it has said so already, and this changes nothing.
    wire.conn.disconnect(code, &sentence(&reachable(text, &error.choices, NAMES), id));
    close(client, wire).await;
}

/// Sends what waits, and closes.
pub(super) async fn close(stream: &mut Stream, wire: &mut Wire) {
    let _ = tokio::time::timeout(PATIENCE, async {
        wire.flush(stream).await?;
        stream.shutdown().await
    })
    .await;
}

/// What a live session is told when Keyward ends it: the code, and the words for the DISCONNECT and for the screen.
pub(super) fn farewell(reason: Reason, id: SessionId) -> (u32, String) {
    let (code, text) = words(Refusal::SessionEnded(reason));
    (code, sentence(text, id))
}

/// What a live session is told before Keyward ends it.
pub(super) fn warning(warning: &Warning, id: SessionId) -> String {
    sentence(&warning.text(), id)
}

fn words(refusal: Refusal) -> (u32, &'static str) {
    const UPSTREAM: u32 = SERVICE_NOT_AVAILABLE;
    match refusal {
        // Whoever is not proven hears the same of both.
        Refusal::NotAuthenticated | Refusal::Locked => (NO_MORE_AUTH_METHODS_AVAILABLE, "login failed"),
        Refusal::NotPermitted => (HOST_NOT_ALLOWED_TO_CONNECT, "no such connection, or it is not open to you"),
        Refusal::TlsRequired | Refusal::Malformed => (PROTOCOL_ERROR, "protocol violation"),
        Refusal::Unsupported => (PROTOCOL_ERROR, "the client lacks the algorithms that this server needs"),
        Refusal::TooSlow => (BY_APPLICATION, "the login took too long"),
        Refusal::Busy => (TOO_MANY_CONNECTIONS, "too many connections; try again later"),
        Refusal::AuditUnavailable => (BY_APPLICATION, "the audit record cannot be written; ask the administrator"),
        Refusal::CredentialsUnavailable => (UPSTREAM, "the credential for this connection is not available; ask the administrator"),
        Refusal::UpstreamUnreachable => (UPSTREAM, "the server behind this connection cannot be reached"),
        Refusal::UpstreamUnverified => (UPSTREAM, "the server behind this connection could not be verified; ask the administrator"),
        Refusal::UpstreamRefused(UpstreamRefusal::LoginRejected) => (UPSTREAM, "the server behind this connection refused the login"),
        Refusal::UpstreamRefused(UpstreamRefusal::NoSuchDatabase) => (UPSTREAM, "the server behind this connection has no such database"),
        Refusal::UpstreamRefused(UpstreamRefusal::TooManyConnections) => (UPSTREAM, "the server behind this connection has no place left"),
        Refusal::UpstreamRefused(UpstreamRefusal::StartingUp) => {
            (UPSTREAM, "the server behind this connection is starting up or shutting down")
        }
        Refusal::SessionEnded(Reason::Idle) => (BY_APPLICATION, "the session was idle for too long"),
        Refusal::SessionEnded(Reason::Lifetime) => (BY_APPLICATION, "the session reached its longest lifetime"),
        Refusal::SessionEnded(Reason::LeaseEnd) => (BY_APPLICATION, "the session's credential has come to its end; connect again"),
        Refusal::SessionEnded(Reason::LeaseLost) => (BY_APPLICATION, "the session's credential was withdrawn by the store; connect again"),
        Refusal::SessionEnded(Reason::Withdrawn) => (BY_APPLICATION, "the permission for this session was withdrawn"),
        Refusal::SessionEnded(Reason::Killed) => (BY_APPLICATION, "the session was ended by an administrator"),
        Refusal::SessionEnded(Reason::KilledByUser) => (BY_APPLICATION, "the session was ended by its user"),
        Refusal::SessionEnded(Reason::AuditUnavailable) => (BY_APPLICATION, "the audit record cannot be written; ask the administrator"),
        Refusal::SessionEnded(Reason::Drain) | Refusal::ShuttingDown => (BY_APPLICATION, "keyward is shutting down; connect again"),
        Refusal::Internal => (BY_APPLICATION, "internal error"),
    }
}
