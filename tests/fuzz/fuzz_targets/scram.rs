//! Both halves of SCRAM, by the ways that a protocol takes. For the server half three lines give what it offers and the user, the client's
//! first message, and its last one; for the client half what it may bind to, and the server's two messages. In what comes second `@` stands
//! for the nonce of the exchange, for the client half in what comes first. Whatever they say, nobody is let in, and no server is believed.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};

use keyward_auth::{Credential, Gate, Source, Unobserved};
use keyward_config::{Kinds, Problems};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Runtime;

/// The verifier and the password of RFC 7677 §3; no lock-out, so that every input gets as far as the others.
const FILE: &str = "state: /nowhere
listeners: [{ protocol: postgres, address: '127.0.0.1:0' }]
limits: { failed_logins: 0 }
users:
  user: { password: 'SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=' }
connections:
  db: { protocol: postgres, address: '127.0.0.1:5432', username: { literal: user }, password: { literal: pencil } }
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
/// What the client half logs in with.
static CREDENTIAL: LazyLock<Arc<Credential>> = LazyLock::new(|| {
    let (runtime, gate) = &*WORLD;
    let grant = gate.operator_grants().remove(0);
    runtime.block_on(gate.lease(&grant)).ok().and_then(|lease| lease.credential()).expect("it stands in the file")
});
/// Failures slow an address, so that every input comes from another one.
static ADDRESS: AtomicU32 = AtomicU32::new(0);

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.splitn(3, |byte| *byte == b'\n');
    let (head, first, last) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let (plus, user) = head.strip_prefix(b"+").map_or((false, head), |user| (true, user));
    let binding = plus.then(|| vec![7; 32]);
    client(binding.as_deref(), first, last);
    server(&String::from_utf8_lossy(user), binding, first, last);
});

fn server(user: &str, binding: Option<Vec<u8>>, first: &[u8], last: &[u8]) {
    let (runtime, gate) = &*WORLD;
    let mechanisms = if binding.is_some() { 2 } else { 1 };
    let source = Source::tcp(IpAddr::V4(Ipv4Addr::from_bits(ADDRESS.fetch_add(1, Ordering::Relaxed))));
    let Ok(mut server) = runtime.block_on(gate.scram(user, source, binding)) else { return };
    assert_eq!(server.mechanisms().len(), mechanisms);
    let mechanism = if first.starts_with(b"p=") { "SCRAM-SHA-256-PLUS" } else { "SCRAM-SHA-256" };
    let Ok(challenge) = server.client_first(mechanism, first) else { return };
    let challenge = String::from_utf8(challenge).expect("a challenge is text");
    let nonce = challenge.strip_prefix("r=").and_then(|rest| rest.split(',').next()).expect("it begins with the nonce");
    assert!(server.client_final(&with_nonce(last, nonce)).is_err(), "nobody knows the password");
}

fn client(binding: Option<&[u8]>, first: &[u8], last: &[u8]) {
    let client = CREDENTIAL.scram(&["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"], binding).ok().expect("a mechanism and a password");
    let said = String::from_utf8(client.client_first()).expect("it is text");
    let (_, nonce) = said.split_once("n=,r=").expect("it ends with the nonce");
    let (runtime, _) = &*WORLD;
    let Ok((_, expected)) = runtime.block_on(client.server_first(&with_nonce(first, nonce))) else { return };
    assert!(expected.server_final(last).is_err(), "no server knows the password");
}

fn with_nonce(message: &[u8], nonce: &str) -> Vec<u8> {
    message.split(|byte| *byte == b'@').collect::<Vec<_>>().join(nonce.as_bytes())
}
