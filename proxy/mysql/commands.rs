//! Commands that a server must not get as they come: KILL with an id of ours, a change of the user, the choice of a database by the
//! connection's name, and what the connection does not allow. The framer holds them back; here it is decided what becomes of them.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use keyward_auth::Grant;
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::capabilities::Capabilities;
use super::framer;
use super::kill::Killed;
use super::packet::{self, Packets};
use super::relogin::{Account, Relogin};
use super::settings::ConnectionSettings;
use super::thread::Thread;
use super::upstream::Asking;
use super::wire::{self, Answer, ChangeUser};
use super::{Opened, State, command, kill, login, refuse, statement};
use crate::asked::{Asked, NamedBy};
use crate::error::{Party, SessionError, Stage};
use crate::link::{Bounds, Claimed, Link};
use crate::refusal::Refusal;
use crate::relay::{Decide, End};
use crate::server;
use crate::stream::Stream;
use crate::told;

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

/// What COM_CHANGE_USER asks for.
struct Again {
    user: String,
    /// The connection by the name that it names, for the record of a refusal.
    connection: Option<String>,
    /// The database on the server, or none. `None`: it is not one of this session's connection, or the account is another one.
    database: Option<Option<String>>,
    opened: Opened,
}

/// A session of the server's that may take the place of the old one.
struct Fresh {
    /// Its OK, for the client.
    ok: Vec<u8>,
    thread: Thread,
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
                .ok_or(End::ClientFailed(ErrorKind::InvalidData))?;
            // But for a change of the user, the server answers, also with an error of ours: so it comes behind the answers to what was
            // asked before, and says how the transaction stands. (An error in any case, and of our number where the session reads literals
            // as ASCII.)
            let instead = match (first, kill::of(payload, self.agreed)) {
                (command::CHANGE_USER, _) => {
                    self.change_user(payload, client, upstream).await?;
                    None
                }
                (_, Some(kill)) => match kill::run(&self.link.proxy, self.grant.user(), kill).await {
                    Killed::Done => Some(vec![command::PING]),
                    Killed::Unknown => Some(statement::signal(1094, "HY000", &kill::unknown(kill), self.agreed)),
                    Killed::Failed => Some(self.error(1105, "HY000", "the query could not be stopped")),
                },
                // KILL aside, a query is held back only for a USE.
                (command::INIT_DB | command::QUERY, None) => Some(self.own_database()),
                _ => Some(self.error(1227, "42000", "this connection does not allow this command")),
            };
            Ok(instead.map(|command| packet::framed(0, &command)).unwrap_or_default())
        }
        .boxed()
    }
}

impl Commands<'_> {
    /// The connection's own name stands for its `database`.
    fn own_database(&self) -> Vec<u8> {
        let database = ConnectionSettings::of(&self.grant).ok().and_then(|settings| settings.database.as_deref()).unwrap_or_default();
        [&[command::INIT_DB], database.as_bytes()].concat()
    }

    /// What makes the server say this error.
    fn error(&self, code: u16, state: &str, text: &str) -> Vec<u8> {
        statement::signal(code, state, &told::sentence(text, self.link.id), self.agreed)
    }

    /// A new login of the same user, on both sides: his proof, and a fresh session of the server's in the place of the old one, so that
    /// nothing of that is left, answers that it still owed included. If the proof does not hold or the server does not let us in, the old one goes on. A client that has not
    /// said its proof, or not all of it, may say it later: it must not be taken for commands, so that its session ends.
    async fn change_user(&mut self, payload: &[u8], client: &mut Stream, upstream: &mut Stream) -> Result<(), End> {
        let mut packets = Packets::at(1);
        let again = self.again(payload);
        let claimed = again.as_ref().map_or_else(
            |_| Claimed { user: Some(self.grant.user().to_string()), connection: None },
            |again| Claimed { user: Some(again.user.clone()), connection: again.connection.clone() },
        );
        let fresh = match again {
            // Its proof may have come with it.
            Err(error) if error.refusal == Refusal::Malformed => Err((error, Some(End::ClientFailed(ErrorKind::InvalidData)))),
            Err(error) => Err((error, None)),
            Ok(again) => match self.prove(&again, client, &mut packets).await {
                Err(failure) => Err(failure),
                Ok(()) => self.fresh(&again).await.map_err(|error| (error, None)),
            },
        };
        let Fresh { ok, thread, stream } = match fresh {
            Ok(fresh) => fresh,
            Err((error, end)) => {
                if error.left {
                    return Err(End::Client);
                }
                server::refused(self.link, &claimed, &error);
                let packet = refuse::message(error.refusal, self.link.id, &error.choices);
                tell(client, &packet::framed(packets.next(), &packet)).await?;
                return end.map_or(Ok(()), Err);
            }
        };
        let old = std::mem::replace(upstream, stream);
        // Should the session end in the middle of this, both are ended.
        let left = self.relogin.moves_to(thread);
        self.leave(old, left).await;
        tell(client, &packet::framed(packets.next(), &ok)).await
    }

    /// The user's proof. With the error comes the end, if there has to be one.
    async fn prove(&self, again: &Again, client: &mut Stream, packets: &mut Packets) -> Result<(), (SessionError, Option<End>)> {
        let bounds = Bounds {
            deadline: Instant::now().checked_add(self.link.proxy.limits().handshake_timeout.get()).unwrap_or(self.link.deadline),
            // A live session keeps its place, and a drain leaves it its time.
            crowded_out: CancellationToken::new(),
            draining: CancellationToken::new(),
        };
        // Whether another user's password holds is nobody's business here: his proof is taken, and checked against nobody's.
        let user = if again.user == self.grant.user().as_str() { again.user.as_str() } else { "" };
        let proof = login::prove(self.link, client, packets, &self.state.keys, user, &again.opened);
        let proven = bounds.run(Box::pin(proof)).await;
        let end = |kind| Some(End::ClientFailed(kind));
        match proven {
            Ok(identity) if identity.user() != self.grant.user() => Err((denied("a session stays with its user"), None)),
            Ok(_) if again.database.is_none() => Err((refused("a session stays with its connection and its account"), None)),
            Ok(_) => Ok(()),
            Err(error) if error.refusal == Refusal::TooSlow => Err((error, end(ErrorKind::TimedOut))),
            Err(error) if error.refusal == Refusal::Malformed => Err((error, end(ErrorKind::InvalidData))),
            Err(error) => Err((error, None)),
        }
    }

    /// What the command asks for, before anything of it is proven.
    fn again(&self, payload: &[u8]) -> Result<Again, SessionError> {
        let change = ChangeUser::parse(payload, self.agreed).map_err(|error| SessionError::malformed(Stage::Login, error.0))?;
        let text = |bytes: &[u8]| {
            let text = String::from_utf8(bytes.to_vec());
            text.map_err(|_| SessionError::malformed(Stage::Login, "a name that is not UTF-8"))
        };
        let (login, database) = (text(&change.user)?, change.database.as_deref().map(text).transpose()?);
        let asked = Asked::of(self.link.door.connection.as_ref(), &login, database.as_deref());
        // A login has one byte for it. Another collation than the asked one would spoil what the client writes.
        let charset = u8::try_from(change.charset.unwrap_or(self.charset.into())).map_err(|_| {
            SessionError::new(Refusal::Unsupported, Party::Client, Stage::Login, "a collation beyond 255, which no login can ask for")
        })?;
        // Its proof was made with the scramble of the greeting, which has served already: a new one is asked for.
        let answer = Answer {
            capabilities: self.agreed,
            max_packet: self.max_packet,
            charset,
            user: change.user,
            auth: Zeroizing::default(),
            database: change.database,
            plugin: Vec::new(),
            attributes: change.attributes,
        };
        let scramble = wire::scramble().ok_or_else(|| SessionError::no_random(Stage::Login))?;
        let opened = Opened { login, database, answer, scramble, offered: self.agreed };
        Ok(Again { database: self.database(&asked), user: asked.user, connection: asked.connection, opened })
    }

    /// A session of the server's as it is asked for.
    async fn fresh(&self, again: &Again) -> Result<Fresh, SessionError> {
        let answer = &again.opened.answer;
        let asking = Asking {
            client: self.agreed,
            offered: self.agreed,
            max_packet: self.max_packet,
            charset: answer.charset,
            database: again.database.as_ref().and_then(|database| database.as_deref()).map(str::as_bytes),
            attributes: super::attributes(&self.grant, answer.attributes.clone()),
        };
        let slow = |_| SessionError::new(Refusal::UpstreamUnreachable, Party::Upstream, Stage::Connect, "no fresh session in time");
        let linked = tokio::time::timeout(self.link.proxy.limits().handshake_timeout.get(), self.relogin.link(&asking, Account::Any)).await;
        let (reached, ready) = linked.map_err(slow)??;
        if ready.capabilities != self.agreed {
            let text = "the server does not speak as it did when the session began";
            return Err(SessionError::new(Refusal::Unsupported, Party::Upstream, Stage::Inject, text));
        }
        let ok = super::good_news(&ready)?;
        let stream = reached.verified.into_stream();
        Ok(Fresh { ok, thread: Thread::of(ready.thread_id, &stream), stream })
    }

    /// Leaves the old session of the server's. One that has nothing to do closes at once; one that is at work is ended.
    async fn leave(&self, mut old: Stream, thread: Thread) {
        let closed = tokio::time::timeout(PATIENCE, async {
            Packets::default().write(&mut old, &[command::QUIT]).await?;
            tokio::io::copy(&mut old, &mut tokio::io::sink()).await
        });
        if closed.await.is_err() {
            self.relogin.end(thread).await;
        }
        self.relogin.has_left();
    }

    /// The database that is asked for now; `None`: not on this connection, or not as this account.
    fn database(&self, asked: &Asked) -> Option<Option<String>> {
        let account = asked.account.as_deref().is_none_or(|account| account == self.grant.account().name().as_str());
        let own = |connection: &str| connection == self.grant.connection().name().as_str();
        let wanted = match (asked.connection.as_deref(), asked.database.as_deref()) {
            _ if !account => return None,
            (None, _) => None,
            (Some(connection), database) if own(connection) => database,
            // A driver that names the database of the session, not the connection.
            (Some(database), None) if asked.named_by == NamedBy::Database => Some(database),
            _ => return None,
        };
        super::database(&self.grant, wanted).ok()
    }
}

fn refused(text: &'static str) -> SessionError {
    SessionError::new(Refusal::NotPermitted, Party::Client, Stage::Authorise, text)
}

fn denied(text: &'static str) -> SessionError {
    SessionError::new(Refusal::NotAuthenticated, Party::Client, Stage::Login, text)
}

async fn tell(client: &mut Stream, bytes: &[u8]) -> Result<(), End> {
    let told = tokio::time::timeout(PATIENCE, async {
        client.write_all(bytes).await?;
        client.flush().await
    });
    match told.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(End::ClientFailed(error.kind())),
        Err(_) => Err(End::ClientFailed(ErrorKind::TimedOut)),
    }
}
