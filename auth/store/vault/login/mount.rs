//! Where an auth method is mounted.

use crate::store::vault::client::encode;

/// A mount as users write it: `approle`, `/approle/`, `auth/approle`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount(String);

impl Mount {
    /// # Errors
    /// It is none; the text names the key in the file.
    pub(super) fn read(key: &str, text: Option<&str>, default: &str) -> Result<Self, String> {
        let text = text.unwrap_or(default).trim().trim_matches('/');
        let text = text.strip_prefix("auth/").unwrap_or(text);
        if text.split('/').all(is_segment) { Ok(Self(text.to_owned())) } else { Err(format!("{key}: write it as `{default}`")) }
    }

    /// The path of an endpoint of the method, as it is sent.
    pub(super) fn path<'a>(&'a self, rest: impl IntoIterator<Item = &'a str>) -> String {
        encode(["auth"].into_iter().chain(self.0.split('/')).chain(rest))
    }

    /// The path at which the secret ids of a role are made, as the server names it: where a wrapping token must come from.
    pub(super) fn secret_id_path(&self, role: &str) -> String {
        format!("auth/{}/role/{role}/secret-id", self.0)
    }

    /// For messages.
    pub(super) fn shown(&self) -> String {
        format!("auth/{}", self.0)
    }
}

/// Whether a text may be one step of a path.
pub(super) fn is_segment(text: &str) -> bool {
    !matches!(text, "" | "." | "..") && text.chars().all(|c| !c.is_control() && !"\\?#%*+/".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Mount, String> {
        Mount::read("auth.mount", Some(text), "approle")
    }

    #[test]
    fn a_mount_is_understood_in_every_spelling() {
        for text in ["approle", "/approle/", "auth/approle", " auth/approle/ ", "/auth/approle"] {
            assert_eq!(read(text).unwrap().path(["login"]), "auth/approle/login", "{text}");
        }
        assert_eq!(read("team/nested/a b").unwrap().path(["login"]), "auth/team/nested/a%20b/login");
        assert_eq!(read("team/nested/a b").unwrap().secret_id_path("r"), "auth/team/nested/a b/role/r/secret-id");
        assert_eq!(read("auth/auth/x").unwrap().shown(), "auth/auth/x");
        assert_eq!(Mount::read("auth.mount", None, "jwt").unwrap().shown(), "auth/jwt");
        for text in ["", "/", "a//b", "../x", "a/../b", "a?b", "a%2fb"] {
            assert_eq!(read(text).unwrap_err(), "auth.mount: write it as `approle`", "{text}");
        }
    }
}
