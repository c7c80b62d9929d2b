//! A token that outlasts the session: a lease ends with the token that asked for it, and the store does not say so (vault.md §0.2).

use std::time::Duration;

use super::Vault;
use crate::Grant;
use crate::store::keeper::{before, too_short};
use crate::store::{SecretPath, StoreError};

impl Vault {
    /// Whether a lease of our token leaves a session as much as its connection says that it has to; where it does not, the token is renewed or
    /// replaced first. Told before an account is made, which would be dropped at once. A periodic token has no end that is known.
    ///
    /// # Errors
    /// `Unavailable`: it leaves less. What came of a login, if there was no token yet.
    pub(super) async fn outlasts(&self, grant: &Grant, path: &SecretPath) -> Result<(), StoreError> {
        let Some(least) = grant.connection().least_session() else { return Ok(()) };
        let token = self.tokens.lasting(least, |life| leaves(life) >= least).await?;
        let Some(left) = token.left().map(leaves).filter(|left| *left < least && token.has_last_end()) else { return Ok(()) };
        let what = format!("{path} ends with our token, which");
        Err(too_short(&*self.client.observer, &self.client.name, &what, left, least))
    }
}

/// What a token that lives so long leaves to a session that begins now.
fn leaves(life: Duration) -> Duration {
    let now = tokio::time::Instant::now();
    now.checked_add(life).map_or(life, |end| before(end, life).saturating_duration_since(now))
}
