use super::*;
use proptest::prelude::*;
use serde_json::json;

fn parse(text: &str) -> Reference {
    text.parse().unwrap_or_else(|message| panic!("{text}: {message}"))
}

#[test]
fn every_documented_form_parses() {
    let kv = parse(" prod_db/data/mysql?username ");
    assert_eq!(
        (kv.path.as_str(), kv.path.form(), kv.selector.as_ref().map(Selector::as_str)),
        ("prod_db/data/mysql", Form::Kv, Some("username"))
    );
    let pinned = parse("prod_db/data/team/mysql?a.b.c&version=3");
    assert_eq!((pinned.path.version(), pinned.selector.as_ref().map(Selector::as_str)), (Some(3), Some("a.b.c")));
    assert_eq!(parse("prod_db/data/mysql?&version=2").selector, None);
    assert_eq!(parse("prod_db/creds/role").path.form(), Form::Dynamic);
    assert_eq!(parse("team/db/creds/role").path.form(), Form::Dynamic);
    assert_eq!(parse("ssh/sign/app").path.form(), Form::Sign);
    assert_eq!(parse("team/ssh/sign/app").path.form(), Form::Sign);
    assert_eq!(parse("prod_os/data/sign/x?key").path.form(), Form::Kv);
    assert_eq!(parse("prod_os/data/sign/x").path.form(), Form::Kv);
    assert_eq!(parse("kv1/sign/app?key").path.form(), Form::Kv);
    assert_eq!(parse("prod_os/sign?key").path.form(), Form::Kv);
    assert_eq!(parse("prod_db/static-creds/role").path.form(), Form::StaticRole);
    assert_eq!(parse("prod_db/data/creds/app?password").path.form(), Form::Kv);
    assert_eq!(parse("kv1/creds/app?password").path.form(), Form::Kv);
    assert_eq!(parse("kv1/app?password").path.form(), Form::Kv);
    assert_eq!(parse("prod_db/data/auth/service?key").path.form(), Form::Kv);
}

#[test]
fn a_text_that_is_none_is_refused_and_never_repeated() {
    let canary = "hunter2-canary";
    for text in [
        canary.to_owned(),
        format!("{canary}/"),
        format!("/{canary}/x"),
        format!("a//{canary}"),
        format!("a/../{canary}"),
        format!("a/./{canary}?k"),
        format!("a/%2f{canary}"),
        format!("a/{canary}*"),
        format!("a/{canary}+x"),
        format!("a/{canary}#x"),
        format!("a\\{canary}/x"),
        format!("a/{canary}\n/x"),
        format!("a/b?{canary}?x"),
        format!("a/{canary}?"),
        format!("a/{canary}?k&version=x"),
        format!("a/{canary}?k&version=0"),
        format!("a/{canary}?k&z=1"),
        format!("a/{canary}?k..z"),
        format!("sys/{canary}"),
        format!("SYS/{canary}"),
        format!("team/sys/{canary}"),
        format!("auth/{canary}?x"),
        format!("identity/{canary}"),
        format!("cubbyhole/{canary}"),
        format!("{{{{secrets.{canary}.a"),
        format!("vault.secret({canary}:a.b"),
        "x/data".to_owned(),
        "x/creds".to_owned(),
        "x/creds/role?&version=2".to_owned(),
        "x/sign".to_owned(),
        "x/sign/role?&version=2".to_owned(),
        String::new(),
        format!("a/{}", "x".repeat(2000)),
    ] {
        let message = text.parse::<Reference>().expect_err(&text);
        assert!(!message.contains(canary), "{message}");
        assert!(message.len() > 20, "{message}");
    }
    // `a/b?c?d` splits at the last `?`, and a `?` in the path is refused.
    assert!("a/b?c?d".parse::<Reference>().is_err());
}

#[test]
fn a_selector_prefers_the_exact_key_then_goes_deeper() {
    let fields =
        json!({"a.b": "exact", "a": {"b": "deep", "c": {"d.e": 7}}, "list": ["x", {"k": true}], "null": null, "text": "{\"in\":\"side\"}"});
    let path = parse("m/data/p").path;
    let pick = |key: &str| Selector::key(key).pick(&fields, &path).map(|secret| String::from_utf8_lossy(secret.expose()).into_owned());
    assert_eq!(pick("a.b").unwrap(), "exact");
    assert_eq!(pick("a.c.d.e").unwrap(), "7");
    assert_eq!(pick("list.0").unwrap(), "x");
    assert_eq!(pick("list.1.k").unwrap(), "true");
    assert_eq!(pick("text.in").unwrap(), "side");
    for (key, says) in
        [("null", "null"), ("a", "object"), ("list", "list"), ("nothing", "not there"), ("list.9", "not there"), ("a.b.c", "not there")]
    {
        let error = pick(key).unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Malformed);
        assert!(error.detail.contains(says) && !error.detail.contains("exact"), "{error}");
    }
    assert!(Selector::key("k").pick(&json!({"k": ""}), &path).is_err());
}

#[test]
fn a_number_is_what_was_written_or_no_value_at_all() {
    let path = parse("m/data/p").path;
    let pick = |number: &str| {
        let inside = json!({"text": format!("{{\"k\": {number}}}"), "plain": serde_json::from_str::<Value>(number).unwrap()});
        ["text.k", "plain"].map(|key| {
            let value = Selector::key(key).pick(&inside, &path);
            value.map(|secret| String::from_utf8_lossy(secret.expose()).into_owned()).map_err(|error| error.detail)
        })
    };
    for number in ["0", "18446744073709551615", "-9223372036854775808"] {
        assert_eq!(pick(number), [Ok(number.to_owned()), Ok(number.to_owned())]);
    }
    for number in ["12345678901234567890123", "1.10", "1e3", "-0"] {
        for said in pick(number) {
            assert!(said.unwrap_err().ends_with("is a number that cannot be kept exactly: write it as a string"), "{number}");
        }
    }
}

proptest! {
    #[test]
    fn nothing_makes_the_parser_panic(text in "\\PC{0,60}") {
        let _ = text.parse::<Reference>();
    }

    #[test]
    fn what_parses_is_safe_to_send(text in "[a-z./?&=*%#+\\\\ \u{1}-]{0,24}") {
        if let Ok(reference) = text.parse::<Reference>() {
            let path = reference.path.as_str();
            let unsafe_to_send = path.contains(['\\', '#', '%', '*', '+', '?', '&', '\u{1}']);
            prop_assert!(!unsafe_to_send);
            prop_assert!(reference.path.segments().count() >= 2);
            prop_assert!(reference.path.segments().all(|s| !matches!(s, "" | "." | "..")));
        }
    }
}
