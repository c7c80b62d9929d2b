//! Secrets that people type or pipe in. Never an argument, so that they are in no history and no process list.

mod typed;

use std::fs::File;
use std::io::{IsTerminal, Read, Result, Write};
use std::os::fd::AsFd;

use keyward_auth::Secret;
use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use typed::{Key, Typed};

/// Whether somebody can be asked.
pub(super) fn is_terminal() -> bool {
    std::io::stdin().is_terminal()
}

/// Asks twice without showing what is typed.
///
/// # Errors
/// The two differ; more than `most` bytes.
pub(super) fn twice(what: &str, again: &str, most: usize) -> Result<Secret> {
    let first = hidden(what, most)?;
    let second = hidden(again, most)?;
    if first.same_as(&second) { Ok(first) } else { Err(std::io::Error::other("the two are not the same")) }
}

/// Asks on the terminal without showing what is typed. The keys that end or stop a program do so; the terminal is as it was before.
///
/// # Errors
/// More than `most` bytes.
pub(super) fn hidden(what: &str, most: usize) -> Result<Secret> {
    loop {
        let stdin = std::io::stdin();
        let shown = tcgetattr(&stdin)?;
        tcsetattr(&stdin, OptionalActions::Flush, &typed::quiet(&shown))?;
        // Only now: who answers at once, as programs do, is neither shown nor lost.
        let typed = ask(what).and_then(|()| keys(most, &shown));
        tcsetattr(&stdin, OptionalActions::Flush, &shown)?;
        eprintln!();
        match typed? {
            Ok(typed) => return typed.line().map(|line| Secret::from(line.to_vec())).ok_or_else(|| too_long(most)),
            // Whoever survives it, because it was only stopped, is asked anew.
            Err(signal) => kill_process(getpid(), signal)?,
        }
    }
}

/// Keys up to the end of a line, or to one that asks for a signal.
fn keys(most: usize, shown: &Termios) -> Result<std::result::Result<Typed, Signal>> {
    let (mut stdin, mut typed) = (unbuffered()?, Typed::new(most));
    let mut byte = Zeroizing::new([0_u8; 1]);
    while stdin.read(&mut *byte)? == 1 {
        let [key] = *byte;
        match typed.take(key, shown) {
            Key::Taken => {}
            Key::End => break,
            Key::Signal(signal) => return Ok(Err(signal)),
        }
    }
    Ok(Ok(typed))
}

/// Asks on the terminal for what everybody may see.
///
/// # Errors
/// More than `most` bytes.
pub(super) fn open(what: &str, most: usize) -> Result<String> {
    ask(what)?;
    // Exposed: it is no secret.
    line(most).map(|typed| typed.expose_str().unwrap_or_default().to_owned())
}

/// The next line, without its end. Nothing of the following one is taken. At the end of the input: empty.
///
/// # Errors
/// More than `most` bytes.
pub(super) fn line(most: usize) -> Result<Secret> {
    let mut stdin = unbuffered()?;
    let mut line = Zeroizing::new(Vec::with_capacity(most.saturating_add(2)));
    let mut byte = Zeroizing::new([0_u8; 1]);
    while line.len() < line.capacity() && stdin.read(&mut *byte)? == 1 && *byte != *b"\n" {
        line.extend_from_slice(&*byte);
    }
    let kept = line.strip_suffix(b"\r").unwrap_or(&line);
    within(kept, most)
}

/// All that is still to come, without one end of line behind it.
///
/// # Errors
/// More than `most` bytes.
pub(super) fn rest(most: usize) -> Result<Secret> {
    let mut all = Zeroizing::new(Vec::with_capacity(most.saturating_add(3)));
    let limit = u64::try_from(all.capacity()).unwrap_or_default();
    unbuffered()?.take(limit).read_to_end(&mut all)?;
    let kept = all.strip_suffix(b"\n").map_or(all.as_slice(), |rest| rest.strip_suffix(b"\r").unwrap_or(rest));
    within(kept, most)
}

fn within(bytes: &[u8], most: usize) -> Result<Secret> {
    if bytes.len() > most {
        return Err(too_long(most));
    }
    Ok(Secret::from(bytes.to_vec()))
}

fn too_long(most: usize) -> std::io::Error {
    std::io::Error::other(format!("longer than {most} bytes"))
}

fn ask(what: &str) -> Result<()> {
    eprint!("{what}");
    std::io::stderr().flush()
}

/// The library's own reader keeps what it read in a buffer that nobody wipes.
fn unbuffered() -> Result<File> {
    std::io::stdin().as_fd().try_clone_to_owned().map(File::from)
}
