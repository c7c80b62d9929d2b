//! The keys of a store of `type: file`. Their comments are the schema's descriptions.

use keyward_config::{FilePath, SecretInput};
use schemars::JsonSchema;
use serde::Deserialize;

/// A store of `type: file`: a folder of files, or one sealed file.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Settings {
    /// A folder as Docker and Kubernetes mount secrets: each file is one, `*.json` has keys, and so has a folder in it, whose keys are its
    /// files. Links lead nowhere outside of it.
    #[serde(default)]
    pub(crate) folder: Option<FilePath>,
    /// Instead of `folder`: one encrypted file, written by `keyward secret`.
    #[serde(default)]
    pub(crate) sealed: Option<FilePath>,
    /// What `sealed` is encrypted by: 32 bytes in base64 (`keyward secret key` makes them), or a passphrase.
    #[serde(default)]
    pub(crate) key: Option<SecretInput>,
}
