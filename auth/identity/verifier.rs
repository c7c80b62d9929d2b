//! The stored forms of a password: PostgreSQL's SCRAM verifier, and argon2id in PHC form.
//!
//! PostgreSQL's is `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>` (its manual, "Password Authentication"; RFC 5803 in
//! other words), so that a line from `pg_authid` can be pasted into our file.

use std::fmt;
use std::num::NonZeroU32;

use argon2::password_hash::phc::{Output, PasswordHash};
use argon2::{Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use crate::Secret;
use crate::scram::{Keys, decoded32};

/// Iterations of the SCRAM verifiers that we make: PostgreSQL's own default.
pub(crate) const SCRAM_ITERATIONS: u32 = 4096;
/// What we accept in the file. Below: RFC 7677 forbids it. Above: a login would take seconds.
const ACCEPTED_ITERATIONS: std::ops::RangeInclusive<u32> = 4096..=1_000_000;
/// The longest salt that we accept, in bytes. PostgreSQL's has 16.
const MAX_SALT: usize = 64;
/// The most memory that one argon2 check may take, in KiB: what an admin may write into the file, times the cores, is allocated.
const MAX_ARGON2_MEMORY: u32 = 256 * 1024;
const MAX_ARGON2_PASSES: u32 = 16;
const MAX_ARGON2_LANES: u32 = 16;

/// What the file stores instead of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier(Form);

#[derive(Clone, PartialEq, Eq)]
enum Form {
    Scram(ScramVerifier),
    Argon2(Box<PasswordHash>),
}

/// What the server half of SCRAM needs to know of a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ScramVerifier {
    pub(crate) iterations: NonZeroU32,
    pub(crate) salt: Vec<u8>,
    pub(crate) stored_key: [u8; 32],
    pub(crate) server_key: [u8; 32],
}

impl Verifier {
    /// Parses `SCRAM-SHA-256$iterations:salt$stored:server` or `$argon2id$…`.
    ///
    /// # Errors
    /// Says what was expected and never what stood there: it may be a password in the wrong field.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(rest) = text.strip_prefix("SCRAM-SHA-256$") {
            return ScramVerifier::parse(rest).map(|scram| Self(Form::Scram(scram)));
        }
        if text.starts_with("$argon2id$") {
            return parse_argon2(text).map(|hash| Self(Form::Argon2(Box::new(hash))));
        }
        Err("a password verifier as `keyward user hash` makes it: SCRAM-SHA-256$… or $argon2id$…, never the password itself")
    }

    /// A new SCRAM-SHA-256 verifier in PostgreSQL's form, with a random salt.
    ///
    /// # Errors
    /// If the machine has no random numbers.
    pub fn make_scram(password: &Secret) -> Result<String, &'static str> {
        let keys = ScramVerifier::derive(password, random_salt()?.to_vec(), iterations(SCRAM_ITERATIONS));
        let [salt, stored, server] = [&keys.salt[..], &keys.stored_key, &keys.server_key].map(|bytes| STANDARD.encode(bytes));
        Ok(format!("SCRAM-SHA-256${SCRAM_ITERATIONS}:{salt}${stored}:{server}"))
    }

    /// A new argon2id verifier (19 MiB, 2 passes, 1 lane: OWASP's advice), with a random salt. It cannot serve SCRAM.
    ///
    /// # Errors
    /// If the machine has no random numbers or not enough memory.
    pub fn make_argon2(password: &Secret) -> Result<String, &'static str> {
        let salt = random_salt()?;
        // Hashed here and forgotten: this is what the password was read for.
        let hash = Argon2::default().hash_password_with_salt(password.expose(), &salt);
        hash.map(|hash| hash.to_string()).map_err(|_| "not enough memory for argon2id")
    }

    /// Whether SCRAM can be done with it. An argon2id hash needs the password in clear text.
    #[must_use]
    pub const fn serves_scram(&self) -> bool {
        matches!(self.0, Form::Scram(_))
    }

    pub(crate) const fn scram(&self) -> Option<&ScramVerifier> {
        match &self.0 {
            Form::Scram(scram) => Some(scram),
            Form::Argon2(_) => None,
        }
    }

    /// Checks a clear-text password. Takes tens of milliseconds of a core: never on the runtime's own threads.
    pub(crate) fn accepts(&self, password: &Secret) -> bool {
        match &self.0 {
            Form::Scram(scram) => scram.accepts(password),
            // Hashed here and compared in constant time by the crate.
            Form::Argon2(hash) => Argon2::default().verify_password(password.expose(), hash.as_ref()).is_ok(),
        }
    }

    /// Everything that tells it from other verifiers, in parts; none is the beginning of another one's.
    pub(super) fn feed(&self, take: &mut dyn FnMut(&[u8])) {
        match &self.0 {
            Form::Scram(scram) => {
                take(b"scram");
                take(&scram.iterations.get().to_be_bytes());
                take(&scram.stored_key);
                take(&scram.server_key);
                take(&u64::try_from(scram.salt.len()).unwrap_or(u64::MAX).to_be_bytes());
                take(&scram.salt);
            }
            Form::Argon2(hash) => {
                let text = hash.to_string();
                take(b"argon2");
                take(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
                take(text.as_bytes());
            }
        }
    }

    /// What checking a password against it costs, and so what can be measured of it.
    pub(crate) fn cost(&self) -> String {
        match &self.0 {
            Form::Scram(scram) => format!("scram {} {}", scram.iterations, scram.salt.len()),
            Form::Argon2(hash) => {
                let lengths = [hash.salt.as_ref().map(|salt| salt.len()), hash.hash.as_ref().map(|hash| hash.len())];
                format!("argon2id {} {lengths:?}", hash.params)
            }
        }
    }

    pub(crate) const fn from_scram(scram: ScramVerifier) -> Self {
        Self(Form::Scram(scram))
    }

    /// The same cost with another outcome: what users who do not exist are checked against. No password is known to fit it.
    pub(crate) fn with_hash(&self, output: &[u8; 32]) -> Self {
        let mut other = self.clone();
        if let Form::Argon2(hash) = &mut other.0 {
            let length = hash.hash.as_ref().map_or(output.len(), |hash| hash.len().min(output.len()));
            hash.hash = output.get(..length).and_then(|output| Output::new(output).ok());
        }
        other
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[verifier]")
    }
}

impl ScramVerifier {
    fn parse(rest: &str) -> Result<Self, &'static str> {
        const FORM: &str = "a SCRAM verifier: SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>, the last three in base64";
        let (head, keys) = rest.split_once('$').ok_or(FORM)?;
        let (count, salt) = head.split_once(':').ok_or(FORM)?;
        let (stored, server) = keys.split_once(':').ok_or(FORM)?;
        let key = |text: &str| decoded32(text).ok_or(FORM);
        let salt = STANDARD.decode(salt).map_err(|_| FORM)?;
        if salt.is_empty() || salt.len() > MAX_SALT {
            return Err("a SCRAM verifier with a salt of 1 to 64 bytes");
        }
        let count = if count.bytes().all(|byte| byte.is_ascii_digit()) { count.parse().ok() } else { None };
        let iterations = count
            .filter(|count| ACCEPTED_ITERATIONS.contains(count))
            .and_then(NonZeroU32::new)
            .ok_or("a SCRAM verifier with 4096 to 1000000 iterations")?;
        Ok(Self { iterations, salt, stored_key: key(stored)?, server_key: key(server)? })
    }

    /// What a server that knows this password would store.
    pub(crate) fn derive(password: &Secret, salt: Vec<u8>, iterations: NonZeroU32) -> Self {
        let keys = Keys::derive(password, &salt, iterations);
        Self { iterations, salt, stored_key: *keys.stored(), server_key: *keys.server }
    }

    fn accepts(&self, password: &Secret) -> bool {
        let derived = Self::derive(password, self.salt.clone(), self.iterations);
        (derived.stored_key.ct_eq(&self.stored_key) & derived.server_key.ct_eq(&self.server_key)).into()
    }
}

fn random_salt() -> Result<[u8; 16], &'static str> {
    let mut salt = [0_u8; 16];
    rand::fill(&mut salt).map_err(|_| "no random numbers")?;
    Ok(salt)
}

fn parse_argon2(text: &str) -> Result<PasswordHash, &'static str> {
    const FORM: &str = "an argon2id verifier in PHC form: $argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>";
    let hash = PasswordHash::new(text).map_err(|_| FORM)?;
    let params = Params::try_from(&hash).map_err(|_| FORM)?;
    let long_enough =
        hash.salt.as_ref().is_some_and(|salt| salt.as_ref().len() >= 8) && hash.hash.as_ref().is_some_and(|out| out.len() >= 16);
    if hash.version != Some(u32::from(Version::V0x13)) || !long_enough {
        return Err(FORM);
    }
    if params.m_cost() > MAX_ARGON2_MEMORY || params.t_cost() > MAX_ARGON2_PASSES || params.p_cost() > MAX_ARGON2_LANES {
        return Err("an argon2id verifier with at most 256 MiB (m=262144), 16 passes and 16 lanes");
    }
    Ok(hash)
}

pub(super) fn iterations(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN)
}

#[cfg(test)]
mod tests;
