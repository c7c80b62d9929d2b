use super::*;
use crate::sample;
use crate::store::reference::Form;

const STORES: &str = "stores:
  corp: { type: vault, address: 'https://v', auth: { method: token, token: t }, mount: /prod_db/, path: secret/data/example }
  corp.eu: { type: vault, address: 'https://v', auth: { method: token, token: t }, path: kv/data/eu }
  off: { type: vault, enabled: false, address: 'https://v', auth: { method: token, token: t } }
";

/// What a text means beside `store: corp`: store, path, key.
fn meant(text: &str) -> Result<(String, String, Option<String>), String> {
    let (config, _) = sample::config(STORES);
    let corp = Spanned::new("corp".parse().unwrap(), Span::default());
    let scope = Scope::new(&config.stores, Some(&corp), "connections.db", Span::default());
    let reference = scope.reference(text)?;
    let key = reference.selector.as_ref().map(|key| key.as_str().to_owned());
    Ok((reference.store.to_string(), reference.path.as_str().to_owned(), key))
}

fn of(store: &str, path: &str, key: Option<&str>) -> Result<(String, String, Option<String>), String> {
    Ok((store.to_owned(), path.to_owned(), key.map(str::to_owned)))
}

#[test]
fn every_spelling_leads_to_its_store_and_its_path() {
    for (text, store, path, key) in [
        ("m/data/p?u", "corp", "m/data/p", Some("u")),
        ("corp.eu:m/data/p?u", "corp.eu", "m/data/p", Some("u")),
        ("corp.eu:m/creds/r", "corp.eu", "m/creds/r", None),
        ("vault.secret(corp:oracle.user)", "corp", "prod_db/oracle", Some("user")),
        ("vault.secret(corp:data/team.a/oracle.user)", "corp", "prod_db/data/team.a/oracle", Some("user")),
        ("vault.secret(corp:oracle#a.b)", "corp", "prod_db/oracle", Some("a.b")),
        ("vault.secret(corp:oracle.\"a.b\")", "corp", "prod_db/oracle", Some("a.b")),
        ("vault.secret( corp.eu : kv/data/x.k )", "corp.eu", "kv/data/x", Some("k")),
        ("{{secrets.corp.user}}", "corp", "secret/data/example", Some("user")),
        ("{{ secrets.corp.a.b }}", "corp", "secret/data/example", Some("a.b")),
        ("{{secrets.corp.eu.user}}", "corp.eu", "kv/data/eu", Some("user")),
        ("m/data/{{user.name}}/db?p", "corp", "m/data/{{user.name}}/db", Some("p")),
    ] {
        assert_eq!(meant(text), of(store, path, key), "{text}");
    }
}

#[test]
fn what_names_nothing_is_refused_and_never_repeated() {
    for (text, says) in [
        ("nowhere-canary:m/data/p?u", "no store of the name"),
        ("hunter2:canary", "no store of the name"),
        ("corp:", "no path"),
        ("corp:/canary", "no path"),
        ("corp:canary", "literal password"),
        ("off:m/data/canary?u", "switched off"),
        ("vault.secret(corp:canary.password", "not closed"),
        ("vault.secret(corp:canary)", "no key"),
        ("vault.secret(canary.password)", "no store"),
        ("{{secrets.corp.canary", "not closed"),
        ("{{secrets.canary}}", "no store of this name"),
        ("{{canary.corp.x}}", "only `secrets`"),
        ("{{secrets.off.canary}}", "switched off"),
        ("{{user.name}}/data/canary?u", "not closed"),
        ("users-{{user.name}}/data/canary?u", "cannot choose the mount"),
        ("m/data/{{user.mail}}/canary?u", "only {{user.name}}"),
        ("m/data/{{user.name}/canary?u", "only {{user.name}}"),
    ] {
        let message = meant(text).expect_err(text);
        assert!(message.contains(says) && !message.contains("canary"), "{text}: {message}");
    }
}

#[test]
fn a_path_of_a_user_is_his_own_and_keeps_its_form() {
    let scope = Scope::any();
    let user: Name = "alice@corp.example".parse().unwrap();
    let reference = scope.reference("m/data/users/{{user.name}}/{{user.name}}-db?p").unwrap();
    assert!(reference.path.is_per_user());
    let own = reference.for_user(&user);
    assert_eq!(own.path.as_str(), "m/data/users/alice@corp.example/alice@corp.example-db");
    assert_eq!((own.path.form(), own.path.is_per_user()), (Form::Kv, false));
    let role = scope.reference("m/creds/{{user.name}}").unwrap().for_user(&user);
    assert_eq!((role.path.as_str(), role.path.form()), ("m/creds/alice@corp.example", Form::Dynamic));
}

#[test]
fn an_entry_without_a_store_is_told_so_once() {
    let (config, mut problems) = sample::config(STORES);
    let scope = Scope::new(&config.stores, None, "connections.db", Span { line: 3, column: 1 });
    for text in ["m/data/p?u", "m/data/p?p"] {
        assert!(scope.read(text, Span::default(), "connections.db.username", &mut problems).is_none());
    }
    let problems = problems.to_string();
    assert_eq!(problems.lines().count(), 1, "{problems}");
    assert!(problems.contains("connections.db.store: its references need a store"), "{problems}");
}
