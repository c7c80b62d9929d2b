//! A link: one client transport, on which a user proves who he is. It has an identity in the end, never an authority: that is the
//! session's.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use keyward_auth::{SessionId, Source};
use keyward_config::Name;
use tokio_util::sync::CancellationToken;

use crate::budget::Handshake;
use crate::error::{Party, SessionError, Stage};
use crate::refusal::Refusal;
use crate::server::{Door, Proxy};
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
    /// Its place in the budget of handshakes, until the user is proven and has a place among the sessions.
    pub handshake: Option<Handshake>,
    /// The listener as the file says it now, for links that begin inside this one; as it was last, if it is gone.
    pub(crate) listener: Option<Arc<ArcSwap<Door>>>,
    /// What its protocol adds to the session's record: a name and what goes with it, no secret.
    pub noted: Vec<(&'static str, String)>,
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
    /// One that nothing is known of yet.
    pub(crate) fn new(proxy: &Arc<Proxy>, door: &Arc<Doorway>) -> Self {
        let deadline = Instant::now().checked_add(proxy.limits().handshake_timeout.get()).unwrap_or_else(Instant::now);
        Self {
            id: SessionId::random(),
            source: Source::local(),
            peer: String::new(),
            local: false,
            door: Arc::clone(door),
            proxy: Arc::clone(proxy),
            stages: Stages::default(),
            claimed: Claimed::default(),
            deadline,
            handshake: None,
            listener: None,
            noted: Vec::new(),
        }
    }

    /// What a handshake must end for: its deadline, a newcomer that needs its place, a drain.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        Bounds {
            deadline: self.deadline,
            crowded_out: self.handshake.as_ref().map(Handshake::crowded_out).unwrap_or_default(),
            draining: self.proxy.draining.clone(),
        }
    }

    /// The login is done: counts what its stages took. Where it fails, that is counted at the link's end.
    pub(crate) fn count_stages(&mut self) {
        self.proxy.metrics.stages(self.door.protocol, self.stages.take());
    }

    /// A handshake that was ended from outside ended at the stage that was under way. If its deadline passed, whose fault that is depends on
    /// what was waited for.
    #[must_use]
    pub fn blame(&self, mut error: SessionError) -> SessionError {
        let crowded_out = error.refusal == Refusal::Busy && error.stage == Stage::Open;
        if crowded_out || matches!(error.refusal, Refusal::TooSlow | Refusal::ShuttingDown) {
            error.stage = self.stages.now();
        }
        if error.refusal == Refusal::TooSlow {
            (error.refusal, error.party) = match error.stage {
                Stage::Lease => (Refusal::CredentialsUnavailable, Party::Store),
                Stage::Connect | Stage::Inject => (Refusal::UpstreamUnreachable, Party::Upstream),
                Stage::Audit => (Refusal::AuditUnavailable, Party::Proxy),
                Stage::Open | Stage::Login | Stage::Authorise => (Refusal::TooSlow, Party::Client),
            };
        }
        error
    }
}

/// What a handshake must end for.
pub struct Bounds {
    /// When it ends, whatever it has reached.
    pub deadline: Instant,
    /// A newcomer needed its place.
    pub crowded_out: CancellationToken,
    /// The process is shutting down.
    pub draining: CancellationToken,
}

impl Bounds {
    /// Runs a handshake, or a part of it, within them.
    ///
    /// # Errors
    /// `TooSlow`, `Busy` when a newcomer needed the place, `ShuttingDown`, or what the handshake itself says.
    pub async fn run<T>(&self, handshake: impl Future<Output = Result<T, SessionError>>) -> Result<T, SessionError> {
        let ended = |refusal, party, text: &'static str| Err(SessionError::new(refusal, party, Stage::Open, text));
        tokio::select! {
            biased;
            done = handshake => done,
            () = self.draining.cancelled() => ended(Refusal::ShuttingDown, Party::Proxy, "draining"),
            () = self.crowded_out.cancelled() => ended(Refusal::Busy, Party::Client, "a newcomer needed the place of this handshake"),
            () = tokio::time::sleep_until(self.deadline.into()) => {
                ended(Refusal::TooSlow, Party::Client, "the handshake's deadline passed")
            }
        }
    }
}

/// What each stage of a login took, and which one is under way.
pub struct Stages {
    since: Instant,
    taken: Vec<(Stage, Duration)>,
    now: AtomicU8,
}

impl Default for Stages {
    fn default() -> Self {
        Self { since: Instant::now(), taken: Vec::with_capacity(Stage::ALL.len()), now: AtomicU8::new(Stage::Open as u8) }
    }
}

impl Stages {
    /// The stage ends here, and the next begins.
    pub fn end(&mut self, stage: Stage) {
        let now = Instant::now();
        self.beside(stage, now.saturating_duration_since(self.since));
    }

    /// A stage that ran beside another one took this long.
    pub fn beside(&mut self, stage: Stage, took: Duration) {
        self.taken.push((stage, took));
        self.since = Instant::now();
        let next = Stage::ALL.into_iter().find(|next| !self.taken.iter().any(|(taken, _)| taken == next));
        self.waits_for(next.unwrap_or(Stage::Audit));
    }

    /// What is waited for from here on, should it never come.
    pub fn waits_for(&self, stage: Stage) {
        self.now.store(stage as u8, Ordering::Relaxed);
    }

    /// The stage that is under way.
    #[must_use]
    pub fn now(&self) -> Stage {
        let now = self.now.load(Ordering::Relaxed);
        Stage::ALL.into_iter().find(|stage| *stage as u8 == now).unwrap_or(Stage::Open)
    }

    /// What was taken so far.
    #[must_use]
    pub fn taken(&self) -> &[(Stage, Duration)] {
        &self.taken
    }

    /// The same, and forgets it.
    pub fn take(&mut self) -> Vec<(Stage, Duration)> {
        std::mem::take(&mut self.taken)
    }
}
