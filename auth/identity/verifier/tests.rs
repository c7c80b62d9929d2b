use proptest::prelude::*;

use super::*;

/// RFC 7677 §3: user "user", password "pencil".
const PENCIL: &str =
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
/// A test vector of the reference implementation: password "password", salt "somesalt".
const REFERENCE: &str = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

fn secret(text: &str) -> Secret {
    Secret::from(text.to_owned())
}

#[test]
fn a_verifier_of_postgresql_accepts_its_password_only() {
    let verifier = Verifier::parse(PENCIL).unwrap();
    assert!(verifier.serves_scram());
    assert!(verifier.accepts(&secret("pencil")));
    assert!(!verifier.accepts(&secret("Pencil")));
    assert!(!verifier.accepts(&secret("")));
}

#[test]
fn what_we_make_accepts_its_password_only() {
    let scram = Verifier::make_scram(&secret("correct horse")).unwrap();
    assert!(scram.starts_with("SCRAM-SHA-256$4096:"));
    let argon2 = Verifier::make_argon2(&secret("correct horse")).unwrap();
    assert!(argon2.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{argon2}");
    for (text, serves_scram) in [(scram, true), (argon2, false)] {
        let verifier = Verifier::parse(&text).unwrap();
        assert_eq!(verifier.serves_scram(), serves_scram);
        assert!(verifier.accepts(&secret("correct horse")));
        assert!(!verifier.accepts(&secret("battery staple")));
        assert!(!verifier.with_hash(&[7; 32]).accepts(&secret("correct horse")) || serves_scram);
    }
    assert_ne!(Verifier::make_scram(&secret("x")).unwrap(), Verifier::make_scram(&secret("x")).unwrap(), "salted");
}

#[test]
fn an_argon2id_hash_of_another_maker_is_understood() {
    let verifier = Verifier::parse(REFERENCE).unwrap();
    assert!(verifier.accepts(&secret("password")));
    assert!(!verifier.accepts(&secret("passwort")));
}

#[test]
fn passwords_are_prepared_as_postgresql_does() {
    // SASLprep: U+00AA becomes "a", U+00AD goes. What it forbids (U+0007) and what is no UTF-8 is taken as it is.
    let accepted = |made: Secret, typed: Secret| Verifier::parse(&Verifier::make_scram(&made).unwrap()).unwrap().accepts(&typed);
    assert!(accepted(secret("\u{aa}"), secret("a")));
    assert!(accepted(secret("I\u{ad}X"), secret("IX")));
    assert!(accepted(secret("\u{7}\u{aa}"), secret("\u{7}\u{aa}")));
    assert!(!accepted(secret("\u{7}\u{aa}"), secret("\u{7}a")));
    assert!(accepted(Secret::from(vec![0xff, 0xaa]), Secret::from(vec![0xff, 0xaa])));
}

#[test]
fn what_is_no_verifier_is_refused_without_repeating_it() {
    let key = "A".repeat(43) + "=";
    let scram = |count: &str, salt: &str, stored: &str| format!("SCRAM-SHA-256${count}:{salt}${stored}:{key}");
    let bad = [
        "canary".to_owned(),
        "md5aabbccddeeff00112233445566778899".to_owned(),
        "SCRAM-SHA-256$canary".to_owned(),
        scram("4095", "c2FsdA==", &key),
        scram("1000001", "c2FsdA==", &key),
        scram("+4096", "c2FsdA==", &key),
        scram("99999999999999999999", "c2FsdA==", &key),
        scram("4096", "", &key),
        scram("4096", "c2Fsd", &key),
        scram("4096", &STANDARD.encode([0; 65]), &key),
        scram("4096", "c2FsdA==", "AAAA"),
        scram("4096", "c2FsdA==", "canary"),
        "$argon2id$canary".to_owned(),
        REFERENCE.replace("v=19", "v=16"),
        REFERENCE.replace("argon2id", "argon2i"),
        REFERENCE.replace("m=65536", "m=262145"),
        REFERENCE.replace("t=2", "t=17"),
        REFERENCE.replace("p=1", "p=17"),
        REFERENCE.rsplit_once('$').unwrap().0.to_owned(),
        format!("{REFERENCE}$canary"),
    ];
    for text in bad {
        let error = Verifier::parse(&text).expect_err(&text);
        assert!(!error.contains("canary") && error.contains("verifier"), "{error}");
    }
    assert_eq!(format!("{:?}", Verifier::parse(PENCIL).unwrap()), "[verifier]");
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "(SCRAM-SHA-256\\$|\\$argon2id\\$)?[ -~äß\\n]{0,80}") {
        let _ = Verifier::parse(&text);
    }
}
