//! The counter of message boundaries, against a parser that sees all bytes at once. The first bytes say how the rest is cut.
#![no_main]

use keyward::postgres::framer::Messages;
use keyward::relay::Framer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<u8>, &[u8])| {
    let (cuts, bytes) = input;
    let (mut framer, mut passed, mut cuts) = (Messages::default(), 0, cuts.into_iter().cycle());
    while passed < bytes.len() {
        let piece = usize::from(cuts.next().unwrap_or(7)).clamp(1, bytes.len() - passed);
        framer.pass(&bytes[passed..passed + piece]);
        passed += piece;
        let missing = missing(&bytes[..passed]);
        let said = framer.to_boundary();
        assert_eq!(said == 0, missing == 0, "a boundary after {passed} bytes");
        assert!(said <= missing, "never past a boundary: {said} > {missing}");
    }
});

/// How much of the last message is not there yet. Of a header that is cut only its own rest is known.
fn missing(bytes: &[u8]) -> usize {
    let mut at = 0_usize;
    while at < bytes.len() {
        let Some(header) = bytes.get(at..at + 5) else { return at + 5 - bytes.len() };
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        at += 5 + (length as usize).saturating_sub(4);
    }
    at - bytes.len()
}
