//! Connections that end or fail at any byte, while all four transports exchange keys.

use std::net::Ipv4Addr;

use keyward_ssh_transport::{Event, Limits};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, copy, sink};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::ssh::dice::{Dice, seeds};
use crate::ssh::numbered::Talk;
use crate::ssh::pair::{self, pair};

/// Messages of each end, and bytes of the shortest one.
const MESSAGES: u32 = 60;
const SHORTEST: usize = 8000;
/// Bytes that an end lets wait before it says no more.
const OWN_BACKLOG: usize = 100_000;

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It stays.
    Lives,
    /// Behind so many bytes towards the relay there is nothing more; the other way goes on.
    Ends(usize),
    /// Behind so many bytes towards the relay, or from it, it is reset.
    Fails { towards: usize, from: usize },
}

/// What an end got, and its peer's last words.
struct Got {
    messages: u32,
    goodbye: Option<String>,
    exchanges: u32,
}

/// An end of its own: says what it has to say and hears, until there is no connection any more.
async fn talks(mut wire: Wire, mut stream: Stream, mut talk: Talk, mut dice: Dice) -> Got {
    let goodbye = std::future::poll_fn(|cx| {
        loop {
            let mut moved = false;
            while talk.is_due() && wire.conn.backlog() < OWN_BACKLOG {
                wire.conn.send(&talk.says(SHORTEST + dice.below(8000))).unwrap();
            }
            moved |= matches!(wire.poll_flush(cx, &mut stream), Poll::Ready(Ok(_)));
            match wire.poll_fill(cx, &mut stream) {
                Poll::Ready(Ok(())) if !wire.eof => moved = true,
                Poll::Ready(_) => return Poll::Ready(None),
                Poll::Pending => {}
            }
            while let Some(event) = wire.conn.next().unwrap() {
                match event {
                    Event::Message(message) => {
                        if let Some(answer) = talk.hears(message) {
                            wire.conn.send(&answer).unwrap();
                        }
                    }
                    Event::Disconnect { text, .. } => return Poll::Ready(Some(text)),
                    other => panic!("{other:?}"),
                }
                moved = true;
            }
            if !moved {
                return Poll::Pending;
            }
        }
    })
    .await;
    Got { messages: talk.got, goodbye, exchanges: wire.conn.exchanges() }
}

/// Carries bytes between an end and the relay's socket, in pieces, and lets the connection meet its fate.
async fn carries(end: DuplexStream, socket: TcpStream, fate: Fate, mut dice: Dice) {
    let reset = matches!(fate, Fate::Fails { .. });
    if reset {
        socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
    }
    let (towards, from) = match fate {
        Fate::Lives => (usize::MAX, usize::MAX),
        Fate::Ends(towards) => (towards, usize::MAX),
        Fate::Fails { towards, from } => (towards, from),
    };
    let ((mut from_end, mut to_end), (mut from_relay, mut to_relay)) = (tokio::io::split(end), socket.into_split());
    let mut others = Dice::new(dice.below(1 << 30) as u64);
    let up = async {
        moves(&mut from_end, &mut to_relay, towards, &mut dice).await;
        if !reset {
            let _ = to_relay.shutdown().await;
        }
    };
    let down = async {
        moves(&mut from_relay, &mut to_end, from, &mut others).await;
        let _ = to_end.shutdown().await;
    };
    if reset {
        // Whichever comes first; the rest is gone with the socket.
        tokio::select! { () = up => {}, () = down => {} }
    } else {
        tokio::join!(up, down);
    }
}

/// At most so many bytes, and until either end is gone.
async fn moves(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin), most: usize, dice: &mut Dice) {
    let mut left = most;
    let mut piece = vec![0; 64 * 1024];
    while left > 0 {
        let length = left.min(1 + dice.below(piece.len()));
        match from.read(&mut piece[..length]).await {
            Ok(read) if read > 0 && to.write_all(&piece[..read]).await.is_ok() => left -= read,
            _ => return,
        }
        if dice.below(4) == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// A relay's connection, and what carries it to the end of the other side.
async fn connection(fate: Fate, dice: Dice) -> (Stream, Stream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (far, near) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let (end, inside) = tokio::io::duplex(PIPE);
    tokio::spawn(carries(inside, far.unwrap(), fate, dice));
    (Stream::Inner(end), Stream::Tcp(near.unwrap().0))
}

/// A game: what the client and the server got, and how the relay ended.
async fn plays(seed: u64, fates: [Fate; 2]) -> (Got, Got, Outcome) {
    let mut dice = Dice::new(seed);
    let mut limits = || Limits { rekey_bytes: 20_000 + dice.below(100_000) as u64, ..Limits::default() };
    let now = Instant::now();
    let (client, user) = pair(limits(), limits(), now);
    let (upstream, server) = pair(limits(), limits(), now);
    let [mut client, mut user, mut upstream, server] = [client, user, upstream, server].map(|conn| Wire { conn, eof: false });
    let mut fork = || Dice::new(dice.below(1 << 30) as u64);
    let (client_end, mut user_stream) = connection(fates[0], fork()).await;
    let (server_end, mut upstream_stream) = connection(fates[1], fork()).await;
    let (talk, first) = Talk::client(MESSAGES);
    client.conn.send(&first).unwrap();
    let client = tokio::spawn(talks(client, client_end, talk, fork()));
    let server = tokio::spawn(talks(server, server_end, Talk::server(MESSAGES), fork()));
    let relay = pair::relayed((&mut user, &mut user_stream), (&mut upstream, &mut upstream_stream), Channels::of([]));
    let outcome = tokio::time::timeout(LONG, relay).await.unwrap_or_else(|_| panic!("the relay goes on: {seed} {fates:?}"));
    // A socket that is closed with something unread takes with it what its peer has not read yet: that is not what is tried here.
    for mut stream in [user_stream, upstream_stream] {
        tokio::spawn(async move { copy(&mut stream, &mut sink()).await });
    }
    let got = tokio::time::timeout(LONG, async { (client.await.unwrap(), server.await.unwrap()) }).await;
    let (client, server) = got.unwrap_or_else(|_| panic!("an end hears nothing of it: {seed} {fates:?}"));
    (client, server, outcome)
}

/// Every end says more than that.
fn fate(dice: &mut Dice) -> Fate {
    let mut after = || dice.below(usize::try_from(MESSAGES).unwrap() * SHORTEST);
    let (towards, from) = (after(), after());
    if dice.below(2) == 0 { Fate::Ends(towards) } else { Fate::Fails { towards, from } }
}

/// What an end hears is in its order (`Talk::hears`); here, that it hears of the end, and so does the relay.
#[tokio::test]
async fn a_connection_that_ends_or_fails_at_any_byte_ends_both_sides_whoever_exchanges_keys() {
    let (mut exchanges, mut cut_short) = (0, 0);
    for seed in seeds(40) {
        let mut dice = Dice::new(seed.wrapping_add(1000));
        let (fate, of_client) = (fate(&mut dice), dice.below(2) == 0);
        let (client, server, outcome) = plays(seed, if of_client { [fate, Fate::Lives] } else { [Fate::Lives, fate] }).await;
        let shown = format!("{seed} {fate:?} {:?} {:?}", outcome.end, client.goodbye);
        assert!(outcome.upstream_closed, "{shown}");
        if of_client {
            assert!(matches!(outcome.end, End::Client | End::ClientFailed(_)), "{shown}");
            assert_eq!(server.goodbye.as_deref(), Some(""), "{shown}");
        } else {
            assert!(matches!(outcome.end, End::Upstream | End::UpstreamFailed(_)), "{shown}");
            let told = client.goodbye.is_some_and(|text| {
                text.contains("the server closed the connection") || text.contains("the connection to the server failed")
            });
            assert!(told, "{shown}");
        }
        exchanges += client.exchanges + server.exchanges;
        cut_short += usize::from(client.messages < MESSAGES || server.messages < MESSAGES);
    }
    assert!(exchanges > 200 && cut_short > 30, "{exchanges} {cut_short}: too few to show anything");
}
