//! A table in PostgreSQL that has one secret in each row (vault.md §15.6).
//!
//! `Stores` calls this through the trait `Store`. server.rs is the way to the server and the one connection to it, bounded.rs its bound;
//! statement.rs says what is asked, errors.rs what refusals mean. Values may be sealed (../sealing.rs): then who can read the table, or a copy
//! of it, reads nothing.

mod bounded;
mod errors;
mod server;
mod settings;
mod statement;

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use keyward_config::{SecretInput, Section, StoreSettings};
use tokio::sync::Semaphore;
use tokio_postgres::Row;
use zeroize::Zeroizing;

use self::server::Server;
use self::settings::Settings;
use self::statement::Statements;
use super::calls::{Calls, blocking};
use super::sealing::{SealingKey, is_sealed};
use super::text::{self, Shape};
use super::{Document, Input, Kind, Opening, Sealing, SecretPath, Store, StoreError, StoreErrorKind, StoreStatus};
use crate::SessionId;

/// Reads under way at one time: each may take as much memory as the longest value, or as a passphrase is stretched by.
const READS: usize = 4;

/// The row of this kind.
pub(super) const KIND: Kind = Kind {
    settings: StoreSettings { name: "table", settings: Section::of::<Settings>(), from_environment: None },
    roles: false,
    open,
    runners: |_| Vec::new(),
    files,
    write: None,
    seal: Some(Sealing { key }),
};

struct Table {
    calls: Calls,
    server: Server,
    statements: Statements,
    key: Option<Input>,
    reads: Semaphore,
    identity: String,
}

fn open(opening: &Opening<'_>) -> Result<Arc<dyn Store>, String> {
    let settings = opening.store.settings.downcast_ref::<Settings>().ok_or("its settings are of another kind")?;
    let username = Input::new("username", &settings.username, &opening.outer);
    let password = settings.password.as_ref().map(|password| Input::new("password", password, &opening.outer));
    let tls = settings.tls.as_ref().map(|tls| tls.0.clone());
    Ok(Arc::new(Table {
        calls: Calls::new(opening.label, &opening.observer),
        server: Server::new(settings.address.clone(), settings.database.clone(), (username, password), tls)?,
        statements: Statements::new(settings)?,
        key: settings.key.as_ref().map(|key| Input::new("key", key, &opening.outer)),
        reads: Semaphore::new(READS),
        identity: format!("table {} {} {}", settings.address, settings.database, settings.table),
    }))
}

/// What values are sealed by, each for its name.
fn key(store: &keyward_config::Store) -> Option<&SecretInput> {
    store.settings.downcast_ref::<Settings>().and_then(|settings| settings.key.as_ref())
}

/// Certificates are renewed under the same name.
fn files(store: &keyward_config::Store) -> Vec<PathBuf> {
    let settings = store.settings.downcast_ref::<Settings>();
    let tls = settings.and_then(|settings| settings.tls.as_ref()).map(|tls| &tls.0);
    let named = tls.map(|tls| [&tls.ca, &tls.certificate, &tls.private_key]);
    named.into_iter().flatten().flatten().cloned().collect()
}

impl Table {
    async fn get(&self, path: &SecretPath) -> Result<Document, StoreError> {
        let _turn = self.reads.acquire().await.map_err(|_| StoreError::new(StoreErrorKind::Unavailable, "closed"))?;
        let rows = self.server.ask(&format!("reading {path}"), &self.statements.read, &[path.as_str()]).await?;
        let text = match rows.as_slice() {
            [] => return Err(StoreError::new(StoreErrorKind::NotFound, format!("{path}: there is no such row"))),
            [row] => value(path, row)?,
            _ => return Err(malformed(path, "more than one row has this name")),
        };
        let text = match (&self.key, is_sealed(&text)) {
            (Some(key), _) => opened(path, &key.read().await?, text).await?,
            (None, false) => text,
            (None, true) => return Err(malformed(path, "the value is sealed, and the store has no `key`")),
        };
        text::document(path, text, Shape::Any)
    }

    async fn ask_status(&self) -> Result<StoreStatus, StoreError> {
        let rows = self.server.ask("asking for the table", &self.statements.status, &[]).await?;
        let strange = |_| StoreError::new(StoreErrorKind::Malformed, "the server's answer is of another form");
        let row = rows.first().ok_or_else(|| StoreError::new(StoreErrorKind::Malformed, "the server gave no answer"))?;
        let version: String = row.try_get(0).map_err(strange)?;
        let (writes, superuser): (bool, bool) = (row.try_get(1).map_err(strange)?, row.try_get(2).map_err(strange)?);
        let version: String = version.chars().take(60).flat_map(char::escape_debug).collect();
        let mut status = StoreStatus::tokenless(&format!("PostgreSQL {version}"));
        if superuser {
            status.warnings.push("its login is a superuser".to_owned());
        } else if writes {
            status.warnings.push("its login may change the table; reading is enough".to_owned());
        }
        Ok(status)
    }
}

impl Store for Table {
    fn read<'a>(&'a self, _: SessionId, path: &'a SecretPath, _fresh: bool) -> BoxFuture<'a, Result<Document, StoreError>> {
        Box::pin(self.calls.make("read", self.get(path)))
    }

    fn status(&self) -> BoxFuture<'_, Result<StoreStatus, StoreError>> {
        Box::pin(self.calls.make("status", self.ask_status()))
    }

    fn identity(&self) -> &str {
        &self.identity
    }
}

/// The value in a row, within its bound.
fn value(path: &SecretPath, row: &Row) -> Result<Zeroizing<String>, StoreError> {
    let strange = |_| malformed(path, "the server's answer is of another form");
    match row.try_get::<_, Option<&str>>(0).map_err(strange)? {
        Some(text) => Ok(Zeroizing::new(text.to_owned())),
        None if row.try_get::<_, Option<i32>>(1).map_err(strange)?.is_some() => Err(malformed(path, "it is longer than 1 MiB")),
        None => Err(malformed(path, "the value is null")),
    }
}

async fn opened(path: &SecretPath, key: &str, sealed: Zeroizing<String>) -> Result<Zeroizing<String>, StoreError> {
    let (key, path) = (SealingKey::new(key), path.clone());
    blocking(move || match key.open(path.as_str(), &sealed) {
        Ok(plain) => text::utf8(&path, plain),
        Err(error) => Err(malformed(&path, &error.to_string())),
    })
    .await
}

fn malformed(path: &SecretPath, what: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Malformed, format!("{path}: {what}"))
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;
