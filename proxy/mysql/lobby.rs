//! The lobby: a user who is proven and names no connection. The mysql client logs in like this to send the KILL of a Ctrl-C. There is no
//! server behind it and no lease.

use std::time::Duration;

use keyward_auth::Identity;

use super::capabilities::Capabilities;
use super::packet::Packets;
use super::{NAME, command, kill, refuse, wire};
use crate::error::{Party, SessionError, Stage};
use crate::link::Link;
use crate::protocol::Served;
use crate::refusal::Refusal;
use crate::stream::Stream;

/// The longest command that is read here.
const COMMAND_MAX: usize = 16 * 1024;
/// Whoever says nothing for this long leaves. His place is one of the handshakes', and goes to a newcomer if there is no other.
const IDLE: Duration = Duration::from_secs(300);

/// Serves PING, QUIT, and KILL of the user's own sessions; everything else hears what he may reach.
///
/// # Errors
/// The client broke the protocol, was idle, had to make room, or the process is shutting down.
pub(super) async fn serve(
    link: &Link,
    client: &mut Stream,
    identity: &Identity,
    agreed: Capabilities,
    packets: &mut Packets,
) -> Result<Served, SessionError> {
    let bounds = link.bounds();
    let gone = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::InvalidData => SessionError::malformed(Stage::Authorise, error.to_string()),
        _ => SessionError::client_io(Stage::Authorise, &error),
    };
    packets.write(client, &wire::ok()).await.map_err(gone)?;
    loop {
        *packets = Packets::default();
        let closed = |refusal, text: &'static str| Err(SessionError::new(refusal, Party::Client, Stage::Authorise, text));
        let payload = tokio::select! {
            payload = packets.read_or_end(client, COMMAND_MAX) => payload.map_err(gone),
            // An answer to a command that is still to come, as far as the client knows.
            () = bounds.draining.cancelled() => { *packets = Packets::at(1); return closed(Refusal::ShuttingDown, "draining") }
            () = bounds.crowded_out.cancelled() => { *packets = Packets::at(1); return closed(Refusal::Busy, "a newcomer needed the place") }
            () = tokio::time::sleep(IDLE) => { *packets = Packets::at(1); return closed(Refusal::TooSlow, "nothing was asked for") }
        };
        // What was broken was a command: number 0 is for who was not greeted yet.
        let Some(payload) = payload.inspect_err(|_| *packets = Packets::at(1))? else { return Ok(Served::Request) };
        let answer = match payload.first() {
            None | Some(&command::QUIT) => return Ok(Served::Request),
            Some(&command::PING) => wire::ok(),
            // Of whatever id: there is no server here that could have another one.
            Some(_) => match kill::of(&payload, agreed) {
                Some(kill) => kill::run(&link.proxy, identity.user(), kill).await.map_or_else(|error| error, |()| wire::ok()),
                None => which(link, identity),
            },
        };
        packets.write(client, &answer).await.map_err(gone)?;
    }
}

/// ER_NO_DB_ERROR: the user is proven, and may know the names that he may reach.
fn which(link: &Link, identity: &Identity) -> Vec<u8> {
    let names: Vec<String> = link.proxy.gate.reachable(identity, NAME).into_iter().map(|reachable| reachable.to_string()).collect();
    let text = "the login names no connection: name one as the database, or log in as user+connection";
    wire::error(1046, "3D000", &refuse::sentence(&refuse::reachable(text, &names), link.id))
}
