use super::*;
use crate::sample;

fn read(keys: &str) -> (Option<CredentialPlan>, String) {
    read_as("postgres", keys)
}

fn read_as(protocol: &str, keys: &str) -> (Option<CredentialPlan>, String) {
    let text = format!("connections:\n  db: {{ protocol: {protocol}, address: 'pg:5432', {keys} }}\n");
    let (config, mut problems) = sample::config(&text);
    let connection = config.connections.values().next().unwrap();
    let account = connection.accounts.values().next().unwrap();
    let plan = CredentialPlan::read(account, ("connections.db", connection.name.span), connection.assets, &Scope::any(), &mut problems);
    (plan, problems.to_string())
}

#[test]
fn each_form_of_account_has_its_plan() {
    assert!(matches!(read("credential: m/creds/r").0, Some(CredentialPlan::Leased(_))));
    assert!(matches!(read("account: m/creds/r").0, Some(CredentialPlan::Leased(_))), "an old spelling");
    assert!(matches!(read("credential: m/static-creds/r").0, Some(CredentialPlan::Whole(_))));
    assert!(matches!(read("credential: m/data/p").0, Some(CredentialPlan::Whole(_))));
    let (plan, problems) = read("username: 'm/data/p?u', password: { env: P }");
    assert!(plan.unwrap().paths().next().is_some() && problems.is_empty(), "{problems}");
    let (_, problems) = read("username: { literal: u }, password: { literal: canary }");
    let warning = "keyward.yaml:4:85: warning: connections.db.password: `literal`: the secret stands in this file";
    assert!(problems.starts_with(warning) && problems.lines().count() == 1 && !problems.contains("canary"), "{problems}");
    let (plan, _) = read("username: { literal: u }, private_key: { file: /k }, passphrase: { env: P }");
    assert!(plan.unwrap().paths().next().is_none());
    let (plan, problems) = read("username: 'm/data/p?u'");
    assert!(plan.is_some() && problems.contains("warning") && problems.contains("asks for no proof"), "{problems}");
}

#[test]
fn what_cannot_be_a_credential_is_a_problem_with_its_place_and_without_its_value() {
    for (keys, at, says) in [
        ("credential: 'm/data/p?password'", "connections.db.credential", "without `?key`"),
        ("credential: { literal: hidden-canary }", "connections.db.credential", "is a reference"),
        ("credential: hidden-canary", "connections.db.credential", "not a reference"),
        ("username: m/creds/r, password: 'm/data/p?x'", "connections.db.username", "`credential:`"),
        ("username: m/static-creds/r, password: 'm/data/p?x'", "connections.db.username", "`?username`"),
        ("username: m/data/p, password: 'm/data/p?x'", "connections.db.username", "mount/data/path?key"),
        ("username: 'm/data/p?u', password: hidden-canary", "connections.db.password", "literal password"),
        ("username: 'm/data/p?u', password: 'vault.secret(canary:a.b'", "connections.db.password", "not closed"),
        ("password: 'm/data/p?x'", "connections.db", "no `username`"),
        ("username: 'm/data/p?u', password: 'm/data/p?x', passphrase: 'm/data/p?y'", "connections.db.passphrase", "there is none"),
    ] {
        let (plan, problems) = read(keys);
        assert!(plan.is_none(), "{keys}");
        assert!(problems.contains(at) && problems.contains(says), "{keys}: {problems}");
        assert!(problems.contains("keyward.yaml:") && !problems.contains("canary"), "{problems}");
    }
}

#[test]
fn both_ways_at_once_are_a_problem() {
    let (plan, problems) = read("credential: m/creds/r, password: 'm/data/p?x'");
    assert!(plan.is_none() && problems.contains("connections.db.password"), "{problems}");
}

#[test]
fn a_role_that_signs_needs_the_name_for_which_it_does() {
    let (plan, problems) = read_as("ssh", "username: { literal: app }, credential: ssh/sign/app");
    let Some(CredentialPlan::Signed(role)) = &plan else { panic!("{problems}") };
    assert!(role.path.as_str() == "ssh/sign/app" && matches!(role.username, Part::Given(_)) && problems.is_empty(), "{problems}");
    assert_eq!(plan.unwrap().shown(Some(&"store".parse().unwrap())), ["ssh/sign/app"]);
    let (plan, problems) = read_as("ssh", "username: 'm/data/p?u', credential: team/ssh/sign/app");
    let plan = plan.unwrap_or_else(|| panic!("{problems}"));
    assert!(plan.paths().next().is_some() && problems.is_empty(), "{problems}");
    assert_eq!(plan.shown(Some(&"store".parse().unwrap())), ["team/ssh/sign/app", "m/data/p?u"]);
    let (plan, problems) = read_as("ssh", "credential: ssh/sign/app");
    assert!(plan.is_none() && problems.contains("connections.db: a certificate is for a login name"), "{problems}");
}

#[test]
fn a_dynamic_role_of_a_server_may_be_told_for_whom() {
    let (plan, problems) = read_as("ssh", "username: { literal: ubuntu }, credential: ssh/creds/otp");
    assert!(matches!(plan, Some(CredentialPlan::Leased(role)) if role.username.is_some()) && problems.is_empty(), "{problems}");
    let (plan, problems) = read_as("ssh", "credential: ssh/creds/otp");
    assert!(matches!(plan, Some(CredentialPlan::Leased(role)) if role.username.is_none()) && problems.is_empty(), "{problems}");
}

#[test]
fn what_cannot_stand_beside_a_role_is_a_problem_that_says_why() {
    for (protocol, keys, at, says) in [
        ("postgres", "username: { literal: app }, credential: m/creds/r", "connections.db.username", "makes the user name itself"),
        ("postgres", "username: { literal: app }, credential: ssh/sign/app", "connections.db.username", "for SSH servers"),
        ("postgres", "credential: ssh/sign/app", "connections.db.credential", "this is a database"),
        (
            "ssh",
            "username: { literal: app }, password: 'm/data/p?x', credential: ssh/sign/app",
            "connections.db.password",
            "signed by the role",
        ),
        (
            "ssh",
            "username: { literal: app }, private_key: 'm/data/p?x', credential: ssh/sign/app",
            "connections.db.private_key",
            "each session",
        ),
        (
            "ssh",
            "username: { literal: app }, password: 'm/data/p?x', credential: ssh/creds/otp",
            "connections.db.password",
            "from one place",
        ),
        ("ssh", "username: { literal: app }, credential: m/data/p", "connections.db.username", "from one place"),
        ("ssh", "username: { literal: app }, credential: 'not-a-reference'", "connections.db.credential", "not a reference"),
        ("ssh", "username: m/sign/app, password: 'm/data/p?x'", "connections.db.username", "`credential:`"),
        ("ssh", "username: canary, credential: ssh/sign/app", "connections.db.username", "not a reference"),
    ] {
        let (plan, problems) = read_as(protocol, keys);
        assert!(plan.is_none(), "{keys}");
        assert!(problems.contains(at) && problems.contains(says) && !problems.contains("canary"), "{keys}: {problems}");
    }
    let (_, problems) = read_as("ssh", "username: { literal: app }, credential: not-a-reference");
    assert_eq!(problems.lines().count(), 1, "one slip, one problem: {problems}");
}
