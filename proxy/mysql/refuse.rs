//! What a MySQL client is told: error numbers, SQLSTATE and fixed words with the session's id, in the place of the packet that it waits for.

use keyward_auth::SessionId;
use tokio::io::AsyncWriteExt;

use super::packet::{self, Packets};
use super::wire;
use crate::error::SessionError;
use crate::refusal::{Reason, Refusal, UpstreamRefusal};
use crate::stream::Stream;
use crate::told::{PATIENCE, reachable_within, sentence};

/// Names that a user is told at the most.
const NAMES: usize = 50;

/// Tells the client why, and closes. Before our greeting the client knows of no SQLSTATE yet.
pub(super) async fn tell(client: &mut Stream, mut packets: Packets, id: SessionId, error: &SessionError) {
    if error.left {
        return;
    }
    let (code, _, text) = words(error.refusal);
    let packet = match packets.next() {
        0 => wire::error_before_greeting(code, &sentence(text, id)),
        _ => message(error.refusal, id, &error.choices),
    };
    let _ = tokio::time::timeout(PATIENCE, async {
        packets.write(client, &packet).await?;
        client.shutdown().await
    })
    .await;
}

/// What a live session is told when Keyward ends it, in the packet with this number.
pub(super) fn farewell(sequence: u8, reason: Reason, id: SessionId) -> Vec<u8> {
    packet::framed(sequence, &message(Refusal::SessionEnded(reason), id, &[]))
}

/// A refusal as an error packet; `choices` are names that an authenticated user may be told.
pub(super) fn message(refusal: Refusal, id: SessionId, choices: &[String]) -> Vec<u8> {
    let (code, state, text) = words(refusal);
    choose(code, state, text, choices, id)
}

/// An error packet with what an authenticated user may reach, as many whole names as it has room for.
pub(super) fn choose(code: u16, state: &str, text: &str, choices: &[String], id: SessionId) -> Vec<u8> {
    wire::error(code, state, &reachable_within(wire::ERROR_TEXT, text, choices, NAMES, id))
}

/// MySQL's error number, its SQLSTATE, and words ("MySQL Error Reference"). MariaDB has the same numbers below 1900; 3159 and 3955 are
/// MySQL's alone, and say it best. What ends a live session is 1053, the one that every client library takes for the end of its connection:
/// with 4031 some go on.
fn words(refusal: Refusal) -> (u16, &'static str, &'static str) {
    const UNREACHABLE: u16 = 1429;
    match refusal {
        Refusal::NotAuthenticated => (1045, "28000", "login failed"),
        Refusal::NotPermitted => (1044, "42000", "no such connection, or it is not open to you"),
        Refusal::TlsRequired => (3159, "HY000", "this login needs TLS (--ssl-mode=REQUIRED, --ssl)"),
        Refusal::Malformed => (1043, "08S01", "protocol violation"),
        Refusal::Unsupported => (1251, "08004", "the client or the server lacks a feature of the protocol that this login needs"),
        Refusal::TooSlow => (1159, "08S01", "the login took too long"),
        Refusal::Busy => (1040, "08004", "too many connections; try again later"),
        Refusal::Locked => (3955, "HY000", "too many failed logins; try again later"),
        Refusal::AuditUnavailable => (1105, "HY000", "the audit record cannot be written; ask the administrator"),
        Refusal::CredentialsUnavailable => (1105, "HY000", "the credential for this connection is not available; ask the administrator"),
        Refusal::UpstreamUnreachable => (UNREACHABLE, "HY000", "the server behind this connection cannot be reached"),
        Refusal::UpstreamUnverified => {
            (UNREACHABLE, "HY000", "the server behind this connection could not be verified; ask the administrator")
        }
        Refusal::UpstreamRefused(UpstreamRefusal::LoginRejected) => {
            (UNREACHABLE, "HY000", "the server behind this connection refused the login")
        }
        Refusal::UpstreamRefused(UpstreamRefusal::NoSuchDatabase) => {
            (1049, "42000", "the server behind this connection has no such database")
        }
        Refusal::UpstreamRefused(UpstreamRefusal::TooManyConnections) => {
            (1040, "08004", "the server behind this connection has no place left")
        }
        Refusal::UpstreamRefused(UpstreamRefusal::StartingUp) => {
            (1053, "08S01", "the server behind this connection is starting up or shutting down")
        }
        Refusal::SessionEnded(Reason::Idle) => (1053, "08S01", "the session was idle for too long"),
        Refusal::SessionEnded(Reason::Lifetime) => (1053, "08S01", "the session reached its longest lifetime"),
        Refusal::SessionEnded(Reason::LeaseEnd) => (1053, "08S01", "the session's credential has come to its end; connect again"),
        Refusal::SessionEnded(Reason::LeaseLost) => (1053, "08S01", "the session's credential was withdrawn by the store; connect again"),
        Refusal::SessionEnded(Reason::Withdrawn) => (1053, "08S01", "the permission for this session was withdrawn"),
        Refusal::SessionEnded(Reason::Killed) => (1053, "08S01", "the session was ended by an administrator"),
        Refusal::SessionEnded(Reason::KilledByUser) => (1053, "08S01", "the session was ended by its user"),
        Refusal::SessionEnded(Reason::AuditUnavailable) => (1053, "08S01", "the audit record cannot be written; ask the administrator"),
        Refusal::SessionEnded(Reason::Drain) | Refusal::ShuttingDown => (1053, "08S01", "keyward is shutting down; connect again"),
        Refusal::Internal => (1815, "HY000", "internal error"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_an_error_packet_with_the_session_id() {
        let id: SessionId = "0123456789abcdef".parse().unwrap();
        let packet = message(Refusal::NotAuthenticated, id, &[]);
        assert_eq!(String::from_utf8_lossy(&packet[3..]), "#28000keyward: login failed (session 0123456789abcdef)");
        assert_eq!(packet[..3], [0xff, 0x15, 0x04]);
        let named = message(Refusal::NotPermitted, id, &["orders".to_owned(), "payroll".to_owned()]);
        let wanted = "keyward: no such connection, or it is not open to you; you may reach: orders, payroll (session 0123456789abcdef)";
        assert_eq!(String::from_utf8_lossy(&named[9..]), wanted);
    }

    #[test]
    fn a_long_list_of_names_cuts_no_name_and_not_the_id() {
        let id: SessionId = "0123456789abcdef".parse().unwrap();
        let names: Vec<String> = (0..60).map(|number| format!("prod-orders-{number:02}")).collect();
        let packet = message(Refusal::NotPermitted, id, &names);
        let text = std::str::from_utf8(&packet[9..]).unwrap();
        let (listed, end) = text.split_once("you may reach: ").unwrap().1.split_once(", ... ").unwrap();
        assert_eq!((end, text.len() <= wire::ERROR_TEXT), ("(session 0123456789abcdef)", true), "{text}");
        assert!(listed.split(", ").eq(&names[..listed.split(", ").count()]), "{text}");
        assert!(text.len() + ", prod-orders-00".len() > wire::ERROR_TEXT, "no room is wasted");
    }
}
