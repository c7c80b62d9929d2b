use super::*;

#[test]
fn a_token_that_cannot_be_a_header_is_refused_without_being_shown() {
    for text in ["", "a b", "a\nb", "é"] {
        assert!(!header(text).unwrap_err().detail.contains(text) || text.is_empty());
    }
    assert_eq!(format!("{:?}", header("s.canary").unwrap()), "Sensitive");
}

#[test]
fn a_login_that_is_not_over_yet_gives_no_token() {
    let of = |auth: Value| granted(&Answer { body: serde_json::json!({ "auth": auth }), asked: std::time::Instant::now() });
    let good =
        || serde_json::json!({"client_token": "s.1", "lease_duration": 60, "renewable": true, "num_uses": 0, "mfa_requirement": null});
    assert_eq!(of(good()).unwrap().text, "s.1");
    for (key, value, says) in [
        ("mfa_requirement", serde_json::json!({"mfa_request_id": "x"}), "second factor"),
        ("client_token", "".into(), "second factor"),
        ("num_uses", 3.into(), "token_num_uses"),
    ] {
        let mut auth = good();
        auth[key] = value;
        let error = of(auth).err().unwrap().error;
        assert!(error.kind == StoreErrorKind::LoginFailed && error.detail.contains(says), "{error}");
    }
    assert!(of(Value::Null).is_err());
}
