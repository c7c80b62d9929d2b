//! The keys of a store of `type: table`. Their comments are the schema's descriptions.

use keyward_config::{SecretInput, TlsInput, UpstreamAddress};
use schemars::JsonSchema;
use serde::Deserialize;

/// A store of `type: table`: a table in PostgreSQL that has one secret in each row.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Settings {
    /// Where PostgreSQL is: host:port, [IPv6]:port, or the absolute path of a unix socket; the port may be left out.
    pub(crate) address: UpstreamAddress,
    /// The database that the table is in.
    pub(crate) database: String,
    /// The table, with its schema if need be: `keep.secret`. Upper and lower case count. Default: `secret`.
    #[serde(default = "table")]
    pub(crate) table: String,
    /// The column of the secrets' names. Default: `key`.
    #[serde(default = "key_column")]
    pub(crate) key_column: String,
    /// The column of the secrets: texts or JSON objects. Default: `value`.
    #[serde(default = "value_column")]
    pub(crate) value_column: String,
    /// The login. One that may do nothing but read this table is best.
    pub(crate) username: SecretInput,
    /// Its password. Absent: the server asks for none.
    #[serde(default)]
    pub(crate) password: Option<SecretInput>,
    /// How the server is verified, as for connections. Default: verify-full; on loopback and unix sockets disable.
    #[serde(default)]
    pub(crate) tls: Option<TlsInput>,
    /// What the values are encrypted by (`v1:…`, made by `keyward secret seal`): 32 bytes in base64, or a passphrase. Then no other value counts.
    #[serde(default)]
    pub(crate) key: Option<SecretInput>,
}

fn table() -> String {
    "secret".to_owned()
}

fn key_column() -> String {
    "key".to_owned()
}

fn value_column() -> String {
    "value".to_owned()
}
