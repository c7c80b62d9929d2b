//! What becomes of a token when the server does not do what it should.

use futures_util::future::join_all;

use super::*;
use crate::store::vault::client::tests::{Server, answer};
use crate::store::vault::settings::Settings;

fn login(token: &str, seconds: u64) -> String {
    let auth = json!({"client_token": token, "lease_duration": seconds, "renewable": true});
    answer("200 OK", "", &json!({ "auth": auth }).to_string())
}

fn refusal(status: &str, error: &str) -> String {
    answer(status, "", &json!({ "errors": [error] }).to_string())
}

async fn tokens(answers: &[String]) -> (Server, Arc<Tokens>) {
    let server = Server::answering(answers).await;
    let auth = json!({"method": "approle", "role_id": "r", "secret_id": "s"});
    let settings: Settings = serde_json::from_value(json!({ "address": "http://127.0.0.1:1", "auth": auth })).unwrap();
    let tokens = Tokens::new(Arc::new(server.client()), Login::from_settings(&settings, None, &crate::sample::nowhere()).unwrap());
    (server, tokens)
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
    let (server, short) = tokens(&[&[login("s.1", 8)], renewals.as_slice(), &[login("s.2", 60)]].concat()).await;
    let token = short.get().await.unwrap();
    assert!(!short.prolong(&token).await.unwrap());
    assert_eq!(short.get().await.unwrap().text, "s.2");
    assert_eq!(server.requests().len(), 6);
    let (_server, long) = tokens(&[&[login("s.1", 3600)], renewals.as_slice()].concat()).await;
    let token = long.get().await.unwrap();
    assert!(long.prolong(&token).await.is_err(), "there is time to try again");
}
