//! AppRole (vault.md §4.1): a role id and a secret id, which may come wrapped (§5.2).

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::mount::{Mount, is_segment};
use super::near_end::is_near;
use super::post::{Post, is_no};
use super::settings::AppRoleKeys;
use super::wrapping::{SecretId, Trouble, Wrapping};
use super::{Granted, Rejected, granted};
use crate::store::vault::answer::Failure;
use crate::store::vault::client::Client;
use crate::store::{Input, Outer, Stay, StoreError, StoreErrorKind};

const HINTS: &[(u16, &str)] = &[(403, "a wrong mount, or the role is locked for 15 minutes after five wrong secret ids")];

/// The login of a role.
pub(in crate::store::vault) struct AppRole {
    mount: Mount,
    role_id: Input,
    secret_id: Source,
}

/// Where the secret id comes from.
enum Source {
    /// The role has none.
    None,
    Plain(Input),
    Wrapped(Wrapped),
}

/// A secret id that comes wrapped.
struct Wrapped {
    input: Input,
    /// Where our role's wrapping tokens come from.
    origin: String,
    stay: Stay,
    /// What came of the wrapping token that was read last.
    held: Arc<tokio::sync::Mutex<Option<Held>>>,
}

struct Held {
    /// Of the wrapping token.
    fingerprint: [u8; 32],
    content: Result<SecretId, StoreError>,
}

impl AppRole {
    pub(super) fn new(keys: &AppRoleKeys, stay: Stay, outer: &Arc<dyn Outer>) -> Result<Self, String> {
        if keys.runner.is_some() {
            return Err("auth.runner: there are no runners to choose from".to_owned());
        }
        let mount = Mount::read("auth.mount", keys.mount.as_deref(), "approle")?;
        let role_id = keys.role_id.as_ref().ok_or("auth.role_id is missing")?;
        let secret_id = match (&keys.secret_id, &keys.wrapped_secret_id, &keys.role_name) {
            (Some(_), Some(_), _) => return Err("give either auth.secret_id or auth.wrapped_secret_id".to_owned()),
            (None, Some(input), Some(role)) if is_segment(role) => Source::Wrapped(Wrapped {
                input: Input::new("auth.wrapped_secret_id", input, outer),
                origin: mount.secret_id_path(role),
                stay,
                held: Arc::default(),
            }),
            (None, Some(_), Some(_)) => return Err("auth.role_name: a name without /".to_owned()),
            (None, Some(_), None) => {
                return Err("auth.role_name is missing: only with it is somebody else's wrapping token told from the role's".to_owned());
            }
            (Some(input), None, _) => Source::Plain(Input::new("auth.secret_id", input, outer)),
            (None, None, _) => Source::None,
        };
        Ok(Self { mount, role_id: Input::new("auth.role_id", role_id, outer), secret_id })
    }

    pub(super) fn is_wrapped(&self) -> bool {
        matches!(self.secret_id, Source::Wrapped(_))
    }

    pub(super) fn wrapped_file(&self) -> Option<&Path> {
        match &self.secret_id {
            Source::Wrapped(wrapped) => wrapped.input.file(),
            Source::None | Source::Plain(_) => None,
        }
    }

    /// What a wrapping token hid is ours wherever our role's tokens come from the same place.
    pub(super) fn go_on_from(&mut self, former: &Self) {
        if let (Source::Wrapped(wrapped), Source::Wrapped(former)) = (&mut self.secret_id, &former.secret_id)
            && wrapped.origin == former.origin
        {
            wrapped.held = Arc::clone(&former.held);
        }
    }

    /// That the secret id ends soon, where we know when: the store says it only of one that came wrapped.
    pub(super) async fn warning(&self) -> Option<String> {
        match &self.secret_id {
            Source::Wrapped(wrapped) => wrapped.warning().await,
            Source::None | Source::Plain(_) => None,
        }
    }

    pub(super) async fn prepare(&self, client: &Client) -> Result<Post, StoreError> {
        let role_id = self.role_id.read().await?;
        let secret_id = match &self.secret_id {
            Source::None => None,
            Source::Plain(input) => Some(input.read().await?),
            Source::Wrapped(wrapped) => Some(wrapped.secret_id(client).await?),
        };
        Ok(post(&self.mount, &role_id, secret_id.as_deref().map(String::as_str)))
    }

    pub(super) async fn perform(&self, client: &Client, post: &Post) -> Result<Granted, Rejected> {
        let result = post.send(client).await;
        if let Source::Wrapped(wrapped) = &self.secret_id {
            wrapped.used(&result).await;
        }
        granted(&result.map_err(|failure| post.explain(failure))?)
    }
}

/// The login of a role with these ids.
pub(super) fn post(mount: &Mount, role_id: &str, secret_id: Option<&str>) -> Post {
    let mut body = json!({ "role_id": role_id });
    if let (Some(secret_id), Some(map)) = (secret_id, body.as_object_mut()) {
        map.insert("secret_id".to_owned(), secret_id.into());
    }
    let proves = [role_id.as_bytes(), secret_id.unwrap_or_default().as_bytes()];
    Post::new(mount, &["login"], body, &proves, HINTS).locking()
}

impl Wrapped {
    /// What is in the wrapping token. It is opened when it is first seen; a secret id that is good for more logins is kept for them.
    async fn secret_id(&self, client: &Client) -> Result<Zeroizing<String>, StoreError> {
        if self.stay == Stay::Looks {
            let text = "auth.wrapped_secret_id: it can be opened once, and that is left to the process that serves";
            return Err(StoreError::new(StoreErrorKind::Disabled, text));
        }
        let mut held = self.held.lock().await;
        let wrapping = match self.input.read().await {
            Ok(text) => Wrapping::read(&text).map_err(|why| self.failed(why)),
            Err(error) => Err(error),
        };
        let wrapping = match (wrapping, &*held) {
            (Ok(wrapping), _) => wrapping,
            // Whoever wrote the file may have removed it once it was read.
            (Err(error), Some(Held { content: Ok(_), .. })) => {
                tracing::debug!(store = client.name, %error, "no wrapped secret id is there: the former one is used");
                return self.of(&mut held);
            }
            (Err(error), _) => return Err(error),
        };
        let fingerprint = wrapping.fingerprint();
        if held.as_ref().is_none_or(|held| held.fingerprint != fingerprint) {
            let content = match wrapping.open(client, &self.origin).await {
                Ok(secret_id) => Ok(secret_id),
                Err(trouble @ Trouble::Failed(_)) => return Err(trouble.report(client, "auth.wrapped_secret_id")),
                Err(trouble) => Err(trouble.report(client, "auth.wrapped_secret_id")),
            };
            *held = Some(Held { fingerprint, content });
        }
        self.of(&mut held)
    }

    fn of(&self, held: &mut Option<Held>) -> Result<Zeroizing<String>, StoreError> {
        let held = held.as_mut().ok_or_else(|| self.failed("nothing was opened"))?;
        if let Ok(SecretId { end: Some((_, end)), .. }) = &held.content
            && *end <= Instant::now()
        {
            held.content = Err(self.failed("the secret id that was in it has ended; a new one is needed"));
        }
        held.content.as_ref().map(|secret_id| secret_id.text.clone()).map_err(Clone::clone)
    }

    /// A login was tried with it.
    async fn used(&self, result: &Result<crate::store::vault::answer::Answer, Failure>) {
        let mut held = self.held.lock().await;
        let Some(Held { content, .. }) = &mut *held else { return };
        let why = match (&mut *content, result) {
            (Ok(_), Err(Failure::Unreached(_) | Failure::Store(_))) | (Err(_), _) => return,
            (Ok(_), Err(Failure::Refused(refused))) if refused.status == 400 => {
                "the store does not accept the secret id that was in it; a new one is needed"
            }
            (Ok(_), Err(Failure::Refused(refused))) if is_no(refused) || refused.is_explained() => return,
            (Ok(SecretId { uses: None, .. }), _) => return,
            (Ok(SecretId { uses: Some(uses), .. }), _) => {
                *uses = uses.saturating_sub(1);
                if *uses > 0 {
                    return;
                }
                "the secret id that was in it is used up; a new one is needed"
            }
        };
        *content = Err(self.failed(why));
    }

    /// Not of one that is used up or was refused: that is what its login said.
    async fn warning(&self) -> Option<String> {
        let held = self.held.lock().await;
        let Some(Held { content: Ok(SecretId { end: Some((whole, end)), .. }), .. }) = &*held else { return None };
        let left = end.saturating_duration_since(Instant::now());
        let minutes = left.as_secs().checked_div(60)?;
        let when = match (minutes, minutes.checked_div(60)?) {
            _ if left.is_zero() => "has ended".to_owned(),
            (minutes, 0) => format!("ends in {minutes} min"),
            (_, hours) => format!("ends in {hours} h"),
        };
        is_near(*whole, left).then(|| format!("the secret id that came wrapped {when}, and with it logins: a new one is needed"))
    }

    fn failed(&self, why: &str) -> StoreError {
        StoreError::new(StoreErrorKind::LoginFailed, format!("auth.wrapped_secret_id: {why}"))
    }
}

#[cfg(test)]
mod tests;
