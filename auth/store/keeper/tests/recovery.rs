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

#[tokio::test(start_paused = true)]
async fn many_leases_of_a_killed_process_are_no_storm() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = Vec::new();
    for number in 0..100 {
        let asked = Asked { store: "corp".into(), at: "fake".into(), path: "db/creds/role".into(), session: "s".into() };
        let lease: LeaseId = format!("lease {number}").as_str().into();
        for event in [Event::Asked(asked), Event::Issued { lease, until: unix_now() + 3600 }] {
            let line = serde_json::to_string(&event).unwrap();
            text.extend(format!("{{\"n\":{number},{}\n", &line[1..]).bytes());
        }
    }
    std::fs::write(folder.path().join("leases.journal"), text).unwrap();
    let bed = Bed::new(Fake::new(60), Leases::open(Some(folder.path())).unwrap());
    let began = Instant::now();
    bed.leases.adopt([&bed.named()].into_iter());
    assert_eq!(bed.leases.stats().waiting, 100);
    // The clock jumps while the journal writes: nothing comes before its time, and nobody knows how long after it.
    while bed.leases.stats().waiting > 0 {
        let (passed, calls) = (began.elapsed().as_millis(), bed.store.log().len());
        assert!(calls as u128 <= 16 + passed / 250, "{calls} after {passed} ms");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(bed.store.log().len(), 100);
    assert!(began.elapsed() >= Duration::from_secs(21), "{:?}", began.elapsed());
}

/// What a journal says that was cut off after so many bytes by a kill, and what the next process does with it.
#[tokio::test]
async fn wherever_a_process_was_killed_the_next_one_gives_back_what_was_issued_and_names_what_may_have_been() {
    let life = {
        let folder = tempfile::tempdir().unwrap();
        let bed = Bed::new(Fake::new(60), Leases::open(Some(folder.path())).unwrap());
        drop(bed.issue().await.unwrap());
        assert_eq!(bed.drained().await, 0);
        std::fs::read(folder.path().join("leases.journal")).unwrap()
    };
    let text = String::from_utf8(life.clone()).unwrap();
    let words: Vec<&str> = ["asked", "issued", "closing", "done"].into_iter().filter(|word| text.contains(word)).collect();
    assert_eq!((words.len(), text.lines().count()), (4, 4), "{text}");
    let ends = life.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    for cut in ends.flat_map(|end| [end - 1, end]).chain((0..life.len()).step_by(23)) {
        let written = life.get(..cut).unwrap();
        let whole = written.iter().filter(|byte| **byte == b'\n').count();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("leases.journal"), written).unwrap();
        let bed = Bed::new(Fake::new(60), Leases::open(Some(folder.path())).unwrap());
        bed.leases.adopt([&bed.named()].into_iter());
        assert_eq!(bed.drained().await, 0);
        let (calls, events): (&[&str], &[&str]) = match whole {
            0 | 4 => (&[], &[]),
            1 => (&[], &["possible_orphan"]),
            _ => (&["revoke db/creds/role/1"], &["revoked"]),
        };
        assert_eq!((bed.store.log(), bed.events()), (calls.iter().map(ToString::to_string).collect(), events.to_vec()), "cut at {cut}");
        // A second kill right after that changes nothing: all is done.
        let (_, left) = Journal::open(folder.path()).unwrap();
        assert!(left.is_empty(), "cut at {cut}: {left:?}");
    }
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
