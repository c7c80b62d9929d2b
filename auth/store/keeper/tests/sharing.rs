//! Leases that sessions use together.

use futures_util::future::join_all;

use super::*;
use crate::identity::{Identity, Proof, Source as From};
use crate::policy::Policy;
use crate::store::sharing::Sharing;
use crate::{Credential, SessionId};

/// alice and bob may use `db`, a dynamic account of one store.
pub(super) struct Crowd {
    pub(super) bed: Bed,
    named: Named,
    sharing: Arc<Sharing>,
    pub(super) policy: Policy,
}

/// What the file says of `db`.
fn policy(keys: &str) -> Policy {
    let sections = format!(
        "stores: {{ corp: {{ type: vault, address: 'https://v', auth: {{ method: token, token: t }} }} }}\n\
         connections:\n  db: {{ protocol: postgres, address: 'pg:5432', store: corp, {keys}, \
         accounts: {{ rw: {{ credential: db/creds/role }}, ro: {{ credential: db/creds/role }}, \
         own: {{ credential: 'db/creds/{{{{user.name}}}}' }} }} }}\n\
         users: {{ alice: {{ public_keys: [k] }}, bob: {{ public_keys: [k] }} }}\n\
         access: [{{ allow: [alice, bob], connections: [db] }}]"
    );
    let (config, mut problems) = sample::config(&sections);
    let policy = Policy::read(&config, &mut problems);
    assert!(problems.is_empty(), "{problems}");
    policy
}

impl Crowd {
    pub(super) fn new(store: Fake, keys: &str) -> Self {
        let bed = Bed::in_memory(store);
        let named = bed.named();
        Self { bed, named, sharing: Arc::default(), policy: policy(keys) }
    }

    pub(super) fn grant(&self, user: &str, account: &str) -> Grant {
        let identity = Identity::of(user, Proof::ScramSha256, From::local());
        self.policy.authorise(&identity, "postgres", "db", Some(account), SessionId::random()).unwrap()
    }

    pub(super) fn lease(&self, user: &str) -> impl Future<Output = Result<Lease, StoreError>> + Send + use<> {
        self.lease_of(self.grant(user, "rw"))
    }

    pub(super) fn lease_of(&self, grant: Grant) -> impl Future<Output = Result<Lease, StoreError>> + Send + use<> {
        let (sharing, leases, named) = (Arc::clone(&self.sharing), Arc::clone(&self.bed.leases), self.named.clone());
        async move {
            let crate::store::CredentialPlan::Leased(role) = &grant.account().plan else { unreachable!() };
            sharing.lease(&leases, &named, &grant, &wanted(&role.path)).await
        }
    }

    pub(super) fn asked(&self) -> usize {
        self.calls("issue")
    }

    fn calls(&self, what: &str) -> usize {
        self.bed.store.log().iter().filter(|call| call.starts_with(what)).count()
    }
}

fn joined(lease: &Lease) -> bool {
    lease.provenance().joined
}

fn same(one: &Lease, other: &Lease) -> bool {
    Arc::ptr_eq(&one.credential().unwrap(), &other.credential().unwrap())
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn sessions_of_a_user_that_overlap_use_one_lease_and_the_last_gives_it_back() {
    let crowd = Crowd::new(Fake::new(3600), "lease: per_user");
    let first = crowd.lease("alice").await.unwrap();
    let second = crowd.lease("alice").await.unwrap();
    assert!(same(&first, &second) && second.is_leased());
    assert_eq!((joined(&first), joined(&second)), (false, true));
    assert_eq!(first.provenance().lease, second.provenance().lease);
    let bobs = crowd.lease("bob").await.unwrap();
    assert!(!same(&first, &bobs), "another user has his own");
    let other = crowd.lease_of(crowd.grant("alice", "ro")).await.unwrap();
    assert!(!same(&first, &other), "another account has its own");
    assert_eq!((crowd.asked(), crowd.bed.leases.stats().live), (3, 3));
    drop((first, bobs, other));
    pass(60).await;
    assert_eq!(crowd.calls("revoke"), 2);
    let third = crowd.lease("alice").await.unwrap();
    assert!(same(&second, &third), "it lives as long as somebody uses it");
    drop((second, third));
    assert_eq!(crowd.bed.drained().await, 0);
    assert_eq!(crowd.calls("revoke"), 3);
    assert!(!joined(&crowd.lease("alice").await.unwrap()), "what was given back is not joined");
    assert_eq!(crowd.bed.events().iter().filter(|event| **event == "joined").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_role_that_is_each_users_own_is_shared_by_his_own_sessions_and_nobody_elses() {
    let crowd = Crowd::new(Fake::new(3600), "lease: shared");
    let own = |user: &str| crowd.lease_of(crowd.grant(user, "own"));
    let (alices, bobs) = (own("alice").await.unwrap(), own("bob").await.unwrap());
    assert!(!same(&alices, &bobs) && !joined(&bobs), "what alice may do is not for bob");
    assert!(same(&alices, &own("alice").await.unwrap()));
    assert_eq!((crowd.calls("issue db/creds/alice"), crowd.calls("issue db/creds/bob")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_shared_lease_is_that_of_every_user_and_the_operators_is_nobodys() {
    let crowd = Crowd::new(Fake::new(3600), "lease: shared");
    let alices = crowd.lease("alice").await.unwrap();
    assert!(same(&alices, &crowd.lease("bob").await.unwrap()));
    for grant in crowd.policy.operator_grants() {
        let operators = crowd.lease_of(grant).await.unwrap();
        assert!(!same(&alices, &operators) && !joined(&operators));
    }
    assert!(same(&alices, &crowd.lease("bob").await.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn without_a_word_in_the_file_each_session_has_its_own() {
    let crowd = Crowd::new(Fake::new(3600), "lease: per_session");
    let (first, second) = (crowd.lease("alice").await.unwrap(), crowd.lease("alice").await.unwrap());
    assert!(!same(&first, &second) && !joined(&second));
}

#[tokio::test(start_paused = true)]
async fn twenty_at_once_make_one_account_even_if_the_first_one_vanishes() {
    let crowd = Crowd::new(Fake { hold: Some(Notify::new()), ..Fake::new(3600) }, "lease: shared");
    let first = tokio::spawn(crowd.lease("alice"));
    crowd.bed.store.called(1).await;
    let others: Vec<_> = (0..19).map(|_| tokio::spawn(crowd.lease("bob"))).collect();
    pass(1).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    crowd.bed.store.hold.as_ref().unwrap().notify_one();
    let leases: Vec<Lease> = join_all(others).await.into_iter().map(|lease| lease.unwrap().unwrap()).collect();
    assert!(leases.iter().all(|lease| same(lease, &leases[0]) && joined(lease)));
    assert_eq!((crowd.asked(), crowd.calls("revoke")), (1, 0));
    drop(leases);
    assert_eq!(crowd.bed.drained().await, 0);
    assert_eq!(crowd.calls("revoke"), 1);
}

#[tokio::test(start_paused = true)]
async fn what_all_who_waited_for_it_have_left_is_given_back() {
    let crowd = Crowd::new(Fake { hold: Some(Notify::new()), ..Fake::new(3600) }, "lease: shared");
    let clients: Vec<_> = (0..3).map(|_| tokio::spawn(crowd.lease("alice"))).collect();
    crowd.bed.store.called(1).await;
    pass(1).await;
    clients.iter().for_each(tokio::task::JoinHandle::abort);
    crowd.bed.store.hold.as_ref().unwrap().notify_one();
    assert_eq!(crowd.bed.drained().await, 0);
    assert_eq!((crowd.asked(), crowd.calls("revoke")), (1, 1));
    let next = tokio::spawn(crowd.lease("alice"));
    crowd.bed.store.called(3).await;
    crowd.bed.store.hold.as_ref().unwrap().notify_one();
    assert!(!joined(&next.await.unwrap().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_to_all_who_waited_and_to_nobody_later() {
    let crowd = Crowd::new(Fake { hold: Some(Notify::new()), ..Fake::new(3600) }, "lease: shared");
    *crowd.bed.store.failure.lock().unwrap() = Some(StoreError::new(StoreErrorKind::Denied, "no"));
    let clients: Vec<_> = (0..3).map(|_| tokio::spawn(crowd.lease("alice"))).collect();
    pass(1).await;
    crowd.bed.store.hold.as_ref().unwrap().notify_one();
    for client in clients {
        assert_eq!(client.await.unwrap().err().map(|error| error.kind), Some(StoreErrorKind::Denied));
    }
    assert_eq!(crowd.asked(), 1);
    let next = tokio::spawn(crowd.lease("alice"));
    pass(1).await;
    crowd.bed.store.hold.as_ref().unwrap().notify_one();
    assert!(next.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_makes_a_lease_joinable_for_longer() {
    // Its sessions are told 10 s before the end; it is renewed at 200 s.
    let crowd = Crowd::new(Fake::new(300), "lease: shared, min_session: 120s");
    let first = crowd.lease("alice").await.unwrap();
    pass(169).await;
    assert!(joined(&crowd.lease("bob").await.unwrap()));
    pass(32).await;
    assert_eq!(crowd.calls("renew"), 1);
    assert!(same(&first, &crowd.lease("bob").await.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_leaves_a_session_too_little_is_not_joined_and_later_ones_join_the_next() {
    let crowd = Crowd::new(Fake::new(300), "lease: shared, min_session: 120s");
    let first = crowd.lease("alice").await.unwrap();
    pass(171).await;
    let second = crowd.lease("bob").await.unwrap();
    assert!(!joined(&second) && !same(&first, &second));
    let third = crowd.lease("alice").await.unwrap();
    assert!(joined(&third) && same(&second, &third));
    drop(first);
    pass(1).await;
    assert_eq!(crowd.calls("revoke"), 1, "nobody is left who uses the first one");
    assert_eq!(crowd.bed.leases.stats().live, 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_token_is_near_its_end_is_not_joined() {
    let crowd = Crowd::new(Fake::new(3600), "lease: shared");
    let from_now = |seconds| Some((Instant::now() + Duration::from_secs(seconds)).into_std());
    crowd.bed.store.token.send_replace(from_now(100));
    let first = crowd.lease("alice").await.unwrap();
    pass(20).await;
    assert!(joined(&crowd.lease("bob").await.unwrap()));
    pass(20).await;
    // The token is renewed in time.
    crowd.bed.store.token.send_replace(from_now(100));
    pass(20).await;
    assert!(joined(&crowd.lease("bob").await.unwrap()));
    pass(20).await;
    assert!(!joined(&crowd.lease("bob").await.unwrap()));
    assert!(first.ended().now_or_never().is_none(), "who has it keeps it");
    crowd.bed.store.token.send_replace(from_now(0));
    assert_eq!(first.ended().await, LeaseEnd::TokenDied);
}

#[tokio::test(start_paused = true)]
async fn each_session_hears_of_the_end_and_nobody_joins_a_lost_lease() {
    let crowd = Crowd::new(Fake::new(3600), "lease: shared, min_session: 0");
    *crowd.bed.store.renewals.lock().unwrap() = [Err(StoreErrorKind::LeaseLost)].into();
    let first = crowd.lease("alice").await.unwrap();
    let second = crowd.lease("bob").await.unwrap();
    assert_eq!((first.ended().await, second.ended().await), (LeaseEnd::Lost, LeaseEnd::Lost));
    let third = crowd.lease("bob").await.unwrap();
    assert!(!joined(&third));
    assert!(third.ended().now_or_never().is_none());
}

/// A session that is in: it has let go of the credential.
fn logged_in(mut lease: Lease) -> (Lease, std::sync::Weak<Credential>) {
    let credential = Arc::downgrade(&lease.credential().unwrap());
    lease.forget_credential();
    (lease, credential)
}

#[tokio::test(start_paused = true)]
async fn the_credential_is_kept_until_no_renewal_can_make_it_joinable_again() {
    let crowd = Crowd::new(Fake::new(300), "lease: shared, min_session: 120s");
    // At 200 s the store gives its last 250 s: told at 440 s, joined until 320 s.
    *crowd.bed.store.renewals.lock().unwrap() = [Ok(250)].into();
    let (session, credential) = logged_in(crowd.lease("alice").await.unwrap());
    pass(190).await;
    assert!(credential.upgrade().is_some(), "a renewal may come");
    pass(110).await;
    assert!(credential.upgrade().is_some());
    pass(30).await;
    assert!(credential.upgrade().is_none());
    assert!(session.ended().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_credential_goes_with_the_last_session_or_with_its_end() {
    let crowd = Crowd::new(Fake::new(3600), "lease: shared");
    let (session, credential) = logged_in(crowd.lease("alice").await.unwrap());
    assert!(credential.upgrade().is_some());
    drop(session);
    assert!(credential.upgrade().is_none());
    let (session, credential) = logged_in(crowd.lease("alice").await.unwrap());
    crowd.bed.store.token.send_replace(Some(Instant::now().into_std()));
    session.ended().await;
    pass(1).await;
    assert!(credential.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_role_too_short_to_be_joined_still_serves_all_who_waited_for_it() {
    let crowd = Crowd::new(Fake { hold: Some(Notify::new()), ..Fake::new(20) }, "lease: shared");
    *crowd.bed.store.renewals.lock().unwrap() = [Err(StoreErrorKind::Denied)].into();
    let clients: Vec<_> = (0..3).map(|_| tokio::spawn(crowd.lease("alice"))).collect();
    pass(1).await;
    crowd.bed.store.hold.as_ref().unwrap().notify_one();
    let leases: Vec<Lease> = join_all(clients).await.into_iter().map(|lease| lease.unwrap().unwrap()).collect();
    assert!(leases.iter().all(|lease| same(lease, &leases[0])));
    let later = tokio::spawn(crowd.lease("alice"));
    pass(1).await;
    crowd.bed.store.hold.as_ref().unwrap().notify_one();
    assert!(!joined(&later.await.unwrap().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_changes_the_connection_lets_nobody_join_what_was_issued_before() {
    let mut crowd = Crowd::new(Fake::new(3600), "lease: shared");
    let (old, old_credential) = logged_in(crowd.lease("alice").await.unwrap());
    // The same again: the lease lives on.
    crowd.policy = policy("lease: shared");
    let reload = |crowd: &Crowd| {
        let connections = crowd.policy.connections();
        crowd.sharing.close_all_but(|old| connections.get(old.name()).is_some_and(|new| new.same_as(old)));
    };
    reload(&crowd);
    assert!(joined(&crowd.lease("bob").await.unwrap()));
    let late = crowd.grant("bob", "rw");
    crowd.policy = policy("lease: shared, insecure: moved");
    reload(&crowd);
    assert!(old_credential.upgrade().is_none(), "nobody may join, so nobody needs it");
    let new = crowd.lease("bob").await.unwrap();
    assert!(!joined(&new));
    // One who was granted the old connection before, and comes late.
    assert!(!joined(&crowd.lease_of(late).await.unwrap()));
    assert!(old.ended().now_or_never().is_none(), "who has it keeps it");
    assert_eq!(crowd.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_gone_from_the_file_lets_nobody_join() {
    let mut crowd = Crowd::new(Fake { hold: Some(Notify::new()), ..Fake::new(3600) }, "lease: shared");
    let waiting = tokio::spawn(crowd.lease("alice"));
    pass(1).await;
    crowd.sharing = Arc::default();
    crowd.bed.store.hold.as_ref().unwrap().notify_one();
    let (session, credential) = logged_in(waiting.await.unwrap().unwrap());
    pass(1).await;
    assert!(session.is_leased() && credential.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_one_time_password_is_shared_by_nobody() {
    let crowd = Crowd::new(Fake { used: Use::Login, ..Fake::new(60) }, "lease: shared");
    for lease in join_all([crowd.lease("alice"), crowd.lease("bob")]).await {
        let error = lease.unwrap_err();
        assert!(error.kind == StoreErrorKind::Malformed && error.detail.contains("lease: per_session"), "{error}");
    }
    assert_eq!(crowd.bed.drained().await, 0);
    assert_eq!(crowd.calls("issue"), crowd.calls("revoke"));
}
