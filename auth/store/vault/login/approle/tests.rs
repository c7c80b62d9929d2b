use std::time::Duration;

use serde_json::Value;

use super::super::Login;
use super::*;
use crate::store::vault::client::tests::{Server, answer};
use crate::store::vault::token::Access;

/// How a server answers who opens a wrapped secret id that is good for so long and for so many logins, and then logs in with it.
fn answers(seconds: u64, uses: u64) -> Vec<String> {
    let origin = "auth/approle/role/reader/secret-id";
    let secret_id = json!({"secret_id": "opened", "secret_id_ttl": seconds, "secret_id_num_uses": uses});
    let token = json!({"client_token": "s.1", "lease_duration": 3000, "renewable": true});
    let bodies = [json!({"data": {"creation_path": origin}}), json!({ "data": secret_id }), json!({ "auth": token })];
    bodies.map(|body| answer("200 OK", "", &body.to_string())).to_vec()
}

fn login(secret_id: Value) -> Login {
    let mut auth = json!({"method": "approle", "role_id": "r"});
    auth.as_object_mut().unwrap().append(&mut secret_id.as_object().unwrap().clone());
    let settings = serde_json::from_value(json!({ "address": "http://127.0.0.1:1", "auth": auth })).unwrap();
    Login::from_settings(&settings, None, Stay::Serves, &crate::sample::nowhere()).unwrap()
}

fn wrapped() -> Login {
    login(json!({"wrapped_secret_id": "s.w", "role_name": "reader"}))
}

async fn pass(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

/// What is told of such a secret id at once, and when so many seconds have passed since its login.
#[tokio::main(flavor = "current_thread")]
async fn told(login: &Login, answers: &[String], passed: u64) -> [Option<String>; 2] {
    let server = Server::answering(answers).await;
    let client = server.client();
    let ready = login.prepare(&client).await.unwrap();
    assert!(login.perform(&client, &ready).await.is_ok());
    let at_once = login.warning().await;
    pass(passed).await;
    [at_once, login.warning().await]
}

#[test]
fn a_secret_id_that_is_near_its_end_is_told_of_and_none_that_nobody_knows_the_end_of() {
    const DAY: u64 = 86_400;
    for (seconds, uses, passed, says) in [
        (100_000, 0, 79_000, None),
        (100_000, 5, 81_000, Some("ends in 5 h")),
        (100_000, 5, 98_000, Some("ends in 33 min")),
        (100_000, 5, 100_001, Some("has ended")),
        (400 * DAY, 0, 385 * DAY, None),
        (400 * DAY, 0, 387 * DAY, Some("ends in 311 h")),
        (0, 0, 400 * DAY, None),
        // It is used up, as it should be, and nothing is lost with it.
        (100_000, 1, 99_000, None),
    ] {
        let then = says.map(|says| format!("the secret id that came wrapped {says}, and with it logins: a new one is needed"));
        assert_eq!(told(&wrapped(), &answers(seconds, uses), passed), [None, then], "{seconds} s, {uses} logins, after {passed} s");
    }
    // The store says nothing of it.
    assert_eq!(told(&login(json!({"secret_id": "s"})), &answers(0, 0)[2..], DAY), [None, None]);
}

#[tokio::test]
async fn what_is_told_of_a_secret_id_stands_at_the_token_from_its_next_renewal_on() {
    let server = Server::answering(&answers(10_000, 0)).await;
    let tokens = Access::new(Arc::new(server.client()), wrapped());
    let token = tokens.get().await.unwrap();
    assert_eq!(token.warnings(), Vec::<String>::new());
    pass(9000).await;
    let told = async {
        while token.warnings().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), told).await.expect("it is renewed");
    assert!(token.warnings()[0].contains("secret id that came wrapped ends in 16 min"), "{:?}", token.warnings());
    assert!(server.requests().last().unwrap().contains("renew-self"));
}
