//! A link: one client transport, on which a user proves who he is. It has an identity in the end, never an authority: that is the
//! session's.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keyward_auth::{SessionId, Source};
use keyward_config::Name;
use tokio_util::sync::CancellationToken;

use crate::budget::Handshake;
use crate::error::{Party, SessionError, Stage};
use crate::refusal::Refusal;
use crate::server::Proxy;
use crate::tls::ServerIdentity;

/// What a listener gives to every link that it accepts.
pub struct Doorway {
    /// The name of its protocol's row.
    pub protocol: &'static str,
    /// The one connection that it leads to, where it leads to one.
    pub connection: Option<Name>,
    /// The certificate to show. `None` on unix sockets.
    pub identity: Option<ServerIdentity>,
    /// The listener settings type of its protocol.
    pub settings: keyward_config::Settings,
}

/// One client transport before and while it becomes a session.
pub struct Link {
    /// Shown to the client in every refusal; the session has the same.
    pub id: SessionId,
    /// Where it comes from, for lock-outs and records.
    pub source: Source,
    /// The same as text.
    pub peer: String,
    /// Whether the client is on this machine: by the socket's own address and, behind a PROXY protocol header, by that one too.
    pub local: bool,
    /// The listener.
    pub door: Arc<Doorway>,
    /// The process.
    pub proxy: Arc<Proxy>,
    /// What each stage took.
    pub stages: Stages,
    /// What the client said of himself, for the record of a refusal.
    pub claimed: Claimed,
    /// When the handshake ends, whatever it has reached.
    pub deadline: Instant,
    /// Its place in the budget of handshakes.
    pub handshake: Option<Handshake>,
}

/// Names as the client typed them: unproven, from the wire.
#[derive(Default)]
pub struct Claimed {
    /// The user.
    pub user: Option<String>,
    /// The connection.
    pub connection: Option<String>,
}

impl Link {
    /// Runs the handshake within its deadline and its place in the budget.
    ///
    /// # Errors
    /// `TooSlow`, `Busy` when a newcomer needed the place, `ShuttingDown`, or what the handshake itself says.
    pub async fn handshake<T>(
        deadline: Instant,
        place: Option<&Handshake>,
        draining: &CancellationToken,
        handshake: impl Future<Output = Result<T, SessionError>>,
    ) -> Result<T, SessionError> {
        let crowded_out = async {
            match place {
                Some(place) => place.crowded_out().await,
                None => std::future::pending().await,
            }
        };
        let client = |refusal, text: &'static str| Err(SessionError::new(refusal, Party::Client, Stage::Open, text));
        tokio::select! {
            biased;
            done = handshake => done,
            () = draining.cancelled() => client(Refusal::ShuttingDown, "draining"),
            () = crowded_out => client(Refusal::Busy, "a newcomer needed the place of this handshake"),
            () = tokio::time::sleep_until(deadline.into()) => client(Refusal::TooSlow, "the handshake's deadline passed"),
        }
    }
}

/// What each stage of a login took.
pub struct Stages {
    since: Instant,
    taken: Vec<(Stage, Duration)>,
}

impl Default for Stages {
    fn default() -> Self {
        Self { since: Instant::now(), taken: Vec::with_capacity(Stage::ALL.len()) }
    }
}

impl Stages {
    /// The stage ends here, and the next begins.
    pub fn end(&mut self, stage: Stage) {
        let now = Instant::now();
        self.taken.push((stage, now.saturating_duration_since(self.since)));
        self.since = now;
    }

    /// A stage that ran beside another one took this long.
    pub fn beside(&mut self, stage: Stage, took: Duration) {
        self.taken.push((stage, took));
        self.since = Instant::now();
    }

    /// What was taken so far.
    #[must_use]
    pub fn taken(&self) -> &[(Stage, Duration)] {
        &self.taken
    }
}
