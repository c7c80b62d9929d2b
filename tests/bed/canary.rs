//! Passwords that must never be seen in a log, an audit record, a metric, a file or a client's output.

use std::sync::Mutex;

use aws_lc_rs::rand;

static MADE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The letters of the passwords that OpenBao makes in these tests. No word, no id and no hash has a long run of only these.
pub const ISSUED_ALPHABET: &str = "QZ7";
const ISSUED_RUN: usize = 24;

/// A new secret: remembered, and searched for wherever it must not be.
pub fn canary() -> String {
    let text = format!("canary{}", random_hex(12));
    remember(&text);
    text
}

/// Adds a secret that somebody else made.
pub fn remember(secret: &str) {
    MADE.lock().unwrap().push(secret.to_owned());
}

/// Fails if `text` holds a secret; `place` says where it came from.
pub fn must_be_absent(place: &str, text: &str) {
    // Only its first letters are shown: a leak in a test log would be found by the next search.
    let found = MADE.lock().unwrap().iter().find(|secret| text.contains(secret.as_str())).map(|secret| secret[..8].to_owned());
    if let Some(start) = found {
        panic!("a secret ({start}…) is in {place}");
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
#[should_panic(expected = "a password that OpenBao made")]
fn a_password_that_openbao_made_is_found() {
    must_be_absent("this text", &format!("before {} after", "QZ7".repeat(8)));
}

#[test]
fn a_text_without_a_secret_is_fine() {
    must_be_absent("this text", &format!("{}canary {}", "QZ7".repeat(7), random_hex(12)));
}
