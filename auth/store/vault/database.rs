//! Roles of the database engine: dynamic ones make an account for each request, static ones rotate the password of one (vault.md §8).

use std::time::Duration;

use serde_json::Value;

use super::answer::Answer;
use super::client::{Call, Retry, encode};
use super::errors::may_have_issued;
use super::mount::Engine;
use super::{Token, Vault, failed};
use crate::SessionId;
use crate::store::{Document, Issued, LeaseId, SecretPath, StoreError, StoreErrorKind, Use};

/// The server gives up after 90 s (its `max_request_duration`); whoever gives up before it may leave an account behind.
pub(super) const ISSUE: Duration = Duration::from_secs(95);
/// A password that is rotated within this time is waited out.
const ABOUT_TO_ROTATE: Duration = Duration::from_secs(2);

impl Vault {
    pub(super) async fn issue_lease(&self, session: SessionId, path: &SecretPath) -> Result<Issued, StoreError> {
        let api = encode(path.segments());
        let call = Call { session: Some(session), limit: Some(ISSUE), ..Call::get("issue", &api) };
        let (mut answer, token) = self.request(&call, Retry::Issue).await.map_err(|failure| {
            // Only this call makes an account; what failed before it, such as our own login, made none.
            let ambiguous = may_have_issued(&failure);
            let error = failed(format_args!("asking for {path}"))(failure);
            if ambiguous { error.ambiguous() } else { error }
        })?;
        issued(plain_document(&mut answer), &answer, &token, path, Use::Session)
    }

    pub(super) async fn read_static_role(&self, session: SessionId, path: &SecretPath, fresh: bool) -> Result<Document, StoreError> {
        self.engine_of_role(session, path).await?;
        let (document, left) = self.read_static_once(session, path, fresh).await?;
        match left {
            Some(left) if left <= ABOUT_TO_ROTATE => {
                // What we hold is wrong before a login with it is through.
                drop(document);
                tokio::time::sleep(left.saturating_add(Duration::from_millis(500))).await;
                Ok(self.read_static_once(session, path, true).await?.0)
            }
            _ => Ok(document),
        }
    }

    async fn read_static_once(
        &self,
        session: SessionId,
        path: &SecretPath,
        fresh: bool,
    ) -> Result<(Document, Option<Duration>), StoreError> {
        let api = encode(path.segments());
        let call = Call { session: Some(session), fresh, ..Call::get("static_read", &api) };
        let (mut answer, _) = self.request(&call, Retry::Idempotent).await.map_err(failed(format_args!("reading {path}")))?;
        let asked = answer.asked;
        let mut document = plain_document(&mut answer);
        let left = document.fields.get("ttl").and_then(Value::as_u64).map(Duration::from_secs);
        let usable = left.map(|left| left.saturating_sub(Duration::from_secs(1)));
        document.not_after = usable.and_then(|usable| asked.checked_add(usable));
        Ok((document, left))
    }

    /// The engine behind a role, by its name. `None`: our token may not know.
    ///
    /// # Errors
    /// `mount/creds/role` on a KV mount is a slip that the server would answer with a bare 404.
    pub(super) async fn engine_of_role(&self, session: SessionId, path: &SecretPath) -> Result<Option<String>, StoreError> {
        match self.mount_of(session, path).await?.map(|mount| mount.engine) {
            Some(Engine::Kv1 | Engine::Kv2) => {
                let what = "the mount is a KV one and has no roles: write mount/data/path?key";
                Err(StoreError::new(StoreErrorKind::Malformed, format!("{path}: {what}")))
            }
            Some(Engine::Other(engine)) => Ok(Some(engine)),
            None => Ok(None),
        }
    }
}

/// What an answer says of its lease.
pub(super) fn issued(document: Document, answer: &Answer, token: &Token, path: &SecretPath, used: Use) -> Result<Issued, StoreError> {
    let lease_id = LeaseId::from(answer.text("lease_id"));
    if lease_id.expose().is_empty() {
        let what = format!("{path}: the answer has no lease; is this a dynamic role?");
        return Err(StoreError::new(StoreErrorKind::Malformed, what).ambiguous());
    }
    let renewable = answer.body.get("renewable").and_then(Value::as_bool).unwrap_or_default();
    let (asked, duration) = (answer.asked, answer.seconds("lease_duration"));
    Ok(Issued { document, lease_id, asked, duration, renewable, used, token_end: token.end() })
}

fn plain_document(answer: &mut Answer) -> Document {
    let fields = answer.take_data();
    Document::of(fields, answer.text("request_id"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::client::tests::{Server, answer};
    use super::super::login::Login;
    use super::super::mount::Mounts;
    use super::super::token::Access;
    use super::*;
    use crate::store::Reference;

    /// What becomes of a request for a lease whose calls are answered like this, and how many calls there were.
    async fn issue(answers: &[String]) -> (StoreError, usize) {
        let server = Server::answering(answers).await;
        let client = Arc::new(server.client());
        let settings = serde_json::from_value(json!({"auth": {"method": "approle", "role_id": "r"}})).unwrap();
        let login = Login::from_settings(&settings, None, crate::store::Stay::Serves, &crate::sample::nowhere()).unwrap();
        let tokens = Access::new(Arc::clone(&client), login);
        let vault = Vault { client, tokens, mounts: Mounts::default(), identities: Vec::new() };
        let path = "db/creds/role".parse::<Reference>().unwrap().path;
        let error = vault.issue_lease(SessionId::random(), &path).await.err().unwrap();
        (error, server.requests().len())
    }

    #[tokio::test]
    async fn only_the_request_for_the_lease_itself_may_have_left_an_account() {
        let login = answer("200 OK", "", &json!({"auth": {"client_token": "s.1", "lease_duration": 60}}).to_string());
        let cut = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"da".to_owned();
        let with = |last: &str| [login.clone(), last.to_owned()];

        let (error, calls) = issue(std::slice::from_ref(&cut)).await;
        assert!(!error.ambiguous && calls == 1, "our login: {error}");
        let (error, calls) = issue(&with(&cut)).await;
        assert!(error.ambiguous && calls == 2, "{error}");
        let gateway = answer("503 Service Unavailable", "", "<html>a load balancer</html>");
        let (error, calls) = issue(&with(&gateway)).await;
        assert!(error.ambiguous && calls == 2, "asked once: {error}");
        let (error, _) = issue(&with(&answer("200 OK", "", r#"{"data":{"username":"v-app"}}"#))).await;
        assert!(error.ambiguous, "an account without a lease: {error}");
        let refused = answer("500 Internal Server Error", "", r#"{"errors":["dial tcp 127.0.0.1:5432: connect: connection refused"]}"#);
        assert!(!issue(&with(&refused)).await.0.ambiguous);
    }
}
