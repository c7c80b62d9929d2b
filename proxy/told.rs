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
    if choices.is_empty() { text.to_owned() } else { format!("{text}{REACH}{}", listed(choices, most)) }
}

/// The same as a whole [`sentence`], for a protocol in which it has at most so many bytes: the names that fit.
#[must_use]
pub fn reachable_within(bytes: usize, text: &str, choices: &[String], most: usize, id: SessionId) -> String {
    let room = bytes.saturating_sub(sentence(&format!("{text}{REACH}"), id).len());
    let most = (0..=most.min(choices.len())).rev().find(|most| listed(choices, *most).len() <= room).unwrap_or(0);
    sentence(&reachable(text, choices, most), id)
}

/// The names in a line, at most so many, and a sign where there are more.
#[must_use]
pub fn listed(choices: &[String], most: usize) -> String {
    let names = choices.iter().take(most).map(String::as_str);
    names.chain((choices.len() > most).then_some("...")).collect::<Vec<_>>().join(", ")
}

/// Between what is wrong and the names.
const REACH: &str = "; you may reach: ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_whole_or_not_at_all_and_it_shows_that_there_are_more() {
        let names: Vec<String> = (0..40).map(|number| format!("prod-orders-{number:02}")).collect();
        assert_eq!(listed(&names, 2), "prod-orders-00, prod-orders-01, ...");
        assert_eq!(listed(&names[..2], 2), "prod-orders-00, prod-orders-01");
        assert_eq!(reachable("no", &[], 2), "no");
        let id: SessionId = "0123456789abcdef".parse().unwrap();
        let bare = sentence(&format!("no{REACH}"), id).len();
        // Two names and the sign have 35 bytes, two names alone 30.
        for (room, names, wanted) in [
            (35, 40, "prod-orders-00, prod-orders-01, ..."),
            (34, 40, "prod-orders-00, ..."),
            (30, 2, "prod-orders-00, prod-orders-01"),
            (29, 2, "prod-orders-00, ..."),
            (0, 2, "..."),
        ]
        .map(|(room, count, wanted)| (room, &names[..count], wanted))
        {
            let said = reachable_within(bare + room, "no", names, 50, id);
            assert_eq!(said, format!("keyward: no{REACH}{wanted} (session 0123456789abcdef)"));
        }
        assert!(reachable_within(512, "no", &names, 5, id).contains("prod-orders-04, ... (session"), "not more than so many");
        assert_eq!(reachable_within(512, "no", &[], 5, id), sentence("no", id));
    }
}
