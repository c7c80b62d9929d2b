//! Keys of a connection that several protocols have, with one meaning.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use keyward_auth::Grant;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, IntoDeserializer, SeqAccess, Visitor};

use crate::error::{Party, SessionError, Stage};
use crate::refusal::Refusal;

/// The settings of a grant's connection, of the type that its protocol registered.
///
/// # Errors
/// `Internal`: they are of another one.
pub fn of<T: Any>(grant: &Grant) -> Result<&T, SessionError> {
    let none = || SessionError::new(Refusal::Internal, Party::Proxy, Stage::Authorise, "a connection without its settings");
    grant.connection().settings::<T>().ok_or_else(none)
}

/// How much the relay knows.
#[derive(serde::Deserialize, JsonSchema, Default, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub enum RelayMode {
    /// Message boundaries from the server.
    #[default]
    Tracked,
    /// Nothing.
    Raw,
}

/// Databases that users may ask for.
#[derive(PartialEq, Eq, Debug)]
pub enum Databases {
    /// Whatever the server has.
    Any,
    /// These, beside the connection's own.
    These(Vec<String>),
}

impl Databases {
    /// Whether a user may ask for this one.
    #[must_use]
    pub fn allow(&self, database: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(_) => self.names(database),
        }
    }

    /// Whether the file names this one.
    #[must_use]
    pub fn names(&self, database: &str) -> bool {
        matches!(self, Self::These(names) if names.iter().any(|name| name == database))
    }
}

impl Default for Databases {
    fn default() -> Self {
        Self::These(Vec::new())
    }
}

/// The logins that a server may ask for: a word or a list of words. Absent: any.
#[derive(PartialEq, Eq, Debug)]
pub struct Methods<M>(Option<Vec<M>>);

impl<M: PartialEq> Methods<M> {
    /// Whether the server may ask for this.
    #[must_use]
    pub fn allow(&self, method: M) -> bool {
        self.0.as_ref().is_none_or(|allowed| allowed.contains(&method))
    }

    /// Whether the file names this one.
    #[must_use]
    pub fn names(&self, method: M) -> bool {
        self.0.as_ref().is_some_and(|allowed| allowed.contains(&method))
    }
}

impl<M> Default for Methods<M> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de> Deserialize<'de> for Databases {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyOrList;

        impl<'de> Visitor<'de> for AnyOrList {
            type Value = Databases;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`any` or a list of database names")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Databases, E> {
                if word == "any" { Ok(Databases::Any) } else { Err(E::custom("expected `any` or a list of database names")) }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, names: A) -> Result<Databases, A::Error> {
                all(names).map(Databases::These)
            }
        }

        deserializer.deserialize_any(AnyOrList)
    }
}

impl<'de, M: Deserialize<'de>> Deserialize<'de> for Methods<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany<M>(PhantomData<M>);

        impl<'de, M: Deserialize<'de>> Visitor<'de> for OneOrMany<M> {
            type Value = Methods<M>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a method or a list of methods")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Methods<M>, E> {
                M::deserialize(word.into_deserializer()).map(|method| Methods(Some(vec![method])))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, words: A) -> Result<Methods<M>, A::Error> {
                let methods: Vec<M> = all(words)?;
                // No server could log us in.
                if methods.is_empty() { Err(de::Error::custom("expected at least one method")) } else { Ok(Methods(Some(methods))) }
            }
        }

        deserializer.deserialize_any(OneOrMany(PhantomData))
    }
}

fn all<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(mut items: A) -> Result<Vec<T>, A::Error> {
    let mut found = Vec::new();
    while let Some(item) = items.next_element()? {
        found.push(item);
    }
    Ok(found)
}

impl JsonSchema for Databases {
    fn schema_name() -> Cow<'static, str> {
        "Databases".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "oneOf": [{ "const": "any" }, { "type": "array", "items": { "type": "string" } }] })
    }
}

impl<M: JsonSchema> JsonSchema for Methods<M> {
    fn schema_name() -> Cow<'static, str> {
        format!("RequireAuth{}", M::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let method = generator.subschema_for::<M>();
        json_schema!({ "oneOf": [method, { "type": "array", "items": method, "minItems": 1 }] })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use keyward_config::Kinds;

    use crate::reload;

    fn problems(protocol: &str, require_auth: &str) -> String {
        let keys = format!("protocol: {protocol}, address: 'db.internal', username: {{ literal: u }}, password: {{ literal: p }}");
        let text = format!("state: /s\nconnections:\n  db: {{ {keys}, require_auth: {require_auth} }}\n");
        let (protocols, stores) = reload::rows();
        keyward_config::parse(Path::new("f"), &text, &Kinds { protocols: &protocols, stores: &stores }).problems.to_string()
    }

    #[test]
    fn require_auth_names_at_least_one_method() {
        for (protocol, method) in [("postgres", "scram-sha-256"), ("mysql", "caching_sha2_password")] {
            let found = problems(protocol, "[]");
            assert!(found.contains("connections.db.require_auth: expected at least one method"), "{found}");
            for good in [method.to_owned(), format!("[{method}]")] {
                let found = problems(protocol, &good);
                assert!(!found.contains("require_auth"), "{found}");
            }
        }
    }
}
