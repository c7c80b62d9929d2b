//! The users of one state of the file, with what stands in for those who do not exist.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keyward_config::{Config, Name, Problems};
use keyward_ssh_transport::key::AuthorizedKey;

use super::key::{Owners, is_one_of};
use super::verifier::{SCRAM_ITERATIONS, ScramVerifier, Verifier, iterations};
use super::{Identity, Proof, SaltKey, Source};

/// The shape of the verifiers that we make ourselves.
const USUAL: Shape = (SCRAM_ITERATIONS, 16);

/// The users, their stored forms and groups.
pub(crate) struct Users {
    users: BTreeMap<Name, User>,
    /// What users without a usable form may seem to have in a SCRAM exchange: each shape that some user really has, once.
    shapes: Vec<Shape>,
    /// What their clear-text passwords may be checked against, for the time that it takes: a stored form of each cost that is there.
    decoys: Vec<Verifier>,
}

/// What of a SCRAM verifier can be seen from outside: the iterations, and the length of the salt.
type Shape = (u32, usize);

struct User {
    groups: Arc<[Name]>,
    verifier: Option<Verifier>,
    keys: Vec<AuthorizedKey>,
}

impl Users {
    /// Reads the users; a verifier that does not parse is a problem, a user who can prove nothing is a warning.
    pub(crate) fn read(config: &Config, salts: &SaltKey, problems: &mut Problems) -> Self {
        let mut owners = Owners::default();
        // Whose keys are trusted, no type of this crate knows: a listener that trusts an authority lets in users of whom the file has nothing.
        let certified = config.listeners.iter().any(|listener| listener.node.get("trusted_user_ca_keys").is_some());
        let mut users = BTreeMap::new();
        for (name, entry) in &config.users {
            if entry.password.is_none() && entry.public_keys.is_empty() && !certified {
                let message = "has neither `password` nor `public_keys`: this user can prove nothing and cannot log in";
                problems.warning(entry.span, format!("users.{name}"), message);
            }
            users.insert(name.clone(), User::read(name, entry, &mut owners, problems));
        }
        let verifiers = || users.values().filter_map(|user| user.verifier.as_ref());
        let shapes: BTreeSet<Shape> =
            verifiers().filter_map(Verifier::scram).map(|scram| (scram.iterations.get(), scram.salt.len())).collect();
        let decoys = verifiers().map(|verifier| (verifier.cost(), verifier)).collect::<BTreeMap<_, _>>();
        let fill = salts.bytes(b"decoy", "");
        let decoy = |(_, verifier): (_, &Verifier)| match verifier.scram() {
            Some(scram) => Verifier::from_scram(fake_scram((scram.iterations.get(), scram.salt.len()), salts, "")),
            None => verifier.with_hash(&fill),
        };
        let mut decoys: Vec<_> = decoys.into_iter().map(decoy).collect();
        if decoys.is_empty() {
            decoys.push(Verifier::from_scram(fake_scram(USUAL, salts, "")));
        }
        Self { shapes: if shapes.is_empty() { vec![USUAL] } else { shapes.into_iter().collect() }, decoys, users }
    }

    /// The SCRAM verifier to use for this user name, and whether it is his own. Costs the same for every name.
    pub(crate) fn scram(&self, user: &str, salts: &SaltKey) -> (ScramVerifier, Option<Candidate>) {
        let shape = salts.choose(user, &self.shapes, |(count, length)| format!("{count}:{length}"));
        let fake = fake_scram(shape.copied().unwrap_or(USUAL), salts, user);
        let known = self.users.get_key_value(user).and_then(|(name, user)| {
            let scram = user.verifier.as_ref()?.scram()?.clone();
            Some((scram, user.candidate(name, By::Password)))
        });
        known.map_or((fake, None), |(scram, candidate)| (scram, Some(candidate)))
    }

    /// The verifier to check this user's clear-text password with, and whether it is his own.
    pub(crate) fn verifier(&self, user: &str, salts: &SaltKey) -> (Verifier, Option<Candidate>) {
        let decoy = salts.choose(user, &self.decoys, Verifier::cost);
        let known = self.users.get_key_value(user).and_then(|(name, user)| {
            let verifier = user.verifier.clone()?;
            Some((verifier, user.candidate(name, By::Password)))
        });
        match known {
            Some((verifier, candidate)) => (verifier, Some(candidate)),
            None => (decoy.cloned().unwrap_or_else(|| Verifier::from_scram(fake_scram(USUAL, salts, user))), None),
        }
    }

    /// The user and his keys.
    pub(super) fn with_keys(&self, user: &str) -> Option<(Candidate, &[AuthorizedKey])> {
        let (name, user) = self.users.get_key_value(user)?;
        Some((user.candidate(name, By::Key), &user.keys))
    }

    /// Whether the password or the key that proved him is still the user's; the key of a certificate never was.
    pub(crate) fn still_has_proof_of(&self, identity: &Identity) -> bool {
        let user = self.users.get(identity.user());
        let key = identity.key().filter(|key| key.certificate().is_none());
        let has_key = key.is_none_or(|key| user.is_some_and(|user| is_one_of(&user.keys, key.key())));
        let password = identity.verifier();
        has_key && password.is_none_or(|verifier| user.is_some_and(|user| user.verifier.as_ref() == Some(verifier)))
    }

    /// The names, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Name> {
        self.users.keys()
    }

    /// Whether both states have this user, and the same of him.
    pub(crate) fn same(&self, other: &Self, name: &Name) -> bool {
        match (self.users.get(name), other.users.get(name)) {
            (Some(a), Some(b)) => a.same_as(b),
            _ => false,
        }
    }
}

/// A user who exists and has yet to prove that he is it.
#[derive(Clone)]
pub(crate) struct Candidate {
    name: Name,
    groups: Arc<[Name]>,
    /// The stored form of the password by which he may prove it.
    verifier: Option<Arc<Verifier>>,
}

/// By what.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Password,
    Key,
}

impl Candidate {
    /// He has proven it.
    pub(super) fn proven(self, proof: Proof, source: Source) -> Identity {
        let identity = Identity::new(self.name, self.groups, proof, source);
        if let Some(verifier) = self.verifier { identity.by_password(verifier) } else { identity }
    }
}

impl User {
    fn read(name: &Name, entry: &keyward_config::User, owners: &mut Owners, problems: &mut Problems) -> Self {
        let at = format!("users.{name}");
        // Parsed here; the text itself is of no further use.
        let verifier = entry.password.as_ref().and_then(|text| match Verifier::parse(text.value.expose()) {
            Ok(verifier) => Some(verifier),
            Err(expected) => {
                problems.error(Some(text.span), format!("{at}.password"), format!("expected {expected}"));
                None
            }
        });
        Self { groups: entry.groups.clone().into(), verifier, keys: owners.read(name, &entry.public_keys, problems) }
    }

    fn candidate(&self, name: &Name, by: By) -> Candidate {
        let verifier = self.verifier.clone().filter(|_| by == By::Password).map(Arc::new);
        Candidate { name: name.clone(), groups: Arc::clone(&self.groups), verifier }
    }

    fn same_as(&self, other: &Self) -> bool {
        self.groups == other.groups && self.keys == other.keys && self.verifier == other.verifier
    }
}

/// Keys that no password has: they come from the installation's key, not from PBKDF2.
fn fake_scram((count, salt_length): (u32, usize), salts: &SaltKey, user: &str) -> ScramVerifier {
    ScramVerifier {
        iterations: iterations(count),
        salt: salts.salt(user, salt_length),
        stored_key: salts.bytes(b"stored key", user),
        server_key: salts.bytes(b"server key", user),
    }
}
