//! A session as its server has it: by a number that says something on that server alone. Behind one address there may be several servers
//! (a balancer), whose numbers are alike and whose account is the same; so nothing is killed before the server that answers is known to be
//! the session's.
//!
//! `relogin.rs` asks on a fresh link of the same account. Every account may read what is asked for here, which is its own sessions: in
//! `SHOW PROCESSLIST` (MySQL means to take `information_schema.processlist` away) and in
//! `performance_schema.session_account_connect_attrs`, which is empty where the performance schema is off, as MariaDB's is by default.

use std::io;

use keyward_auth::SessionId;

use super::packet::{self, Packets};
use super::{command, wire};
use crate::stream::Stream;

/// A session of a server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Thread {
    /// The server's number of it.
    pub(super) id: u32,
    /// The port of our end. `None`: a unix socket.
    pub(super) port: Option<u16>,
}

impl Thread {
    /// The one that greeted with this number at the other end of the stream.
    pub(super) fn of(id: u32, stream: &Stream) -> Self {
        Self { id, port: stream.local().map(|address| address.port()) }
    }
}

/// Whose session it is.
pub(super) struct Owner<'a> {
    /// The account on the server.
    pub(super) user: &'a str,
    /// No other session has this account.
    pub(super) alone: bool,
    /// Ours, as the attributes of the server's session say it.
    pub(super) session: SessionId,
}

/// What a server knows of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has it.
    Here,
    /// It has none of this number: it has ended, or is another server's.
    Absent,
    /// It has one of this number, and nothing shows that this is the one.
    Unproven,
}

/// Whether the server at the other end has this session. What shows it: an account that no other session has; the port of our end, where
/// nothing on the way changes it; or the attributes that we logged in with. A number and a shared account alone show nothing: behind a
/// balancer they fit another user's session as well.
///
/// # Errors
/// The transport's; `InvalidData`: what comes is no answer. A server that does not let the list be read has an error for it.
pub(super) async fn standing(stream: &mut Stream, thread: Thread, owner: &Owner<'_>) -> io::Result<Standing> {
    let mut found = None;
    let number = thread.id.to_string();
    let listed = rows(stream, "SHOW PROCESSLIST", |[id, user, host]| {
        if id == Some(number.as_bytes()) && user == Some(owner.user.as_bytes()) {
            found = Some(port(host.unwrap_or_default()));
        }
    });
    listed.await?.map_err(|error| io::Error::other(format!("SHOW PROCESSLIST: {}", error.code)))?;
    let Some(port) = found else { return Ok(Standing::Absent) };
    if owner.alone || port == thread.port || has_attribute(stream, thread.id, owner.session).await? {
        return Ok(Standing::Here);
    }
    Ok(Standing::Unproven)
}

/// Whether the server's session of this number was logged in for this session of ours. An error counts as no: there are servers that know
/// no attributes.
async fn has_attribute(stream: &mut Stream, id: u32, session: SessionId) -> io::Result<bool> {
    let attributes = "SELECT ATTR_VALUE FROM performance_schema.session_account_connect_attrs";
    let asked = format!("{attributes} WHERE PROCESSLIST_ID = {id} AND ATTR_NAME = '{}'", super::SESSION_ATTRIBUTE);
    let (wanted, mut there) = (session.to_string(), false);
    let answered = rows(stream, &asked, |[value]| there |= value == Some(wanted.as_bytes())).await?;
    Ok(answered.is_ok() && there)
}

/// The port in `host:port`.
fn port(host: &[u8]) -> Option<u16> {
    std::str::from_utf8(host).ok()?.rsplit_once(':')?.1.parse().ok()
}

/// Asks, and shows the first columns of each row that comes, one at a time: a list may be long.
async fn rows<const N: usize>(
    stream: &mut Stream,
    query: &str,
    mut row: impl FnMut([Option<&[u8]>; N]),
) -> io::Result<Result<(), wire::ServerError>> {
    let malformed = |error: wire::Malformed| io::Error::new(io::ErrorKind::InvalidData, error.0);
    let mut packets = Packets::default();
    packets.write(stream, &[&[command::QUERY], query.as_bytes()].concat()).await?;
    // The header and the columns, then the rows: an EOF ends either, since our links do without DEPRECATE_EOF.
    let mut header = true;
    loop {
        let payload = packets.read(stream, packet::UPSTREAM_MAX).await?;
        match payload.as_slice() {
            [0xff, ..] => return wire::ServerError::parse(&payload).map(Err).map_err(malformed),
            [0xfe, rest @ ..] if rest.len() < 8 => match header {
                true => header = false,
                false => return Ok(Ok(())),
            },
            _ if header => {}
            _ => row(wire::columns(&payload).map_err(malformed)?),
        }
    }
}

#[cfg(test)]
#[path = "thread_tests.rs"]
mod tests;
