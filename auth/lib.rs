//! Who is it, may they, with which credential.
//!
//! [`Gate`] is all that the proxy may ask. In the order in which one session asks it:
//!
//! ```text
//! gate.scram(…) / gate.password(…)     identity/   a proof             → Identity
//! gate.signed(…), gate.public_key(…)   identity/   the same, by a key  → Identity (would_accept: the question before)
//! gate.authorise(&identity, asked)     policy/     the rules           → Grant (carries the connection that it resolved)
//! gate.lease(&grant)                   store/      KV, static, dynamic → Lease (holds the Credential)
//! credential.scram(offered, binding)   scram/      the login upstream by a password's keys, which never leave this crate
//! gate.refetch(&grant, lease)          store/      the upstream rejected a cached credential: once more, if it changed
//! drop(lease) after the upstream is closed         → revoked, journalled, retried
//! ```
//!
//! `Identity` and `Grant` have private fields; only verifiers and only `policy` make them. A store issues nothing without a `&Grant`.

mod gate;
mod identity;
pub mod operator;
mod policy;
#[cfg(test)]
mod sample;
mod scram;
mod secret;
mod session_id;
mod store;
pub mod tls;

#[cfg(feature = "fuzzing")]
pub use store::fuzzing;

pub use gate::{Gate, Replaced};
pub use identity::{AuthFailure, Identity, KeyTrust, Proof, ScramServer, Source, ThrottleKey, UserCertificate, UserKey, Verifier};
pub use policy::{Account, Connection, Denied, Grant, Reachable};
pub use scram::{ScramClient, ScramFailure, ServerSignature};
pub use secret::Secret;
pub use session_id::SessionId;
pub use store::{
    AskStore, Credential, KINDS, Kind, Lease, LeaseEnd, LeaseStats, Observer, Outlook, PolicyOf, Provenance, Rights, StoreError,
    StoreErrorKind, StorePolicy, StoreStatus, Unobserved,
};
