//! The JSON Schema (2020-12) of the whole file, for editors.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::access::AccessKeys;
use crate::connection::{AccountKeys, ConnectionKeys, ServerKeys};
use crate::listener::ListenerKeys;
use crate::load::SECTIONS;
use crate::store::StoreKeys;
use crate::{Assets, Audit, FilePath, Http, Kinds, Limits, Log, Name, ProtocolSettings, Reload, User};

/// The schema of a file that may use these kinds.
#[must_use]
pub fn schema(kinds: &Kinds<'_>) -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let properties: Map<String, Value> =
        SECTIONS.into_iter().map(|(key, description)| (key.into(), section(key, description, kinds, &mut generator))).collect();
    let mut definitions = Value::Object(generator.take_definitions(true));
    close(&mut definitions);
    let mut whole = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Keyward",
        "description": "The configuration file of Keyward.",
        "type": "object",
        "properties": properties,
        "required": ["state", "listeners"],
        "additionalProperties": false,
    });
    if let Some(whole) = whole.as_object_mut() {
        whole.insert("$defs".into(), definitions);
    }
    valued(&mut whole);
    whole
}

fn section(key: &str, description: &str, kinds: &Kinds<'_>, generator: &mut SchemaGenerator) -> Value {
    let mut value = match key {
        "state" => generator.subschema_for::<FilePath>().to_value(),
        "listeners" => {
            let rows = kinds.protocols.iter();
            let forms = rows.map(|row| form::<ListenerKeys>(&[], row.listener.schema, "protocol", row.name, generator)).collect();
            json!({ "type": "array", "minItems": 1, "items": one_of(forms) })
        }
        "stores" => {
            let rows = kinds.stores.iter();
            by_name(one_of(rows.map(|row| form::<StoreKeys>(&[], row.settings.schema, "type", row.name, generator)).collect()))
        }
        "connections" => {
            let rows = kinds.protocols.iter();
            by_name(one_of(rows.map(|row| connection(row, generator)).collect()))
        }
        "users" => by_name(generator.subschema_for::<User>().to_value()),
        "access" => {
            let own = kinds.protocols.iter().filter_map(|row| row.access).map(|section| section.schema);
            let parts: Vec<Part> = [AccessKeys::json_schema as Part].into_iter().chain(own).collect();
            json!({ "type": "array", "items": merged(&parts, generator) })
        }
        "limits" => generator.subschema_for::<Limits>().to_value(),
        "audit" => generator.subschema_for::<Audit>().to_value(),
        "log" => generator.subschema_for::<Log>().to_value(),
        "http" => generator.subschema_for::<Http>().to_value(),
        "reload" => generator.subschema_for::<Reload>().to_value(),
        _ => json!({}),
    };
    if let Some(object) = value.as_object_mut() {
        object.insert("description".into(), description.into());
    }
    value
}

/// A mapping whose keys are names.
fn by_name(value: Value) -> Value {
    json!({ "type": "object", "propertyNames": { "pattern": "^[A-Za-z0-9][A-Za-z0-9._@-]*$", "maxLength": Name::MAX }, "additionalProperties": value })
}

fn one_of(forms: Vec<Value>) -> Value {
    json!({ "oneOf": forms })
}

/// A connection of this protocol: with `address`, or with `hosts` where it may lead to a group.
fn connection(row: &ProtocolSettings, generator: &mut SchemaGenerator) -> Value {
    let own: Part = AccountKeys::json_schema;
    match row.assets {
        Assets::Databases => {
            let mut form = form::<ConnectionKeys>(&[own], row.connection.schema, "protocol", row.name, generator);
            if let Some(required) = form.pointer_mut("/required").and_then(Value::as_array_mut) {
                required.push("address".into());
            }
            form
        }
        Assets::Servers => {
            let own = [ServerKeys::json_schema as Part, own];
            let mut form = form::<ConnectionKeys>(&own, row.connection.schema, "protocol", row.name, generator);
            if let Some(form) = form.as_object_mut() {
                form.insert("oneOf".into(), json!([{ "required": ["address"] }, { "required": ["hosts"] }]));
            }
            form
        }
    }
}

/// The schema of one of several types that are read from the same mapping.
type Part = fn(&mut SchemaGenerator) -> Schema;

/// The keys of all parts in one closed object.
fn merged(parts: &[Part], generator: &mut SchemaGenerator) -> Value {
    let mut merged = json!({ "type": "object", "properties": {}, "required": [], "additionalProperties": false });
    for part in parts {
        let part = part(generator).to_value();
        merge(&mut merged, &part);
        close_nested(&mut merged);
    }
    merged
}

/// The entry of one kind: the generic keys, further ones, and the kind's own.
fn form<G: JsonSchema>(further: &[Part], kind: Part, word: &str, name: &str, generator: &mut SchemaGenerator) -> Value {
    let parts: Vec<Part> = [G::json_schema as Part].into_iter().chain(further.iter().copied()).chain([kind]).collect();
    let mut merged = merged(&parts, generator);
    if let Some(property) = merged.pointer_mut(&format!("/properties/{word}")).and_then(Value::as_object_mut) {
        property.remove("default");
        property.insert("const".into(), name.into());
    }
    if let Some(required) = merged.pointer_mut("/required").and_then(Value::as_array_mut) {
        required.push(word.into());
    }
    merged
}

fn merge(into: &mut Value, part: &Value) {
    if let (Some(all), Some(own)) =
        (into.pointer_mut("/properties").and_then(Value::as_object_mut), part.get("properties").and_then(Value::as_object))
    {
        all.extend(own.clone());
    }
    if let (Some(all), Some(own)) =
        (into.pointer_mut("/required").and_then(Value::as_array_mut), part.get("required").and_then(Value::as_array))
    {
        all.extend(own.iter().cloned());
    }
}

/// Closes the objects below an object, not itself.
fn close_nested(object: &mut Value) {
    if let Some(properties) = object.get_mut("properties") {
        close(properties);
    }
}

/// Every object with properties takes no others: an unknown key is a problem everywhere in the file.
fn close(value: &mut Value) {
    match value {
        Value::Object(object) => {
            // Beside one of these the properties are not all that there are.
            let composed = ["$ref", "allOf", "anyOf", "oneOf"].iter().any(|key| object.contains_key(*key));
            if !composed && object.get("properties").is_some_and(Value::is_object) {
                object.entry("additionalProperties").or_insert(false.into());
            }
            object.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// A key that may be left out is never written without a value (`read.rs`), which schemars takes an `Option` for.
fn valued(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if object.get("default").is_some_and(Value::is_null) {
                object.remove("default");
            }
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|word| word != "null");
                if let [one] = types.as_slice() {
                    let one = one.clone();
                    object.insert("type".into(), one);
                }
            }
            if let Some(Value::Array(forms)) = object.get_mut("anyOf") {
                forms.retain(|form| *form != json!({ "type": "null" }));
                if let [Value::Object(one)] = forms.as_mut_slice() {
                    let one = std::mem::take(one);
                    object.remove("anyOf");
                    // What is said of the key comes before what is said of its type.
                    for (key, value) in one {
                        object.entry(key).or_insert(value);
                    }
                }
            }
            object.values_mut().for_each(valued);
        }
        Value::Array(items) => items.iter_mut().for_each(valued),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{ProtocolSettings, Section, StoreSettings};

    /// A key of its own, and one that is a mapping.
    #[derive(serde::Deserialize, JsonSchema)]
    #[allow(dead_code)]
    struct Own {
        /// Its own key.
        own: bool,
        nested: Option<Nested>,
    }

    #[derive(serde::Deserialize, JsonSchema)]
    #[allow(dead_code)]
    struct Nested {
        inner: u8,
    }

    #[derive(serde::Deserialize, JsonSchema)]
    struct Nothing {}

    fn of<T: serde::de::DeserializeOwned + JsonSchema + Send + Sync + 'static>() -> Value {
        let row = |name, access, assets| {
            let section = Section::of::<T>();
            ProtocolSettings { name, listener: section, connection: section, access, assets }
        };
        let protocols = [row("postgres", None, Assets::Databases), row("ssh", Some(Section::of::<T>()), Assets::Servers)];
        schema(&Kinds {
            protocols: &protocols,
            stores: &[StoreSettings { name: "vault", settings: Section::of::<T>(), from_environment: None }],
        })
    }

    #[test]
    fn a_kind_adds_its_keys_to_a_closed_object() {
        let schema = of::<Own>();
        let form = schema.pointer("/properties/connections/additionalProperties/oneOf/0").unwrap();
        assert_eq!(form["additionalProperties"], false);
        assert_eq!(form["properties"]["protocol"]["const"], "postgres");
        assert_eq!(form["properties"]["own"]["description"], "Its own key.");
        let required: BTreeSet<&str> = form["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(required, BTreeSet::from(["address", "own", "protocol"]));
        assert!(form["properties"].get("hosts").is_none() && form.get("oneOf").is_none(), "a database is at one address");
        assert_eq!(schema["$defs"]["Nested"]["additionalProperties"], false);
        assert_eq!(schema["$defs"]["Limits"]["additionalProperties"], false);
    }

    #[test]
    fn servers_have_an_address_or_hosts_and_a_rule_has_the_keys_of_their_protocol() {
        let schema = of::<Own>();
        let form = schema.pointer("/properties/connections/additionalProperties/oneOf/1").unwrap();
        assert_eq!(form["properties"]["protocol"]["const"], "ssh");
        assert_eq!(form["oneOf"], json!([{ "required": ["address"] }, { "required": ["hosts"] }]));
        assert!(form["properties"].get("hosts").is_some());
        assert!(!form["required"].as_array().unwrap().contains(&"address".into()));
        let rule = schema.pointer("/properties/access/items").unwrap();
        assert_eq!(rule["additionalProperties"], false);
        let keys: BTreeSet<&str> = rule["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, BTreeSet::from(["accounts", "allow", "connections", "nested", "own"]));
    }

    #[test]
    fn a_key_that_may_be_left_out_is_not_written_without_a_value() {
        let schema = of::<Own>();
        assert!(!schema.to_string().contains("null"), "{schema}");
        let rule = schema.pointer("/properties/access/items/properties").unwrap();
        assert_eq!(rule["accounts"]["type"], "array");
        assert_eq!(rule["nested"]["$ref"], "#/$defs/Nested");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(object) => {
                    found.extend(object.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    object.values().for_each(|value| references(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let schema = of::<Own>();
        let mut found = BTreeSet::new();
        references(&schema, &mut found);
        assert!(found.len() > 5);
        for reference in found {
            assert!(schema.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
    }

    #[test]
    fn every_key_is_in_the_example_and_described() {
        fn keys(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(object) => {
                    for (key, property) in object.get("properties").and_then(Value::as_object).into_iter().flatten() {
                        let described = property.get("description").is_some() || property.get("$ref").is_some();
                        assert!(described, "{key} has no description");
                        found.insert(key.clone());
                    }
                    object.values().for_each(|value| keys(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| keys(value, found)),
                _ => {}
            }
        }
        let mut found = BTreeSet::new();
        keys(&of::<Nothing>(), &mut found);
        assert!(found.contains("max_sessions") && found.contains("pinned_key"));
        let example = include_str!("example.yaml");
        // `literal` has its place in the head of the file only: it is not to be copied.
        for key in found {
            let written = |before: &str| example.contains(&format!("{before}{key}: "));
            assert!(written(" ") || written("\n") || example.contains(&format!("{key}:\n")), "{key} is not in the example");
        }
    }
}
