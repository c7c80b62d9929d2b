//! Whatever a server may send to a transport: before there are keys, and behind a first exchange. See `keyward_ssh_transport::fuzzing`.
#![no_main]

use keyward_ssh_transport::{Side, fuzzing};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzzing::against(Side::Client, bytes));
