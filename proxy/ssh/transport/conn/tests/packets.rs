//! Packets as a transport takes them. Rules 11 and 12; the ciphers themselves are tested in cipher.rs.

use super::*;

/// Rule 11: 35,000 bytes before a login, 256 KiB after it.
#[test]
fn longer_packets_than_allowed_are_refused_before_they_are_kept() {
    for (logged_in, longest) in [(false, PACKET_BEFORE_LOGIN), (true, PACKET)] {
        for (length, taken) in [(longest / 8 * 8 - 100, true), (longest + 100, false)] {
            let (mut client, mut server) = connected(client_config(), server_config());
            if logged_in {
                client.authenticated();
                server.authenticated();
            }
            let number = if logged_in { 94 } else { 50 };
            client.outbound.seal(&vec![number; length]).unwrap();
            let output = drain(&mut client);
            if taken {
                let seen = feed(&mut server, &output).unwrap();
                assert!(matches!(&seen[..], [Seen::Message(message)] if message.len() == length), "{longest} {length}");
            } else {
                // Four bytes are enough to know it.
                assert_eq!(feed(&mut server, &output[..4]), Err(Fatal::Integrity), "{longest} {length}");
            }
        }
    }
}

/// Rule 11.
#[test]
fn a_packet_before_the_first_keys_is_bounded_too() {
    let mut server = server(server_config());
    let mut bytes = b"SSH-2.0-x\r\n".to_vec();
    bytes.extend_from_slice(&40_004_u32.to_be_bytes());
    assert_eq!(feed(&mut server, &bytes), Err(Fatal::Protocol("a packet has an impossible length")));
}

/// Rule 11: whatever comes, no more is kept than one packet and one read.
#[test]
fn the_input_is_bounded() {
    for logged_in in [false, true] {
        let (mut client, mut server) = connected(client_config(), server_config());
        if logged_in {
            server.authenticated();
        }
        client.authenticated();
        for number in 0..100 {
            client.send(&data(number, 30_000)).unwrap();
        }
        let taken = server.receive(client.output());
        assert!(taken <= if logged_in { 2 * 256 * 1024 } else { 2 * 4096 }, "{taken}");
        assert_eq!(server.receive(&client.output()[taken..]), 0);
        assert!(server.room().is_empty());
    }
}

/// Rule 11, through a whole transport.
#[test]
fn no_bit_can_be_changed() {
    let mut dice = Dice::new(99);
    for cipher in Cipher::ALL {
        for _ in 0..100 {
            let config = ClientConfig { ciphers: vec![cipher], ..client_config() };
            let (mut client, mut server) = logged_in_with(config, server_config());
            client.send(&data(1, dice.below(300))).unwrap();
            let mut packet = drain(&mut client);
            let bit = dice.below(packet.len() * 8);
            packet[bit / 8] ^= 1 << (bit % 8);
            // A length that has grown is waited for, and then it is wrong.
            packet.resize(PACKET * 2, 0);
            assert_eq!(feed(&mut server, &packet), Err(Fatal::Integrity), "{cipher:?} {bit}");
        }
    }
}

/// Rule 11: padding that does not fit, rightly sealed.
#[test]
fn a_rightly_sealed_packet_without_payload_is_refused() {
    let mut server = server(server_config());
    let mut bytes = b"SSH-2.0-x\r\n".to_vec();
    bytes.extend_from_slice(&[0, 0, 0, 12, 11, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(feed(&mut server, &bytes), Err(Fatal::Protocol("a packet has an impossible padding")));
}

/// Rule 12: neither side goes beyond 2^32 packets under one key.
#[test]
fn a_packet_number_never_comes_twice_under_one_key() {
    let (mut client, mut server) = logged_in();
    client.outbound.packets = PACKETS_MAX - 1;
    client.outbound.seal(&data(0, 1)).unwrap();
    assert_eq!(client.outbound.seal(&data(1, 1)), Err(Fatal::TooMuch("too many packets under one key")));
    let (mut peer, _) = logged_in();
    drop(drain(&mut peer));
    server.inbound.packets = PACKETS_MAX;
    // Our own limit for a rekey would have been at half of that: as if the peer did not answer.
    server.limits.rekey_packets = u64::MAX;
    assert_eq!(feed(&mut server, &drain(&mut client)), Err(Fatal::TooMuch("too many packets under one key")));
}

/// Whatever a message is cut into, it comes out the same.
#[test]
fn bytes_may_come_one_by_one() {
    let (mut client, mut server) = (client(client_config()), server(server_config()));
    let mut heard = Vec::new();
    client.send(&[5, 9]).unwrap();
    for _ in 0..4 {
        for byte in drain(&mut client) {
            heard.extend(feed(&mut server, &[byte]).unwrap());
        }
        for byte in drain(&mut server) {
            feed(&mut client, &[byte]).unwrap();
        }
    }
    assert_eq!(heard, vec![Seen::Ready, Seen::Message(vec![5, 9])]);
}

/// A password may be in what comes before a login; it is not left in memory that we still hold, whatever is called next.
#[test]
fn what_came_before_a_login_is_overwritten() {
    let next: [fn(&mut Conn); 4] = [
        |server| assert!(matches!(server.next(), Ok(None))),
        // It was the right one.
        Conn::authenticated,
        // What is read next needs its place.
        |server| assert!(!server.room().is_empty()),
        |server| assert_eq!(server.receive(b"1234"), 4),
    ];
    for next in next {
        let (mut client, mut server) = connected(client_config(), server_config());
        let holds = |server: &Conn| server.inbound.memory().windows(7).any(|window| window == b"correct");
        for message in [&[5; 2000][..], &[5; 2000], b"\x32correct horse battery staple"] {
            client.send(message).unwrap();
            let output = drain(&mut client);
            assert_eq!(server.receive(&output), output.len());
        }
        for _ in 0..3 {
            assert!(!holds(&server));
            assert!(matches!(server.next(), Ok(Some(Event::Message(_)))));
        }
        assert!(holds(&server));
        next(&mut server);
        assert!(!holds(&server));
    }
}
