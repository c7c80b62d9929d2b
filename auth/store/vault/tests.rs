//! What the store's parts do together, before a server that answers as real ones do.

use serde_json::{Value, json};

use super::client::tests::{Server, answer, hold_the_clock};
use super::login::Login;
use super::token::Access;
use super::*;
use crate::{Gate, sample};

async fn vault(auth: Value, answers: &[String]) -> (Server, Vault) {
    let server = Server::answering(answers).await;
    let vault = vault_at(&server, auth);
    (server, vault)
}

fn vault_at(server: &Server, auth: Value) -> Vault {
    let client = Arc::new(server.client());
    let settings: Settings = serde_json::from_value(json!({ "address": "http://127.0.0.1:1", "auth": auth })).unwrap();
    let login = Login::from_settings(&settings, None, crate::store::Stay::Serves, &sample::nowhere()).unwrap();
    let tokens = Access::new(Arc::clone(&client), login);
    Vault { client, tokens, mounts: Mounts::default(), identities: Vec::new() }
}

async fn by_approle(answers: &[String]) -> (Server, Vault) {
    vault(json!({"method": "approle", "role_id": "r", "secret_id": "s"}), answers).await
}

fn ok(body: Value) -> String {
    answer("200 OK", "", &body.to_string())
}

fn login(token: &str) -> String {
    ok(json!({"auth": {"client_token": token, "lease_duration": 3600, "renewable": true}}))
}

fn forbidden(error: &str) -> String {
    answer("403 Forbidden", "", &json!({ "errors": [error] }).to_string())
}

const POLICY: &str = "1 error occurred:\n\t* permission denied\n\n";
const DEAD: &str = "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n";

/// What was asked for, in its order.
fn asked(server: &Server) -> Vec<String> {
    let path = |request: String| request.split([' ', '?']).nth(1).and_then(|path| path.strip_prefix("/v1/").map(str::to_owned)).unwrap();
    server.requests().into_iter().map(path).collect()
}

fn grant(keys: &str) -> Grant {
    grant_of(&format!("{{ protocol: postgres, address: 'pg:5432', credential: db/creds/role, store: corp, {keys} }}"))
}

fn grant_of(connection: &str) -> Grant {
    let sections = format!(
        "stores: {{ corp: {{ type: vault, address: 'https://v', auth: {{ method: token, token: t }} }} }}\nconnections:\n  x: {connection}"
    );
    let (config, mut problems) = sample::config(&sections);
    Gate::for_operator(&config, sample::nobody(), &mut problems).unwrap_or_else(|| panic!("{problems}")).operator_grants().remove(0)
}

fn path() -> SecretPath {
    at("db/creds/role")
}

fn at(path: &str) -> SecretPath {
    path.parse::<crate::store::Reference>().unwrap().path
}

async fn issue(vault: &Vault, grant: &Grant) -> Result<Issued, StoreError> {
    vault.issue(grant, &Wanted { path: path(), username: None, shown: Vec::new() }).await
}

/// A login that gives a token of ten minutes, for a connection that wants twenty; asked for after so many seconds. What a server warns of
/// when a token cannot live as long as it was asked for is as both say it.
#[tokio::test]
async fn a_token_that_ends_before_the_session_is_renewed_or_replaced_before_the_account_is_asked_for() {
    let mount = ok(json!({"data": {"path": "db/", "type": "database"}}));
    let lease = ok(json!({"lease_id": "db/creds/role/1", "lease_duration": 3600, "data": {"username": "v", "password": "x"}}));
    let login = |token: &str, renewable: bool| ok(json!({"auth": {"client_token": token, "lease_duration": 600, "renewable": renewable}}));
    let renewed = |seconds: u64| ok(json!({"auth": {"lease_duration": seconds, "renewable": true}}));
    let capped = |seconds: u64| {
        let warning = format!("TTL of \"20m15s\" exceeded the effective max_ttl of \"{seconds}s\"; TTL value is capped accordingly");
        ok(json!({"auth": {"lease_duration": seconds, "renewable": true}, "warnings": [warning]}))
    };
    let refused = answer("400 Bad Request", "", r#"{"errors":["invalid role or secret ID"]}"#);
    let long_period = ok(json!({"auth": {"lease_duration": 600, "renewable": true},
        "warnings": ["period of \"2000h\" exceeded the effective max_ttl of \"10m\"; period value is capped accordingly"]}));
    let (renew, by_role, creds) = ("auth/token/renew-self", "auth/approle/login", "db/creds/role");
    let grant = grant("min_session: 20m");
    for (what, age, renewable, then, calls, token) in [
        ("it gives as much", 0, true, vec![renewed(1215), lease.clone()], vec![renew, creds], "s.1"),
        ("a periodic one", 0, true, vec![renewed(600), lease.clone()], vec![renew, creds], "s.1"),
        ("of a period that is too long", 0, true, vec![long_period, lease.clone()], vec![renew, creds], "s.1"),
        (
            "its last end is near, and that of another one is not",
            300,
            true,
            vec![capped(1000), login("s.2", true), renewed(1215), lease.clone()],
            vec![renew, by_role, renew, creds],
            "s.2",
        ),
        ("that of another one is as near", 300, true, vec![capped(300)], vec![renew], ""),
        ("it is in its first second", 0, true, vec![capped(600)], vec![renew], ""),
        (
            "that of another one has come nearer meanwhile",
            300,
            true,
            vec![capped(1000), login("s.2", true), capped(600)],
            vec![renew, by_role, renew],
            "",
        ),
        ("nobody can say", 0, true, vec![answer("404 Not Found", "", r#"{"errors":[]}"#), lease.clone()], vec![renew, creds], "s.1"),
        ("it may not be renewed", 0, true, vec![forbidden(POLICY), forbidden(POLICY)], vec![renew, "auth/token/lookup-self"], ""),
        ("no other one is to be had", 300, true, vec![capped(1000), refused], vec![renew, by_role], ""),
        ("a batch token, whose successor is no better", 0, false, vec![], vec![], ""),
    ] {
        let (server, vault) = by_approle(&[vec![login("s.1", renewable), mount.clone()], then].concat()).await;
        vault.tokens.get().await.unwrap();
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(age)).await;
        tokio::time::resume();
        let issued = issue(&vault, &grant).await;
        assert_eq!(asked(&server)[2..], calls, "{what}");
        match issued {
            Ok(_) => assert!(server.requests().last().unwrap().contains(&format!("x-vault-token: {token}")), "{what}"),
            Err(error) => assert!(token.is_empty() && error.detail.starts_with("lease too short"), "{what}: {error}"),
        }
        let before = server.requests().len();
        assert_eq!(issue(&vault, &grant).await.is_err(), token.is_empty(), "{what}");
        let again = asked(&server)[before..].iter().filter(|path| *path != creds).count();
        assert_eq!(again, 0, "{what}: once in a while");
    }
}

#[tokio::test]
async fn a_token_that_nothing_prolongs_and_that_leaves_a_session_too_little_asks_for_no_account() {
    let auth = json!({"method": "token", "token": "s.given"});
    let mount = ok(json!({"data": {"path": "db/", "type": "database"}}));
    let lease = json!({"lease_id": "db/creds/role/1", "lease_duration": 3600, "data": {"username": "v", "password": "x"}});
    for (ttl, renewable, keys, refused) in [
        (60, false, "min_session: 60s", true),
        (80, false, "min_session: 60s", false),
        // It may be prolonged: no end is known.
        (60, true, "min_session: 60s", false),
        // The file does not ask for it.
        (60, false, "tls: verify-full", false),
        // A root token.
        (0, false, "min_session: 60s", false),
    ] {
        let expires = if ttl > 0 { json!("2030-01-01T00:00:00Z") } else { Value::Null };
        let token = ok(json!({"data": {"ttl": ttl, "renewable": renewable, "expire_time": expires}}));
        let renewed = ok(json!({"auth": {"client_token": "s.given", "lease_duration": 60}}));
        // Another look at the token, which somebody may have replaced; or its renewal.
        let more = if ttl == 60 && keys.starts_with("min") { vec![if renewable { renewed } else { token.clone() }] } else { Vec::new() };
        let answers = [vec![token, mount.clone()], more, vec![ok(lease.clone())]].concat();
        let (server, vault) = vault(auth.clone(), &answers).await;
        let grant = grant(keys);
        let issued = issue(&vault, &grant).await;
        assert_eq!(issued.is_err(), refused, "{ttl} {renewable} {keys}");
        assert_eq!(asked(&server).contains(&"db/creds/role".to_owned()), !refused);
        if let Err(error) = issued {
            let left = error.detail.strip_prefix("lease too short: db/creds/role ends with our token, which leaves a session ");
            let left = left.and_then(|rest| rest.strip_suffix(" s, and min_session is 60 s")).and_then(|left| left.parse::<u64>().ok());
            // Nine tenths of sixty, less what has passed since the token was looked at.
            assert!(left.is_some_and(|left| (40..=54).contains(&left)), "{error}");
            assert_eq!((error.kind, error.ambiguous), (StoreErrorKind::Unavailable, false));
        }
    }
}

#[tokio::test]
async fn a_policy_that_does_not_let_us_give_back_is_no_question_about_the_token() {
    let (server, vault) = by_approle(&[login("s.1"), forbidden(POLICY)]).await;
    for times in 1..=3 {
        assert_eq!(vault.revoke("db/creds/role/1").await.unwrap_err().kind, StoreErrorKind::Denied);
        assert_eq!(asked(&server)[1..], vec!["sys/leases/revoke"; times]);
    }
    // The words of a token that may be dead.
    let (server, vault) = by_approle(&[login("s.1"), forbidden("permission denied"), forbidden(DEAD), login("s.2"), ok(json!({}))]).await;
    vault.revoke("db/creds/role/1").await.unwrap();
    assert_eq!(asked(&server)[2..], ["auth/token/lookup-self", "auth/approle/login", "sys/leases/revoke"]);
}

#[tokio::test]
async fn a_store_is_ready_only_as_long_as_it_knows_our_token() {
    let health = || ok(json!({"version": "2.7.2"}));
    let known = || ok(json!({"data": {"id": "s.1"}}));
    let refused = || answer("400 Bad Request", "", r#"{"errors":["invalid role or secret ID"]}"#);
    // Somebody has revoked it: another login shows whether we are let in.
    let answers = [health(), login("s.1"), known(), health(), forbidden(DEAD), login("s.2"), health(), known()];
    let (server, vault) = by_approle(&answers).await;
    for _ in 0..3 {
        assert!(vault.status().await.unwrap().has_token);
    }
    assert_eq!(asked(&server).iter().filter(|path| *path == "auth/approle/login").count(), 2);
    assert!(server.requests().last().unwrap().contains("x-vault-token: s.2"));
    let (_server, vault) = by_approle(&[health(), login("s.1"), forbidden(DEAD), refused()]).await;
    assert_eq!(vault.status().await.unwrap_err().kind, StoreErrorKind::LoginFailed);
    // It may only not look itself up.
    let (server, vault) = by_approle(&[health(), login("s.1"), forbidden(POLICY)]).await;
    assert!(vault.status().await.unwrap().has_token);
    assert_eq!(asked(&server), ["sys/health", "auth/approle/login", "auth/token/lookup-self"], "asked once");
}

#[tokio::test]
async fn what_a_server_warns_of_is_said_once_whatever_the_numbers_in_it() {
    let warning = |seconds: u32| ok(json!({"warnings": [format!("TTL of \"1h\" exceeded the effective max_ttl of \"{seconds}s\"")]}));
    let (_server, vault) = by_approle(&[login("s.1"), warning(59), warning(42)]).await;
    for _ in 0..2 {
        vault.renew("db/creds/role/1", Duration::from_secs(3600)).await.unwrap();
    }
    assert!(!vault.client.is_news(r#"TTL of \"h\" exceeded the effective max_ttl of \"s\""#), "it was said");
    assert!(vault.client.is_news("another") && !vault.client.is_news("another"));
    // Of a server that says ever something else, so much is enough.
    let news = (0..2000).filter(|number| vault.client.is_news(&format!("text {number}"))).count();
    assert_eq!(news, 498);
}

#[tokio::test]
async fn a_reference_without_data_is_read_with_it_and_said_once() {
    let mount = ok(json!({"data": {"path": "kv/", "type": "kv", "options": {"version": "2"}}}));
    let secret = ok(json!({"data": {"data": {"k": "v"}, "metadata": {"version": 1}}}));
    for (paths, said) in [(["kv/data/one", "kv/data/other"], false), (["kv/one", "kv/other"], true)] {
        let (server, vault) = by_approle(&[login("s.1"), mount.clone(), secret.clone()]).await;
        for path in paths {
            vault.read(SessionId::random(), &at(path), false).await.unwrap();
            let read = asked(&server).pop().unwrap();
            assert!(read.starts_with("kv/data/"), "{read}");
        }
        // Once for the mount, which may have thousands of them.
        assert_ne!(vault.client.is_news("kv/"), said);
        assert!(vault.client.is_news("kv/data/one") && vault.client.is_news("kv/data/other"));
    }
}

/// Where a worker has the secret ids of its runner made.
const MAKES: &str = "auth/approle/role/reader/secret-id";

/// A worker and its runner, and the answers to a login of both.
fn worker_and_runner() -> (Value, [String; 6]) {
    let auth = json!({"method": "approle", "worker": {"role_id": "w", "secret_id": "s"}, "runners": {"reader": {"role_id": "r"}}});
    let info = json!({"token": "s.w", "creation_path": MAKES, "creation_time": "2026-11-21T22:32:02Z", "ttl": 60});
    let [wrapped, looked_up] = [json!({ "wrap_info": info }), json!({ "data": info })].map(ok);
    let opened = ok(json!({"data": {"secret_id": "fresh"}}));
    (auth, [login("s.worker"), wrapped, looked_up, opened, answer("204 No Content", "", ""), login("s.1")])
}

/// Failures after which a call may have run, and one after which it certainly did not.
fn unclear_and_clear() -> ([String; 3], String) {
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"da".to_owned();
    let gateway = answer("502 Bad Gateway", "", "<html>a load balancer</html>");
    let lost = "1 error occurred:\n\t* leadership lost while committing log\n\n";
    let broken = answer("500 Internal Server Error", "", &json!({ "errors": [lost] }).to_string());
    ([cut, gateway, broken], answer("503 Service Unavailable", "", r#"{"errors":["Vault is sealed"]}"#))
}

#[tokio::test]
async fn a_one_time_password_is_asked_for_once_where_it_may_have_been_made_and_is_a_possible_orphan_then() {
    let mount = ok(json!({"data": {"path": "ssh/", "type": "ssh"}}));
    let made = ok(json!({"lease_id": "ssh/creds/otp/1", "lease_duration": 3600, "data": {"username": "app", "key": "x"}}));
    let not_its_server = answer("400 Bad Request", "", r#"{"errors":["IP does not belong to role"]}"#);
    let grant = grant_of("{ protocol: ssh, address: '127.0.0.1:22', store: corp, credential: ssh/creds/otp }");
    let wanted = Wanted { path: at("ssh/creds/otp"), username: None, shown: Vec::new() };
    let ([cut, gateway, broken], sealed) = unclear_and_clear();
    // `None`: it is there at the second try.
    for (first, sent, ambiguous) in
        [(cut, 1, Some(true)), (gateway, 1, Some(true)), (broken, 1, Some(true)), (not_its_server, 1, Some(false)), (sealed, 2, None)]
    {
        let (server, vault) = by_approle(&[login("s.1"), mount.clone(), first.clone(), made.clone()]).await;
        let issued = vault.issue(&grant, &wanted).await;
        assert_eq!(asked(&server)[2..], vec!["ssh/creds/otp"; sent], "{first}");
        assert_eq!(issued.err().map(|error| error.ambiguous), ambiguous, "{first}");
    }
}

#[tokio::test]
async fn a_certificate_is_asked_for_again_after_whatever_went_wrong() {
    let mount = ok(json!({"data": {"path": "ssh/", "type": "ssh"}}));
    let signed = ok(json!({"data": {"signed_key": "ssh-ed25519-cert-v01@openssh.com AAAA"}}));
    let grant = grant_of("{ protocol: ssh, address: '127.0.0.1:22', store: corp, username: { literal: app }, credential: ssh/sign/app }");
    let (unclear, sealed) = unclear_and_clear();
    for bad in unclear.into_iter().chain([sealed]) {
        let before = [login("s.1"), mount.clone()];
        let (server, vault) = by_approle(&[before.to_vec(), vec![bad.clone(); 3], vec![signed.clone()]].concat()).await;
        assert!(vault.certify(&grant, &at("ssh/sign/app"), "ssh-ed25519 AAAA", "app").await.is_ok(), "{bad}");
        assert_eq!(asked(&server)[2..], ["ssh/sign/app"; 4], "{bad}");
    }
}

#[tokio::test]
async fn a_worker_asks_once_more_for_a_secret_id_that_may_have_been_made_and_not_a_third_time() {
    let (auth, [worker, rest @ ..]) = worker_and_runner();
    for bad in unclear_and_clear().0 {
        let (server, runner) = vault(auth.clone(), &[vec![worker.clone(), bad.clone()], rest.to_vec()].concat()).await;
        assert_eq!(runner.tokens.get().await.unwrap().text, "s.1", "{bad}");
        assert_eq!(asked(&server).iter().filter(|path| *path == MAKES).count(), 2, "{bad}");
        let given_back = answer("204 No Content", "", "");
        let (server, runner) = vault(auth.clone(), &[worker.clone(), bad.clone(), bad.clone(), given_back]).await;
        assert!(runner.tokens.get().await.err().unwrap().detail.starts_with("wrap_denied: "), "{bad}");
        assert_eq!(asked(&server)[1..], [MAKES, MAKES, "auth/token/revoke-self"], "{bad}");
    }
}

/// The server works for 90 s at most (its `max_request_duration`).
#[tokio::test]
async fn what_makes_or_uses_up_something_is_not_given_up_while_the_server_may_be_at_it() {
    hold_the_clock();
    let (worker, answers) = worker_and_runner();
    for slow in ["auth/approle/login", MAKES, "sys/wrapping/unwrap"] {
        let server = Server::working_at(slow, Duration::from_secs(90), &answers).await;
        let runner = vault_at(&server, worker.clone());
        let token = runner.tokens.get().await.unwrap_or_else(|error| panic!("{slow}: {error}"));
        assert_eq!((token.text.to_str().unwrap(), server.requests().len()), ("s.1", answers.len()), "{slow}");
    }
    let approle = json!({"method": "approle", "role_id": "r", "secret_id": "s"});
    let data = json!({"username": "v", "password": "x", "key": "x"});
    let lease = ok(json!({"lease_id": "x/creds/role/1", "lease_duration": 3600, "data": data}));
    for (path, engine, connection) in [
        ("db/creds/role", "database", "{ protocol: postgres, address: 'pg:5432', store: corp, credential: db/creds/role }"),
        ("ssh/creds/role", "ssh", "{ protocol: ssh, address: '127.0.0.1:22', store: corp, credential: ssh/creds/role }"),
    ] {
        let mount = ok(json!({"data": {"path": path.replace("creds/role", ""), "type": engine}}));
        for (seconds, is_there) in [(90, true), (100, false)] {
            let server = Server::working_at(path, Duration::from_secs(seconds), &[login("s.1"), mount.clone(), lease.clone()]).await;
            let wanted = Wanted { path: at(path), username: None, shown: Vec::new() };
            let issued = vault_at(&server, approle.clone()).issue(&grant_of(connection), &wanted).await;
            assert_eq!(asked(&server)[2..], [path], "{path}, {seconds} s");
            // And no wait is without an end.
            assert_eq!(issued.err().map(|error| error.ambiguous), (!is_there).then_some(true), "{path}, {seconds} s");
        }
    }
}
