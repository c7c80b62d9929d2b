//! What the store refused last: the same proof is not sent again for a while, whoever asks.

use tokio::time::Instant;

use super::{Granted, Rejected};
use crate::store::StoreErrorKind;

/// The login that was refused last, by its fingerprint.
#[derive(Default)]
pub(in crate::store::vault) struct HeldBack(Option<([u8; 32], Rejected)>);

impl HeldBack {
    /// Why this login is not sent again yet.
    pub(in crate::store::vault) fn of(&self, fingerprint: &[u8; 32]) -> Option<&Rejected> {
        let (held_back, rejected) = self.0.as_ref()?;
        (held_back == fingerprint && Instant::now() < rejected.until).then_some(rejected)
    }

    /// It was sent, and this came of it. That the store could not be asked is no refusal, and takes none back.
    pub(in crate::store::vault) fn learn(&mut self, fingerprint: [u8; 32], result: &Result<Granted, Rejected>) {
        match result {
            Ok(_) => self.0 = None,
            Err(rejected) if rejected.error.kind == StoreErrorKind::LoginFailed => self.0 = Some((fingerprint, rejected.clone())),
            Err(_) => {}
        }
    }
}
