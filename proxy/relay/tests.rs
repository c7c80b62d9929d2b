use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;

const PIECE: usize = 64 * 1024;

/// A relay without an end of its own between two sockets: the client's and the upstream's.
fn relayed() -> (UnixStream, UnixStream) {
    let (client, upstream, _) = relayed_until(std::future::pending());
    (client, upstream)
}

/// One that somebody may end.
fn relayed_until(ends: impl Future<Output = Reason> + Send + 'static) -> (UnixStream, UnixStream, tokio::task::JoinHandle<Outcome>) {
    let ((client, ours), (theirs, upstream)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
    let ended = tokio::spawn(async move {
        let (mut client, mut upstream) = (Stream::Unix(ours), Stream::Unix(theirs));
        let (traffic, pool) = (Arc::new(Traffic::new(<_>::default())), Pool::default());
        let framing = Framing { up: Direction::Raw, down: Direction::Raw, decide: None };
        let relay = Relay { client: &mut client, upstream: &mut upstream, framing, traffic: &traffic, pool: &pool };
        relay.run(ends, |_| b"bye".to_vec()).await
    });
    (client, upstream, ended)
}

async fn flood(mut to: impl AsyncWrite + Unpin) {
    while to.write_all(&[0; PIECE]).await.is_ok() {}
}

async fn drink(mut from: impl AsyncRead + Unpin) {
    let mut buffer = vec![0; PIECE];
    while from.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {}
}

/// One side floods the other, which speaks all the while and reads only if it `drinks`.
async fn words_beside_a_flood(flood_is_down: bool, drinks: bool) {
    let (client, upstream) = relayed();
    let (flooder, other) = if flood_is_down { (upstream, client) } else { (client, upstream) };
    let ((mut reader, out), (into, mut writer)) = (flooder.into_split(), other.into_split());
    let flooding = tokio::spawn(flood(out));
    let drinking = drinks.then_some(into).map(|into| tokio::spawn(drink(into)));
    for word in 0..100 {
        writer.write_all(&[word]).await.unwrap();
        let heard = tokio::time::timeout(Duration::from_secs(10), reader.read_u8()).await;
        assert_eq!(heard.expect("the word is not held up").unwrap(), word);
    }
    assert!(!flooding.is_finished(), "the flood went on");
    flooding.abort();
    drinking.inspect(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_word_gets_through_beside_a_flood_the_other_way() {
    words_beside_a_flood(true, true).await;
    words_beside_a_flood(false, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_blocked_writer_does_not_stop_the_other_direction() {
    words_beside_a_flood(true, false).await;
    words_beside_a_flood(false, false).await;
}

#[tokio::test]
async fn what_a_server_says_that_no_longer_listens_still_gets_to_the_client() {
    let (mut client, mut upstream) = relayed();
    socket2::SockRef::from(&upstream).shutdown(std::net::Shutdown::Read).unwrap();
    client.write_all(b"query").await.unwrap();
    // The relay has to find out first; on this one thread it runs while we give way.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    upstream.write_all(b"why").await.unwrap();
    drop(upstream);
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"why");
}

#[tokio::test]
async fn a_session_can_be_ended_after_its_client_closed_the_sending_half() {
    let (end, ends) = tokio::sync::oneshot::channel();
    let (mut client, mut upstream, ended) = relayed_until(async { ends.await.unwrap_or(Reason::Killed) });
    client.shutdown().await.unwrap();
    assert_eq!(upstream.read(&mut [0; 1]).await.unwrap(), 0, "the relay has seen it");
    upstream.write_all(b"more to come").await.unwrap();
    client.read_exact(&mut [0; 12]).await.unwrap();
    end.send(Reason::Killed).unwrap();
    let outcome = ended.await.unwrap();
    assert_eq!(outcome, Outcome { end: End::Ended(Reason::Killed), upstream_closed: false });
}

/// Messages are lines; those that begin with `?` are held back.
#[derive(Default)]
struct Lines {
    kept: Vec<u8>,
    inside: bool,
}

impl Framer for Lines {
    fn pass(&mut self, bytes: &[u8]) -> Passed {
        let mut passed = Passed::default();
        for byte in bytes {
            passed.taken = passed.taken.saturating_add(1);
            if self.kept.is_empty() && (self.inside || *byte != b'?') {
                passed.forward = passed.forward.saturating_add(1);
                self.inside = *byte != b'\n';
                continue;
            }
            self.kept.push(*byte);
            if *byte == b'\n' {
                passed.held = Some(Zeroizing::new(std::mem::take(&mut self.kept)));
                return passed;
            }
        }
        passed
    }

    fn to_boundary(&self) -> usize {
        0
    }
}

/// Answers `?here`, passes `!changed` on for `?change`, and ends the session for anything else.
struct Oracle;

impl Decide for Oracle {
    fn decide<'a>(
        &'a mut self,
        message: Zeroizing<Vec<u8>>,
        client: &'a mut Stream,
        _: &'a mut Stream,
    ) -> futures_util::future::BoxFuture<'a, Result<Vec<u8>, End>> {
        Box::pin(async move {
            match message.as_slice() {
                b"?here\n" => client.write_all(b"answered\n").await.map(|()| Vec::new()).map_err(|_| End::Client),
                b"?change\n" => Ok(b"!changed\n".to_vec()),
                b"?wait\n" => std::future::pending().await,
                _ => Err(End::ClientFailed(io::ErrorKind::InvalidData)),
            }
        })
    }
}

fn decided(ends: impl Future<Output = Reason> + Send + 'static) -> (UnixStream, UnixStream, tokio::task::JoinHandle<Outcome>) {
    let ((client, ours), (theirs, upstream)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
    let ended = tokio::spawn(async move {
        let (mut client, mut upstream) = (Stream::Unix(ours), Stream::Unix(theirs));
        let (traffic, pool) = (Arc::new(Traffic::new(<_>::default())), Pool::default());
        let up = Direction::Tracked(Box::new(Lines::default()));
        let framing = Framing { up, down: Direction::Raw, decide: Some(Box::new(Oracle)) };
        let relay = Relay { client: &mut client, upstream: &mut upstream, framing, traffic: &traffic, pool: &pool };
        relay.run(ends, |_| b"bye".to_vec()).await
    });
    (client, upstream, ended)
}

async fn next_line(from: &mut UnixStream) -> String {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        line.push(from.read_u8().await.unwrap());
    }
    String::from_utf8(line).unwrap()
}

#[tokio::test]
async fn what_is_held_back_is_decided_in_its_turn_however_it_is_cut() {
    let said = b"one\n?change\ntwo\n?here\n?here\nthree\n?change\n?change\nfour\n";
    for piece in [1, 2, 3, 7, said.len()] {
        let (mut client, mut upstream, _relay) = decided(std::future::pending());
        for piece in said.chunks(piece) {
            client.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        for wanted in ["one\n", "!changed\n", "two\n", "three\n", "!changed\n", "!changed\n", "four\n"] {
            assert_eq!(next_line(&mut upstream).await, wanted, "in pieces of {piece}");
        }
        for _ in 0..2 {
            assert_eq!(next_line(&mut client).await, "answered\n");
        }
    }
}

#[tokio::test]
async fn a_decision_may_end_the_session_and_does_not_outlive_it() {
    let (mut client, _upstream, relay) = decided(std::future::pending());
    client.write_all(b"?nonsense\n").await.unwrap();
    assert_eq!(relay.await.unwrap().end, End::ClientFailed(io::ErrorKind::InvalidData));

    let (end, ends) = tokio::sync::oneshot::channel();
    let (mut client, mut upstream, relay) = decided(async { ends.await.unwrap() });
    client.write_all(b"before\n?wait\n").await.unwrap();
    assert_eq!(next_line(&mut upstream).await, "before\n");
    end.send(Reason::Killed).unwrap();
    assert_eq!(relay.await.unwrap().end, End::Ended(Reason::Killed));
}
