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
//! # The security rules, and where each is kept
//! Code and tests name them by these numbers.
//!
//! | rule | what | where |
//! |---|---|---|
//! | 1 | the identification: version 2, printable, 255 bytes; earlier lines of servers only, bounded | `ident` |
//! | 2 | the first of the client's names that both have; pseudo-names never; one packet of a wrong guess thrown away | `negotiate`, `conn/receive` |
//! | 3 | only ciphers that authenticate, with no MAC beside them; no compression | [`Cipher`], `negotiate` |
//! | 4 | nothing weak: no SHA-1, no DSA, RSA from 2048 bits | [`Method`], `key` |
//! | 5 | strict key exchange if the peer knows it: it comes first and alone, and numbers begin anew | `conn/receive`, `conn/exchange` |
//! | 6 | without it too, next to nothing before the first keys, and no extensions | `conn/receive` (`allow`) |
//! | 7 | the exchange hash over all that was said; exact lengths; no secret of zeros | `kex`, `conn/exchange` |
//! | 8 | the session is the first hash, for good | `kex`, `conn/exchange` |
//! | 9 | the host key: known first, then proven, by the algorithm agreed on, the same at every exchange | `conn/exchange`, `known_hosts` |
//! | 10 | everything of an exchange is fresh, and forgotten after it | `kex`, `cipher` |
//! | 11 | a packet's length is judged before its bytes are kept, its tag before the rest is looked at | `cipher`, `conn/inbound` |
//! | 12 | a nonce once | `cipher`, `conn/inbound`, `conn/outbound` |
//! | 13 | new keys after so many bytes and packets and so much time; no number wraps under one key | `conn/renew` |
//! | 14 | between its beginning and its new keys an exchange is alone on the wire; it has to end | `conn/held`, `conn/receive` |
//! | 15 | what a peer can make us keep or do is bounded | `conn/held`, `conn/extensions`, `conn/exchange`, `pump` |
//! | 16 | a login's messages in their order, nothing of a session before; none of a server's from a client | `conn/receive`, `auth/server` |
//! | 17 | one login, one user, one service | `auth/server` |
//! | 18 | a signature is over this session and very request; a question grants nothing; who signed counts | `auth/message`, `auth/server` |
//! | 19 | the algorithms of request, signature and key are one, and one that was announced; no bytes left over | `auth/question`, `key/verify` |
//! | 20 | a request that is bound to a host key is bound to ours | `auth/question`, `auth/server` |
//! | 21 | a security key signed for ssh; it was touched, and asked for its PIN, as its line says | `key/verify`, `auth/question` |
//! | 22 | a certificate: role, authority, signature, time, principals, every critical option known; not revoked | `certificate`, `revocation` |
//! | 23 | failures and requests of one login are counted | `auth/server` |
//! | 24 | once the user is in, what is left of the login is ignored | `conn/receive`, `auth/server` |
//! | 25 | upstream: no proof before the host key is known, no password unasked, each answer in its state | `auth/client`, `conn/exchange` |
//! | 26 | upstream: RSA by what the server announced; its extensions end here | `auth/client`, `conn/extensions` |
//! | 27 | a relay passes names that it knows and a rule allows, byte for byte, in both directions | `policy` |
//! | 28 | it knows each channel by the numbers of both sides, and bounds how many there are | `policy/table` |
//! | 29 | channels that end with us: windows kept both ways, nothing after an end, bounded in number and memory | `connection/served` |

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
