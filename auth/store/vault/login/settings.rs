//! The keys of `auth:`. Their comments are the schema's descriptions.

use std::collections::BTreeMap;
use std::sync::Arc;

use keyward_config::{ByKey, Keys, Name, SecretInput, by_key};
use schemars::JsonSchema;
use serde::de::{Deserialize, Deserializer, SeqAccess};

use super::worker::Refused;

/// How Keyward proves to the store who it is.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(tag = "method", rename_all = "lowercase", remote = "Self")]
pub(crate) enum Auth {
    /// A token that someone else made.
    Token(TokenKeys),
    /// AppRole: a role id and a secret id; the secret id may come wrapped, or by way of a worker.
    Approle(Box<AppRoleKeys>),
    /// Kubernetes: the token of the service account that Keyward runs as.
    Kubernetes(KubernetesKeys),
    /// JWT: a token that an issuer signed whom the store trusts.
    Jwt(JwtKeys),
    /// The client certificate of the store, `client_cert`.
    Cert(CertKeys),
    /// A user name and a password that the store knows.
    Userpass(PasswordKeys),
    /// A user name and a password that an LDAP server behind the store knows.
    Ldap(PasswordKeys),
    /// AWS IAM: a signed request that shows the store which AWS identity we have.
    Aws(Box<AwsKeys>),
}

/// The keys of `method: token`.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenKeys {
    /// The token. A file is read again when it changes, and when the store stops to know the token.
    pub(crate) token: SecretInput,
    /// The namespace that the token belongs to, where it is not that of the secrets: `""` is the root. Default: the store's.
    pub(crate) namespace: Option<String>,
}

/// The keys of `method: approle`.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AppRoleKeys {
    /// Where the method is mounted. Default: its own name.
    pub(crate) mount: Option<String>,
    /// The namespace of the login, where it is not that of the secrets: `""` is the root. Default: the store's.
    pub(crate) namespace: Option<String>,
    /// The role's id.
    pub(crate) role_id: Option<SecretInput>,
    /// The role's secret id. A file is read again at each login. Absent, and no `wrapped_secret_id`: the role has none.
    pub(crate) secret_id: Option<SecretInput>,
    /// Instead of `secret_id`: a wrapping token that hides it, which is opened once. Either the token alone, or the JSON that `vault write
    /// -wrap-ttl=… -f -format=json auth/approle/role/NAME/secret-id` prints. A file that changes is read at once.
    pub(crate) wrapped_secret_id: Option<SecretInput>,
    /// The role's name: with `wrapped_secret_id`, so that nobody else's wrapping token is taken for the role's.
    pub(crate) role_name: Option<String>,
    /// Instead of the ids: a role that may do one thing, which is to have the secret ids of `runners` made and wrapped.
    pub(crate) worker: Option<WorkerKeys>,
    /// Roles that a worker gets secret ids for, by the names that connections may choose one with (`runner:`). Each has rights, and a
    /// token, of its own.
    #[serde(default)]
    pub(crate) runners: BTreeMap<Name, RunnerKeys>,
    /// Which of `runners` reads for connections that choose none. Needed where there are several.
    pub(crate) runner: Option<Name>,
}

/// The keys of `worker`.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorkerKeys {
    /// The worker's role id.
    pub(crate) role_id: SecretInput,
    /// The worker's secret id, which must be good for many logins. A file is read again at each.
    pub(crate) secret_id: SecretInput,
    /// Where its AppRole method is mounted. Default: as `auth.mount`.
    pub(crate) mount: Option<String>,
    /// What all its runners know of its last login.
    #[serde(skip)]
    pub(super) refused: Arc<Refused>,
}

/// The keys of one of `runners`.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunnerKeys {
    /// The runner's role id. The worker must not be able to read it.
    pub(crate) role_id: SecretInput,
    /// The name of its role. Default: the name that it has here.
    pub(crate) role_name: Option<String>,
    /// Where its AppRole method is mounted. Default: as `auth.mount`.
    pub(crate) mount: Option<String>,
}

/// The keys of `method: kubernetes`.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KubernetesKeys {
    /// Where the method is mounted. Default: its own name.
    pub(crate) mount: Option<String>,
    /// The namespace of the login, where it is not that of the secrets: `""` is the root. Default: the store's.
    pub(crate) namespace: Option<String>,
    /// The role to log in as.
    pub(crate) role: String,
    /// The service account's token, read again at each login. Default: the file where Kubernetes puts it,
    /// `/var/run/secrets/kubernetes.io/serviceaccount/token`.
    pub(crate) jwt: Option<SecretInput>,
}

/// The keys of `method: jwt`.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct JwtKeys {
    /// Where the method is mounted. Default: its own name.
    pub(crate) mount: Option<String>,
    /// The namespace of the login, where it is not that of the secrets: `""` is the root. Default: the store's.
    pub(crate) namespace: Option<String>,
    /// The role to log in as. Default: the one that the method itself has as its default.
    pub(crate) role: Option<String>,
    /// The JWT, read again at each login. One that has ended is not sent.
    pub(crate) jwt: SecretInput,
}

/// The keys of `method: cert`.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CertKeys {
    /// Where the method is mounted. Default: its own name.
    pub(crate) mount: Option<String>,
    /// The namespace of the login, where it is not that of the secrets: `""` is the root. Default: the store's.
    pub(crate) namespace: Option<String>,
    /// The certificate role to log in as. Default: any that the certificate fits.
    pub(crate) name: Option<String>,
}

/// The keys of `method: userpass` and `method: ldap`.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasswordKeys {
    /// Where the method is mounted. Default: its own name.
    pub(crate) mount: Option<String>,
    /// The namespace of the login, where it is not that of the secrets: `""` is the root. Default: the store's.
    pub(crate) namespace: Option<String>,
    /// The user's name.
    pub(crate) username: String,
    /// The user's password. A file is read again at each login.
    pub(crate) password: SecretInput,
}

/// The keys of `method: aws`.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AwsKeys {
    /// Where the method is mounted. Default: its own name.
    pub(crate) mount: Option<String>,
    /// The namespace of the login, where it is not that of the secrets: `""` is the root. Default: the store's.
    pub(crate) namespace: Option<String>,
    /// The role to log in as. Default: the one named like the AWS identity.
    pub(crate) role: Option<String>,
    /// The region whose STS the request is for. Default: the variable AWS_REGION or AWS_DEFAULT_REGION; else the global STS.
    pub(crate) region: Option<String>,
    /// The STS that the store asks, where it is none of Amazon's own addresses: `https://sts.example`.
    pub(crate) sts_endpoint: Option<String>,
    /// What the store wants to see signed as `X-Vault-AWS-IAM-Server-ID`, so that the request is of use to no other store.
    pub(crate) server_id: Option<String>,
    /// The AWS access key's id. Default: the variable AWS_ACCESS_KEY_ID.
    pub(crate) access_key_id: Option<SecretInput>,
    /// The AWS access key's secret. Default: the variable AWS_SECRET_ACCESS_KEY.
    pub(crate) secret_access_key: Option<SecretInput>,
    /// The session token of temporary AWS credentials. Default: the variable AWS_SESSION_TOKEN, where the keys are variables, too.
    pub(crate) session_token: Option<SecretInput>,
}

impl Auth {
    /// The login's own namespace, as the file has it.
    pub(crate) fn namespace(&self) -> Option<&str> {
        let namespace = match self {
            Self::Token(keys) => &keys.namespace,
            Self::Approle(keys) => &keys.namespace,
            Self::Kubernetes(keys) => &keys.namespace,
            Self::Jwt(keys) => &keys.namespace,
            Self::Cert(keys) => &keys.namespace,
            Self::Userpass(keys) | Self::Ldap(keys) => &keys.namespace,
            Self::Aws(keys) => &keys.namespace,
        };
        namespace.as_deref()
    }

    /// The names of its runners.
    pub(crate) fn runners(&self) -> Vec<&str> {
        match self {
            Self::Approle(keys) => keys.runners.keys().map(Name::as_str).collect(),
            _ => Vec::new(),
        }
    }
}

impl ByKey for Auth {
    const NAME: &'static str = "$keyward::ByKey.method";
    const WORDS: &'static [&'static str] = &["token", "approle", "kubernetes", "jwt", "cert", "userpass", "ldap", "aws"];

    fn of<'de, A: SeqAccess<'de>>(word: &str, keys: Keys<A>) -> Option<Result<Self, A::Error>> {
        Some(match word {
            "token" => keys.read().map(Self::Token),
            "approle" => keys.read().map(Self::Approle),
            "kubernetes" => keys.read().map(Self::Kubernetes),
            "jwt" => keys.read().map(Self::Jwt),
            "cert" => keys.read().map(Self::Cert),
            "userpass" => keys.read().map(Self::Userpass),
            "ldap" => keys.read().map(Self::Ldap),
            "aws" => keys.read().map(Self::Aws),
            _ => return None,
        })
    }

    fn buffered<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // What serde derives for the type itself.
        Self::deserialize(deserializer)
    }
}

impl<'de> Deserialize<'de> for Auth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        by_key(deserializer)
    }
}
