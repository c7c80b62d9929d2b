//! The account plan: how the credential of one account is put together, read from the file once.

use std::sync::Arc;

use keyward_config::{Account, Assets, CredentialField, Name, Problems, Protected, SecretInput, Span, Spanned};

use super::reference::{Form, shown};
use super::{Reference, Scope, SecretPath};

/// How the credential of an account is put together.
#[derive(Clone, Debug)]
pub(crate) enum CredentialPlan {
    /// One lease gives user and secret, and must be given back.
    Leased(Box<LeasedRole>),
    /// A role signs a certificate for a key that is made for the session.
    Signed(Box<SigningRole>),
    /// One secret or static role gives user and secret under the usual names.
    Whole(Box<Reference>),
    /// Each part for itself. Parts of the same path and version come from one read.
    Parts(Box<Parts>),
}

/// A role that makes a credential for each request.
#[derive(Clone, Debug)]
pub(crate) struct LeasedRole {
    pub(crate) store: Name,
    pub(crate) path: SecretPath,
    /// Whom it is asked for. `None`: the role knows.
    pub(crate) username: Option<Part>,
}

/// A role that signs certificates.
#[derive(Clone, Debug)]
pub(crate) struct SigningRole {
    pub(crate) store: Name,
    pub(crate) path: SecretPath,
    /// Whom the certificate is for: a role's own default is not asked for, since we could not tell it from a slip.
    pub(crate) username: Part,
}

/// The parts of a credential.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) username: Part,
    pub(crate) password: Option<Part>,
    pub(crate) private_key: Option<Part>,
    pub(crate) passphrase: Option<Part>,
}

/// One part: in a store, or given in the file.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    Reference(Reference),
    Given(Arc<SecretInput>),
}

impl CredentialPlan {
    /// Reads the plan of an account; `at` is its path in the file and `place` its line, for problems (`connections.orders`). `assets` is
    /// what its connection leads to: only servers let keys and certificates in. `None`: there were errors.
    pub(crate) fn read(
        account: &Account,
        (at, place): (&str, Span),
        assets: Assets,
        scope: &Scope<'_>,
        problems: &mut Problems,
    ) -> Option<Self> {
        match &account.credential {
            Some(whole) => read_whole(whole, account, at, assets, scope, problems),
            None => read_parts(account, (at, place), scope, problems).map(|parts| Self::Parts(Box::new(parts))),
        }
    }

    /// The role or the secret that gives user and secret in one, and its store.
    pub(crate) fn role_or_secret(&self) -> Option<(&Name, &SecretPath)> {
        match self {
            Self::Leased(role) => Some((&role.store, &role.path)),
            Self::Signed(role) => Some((&role.store, &role.path)),
            Self::Whole(whole) => Some((&whole.store, &whole.path)),
            Self::Parts(_) => None,
        }
    }

    /// Every path that a store is asked for, and its store.
    pub(crate) fn paths(&self) -> impl Iterator<Item = (&Name, &SecretPath)> {
        self.role_or_secret().into_iter().chain(self.references().map(|reference| (&reference.store, &reference.path)))
    }

    /// Whether it is another one for each user.
    pub(crate) fn is_per_user(&self) -> bool {
        self.paths().any(|(_, path)| path.is_per_user())
    }

    /// That of this user.
    pub(crate) fn for_user(&self, user: &Name) -> Self {
        let part = |part: &Part| match part {
            Part::Reference(reference) => Part::Reference(reference.for_user(user)),
            Part::Given(input) => Part::Given(Arc::clone(input)),
        };
        match self {
            Self::Leased(role) => Self::Leased(Box::new(LeasedRole {
                store: role.store.clone(),
                path: role.path.for_user(user).into_owned(),
                username: role.username.as_ref().map(part),
            })),
            Self::Signed(role) => Self::Signed(Box::new(SigningRole {
                store: role.store.clone(),
                path: role.path.for_user(user).into_owned(),
                username: part(&role.username),
            })),
            Self::Whole(whole) => Self::Whole(Box::new(whole.for_user(user))),
            Self::Parts(parts) => Self::Parts(Box::new(Parts {
                username: part(&parts.username),
                password: parts.password.as_ref().map(part),
                private_key: parts.private_key.as_ref().map(part),
                passphrase: parts.passphrase.as_ref().map(part),
            })),
        }
    }

    /// The single parts that a store has.
    pub(crate) fn references(&self) -> impl Iterator<Item = &Reference> {
        let parts: Vec<&Part> = match self {
            Self::Leased(role) => role.username.iter().collect(),
            Self::Signed(role) => vec![&role.username],
            Self::Whole(_) => Vec::new(),
            Self::Parts(parts) => parts.all().collect(),
        };
        parts.into_iter().filter_map(|part| match part {
            Part::Reference(reference) => Some(reference),
            Part::Given(_) => None,
        })
    }

    /// Everything that a store is asked for, with the names of the keys taken, for the audit record. `own` is the connection's store: others
    /// are named.
    pub(crate) fn shown(&self, own: Option<&Name>) -> Vec<String> {
        let whole = self.role_or_secret().map(|(store, path)| shown(store, path, own));
        whole.into_iter().chain(self.references().map(|reference| reference.shown(own))).collect()
    }
}

impl Parts {
    fn all(&self) -> impl Iterator<Item = &Part> {
        std::iter::once(&self.username).chain([&self.password, &self.private_key, &self.passphrase].into_iter().flatten())
    }
}

fn read_whole(
    field: &Spanned<CredentialField>,
    account: &Account,
    at: &str,
    assets: Assets,
    scope: &Scope<'_>,
    problems: &mut Problems,
) -> Option<CredentialPlan> {
    let here = format!("{at}.credential");
    let whole = read_reference(field, &here, scope, problems);
    let role = whole.as_ref().map(|whole| whole.path.form());
    // A role of an SSH server may serve several accounts; which one this is stands beside it.
    let takes_username = assets == Assets::Servers && !matches!(role, Some(Form::Kv | Form::StaticRole | Form::Name));
    let mut clash = false;
    let beside = [("username", &account.username), ("password", &account.password), ("private_key", &account.private_key)];
    for (name, field) in beside.into_iter().chain([("passphrase", &account.passphrase)]) {
        let Some(field) = field.as_ref().filter(|_| name != "username" || !takes_username) else { continue };
        clash = true;
        problems.error(Some(field.span), format!("{at}.{name}"), beside_credential(name, role, assets));
    }
    let username = account.username.as_ref().filter(|_| takes_username);
    let username = username.map(|field| read_part(field, &format!("{at}.username"), scope, problems));
    let (whole, None | Some(Some(_)), false) = (whole?, &username, clash) else { return None };
    let username = username.flatten();
    let Reference { store, path, .. } = &whole;
    let (store, path) = (store.clone(), path.clone());
    match path.form() {
        Form::Dynamic => Some(CredentialPlan::Leased(Box::new(LeasedRole { store, path, username }))),
        Form::Kv | Form::StaticRole | Form::Name => Some(CredentialPlan::Whole(Box::new(whole))),
        Form::Sign if assets == Assets::Databases => {
            let message = "`mount/sign/role` makes certificates for SSH servers, and this is a database; a KV secret named like this is \
                           written `mount/data/sign/name`, or in single parts with `?key`";
            problems.error(Some(field.span), here, message);
            None
        }
        Form::Sign => match username {
            Some(username) => Some(CredentialPlan::Signed(Box::new(SigningRole { store, path, username }))),
            None => {
                let message = "a certificate is for a login name: write `username:` beside it, as a reference or as `{ literal: … }`";
                problems.error(Some(field.span), at, message);
                None
            }
        },
    }
}

/// Why a single part cannot stand beside `credential`.
fn beside_credential(name: &str, role: Option<Form>, assets: Assets) -> &'static str {
    match (name, role, assets) {
        ("username", Some(Form::Dynamic | Form::Sign), Assets::Databases) => {
            "the role of a database makes the user name itself; `username` beside a role is for SSH servers"
        }
        (_, Some(Form::Sign), Assets::Servers) => {
            "the key is made for each session and signed by the role; only `username` stands beside it"
        }
        _ => "`credential` gives user and secret from one place; take either it or the single parts",
    }
}

fn read_reference(field: &Spanned<CredentialField>, at: &str, scope: &Scope<'_>, problems: &mut Problems) -> Option<Reference> {
    let CredentialField::Reference(text) = &field.value else {
        let message = "`credential` is a reference that gives user and secret; literals go to `username` and `password`";
        problems.error(Some(field.span), at, message);
        return None;
    };
    let reference = scope.read(text, field.span, at, problems)?;
    if reference.selector.is_some() {
        let message = "`credential` takes a whole secret (`mount/data/path`) or a role (`mount/creds/role`), without `?key`; \
                       single keys go to `username` and `password`";
        problems.error(Some(field.span), at, message);
        return None;
    }
    Some(reference)
}

fn read_parts(account: &Account, (at, place): (&str, Span), scope: &Scope<'_>, problems: &mut Problems) -> Option<Parts> {
    let mut failed = false;
    let mut part = |name: &str, field: &Option<Spanned<CredentialField>>| {
        let field = field.as_ref()?;
        let part = read_part(field, &format!("{at}.{name}"), scope, problems);
        failed |= part.is_none();
        part
    };
    let username = part("username", &account.username);
    let password = part("password", &account.password);
    let private_key = part("private_key", &account.private_key);
    let passphrase = part("passphrase", &account.passphrase);
    let span = [&account.password, &account.private_key, &account.passphrase].into_iter().flatten().map(|field| field.span).next();
    if account.username.is_none() {
        let message = match span {
            None => "there is no credential: give `credential`, or `username` with `password` or `private_key`",
            Some(_) => "there is a secret but no `username` to log in with",
        };
        problems.error(span.unwrap_or(place), at, message);
        return None;
    }
    if let (Some(field), None) = (&account.passphrase, &account.private_key) {
        problems.error(Some(field.span), format!("{at}.passphrase"), "a passphrase decrypts a `private_key`, and there is none");
        return None;
    }
    if let (Some(field), None, None) = (&account.username, &account.password, &account.private_key) {
        let message = "neither `password` nor `private_key`: this works only where the upstream asks for no proof";
        problems.warning(Some(field.span), at, message);
    }
    if failed { None } else { Some(Parts { username: username?, password, private_key, passphrase }) }
}

fn read_part(field: &Spanned<CredentialField>, at: &str, scope: &Scope<'_>, problems: &mut Problems) -> Option<Part> {
    let text = match &field.value {
        CredentialField::Given(input) => {
            // A name alone opens nothing.
            if matches!(input, SecretInput::Literal(_)) && !at.ends_with(".username") {
                problems.warning(field.span, at, "`literal`: the secret stands in this file, which is for throw-away use only");
            }
            return Some(Part::Given(Arc::new(copy(input))));
        }
        CredentialField::Reference(text) => text,
    };
    let reference = scope.read(text, field.span, at, problems)?.with_single_key();
    let message = match (&reference.selector, reference.path.form()) {
        (Some(_), _) => return Some(Part::Reference(reference)),
        (None, Form::Dynamic) => "a dynamic role gives user and secret from one lease: write it as `credential:`",
        (None, Form::Sign) => {
            "a role that signs makes a certificate for a key of the session: write it as `credential:`, beside `username:`"
        }
        (None, Form::StaticRole) => {
            "a static role gives user and secret together: write it as `credential:`, or add `?username` or `?password`"
        }
        (None, Form::Kv | Form::Name) => {
            "a whole secret gives user and secret together: write it as `credential:`, or add the key: `mount/data/path?key`"
        }
    };
    problems.error(Some(Span::clone(&field.span)), at, message);
    None
}

/// A secret input's own copy: plans and logins outlive the file's tree.
pub(crate) fn copy(input: &SecretInput) -> SecretInput {
    match input {
        // Exposed: only into another one that hides it.
        SecretInput::Literal(text) => SecretInput::Literal(Protected::new(text.expose().to_owned())),
        SecretInput::File(path) => SecretInput::File(path.clone()),
        SecretInput::Env(name) => SecretInput::Env(name.clone()),
        SecretInput::Reference(text) => SecretInput::Reference(text.clone()),
    }
}

#[cfg(test)]
mod tests;
