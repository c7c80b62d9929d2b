//! A connection: a registered asset, its address, and where its credential lives.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{Name, Node, Period, Settings, Spanned};

/// A registered asset as the file declares it. The generic keys; those of its protocol are in `settings`.
pub struct Connection {
    /// What users call it.
    pub name: Spanned<Name>,
    /// The name of its protocol's row.
    pub protocol: &'static str,
    /// Where it is.
    pub address: Spanned<UpstreamAddress>,
    /// The store of its references, where they name none.
    pub store: Option<Spanned<Name>>,
    /// How its server is verified. `None`: `verify-full`, and `disable` on loopback and unix sockets.
    pub tls: Option<Spanned<UpstreamTls>>,
    /// Why an upstream that cannot be verified may still be given a secret.
    pub insecure: Option<Spanned<String>>,
    /// Named logins, at least one. A connection that names none has `default`.
    pub accounts: BTreeMap<Name, Account>,
    /// Limits of its own.
    pub limits: ConnectionLimits,
    /// The settings type of its protocol.
    pub settings: Settings,
    /// The entry itself, to tell whether a reload changed it.
    pub node: Node,
}

/// A named login on a connection. The real login stays in the store.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(default)]
pub struct Account {
    /// One reference that gives user and secret: a dynamic role (`db/creds/role`), a static role (`db/static-creds/role`) or a
    /// whole secret with the keys `username` and `password`.
    #[serde(alias = "account")]
    pub credential: Option<Spanned<CredentialField>>,
    /// The login name on the asset.
    pub username: Option<Spanned<CredentialField>>,
    /// The password on the asset.
    pub password: Option<Spanned<CredentialField>>,
    /// A private key in PEM or OpenSSH form.
    pub private_key: Option<Spanned<CredentialField>>,
    /// What decrypts `private_key`.
    pub passphrase: Option<Spanned<CredentialField>>,
}

/// One part of a credential: a plain string is a reference into the store (`prod_db/data/mysql?username`); anything else says
/// what it is: `{ literal: … }`, `{ file: … }` or `{ env: … }`.
pub enum CredentialField {
    /// A reference, not yet parsed: its grammar is the store's.
    Reference(String),
    /// A value in the file itself, or in a file or variable that it names. For throw-away use; `check` says so.
    Given(crate::SecretInput),
}

/// Limits of one connection; absent: those of the top level.
#[derive(Deserialize, JsonSchema, Default, Clone)]
#[serde(default)]
pub struct ConnectionLimits {
    /// Sessions at one time on this connection, of all users together.
    pub max_sessions: Option<u32>,
    /// A session in which no byte moved for this long is ended.
    pub idle_timeout: Option<Period>,
    /// A session is ended when it is this old.
    pub max_lifetime: Option<Period>,
}

/// Where an upstream is: `host:port`, `[v6]:port`, or the absolute path of a unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamAddress {
    /// A host name or address literal with a port. A missing port is the protocol's own.
    Tcp {
        /// A DNS name or an address literal, without brackets.
        host: String,
        /// `None`: the protocol's default port.
        port: Option<u16>,
    },
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// How the upstream's server is verified. In the file either a mode alone (`tls: verify-full`) or a mapping.
#[derive(Clone)]
pub struct UpstreamTls {
    /// What is checked.
    pub mode: TlsMode,
    /// PEM file of the authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// PEM file of the certificate chain to show to the upstream.
    pub certificate: Option<PathBuf>,
    /// PEM file of the key to `certificate`.
    pub private_key: Option<PathBuf>,
    /// The name to ask for and to verify, instead of the host in `address`.
    pub server_name: Option<String>,
    /// `sha256:` and the base64 of the SHA-256 of the server's SubjectPublicKeyInfo. Verifies the server by itself, in every mode but `disable`.
    pub pinned_key: Option<String>,
}

/// What is checked of an upstream's certificate; the names are libpq's `sslmode`.
#[derive(Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// No TLS.
    Disable,
    /// TLS, nothing verified: needs `insecure` or `pinned_key`.
    Require,
    /// The chain, not the name.
    VerifyCa,
    /// The chain and the name.
    VerifyFull,
}
