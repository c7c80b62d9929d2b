//! How fast one side of a session may ask for what goes on record. Whoever asks faster is heard later: else a single user could write the
//! record's disk full, and put all other logins behind his lines in its queue.

use std::time::{Duration, Instant};

/// Records that one side may cause at once: a browser behind `-D` opens its connections by the hundred.
const BURST: u32 = 1000;
/// Records that it may cause in the long run: one in so long.
const EACH: Duration = Duration::from_millis(10);

/// One side's.
#[derive(Default)]
pub(super) struct Pace {
    /// Records that count still, and since when.
    counted: Option<(u32, Instant)>,
}

impl Pace {
    /// It caused so many records.
    pub(super) fn count(&mut self, records: u32, now: Instant) {
        if records > 0 {
            self.counted = Some((self.left(now).saturating_add(records), now));
        }
    }

    /// So much may be heard of it at once without looking at `due` again: one at least.
    pub(super) fn free(&self, now: Instant) -> usize {
        usize::try_from(BURST.saturating_sub(self.left(now)).max(1)).unwrap_or(1)
    }

    /// When it may be heard again; `None`: now.
    pub(super) fn due(&mut self, now: Instant) -> Option<Instant> {
        let (counted, since) = self.counted?;
        let due = since.checked_add(EACH.saturating_mul(counted.saturating_sub(BURST)));
        if self.left(now) == 0 {
            self.counted = None;
        }
        due.filter(|due| *due > now)
    }

    fn left(&self, now: Instant) -> u32 {
        let Some((counted, since)) = self.counted else { return 0 };
        let forgotten = now.saturating_duration_since(since).as_millis().checked_div(EACH.as_millis()).unwrap_or(0);
        counted.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_what_is_above_it_has_to_be_waited_for() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.count(BURST, now);
        assert_eq!(pace.due(now), None);
        pace.count(300, now);
        assert_eq!(pace.due(now), Some(now + 300 * EACH));
        assert_eq!(pace.due(now + 300 * EACH), None);
        pace.count(1, now + 300 * EACH);
        assert_eq!(pace.due(now + 300 * EACH), Some(now + 301 * EACH));
    }

    #[test]
    fn in_the_long_run_no_more_than_one_in_its_time_is_caused() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let (mut now, mut caused) = (start, 0);
        while now < start + Duration::from_secs(3600) {
            let free = u32::try_from(pace.free(now)).unwrap();
            pace.count(free, now);
            caused += free;
            now = pace.due(now).unwrap_or(now);
        }
        assert!(caused <= 3600 * 100 + 2 * BURST, "{caused}");
    }

    #[test]
    fn whoever_asks_now_and_then_never_waits() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        for second in 0..3600 {
            let now = start + Duration::from_secs(second);
            assert!(pace.free(now) >= 90, "{second}");
            pace.count(90, now);
            assert_eq!(pace.due(now), None, "{second}");
        }
    }
}
