//! The protocols: one row each. Adding one is a folder, a `mod` line and a row in [`KINDS`].

use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use keyward_auth::Grant;
use keyward_config::{Config, Connection, Listener, Problems, ProtocolSettings, Settings};

use crate::error::SessionError;
use crate::link::Link;
use crate::mysql;
use crate::postgres;
use crate::relay::End;
use crate::server::Proxy;
use crate::ssh;
use crate::stream::Stream;
use crate::upstream::Preface;

/// Every protocol. Listeners, `check`, schema, documentation, metric labels and the contract tests iterate it.
pub const KINDS: &[Kind] = &[postgres::KIND, mysql::KIND, ssh::KIND];

/// A protocol.
pub struct Kind {
    /// Its word and its keys in the file.
    pub settings: ProtocolSettings,
    /// What it knows of the way to its servers.
    pub preface: Preface,
    /// Checks of a connection what the settings types cannot say by themselves.
    pub check: fn(&Connection, &mut Problems),
    /// Checks of a listener, with the users of the file, what the settings types cannot say by themselves.
    pub check_listener: fn(&Listener, &Config, &mut Problems),
    /// Serves one client from its first byte to its last. Says what to tell the client by itself.
    pub serve: for<'a> fn(&'a mut Link, &'a mut Stream) -> BoxFuture<'a, Result<Served, SessionError>>,
    /// A listener of it is about to be opened: makes ready what it needs, in the state folder. Called again for each one.
    pub ready: fn(&Proxy, &Path) -> Result<(), String>,
    /// What it keeps for the whole process; found again by `Proxy::kept`.
    pub keeps: fn() -> Settings,
    /// The file was read: at the start and after every reload. Does not wait.
    pub opened: fn(&Arc<Proxy>),
    /// Logs in upstream for real and out again, with an operator's grant.
    pub probe: fn(Arc<Proxy>, Grant) -> BoxFuture<'static, Result<Probed, SessionError>>,
}

/// How a link ended when nothing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// It closed before its first byte.
    Probe,
    /// A request on behalf of another session, such as a cancel.
    Request,
    /// A session, ended by this.
    Session(End),
}

/// What a login for `check` showed.
pub struct Probed {
    /// The server's version text, escaped.
    pub version: String,
    /// By what it was verified.
    pub verified_by: crate::upstream::VerifiedBy,
    /// Where the credential came from.
    pub provenance: keyward_auth::Provenance,
}

/// The row with this name.
#[must_use]
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.settings.name == name)
}
