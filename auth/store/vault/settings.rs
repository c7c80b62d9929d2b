//! The keys of a store of `type: vault`. Their comments are the schema's descriptions.

use std::borrow::Cow;
use std::fmt;

use keyward_config::{FilePath, Period, Reason};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use super::login::settings::Auth;

/// A store of `type: vault`: HashiCorp Vault or OpenBao.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Settings {
    /// Where it is: `https://vault.internal:8200`, or a list of the nodes of one cluster. Plain http only to this machine, or with `insecure`.
    /// Default: the environment variable BAO_ADDR or VAULT_ADDR. So have all keys a default that are below and have such a variable.
    #[serde(default)]
    pub(crate) address: Option<Addresses>,
    /// The namespace, for both the login and the secrets. Default: VAULT_NAMESPACE; else none.
    #[serde(default)]
    pub(crate) namespace: Option<String>,
    /// PEM file of the only authorities to trust, instead of the system's. Default: VAULT_CACERT.
    #[serde(default)]
    pub(crate) ca_cert: Option<FilePath>,
    /// The same as text: base64 of PEM or DER.
    #[serde(default)]
    pub(crate) ca_cert_base64: Option<String>,
    /// The same as a folder: all certificates in its files. Default: VAULT_CAPATH.
    #[serde(default)]
    pub(crate) ca_path: Option<FilePath>,
    /// PEM file of the certificate chain to show to the server. Default: VAULT_CLIENT_CERT.
    #[serde(default)]
    pub(crate) client_cert: Option<FilePath>,
    /// PEM file of the key to `client_cert`. Default: VAULT_CLIENT_KEY.
    #[serde(default)]
    pub(crate) client_key: Option<FilePath>,
    /// The name to ask for and to verify, instead of the host in `address`. Default: VAULT_TLS_SERVER_NAME.
    #[serde(default)]
    pub(crate) tls_server_name: Option<String>,
    /// Why this server need not be verified: no certificate is checked, and plain http is allowed to anywhere.
    #[serde(default)]
    pub(crate) insecure: Option<Reason>,
    /// How long one call may take until its answer begins. Default: VAULT_CLIENT_TIMEOUT; else 10s.
    #[serde(default)]
    pub(crate) timeout: Option<Period>,
    /// How Keyward proves to the store who it is. Default: by the token in VAULT_TOKEN.
    #[serde(default)]
    pub(crate) auth: Option<Auth>,
}

/// Where a store is: one address, or those of all nodes of one cluster.
pub(crate) struct Addresses(Vec<String>);

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Addresses;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address such as https://vault.internal:8200, or a list of them")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Addresses, E> {
                Ok(Addresses(vec![text.trim().to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Addresses, A::Error> {
                let mut all: Vec<String> = Vec::new();
                while let Some(address) = items.next_element::<String>()? {
                    all.push(address.trim().to_owned());
                }
                if all.is_empty() { Err(A::Error::invalid_length(0, &self)) } else { Ok(Addresses(all)) }
            }
        }
        deserializer.deserialize_any(OneOrMore)
    }
}

impl JsonSchema for Addresses {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Addresses".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" }, "minItems": 1 }] })
    }
}

impl Settings {
    /// # Errors
    /// What neither the file nor the environment says, all of it.
    pub(crate) fn are_whole(&self) -> Result<(), String> {
        let missing: Vec<String> = [self.addresses().err(), self.auth().err()].into_iter().flatten().collect();
        if missing.is_empty() { Ok(()) } else { Err(missing.join("; ")) }
    }

    /// Where the server is: at least one address, or that of every node of one cluster, in the order of the file.
    ///
    /// # Errors
    /// Neither the file nor the environment says it.
    pub(crate) fn addresses(&self) -> Result<&[String], String> {
        let missing = "there is no address: write `address: https://vault.internal:8200`, or set VAULT_ADDR (or BAO_ADDR)";
        self.address.as_ref().map(|Addresses(all)| all.as_slice()).ok_or_else(|| missing.to_owned())
    }

    /// # Errors
    /// Neither the file nor the environment says how to log in.
    pub(crate) fn auth(&self) -> Result<&Auth, String> {
        self.auth.as_ref().ok_or_else(|| "there is no way to log in: write `auth:`, or set VAULT_TOKEN (or BAO_TOKEN)".to_owned())
    }

    /// The namespace in the form in which it is sent; empty for none.
    pub(crate) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("").trim().trim_matches('/')
    }

    /// The namespace of the login in the form in which it is sent; empty for none.
    pub(crate) fn login_namespace(&self) -> &str {
        self.auth.as_ref().and_then(Auth::namespace).map_or(self.namespace(), |namespace| namespace.trim().trim_matches('/'))
    }
}
