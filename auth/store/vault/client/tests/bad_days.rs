//! Several servers, a store that counts as away, headers that a server does not want, answers that come by the byte.

use super::*;

fn sealed() -> String {
    answer("503 Service Unavailable", "", r#"{"errors":["Vault is sealed"]}"#)
}

async fn read(client: &Client, fresh: bool) -> Result<Answer, Failure> {
    client.call(&Call { fresh, ..Call::get("kv_read", "kv/data/x") }, None, Retry::Unsent).await
}

#[tokio::test]
async fn a_server_that_serves_nobody_is_left_for_the_next_one_which_is_kept() {
    // The second is recorded of Vault Enterprise: a disaster recovery secondary.
    for bad in [sealed(), answer("472 ", "", ""), answer("501 Not Implemented", "", "{}")] {
        let (bad, good) = (Server::answering(&[bad]).await, Server::answering(&[fine()]).await);
        let client = Server::client_of(&[&bad, &Server::gone(), &good]);
        for _ in 0..3 {
            assert!(read(&client, false).await.is_ok());
        }
        assert_eq!((bad.requests().len(), good.requests().len()), (1, 3));
    }
}

#[tokio::test]
async fn where_no_server_serves_the_operator_reads_what_they_say() {
    for (bad, says) in [
        (sealed(), "Vault is sealed"),
        (answer("472 ", "", ""), "disaster recovery"),
        (answer("501 Not Implemented", "", ""), "not initialised"),
        (answer("502 Bad Gateway", "", "<html>a canary</html>"), "is a gateway or another server in its place?"),
    ] {
        let server = Server::answering(&[bad]).await;
        let error = explain("reading x", read(&server.client(), false).await.err().unwrap());
        assert_eq!(error.kind, StoreErrorKind::Unavailable);
        assert!(error.detail.contains(says) && !error.detail.contains("canary"), "{error}");
    }
}

#[tokio::test]
async fn a_store_that_is_away_is_not_asked_at_every_call_but_for_those_that_must_get_through() {
    let server = Server::answering(&[sealed()]).await;
    let client = server.client();
    for _ in 0..2 {
        assert!(matches!(read(&client, false).await, Err(Failure::Refused(_))));
    }
    assert_eq!(server.requests().len(), 5, "four tries and one");
    assert!(matches!(read(&client, false).await, Err(Failure::Store(error)) if error.kind == StoreErrorKind::Unavailable));
    assert_eq!(server.requests().len(), 5);
    let revocation = Call { paced: true, ..Call::get("revoke", "sys/leases/revoke") };
    assert!(matches!(client.call(&revocation, None, Retry::Idempotent).await, Err(Failure::Refused(_))));
    assert_eq!(server.requests().len(), 6, "sent, and once");
}

/// How often a store was said to be away, less how often to be back.
#[derive(Default)]
struct AwayNow(std::sync::atomic::AtomicI64);

impl Observer for AwayNow {
    fn store_call(&self, _: &str, _: &'static str, _: &'static str, _: Duration) {}
    fn token_life(&self, _: &str, _: Option<Duration>) {}
    fn cache(&self, _: &str, _: &'static str) {}
    fn lease(&self, _: &str, _: &'static str) {}
    fn security(&self, _: &str, _: &'static str) {}
    fn store_away(&self, _: &str, away: bool) {
        self.0.fetch_add(if away { 1 } else { -1 }, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_store_that_is_let_go_while_it_is_away_does_not_stay_away() {
    let (server, seen) = (Server::answering(&[sealed()]).await, Arc::new(AwayNow::default()));
    let settings = json!({"address": server.address, "auth": {"method": "approle"}});
    let observer: Arc<AwayNow> = Arc::clone(&seen);
    let client = Client::new("corp", &serde_json::from_value(settings).unwrap(), observer).unwrap();
    for _ in 0..2 {
        assert!(read(&client, false).await.is_err());
    }
    assert_eq!(seen.0.load(Ordering::Relaxed), 1);
    drop(client);
    assert_eq!(seen.0.load(Ordering::Relaxed), 0);
}

/// A name that leads to a cluster without a leader: its nodes call themselves otherwise.
#[tokio::test]
async fn a_change_of_leader_behind_a_balancer_is_waited_for_and_keeps_no_standby_from_answering_reads() {
    let elsewhere = answer("307 Temporary Redirect", "location: http://vault-0.internal:8200/v1/x\r\n", "");
    let server = Server::answering(&[vec![elsewhere.clone(); 8], vec![fine()]].concat()).await;
    let client = server.client();
    let issue = Call { limit: Some(Duration::from_secs(95)), ..Call::get("issue", "db/creds/r") };
    let renew = Call { method: Method::POST, paced: true, ..Call::get("renew", "sys/leases/renew") };
    let began = Instant::now();
    let (issued, renewed) = tokio::join!(client.call(&issue, None, Retry::Issue), client.call(&renew, None, Retry::Idempotent));
    assert!(issued.is_err() && renewed.is_err() && began.elapsed() > Duration::from_secs(3), "some seconds, and not without end");
    assert_eq!(server.requests().len(), 8);
    assert!(!client.breaker.is_open());
    assert!(read(&client, false).await.is_ok());
    // Of several addresses the next one may be the leader's.
    let (standby, leader) = (Server::answering(&[elsewhere]).await, Server::answering(&[fine()]).await);
    let client = Server::client_of(&[&standby, &leader]);
    for _ in 0..2 {
        assert!(client.call(&issue, None, Retry::Issue).await.is_ok());
    }
    assert_eq!((standby.requests().len(), leader.requests().len()), (1, 2));
}

#[tokio::test]
async fn a_header_that_a_server_does_not_want_is_left_away_from_then_on() {
    let no = |text: &str| answer("400 Bad Request", "x-vault-index: abc\r\n", &json!({ "errors": [text] }).to_string());
    // By the source of Vault, where its file does not have `allow_forwarding_via_header`.
    let forwards_nothing = no("forwarding via header X-Vault-Inconsistent=forward-active-node disabled in configuration");
    let server = Server::answering(&[forwards_nothing, fine()]).await;
    let client = server.client();
    for _ in 0..2 {
        assert!(read(&client, true).await.is_ok());
    }
    let asked: Vec<bool> = server.requests().iter().map(|request| request.contains("x-vault-inconsistent")).collect();
    assert_eq!(asked, [true, false, false]);

    let indexed = answer("200 OK", "x-vault-index: abc\r\n", "{}");
    let server = Server::answering(&[indexed, no("failed to decode \"X-Vault-Index\""), fine()]).await;
    let client = server.client();
    for _ in 0..2 {
        assert!(read(&client, true).await.is_ok());
    }
    let asked: Vec<bool> = server.requests().iter().map(|request| request.contains("x-vault-index")).collect();
    assert_eq!(asked, [false, true, false]);
}

#[tokio::test]
async fn a_token_that_a_standby_does_not_know_yet_is_shown_again() {
    let login = answer("200 OK", "x-vault-index: abc\r\n", r#"{"auth":{"client_token":"s.young"}}"#);
    // The second is recorded of Vault Enterprise.
    let openbao = answer("429 Too Many Requests", "retry-after: 1\r\n", r#"{"errors":[]}"#);
    let vault = answer("412 Precondition Failed", "", r#"{"errors":["required index state not present"]}"#);
    for behind in [openbao, vault] {
        let server = Server::answering(&[login.clone(), behind, fine()]).await;
        let client = server.client();
        let first = Call { method: Method::POST, ..Call::get("login", "auth/approle/login") };
        assert!(client.call(&first, None, Retry::Unsent).await.is_ok());
        for (token, sent) in [("s.young", true), ("s.old", false)] {
            let token = HeaderValue::from_str(token).unwrap();
            assert!(client.call(&Call::get("token_lookup", "auth/token/lookup-self"), Some(&token), Retry::Unsent).await.is_ok());
            assert_eq!(server.requests().last().unwrap().contains("x-vault-index: abc"), sent);
        }
        assert_eq!(server.requests().len(), 4);
    }
}

#[tokio::test]
async fn an_answer_that_comes_by_the_byte_is_not_waited_for_to_its_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server { address: format!("http://{}", listener.local_addr().unwrap()), requests: Arc::default() };
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !is_whole(&request) {
                    client.read_buf(&mut request).await.unwrap();
                }
                let _ = client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await;
                while client.write_all(b" ").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            });
        }
    });
    let (client, call) = (Server::client_within(&[&server], &json!(null)), Call::get("kv_read", "kv/data/x"));
    let answer = tokio::time::timeout(Duration::from_secs(30), client.call(&call, None, Retry::Idempotent)).await;
    let failure = answer.expect("an end").err().unwrap();
    assert!(matches!(&failure, Failure::Unanswered(why) if why == "no answer in time"), "{}", failure.brief());
}

#[tokio::test]
async fn a_store_in_trouble_gets_a_tenth_more_of_calls_and_not_four_times_as_many() {
    const CALLS: usize = 100;
    // Each of them may be sent four times, and none says that the store is away. This refusal has the shortest pauses.
    let behind = answer("412 Precondition Failed", "", r#"{"errors":["required index state not present"]}"#);
    let server = Server::answering(&[behind]).await;
    let (client, began) = (server.client(), Instant::now());
    let answers = futures_util::future::join_all((0..CALLS).map(|_| read(&client, false))).await;
    assert!(answers.iter().all(|answer| matches!(answer, Err(Failure::Refused(refused)) if refused.status == 412)));
    let further = server.requests().len() - CALLS;
    // Some are there from the start, and one comes back every second.
    let most = 10 + CALLS / 10 + usize::try_from(began.elapsed().as_secs()).unwrap();
    assert!((1..=most).contains(&further), "{further} of at most {most}");
}

#[tokio::test]
async fn a_server_that_takes_connections_and_never_speaks_tls_is_left_for_the_next_one_within_the_time_of_a_read() {
    hold_the_clock();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = Server { address: format!("https://{}", listener.local_addr().unwrap()), requests: Arc::default() };
    let good = Server::answering(&[fine()]).await;
    // With the store's own times. What may have run is not sent again: that nothing of it was sent must be known.
    let client = Server::client_within(&[&silent, &good], &json!(null));
    let call = tokio::spawn(async move { read(&client, false).await });
    let (mut connection, _) = listener.accept().await.unwrap();
    let mut hello = [0];
    connection.read_exact(&mut hello).await.unwrap();
    pass(Duration::from_secs(5)).await;
    // A pause of no length takes until the next millisecond.
    pass(Duration::from_millis(1)).await;
    let answer = tokio::time::timeout(Duration::from_secs(1), call).await.expect("it has moved on").unwrap();
    assert!(answer.is_ok(), "{:?}", answer.err().map(|failure| failure.brief()));
    assert_eq!(good.requests().len(), 1);
}
