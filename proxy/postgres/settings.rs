//! The keys of PostgreSQL in the file, beside the generic ones of a listener and a connection.

use keyward_auth::{Grant, Verifier};
use keyward_config::{Config, Connection, Listener, Problems};
use schemars::JsonSchema;

use crate::error::SessionError;
use crate::settings::{self, Databases, Methods, RelayMode};

/// A listener that speaks PostgreSQL.
#[derive(serde::Deserialize, JsonSchema, Default)]
#[serde(default)]
pub(super) struct ListenerSettings {
    /// How users prove who they are: `scram` (SCRAM-SHA-256, with channel binding inside TLS) or `cleartext` (the password itself, so that
    /// the stored form may be argon2id). From another machine both are taken inside TLS only. Default `scram`.
    pub(super) login: LoginMethod,
}

/// How users prove who they are.
#[derive(serde::Deserialize, JsonSchema, Default, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub(super) enum LoginMethod {
    /// SCRAM-SHA-256 and SCRAM-SHA-256-PLUS.
    #[default]
    Scram,
    /// The password itself.
    Cleartext,
}

/// A connection to PostgreSQL.
#[derive(serde::Deserialize, JsonSchema, Default)]
#[serde(default)]
pub(super) struct ConnectionSettings {
    /// The database on the server. Default `postgres`.
    pub(super) database: Option<String>,
    /// Other databases that a user may ask for when the login or the listener names the connection: a list, or `any`. Default: none.
    pub(super) databases: Databases,
    /// What the server sees as `application_name`: `prefix` puts the user before the client's own (`alice via psql`), `keep` leaves
    /// it. Default `prefix`; replication is always left alone.
    pub(super) application_name: ApplicationName,
    /// Whether replication connections are allowed. Default `false`.
    pub(super) replication: bool,
    /// The logins that the server may ask for, in libpq's words: `scram-sha-256`, `md5`, `password`, `none`. Default: any, and `md5` and
    /// `password` only of a verified server.
    pub(super) require_auth: Methods<Method>,
    /// `tracked` knows message boundaries, for notices and a clean end; `raw` only moves bytes. Default `tracked`.
    pub(super) relay: RelayMode,
}

/// What the server sees as `application_name`.
#[derive(serde::Deserialize, JsonSchema, Default, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub(super) enum ApplicationName {
    /// `alice via psql`.
    #[default]
    Prefix,
    /// As the client says.
    Keep,
}

/// A login that a server asks for, in libpq's words.
#[derive(serde::Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Method {
    /// SCRAM-SHA-256, with or without channel binding.
    #[serde(rename = "scram-sha-256")]
    Scram,
    /// MD5.
    Md5,
    /// The password as it is.
    Password,
    /// Nothing: `trust`.
    None,
}

impl ConnectionSettings {
    /// Those of a grant's connection.
    ///
    /// # Errors
    /// `Internal`: it is not of this protocol.
    pub(super) fn of(grant: &Grant) -> Result<&Self, SessionError> {
        settings::of(grant)
    }

    /// The database on the server.
    #[must_use]
    pub(super) fn own_database(&self) -> &str {
        self.database.as_deref().unwrap_or("postgres")
    }

    /// Whether a user may ask for this database.
    #[must_use]
    pub(super) fn serves(&self, database: &str) -> bool {
        database == self.own_database() || self.databases.allow(database)
    }
}

/// What the types cannot say by themselves.
pub(super) fn check(connection: &Connection, problems: &mut Problems) {
    let at = format!("connections.{}", connection.name.value);
    let settings = connection.settings.downcast_ref::<ConnectionSettings>();
    let password = settings.is_some_and(|settings| settings.require_auth.names(Method::Password));
    if let Some(insecure) = connection.insecure.as_ref().filter(|_| password) {
        let text = "`password` is never sent to a server that is not verified (`insecure`)";
        problems.warning(insecure.span, format!("{at}.require_auth"), text);
    }
    for (name, account) in &connection.accounts {
        for key in [&account.private_key, &account.passphrase].into_iter().flatten() {
            problems.warning(key.span, format!("{at}.accounts.{name}"), "PostgreSQL takes no private key: it is not used");
        }
    }
}

/// Names the users who cannot log in here: an argon2id hash cannot serve SCRAM.
pub(super) fn check_listener(listener: &Listener, config: &Config, problems: &mut Problems) {
    let scram = listener.settings.downcast_ref::<ListenerSettings>().is_none_or(|settings| settings.login == LoginMethod::Scram);
    for (name, user) in config.users.iter().filter(|_| scram) {
        let Some(password) = &user.password else { continue };
        if Verifier::parse(password.expose()).is_ok_and(|verifier| !verifier.serves_scram()) {
            let text = format!("cannot log in at the listener {}: an argon2id hash needs `login: cleartext` there", listener.address.value);
            problems.warning(password.span, format!("users.{name}.password"), text);
        }
    }
}
