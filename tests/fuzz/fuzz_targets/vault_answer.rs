//! What a Vault answers: the status in the first two bytes, then the body.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((status, body)) = bytes.split_first_chunk::<2>() else { return };
    let told = keyward_auth::fuzzing::answer(100 + u16::from_be_bytes(*status) % 500, body);
    assert!(told.iter().all(|line| line.len() < 2 * body.len() + 1024), "what an operator is told is bounded by what was said");
});
