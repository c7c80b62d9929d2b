//! A listener: where clients come in.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use crate::address::is_host;
use crate::entry::{Entry, joined, row};
use crate::{Kinds, ListenAddress, Name, Node, Problems, Settings, Spanned, scope};

/// Where clients come in, and by which protocol.
pub struct Listener {
    /// The name of its protocol's row.
    pub protocol: &'static str,
    /// Where it listens.
    pub address: Spanned<ListenAddress>,
    /// The one connection that it leads to, where it leads to one.
    pub connection: Option<Spanned<Name>>,
    /// The certificate to show. `None`: one from the local CA in the state folder.
    pub tls: Option<Spanned<ServerTls>>,
    /// The sources that must send a PROXY protocol header (version 1 or 2), and the only ones that may.
    pub proxy_protocol: Vec<IpNet>,
    /// The listener settings type of its protocol.
    pub settings: Settings,
    /// The entry itself, to tell whether a reload changed it.
    pub node: Node,
}

/// What a listener shows to its clients: a certificate of the admin's own, or names for the one that the local CA makes.
#[derive(Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(default)]
pub struct ServerTls {
    /// PEM file, the leaf first. With `private_key`, or neither. Both are read at the start and at a reload: one that was renewed wants a
    /// reload.
    #[serde(deserialize_with = "scope::optional_path")]
    pub certificate: Option<PathBuf>,
    /// PEM file of its key.
    #[serde(deserialize_with = "scope::optional_path")]
    pub private_key: Option<PathBuf>,
    /// Names and addresses for the certificate of the local CA, beside this host's own name, `localhost` with its addresses, and the
    /// listener's address: clients that connect by another name cannot verify it unless that stands here.
    pub names: Vec<String>,
}

/// The generic keys of a listener.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct ListenerKeys {
    /// The protocol that clients speak here.
    #[serde(rename = "protocol", default)]
    _protocol: String,
    /// Where it listens: an IP address and a port, or the absolute path of a unix socket.
    address: Spanned<ListenAddress>,
    /// The one connection that it leads to. Default: the client names one.
    connection: Option<Spanned<Name>>,
    /// The certificate to show. Default: one from the local CA in the state folder.
    tls: Option<Spanned<ServerTls>>,
    /// The sources that must send a PROXY protocol header (version 1 or 2), and the only ones that may. Default: none.
    #[serde(default)]
    proxy_protocol: Vec<Network>,
}

/// A network such as `10.0.0.0/8`, or one address.
struct Network(IpNet);

impl Listener {
    pub(crate) fn read(node: &Node, path: &str, kinds: &Kinds<'_>, problems: &mut Problems) -> Option<Self> {
        let mut entry = Entry::new(node, path);
        let keys: Option<ListenerKeys> = entry.part(problems);
        let row = row(node, path, "protocol", kinds.protocols, |row| row.name, problems)?;
        let settings = entry.settings(row.listener, problems);
        if !entry.finish(problems) {
            return None;
        }
        let ListenerKeys { address, connection, tls, proxy_protocol, .. } = keys?;
        if let Some(tls) = &tls {
            check_tls(tls, &address, node, &joined(path, "tls"), problems);
        }
        if matches!(*address, ListenAddress::Unix(_)) && !proxy_protocol.is_empty() {
            problems.warning(node.span_of("proxy_protocol"), joined(path, "proxy_protocol"), "not read on a unix socket");
        }
        let proxy_protocol = proxy_protocol.into_iter().map(|network| network.0).collect();
        Some(Self { protocol: row.name, address, connection, tls, proxy_protocol, settings: settings?, node: node.clone() })
    }
}

/// What of `tls` cannot be used, or is not.
fn check_tls(tls: &Spanned<ServerTls>, address: &ListenAddress, listener: &Node, path: &str, problems: &mut Problems) {
    if tls.certificate.is_some() != tls.private_key.is_some() {
        problems.error(tls.span, path, "expected `certificate` and `private_key` together, or neither");
    }
    let written = listener.get("tls").and_then(|tls| tls.get("names"));
    let items = written.map(Node::items).unwrap_or_default();
    for (number, (name, item)) in tls.names.iter().zip(items).enumerate() {
        if tls.certificate.is_none() && !is_server_name(name) {
            let expected = "expected a host name (outside of ASCII in its xn-- form) or an IP address, without a port";
            problems.error(item.span(), format!("{path}.names[{number}]"), expected);
        }
    }
    if matches!(address, ListenAddress::Unix(_)) {
        problems.warning(tls.span, path, "not read on a unix socket, where there is no TLS");
    } else if tls.certificate.is_some() && !tls.names.is_empty() {
        let text = "not read beside `certificate`: they are for the certificate that the local CA makes";
        problems.warning(written.map_or(tls.span, Node::span), format!("{path}.names"), text);
    }
}

/// What a client may verify a certificate's name against; `*.` stands for one label.
fn is_server_name(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok() || is_host(name.strip_prefix("*.").unwrap_or(name))
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let network = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        network.map(Self).ok_or_else(|| serde::de::Error::custom("expected a network such as 10.0.0.0/8, or an IP address"))
    }
}

impl JsonSchema for Network {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Network".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "A network such as 10.0.0.0/8, or one IP address.", "type": "string", "minLength": 1 })
    }
}
