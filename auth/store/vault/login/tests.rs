use super::*;

#[test]
fn a_token_that_cannot_be_a_header_is_refused_without_being_shown() {
    for text in ["", "a b", "a\nb", "é"] {
        assert!(!header(text).unwrap_err().detail.contains(text) || text.is_empty());
    }
    assert_eq!(format!("{:?}", header("s.canary").unwrap()), "Sensitive");
}
