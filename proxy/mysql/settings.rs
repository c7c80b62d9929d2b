//! The keys of MySQL and MariaDB in the file, beside the generic ones of a listener and a connection.

use std::path::Path;

use keyward_auth::Grant;
use keyward_config::{Config, Connection, FilePath, Listener, Problems, read_file};
use schemars::JsonSchema;

use super::PUBLIC_KEY_MAX;
use super::upstream::check_server_key;
use crate::error::SessionError;
use crate::settings::{self, Databases, Methods, RelayMode};

/// A listener that speaks MySQL's protocol.
#[derive(serde::Deserialize, JsonSchema, Default)]
#[serde(default)]
pub(super) struct ListenerSettings {
    /// How users prove who they are: `caching_sha2_password` (what mysql and the drivers do by themselves) or `cleartext`
    /// (mysql_clear_password, inside TLS or on this machine: for tokens; the mysql client then needs `--enable-cleartext-plugin`). Default
    /// `caching_sha2_password`.
    pub(super) login: LoginMethod,
}

/// How users prove who they are.
#[derive(serde::Deserialize, JsonSchema, Default, Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LoginMethod {
    /// caching_sha2_password, always with full authentication.
    #[default]
    #[serde(rename = "caching_sha2_password")]
    CachingSha2,
    /// mysql_clear_password, inside TLS or on this machine only.
    #[serde(rename = "cleartext")]
    Cleartext,
}

/// A connection to MySQL or MariaDB.
#[derive(serde::Deserialize, JsonSchema, Default)]
#[serde(default)]
pub(super) struct ConnectionSettings {
    /// The database on the server. Default: none is chosen at login.
    pub(super) database: Option<String>,
    /// Other databases that a user may name at the login when the login name or the listener names the connection: a list, or `any`.
    /// Default: none. What the session uses later is between the account and the server.
    pub(super) databases: Databases,
    /// Whether a client may dump the binary log, as replicas and change-data-capture tools do. Default `false`.
    pub(super) replication: bool,
    /// Whether `LOAD DATA LOCAL INFILE` may send files of the client. Default `false`.
    pub(super) local_infile: bool,
    /// The logins that the server may ask for, in its own words: `mysql_native_password`, `caching_sha2_password`, `sha256_password`,
    /// `client_ed25519`, `parsec`, `mysql_clear_password`. Default: any, and a clear-text password only of a verified server.
    pub(super) require_auth: Methods<Method>,
    /// The server's RSA key for caching_sha2_password and sha256_password without TLS: a PEM file, as `SHOW STATUS LIKE
    /// 'Caching_sha2_password_rsa_public_key'` shows it. Default: none; a key that only the server itself gives is taken on this machine alone.
    pub(super) server_public_key: Option<FilePath>,
    /// `tracked` knows packet boundaries, for a clean end with a reason; `raw` only moves what the server sends. Default `tracked`.
    pub(super) relay: RelayMode,
}

/// A login that a server asks for, by the name of its plugin.
#[derive(serde::Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "MysqlMethod")]
pub(super) enum Method {
    /// SHA-1, of MariaDB and old MySQL servers.
    MysqlNativePassword,
    /// The default of MySQL 8 and later.
    #[serde(rename = "caching_sha2_password")]
    CachingSha2Password,
    /// SHA-256 without a cache.
    #[serde(rename = "sha256_password")]
    Sha256Password,
    /// MariaDB's ed25519.
    #[serde(rename = "client_ed25519")]
    ClientEd25519,
    /// MariaDB's parsec.
    Parsec,
    /// The password itself: for PAM and LDAP on the server.
    MysqlClearPassword,
}

impl ConnectionSettings {
    /// Those of a grant's connection.
    ///
    /// # Errors
    /// `Internal`: it is not of this protocol.
    pub(super) fn of(grant: &Grant) -> Result<&Self, SessionError> {
        settings::of(grant)
    }

    /// Whether the file names this database.
    #[must_use]
    pub(super) fn names(&self, database: &str) -> bool {
        self.database.as_deref() == Some(database) || self.databases.names(database)
    }

    /// Whether a user may name this database at the login.
    #[must_use]
    pub(super) fn serves(&self, database: &str) -> bool {
        self.database.as_deref() == Some(database) || self.databases.allow(database)
    }
}

/// Reads a public key in PEM.
///
/// # Errors
/// A text for the operator.
pub(super) fn public_key(path: &Path) -> Result<Vec<u8>, String> {
    let pem = read_file(path, PUBLIC_KEY_MAX).map_err(|text| format!("server_public_key: {text}"))?.to_vec();
    check_server_key(&pem).map_err(|text| format!("server_public_key {}: {text}", path.display()))?;
    Ok(pem)
}

/// What the types cannot say by themselves.
pub(super) fn check(connection: &Connection, problems: &mut Problems) {
    let at = format!("connections.{}", connection.name.value);
    let Some(settings) = connection.settings.downcast_ref::<ConnectionSettings>() else { return };
    if let Some(insecure) = connection.insecure.as_ref().filter(|_| settings.require_auth.names(Method::MysqlClearPassword)) {
        let text = "`mysql_clear_password` is never sent to a server that is not verified (`insecure`)";
        problems.warning(insecure.span, format!("{at}.require_auth"), text);
    }
    if let Some(path) = &settings.server_public_key
        && let Err(text) = public_key(path.as_ref())
    {
        problems.error(connection.name.span, format!("{at}.server_public_key"), text);
    }
    for (name, account) in &connection.accounts {
        for key in [&account.private_key, &account.passphrase].into_iter().flatten() {
            problems.warning(key.span, format!("{at}.accounts.{name}"), "MySQL takes no private key: it is not used");
        }
    }
}

/// Nothing: caching_sha2_password with full authentication, and clear text, serve every stored form of a password.
pub(super) fn check_listener(_: &Listener, _: &Config, _: &mut Problems) {}
