//! The connection protocol (RFC 4254), as far as it is ours: what its messages say, and channels that end with us.
//!
//! A relay between two transports has no channels of its own; it only looks at the messages in passing ([`crate::policy`]). A link that
//! serves `ssh -J` has them ([`served`]).

pub mod message;
pub mod served;
