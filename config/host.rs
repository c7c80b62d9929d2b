//! Servers of a group: each a host name, or a pattern of names.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::net::Ipv4Addr;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error};

use crate::UpstreamAddress;
use crate::access::fits;

/// One line of `hosts`: `web-2.internal`, `10.0.0.7:2222`, `[fd00::2]:22`, or a pattern: `web-*.prod.internal`.
///
/// In a pattern `*` stands for any run of letters, digits and `-` within one label, also none: never for a dot. The last label has a letter of
/// its own, and of an address the first two numbers are written out: names are given away from the right, addresses from the left, and whoever
/// may reach a group could else have a credential of it sent to a machine of his own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// In lower case, without port and brackets.
    name: String,
    port: Option<u16>,
}

const FORM: &str = "a host (web-2.internal, 10.0.0.7:2222, [IPv6]:port) or a pattern of names, in which * stands for letters, digits and - \
                    within one label, and the last label has a letter, or the first two numbers of an address are there: \
                    web-*.prod.internal, 10.0.0.*";

impl Host {
    /// The longest name, in bytes (RFC 1035 section 2.3.4).
    pub const MAX: usize = 253;
    /// The longest label (there).
    const LABEL_MAX: usize = 63;

    /// The host or the pattern, in lower case and without its port.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The port of its servers. `None`: the protocol's own.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether it stands for other names than itself.
    #[must_use]
    pub fn is_pattern(&self) -> bool {
        self.name.contains('*')
    }

    /// Of several that mean a server, the least counts: one that is written out comes before a pattern, and a pattern with more that is written
    /// out, in bytes, before one with less.
    #[must_use]
    pub fn rank(&self) -> impl Ord + use<> {
        (self.is_pattern(), Reverse(self.name.bytes().filter(|byte| *byte != b'*').count()))
    }

    /// Whether it means this server, whose name is compared in lower case. What a pattern stands for is a host name: labels of letters,
    /// digits and `-` that begin with no `-`.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        if !self.is_pattern() {
            return self.name.eq_ignore_ascii_case(host);
        }
        if host.len() > Self::MAX {
            return false;
        }
        let host = host.to_ascii_lowercase();
        // Resolvers take `0x7f000001`, `2130706433` and `127.1` for addresses: of those a pattern means only what it spells as one.
        if host.rsplit('.').next().is_some_and(is_number) && host.parse::<Ipv4Addr>().is_err() {
            return false;
        }
        let (mut own, mut asked) = (self.name.split('.'), host.split('.'));
        loop {
            match (own.next(), asked.next()) {
                (Some(pattern), Some(label)) if is_label(label) && fits(pattern, label) => {}
                (None, None) => return true,
                _ => return false,
            }
        }
    }

    /// Where this server of it is; `None` if it does not mean this one.
    #[must_use]
    pub fn address_of(&self, host: &str) -> Option<UpstreamAddress> {
        self.matches(host).then(|| UpstreamAddress::Tcp { host: host.to_ascii_lowercase(), port: self.port })
    }
}

fn is_label(label: &str) -> bool {
    let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    inner && !label.is_empty() && label.len() <= Host::LABEL_MAX && !label.starts_with('-')
}

/// What `inet_aton` takes for a number of an address.
fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x") {
        Some(hex) => hex.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

fn is_pattern(name: &str) -> bool {
    let label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'*'));
        inner && !label.is_empty() && label.len() <= Host::LABEL_MAX && !label.starts_with('-')
    };
    let labels: Vec<&str> = name.split('.').collect();
    let digits = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    let anchored = match labels.as_slice() {
        [first, second, _, last] if last.bytes().all(|byte| byte.is_ascii_digit() || byte == b'*') => digits(first) && digits(second),
        [.., last] => last.bytes().any(|byte| byte.is_ascii_alphabetic()),
        [] => false,
    };
    name.len() <= Host::MAX && labels.iter().all(|part| label(part)) && anchored
}

impl FromStr for Host {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.contains('*') {
            return match text.parse() {
                Ok(UpstreamAddress::Tcp { host, port }) => Ok(Self { name: host.to_ascii_lowercase(), port }),
                _ => Err(FORM),
            };
        }
        let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
        // A port is read where all addresses are: behind some name.
        let port = port.map(|port| format!("x:{port}").parse().map_err(|_| FORM)).transpose()?;
        let port = port.and_then(|address| if let UpstreamAddress::Tcp { port, .. } = address { port } else { None });
        if is_pattern(name) { Ok(Self { name: name.to_ascii_lowercase(), port }) } else { Err(FORM) }
    }
}

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(|form| D::Error::custom(format_args!("expected {form}")))
    }
}

impl JsonSchema for Host {
    fn schema_name() -> Cow<'static, str> {
        "Host".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": FORM, "type": "string", "minLength": 1 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(text: &str) -> Host {
        text.parse().unwrap()
    }

    /// The definition, exponential.
    fn naive(pattern: &[u8], name: &[u8]) -> bool {
        match pattern {
            [] => name.is_empty(),
            [b'*', rest @ ..] => {
                let run = name.iter().take_while(|byte| **byte != b'.').count();
                (0..=run).any(|skip| naive(rest, &name[skip..]))
            }
            [c, rest @ ..] => name.first() == Some(c) && naive(rest, &name[1..]),
        }
    }

    #[test]
    fn a_host_is_itself_and_a_pattern_the_names_that_have_its_labels() {
        for (pattern, name) in [
            ("web-2.internal", "web-2.internal"),
            ("Web-2.Internal", "wEB-2.iNTERNAL"),
            ("10.0.0.7:2222", "10.0.0.7"),
            ("[FD00::2]:22", "fd00::2"),
            ("db_1", "db_1"),
            ("web-*.prod.internal", "web-.prod.internal"),
            ("web-*.prod.internal", "WEB-17.prod.Internal"),
            ("*.prod.internal:2222", "a.prod.internal"),
            ("web-*", "web-1"),
            ("10.0.*.7", "10.0.12.7"),
            ("*a*b*", "xaxbx"),
        ] {
            assert!(host(pattern).matches(name), "{pattern} {name}");
        }
        let long = format!("{}.prod.internal", "a".repeat(64));
        for (pattern, name) in [
            ("web-2.internal", "web-2.internal."),
            ("web-2.internal", "web-2.internal:22"),
            ("web-2.internal", ""),
            ("web-*.prod.internal", "web-1.x.prod.internal"),
            ("web-*.prod.internal", "web-1.prod.internal.evil.example"),
            ("web-*.prod.internal", "web-1.prod.internal."),
            ("*.prod.internal", ".prod.internal"),
            ("*.prod.internal", "-oProxyCommand=x.prod.internal"),
            ("*.prod.internal", "-x.prod.internal"),
            ("*.prod.internal", "a_b.prod.internal"),
            ("*.prod.internal", "a\0.prod.internal"),
            ("*.prod.internal", "\u{e9}.prod.internal"),
            ("*.prod.internal", "*.prod.internal"),
            ("*.prod.internal", "prod.internal"),
            ("*.prod.internal", &long),
            ("web-*", "web-1.internal"),
            ("*db", "0xc0a801db"),
            ("10.0.*.7", "10.0.0x12.7"),
            ("10.0.*.7", "10.0.012.7"),
        ] {
            assert!(!host(pattern).matches(name), "{pattern} {name}");
        }
    }

    #[test]
    fn what_would_fit_any_name_or_is_none_is_no_host() {
        for bad in [
            "",
            "*",
            "*.*",
            "*01",
            "web.*",
            "*.prod.*",
            "*.*.*.7",
            "10.*.0.7",
            "1*.*",
            "-.*",
            "*.-",
            "**",
            "prod.*.*",
            "*:22",
            "*.*:22",
            "-*.internal",
            "a b*",
            "a*/b",
            "/run/*",
            "/run/x.sock",
            "web-*.",
            ".web-*",
            "web-*:0",
            "web-*:x",
            "web-*:",
            "web-*:22:22",
            "[*]:22",
            "u@web-*",
            "web_*",
            "a..b",
            "u@h",
            "::1",
        ] {
            assert!(bad.parse::<Host>().is_err(), "{bad:?}");
        }
        assert!(format!("*{}", "a".repeat(63)).parse::<Host>().is_err(), "a label of 64");
        assert!(format!("{}*a", "a.".repeat(126)).parse::<Host>().is_err(), "254 in all");
    }

    #[test]
    fn a_server_of_a_pattern_is_at_its_port() {
        let at = |pattern: &str, name: &str| host(pattern).address_of(name).map(|address| address.to_string());
        assert_eq!(at("web-*.internal:2222", "WEB-1.internal").as_deref(), Some("web-1.internal:2222"));
        assert_eq!(at("web-*.internal", "web-1.internal").as_deref(), Some("web-1.internal"));
        assert_eq!(at("[fd00::2]", "fd00::2").as_deref(), Some("[fd00::2]"));
        assert_eq!(at("web-*.internal", "db-1.internal"), None);
        assert!(host("web-*.internal").rank() < host("*.internal").rank());
    }

    proptest! {
        #[test]
        fn matching_is_the_definition(pattern in "[ab*]{1,4}(\\.[ab*]{1,3}){0,2}", name in "[ab]{1,5}(\\.[ab]{1,4}){0,2}") {
            if let Ok(pattern) = pattern.parse::<Host>() {
                prop_assert_eq!(pattern.matches(&name), naive(pattern.as_str().as_bytes(), name.as_bytes()));
            } else {
                prop_assert!(!pattern.rsplit('.').take(1).any(|label| label.contains(['a', 'b'])));
            }
        }

        #[test]
        fn a_pattern_never_stands_for_a_name_with_other_labels(pattern in "[a-z*]{1,4}(\\.[a-z*]{1,4}){0,3}", run in "[-.a-z\\x00_é]{0,4}") {
            let name = pattern.replace('*', &run);
            if let Ok(host) = pattern.parse::<Host>() && host.is_pattern() && host.matches(&name) {
                prop_assert_eq!(name.split('.').count(), pattern.split('.').count());
                prop_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')));
            }
        }
    }
}
