//! A token that outlasts a session: only a renewal tells where its last end is, and behind that end only another login helps.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::renewal::Outlook;
use super::{REPLACE_PAUSE, Token, Tokens};
use crate::store::StoreError;

/// More than is asked for, for what sessions are told before the end and for the way to the store and back.
const MARGIN: Duration = Duration::from_secs(15);

impl Token {
    /// Whether its end is where it ends: nothing moves it.
    pub(in crate::store::vault) fn has_last_end(&self) -> bool {
        !self.renewable || self.last_end.load(Ordering::Relaxed)
    }
}

impl Tokens {
    /// The token. One whose life is not enough for the caller is renewed now, and replaced by a login if its last end is too near, and that
    /// of another one would not be; once in half a minute, unless somebody wants more than who tried last.
    ///
    /// # Errors
    /// There was no token yet, and the login has failed.
    pub(in crate::store::vault) async fn lasting(
        self: &Arc<Self>,
        least: Duration,
        is_enough: impl Fn(Duration) -> bool,
    ) -> Result<Arc<Token>, StoreError> {
        let lasts = |token: &Token| token.left().is_none_or(&is_enough);
        // No login helps: asking for one at every session would be a storm of them.
        let never_will = |token: &Token| token.has_last_end() && token.is_alive() && !token.whole().is_none_or(&is_enough);
        let token = self.get().await?;
        if lasts(&token) || never_will(&token) {
            return Ok(token);
        }
        let mut tried = self.lasting.lock().await;
        let token = self.get().await?;
        if lasts(&token) || never_will(&token) || tried.is_some_and(|(at, most)| at.elapsed() < REPLACE_PAUSE && least <= most) {
            return Ok(token);
        }
        *tried = Some((Instant::now(), least));
        let wanted = least.saturating_add(MARGIN);
        let result = match self.renew(&token, token.increment.max(wanted)).await {
            // Whoever wants less may be helped by a login.
            Ok(_) if never_will(&token) => {
                *tried = None;
                Ok(())
            }
            Ok(Outlook::Ends) => self.replace_by_one_that_lasts(&token, wanted, &lasts).await,
            Ok(Outlook::GoesOn | Outlook::Former) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            tracing::info!(store = self.client().name, %error, "no token that lasts as long as a session needs could be had");
        }
        self.get().await
    }

    /// A login does not say where the last end of its token is, either.
    async fn replace_by_one_that_lasts(
        self: &Arc<Self>,
        token: &Arc<Token>,
        wanted: Duration,
        lasts: impl Fn(&Token) -> bool,
    ) -> Result<(), StoreError> {
        self.replace(token).await?;
        let newer = self.get().await?;
        if newer.generation > token.generation && !lasts(&newer) {
            self.renew(&newer, newer.increment.max(wanted)).await?;
        }
        Ok(())
    }
}
