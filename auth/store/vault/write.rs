//! What an operator does with KV secrets of both versions (vault.md §7; API docs, "KV secrets engine"). He shows a token of his own.

mod metadata;
mod place;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};

use self::place::Located;
use super::answer::{Answer, Failure, Refused};
use super::client::{Call, Client, Retry};
use super::errors::{TokenHint, is_forbidden, token_hint};
use super::failed;
use super::kv::absent;
use super::settings::Settings;
use crate::Secret;
use crate::operator::{Change, Others};
use crate::store::writer::{Destroy, Held, History, Metadata, MetadataChange, Values, Wants, Writer, Writing, Written};
use crate::store::{Opening, SecretPath, StoreError, StoreErrorKind, wipe};

/// How a Vault is written to.
pub(super) const WRITING: Writing = Writing { open, wants: Wants::Token };

/// How often a secret is read and written anew because somebody else wrote it in between.
const TRIES: u32 = 10;

/// One Vault, and an operator's token. The login of the file is never used.
struct Desk {
    client: Client,
    token: HeaderValue,
}

fn open(opening: &Opening<'_>, token: Option<&Secret>) -> Result<Box<dyn Writer>, StoreError> {
    let wrong = |message: String| StoreError::new(StoreErrorKind::Malformed, message);
    let settings = opening.store.settings.downcast_ref::<Settings>();
    let settings = settings.ok_or_else(|| wrong("its settings are of another kind".to_owned()))?;
    let refused = |message: &str| StoreError::new(StoreErrorKind::LoginFailed, message);
    // Exposed: it becomes the header that shows it to the store.
    let text =
        token.and_then(Secret::expose_str).map(str::trim).filter(|text| !text.is_empty()).ok_or_else(|| refused("there is no token"))?;
    let header = Some(text).filter(|text| text.chars().all(|c| c.is_ascii_graphic())).and_then(|text| HeaderValue::from_str(text).ok());
    let mut token = header.ok_or_else(|| refused("the token is not a printable text"))?;
    token.set_sensitive(true);
    let client = Client::new(opening.store.name.value.as_str(), settings, Arc::clone(&opening.observer)).map_err(wrong)?;
    Ok(Box::new(Desk { client, token }))
}

/// A secret before it is changed.
struct Before {
    fields: Value,
    /// What it must still be when it is written: 0 if there is none. `None`: whatever it is by then.
    version: Option<u64>,
}

impl Desk {
    async fn call(&self, call: &Call<'_>, retry: Retry) -> Result<Answer, Failure> {
        let refused = match self.client.call(call, Some(&self.token), retry).await {
            Err(Failure::Refused(refused)) if is_forbidden(&refused) => refused,
            result => return result,
        };
        Err(if self.is_dead(&refused).await { Failure::Store(dead()) } else { Failure::Refused(refused) })
    }

    /// A 403 in the same words as one of a policy may mean that the token is not known at all.
    async fn is_dead(&self, refused: &Refused) -> bool {
        match token_hint(&refused.errors) {
            TokenHint::Dead => return true,
            TokenHint::Policy => return false,
            TokenHint::Unclear => {}
        }
        let call = Call { fresh: true, ..Call::get("token_lookup", "auth/token/lookup-self") };
        match self.client.call(&call, Some(&self.token), Retry::Idempotent).await {
            Err(Failure::Refused(refused)) => is_forbidden(&refused) && token_hint(&refused.errors) != TokenHint::Policy,
            Ok(_) | Err(_) => false,
        }
    }

    async fn send(&self, operation: &'static str, method: Method, api: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        self.call(&Call { method, body, ..Call::get(operation, api) }, Retry::Idempotent).await
    }

    async fn read(&self, at: &Located, path: &SecretPath, version: Option<u64>, values: Values) -> Result<Held, StoreError> {
        let version = version.or(path.version());
        if version.is_some() {
            at.must_have_versions(path)?;
        }
        let query = version.map(|version| ("version", version.to_string()));
        if values == Values::Hidden && at.history == History::Kept {
            let api = at.api("subkeys");
            let call = Call { query: query.clone(), fresh: true, ..Call::get("kv_names", &api) };
            match self.call(&call, Retry::Idempotent).await {
                Ok(answer) => return held(answer, "subkeys", path),
                // A policy that only knows `data/`, or a server that is older than this way to ask.
                Err(Failure::Refused(refused)) if matches!(refused.status, 403 | 405) => {}
                Err(Failure::Refused(refused)) if refused.status == 404 => return Err(absent(&refused, path)),
                Err(failure) => return Err(failed(format_args!("reading {path}"))(failure)),
            }
        }
        let api = at.api("data");
        let call = Call { query, fresh: true, ..Call::get("kv_read", &api) };
        match self.call(&call, Retry::Idempotent).await {
            Ok(answer) if at.history == History::Kept => held(answer, "data", path).map(|held| held.with(values)),
            Ok(mut answer) => Ok(Held { fields: answer.take_data(), version: None }.with(values)),
            Err(Failure::Refused(refused)) if refused.status == 404 => Err(absent(&refused, path)),
            Err(failure) => Err(failed(format_args!("reading {path}"))(failure)),
        }
    }

    /// The newest version, for a change: one that was deleted counts as empty.
    async fn before(&self, at: &Located, path: &SecretPath) -> Result<Before, StoreError> {
        let api = at.api("data");
        let call = Call { fresh: true, ..Call::get("kv_read", &api) };
        let number = |data: &Value| data.get("metadata").and_then(|metadata| metadata.get("version")).and_then(Value::as_u64);
        match (self.call(&call, Retry::Idempotent).await, at.history) {
            (Ok(mut answer), History::Kept) => {
                let mut data = answer.take_data();
                let version = number(&data)
                    .ok_or_else(|| StoreError::new(StoreErrorKind::Malformed, format!("{path}: the answer has no version")))?;
                Ok(Before { fields: data.get_mut("data").map(Value::take).unwrap_or_default(), version: Some(version) })
            }
            (Ok(mut answer), History::None) => Ok(Before { fields: answer.take_data(), version: None }),
            (Err(Failure::Refused(refused)), History::Kept) if refused.status == 404 && refused.errors.is_empty() => {
                let deleted = refused.body.get("data").and_then(number).unwrap_or_default();
                Ok(Before { fields: Value::Null, version: Some(deleted) })
            }
            (Err(Failure::Refused(refused)), History::None) if refused.status == 404 && refused.errors.is_empty() => {
                Ok(Before { fields: Value::Null, version: None })
            }
            (Err(Failure::Refused(refused)), _) if is_forbidden(&refused) => {
                let why = "your token may not read it, which keeping its other keys needs; `--replace` writes without reading";
                Err(StoreError::new(StoreErrorKind::Denied, format!("{path}: {why}")))
            }
            (Err(failure), _) => Err(failed(format_args!("reading {path}"))(failure)),
        }
    }

    async fn change(&self, path: &SecretPath, change: &Change) -> Result<Written, StoreError> {
        let at = self.locate(path).await?;
        let mut before = Before { fields: Value::Null, version: None };
        if change.others() == Others::Kept {
            before = self.before(&at, path).await?;
        }
        for _ in 0..TRIES {
            change.apply(&mut before.fields)?;
            let keys = before.fields.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
            let refused = match self.write(&at, &mut before).await {
                Ok(version) => return Ok(Written { version, keys }),
                Err(Failure::Refused(refused)) if refused.status == 400 && refused.says("check-and-set") => refused,
                Err(failure) => return Err(failed(format_args!("writing {path}"))(failure)),
            };
            // Written by somebody else in between; or the mount wants to hear which version is replaced.
            before = match change.others() {
                Others::Kept => self.before(&at, path).await?,
                Others::Dropped if refused.says("did not match") || before.version.is_none() => {
                    Before { fields: Value::Null, version: Some(self.current(&at, path).await?) }
                }
                Others::Dropped => return Err(failed(format_args!("writing {path}"))(Failure::Refused(refused))),
            };
        }
        Err(StoreError::new(StoreErrorKind::Unavailable, format!("{path}: others keep on writing it; nothing of yours was written")))
    }

    /// Writes it and wipes it here. The version that it made.
    async fn write(&self, at: &Located, before: &mut Before) -> Result<Option<u64>, Failure> {
        let mut body = match (at.history, before.version) {
            (History::None, _) => before.fields.take(),
            (History::Kept, None) => json!({ "data": before.fields.take() }),
            (History::Kept, Some(version)) => json!({ "data": before.fields.take(), "options": { "cas": version } }),
        };
        let api = at.api("data");
        let call = Call { method: Method::POST, body: Some(&body), ..Call::get("kv_write", &api) };
        let answer = self.call(&call, Retry::Unsent).await;
        wipe(&mut body);
        Ok(answer?.take_data().get("version").and_then(Value::as_u64))
    }

    async fn remove(&self, path: &SecretPath, versions: &[u64]) -> Result<(), StoreError> {
        let at = self.locate(path).await?;
        if !versions.is_empty() {
            return self.for_versions(&at, "delete", path, versions).await;
        }
        self.must_be_there(&at, path, &[]).await?;
        let answer = self.send("kv_delete", Method::DELETE, &at.api("data"), None).await;
        answer.map(drop).map_err(failed(format_args!("deleting {path}")))
    }

    /// `delete`, `undelete` or `destroy`, which are the server's words too.
    async fn for_versions(&self, at: &Located, word: &'static str, path: &SecretPath, versions: &[u64]) -> Result<(), StoreError> {
        at.must_have_versions(path)?;
        self.must_be_there(at, path, versions).await?;
        let body = json!({ "versions": versions });
        let answer = self.send("kv_versions", Method::POST, &at.api(word), Some(&body)).await;
        answer.map(drop).map_err(failed(format_args!("{word} versions of {path}")))
    }

    /// The server says that it did also what there was nothing to do for. Only a token that may read metadata hears of it.
    async fn must_be_there(&self, at: &Located, path: &SecretPath, versions: &[u64]) -> Result<(), StoreError> {
        if at.history == History::None {
            return Ok(());
        }
        let metadata = match self.read_metadata(at, path).await {
            Ok(metadata) => metadata,
            Err(error) if error.kind == StoreErrorKind::Denied => return Ok(()),
            Err(error) => return Err(error),
        };
        let missing = |what: String| Err(StoreError::new(StoreErrorKind::NotFound, format!("{path}: {what}")));
        for number in versions {
            match metadata.versions.iter().find(|version| version.number == *number) {
                None => return missing(format!("there is no version {number}")),
                Some(version) if version.destroyed => return missing(format!("version {number} was destroyed")),
                Some(_) => {}
            }
        }
        Ok(())
    }

    async fn destroy_it(&self, path: &SecretPath, what: &Destroy) -> Result<(), StoreError> {
        let at = self.locate(path).await?;
        let word = match (what, at.history) {
            (Destroy::Versions(versions), _) => return self.for_versions(&at, "destroy", path, versions).await,
            (Destroy::All, History::Kept) => "metadata",
            (Destroy::All, History::None) => "data",
        };
        self.must_be_there(&at, path, &[]).await?;
        let answer = self.send("kv_destroy", Method::DELETE, &at.api(word), None).await;
        answer.map(drop).map_err(failed(format_args!("destroying {path}")))
    }
}

impl Writer for Desk {
    fn get<'a>(&'a self, path: &'a SecretPath, version: Option<u64>, values: Values) -> BoxFuture<'a, Result<Held, StoreError>> {
        Box::pin(async move { self.read(&self.locate(path).await?, path, version, values).await })
    }

    fn put<'a>(&'a self, path: &'a SecretPath, change: &'a Change) -> BoxFuture<'a, Result<Written, StoreError>> {
        Box::pin(self.change(path, change))
    }

    fn list<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Vec<String>, StoreError>> {
        Box::pin(async move { if folder.is_empty() { self.mounts().await } else { self.names(folder).await } })
    }

    fn history<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<History, StoreError>> {
        Box::pin(async move { Ok(self.locate(path).await?.history) })
    }

    fn delete<'a>(&'a self, path: &'a SecretPath, versions: &'a [u64]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.remove(path, versions))
    }

    fn undelete<'a>(&'a self, path: &'a SecretPath, versions: &'a [u64]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.for_versions(&self.locate(path).await?, "undelete", path, versions).await })
    }

    fn destroy<'a>(&'a self, path: &'a SecretPath, what: &'a Destroy) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.destroy_it(path, what))
    }

    fn metadata<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<Metadata, StoreError>> {
        Box::pin(async move { self.read_metadata(&self.locate(path).await?, path).await })
    }

    fn set_metadata<'a>(&'a self, path: &'a SecretPath, change: &'a MetadataChange) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.change_metadata(path, change))
    }
}

fn held(mut answer: Answer, values: &str, path: &SecretPath) -> Result<Held, StoreError> {
    let mut data = answer.take_data();
    let version =
        data.get("metadata").map(|facts| metadata::version(facts.get("version").and_then(Value::as_u64).unwrap_or_default(), facts));
    let held = Held { fields: data.get_mut(values).map(Value::take).unwrap_or_default(), version };
    if held.fields.is_object() {
        Ok(held)
    } else {
        Err(StoreError::new(StoreErrorKind::Malformed, format!("{path}: the answer holds no secret")))
    }
}

fn dead() -> StoreError {
    StoreError::new(StoreErrorKind::LoginFailed, "the store does not know this token: it may have expired or been revoked")
}
