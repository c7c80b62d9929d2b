//! A user: the person or workload behind a client.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{Name, Protected, Span, Spanned};

/// A user as the file declares him.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(default)]
pub struct User {
    /// A password verifier made by `keyward user hash`: `SCRAM-SHA-256$…` or `$argon2id$…`. Never a password.
    pub password: Option<Spanned<Protected>>,
    /// OpenSSH public keys, one string each.
    pub public_keys: Vec<Spanned<String>>,
    /// The groups that access rules may name.
    pub groups: Vec<Name>,
    /// Where his name stands.
    #[serde(skip)]
    pub span: Span,
}
