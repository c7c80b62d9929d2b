//! A listener: where clients come in.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{Name, Node, Settings, Spanned};

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

/// `0.0.0.0:5432`, `[::1]:5432`, or the absolute path of a unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListenAddress {
    /// An address and a port; port 0 takes a free one.
    Tcp(SocketAddr),
    /// The path of the socket. Created with mode 0666: who may log in is decided by the login.
    Unix(PathBuf),
}

/// A certificate of the admin's own.
#[derive(Deserialize, JsonSchema, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// PEM file, the leaf first.
    pub certificate: PathBuf,
    /// PEM file of its key.
    pub private_key: PathBuf,
}
