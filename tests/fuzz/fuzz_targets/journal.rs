//! The lease journal that the last process left, as the disk has it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| assert!(keyward_auth::fuzzing::journal(bytes), "a compaction keeps what is open"));
