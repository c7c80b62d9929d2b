//! SSH as state machines: the transport (RFC 4253) and user authentication (RFC 4252). Bytes in, messages out; no socket, no clock, no task.

pub mod auth;
pub mod certificate;
mod cipher;
mod conn;
mod error;
mod ident;
mod kex;
pub mod key;
#[cfg(test)]
mod keygen;
pub mod known_hosts;
pub mod message;
mod negotiate;
pub mod pump;
mod random;
pub mod revocation;
pub mod shown;
pub mod sign;
#[cfg(test)]
mod sim;
mod untrusted;
pub mod wire;

pub use cipher::Cipher;
pub use conn::{
    ClientConfig, Conn, Demand, Event, Extensions, IDENT, Limits, PACKET, PACKET_BEFORE_LOGIN, PAYLOAD_MAX, Role, ServerConfig,
};
pub use error::{Choice, Fatal, reason};
pub use kex::Method;
pub use negotiate::{Agreed, Guess, PerDirection, Side};
pub use random::{Random, SystemRandom};
