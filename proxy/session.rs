//! A session: one grant in use. `Authorised` → `Leased` → `Live`, the only order that compiles: no store is asked without a grant, no
//! credential is seen without a lease, and no client is told that it is in before the audit record says so.

mod ends;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keyward_auth::{Credential, Denied, Grant, Identity, Lease, Provenance, SessionId, StoreError, StoreErrorKind};
use keyward_config::Limits;

use crate::audit::{OpenRecord, Opened, Use};
use crate::error::{Party, SessionError, Stage};
use crate::link::{Link, Stages};
use crate::refusal::{Reason, Refusal};
use crate::registry::{Handle, Place, Registered, Traffic};
use crate::relay::{End, Framing, Outcome, Relay, Say};
use crate::server::Proxy;
use crate::stream::Stream;
use crate::upstream::{Endpoint, Preface, Verified, VerifiedBy};
use crate::warning::Warning;

/// A server that was asked to stop what runs has so long to leave.
const LEAVING: Duration = Duration::from_secs(2);

/// One grant in use, at a stage of its life.
pub struct Session<S> {
    proxy: Arc<Proxy>,
    grant: Grant,
    endpoint: Endpoint,
    // Dropped before the place: who waits until no session is left waits for its record and its lease too.
    stage: S,
    place: Place,
}

/// How a protocol gets into its upstreams.
pub trait Login: Sync {
    /// A verified transport, and what was said on it so far.
    type Reached: Send;
    /// What the upstream says to a login.
    type Ready: Send;

    /// TCP, the protocol's preface, and TLS as the connection asks for.
    fn connect(&self, endpoint: Endpoint) -> impl Future<Output = Result<Self::Reached, SessionError>> + Send;

    /// The transport.
    fn verified(reached: &Self::Reached) -> &Verified;

    /// Logs in with the credential.
    fn log_in(
        &self,
        reached: &mut Self::Reached,
        credential: &Credential,
    ) -> impl Future<Output = Result<Self::Ready, LoginFailure>> + Send;
}

/// Why an upstream did not let us in.
pub enum LoginFailure {
    /// It rejected the credential: another one may do.
    Rejected(SessionError),
    /// Anything else.
    Other(SessionError),
}

impl From<LoginFailure> for SessionError {
    fn from(failure: LoginFailure) -> Self {
        let (LoginFailure::Rejected(error) | LoginFailure::Other(error)) = failure;
        error
    }
}

/// A session whose upstream let it in.
pub struct LoggedIn<L: Login> {
    /// The session.
    pub session: Session<Leased>,
    /// Its upstream.
    pub reached: L::Reached,
    /// What that said.
    pub ready: L::Ready,
    /// With what it was. Who keeps it answers for it.
    pub credential: Arc<Credential>,
}

/// The rules allow it.
pub struct Authorised {
    /// How long a store was asked where it leads.
    asked: Duration,
}

/// The store gave the credential.
pub struct Leased {
    lease: Lease,
    retried: bool,
}

/// The record is on disk; the client may hear that it is in.
pub struct Live {
    // Dropped in this order: out of the registry, the record closed, and the lease given back last. The upstream is closed before,
    // by whoever relays.
    registered: Registered,
    closing: Closing,
    traffic: Arc<Traffic>,
    opened: Instant,
    limits: Arc<Limits>,
    lease: Lease,
}

/// Closes the record and the counts of a session exactly once, also where it is dropped without a word: in a panic, or when the
/// handshake's deadline passed while its client was told the good news.
struct Closing {
    proxy: Arc<Proxy>,
    grant: Grant,
    record: OpenRecord,
    outcome: &'static str,
}

impl Drop for Closing {
    fn drop(&mut self) {
        let connection = self.grant.connection();
        // Counted first, as uses and denials are: who finds it in the record finds it in the metrics.
        self.proxy.metrics.session_closed(connection.protocol(), connection.name().as_str(), self.outcome);
        self.record.close(self.outcome);
    }
}

impl Session<Authorised> {
    /// Asks the rules, and takes a place among the sessions.
    ///
    /// # Errors
    /// `NotPermitted` (with the account names to choose from, where that is all that is missing), `Busy`; `CredentialsUnavailable` where a store
    /// should know where it leads, and does not say.
    pub async fn authorise(
        link: &mut Link,
        identity: &Identity,
        connection: &str,
        account: Option<&str>,
        preface: &Preface,
    ) -> Result<Self, SessionError> {
        let proxy = Arc::clone(&link.proxy);
        let refused = |refusal, text: &'static str| SessionError::new(refusal, Party::Client, Stage::Authorise, text);
        let grant = match proxy.gate.authorise(identity, link.door.protocol, connection, account, link.id) {
            Ok(grant) => grant,
            Err(Denied::NotPermitted) => return Err(refused(Refusal::NotPermitted, "no rule allows it, or there is no such connection")),
            Err(Denied::Choose(accounts)) => {
                // As a login names them.
                let names = accounts.iter().map(|account| format!("{connection}+{account}")).collect();
                return Err(refused(Refusal::NotPermitted, "an account has to be named").with_choices(names));
            }
        };
        let place =
            proxy.registry.admit(&grant, &proxy.limits()).ok_or_else(|| refused(Refusal::Busy, "a limit on sessions is reached"))?;
        // From here on the limits on sessions hold, and no newcomer can take the place of a user who is proven.
        link.handshake = None;
        link.stages.end(Stage::Authorise);
        link.stages.waits_for(Stage::Lease);
        Self::at(proxy, grant, place, preface).await
    }

    /// Where it leads, which a store may know.
    async fn at(proxy: Arc<Proxy>, grant: Grant, place: Place, preface: &Preface) -> Result<Self, SessionError> {
        let began = Instant::now();
        let grant = proxy.gate.fill(grant).await.map_err(unavailable)?;
        let asked = began.elapsed();
        let endpoint = Endpoint::of(&grant, preface, &proxy.roots())?;
        Ok(Self { proxy, grant, endpoint, place, stage: Authorised { asked } })
    }

    /// A session of `keyward check`: its grant comes from the operator's gate.
    ///
    /// # Errors
    /// `UpstreamUnverified` if the connection's files cannot be read, `Busy`.
    pub async fn of_operator(proxy: &Arc<Proxy>, grant: Grant, preface: &Preface) -> Result<Self, SessionError> {
        let place = proxy.registry.admit(&grant, &proxy.limits());
        let place = place.ok_or_else(|| SessionError::new(Refusal::Busy, Party::Proxy, Stage::Authorise, "no place for a check"))?;
        Self::at(Arc::clone(proxy), grant, place, preface).await
    }

    /// What it is allowed by.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The lease, the way to the upstream, and the login there: the injection. Another credential is tried once, if the upstream rejects
    /// the first and the store has another one.
    ///
    /// # Errors
    /// `CredentialsUnavailable`, or what `login` says.
    pub async fn log_in<L: Login>(self, stages: &mut Stages, login: &L) -> Result<LoggedIn<L>, SessionError> {
        let (mut session, mut reached) = self.lease(stages, |endpoint| login.connect(endpoint)).await?;
        loop {
            let credential = session.credential_for(L::verified(&reached))?;
            match login.log_in(&mut reached, &credential).await {
                Ok(ready) => return Ok(LoggedIn { session, reached, ready, credential }),
                Err(LoginFailure::Other(error)) => return Err(error),
                Err(LoginFailure::Rejected(error)) => {
                    drop(credential);
                    if !session.rejected(stages).await? {
                        return Err(error);
                    }
                    reached = login.connect(session.endpoint.clone()).await?;
                }
            }
        }
    }

    /// Asks the store, and meanwhile the way to the upstream, which need nothing of each other: a login costs the slower of the two.
    /// Whichever fails first ends both; the store's request goes on by itself and what it gives is given back.
    async fn lease<F, T>(self, stages: &mut Stages, connect: impl FnOnce(Endpoint) -> F) -> Result<(Session<Leased>, T), SessionError>
    where
        F: Future<Output = Result<T, SessionError>>,
    {
        let began = Instant::now();
        let mut times = (Duration::ZERO, Duration::ZERO);
        stages.waits_for(Stage::Lease);
        let asked = async {
            let lease = self.proxy.gate.lease(&self.grant).await.map_err(unavailable);
            times.0 = began.elapsed();
            stages.waits_for(Stage::Connect);
            lease
        };
        let dialled = async {
            let reached = connect(self.endpoint.clone()).await;
            times.1 = began.elapsed();
            reached
        };
        let (lease, reached) = tokio::try_join!(asked, dialled)?;
        stages.beside(Stage::Lease, times.0.saturating_add(self.stage.asked));
        stages.beside(Stage::Connect, times.1);
        let Self { proxy, grant, endpoint, place, .. } = self;
        Ok((Session { proxy, grant, endpoint, place, stage: Leased { lease, retried: false } }, reached))
    }
}

/// The store did not give a credential; or this user has as many of them as he may, which is his own doing.
pub(crate) fn unavailable(error: StoreError) -> SessionError {
    let (refusal, party) = match error.kind {
        StoreErrorKind::Quota => (Refusal::Busy, Party::Client),
        _ => (Refusal::CredentialsUnavailable, Party::Store),
    };
    SessionError::new(refusal, party, Stage::Lease, error.to_string())
}

impl Session<Leased> {
    /// The credential, for this session's own upstream only.
    fn credential_for(&self, upstream: &Verified) -> Result<Arc<Credential>, SessionError> {
        let credential = self.stage.lease.credential().filter(|_| upstream.endpoint().is(&self.endpoint));
        credential.ok_or_else(|| SessionError::new(Refusal::Internal, Party::Proxy, Stage::Inject, "a credential for another endpoint"))
    }

    /// Where the credential came from.
    #[must_use]
    pub fn provenance(&self) -> &Provenance {
        self.stage.lease.provenance()
    }

    /// The upstream rejected the credential. `true`: try once more, with a value that changed in the store, with a dynamic account that
    /// may need a moment to be known everywhere, or with another account than the one that others have too: one of them may have changed
    /// its password or dropped it, and must not keep the others out. At most once.
    async fn rejected(&mut self, stages: &Stages) -> Result<bool, SessionError> {
        /// An account younger than this may not have reached the server that we asked.
        const YOUNG: Duration = Duration::from_secs(5);
        if std::mem::replace(&mut self.stage.retried, true) {
            self.stage.lease.close();
            return Ok(false);
        }
        if self.stage.lease.is_own() && self.stage.lease.age() < YOUNG {
            tokio::time::sleep(Duration::from_secs(1)).await;
            return Ok(true);
        }
        stages.waits_for(Stage::Lease);
        let changed = self.proxy.gate.refetch(&self.grant, &self.stage.lease).await.map_err(unavailable)?;
        stages.waits_for(Stage::Connect);
        let Some(lease) = changed else { return Ok(false) };
        if lease.is_leased() && lease.age() < YOUNG {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        self.stage.lease = lease;
        Ok(true)
    }

    /// The upstream let us in: writes `opened`, enters the registry, and lets go of the credential.
    ///
    /// # Errors
    /// `AuditUnavailable`.
    pub async fn established(
        self,
        link: &mut Link,
        verified_by: VerifiedBy,
        handle: Option<Handle>,
    ) -> Result<Session<Live>, SessionError> {
        let Self { proxy, grant, endpoint, place, stage: Leased { mut lease, .. } } = self;
        link.stages.end(Stage::Inject);
        let protocol = link.door.protocol;
        let traffic = Arc::new(Traffic::new(proxy.metrics.bytes(protocol)));
        let opened = Opened {
            grant: &grant,
            protocol,
            peer: &link.peer,
            provenance: lease.provenance(),
            verified_by,
            noted: &link.noted,
            stages: link.stages.taken(),
        };
        let record = proxy.audit.opened(&opened, Arc::clone(&traffic)).await;
        let record = record.map_err(|text| SessionError::new(Refusal::AuditUnavailable, Party::Proxy, Stage::Audit, text))?;
        proxy.metrics.session_opened(protocol, grant.connection().name().as_str(), verified_by.word());
        let closing = Closing { proxy: Arc::clone(&proxy), grant: grant.clone(), record, outcome: "aborted" };
        link.stages.end(Stage::Audit);
        link.count_stages();
        lease.forget_credential();
        let registered = proxy.registry.enter(grant.clone(), Arc::clone(&traffic), handle);
        // Entered first, asked second: a reload that took the permission away while we logged in finds the session, or is found here.
        if !proxy.gate.still_allowed(&grant) {
            proxy.registry.end(grant.session(), Reason::Withdrawn);
        }
        let stage = Live { registered, closing, traffic, opened: Instant::now(), limits: proxy.limits(), lease };
        Ok(Session { proxy, grant, endpoint, place, stage })
    }
}

impl Session<Live> {
    /// How its client may name it on another link: the number, and the key that goes with it.
    #[must_use]
    pub fn handle(&self) -> Option<(u32, &[u8])> {
        self.stage.registered.live().handle.as_ref().map(|handle| (handle.number.get(), handle.key.as_slice()))
    }

    /// Where its bytes are counted.
    #[must_use]
    pub fn traffic(&self) -> &Traffic {
        &self.stage.traffic
    }

    /// Puts what the session is used for on record; never waits. `false`: it cannot be written, and the file says that nothing goes unrecorded.
    pub fn record(&self, used: &Use) -> bool {
        self.proxy.metrics.used(self.grant.connection().protocol(), used.what, used.outcome);
        self.proxy.audit.used(self.grant.session(), used)
    }

    /// Relays bytes until the end, and ends the session's life: see [`Self::finish`]. `warning` has the bytes of what the client is told, at
    /// the moment at which it is, before an end that is known; none where its protocol has no word for that.
    pub async fn relay(
        self,
        client: &mut Stream,
        upstream: Verified,
        framing: Framing<'_>,
        warning: fn(&Warning, SessionId) -> Vec<u8>,
        farewell: impl FnOnce(Reason) -> Vec<u8>,
    ) -> End {
        let mut stream = upstream.into_stream();
        let relay = Relay { client, upstream: &mut stream, framing, traffic: &self.stage.traffic, pool: &self.proxy.pool };
        let id = self.grant.session();
        let words = self.warnings(|ahead| -> Say {
            let ahead = *ahead;
            Box::new(move || warning(&ahead, id))
        });
        let outcome = relay.run(self.ends(), words, farewell).await;
        self.finish(outcome, stream).await
    }

    /// The relay is over: ends the session's life in order. What still runs upstream is stopped, the upstream closed, the record closed, the
    /// lease given back.
    pub async fn finish(mut self, outcome: Outcome, mut upstream: Stream) -> End {
        if !outcome.upstream_closed {
            // The server would notice that nobody listens only when it has something to say.
            self.stage.registered.live().stop_upstream().await;
            // It has no session any more when it closes: only then is the account taken from it.
            let _ = tokio::time::timeout(LEAVING, tokio::io::copy(&mut upstream, &mut tokio::io::sink())).await;
        }
        drop(upstream);
        self.stage.closing.outcome = outcome.end.word();
        outcome.end
    }
}
