//! The rows of protocols and stores that these tests have: the keys of the real ones, as far as the example has them.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::*;

/// A listener's own keys, as a protocol would have them.
#[derive(Deserialize, JsonSchema)]
#[allow(dead_code)]
pub(super) struct DoorKeys {
    pub(super) login: Option<String>,
}

/// A connection's own keys.
#[derive(Deserialize, JsonSchema)]
#[allow(dead_code)]
pub(super) struct AssetKeys {
    pub(super) database: Option<String>,
    pub(super) databases: Option<serde_json::Value>,
    pub(super) application_name: Option<String>,
    #[serde(default)]
    pub(super) replication: bool,
    pub(super) require_auth: Option<serde_json::Value>,
    pub(super) relay: Option<String>,
    pub(super) local_infile: Option<bool>,
    pub(super) server_public_key: Option<String>,
}

/// The same of a protocol whose connections are servers.
#[derive(Deserialize, JsonSchema)]
#[allow(dead_code)]
pub(super) struct GateKeys {
    pub(super) login: Option<Vec<String>>,
    pub(super) trusted_user_ca_keys: Option<Vec<String>>,
    pub(super) revoked_keys: Option<FilePath>,
    pub(super) rekey_limit: Option<String>,
    pub(super) strict_kex: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[allow(dead_code)]
pub(super) struct ServerKeys {
    pub(super) host_keys: Option<Vec<String>>,
    pub(super) known_hosts: Option<FilePath>,
    pub(super) host_ca: Option<Vec<String>>,
    pub(super) rekey_limit: Option<String>,
    pub(super) strict_kex: Option<String>,
}

/// A rule's own keys.
#[derive(Deserialize, JsonSchema)]
#[allow(dead_code)]
pub(super) struct RuleKeys {
    pub(super) channels: Option<Vec<String>>,
    pub(super) jump_login: Option<String>,
}

/// A store's own keys.
#[derive(Deserialize, JsonSchema)]
#[allow(dead_code)]
pub(super) struct VaultKeys {
    pub(super) address: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) timeout: Option<Period>,
    pub(super) ca_cert: Option<FilePath>,
    pub(super) client_cert: Option<FilePath>,
    pub(super) client_key: Option<FilePath>,
    pub(super) tls_server_name: Option<String>,
    pub(super) auth: Option<Auth>,
}

/// The same of stores that need no server of their own.
#[derive(Deserialize, JsonSchema)]
#[allow(dead_code)]
pub(super) struct FileKeys {
    pub(super) folder: Option<FilePath>,
    pub(super) sealed: Option<FilePath>,
    pub(super) key: Option<SecretInput>,
}

#[derive(Deserialize, JsonSchema)]
#[allow(dead_code)]
pub(super) struct EnvKeys {
    pub(super) prefix: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[allow(dead_code)]
pub(super) struct TableKeys {
    pub(super) address: UpstreamAddress,
    pub(super) database: String,
    pub(super) table: String,
    pub(super) key_column: String,
    pub(super) value_column: String,
    pub(super) username: SecretInput,
    pub(super) password: Option<SecretInput>,
    pub(super) tls: Option<TlsInput>,
    pub(super) key: Option<SecretInput>,
}

/// How the store is asked; tagged, so that serde buffers it.
#[derive(Deserialize, JsonSchema)]
#[serde(tag = "method", rename_all = "lowercase", deny_unknown_fields)]
#[allow(dead_code)]
pub(super) enum Auth {
    Approle { mount: Option<String>, role_id: SecretInput, secret_id: SecretInput },
    Token { token: Spanned<SecretInput> },
}

pub(super) const PROTOCOLS: [ProtocolSettings; 3] = [
    database("postgres"),
    database("mysql"),
    ProtocolSettings {
        name: "ssh",
        listener: Section::of::<GateKeys>(),
        connection: Section::of::<ServerKeys>(),
        access: Some(Section::of::<RuleKeys>()),
        assets: Assets::Servers,
    },
];

const fn database(name: &'static str) -> ProtocolSettings {
    let (listener, connection) = (Section::of::<DoorKeys>(), Section::of::<AssetKeys>());
    ProtocolSettings { name, listener, connection, access: None, assets: Assets::Databases }
}

pub(super) const STORES: [StoreSettings; 4] =
    [store::<VaultKeys>("vault"), store::<FileKeys>("file"), store::<EnvKeys>("env"), store::<TableKeys>("table")];

const fn store<T: DeserializeOwned + JsonSchema + Send + Sync + 'static>(name: &'static str) -> StoreSettings {
    StoreSettings { name, settings: Section::of::<T>(), from_environment: None }
}
