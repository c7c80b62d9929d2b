//! KILL with a connection id of ours: the client knows its session by that id, the server by another one.

use keyward_config::Name;

use super::capabilities::Capabilities;
use super::statement::{self, Kill};
use super::{NAME, command, wire};
use crate::refusal::Reason;
use crate::server::Proxy;

/// The KILL that a command is, as text or as COM_PROCESS_KILL.
pub(super) fn of(payload: &[u8], agreed: Capabilities) -> Option<Kill> {
    match payload.split_first()? {
        (&command::QUERY, _) => statement::kill(statement::query_text(payload, agreed)?),
        (&command::PROCESS_KILL, id) => Some(Kill::Connection(u32::from_le_bytes(id.try_into().ok()?).into())),
        _ => None,
    }
}

/// Does what a KILL of this user asks for, and returns once it is done.
///
/// # Errors
/// The error packet that a server would answer with: the session is not there, or not this user's, which are the same.
pub(super) async fn run(proxy: &Proxy, user: &Name, kill: Kill) -> Result<(), Vec<u8>> {
    let (Kill::Connection(id) | Kill::Query(id)) = kill;
    let number = u32::try_from(id).ok();
    let live = number.and_then(|number| proxy.registry.by_wire_id(number, &[]));
    let live = live.filter(|live| live.grant.connection().protocol() == NAME && live.grant.user() == user);
    proxy.metrics.cancel(NAME, live.is_some());
    let live = live.ok_or_else(|| unknown(id))?;
    match kill {
        Kill::Query(_) => live.interrupt.interrupt().await,
        Kill::Connection(_) => drop(proxy.registry.end(live.grant.session(), Reason::KilledByUser)),
    }
    Ok(())
}

/// ER_NO_SUCH_THREAD, in the server's words.
fn unknown(id: u64) -> Vec<u8> {
    wire::error(1094, "HY000", &format!("Unknown thread id: {id}"))
}
