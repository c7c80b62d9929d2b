//! Sockets, wire protocols, the life of a session, the command line.
//!
//! One session, from its first byte to its last:
//!
//! ```text
//! server.rs    accept → handshake budget → span{link id} → a task, tracked → protocol.serve(client)
//!   postgres/  startup, within a deadline and a size; TLS; a cancel request is answered here and ends here
//!   mysql/     our greeting, the client's answer, within the same; TLS
//!   ssh/       the first key exchange, within the same
//!   login      the user's proof                                              → Identity
//!   ssh/jump   of who names no connection: each channel is a link of its own, inside, and goes on below
//! session.rs   gate.authorise(identity, asked)                               → Session<Authorised>   (the Grant)
//!              .fill(grant): where it leads, if that is in a store
//!              .lease(): the store, and beside it …                          → Session<Leased>
//! upstream.rs  … Endpoint → Unverified → TLS, a host key or an exemption     → Verified
//!   upstream   log in with the credential                                    ← the injection
//! session.rs   .established(): `opened` is on disk, the registry knows it    → Session<Live>   (lets go of the credential;
//!   mysql/     keeps it while it lives, for KILL and COM_CHANGE_USER)
//!   login      the client hears that it is in                                  (its first good news)
//! relay.rs     bytes, until either side ends or somebody ends the session
//!   ssh/relay  the same with messages, each as the policy lets it pass; what it is used for is on record
//! warning.rs   what its client is told before an end that is known: the last one of its lease, or of its lifetime
//! registry.rs  end(id, Reason): idle, lifetime, lease, withdrawn, kill, drain
//! audit/       `closed`, exactly once, panic included
//! auth/store   the upstream is closed → the lease is given back
//! ```
//!
//! Adding a protocol: a folder beside `postgres/`, `mysql/` and `ssh/`, a `mod` line, a row in [`protocol::KINDS`].

pub mod admin;
pub mod asked;
pub mod audit;
pub mod budget;
pub mod ca;
pub mod cli;
pub mod error;
pub mod link;
pub mod listen;
pub mod logging;
pub mod metrics;
pub mod mysql;
pub mod postgres;
pub mod protocol;
pub mod proxy_protocol;
pub mod read_ahead;
pub mod refusal;
pub mod registry;
pub mod relay;
pub mod reload;
pub mod server;
pub mod session;
pub mod settings;
pub mod ssh;
pub mod state;
pub mod stream;
pub mod tls;
pub mod told;
pub mod upstream;
pub mod warning;
pub mod woken;
