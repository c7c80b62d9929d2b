//! Addresses: where an upstream is and where a listener listens.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error};

/// Where an upstream is: `host:port`, `[v6]:port`, or the absolute path of a unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamAddress {
    /// A host name or address literal with a port. A missing port is the protocol's own.
    Tcp {
        /// A DNS name or an address literal, without brackets.
        host: String,
        /// `None`: the protocol's default port.
        port: Option<u16>,
    },
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// `0.0.0.0:5432`, `[::1]:5432`, or the absolute path of a unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListenAddress {
    /// An address and a port; port 0 takes a free one.
    Tcp(SocketAddr),
    /// The path of the socket. Created with mode 0666: who may log in is decided by the login.
    Unix(PathBuf),
}

/// `sun_path` holds 108 bytes with its NUL on Linux, 104 elsewhere.
const MAX_SOCKET_PATH: usize = 103;

const UPSTREAM: &str = "host:port, host, [IPv6]:port, or the absolute path of a unix socket (at most 103 bytes)";
const LISTEN: &str = "an IP address and a port (0.0.0.0:5432, [::1]:5432), or the absolute path of a unix socket (at most 103 bytes)";

impl FromStr for UpstreamAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with('/') {
            return socket_path(text).map(Self::Unix).ok_or(UPSTREAM);
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or(UPSTREAM)?;
                host.parse::<Ipv6Addr>().map_err(|_| UPSTREAM)?;
                let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or(UPSTREAM)?) };
                (host, port)
            }
            None => {
                let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
                if !is_host(host) {
                    return Err(UPSTREAM);
                }
                (host, port)
            }
        };
        let port = port.map(|port| number(port).ok_or(UPSTREAM)).transpose()?;
        Ok(Self::Tcp { host: host.to_owned(), port })
    }
}

impl ListenAddress {
    /// The port that it names; `None` of a unix socket, and where any will do.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(address) => Some(address.port()).filter(|port| *port != 0),
            Self::Unix(_) => None,
        }
    }
}

impl FromStr for ListenAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with('/') {
            return socket_path(text).map(Self::Unix).ok_or(LISTEN);
        }
        text.parse().map(Self::Tcp).map_err(|_| LISTEN)
    }
}

/// A DNS name or an IPv4 literal; underscores occur in real ones.
pub(crate) fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(label)
}

/// A port that can be dialled: 1 to 65535, digits only.
fn number(port: &str) -> Option<u16> {
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    port.parse().ok().filter(|port| digits && *port > 0)
}

fn socket_path(text: &str) -> Option<PathBuf> {
    (text.len() > 1 && text.len() <= MAX_SOCKET_PATH && !text.contains('\0')).then(|| text.into())
}

impl fmt::Display for UpstreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => {
                if host.contains(':') {
                    write!(f, "[{host}]")?
                } else {
                    f.write_str(host)?
                }
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for UpstreamAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(|form| D::Error::custom(format_args!("expected {form}")))
    }
}

impl<'de> Deserialize<'de> for ListenAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(|form| D::Error::custom(format_args!("expected {form}")))
    }
}

impl JsonSchema for UpstreamAddress {
    fn schema_name() -> Cow<'static, str> {
        "UpstreamAddress".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": UPSTREAM, "type": "string", "minLength": 1 })
    }
}

impl JsonSchema for ListenAddress {
    fn schema_name() -> Cow<'static, str> {
        "ListenAddress".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": LISTEN, "type": "string", "minLength": 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_are_hosts_literals_or_sockets() {
        let table = [
            ("pg-1.internal:5432", "pg-1.internal", Some(5432)),
            ("pg-1.internal", "pg-1.internal", None),
            ("10.0.0.1:1", "10.0.0.1", Some(1)),
            ("[::1]:5432", "::1", Some(5432)),
            ("[fd00::2]", "fd00::2", None),
            ("db_1.", "db_1.", None),
        ];
        for (text, host, port) in table {
            let parsed: UpstreamAddress = text.parse().unwrap();
            assert_eq!(parsed, UpstreamAddress::Tcp { host: host.into(), port });
            assert_eq!(parsed.to_string(), text);
        }
        assert_eq!("/run/pg".parse(), Ok(UpstreamAddress::Unix("/run/pg".into())));
        let long = format!("/{}", "x".repeat(200));
        for bad in
            ["", ":5432", "a:", "a:0", "a:65536", "a:+1", "::1", "[::1", "[::1]5", "[x]:1", "a b", "u@h", "h/p", "a..b", "-a", "/", &long]
        {
            assert!(bad.parse::<UpstreamAddress>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn listeners_have_an_address_and_a_port() {
        for good in ["0.0.0.0:5432", "[::1]:0", "/run/keyward/pg.sock"] {
            assert_eq!(good.parse::<ListenAddress>().unwrap().to_string(), good);
        }
        for bad in ["5432", "localhost:5432", "0.0.0.0", "::1:5432x", "relative/path", ""] {
            assert!(bad.parse::<ListenAddress>().is_err(), "{bad:?}");
        }
    }
}
