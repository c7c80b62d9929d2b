//! The header that a balancer sends before the first byte of a client.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if keyward::proxy_protocol::parse(bytes).is_ok() {
        assert!(bytes.starts_with(b"PROXY") || bytes.starts_with(b"\r\n\r\n\0\r\nQUIT\n"), "only these are headers");
    }
});
