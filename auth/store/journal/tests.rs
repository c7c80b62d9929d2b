use super::*;
use proptest::prelude::*;

fn asked(path: &str) -> Event {
    Event::Asked(Asked { store: "corp".into(), at: "https://v".into(), path: path.into(), session: "s".into() })
}

fn issued(lease: &str) -> Event {
    Event::Issued { lease: lease.into(), until: 9 }
}

fn lines(events: &[(u64, Event)]) -> Vec<u8> {
    let mut text = Vec::new();
    for (number, event) in events {
        write_line(&mut text, *number, event).unwrap();
    }
    text
}

#[test]
fn a_cut_last_line_is_ignored_wherever_it_was_cut() {
    let first = lines(&[(1, asked("a")), (1, issued("l1")), (2, asked("b"))]);
    let last = lines(&[(2, issued("l2"))]);
    for cut in 0..last.len() {
        let bytes = [first.as_slice(), &last[..cut]].concat();
        let (open, broken) = replay_bytes(&bytes);
        assert_eq!(broken, 0);
        assert_eq!(open.len(), 2);
        assert_eq!(open[&1].issued, Some(("l1".into(), 9)));
        assert_eq!(open[&2].issued, None, "cut at {cut}");
    }
    assert_eq!(replay_bytes(&[first, last].concat()).0[&2].issued, Some(("l2".into(), 9)));
}

#[test]
fn a_broken_line_in_the_middle_costs_only_itself() {
    let bytes =
        [lines(&[(1, asked("a")), (1, issued("l1"))]), b"{\"n\":1,\"ev\n\xff\n".to_vec(), lines(&[(1, Event::Done), (3, asked("c"))])]
            .concat();
    let (open, broken) = replay_bytes(&bytes);
    assert_eq!((open.len(), broken), (1, 2));
    assert!(open.contains_key(&3));
}

#[tokio::test]
async fn what_was_recorded_is_there_after_a_restart_and_what_ended_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, recovered) = Journal::open(folder.path()).unwrap();
    assert!(recovered.is_empty());
    for (number, event) in [(1, asked("a")), (1, issued("l1")), (2, asked("b")), (2, issued("l2")), (3, asked("c")), (4, asked("d"))] {
        journal.record(number, event, true).await.unwrap();
    }
    journal.record(1, Event::Closing, false).await.unwrap();
    journal.record(2, Event::Done, false).await.unwrap();
    journal.record(4, Event::Failed, false).await.unwrap();
    let path = folder.path().join(FILE);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // A crash in the middle of the next line.
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"n\":5,\"event\":\"as").unwrap();
    let (second, recovered) = Journal::open(folder.path()).unwrap();
    assert_eq!(recovered.keys().copied().collect::<Vec<_>>(), [1, 3]);
    second.record(6, asked("e"), true).await.unwrap();
    let text = std::fs::read(&path).unwrap();
    assert_eq!(replay_bytes(&text).0.keys().copied().collect::<Vec<_>>(), [1, 3, 6]);
    assert_eq!(replay_bytes(&text).1, 0, "the cut line is gone");
}

#[tokio::test]
async fn a_long_journal_is_compacted_and_keeps_what_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path()).unwrap();
    let long = "x".repeat(8000);
    journal.record(1, asked("kept"), false).await.unwrap();
    for number in 2..400 {
        journal.record(number, asked(&long), false).await.unwrap();
        journal.record(number, Event::Done, false).await.unwrap();
    }
    journal.record(500, asked("last"), true).await.unwrap();
    let bytes = std::fs::read(folder.path().join(FILE)).unwrap();
    assert!(bytes.len() < 2 * 1024 * 1024, "{}", bytes.len());
    assert_eq!(replay_bytes(&bytes).0.keys().copied().collect::<Vec<_>>(), [1, 500]);
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_says_so() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Journal::open(&folder.path().join("nowhere")).is_err());
    std::os::unix::fs::symlink("/dev/null", folder.path().join(FILE)).unwrap();
    assert!(Journal::open(folder.path()).is_err());
    if let Ok(full) = OpenOptions::new().read(true).write(true).open("/dev/full") {
        let mut writer = Writer { path: folder.path().join(FILE), file: full, len: 0, compact_at: COMPACT_AT, open: Recovered::new() };
        assert!(writer.append(&[Command::Record { number: 1, event: Event::Done, durable: false, done: None }]).is_err());
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_replay_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = replay_bytes(&bytes);
    }
}
