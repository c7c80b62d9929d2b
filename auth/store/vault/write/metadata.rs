//! What a KV version 2 mount says of a secret beside its values.

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{Desk, Located};
use crate::store::vault::answer::Failure;
use crate::store::vault::client::{Call, Retry};
use crate::store::vault::failed;
use crate::store::writer::{Metadata, MetadataChange, Version};
use crate::store::{SecretPath, StoreError, StoreErrorKind};

impl Desk {
    pub(super) async fn read_metadata(&self, at: &Located, path: &SecretPath) -> Result<Metadata, StoreError> {
        at.must_have_versions(path)?;
        let api = at.api("metadata");
        let call = Call { fresh: true, ..Call::get("kv_metadata", &api) };
        match self.call(&call, Retry::Idempotent).await {
            Ok(mut answer) => Ok(read(&answer.take_data())),
            Err(Failure::Refused(refused)) if refused.status == 404 && refused.errors.is_empty() => {
                Err(StoreError::new(StoreErrorKind::NotFound, format!("{path}: there is no such secret")))
            }
            Err(failure) => Err(failed(format_args!("reading the metadata of {path}"))(failure)),
        }
    }

    /// The version that a write replaces; 0: there is none.
    pub(super) async fn current(&self, at: &Located, path: &SecretPath) -> Result<u64, StoreError> {
        match self.read_metadata(at, path).await {
            Ok(metadata) => Ok(metadata.current),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn change_metadata(&self, path: &SecretPath, change: &MetadataChange) -> Result<(), StoreError> {
        let at = self.locate(path).await?;
        let mut body = Map::new();
        if let Some(most) = change.max_versions {
            body.insert("max_versions".to_owned(), most.into());
        }
        if let Some(after) = &change.delete_version_after {
            body.insert("delete_version_after".to_owned(), after.as_str().into());
        }
        // Also where nothing is noted: else metadata would come to be of a secret that is not there.
        let mut notes: Map<String, Value> =
            self.read_metadata(&at, path).await?.notes.into_iter().map(|(name, text)| (name, text.into())).collect();
        if !change.notes.is_empty() {
            for (name, text) in &change.notes {
                if text.is_empty() {
                    notes.remove(name)
                } else {
                    notes.insert(name.clone(), text.as_str().into())
                };
            }
            body.insert("custom_metadata".to_owned(), json!(notes));
        }
        let body = Value::Object(body);
        let answer = self.send("kv_set_metadata", Method::POST, &at.api("metadata"), Some(&body)).await;
        answer.map(drop).map_err(failed(format_args!("changing the metadata of {path}")))
    }
}

fn read(data: &Value) -> Metadata {
    let number = |key: &str| data.get(key).and_then(Value::as_u64).unwrap_or_default();
    let versions = data.get("versions").and_then(Value::as_object).into_iter().flatten();
    let mut versions: Vec<Version> = versions.filter_map(|(number, facts)| Some(version(number.parse().ok()?, facts))).collect();
    versions.sort_unstable_by_key(|version| version.number);
    let notes = data.get("custom_metadata").and_then(Value::as_object).into_iter().flatten();
    Metadata {
        versions,
        current: number("current_version"),
        max_versions: number("max_versions"),
        delete_version_after: text(data, "delete_version_after"),
        cas_required: data.get("cas_required").and_then(Value::as_bool).unwrap_or_default(),
        notes: notes.filter_map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned()))).collect(),
    }
}

pub(super) fn version(number: u64, facts: &Value) -> Version {
    Version {
        number,
        created: text(facts, "created_time"),
        deleted: Some(text(facts, "deletion_time")).filter(|when| !when.is_empty()),
        destroyed: facts.get("destroyed").and_then(Value::as_bool).unwrap_or_default(),
    }
}

fn text(facts: &Value, key: &str) -> String {
    facts.get(key).and_then(Value::as_str).unwrap_or_default().chars().take(100).flat_map(char::escape_debug).collect()
}
