//! The sealed packets were computed by another implementation (Python's cryptography) from RFC 5647 and PROTOCOL.chacha20poly1305.

use proptest::prelude::*;

use super::*;

fn hex(digits: &str) -> Vec<u8> {
    digits.as_bytes().chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

fn keys(cipher: Cipher) -> Keys {
    let (iv, key) = cipher.lengths();
    // The counter of the nonce is about to run over.
    let nonce = [&[1, 2, 3, 4][..], &[0xff; 8]].concat();
    Keys { cipher, iv: Zeroizing::new(nonce[..iv].to_vec()), key: Zeroizing::new((0..64).collect::<Vec<u8>>()[..key].to_vec()) }
}

fn both(cipher: Cipher) -> (Sealing, Opening) {
    (Sealing::new(&keys(cipher)).unwrap(), Opening::new(&keys(cipher)).unwrap())
}

/// A packet with zeros as padding, sealed.
fn seal(sealing: &mut Sealing, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let layout = sealing.layout(payload.len());
    let mut packet = u32::try_from(layout.length).unwrap().to_be_bytes().to_vec();
    packet.push(u8::try_from(layout.padding).unwrap());
    packet.extend_from_slice(payload);
    packet.resize(layout.whole, 0);
    sealing.seal(sequence, &mut packet).unwrap();
    packet
}

fn open(opening: &mut Opening, sequence: u32, packet: &[u8], longest: usize) -> Result<Vec<u8>, Fatal> {
    let whole = opening.whole(sequence, *packet.first_chunk().unwrap(), longest)?;
    let mut packet = packet.get(..whole).ok_or(Fatal::Protocol("the packet would be longer"))?.to_vec();
    let payload = opening.open(sequence, &mut packet)?;
    Ok(packet[BEFORE..BEFORE + payload].to_vec())
}

const PAYLOAD: &[u8] = b"\x5ehello";

/// Rule 12: the number of the packet is the nonce.
#[test]
fn chacha20_poly1305_is_that_of_openssh() {
    let (mut sealing, mut opening) = both(Cipher::ChaCha20Poly1305);
    for (sequence, packet) in [
        (5, "9dd81a6cc5968b794ef3f633a98e43b0cc1c097c8d0c703bda6ba22f626ed97cce9792b8"),
        (u32::MAX, "b90ee4a000cc64fec268bbe29636abb2728602ae8f6d340eff2f517d92d5433ba49c95ac"),
    ] {
        assert_eq!(seal(&mut sealing, sequence, PAYLOAD), hex(packet));
        assert_eq!(open(&mut opening, sequence, &hex(packet), 100).unwrap(), PAYLOAD);
    }
}

/// Rule 12: four bytes of the nonce stay, eight count this key's packets, whatever number a packet has.
#[test]
fn the_nonce_of_gcm_counts_the_packets_of_a_key() {
    let (mut sealing, mut opening) = both(Cipher::Aes256Gcm);
    for packet in [
        "000000107862d14133ad0d1b61b2d13e20cd996634cb1f08cb999a26c2b6b3ad1464a7a7",
        "00000010280bb5387bfd1771fbe797bbb0c0b76e5138ad5b1b6e3d693e64d068ed97c44f",
    ] {
        assert_eq!(seal(&mut sealing, 77, PAYLOAD), hex(packet));
        assert_eq!(open(&mut opening, 99, &hex(packet), 100).unwrap(), PAYLOAD);
    }
    let (mut sealing, _) = both(Cipher::Aes128Gcm);
    let sealed = [(); 3].map(|()| seal(&mut sealing, 0, PAYLOAD));
    assert_eq!(sealed[0], hex("0000001062e6c29d644749dbf5f4f7230fea77a43dc9c52a704fbcba3fccf2bae0e73b46"));
    assert_eq!(sealed[2], hex("00000010a3a83b225d27fdd01b4f6a770adb31bfb92860b545f2c732c7696e2e54f70dba"));
}

/// Rule 11, in clear; a cipher's own lengths below.
#[test]
fn a_length_is_checked_before_anything_else() {
    let clear = Opening::clear();
    for (length, fine) in
        [(0_u32, false), (4, false), (5, false), (12, true), (13, false), (20, true), (100, true), (108, false), (u32::MAX, false)]
    {
        let whole = clear.whole(0, length.to_be_bytes(), 100);
        assert_eq!(
            whole,
            if fine { Ok(length as usize + 4) } else { Err(Fatal::Protocol("a packet has an impossible length")) },
            "{length}"
        );
    }
    let (_, gcm) = both(Cipher::Aes256Gcm);
    for (length, fine) in [(0_u32, false), (12, false), (16, true), (17, false), (32, true), (96, true), (112, false), (u32::MAX, false)] {
        assert_eq!(gcm.whole(0, length.to_be_bytes(), 100).ok(), fine.then_some(length as usize + 4 + TAG), "{length}");
    }
}

/// Rule 11.
#[test]
fn a_packet_has_a_payload_and_a_padding_of_four() {
    let packet = |padding: u8| [&[0, 0, 0, 12, padding][..], &[94; 11]].concat();
    let opened = |padding| open(&mut Opening::clear(), 0, &packet(padding), 100).map(|payload| payload.len());
    assert_eq!(opened(4), Ok(7));
    assert_eq!(opened(10), Ok(1));
    for padding in [0, 3, 11, 12, 255] {
        assert_eq!(opened(padding), Err(Fatal::Protocol("a packet has an impossible padding")), "{padding}");
    }
}

/// Rule 11: the same for whatever was changed, once there are keys.
#[test]
fn no_changed_bit_passes() {
    for cipher in Cipher::ALL {
        let packet = seal(&mut both(cipher).0, 5, PAYLOAD);
        for bit in 0..packet.len() * 8 {
            let mut changed = packet.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            // Room for a length that has grown.
            changed.resize(1000, 0);
            let opened = open(&mut both(cipher).1, 5, &changed, 900);
            assert_eq!(opened, Err(Fatal::Integrity), "{cipher:?} {bit}");
        }
        assert_eq!(open(&mut both(cipher).1, 5, &packet, 900).unwrap(), PAYLOAD);
    }
}

#[test]
fn a_packet_under_another_number_or_key_does_not_pass() {
    let packet = seal(&mut both(Cipher::ChaCha20Poly1305).0, 5, PAYLOAD);
    assert!(open(&mut both(Cipher::ChaCha20Poly1305).1, 6, &packet, 100).is_err());
    let (mut sealing, mut opening) = both(Cipher::Aes256Gcm);
    let [first, second] = [(); 2].map(|()| seal(&mut sealing, 0, PAYLOAD));
    assert!(open(&mut both(Cipher::Aes256Gcm).1, 0, &second, 100).is_err(), "one was left out");
    assert!(open(&mut opening, 0, &first, 100).is_ok());
    assert!(open(&mut opening, 0, &first, 100).is_err(), "one came twice");
    assert!(open(&mut both(Cipher::Aes128Gcm).1, 0, &first, 100).is_err());
}

proptest! {
    /// Rule 11, as we keep it ourselves.
    #[test]
    fn what_is_sealed_is_laid_out_well_and_opened(payload in prop::collection::vec(any::<u8>(), 1..600), number in 0..4_usize, sequence: u32) {
        let (mut sealing, mut opening) = match Cipher::ALL.get(number) {
            Some(cipher) => both(*cipher),
            None => (Sealing::clear(), Opening::clear()),
        };
        let layout = sealing.layout(payload.len());
        prop_assert!((4..=24).contains(&layout.padding));
        prop_assert_eq!(layout.length, 1 + payload.len() + layout.padding);
        let packet = seal(&mut sealing, sequence, &payload);
        prop_assert_eq!(open(&mut opening, sequence, &packet, layout.length), Ok(payload.clone()));
    }

    #[test]
    fn whatever_comes_is_opened_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 4..100), number in 0..4_usize) {
        let mut opening = Cipher::ALL.get(number).map_or(Opening::clear(), |cipher| both(*cipher).1);
        let _ = opening.whole(0, *bytes.first_chunk().unwrap(), 100);
        let opened = opening.open(0, &mut bytes);
        prop_assert!(opened.is_err() || number == 3);
    }
}
