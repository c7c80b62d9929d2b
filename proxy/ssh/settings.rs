//! The keys of SSH in the file, beside the generic ones of a listener, a connection and a rule.

use std::borrow::Cow;
use std::path::Path;

use keyward_auth::{Grant, KeyTrust, Proof};
use keyward_config::{Bytes, Config, Connection, FilePath, Listener, Problems, read_file};
use keyward_ssh_transport::key::PublicKey;
use keyward_ssh_transport::known_hosts::{KnownHosts, Trusted};
use keyward_ssh_transport::policy::Permission;
use keyward_ssh_transport::revocation::Revocations;
use keyward_ssh_transport::{Demand, Limits};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error};

use crate::error::{Party, SessionError, Stage};
use crate::refusal::Refusal;
use crate::settings;

/// Bytes of a file of known hosts or of revoked keys.
const FILE_MAX: u64 = 4 * 1024 * 1024;

/// A listener that speaks SSH.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct ListenerSettings {
    /// How users may prove who they are, in SSH's own words: a list of `publickey` (certificates too), `password`, `keyboard-interactive`
    /// (one prompt, for the same password). Default: all three.
    pub(super) login: Vec<LoginMethod>,
    /// Authorities whose certificates users may log in with, each as in a `.pub` file; the certificate's principal is the user's name here.
    /// Default: none.
    pub(super) trusted_user_ca_keys: Vec<KeyLine>,
    /// Keys and certificates that no longer count: a list of keys or a KRL of ssh-keygen, in a file that is read at every login by key. If it
    /// cannot be read, no key counts. Default: none.
    pub(super) revoked_keys: Option<FilePath>,
    /// After so many bytes in one direction, keys are exchanged again with clients, as with ssh's `RekeyLimit`; at least 1MiB, and more
    /// than 1GiB counts as 1GiB. Default 1GiB.
    pub(super) rekey_limit: Option<RekeyLimit>,
    /// Whether clients have to know strict key exchange, OpenSSH's answer to a prefix truncation attack (CVE-2023-48795) that chacha20-poly1305
    /// is open to: `required`, or `preferred` for those too that are older than it. Default preferred.
    pub(super) strict_kex: StrictKex,
}

impl Default for ListenerSettings {
    fn default() -> Self {
        Self {
            login: LoginMethod::ALL.to_vec(),
            trusted_user_ca_keys: Vec::new(),
            revoked_keys: None,
            rekey_limit: None,
            strict_kex: StrictKex::Preferred,
        }
    }
}

/// How users prove who they are (RFC 4252, RFC 4256).
#[derive(serde::Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "SshLoginMethod")]
pub(super) enum LoginMethod {
    /// By a key of the user's or a certificate of it.
    #[serde(rename = "publickey")]
    PublicKey,
    /// By the user's password.
    Password,
    /// By the same password, at a prompt.
    KeyboardInteractive,
}

impl LoginMethod {
    const ALL: [Self; 3] = [Self::PublicKey, Self::Password, Self::KeyboardInteractive];

    /// The one by which this was proven; `None`: by none of SSH's.
    pub(super) fn of(proof: Proof) -> Option<Self> {
        match proof {
            Proof::PublicKey | Proof::Certificate => Some(Self::PublicKey),
            Proof::Cleartext => Some(Self::Password),
            Proof::KeyboardInteractive => Some(Self::KeyboardInteractive),
            Proof::ScramSha256 | Proof::ScramSha256Plus | Proof::Operator => None,
        }
    }
}

/// A connection to an SSH server, or to a group of them.
#[derive(serde::Deserialize, JsonSchema, Default)]
#[serde(default)]
pub(super) struct ConnectionSettings {
    /// The server's host keys, each as in a `.pub` file (`keyward trust HOST` prints them). Of a group: any of them for any of its servers.
    pub(super) host_keys: Vec<KeyLine>,
    /// A file of known hosts as ssh has it, with wildcards, hashed names, `@cert-authority` and `@revoked`. Read at every login upstream.
    pub(super) known_hosts: Option<FilePath>,
    /// Authorities of host certificates, each as in a `.pub` file; a certificate counts for the name in the address.
    pub(super) host_ca: Vec<KeyLine>,
    /// After so many bytes in one direction, keys are exchanged again with the server; at least 1MiB, and more than 1GiB counts as 1GiB.
    /// Default 1GiB.
    pub(super) rekey_limit: Option<RekeyLimit>,
    /// Whether the server has to know strict key exchange (CVE-2023-48795): `required`, or `preferred`. Default preferred.
    pub(super) strict_kex: StrictKex,
}

/// What a rule says of SSH.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct AccessSettings {
    /// What users may do on SSH servers: a list of `shell`, `exec`, `sftp`, `local-forward` (-L, -D, -W), `remote-forward` (-R), `agent`,
    /// `x11`. Several rules add up. Default: shell, exec, sftp.
    pub(super) channels: Vec<Channel>,
    /// What a jump (`ssh -J`) asks of the user on its inner link: `none`, nothing more, if the client says that the link begins on its own
    /// machine; `key`, another signature. One rule that says `key` is enough. Default none.
    pub(super) jump_login: JumpLogin,
}

impl Default for AccessSettings {
    fn default() -> Self {
        Self { channels: vec![Channel::Shell, Channel::Exec, Channel::Sftp], jump_login: JumpLogin::None }
    }
}

/// A permission of a rule.
#[derive(serde::Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "SshChannel")]
pub(super) enum Channel {
    /// A login shell.
    Shell,
    /// Commands; scp -O, rsync and git are such.
    Exec,
    /// The subsystem sftp; scp uses it too.
    Sftp,
    /// Connections that the server makes for the client: -L, -D, -W, of TCP and of unix sockets.
    LocalForward,
    /// Connections that the server takes for the client: -R, of TCP and of unix sockets.
    RemoteForward,
    /// The client's agent, for the server.
    Agent,
    /// The client's screen, for the server.
    X11,
}

impl From<Channel> for Permission {
    fn from(channel: Channel) -> Self {
        match channel {
            Channel::Shell => Self::Shell,
            Channel::Exec => Self::Exec,
            Channel::Sftp => Self::Sftp,
            Channel::LocalForward => Self::LocalForward,
            Channel::RemoteForward => Self::RemoteForward,
            Channel::Agent => Self::Agent,
            Channel::X11 => Self::X11,
        }
    }
}

/// What a jump asks of the user once more.
#[derive(serde::Deserialize, JsonSchema, Default, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub(super) enum JumpLogin {
    /// Nothing.
    #[default]
    None,
    /// A signature.
    Key,
}

/// Bytes after which keys are exchanged again.
#[derive(JsonSchema, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(transparent)]
pub(super) struct RekeyLimit(Bytes);

impl RekeyLimit {
    const LEAST: u64 = 1024 * 1024;
}

/// Whether a peer is talked to that does not know strict key exchange.
#[derive(serde::Deserialize, JsonSchema, Default, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub(super) enum StrictKex {
    /// It is.
    #[default]
    Preferred,
    /// It is not.
    Required,
}

/// The limits of a transport.
fn limits(rekey: Option<RekeyLimit>, strict: StrictKex) -> Limits {
    let usual = Limits::default();
    let strict = match strict {
        StrictKex::Preferred => Demand::Preferred,
        StrictKex::Required => Demand::Required,
    };
    Limits { rekey_bytes: rekey.map_or(usual.rekey_bytes, |limit| limit.0.get().min(usual.rekey_bytes)), strict, ..usual }
}

impl<'de> Deserialize<'de> for RekeyLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Bytes::deserialize(deserializer)?;
        if bytes.get() < Self::LEAST {
            Err(D::Error::custom("expected at least 1MiB: an exchange of keys takes time"))
        } else {
            Ok(Self(bytes))
        }
    }
}

/// A public key as in a `.pub` file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct KeyLine(pub(super) PublicKey);

impl<'de> Deserialize<'de> for KeyLine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let line = String::deserialize(deserializer)?;
        PublicKey::parse_line(&line)
            .map(Self)
            .map_err(|bad| D::Error::custom(format_args!("expected a public key such as `ssh-ed25519 AAAA…`: {bad}")))
    }
}

impl JsonSchema for KeyLine {
    fn schema_name() -> Cow<'static, str> {
        "SshPublicKey".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "A public key as in a `.pub` file: `ssh-ed25519 AAAA…`.", "type": "string", "minLength": 1 })
    }
}

fn keys(lines: &[KeyLine]) -> Vec<PublicKey> {
    lines.iter().map(|line| line.0.clone()).collect()
}

impl ListenerSettings {
    /// Those of a listener.
    ///
    /// # Errors
    /// `Internal`: it is not of this protocol.
    pub(super) fn of(door: &crate::link::Doorway) -> Result<&Self, SessionError> {
        let none = || SessionError::new(Refusal::Internal, Party::Proxy, Stage::Open, "a listener without its settings");
        door.settings.downcast_ref().ok_or_else(none)
    }

    /// Those of the transports with clients.
    pub(super) fn limits(&self) -> Limits {
        limits(self.rekey_limit, self.strict_kex)
    }

    /// Whose certificates count, and which keys do not.
    ///
    /// # Errors
    /// `Internal`: the file of revoked keys cannot be read. It must not be taken for an empty one.
    pub(super) async fn trust(&self) -> Result<KeyTrust, SessionError> {
        let unreadable = |text| SessionError::new(Refusal::Internal, Party::Proxy, Stage::Login, text);
        let revocations = match self.revoked_keys.clone() {
            None => Revocations::default(),
            Some(path) => blocking(move || revocations(path.as_ref())).await.map_err(unreadable)?,
        };
        Ok(KeyTrust { authorities: keys(&self.trusted_user_ca_keys), revocations })
    }
}

impl ConnectionSettings {
    /// Those of a grant's connection.
    ///
    /// # Errors
    /// `Internal`: it is not of this protocol.
    pub(super) fn of(grant: &Grant) -> Result<&Self, SessionError> {
        settings::of(grant)
    }

    /// Those of the transport with the server.
    pub(super) fn limits(&self) -> Limits {
        limits(self.rekey_limit, self.strict_kex)
    }

    /// What is known of this server.
    ///
    /// # Errors
    /// `UpstreamUnverified`: the file of known hosts cannot be read.
    pub(super) async fn trusted(&self, host: &str, port: u16) -> Result<Trusted, SessionError> {
        let unreadable = |text| SessionError::new(Refusal::UpstreamUnverified, Party::Proxy, Stage::Connect, text);
        let mut trusted = match self.known_hosts.clone() {
            None => Trusted::default(),
            Some(path) => blocking(move || known_hosts(path.as_ref())).await.map_err(unreadable)?.lookup(host, port),
        };
        trusted.keys.extend(keys(&self.host_keys));
        trusted.authorities.extend(keys(&self.host_ca));
        Ok(trusted)
    }

    fn knows_any(&self) -> bool {
        !self.host_keys.is_empty() || !self.host_ca.is_empty() || self.known_hosts.is_some()
    }
}

async fn blocking<T: Send + 'static>(read: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|_| Err("the read was cut off".to_owned()))
}

fn revocations(path: &Path) -> Result<Revocations, String> {
    let bytes = read_file(path, FILE_MAX).map_err(|text| format!("revoked_keys: {text}"))?;
    Revocations::parse(&bytes).map_err(|bad| format!("revoked_keys {}: {bad}", path.display()))
}

fn known_hosts(path: &Path) -> Result<KnownHosts, String> {
    let bytes = read_file(path, FILE_MAX).map_err(|text| format!("known_hosts: {text}"))?;
    let text = str::from_utf8(&bytes).map_err(|_| format!("known_hosts {}: not UTF-8", path.display()))?;
    KnownHosts::parse(text).map_err(|bad| {
        let lines: Vec<String> = bad.iter().take(5).map(ToString::to_string).collect();
        format!("known_hosts {}: {}", path.display(), lines.join("; "))
    })
}

/// What the types cannot say by themselves.
pub(super) fn check(connection: &Connection, problems: &mut Problems) {
    let at = format!("connections.{}", connection.name.value);
    let Some(settings) = connection.settings.downcast_ref::<ConnectionSettings>() else { return };
    if let Some(tls) = &connection.tls {
        problems.error(tls.span, format!("{at}.tls"), "SSH has no TLS: its servers are known by `host_keys`, `known_hosts` or `host_ca`");
    }
    if !settings.knows_any() && connection.insecure.is_none() {
        let text = "no host key is known: give `host_keys` (`keyward trust HOST` prints them), `known_hosts` or `host_ca`";
        problems.error(connection.name.span, at.clone(), text);
    }
    if let Some(path) = &settings.known_hosts
        && let Err(text) = known_hosts(path.as_ref())
    {
        problems.error(connection.name.span, format!("{at}.known_hosts"), text);
    }
}

/// The same of a listener; and who cannot prove himself there.
pub(super) fn check_listener(listener: &Listener, config: &Config, problems: &mut Problems) {
    let at = format!("listener {}", listener.address.value);
    let Some(settings) = listener.settings.downcast_ref::<ListenerSettings>() else { return };
    if let Some(tls) = &listener.tls {
        problems.error(tls.span, format!("{at}.tls"), "SSH has no TLS: it brings its own encryption");
    }
    if settings.login.is_empty() {
        problems.error(listener.address.span, format!("{at}.login"), "expected at least one way to log in");
    }
    if let Some(path) = &settings.revoked_keys
        && let Err(text) = revocations(path.as_ref())
    {
        problems.error(listener.address.span, format!("{at}.revoked_keys"), text);
    }
    let by = |method| settings.login.contains(&method);
    let by_password = by(LoginMethod::Password) || by(LoginMethod::KeyboardInteractive);
    let by_certificate = by(LoginMethod::PublicKey) && !settings.trusted_user_ca_keys.is_empty();
    for (name, user) in config.users.iter().filter(|_| !by_certificate) {
        let key = by(LoginMethod::PublicKey) && !user.public_keys.is_empty();
        if !(key || by_password && user.password.is_some()) {
            let text = format!("cannot log in at the {at}: it takes no proof that this user has");
            problems.warning(user.span, format!("users.{name}"), text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rekey_bytes(text: &str) -> Result<u64, String> {
        let limit = serde_json::from_value::<RekeyLimit>(serde_json::json!(text));
        limit.map(|limit| limits(Some(limit), StrictKex::Preferred).rekey_bytes).map_err(|error| error.to_string())
    }

    #[test]
    fn a_rekey_limit_is_at_least_a_mebibyte_and_never_more_than_the_gigabyte_of_the_default() {
        let mebibyte = 1 << 20;
        for (text, bytes) in [("1MiB", mebibyte), ("5MiB", 5 * mebibyte), ("1GiB", 1 << 30), ("1025MiB", 1 << 30), ("64GiB", 1 << 30)] {
            assert_eq!(rekey_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["0", "1", "1023KiB", "1048575"] {
            assert!(rekey_bytes(text).is_err_and(|error| error.contains("expected at least 1MiB")), "{text}: {:?}", rekey_bytes(text));
        }
    }

    #[test]
    fn without_a_rekey_limit_keys_are_made_anew_as_the_standards_want_it() {
        let limits = limits(None, StrictKex::Preferred);
        assert_eq!(limits.rekey_bytes, 1 << 30, "RFC 4253 section 9: each gigabyte");
        assert_eq!(limits.rekey_packets, 1 << 31, "RFC 4344 section 3.1");
        assert_eq!(limits.rekey_after, std::time::Duration::from_secs(3600), "RFC 4253 section 9: each hour");
    }
}
