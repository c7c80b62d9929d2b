//! Rules: which users reach which connections, as which accounts.

use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use crate::{Name, Spanned};

/// One rule. What no rule allows is refused.
#[derive(Deserialize, JsonSchema)]
pub struct Access {
    /// Users or groups. A name that is both is both.
    pub allow: Vec<Spanned<Name>>,
    /// Connections; `*` stands for any run of characters.
    pub connections: Vec<Spanned<Pattern>>,
    /// Accounts of those connections, with the same wildcard. Absent: all of them.
    #[serde(default)]
    pub accounts: Option<Vec<Spanned<Pattern>>>,
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
        let Some((first, rest)) = self.0.split_once('*') else { return self.0 == name };
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        let inner = name.strip_prefix(first).and_then(|name| name.strip_suffix(last));
        // The leftmost place for each part leaves the most for those behind it, so nothing is ever tried twice.
        inner.is_some_and(|inner| middle.split('*').try_fold(inner, |left, part| left.split_once(part).map(|(_, right)| right)).is_some())
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
