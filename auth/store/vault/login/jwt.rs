//! A JWT that somebody signed whom the store trusts: JWT, and Kubernetes, whose service accounts have such tokens (vault.md §4.2, §4.3).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyward_config::SecretInput;
use serde_json::{Value, json};

use super::mount::Mount;
use super::post::Post;
use super::settings::{JwtKeys, KubernetesKeys};
use crate::store::{Input, Outer, StoreError, StoreErrorKind};

/// Where Kubernetes puts the token of a pod's service account ("Configure Service Accounts for Pods").
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
const OF_KUBERNETES: &[(u16, &str)] =
    &[(403, "a wrong mount; or the role does not name this service account or its namespace; or Kubernetes did not vouch for its token")];

/// The login by a JWT.
pub(in crate::store::vault) struct Jwt {
    mount: Mount,
    role: Option<String>,
    jwt: Input,
    hints: &'static [(u16, &'static str)],
}

impl Jwt {
    pub(super) fn new(keys: &JwtKeys, outer: &Arc<dyn Outer>) -> Result<Self, String> {
        Ok(Self {
            mount: Mount::read("auth.mount", keys.mount.as_deref(), "jwt")?,
            role: keys.role.clone(),
            jwt: Input::new("auth.jwt", &keys.jwt, outer),
            hints: &[(403, "a wrong mount")],
        })
    }

    pub(super) fn of_kubernetes(keys: &KubernetesKeys, outer: &Arc<dyn Outer>) -> Result<Self, String> {
        let default = SecretInput::File(PathBuf::from(SERVICE_ACCOUNT));
        Ok(Self {
            mount: Mount::read("auth.mount", keys.mount.as_deref(), "kubernetes")?,
            role: Some(keys.role.clone()),
            jwt: Input::new("auth.jwt", keys.jwt.as_ref().unwrap_or(&default), outer),
            hints: OF_KUBERNETES,
        })
    }

    pub(super) async fn prepare(&self) -> Result<Post, StoreError> {
        let jwt = self.jwt.read().await?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if let Some(past) = ended(&jwt, now) {
            // The store would say no, too, and count it.
            let text = format!("auth.jwt: the JWT ended {past} s ago, and no newer one is there: it is not sent");
            return Err(StoreError::new(StoreErrorKind::LoginFailed, text));
        }
        let role = self.role.as_deref().unwrap_or_default();
        let mut body = json!({ "jwt": jwt.as_str() });
        if let (Some(role), Some(map)) = (&self.role, body.as_object_mut()) {
            map.insert("role".to_owned(), role.as_str().into());
        }
        Ok(Post::new(&self.mount, &["login"], body, &[jwt.as_bytes(), role.as_bytes()], self.hints))
    }
}

/// For how many seconds a JWT has been over (RFC 7519 §4.1.4). What cannot be read is for the store to judge.
fn ended(jwt: &str, now: u64) -> Option<u64> {
    let payload = jwt.split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    let exp = claims.get("exp")?;
    let exp = exp.as_u64().or_else(|| exp.as_f64().filter(|exp| *exp >= 0.0).map(|exp| exp as u64))?;
    now.checked_sub(exp).filter(|past| *past > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn only_a_jwt_that_says_itself_that_it_is_over_is_held_back() {
        assert_eq!(ended(&jwt(r#"{"exp":1000}"#), 1060), Some(60));
        assert_eq!(ended(&jwt(r#"{"exp":1000.5}"#), 1060), Some(60));
        for not in [r#"{"exp":1060}"#, r#"{"exp":2000}"#, r#"{"exp":"1"}"#, r#"{"exp":-1}"#, "{}", "[]", "no json"] {
            assert_eq!(ended(&jwt(not), 1060), None, "{not}");
        }
        for not in ["", "a", "a.b", "a.%%.c", "..."] {
            assert_eq!(ended(not, 1060), None, "{not}");
        }
    }
}
