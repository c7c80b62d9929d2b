//! SSH (RFC 4251 to 4254, and OpenSSH's PROTOCOL): one link, one session, one straight-line function; or one link that leads nowhere itself,
//! and sessions inside its channels (`ssh -J`).
//!
//! `server.rs` calls [`serve`] through the row [`KIND`]. Top to bottom: the first key exchange → login (the user's proof) → the session's
//! grant, or the jump for who names no connection → lease and connect, side by side → upstream (its host key, then the injection) → the record →
//! the good news → relay, whose messages pass as the policy says. `transport/` is SSH as state machines; here is what moves the bytes.

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod dice;
pub(crate) mod host;
mod jump;
mod login;
#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod numbered;
mod pace;
#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod pair;
mod record;
mod refuse;
mod relay;
mod settings;
pub(crate) mod trust;
mod upstream;
mod visitor;
mod wire;

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use keyward_auth::Grant;
use keyward_config::{Assets, ProtocolSettings, Section};
use keyward_ssh_transport::policy::{Channels, Permission, Policy};

use crate::asked::Asked;
use crate::error::{Party, SessionError, Stage, escaped};
use crate::link::{Link, Stages};
use crate::protocol::{Kind, Probed, Served};
use crate::refusal::Refusal;
use crate::server::Proxy;
use crate::session::{Live, LoggedIn, Session};
use crate::stream::Stream;
use crate::upstream::{Preface, Security};
use host::Host;
use login::Who;
use pace::Pace;
use relay::{Left, Leg, Relay, Words};
use settings::{AccessSettings, ConnectionSettings, ListenerSettings};
use upstream::{Login, Reached};
use visitor::Visitor;
use wire::{Heard, Silent, Wire};

pub(crate) const NAME: &str = "ssh";
pub(crate) const PREFACE: Preface = Preface { default_port: 22, alpn: &[], security: Security::HostKeys };

/// The row of SSH.
pub const KIND: Kind = Kind {
    settings: ProtocolSettings {
        name: NAME,
        listener: Section::of::<ListenerSettings>(),
        connection: Section::of::<ConnectionSettings>(),
        access: Some(Section::of::<AccessSettings>()),
        assets: Assets::Servers,
    },
    preface: PREFACE,
    check: settings::check,
    check_listener: settings::check_listener,
    serve,
    ready,
    keeps: || Arc::new(State::default()),
    opened: |_| {},
    probe: |proxy, grant| probe(proxy, grant).boxed(),
};

/// What is kept for the whole process: nothing before the first listener.
#[derive(Default)]
struct State(OnceLock<Host>);

/// What a handshake comes to.
enum Established {
    Probe,
    /// He named no connection.
    Jump(Arc<Who>),
    Session(Box<Up>),
}

/// A session that its client knows of.
struct Up {
    session: Session<Live>,
    reached: Reached,
    grant: Grant,
}

fn ready(proxy: &Proxy, state: &Path) -> Result<(), String> {
    let kept: &State = proxy.kept(NAME).ok_or("nothing is kept for SSH")?;
    if kept.0.get().is_none() {
        let _ = kept.0.set(Host::open(state)?);
    }
    Ok(())
}

/// Our keys.
fn host_of(proxy: &Proxy) -> Result<&Host, String> {
    proxy.kept::<State>(NAME).and_then(|kept| kept.0.get()).ok_or_else(|| "there are no host keys".to_owned())
}

fn serve<'a>(link: &'a mut Link, client: &'a mut Stream) -> BoxFuture<'a, Result<Served, SessionError>> {
    async move {
        let limits = ListenerSettings::of(&link.door)?.limits();
        let host = host_of(&link.proxy).map_err(|text| SessionError::new(Refusal::Internal, Party::Proxy, Stage::Open, text))?;
        let mut wire = Wire::server(host.config(limits));
        let served = match link.bounds().run(Box::pin(establish(link, client, &mut wire, None))).await {
            Ok(Established::Probe) => Ok(Served::Probe),
            Ok(Established::Jump(who)) => jump::serve(link, client, &mut wire, who).await,
            Ok(Established::Session(up)) => return relay(link, client, &mut wire, *up).await,
            Err(error) => Err(error),
        };
        told(link, client, &mut wire, served).await
    }
    .boxed()
}

/// Serves a link inside a jump.
fn serve_inside(
    visitor: Arc<Visitor>,
) -> impl for<'a> FnOnce(&'a mut Link, &'a mut Stream) -> BoxFuture<'a, Result<Served, SessionError>> + Send + 'static {
    move |link, client| inside(link, client, visitor).boxed()
}

async fn inside(link: &mut Link, client: &mut Stream, visitor: Arc<Visitor>) -> Result<Served, SessionError> {
    let mut wire = Wire::server(Arc::clone(&visitor.config));
    link.noted = visitor.noted();
    let served = match link.bounds().run(Box::pin(establish(link, client, &mut wire, Some(&visitor)))).await {
        Ok(Established::Session(up)) => return relay(link, client, &mut wire, *up).await,
        Ok(Established::Probe | Established::Jump(_)) => Ok(Served::Probe),
        Err(error) => Err(error),
    };
    told(link, client, &mut wire, served).await
}

/// The one place that tells the client why it is not served.
async fn told(link: &Link, client: &mut Stream, wire: &mut Wire, served: Result<Served, SessionError>) -> Result<Served, SessionError> {
    match served {
        Err(error) => {
            let error = link.blame(error);
            refuse::tell(client, wire, link.id, &error).await;
            Err(error)
        }
        served => served,
    }
}

async fn establish(link: &mut Link, client: &mut Stream, wire: &mut Wire, visitor: Option<&Visitor>) -> Result<Established, SessionError> {
    match wire.hear(client).await {
        Ok(Heard::Ready) => {}
        Err(Silent::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof && wire.conn.peer_ident().is_none() => {
            return Ok(Established::Probe);
        }
        Ok(Heard::Message(_) | Heard::HostKey(_)) => {
            return Err(SessionError::malformed(Stage::Open, "a message before the first keys"));
        }
        Err(silent) => return Err(silent.of_client(Stage::Open)),
    }
    link.stages.end(Stage::Open);
    let login::Proven { who, login, mut machine } = login::prove(link, client, wire, visitor).await?;
    link.stages.end(Stage::Login);

    let session = match visitor {
        Some(visitor) => {
            let account = visitor.account(link, &login);
            Session::authorise(link, &who.identity, &visitor.target, account, &PREFACE).await?
        }
        None => {
            let asked = Asked::of(link.door.connection.as_ref(), &login, None);
            let Some(connection) = &asked.connection else {
                let success = machine.success().map_err(|ended| internal(ended.to_string()))?;
                welcome(client, wire, vec![success]).await?;
                return Ok(Established::Jump(Arc::new(who)));
            };
            Session::authorise(link, &who.identity, connection, asked.account.as_deref(), &PREFACE).await?
        }
    };
    let grant = session.grant().clone();
    let LoggedIn { session, reached, ready, .. } = session.log_in(&mut link.stages, &Login { grant: &grant }).await?;
    let session = session.established(link, reached.verified.by(), None).await?;
    // Only now may the client hear that it is in. Should it have left, the relay sees it.
    link.stages.waits_for(Stage::Login);
    let mut news: Vec<Vec<u8>> = ready.banners.iter().filter_map(|banner| machine.tell(banner).ok()).collect();
    news.push(machine.success().map_err(|ended| internal(ended.to_string()))?);
    let _ = welcome(client, wire, news).await;
    Ok(Established::Session(Box::new(Up { session, reached, grant })))
}

/// Tells the client that it is in.
async fn welcome(client: &mut Stream, wire: &mut Wire, news: Vec<Vec<u8>>) -> Result<(), SessionError> {
    let said = wire.say(client, &news).await.map_err(|silent| silent.of_client(Stage::Login));
    wire.conn.authenticated();
    said
}

async fn relay(link: &Link, client: &mut Stream, wire: &mut Wire, up: Up) -> Result<Served, SessionError> {
    let Up { session, reached, grant } = up;
    let Reached { wire: mut upstream, verified } = reached;
    let mut stream = verified.into_stream();
    let policy = Policy::new(allowed(Arc::clone(&link.proxy), grant));
    let mut record = |event: &_| session.record(&record::channel(event));
    let relay = Relay {
        client: Leg { wire, stream: client, pace: Pace::default() },
        upstream: Leg { wire: &mut upstream, stream: &mut stream, pace: Pace::default() },
        policy,
        traffic: session.traffic(),
        record: &mut record,
        id: link.id,
        words: Words::default(),
        left: Left::default(),
    };
    let outcome = relay.run(session.ends(), session.warnings(|warning| refuse::warning(warning, link.id))).await;
    Ok(Served::Session(session.finish(outcome, stream).await))
}

/// What a session may do, now: the rules that allow it add up, and a certificate takes from that.
fn allowed(proxy: Arc<Proxy>, grant: Grant) -> Box<dyn Fn() -> Channels + Send> {
    Box::new(move || {
        let rules = proxy.gate.rules(&grant);
        let channels = rules.iter().filter_map(|rule| rule.downcast_ref::<AccessSettings>());
        let permissions = channels.flat_map(|rule| rule.channels.iter().copied()).map(Permission::from);
        let channels = Channels::of(permissions);
        match grant.key().and_then(|key| key.certificate()) {
            Some(certificate) => channels.within(certificate.permissions()),
            None => channels,
        }
    })
}

fn internal(text: String) -> SessionError {
    SessionError::new(Refusal::Internal, Party::Proxy, Stage::Login, text)
}

/// Logs in upstream as a session would, and out again.
async fn probe(proxy: Arc<Proxy>, grant: Grant) -> Result<Probed, SessionError> {
    let mut stages = Stages::default();
    let session = Session::of_operator(&proxy, grant, &PREFACE).await?;
    let grant = session.grant().clone();
    let LoggedIn { session, reached, .. } = session.log_in(&mut stages, &Login { grant: &grant }).await?;
    let Reached { mut wire, mut verified } = reached;
    let version = escaped(wire.conn.peer_ident().unwrap_or_default());
    wire.conn.disconnect(keyward_ssh_transport::reason::BY_APPLICATION, "");
    refuse::close(verified.stream(), &mut wire).await;
    Ok(Probed { version, verified_by: verified.by(), provenance: session.provenance().clone() })
}
