//! `keyward user hash`: a password becomes a verifier. It is never an argument, so that it is in no history and no process list.

use std::io::{BufRead, IsTerminal, Read, Write};

use keyward_auth::{Secret, Verifier};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::{DONE, failed};

/// The longest password, in bytes.
const MAX: usize = 1024;

pub(super) fn hash(argon2: bool) -> u8 {
    let password = match ask() {
        Ok(password) if password.is_empty() => return failed("the password is empty"),
        Ok(password) => password,
        Err(error) => return failed(&format!("the password: {error}")),
    };
    let made = if argon2 { Verifier::make_argon2(&password) } else { Verifier::make_scram(&password) };
    match made {
        Ok(verifier) => {
            println!("{verifier}");
            DONE
        }
        Err(text) => failed(text),
    }
}

fn ask() -> std::io::Result<Secret> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return line();
    }
    let first = hidden("Password: ")?;
    let again = hidden("Again: ")?;
    if first.same_as(&again) { Ok(first) } else { Err(std::io::Error::other("the two are not the same")) }
}

/// Asks on the terminal without showing what is typed.
fn hidden(prompt: &str) -> std::io::Result<Secret> {
    let stdin = std::io::stdin();
    eprint!("{prompt}");
    std::io::stderr().flush()?;
    let shown = tcgetattr(&stdin)?;
    let mut quiet = shown.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &quiet)?;
    let typed = line();
    tcsetattr(&stdin, OptionalActions::Flush, &shown)?;
    eprintln!();
    typed
}

fn line() -> std::io::Result<Secret> {
    let mut text = Zeroizing::new(String::with_capacity(MAX.saturating_add(2)));
    std::io::stdin().lock().take(text.capacity() as u64).read_line(&mut text)?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.len() > MAX {
        return Err(std::io::Error::other("longer than 1024 bytes"));
    }
    Ok(Secret::from(password.to_owned()))
}
