//! What our token may do, held against what the file needs (vault.md §12): for `keyward check`.
//!
//! The server is asked for the capabilities of every path that is needed, of paths beside them that nobody has, and of those by which a
//! token could give itself more. What a capability does not show is whose leases may be given back: that is tried with ids that nobody has.

use std::collections::{BTreeMap, BTreeSet};

use keyward_config::Name;
use reqwest::Method;
use serde_json::{Value, json};

use super::super::client::{Call, Retry, Space};
use super::super::mount::{Engine, Mount};
use super::super::{Vault, failed};
use super::place::{Leases, May, Place, places};
use super::{RENEW, REVOKE, Spaces};
use crate::SessionId;
use crate::store::needs::{Asks, Needs, Want};
use crate::store::policies::Rights;
use crate::store::{StoreError, StoreErrorKind};

/// Paths that are asked for in one call.
const CHUNK: usize = 100;
/// What changes something.
const CHANGES: [&str; 4] = ["create", "update", "patch", "delete"];
/// By which a token could have more than it was given, or take from others: each with what it means. One that ends with a slash is asked for
/// with a name behind it that nobody has.
const POWERS: [(&str, &str); 5] = [
    ("sys/policies/acl/", "may change policies"),
    ("auth/token/create", "may make tokens"),
    ("sys/auth/", "may change auth methods"),
    ("sys/mounts/", "may change secrets engines"),
    ("sys/leases/revoke-prefix/", "may give back the leases of all others"),
];

/// What a want comes down to.
struct Needed<'a> {
    want: &'a Want,
    mount: Option<Mount>,
    /// As a policy names it.
    patterns: Vec<Place>,
    /// The paths themselves, for each user. Several for one: one of them, and it is not known which.
    paths: Vec<Vec<Place>>,
}

/// What may be done at each path that was asked for.
struct Capabilities {
    of: BTreeMap<String, BTreeSet<String>>,
    below: String,
}

/// A folder, or the roles of one kind, beside what is needed.
struct Beside {
    /// With a slash at the end.
    scope: String,
    /// A path in it that nobody has.
    path: String,
}

pub(super) async fn ask(vault: &Vault, spaces: &Spaces, needs: &Needs) -> Result<Rights, StoreError> {
    let nobody = SessionId::random().as_str().to_owned();
    let mut needed = Vec::new();
    for want in needs.wants() {
        // A mount that our token may not know is one under which it may do nothing.
        needed.push(Needed::new(want, vault.mount_of(SessionId::random(), &want.path).await?, &nobody));
    }
    let beside = beside(&needed, &nobody);
    let asked = needed.iter().flat_map(Needed::places).map(|place| place.path.clone());
    let asked: BTreeSet<String> =
        asked.chain(beside.iter().map(|beside| beside.path.clone())).chain([REVOKE, RENEW].map(str::to_owned)).collect();
    let in_login = POWERS.iter().map(|(path, _)| power(path, &nobody)).collect();
    let capabilities = Capabilities::ask(vault, spaces, asked, in_login).await?;
    if capabilities.has(REVOKE, "root") {
        return Ok(Rights { lacks: Vec::new(), beyond: vec!["it is a root token: it may do everything".to_owned()] });
    }
    let renewed: Vec<String> = needed.iter().filter(|one| one.issues(Leases::Kept)).map(Needed::by).collect();
    let mut rights = Rights { lacks: lacks(&needed, &capabilities), beyond: capabilities.beyond(&needed, &beside) };
    if !renewed.is_empty() && !capabilities.has(RENEW, May::Update.word()) {
        rights.lacks.push(format!("update is denied: {RENEW} (for {})", renewed.join(", ")));
    }
    for (path, says) in POWERS {
        if CHANGES.iter().any(|change| capabilities.in_login(&power(path, &nobody), change)) {
            rights.beyond.push(format!("{says} ({path})"));
        }
    }
    give_back(vault, &needed, &capabilities, &nobody, &mut rights).await?;
    Ok(rights)
}

impl<'a> Needed<'a> {
    fn new(want: &'a Want, mount: Option<Mount>, nobody: &str) -> Self {
        let of = |user: &Name| places(&Want { path: want.path.for_user(user).into_owned(), ..want.clone() }, mount.as_ref());
        let stand_in = nobody.parse::<Name>().ok().filter(|_| want.users.is_empty());
        let paths = want.users.iter().chain(stand_in.as_ref()).map(of).collect();
        Self { want, patterns: places(want, mount.as_ref()), paths, mount }
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        self.paths.iter().flatten()
    }

    fn by(&self) -> String {
        self.want.by.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    fn issues(&self, leases: Leases) -> bool {
        self.patterns.iter().any(|place| place.leases == leases)
    }

    /// The mount of a KV secret, with the `data/` of version 2, as far as that is known.
    fn whole_mount(&self) -> Option<(String, String)> {
        let path = self.want.path.as_str();
        match self.mount.as_ref().map(|mount| (&mount.engine, mount.path.clone())) {
            Some((Engine::Kv2, mount)) => Some((format!("{mount}data/"), mount)),
            Some((Engine::Kv1, mount)) => Some((mount.clone(), mount)),
            Some((Engine::Other(_), _)) => None,
            None => path
                .split_once("/data/")
                .filter(|(first, _)| !first.contains('/'))
                .map(|(first, _)| (format!("{first}/data/"), format!("{first}/"))),
        }
    }
}

/// A path by which a token could have more, as it is asked for.
fn power(path: &str, nobody: &str) -> String {
    if path.ends_with('/') { format!("{path}{nobody}") } else { path.to_owned() }
}

/// What stands beside that which is needed, and is not needed itself: the folder of each secret, the other roles, the whole mount.
fn beside(needed: &[Needed<'_>], nobody: &str) -> Vec<Beside> {
    let mut all = BTreeMap::new();
    for one in needed {
        let folders =
            one.places().filter_map(|place| place.path.rsplit_once('/')).map(|(folder, _)| (format!("{folder}/"), format!("{folder}/")));
        let mount = one.whole_mount().filter(|_| one.want.asks == Asks::Secret);
        for (before, scope) in folders.chain(mount) {
            let path = format!("{before}{nobody}");
            let wanted = needed.iter().flat_map(|other| &other.patterns).any(|pattern| pattern.covers(&path));
            if !wanted {
                all.insert(scope, path);
            }
        }
    }
    all.into_iter().map(|(scope, path)| Beside { scope, path }).collect()
}

/// What the file needs and the token may not.
fn lacks(needed: &[Needed<'_>], capabilities: &Capabilities) -> Vec<String> {
    let mut lacks = Vec::new();
    for one in needed {
        for alternatives in &one.paths {
            let allowed = |place: &Place| capabilities.has(&place.path, place.may.word());
            if let Some(first) = alternatives.first().filter(|_| !alternatives.iter().any(allowed)) {
                lacks.push(format!("{} is denied: {} (for {})", first.may.word(), first.path, one.by()));
            }
        }
    }
    lacks
}

/// Tries whose leases the token may give back.
async fn give_back(
    vault: &Vault,
    needed: &[Needed<'_>],
    capabilities: &Capabilities,
    nobody: &str,
    rights: &mut Rights,
) -> Result<(), StoreError> {
    let may = capabilities.has(REVOKE, May::Update.word());
    for one in needed.iter().filter(|one| !one.issues(Leases::None)) {
        let role = one.paths.first().and_then(|alternatives| alternatives.first());
        let Some(role) = role.map(|place| place.path.as_str()) else { continue };
        if !may || !try_to_give_back(vault, &format!("{role}/{nobody}")).await? {
            rights.lacks.push(format!("update is denied: {REVOKE} with the lease ids of {role} (for {})", one.by()));
        }
    }
    if may && try_to_give_back(vault, &format!("{nobody}/creds/{nobody}/{nobody}")).await? {
        rights.beyond.push(format!("may give back any lease whose id it knows ({REVOKE} without allowed_parameters)"));
    }
    Ok(())
}

/// Whether a lease of this id could be given back, if there were one: the server takes an unknown one for given back.
async fn try_to_give_back(vault: &Vault, lease_id: &str) -> Result<bool, StoreError> {
    match vault.revoke_lease(lease_id).await {
        Ok(()) => Ok(true),
        Err(error) if error.kind == StoreErrorKind::Denied => Ok(false),
        Err(error) => Err(error),
    }
}

impl Capabilities {
    /// `in_login`: paths of the login's own namespace.
    async fn ask(vault: &Vault, spaces: &Spaces, paths: BTreeSet<String>, in_login: BTreeSet<String>) -> Result<Self, StoreError> {
        let paths: Vec<String> = paths.into_iter().map(|path| format!("{}{path}", spaces.below)).chain(in_login).collect();
        let mut of = BTreeMap::new();
        for some in paths.chunks(CHUNK) {
            let body = json!({ "paths": some });
            let path = "sys/capabilities-self";
            let call = Call { method: Method::POST, body: Some(&body), space: Space::Login, ..Call::get("capabilities", path) };
            let asked = vault.request(&call, Retry::Idempotent).await;
            let (mut answer, _) = asked.map_err(failed("asking what our token may do"))?;
            let data = answer.take_data();
            for path in some {
                let words = data.get(path).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
                of.insert(path.clone(), words.map(str::to_owned).collect());
            }
        }
        Ok(Self { of, below: spaces.below.clone() })
    }

    fn of(&self, path: &str) -> impl Iterator<Item = &str> {
        let all = self.of.get(&format!("{}{path}", self.below)).into_iter().flatten();
        all.map(String::as_str).filter(|capability| *capability != "deny")
    }

    fn has(&self, path: &str, capability: &str) -> bool {
        self.of(path).any(|own| own == capability)
    }

    fn in_login(&self, path: &str, capability: &str) -> bool {
        self.of.get(path).is_some_and(|own| own.contains(capability))
    }

    /// What may be done beside what is needed, or at a needed path beside what is needed there. The widest of those that say the same.
    fn beyond(&self, needed: &[Needed<'_>], beside: &[Beside]) -> Vec<String> {
        let wide: Vec<(&str, BTreeSet<&str>)> = beside
            .iter()
            .map(|beside| (beside.scope.as_str(), self.of(&beside.path).collect()))
            .filter(|(_, may): &(_, BTreeSet<_>)| !may.is_empty())
            .collect();
        let told = |path: &str, may: &BTreeSet<&str>| {
            wide.iter().any(|(scope, wider)| path != *scope && path.starts_with(scope) && may.is_subset(wider))
        };
        let words = |may: &BTreeSet<&str>| may.iter().copied().collect::<Vec<_>>().join(", ");
        let scopes = wide.iter().filter(|(scope, may)| !told(scope, may));
        let mut beyond: Vec<String> = scopes.map(|(scope, may)| format!("may {} all of {scope}", words(may))).collect();
        let mut at: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for place in needed.iter().flat_map(Needed::places) {
            at.entry(&place.path).or_default().insert(place.may.word());
        }
        for (path, wanted) in at {
            let more: BTreeSet<&str> = self.of(path).filter(|capability| !wanted.contains(capability)).collect();
            if !more.is_empty() && !told(path, &more) {
                beyond.push(format!("may also {} {path}", words(&more)));
            }
        }
        beyond
    }
}
