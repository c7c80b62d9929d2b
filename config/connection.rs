//! A connection: a registered asset, its address, and where its credential lives.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error};

use crate::entry::{Entry, joined, row};
use crate::protected::{GivenKeys, given_schema};
use crate::read::TextOr;
use crate::upstream_tls::TlsInput;
use crate::{
    Assets, Host, Kinds, Limits, Name, Node, Period, Problems, Reason, SecretInput, Settings, Spanned, Template, UpstreamAddress,
    UpstreamTls,
};

/// A registered asset as the file declares it. The generic keys; those of its protocol are in `settings`.
pub struct Connection {
    /// What users call it.
    pub name: Spanned<Name>,
    /// The name of its protocol's row.
    pub protocol: &'static str,
    /// What it leads to.
    pub assets: Assets,
    /// Where it is.
    pub place: Place,
    /// The store of its references, where they name none.
    pub store: Option<Spanned<Name>>,
    /// Which of the logins of `store` fetches its secrets. `None`: the store's own.
    pub runner: Option<Spanned<Name>>,
    /// How its server is verified. `None`: `verify-full`, and `disable` on loopback and unix sockets.
    pub tls: Option<Spanned<UpstreamTls>>,
    /// Why an upstream that cannot be verified may still be given a secret.
    pub insecure: Option<Spanned<Reason>>,
    /// Who uses a dynamic account together. `None`: nobody.
    pub lease: Option<Spanned<LeaseSharing>>,
    /// How much of its lease a session has at least. `None`: one that joins it later [`Connection::MIN_SESSION`], one that asked for it
    /// whatever there is.
    pub min_session: Option<Spanned<Period>>,
    /// Named logins, at least one. A connection that names none has `default`.
    pub accounts: BTreeMap<Name, Account>,
    /// Limits of its own.
    pub limits: ConnectionLimits,
    /// The settings type of its protocol.
    pub settings: Settings,
    /// What has to be filled in from a store before it can be used: its fields hold nothing of worth until then. `None`: nothing.
    pub template: Option<Template>,
    /// The entry itself, to tell whether a reload changed it.
    pub node: Node,
}

/// Where an asset is.
pub enum Place {
    /// At one address.
    At(Spanned<UpstreamAddress>),
    /// It is a group of servers, at least one line of them, which have its accounts and rules in common. Only of [`Assets::Servers`].
    Among(Vec<Spanned<Host>>),
}

impl Place {
    /// The one address.
    #[must_use]
    pub fn address(&self) -> Option<&UpstreamAddress> {
        if let Self::At(address) = self { Some(address) } else { None }
    }

    /// The lines of a group.
    #[must_use]
    pub fn hosts(&self) -> &[Spanned<Host>] {
        if let Self::Among(hosts) = self { hosts } else { &[] }
    }
}

/// A named login on a connection. The real login stays in the store.
#[derive(serde::Deserialize, Default)]
#[serde(try_from = "AccountKeys")]
pub struct Account {
    /// One reference that gives user and secret.
    pub credential: Option<Spanned<CredentialField>>,
    /// The login name on the asset.
    pub username: Option<Spanned<CredentialField>>,
    /// The password on the asset.
    pub password: Option<Spanned<CredentialField>>,
    /// A private key in PEM or OpenSSH form.
    pub private_key: Option<Spanned<CredentialField>>,
    /// What decrypts `private_key`.
    pub passphrase: Option<Spanned<CredentialField>>,
}

/// An account as it is written.
#[derive(serde::Deserialize, JsonSchema, Default)]
#[serde(default)]
pub(crate) struct AccountKeys {
    /// One reference that gives user and secret: a dynamic role (`db/creds/role`), a static role (`db/static-creds/role`) or a
    /// whole secret with the keys `username` and `password` (or `private_key`). Of an SSH engine: a role that signs a certificate for each
    /// session (`ssh/sign/role`, with `username` beside it) or gives one-time passwords (`ssh/creds/role`).
    credential: Option<Spanned<CredentialField>>,
    /// The login name on the asset.
    username: Option<Spanned<CredentialField>>,
    /// The password on the asset.
    password: Option<Spanned<CredentialField>>,
    /// A private key in PEM or OpenSSH form.
    private_key: Option<Spanned<CredentialField>>,
    /// What decrypts `private_key`.
    passphrase: Option<Spanned<CredentialField>>,
    /// The old spelling of `username` (a reference with a `?key`) or of `credential` (one without).
    account: Option<Spanned<CredentialField>>,
}

impl TryFrom<AccountKeys> for Account {
    type Error = &'static str;

    fn try_from(keys: AccountKeys) -> Result<Self, Self::Error> {
        let AccountKeys { mut credential, mut username, password, private_key, passphrase, account } = keys;
        if let Some(account) = account {
            let whole = matches!(&account.value, CredentialField::Reference(text) if !text.contains('?'));
            let slot = if whole { &mut credential } else { &mut username };
            if slot.replace(account).is_some() {
                return Err("`account` is an old spelling of `credential` or `username`, which is here too; expected one of them");
            }
        }
        Ok(Self { credential, username, password, private_key, passphrase })
    }
}

/// One part of a credential: a plain string is a reference into the store (`prod_db/data/mysql?username`); anything else says
/// what it is: `{ literal: … }`, `{ file: … }` or `{ env: … }`; `{ secret: … }` is the plain string.
pub enum CredentialField {
    /// A reference, not yet parsed: its grammar is the store's.
    Reference(String),
    /// A value in the file itself, or in a file or variable that it names. For throw-away use; `check` says so.
    Given(SecretInput),
}

/// Who uses a dynamic account, and its lease, together.
#[derive(serde::Deserialize, JsonSchema, Default, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum LeaseSharing {
    /// Nobody: each session has its own.
    #[default]
    PerSession,
    /// The sessions of one user that overlap.
    PerUser,
    /// All sessions that overlap.
    Shared,
}

/// Limits of one connection; absent: those of the top level.
#[derive(serde::Deserialize, JsonSchema, Default, Clone, PartialEq, Eq)]
#[serde(default)]
pub struct ConnectionLimits {
    /// Sessions at one time on this connection, of all users together; 1 or more.
    pub max_sessions: Option<u32>,
    /// A session in which no byte moved for this long is ended.
    pub idle_timeout: Option<Period>,
    /// A session is ended when it is this old.
    pub max_lifetime: Option<Period>,
    /// How long before its end a session's client is told of it; an empty list: never.
    pub end_warnings: Option<Vec<Period>>,
    /// Dynamic accounts that one user has on this connection at one time: those that he uses, those that are being made, and those that the
    /// store has not taken back yet. One that several sessions use together counts once, for who asked for it. 0: no limit. Default 20.
    pub max_leases_per_user: Option<u32>,
}

impl ConnectionLimits {
    /// What a person with several programs open needs, and far from what would wear out a store or its database.
    const LEASES_PER_USER: u32 = 20;

    fn check(&self, node: Option<&Node>, path: &str, problems: &mut Problems) {
        if let (Some(0), Some(node)) = (self.max_sessions, node) {
            problems.error(node.span_of("max_sessions"), joined(path, "limits.max_sessions"), Limits::NOBODY);
        }
    }

    /// The dynamic accounts that one user has at one time. `None`: no limit.
    #[must_use]
    pub fn leases_per_user(&self) -> Option<u32> {
        Some(self.max_leases_per_user.unwrap_or(Self::LEASES_PER_USER)).filter(|most| *most > 0)
    }
}

/// The generic keys of a connection.
#[derive(serde::Deserialize, JsonSchema)]
pub(crate) struct ConnectionKeys {
    /// The protocol that the asset speaks.
    #[serde(rename = "protocol", default)]
    _protocol: String,
    /// Where the asset is: host:port, \[IPv6\]:port, or the absolute path of a unix socket. A missing port is the protocol's own.
    address: Option<Spanned<UpstreamAddress>>,
    /// The store of the references that name none.
    store: Option<Spanned<Name>>,
    /// Which of the logins of `store` fetches the secrets, where the store has several (`auth.runners`). Default: the store's own.
    runner: Option<Spanned<Name>>,
    /// How the server is verified: a mode, or a mapping. Default: `verify-full`; `disable` on loopback and unix sockets, if the file has their
    /// address itself and not in a store.
    tls: Option<Spanned<TlsInput>>,
    /// Why an upstream that cannot be verified may still be given a secret.
    insecure: Option<Spanned<Reason>>,
    /// Who uses a dynamic account (`credential: mount/creds/role`) together while their sessions overlap: `per_session` (nobody),
    /// `per_user` (the sessions of one user) or `shared` (all sessions). Default `per_session`.
    lease: Option<Spanned<LeaseSharing>>,
    /// A session joins the lease of others only if this much is left until it would be ended with that lease; else it gets a new one. Where
    /// it is written here, no session begins on a new lease either that is known to end sooner: the store is asked once for this much, and
    /// what it gives less is given back. Default 60s, for joining alone.
    min_session: Option<Spanned<Period>>,
    /// Named logins. Instead of them, one login's keys stand in the connection itself; its name is then `default`.
    accounts: Option<Spanned<BTreeMap<Name, Account>>>,
    /// Limits of this connection.
    #[serde(default)]
    limits: ConnectionLimits,
}

/// The further keys of a connection that leads to servers.
#[derive(serde::Deserialize, JsonSchema)]
pub(crate) struct ServerKeys {
    /// Instead of `address`: servers that have store, accounts and rules in common, each a host[:port] or a pattern of names such as
    /// web-*.prod.internal. A user names one of them as he would name a connection; rules name the group. A host that several lines mean is
    /// of the one that writes it out, else of the pattern that has more of it.
    hosts: Option<Spanned<Vec<Spanned<Host>>>>,
}

impl Connection {
    /// What a session that joins a lease has of it at least, where the file says nothing: enough for what people and pools open a session
    /// for, and far below the third of an hour that a lease of an hour always has left.
    pub const MIN_SESSION: Period = Period::from_secs(60);

    pub(crate) fn read(name: Spanned<Name>, written: &Node, path: &str, kinds: &Kinds<'_>, problems: &mut Problems) -> Option<Self> {
        let row = row(written, path, "protocol", kinds.protocols, |row| row.name, problems);
        let (lifted, template) = match row {
            Some(row) => Template::lift(&name, *row, written, path),
            None => (written.clone(), None),
        };
        let node = &lifted;
        let mut entry = Entry::new(node, path);
        let keys: Option<ConnectionKeys> = entry.part(problems);
        let own: Option<Account> = entry.part(problems);
        let row = row?;
        let servers: Option<ServerKeys> = if row.assets == Assets::Servers { Some(entry.part(problems)?) } else { None };
        let settings = entry.settings(row.connection, problems);
        if !entry.finish(problems) {
            return None;
        }
        let keys = keys?;
        keys.limits.check(node.get("limits"), path, problems);
        let place = place(keys.address, servers, node, path, problems);
        let accounts = accounts(own?, keys.accounts, node, path, problems)?;
        Some(Self {
            name,
            protocol: row.name,
            assets: row.assets,
            place: place?,
            store: keys.store,
            runner: keys.runner,
            tls: keys.tls.map(|tls| Spanned::new(tls.value.0, tls.span)),
            insecure: keys.insecure,
            lease: keys.lease,
            min_session: keys.min_session,
            accounts,
            limits: keys.limits,
            settings: settings?,
            template,
            node: written.clone(),
        })
    }
}

/// The one address, or the servers of a group.
fn place(
    address: Option<Spanned<UpstreamAddress>>,
    servers: Option<ServerKeys>,
    node: &Node,
    path: &str,
    problems: &mut Problems,
) -> Option<Place> {
    let may_be_group = servers.is_some();
    match (address, servers.and_then(|keys| keys.hosts)) {
        (Some(address), None) => return Some(Place::At(address)),
        (None, Some(hosts)) if !hosts.is_empty() => return Some(Place::Among(hosts.value)),
        (None, Some(hosts)) => problems.error(hosts.span, joined(path, "hosts"), "expected at least one host"),
        (Some(_), Some(hosts)) => problems.error(hosts.span, path, "expected either `address` or `hosts`, not both"),
        (None, None) if may_be_group => problems.error(node.span(), path, "expected `address`, or `hosts`"),
        (None, None) => problems.error(node.span(), path, "the key \"address\" is missing"),
    }
    None
}

/// The named logins, or the one that stands in the connection itself.
fn accounts(
    own: Account,
    named: Option<Spanned<BTreeMap<Name, Account>>>,
    node: &Node,
    path: &str,
    problems: &mut Problems,
) -> Option<BTreeMap<Name, Account>> {
    let Account { credential, username, password, private_key, passphrase } = &own;
    let parts = [credential, username, password, private_key, passphrase];
    let first = parts.into_iter().flatten().map(|part| part.span).min();
    match (named, first) {
        (Some(named), None) if named.is_empty() => {
            problems.error(named.span, joined(path, "accounts"), "expected at least one account");
            None
        }
        (Some(named), None) => Some(named.value),
        (None, Some(_)) => Some(BTreeMap::from([("default".parse().ok()?, own)])),
        (Some(_), Some(span)) => {
            problems.error(span, path, "expected either `accounts` or the keys of one credential, not both");
            None
        }
        (None, None) => {
            let expected = "expected `credential`, or `username` with `password` or `private_key`, or `accounts`";
            problems.error(node.span(), path, expected);
            None
        }
    }
}

impl<'de> Deserialize<'de> for CredentialField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match TextOr::<GivenKeys>::deserialize(deserializer)? {
            TextOr::Text(text) => Ok(Self::Reference(text.as_str().to_owned())),
            TextOr::Map(keys) => match keys.try_into().map_err(D::Error::custom)? {
                SecretInput::Reference(text) => Ok(Self::Reference(text)),
                input => Ok(Self::Given(input)),
            },
        }
    }
}

impl JsonSchema for CredentialField {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CredentialField".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A plain string is a reference into the store, such as `prod_db/data/mysql?username`; else where the value is.",
            "anyOf": [{ "type": "string", "minLength": 1 }, given_schema(generator)],
        })
    }
}

impl JsonSchema for Account {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Account".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        AccountKeys::json_schema(generator)
    }
}
