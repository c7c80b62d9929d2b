use std::collections::VecDeque;
use std::sync::Weak;

use futures_util::future::join_all;
use tokio::time::{advance, sleep};

use super::*;
use crate::sample;
use crate::store::{Reference, Store, StoreStatus};

const TTL: Duration = Duration::from_secs(60);
const MAX_STALE: Duration = Duration::from_secs(600);
const SECOND: Duration = Duration::from_secs(1);

/// What a store does when it is asked.
#[derive(Clone, Copy)]
enum Does {
    /// Gives a secret, which differs each time.
    Gives,
    /// Gives one that ends after this.
    GivesFor(Duration),
    /// Gives one that is to be read again after this.
    GivesFresh(Duration),
    Fails(StoreErrorKind),
    /// Does the next thing only after this.
    Waits(Duration),
}

/// Does one thing after the other, the last one again and again.
struct Scripted {
    script: Mutex<VecDeque<Does>>,
    asked: Mutex<Vec<(SessionId, bool)>>,
}

struct Bed {
    store: Arc<Scripted>,
    named: Named,
    cache: Cache,
    session: SessionId,
}

impl Store for Scripted {
    fn read<'a>(&'a self, session: SessionId, _: &'a SecretPath, fresh: bool) -> BoxFuture<'a, Result<Document, StoreError>> {
        let serial = {
            let mut asked = self.asked.lock().unwrap();
            asked.push((session, fresh));
            asked.len()
        };
        Box::pin(async move {
            let mut does = self.next();
            if let Does::Waits(time) = does {
                sleep(time).await;
                does = self.next();
            }
            let after = |time: Duration| Some((Instant::now() + time).into_std());
            let mut document = Document::of(serde_json::json!({ "number": serial }), "");
            match does {
                Does::Fails(kind) => return Err(StoreError::new(kind, "scripted")),
                Does::GivesFor(time) => document.not_after = after(time),
                Does::GivesFresh(time) => document.fresh_until = after(time),
                Does::Gives | Does::Waits(_) => {}
            }
            Ok(document)
        })
    }

    fn status(&self) -> BoxFuture<'_, Result<StoreStatus, StoreError>> {
        unreachable!("nobody asks")
    }

    fn identity(&self) -> &str {
        "scripted"
    }
}

impl Scripted {
    fn next(&self) -> Does {
        let mut script = self.script.lock().unwrap();
        if script.len() > 1 { script.pop_front().unwrap() } else { script[0] }
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Bed {
    fn new(script: &[Does]) -> Self {
        Self::with(TTL, MAX_STALE, script)
    }

    fn with(ttl: Duration, max_stale: Duration, script: &[Does]) -> Self {
        let store = Arc::new(Scripted { script: Mutex::new(script.iter().copied().collect()), asked: Mutex::default() });
        let named = Named::new("corp".into(), Arc::clone(&store) as Arc<dyn Store>, sample::nobody());
        Self { store, named, cache: Cache::new(ttl, max_stale), session: SessionId::random() }
    }

    async fn read(&self) -> Result<(u64, From), StoreErrorKind> {
        self.read_as(self.session).await
    }

    /// The number that the store gave the secret.
    async fn read_as(&self, session: SessionId) -> Result<(u64, From), StoreErrorKind> {
        let read = self.cache.read(&self.named, session, &path("m/data/p")).await;
        read.map(|(read, came)| (number(&read), came)).map_err(|error| error.kind)
    }

    async fn reread(&self, rejected: u64) -> Result<u64, StoreErrorKind> {
        let read = self.cache.reread(&self.named, self.session, &path("m/data/p"), rejected).await;
        read.map(|read| number(&read)).map_err(|error| error.kind)
    }

    /// The serial number of what is held.
    fn serial(&self) -> u64 {
        self.cache.0.state().entries[&path("m/data/p")].read.serial
    }

    /// Lets the tasks of the cache do what is due.
    async fn settle(&self) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
}

fn path(text: &str) -> SecretPath {
    text.parse::<Reference>().unwrap().path
}

fn number(read: &Read) -> u64 {
    read.document.fields["number"].as_u64().unwrap()
}

use Does::{Fails, Gives, GivesFor, GivesFresh, Waits};
use StoreErrorKind::{Backlog, Denied, Disabled, LeaseLost, LoginFailed, Malformed, NotFound, Throttled, Unavailable};

#[tokio::test(start_paused = true)]
async fn readers_who_come_together_share_one_request_and_its_failure_which_is_not_kept() {
    let bed = Bed::new(&[Waits(SECOND), Fails(Unavailable), Waits(SECOND), Fails(NotFound), Waits(SECOND), Gives]);
    for (kind, asked) in [(Unavailable, 1), (NotFound, 2)] {
        let all = join_all((0..20).map(|_| bed.read())).await;
        assert!(all.iter().all(|read| *read == Err(kind)), "{all:?}");
        assert_eq!(bed.store.asked(), asked);
    }
    let all = join_all((0..20).map(|_| bed.read())).await;
    assert_eq!(all.iter().filter(|read| **read == Ok((3, From::Store))).count(), 1, "{all:?}");
    assert_eq!(all.iter().filter(|read| **read == Ok((3, From::Cache))).count(), 19, "{all:?}");
    assert_eq!(bed.store.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_kept_for_its_time_and_then_asked_for_again() {
    let bed = Bed::new(&[Gives]);
    assert_eq!(bed.read().await, Ok((1, From::Store)));
    sleep(TTL - SECOND).await;
    // Nobody has used it since.
    assert_eq!(bed.store.asked(), 1);
    sleep(SECOND).await;
    assert_eq!(bed.read().await, Ok((2, From::Store)));
    advance(TTL - SECOND).await;
    assert_eq!(bed.read().await, Ok((2, From::Cache)));
    bed.settle().await;
    assert_eq!(bed.store.asked(), 3, "used in its last moments it is read again");
    advance(SECOND).await;
    assert_eq!(bed.read().await, Ok((3, From::Cache)));
}

#[tokio::test(start_paused = true)]
async fn a_secret_past_its_time_stands_in_for_a_store_that_cannot_be_asked() {
    for kind in [Unavailable, Throttled] {
        let bed = Bed::new(&[Gives, Fails(kind)]);
        assert_eq!(bed.read().await, Ok((1, From::Store)));
        advance(TTL).await;
        assert_eq!(bed.read().await, Ok((1, From::Stale)));
        advance(MAX_STALE - SECOND).await;
        assert_eq!(bed.read().await, Ok((1, From::Stale)));
        assert_eq!(bed.store.asked(), 3, "each asks before it takes what is old");
        advance(SECOND).await;
        assert_eq!(bed.read().await, Err(kind));
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_back_is_believed_at_once() {
    let bed = Bed::new(&[Gives, Fails(Unavailable), Gives]);
    bed.read().await.unwrap();
    advance(TTL).await;
    assert_eq!(bed.read().await, Ok((1, From::Stale)));
    assert_eq!(bed.read().await, Ok((3, From::Store)));
    assert_eq!(bed.read().await, Ok((3, From::Cache)));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_says_no_takes_the_secret_away_for_good() {
    for kind in [Denied, LoginFailed, NotFound, Malformed, LeaseLost, Backlog, Disabled] {
        let bed = Bed::new(&[Gives, Fails(kind), Fails(Unavailable)]);
        bed.read().await.unwrap();
        advance(TTL).await;
        assert_eq!(bed.read().await, Err(kind));
        assert_eq!(bed.read().await, Err(Unavailable), "{kind:?}: nothing is left that could stand in");
    }
}

#[tokio::test(start_paused = true)]
async fn where_nothing_may_be_past_its_time_an_outage_is_one_at_once() {
    let bed = Bed::with(TTL, Duration::ZERO, &[Gives, Fails(Unavailable)]);
    bed.read().await.unwrap();
    advance(TTL).await;
    assert_eq!(bed.read().await, Err(Unavailable));
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_kept_each_login_asks_and_nothing_stands_in() {
    let bed = Bed::with(Duration::ZERO, MAX_STALE, &[Waits(SECOND), Waits(SECOND), Gives, Gives, Fails(Unavailable)]);
    let (one, other) = tokio::join!(bed.read(), bed.read());
    assert!(matches!((one, other), (Ok((_, From::Store)), Ok((_, From::Store)))));
    assert_eq!(bed.store.asked(), 2);
    assert_eq!(bed.read().await, Err(Unavailable));
    assert!(bed.cache.0.state().entries.is_empty());
    // What a rejected login reads is not kept either.
    let bed = Bed::with(Duration::ZERO, MAX_STALE, &[Gives]);
    assert_eq!(bed.reread(0).await, Ok(1));
    assert!(bed.cache.0.state().entries.is_empty());
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_long_for_a_store_that_hangs_if_a_secret_can_stand_in() {
    let bed = Bed::new(&[Gives, Waits(10 * SECOND), Gives]);
    bed.read().await.unwrap();
    advance(TTL).await;
    let begin = Instant::now();
    assert_eq!(bed.read().await, Ok((1, From::Stale)));
    assert_eq!(begin.elapsed().as_secs(), PATIENCE.as_secs());
    // The request goes on. Who comes later has waited long enough.
    assert_eq!(bed.read().await, Ok((1, From::Stale)));
    assert_eq!((begin.elapsed().as_secs(), bed.store.asked()), (PATIENCE.as_secs(), 2));
    sleep(8 * SECOND).await;
    assert_eq!(bed.read().await, Ok((2, From::Cache)), "what it brought in the end is there");
    assert_eq!(bed.store.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_no_that_comes_late_takes_the_secret_away_all_the_same() {
    let bed = Bed::new(&[Gives, Waits(10 * SECOND), Fails(Denied), Fails(Unavailable)]);
    bed.read().await.unwrap();
    advance(TTL).await;
    assert_eq!(bed.read().await, Ok((1, From::Stale)));
    sleep(8 * SECOND).await;
    assert_eq!(bed.read().await, Err(Unavailable));
}

#[tokio::test(start_paused = true)]
async fn who_has_nothing_that_could_stand_in_waits_for_the_store() {
    let bed = Bed::new(&[Waits(10 * SECOND), Gives]);
    let begin = Instant::now();
    assert_eq!(bed.read().await, Ok((1, From::Store)));
    assert_eq!(begin.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_somebody_used_is_read_again_before_its_end_by_one_request() {
    let bed = Bed::new(&[Gives, Waits(SECOND), Gives]);
    bed.read().await.unwrap();
    let last = SessionId::random();
    join_all((0..20).map(|_| bed.read())).await;
    assert_eq!(bed.read_as(last).await, Ok((1, From::Cache)));
    advance(TTL * 79 / 100).await;
    bed.settle().await;
    assert_eq!(bed.store.asked(), 1, "not before four fifths of its time");
    sleep(TTL * 14 / 100).await;
    assert_eq!(*bed.store.asked.lock().unwrap(), [(bed.session, false), (last, false)], "for the last one who used it");
    assert_eq!(bed.read().await, Ok((2, From::Cache)));
    // That one was used as well, so that it goes on.
    sleep(TTL).await;
    assert_eq!(bed.store.asked(), 3);
    // And nobody has used this one.
    sleep(TTL).await;
    assert_eq!(bed.store.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_failure_ahead_of_the_end_is_heard_by_nobody_until_it_comes() {
    let bed = Bed::new(&[Gives, Fails(Unavailable)]);
    bed.read().await.unwrap();
    bed.read().await.unwrap();
    sleep(TTL * 91 / 100).await;
    assert_eq!(bed.store.asked(), 2);
    assert_eq!(bed.read().await, Ok((1, From::Cache)));
    bed.settle().await;
    assert_eq!(bed.store.asked(), 2, "it is tried once");
    sleep(TTL).await;
    assert_eq!(bed.read().await, Ok((1, From::Stale)));
}

#[tokio::test(start_paused = true)]
async fn a_no_ahead_of_the_end_takes_the_secret_away_at_once() {
    let bed = Bed::new(&[Gives, Fails(NotFound)]);
    bed.read().await.unwrap();
    bed.read().await.unwrap();
    sleep(TTL * 91 / 100).await;
    assert_eq!(bed.read().await, Err(NotFound));
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_says_when_it_ends_is_never_used_after_that() {
    let bed = Bed::new(&[GivesFor(10 * SECOND), Fails(Unavailable)]);
    bed.read().await.unwrap();
    advance(10 * SECOND - Duration::from_millis(1)).await;
    assert_eq!(bed.read().await, Ok((1, From::Cache)));
    advance(Duration::from_millis(1)).await;
    assert_eq!(bed.read().await, Err(Unavailable));
    // One that ends between the time of the cache and the last moment.
    let bed = Bed::new(&[GivesFor(TTL + 10 * SECOND), Fails(Unavailable)]);
    bed.read().await.unwrap();
    advance(TTL).await;
    assert_eq!(bed.read().await, Ok((1, From::Stale)));
    advance(10 * SECOND).await;
    assert_eq!(bed.read().await, Err(Unavailable));
    // One that has ended when it comes.
    let bed = Bed::new(&[GivesFor(Duration::ZERO)]);
    assert_eq!(bed.read().await, Ok((1, From::Store)));
    assert_eq!(bed.read().await, Ok((2, From::Store)));
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_says_when_to_read_it_again_stands_in_after_that_like_any_other() {
    for (own, fresh) in [(10 * SECOND, 10 * SECOND), (2 * TTL, TTL)] {
        let bed = Bed::new(&[GivesFresh(own), Fails(Unavailable)]);
        bed.read().await.unwrap();
        advance(fresh - Duration::from_millis(1)).await;
        assert_eq!(bed.read().await, Ok((1, From::Cache)));
        advance(Duration::from_millis(1)).await;
        assert_eq!(bed.read().await, Ok((1, From::Stale)));
        advance(MAX_STALE - SECOND).await;
        assert_eq!(bed.read().await, Ok((1, From::Stale)));
        advance(SECOND).await;
        assert_eq!(bed.read().await, Err(Unavailable));
    }
    let bed = Bed::new(&[GivesFresh(10 * SECOND), Gives]);
    bed.read().await.unwrap();
    advance(10 * SECOND).await;
    assert_eq!(bed.read().await, Ok((2, From::Store)), "where the store can be asked, it is");
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_is_dropped_though_nobody_asks_any_more() {
    let bed = Bed::new(&[Gives]);
    let (read, _) = bed.cache.read(&bed.named, bed.session, &path("m/data/p")).await.unwrap();
    let document: Weak<Document> = Arc::downgrade(&read.document);
    drop(read);
    sleep(TTL + MAX_STALE - SECOND).await;
    assert!(document.upgrade().is_some());
    sleep(2 * SECOND).await;
    assert!(document.upgrade().is_none(), "its texts are overwritten with it");
    // With the cache ends all that it holds, and the tasks that attend to it.
    bed.read().await.unwrap();
    let (inner, attendant) = (Arc::downgrade(&bed.cache.0), Arc::downgrade(&bed.store));
    drop(bed);
    sleep(SECOND).await;
    assert!(inner.upgrade().is_none() && attendant.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_late_takes_the_place_of_no_newer_one() {
    for late in [Gives, Fails(Denied)] {
        let bed = Bed::new(&[Waits(2 * SECOND), Gives, late]);
        let old = bed.read();
        tokio::pin!(old);
        assert!(old.as_mut().now_or_never().is_none());
        bed.settle().await;
        assert_eq!(bed.reread(0).await, Ok(2), "the one that was asked for second comes first");
        let held = bed.serial();
        let _ = old.await;
        assert_eq!(bed.serial(), held);
        assert_eq!(bed.read().await, Ok((2, From::Cache)));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_read_before_the_store_said_no_does_not_come_back_after_it() {
    let bed = Bed::new(&[Waits(2 * SECOND), Fails(Denied), Gives, Fails(Unavailable)]);
    let old = bed.read();
    tokio::pin!(old);
    assert!(old.as_mut().now_or_never().is_none());
    bed.settle().await;
    assert_eq!(bed.reread(0).await, Err(Denied));
    assert_eq!(old.await, Ok((1, From::Store)), "who asked before it has what was so then");
    assert_eq!(bed.read().await, Err(Unavailable), "and nobody after him");
    bed.settle().await;
    assert!(bed.cache.0.state().refused.is_empty(), "nothing is remembered of it");
}

#[tokio::test(start_paused = true)]
async fn a_rejected_secret_is_read_again_past_every_replica_and_not_again_so_soon() {
    let bed = Bed::new(&[Gives]);
    bed.read().await.unwrap();
    let rejected = bed.serial();
    let all = join_all((0..20).map(|_| bed.reread(rejected))).await;
    assert!(all.iter().all(|read| *read == Ok(2)), "{all:?}");
    assert_eq!(bed.read().await, Ok((2, From::Cache)));
    // What it brought is rejected too.
    let rejected = bed.serial();
    assert_eq!(bed.reread(rejected).await, Ok(2));
    sleep(REREAD_PACE).await;
    assert_eq!(bed.reread(rejected).await, Ok(3));
    let fresh: Vec<bool> = bed.store.asked.lock().unwrap().iter().map(|(_, fresh)| *fresh).collect();
    assert_eq!(fresh, [false, true, true]);
}

#[tokio::test(start_paused = true)]
async fn a_reread_that_fails_is_not_repeated_at_once_and_nothing_stands_in_for_it() {
    let bed = Bed::new(&[Gives, Fails(Unavailable), Fails(Denied), Fails(Unavailable)]);
    bed.read().await.unwrap();
    let rejected = bed.serial();
    assert_eq!(bed.reread(rejected).await, Err(Unavailable));
    assert_eq!(bed.reread(rejected).await, Ok(1), "as far as is known it has not changed");
    sleep(REREAD_PACE).await;
    assert_eq!(bed.reread(rejected).await, Err(Denied));
    assert_eq!(bed.read().await, Err(Unavailable), "a no takes the secret away here as well");
}

#[tokio::test(start_paused = true)]
async fn a_store_is_asked_for_so_many_secrets_at_a_time_and_the_others_wait_in_their_turn() {
    let bed = Bed::new(&[Waits(SECOND); 100]);
    let paths: Vec<_> = (0..40).map(|number| path(&format!("m/data/{number}"))).collect();
    let reads = join_all(paths.iter().map(|path| bed.cache.read(&bed.named, bed.session, path)));
    tokio::pin!(reads);
    assert!(reads.as_mut().now_or_never().is_none());
    bed.settle().await;
    assert_eq!(bed.store.asked(), 32, "a store that hangs is asked no more");
    assert!(reads.await.iter().all(Result::is_ok));
    assert_eq!(bed.store.asked(), 40);
}

#[tokio::test(start_paused = true)]
async fn the_cache_holds_no_more_than_its_bound() {
    let bed = Bed::new(&[Gives]);
    for number in 0..=MAX_ENTRIES {
        bed.cache.read(&bed.named, bed.session, &path(&format!("m/data/{number}"))).await.unwrap();
        if number == 0 {
            advance(SECOND).await;
        }
    }
    let state = bed.cache.0.state();
    assert_eq!(state.entries.len(), MAX_ENTRIES);
    assert!(!state.entries.contains_key(&path("m/data/0")), "the one that would end first");
}
