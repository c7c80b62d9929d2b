//! A token that is in another store, where somebody puts a new one in time (vault.md §15.7).

use std::collections::VecDeque;

use futures_util::future::ready;
use zeroize::Zeroizing;

use super::*;
use crate::store::Outer;

/// Another store: what is in it at one read after the other, the last one again and again.
struct Rotated(Mutex<VecDeque<&'static str>>);

impl Outer for Rotated {
    fn read<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Zeroizing<String>, StoreError>> {
        assert_eq!(reference, "outer:kv/data/corp?token");
        let mut tokens = self.0.lock().unwrap();
        let token = if tokens.len() > 1 { tokens.pop_front().unwrap() } else { tokens[0] };
        Box::pin(ready(Ok(Zeroizing::new(token.to_owned()))))
    }
}

fn looked_up(seconds: u64) -> String {
    let data = json!({"ttl": seconds, "creation_ttl": 3000, "renewable": false, "expire_time": "2030-01-01T00:00:00Z"});
    answer("200 OK", "", &json!({ "data": data }).to_string())
}

/// With which tokens the server was asked what they are worth, as soon as it was asked so often.
async fn asked_with(server: &Server, times: usize) -> Vec<String> {
    let asked = async {
        while server.requests().len() < times {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asked).await.expect("it is read again");
    // What is too much comes now.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let requests = server.requests();
    assert!(requests.iter().all(|request| request.starts_with("GET /v1/auth/token/lookup-self ")), "{requests:?}");
    let token = |request: &String| request.lines().find_map(|line| line.strip_prefix("x-vault-token: ").map(str::to_owned));
    requests.iter().filter_map(token).collect()
}

#[tokio::test]
async fn one_that_may_not_be_renewed_is_read_anew_at_two_thirds_of_its_time_and_again_where_it_is_not_another_one_yet() {
    // At the first of these, whoever rotates it is late.
    let server = Server::answering(&[looked_up(3000), looked_up(1000), looked_up(3000)]).await;
    let settings = json!({"address": "http://127.0.0.1:1", "auth": {"method": "token", "token": {"secret": "outer:kv/data/corp?token"}}});
    let outer: Arc<dyn Outer> = Arc::new(Rotated(Mutex::new(["s.1", "s.1", "s.2"].into())));
    let settings: Settings = serde_json::from_value(settings).unwrap();
    let login = Login::from_settings(&settings, None, crate::store::Stay::Serves, &outer).unwrap();
    let tokens = Access::new(Arc::new(server.client()), login);
    assert_eq!(tokens.get().await.unwrap().text, "s.1");
    pass(Duration::from_secs(1700)).await;
    assert_eq!(asked_with(&server, 1).await, ["s.1"], "not before");
    pass(Duration::from_secs(301)).await;
    assert_eq!(asked_with(&server, 2).await, ["s.1", "s.1"]);
    assert_eq!(tokens.get().await.unwrap().text, "s.1", "it is good for what is left of it");
    pass(Duration::from_secs(700)).await;
    assert_eq!(asked_with(&server, 3).await, ["s.1", "s.1", "s.2"]);
    assert_eq!(tokens.get().await.unwrap().text, "s.2", "nobody has met a dead one");
}
