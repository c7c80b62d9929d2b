//! Passwords that were found right a short while ago. A program that logs in again and again, as a pool of connections does, then costs a keyed
//! hash instead of a slow one each time, and waits in no queue.
//!
//! Nothing of a wrong password is kept, and whoever gives one pays for the slow hash as before, known user or not. What is kept is
//! HMAC-SHA-256 of verifier and password under a key that this process made and never shows: of no use without its memory. With that memory
//! a password could be guessed faster than against its verifier, which is why it is let go of after [`KEPT`], also where nobody asks any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::{hmac, rand};
use tokio::time::{Instant, sleep_until};
use zeroize::Zeroizing;

use super::Verifier;
use crate::Secret;

/// After the slow hash. Uses in between do not make it longer.
const KEPT: Duration = Duration::from_secs(300);
/// Passwords that are remembered at one time.
const CAPACITY: usize = 10_000;

/// What is remembered. A password that is tried against another verifier, after a reload, is another one.
pub(super) struct Proven {
    /// `None`: the machine had no random numbers; then nothing is remembered.
    key: Option<hmac::Key>,
    until: Mutex<HashMap<Mark, Instant>>,
}

/// What stands for a verifier and a password.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Mark([u8; 32]);

impl Proven {
    pub(super) fn new() -> Self {
        let mut key = Zeroizing::new([0_u8; 32]);
        let made = rand::fill(key.as_mut()).is_ok();
        Self { key: made.then(|| hmac::Key::new(hmac::HMAC_SHA256, key.as_ref())), until: Mutex::default() }
    }

    /// Made of every password that comes, whoever its user is: what is done must not tell known users from others.
    pub(super) fn mark(&self, verifier: &Verifier, password: &Secret) -> Option<Mark> {
        let mut context = hmac::Context::with_key(self.key.as_ref()?);
        verifier.feed(&mut |bytes| context.update(bytes));
        // Exposed: into a hash under a key that nobody has.
        context.update(password.expose());
        context.sign().as_ref().try_into().ok().map(Mark)
    }

    /// Whether the slow hash was found to fit a short while ago.
    pub(super) fn holds(&self, mark: Option<Mark>) -> bool {
        mark.is_some_and(|mark| self.until().get(&mark).is_some_and(|until| Instant::now() < *until))
    }

    /// The slow hash fits. Only of users that there are: what those who are not there are checked against fits nothing.
    pub(super) fn remember(self: &Arc<Self>, mark: Option<Mark>) {
        let (Some(mark), Some(until)) = (mark, Instant::now().checked_add(KEPT)) else { return };
        let mut all = self.until();
        if all.len() >= CAPACITY || all.insert(mark, until).is_some() {
            return;
        }
        drop(all);
        let proven = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut next = Some(until);
            // Whoever proved it again meanwhile did so by the slow hash.
            while let Some(until) = next {
                sleep_until(until).await;
                next = proven.upgrade().and_then(|proven| proven.forget(mark));
            }
        });
    }

    /// Drops what has ended; gives the end of what has not.
    fn forget(&self, mark: Mark) -> Option<Instant> {
        let mut all = self.until();
        let later = all.get(&mark).copied().filter(|until| Instant::now() < *until);
        if later.is_none() {
            all.remove(&mark);
            if all.is_empty() {
                // With its memory.
                *all = HashMap::new();
            }
        }
        later
    }

    fn until(&self) -> MutexGuard<'_, HashMap<Mark, Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verifier(password: &str) -> Verifier {
        Verifier::parse(&Verifier::make_scram(&secret(password)).unwrap()).unwrap()
    }

    fn secret(text: &str) -> Secret {
        Secret::from(text.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_password_is_remembered_with_its_verifier_for_its_time_and_no_other_is() {
        let (proven, one, same_password) = (Arc::new(Proven::new()), verifier("right"), verifier("right"));
        let mark = proven.mark(&one, &secret("right"));
        assert!(!proven.holds(mark));
        proven.remember(mark);
        assert!(proven.holds(proven.mark(&one, &secret("right"))));
        assert!(!proven.holds(proven.mark(&one, &secret("wrong"))));
        assert!(!proven.holds(proven.mark(&one, &secret(""))));
        assert!(!proven.holds(proven.mark(&same_password, &secret("right"))), "the file has another verifier now");
        tokio::time::advance(KEPT - Duration::from_secs(1)).await;
        assert!(proven.holds(mark));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!proven.holds(mark), "uses do not make it longer");
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(proven.until().capacity(), 0, "nor is it there any more");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_remembered_than_there_is_room_for_and_the_old_ones_make_room() {
        let (proven, one) = (Arc::new(Proven::new()), verifier("right"));
        let mark = |number: usize| proven.mark(&one, &secret(&number.to_string()));
        (0..CAPACITY + 5).for_each(|number| proven.remember(mark(number)));
        assert_eq!(proven.until().len(), CAPACITY);
        assert!(!proven.holds(mark(CAPACITY + 1)));
        tokio::time::sleep(KEPT + Duration::from_millis(1)).await;
        proven.remember(mark(CAPACITY + 1));
        assert!(proven.holds(mark(CAPACITY + 1)));
        assert_eq!(proven.until().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_proved_again_by_the_slow_hash_is_kept_for_its_time_from_then() {
        let (proven, one) = (Arc::new(Proven::new()), verifier("right"));
        let mark = proven.mark(&one, &secret("right"));
        proven.remember(mark);
        tokio::time::sleep(KEPT / 2).await;
        proven.remember(mark);
        tokio::time::sleep(KEPT / 2 + Duration::from_millis(1)).await;
        assert!(proven.holds(mark));
        tokio::time::sleep(KEPT / 2).await;
        assert_eq!(proven.until().capacity(), 0);
    }

    #[tokio::test]
    async fn without_random_numbers_nothing_is_remembered() {
        let proven = Arc::new(Proven { key: None, until: Mutex::default() });
        let mark = proven.mark(&verifier("right"), &secret("right"));
        proven.remember(mark);
        assert!(!proven.holds(mark));
    }
}
