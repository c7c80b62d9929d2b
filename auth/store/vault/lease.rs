//! Renewing and revoking leases (vault.md §9).

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::client::{Call, Retry};
use super::{Vault, failed};
use crate::store::StoreError;

/// What the call is named that gives a lease back.
pub(super) const REVOKE: &str = "revoke";

impl Vault {
    /// `increment` is never left out: without it the server goes back to the role's default, which may shorten the lease.
    pub(super) async fn renew_lease(&self, lease_id: &str, increment: Duration) -> Result<Duration, StoreError> {
        let body = json!({ "lease_id": lease_id, "increment": increment.as_secs() });
        let call = Call { method: Method::POST, body: Some(&body), paced: true, ..Call::get("renew", "sys/leases/renew") };
        let (answer, _) = self.request(&call, Retry::Idempotent).await.map_err(failed("renewing a lease"))?;
        Ok(answer.seconds("lease_duration"))
    }

    /// With `sync: false` the server ends the lease at once and repeats by itself what its database refused.
    pub(super) async fn revoke_lease(&self, lease_id: &str) -> Result<(), StoreError> {
        let body = json!({ "lease_id": lease_id, "sync": false });
        let call = Call { method: Method::POST, body: Some(&body), paced: true, ..Call::get(REVOKE, "sys/leases/revoke") };
        self.request(&call, Retry::Idempotent).await.map_err(failed("revoking a lease"))?;
        Ok(())
    }
}
