//! Where a secret or a folder is on the server: in which mount, and of which version (vault.md §7.1).

use serde_json::Value;

use super::Desk;
use crate::store::vault::answer::Failure;
use crate::store::vault::client::{Call, Retry, encode};
use crate::store::vault::failed;
use crate::store::vault::mount::{self, Engine, Mount};
use crate::store::writer::History;
use crate::store::{SecretPath, StoreError, StoreErrorKind};

/// A secret or a folder of a KV mount.
pub(super) struct Located {
    /// With its slash at the end.
    mount: String,
    /// Behind the mount, without `data/`; empty for the mount's own root.
    rest: String,
    /// KV version 2 has one, version 1 has not.
    pub(super) history: History,
}

impl Located {
    /// The path below `/v1/`, encoded. `word` is what version 2 puts behind the mount.
    pub(super) fn api(&self, word: &str) -> String {
        let words = match self.history {
            History::Kept => self.mount.split('/').chain([word]),
            History::None => self.mount.split('/').chain([""]),
        };
        encode(words.chain(self.rest.split('/')).filter(|segment| !segment.is_empty()))
    }

    pub(super) fn must_have_versions(&self, path: &SecretPath) -> Result<(), StoreError> {
        match self.history {
            History::Kept => Ok(()),
            History::None => {
                Err(StoreError::new(StoreErrorKind::Malformed, format!("{path}: the mount is KV version 1 and keeps no versions")))
            }
        }
    }
}

impl Desk {
    pub(super) async fn locate(&self, path: &SecretPath) -> Result<Located, StoreError> {
        let located = self.locate_text(path.as_str()).await?;
        if located.rest.is_empty() {
            return Err(StoreError::new(StoreErrorKind::Malformed, format!("{path}: there is no secret's name after the mount")));
        }
        Ok(located)
    }

    async fn locate_text(&self, path: &str) -> Result<Located, StoreError> {
        let api = format!("sys/internal/ui/mounts/{}", encode(path.split('/')));
        let mount = match self.call(&Call::get("mount", &api), Retry::Idempotent).await {
            Ok(mut answer) => mount::read(&answer.take_data()),
            // The token may not know, which the server also says of a mount that is not there.
            Err(Failure::Refused(refused)) if matches!(refused.status, 403..=405) => None,
            Err(failure) => return Err(failed(format_args!("looking up the mount of {path}"))(failure)),
        };
        place(path, mount)
    }

    /// What is in a folder of a mount.
    pub(super) async fn names(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let at = self.locate_text(folder).await?;
        let api = at.api("metadata");
        let call = Call { query: Some(("list", "true".to_owned())), fresh: true, ..Call::get("kv_list", &api) };
        match self.call(&call, Retry::Idempotent).await {
            Ok(mut answer) => {
                let data = answer.take_data();
                let names = data.get("keys").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
                let mut names: Vec<String> = names.map(shown).collect();
                names.sort_unstable();
                Ok(names)
            }
            Err(Failure::Refused(refused)) if refused.status == 404 && refused.errors.is_empty() => {
                Err(StoreError::new(StoreErrorKind::NotFound, format!("{folder}: there is nothing in it")))
            }
            Err(failure) => Err(failed(format_args!("listing {folder}"))(failure)),
        }
    }

    /// The KV mounts that the token may use something of.
    pub(super) async fn mounts(&self) -> Result<Vec<String>, StoreError> {
        let answer = self.call(&Call::get("mounts", "sys/internal/ui/mounts"), Retry::Idempotent).await;
        let data = answer.map_err(failed("listing the mounts"))?.take_data();
        let all = data.get("secret").and_then(Value::as_object).into_iter().flatten();
        let kv = all.filter(|(_, facts)| matches!(facts.get("type").and_then(Value::as_str), Some("kv" | "generic")));
        Ok(kv.map(|(path, _)| shown(path)).collect())
    }
}

fn place(path: &str, mount: Option<Mount>) -> Result<Located, StoreError> {
    let under = |mount: &str, engine: Engine| Mount { path: mount.to_owned(), engine };
    // The usual form says what the token may not know: mount/data/path.
    let told = || path.split_once('/').filter(|(_, rest)| *rest == "data" || rest.starts_with("data/"));
    let mount = mount.or_else(|| told().map(|(mount, _)| under(&format!("{mount}/"), Engine::Kv2))).ok_or_else(|| {
        let what = "there is no such mount, or your token may use nothing under it; a KV version 2 path is mount/data/path";
        StoreError::new(StoreErrorKind::Denied, format!("{path}: {what}"))
    })?;
    let history = match mount.engine {
        Engine::Kv1 => History::None,
        Engine::Kv2 => History::Kept,
        Engine::Other(engine) => {
            let what = format!("{path}: the mount {} is of type {engine}; only KV secrets can be written", mount.path);
            return Err(StoreError::new(StoreErrorKind::Malformed, what));
        }
    };
    let rest = format!("{path}/").strip_prefix(&mount.path).unwrap_or_default().trim_end_matches('/').to_owned();
    let rest = match (history, rest.strip_prefix("data")) {
        (History::Kept, Some("")) => String::new(),
        (History::Kept, Some(inner)) if inner.starts_with('/') => inner.trim_start_matches('/').to_owned(),
        _ => rest,
    };
    Ok(Located { mount: mount.path, rest, history })
}

fn shown(text: &str) -> String {
    text.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_the_right_place_on_either_version() {
        let mount = |path: &str, engine: Engine| Some(Mount { path: path.to_owned(), engine });
        let at = |path: &str, mount: Option<Mount>, word: &str| place(path, mount).map(|at| at.api(word));
        let two = || mount("m/", Engine::Kv2);
        assert_eq!(at("m/data/a/b", two(), "data").unwrap(), "m/data/a/b");
        assert_eq!(at("m/a/b", two(), "metadata").unwrap(), "m/metadata/a/b");
        assert_eq!(at("m/data", two(), "metadata").unwrap(), "m/metadata");
        assert_eq!(at("m", two(), "metadata").unwrap(), "m/metadata");
        assert_eq!(at("m/database/x", two(), "data").unwrap(), "m/data/database/x");
        assert_eq!(at("t/kv/a b", mount("t/kv/", Engine::Kv2), "undelete").unwrap(), "t/kv/undelete/a%20b");
        assert_eq!(at("m/data/a", mount("m/", Engine::Kv1), "metadata").unwrap(), "m/data/a");
        assert_eq!(at("m", mount("m/", Engine::Kv1), "metadata").unwrap(), "m");
        assert_eq!(at("m/data/a", None, "destroy").unwrap(), "m/destroy/a");
        assert_eq!(at("m/a", None, "data").unwrap_err().kind, StoreErrorKind::Denied);
        assert_eq!(at("m/a", mount("m/", Engine::Other("database".into())), "data").unwrap_err().kind, StoreErrorKind::Malformed);
    }
}
