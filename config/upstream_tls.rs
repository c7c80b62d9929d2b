//! How the upstream's server is verified.

use std::borrow::Cow;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, IntoDeserializer};

use crate::read::TextOr;
use crate::scope;

/// How the upstream's server is verified. In the file either a mode alone (`tls: verify-full`) or a mapping.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamTls {
    /// What is checked. Default: `verify-full`.
    pub mode: TlsMode,
    /// PEM file of the authorities to trust instead of the system's.
    #[serde(deserialize_with = "scope::optional_path")]
    pub ca: Option<PathBuf>,
    /// PEM file of the certificate chain to show to the upstream. With `private_key`, or neither.
    #[serde(deserialize_with = "scope::optional_path")]
    pub certificate: Option<PathBuf>,
    /// PEM file of the key to `certificate`.
    #[serde(deserialize_with = "scope::optional_path")]
    pub private_key: Option<PathBuf>,
    /// The name to ask for and to verify, instead of the host in `address`.
    pub server_name: Option<String>,
    /// `sha256:` and the base64 of the SHA-256 of the server's SubjectPublicKeyInfo. Verifies the server by itself, in every mode but `disable`.
    pub pinned_key: Option<String>,
}

/// What is checked of an upstream's certificate; the names are libpq's `sslmode`.
#[derive(Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// No TLS.
    Disable,
    /// TLS, nothing verified: needs `insecure` or `pinned_key`.
    Require,
    /// The chain, not the name.
    VerifyCa,
    /// The chain and the name.
    #[default]
    VerifyFull,
}

/// Either form of the key `tls`: a mode alone, or the mapping.
pub struct TlsInput(pub UpstreamTls);

impl<'de> Deserialize<'de> for TlsInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match TextOr::<UpstreamTls>::deserialize(deserializer)? {
            TextOr::Map(tls) if tls.certificate.is_some() != tls.private_key.is_some() => {
                Err(D::Error::custom("expected `certificate` and `private_key` together, or neither"))
            }
            TextOr::Map(tls) => Ok(Self(tls)),
            TextOr::Text(word) => {
                Ok(Self(UpstreamTls { mode: TlsMode::deserialize(word.as_str().into_deserializer())?, ..Default::default() }))
            }
        }
    }
}

impl JsonSchema for TlsInput {
    fn schema_name() -> Cow<'static, str> {
        "UpstreamTlsOrMode".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (mode, mapping) = (generator.subschema_for::<TlsMode>(), generator.subschema_for::<UpstreamTls>());
        json_schema!({ "anyOf": [mode, mapping] })
    }
}
