//! Which secrets engine stands behind a path, and where its mount ends (vault.md §7.1).

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::answer::Failure;
use super::client::{Call, Retry, encode};
use super::{Vault, failed};
use crate::SessionId;
use crate::store::{SecretPath, StoreError};

/// What a mount is may change: an admin upgrades it to version 2.
const KNOWN_FOR: Duration = Duration::from_secs(600);
/// Mounts remembered; the file names no more than a few.
const MAX: usize = 1000;

/// A mount: its path with a slash at the end, as the server says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) path: String,
    pub(super) engine: Engine,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    Kv1,
    Kv2,
    /// Any other, by its name.
    Other(String),
}

/// The mounts that were asked for lately.
#[derive(Default)]
pub(super) struct Mounts(Mutex<Vec<(Mount, Instant)>>);

impl Mounts {
    fn find(&self, path: &str) -> Option<Mount> {
        let known = self.0.lock().ok()?;
        let of_path = known.iter().filter(|(mount, at)| path.starts_with(&mount.path) && at.elapsed() < KNOWN_FOR);
        of_path.max_by_key(|(mount, _)| mount.path.len()).map(|(mount, _)| mount.clone())
    }

    fn keep(&self, mount: Mount) {
        let Ok(mut known) = self.0.lock() else { return };
        known.retain(|(old, at)| old.path != mount.path && at.elapsed() < KNOWN_FOR);
        if known.len() < MAX {
            known.push((mount, Instant::now()));
        }
    }

    /// The server contradicts what we know of this mount.
    pub(super) fn forget(&self, mount: &Mount) {
        if let Ok(mut known) = self.0.lock() {
            known.retain(|(old, _)| old != mount);
        }
    }
}

impl Vault {
    /// The mount of a path. `None`: our token may not know, which the server also says of a mount that is not there.
    pub(super) async fn mount_of(&self, session: SessionId, path: &SecretPath) -> Result<Option<Mount>, StoreError> {
        if let Some(mount) = self.mounts.find(path.as_str()) {
            return Ok(Some(mount));
        }
        let api = format!("sys/internal/ui/mounts/{}", encode(path.segments()));
        let call = Call { session: Some(session), ..Call::get("mount", &api) };
        let mut answer = match self.request(&call, Retry::Idempotent).await {
            Ok((answer, _)) => answer,
            Err(Failure::Refused(refused)) if matches!(refused.status, 403..=405) => return Ok(None),
            Err(failure) => return Err(failed(format_args!("looking up the mount of {path}"))(failure)),
        };
        let mount = read(&answer.take_data()).filter(|mount| path.as_str().starts_with(&mount.path));
        if let Some(mount) = &mount {
            self.mounts.keep(mount.clone());
        }
        Ok(mount)
    }
}

pub(super) fn read(data: &Value) -> Option<Mount> {
    let path = data.get("path")?.as_str()?;
    let path = format!("{}/", path.trim_matches('/'));
    let version = data.get("options").and_then(|options| options.get("version")).and_then(Value::as_str);
    let engine = match data.get("type")?.as_str()? {
        "kv" if version == Some("2") => Engine::Kv2,
        "kv" | "generic" => Engine::Kv1,
        other => Engine::Other(other.to_owned()),
    };
    Some(Mount { path, engine })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn recorded_answers_say_which_engine() {
        let engine = |data: Value| read(&data).map(|mount| mount.engine);
        assert_eq!(engine(json!({"path": "prod_db/", "type": "kv", "options": {"version": "2"}})), Some(Engine::Kv2));
        assert_eq!(engine(json!({"path": "old/", "type": "kv", "options": {"version": "1"}})), Some(Engine::Kv1));
        assert_eq!(engine(json!({"path": "old/", "type": "kv", "options": null})), Some(Engine::Kv1));
        assert_eq!(engine(json!({"path": "old/", "type": "generic", "options": null})), Some(Engine::Kv1));
        assert_eq!(engine(json!({"path": "db/", "type": "database", "options": null})), Some(Engine::Other("database".into())));
        assert_eq!(engine(json!({"type": "kv"})), None);
        assert_eq!(engine(Value::Null), None);
    }

    #[test]
    fn the_longest_known_mount_wins_and_a_name_is_no_prefix() {
        let mounts = Mounts::default();
        let mount = |path: &str| Mount { path: path.to_owned(), engine: Engine::Kv2 };
        mounts.keep(mount("team/"));
        mounts.keep(mount("team/kv/"));
        assert_eq!(mounts.find("team/kv/data/x"), Some(mount("team/kv/")));
        assert_eq!(mounts.find("team/kvx/data/x"), Some(mount("team/")));
        assert_eq!(mounts.find("teams/data/x"), None);
        mounts.forget(&mount("team/kv/"));
        assert_eq!(mounts.find("team/kv/data/x"), Some(mount("team/")));
    }
}
