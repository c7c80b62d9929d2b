//! What we log in upstream with, and where it came from.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::Value;
use zeroize::Zeroize;

use super::{SecretPath, Selector, StoreError, StoreErrorKind};
use crate::Secret;
use crate::scram::{Password, ScramClient, ScramFailure};

/// What a session logs in upstream with. One owner; zeroised with it.
pub struct Credential {
    /// The login name on the asset. Not a secret in itself, but users never see it: it goes into no log.
    pub(crate) username: String,
    pub(crate) password: Option<Arc<Password>>,
    pub(crate) private_key: Option<Secret>,
    pub(crate) passphrase: Option<Secret>,
    pub(crate) certificate: Option<String>,
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
        self.password.as_deref().map(Password::secret)
    }

    /// Begins a SCRAM login with the password, by the best of the mechanisms that the server offers. `binding` is the hash of its certificate
    /// (RFC 5929, `tls-server-end-point`) where there is a TLS channel to bind to.
    ///
    /// # Errors
    /// `NoPassword`, `NoMechanism`, `Unavailable`.
    pub fn scram(&self, offered: &[&str], binding: Option<&[u8]>) -> Result<ScramClient, ScramFailure> {
        let password = self.password.as_ref().ok_or(ScramFailure::NoPassword)?;
        ScramClient::new(Arc::clone(password), offered, binding)
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

    /// The certificate of the private key, if the account has one: a line as in OpenSSH's `-cert.pub` files. Not yet held against the key.
    #[must_use]
    pub fn certificate(&self) -> Option<&str> {
        self.certificate.as_deref()
    }

    /// A credential whose parts stand under the usual names in one secret, as a database engine and a whole KV secret give it.
    ///
    /// # Errors
    /// `Malformed`: no `username`, or a part that is not text.
    pub(crate) fn whole(document: &Document, path: &SecretPath) -> Result<Self, StoreError> {
        let there = |names: &[&'static str]| {
            let name = names.iter().find(|name| document.fields.get(**name).is_some_and(|value| !value.is_null()));
            name.map(|name| Selector::key(name))
        };
        let part = |names: &[&'static str]| there(names).map(|selector| selector.pick(&document.fields, path)).transpose();
        let mut credential = Self::named(&Selector::key("username").pick(&document.fields, path)?)?;
        credential.password = there(&["password"]).map(|selector| document.password(&selector, path)).transpose()?;
        credential.passphrase = part(&["passphrase"])?;
        if let Some(key) = part(&["private_key", "rsa_private_key"])? {
            credential.set_private_key(&key);
            // Only beside a key: elsewhere a secret may mean something else by this name. It is no secret.
            let certificate = part(&["certificate"])?;
            credential.certificate = certificate.and_then(|line| line.expose_str().map(|line| line.trim().to_owned()));
        }
        Ok(credential)
    }

    /// One with a user name and nothing else yet.
    ///
    /// # Errors
    /// `Malformed`: the user name is not text, or has a NUL in it.
    pub(crate) fn named(username: &Secret) -> Result<Self, StoreError> {
        // Exposed: the user name is sent as text in every protocol.
        let username = username.expose_str().filter(|name| !name.is_empty() && !name.contains('\0'));
        let username =
            username.ok_or_else(|| StoreError::new(StoreErrorKind::Malformed, "the user name is not a text that can be sent"))?;
        Ok(Self { username: username.to_owned(), password: None, private_key: None, passphrase: None, certificate: None })
    }

    /// Gives it a key, with the line ends that text files want.
    pub(crate) fn set_private_key(&mut self, key: &Secret) {
        self.private_key = Some(with_clean_lines(key));
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
            && self.certificate == other.certificate
    }
}

/// A key as text files want it: `\n` between lines and at the end. Stores are filled by hand, on every system.
fn with_clean_lines(key: &Secret) -> Secret {
    // Exposed: only to be rewritten into another `Secret`.
    let mut lines: Vec<u8> = Vec::with_capacity(key.expose().len().saturating_add(1));
    lines.extend(key.expose().iter().copied().filter(|byte| *byte != b'\r'));
    if lines.last() != Some(&b'\n') {
        lines.push(b'\n');
    }
    Secret::from(lines)
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
    /// The serial number of the certificate that was signed for it, by which the upstream's own log and the store's know it.
    pub certificate: Option<u64>,
    /// Whether it came from the cache.
    pub cached: bool,
    /// Whether it was older than its time: the store could not be asked.
    pub stale: bool,
    /// Whether the lease is one that another session asked for, in use together with it. The request id is then of that session's request.
    pub joined: bool,
}

/// One secret as a store holds it: a JSON object, zeroised when dropped.
pub(crate) struct Document {
    pub(crate) fields: Value,
    pub(crate) version: Option<u64>,
    pub(crate) request_id: String,
    /// Not to be used after this: the next rotation, the version's own deletion time.
    pub(crate) not_after: Option<Instant>,
    /// To be asked for anew after this, where the store can be asked: how often its owner wants it read, and no end of it.
    pub(crate) fresh_until: Option<Instant>,
    pub(crate) passwords: Passwords,
}

/// The passwords that were taken out of a secret: what is made of one serves all logins until the secret is read again.
#[derive(Default)]
pub(crate) struct Passwords(Mutex<Vec<(Selector, Arc<Password>)>>);

impl Document {
    /// What has neither versions nor an end of its own; an empty `request_id` where the store has none.
    pub(crate) fn of(fields: Value, request_id: &str) -> Self {
        let (request_id, passwords) = (request_id.to_owned(), Passwords::default());
        Self { fields, version: None, request_id, not_after: None, fresh_until: None, passwords }
    }

    /// Takes a password out of it: the same one each time. There are as many as the file has keys for this path.
    ///
    /// # Errors
    /// Those of [`Selector::pick`].
    pub(crate) fn password(&self, selector: &Selector, path: &SecretPath) -> Result<Arc<Password>, StoreError> {
        let mut taken = self.passwords.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, password)) = taken.iter().find(|(of, _)| of == selector) {
            return Ok(Arc::clone(password));
        }
        let password = Arc::new(Password::from(selector.pick(&self.fields, path)?));
        taken.push((selector.clone(), Arc::clone(&password)));
        Ok(password)
    }
}

impl Drop for Document {
    fn drop(&mut self) {
        wipe(&mut self.fields);
    }
}

/// Overwrites every text in a JSON value.
pub(crate) fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(map) => map.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
