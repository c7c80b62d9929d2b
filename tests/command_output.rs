//! What commands do where nobody reads what they say, or it cannot be kept.

use std::process::Command;

use crate::bed::{Output, SOON, run};

/// A command of the binary, with this behind it in the line of a shell.
#[track_caller]
fn in_shell(arguments: &[&str], tail: &str) -> Output {
    let mut shell = Command::new("bash");
    shell.arg("-c").arg(format!("\"$0\" \"$@\" {tail}")).arg(env!("CARGO_BIN_EXE_keyward")).args(arguments);
    run(shell, "", SOON)
}

#[test]
fn a_reader_that_has_read_enough_is_no_failure_and_a_full_disk_is_one() {
    // The first is more than fits into a pipe: nobody is left to take it.
    for arguments in [&["schema"] as &[&str], &["completions", "zsh"]] {
        let piped = in_shell(arguments, "| true; echo ${PIPESTATUS[0]}");
        assert!(piped.ok() == "0" && piped.stderr.is_empty(), "{arguments:?}: {piped:?}");
        let full = in_shell(arguments, "> /dev/full");
        assert!(full.code == Some(1) && full.stderr.starts_with("keyward: standard output: No space left"), "{arguments:?}: {full:?}");
    }
    let unheard = in_shell(&["check", "--config", "/nowhere/keyward.yaml"], "2>&1 | true; echo ${PIPESTATUS[0]}");
    assert!(unheard.ok() == "2" && unheard.stderr.is_empty(), "{unheard:?}");
}
