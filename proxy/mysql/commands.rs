//! Commands that a server must not get as they come: KILL with an id of ours, a change of the user, the choice of a database by the
//! connection's name, and what the connection does not allow. The framer holds them back; here it is decided what becomes of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use keyward_auth::Grant;
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::capabilities::Capabilities;
use super::framer;
use super::packet::{self, Packets};
use super::relogin::Relogin;
use super::statement;
use super::upstream::Asking;
use super::wire::{self, Answer, ChangeUser};
use super::{Opened, State, command, kill, login, refuse, settings_of};
use crate::asked::Asked;
use crate::error::{Party, SessionError, Stage};
use crate::link::{Bounds, Link};
use crate::refusal::Refusal;
use crate::relay::{Decide, End};
use crate::stream::Stream;

/// Who does not read what he is told is not waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Decides for one session.
pub(super) struct Commands<'a> {
    pub(super) link: &'a Link,
    pub(super) state: &'a State,
    pub(super) grant: Grant,
    pub(super) relogin: Arc<Relogin>,
    /// What both ends of the session have agreed on.
    pub(super) agreed: Capabilities,
    /// The longest packet that the client takes.
    pub(super) max_packet: u32,
    /// Its collation, where COM_CHANGE_USER names none.
    pub(super) charset: u8,
}

/// What a command comes to.
enum Decided {
    /// This command goes to the server in its place, so that the answer is the server's.
    Instead(Vec<u8>),
    /// The client hears this.
    Error(Vec<u8>),
    /// The client has heard all.
    Done,
}

/// A session of the server's that may take the place of the old one.
struct Fresh {
    /// Its OK, for the client.
    ok: Vec<u8>,
    thread_id: u32,
    stream: Stream,
}

impl Decide for Commands<'_> {
    fn decide<'a>(
        &'a mut self,
        message: Zeroizing<Vec<u8>>,
        client: &'a mut Stream,
        upstream: &'a mut Stream,
    ) -> BoxFuture<'a, Result<Vec<u8>, End>> {
        async move {
            let (first, payload) = framer::held_command(&message)
                .and_then(|payload| Some((*payload.first()?, payload)))
                .ok_or(End::ClientFailed(std::io::ErrorKind::InvalidData))?;
            let decided = match (first, kill::of(payload, self.agreed)) {
                (command::CHANGE_USER, _) => self.change_user(payload, client, upstream).await?,
                (_, Some(kill)) => match kill::run(&self.link.proxy, self.grant.user(), kill).await {
                    // The server's own OK says how the transaction stands; one of ours could not.
                    Ok(()) => Decided::Instead(vec![command::PING]),
                    // The server says it, too: only so it comes behind the answers to what was asked before.
                    Err(_) => Decided::Instead(statement::query(&format!("KILL {}", kill.id()), self.agreed)),
                },
                // KILL aside, a query is held back only for a USE.
                (command::INIT_DB | command::QUERY, None) => self.own_database(),
                _ => Decided::Error(self.denied()),
            };
            match decided {
                Decided::Instead(command) => Ok(packet::framed(0, &command)),
                Decided::Error(error) => tell(client, &packet::framed(1, &error)).await.map(|()| Vec::new()),
                Decided::Done => Ok(Vec::new()),
            }
        }
        .boxed()
    }
}

impl Commands<'_> {
    /// The connection's own name stands for its `database`.
    fn own_database(&self) -> Decided {
        match settings_of(&self.grant).ok().and_then(|settings| settings.database.as_deref()) {
            Some(database) => Decided::Instead([&[command::INIT_DB], database.as_bytes()].concat()),
            None => Decided::Error(self.denied()),
        }
    }

    /// ER_SPECIFIC_ACCESS_DENIED_ERROR.
    fn denied(&self) -> Vec<u8> {
        wire::error(1227, "42000", &refuse::sentence("this connection does not allow this command", self.link.id))
    }

    /// A new login of the same user, on both sides: his proof, and a fresh session of the server's in the place of the old one, so that
    /// nothing of that is left. If anything of it fails, the old one goes on.
    async fn change_user(&mut self, payload: &[u8], client: &mut Stream, upstream: &mut Stream) -> Result<Decided, End> {
        let mut packets = Packets::at(1);
        let bounds = Bounds {
            deadline: Instant::now().checked_add(self.link.proxy.limits().handshake_timeout.get()).unwrap_or(self.link.deadline),
            // A live session keeps its place, and a drain leaves it its time.
            crowded_out: CancellationToken::new(),
            draining: CancellationToken::new(),
        };
        let fresh = bounds.run(Box::pin(self.log_in_again(payload, client, &mut packets))).await;
        let Fresh { ok, thread_id, stream } = match fresh {
            Ok(fresh) => fresh,
            Err(error) if error.left => return Err(End::Client),
            Err(error) => {
                tracing::info!(%error, "a change of the user was refused");
                let error = refuse::message(error.refusal, self.link.id, &error.choices);
                tell(client, &packet::framed(packets.next(), &error)).await?;
                return Ok(Decided::Done);
            }
        };
        let mut old = std::mem::replace(upstream, stream);
        self.relogin.thread_id.store(thread_id, Ordering::Relaxed);
        let _ = tokio::time::timeout(PATIENCE, Packets::default().write(&mut old, &[command::QUIT])).await;
        tell(client, &packet::framed(packets.next(), &ok)).await?;
        Ok(Decided::Done)
    }

    async fn log_in_again(&self, payload: &[u8], client: &mut Stream, packets: &mut Packets) -> Result<Fresh, SessionError> {
        let refused = |text: &'static str| SessionError::new(Refusal::NotPermitted, Party::Client, Stage::Authorise, text);
        let change = ChangeUser::parse(payload, self.agreed).map_err(|error| SessionError::malformed(Stage::Login, error.0))?;
        let text = |bytes: &[u8]| {
            let text = String::from_utf8(bytes.to_vec());
            text.map_err(|_| SessionError::malformed(Stage::Login, "a name that is not UTF-8"))
        };
        let (login, database) = (text(&change.user)?, change.database.as_deref().map(text).transpose()?);
        // Its proof was made with the scramble of the greeting, which has served already: a new one is asked for.
        let answer = Answer {
            capabilities: self.agreed,
            max_packet: self.max_packet,
            charset: self.charset,
            user: change.user,
            auth: Zeroizing::default(),
            database: change.database,
            plugin: Vec::new(),
            attributes: change.attributes,
        };
        let no_random = || SessionError::new(Refusal::Internal, Party::Proxy, Stage::Login, "no random numbers");
        let scramble = wire::scramble().ok_or_else(no_random)?;
        let opened = Opened { login, database, answer, scramble, offered: self.agreed };
        let asked = Asked::of(self.link.door.connection.as_ref(), &opened.login, opened.database.as_deref());
        let identity = login::prove(self.link, client, packets, &self.state.keys, &asked.user, &opened).await?;
        if identity.user() != self.grant.user() {
            return Err(refused("a session stays with its user"));
        }
        let database = self.database(&asked).ok_or_else(|| refused("a session stays with its connection and its account"))?;
        let asking = Asking {
            client: self.agreed,
            offered: self.agreed,
            max_packet: self.max_packet,
            // The low byte, as in an answer to a greeting.
            charset: change.charset.map_or(self.charset, |charset| charset.to_le_bytes()[0]),
            database: database.as_deref().map(str::as_bytes),
            attributes: super::attributes(&self.grant, opened.answer.attributes),
        };
        let (reached, ready) = self.relogin.link(&asking).await?;
        if ready.capabilities != self.agreed {
            let text = "the server does not speak as it did when the session began";
            return Err(SessionError::new(Refusal::Unsupported, Party::Upstream, Stage::Inject, text));
        }
        let ok = super::good_news(&ready)?;
        Ok(Fresh { ok, thread_id: ready.thread_id, stream: reached.verified.into_stream() })
    }

    /// The database that is asked for now; `None`: not on this connection, or not as this account.
    fn database(&self, asked: &Asked) -> Option<Option<String>> {
        let settings = settings_of(&self.grant).ok()?;
        let own = self.grant.connection().name().as_str();
        let account = asked.account.as_deref().is_none_or(|account| account == self.grant.account().name().as_str());
        let wanted = match (asked.connection.as_deref(), asked.database.as_deref()) {
            _ if !account => return None,
            (None, _) => None,
            (Some(connection), database) if connection == own => database.filter(|database| *database != own),
            // A driver that names the database of the session, not the connection.
            (Some(database), None) => Some(database),
            (Some(_), Some(_)) => return None,
        };
        match wanted {
            None => Some(settings.database.clone()),
            Some(database) => settings.serves(database).then(|| Some(database.to_owned())),
        }
    }
}

async fn tell(client: &mut Stream, bytes: &[u8]) -> Result<(), End> {
    let told = tokio::time::timeout(PATIENCE, async {
        client.write_all(bytes).await?;
        client.flush().await
    });
    match told.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(End::ClientFailed(error.kind())),
        Err(_) => Err(End::ClientFailed(std::io::ErrorKind::TimedOut)),
    }
}
