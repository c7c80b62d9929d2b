//! The budget of handshakes: links that have not logged in yet, in all and per source address. Apart from that of sessions, so that a
//! flood of half-open handshakes takes nothing from those who are in. A full budget makes room by ending a handshake of the address that
//! holds most places, for one that holds fewer; else the oldest of the newcomer's own address and of those that hold more, if that has had its
//! chance: whose client knows his password is through in far less. Who holds fewer has the time to type it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use keyward_auth::ThrottleKey;
use keyward_config::Limits;
use tokio_util::sync::CancellationToken;

/// A handshake younger than this is not ended for another of an address that holds as much; the newcomer is refused instead.
const CHANCE: Duration = Duration::from_secs(1);
/// One younger than this may be somebody who types his password, and is not ended for an address that will hold more than his.
const TYPED: Duration = Duration::from_secs(10);

/// The handshakes under way.
#[derive(Default)]
pub struct Handshakes(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
}

struct Waiting {
    address: Option<ThrottleKey>,
    since: Instant,
    crowded_out: CancellationToken,
}

/// A place in the budget, held until the user is in or gone.
pub struct Handshake {
    budget: Arc<Handshakes>,
    number: u64,
    crowded_out: CancellationToken,
}

impl Handshakes {
    /// Takes a place, or `None`. `address` is as `Source::throttle_key` gives it; `None`, a unix socket, counts in all only.
    #[must_use]
    pub fn admit(self: &Arc<Self>, address: Option<ThrottleKey>, limits: &Limits) -> Option<Handshake> {
        let mut inner = self.lock();
        if address.is_some() {
            inner.make_room(limits.handshakes_per_address, address)?;
        }
        inner.share(limits.handshakes, address)?;
        let number = inner.next;
        inner.next = number.wrapping_add(1);
        let crowded_out = CancellationToken::new();
        inner.waiting.insert(number, Waiting { address, since: Instant::now(), crowded_out: crowded_out.clone() });
        drop(inner);
        Some(Handshake { budget: Arc::clone(self), number, crowded_out })
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.lock().waiting.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// An address that holds as many as it may makes room by its oldest, if that has had its chance.
    fn make_room(&mut self, most: u32, address: Option<ThrottleKey>) -> Option<()> {
        let own = |waiting: &Waiting| waiting.address == address;
        if self.waiting.values().filter(|waiting| own(waiting)).count() < usize::try_from(most).unwrap_or(usize::MAX) {
            return Some(());
        }
        self.end_oldest(own, CHANCE)
    }

    /// In a full budget, the address that holds most gives the place of its oldest, however young, to one that will still hold fewer: a
    /// flood crowds out itself. Else one goes that has had its chance: the oldest of the newcomer's own and of those whose address holds more,
    /// or any that has had long enough for a password to be typed.
    fn share(&mut self, most: u32, newcomer: Option<ThrottleKey>) -> Option<()> {
        if self.waiting.len() < usize::try_from(most).unwrap_or(usize::MAX) {
            return Some(());
        }
        let mut held = HashMap::new();
        for waiting in self.waiting.values() {
            let count: &mut usize = held.entry(waiting.address).or_default();
            *count = count.saturating_add(1);
        }
        let holds = |address| held.get(&address).copied().unwrap_or(0);
        let (own, highest) = (holds(newcomer), held.values().copied().max()?);
        if own.saturating_add(1) < highest {
            return self.end_oldest(|waiting| holds(waiting.address) == highest, Duration::ZERO);
        }
        // Of those without an address nobody knows how many there are of each: such a newcomer may be one of the addresses that hold most.
        let crowd = held.iter().filter(|(address, _)| address.is_some()).map(|(_, count)| *count).max().unwrap_or(0);
        let outnumbers =
            |waiting: &Waiting| if newcomer.is_none() { holds(waiting.address) == crowd } else { holds(waiting.address) > own };
        let is_no_smaller = |waiting: &Waiting| waiting.address == newcomer || outnumbers(waiting);
        self.end_oldest(is_no_smaller, CHANCE).or_else(|| self.end_oldest(|_| true, TYPED))
    }

    /// Ends the oldest of these, unless it is younger than that.
    fn end_oldest(&mut self, among: impl Fn(&Waiting) -> bool, least_age: Duration) -> Option<()> {
        let (number, oldest) = self.waiting.iter().find(|(_, waiting)| among(waiting))?;
        if oldest.since.elapsed() < least_age {
            return None;
        }
        let number = *number;
        self.waiting.remove(&number).map(|waiting| waiting.crowded_out.cancel())
    }
}

impl Handshake {
    /// Cancelled when a newcomer needed the place.
    #[must_use]
    pub fn crowded_out(&self) -> CancellationToken {
        self.crowded_out.clone()
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.budget.lock().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(all: u32, per_address: u32) -> Limits {
        Limits { handshakes: all, handshakes_per_address: per_address, ..Limits::default() }
    }

    /// None of them has had its chance yet, however slow the machine is.
    fn stay_young(budget: &Handshakes) {
        let later = Instant::now().checked_add(Duration::from_secs(3600)).unwrap();
        budget.lock().waiting.values_mut().for_each(|waiting| waiting.since = later);
    }

    /// These are so old.
    fn are_old<'a>(age: Duration, these: impl IntoIterator<Item = &'a Handshake>) {
        let since = Instant::now().checked_sub(age).unwrap();
        these.into_iter().for_each(|held| held.budget.lock().waiting.get_mut(&held.number).unwrap().since = since);
    }

    #[test]
    fn an_address_has_its_own_limit() {
        let budget = Arc::new(Handshakes::default());
        let key = |ip: &str| Some(keyward_auth::Source::tcp(ip.parse().unwrap()).throttle_key());
        let (one, two) = (key("10.0.0.1"), key("10.0.0.2"));
        let held: Vec<_> = (0..3).map(|_| budget.admit(one, &limits(10, 3))).collect();
        assert!(held.iter().all(Option::is_some));
        stay_young(&budget);
        assert!(budget.admit(one, &limits(10, 3)).is_none(), "young handshakes keep their place");
        assert!(budget.admit(two, &limits(10, 3)).is_some());
        drop(held);
        assert_eq!(budget.count(), 0);
    }

    #[test]
    fn an_address_that_holds_most_makes_room_for_one_that_holds_fewer() {
        let budget = Arc::new(Handshakes::default());
        let key = |ip: &str| Some(keyward_auth::Source::tcp(ip.parse().unwrap()).throttle_key());
        let (flood, good) = (key("10.0.0.1"), key("10.0.0.2"));
        let first = budget.admit(flood, &limits(3, 3)).unwrap();
        let _others = [budget.admit(flood, &limits(3, 3)).unwrap(), budget.admit(flood, &limits(3, 3)).unwrap()];
        let in_time = budget.admit(good, &limits(3, 3)).unwrap();
        assert!(first.crowded_out.is_cancelled(), "young, but one of three");
        stay_young(&budget);
        assert!(budget.admit(flood, &limits(3, 3)).is_none(), "its own are no fewer");
        assert!(budget.admit(good, &limits(3, 3)).is_none(), "two of three would be as many");
        assert!(!in_time.crowded_out.is_cancelled());
        assert_eq!(budget.count(), 3);
    }

    #[test]
    fn a_full_budget_ends_its_oldest_once_it_had_its_chance() {
        let budget = Arc::new(Handshakes::default());
        let first = budget.admit(None, &limits(2, 2)).unwrap();
        let second = budget.admit(None, &limits(2, 2)).unwrap();
        are_old(CHANCE, [&first]);
        assert!(budget.admit(None, &limits(2, 2)).is_some());
        assert!(first.crowded_out.is_cancelled());
        assert!(!second.crowded_out.is_cancelled());
    }

    #[test]
    fn who_holds_fewer_than_the_newcomer_will_has_the_time_to_type_his_password() {
        let key = |ip: &str| Some(keyward_auth::Source::tcp(ip.parse().unwrap()).throttle_key());
        let (flood, typist, other) = (key("10.0.0.1"), key("10.0.0.2"), key("10.0.0.3"));
        // How many of the flood's address there are, how old all of them are, who comes, and whom he ends: the typist was first.
        for (count, age, newcomer, ended) in [
            (2, CHANCE, flood, Some(1)),
            (1, CHANCE, flood, Some(1)),
            (1, CHANCE, other, Some(0)),
            // The flood's are young, and would be more than his.
            (1, Duration::ZERO, flood, None),
            // Nobody knows whose it is.
            (1, CHANCE, None, Some(0)),
            (2, CHANCE, None, Some(1)),
            (2, Duration::ZERO, None, Some(1)),
        ] {
            let budget = Arc::new(Handshakes::default());
            let most = count + 1;
            let held: Vec<_> =
                std::iter::once(typist).chain((0..count).map(|_| flood)).map(|it| budget.admit(it, &limits(most, most)).unwrap()).collect();
            are_old(age, &held);
            let admitted = budget.admit(newcomer, &limits(most, most));
            let gone = held.iter().position(|held| held.crowded_out.is_cancelled());
            assert_eq!((gone, admitted.is_some()), (ended, ended.is_some()), "{count} of {age:?}");
        }
        // An address with several of its own, none of which has had its chance, ends one that holds as many only after the time to type.
        for (age, is_in) in [(CHANCE, false), (TYPED, true)] {
            let budget = Arc::new(Handshakes::default());
            let held = [flood, typist, other].map(|it| budget.admit(it, &limits(3, 3)).unwrap());
            stay_young(&budget);
            are_old(age, &held[..2]);
            assert_eq!(budget.admit(other, &limits(3, 3)).is_some(), is_in, "{age:?}");
            assert_eq!(held[0].crowded_out.is_cancelled(), is_in);
        }
    }
}
