//! The smallest policies that our logins work with, in the server's own language (vault.md §5.3, §9, §12).
//!
//! A path is in them as it is sent: with the `data/` of KV version 2, and with `+` for a user's name. Where the reference leaves open which
//! path that is, the server knows what is mounted; where it cannot be asked, both forms stand there. Policies are of the namespace of the
//! login, and name what is in a namespace below it with its path.
//!
//! `Stores` calls this through the trait `Policies`. place.rs says which paths are needed, hcl.rs writes them down; rights.rs compares.

mod hcl;
mod place;
mod rights;

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::BoxFuture;
use keyward_config::{Name, Store as Entry};

use self::hcl::{Block, comment, in_reserve, quoted};
use self::place::{Leases, Place, is_open, places};
use super::Vault;
use super::login::settings::Auth;
use super::settings::Settings;
use crate::SessionId;
use crate::store::StoreError;
use crate::store::needs::{Needs, Want};
use crate::store::policies::{AskStore, Policies, Rights};

const REVOKE: &str = "sys/leases/revoke";
const RENEW: &str = "sys/leases/renew";
const RESERVE: &str = "The policy `default` gives this. For a role with token_no_default_policy, take the `# ` away before each line.";

/// Where a policy belongs.
struct Spaces {
    /// The namespace of the login; empty for the root.
    login: String,
    /// The way from there to that of the secrets; with a slash at the end, or empty.
    below: String,
    /// Whether there is such a way.
    reach: Reach,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Below,
    /// The token of the login is of no use there.
    Apart,
}

/// A policy in the making.
#[derive(Default)]
struct Written {
    blocks: BTreeMap<String, Block>,
    /// The ids of the leases that are given back, as patterns.
    leases: BTreeSet<String>,
    /// What its reader has to know.
    remarks: Vec<String>,
}

impl Policies for Vault {
    fn role(&self, entry: &Entry, runner: Option<&Name>) -> Option<Name> {
        auth(entry).and_then(|auth| auth.role(runner)).cloned()
    }

    fn worker(&self, entry: &Entry) -> Option<String> {
        let paths = auth(entry).map(Auth::secret_id_paths).filter(|paths| !paths.is_empty())?;
        let mut written = Written::default();
        for (runner, path) in paths {
            let keys = "  min_wrapping_ttl = \"10s\"\n  max_wrapping_ttl = \"5m\"\n".to_owned();
            let says = format!("Secret ids of the runner {runner}, hidden by a wrapping token.");
            written.blocks.entry(path).or_insert_with(|| Block { keys, ..Block::default() }).add("update", says);
        }
        let whose = format!("For the worker of the store {}: it may read nothing.", entry.name.value);
        Some(written.text(&whose, &Spaces::of(entry), &[("auth/token/revoke-self", "update")]))
    }

    fn policy<'a>(&'a self, entry: &'a Entry, role: Option<&'a Name>, needs: &'a Needs, ask: AskStore) -> BoxFuture<'a, String> {
        Box::pin(self.write_policy(entry, role, needs, ask))
    }

    fn rights<'a>(&'a self, entry: &'a Entry, needs: &'a Needs) -> BoxFuture<'a, Result<Rights, StoreError>> {
        Box::pin(async move { rights::ask(self, &Spaces::of(entry), needs).await })
    }
}

impl Vault {
    async fn write_policy(&self, entry: &Entry, role: Option<&Name>, needs: &Needs, ask: AskStore) -> String {
        let spaces = Spaces::of(entry);
        let mut written = Written::default();
        let mut silent = (ask == AskStore::Never).then(|| "the store was not asked".to_owned());
        let (mut renews, mut per_user, mut open) = (false, false, false);
        for want in needs.wants() {
            let mut mount = None;
            if is_open(want) && silent.is_none() {
                mount = self.mount_of(SessionId::random(), &want.path).await.unwrap_or_else(|error| {
                    // It is not waited for again at the next path.
                    silent = Some(format!("the store could not be asked: {}", error.detail));
                    None
                });
            }
            per_user |= want.path.is_per_user();
            for place in places(want, mount.as_ref()) {
                open |= !place.only_if.is_empty();
                renews |= place.leases == Leases::Kept;
                written.add(want, &place, &spaces);
            }
        }
        written.give_back(&spaces);
        let mut reserve =
            vec![("auth/token/lookup-self", "read"), ("auth/token/renew-self", "update"), ("sys/capabilities-self", "update")];
        match (renews, spaces.below.is_empty()) {
            (true, true) => reserve.push((RENEW, "update")),
            // The policy `default` is that of the login's namespace, and is silent of others.
            (true, false) => written.block(&format!("{}{RENEW}", spaces.below)).add("update", "Leases are renewed.".to_owned()),
            (false, _) => {}
        }
        written.remarks.extend(open.then(|| not_known(silent.as_deref())));
        written.remarks.extend(per_user.then(|| "A `+` stands for the name of each user.".to_owned()));
        written.remarks.extend(written.blocks.is_empty().then(|| "The file wants nothing of it.".to_owned()));
        let whose = role.map_or_else(String::new, |role| format!("the runner {role} of "));
        written.text(&format!("For {whose}the store {}: what Keyward's file needs, and no more.", entry.name.value), &spaces, &reserve)
    }
}

impl Written {
    fn block(&mut self, path: &str) -> &mut Block {
        self.blocks.entry(path.to_owned()).or_default()
    }

    fn add(&mut self, want: &Want, place: &Place, spaces: &Spaces) {
        let by = want.by.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let says = if place.only_if.is_empty() { by } else { format!("{by}; {}", place.only_if) };
        self.block(&format!("{}{}", spaces.below, place.path)).add(place.may.word(), says);
        if place.leases != Leases::None {
            self.leases.insert(place.lease_ids());
        }
    }

    /// By the lease ids that it issues: with the capability and no more, a token could give back anybody's.
    fn give_back(&mut self, spaces: &Spaces) {
        if self.leases.is_empty() {
            return;
        }
        let ids: String = self.leases.iter().map(|id| format!("      {},\n", quoted(id))).collect();
        let block = self.block(&format!("{}{REVOKE}", spaces.below));
        block.add("update", "Leases are given back: those of these roles.".to_owned());
        block.keys = format!("  allowed_parameters = {{\n    \"lease_id\" = [\n{ids}    ]\n    \"sync\" = []\n  }}\n");
    }

    /// All of it. `reserve`: what a login uses that the policy `default` gives.
    fn text(&self, whose: &str, spaces: &Spaces, reserve: &[(&str, &str)]) -> String {
        let mut text = comment(whose);
        if !spaces.login.is_empty() {
            let at = &spaces.login;
            text += &comment(&format!("It belongs into the namespace {at}: bao policy write -namespace={at} NAME -"));
        }
        if spaces.reach == Reach::Apart {
            text += &comment("The namespace of the secrets is not below that of the login: no policy leads there.");
        }
        text.extend(self.remarks.iter().map(|remark| comment(remark)));
        text.extend(self.blocks.iter().map(|(path, block)| format!("\n{}", block.text(path))));
        text += "\n";
        text += &comment(RESERVE);
        text.extend(reserve.iter().map(|(path, capability)| in_reserve(path, capability)));
        text
    }
}

impl Spaces {
    fn of(entry: &Entry) -> Self {
        let settings = entry.settings.downcast_ref::<Settings>();
        let (login, secrets) = settings.map_or(("", ""), |settings| (settings.login_namespace(), settings.namespace()));
        let rest = if login.is_empty() { Some(secrets) } else { secrets.strip_prefix(login) };
        let rest = rest.filter(|rest| login.is_empty() || rest.is_empty() || rest.starts_with('/')).map(|rest| rest.trim_matches('/'));
        let below = rest.filter(|rest| !rest.is_empty()).map_or_else(String::new, |rest| format!("{rest}/"));
        Self { login: login.to_owned(), below, reach: if rest.is_some() { Reach::Below } else { Reach::Apart } }
    }
}

fn auth(entry: &Entry) -> Option<&Auth> {
    entry.settings.downcast_ref::<Settings>()?.auth.as_ref()
}

/// Why both forms of a path are there. `silent`: why the store did not tell which one it is; `None`: it may not.
fn not_known(silent: Option<&str>) -> String {
    let why = silent.unwrap_or("the store tells only those who may use something there");
    format!("Which version of KV is mounted is not known: {why}. With both forms in force it can be asked: then only one is left.")
}

#[cfg(test)]
mod tests;
