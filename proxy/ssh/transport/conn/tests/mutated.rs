//! Handshakes that were changed on their way: no panic, and no two transports that believe in each other after it. The fuzz targets do more.

use super::*;

/// Changes some bytes in one of the ways that a fuzzer would.
fn mutate(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let at = dice.below(bytes.len());
    match dice.below(4) {
        0 => bytes[at] ^= 1 << dice.below(8),
        1 => bytes.truncate(at),
        2 => bytes.insert(at, u8::try_from(dice.below(256)).unwrap()),
        _ => {
            let end = (at + 1 + dice.below(40)).min(bytes.len());
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
    }
}

#[test]
fn no_changed_handshake_leads_to_a_connection() {
    let mut dice = Dice::new(4242);
    let (mut changed, mut same) = (0, 0);
    for round in 0..1500 {
        let (mut client, mut server) = (client(client_config()), server(server_config()));
        if round % 3 == 0 {
            client = lenient(client);
        }
        let mut mutations = dice.below(3);
        let untouched = mutations == 0;
        let mut done = [false; 2];
        for turn in 0..8 {
            let (from, to) = if turn % 2 == 0 { (&mut client, &mut server) } else { (&mut server, &mut client) };
            let mut bytes = drain(from);
            while mutations > 0 && !bytes.is_empty() && dice.below(2) == 0 {
                mutations -= 1;
                mutate(&mut bytes, &mut dice);
            }
            if let Ok(seen) = feed(to, &bytes) {
                done[turn % 2] |= seen.contains(&Seen::Ready);
            }
        }
        let both = done == [true; 2];
        if both {
            let told = |conn: &Conn| (conn.session_id().map(<[u8]>::to_vec), conn.is_strict(), conn.agreed().copied());
            assert_eq!(told(&client), told(&server), "two that believe in each other were told the same");
        }
        assert!(both || !untouched);
        same += usize::from(both);
        changed += usize::from(!both);
    }
    assert!(same > 100 && changed > 500, "{same} {changed}");
}

#[test]
fn no_bytes_make_a_transport_panic() {
    let mut dice = Dice::new(31337);
    for round in 0..3000 {
        let mut conn = if round % 2 == 0 { client(client_config()) } else { server(server_config()) };
        let mut bytes = b"SSH-2.0-x\r\n".to_vec();
        for _ in 0..dice.below(5) {
            let mut payload = vec![[1, 2, 5, 7, 20, 20, 20, 21, 30, 31, 50][dice.below(11)]];
            payload.extend((0..dice.below(60)).map(|_| if dice.below(2) == 0 { 0 } else { 44 }));
            bytes.extend(clear(&payload));
        }
        bytes.extend((0..dice.below(40)).map(|_| u8::try_from(dice.0 % 256).unwrap()));
        let _ = feed(&mut conn, &bytes);
        assert!(conn.session_id().is_none());
    }
}
