//! SSH as state machines: the transport (RFC 4253) and user authentication (RFC 4252). Bytes in, messages out; no socket, no clock, no task.
//!
//! ```text
//!  peer's bytes ─► Conn::room, received        ident → packets (cipher) → receive: which message may come when
//!                  Conn::next ─► Event         HostKey (a client asks its caller)  Ready  Message(5, 6, 50..=127)  Disconnect
//!                                              exchange: negotiate → kex → new keys; begun by bytes, packets, time, or rekey()
//!  our bytes    ◄─ Conn::output, wrote     ◄── Conn::send, held while keys are exchanged; answer (bounded), disconnect (the last)
//!  the time     ─► Conn::tick ─► when to call it again
//!
//!  auth::server::Server, auth::client::Client  take messages 5, 6 and 50 to 79 and give such; Conn::authenticated() says that they are done
//!  pump::pump(from, to, most, look)            passes messages 80 to 127 between two of them, by the rule that keeps rekeys from a deadlock
//!  policy::Policy::look                        says which of them may pass
//! ```
//! One [`Conn`] is either end. A relay has two, a server's towards the user and a client's towards the upstream, and between them nothing
//! but [`pump::pump`], and a [`policy::Policy`] that looks at the messages in passing: no windows, no queues.
//!
//! # Where each security rule is kept
//! The numbers are those of the design (`reference/ssh.md` section 5); every rule is named at the tests that fail without it.
//!
//! | rule | what | where |
//! |---|---|---|
//! | 1 | the identification: version 2, printable, 255 bytes; earlier lines of servers only, bounded | `ident` |
//! | 2 | the first of the client's names; pseudo-names never; one wrong guess thrown away | `negotiate`, `conn/receive` |
//! | 3, 4 | only ciphers that authenticate, no compression, no SHA-1, RSA from 2048 bits | the enums [`Cipher`], [`Method`]; `key` |
//! | 5, 6 | strict key exchange; without it too, next to nothing before the first keys | `conn/receive` (`allow`), `conn/exchange` |
//! | 7, 8 | the exchange hash over all that was said; exact lengths; nothing that is all zeros; the session is the first hash | `kex`, `conn/exchange` |
//! | 9 | the host key: known first, then proven, of the type agreed on, the same for good | `conn/exchange` |
//! | 10 | everything of an exchange is fresh and forgotten | `kex`, `cipher` |
//! | 11, 12 | lengths before bytes, the tag before the rest; a nonce once | `cipher`, `conn/inbound`, `conn/outbound` |
//! | 13, 14 | when keys are exchanged again, and that nothing else goes out or comes meanwhile; it has to end | `conn/renew`, `conn/exchange`, `conn/held` |
//! | 15 | what a peer can make us keep or do | `conn/held`, `conn/extensions`, `conn/exchange`, `pump` |
//! | 16 to 26 | who the user is, and who we are to the upstream | `auth`, `key`, `certificate`, `conn/receive` |
//! | 27, 28 | what a relay lets pass, and which channels it knows of | `policy` |
//! | 29 | channels that end with us | `connection/served` |

pub mod auth;
pub mod certificate;
mod cipher;
mod conn;
pub mod connection;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod ident;
mod kex;
pub mod key;
#[cfg(test)]
mod keygen;
pub mod known_hosts;
pub mod message;
mod negotiate;
pub mod policy;
pub mod pump;
mod random;
pub mod revocation;
pub mod shown;
pub mod sign;
#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod sim;
mod untrusted;
pub mod wire;

pub use cipher::Cipher;
pub use conn::{
    ClientConfig, Conn, Demand, Event, Extensions, IDENT, Limits, PACKET, PACKET_BEFORE_LOGIN, PAYLOAD_MAX, Role, ServerConfig,
};
pub use error::{Choice, Fatal, NoCommon, reason};
pub use kex::Method;
pub use negotiate::{Agreed, Guess, PerDirection, Side};
pub use random::{Random, SystemRandom};
