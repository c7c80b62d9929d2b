//! The keys of a store of `type: env`. Their comments are the schema's descriptions.

use schemars::JsonSchema;
use serde::Deserialize;

/// A store of `type: env`: environment variables of Keyward's process. A variable that holds a JSON object has keys.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Settings {
    /// Only variables whose names begin like this may be read, and references name them in full. Default: any.
    #[serde(default)]
    pub(crate) prefix: Option<String>,
}
