//! Where the audit record and the log go.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{Spanned, scope};

/// The audit record: JSON lines, one file.
#[derive(Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(default)]
pub struct Audit {
    /// The file, mode 0600; reopened on SIGHUP and `keyward reload`. Or a named pipe, if its reader is there already. Default: `audit.jsonl` in
    /// the state folder.
    #[serde(deserialize_with = "scope::optional_path")]
    pub file: Option<PathBuf>,
    /// What happens when the record cannot be written.
    pub on_failure: OnFailure,
}

/// What happens when the audit record cannot be written.
#[derive(Deserialize, JsonSchema, Clone, Copy, Default, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// The login is refused, and an SSH session ends at the first use after a line that could not be written.
    #[default]
    Refuse,
    /// They go on; an error is logged and counted.
    Continue,
}

/// The log, on standard error.
#[derive(Deserialize, JsonSchema, Clone, Debug, Default, Eq)]
#[serde(default)]
pub struct Log {
    /// For people or for programs.
    pub format: LogFormat,
    /// What is logged: levels (`error` to `trace`, `off`) and `target=level`, with commas between: `info`, `warn,keyward=debug`. Default:
    /// `info`.
    pub level: Option<Spanned<String>>,
}

/// Where the level stands is no change of the log.
impl PartialEq for Log {
    fn eq(&self, other: &Self) -> bool {
        self.format == other.format && self.level.as_deref() == other.level.as_deref()
    }
}

/// The log's form.
#[derive(Deserialize, JsonSchema, Clone, Copy, Default, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line a record, for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}
