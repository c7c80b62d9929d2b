//! A session's login once more, on a fresh link: to stop its query (KILL has to come from the same user), and for COM_CHANGE_USER.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use keyward_auth::{Credential, Grant};
use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

use super::capabilities::Capabilities;
use super::packet::{self, Packets};
use super::thread::{self, Owner, Standing, Thread};
use super::upstream::{self, Asking, Reached, Ready};
use super::{CHARSET, MAX_PACKET, command, rules, wire};
use crate::error::{Party, SessionError, Stage};
use crate::refusal::Refusal;
use crate::registry::Interrupt;
use crate::server::Proxy;
use crate::session::{self, LoginFailure};
use crate::stream::Stream;
use crate::upstream::Endpoint;

/// Dial, log in, ask, and wait until the server has dealt with it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Links that look for the session's server, where an address leads to several: enough for a balancer that takes three in turn.
const ATTEMPTS: usize = 3;
/// The server has so long to close what we have left.
const LEAVING: Duration = Duration::from_secs(1);

/// Which account a fresh link may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Account {
    /// The one that the session has on the server: no other one may stop what it does.
    OfTheSession,
    /// Whatever the store holds now.
    Any,
}

/// What a session keeps of its login. The credential stays with it as long as the session lives: its query may have to be stopped.
pub(super) struct Relogin {
    /// The very address of the session's server.
    endpoint: Endpoint,
    credential: ArcSwap<Credential>,
    /// No other session has the account.
    alone: bool,
    grant: Grant,
    proxy: Arc<Proxy>,
    threads: Mutex<Threads>,
}

/// What the session is on its server.
struct Threads {
    /// COM_CHANGE_USER gives it another one.
    now: Thread,
    /// That which it had before, while it may still be at work.
    leaving: Option<Thread>,
}

impl Relogin {
    /// Of a session that is this thread of this server's. `alone`: no other session has its account.
    pub(super) fn new(at: (Endpoint, Thread), credential: Arc<Credential>, alone: bool, grant: Grant, proxy: Arc<Proxy>) -> Self {
        let ((endpoint, now), credential) = (at, credential.into());
        Self { endpoint, credential, alone, grant, proxy, threads: Mutex::new(Threads { now, leaving: None }) }
    }

    /// The session is this one from now on; returns what it was, which is at work until [`Self::has_left`] says otherwise.
    pub(super) fn moves_to(&self, thread: Thread) -> Thread {
        let mut threads = self.threads();
        let before = std::mem::replace(&mut threads.now, thread);
        threads.leaving = Some(before);
        before
    }

    /// What the session was before is over.
    pub(super) fn has_left(&self) {
        self.threads().leaving = None;
    }

    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fresh link to the same server. A session may live longer than the password that it began with, and than the account, if the store
    /// holds another one meanwhile.
    ///
    /// # Errors
    /// What the way there and the login say.
    pub(super) async fn link<'a>(&self, asking: &'a Asking<'a>, account: Account) -> Result<(Reached<'a>, Ready), SessionError> {
        let credential = self.credential.load_full();
        let rejected = match self.try_link(asking, &credential).await {
            Err(LoginFailure::Rejected(error)) => error,
            outcome => return outcome.map_err(SessionError::from),
        };
        let replacement = self.proxy.gate.replacement(&self.grant, &credential).await.map_err(session::unavailable)?;
        let same = |other: &Arc<Credential>| account == Account::Any || other.username() == credential.username();
        let Some(replacement) = replacement.filter(same) else { return Err(rejected) };
        let link = self.try_link(asking, &replacement).await?;
        self.credential.store(replacement);
        Ok(link)
    }

    async fn try_link<'a>(&self, asking: &'a Asking<'a>, credential: &Credential) -> Result<(Reached<'a>, Ready), LoginFailure> {
        let mut reached = upstream::connect(self.endpoint.clone(), asking).await.map_err(LoginFailure::Other)?;
        let rules = rules(&self.grant).await.map_err(LoginFailure::Other)?;
        let ready = upstream::login(&mut reached, credential, &rules.borrowed()).await?;
        Ok((reached, ready))
    }

    /// Ends a session of this login on the server, with all that it has to do.
    pub(super) async fn end(&self, thread: Thread) {
        self.stop("CONNECTION", thread).await;
    }

    /// Whether it is done. What was not done is in the log.
    async fn stop(&self, what: &str, thread: Thread) -> bool {
        const NOT_DONE: &str = "a query could not be stopped on the server";
        // Often it has just ended by itself, and its account may have gone with it: no fault of anybody's.
        let (error, is_fault) = match tokio::time::timeout(PATIENCE, self.try_stop(what, thread)).await {
            Ok(Ok(Standing::Here)) => return true,
            Ok(Ok(Standing::Absent)) => {
                let text = "the one that answers has no such session: it has ended, or another server has it behind this address";
                (text.to_owned(), false)
            }
            Ok(Ok(Standing::Unproven)) => {
                let text =
                    "nothing shows that the one that answers has the session: ports change on the way to it, and it keeps no attributes";
                (text.to_owned(), true)
            }
            Ok(Err(error)) => (error.to_string(), self.proxy.registry.is_live(self.grant.session())),
            Err(_) => ("it does not answer".to_owned(), true),
        };
        if is_fault {
            tracing::warn!(error, "{NOT_DONE}");
        } else {
            tracing::info!(error, "{NOT_DONE}");
        }
        false
    }

    async fn try_stop(&self, what: &str, thread: Thread) -> Result<Standing, SessionError> {
        let asking = Asking {
            client: Capabilities::PROTOCOL_41,
            offered: Capabilities::PROTOCOL_41,
            max_packet: MAX_PACKET,
            charset: CHARSET,
            database: None,
            attributes: super::own_attributes(&self.grant),
        };
        let mut standing = Standing::Absent;
        for _ in 0..ATTEMPTS {
            let (mut reached, _) = self.link(&asking, Account::OfTheSession).await?;
            let stream = reached.verified.stream();
            let credential = self.credential.load();
            let owner = Owner { user: credential.username(), alone: self.alone, session: self.grant.session() };
            standing = thread::standing(stream, thread, &owner).await.map_err(|error| failed(error.to_string()))?;
            let said = if standing == Standing::Here { Some(kill(stream, what, thread.id).await?) } else { None };
            let _ = Packets::default().write(stream, &[command::QUIT]).await;
            // Until the server has closed, this is one more session of the account. What it answered counts also if it never does.
            let _ = tokio::time::timeout(LEAVING, stream.read(&mut [0; 1])).await;
            if let Some(reply) = said {
                return killed(&reply).map(|()| standing);
            }
        }
        Ok(standing)
    }
}

/// Says it, and returns the answer.
async fn kill(stream: &mut Stream, what: &str, id: u32) -> Result<Zeroizing<Vec<u8>>, SessionError> {
    let query = [&[command::QUERY], format!("KILL {what} {id}").as_bytes()].concat();
    let mut packets = Packets::default();
    packets.write(stream, &query).await.map_err(|error| failed(format!("KILL: {error}")))?;
    packets.read(stream, packet::UPSTREAM_MAX).await.map_err(|error| failed(format!("KILL: {error}")))
}

fn killed(reply: &[u8]) -> Result<(), SessionError> {
    match wire::reply(reply) {
        Ok(wire::Reply::Ok(_)) => Ok(()),
        // ER_NO_SUCH_THREAD: the session was there a moment ago. It has ended meanwhile, and its query with it.
        Ok(wire::Reply::Error(error)) if error.code == 1094 => Ok(()),
        Ok(wire::Reply::Error(error)) => Err(failed(format!("KILL: {}", error.code))),
        _ => Err(failed("KILL: no answer to it".to_owned())),
    }
}

fn failed(text: String) -> SessionError {
    SessionError::new(Refusal::UpstreamUnreachable, Party::Upstream, Stage::Inject, text)
}

/// How a session's query is stopped upstream.
pub(super) struct QueryKill(pub(super) Arc<Relogin>);

impl Interrupt for QueryKill {
    fn interrupt(&self) -> BoxFuture<'_, bool> {
        async {
            let thread = self.0.threads().now;
            self.0.stop("QUERY", thread).await
        }
        .boxed()
    }

    // A statement that is killed may be one of several, and some take it for done: MySQL's SLEEP does.
    fn end(&self) -> BoxFuture<'_, ()> {
        async {
            let (leaving, now) = {
                let mut threads = self.0.threads();
                (threads.leaving.take(), threads.now)
            };
            if let Some(leaving) = leaving {
                self.0.end(leaving).await;
            }
            self.0.end(now).await;
        }
        .boxed()
    }
}
