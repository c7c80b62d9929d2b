//! Passwords that must never be seen in a log, an audit record, a metric, a file or a client's output.

use std::collections::BTreeSet;
use std::sync::Mutex;

use aws_lc_rs::rand;

/// What every secret of ours begins with. One search finds them all, also in a dump of many megabytes; so it does those of OpenBao, by
/// their first dash.
const MARK: &str = "canary";

const UUID: usize = 36;
const UUID_DASH: usize = 8;

static MADE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The letters of the passwords that OpenBao makes in these tests. No word, no id and no hash has a long run of only these.
pub const ISSUED_ALPHABET: &str = "QZ7";
const ISSUED_RUN: usize = 24;

/// A new secret: remembered, and searched for wherever it must not be.
pub fn canary() -> String {
    let text = format!("{MARK}{}", random_hex(12));
    MADE.lock().unwrap().insert(text.clone());
    text
}

/// Adds a secret that OpenBao made, such as a secret id: a UUID.
pub fn remember(secret: &str) {
    assert!(secret.len() == UUID && secret.find('-') == Some(UUID_DASH), "another form than a UUID's");
    MADE.lock().unwrap().insert(secret.to_owned());
}

/// Fails if `text` holds a secret; `place` says where it came from.
pub fn must_be_absent(place: &str, text: &str) {
    let marked = text.match_indices(MARK).filter_map(|(at, _)| text.get(at..at + MARK.len() + 24));
    let dashed = text.match_indices('-').filter_map(|(at, _)| text.get(at.checked_sub(UUID_DASH)?..at - UUID_DASH + UUID));
    let found = marked.chain(dashed).find(|secret| MADE.lock().unwrap().contains(*secret)).map(str::to_owned);
    if let Some(secret) = found {
        // Only its first letters are shown: a leak in a test log would be found by the next search.
        panic!("a secret ({}…) is in {place}", &secret[..8]);
    }
    let mut run = 0;
    for letter in text.chars() {
        run = if ISSUED_ALPHABET.contains(letter) { run + 1 } else { 0 };
        assert!(run < ISSUED_RUN, "a password that OpenBao made is in {place}");
    }
}

/// `2 * bytes` random hexadecimal digits.
pub fn random_hex(bytes: usize) -> String {
    let mut random = vec![0_u8; bytes];
    rand::fill(&mut random).unwrap();
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
#[should_panic(expected = "a secret (canary")]
fn a_planted_canary_is_found() {
    must_be_absent("this text", &format!("before {} after", canary()));
}

#[test]
#[should_panic(expected = "a secret (0f3c9a2e")]
fn a_secret_id_is_found() {
    let id = "0f3c9a2e-6d1b-4c57-8e90-1a2b3c4d5e6f";
    remember(id);
    must_be_absent("this text", &format!("-before-{id}-after-"));
}

#[test]
#[should_panic(expected = "a password that OpenBao made")]
fn a_password_that_openbao_made_is_found() {
    must_be_absent("this text", &format!("before {} after", "QZ7".repeat(8)));
}

#[test]
fn a_text_without_a_secret_is_fine() {
    must_be_absent("this text", &format!("{}canary {}", "QZ7".repeat(7), random_hex(12)));
}
