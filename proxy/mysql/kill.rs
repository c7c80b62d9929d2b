//! KILL with a connection id of ours: the client knows its session by that id, the server by another one.

use keyward_config::Name;

use super::capabilities::Capabilities;
use super::statement::{self, Kill};
use super::{NAME, command};
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

/// What a KILL came to.
pub(super) enum Killed {
    /// It is done.
    Done,
    /// The session is not there, or not this user's, which are the same.
    Unknown,
    /// The server did not let it be done.
    Failed,
}

/// Does what a KILL of this user asks for, and returns once it is done.
pub(super) async fn run(proxy: &Proxy, user: &Name, kill: Kill) -> Killed {
    let (Kill::Connection(id) | Kill::Query(id)) = kill;
    let number = u32::try_from(id).ok();
    let live = number.and_then(|number| proxy.registry.by_handle(number, &[]));
    let live = live.filter(|live| live.grant.connection().protocol() == NAME && live.grant.user() == user);
    proxy.metrics.cancel(NAME, live.is_some());
    let Some(live) = live else { return Killed::Unknown };
    let session = live.grant.session();
    let done = match kill {
        Kill::Query(_) => live.interrupt().await,
        Kill::Connection(_) => {
            // What has ended meanwhile is ended, too.
            proxy.registry.end(session, Reason::KilledByUser);
            true
        }
    };
    tracing::info!(%session, ?kill, done, "a user's KILL");
    if done { Killed::Done } else { Killed::Failed }
}

/// ER_NO_SUCH_THREAD (1094), in the server's words.
pub(super) fn unknown(kill: Kill) -> String {
    format!("Unknown thread id: {}", kill.id())
}
