use proptest::prelude::*;

use super::*;

fn about(field: &str, name: &str) -> bool {
    Hosts::parse(field).unwrap().is_about(name)
}

#[test]
fn names_wildcards_and_exceptions_are_as_in_ssh() {
    for (field, name, wanted) in [
        ("web-1", "web-1", true),
        ("web-1", "web-10", false),
        ("web-1", "web-", false),
        ("WEB-1", "web-1", true),
        ("web-1,192.0.2.7", "192.0.2.7", true),
        ("*.example.com", "a.example.com", true),
        ("*.example.com", "a.b.example.com", true),
        ("*.example.com", "example.com", false),
        ("*", "anything", true),
        ("web-?", "web-1", true),
        ("web-?", "web-", false),
        ("web-?", "web-10", false),
        ("*,!bad.example.com", "good.example.com", true),
        ("*,!bad.example.com", "bad.example.com", false),
        ("!bad.example.com,*", "bad.example.com", false),
        ("!bad.example.com", "good.example.com", false),
        ("[web-1]:2222", "[web-1]:2222", true),
        ("[web-1]:2222", "web-1", false),
        ("web-1", "[web-1]:2222", false),
        ("[*.example.com]:*", "[a.example.com]:2222", true),
        ("*a*b*c", "xxaxxbxxc", true),
        ("*a*b*c", "xxaxxcxxb", false),
        ("a**b", "ab", true),
    ] {
        assert_eq!(about(field, name), wanted, "{field} {name}");
    }
}

#[test]
fn a_hashed_name_is_known_by_its_hash_alone() {
    // Made by `ssh-keygen -H` of `web-1.example.com,[x]:2222`.
    let field = "|1|15gj9iqT0enV26a6IdjeBW/nQlk=|HgYmexDpcV8hzS/ldkW4UjgPXJg=";
    assert!(about(field, "web-1.example.com"));
    assert!(!about(field, "web-2.example.com") && !about(field, "[web-1.example.com]:2222"));
    let field = "|1|vG9v2eagjiJEDH9/N8V0Rtf74rg=|mMowiIC06squgMOJVIHiOlP4gHo=";
    assert!(about(field, "[x]:2222") && !about(field, "x"));
    for broken in ["|1|", "|1|x|y", "|2|AAAA|AAAA", "|1|AAAA|AAAA", "|", "|1|AAAAAAAAAAAAAAAAAAAAAAAAAAA="] {
        assert!(Hosts::parse(broken).is_err(), "{broken}");
    }
}

#[test]
fn a_field_that_says_nothing_is_refused() {
    for field in ["", ",", "a,,b", "!", "a,!", &"x".repeat(513), &["a"; 1025].join(",")] {
        assert!(Hosts::parse(field).is_err(), "{}", field.len());
    }
}

#[test]
fn a_pattern_made_to_take_long_takes_no_longer() {
    let (pattern, name) = ("*a".repeat(256), "a".repeat(100_000));
    assert!(!matches(format!("{pattern}b").as_bytes(), name.as_bytes()));
}

/// The textbook's, exponential and obviously right.
fn slow(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|taken| slow(rest, &text[taken..])),
        Some((wanted, rest)) => text.split_first().is_some_and(|(byte, after)| (*wanted == b'?' || wanted == byte) && slow(rest, after)),
    }
}

proptest! {
    #[test]
    fn the_quick_way_finds_what_the_slow_way_finds(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
        prop_assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), slow(pattern.as_bytes(), text.as_bytes()));
    }
}
