//! `keyward user hash`: a password becomes a verifier. It is never an argument, so that it is in no history and no process list.

use keyward_auth::{Secret, Verifier};

use super::{DONE, failed, prompt};

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
    if prompt::is_terminal() {
        return prompt::twice("Password: ", "Again: ", MAX);
    }
    let password = prompt::rest(MAX)?;
    // Exposed: whether more than one line came. A password of which a part was dropped would let nobody in.
    if password.expose().iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return Err(std::io::Error::other("more than one line on standard input"));
    }
    Ok(password)
}
