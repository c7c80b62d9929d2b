//! What was said of a store in the log, so that it is said once.

use std::collections::BTreeSet;
use std::sync::Mutex;

use super::super::answer::Answer;
use super::Client;

/// Texts remembered: more than a store has to say. What comes later is not said.
const MOST: usize = 500;
/// Warnings of one answer, and characters of each.
const WARNINGS: usize = 5;
const LENGTH: usize = 300;

/// Texts that were said.
#[derive(Default)]
pub(super) struct Heard(Mutex<BTreeSet<String>>);

impl Client {
    /// Whether this was not said yet. Asked, it counts as said.
    pub(in crate::store::vault) fn is_news(&self, text: &str) -> bool {
        let Ok(mut heard) = self.heard.0.lock() else { return false };
        heard.len() < MOST && heard.insert(text.chars().take(LENGTH).collect())
    }

    /// Says what the server adds to an answer, such as that a role gives less than it was asked for. One text for all numbers: it says how
    /// much of a time was left.
    pub(super) fn tell_warnings(&self, answer: &Answer, operation: &'static str) {
        let warnings = answer.body.get("warnings").and_then(serde_json::Value::as_array).into_iter().flatten();
        for warning in warnings.filter_map(serde_json::Value::as_str).take(WARNINGS) {
            let shown: String = warning.chars().take(LENGTH).flat_map(char::escape_debug).collect();
            if self.is_news(&shown.replace(|c: char| c.is_ascii_digit(), "")) {
                tracing::info!(store = self.name, operation, warning = shown, "the store warns of something");
            }
        }
    }
}
