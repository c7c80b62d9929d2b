//! How a client is told something, whatever the protocol: the form of our texts, and how long he has to read them. The words are each
//! protocol's own, in its `refuse.rs`.

use std::time::Duration;

use keyward_auth::SessionId;

/// A client that does not read its refusal is not waited for.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// How every text of ours reads, whatever the protocol.
#[must_use]
pub fn sentence(text: &str, id: SessionId) -> String {
    format!("keyward: {text} (session {id})")
}

/// The text with what the user may reach behind it, at most so many names; alone, if there is nothing to choose.
#[must_use]
pub fn reachable(text: &str, choices: &[String], most: usize) -> String {
    if choices.is_empty() { text.to_owned() } else { format!("{text}; you may reach: {}", listed(choices, most)) }
}

/// The names in a line, at most so many.
#[must_use]
pub fn listed(choices: &[String], most: usize) -> String {
    choices.iter().take(most).map(String::as_str).collect::<Vec<_>>().join(", ")
}
