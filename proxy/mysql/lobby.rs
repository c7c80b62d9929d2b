//! The lobby: a user who is proven and names no connection. The mysql client logs in like this to send the KILL of a Ctrl-C. There is no
//! server behind it and no lease.

use std::time::{Duration, Instant};

use keyward_auth::Identity;

use super::capabilities::Capabilities;
use super::kill::Killed;
use super::packet::Packets;
use super::{NAME, command, kill, refuse, wire};
use crate::error::{Party, SessionError, Stage};
use crate::link::{Bounds, Link};
use crate::protocol::Served;
use crate::refusal::{Reason, Refusal};
use crate::stream::Stream;
use crate::told;

/// The longest command that is read here.
const COMMAND_MAX: usize = 16 * 1024;
/// Whoever says nothing for this long leaves. His place is one of the handshakes', and goes to a newcomer if there is no other.
const IDLE: Duration = Duration::from_secs(300);
/// And so does who has been here for this long, whatever he says.
const LIFE: Duration = Duration::from_secs(3600);

/// Serves PING, QUIT, and KILL of the user's own sessions; everything else hears what he may reach. Who is idle, was there for too long, has to
/// make room, or is there when the process shuts down hears so: he is logged in, so that nothing was refused.
///
/// # Errors
/// The client broke the protocol, or does not read.
pub(super) async fn serve(
    link: &Link,
    client: &mut Stream,
    identity: &Identity,
    agreed: Capabilities,
    packets: &mut Packets,
) -> Result<Served, SessionError> {
    let bounds = Bounds { deadline: Instant::now().checked_add(LIFE).unwrap_or(link.deadline), ..link.bounds() };
    let served = bounds.run(answer_all(link, client, identity, agreed, packets)).await;
    let Err(mut error) = served else { return served };
    // What ends it is an answer to a command that is still to come, as far as the client knows: number 0 is for who was not greeted yet.
    *packets = Packets::at(packets.next().max(1));
    if error.refusal == Refusal::TooSlow {
        error.refusal = Refusal::SessionEnded(Reason::Lifetime);
    }
    if !matches!(error.refusal, Refusal::SessionEnded(_) | Refusal::Busy | Refusal::ShuttingDown) {
        return Err(error);
    }
    refuse::tell(client, *packets, link.id, &error).await;
    Ok(Served::Request)
}

async fn answer_all(
    link: &Link,
    client: &mut Stream,
    identity: &Identity,
    agreed: Capabilities,
    packets: &mut Packets,
) -> Result<Served, SessionError> {
    say(client, packets, &wire::ok()).await?;
    loop {
        *packets = Packets::default();
        let read = tokio::time::timeout(IDLE, packets.read_or_end(client, COMMAND_MAX)).await;
        let idle = |_| SessionError::new(Refusal::SessionEnded(Reason::Idle), Party::Client, Stage::Authorise, "nothing was asked for");
        let Some(payload) = read.map_err(idle)?.map_err(|error| SessionError::client_io(Stage::Authorise, &error))? else {
            return Ok(Served::Request);
        };
        let answer = match payload.first() {
            None | Some(&command::QUIT) => return Ok(Served::Request),
            Some(&command::PING) => wire::ok(),
            // Of whatever id: there is no server here that could have another one.
            Some(_) => match kill::of(&payload, agreed) {
                Some(kill) => match kill::run(&link.proxy, identity.user(), kill).await {
                    Killed::Done => wire::ok(),
                    Killed::Unknown => wire::error(1094, "HY000", &kill::unknown(kill)),
                    Killed::Failed => wire::error(1105, "HY000", &told::sentence("the query could not be stopped", link.id)),
                },
                None => which(link, identity),
            },
        };
        say(client, packets, &answer).await?;
    }
}

/// A client that does not read what it asked for is not waited for.
async fn say(client: &mut Stream, packets: &mut Packets, answer: &[u8]) -> Result<(), SessionError> {
    let said = tokio::time::timeout(told::PATIENCE, packets.write(client, answer)).await;
    said.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map_err(|error| SessionError::client_io(Stage::Authorise, &error))
}

/// ER_NO_DB_ERROR: the user is proven, and may know the names that he may reach.
fn which(link: &Link, identity: &Identity) -> Vec<u8> {
    let names: Vec<String> = link.proxy.gate.reachable(identity, NAME).into_iter().map(|reachable| reachable.to_string()).collect();
    let text = "the login names no connection: name one as the database, or log in as user+connection";
    refuse::choose(1046, "3D000", text, &names, link.id)
}
