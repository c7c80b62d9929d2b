//! Behaviour, against real servers with real clients: one program, a module per file. The servers are in `bed`.
//!
//! Run by `tests/run.sh`, which installs them; after that `cargo test --test keyward` is enough.

// Test code fails by panicking: that is how it says so. Nothing outside this program sees its items.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![allow(clippy::print_stderr, unreachable_pub, missing_docs)]

mod audit;
mod bed;
mod bootstrap;
mod bulk;
mod chaos;
mod command_output;
mod documents;
mod drivers;
mod dynamic_lease;
mod flow;
mod lease_end;
mod lease_sharing;
mod limits;
mod logins;
mod memory;
mod mysql_balancer;
mod mysql_bulk;
mod mysql_change_user;
mod mysql_clients;
mod mysql_drivers;
mod mysql_faults;
mod mysql_greeting;
mod mysql_hostile;
mod mysql_kill;
mod mysql_leases;
mod mysql_left_behind;
mod mysql_limits;
mod mysql_lobby;
mod mysql_protocol;
mod mysql_refusals;
mod mysql_servers;
mod mysql_tls;
mod mysql_ways_in;
mod operator;
mod policy;
mod postgres_session;
mod protocol;
mod references;
mod refusals;
mod rotation;
mod secret_command;
mod servers;
mod service;
mod ssh_bulk;
mod ssh_certificates;
mod ssh_cli;
mod ssh_clients;
mod ssh_files;
mod ssh_forwarding;
mod ssh_groups;
mod ssh_host_keys;
mod ssh_hostile;
mod ssh_jump;
mod ssh_life;
mod ssh_login;
mod ssh_login_limits;
mod ssh_record;
mod ssh_refusals;
mod ssh_rules;
mod ssh_session;
mod ssh_strict;
mod ssh_upstream;
mod store_outage;
mod stores;
mod tls;
mod token_end;
