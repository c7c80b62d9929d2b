//! The keys of PostgreSQL in the file, beside the generic ones of a listener and a connection.

use std::borrow::Cow;
use std::fmt;

use keyward_auth::Verifier;
use keyward_config::{Config, Connection, Listener, Problems};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

/// A listener that speaks PostgreSQL.
#[derive(serde::Deserialize, JsonSchema, Default)]
#[serde(default)]
pub(super) struct ListenerSettings {
    /// How users prove who they are: `scram` (SCRAM-SHA-256, with channel binding inside TLS) or `cleartext` (the password itself, inside
    /// TLS, for users whose stored form is argon2id). Default `scram`.
    pub(super) login: LoginMethod,
}

/// How users prove who they are.
#[derive(serde::Deserialize, JsonSchema, Default, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub(super) enum LoginMethod {
    /// SCRAM-SHA-256 and SCRAM-SHA-256-PLUS.
    #[default]
    Scram,
    /// The password, inside TLS or on this machine only.
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
    pub(super) require_auth: Methods,
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

/// How much the relay knows.
#[derive(serde::Deserialize, JsonSchema, Default, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub(super) enum RelayMode {
    /// Message boundaries from the server.
    #[default]
    Tracked,
    /// Nothing.
    Raw,
}

/// Databases that users may ask for.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Databases {
    /// Whatever the server has.
    Any,
    /// These, beside the connection's own.
    These(Vec<String>),
}

/// The logins that a server may ask for.
#[derive(Default, PartialEq, Eq, Debug)]
pub(super) struct Methods(Option<Vec<Method>>);

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
    /// The database on the server.
    #[must_use]
    pub(super) fn own_database(&self) -> &str {
        self.database.as_deref().unwrap_or("postgres")
    }

    /// Whether a user may ask for this database.
    #[must_use]
    pub(super) fn serves(&self, database: &str) -> bool {
        database == self.own_database()
            || match &self.databases {
                Databases::Any => true,
                Databases::These(names) => names.iter().any(|name| name == database),
            }
    }
}

impl Methods {
    /// Whether the server may ask for this.
    #[must_use]
    pub(super) fn allow(&self, method: Method) -> bool {
        self.0.as_ref().is_none_or(|allowed| allowed.contains(&method))
    }
}

/// What the types cannot say by themselves.
pub(super) fn check(connection: &Connection, problems: &mut Problems) {
    let at = format!("connections.{}", connection.name.value);
    let settings = connection.settings.downcast_ref::<ConnectionSettings>();
    let password =
        settings.and_then(|settings| settings.require_auth.0.as_ref()).is_some_and(|methods| methods.contains(&Method::Password));
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

impl Default for Databases {
    fn default() -> Self {
        Self::These(Vec::new())
    }
}

impl<'de> Deserialize<'de> for Databases {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match deserializer.deserialize_any(Words("`any` or a list of database names"))? {
            WordOrList::Word(word) if word == "any" => Self::Any,
            WordOrList::Word(_) => return Err(de::Error::custom("expected `any` or a list of database names")),
            WordOrList::List(names) => Self::These(names),
        })
    }
}

impl<'de> Deserialize<'de> for Methods {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const FORM: &str = "`scram-sha-256`, `md5`, `password`, `none`, or a list of them";
        let words = match deserializer.deserialize_any(Words(FORM))? {
            WordOrList::Word(word) => vec![word],
            WordOrList::List(words) => words,
        };
        let method = |word: &String| match word.as_str() {
            "scram-sha-256" => Ok(Method::Scram),
            "md5" => Ok(Method::Md5),
            "password" => Ok(Method::Password),
            "none" => Ok(Method::None),
            _ => Err(de::Error::custom(format!("expected {FORM}"))),
        };
        words.iter().map(method).collect::<Result<_, _>>().map(|methods| Self(Some(methods)))
    }
}

enum WordOrList {
    Word(String),
    List(Vec<String>),
}

struct Words(&'static str);

impl<'de> Visitor<'de> for Words {
    type Value = WordOrList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<WordOrList, E> {
        Ok(WordOrList::Word(word.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<WordOrList, A::Error> {
        let mut words = Vec::new();
        while let Some(word) = items.next_element::<String>()? {
            words.push(word);
        }
        Ok(WordOrList::List(words))
    }
}

impl JsonSchema for Databases {
    fn schema_name() -> Cow<'static, str> {
        "Databases".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "oneOf": [{ "const": "any" }, { "type": "array", "items": { "type": "string" } }] })
    }
}

impl JsonSchema for Methods {
    fn schema_name() -> Cow<'static, str> {
        "RequireAuth".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let method = generator.subschema_for::<Method>();
        json_schema!({ "oneOf": [method, { "type": "array", "items": method }] })
    }
}
