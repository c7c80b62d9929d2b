//! A token that someone else made (vault.md §3.1, §4.7).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use zeroize::Zeroizing;

use super::settings::TokenKeys;
use super::{Granted, header, shown, words};
use crate::store::vault::answer::Failure;
use crate::store::vault::client::{Call, Client, Retry, Space};
use crate::store::vault::errors::{TokenHint, explain, token_hint};
use crate::store::{Input, Outer, StoreError, StoreErrorKind};

/// Where the token is.
pub(in crate::store::vault) struct StaticToken(Input);

impl StaticToken {
    pub(super) fn new(keys: &TokenKeys, outer: &Arc<dyn Outer>) -> Self {
        Self(Input::new("auth.token", &keys.token, outer))
    }

    pub(super) async fn prepare(&self) -> Result<Zeroizing<String>, StoreError> {
        self.0.read().await
    }

    pub(super) fn file(&self) -> Option<&Path> {
        self.0.file()
    }
}

/// Asks the store what the token is worth.
pub(super) async fn look_up(client: &Client, text: &str) -> Result<Granted, StoreError> {
    let text = header(text)?;
    // A standby that lags behind may not know a token that was made just now.
    let call = Call { fresh: true, space: Space::Login, ..Call::get("token_lookup", "auth/token/lookup-self") };
    let mut answer = match client.call(&call, Some(&text), Retry::Idempotent).await {
        Ok(answer) => answer,
        Err(Failure::Refused(refused)) if refused.status == 403 && token_hint(&refused.errors) == TokenHint::Policy => {
            let warnings = vec!["the token may not look itself up (no `default` policy): it is not renewed".to_owned()];
            let (accessor, policies) = Default::default();
            return Ok(Granted { text, accessor, policies, end: None, renewable: false, increment: Duration::ZERO, warnings });
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
    let accessor = data.get("accessor").and_then(Value::as_str).map(shown).unwrap_or_default();
    let policies = words(data.get("policies"));
    // It echoes the token.
    crate::store::credential::wipe(&mut data);
    if uses != 0 {
        return Err(StoreError::new(StoreErrorKind::LoginFailed, "the token has limited uses (num_uses); make one without"));
    }
    let mut warnings = Vec::new();
    if policies.iter().any(|policy| policy == "root") {
        warnings.push("this is a root token: it may do anything; give Keyward a token of its own".to_owned());
    }
    Ok(Granted {
        text,
        accessor,
        policies,
        end: if never { None } else { answer.asked.checked_add(Duration::from_secs(ttl)) },
        renewable,
        increment: Duration::from_secs(if period > 0 { period } else { created.max(ttl) }),
        warnings,
    })
}
