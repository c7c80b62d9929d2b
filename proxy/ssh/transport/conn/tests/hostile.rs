//! Every number of a message in every state of a transport, as client and as server: what becomes of it.

use super::*;
use crate::conn::exchange::Exchange;
use crate::kex;

/// Where a transport is when the message comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The peer said who it is and nothing else.
    Identified,
    /// The peer's first KEXINIT came, with strict key exchange …
    StrictHalves,
    /// … and without.
    LenientHalves,
    /// Both halves came; the peer's first NEWKEYS did not. Strict …
    StrictNewKeys,
    /// … and not.
    LenientNewKeys,
    /// The first keys are in use.
    BeforeLogin,
    /// So is everything.
    LoggedIn,
    /// The same, and our KEXINIT went out.
    Offered,
    /// The same, and the peer's came.
    Halves,
    /// The same, and both halves came.
    NewKeys,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Fatal,
    Ignored,
    Passed,
    Answered,
    Goodbye,
    Taken,
}

const STATES: [State; 10] = [
    State::Identified,
    State::StrictHalves,
    State::LenientHalves,
    State::StrictNewKeys,
    State::LenientNewKeys,
    State::BeforeLogin,
    State::LoggedIn,
    State::Offered,
    State::Halves,
    State::NewKeys,
];

/// The table. Rules 5, 6, 14, 16 and 24.
fn expected(state: State, number: u8) -> Outcome {
    use Outcome::{Answered, Fatal, Goodbye, Ignored, Passed, Taken};
    match (state, number) {
        (_, 0) => Fatal,
        (_, 1) => Goodbye,
        (State::StrictNewKeys | State::LenientNewKeys, 21) => Taken,
        (State::NewKeys, 21) => Ignored,
        // Every one of these has its turn, and only one; in its turn a half that is none is no better.
        (_, 21 | 30..=49) => Fatal,
        (State::Identified | State::BeforeLogin | State::LoggedIn, 20) => Answered,
        (State::Offered, 20) => Ignored,
        (_, 20) => Fatal,
        (State::StrictHalves | State::StrictNewKeys, _) => Fatal,
        (State::Identified | State::LenientHalves | State::LenientNewKeys | State::Halves | State::NewKeys, 2..=4) => Ignored,
        (State::Identified | State::LenientHalves | State::LenientNewKeys | State::Halves | State::NewKeys, _) => Fatal,
        (_, 2..=4 | 7 | 193) => Ignored,
        (State::BeforeLogin, 5 | 6 | 50..=79) => Passed,
        (State::BeforeLogin, 80..=127) => Fatal,
        (State::LoggedIn | State::Offered, 50..=79) => Ignored,
        (State::LoggedIn | State::Offered, 80..=127) => Passed,
        // What is not known is answered; during our own exchange that waits, see `held`.
        (_, _) => Answered,
    }
}

/// A message of this number that is well formed, as far as we read it.
fn message(number: u8, peer: &Conn) -> Vec<u8> {
    let mut message = vec![number];
    match number {
        1 => message.put_u32(11).put_string("bye").put_string(""),
        7 => message.put_u32(0),
        20 => {
            let kexinit = peer.offer.kexinit(peer.side, if peer.keys == Keys::None { Which::First } else { Which::Later }, [9; COOKIE]);
            return kexinit;
        }
        21 => &mut message,
        _ => message.put_string("x"),
    };
    message
}

fn pair(tested: Side, strict: bool) -> (Conn, Conn) {
    let (a, b) = match tested {
        Side::Client => (client(client_config()), server(server_config())),
        Side::Server => (server(server_config()), client(client_config())),
    };
    (a, if strict { b } else { lenient(b) })
}

/// A peer answers with its half and keeps its NEWKEYS back. Servers only: a client's half is followed by whatever it says next.
fn reply(server: &mut Conn, half: &[u8]) {
    let Exchange::Halves(halves) = std::mem::replace(&mut server.exchange, Exchange::Idle) else { panic!("no halves") };
    let agreed = *server.agreed().unwrap();
    let (reply, secret) = kex::answer(agreed.method, half).unwrap();
    let hash = server.hash(&halves, host_key().blob(), [half, &reply], &secret).unwrap();
    let mut message = vec![message::KEX_REPLY];
    message.put_string(host_key().blob()).put_string(&reply).put_string(host_key().sign(agreed.host_key, &hash).unwrap());
    server.outbound.seal(&message).unwrap();
}

/// A transport in this state, which has nothing to send, and its peer.
fn reach(state: State, tested: Side) -> (Conn, Conn) {
    let strict = !matches!(state, State::LenientHalves | State::LenientNewKeys);
    let (mut conn, mut peer) = pair(tested, strict);
    match state {
        State::Identified => {
            let output = drain(&mut peer);
            feed(&mut conn, split_ident(&output).0).unwrap();
        }
        State::StrictHalves | State::LenientHalves => drop(feed(&mut conn, &drain(&mut peer)).unwrap()),
        State::StrictNewKeys | State::LenientNewKeys => halves(&mut conn, &mut peer),
        State::BeforeLogin | State::LoggedIn | State::Offered | State::Halves | State::NewKeys => {
            settle(&mut conn, &mut peer).unwrap();
            if state != State::BeforeLogin {
                conn.authenticated();
                peer.authenticated();
            }
            match state {
                State::Offered => conn.rekey(),
                State::Halves | State::NewKeys => peer.rekey(),
                _ => {}
            }
            match state {
                State::Halves => drop(feed(&mut conn, &drain(&mut peer)).unwrap()),
                State::NewKeys => halves(&mut conn, &mut peer),
                _ => {}
            }
        }
    }
    drain(&mut conn);
    (conn, peer)
}

/// Both KEXINITs and both halves reach the tested one; the peer's NEWKEYS does not exist yet.
fn halves(conn: &mut Conn, peer: &mut Conn) {
    feed(conn, &drain(peer)).unwrap();
    if conn.side == Side::Server {
        feed(peer, &drain(conn)).unwrap();
    } else {
        let Exchange::Halves(halves) = &conn.exchange else { panic!("no halves") };
        let half = halves.client.as_ref().unwrap().public().to_vec();
        // The peer sees our KEXINIT, and answers our half by hand.
        let output = drain(conn);
        let packet = if peer.keys == Keys::None { 48 } else { 4 + 48 + 16 };
        peer.receive(&output[..output.len() - packet]);
        assert!(peer.step().unwrap().is_none());
        drain(peer);
        reply(peer, &half);
    }
    feed(conn, &drain(peer)).unwrap();
}

fn outcome(state: State, tested: Side, number: u8) -> Outcome {
    let (mut conn, mut peer) = reach(state, tested);
    let said = message(number, &peer);
    let packet = if state == State::Identified {
        clear(&said)
    } else {
        peer.outbound.seal(&said).unwrap();
        drain(&mut peer)
    };
    let came = feed(&mut conn, &packet);
    let answered = !conn.output().is_empty() || conn.held.bytes() > 0;
    match came {
        Err(fatal) => {
            assert!(matches!(fatal, Fatal::Protocol(_)), "{state:?} {tested:?} {number} {fatal:?}");
            Outcome::Fatal
        }
        Ok(seen) => match seen.as_slice() {
            [Seen::Message(message)] if *message == said => Outcome::Passed,
            [Seen::Disconnect(11, _)] => Outcome::Goodbye,
            [] if answered => Outcome::Answered,
            [] => Outcome::Ignored,
            [Seen::Ready] => Outcome::Taken,
            other => panic!("{other:?}"),
        },
    }
}

/// Rules 5, 6, 14, 16 and 24.
fn holds_for(tested: Side) {
    for state in STATES {
        for number in 0..=u8::MAX {
            assert_eq!(outcome(state, tested, number), expected_of(state, tested, number), "{state:?} {tested:?} {number}");
        }
    }
}

/// Where the two sides differ: a client answers a KEXINIT with its half at once.
fn expected_of(state: State, tested: Side, number: u8) -> Outcome {
    match (state, tested, number) {
        (State::Identified, Side::Server, 20) => Outcome::Ignored,
        (State::Offered, Side::Client, 20) => Outcome::Answered,
        _ => expected(state, number),
    }
}

#[test]
fn every_message_in_every_state_of_a_server() {
    holds_for(Side::Server);
}

#[test]
fn every_message_in_every_state_of_a_client() {
    holds_for(Side::Client);
}

/// The turns of a key exchange: out of turn each of its messages is fatal, well formed or not.
#[test]
fn a_client_that_awaits_a_decision_on_a_host_key_reads_nothing() {
    let (mut client, mut server) = (client(client_config()), server(server_config()));
    feed(&mut server, &drain(&mut client)).unwrap();
    client.receive(&drain(&mut server));
    assert_eq!(events(&mut client), Ok(vec![]));
    let output = drain(&mut client);
    feed(&mut server, &output).unwrap();
    let mut output = drain(&mut server);
    output.extend(clear(&[0]));
    client.receive(&output);
    assert_eq!(events(&mut client), Ok(vec![Seen::HostKey]));
    assert_eq!(events(&mut client), Ok(vec![]), "neither NEWKEYS nor what is wrong behind it");
    assert!(client.output().is_empty());
}
