//! The JSON Schema (2020-12) of the whole file, for editors.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::connection::{AccountKeys, ConnectionKeys};
use crate::listener::ListenerKeys;
use crate::load::SECTIONS;
use crate::store::StoreKeys;
use crate::{Access, Audit, FilePath, Http, Kinds, Limits, Log, Name, Reload, User};

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
            let own: [fn(&mut SchemaGenerator) -> Schema; 1] = [AccountKeys::json_schema];
            by_name(one_of(rows.map(|row| form::<ConnectionKeys>(&own, row.connection.schema, "protocol", row.name, generator)).collect()))
        }
        "users" => by_name(generator.subschema_for::<User>().to_value()),
        "access" => json!({ "type": "array", "items": generator.subschema_for::<Access>() }),
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

/// The entry of one kind: the generic keys, further ones, and the kind's own, in one closed object.
fn form<G: JsonSchema>(
    further: &[fn(&mut SchemaGenerator) -> Schema],
    kind: fn(&mut SchemaGenerator) -> Schema,
    word: &str,
    name: &str,
    generator: &mut SchemaGenerator,
) -> Value {
    let mut merged = json!({ "type": "object", "properties": {}, "required": [], "additionalProperties": false });
    let parts: Vec<fn(&mut SchemaGenerator) -> Schema> =
        [G::json_schema as fn(&mut _) -> _].into_iter().chain(further.iter().copied()).chain([kind]).collect();
    for part in parts {
        let part = part(generator).to_value();
        merge(&mut merged, &part);
        close_nested(&mut merged);
    }
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
