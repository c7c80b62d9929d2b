//! PostgreSQL: one link, one session, one straight-line function (manual, chapter "Frontend/Backend Protocol").
//!
//! `server.rs` calls [`serve`] through the row [`KIND`]. Top to bottom: opening (TLS, startup, cancel) → login (the user's proof) →
//! the session's grant → lease and connect, side by side → upstream (the injection) → the record → the good news → relay.

mod cancel;
pub mod framer;
mod login;
mod messages;
mod opening;
mod refuse;
mod settings;
mod upstream;
pub mod wire;

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use keyward_auth::Grant;
use keyward_config::{Assets, ProtocolSettings, Section};
use tokio::io::AsyncWriteExt;

use crate::asked::Asked;
use crate::error::{Party, SessionError, Stage};
use crate::link::{Link, Stages};
use crate::protocol::{Kind, Probed, Served};
use crate::refusal::Refusal;
use crate::registry::{Handle, Number, Numbers};
use crate::relay::{Direction, Framing};
use crate::server::Proxy;
use crate::session::{Live, LoggedIn, Session};
use crate::settings::RelayMode;
use crate::stream::Stream;
use crate::told;
use crate::upstream::{Preface, Security, Verified};
use login::Proven;
use opening::Opening;
use settings::{ApplicationName, ConnectionSettings, ListenerSettings};
use upstream::Ready;
use wire::{Messages, Startup};

const NAME: &str = "postgres";
const PREFACE: Preface = Preface { default_port: 5432, alpn: &[opening::ALPN], security: Security::Tls };
/// PostgreSQL cuts `application_name` to this (NAMEDATALEN - 1).
const APPLICATION_NAME_MAX: usize = 63;
/// A role's name has at most 63 bytes (NAMEDATALEN - 1).
const USER_MAX: usize = 64;
/// Terminate: how a client leaves.
const TERMINATE: &[u8] = b"X\0\0\0\x04";

/// The row of PostgreSQL.
pub const KIND: Kind = Kind {
    settings: ProtocolSettings {
        name: NAME,
        listener: Section::of::<ListenerSettings>(),
        connection: Section::of::<ConnectionSettings>(),
        access: None,
        assets: Assets::Databases,
    },
    preface: PREFACE,
    check: settings::check,
    check_listener: settings::check_listener,
    serve,
    ready: |_, _| Ok(()),
    keeps: || Arc::new(()),
    opened: |_| (),
    probe: |proxy, grant| probe(proxy, grant).boxed(),
};

/// What a handshake comes to.
enum Established {
    Probe,
    Cancelled,
    Session(Box<(Session<Live>, Verified, Direction)>),
}

fn serve<'a>(link: &'a mut Link, client: &'a mut Stream) -> BoxFuture<'a, Result<Served, SessionError>> {
    async move {
        // Boxed, and gone before the relay starts: an idle session does not keep the login's buffers.
        let established = link.bounds().run(Box::pin(establish(link, client))).await;
        match established {
            Ok(Established::Probe) => Ok(Served::Probe),
            Ok(Established::Cancelled) => {
                // libpq takes a TLS end without close_notify for a failed cancel.
                let _ = tokio::time::timeout(told::PATIENCE, client.shutdown()).await;
                Ok(Served::Request)
            }
            Ok(Established::Session(session)) => {
                let (session, upstream, down) = *session;
                let framing = Framing { up: Direction::RawUntil(TERMINATE), down, decide: None };
                let farewell = |reason| refuse::farewell(reason, link.id);
                Ok(Served::Session(session.relay(client, upstream, framing, refuse::warning, farewell).await))
            }
            Err(error) => {
                let error = link.blame(error);
                refuse::tell(client, link.id, &error).await;
                Err(error)
            }
        }
    }
    .boxed()
}

async fn establish(link: &mut Link, client: &mut Stream) -> Result<Established, SessionError> {
    let startup = match opening::open(link, client).await? {
        Opening::Probe => return Ok(Established::Probe),
        Opening::Cancel { number, key } => {
            cancel::serve(link, number, &key).await;
            return Ok(Established::Cancelled);
        }
        Opening::Startup(startup) => startup,
    };
    let asked = asked(link, &startup);
    link.claimed.user = Some(asked.user.clone());
    link.claimed.connection.clone_from(&asked.connection);
    link.stages.end(Stage::Open);
    negotiate(client, &startup).await?;
    let proven = login::prove(link, client, &asked.user).await?;
    link.stages.end(Stage::Login);

    let session = match &asked.connection {
        Some(connection) => Session::authorise(link, &proven.identity, connection, asked.account.as_deref(), &PREFACE).await,
        // Perhaps there is a connection of the user's own name.
        None => match Session::authorise(link, &proven.identity, &asked.user, None, &PREFACE).await {
            Err(error) if error.refusal == Refusal::NotPermitted && error.choices.is_empty() => Err(which(link, &proven)),
            other => other,
        },
    }?;
    let grant = session.grant().clone();
    let settings = ConnectionSettings::of(&grant)?;
    let packet = startup_packet(&grant, settings, &asked, &startup)?;
    let login = upstream::Login { startup: packet, methods: &settings.require_auth };
    let LoggedIn { session, reached: verified, ready, .. } = session.log_in(&mut link.stages, &login).await?;
    let Ready { number, key, statuses, ready, rest, .. } = ready;
    let interrupt = cancel::Cancel { endpoint: verified.same_server(), number, key };
    let (number, key) = cancel_key(link, startup.minor)?;
    let handle = Handle { number, key, interrupt: Box::new(interrupt) };
    let session = session.established(link, verified.by(), Some(handle)).await?;
    // Only now may the client hear that it is in. Should it have left, the relay sees it.
    let mut news = good_news(&proven, &statuses, session.handle(), &ready);
    link.stages.waits_for(Stage::Login);
    let _ = messages::write(client, news.raw(&rest)).await;
    let down = match settings.relay {
        RelayMode::Tracked => Direction::Tracked(Box::new(framer::Messages::after(&rest))),
        RelayMode::Raw => Direction::Raw,
    };
    Ok(Established::Session(Box::new((session, verified, down))))
}

/// psql without `-d` asks for a database of the user's own name, and means none.
fn asked(link: &Link, startup: &Startup) -> Asked {
    let user = startup.user.split('+').next();
    let database = startup.database.as_deref().filter(|name| *name != startup.user && Some(*name) != user);
    Asked::of(link.door.connection.as_ref(), &startup.user, database)
}

/// Newer minor versions and extensions that we do not speak are answered before the login, as a server does.
async fn negotiate(client: &mut Stream, startup: &Startup) -> Result<(), SessionError> {
    if startup.minor > wire::NEWEST_MINOR || !startup.extensions.is_empty() {
        let minor = startup.minor.min(wire::NEWEST_MINOR);
        let answer = messages::write(client, Messages::default().negotiate(minor, &startup.extensions)).await;
        answer.map_err(|error| SessionError::client_io(Stage::Open, &error))?;
    }
    Ok(())
}

/// The user is proven and named no connection: he may know the names that he may reach.
fn which(link: &Link, proven: &Proven) -> SessionError {
    let names = link.proxy.gate.reachable(&proven.identity, NAME).into_iter().map(|reachable| reachable.to_string());
    let text = "the login names no connection";
    SessionError::new(Refusal::NotPermitted, Party::Client, Stage::Authorise, text).with_choices(names.collect())
}

/// What the upstream's startup packet says, but for the login name, which only the lease knows.
fn startup_packet<'a>(
    grant: &'a Grant,
    settings: &'a ConnectionSettings,
    asked: &'a Asked,
    startup: &'a Startup,
) -> Result<impl Fn(&str) -> Messages + 'a, SessionError> {
    let forbidden = |text: &'static str| Err(SessionError::new(Refusal::NotPermitted, Party::Client, Stage::Authorise, text));
    let database = asked.database.as_deref().unwrap_or_else(|| settings.own_database());
    if !settings.serves(database) {
        return forbidden("the connection does not serve this database");
    }
    if startup.replication.is_some() && !settings.replication {
        return forbidden("the connection does not allow replication");
    }
    let name = match (&startup.application_name, settings.application_name, &startup.replication) {
        // A standby's name decides whether it counts as synchronous.
        (name, ApplicationName::Keep, _) | (name, ApplicationName::Prefix, Some(_)) => name.clone(),
        (name, ApplicationName::Prefix, None) => Some(application_name(grant.user().as_str(), name.as_deref())),
    };
    let packet = move |user: &str| {
        let mut parameters: Vec<(&[u8], &[u8])> = startup.others.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect();
        parameters.extend(name.as_deref().map(|name| (b"application_name".as_slice(), name)));
        parameters.extend(startup.replication.as_deref().map(|value| (b"replication".as_slice(), value)));
        wire::upstream_startup(user, database, &parameters)
    };
    // The server reads no longer packet than we do, and the name that it will see there may be longer than the client's.
    if packet("").bytes().len() > wire::STARTUP_MAX.saturating_sub(USER_MAX) {
        return Err(SessionError::malformed(Stage::Authorise, "more startup parameters than fit into a packet to the server"));
    }
    Ok(packet)
}

/// Tells the DBA who it is: `alice via psql`, ASCII, cut as PostgreSQL cuts it.
fn application_name(user: &str, client: Option<&[u8]>) -> Vec<u8> {
    let client = client.filter(|name| !name.is_empty());
    let whole = match client {
        Some(client) => [user.as_bytes(), b" via ", client].concat(),
        None => user.as_bytes().to_vec(),
    };
    whole.into_iter().take(APPLICATION_NAME_MAX).map(|byte| if (b' '..=b'~').contains(&byte) { byte } else { b'?' }).collect()
}

/// Both from the CSPRNG; the key has 4 bytes in protocol 3.0, 32 in 3.2.
fn cancel_key(link: &Link, minor: u32) -> Result<(Number, Vec<u8>), SessionError> {
    let mut key = vec![0; if minor >= 2 { 32 } else { 4 }];
    let number = link.proxy.registry.number(Numbers::Positive).filter(|_| aws_lc_rs::rand::fill(&mut key).is_ok());
    let number = number.ok_or_else(|| SessionError::no_random(Stage::Inject))?;
    Ok((number, key))
}

fn good_news(proven: &Proven, statuses: &Messages, handle: Option<(u32, &[u8])>, ready: &Messages) -> Messages {
    let mut news = Messages::default();
    if let Some(last_word) = &proven.last_word {
        news.authentication(login::SASL_FINAL, last_word);
    }
    news.authentication(0, &[]).raw(statuses.bytes());
    if let Some((number, key)) = handle {
        news.key_data(number, key);
    }
    news.raw(ready.bytes());
    news
}

/// Logs in upstream as a session would, and out again.
async fn probe(proxy: Arc<Proxy>, grant: Grant) -> Result<Probed, SessionError> {
    let mut stages = Stages::default();
    let session = Session::of_operator(&proxy, grant, &PREFACE).await?;
    let grant = session.grant().clone();
    let settings = ConnectionSettings::of(&grant)?;
    let startup = |user: &str| wire::upstream_startup(user, settings.own_database(), &[(b"application_name", b"keyward check")]);
    let login = upstream::Login { startup, methods: &settings.require_auth };
    let LoggedIn { session, reached: mut verified, ready, .. } = session.log_in(&mut stages, &login).await?;
    let mut goodbye = Messages::default();
    goodbye.raw(TERMINATE);
    let _ = messages::write(verified.stream(), &goodbye).await;
    Ok(Probed { version: ready.version, verified_by: verified.by(), provenance: session.provenance().clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dba_sees_who_it_is() {
        assert_eq!(application_name("alice", Some(b"psql")), b"alice via psql");
        assert_eq!(application_name("alice", None), b"alice");
        assert_eq!(application_name("alice", Some("p\u{e4}sql".as_bytes())), b"alice via p??sql");
        assert_eq!(application_name(&"a".repeat(100), Some(b"x")).len(), APPLICATION_NAME_MAX);
    }
}
