//! A session's login once more, on a fresh link: to stop its query (KILL has to come from the same user), and for COM_CHANGE_USER.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use keyward_auth::{Credential, Grant};
use tokio::io::AsyncReadExt;

use super::capabilities::Capabilities;
use super::packet::{self, Packets};
use super::upstream::{self, Asking, Reached, Ready};
use super::{CHARSET, MAX_PACKET, command, rules, wire};
use crate::error::{Party, SessionError, Stage};
use crate::refusal::Refusal;
use crate::registry::Interrupt;
use crate::server::Proxy;
use crate::session::{self, LoginFailure};
use crate::upstream::Endpoint;

/// Dial, log in, ask, and wait until the server has dealt with it.
const PATIENCE: Duration = Duration::from_secs(5);
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
    /// The very server of the session.
    pub(super) endpoint: Endpoint,
    pub(super) credential: ArcSwap<Credential>,
    pub(super) grant: Grant,
    pub(super) proxy: Arc<Proxy>,
    /// The server's own number of the session. COM_CHANGE_USER gives it another one.
    pub(super) thread_id: AtomicU32,
    /// That of the session that it had before, while that may still be at work; 0: there is none.
    pub(super) leaving: AtomicU32,
}

impl Relogin {
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
    pub(super) async fn end(&self, thread_id: u32) {
        self.kill(&format!("KILL CONNECTION {thread_id}")).await;
    }

    async fn kill(&self, statement: &str) -> bool {
        match tokio::time::timeout(PATIENCE, self.try_kill(statement)).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => tracing::warn!(%error, "a query could not be stopped on the server"),
            Err(_) => tracing::warn!("a query could not be stopped on the server: it does not answer"),
        }
        false
    }

    async fn try_kill(&self, statement: &str) -> Result<(), SessionError> {
        let asking = Asking {
            client: Capabilities::PROTOCOL_41,
            offered: Capabilities::PROTOCOL_41,
            max_packet: MAX_PACKET,
            charset: CHARSET,
            database: None,
            attributes: super::own_attributes(&self.grant),
        };
        let (mut reached, _) = self.link(&asking, Account::OfTheSession).await?;
        let stream = reached.verified.stream();
        let query = [&[command::QUERY], statement.as_bytes()].concat();
        let mut packets = Packets::default();
        let failed = |text: String| SessionError::new(Refusal::UpstreamUnreachable, Party::Upstream, Stage::Inject, text);
        packets.write(stream, &query).await.map_err(|error| failed(format!("KILL: {error}")))?;
        let reply = packets.read(stream, packet::UPSTREAM_MAX).await.map_err(|error| failed(format!("KILL: {error}")))?;
        let _ = Packets::default().write(stream, &[command::QUIT]).await;
        // Until the server has closed, this is one more session of the account. What it answered counts also if it never does.
        let _ = tokio::time::timeout(LEAVING, stream.read(&mut [0; 1])).await;
        match wire::reply(&reply) {
            Ok(wire::Reply::Ok(_)) => Ok(()),
            // ER_NO_SUCH_THREAD: the session has ended meanwhile, and its query with it.
            Ok(wire::Reply::Error(error)) if error.code == 1094 => Ok(()),
            Ok(wire::Reply::Error(error)) => Err(failed(format!("KILL: {}", error.code))),
            _ => Err(failed("KILL: no answer to it".to_owned())),
        }
    }
}

/// How a session's query is stopped upstream.
pub(super) struct QueryKill(pub(super) Arc<Relogin>);

impl Interrupt for QueryKill {
    fn interrupt(&self) -> BoxFuture<'_, bool> {
        async { self.0.kill(&format!("KILL QUERY {}", self.0.thread_id.load(Ordering::Relaxed))).await }.boxed()
    }

    // A statement that is killed may be one of several, and some take it for done: MySQL's SLEEP does.
    fn end(&self) -> BoxFuture<'_, ()> {
        async {
            let leaving = self.0.leaving.swap(0, Ordering::Relaxed);
            if leaving != 0 {
                self.0.end(leaving).await;
            }
            self.0.end(self.0.thread_id.load(Ordering::Relaxed)).await;
        }
        .boxed()
    }
}
