//! The keys of a store of `type: vault`. Their comments are the schema's descriptions.

use keyward_config::{FilePath, Period, Reason, SecretInput};
use schemars::JsonSchema;
use serde::Deserialize;

/// A store of `type: vault`: HashiCorp Vault or OpenBao.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Settings {
    /// Where it is: `https://vault.internal:8200`. Plain http only to this machine, or with `insecure`.
    pub(crate) address: String,
    /// The namespace, for both the login and the secrets.
    #[serde(default)]
    pub(crate) namespace: Option<String>,
    /// PEM file of the only authorities to trust, instead of the system's.
    #[serde(default)]
    pub(crate) ca_cert: Option<FilePath>,
    /// The same as text: base64 of PEM or DER.
    #[serde(default)]
    pub(crate) ca_cert_base64: Option<String>,
    /// PEM file of the certificate chain to show to the server.
    #[serde(default)]
    pub(crate) client_cert: Option<FilePath>,
    /// PEM file of the key to `client_cert`.
    #[serde(default)]
    pub(crate) client_key: Option<FilePath>,
    /// The name to ask for and to verify, instead of the host in `address`.
    #[serde(default)]
    pub(crate) tls_server_name: Option<String>,
    /// Why this server need not be verified: no certificate is checked, and plain http is allowed to anywhere.
    #[serde(default)]
    pub(crate) insecure: Option<Reason>,
    /// How long one call may take until its answer begins. Default 10 s.
    #[serde(default)]
    pub(crate) timeout: Option<Period>,
    /// How Keyward proves to the store who it is.
    pub(crate) auth: Auth,
}

/// How Keyward proves to the store who it is.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Auth {
    /// The auth method.
    pub(crate) method: Method,
    /// Where the method is mounted. Default: its own name.
    #[serde(default)]
    pub(crate) mount: Option<String>,
    /// `method: token`: the token. From a file it is read again when the store stops to know it.
    #[serde(default)]
    pub(crate) token: Option<SecretInput>,
    /// `method: approle`: the role's id.
    #[serde(default)]
    pub(crate) role_id: Option<SecretInput>,
    /// `method: approle`: the role's secret id. From a file it is read again at each login. Absent: the role has none.
    #[serde(default)]
    pub(crate) secret_id: Option<SecretInput>,
}

/// An auth method.
#[derive(Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Method {
    /// A token that someone else made.
    Token,
    /// AppRole: a role id and a secret id.
    Approle,
}

impl Settings {
    /// The namespace in the form in which it is sent; empty for none.
    pub(crate) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("").trim().trim_matches('/')
    }
}
