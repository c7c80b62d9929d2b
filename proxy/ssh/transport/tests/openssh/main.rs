//! We and OpenSSH: its client at our server, our client at its server; the key exchange up to the first question of a login, and whole logins,
//! where one that is let in goes on to ask for what comes next.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod at_ours;
mod at_theirs;
mod exchange;
mod keys;
mod wire;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread;

const PASSWORD: &str = "CorrectHorseBatteryStaple";

/// The machine's own server: what `KEYWARD_TEST_SSHD` names, or where it usually is. There are machines without it.
fn own_sshd() -> Option<PathBuf> {
    let named = std::env::var_os("KEYWARD_TEST_SSHD").map(PathBuf::from);
    assert!(named.as_ref().is_none_or(|named| named.exists()), "KEYWARD_TEST_SSHD names nothing");
    let found = named.or_else(|| Some(PathBuf::from("/usr/sbin/sshd")).filter(|usual| usual.exists()));
    if found.is_none() {
        skipped("sshd; KEYWARD_TEST_SSHD may name one");
    }
    found
}

/// Past the capture of the test's output, for tests/run.sh to count.
fn skipped(want: &str) {
    let test = thread::current();
    let _ = writeln!(std::io::stderr(), "NOTICE: {} is SKIPPED for want of {want}", test.name().unwrap_or("a test"));
}

fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (ours, listener.accept().unwrap().0)
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}
