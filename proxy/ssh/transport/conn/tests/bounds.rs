//! What a peer can make us keep or do. Rule 15.

use std::time::Duration;

use super::held::{ANSWERS_MAX, HELD_MAX};
use super::*;

#[test]
fn what_waits_for_the_end_of_an_exchange_is_bounded() {
    let (mut client, _server) = logged_in();
    client.rekey();
    let message = data(0, 32_000);
    let mut held = 0;
    let fatal = loop {
        match client.send(&message) {
            Ok(()) => held += message.len(),
            Err(fatal) => break fatal,
        }
        assert!(held <= HELD_MAX);
    };
    assert!(held > HELD_MAX - 200_000);
    assert_eq!(fatal, Fatal::TooMuch("too much waits for the end of a key exchange"));
}

/// CVE-2025-26466 was one of these: whoever asks and does not read is cut; whoever reads may ask for ever.
#[test]
fn answers_that_nobody_reads_are_bounded() {
    for number in [message::PING, 250] {
        for rekeying in [false, true] {
            let (mut client, mut server) = logged_in();
            let mut question = vec![number];
            question.put_string("x");
            if rekeying {
                server.rekey();
            }
            let mut asked = 0;
            let fatal = loop {
                client.outbound.seal(&question).unwrap();
                match feed(&mut server, &drain(&mut client)) {
                    Ok(_) => asked += 1,
                    Err(fatal) => break fatal,
                }
                assert!(asked <= ANSWERS_MAX);
            };
            assert_eq!((asked, fatal), (ANSWERS_MAX, Fatal::TooMuch("the peer does not read our answers")), "{number}");
            assert!(server.backlog() < 1 << 20);
        }
        let (mut client, mut server) = logged_in();
        for _ in 0..3 * ANSWERS_MAX {
            let mut question = vec![number];
            question.put_string("x");
            client.outbound.seal(&question).unwrap();
            settle(&mut client, &mut server).unwrap();
        }
    }
}

/// A ping comes back with all that it holds, and nobody needs to be logged in for that.
#[test]
fn answers_that_nobody_reads_are_bounded_in_bytes_too() {
    for rekeying in [false, true] {
        let (mut client, mut server) = connected(client_config(), server_config());
        if rekeying {
            server.begin_exchange().unwrap();
        }
        let mut ping = vec![message::PING];
        ping.put_string(vec![7; 30_000]);
        let fatal = loop {
            client.outbound.seal(&ping).unwrap();
            if let Err(fatal) = feed(&mut server, &drain(&mut client)) {
                break fatal;
            }
            assert!(server.backlog() < 1 << 20, "{}", server.backlog());
        };
        assert_eq!(fatal, Fatal::TooMuch("the peer does not read our answers"));
    }
    // Whoever reads may send as large ones as he likes.
    let (mut client, mut server) = logged_in();
    for _ in 0..100 {
        let mut ping = vec![message::PING];
        ping.put_string(vec![7; 200_000]);
        client.outbound.seal(&ping).unwrap();
        settle(&mut client, &mut server).unwrap();
    }
}

/// What is relayed to a slow peer is not its own doing.
#[test]
fn messages_that_wait_do_not_count_as_answers() {
    let (mut client, mut server) = logged_in();
    for number in 0..2 * u32::try_from(ANSWERS_MAX).unwrap() {
        server.send(&data(number, 1)).unwrap();
    }
    let mut ping = vec![message::PING];
    ping.put_string("x");
    client.outbound.seal(&ping).unwrap();
    assert_eq!(feed(&mut server, &drain(&mut client)), Ok(vec![]));
}

#[test]
fn pings_are_answered_with_what_they_hold() {
    let (mut client, mut server) = logged_in();
    let mut ping = vec![message::PING];
    ping.put_string("anything");
    client.outbound.seal(&ping).unwrap();
    server.receive(&drain(&mut client));
    assert!(matches!(server.next(), Ok(None)));
    client.receive(&drain(&mut server));
    let packet = client.inbound.packet(PACKET).unwrap().unwrap();
    ping[0] = message::PONG;
    assert_eq!(client.inbound.payload(packet.payload), ping);
}

#[test]
fn extensions_are_bounded_in_number() {
    let say = |messages: &[Vec<u8>]| {
        let (mut client, mut server) = connected(client_config(), server_config());
        messages.iter().for_each(|message| server.outbound.seal(message).unwrap());
        feed(&mut client, &drain(&mut server)).map(|_| client.extensions().clone())
    };
    let ext_info = |count: u32, pairs: &[(&str, &str)]| {
        let mut message = vec![message::EXT_INFO];
        message.put_u32(count);
        for (name, value) in pairs {
            message.put_string(name).put_string(value);
        }
        message
    };
    // The server's own is the first of two.
    let one = ext_info(2, &[("server-sig-algs", "rsa-sha2-256,x,ssh-ed25519"), ("unknown@example.com", "\0")]);
    assert_eq!(say(std::slice::from_ref(&one)).unwrap().signature_algorithms, Some(vec!["rsa-sha2-256", "ssh-ed25519"]));
    assert!(say(&[one.clone(), one]).is_err());
    assert!(say(&[ext_info(1024, &[("a", "b"); 1024])]).is_ok());
    assert_eq!(say(&[ext_info(1025, &[("a", "b"); 1025])]), Err(Fatal::TooMuch("too many extensions")));
    assert!(say(&[ext_info(u32::MAX, &[])]).is_err());
    assert!(say(&[ext_info(2, &[("a", "b")])]).is_err());
    assert!(say(&[ext_info(0, &[("a", "b")])]).is_err());
    let twice = "ssh-ed25519,".repeat(2000);
    let kept = say(&[ext_info(1, &[("server-sig-algs", &twice)])]).unwrap().signature_algorithms.unwrap();
    assert!(kept.len() <= crate::key::SIGNATURE_ALGORITHMS.len());
}

/// A server says what it can do behind its first NEWKEYS, to a client that asked for it.
#[test]
fn a_client_that_asks_hears_what_the_server_can_do() {
    let (client, server) = connected(client_config(), server_config());
    let heard = client.extensions();
    assert_eq!(heard.signature_algorithms.as_deref(), Some(&crate::key::SIGNATURE_ALGORITHMS[..]));
    assert!(heard.ping && heard.hostbound);
    assert_eq!(server.extensions(), &Extensions::default());
    let (mut client, mut server) = (lenient(client_again()), server_again());
    settle(&mut client, &mut server).unwrap();
    assert_eq!(client.extensions().signature_algorithms, None);
}

fn client_again() -> Conn {
    client(client_config())
}

fn server_again() -> Conn {
    server(server_config())
}

/// Each costs us a signature.
#[test]
fn key_exchanges_before_a_login_are_bounded() {
    let (mut client, mut server) = connected(client_config(), server_config());
    let mut again = || {
        client.begin_exchange().unwrap();
        settle(&mut client, &mut server).map(drop)
    };
    assert_eq!(again(), Ok(()));
    assert_eq!(again(), Err(Fatal::TooMuch("too many key exchanges before the login")));
    let (mut client, mut server) = logged_in();
    for _ in 0..10 {
        client.rekey();
        settle(&mut client, &mut server).unwrap();
    }
    assert_eq!(server.exchanges(), 11);
}

/// While bytes flow their memory is kept, and of a session that is quiet nothing.
#[test]
fn a_quiet_session_keeps_no_memory() {
    let (mut client, mut server) = logged_in();
    let begin = Instant::now();
    let after = |seconds: u64| begin + Duration::from_secs(seconds);
    let held = |server: &mut Conn| server.inbound.queue().memory().len() + server.outbound.buffer.memory().len();
    let burst = |client: &mut Conn, server: &mut Conn| {
        for number in 0..8 {
            client.send(&data(number, 30_000)).unwrap();
            server.send(&data(number, 10_000)).unwrap();
        }
        settle(client, server).unwrap();
    };
    burst(&mut client, &mut server);
    let most = held(&mut server);
    assert!(most >= 128 * 1024, "{most}");
    assert_eq!(server.tick(begin), Ok(Some(after(5))));
    burst(&mut client, &mut server);
    assert_eq!(server.tick(after(4)), Ok(Some(after(9))), "something came");
    // Room for more is no traffic.
    server.room();
    assert_eq!(server.tick(after(8)), Ok(Some(after(9))));
    assert_eq!(held(&mut server), most, "kept for the next burst");
    let next = server.tick(after(9)).unwrap();
    assert_eq!((held(&mut server), next > Some(after(60))), (0, true));
    server.room();
    server.tick(after(10)).unwrap();
    assert_eq!(held(&mut server), 0);
    // What waits is kept, whoever waits for it.
    server.send(&data(9, 1)).unwrap();
    client.send(&data(9, 1000)).unwrap();
    let output = drain(&mut client);
    server.receive(&output[..500]);
    server.tick(after(20)).unwrap();
    server.tick(after(40)).unwrap();
    let half = server.receive(&output[500..]);
    assert_eq!((half, events(&mut server).unwrap().len()), (output.len() - 500, 1));
    assert_eq!(feed(&mut client, &drain(&mut server)).unwrap().len(), 1);
    burst(&mut client, &mut server);
}

/// A relay could not pass it on.
#[test]
fn a_message_that_fits_into_no_packet_of_another_cipher_is_refused() {
    for (length, fits) in [(PAYLOAD_MAX, true), (PAYLOAD_MAX + 1, false)] {
        let (mut client, mut server) = logged_in();
        client.outbound.seal(&vec![94; length]).unwrap();
        let fed = feed(&mut server, &drain(&mut client));
        assert_eq!(fed.err(), (!fits).then_some(Fatal::TooMuch("a message is too long")));
        assert_eq!(client.send(&vec![94; length]).is_ok(), fits);
    }
}

#[test]
fn the_layers_above_cannot_send_what_is_the_transports_own() {
    for number in [0, 1, 2, 3, 4, 7, 20, 21, 30, 31, 49, 128, 192, 255] {
        let (mut client, _server) = logged_in();
        assert!(client.send(&[number]).is_err(), "{number}");
    }
    assert!(logged_in().0.send(&[]).is_err());
}
