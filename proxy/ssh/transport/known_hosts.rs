//! Known hosts.
