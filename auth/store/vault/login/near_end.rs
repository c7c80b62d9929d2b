//! When what a login needs is so near its end that an admin is told.

use std::time::Duration;

/// In its last fifth, and at most this long before.
const LONGEST: Duration = Duration::from_secs(14 * 86_400);

/// Whether what was good for `whole`, from its beginning to its end, and is so for `left` more, is to be warned about.
pub(super) fn is_near(whole: Duration, left: Duration) -> bool {
    whole.checked_div(5).is_some_and(|fifth| left < fifth.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_comes_in_the_last_fifth_of_a_life_and_in_its_last_two_weeks() {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        for (whole, passed, warned) in [(10, 7, false), (10, 9, true), (365, 340, false), (365, 352, true), (10, 10, true)] {
            assert_eq!(is_near(days(whole), days(whole - passed)), warned, "day {passed} of {whole}");
        }
    }
}
