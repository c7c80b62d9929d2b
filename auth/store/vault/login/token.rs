//! A token that someone else made (vault.md §3.1, §4.7).

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use zeroize::Zeroizing;

use super::{Granted, header};
use crate::store::vault::answer::Failure;
use crate::store::vault::client::{Call, Client, Retry};
use crate::store::vault::errors::{TokenHint, explain, token_hint};
use crate::store::vault::settings::Auth;
use crate::store::{Input, Outer, StoreError, StoreErrorKind};

/// Where the token is.
pub(in crate::store::vault) struct StaticToken(Input);

impl StaticToken {
    pub(super) fn from_settings(auth: &Auth, outer: &Arc<dyn Outer>) -> Result<Self, String> {
        if auth.role_id.is_some() || auth.secret_id.is_some() || auth.mount.is_some() {
            return Err("auth.mount, role_id and secret_id belong to `method: approle`".to_owned());
        }
        let token = auth.token.as_ref().ok_or("auth.token is missing")?;
        Ok(Self(Input::new("auth.token", token, outer)))
    }

    pub(super) async fn prepare(&self) -> Result<Zeroizing<String>, StoreError> {
        self.0.read().await
    }
}

/// Asks the store what the token is worth.
pub(super) async fn look_up(client: &Client, text: &str) -> Result<Granted, StoreError> {
    let text = header(text)?;
    let call = Call::get("token_lookup", "auth/token/lookup-self");
    let mut answer = match client.call(&call, Some(&text), Retry::Idempotent).await {
        Ok(answer) => answer,
        Err(Failure::Refused(refused)) if refused.status == 403 && token_hint(&refused.errors) == TokenHint::Policy => {
            let warning = "the token may not look itself up (no `default` policy): it is not renewed".to_owned();
            return Ok(Granted { text, end: None, renewable: false, increment: Duration::ZERO, warnings: vec![warning] });
        }
        Err(failure) => {
            let refused = matches!(&failure, Failure::Refused(refused) if refused.status == 403);
            let error = explain("looking up our token", failure);
            return Err(if refused { StoreError::new(StoreErrorKind::LoginFailed, error.detail) } else { error });
        }
    };
    let mut data = answer.take_data();
    let number = |key: &str| data.get(key).and_then(Value::as_i64).unwrap_or_default();
    let (uses, ttl) = (number("num_uses"), u64::try_from(number("ttl")).unwrap_or_default());
    let period = u64::try_from(number("period")).unwrap_or_default();
    let created = u64::try_from(number("creation_ttl")).unwrap_or_default();
    let renewable = data.get("renewable").and_then(Value::as_bool).unwrap_or_default();
    let never = data.get("expire_time").is_none_or(Value::is_null) && ttl == 0;
    let root = data.get("policies").and_then(Value::as_array).is_some_and(|all| all.iter().any(|policy| policy == "root"));
    // It echoes the token.
    crate::store::credential::wipe(&mut data);
    if uses != 0 {
        return Err(StoreError::new(StoreErrorKind::LoginFailed, "the token has limited uses (num_uses); make one without"));
    }
    let warnings =
        if root { vec!["this is a root token: it may do anything; give Keyward a token of its own".to_owned()] } else { Vec::new() };
    Ok(Granted {
        text,
        end: if never { None } else { answer.asked.checked_add(Duration::from_secs(ttl)) },
        renewable,
        increment: Duration::from_secs(if period > 0 { period } else { created.max(ttl) }),
        warnings,
    })
}
