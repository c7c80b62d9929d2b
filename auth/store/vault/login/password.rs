//! A user name and a password: userpass, and LDAP, which has the same form (vault.md §4.5).

use std::sync::Arc;

use serde_json::json;

use super::mount::{Mount, is_segment};
use super::post::Post;
use super::settings::PasswordKeys;
use crate::store::{Input, Outer, StoreError};

const HINTS: &[(u16, &str)] = &[(403, "a wrong mount, or the user is locked for 15 minutes after five wrong passwords")];

/// The login of a user.
pub(in crate::store::vault) struct Password {
    mount: Mount,
    username: String,
    password: Input,
}

impl Password {
    pub(super) fn new(keys: &PasswordKeys, method: &str, outer: &Arc<dyn Outer>) -> Result<Self, String> {
        let username = keys.username.trim();
        if !is_segment(username) {
            return Err("auth.username: a name without / and without control characters".to_owned());
        }
        Ok(Self {
            mount: Mount::read("auth.mount", keys.mount.as_deref(), method)?,
            username: username.to_owned(),
            password: Input::new("auth.password", &keys.password, outer),
        })
    }

    pub(super) async fn prepare(&self) -> Result<Post, StoreError> {
        let password = self.password.read().await?;
        let proves = [self.username.as_bytes(), password.as_bytes()];
        Ok(Post::new(&self.mount, &["login", &self.username], json!({ "password": password.as_str() }), &proves, HINTS).locking())
    }
}
