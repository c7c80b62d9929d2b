//! What a PostgreSQL client is told: SQLSTATE and fixed words with the session's id, after TLS and the startup message, since libpq
//! discards an error that answers an SSLRequest.

use keyward_auth::SessionId;
use tokio::io::AsyncWriteExt;

use super::messages;
use super::wire::Messages;
use crate::error::SessionError;
use crate::refusal::{Reason, Refusal, UpstreamRefusal};
use crate::stream::Stream;
use crate::told::{PATIENCE, listed, sentence};
use crate::warning::Warning;

/// Class 01 of the error codes, "Warning".
const WARNING: &str = "01000";
/// Names that a user is told at the most.
const NAMES: usize = 50;

/// Tells the client why, and closes.
pub(super) async fn tell(client: &mut Stream, id: SessionId, error: &SessionError) {
    if error.left {
        return;
    }
    let detail = (!error.choices.is_empty()).then(|| format!("You may reach: {}", listed(&error.choices, NAMES)));
    let message = message(error.refusal, id, detail.as_deref());
    let _ = tokio::time::timeout(PATIENCE, async {
        messages::write(client, &message).await?;
        client.shutdown().await
    })
    .await;
}

/// What a live session is told when Keyward ends it.
pub(super) fn farewell(reason: Reason, id: SessionId) -> Vec<u8> {
    message(Refusal::SessionEnded(reason), id, None).bytes().to_vec()
}

/// What a live session is told now, before Keyward ends it.
pub(super) fn warning(warning: &Warning, id: SessionId) -> Vec<u8> {
    let mut message = Messages::default();
    message.warning(WARNING, &sentence(&warning.text(), id));
    message.bytes().to_vec()
}

fn message(refusal: Refusal, id: SessionId, detail: Option<&str>) -> Messages {
    let (code, text) = words(refusal);
    let mut message = Messages::default();
    message.error("FATAL", code, &sentence(text, id), detail);
    message
}

/// SQLSTATE (manual, appendix "PostgreSQL Error Codes") and words.
fn words(refusal: Refusal) -> (&'static str, &'static str) {
    match refusal {
        Refusal::NotAuthenticated => ("28P01", "login failed"),
        Refusal::NotPermitted => ("42501", "no such connection, or it is not open to you"),
        Refusal::TlsRequired => ("28000", "this login needs TLS (sslmode=require or stronger)"),
        Refusal::Malformed => ("08P01", "protocol violation"),
        Refusal::Unsupported => ("0A000", "unsupported protocol version"),
        Refusal::TooSlow => ("57014", "the login took too long"),
        Refusal::Busy => ("53300", "too many connections; try again later"),
        Refusal::Locked => ("28P01", "too many failed logins; try again later"),
        Refusal::AuditUnavailable => ("58030", "the audit record cannot be written; ask the administrator"),
        Refusal::CredentialsUnavailable => ("58000", "the credential for this connection is not available; ask the administrator"),
        Refusal::UpstreamUnreachable => ("08001", "the server behind this connection cannot be reached"),
        Refusal::UpstreamUnverified => ("08001", "the server behind this connection could not be verified; ask the administrator"),
        Refusal::UpstreamRefused(UpstreamRefusal::LoginRejected) => ("08004", "the server behind this connection refused the login"),
        Refusal::UpstreamRefused(UpstreamRefusal::NoSuchDatabase) => ("3D000", "the server behind this connection has no such database"),
        Refusal::UpstreamRefused(UpstreamRefusal::TooManyConnections) => ("53300", "the server behind this connection has no place left"),
        Refusal::UpstreamRefused(UpstreamRefusal::StartingUp) => {
            ("57P03", "the server behind this connection is starting up or shutting down")
        }
        Refusal::SessionEnded(Reason::Idle) => ("57P05", "the session was idle for too long"),
        Refusal::SessionEnded(Reason::Lifetime) => ("57P01", "the session reached its longest lifetime"),
        Refusal::SessionEnded(Reason::LeaseEnd) => ("57P01", "the session's credential has come to its end; connect again"),
        Refusal::SessionEnded(Reason::LeaseLost) => ("57P01", "the session's credential was withdrawn by the store; connect again"),
        Refusal::SessionEnded(Reason::Withdrawn) => ("57P01", "the permission for this session was withdrawn"),
        Refusal::SessionEnded(Reason::Killed) => ("57P01", "the session was ended by an administrator"),
        Refusal::SessionEnded(Reason::KilledByUser) => ("57P01", "the session was ended by its user"),
        Refusal::SessionEnded(Reason::AuditUnavailable) => ("57P01", "the audit record cannot be written; ask the administrator"),
        Refusal::SessionEnded(Reason::Drain) | Refusal::ShuttingDown => ("57P01", "keyward is shutting down; connect again"),
        Refusal::Internal => ("XX000", "internal error"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_fatal_error_with_the_session_id() {
        let id: SessionId = "0123456789abcdef".parse().unwrap();
        let message = message(Refusal::NotAuthenticated, id, None);
        let wanted = b"E\0\0\0\x4cSFATAL\0VFATAL\0C28P01\0Mkeyward: login failed (session 0123456789abcdef)\0\0";
        assert_eq!(String::from_utf8_lossy(message.bytes()), String::from_utf8_lossy(wanted));
    }

    #[test]
    fn a_warning_is_a_notice_with_the_session_id() {
        let id: SessionId = "0123456789abcdef".parse().unwrap();
        let ahead = Warning::ahead(crate::warning::Cause::Lease, std::time::Duration::from_secs(300));
        let wanted =
            b"N\0\0\0\x88SWARNING\0VWARNING\0C01000\0Mkeyward: the session ends in 5 minutes, when its credential comes to its end \
                       (session 0123456789abcdef)\0\0";
        assert_eq!(String::from_utf8_lossy(&warning(&ahead, id)), String::from_utf8_lossy(wanted));
    }
}
