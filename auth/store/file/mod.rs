//! Files: a folder of secrets as Docker and Kubernetes mount them, or one sealed file (vault.md §15.5).
//!
//! `Stores` calls this through the trait `Store`. folder.rs reads beneath a folder; sealed.rs opens the encrypted file that `keyward secret`
//! writes. Reads are cheap and come anew each time: what is between two of them is the cache's time.

mod folder;
mod sealed;
mod settings;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use keyward_config::{Section, StoreSettings};

use self::folder::Folder;
use self::settings::Settings;
use super::calls::{Calls, blocking};
use super::{Document, Kind, Opening, SecretPath, Store, StoreError, StoreStatus};
use crate::SessionId;

/// The row of this kind.
pub(super) const KIND: Kind = Kind {
    settings: StoreSettings { name: "file", settings: Section::of::<Settings>(), from_environment: None },
    roles: false,
    open,
    runners: |_| Vec::new(),
    files: |_| Vec::new(),
    write: Some(sealed::WRITING),
    seal: None,
};

struct Files {
    calls: Calls,
    folder: Arc<Folder>,
    identity: String,
}

fn open(opening: &Opening<'_>) -> Result<Arc<dyn Store>, String> {
    let settings = opening.store.settings.downcast_ref::<Settings>().ok_or("its settings are of another kind")?;
    let calls = Calls::new(opening.label, &opening.observer);
    match (&settings.folder, &settings.sealed, &settings.key) {
        (Some(folder), None, None) => {
            let identity = format!("folder {}", folder.display());
            Ok(Arc::new(Files { folder: Arc::new(Folder::new(folder, opening.label)), calls, identity }))
        }
        (None, Some(_), Some(_)) => sealed::open(opening),
        _ => Err("give either `folder`, or `sealed` with its `key`".to_owned()),
    }
}

impl Files {
    /// Runs it in a thread that may hang, in its turn.
    async fn away<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Result<T, StoreError> {
        let turn = self.calls.turn().await?;
        blocking(move || {
            let _turn = turn;
            work()
        })
        .await
    }
}

impl Store for Files {
    fn read<'a>(&'a self, _: SessionId, path: &'a SecretPath, _fresh: bool) -> BoxFuture<'a, Result<Document, StoreError>> {
        let (folder, path) = (Arc::clone(&self.folder), path.clone());
        Box::pin(self.calls.make("read", self.away(move || folder.read(&path))))
    }

    fn status(&self) -> BoxFuture<'_, Result<StoreStatus, StoreError>> {
        let folder = Arc::clone(&self.folder);
        Box::pin(self.calls.make("status", self.away(move || folder.check().map(|()| StoreStatus::tokenless("folder")))))
    }

    fn identity(&self) -> &str {
        &self.identity
    }
}
