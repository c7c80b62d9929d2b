//! A token that outlasts a session: only a renewal tells where its last end is, and behind that end only another login helps.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

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
    /// The token. One that does not last as long as the caller wants is renewed now, and replaced by a login if that shows that it never
    /// will; once in half a minute, or a role whose tokens live too short would be logged in to at every session.
    ///
    /// # Errors
    /// There was no token yet, and the login has failed.
    pub(in crate::store::vault) async fn lasting(
        self: &Arc<Self>,
        least: Duration,
        lasts: impl Fn(&Token) -> bool,
    ) -> Result<Arc<Token>, StoreError> {
        let token = self.get().await?;
        if lasts(&token) {
            return Ok(token);
        }
        let mut tried = self.lasting.lock().await;
        let token = self.get().await?;
        if lasts(&token) || tried.is_some_and(|at| at.elapsed() < REPLACE_PAUSE) {
            return Ok(token);
        }
        *tried = Some(Instant::now());
        if let Err(error) = self.prolong_by(&token, token.increment.max(least.saturating_add(MARGIN))).await {
            tracing::info!(store = self.client().name, %error, "no token that lasts as long as a session needs could be had");
        }
        self.get().await
    }
}
