//! Which paths of the server a want comes down to, and what has to be allowed there.

use super::super::mount::{Engine, Mount};
use super::super::{kv, ssh};
use crate::store::SecretPath;
use crate::store::needs::{Asks, Want};
use crate::store::reference::{Form, USER};

/// A path of the server that a want comes down to.
pub(super) struct Place {
    /// As a policy names it: with `+` for a segment that has a user's name in it.
    pub(super) path: String,
    pub(super) may: May,
    pub(super) leases: Leases,
    /// What has to be so for it to be this one; empty where that is known.
    pub(super) only_if: String,
}

/// The capability that is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum May {
    Read,
    Update,
}

/// What a role issues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leases {
    None,
    /// For one login: given back, never renewed.
    Brief,
    /// Renewed while they are used.
    Kept,
}

impl May {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Update => "update",
        }
    }
}

impl Place {
    fn of(path: &str, may: May, leases: Leases) -> Self {
        let segments: Vec<&str> = path.split('/').map(|segment| if segment.contains(USER) { "+" } else { segment }).collect();
        Self { path: segments.join("/"), may, leases, only_if: String::new() }
    }

    /// The ids of the leases that it issues, as a pattern.
    pub(super) fn lease_ids(&self) -> String {
        let segments: Vec<&str> = self.path.split('/').map(|segment| if segment == "+" { "*" } else { segment }).collect();
        format!("{}/*", segments.join("/"))
    }

    /// Whether what is allowed there is allowed for this path.
    pub(super) fn covers(&self, path: &str) -> bool {
        let (mut own, mut other) = (self.path.split('/'), path.split('/'));
        loop {
            match (own.next(), other.next()) {
                (None, None) => return true,
                (Some(own), Some(other)) if own == "+" || own == other => {}
                _ => return false,
            }
        }
    }
}

/// What a want comes down to. `mount`: what is known of its mount. Several: one of them, and it is not known which.
pub(super) fn places(want: &Want, mount: Option<&Mount>) -> Vec<Place> {
    let path = want.path.as_str();
    let is_ssh = mount.map(|mount| mount.engine == Engine::Other(ssh::ENGINE.to_owned()));
    match want.asks {
        Asks::Secret if want.path.form() == Form::Kv => of_secret(&want.path, mount),
        Asks::Secret => vec![Place::of(path, May::Read, Leases::None)],
        Asks::Certificate => vec![Place::of(path, May::Update, Leases::None)],
        Asks::Account if is_ssh != Some(true) => vec![Place::of(path, May::Read, Leases::Kept)],
        Asks::Password if is_ssh == Some(false) => vec![Place::of(path, May::Read, Leases::Kept)],
        Asks::Account | Asks::Password => vec![Place::of(path, May::Update, Leases::Brief)],
    }
}

fn of_secret(path: &SecretPath, mount: Option<&Mount>) -> Vec<Place> {
    let text = path.as_str();
    let read = |path: &str| Place::of(path, May::Read, Leases::None);
    match (kv::place(path, mount), text.split_once('/')) {
        (Ok(place), _) => vec![read(&place.path)],
        (Err(_), Some((first, rest))) if mount.is_none() && !path.segments().any(|segment| segment == "data") => {
            let version_1 = Place { only_if: "if its mount is KV version 1".to_owned(), ..read(text) };
            let only_if = format!("if `{first}` is a mount of KV version 2");
            vec![version_1, Place { only_if, ..read(&format!("{first}/data/{rest}")) }]
        }
        // What is wrong with it, `check` says.
        (Err(_), _) => vec![read(text)],
    }
}

/// Whether its text leaves open what it comes down to: only the server knows where its mount ends, and of which kind that is.
pub(super) fn is_open(want: &Want) -> bool {
    match want.asks {
        Asks::Secret => want.path.form() == Form::Kv && want.path.segments().nth(1) != Some("data"),
        Asks::Password => true,
        Asks::Account | Asks::Certificate => false,
    }
}
