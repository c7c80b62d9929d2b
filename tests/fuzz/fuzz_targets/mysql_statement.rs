//! The text of a query: what is a KILL or a USE looks like one from its first byte on, and means what it is written as.
#![no_main]

use keyward::mysql::capabilities::Capabilities;
use keyward::mysql::statement::{Kill, kill, may_be_either, query_text, used_database};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let (kill_found, used) = (kill(text), used_database(text));
    assert!(kill_found.is_none() || used.is_none());
    for (client, first) in [(Capabilities::NONE, [3].as_slice()), (Capabilities::QUERY_ATTRIBUTES, &[3, 0, 1])] {
        let payload = [first, text].concat();
        assert_eq!(query_text(&payload, client), Some(text));
        let mut may = true;
        for end in 1..=payload.len().min(1024) {
            let now = may_be_either(&payload[..end], client);
            assert!(may || !now, "no stays no");
            may = now;
        }
        assert!(may || (kill_found.is_none() && used.is_none()), "nothing is missed");
    }
    if let Some(found) = kill_found {
        let what = if matches!(found, Kill::Query(_)) { "QUERY" } else { "CONNECTION" };
        assert_eq!(kill(format!("KILL {what} {}", found.id()).as_bytes()), Some(found));
    }
    if let Some(name) = used {
        let quoted = name.iter().flat_map(|byte| if *byte == b'`' { vec![b'`', b'`'] } else { vec![*byte] });
        let text: Vec<u8> = b"USE `".iter().copied().chain(quoted).chain([b'`']).collect();
        assert_eq!(used_database(&text), Some(name));
    }
});
