//! Key exchanges: strictness, their turns, when they begin, and what goes on meanwhile. Rules 2, 5, 6, 8, 10, 13 and 14.

use std::time::Duration;

use super::*;

/// Rule 5, CVE-2023-48795: somebody in between slips a packet in before the first keys, wherever there is a place, so that the first packet
/// behind them can be left out unseen.
#[test]
fn a_packet_that_was_slipped_in_before_the_first_keys_is_fatal() {
    for kind in [2_u8, 3, 4, 7, 192] {
        let slipped = clear(&[&[kind][..], &[0; 8]].concat());
        for place in 0..2 {
            let (mut client, mut server) = (client(client_config()), server(server_config()));
            let output = drain(&mut client);
            let (ident, kexinit) = split_ident(&output);
            let bytes = if place == 0 { [ident, &slipped, kexinit].concat() } else { [ident, kexinit, &slipped].concat() };
            assert!(matches!(feed(&mut server, &bytes), Err(Fatal::Protocol(_))), "to the server: {kind} {place}");
            let (mut client, mut server) = (client_again(), server_again());
            let output = drain(&mut server);
            let (ident, kexinit) = split_ident(&output);
            let bytes = if place == 0 { [ident, &slipped, kexinit].concat() } else { [ident, kexinit, &slipped].concat() };
            assert!(matches!(feed(&mut client, &bytes), Err(Fatal::Protocol(_))), "to the client: {kind} {place}");
        }
    }
}

fn client_again() -> Conn {
    client(client_config())
}

fn server_again() -> Conn {
    server(server_config())
}

/// Rule 5: both numbers begin again with every NEWKEYS, also where the later KEXINITs say nothing of it; else they never do.
#[test]
fn sequence_numbers_begin_again_with_all_keys_of_a_strict_connection_only() {
    for strict in [true, false] {
        let (mut client, mut server) = (client(client_config()), server(server_config()));
        if !strict {
            client = lenient(client);
        }
        settle(&mut client, &mut server).unwrap();
        client.authenticated();
        server.authenticated();
        assert_eq!([client.is_strict(), server.is_strict()], [strict; 2]);
        for exchange in 0..3 {
            for number in 0..10 {
                client.send(&data(number, 1)).unwrap();
            }
            settle(&mut client, &mut server).unwrap();
            assert_eq!(client.outbound.sequence, server.inbound.sequence);
            assert_eq!(server.outbound.sequence, client.inbound.sequence);
            let kept = client.outbound.sequence > 10 * (exchange + 1);
            assert_eq!(kept, !strict, "{} after {exchange}", client.outbound.sequence);
            if exchange % 2 == 0 {
                client.rekey()
            } else {
                server.rekey()
            }
            settle(&mut client, &mut server).unwrap();
            if strict {
                assert_eq!((client.outbound.sequence, server.inbound.sequence), (0, 0));
            }
        }
        assert_eq!(client.exchanges(), 4);
    }
}

/// Rule 5: OpenSSH leaves its name for it away in later KEXINITs, others do not; neither changes anything.
#[test]
fn strictness_is_settled_by_the_first_exchange() {
    let (mut client, mut server) = logged_in();
    let kexinit = client.offer.kexinit(Side::Client, Which::First, [1; COOKIE]);
    client.outbound.seal(&kexinit).unwrap();
    client.exchange = Exchange::Offered(kexinit);
    settle(&mut client, &mut server).unwrap();
    assert!(client.is_strict() && server.is_strict());
    let (mut client, mut server) = (lenient(client_again()), server_again());
    settle(&mut client, &mut server).unwrap();
    client.authenticated();
    server.authenticated();
    let kexinit = client.offer.kexinit(Side::Client, Which::First, [1; COOKIE]);
    client.outbound.seal(&kexinit).unwrap();
    client.exchange = Exchange::Offered(kexinit);
    settle(&mut client, &mut server).unwrap();
    assert!(!client.is_strict() && !server.is_strict());
}

/// Rule 5: where it is demanded, it is so once.
#[test]
fn strictness_is_not_asked_for_again() {
    let limits = Limits { strict: Demand::Required, ..Limits::default() };
    let (mut client, mut server) = logged_in_with(ClientConfig { limits, ..client_config() }, ServerConfig { limits, ..server_config() });
    client.rekey();
    assert!(settle(&mut client, &mut server).is_ok());
    assert_eq!((client.exchanges(), server.exchanges()), (2, 2));
}

/// Rule 6.
#[test]
fn a_peer_without_strict_key_exchange_can_be_turned_away() {
    let limits = Limits { strict: Demand::Required, ..Limits::default() };
    let mut server = server(ServerConfig { limits, ..server_config() });
    let fatal = Err(Fatal::NotStrict);
    assert_eq!(feed(&mut server, &drain(&mut lenient(client_again()))), fatal);
    let mut client = client(ClientConfig { limits, ..client_config() });
    assert_eq!(feed(&mut client, &drain(&mut lenient(server_again()))), fatal);
}

/// Rule 2: exactly one packet, and only of the method's.
#[test]
fn a_wrong_guess_is_thrown_away_once() {
    for guesses in [1, 2] {
        let methods = vec![Method::MlKem768X25519, Method::Curve25519];
        let mut server = server(ServerConfig { methods, ..server_config() });
        let mut client = client_again();
        let output = drain(&mut client);
        let (ident, _) = split_ident(&output);
        let mut kexinit = client.offer.kexinit(Side::Client, Which::First, [1; COOKIE]);
        let follows = kexinit.len() - 5;
        kexinit[follows] = 1;
        client.exchange = Exchange::Offered(kexinit.clone());
        let mut guess = vec![message::KEX_INIT];
        guess.put_string([9; 32]);
        let bytes = [ident.to_vec(), clear(&kexinit), clear(&guess).repeat(guesses)].concat();
        client.outbound.sequence += 1;
        let fed = feed(&mut server, &bytes);
        if guesses == 2 {
            // The second is taken for the real one, and the exchange with it comes to nothing.
            assert!(fed.is_err() || server.host_blob.is_some());
            continue;
        }
        assert_eq!(fed, Ok(vec![]));
        assert_eq!(server.agreed().unwrap().guess, Guess::Wrong);
        let [_, heard] = settle(&mut client, &mut server).unwrap();
        assert_eq!(heard, vec![Seen::Ready]);
    }
}

/// Rule 2, of a server that guesses. What it sends too early is a reply to nobody; what follows is read as if nothing had come before it.
#[test]
fn a_client_throws_one_packet_of_a_wrong_guess_away_and_none_of_a_right_one() {
    let (right, wrong) = (Method::Curve25519, Method::MlKem768X25519);
    for (first, guess, sent, met) in [
        (right, Guess::None, 0, true),
        (right, Guess::None, 1, false),
        (wrong, Guess::Wrong, 0, false),
        (wrong, Guess::Wrong, 1, true),
        (wrong, Guess::Wrong, 2, false),
    ] {
        let (mut client, mut server) = (client_again(), server(ServerConfig { methods: vec![first, right], ..server_config() }));
        let output = drain(&mut server);
        let (ident, _) = split_ident(&output);
        let mut kexinit = server.offer.kexinit(Side::Server, Which::First, [1; COOKIE]);
        let follows = kexinit.len() - 5;
        kexinit[follows] = 1;
        server.exchange = Exchange::Offered(kexinit.clone());
        let mut reply = vec![message::KEX_REPLY];
        reply.put_string(b"a host key").put_string([9; 32]).put_string(b"a signature");
        let bytes = [ident.to_vec(), clear(&kexinit), clear(&reply).repeat(sent)].concat();
        let fed = feed(&mut client, &bytes);
        assert_eq!(client.agreed().map(|agreed| (agreed.method, agreed.guess)), Some((right, guess)));
        let ready = fed.and_then(|heard| {
            assert_eq!(heard, []);
            settle(&mut client, &mut server)
        });
        let both = [vec![Seen::HostKey, Seen::Ready], vec![Seen::Ready]];
        assert_eq!(ready == Ok(both), met, "{first:?} and {sent} packets: {ready:?}");
    }
}

/// Rule 8.
#[test]
fn the_session_keeps_its_first_hash() {
    let (mut client, mut server) = logged_in();
    let session = client.session_id().unwrap().to_vec();
    for _ in 0..3 {
        client.rekey();
        settle(&mut client, &mut server).unwrap();
        assert_eq!((client.session_id(), server.session_id()), (Some(&session[..]), Some(&session[..])));
    }
    assert_eq!(client.exchanges(), 4);
    assert_ne!(connected(client_config(), server_config()).0.session_id(), Some(&session[..]));
}

/// Rule 13: after so many bytes, or so many packets, in either direction, whoever sent them.
#[test]
fn keys_are_exchanged_again_after_so_much() {
    let limits = Limits { rekey_bytes: 100_000, ..Limits::default() };
    let packets = Limits { rekey_packets: 50, ..Limits::default() };
    for limits in [limits, packets] {
        for limited in [Side::Client, Side::Server] {
            for sends in [Side::Client, Side::Server] {
                let of = |side| if side == limited { limits } else { Limits::default() };
                let client_config = ClientConfig { limits: of(Side::Client), ..client_config() };
                let server_config = ServerConfig { limits: of(Side::Server), ..server_config() };
                let (mut client, mut server) = logged_in_with(client_config, server_config);
                for number in 0..200 {
                    if sends == Side::Client { &mut client } else { &mut server }.send(&data(number, 2000)).unwrap();
                    settle(&mut client, &mut server).unwrap();
                }
                assert!((4..=6).contains(&client.exchanges()), "{limited:?} {sends:?} {}", client.exchanges());
            }
        }
    }
}

/// Rule 13.
#[test]
fn nobody_begins_an_exchange_before_the_login() {
    let limits = Limits { rekey_bytes: 1, rekey_packets: 1, rekey_after: Duration::ZERO, ..Limits::default() };
    let (mut client, mut server) = connected(ClientConfig { limits, ..client_config() }, ServerConfig { limits, ..server_config() });
    client.rekey();
    client.send(&[50, 1]).unwrap();
    client.tick(Instant::now() + Duration::from_secs(1)).unwrap();
    settle(&mut client, &mut server).unwrap();
    assert_eq!((client.exchanges(), server.exchanges()), (1, 1));
    client.authenticated();
    client.send(&[80, 1]).unwrap();
    assert!(client.in_exchange());
}

/// Rule 13: by time, if anything was sealed with the keys.
#[test]
fn keys_grow_old_if_they_were_used() {
    let (mut client, mut server) = logged_in();
    let begin = Instant::now();
    let later = |minutes: u64| begin + Duration::from_secs(60 * minutes);
    client.rekey();
    settle(&mut client, &mut server).unwrap();
    assert_eq!(client.renewal(later(0)), Ok(Some(later(60))));
    assert_eq!(client.renewal(later(200)), Ok(Some(later(260))));
    assert!(!client.in_exchange(), "nothing was sealed with these keys");
    client.send(&data(0, 1)).unwrap();
    assert_eq!(client.renewal(later(259)), Ok(Some(later(260))));
    assert!(!client.in_exchange());
    assert_eq!(client.renewal(later(260)), Ok(Some(later(270))));
    assert!(client.in_exchange());
    settle(&mut client, &mut server).unwrap();
    assert_eq!(client.renewal(later(261)), Ok(Some(later(321))));
}

/// Rule 13: a peer that does not finish.
#[test]
fn an_exchange_has_to_end() {
    let begin = Instant::now();
    let after = |seconds: u64| begin + Duration::from_secs(seconds);
    let mut silent = Conn::new(Role::Server(Arc::new(server_config())), Box::new(Dice::new(1)), begin);
    assert_eq!(silent.tick(after(29)), Ok(Some(after(30))));
    assert_eq!(silent.tick(after(30)), Err(Fatal::TimedOut));
    assert_eq!(silent.tick(begin), Err(Fatal::TimedOut));
    let (mut client, _server) = logged_in();
    assert!(client.tick(begin).is_ok());
    client.rekey();
    // Nobody had said what time it was for long; that must not count against the peer.
    assert_eq!(client.renewal(after(3000)), Ok(Some(after(3600))));
    assert_eq!(client.renewal(after(3599)), Ok(Some(after(3600))));
    assert_eq!(client.tick(after(3600)), Err(Fatal::TimedOut));
}

/// Rule 14: what we want to say meanwhile waits, and comes in its order.
#[test]
fn between_kexinit_and_newkeys_nothing_else_goes_out() {
    let (mut client, mut server) = logged_in();
    client.send(&data(0, 1)).unwrap();
    client.rekey();
    let before = client.output().len();
    for number in 1..4 {
        client.send(&data(number, 1)).unwrap();
        assert_eq!(client.output().len(), before);
        assert!(client.backlog() > before);
    }
    // The peer has not heard of it and goes on; it is heard.
    server.send(&data(7, 1)).unwrap();
    assert_eq!(feed(&mut client, &drain(&mut server)), Ok(vec![Seen::Message(data(7, 1))]));
    let [_, heard] = settle(&mut client, &mut server).unwrap();
    assert_eq!(heard, (0..4).map(|number| Seen::Message(data(number, 1))).collect::<Vec<_>>());
    assert_eq!(client.exchanges(), 2);
}

/// Both may begin at once, and messages may lie between.
#[test]
fn two_that_begin_at_once_exchange_keys_once() {
    let (mut client, mut server) = logged_in();
    client.rekey();
    server.rekey();
    client.rekey();
    let [_, _] = settle(&mut client, &mut server).unwrap();
    assert_eq!((client.exchanges(), server.exchanges()), (2, 2));
    assert!(!client.in_exchange() && !server.in_exchange());
}

/// A client's first request may come in the same read as its NEWKEYS.
#[test]
fn what_comes_together_with_newkeys_is_heard_behind_it() {
    let (mut client, mut server) = (client_again(), server_again());
    client.send(&[5, 1]).unwrap();
    assert!(client.held.bytes() > 0, "nothing of ours before there are keys");
    let [_, heard] = settle(&mut client, &mut server).unwrap();
    assert_eq!(heard, vec![Seen::Ready, Seen::Message(vec![5, 1])]);
}

/// Rule 10: what was sealed under the keys of one exchange opens under those of no other, though its number comes again.
#[test]
fn every_exchange_has_keys_of_its_own() {
    let config = ClientConfig { ciphers: vec![Cipher::ChaCha20Poly1305], ..client_config() };
    let (mut client, mut server) = logged_in_with(config, server_config());
    client.rekey();
    settle(&mut client, &mut server).unwrap();
    client.send(&data(0, 16)).unwrap();
    let packet = drain(&mut client);
    assert_eq!(server.inbound.sequence, 0);
    assert_eq!(feed(&mut server, &packet), Ok(vec![Seen::Message(data(0, 16))]));
    client.rekey();
    settle(&mut client, &mut server).unwrap();
    assert_eq!(server.inbound.sequence, 0);
    assert_eq!(feed(&mut server, &packet), Err(Fatal::Integrity));
}
