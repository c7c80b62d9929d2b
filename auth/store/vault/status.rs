//! How the store is, for `check` and readiness (vault.md §11.1).

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;

use super::answer::Failure;
use super::client::{Call, Retry, Space};
use super::errors::{TokenHint, is_forbidden, token_hint};
use super::{Token, Vault, failed};
use crate::store::{StoreError, StoreStatus};

/// A server whose clock differs by more makes every deadline doubtful.
const SKEW_SECONDS: u64 = 30;

impl Vault {
    pub(super) async fn ask_status(&self) -> Result<StoreStatus, StoreError> {
        // A standby is as good as the leader here: it forwards, or answers by itself.
        let call =
            Call { query: Some(("standbyok", "true&perfstandbyok=true".to_owned())), paced: true, ..Call::get("health", "sys/health") };
        let health = self.client.call(&call, None, Retry::Idempotent).await.map_err(failed("asking for the store's health"))?;
        let token = self.token_that_is_known().await?;
        let mut warnings = token.warnings();
        let theirs = health.body.get("server_time_utc").and_then(Value::as_u64);
        let ours = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if let Some(skew) = theirs.map(|theirs| theirs.abs_diff(ours)).filter(|skew| *skew > SKEW_SECONDS) {
            warnings.push(format!("its clock differs from ours by {skew} s"));
        }
        let version: String = health.text("version").chars().take(60).flat_map(char::escape_debug).collect();
        Ok(StoreStatus { version, has_token: true, token_left: token.left(), renewable: token.renewable, warnings })
    }

    /// Our token, of which the server says now that it knows it: somebody may have revoked it since it was used last. A dead one is replaced,
    /// as often as that is done at all.
    async fn token_that_is_known(&self) -> Result<Arc<Token>, StoreError> {
        let token = self.tokens.get().await?;
        let call = Call { paced: true, space: Space::Login, ..Call::get("token_lookup", "auth/token/lookup-self") };
        match self.client.call(&call, Some(&token.text), Retry::Idempotent).await {
            Ok(_) => Ok(token),
            // It lives, and may only not look itself up.
            Err(Failure::Refused(refused)) if is_forbidden(&refused) && token_hint(&refused.errors) == TokenHint::Policy => Ok(token),
            Err(Failure::Refused(refused)) if is_forbidden(&refused) => Ok(self.tokens.rejected(&token, &refused).await?.unwrap_or(token)),
            Err(failure) => Err(failed("looking up our token")(failure)),
        }
    }
}
