//! MySQL and MariaDB: one link, one session, one straight-line function (MySQL's source documentation, "Client/Server Protocol"; MariaDB's
//! knowledge base, the same).
//!
//! `server.rs` calls [`serve`] through the row [`KIND`]. Top to bottom: opening (our greeting, TLS, the client's answer) → login (the
//! user's proof) → the session's grant, or the lobby for who names no connection → lease and connect, side by side → upstream (the
//! injection) → the record → the good news → relay, which holds back the few commands that `commands.rs` decides about.

pub mod capabilities;
mod command;
mod commands;
mod facts;
pub mod framer;
mod kill;
mod lobby;
mod login;
mod opening;
pub mod packet;
mod public_key;
mod refuse;
mod relogin;
#[cfg(test)]
mod sample;
mod settings;
pub mod statement;
mod thread;
mod upstream;
pub mod wire;

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use keyward_auth::{Grant, Identity};
use keyward_config::{Assets, LeaseSharing, ProtocolSettings, Section};

use crate::asked::Asked;
use crate::error::{Party, SessionError, Stage, escaped};
use crate::link::{Link, Stages};
use crate::protocol::{Kind, Probed, Served};
use crate::refusal::Refusal;
use crate::registry::{Handle, Number, Numbers};
use crate::relay::{Direction, Framing};
use crate::server::Proxy;
use crate::session::{Live, LoggedIn, Session};
use crate::settings::{Methods, RelayMode};
use crate::stream::Stream;
use crate::upstream::{Preface, Security, Verified};
use capabilities::Capabilities;
use commands::Commands;
use facts::Facts;
use framer::{Answers, Hold};
use opening::{Opened, Opening};
use packet::Packets;
use public_key::KeyPair;
use relogin::{QueryKill, Relogin};
use settings::{ConnectionSettings, ListenerSettings, Method};
use thread::Thread;
use upstream::{Asking, Login, Ready, Rules};
use wire::{Attributes, Greeting};

const NAME: &str = "mysql";
const PREFACE: Preface = Preface { default_port: 3306, alpn: &[], security: Security::Tls };
/// Of links of our own: the mysql client's default.
const MAX_PACKET: u32 = 16 * 1024 * 1024;
/// Of links of our own: utf8mb4_general_ci, which MySQL and MariaDB give the same number.
const CHARSET: u8 = 45;
/// The attribute of the server's session that has the id of ours.
const SESSION_ATTRIBUTE: &str = "keyward_session";
/// The server's RSA key: a 8192 bit one has 1.4 KiB in PEM.
const PUBLIC_KEY_MAX: u64 = 16 * 1024;

/// The row of MySQL and MariaDB.
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
    keeps: || Arc::new(State::default()),
    opened,
    probe: |proxy, grant| probe(proxy, grant).boxed(),
};

/// What is kept for the whole process.
#[derive(Default)]
struct State {
    facts: Arc<Facts>,
    keys: KeyPair,
}

/// What a handshake comes to.
enum Established {
    Probe,
    /// The number is the lobby's as long as it lasts.
    Lobby(Identity, Capabilities, Number),
    Session(Box<Up>),
}

/// A session that its client knows of, and what its relay needs.
struct Up {
    session: Session<Live>,
    upstream: Verified,
    grant: Grant,
    relogin: Arc<Relogin>,
    agreed: Capabilities,
    max_packet: u32,
    charset: u8,
}

/// The file was read: servers that nobody has asked yet are asked for their greeting, in the background.
fn opened(proxy: &Arc<Proxy>) {
    if let Some(state) = proxy.kept::<State>(NAME) {
        facts::refresh(&state.facts, &proxy.gate.connections(NAME), PREFACE, &proxy.roots(), &proxy.draining);
    }
}

fn state_of(proxy: &Proxy) -> Result<&State, SessionError> {
    proxy.kept(NAME).ok_or_else(|| SessionError::new(Refusal::Internal, Party::Proxy, Stage::Open, "nothing is kept for MySQL"))
}

fn serve<'a>(link: &'a mut Link, client: &'a mut Stream) -> BoxFuture<'a, Result<Served, SessionError>> {
    async move {
        let mut packets = Packets::default();
        // Boxed, and gone before the relay starts: an idle session does not keep the login's buffers.
        let established = link.bounds().run(Box::pin(establish(link, client, &mut packets))).await;
        let served = match established {
            Ok(Established::Probe) => Ok(Served::Probe),
            Ok(Established::Lobby(identity, agreed, _number)) => {
                link.count_stages();
                lobby::serve(link, client, &identity, agreed, &mut packets).await
            }
            Ok(Established::Session(up)) => return relay(link, client, *up).await,
            Err(error) => Err(error),
        };
        match served {
            Err(error) => {
                let error = link.blame(error);
                refuse::tell(client, packets, link.id, &error).await;
                Err(error)
            }
            served => served,
        }
    }
    .boxed()
}

async fn establish(link: &mut Link, client: &mut Stream, packets: &mut Packets) -> Result<Established, SessionError> {
    let proxy = Arc::clone(&link.proxy);
    let state = state_of(&proxy)?;
    // Told in the greeting, so that it is taken before anybody is known.
    let number = proxy.registry.number(Numbers::High);
    let number = number.ok_or_else(|| SessionError::no_random(Stage::Open))?;
    let face = state.facts.face(link.door.connection.as_ref());
    let Opening::Answered(opened) = opening::open(link, client, packets, &face, number.get()).await? else { return Ok(Established::Probe) };
    let asked = Asked::of(link.door.connection.as_ref(), &opened.login, opened.database.as_deref());
    link.claimed.user = Some(asked.user.clone());
    link.claimed.connection.clone_from(&asked.connection);
    link.stages.end(Stage::Open);
    let identity = login::prove(link, client, packets, &state.keys, &asked.user, &opened).await?;
    link.stages.end(Stage::Login);

    let Some(connection) = &asked.connection else { return Ok(Established::Lobby(identity, opened.answer.capabilities, number)) };
    let session = Session::authorise(link, &identity, connection, asked.account.as_deref(), &PREFACE).await?;
    let grant = session.grant().clone();
    let database = database(&grant, asked.database.as_deref())?;
    let rules = rules(&grant).await?;
    let Opened { answer, offered, .. } = *opened;
    // A listener that leads to several connections offers what one of them allows; this one may not.
    let allowed = if ConnectionSettings::of(&grant)?.local_infile { offered } else { offered.without(Capabilities::LOCAL_FILES) };
    let asking = Asking {
        client: answer.capabilities,
        offered: allowed,
        max_packet: answer.max_packet,
        charset: answer.charset,
        database: database.as_deref().map(str::as_bytes),
        attributes: attributes(&grant, answer.attributes),
    };
    let heard = |greeting: &Greeting| state.facts.learn(grant.connection(), greeting);
    let login = Login { asking: &asking, rules: rules.borrowed(), heard: &heard };
    let LoggedIn { session, reached, ready, credential } = session.log_in(&mut link.stages, &login).await?;
    let mut verified = reached.verified;
    let news = good_news(&ready)?;
    let thread = Thread::of(ready.thread_id, verified.stream());
    let alone = session.provenance().lease.is_some() && grant.connection().sharing() == LeaseSharing::PerSession;
    let relogin = Arc::new(Relogin::new((verified.same_server(), thread), credential, alone, grant.clone(), proxy));
    let handle = Handle { number, key: Vec::new(), interrupt: Box::new(QueryKill(Arc::clone(&relogin))) };
    let session = session.established(link, verified.by(), Some(handle)).await?;
    // Only now may the client hear that it is in. Should it have left, the relay sees it.
    link.stages.waits_for(Stage::Login);
    let _ = packets.write(client, &news).await;
    let (agreed, max_packet, charset) = (ready.capabilities, asking.max_packet, asking.charset);
    Ok(Established::Session(Box::new(Up { session, upstream: verified, grant, relogin, agreed, max_packet, charset })))
}

async fn relay(link: &Link, client: &mut Stream, up: Up) -> Result<Served, SessionError> {
    let Up { session, upstream, grant, relogin, agreed, max_packet, charset } = up;
    let settings = ConnectionSettings::of(&grant)?;
    let hold = Hold { own_name: own_name(&grant, settings), replication: settings.replication };
    let answers = Answers::default();
    let place = answers.place();
    let down = match settings.relay {
        RelayMode::Tracked => Direction::Tracked(Box::new(answers)),
        RelayMode::Raw => Direction::Raw,
    };
    let up = Direction::Tracked(Box::new(framer::Commands::new(agreed, hold)));
    let state = state_of(&link.proxy)?;
    let decide = Commands { link, state, grant: grant.clone(), relogin, agreed, max_packet, charset };
    let framing = Framing { up, down, decide: Some(Box::new(decide)) };
    // The protocol has no message that nobody asked for: its warnings are in the record.
    let farewell = |reason| refuse::farewell(place.next(), reason, link.id);
    Ok(Served::Session(session.relay(client, upstream, framing, |_, _| Vec::new(), farewell).await))
}

/// The server's database: the one that is asked for, if the connection serves it, else the connection's own, which its name stands for too.
fn database(grant: &Grant, asked: Option<&str>) -> Result<Option<String>, SessionError> {
    let settings = ConnectionSettings::of(grant)?;
    let own = grant.connection().name().as_str();
    match asked.filter(|name| *name != own || settings.names(name)) {
        None => Ok(settings.database.clone()),
        Some(name) if settings.serves(name) => Ok(Some(name.to_owned())),
        Some(_) => {
            let text = "the connection does not serve this database";
            Err(SessionError::new(Refusal::NotPermitted, Party::Client, Stage::Authorise, text))
        }
    }
}

/// The name by which clients choose the connection's database, where the server may not have one of that name itself.
fn own_name(grant: &Grant, settings: &ConnectionSettings) -> Option<Vec<u8>> {
    let name = grant.connection().name().as_str();
    settings.database.as_deref().filter(|_| !settings.names(name)).map(|_| name.as_bytes().to_vec())
}

/// What the connection says of the login that the server may ask for.
struct LoginRules<'a> {
    methods: &'a Methods<Method>,
    server_public_key: Option<Vec<u8>>,
}

impl LoginRules<'_> {
    fn borrowed(&self) -> Rules<'_> {
        Rules { methods: self.methods, server_public_key: self.server_public_key.as_deref() }
    }
}

async fn rules(grant: &Grant) -> Result<LoginRules<'_>, SessionError> {
    let settings = ConnectionSettings::of(grant)?;
    let unreadable = |text| SessionError::new(Refusal::UpstreamUnverified, Party::Proxy, Stage::Connect, text);
    let server_public_key = match settings.server_public_key.clone() {
        None => None,
        Some(path) => {
            let read = tokio::task::spawn_blocking(move || settings::public_key(path.as_ref())).await;
            Some(read.unwrap_or_else(|_| Err("the read was cut off".to_owned())).map_err(unreadable)?)
        }
    };
    Ok(LoginRules { methods: &settings.require_auth, server_public_key })
}

/// Tells the DBA who it is (`performance_schema.session_connect_attrs`): ours first, since the server keeps only so many bytes.
fn attributes(grant: &Grant, client: Attributes) -> Attributes {
    let mut attributes = own_attributes(grant);
    attributes.extend(client.into_iter().filter(|(name, _)| !name.starts_with(b"keyward_")));
    attributes
}

fn own_attributes(grant: &Grant) -> Attributes {
    let own = [("keyward_user", grant.user().to_string()), (SESSION_ATTRIBUTE, grant.session().to_string())];
    own.into_iter().map(|(name, value)| (name.as_bytes().to_vec(), value.into_bytes())).collect()
}

fn good_news(ready: &Ready) -> Result<Vec<u8>, SessionError> {
    let broken = |error: wire::Malformed| SessionError::new(Refusal::UpstreamUnreachable, Party::Upstream, Stage::Inject, error.0);
    wire::bare_ok(&ready.ok).map_err(broken)
}

/// Logs in upstream as a session would, and out again.
async fn probe(proxy: Arc<Proxy>, grant: Grant) -> Result<Probed, SessionError> {
    let mut stages = Stages::default();
    let session = Session::of_operator(&proxy, grant, &PREFACE).await?;
    let grant = session.grant().clone();
    let settings = ConnectionSettings::of(&grant)?;
    let rules = rules(&grant).await?;
    let asking = Asking {
        client: Capabilities::PROTOCOL_41,
        offered: Capabilities::PROTOCOL_41,
        max_packet: MAX_PACKET,
        charset: CHARSET,
        database: settings.database.as_deref().map(str::as_bytes),
        attributes: own_attributes(&grant),
    };
    let login = Login { asking: &asking, rules: rules.borrowed(), heard: &|_| () };
    let LoggedIn { session, mut reached, .. } = session.log_in(&mut stages, &login).await?;
    let version = escaped(&reached.greeting.version);
    let _ = Packets::default().write(reached.verified.stream(), &[command::QUIT]).await;
    Ok(Probed { version, verified_by: reached.verified.by(), provenance: session.provenance().clone() })
}
