//! User authentication (RFC 4252): who is it? Two machines, [`server::Server`] towards a user and [`client::Client`] towards an upstream. They
//! take the payloads of messages and give payloads to send; whose key or password it is, and whether that one may log in, they ask their owner.
//!
//! ```text
//! client                           Server                         its owner
//! 5 ssh-userauth            ──►
//!                           ◄──    6
//! 50 none                   ──►    Ask(Nothing) ───────────────►  may they come without a proof?
//!                           ◄──    53 banner, 51 publickey,…  ◄── Refused
//! 50 publickey, no signature──►    Ask(Query)   ───────────────►  would you take this key?         (grants nothing)
//!                           ◄──    60                         ◄── Accepted
//! 50 publickey, signature   ──►    verified, then Ask(Proof) ──►  may who holds this key be this user?
//!                                  Proven                     ◄── AcceptedUnder(what a security key must have seen)
//!                           ◄──    52 from `success()`, once the owner is ready for what comes then
//! ```
//!
//! Of the security rules (16 to 26 of the crate): which message may come when, and that a client's 6, 52 or 60 never counts, is the table in
//! `receive` of either machine (16, 24, 25); one user, one service (17), the limits (23), the bound host key (20) and that a signature is
//! verified before anybody is asked are in `server`; what was signed is in `message` (18), that this key did, by this algorithm, in
//! `certificate::Presented` and below it (18, 19, 21, 22); when a password leaves us and for which RSA algorithm a server is asked, in `client`
//! (25, 26). Who waits before a refusal, how long a login may take, and how many may be under way is the owner's: nothing here knows the time.

mod banner;
pub mod client;
mod ended;
mod message;
mod prompts;
pub mod question;
pub mod server;
mod typed;

#[cfg(test)]
mod sample;
#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;

pub use banner::{BANNER_MAX, Banner};
pub use ended::Ended;
pub use prompts::{PROMPTS_MAX, Prompt, Prompts};
pub use typed::{TYPED_MAX, Typed};

/// Bytes of the longest message that is looked at: the payload that every peer must be able to take (RFC 4253 section 6.1).
pub const MESSAGE_MAX: usize = 32_768;
/// Bytes of the longest user name: what a database's or a system's names have room for, and what we say beside it.
pub const USER_MAX: usize = 255;
