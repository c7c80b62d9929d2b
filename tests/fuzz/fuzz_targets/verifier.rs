//! A user's stored password, as the file has it.
#![no_main]

use keyward_auth::Verifier;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(verifier) = Verifier::parse(text) {
        assert_eq!(verifier.serves_scram(), text.starts_with("SCRAM-SHA-256$"));
    }
});
