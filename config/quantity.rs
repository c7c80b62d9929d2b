//! Times and sizes as people write them: `500ms`, `5m`, `64KiB`.

use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A span of time: `500ms`, `60s`, `5m`, `1h`, `2d`; a plain whole number is seconds. At most 3650 days, so that adding one to
/// a clock cannot overflow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(Duration);

impl Period {
    const MAX: Duration = Duration::from_secs(3650 * 86_400);
    const FORM: &str = "a time such as 500ms, 60s, 5m, 1h or 2d (a plain whole number is seconds; at most 3650d)";
    const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

    /// So many seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The time as the standard library has it.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }

    /// Whether it is no time at all; several keys take that for "never".
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    fn of_millis(millis: u64) -> Option<Self> {
        Some(Duration::from_millis(millis)).filter(|period| *period <= Self::MAX).map(Self)
    }
}

/// A number of bytes: `64KiB`, `1MiB`, `10MB`, `2GiB`; a plain whole number is bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(u64);

impl Bytes {
    const FORM: &str = "a size such as 65536, 64KiB, 1MiB, 10MB or 2GiB";
    const UNITS: [(&str, u64); 7] =
        [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("KB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000)];

    /// So many bytes.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl JsonSchema for Period {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Period".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": Self::FORM, "type": ["string", "integer"], "minimum": 0, "pattern": "^[0-9]+ *(ms|s|m|h|d)?$" })
    }
}

impl JsonSchema for Bytes {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": Self::FORM, "type": ["string", "integer"], "minimum": 0, "pattern": "^[0-9]+ *([KMG]i?)?B?$" })
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = |n: u64| n.checked_mul(1_000).and_then(Self::of_millis);
        let written = |text: &str| match in_units(text, &Self::UNITS)? {
            (number, None) => seconds(number),
            (number, Some(factor)) => number.checked_mul(factor).and_then(Self::of_millis),
        };
        deserializer.deserialize_any(Quantity { form: Self::FORM, plain: seconds, written })
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = |text: &str| in_units(text, &Self::UNITS).and_then(|(n, factor)| n.checked_mul(factor.unwrap_or(1))).map(Self);
        deserializer.deserialize_any(Quantity { form: Self::FORM, plain: |n| Some(Self(n)), written })
    }
}

/// A whole number and the factor of the unit behind it.
fn in_units(text: &str, units: &[(&str, u64)]) -> Option<(u64, Option<u64>)> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number = digits.parse().ok()?;
    match unit.trim_start_matches(' ') {
        "" if unit.is_empty() => Some((number, None)),
        unit => units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| (number, Some(*factor))),
    }
}

/// Reads a number by `plain` and a text by `written`.
struct Quantity<P, W> {
    form: &'static str,
    plain: P,
    written: W,
}

impl<T, P: Fn(u64) -> Option<T>, W: Fn(&str) -> Option<T>> Visitor<'_> for Quantity<P, W> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.form)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        (self.plain)(number).ok_or_else(|| E::custom(format_args!("expected {}", self.form)))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        let plain = u64::try_from(number).ok().and_then(&self.plain);
        plain.ok_or_else(|| E::custom(format_args!("expected {}", self.form)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.written)(text).ok_or_else(|| E::custom(format_args!("expected {}", self.form)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn period(json: &str) -> Option<Duration> {
        serde_json::from_str::<Period>(json).ok().map(Period::get)
    }

    #[test]
    fn periods_are_read_as_people_write_them() {
        let table = [("\"500ms\"", 500), ("\"60s\"", 60_000), ("\"5m\"", 300_000), ("\"1h\"", 3_600_000), ("\"2d\"", 172_800_000)];
        for (text, millis) in table.into_iter().chain([("7", 7_000), ("0", 0), ("\"7\"", 7_000), ("\"1 h\"", 3_600_000)]) {
            assert_eq!(period(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in
            ["\"\"", "\"5 minutes\"", "\"-1s\"", "-1", "\"1.5h\"", "\"s\"", "\"5 \"", "\"4000d\"", "18446744073709551615", "\"٣s\"", "[]"]
        {
            assert_eq!(period(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let bytes = |json: &str| serde_json::from_str::<Bytes>(json).ok().map(Bytes::get);
        for (text, expected) in [("\"64KiB\"", 65_536), ("\"1MiB\"", 1 << 20), ("\"10MB\"", 10_000_000), ("12", 12), ("\"3B\"", 3)] {
            assert_eq!(bytes(text), Some(expected), "{text}");
        }
        for text in ["\"64kib\"", "\"99999999999GiB\"", "-3", "\"K\"", "1.5"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
