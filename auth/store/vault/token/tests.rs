//! What becomes of a token when the server does not do what it should.

mod capped;
mod chained;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::*;
use crate::store::vault::client::tests::{Server, answer};
use crate::store::vault::login::Login;
use crate::store::vault::settings::Settings;

fn login(token: &str, seconds: u64) -> String {
    let auth = json!({"client_token": token, "lease_duration": seconds, "renewable": true});
    answer("200 OK", "", &json!({ "auth": auth }).to_string())
}

fn refusal(status: &str, error: &str) -> String {
    answer(status, "", &json!({ "errors": [error] }).to_string())
}

async fn tokens(answers: &[String]) -> (Server, Arc<Access>) {
    tokens_by(json!({"method": "approle", "role_id": "r", "secret_id": "s"}), answers).await
}

async fn tokens_by(auth: Value, answers: &[String]) -> (Server, Arc<Access>) {
    let server = Server::answering(answers).await;
    let tokens = Access::new(Arc::new(server.client()), login_by(auth));
    (server, tokens)
}

fn login_by(auth: Value) -> Login {
    let settings: Settings = serde_json::from_value(json!({ "address": "http://127.0.0.1:1", "auth": auth })).unwrap();
    Login::from_settings(&settings, None, crate::store::Stay::Serves, &crate::sample::nowhere()).unwrap()
}

fn forbidden() -> Refused {
    Refused::of(403, vec!["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n".to_owned()], Value::Null)
}

#[tokio::test]
async fn a_login_that_fails_is_the_failure_of_all_who_waited_for_it() {
    let (server, tokens) = tokens(&[refusal("500 Internal Server Error", "no"), login("s.1", 60)]).await;
    let waiting = join_all((0..100).map(|_| tokens.get())).await;
    assert!(waiting.iter().all(Result::is_err));
    assert_eq!(server.requests().len(), 1);
    assert_eq!(tokens.get().await.unwrap().text, "s.1", "who comes later tries again");
}

#[tokio::test]
async fn a_token_that_could_not_be_replaced_yet_is_replaced_later() {
    let (_server, tokens) = tokens(&[login("s.1", 60), refusal("500 Internal Server Error", "no"), login("s.2", 60)]).await;
    let token = tokens.get().await.unwrap();
    assert!(tokens.rejected(&token, &forbidden()).await.is_err());
    assert_eq!(tokens.rejected(&token, &forbidden()).await.unwrap().unwrap().text, "s.2", "the failure was no replacement");
    let second = tokens.get().await.unwrap();
    let error = tokens.rejected(&second, &forbidden()).await.err().unwrap();
    assert!(error.detail.contains("right after its login"), "{error}");
}

#[tokio::test]
async fn a_token_that_its_renewal_finds_dead_ends_what_it_issued() {
    let dead = || refusal("403 Forbidden", "permission denied");
    let (server, tokens) = tokens(&[login("s.1", 3600), dead(), dead(), login("s.2", 3600)]).await;
    let token = tokens.get().await.unwrap();
    let mut end = token.end();
    assert!(!tokens.prolong(&token).await.unwrap(), "another one goes on");
    assert!(end.borrow_and_update().is_some_and(|end| end <= Instant::now()));
    assert_eq!(tokens.get().await.unwrap().text, "s.2");
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn a_gateway_that_says_no_ends_no_token_and_no_lease() {
    let gateway = || answer("403 Forbidden", "", "<html>not for you</html>");
    let (_server, tokens) = tokens(&[login("s.1", 3600), gateway()]).await;
    let token = tokens.get().await.unwrap();
    let end = token.end();
    let unclear = Refused::of(403, vec!["permission denied".to_owned()], Value::Null);
    assert_eq!(tokens.rejected(&token, &unclear).await.err().unwrap().kind, StoreErrorKind::Unavailable, "nobody knows");
    assert!(tokens.prolong(&token).await.is_err(), "it is tried again");
    assert!(token.is_alive() && end.borrow().is_some_and(|end| end > Instant::now() + Duration::from_secs(3000)));
}

#[tokio::test]
async fn a_token_that_may_not_renew_itself_lives_on_for_what_it_issued() {
    let policy = || refusal("403 Forbidden", "1 error occurred:\n\t* permission denied\n\n");
    let (_server, tokens) = tokens(&[login("s.1", 3600), policy(), policy(), login("s.2", 3600)]).await;
    let token = tokens.get().await.unwrap();
    assert!(!tokens.prolong(&token).await.unwrap());
    assert!(token.is_alive());
    assert_eq!(tokens.get().await.unwrap().text, "s.2");
}

#[tokio::test]
async fn a_token_near_its_end_that_cannot_be_renewed_is_replaced_by_a_login() {
    let broken = || refusal("500 Internal Server Error", "no");
    let renewals = [broken(), broken(), broken(), broken()];
    let (server, short) = tokens(&[&[login("s.1", 60)], renewals.as_slice(), &[login("s.2", 60)]].concat()).await;
    let token = short.get().await.unwrap();
    // What keeps it alive has set its clock by the sixty seconds, and does not come in between.
    tokio::task::yield_now().await;
    token.end.send_replace(Some(Instant::now() + Duration::from_secs(8)));
    assert!(!short.prolong(&token).await.unwrap());
    assert_eq!(short.get().await.unwrap().text, "s.2");
    assert_eq!(server.requests().len(), 6);
    let (_server, long) = tokens(&[&[login("s.1", 3600)], renewals.as_slice()].concat()).await;
    let token = long.get().await.unwrap();
    assert!(long.prolong(&token).await.is_err(), "there is time to try again");
}

#[tokio::test]
async fn a_token_that_leases_live_from_is_renewed_although_another_one_has_replaced_it() {
    let (server, tokens) = tokens(&[login("s.1", 3600), login("s.2", 3600), login("s.1", 3600)]).await;
    let token = tokens.get().await.unwrap();
    let lease = token.end();
    assert!(tokens.replace(&token).await.unwrap(), "it goes on for the lease");
    assert!(tokens.replace(&token).await.unwrap(), "also if somebody else was there first");
    assert_eq!(tokens.get().await.unwrap().text, "s.2", "which nothing new is issued from");
    assert!(tokens.prolong(&token).await.unwrap());
    assert!(server.requests()[2].contains("renew-self") && server.requests()[2].contains("x-vault-token: s.1"));
    assert_eq!(tokens.get().await.unwrap().text, "s.2");
    drop(lease);
    assert!(!tokens.prolong(&token).await.unwrap(), "nobody needs it any more");
    assert!(server.requests().iter().all(|request| !request.contains("revoke")));
}

/// OpenBao has no LDAP: only what is sent can be seen.
#[tokio::test]
async fn recorded_form_a_user_of_ldap_logs_in_at_its_own_mount_with_his_name_in_the_path() {
    let (server, tokens) = tokens_by(json!({"method": "ldap", "username": "Alice Smith", "password": "p"}), &[login("s.1", 60)]).await;
    assert_eq!(tokens.get().await.unwrap().text, "s.1");
    let request = server.requests().remove(0);
    assert!(request.starts_with("POST /v1/auth/ldap/login/Alice%20Smith HTTP") && request.ends_with(r#"{"password":"p"}"#), "{request}");
    assert!(!request.to_lowercase().contains("x-vault-token"), "{request}");
}

fn wrapped(path: &str) -> [String; 2] {
    let info = |path: &str| json!({"token": "s.w", "creation_path": path, "creation_time": "2026-11-21T22:32:02Z", "ttl": 60});
    let ours = "auth/approle/role/reader/secret-id";
    [json!({"wrap_info": info(ours)}).to_string(), json!({"data": info(path)}).to_string()].map(|body| answer("200 OK", "", &body))
}

/// A real server answers like this only to somebody in between.
#[tokio::test]
async fn recorded_form_a_secret_id_that_somebody_swaps_on_its_way_is_not_opened() {
    let auth = json!({"method": "approle", "worker": {"role_id": "w", "secret_id": "s"}, "runners": {"reader": {"role_id": "r"}}});
    let [wrap, looked_up] = wrapped("sys/wrapping/wrap");
    let (server, tokens) = tokens_by(auth, &[login("s.worker", 60), wrap, looked_up, answer("204 No Content", "", "")]).await;
    let error = tokens.get().await.err().unwrap();
    assert!(error.kind == StoreErrorKind::LoginFailed && error.detail.starts_with("wrap_intercepted: "), "{error}");
    let paths: Vec<String> = server.requests().iter().map(|request| request.split(' ').nth(1).unwrap().to_owned()).collect();
    let expected =
        ["/v1/auth/approle/login", "/v1/auth/approle/role/reader/secret-id", "/v1/sys/wrapping/lookup", "/v1/auth/token/revoke-self"];
    assert_eq!(paths, expected);
    assert!(server.requests()[1].contains("x-vault-wrap-ttl: 60s") && !server.requests()[2].contains("x-vault-token"));
}

#[tokio::test]
async fn recorded_form_an_unwrap_whose_answer_is_lost_is_not_tried_again() {
    let auth = json!({"method": "approle", "role_id": "r", "wrapped_secret_id": "s.w", "role_name": "reader"});
    let [_, looked_up] = wrapped("auth/approle/role/reader/secret-id");
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"da".to_owned();
    let (server, tokens) = tokens_by(auth, &[looked_up, cut, login("s.1", 60)]).await;
    for _ in 0..3 {
        let error = tokens.get().await.err().unwrap();
        assert!(error.kind == StoreErrorKind::LoginFailed && error.detail.contains("a new one is needed"), "{error}");
    }
    assert_eq!(server.requests().len(), 2);
    assert!(server.requests()[1].contains("x-vault-token: s.w"));
}

/// So long passes for what waits.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// What somebody who asks every minute has sent in each of so many hours.
async fn sent_in_hours(server: &Server, tokens: &Arc<Access>, hours: usize) -> Vec<usize> {
    let mut sent = Vec::new();
    for _ in 0..hours {
        let before = server.requests().len();
        for _ in 0..60 {
            assert_eq!(tokens.get().await.err().unwrap().kind, StoreErrorKind::LoginFailed);
            pass(Duration::from_secs(60)).await;
        }
        sent.push(server.requests().len().saturating_sub(before));
    }
    sent
}

#[tokio::test]
async fn a_proof_that_counts_towards_a_lock_is_sent_once_an_hour_whoever_asks() {
    let approle = "invalid role or secret ID";
    let worker = json!({"method": "approle", "worker": {"role_id": "w", "secret_id": "s"}, "runners": {"reader": {"role_id": "r"}}});
    for (auth, words) in [
        (json!({"method": "approle", "role_id": "r", "secret_id": "wrong-canary"}), approle),
        (json!({"method": "userpass", "username": "u", "password": "wrong-canary"}), "invalid username or password"),
        (json!({"method": "ldap", "username": "u", "password": "wrong-canary"}), "ldap operation failed: failed to bind as user"),
        (worker, approle),
    ] {
        let (server, tokens) = tokens_by(auth.clone(), &[refusal("400 Bad Request", words)]).await;
        assert_eq!(sent_in_hours(&server, &tokens, 3).await, [1, 1, 1], "{auth}");
        let error = tokens.get().await.err().unwrap();
        assert!(error.detail.contains("for an hour") && !error.detail.contains("canary"), "{error}");
    }
}

#[tokio::test]
async fn what_no_server_counts_towards_a_lock_is_sent_again_soon() {
    let ldap = json!({"method": "ldap", "username": "u", "password": "right"});
    let approle = json!({"method": "approle", "role_id": "r", "secret_id": "right"});
    for (auth, words) in [
        (&ldap, r#"LDAP Result Code 200 "Network Error": dial tcp 10.0.0.7:636: connect: connection refused"#),
        (&ldap, r#"failed to connect to LDAP server(s): error connecting to host "ldaps://ldap.internal""#),
        (&approle, r#"source address "10.0.0.9" unauthorized by CIDR restrictions on the role: %!w(<nil>)"#),
        (&approle, "missing secret_id"),
    ] {
        let (server, tokens) = tokens_by(auth.clone(), &[refusal("400 Bad Request", words), login("s.1", 60)]).await;
        for _ in 0..2 {
            let error = tokens.get().await.err().unwrap();
            assert!(error.kind == StoreErrorKind::LoginFailed && !error.detail.contains("lock"), "{error}");
        }
        assert_eq!(server.requests().len(), 1, "not at once: {words}");
        pass(Duration::from_secs(31)).await;
        assert_eq!(tokens.get().await.unwrap().text, "s.1", "{words}");
    }
}

#[tokio::test]
async fn a_right_proof_in_the_place_of_a_wrong_one_is_sent_at_once_and_again_soon_while_a_lock_lasts() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "wrong").unwrap();
    let auth = json!({"method": "approle", "role_id": "r", "secret_id": {"file": file.path()}});
    let locked = || refusal("403 Forbidden", "permission denied");
    let answers = [refusal("400 Bad Request", "invalid role or secret ID"), locked(), locked(), login("s.1", 60)];
    let (server, tokens) = tokens_by(auth, &answers).await;
    assert_eq!(sent_in_hours(&server, &tokens, 1).await, [1]);
    std::fs::write(file.path(), "right").unwrap();
    for sent in [2, 2] {
        let error = tokens.get().await.err().unwrap();
        assert!(error.detail.contains("locked for 15 minutes"), "{error}");
        assert_eq!(server.requests().len(), sent);
    }
    pass(Duration::from_secs(31)).await;
    assert!(tokens.get().await.is_err());
    pass(Duration::from_secs(31)).await;
    assert_eq!(tokens.get().await.unwrap().text, "s.1", "half a minute after the lock ends it is known again");
}

#[tokio::test]
async fn a_token_of_no_use_is_not_asked_for_again_soon() {
    let auth = json!({"client_token": "s.1", "lease_duration": 60, "num_uses": 3});
    let (server, tokens) = tokens(&[answer("200 OK", "", &json!({ "auth": auth }).to_string())]).await;
    assert_eq!(sent_in_hours(&server, &tokens, 1).await, [12], "each makes another one");
}

/// What a store has that a reload opens at this server with these keys, in the place of one that was open there with those.
fn reloaded(server: &Server, before: &str, after: &str, former: &Arc<Access>) -> Arc<Access> {
    let store = |keys: &str| {
        let (mut config, _) = crate::sample::config(&format!("stores: {{ s: {{ type: vault, address: 'https://v', {keys} }} }}\n"));
        config.stores.remove("s").unwrap()
    };
    let (before, after) = (store(before), store(after));
    let settings = after.settings.downcast_ref::<Settings>().unwrap();
    let login = Login::from_settings(settings, None, crate::store::Stay::Serves, &crate::sample::nowhere()).unwrap();
    let login_of: Arc<Access> = Arc::clone(former);
    let former = crate::store::Former { node: &before.node, same_outer: true, login: login_of };
    Access::open(Arc::new(server.client()), login, (&after.node, settings), Some(&former))
}

#[tokio::test]
async fn a_reload_leaves_a_store_its_token_unless_it_is_another_store_or_logs_in_in_another_way() {
    let role = |secret_id: &str| format!("auth: {{ method: approle, role_id: r, secret_id: {secret_id} }}");
    let (before, moved) = (role("s"), format!("{}, namespace: team", role("s")));
    for (after, elsewhere, goes_on) in [
        (&format!("{before}, cache_ttl: 1s, timeout: 3s, insecure: 'a test'"), false, true),
        (&format!("namespace: '', {before}"), false, true),
        (&role("t"), false, false),
        (&moved, false, false),
        (&before, true, false),
    ] {
        let (server, other) = (Server::answering(&[login("s.1", 3600)]).await, Server::answering(&[login("s.2", 3600)]).await);
        let first = reloaded(&server, &before, &before, &tokens(&[]).await.1);
        first.get().await.unwrap();
        let second = reloaded(if elsewhere { &other } else { &server }, &before, after, &first);
        second.begin();
        second.get().await.unwrap();
        let sent = server.requests().len() + other.requests().len();
        assert_eq!(sent, if goes_on { 1 } else { 2 }, "{after}");
        assert_eq!(first.get().await.unwrap().text, "s.1", "what was open before goes on with its own");
    }
}

#[tokio::test]
async fn a_worker_that_was_refused_is_so_for_the_runners_of_the_next_file_too() {
    let keys = |name: &str| {
        format!("auth: {{ method: approle, worker: {{ role_id: w, secret_id: s }}, runners: {{ {name}: {{ role_id: r }} }} }}")
    };
    let server = Server::answering(&[refusal("400 Bad Request", "invalid role or secret ID")]).await;
    let first = reloaded(&server, &keys("a"), &keys("a"), &tokens(&[]).await.1);
    assert!(first.get().await.is_err());
    for (before, after) in [("a", "a"), ("a", "b")] {
        let next = reloaded(&server, &keys(before), &keys(after), &first);
        let error = next.get().await.err().unwrap();
        assert!(error.detail.starts_with("worker_login_failed"), "{error}");
    }
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn what_was_refused_is_not_sent_again_after_a_reload_unless_it_is_another_login() {
    let userpass = |rest: &str| format!("auth: {{ method: userpass, username: u, password: wrong{rest} }}");
    let before = userpass("");
    for (after, sent) in [
        // Each makes new tokens.
        (userpass(", mount: userpass"), 1),
        (userpass(", mount: auth/userpass/"), 1),
        (userpass(", mount: other"), 2),
        (userpass("-no-more"), 2),
        ("auth: { method: approle, role_id: u, secret_id: wrong }".to_owned(), 2),
        (format!("{before}, namespace: team"), 2),
    ] {
        let server = Server::answering(&[refusal("400 Bad Request", "invalid username or password")]).await;
        let mut tokens = reloaded(&server, &before, &before, &tokens(&[]).await.1);
        assert!(tokens.get().await.is_err());
        let mut last = before.clone();
        // However often the file is edited.
        for _ in 0..5 {
            tokens = reloaded(&server, &last, &after, &tokens);
            tokens.begin();
            assert!(tokens.get().await.is_err());
            last = after.clone();
        }
        assert_eq!(server.requests().len(), sent, "{after}");
    }
}

#[tokio::test]
async fn a_store_in_whose_place_another_one_is_keeps_its_token_for_its_leases_and_takes_no_login_from_that_one() {
    let auth = |secret_id: &str| format!("auth: {{ method: approle, role_id: r, secret_id: {secret_id} }}");
    let server = Server::answering(&[login("s.1", 3600)]).await;
    let first = reloaded(&server, &auth("s"), &auth("s"), &tokens(&[]).await.1);
    let token = first.get().await.unwrap();
    let lease = token.end();
    let second = reloaded(&server, &auth("s"), &auth("t"), &first);
    assert!(!first.is_former(&token), "nobody knows yet whether that file is taken over");
    second.begin();
    assert!(first.is_former(&token) && first.replace(&token).await.unwrap());
    assert_eq!(server.requests().len(), 1);
    assert!(first.prolong(&token).await.unwrap());
    assert!(server.requests()[1].contains("renew-self"));
    drop(lease);
    assert!(!first.replace(&token).await.unwrap());
}

#[tokio::test]
async fn a_store_without_a_token_gives_its_leases_back_by_that_of_the_one_in_its_place() {
    let auth = |token| format!("auth: {{ method: approle, role_id: {token}, secret_id: x }}");
    let server = Server::answering(&[login("s.1", 3600), login("s.2", 3600)]).await;
    let first = reloaded(&server, &auth("r"), &auth("r"), &tokens(&[]).await.1);
    let token = first.get().await.unwrap();
    let second = reloaded(&server, &auth("r"), &auth("other"), &first);
    second.begin();
    // Its way to log in was retired, and what it logged in with is dead.
    assert_eq!(first.rejected(&token, &forbidden()).await.unwrap().unwrap().text, "s.2");
    assert_eq!(first.get().await.unwrap().text, "s.2");
    let logins = server.requests().iter().filter(|request| request.contains("auth/approle/login")).count();
    assert_eq!(logins, 2, "one each");
}

#[tokio::test]
async fn a_store_in_whose_place_another_one_is_sends_nothing_that_may_be_meant_for_that_one() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "for-the-old").unwrap();
    let auth = format!("auth: {{ method: approle, role_id: r, secret_id: {{ file: '{}' }} }}", file.path().display());
    let (old, new) = (Server::answering(&[login("s.1", 3600)]).await, Server::answering(&[login("s.2", 3600)]).await);
    let first = reloaded(&old, &auth, &auth, &tokens(&[]).await.1);
    let token = first.get().await.unwrap();
    std::fs::write(file.path(), "for-the-new").unwrap();
    let second = reloaded(&new, &auth, &auth, &first);
    second.begin();
    // An admin has revoked it: it is dead, and what asks for another one is a lease that is to be given back.
    for error in [first.rejected(&token, &forbidden()).await.err(), first.get().await.err()] {
        assert_eq!(error.unwrap().kind, StoreErrorKind::Unavailable);
    }
    assert!(token.end().borrow().is_some_and(|end| end <= Instant::now()), "what lives from it ends");
    assert_eq!(second.get().await.unwrap().text, "s.2");
    assert_eq!(old.requests().len(), 1, "the login of before");
    assert!(new.requests()[0].contains("for-the-new"));
}
