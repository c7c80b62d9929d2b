//! Rules: which users reach which connections, as which accounts.

use std::collections::BTreeMap;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use crate::entry::Entry;
use crate::{Kinds, Name, Node, Problems, Settings, Spanned};

/// One rule. What no rule allows is refused.
pub struct Access {
    /// Users or groups. A name that is both is both.
    pub allow: Vec<Spanned<Name>>,
    /// Connections; `*` stands for any run of characters.
    pub connections: Vec<Spanned<Pattern>>,
    /// Accounts of those connections, with the same wildcard. Absent: all of them.
    pub accounts: Option<Vec<Spanned<Pattern>>>,
    /// What the protocols that have keys of their own in a rule read from it, by the name of the row.
    pub settings: BTreeMap<&'static str, Settings>,
    /// The keys that are written here and mean something to one of these protocols only.
    pub(crate) own: Vec<(&'static str, Spanned<String>)>,
    /// The entry itself, to tell whether a reload changed it.
    pub node: Node,
}

/// The generic keys of a rule.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct AccessKeys {
    /// Users or groups. A name that is both is both.
    allow: Vec<Spanned<Name>>,
    /// Connections; `*` stands for any run of characters. A group of hosts is named as a connection, not by its hosts.
    connections: Vec<Spanned<Pattern>>,
    /// Accounts of those connections, with the same wildcard. Absent: all of them.
    #[serde(default)]
    accounts: Option<Vec<Spanned<Pattern>>>,
}

impl Access {
    pub(crate) fn read(node: &Node, path: &str, kinds: &Kinds<'_>, problems: &mut Problems) -> Option<Self> {
        let mut entry = Entry::new(node, path);
        let keys: Option<AccessKeys> = entry.part(problems);
        let (mut settings, mut own) = (BTreeMap::new(), Vec::new());
        for row in kinds.protocols {
            let Some(section) = row.access else { continue };
            let before = entry.unknown();
            settings.extend(entry.settings(section, problems).map(|read| (row.name, read)));
            let left = entry.unknown();
            own.extend(before.into_iter().filter(|key| !left.contains(key)).map(|key| (row.name, key)));
        }
        if !entry.finish(problems) {
            return None;
        }
        let AccessKeys { allow, connections, accounts } = keys?;
        Some(Self { allow, connections, accounts, settings, own, node: node.clone() })
    }
}

/// A name in which `*` stands for any run of characters, also none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(pub(crate) String);

impl Pattern {
    /// The longest pattern, in bytes: that of the longest name.
    pub const MAX: usize = Name::MAX;

    /// Whether the whole name fits. Linear in the length of both.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        fits(&self.0, name)
    }

    /// The one name that fits, where there is no wildcard.
    pub(crate) fn exact(&self) -> Option<&str> {
        (!self.0.contains('*')).then_some(&self.0)
    }

    /// The pattern as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether the whole text fits a pattern in which `*` stands for any run of characters.
pub(crate) fn fits(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    let inner = text.strip_prefix(first).and_then(|text| text.strip_suffix(last));
    // The leftmost place for each part leaves the most for those behind it, so nothing is ever tried twice.
    inner.is_some_and(|inner| middle.split('*').try_fold(inner, |left, part| left.split_once(part).map(|(_, right)| right)).is_some())
}

impl FromStr for Pattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '@' | '-' | '*');
        let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '*');
        if starts && text.len() <= Self::MAX && text.chars().all(inner) {
            Ok(Self(text.into()))
        } else {
            Err("a name in which * stands for any characters, such as orders or orders* or *")
        }
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = |form| serde::de::Error::custom(format_args!("expected {form}"));
        String::deserialize(deserializer)?.parse().map_err(expected)
    }
}

impl JsonSchema for Pattern {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Pattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A name in which `*` stands for any run of characters.",
            "type": "string", "pattern": "^[A-Za-z0-9*][A-Za-z0-9._@*-]*$", "maxLength": Self::MAX,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, exponential.
    fn naive(pattern: &[u8], name: &[u8]) -> bool {
        match pattern {
            [] => name.is_empty(),
            [b'*', rest @ ..] => (0..=name.len()).any(|skip| naive(rest, &name[skip..])),
            [c, rest @ ..] => name.first() == Some(c) && naive(rest, &name[1..]),
        }
    }

    #[test]
    fn a_star_stands_for_any_run() {
        let matches = |pattern: &str, name: &str| pattern.parse::<Pattern>().unwrap().matches(name);
        for (pattern, name) in [("*", ""), ("*", "x"), ("orders*", "orders"), ("*_rw", "orders_rw"), ("a*b*c", "axxbyyc"), ("a**b", "ab")] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("orders", "orders2"), ("ab*ba", "aba"), ("a*b*c", "acb"), ("x", ""), ("A", "a")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn only_what_a_name_may_hold_is_a_pattern() {
        for bad in ["", "a b", "[ab]", "a?", "-a", "a/b", &"*".repeat(129)] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn matching_is_the_definition(pattern in "[ab*][ab*]{0,7}", name in "[ab]{0,10}") {
            prop_assert_eq!(pattern.parse::<Pattern>().unwrap().matches(&name), naive(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
