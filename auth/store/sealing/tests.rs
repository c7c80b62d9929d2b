use proptest::prelude::*;

use super::*;

fn key() -> SealingKey {
    SealingKey::new(&SealingKey::make().unwrap())
}

fn open(key: &SealingKey, name: &str, sealed: &str) -> Result<String, SealError> {
    key.open(name, sealed).map(|plain| String::from_utf8(plain.to_vec()).unwrap())
}

#[test]
fn what_was_sealed_opens_by_the_same_key_under_the_same_name_only() {
    let (one, other) = (key(), key());
    let sealed = one.seal("orders", b"canary").unwrap();
    assert!(sealed.starts_with("v1:") && is_sealed(&sealed) && !sealed.contains("canary"));
    assert_eq!(open(&one, "orders", &sealed).unwrap(), "canary");
    assert_eq!(open(&one, "orders", &format!(" {sealed}\n")).unwrap(), "canary");
    assert_eq!(open(&other, "orders", &sealed), Err(SealError::WrongKey));
    assert_eq!(open(&one, "shop", &sealed), Err(SealError::WrongKey));
    assert_ne!(one.seal("orders", b"canary").unwrap(), sealed, "each has a nonce of its own");
}

#[test]
fn a_passphrase_is_stretched_and_what_it_is_stretched_by_cannot_be_changed() {
    let phrase = SealingKey::new("correct horse battery");
    let sealed = phrase.seal("orders", b"canary").unwrap();
    assert!(sealed.starts_with("v1:argon2id,m=65536,t=3,p=1,"), "{sealed}");
    assert_eq!(open(&phrase, "orders", &sealed).unwrap(), "canary");
    assert_eq!(open(&SealingKey::new("correct horse batterz"), "orders", &sealed), Err(SealError::WrongKey));
    assert_eq!(open(&phrase, "orders", &sealed.replace("t=3", "t=2")), Err(SealError::WrongKey));
    assert_eq!(open(&phrase, "orders", &sealed.replace("m=65536", "m=4000000")), Err(SealError::NotSealed), "a bound on what we allocate");
    assert_eq!(SealingKey::new("short").seal("orders", b"canary"), Err(SealError::ShortPassphrase));
}

#[test]
fn keys_and_passphrases_are_told_apart() {
    let (key, phrase) = (key(), SealingKey::new("correct horse battery"));
    assert_eq!(open(&phrase, "n", &key.seal("n", b"x").unwrap()), Err(SealError::OtherSort));
    assert_eq!(open(&key, "n", &phrase.seal("n", b"x").unwrap()), Err(SealError::OtherSort));
    // One character short: no key.
    assert!(matches!(SealingKey::new(&"A".repeat(43)).0, Form::Passphrase(_)));
    assert!(matches!(SealingKey::new(&format!("{}=\n", "A".repeat(43))).0, Form::Key(_)));
}

#[test]
fn neither_a_key_nor_an_error_shows_anything() {
    let text = SealingKey::make().unwrap();
    assert_eq!(format!("{:?}", SealingKey::new(&text)), "[sealing key]");
    let error = key().open("n", "v1:canary").unwrap_err();
    assert!(!format!("{error} {error:?}").contains("canary"));
}

#[test]
fn a_text_that_is_not_sealed_is_said_to_be_none() {
    for text in ["", "v1", "v1:", "v1:AAAA", "v2:AAAA", "plain", "v1:argon2id,m=8:AAAA", "v1:argon2id,m=+8,t=1,p=1,AA==:AAAA", "v1:x:AAAA"]
    {
        assert_eq!(open(&key(), "n", text), Err(SealError::NotSealed), "{text:?}");
    }
    assert!(!is_sealed("v1") && !is_sealed("v12:") && !is_sealed("password"));
}

proptest! {
    #[test]
    fn any_change_of_a_sealed_text_keeps_it_closed(plain in proptest::collection::vec(any::<u8>(), 0..64), at: prop::sample::Index, flip in 1u8..=255) {
        let key = key();
        let sealed = key.seal("name", &plain).unwrap();
        prop_assert_eq!(key.open("name", &sealed).unwrap().to_vec(), plain);
        let mut body = STANDARD.decode(&sealed["v1:".len()..]).unwrap();
        let at = at.index(body.len());
        body[at] ^= flip;
        let changed = format!("v1:{}", STANDARD.encode(body));
        prop_assert_eq!(key.open("name", &changed).unwrap_err(), SealError::WrongKey);
    }

    #[test]
    fn no_text_makes_opening_panic(text in "(v1:)?[ -~]{0,80}") {
        let _ = key().open("name", &text);
    }
}
