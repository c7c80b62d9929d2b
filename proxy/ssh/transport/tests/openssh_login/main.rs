//! Logins between us and OpenSSH: its client at our server, our client at its server. One that is let in goes on to ask for what comes next.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod at_ours;
mod at_theirs;
mod keys;
mod wire;

const PASSWORD: &str = "CorrectHorseBatteryStaple";
