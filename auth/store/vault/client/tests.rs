//! What a server, a load balancer or a stranger may answer; each as bytes on a socket.

mod bad_days;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::exchange::MAX_BODY;
use super::*;
use crate::sample;
use crate::store::vault::answer::Refused;
use crate::store::vault::errors::{explain, may_have_issued};

/// A server that gives these answers, one per connection, the last one again and again.
pub(in crate::store::vault) struct Server {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

/// Lets time pass only where a test says so: a paused clock goes on by itself while nothing but sockets is waited for. Not for ever: what
/// waits for time that nobody lets pass is to fail, and not to hang.
pub(in crate::store::vault) fn hold_the_clock() {
    tokio::time::pause();
    let began = Instant::now();
    tokio::spawn(async move {
        while began.elapsed() < Duration::from_secs(30) {
            tokio::task::yield_now().await;
        }
        tokio::time::resume();
    });
}

/// So much time passes, and what waited for it goes on.
async fn pass(time: Duration) {
    tokio::time::advance(time).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

impl Server {
    async fn start(answers: impl FnOnce(&str) -> Vec<String>) -> Self {
        Self::start_slow(answers, None).await
    }

    async fn start_slow(answers: impl FnOnce(&str) -> Vec<String>, slow: Option<(&'static str, Duration)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answers, seen, next) = (answers(&address), Arc::clone(&requests), AtomicUsize::new(0));
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let answer = &answers[next.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1)];
                let mut request = Vec::new();
                while !is_whole(&request) {
                    let mut buffer = [0; 4096];
                    let length = client.read(&mut buffer).await.unwrap();
                    request.extend_from_slice(&buffer[..length]);
                }
                let request = String::from_utf8(request).unwrap();
                let asked = request.split(' ').nth(1).and_then(|path| path.strip_prefix("/v1/"));
                let takes = slow.filter(|(path, _)| asked == Some(path));
                seen.lock().unwrap().push(request);
                if let Some((_, time)) = takes {
                    pass(time).await;
                }
                let _ = client.write_all(answer.as_bytes()).await;
                let _ = client.shutdown().await;
            }
        });
        Self { address, requests }
    }

    pub(in crate::store::vault) async fn answering(answers: &[String]) -> Self {
        let answers = answers.to_vec();
        Self::start(|_| answers).await
    }

    /// The same, which works for so long at what is asked of it at this path, by the clock that the test holds.
    pub(in crate::store::vault) async fn working_at(path: &'static str, time: Duration, answers: &[String]) -> Self {
        let answers = answers.to_vec();
        Self::start_slow(|_| answers, Some((path, time))).await
    }

    /// Where nobody is.
    fn gone() -> Self {
        Self { address: "http://127.0.0.1:1".to_owned(), requests: Arc::default() }
    }

    pub(in crate::store::vault) fn client(&self) -> Client {
        Self::client_of(&[self])
    }

    /// Of one store with these servers. All tries of a call have longer than a slow machine makes of them and the pauses in between.
    fn client_of(servers: &[&Self]) -> Client {
        Self::client_within(servers, &json!("30s"))
    }

    fn client_within(servers: &[&Self], timeout: &serde_json::Value) -> Client {
        let addresses: Vec<&str> = servers.iter().map(|server| server.address.as_str()).collect();
        let settings = json!({"address": addresses, "namespace": "/team/a/", "auth": {"method": "approle"}, "timeout": timeout});
        let settings: Settings = serde_json::from_value(settings).unwrap();
        Client::new("corp", &settings, sample::nobody()).unwrap()
    }

    async fn call(&self, retry: Retry) -> Result<Answer, Failure> {
        let token = HeaderValue::from_static("s.canary");
        let call = Call { session: Some(SessionId::random()), ..Call::get("kv_read", "kv/data/x") };
        self.client().call(&call, Some(&token), retry).await
    }

    pub(in crate::store::vault) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// Its headers and as many bytes behind them as they say.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((headers, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = headers.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    body.len() >= length.unwrap_or(0)
}

pub(in crate::store::vault) fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

fn fine() -> String {
    answer("200 OK", "", r#"{"request_id":"r","data":{"k":"v"}}"#)
}

#[tokio::test]
async fn a_request_carries_what_the_server_wants_to_know() {
    let server = Server::answering(&[fine()]).await;
    let mut answer = server.call(Retry::Idempotent).await.ok().unwrap();
    assert_eq!(answer.take_data(), json!({"k": "v"}));
    let request = server.requests().remove(0).to_lowercase();
    assert!(request.starts_with("get /v1/kv/data/x http/1.1\r\n"), "{request}");
    for header in
        ["x-vault-token: s.canary", "x-vault-request: true", "x-vault-namespace: team/a", "user-agent: keyward/", "x-correlation-id: "]
    {
        assert!(request.contains(header), "{header}: {request}");
    }
}

#[tokio::test]
async fn what_can_be_repeated_is_and_what_may_have_run_is_not() {
    let sealed = answer("503 Service Unavailable", "", r#"{"errors":["Vault is sealed"]}"#);
    let gateway = answer("502 Bad Gateway", "", "<html>a load balancer</html>");
    let overloaded = answer("503 Service Unavailable", "", "<html>a load balancer</html>");
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"da".to_owned();
    for (first, retry, tries, succeeds) in [
        (&sealed, Retry::Idempotent, 2, true),
        (&sealed, Retry::Unsent, 2, true),
        (&gateway, Retry::Idempotent, 2, true),
        (&gateway, Retry::Unsent, 1, false),
        (&overloaded, Retry::Idempotent, 2, true),
        (&overloaded, Retry::Unsent, 1, false),
        (&cut, Retry::Idempotent, 2, true),
        (&cut, Retry::Unsent, 1, false),
    ] {
        let server = Server::answering(&[first.clone(), fine()]).await;
        let result = server.call(retry).await;
        assert_eq!((server.requests().len(), result.is_ok()), (tries, succeeds), "{first}");
        if let Err(failure) = result {
            assert!(may_have_issued(&failure), "an account may exist");
            let error = explain("x", failure);
            assert!(!error.detail.contains("canary") && !error.detail.contains("html"), "{error}");
        }
    }
}

#[tokio::test]
async fn no_retry_helps_a_refusal_and_none_waits_longer_than_the_budget() {
    for refusal in [answer("400 Bad Request", "", "{}"), answer("403 Forbidden", "", "{}"), answer("404 Not Found", "", r#"{"errors":[]}"#)]
    {
        let server = Server::answering(&[refusal]).await;
        assert!(matches!(server.call(Retry::Idempotent).await, Err(Failure::Refused(_))));
        assert_eq!(server.requests().len(), 1);
    }
    let busy = answer("429 Too Many Requests", "retry-after: 60\r\n", r#"{"errors":["rate limit quota exceeded"]}"#);
    let server = Server::answering(&[busy]).await;
    assert!(matches!(server.call(Retry::Idempotent).await, Err(Failure::Refused(Refused { status: 429, .. }))));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn an_answer_that_is_no_answer_is_an_outage() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for body in ["<html></html>".to_owned(), deep] {
        let server = Server::answering(&[answer("200 OK", "", &body)]).await;
        assert!(matches!(server.call(Retry::Unsent).await, Err(Failure::Unanswered(_))));
    }
    let gateway = answer("502 Bad Gateway", "", &"x".repeat(MAX_BODY + 1));
    let server = Server::answering(&[gateway]).await;
    assert!(matches!(server.call(Retry::Unsent).await, Err(Failure::Unanswered(_))));
    // Nobody there at all: it certainly did not run.
    assert!(matches!(Server::gone().call(Retry::Unsent).await, Err(Failure::Unreached(_))));
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_read_no_further_asked_for_once_and_no_outage() {
    let length = MAX_BODY + 1;
    // With a length and without one.
    for head in [format!("content-length: {length}\r\n"), String::new()] {
        let endless = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{head}\r\n{}", "y".repeat(length));
        let server = Server::answering(&[endless]).await;
        let client = server.client();
        for sent in 1..=10 {
            let failure = client.call(&Call::get("kv_read", "kv/data/x"), None, Retry::Idempotent).await.err().unwrap();
            assert!(matches!(failure, Failure::TooLong), "{}", failure.brief());
            assert_eq!(server.requests().len(), sent, "the store does not count as away");
            assert!(may_have_issued(&failure));
            assert_eq!(explain("reading x", failure).kind, StoreErrorKind::Malformed, "nothing that is past its time stands in for it");
        }
    }
}

#[tokio::test]
async fn a_no_of_a_gateway_is_none_of_the_stores() {
    for status in ["400 Bad Request", "401 Unauthorized", "403 Forbidden", "404 Not Found", "405 Method Not Allowed"] {
        for body in ["", "404 page not found", "<html>forbidden</html>", "[]", "\"no\""] {
            let server = Server::answering(&[answer(status, "", body)]).await;
            let failure = server.call(Retry::Unsent).await.err().unwrap();
            let error = explain("reading x", failure);
            assert!(error.kind == StoreErrorKind::Unavailable && error.detail.contains("is a gateway"), "{status} {body}: {error}");
        }
        let server = Server::answering(&[answer(status, "", r#"{"errors":[]}"#)]).await;
        assert!(matches!(server.call(Retry::Unsent).await, Err(Failure::Refused(_))), "{status}: the store's own");
    }
    let server = Server::answering(&[answer("403 Forbidden", "", "<html></html>"), fine()]).await;
    assert!(server.call(Retry::Idempotent).await.is_ok(), "it is asked again, as in any outage");
}

#[tokio::test]
async fn a_redirect_is_followed_to_the_leader_and_to_nobody_else() {
    let to = |location: &str| answer("307 Temporary Redirect", &format!("location: {location}\r\n"), "");
    let leader = Server::answering(&[fine()]).await;
    let standby = Server::answering(&[to(&format!("{}/v1/kv/data/x", leader.address))]).await;
    assert!(standby.call(Retry::Unsent).await.is_ok());
    assert!(leader.requests().remove(0).contains("s.canary"));
    for elsewhere in ["http://192.0.2.1/v1/kv/data/x", "https://127.0.0.1:1/v1/x", "ftp://127.0.0.1/x"] {
        let server = Server::answering(&[to(elsewhere)]).await;
        let (client, call) = (server.client(), Call::get("kv_read", "kv/data/x"));
        let failure = client.once(client.route.current().1, &call, None, Instant::now()).await.err().unwrap();
        assert!(matches!(&failure, Failure::Refused(refused) if refused.says("no address of the store")), "{elsewhere}");
        assert!(!may_have_issued(&failure) && explain("x", failure).kind == StoreErrorKind::Unavailable);
    }
    // Our path was not in its canonical form: no other try would be any better.
    let relative = Server::answering(&[to("/v1/other")]).await;
    assert!(matches!(relative.call(Retry::Unsent).await, Err(Failure::Store(error)) if error.kind == StoreErrorKind::Malformed));
    assert_eq!(relative.requests().len(), 1);
    let circle = Server::start(|own| vec![to(&format!("{own}/v1/kv/data/x"))]).await;
    assert!(matches!(circle.call(Retry::Unsent).await, Err(Failure::Refused(Refused { status: 307, .. }))));
    assert_eq!(circle.requests().len(), 4 * 3, "three requests in each of four tries");
}

#[tokio::test]
async fn a_fresh_read_asks_for_the_newest_state_that_was_seen() {
    let server = Server::answering(&[answer("200 OK", "x-vault-index: abc\r\n", "{}"), fine()]).await;
    let client = server.client();
    for fresh in [false, true] {
        let call = Call { fresh, ..Call::get("kv_read", "kv/data/x") };
        assert!(client.call(&call, None, Retry::Idempotent).await.is_ok());
    }
    let requests = server.requests();
    assert!(!requests[0].contains("x-vault-index"));
    assert!(requests[1].contains("x-vault-index: abc") && requests[1].contains("x-vault-inconsistent: forward-active-node"));
}

#[test]
fn a_store_is_verified_unless_its_settings_say_why_not_in_words() {
    let settings = |insecure: serde_json::Value| {
        let text = json!({"address": "http://vault.internal:8200", "auth": {"method": "approle"}, "insecure": insecure});
        serde_json::from_value::<Settings>(text)
    };
    for no in [json!(false), json!(true), json!("no"), json!("false"), json!(""), json!(0)] {
        assert!(settings(no.clone()).is_err(), "{no}");
    }
    let plain = |insecure| Client::new("corp", &settings(insecure).unwrap(), sample::nobody()).err();
    assert!(plain(json!(null)).unwrap().contains("plain http would show every secret"));
    assert!(plain(json!("a test on one machine")).is_none());
}

#[test]
fn segments_are_encoded_one_by_one() {
    assert_eq!(encode(["m", "data", "a b", "ü", "x@y"]), "m/data/a%20b/%C3%BC/x@y");
}
