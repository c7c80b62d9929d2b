//! AppRole (vault.md §4.1).

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use zeroize::Zeroizing;

use super::{Granted, granted, mount};
use crate::store::vault::answer::Failure;
use crate::store::vault::client::{Call, Client, Retry};
use crate::store::vault::errors::explain;
use crate::store::vault::settings::Auth;
use crate::store::{Input, Outer, StoreError, StoreErrorKind};

/// The server gives up after 90 s (its `max_request_duration`). A login that we gave up before may have used the secret id up.
const LOGIN: Duration = Duration::from_secs(95);

/// The login of a role.
pub(in crate::store::vault) struct AppRole {
    mount: String,
    role_id: Input,
    secret_id: Option<Input>,
}

/// The ids as they are now.
pub(in crate::store::vault) struct Proof {
    role_id: Zeroizing<String>,
    secret_id: Option<Zeroizing<String>>,
}

impl AppRole {
    pub(super) fn from_settings(auth: &Auth, outer: &Arc<dyn Outer>) -> Result<Self, String> {
        if auth.token.is_some() {
            return Err("auth.token belongs to `method: token`".to_owned());
        }
        let role_id = auth.role_id.as_ref().ok_or("auth.role_id is missing")?;
        Ok(Self {
            mount: mount(auth.mount.as_deref().unwrap_or("approle"))?,
            role_id: Input::new("auth.role_id", role_id, outer),
            secret_id: auth.secret_id.as_ref().map(|input| Input::new("auth.secret_id", input, outer)),
        })
    }

    pub(super) async fn prepare(&self) -> Result<Proof, StoreError> {
        let secret_id = match &self.secret_id {
            Some(input) => Some(input.read().await?),
            None => None,
        };
        Ok(Proof { role_id: self.role_id.read().await?, secret_id })
    }

    pub(super) async fn perform(&self, client: &Client, proof: &Proof) -> Result<Granted, StoreError> {
        let mut body = json!({ "role_id": proof.role_id.as_str() });
        if let (Some(secret_id), Some(map)) = (&proof.secret_id, body.as_object_mut()) {
            map.insert("secret_id".to_owned(), secret_id.as_str().into());
        }
        let path = format!("auth/{}/login", self.mount);
        let call = Call { method: Method::POST, body: Some(&body), limit: Some(LOGIN), ..Call::get("login", &path) };
        let answer = client.call(&call, None, Retry::Unsent).await;
        crate::store::credential::wipe(&mut body);
        granted(&answer.map_err(|failure| self.explain(failure))?)
    }

    fn explain(&self, failure: Failure) -> StoreError {
        let refused = matches!(&failure, Failure::Refused(refused) if matches!(refused.status, 400 | 403 | 404));
        let locked = matches!(&failure, Failure::Refused(refused) if refused.status == 403);
        let error = explain(&format!("login at auth/{}", self.mount), failure);
        if !refused {
            return error;
        }
        let hint = if locked { " (a wrong mount, or the role is locked for 15 minutes after five wrong secret ids)" } else { "" };
        StoreError::new(StoreErrorKind::LoginFailed, format!("{}{hint}", error.detail))
    }
}

impl Proof {
    pub(super) fn parts(&self) -> Vec<&[u8]> {
        let secret_id = self.secret_id.as_ref().map(|text| text.as_bytes());
        [Some(self.role_id.as_bytes()), secret_id].into_iter().flatten().collect()
    }
}
