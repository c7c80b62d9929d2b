use super::*;

const MINUTE: u64 = 60;

fn schedule() -> Schedule {
    Schedule::new([MINUTE, 5 * MINUTE, 0, MINUTE].into_iter().map(Duration::from_secs))
}

/// What is told of ends that become known as time goes by: `(known at, end)` in seconds. The seconds at which it is told, and what is left
/// then.
fn told(known: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let (mut schedule, start) = (schedule(), Instant::now());
    if let Some((_, end)) = known.first().filter(|(from, _)| *from == 0) {
        schedule.begin(start + Duration::from_secs(*end), start);
    }
    let seconds = |at: Instant| at.duration_since(start).as_secs();
    let mut told = Vec::new();
    for (index, (from, end)) in known.iter().enumerate() {
        let (mut now, end) = (start + Duration::from_secs(*from), start + Duration::from_secs(*end));
        let until = known.get(index + 1).map_or(end, |(next, _)| start + Duration::from_secs(*next));
        while let Some(due) = schedule.due(end, now).filter(|due| due.at <= until) {
            now = due.at.max(now);
            told.push((seconds(now), seconds(end) - seconds(now)));
            schedule.told = Some(due);
        }
    }
    told
}

#[test]
fn a_session_is_warned_at_each_time_before_its_end() {
    assert_eq!(told(&[(0, 3600)]), [(3300, 300), (3540, 60)]);
    // Its end becomes known late: the times that are past are left out.
    assert_eq!(told(&[(3400, 3600)]), [(3540, 60)]);
    assert_eq!(told(&[(0, 300)]), [(240, 60)], "a session of five minutes does not begin with a warning");
}

#[test]
fn no_session_begins_with_a_warning_and_none_meets_an_end_unwarned_that_became_known_late() {
    assert_eq!(told(&[(0, 20)]), []);
    assert_eq!(told(&[(0, 60)]), []);
    assert_eq!(told(&[(0, 60), (30, 50)]), [(30, 20)], "it came nearer");
    assert_eq!(told(&[(3590, 3600)]), [(3590, 10)]);
}

#[test]
fn an_end_that_moves_is_told_anew_and_one_that_only_trembles_is_not() {
    assert_eq!(told(&[(0, 3600), (3301, 3602)]), [(3300, 300), (3542, 60)], "a renewal counts whole seconds");
    assert_eq!(told(&[(0, 3600), (3301, 7200)]), [(3300, 300), (6900, 300), (7140, 60)], "it was put off");
    assert_eq!(told(&[(0, 3600), (3310, 3400)]), [(3300, 300), (3340, 60)], "it came nearer");
    assert_eq!(told(&[(0, 3600), (3310, 3340)]), [(3300, 300), (3310, 30)], "nearer than all times");
}

#[test]
fn who_is_told_a_moment_late_is_told_the_time_that_the_file_names_and_later_what_is_left() {
    let start = Instant::now();
    let due = schedule().due(start + Duration::from_secs(3600), start).unwrap();
    for (late, left) in [(0, 300_000), (1, 300_000), (1000, 300_000), (1001, 298_999), (299_000, 1000)] {
        assert_eq!(due.left(due.at + Duration::from_millis(late)).as_millis(), left, "{late}");
    }
    let at_once = Schedule::new([Duration::from_secs(60)].into_iter()).due(start + Duration::from_secs(7), start).unwrap();
    assert_eq!(at_once.left(start).as_secs(), 7);
}

#[test]
fn times_are_said_as_people_say_them() {
    let said = [(0, "0 seconds"), (1, "1 second"), (59, "59 seconds"), (60, "1 minute"), (61, "61 seconds"), (89, "89 seconds")];
    let longer = [(90, "2 minutes"), (299, "5 minutes"), (900, "15 minutes"), (7199, "120 minutes"), (7200, "2 hours")];
    for (seconds, wanted) in said.into_iter().chain(longer) {
        assert_eq!(spoken(Duration::from_secs(seconds)), wanted);
    }
    assert_eq!(spoken(Duration::from_millis(299_991)), "5 minutes");
    assert_eq!(spoken(Duration::from_millis(59_991)), "1 minute");
}
