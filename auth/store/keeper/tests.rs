//! The life of a lease against a store that does as it is told, on a clock that jumps.

mod ends;
mod giving_back;
mod quota;
mod recovery;
mod sharing;
mod turns;

use std::collections::VecDeque;
use std::sync::Mutex;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::sync::Notify;

use super::*;
use crate::store::journal::Journal;
use crate::store::{Document, LeaseStats, Observer, SecretPath, Store, StoreStatus, Use};
use crate::{Gate, sample};

type Script<T> = Mutex<VecDeque<Result<T, StoreErrorKind>>>;

/// Does what its scripts say; when they are at their end, everything succeeds.
struct Fake {
    duration: Duration,
    used: Use,
    renewable: bool,
    renewals: Script<u64>,
    revocations: Script<()>,
    failure: Mutex<Option<StoreError>>,
    /// An issue waits for this, if it is there.
    hold: Option<Notify>,
    token: watch::Sender<Option<std::time::Instant>>,
    /// Renewals and revocations are never answered.
    hangs: bool,
    log: Mutex<Vec<String>>,
    calls: watch::Sender<usize>,
}

impl Fake {
    fn new(seconds: u64) -> Self {
        Self {
            duration: Duration::from_secs(seconds),
            used: Use::Session,
            renewable: true,
            renewals: Mutex::default(),
            revocations: Mutex::default(),
            failure: Mutex::default(),
            hold: None,
            token: watch::Sender::new(None),
            hangs: false,
            log: Mutex::default(),
            calls: watch::Sender::new(0),
        }
    }

    fn say(&self, what: String) {
        self.log.lock().unwrap().push(what);
        self.calls.send_modify(|calls| *calls += 1);
    }

    fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    async fn called(&self, times: usize) {
        self.calls.subscribe().wait_for(|calls| *calls >= times).await.unwrap();
    }

    fn next<T>(script: &Script<T>) -> Option<Result<T, StoreError>> {
        let step = script.lock().unwrap().pop_front()?;
        Some(step.map_err(|kind| StoreError::new(kind, "as the script says")))
    }
}

impl Store for Fake {
    fn read<'a>(&'a self, _: crate::SessionId, _: &'a SecretPath, _: bool) -> BoxFuture<'a, Result<Document, StoreError>> {
        unreachable!("leases are not read")
    }

    fn issue<'a>(&'a self, _: &'a Grant, wanted: &'a Wanted) -> BoxFuture<'a, Result<Issued, StoreError>> {
        Box::pin(async move {
            self.say(format!("issue {}", wanted.path));
            let asked = Instant::now().into_std();
            if let Some(hold) = &self.hold {
                hold.notified().await;
            }
            if let Some(error) = self.failure.lock().unwrap().take() {
                return Err(error);
            }
            let fields = json!({"username": "v-app", "password": "canary"});
            let document = Document::of(fields, "r");
            let token_end = self.token.subscribe();
            Ok(Issued {
                document,
                lease_id: "db/creds/role/1".into(),
                asked,
                duration: self.duration,
                renewable: self.renewable,
                used: self.used,
                token_end,
            })
        })
    }

    fn certify<'a>(
        &'a self,
        _: &'a Grant,
        _: &'a SecretPath,
        _: &'a str,
        _: &'a str,
    ) -> BoxFuture<'a, Result<crate::store::Signed, StoreError>> {
        unreachable!("nothing is signed")
    }

    fn renew<'a>(&'a self, lease_id: &'a str, increment: Duration) -> BoxFuture<'a, Result<Duration, StoreError>> {
        self.say(format!("renew {lease_id} {}", increment.as_secs()));
        if self.hangs {
            return Box::pin(std::future::pending());
        }
        let answer = Self::next(&self.renewals).unwrap_or(Ok(increment.as_secs())).map(Duration::from_secs);
        Box::pin(std::future::ready(answer))
    }

    fn revoke<'a>(&'a self, lease_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.say(format!("revoke {lease_id}"));
        if self.hangs {
            return Box::pin(std::future::pending());
        }
        Box::pin(std::future::ready(Self::next(&self.revocations).unwrap_or(Ok(()))))
    }

    fn status(&self) -> BoxFuture<'_, Result<StoreStatus, StoreError>> {
        unreachable!("nobody asks")
    }

    fn identity(&self) -> &str {
        "fake"
    }
}

fn wanted(path: &SecretPath) -> Wanted {
    Wanted { path: path.clone(), username: None, shown: vec![path.as_str().to_owned()] }
}

#[derive(Default)]
struct Events(Mutex<Vec<&'static str>>);

impl Observer for Events {
    fn store_call(&self, _: &str, _: &'static str, _: &'static str, _: Duration) {}
    fn token_life(&self, _: &str, _: Option<Duration>) {}
    fn cache(&self, _: &str, _: &'static str) {}
    fn lease(&self, _: &str, event: &'static str) {
        self.0.lock().unwrap().push(event);
    }
    fn security(&self, _: &str, _: &'static str) {}
}

struct Bed {
    store: Arc<Fake>,
    events: Arc<Events>,
    leases: Arc<Leases>,
    grant: Grant,
}

impl Bed {
    fn new(store: Fake, leases: Arc<Leases>) -> Self {
        Self::with_keys(store, leases, "tls: verify-full")
    }

    /// What the operator may use of a file with these connections, all of one store.
    fn grants(connections: &str) -> Vec<Grant> {
        let sections = format!(
            "stores: {{ corp: {{ type: vault, address: 'https://v', auth: {{ method: token, token: t }} }} }}\nconnections:\n{connections}"
        );
        let (config, mut problems) = sample::config(&sections);
        let gate = Gate::for_operator(&config, sample::nobody(), &mut problems).unwrap_or_else(|| panic!("{problems}"));
        gate.operator_grants()
    }

    /// The same, with further keys of the connection.
    fn with_keys(store: Fake, leases: Arc<Leases>, keys: &str) -> Self {
        let connection = format!("  db: {{ protocol: postgres, address: 'pg:5432', store: corp, credential: db/creds/role, {keys} }}");
        Self { store: Arc::new(store), events: Arc::default(), leases, grant: Self::grants(&connection).remove(0) }
    }

    fn in_memory(store: Fake) -> Self {
        Self::new(store, Leases::open(None).unwrap())
    }

    fn named(&self) -> Named {
        self.with_name("corp")
    }

    fn with_name(&self, name: &str) -> Named {
        let (store, observer): (Arc<Fake>, Arc<Events>) = (Arc::clone(&self.store), Arc::clone(&self.events));
        Named::new(name.into(), store, observer)
    }

    fn issue(&self) -> impl Future<Output = Result<Lease, StoreError>> + use<> {
        self.issue_from(self.named())
    }

    fn issue_from(&self, named: Named) -> impl Future<Output = Result<Lease, StoreError>> + use<> {
        self.issue_of(&named, &self.grant)
    }

    /// The same from one `Named`, on a connection of this grant.
    fn issue_of(&self, named: &Named, grant: &Grant) -> impl Future<Output = Result<Lease, StoreError>> + use<> {
        let (leases, grant, named) = (Arc::clone(&self.leases), grant.clone(), named.clone());
        async move {
            let crate::store::CredentialPlan::Leased(role) = &grant.account().plan else { unreachable!() };
            leases.issue(named, &grant, &wanted(&role.path)).await
        }
    }

    async fn drained(&self) -> usize {
        self.leases.drain(Duration::from_secs(3600 * 24 * 365)).await
    }

    fn events(&self) -> Vec<&'static str> {
        self.events.0.lock().unwrap().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_dropped_is_given_back() {
    let bed = Bed::in_memory(Fake::new(3600));
    let mut lease = bed.issue().await.unwrap();
    assert_eq!(lease.credential().unwrap().username(), "v-app");
    assert!(lease.is_leased());
    assert_eq!(lease.provenance().lease.as_ref().map(String::len), Some(16));
    lease.forget_credential();
    assert!(lease.credential().is_none());
    assert_eq!(bed.leases.stats().live, 1);
    assert!(lease.ended().now_or_never().is_none());
    drop(lease);
    assert_eq!(bed.drained().await, 0);
    assert_eq!(bed.store.log(), ["issue db/creds/role", "revoke db/creds/role/1"]);
    assert_eq!(bed.events(), ["issued", "revoked"]);
}

#[tokio::test(start_paused = true)]
async fn a_one_time_password_is_given_back_as_soon_as_its_session_is_logged_in_and_does_not_end_it() {
    let bed = Bed::in_memory(Fake { used: Use::Login, ..Fake::new(60) });
    let mut lease = bed.issue().await.unwrap();
    let ended = lease.ended();
    assert_eq!((lease.is_leased(), lease.is_own(), bed.leases.stats().live), (true, false, 1));
    lease.forget_credential();
    assert_eq!(bed.drained().await, 0);
    assert_eq!(bed.store.log(), ["issue db/creds/role", "revoke db/creds/role/1"]);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(ended.now_or_never().is_none() && lease.ended().now_or_never().is_none());
    // Never logged in: with the session.
    drop(bed.issue().await.unwrap());
    assert_eq!(bed.drained().await, 0);
    assert_eq!(bed.events(), ["issued", "revoked", "issued", "revoked"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_vanishes_while_the_store_makes_its_account_loses_nothing() {
    let bed = Bed::in_memory(Fake { hold: Some(Notify::new()), ..Fake::new(3600) });
    let client = tokio::spawn(bed.issue());
    bed.store.called(1).await;
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    bed.store.hold.as_ref().unwrap().notify_one();
    assert_eq!(bed.drained().await, 0);
    assert_eq!(bed.store.log(), ["issue db/creds/role", "revoke db/creds/role/1"]);
}

#[tokio::test(start_paused = true)]
async fn an_account_that_was_long_in_the_making_is_young_when_it_comes_and_its_end_counts_from_the_request() {
    let bed = Bed::in_memory(Fake { hold: Some(Notify::new()), renewable: false, ..Fake::new(60) });
    let client = tokio::spawn(bed.issue());
    bed.store.called(1).await;
    let asked = Instant::now();
    tokio::time::sleep(Duration::from_secs(6)).await;
    bed.store.hold.as_ref().unwrap().notify_one();
    let lease = client.await.unwrap().unwrap();
    assert_eq!(Instant::from_std(lease.born()).duration_since(asked).as_secs(), 6);
    assert_eq!(lease.ended().await, LeaseEnd::Expired);
    assert_eq!(asked.elapsed().as_secs(), 54);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_at_two_thirds_and_ends_a_little_before_its_last_end() {
    let bed = Bed::in_memory(Fake::new(60));
    *bed.store.renewals.lock().unwrap() = [Ok(60), Err(StoreErrorKind::Unavailable), Ok(30)].into();
    let began = Instant::now();
    let lease = bed.issue().await.unwrap();
    assert_eq!(lease.ended().await, LeaseEnd::Expired);
    // Renewed at 40 s; refused at 80 s, and a moment later cut to 30 s; told a tenth of 60 s before those are over.
    let passed = began.elapsed().as_secs_f64();
    assert!((104.0..=106.0).contains(&passed), "{passed}");
    let renew = "renew db/creds/role/1 60";
    assert_eq!(bed.store.log(), ["issue db/creds/role", renew, renew, renew]);
    drop(lease);
    assert_eq!(bed.drained().await, 0);
    assert_eq!(bed.events(), ["issued", "renewed", "renewed", "revoked"]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_the_store_lost_ends_its_session_at_once() {
    let bed = Bed::in_memory(Fake::new(60));
    *bed.store.renewals.lock().unwrap() = [Err(StoreErrorKind::LeaseLost)].into();
    let began = Instant::now();
    let lease = bed.issue().await.unwrap();
    assert_eq!(lease.ended().await, LeaseEnd::Lost);
    assert_eq!(began.elapsed().as_secs(), 40);
    assert_eq!(bed.events(), ["issued", "lost"]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_with_the_token_that_issued_it_however_long_it_is() {
    let bed = Bed::in_memory(Fake::new(3600));
    let from_now = |seconds| Some((Instant::now() + Duration::from_secs(seconds)).into_std());
    bed.store.token.send_replace(from_now(100));
    let lease = bed.issue().await.unwrap();
    let began = Instant::now();
    // The token is renewed once, then nobody can.
    bed.store.token.send_replace(from_now(200));
    assert_eq!(lease.ended().await, LeaseEnd::Expired);
    assert_eq!(began.elapsed().as_secs(), 190);
    // A token that is found dead ends what it issued at once.
    let lease = bed.issue().await;
    bed.store.token.send_replace(from_now(0));
    assert_eq!(lease.unwrap().ended().await, LeaseEnd::TokenDied);
    assert_eq!(began.elapsed().as_secs(), 190);
}

#[tokio::test(start_paused = true)]
async fn a_token_of_a_few_seconds_that_is_renewed_in_time_ends_nothing() {
    let bed = Bed::in_memory(Fake::new(3600));
    let lease = bed.issue().await.unwrap();
    for renewals in 1..10 {
        bed.store.token.send_replace(Some((Instant::now() + Duration::from_secs(20)).into_std()));
        let ended = tokio::time::timeout(Duration::from_secs(14), lease.ended()).await;
        assert!(ended.is_err(), "after {renewals} renewals");
    }
    assert_eq!(lease.ended().await, LeaseEnd::Expired);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_a_renewal_does_not_hide_the_end() {
    let bed = Bed::in_memory(Fake { hangs: true, ..Fake::new(30) });
    let began = Instant::now();
    let lease = bed.issue().await.unwrap();
    assert_eq!(lease.ended().await, LeaseEnd::Expired);
    assert_eq!(began.elapsed().as_secs(), 27);
}

#[tokio::test(start_paused = true)]
async fn an_unclear_answer_names_a_possible_orphan_and_a_clear_one_does_not() {
    let bed = Bed::in_memory(Fake::new(60));
    *bed.store.failure.lock().unwrap() = Some(StoreError::new(StoreErrorKind::Denied, "no"));
    assert_eq!(bed.issue().await.err().map(|error| error.kind), Some(StoreErrorKind::Denied));
    assert!(bed.events().is_empty());
    *bed.store.failure.lock().unwrap() = Some(StoreError::new(StoreErrorKind::Unavailable, "reset").ambiguous());
    assert_eq!(bed.issue().await.err().map(|error| error.kind), Some(StoreErrorKind::Unavailable));
    assert_eq!(bed.events(), ["possible_orphan"]);
    assert_eq!(bed.drained().await, 0);
}

#[tokio::test(start_paused = true)]
async fn without_a_journal_no_lease_is_asked_for() {
    let bed = Bed::new(Fake::new(60), Leases::with_journal(Journal::broken()));
    assert_eq!(bed.issue().await.err().map(|error| error.kind), Some(StoreErrorKind::Unavailable));
    assert!(bed.store.log().is_empty());
}
