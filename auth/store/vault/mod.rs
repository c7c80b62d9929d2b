//! HashiCorp Vault and OpenBao, over their HTTP API: KV of both versions, roles of databases and of SSH servers, leases.
//!
//! `Stores` calls this through the trait `Store`. From the inside out: client.rs sends one call and bounds it (API docs, "HTTP API");
//! answer.rs reads what comes of it, errors.rs tells what a refusal means; login/ proves who we are; token.rs keeps that proof alive;
//! kv.rs, database.rs, ssh.rs and lease.rs are the secrets engines "kv", "database", "ssh" and `sys/leases`; lasting.rs asks whether a lease
//! would end too soon with our token.

mod answer;
mod client;
mod database;
mod declared;
mod environment;
mod errors;
#[cfg(feature = "fuzzing")]
pub(super) mod fuzzing;
mod kv;
mod lasting;
mod lease;
mod login;
mod mount;
mod policy;
#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
pub(super) mod real;
mod settings;
mod ssh;
mod status;
#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;
mod tls;
mod token;
mod write;

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use keyward_config::{Section, StoreSettings};

use self::answer::{Answer, Failure};
use self::client::{Call, Client, Retry};
use self::errors::{TokenHint, explain, is_forbidden, token_hint};
use self::mount::Mounts;
use self::settings::Settings;
use self::token::{Access, Token};
use super::reference::Form;
use super::{Document, Issued, Kind, Opening, Policies, SecretPath, Signed, Store, StoreError, StoreErrorKind, StoreStatus, Wanted};
use crate::{Grant, SessionId};

/// The row of this kind.
pub(super) const KIND: Kind = Kind {
    settings: StoreSettings { name: "vault", settings: Section::of::<Settings>(), from_environment: Some(environment::FROM_ENVIRONMENT) },
    roles: true,
    open,
    runners,
    files,
    write: Some(write::WRITING),
    seal: None,
};

/// One Vault or OpenBao, in one namespace, under one login.
struct Vault {
    client: Arc<Client>,
    tokens: Arc<Access>,
    mounts: Mounts,
    /// By each of its addresses, in the order of the file.
    identities: Vec<String>,
}

fn open(opening: &Opening<'_>) -> Result<Arc<dyn Store>, String> {
    let Opening { store, label, runner, stay, observer, outer, former } = opening;
    let settings = store.settings.downcast_ref::<Settings>().ok_or("its settings are of another kind")?;
    settings.are_whole()?;
    let name = *label;
    let login = login::Login::from_settings(settings, *runner, *stay, outer)?;
    let client = Arc::new(Client::new(name, settings, Arc::clone(observer))?);
    observer.store_opened(name, settings.insecure.is_some());
    if let Some(reason) = &settings.insecure {
        tracing::warn!(store = name, %reason, "this store's server is not verified");
    }
    let identities = client.origins().map(|origin| format!("vault {origin} {}", settings.namespace())).collect();
    let tokens = Access::open(Arc::clone(&client), login, (&store.node, settings), former.as_ref());
    Ok(Arc::new(Vault { tokens, mounts: Mounts::default(), client, identities }))
}

fn runners(store: &keyward_config::Store) -> Vec<String> {
    let auth = store.settings.downcast_ref::<Settings>().and_then(|settings| settings.auth.as_ref());
    auth.map(login::settings::Auth::runners).into_iter().flatten().map(str::to_owned).collect()
}

/// Certificates are renewed under the same name. Of a folder it counts when something in it comes or goes.
fn files(store: &keyward_config::Store) -> Vec<PathBuf> {
    let settings = store.settings.downcast_ref::<Settings>();
    let named = settings.map(|settings| [&settings.ca_cert, &settings.ca_path, &settings.client_cert, &settings.client_key]);
    named.into_iter().flatten().flatten().map(|path| path.to_path_buf()).collect()
}

impl Vault {
    /// Sends a call with our token. A token that turns out to be dead is replaced once and the call repeated. Whether it is dead is not asked
    /// where a lease could not be given back and the words are a policy's: where the right is missing, that would be a question for every lease.
    async fn request(&self, call: &Call<'_>, retry: Retry) -> Result<(Answer, Arc<Token>), Failure> {
        let token = self.tokens.get().await.map_err(Failure::Store)?;
        let refused = match self.client.call(call, Some(&token.text), retry).await {
            Ok(answer) => return Ok((answer, token)),
            Err(Failure::Refused(refused)) if is_forbidden(&refused) => refused,
            Err(failure) => return Err(failure),
        };
        if call.operation == lease::REVOKE && token_hint(&refused.errors) == TokenHint::Policy {
            return Err(Failure::Refused(refused));
        }
        match self.tokens.rejected(&token, &refused).await.map_err(Failure::Store)? {
            None => Err(Failure::Refused(refused)),
            Some(token) => self.client.call(call, Some(&token.text), retry).await.map(|answer| (answer, token)),
        }
    }
}

impl Store for Vault {
    fn read<'a>(&'a self, session: SessionId, path: &'a SecretPath, fresh: bool) -> BoxFuture<'a, Result<Document, StoreError>> {
        Box::pin(async move {
            match path.form() {
                Form::Kv => self.read_kv(session, path, fresh).await,
                Form::StaticRole => self.read_static_role(session, path, fresh).await,
                Form::Dynamic | Form::Sign | Form::Name => {
                    Err(StoreError::new(StoreErrorKind::Malformed, format!("{path}: a role's credential is issued, not read")))
                }
            }
        })
    }

    fn issue<'a>(&'a self, grant: &'a Grant, wanted: &'a Wanted) -> BoxFuture<'a, Result<Issued, StoreError>> {
        Box::pin(async move {
            let engine = self.engine_of_role(grant.session(), &wanted.path).await?;
            match &wanted.username {
                _ if engine.as_deref() == Some(ssh::ENGINE) => self.issue_otp(grant, wanted).await,
                None => {
                    self.outlasts(grant, &wanted.path).await?;
                    self.issue_lease(grant.session(), &wanted.path).await
                }
                Some(_) => {
                    let what =
                        "the role makes the user name itself, or our token may not know the mount: only that of an SSH engine takes one";
                    Err(StoreError::new(StoreErrorKind::Malformed, format!("{}: {what}", wanted.path)))
                }
            }
        })
    }

    fn certify<'a>(
        &'a self,
        grant: &'a Grant,
        role: &'a SecretPath,
        key: &'a str,
        principal: &'a str,
    ) -> BoxFuture<'a, Result<Signed, StoreError>> {
        Box::pin(self.sign_key(grant, role, key, principal))
    }

    fn renew<'a>(&'a self, lease_id: &'a str, increment: Duration) -> BoxFuture<'a, Result<Duration, StoreError>> {
        Box::pin(self.renew_lease(lease_id, increment))
    }

    fn revoke<'a>(&'a self, lease_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.revoke_lease(lease_id))
    }

    fn status(&self) -> BoxFuture<'_, Result<StoreStatus, StoreError>> {
        Box::pin(self.ask_status())
    }

    fn policies(&self) -> Option<&dyn Policies> {
        Some(self)
    }

    fn begin(&self) {
        self.tokens.begin();
    }

    fn login(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        let tokens: Arc<Access> = Arc::clone(&self.tokens);
        Some(tokens)
    }

    fn identity(&self) -> &str {
        self.identities.first().map_or("", String::as_str)
    }

    /// The nodes of a cluster have its leases in common, and somebody may have written them in another order.
    fn was(&self, identity: &str) -> bool {
        self.identities.iter().any(|own| own == identity)
    }
}

/// The failure of a call as the rest of the program knows it; `what` says what was asked, without a secret.
fn failed(what: impl std::fmt::Display) -> impl FnOnce(Failure) -> StoreError {
    move |failure| explain(&what.to_string(), failure)
}
