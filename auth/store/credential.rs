//! What we log in upstream with, and where it came from.

use std::time::Instant;

use serde_json::Value;
use zeroize::Zeroize;

use crate::Secret;

/// What a session logs in upstream with. One owner; zeroised with it.
pub struct Credential {
    /// The login name on the asset. Not a secret in itself, but users never see it: it goes into no log.
    pub(crate) username: String,
    pub(crate) password: Option<Secret>,
    pub(crate) private_key: Option<Secret>,
    pub(crate) passphrase: Option<Secret>,
}

impl Credential {
    /// The login name on the asset.
    #[must_use]
    pub fn username(&self) -> &str {
        &self.username
    }

    /// The password, if the account has one.
    #[must_use]
    pub fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }

    /// The private key, if the account has one.
    #[must_use]
    pub fn private_key(&self) -> Option<&Secret> {
        self.private_key.as_ref()
    }

    /// What decrypts the private key.
    #[must_use]
    pub fn passphrase(&self) -> Option<&Secret> {
        self.passphrase.as_ref()
    }

    /// Whether the two would log in in the same way.
    #[must_use]
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        fn same(a: Option<&Secret>, b: Option<&Secret>) -> bool {
            match (a, b) {
                (None, None) => true,
                (Some(a), Some(b)) => a.same_as(b),
                _ => false,
            }
        }
        self.username == other.username
            && same(self.password(), other.password())
            && same(self.private_key(), other.private_key())
            && same(self.passphrase(), other.passphrase())
    }
}

/// Where a credential came from, for the audit record: paths and key *names*, never a value.
#[derive(Clone, Debug, Default)]
pub struct Provenance {
    /// The store's name; empty where everything was given in the file itself.
    pub store: String,
    /// Paths that were read, with the names of the keys taken: `prod_db/data/mysql?username`.
    pub paths: Vec<String>,
    /// The version that was read, where the store has versions.
    pub version: Option<u64>,
    /// The store's id of the request that read or issued it. Empty where it has none.
    pub request_id: String,
    /// SHA-256 of the lease id, first 16 hex digits. A lease id is itself a secret.
    pub lease: Option<String>,
    /// Whether it came from the cache.
    pub cached: bool,
}

/// One secret as a store holds it: a JSON object, zeroised when dropped.
pub(crate) struct Document {
    pub(crate) fields: Value,
    pub(crate) version: Option<u64>,
    pub(crate) request_id: String,
    /// Not to be used after this: the next rotation, the version's own deletion time.
    pub(crate) not_after: Option<Instant>,
}

impl Drop for Document {
    fn drop(&mut self) {
        wipe(&mut self.fields);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(map) => map.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
