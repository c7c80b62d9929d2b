//! What must never be seen in a log, an audit record, a metric, a file or a client's output: passwords, private keys, the tokens of a store and
//! the names of its leases.

use std::collections::BTreeSet;
use std::sync::Mutex;

use aws_lc_rs::rand;

/// What every secret of ours begins with. One search finds them all, also in a dump of many megabytes; so it does those of OpenBao, by
/// their first dash.
const MARK: &str = "canary";

const UUID: usize = 36;
const UUID_DASH: usize = 8;

static MADE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Letters of a private key that are remembered, and those of one piece of them: a search that takes a piece now and then meets one.
const OF_A_KEY: usize = 48;
const PIECE: usize = 16;

static KEYS: Mutex<BTreeSet<Vec<u8>>> = Mutex::new(BTreeSet::new());

/// The random letters of a token and of a lease's name are as many, or more.
const RANDOM: usize = 24;
/// How a token begins, by OpenBao's and by Vault's own custom; service, batch and recovery.
const TOKENS: [&str; 6] = ["s", "b", "r", "hvs", "hvb", "hvr"];

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

/// Adds a private key in PEM, if it is longer than a line or two: not the head, which all of a kind have in common.
pub fn remember_key(pem: &str) {
    let lines: Vec<&str> = pem.lines().filter(|line| !line.starts_with('-')).collect();
    // The last whole line is in the private half, whatever the kind.
    let [_, .., line, _] = lines[..] else { return };
    KEYS.lock().unwrap().extend(line.as_bytes()[..OF_A_KEY].windows(PIECE).map(<[u8]>::to_vec));
}

/// Fails if `text` holds a secret; `place` says where it came from.
pub fn must_be_absent(place: &str, text: &str) {
    only_leases_may_be_in(place, text);
    assert!(!names_a_lease(text), "the name of a lease is in {place}");
}

/// The same, but that it may name leases.
pub fn only_leases_may_be_in(place: &str, text: &str) {
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
    assert!(!holds_a_key(text), "a private key is in {place}");
    assert!(!holds_a_token(text), "a token of a store is in {place}");
}

fn holds_a_key(text: &str) -> bool {
    let runs = text.as_bytes().split(|byte| !(byte.is_ascii_alphanumeric() || b"+/".contains(byte)));
    let mut pieces = runs.flat_map(|run| run.windows(PIECE).step_by(OF_A_KEY - PIECE + 1));
    let keys = KEYS.lock().unwrap();
    pieces.any(|piece| keys.contains(piece))
}

fn holds_a_token(text: &str) -> bool {
    text.match_indices('.').any(|(at, _)| {
        let before = &text[..at];
        let prefix = TOKENS.iter().find(|prefix| {
            let rest = before.strip_suffix(**prefix);
            rest.is_some_and(|rest| !rest.ends_with(|letter: char| letter.is_alphanumeric() || "._-/".contains(letter)))
        });
        prefix.is_some() && is_random(&text[at + 1..])
    })
}

/// `…/creds/ROLE/…`
fn names_a_lease(text: &str) -> bool {
    let mut roles = text.match_indices("/creds/").map(|(at, what)| &text[at + what.len()..]);
    roles.any(|role| role.find(|letter: char| !is_word(letter)).is_some_and(|end| role[end..].strip_prefix('/').is_some_and(is_random)))
}

/// Whether it begins with as many letters and digits as are random in the names that OpenBao makes.
fn is_random(text: &str) -> bool {
    text.bytes().take_while(u8::is_ascii_alphanumeric).count() >= RANDOM
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || "_-.".contains(letter)
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
#[should_panic(expected = "a private key is in")]
fn a_line_of_a_private_key_is_found() {
    let key = format!("-----BEGIN KEY-----\n{}\n{}\n{}\n-----END KEY-----\n", "A".repeat(70), "b3/+".repeat(17), "C".repeat(30));
    remember_key(&key);
    must_be_absent("this text", &key.replace('\n', "\\n"));
}

#[test]
fn tokens_and_names_of_leases_are_found_and_what_looks_like_them_is_not() {
    let random = "iYjKq0aB1cD2eF3gH4iJ5kL6";
    for token in [format!("s.{random}"), format!("\"token\":\"hvs.{random}x\""), format!("b.{random}-_x")] {
        assert!(holds_a_token(&token), "{token}");
    }
    for other in [format!("users.{random}"), format!("a/s.{random}"), "s.nobodys".to_owned(), format!("s. {random}")] {
        assert!(!holds_a_token(&other), "{other}");
    }
    assert!(names_a_lease(&format!("at db_1/creds/rw/{random}")) && names_a_lease(&format!("x/creds/a/y z/creds/b-c/{random}.ns")));
    assert!(!names_a_lease("db_1/creds/rw") && !names_a_lease(&format!("db_1/creds/rw {random}")));
}

#[test]
fn a_text_without_a_secret_is_fine() {
    must_be_absent("this text", &format!("{}canary {}", "QZ7".repeat(7), random_hex(12)));
}
