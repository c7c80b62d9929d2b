//! For operators of a running process: the admin socket in the state folder (`keyward sessions`, `kill`, `reload`) and the HTTP listener
//! for probes and metrics. Neither shows a secret, neither takes one.

pub mod http;
pub mod socket;
