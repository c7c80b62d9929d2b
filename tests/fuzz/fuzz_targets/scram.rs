//! The server half of SCRAM, by the way that a protocol takes: three lines give what it offers and the user, the client's first message,
//! and its last one, in which `@` stands for the nonce of the exchange. Whatever they say, nobody is let in.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};

use keyward_auth::{Gate, Source, Unobserved};
use keyward_config::{Kinds, Problems};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Runtime;

/// The verifier of RFC 7677 §3; no lock-out, so that every input gets as far as the others.
const FILE: &str = "state: /nowhere
listeners: [{ protocol: postgres, address: '127.0.0.1:0' }]
limits: { failed_logins: 0 }
users:
  user: { password: 'SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=' }
";

static WORLD: LazyLock<(Runtime, Arc<Gate>)> = LazyLock::new(|| {
    let (protocols, stores) = keyward::reload::rows();
    let loaded = keyward_config::parse(Path::new("keyward.yaml"), FILE, &Kinds { protocols: &protocols, stores: &stores });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let mut problems = Problems::new(Path::new("keyward.yaml"));
    let config = loaded.config.expect("the file is good");
    let gate = runtime.block_on(async { Gate::for_operator(&config, Arc::new(Unobserved), &mut problems) });
    (runtime, gate.expect("the file is good"))
});
/// Failures slow an address, so that every input comes from another one.
static ADDRESS: AtomicU32 = AtomicU32::new(0);

fuzz_target!(|bytes: &[u8]| {
    let (runtime, gate) = &*WORLD;
    let mut lines = bytes.splitn(3, |byte| *byte == b'\n');
    let (head, first, last) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let (plus, user) = head.strip_prefix(b"+").map_or((false, head), |user| (true, user));
    let source = Source::tcp(IpAddr::V4(Ipv4Addr::from_bits(ADDRESS.fetch_add(1, Ordering::Relaxed))));
    let binding = plus.then(|| vec![7; 32]);
    let server = runtime.block_on(gate.scram(&String::from_utf8_lossy(user), source, binding));
    let Ok(mut server) = server else { return };
    let mechanism = if first.starts_with(b"p=") { "SCRAM-SHA-256-PLUS" } else { "SCRAM-SHA-256" };
    assert_eq!(server.mechanisms().len(), if plus { 2 } else { 1 });
    let Ok(challenge) = server.client_first(mechanism, first) else { return };
    let challenge = String::from_utf8(challenge).expect("a challenge is text");
    let nonce = challenge.strip_prefix("r=").and_then(|rest| rest.split(',').next()).expect("it begins with the nonce");
    let last = last.split(|byte| *byte == b'@').collect::<Vec<_>>().join(nonce.as_bytes());
    assert!(server.client_final(&last).is_err(), "nobody knows the password");
});
