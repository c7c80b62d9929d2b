//! KV secrets of both versions (vault.md §7).

use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use super::answer::{Answer, Failure, Refused};
use super::client::{Call, Retry, encode};
use super::mount::{Engine, Mount};
use super::{Vault, failed};
use crate::SessionId;
use crate::store::{Document, SecretPath, StoreError, StoreErrorKind};

/// What is asked of the server for a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The path below `/v1/`, not encoded.
    pub(super) path: String,
    version_2: bool,
    /// The reference leaves out `data/`.
    completed: bool,
    /// It has one that version 1 takes for a part of the secret's name, as it may be.
    superfluous: bool,
}

impl Vault {
    pub(super) async fn read_kv(&self, session: SessionId, path: &SecretPath, fresh: bool) -> Result<Document, StoreError> {
        let mount = self.mount_of(session, path).await?;
        let place = place(path, mount.as_ref())?;
        // Once for the mount: users may have paths of their own.
        if place.completed && self.client.is_news(mount.as_ref().map_or("", |mount| &mount.path)) {
            let (store, path, read) = (&self.client.name, path.as_str(), &place.path);
            tracing::info!(store, path, read, "this mount is KV version 2, whose paths have data/ after the mount: it is put in");
        }
        let api = encode(place.path.split('/'));
        let query = path.version().filter(|_| place.version_2).map(|version| ("version", version.to_string()));
        let call = Call { query, session: Some(session), fresh, ..Call::get("kv_read", &api) };
        match self.request(&call, Retry::Idempotent).await {
            Ok((answer, _)) => document(answer, path, place.version_2),
            Err(Failure::Refused(refused)) if refused.status == 404 => {
                if let Some(mount) = &mount {
                    self.mounts.forget(mount);
                }
                let error = absent(&refused, path);
                let hint = if place.superfluous {
                    "; the mount is KV version 1, whose paths have no data/ after it: write mount/path"
                } else {
                    ""
                };
                Err(StoreError::new(error.kind, format!("{}{hint}", error.detail)))
            }
            Err(failure) => Err(failed(format_args!("reading {path}"))(failure)),
        }
    }
}

/// Where the secret is. A version 2 mount has `data/` before the secret's name; users may leave it out.
pub(super) fn place(path: &SecretPath, mount: Option<&Mount>) -> Result<Place, StoreError> {
    let text = path.as_str();
    let malformed = |what: String| Err(StoreError::new(StoreErrorKind::Malformed, format!("{path}: {what}")));
    let Some(mount) = mount else {
        // Our token may not know what the mount is: the usual form says it.
        return if path.segments().nth(1) == Some("data") {
            Ok(Place { path: text.to_owned(), version_2: true, completed: false, superfluous: false })
        } else {
            let what = "there is no such mount, or our token may use nothing under it; a KV version 2 path is mount/data/path";
            Err(StoreError::new(StoreErrorKind::Denied, format!("{path}: {what}")))
        };
    };
    let Some(rest) = text.strip_prefix(mount.path.as_str()).filter(|rest| !rest.is_empty()) else {
        return malformed("there is no secret's name after the mount".to_owned());
    };
    match &mount.engine {
        Engine::Other(engine) => malformed(format!("the mount {} is of type {engine}; this form is for KV secrets", mount.path)),
        Engine::Kv1 if path.version().is_some() => malformed("the mount is KV version 1 and keeps no versions".to_owned()),
        Engine::Kv1 => Ok(Place { path: text.to_owned(), version_2: false, completed: false, superfluous: rest.starts_with("data/") }),
        Engine::Kv2 if rest.starts_with("data/") => {
            Ok(Place { path: text.to_owned(), version_2: true, completed: false, superfluous: false })
        }
        Engine::Kv2 => Ok(Place { path: format!("{}data/{rest}", mount.path), version_2: true, completed: true, superfluous: false }),
    }
}

pub(super) fn document(mut answer: Answer, path: &SecretPath, version_2: bool) -> Result<Document, StoreError> {
    let request_id = answer.text("request_id").to_owned();
    let advisory = answer.seconds("lease_duration");
    let asked = answer.asked;
    let mut data = answer.take_data();
    let (fields, version, not_after, fresh_until) = if version_2 {
        let metadata = data.get("metadata");
        let version = metadata.and_then(|metadata| metadata.get("version")).and_then(Value::as_u64);
        let deletion = metadata.and_then(|metadata| metadata.get("deletion_time")).and_then(Value::as_str).and_then(instant);
        (data.get_mut("data").map(Value::take).unwrap_or_default(), version, deletion, None)
    } else {
        // The secret's own `ttl`, or its mount's: nothing happens to it then (§7.2).
        (data.take(), None, None, if advisory.is_zero() { None } else { asked.checked_add(advisory) })
    };
    let mut document = Document::of(fields, &request_id);
    (document.version, document.not_after, document.fresh_until) = (version, not_after, fresh_until);
    if !document.fields.is_object() {
        return Err(StoreError::new(StoreErrorKind::Malformed, format!("{path}: the answer holds no secret")));
    }
    if version_2 && path.version().is_some() && path.version() != version {
        return Err(StoreError::new(StoreErrorKind::Malformed, format!("{path}: the answer is of another version")));
    }
    Ok(document)
}

/// Why a secret is not there: never was, deleted, destroyed, or another engine (§7.3).
pub(super) fn absent(refused: &Refused, path: &SecretPath) -> StoreError {
    let metadata = refused.body.get("data").and_then(|data| data.get("metadata"));
    let text = |key: &str| metadata.and_then(|metadata| metadata.get(key)).and_then(Value::as_str).filter(|text| !text.is_empty());
    let destroyed = metadata.and_then(|metadata| metadata.get("destroyed")).and_then(Value::as_bool).unwrap_or_default();
    let warned = refused
        .body
        .get("warnings")
        .and_then(Value::as_array)
        .is_some_and(|all| all.iter().filter_map(Value::as_str).any(|warning| warning.contains("versioned K/V")));
    let why = match text("deletion_time") {
        _ if destroyed => "this version was destroyed".to_owned(),
        Some(when) => format!("this version was deleted at {when}"),
        None if warned => "the mount is KV version 2: write mount/data/path".to_owned(),
        None if !refused.errors.is_empty() => refused.errors.join("; "),
        None => "there is no such secret or version".to_owned(),
    };
    StoreError::new(StoreErrorKind::NotFound, format!("{path}: {why}"))
}

/// A time of the server's as one of ours. Its clock may differ from ours; a bound for a cache may.
fn instant(text: &str) -> Option<Instant> {
    let when: jiff::Timestamp = text.parse().ok()?;
    let left = SystemTime::from(when).duration_since(SystemTime::now()).unwrap_or(Duration::ZERO);
    Instant::now().checked_add(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Reference;
    use serde_json::json;

    fn path(text: &str) -> SecretPath {
        text.parse::<Reference>().unwrap().path
    }

    #[test]
    fn a_path_leads_to_the_right_place_on_either_version() {
        let mount = |path: &str, engine: Engine| Mount { path: path.to_owned(), engine };
        let at = |text: &str, mount: Option<Mount>| {
            place(&path(text), mount.as_ref()).map(|place| (place.path, place.version_2, place.completed))
        };
        assert_eq!(at("m/data/a/b", Some(mount("m/", Engine::Kv2))).unwrap(), ("m/data/a/b".into(), true, false));
        assert_eq!(at("m/a/b", Some(mount("m/", Engine::Kv2))).unwrap(), ("m/data/a/b".into(), true, true));
        assert_eq!(at("t/kv/data/a", Some(mount("t/kv/", Engine::Kv2))).unwrap(), ("t/kv/data/a".into(), true, false));
        assert_eq!(at("m/data/a", Some(mount("m/", Engine::Kv1))).unwrap(), ("m/data/a".into(), false, false));
        assert_eq!(at("m/data/a", None).unwrap(), ("m/data/a".into(), true, false));
        assert_eq!(at("m/a", None).unwrap_err().kind, StoreErrorKind::Denied);
        assert_eq!(at("m/data/a", Some(mount("m/", Engine::Other("database".into())))).unwrap_err().kind, StoreErrorKind::Malformed);
        assert_eq!(at("m/a?k&version=2", Some(mount("m/", Engine::Kv1))).unwrap_err().kind, StoreErrorKind::Malformed);
        assert!(at("a/b", Some(mount("a/b/", Engine::Kv2))).is_err());
    }

    #[test]
    fn recorded_absences_say_why() {
        let why = |body: Value| absent(&Refused::of(404, Vec::new(), body), &path("m/data/p")).detail;
        assert!(why(json!({"errors": []})).contains("no such secret"));
        let deleted =
            json!({"data": {"data": null, "metadata": {"deletion_time": "2026-11-21T20:00:00Z", "destroyed": false, "version": 1}}});
        assert!(why(deleted).contains("deleted at 2026-11-21"));
        let destroyed = json!({"data": {"data": null, "metadata": {"deletion_time": "", "destroyed": true, "version": 1}}});
        assert!(why(destroyed).contains("destroyed"));
        let wrong = json!({"warnings": ["Invalid path for a versioned K/V secrets engine. See the API docs"]});
        assert!(why(wrong).contains("mount/data/path"));
        let refused = Refused::of(404, vec!["no handler for route \"x\". route entry not found.".into()], Value::Null);
        assert!(absent(&refused, &path("m/data/p")).detail.contains("no handler"));
    }

    #[test]
    fn a_deletion_that_is_due_bounds_the_cache() {
        let soon = jiff::Timestamp::now().checked_add(jiff::SignedDuration::from_secs(60)).unwrap().to_string();
        let body = json!({"request_id": "r", "data": {"data": {"k": "v"}, "metadata": {"version": 4, "deletion_time": soon}}});
        let document = document(Answer { body, asked: Instant::now() }, &path("m/data/p"), true).unwrap();
        let left = document.not_after.unwrap().saturating_duration_since(Instant::now());
        assert!(left > Duration::from_secs(50) && left <= Duration::from_secs(60));
        assert_eq!((document.version, document.request_id.as_str()), (Some(4), "r"));
        assert_eq!(document.fields, json!({"k": "v"}));
    }

    #[test]
    fn the_ttl_of_a_secret_of_version_1_says_when_to_read_it_again_and_is_no_end() {
        for (seconds, expected) in [(120, Some(Duration::from_secs(120))), (0, None)] {
            let body = json!({"request_id": "r", "lease_duration": seconds, "data": {"k": "v", "ttl": "2m"}});
            let asked = Instant::now();
            let document = document(Answer { body, asked }, &path("m/p"), false).unwrap();
            assert_eq!(document.fresh_until.map(|until| until.saturating_duration_since(asked)), expected);
            assert_eq!((document.version, document.not_after), (None, None));
            assert_eq!(document.fields, json!({"k": "v", "ttl": "2m"}));
        }
    }

    #[test]
    fn an_answer_without_a_secret_is_malformed() {
        for body in [json!(null), json!({"data": null}), json!({"data": {"data": null}}), json!({"data": []})] {
            let answer = Answer { body, asked: Instant::now() };
            assert_eq!(document(answer, &path("m/data/p"), true).err().map(|error| error.kind), Some(StoreErrorKind::Malformed));
        }
    }
}
