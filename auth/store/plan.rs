//! The account plan: how the credential of one account is put together, read from the file once.

use std::sync::Arc;

use keyward_config::{Account, CredentialField, Problems, Protected, SecretInput, Span, Spanned};

use super::reference::Form;
use super::{Reference, SecretPath};

/// How the credential of an account is put together.
#[derive(Clone, Debug)]
pub(crate) enum CredentialPlan {
    /// One lease gives user and secret, and must be given back.
    Leased(SecretPath),
    /// One secret or static role gives user and secret under the usual names.
    Whole(SecretPath),
    /// Each part for itself. Parts of the same path and version come from one read.
    Parts(Box<Parts>),
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
    /// Reads the plan of an account; `at` is its path in the file and `place` its line, for problems (`connections.orders`). `None`:
    /// there were errors.
    pub(crate) fn read(account: &Account, at: &str, place: Span, problems: &mut Problems) -> Option<Self> {
        let parts = [("username", &account.username), ("password", &account.password), ("private_key", &account.private_key)];
        let parts = [parts.as_slice(), &[("passphrase", &account.passphrase)]].concat();
        let Some(whole) = &account.credential else {
            return read_parts(account, at, place, problems).map(|parts| Self::Parts(Box::new(parts)));
        };
        let mut clash = false;
        for (name, field) in parts {
            if let Some(field) = field {
                clash = true;
                let message = "`credential` gives user and secret from one place; take either it or the single parts";
                problems.error(Some(field.span), format!("{at}.{name}"), message);
            }
        }
        let plan = read_whole(whole, at, problems)?;
        (!clash).then_some(plan)
    }

    /// Whether a store is needed.
    pub(crate) fn needs_store(&self) -> bool {
        match self {
            Self::Leased(_) | Self::Whole(_) => true,
            Self::Parts(parts) => parts.all().any(|(_, part)| matches!(part, Part::Reference(_))),
        }
    }
}

impl Parts {
    /// The parts that there are, with their names in the file.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, &Part)> {
        let rest = [("password", &self.password), ("private_key", &self.private_key), ("passphrase", &self.passphrase)];
        std::iter::once(("username", &self.username)).chain(rest.into_iter().filter_map(|(name, part)| Some((name, part.as_ref()?))))
    }
}

fn read_whole(field: &Spanned<CredentialField>, at: &str, problems: &mut Problems) -> Option<CredentialPlan> {
    let at = format!("{at}.credential");
    let CredentialField::Reference(text) = &field.value else {
        problems.error(
            Some(field.span),
            at,
            "`credential` is a reference that gives user and secret; literals go to `username` and `password`",
        );
        return None;
    };
    let reference = Reference::read(text, field.span, &at, problems)?;
    if reference.selector.is_some() {
        let message = "`credential` takes a whole secret (`mount/data/path`) or a role (`mount/creds/role`), without `?key`; \
                       single keys go to `username` and `password`";
        problems.error(Some(field.span), at, message);
        return None;
    }
    Some(match reference.path.form() {
        Form::Dynamic => CredentialPlan::Leased(reference.path),
        Form::Kv | Form::StaticRole => CredentialPlan::Whole(reference.path),
    })
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
    }
}

#[cfg(test)]
mod tests;
