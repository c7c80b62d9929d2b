use tokio::io::AsyncWriteExt;

use super::super::login::CACHING_SHA2;
use super::super::sample::{self, Bench, Client};
use super::super::settings::LoginMethod;
use super::*;

const THREAD_ID: u32 = 0x8000_0007;

/// Greets a client; `script` is the client's side of it. And the number that a refusal would have.
async fn greet(
    bench: &Bench,
    (theirs, mut ours): (Stream, Stream),
    script: impl AsyncFnOnce(&mut Client),
) -> (Result<Opening, SessionError>, u8) {
    let (mut packets, mut client) = (Packets::default(), Client::at(theirs, 0));
    let (opening, ()) = tokio::join!(
        async {
            let opening = open(&bench.link, &mut ours, &mut packets, &Face::default(), THREAD_ID).await;
            drop(ours);
            opening
        },
        script(&mut client)
    );
    (opening, packets.next())
}

async fn greeted(client: &mut Client) -> Greeting {
    Greeting::parse(&client.hear().await).unwrap()
}

/// Asks for TLS and answers inside.
async fn answers_inside(bench: &Bench, client: &mut Client, answer: &Answer) {
    greeted(client).await;
    client.say(&wire::ssl_request(answer.capabilities.or(Capabilities::SSL), 1 << 24, 45)).await;
    bench.secure(&mut client.stream).await.unwrap();
    client.say(&answer.encode()).await;
}

fn alice() -> Answer {
    sample::answer("alice", CACHING_SHA2, &[7; 32])
}

#[track_caller]
fn answered(opening: (Result<Opening, SessionError>, u8)) -> Opened {
    match opening.0.unwrap() {
        Opening::Answered(opened) => *opened,
        Opening::Probe => panic!("a probe"),
    }
}

#[track_caller]
fn refused((opening, next): (Result<Opening, SessionError>, u8)) -> (Refusal, u8) {
    match opening {
        Err(error) => (error.refusal, next),
        Ok(_) => panic!("not refused"),
    }
}

#[tokio::test]
async fn a_client_is_greeted_with_the_face_and_a_scramble_of_its_own() {
    let bench = Bench::new(LoginMethod::CachingSha2);
    let mut scrambles = Vec::new();
    for _ in 0..2 {
        let mut said = None;
        let opening = greet(&bench, sample::tcp().await, async |client| {
            said = Some(greeted(client).await);
            client.say(&alice().encode()).await;
        });
        let (opening, next) = opening.await;
        let opened = answered((opening, next));
        let (greeting, face) = (said.unwrap(), Face::default());
        assert_eq!((greeting.version, greeting.charset, greeting.status), (face.version, face.charset, face.status));
        assert_eq!((greeting.thread_id, greeting.plugin.as_slice()), (THREAD_ID, CACHING_SHA2));
        assert_eq!(greeting.capabilities, opened.offered);
        assert!(greeting.capabilities.has(Capabilities::SSL));
        assert_eq!(greeting.scramble, opened.scramble);
        assert_eq!((opened.login.as_str(), opened.database, next), ("alice", None, 2));
        scrambles.push(opened.scramble);
    }
    assert_ne!(scrambles[0], scrambles[1]);
}

#[tokio::test]
async fn a_client_that_asks_for_tls_answers_inside_it() {
    let bench = Bench::new(LoginMethod::CachingSha2).remote();
    let mut answer = alice();
    answer.capabilities = answer.capabilities.or(Capabilities::CONNECT_WITH_DB);
    answer.database = Some(b"orders".to_vec());
    let (opening, next) = greet(&bench, sample::tcp().await, async |client| answers_inside(&bench, client, &answer).await).await;
    let opened = answered((opening, next));
    assert_eq!((opened.login.as_str(), opened.database.as_deref(), next), ("alice", Some("orders"), 3));
    answer.database = Some(Vec::new());
    let opened = answered(greet(&bench, sample::tcp().await, async |client| answers_inside(&bench, client, &answer).await).await);
    assert_eq!(opened.database, None, "an empty name is none");
}

#[tokio::test]
async fn a_flag_that_nobody_offered_is_not_claimed_later() {
    let bench = Bench::new(LoginMethod::CachingSha2);
    let mut answer = alice();
    answer.capabilities =
        answer.capabilities.or(Capabilities::QUERY_ATTRIBUTES).or(Capabilities::MULTI_FACTOR).or(Capabilities::LOCAL_FILES);
    let opened = answered(
        greet(&bench, sample::unix(), async |client| {
            greeted(client).await;
            client.say(&answer.encode()).await;
        })
        .await,
    );
    assert_eq!(opened.answer.capabilities, alice().capabilities);
}

#[tokio::test]
async fn what_came_before_tls_does_not_count_inside_it() {
    let bench = Bench::new(LoginMethod::CachingSha2);
    let opening = greet(&bench, sample::tcp().await, async |client| {
        greeted(client).await;
        let request = wire::ssl_request(alice().capabilities.or(Capabilities::SSL), 1 << 24, 45);
        // In one write with the request: somebody on the way put an answer there that the client never sent.
        let smuggled =
            [packet::framed(1, &request), packet::framed(2, &sample::answer("mallory", CACHING_SHA2, &[7; 32]).encode())].concat();
        client.stream.write_all(&smuggled).await.unwrap();
        let _ = bench.secure(&mut client.stream).await;
    });
    assert_eq!(refused(opening.await).0, Refusal::Malformed);
}

#[tokio::test]
async fn a_client_that_closes_without_a_word_is_a_probe() {
    let bench = Bench::new(LoginMethod::CachingSha2);
    for streams in [sample::tcp().await, sample::unix()] {
        let closed = greet(&bench, streams, async |client| client.stream = Stream::Closed).await;
        assert!(matches!(closed.0, Ok(Opening::Probe)));
    }
    let reset = greet(&bench, sample::tcp().await, async |client| {
        let Stream::Tcp(socket) = client.stream.take() else { panic!() };
        socket2::SockRef::from(&socket).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    });
    assert!(matches!(reset.await.0, Ok(Opening::Probe)));
    let halfway = greet(&bench, sample::tcp().await, async |client| {
        greeted(client).await;
        client.stream.write_all(&[1, 2]).await.unwrap();
        client.stream = Stream::Closed;
    });
    assert!(matches!(halfway.await.0, Err(error) if error.left));
}

#[tokio::test]
async fn without_tls_only_this_machine_is_heard() {
    let bench = Bench::new(LoginMethod::CachingSha2).remote();
    for streams in [sample::tcp().await, sample::unix()] {
        let plain = greet(&bench, streams, async |client| {
            greeted(client).await;
            client.say(&alice().encode()).await;
            assert!(client.hear().await.is_empty(), "asked for nothing");
        });
        assert_eq!(refused(plain.await), (Refusal::TlsRequired, 2));
    }
    let bench = Bench::new(LoginMethod::CachingSha2).without_tls();
    let tls = greet(&bench, sample::unix(), async |client| {
        assert!(!greeted(client).await.capabilities.has(Capabilities::SSL));
        client.say(&wire::ssl_request(alice().capabilities.or(Capabilities::SSL), 1 << 24, 45)).await;
    });
    assert_eq!(refused(tls.await).0, Refusal::Malformed);
}

#[tokio::test]
async fn a_client_from_before_plugins_is_told_that_it_is_not_supported() {
    let bench = Bench::new(LoginMethod::CachingSha2);
    for (flag, _) in NEEDED {
        let mut answer = alice();
        answer.capabilities = answer.capabilities.without(flag);
        let opening = greet(&bench, sample::tcp().await, async |client| {
            greeted(client).await;
            client.say(&answer.encode()).await;
        });
        assert_eq!(refused(opening.await), (Refusal::Unsupported, 2), "{flag:?}");
    }
}

#[tokio::test]
async fn a_client_that_breaks_the_protocol_is_malformed() {
    let bench = Bench::new(LoginMethod::CachingSha2);
    let whole = alice().encode();
    let mut not_text = alice();
    not_text.user = vec![0xff];
    let long = sample::answer(&"a".repeat(NAME_MAX + 1), CACHING_SHA2, &[7; 32]);
    let broken = [
        packet::framed(0, &whole),
        packet::framed(1, &whole[..40]),
        packet::framed(1, &[]),
        packet::framed(1, &not_text.encode()),
        packet::framed(1, &long.encode()),
        packet::framed(1, &vec![0; packet::LOGIN_MAX + 1])[..4].to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ];
    for bytes in broken {
        let opening = greet(&bench, sample::unix(), async |client| {
            greeted(client).await;
            client.stream.write_all(&bytes).await.unwrap();
            let _ = client.stream.shutdown().await;
        });
        assert_eq!(refused(opening.await).0, Refusal::Malformed, "{bytes:x?}");
    }
    let twice = greet(&bench, sample::tcp().await, async |client| {
        greeted(client).await;
        let request = wire::ssl_request(alice().capabilities.or(Capabilities::SSL), 1 << 24, 45);
        client.say(&request).await;
        bench.secure(&mut client.stream).await.unwrap();
        client.say(&request).await;
    });
    assert_eq!(refused(twice.await), (Refusal::Malformed, 3));
}
