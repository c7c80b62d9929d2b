//! What the next process does with the leases of one that was killed.

use super::*;

#[tokio::test]
async fn what_a_killed_process_left_is_given_back_by_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    {
        let (journal, _) = Journal::open(folder.path()).unwrap();
        let asked = |at: &str| Asked { store: "corp".into(), at: at.into(), path: "db/creds/role".into(), session: "s".into() };
        let issued = |lease: &str| Event::Issued { lease: lease.into(), until: unix_now() + 3600 };
        for (number, event) in [
            (1, Event::Asked(asked("fake"))),
            (1, issued("left behind")),
            (2, Event::Asked(asked("fake"))),
            (3, Event::Asked(asked("another store"))),
            (3, issued("not ours")),
            (4, Event::Asked(asked("fake"))),
            (4, issued("given back")),
            (4, Event::Done),
            (5, Event::Asked(asked("fake"))),
            (5, Event::Issued { lease: "long over".into(), until: unix_now() - 3600 }),
            (6, Event::Asked(asked("another store"))),
            (7, Event::Asked(asked("another store"))),
            (7, Event::Issued { lease: "not ours and long over".into(), until: unix_now() - 3600 }),
        ] {
            journal.record(number, event, true).await.unwrap();
        }
    }
    let bed = Bed::new(Fake::new(60), Leases::open(Some(folder.path())).unwrap());
    assert!(bed.store.log().is_empty());
    bed.leases.adopt([&bed.named()].into_iter());
    assert_eq!(bed.leases.stats(), LeaseStats { live: 0, waiting: 3 });
    bed.leases.name_unclaimed(&bed.named().observer);
    assert_eq!(bed.drained().await, 0);
    let mut log = bed.store.log();
    log.sort_unstable();
    assert_eq!(log, ["revoke left behind", "revoke long over"], "our clock may be wrong: once in any case");
    let mut events = bed.events();
    events.sort_unstable();
    assert_eq!(events, ["possible_orphan", "possible_orphan", "revoked", "revoked"]);
    // The next start finds only what belongs to the store that was not there; the new numbers follow the old ones.
    drop(bed.issue().await.unwrap());
    assert_eq!(bed.drained().await, 0);
    let (_, left) = Journal::open(folder.path()).unwrap();
    assert_eq!(left.keys().copied().collect::<Vec<_>>(), [3]);
}

#[tokio::test]
async fn where_two_entries_lead_to_one_server_each_takes_its_own_leases_first() {
    let folder = tempfile::tempdir().unwrap();
    {
        let (journal, _) = Journal::open(folder.path()).unwrap();
        for (number, store) in [(1, "one"), (2, "two"), (3, "gone")] {
            let asked = Asked { store: store.into(), at: "fake".into(), path: "db/creds/role".into(), session: "s".into() };
            journal.record(number, Event::Asked(asked), true).await.unwrap();
            journal.record(number, Event::Issued { lease: store.into(), until: unix_now() + 3600 }, true).await.unwrap();
        }
    }
    let (one, two) = (Bed::in_memory(Fake::new(60)), Bed::in_memory(Fake::new(60)));
    let leases = Leases::open(Some(folder.path())).unwrap();
    leases.adopt([&one.with_name("one"), &two.with_name("two")].into_iter());
    assert_eq!(leases.drain(Duration::from_secs(60)).await, 0);
    let mut first = one.store.log();
    first.sort_unstable();
    assert_eq!(first, ["revoke gone", "revoke one"]);
    assert_eq!(two.store.log(), ["revoke two"]);
}
