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

#[test]
fn a_file_whose_name_is_no_text_is_told_for_programs_too() {
    let shell = |format: &str| {
        let mut shell = Command::new("bash");
        shell.arg("-c").arg(format!("\"$0\" check --format {format} --config $'/nowhere/k\\xff.yaml'")).arg(env!("CARGO_BIN_EXE_keyward"));
        run(shell, "", SOON)
    };
    let said = shell("json");
    let problems: serde_json::Value = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
    assert_eq!((said.code, &problems["problems"][0]["file"]), (Some(2), &"/nowhere/k\u{fffd}.yaml".into()));
}

#[test]
fn only_a_whole_password_is_hashed() {
    let hash = |typed: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
        command.args(["user", "hash"]);
        run(command, typed, SOON)
    };
    for whole in ["pass word", "pass word\n", "pass word\r\n"] {
        assert!(hash(whole).ok().starts_with("SCRAM-SHA-256$"));
    }
    for torn in ["pass\nword\n", "pass\n\n", "\npass\n"] {
        let said = hash(torn);
        assert!(said.code == Some(1) && said.stdout.is_empty() && said.stderr.contains("more than one line"), "{torn:?}: {said:?}");
    }
    assert_eq!(hash("\n").code, Some(1));
}
