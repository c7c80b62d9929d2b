//! A relay between a client and a server that are transports of ours, and misbehave.

mod cut;

use std::sync::Arc;

use keyward_ssh_transport::connection::message::Message;
use keyward_ssh_transport::policy::{Channels, Permission};
use keyward_ssh_transport::sign::generate_ed25519;
use keyward_ssh_transport::{ClientConfig, ServerConfig};
use tokio::task::JoinHandle;

use super::*;
use crate::ssh::pair;
use crate::ssh::wire::{Heard, Silent};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);
/// Bytes between a relay and each of its ends.
const PIPE: usize = 16 * 1024;

/// One of the two who are relayed.
struct Far {
    wire: Wire,
    stream: Stream,
}

impl Far {
    async fn says(&mut self, message: &Message<'_>) {
        self.wire.say(&mut self.stream, &[message.write()]).await.unwrap();
    }

    /// The next message, or why there is none.
    async fn hears(&mut self) -> Result<Vec<u8>, Silent> {
        let heard = tokio::time::timeout(LONG, self.wire.hear(&mut self.stream)).await.expect("it is not held up");
        heard.map(|heard| if let Heard::Message(message) = heard { message.to_vec() } else { panic!("a message") })
    }

    async fn must_hear(&mut self, wanted: &Message<'_>) {
        assert_eq!(self.hears().await.unwrap(), wanted.write(), "{wanted:?}");
    }
}

/// Both ends of a link on which somebody is logged in: the client's, the server's.
async fn linked(pipe: usize) -> (Far, Far) {
    let (near, far) = tokio::io::duplex(pipe);
    let config = ServerConfig::new(vec![Arc::new(generate_ed25519().unwrap())]);
    let mut client = Far { wire: Wire::client(ClientConfig::new(vec!["ssh-ed25519"])), stream: Stream::Inner(near) };
    let mut server = Far { wire: Wire::server(Arc::new(config)), stream: Stream::Inner(far) };
    let knows = async {
        let Ok(Heard::HostKey(presented)) = client.wire.hear(&mut client.stream).await else { panic!("a host key") };
        client.wire.conn.accept_host_key(presented.key()).unwrap();
        assert!(matches!(client.wire.hear(&mut client.stream).await, Ok(Heard::Ready)));
        client.wire.flush(&mut client.stream).await.unwrap();
    };
    let is_ready = async { assert!(matches!(server.wire.hear(&mut server.stream).await, Ok(Heard::Ready))) };
    tokio::join!(knows, is_ready);
    client.wire.conn.authenticated();
    server.wire.conn.authenticated();
    (client, server)
}

/// A relay between both, where a rule allows so much. `room` is what the server can send without being heard.
async fn relayed(allowed: &[Permission], room: usize) -> (Far, Far, JoinHandle<Outcome>) {
    let ((client, mut user), (mut upstream, server)) = (linked(PIPE).await, linked(room).await);
    let allowed = Channels::of(allowed.iter().copied());
    let ended = tokio::spawn(async move {
        let (user, upstream) = ((&mut user.wire, &mut user.stream), (&mut upstream.wire, &mut upstream.stream));
        pair::relayed(user, upstream, allowed).await
    });
    (client, server, ended)
}

/// The client opens a session: its number for the one side is 3, for the other 7.
async fn open_session(client: &mut Far, server: &mut Far) {
    client.says(&Message::Open { kind: b"session", sender: 3, window: 1 << 30, packet: 32 * 1024, rest: b"" }).await;
    server.hears().await.unwrap();
    server.says(&Message::Confirmation { recipient: 3, sender: 7, window: 1 << 20, packet: 32 * 1024, rest: b"" }).await;
    client.hears().await.unwrap();
}

/// What the server says before it leaves: more than waits for a client at once.
async fn says_much(server: &mut Far, bytes: usize) {
    let data = vec![b'x'; 16 * 1024];
    for _ in 0..bytes / data.len() {
        server.says(&Message::Data { recipient: 3, data: &data }).await;
    }
    server.says(&Message::Close { recipient: 3 }).await;
}

/// So many bytes, and the end of the channel.
async fn must_hear_much(client: &mut Far, bytes: usize) {
    let mut left = bytes;
    while left > 0 {
        let message = client.hears().await.unwrap();
        let Ok(Some(Message::Data { data, .. })) = Message::read(&message) else { panic!("data") };
        left -= data.len();
    }
    client.must_hear(&Message::Close { recipient: 3 }).await;
}

async fn must_hear_goodbye(client: &mut Far, wanted: &str) {
    match client.hears().await {
        Err(Silent::Goodbye(text)) => assert!(text.contains(wanted), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_a_server_said_before_its_goodbye_reaches_a_client_that_takes_its_time() {
    const BYTES: usize = 192 * 1024;
    let (mut client, mut server, ended) = relayed(&[], 1 << 20).await;
    open_session(&mut client, &mut server).await;
    says_much(&mut server, BYTES).await;
    server.wire.conn.disconnect(11, "I have to go");
    server.wire.flush(&mut server.stream).await.unwrap();
    // Longer than a goodbye of ours may take.
    tokio::time::sleep(told::PATIENCE + Duration::from_millis(500)).await;
    assert!(!ended.is_finished());
    must_hear_much(&mut client, BYTES).await;
    must_hear_goodbye(&mut client, "I have to go").await;
    assert_eq!(ended.await.unwrap().end, End::Upstream);
}

#[tokio::test]
async fn what_a_server_said_before_it_closed_reaches_a_client_that_still_speaks() {
    const BYTES: usize = 2 << 20;
    let (mut client, mut server, ended) = relayed(&[], 4 << 20).await;
    open_session(&mut client, &mut server).await;
    says_much(&mut server, BYTES).await;
    drop(server);
    // Nobody hears it any more, and that is no reason to lose what has been said.
    for _ in 0..10 {
        client.says(&Message::Data { recipient: 7, data: b"are you there?" }).await;
        tokio::task::yield_now().await;
    }
    must_hear_much(&mut client, BYTES).await;
    must_hear_goodbye(&mut client, "the server closed the connection").await;
    assert_eq!(ended.await.unwrap().end, End::Upstream);
}

#[tokio::test]
async fn what_a_server_said_last_is_heard_behind_more_than_it_may_ask_for_at_once() {
    const ASKED: usize = 1100;
    let (mut client, mut server, ended) = relayed(&[], 1 << 20).await;
    open_session(&mut client, &mut server).await;
    let asks = Message::Open { kind: b"x11", sender: 9, window: 1 << 20, packet: 32 * 1024, rest: b"" };
    for _ in 0..ASKED {
        server.says(&asks).await;
    }
    says_much(&mut server, 16 * 1024).await;
    drop(server);
    must_hear_much(&mut client, 16 * 1024).await;
    must_hear_goodbye(&mut client, "the server closed the connection").await;
    assert_eq!(ended.await.unwrap().end, End::Upstream);
}

#[tokio::test]
async fn a_refusal_is_told_also_where_nobody_waits_for_an_answer_or_there_is_no_session_yet() {
    let (mut client, mut server, ended) = relayed(&[Permission::Shell], PIPE).await;
    let forward = Message::GlobalRequest { name: b"tcpip-forward", wants_reply: true, rest: b"\0\0\0\0\0\0\x1f\x90" };
    client.says(&forward).await;
    client.says(&forward).await;
    for _ in 0..2 {
        server.hears().await.unwrap();
        server.says(&Message::RequestFailure).await;
        client.must_hear(&Message::RequestFailure).await;
    }
    open_session(&mut client, &mut server).await;
    let told = |message: Vec<u8>, what: &str| match Message::read(&message) {
        Ok(Some(Message::ExtendedData { recipient: 3, kind: 1, data })) => {
            let text = String::from_utf8_lossy(data).into_owned();
            assert!(text.contains(&format!("{what} is not allowed here (session ")), "{text}");
        }
        other => panic!("{other:?}"),
    };
    told(client.hears().await.unwrap(), "remote-forward");
    client.says(&Message::Request { recipient: 7, name: b"auth-agent-req@openssh.com", wants_reply: false, rest: b"" }).await;
    told(client.hears().await.unwrap(), "agent");
    // What is allowed goes on at once, and nothing is said of it.
    client.says(&Message::Request { recipient: 7, name: b"shell", wants_reply: true, rest: b"" }).await;
    server.must_hear(&Message::Request { recipient: 7, name: b"shell", wants_reply: true, rest: b"" }).await;
    server.says(&Message::Success { recipient: 3 }).await;
    client.must_hear(&Message::Success { recipient: 3 }).await;
    drop(client);
    assert_eq!(ended.await.unwrap().end, End::Client);
}
