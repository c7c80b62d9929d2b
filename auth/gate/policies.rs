//! What the stores have to allow, and what they do allow: for `keyward policy` and `keyward check`.

use keyward_config::Config;

use super::Gate;
use crate::store::needs::Needs;
use crate::store::policies::{AskStore, Rights, StorePolicy};
use crate::{StoreError, StoreErrorKind};

impl Gate {
    /// The smallest policies that a store of this state of the file needs: one for each of its logins.
    ///
    /// # Errors
    /// `Disabled`: no store of this name is open. `Malformed`: it is of a kind that has no policies.
    pub async fn store_policies(&self, config: &Config, store: &str, ask: AskStore) -> Result<Vec<StorePolicy>, StoreError> {
        let missing = || StoreError::new(StoreErrorKind::Disabled, format!("no store {} is open", store.escape_debug()));
        let entry = config.stores.get(store).ok_or_else(missing)?;
        let current = self.current.load_full();
        let needs = Needs::all(config, &current.policy);
        current.stores.policies(entry, &needs, ask).await
    }

    /// What our token may do in a store that is open under this name ([`Self::store_names`]), held against what the file needs of it.
    /// `None`: it is of a kind that has no policies.
    ///
    /// # Errors
    /// As for [`Self::lease`]; `Denied` if the token may not even ask.
    pub async fn store_rights(&self, config: &Config, name: &str) -> Result<Option<Rights>, StoreError> {
        let current = self.current.load_full();
        current.stores.rights(config, &Needs::all(config, &current.policy), name).await
    }
}
