//! The account plan: how the credential of one account is put together, read from the file once.

use std::sync::Arc;

use keyward_config::{Account, Assets, CredentialField, Problems, Protected, SecretInput, Span, Spanned};

use super::reference::Form;
use super::{Reference, SecretPath};

/// How the credential of an account is put together.
#[derive(Clone, Debug)]
pub(crate) enum CredentialPlan {
    /// One lease gives user and secret, and must be given back.
    Leased(Box<LeasedRole>),
    /// A role signs a certificate for a key that is made for the session.
    Signed(Box<SigningRole>),
    /// One secret or static role gives user and secret under the usual names.
    Whole(SecretPath),
    /// Each part for itself. Parts of the same path and version come from one read.
    Parts(Box<Parts>),
}

/// A role that makes a credential for each request.
#[derive(Clone, Debug)]
pub(crate) struct LeasedRole {
    pub(crate) path: SecretPath,
    /// Whom it is asked for. `None`: the role knows.
    pub(crate) username: Option<Part>,
}

/// A role that signs certificates.
#[derive(Clone, Debug)]
pub(crate) struct SigningRole {
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
    pub(crate) fn read(account: &Account, at: &str, place: Span, assets: Assets, problems: &mut Problems) -> Option<Self> {
        match &account.credential {
            Some(whole) => read_whole(whole, account, at, assets, problems),
            None => read_parts(account, at, place, problems).map(|parts| Self::Parts(Box::new(parts))),
        }
    }

    /// Whether a store is needed.
    pub(crate) fn needs_store(&self) -> bool {
        self.role_or_secret().is_some() || self.references().next().is_some()
    }

    /// The role or the secret that gives user and secret in one.
    pub(crate) fn role_or_secret(&self) -> Option<&SecretPath> {
        match self {
            Self::Leased(role) => Some(&role.path),
            Self::Signed(role) => Some(&role.path),
            Self::Whole(path) => Some(path),
            Self::Parts(_) => None,
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

    /// Everything that a store is asked for, with the names of the keys taken, for the audit record.
    pub(crate) fn shown(&self) -> Vec<String> {
        let key = |reference: &Reference| reference.selector.as_ref().map(|key| format!("?{}", key.as_str())).unwrap_or_default();
        let whole = self.role_or_secret().map(|path| path.as_str().to_owned());
        whole.into_iter().chain(self.references().map(|reference| format!("{}{}", reference.path.as_str(), key(reference)))).collect()
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
    problems: &mut Problems,
) -> Option<CredentialPlan> {
    let here = format!("{at}.credential");
    let path = read_path(field, &here, problems);
    let role = path.as_ref().map(SecretPath::form);
    // A role of an SSH server may serve several accounts; which one this is stands beside it.
    let takes_username = assets == Assets::Servers && !matches!(role, Some(Form::Kv | Form::StaticRole));
    let mut clash = false;
    let beside = [("username", &account.username), ("password", &account.password), ("private_key", &account.private_key)];
    for (name, field) in beside.into_iter().chain([("passphrase", &account.passphrase)]) {
        let Some(field) = field.as_ref().filter(|_| name != "username" || !takes_username) else { continue };
        clash = true;
        problems.error(Some(field.span), format!("{at}.{name}"), beside_credential(name, role, assets));
    }
    let username = account.username.as_ref().filter(|_| takes_username);
    let username = username.map(|field| read_part(field, &format!("{at}.username"), problems));
    let (path, None | Some(Some(_)), false) = (path?, &username, clash) else { return None };
    let username = username.flatten();
    match path.form() {
        Form::Dynamic => Some(CredentialPlan::Leased(Box::new(LeasedRole { path, username }))),
        Form::Kv | Form::StaticRole => Some(CredentialPlan::Whole(path)),
        Form::Sign if assets == Assets::Databases => {
            let message = "`mount/sign/role` makes certificates for SSH servers, and this is a database; a KV secret named like this is \
                           written `mount/data/sign/name`, or in single parts with `?key`";
            problems.error(Some(field.span), here, message);
            None
        }
        Form::Sign => match username {
            Some(username) => Some(CredentialPlan::Signed(Box::new(SigningRole { path, username }))),
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

fn read_path(field: &Spanned<CredentialField>, at: &str, problems: &mut Problems) -> Option<SecretPath> {
    let CredentialField::Reference(text) = &field.value else {
        let message = "`credential` is a reference that gives user and secret; literals go to `username` and `password`";
        problems.error(Some(field.span), at, message);
        return None;
    };
    let reference = Reference::read(text, field.span, at, problems)?;
    if reference.selector.is_some() {
        let message = "`credential` takes a whole secret (`mount/data/path`) or a role (`mount/creds/role`), without `?key`; \
                       single keys go to `username` and `password`";
        problems.error(Some(field.span), at, message);
        return None;
    }
    Some(reference.path)
}

fn read_parts(account: &Account, at: &str, place: Span, problems: &mut Problems) -> Option<Parts> {
    let mut failed = false;
    let mut part = |name: &str, field: &Option<Spanned<CredentialField>>| {
        let field = field.as_ref()?;
        let part = read_part(field, &format!("{at}.{name}"), problems);
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

fn read_part(field: &Spanned<CredentialField>, at: &str, problems: &mut Problems) -> Option<Part> {
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
    let reference = Reference::read(text, field.span, at, problems)?;
    let message = match (&reference.selector, reference.path.form()) {
        (Some(_), _) => return Some(Part::Reference(reference)),
        (None, Form::Dynamic) => "a dynamic role gives user and secret from one lease: write it as `credential:`",
        (None, Form::Sign) => {
            "a role that signs makes a certificate for a key of the session: write it as `credential:`, beside `username:`"
        }
        (None, Form::StaticRole) => {
            "a static role gives user and secret together: write it as `credential:`, or add `?username` or `?password`"
        }
        (None, Form::Kv) => {
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
