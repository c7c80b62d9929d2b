use std::sync::Arc;

use futures_util::stream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;
use crate::postgres::framer::Messages;

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
        let framing = Framing { up: Direction::RawUntil(b"leaving"), down: Direction::Raw, decide: None };
        let relay = Relay { client: &mut client, upstream: &mut upstream, framing, traffic: &traffic, pool: &pool };
        relay.run(ends, stream::pending(), |_| b"bye".to_vec()).await
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
        relay.run(ends, stream::pending(), |_| b"bye".to_vec()).await
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

#[tokio::test]
async fn a_client_that_said_goodbye_closed_first_also_where_its_upstream_is_heard_first() {
    for (words, end) in [("I am leaving", End::Client), ("leaving? no", End::Upstream)] {
        let (mut client, mut upstream, relay) = relayed_until(std::future::pending());
        client.write_all(words.as_bytes()).await.unwrap();
        heard(&mut upstream, words.as_bytes()).await;
        drop(upstream);
        assert_eq!(relay.await.unwrap().end, end, "{words}");
    }
}

/// A relay that says what it is given, between the messages of an upstream.
fn worded(down: Direction) -> (UnixStream, UnixStream, tokio::sync::mpsc::UnboundedSender<&'static [u8]>) {
    let ((client, ours), (theirs, upstream)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
    let (say, mut said) = tokio::sync::mpsc::unbounded_channel::<&'static [u8]>();
    tokio::spawn(async move {
        let (mut client, mut upstream) = (Stream::Unix(ours), Stream::Unix(theirs));
        let (traffic, pool) = (Arc::new(Traffic::new(<_>::default())), Pool::default());
        let framing = Framing { up: Direction::Raw, down, decide: None };
        let relay = Relay { client: &mut client, upstream: &mut upstream, framing, traffic: &traffic, pool: &pool };
        let words = stream::poll_fn(|cx| said.poll_recv(cx).map(|words| words.map(|words| -> Say { Box::new(|| words.to_vec()) })));
        relay.run(std::future::pending(), words, |_| Vec::new()).await
    });
    (client, upstream, say)
}

/// As PostgreSQL's messages are.
fn tracked() -> Direction {
    Direction::Tracked(Box::new(Messages::default()))
}

/// This comes next.
async fn heard(client: &mut UnixStream, wanted: &[u8]) {
    let mut bytes = vec![0; wanted.len()];
    let read = tokio::time::timeout(Duration::from_secs(10), client.read_exact(&mut bytes)).await;
    read.expect("it is not held up").unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(wanted));
}

async fn silent(client: &mut UnixStream) {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(client.try_read(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn words_of_our_own_reach_an_idle_client_and_never_stand_inside_a_message() {
    let (mut client, mut upstream, say) = worded(tracked());
    say.send(b"first").unwrap();
    heard(&mut client, b"first").await;
    let (message, next) = (b"D\0\0\0\x081234", b"Z\0\0\0\x05I");
    // Cut in the header, and in the body; what comes behind it in one read goes on behind the words.
    for cut in 1..message.len() {
        upstream.write_all(&message[..cut]).await.unwrap();
        heard(&mut client, &message[..cut]).await;
        say.send(b"words").unwrap();
        silent(&mut client).await;
        upstream.write_all(&[&message[cut..], next].concat()).await.unwrap();
        heard(&mut client, &[&message[cut..], b"words", next].concat()).await;
    }
    for words in [b"one", b"two"] {
        say.send(words).unwrap();
        heard(&mut client, words).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn words_of_our_own_find_their_place_in_a_flood_of_messages() {
    let (client, mut upstream, say) = worded(tracked());
    let message = [b"D\0\0\x01\x04".as_slice(), &[7; 256]].concat();
    let flooding = tokio::spawn(async move { while upstream.write_all(&message.repeat(4096)).await.is_ok() {} });
    let mut client = tokio::io::BufReader::new(client);
    let mut messages = 0;
    loop {
        let mut header = [0; 5];
        client.read_exact(&mut header).await.unwrap();
        if messages == 1000 {
            say.send(b"N\0\0\0\x04").unwrap();
        }
        if header[0] == b'N' {
            break;
        }
        assert_eq!(header, *b"D\0\0\x01\x04", "a message begins here");
        client.read_exact(&mut [0; 256]).await.unwrap();
        messages += 1;
        assert!(messages < 1_000_000, "they are lost");
    }
    assert!(messages > 1000 && !flooding.is_finished());
    flooding.abort();
}

#[tokio::test]
async fn words_of_our_own_wait_for_the_end_of_a_copy_and_only_the_last_are_said() {
    for begin in [b'G', b'H', b'W'] {
        for end in [b"C\0\0\0\x0aCOPY 1", b"E\0\0\0\x0aSERROR", b"Z\0\0\0\x0aIIIIII"] {
            let (mut client, mut upstream, say) = worded(tracked());
            let copying = [&[begin], b"\0\0\0\x07\0\0\0d\0\0\0\x051".as_slice()].concat();
            upstream.write_all(&copying).await.unwrap();
            heard(&mut client, &copying).await;
            say.send(b"old").unwrap();
            say.send(b"words").unwrap();
            silent(&mut client).await;
            upstream.write_all(b"d\0\0\0\x052c\0\0\0\x04").await.unwrap();
            heard(&mut client, b"d\0\0\0\x052c\0\0\0\x04").await;
            silent(&mut client).await;
            upstream.write_all(end).await.unwrap();
            heard(&mut client, &[end.as_slice(), b"words"].concat()).await;
        }
    }
}

#[tokio::test]
async fn where_the_messages_are_not_known_nothing_is_said() {
    let (mut client, mut upstream, say) = worded(Direction::Raw);
    say.send(b"words").unwrap();
    silent(&mut client).await;
    upstream.write_all(b"theirs").await.unwrap();
    heard(&mut client, b"theirs").await;
    silent(&mut client).await;
}

#[tokio::test]
async fn an_upstream_hears_of_the_end_although_its_client_takes_nothing_any_more() {
    let ((client, ours), (theirs, mut upstream)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
    let ended = tokio::spawn(async move {
        let (mut client, mut upstream) = (Stream::Unix(ours), Stream::Unix(theirs));
        let (traffic, pool) = (Arc::new(Traffic::new(<_>::default())), Pool::default());
        let framing = Framing { up: Direction::Raw, down: tracked(), decide: None };
        let relay = Relay { client: &mut client, upstream: &mut upstream, framing, traffic: &traffic, pool: &pool };
        relay.run(std::future::ready(Reason::LeaseEnd), stream::pending(), |_| vec![0; 64 * 1024 * 1024]).await
    });
    assert_eq!(upstream.read(&mut [0; 1]).await.unwrap(), 0);
    assert!(!ended.is_finished(), "its client is told meanwhile");
    drop((client, upstream));
    assert_eq!(ended.await.unwrap().end, End::Ended(Reason::LeaseEnd));
}
